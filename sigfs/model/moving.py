"""Directories of jobs moved, within a file system or to another one, and removed.

Owned here: that a job is whole in one place at any moment, whoever is killed. Within a file system one rename does it.
To another one:

1. The copy is made beside the destination, under a temporary name that follows from the source, so that whoever tries
   again goes on with it. Its state point comes last.
2. The source has to be as it was read, or the copy is made up to date, some times.
3. The copy gets its name by a rename that replaces nothing. A file in it, the marker, says what it is the copy of.
4. The source gets a temporary name. If it is as it was read it is removed, and then the marker; else all is undone.

Between 3 and 4 the job is there twice, both whole. Who is killed there leaves the rest to `finish`: the marker tells
which of the two is the later one, and a fingerprint of the source whether anybody has changed it since.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import time
from collections.abc import Iterator
from typing import Final, NamedTuple

import xxhash

from sigfs.errors import DestinationExists, JobChanged, NoSuchJob
from sigfs.model import changing, copying, files, locking, trees
from sigfs.model.reading import DOCUMENT_FILE, STATEPOINT_FILE

log = logging.getLogger(__name__)

MARKER: Final = f"{files.TEMPORARY_PREFIX}moved"
"""Name of the marker. Whoever works on a copy, or on what it says, holds a lock of it."""

_MARKER_FLAGS: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MARK_BYTES: Final = 2**16
_ROUNDS: Final = 3
"""How often the copy of a job that is being changed is made up to date before the move is given up."""

_TOO_DEEP: Final = "directories in it are nested too deep"

_LOCK_S: Final = 30.0
"""How long somebody may be in the middle of changing the document while the job waits to be moved."""


class _Place(NamedTuple):
    """Where a directory is. *path* is absolute; *parent_fd* is open as long as the place is in use."""

    path: str
    parent_fd: int
    name: str


def move(source: str, destination: str) -> None:
    """Give the directory *source* the path *destination*; missing directories above that are made.

    Of all who move one directory, or move to one path, one succeeds. Processes whose working directory is in it go with
    it if it stays in its file system.

    Args:
        source, destination: absolute paths.
    Raises:
        NoSuchJob: there is no such directory (any more).
        DestinationExists: something has the name *destination*.
        ValueError: *destination* is inside *source*.
        JobChanged: it would have to be copied, and somebody is writing into it.
        OSError: permissions, no space and the like; it is where it was.
    """
    made: list[str] = []
    try:
        above = os.path.dirname(destination)
        files.make_directories(above, made)
        if (os.path.realpath(above) + os.sep).startswith(os.path.realpath(source) + os.sep):
            raise ValueError(f"{source} cannot be moved to {destination}, which is inside it")
        with _place(source) as old, _place(destination) as new:
            if _finish_at(new) != old.path or files.is_there(old.parent_fd, old.name):
                _move(old, new)
    except BaseException:
        for each in reversed(made):
            with contextlib.suppress(OSError):
                os.rmdir(each)
        raise


def finish(directory: str) -> bool:
    """Complete the move to *directory* that a killed process has left with the source still there.

    Returns:
        Whether there was something to do, and it is done. The source is not removed if it has been changed since
        it was copied, which is logged; nor is anything done while the moving process lives.
    Raises:
        OSError: permissions and the like.
    Complexity: one stat if there is no marker.
    """
    try:
        with _place(directory) as place:
            return _finish_at(place) is not None
    except NoSuchJob:
        return False


def unfinished(directory: str) -> str | None:
    """What *directory* is a copy of that a killed process has not completed, or whose source it has not removed.

    Returns:
        The path of the source, empty if that is not known; None if it is no such copy, or somebody is at work on it.
    Complexity: one open if there is no marker.
    """
    try:
        fd = os.open(os.path.join(directory, MARKER), _MARKER_FLAGS)
    except OSError:
        return None
    try:
        if not _try_lock(fd):
            return None
        mark = _Mark.read(fd)
        return "" if mark is None else mark.source
    finally:
        os.close(fd)


def remove(directory: str) -> None:
    """Remove the directory with all that is in it. It vanishes at once; links are removed and not followed.

    Raises:
        NoSuchJob: there is no such directory (any more).
        OSError: permissions and the like; it is as before.
    """
    with _place(directory) as place:
        fd = _open(place)
        try:
            try:
                trees.require_removable(fd)
            except OSError as error:
                message = f"{error.strerror}; nothing is removed"
                raise OSError(error.errno, message, os.path.join(directory, str(error.filename or ""))) from error
            except RecursionError as error:
                raise OSError(errno.ENAMETOOLONG, f"{_TOO_DEEP}; nothing is removed", directory) from error
            grave = files.temporary_name()
            _rename_same(fd, place, grave)
        finally:
            os.close(fd)
        _bury(place, grave)


def _move(old: _Place, new: _Place) -> None:
    fd = _open(old, files.DIRECTORY_FLAGS)
    try:
        try:
            try:
                changing.rename_new(old.parent_fd, old.name, new.name, new.parent_fd)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                _finish_at(old)
                source_fd = os.open(".", trees.LIST_FLAGS, dir_fd=fd)
                try:
                    _copy_and_remove(source_fd, old, new)
                finally:
                    os.close(source_fd)
        except (OSError, JobChanged, RecursionError) as error:
            raise _explained(error, old, new) from error
    finally:
        os.close(fd)
    files.fsync_directory(new.parent_fd)
    files.fsync_directory(old.parent_fd)


def _copy_and_remove(source_fd: int, old: _Place, new: _Place) -> None:
    trees.require_removable(source_fd)
    trees.require_quiet(source_fd)
    status = os.fstat(source_fd)
    digest = xxhash.xxh3_64_hexdigest(os.fsencode(f"{status.st_dev} {status.st_ino} {new.name}"))
    copy = f"{files.TEMPORARY_PREFIX}copy_{digest}"
    with contextlib.suppress(FileExistsError):
        os.mkdir(copy, 0o700, dir_fd=new.parent_fd)
    copy_fd = trees.open_own(new.parent_fd, copy)
    try:
        try:
            marker_fd = os.open(MARKER, _MARKER_FLAGS | os.O_CREAT, 0o600, dir_fd=copy_fd)
        except OSError:
            with contextlib.suppress(OSError):  # if it is empty: it may be that of an earlier try
                os.rmdir(copy, dir_fd=new.parent_fd)
            raise
        try:
            if not _try_lock(marker_fd):
                raise JobChanged("another process is about to move it")
            with contextlib.ExitStack() as locks:
                try:
                    seen, young_ns = _copied(source_fd, copy_fd, locks)
                    mark = _Mark(old.path, os.urandom(8).hex(), trees.fingerprint(seen))
                    mark.write(marker_fd)
                    own = trees.listing(copy_fd, MARKER)
                    _lock_files(copy_fd, locks)  # nobody is to begin in a copy that may be taken back
                    changing.rename_new(new.parent_fd, copy, new.name)
                except BaseException:
                    trees.remove(new.parent_fd, copy, STATEPOINT_FILE)
                    raise
                try:
                    files.fsync_directory(new.parent_fd)
                    _rename_same(source_fd, old, mark.hidden)
                    try:
                        trees.require_unchanged(source_fd, seen, young_ns, MARKER)
                        os.rename(mark.hidden, mark.gone, src_dir_fd=old.parent_fd, dst_dir_fd=old.parent_fd)
                    except BaseException:
                        changing.rename_new(old.parent_fd, mark.hidden, old.name)
                        raise
                except BaseException:
                    _withdraw(copy_fd, own, new, copy)
                    raise
                _bury(old, mark.gone)
            _unmark(copy_fd)
        finally:
            os.close(marker_fd)
    finally:
        os.close(copy_fd)


def _copied(source_fd: int, copy_fd: int, locks: contextlib.ExitStack) -> tuple[trees.Listing, int]:
    """Copy until the copy is what the source is; from then on nobody who takes locks changes the latter.

    Returns:
        What the source is like, and from which ctime on that may not tell a change.
    Raises:
        JobChanged: somebody writes into it again and again.
    """
    for last in (*[False] * (_ROUNDS - 1), True):
        young_ns = time.time_ns() - int(files.RACY_S * 1e9)
        try:
            seen = copying.copy(source_fd, copy_fd, STATEPOINT_FILE, MARKER)
            _lock_files(source_fd, locks)
            trees.require_unchanged(source_fd, seen, young_ns, MARKER)
        except JobChanged:
            locks.close()
            if last:
                raise
        else:
            return seen, young_ns
    raise AssertionError


def _lock_files(fd: int, locks: contextlib.ExitStack) -> None:
    """Have all wait who are about to change the state point or the document that is there."""
    for name in (STATEPOINT_FILE, DOCUMENT_FILE):
        with contextlib.suppress(FileNotFoundError):
            locks.enter_context(locking.locked(fd, name, _LOCK_S))


class _Mark(NamedTuple):
    """What the marker in a copy says.

    Attributes:
        source: path of what it is the copy of.
        token: of this move alone; in the names that the source has on its way out.
        fingerprint: of the source, see `trees.fingerprint`.
    """

    source: str
    token: str
    fingerprint: str

    @property
    def hidden(self) -> str:
        """Name of the source while it is looked at once more."""
        return f"{files.TEMPORARY_PREFIX}hidden_{self.token}"

    @property
    def gone(self) -> str:
        """Name of the source when it is certain that it can be removed."""
        return f"{files.TEMPORARY_PREFIX}gone_{self.token}"

    def write(self, fd: int) -> None:
        data = json.dumps(self).encode("ascii")
        os.ftruncate(fd, 0)
        os.pwrite(fd, data, 0)
        os.fsync(fd)

    @staticmethod
    def read(fd: int) -> _Mark | None:
        try:
            source, token, fingerprint = json.loads(os.pread(fd, _MARK_BYTES, 0))
        except ValueError:
            return None
        is_ours = isinstance(source, str) and os.path.isabs(source) and token.isalnum()
        return _Mark(source, token, fingerprint) if is_ours else None


def _finish_at(new: _Place) -> str | None:
    """As `finish`; the path of what has been moved, or None."""
    try:
        copy_fd = os.open(new.name, files.DIRECTORY_FLAGS, dir_fd=new.parent_fd)
    except OSError:
        return None
    try:
        try:
            marker_fd = os.open(MARKER, _MARKER_FLAGS, dir_fd=copy_fd)
        except OSError:  # none; or it is for its owner to finish
            return None
        try:
            mark = _Mark.read(marker_fd) if _try_lock(marker_fd) else None
            if mark is None:
                return None
            try:
                with _place(mark.source) as old:
                    done = _settle(old, mark)
            except NoSuchJob:  # perhaps what it was on is not mounted
                return None
            if not done:
                log.warning("%s is a copy of %s, which has been changed since: both stay", new.path, old.path)
            _unmark(copy_fd)
            return mark.source if done else None
        finally:
            os.close(marker_fd)
    finally:
        os.close(copy_fd)


def _settle(old: _Place, mark: _Mark) -> bool:
    """Remove what a whole copy has been made of; False if that has been changed since, and it has its name again."""
    if not files.is_there(old.parent_fd, mark.gone):
        hidden = old._replace(name=mark.hidden)
        try:
            if not files.is_there(old.parent_fd, mark.hidden):
                fd = _open(old)
                try:
                    if trees.fingerprint(trees.listing(fd, MARKER)) != mark.fingerprint:
                        return False
                    _rename_same(fd, old, mark.hidden)
                finally:
                    os.close(fd)
            fd = _open(hidden)
        except NoSuchJob:
            return True
        try:
            with contextlib.ExitStack() as locks:
                _lock_files(fd, locks)
                if trees.fingerprint(trees.listing(fd, MARKER)) != mark.fingerprint or not trees.is_quiet(fd):
                    changing.rename_new(old.parent_fd, mark.hidden, old.name)
                    return False
                os.rename(mark.hidden, mark.gone, src_dir_fd=old.parent_fd, dst_dir_fd=old.parent_fd)
                _bury(old, mark.gone)
                return True
        finally:
            os.close(fd)
    _bury(old, mark.gone)
    return True


def _withdraw(copy_fd: int, own: trees.Listing, new: _Place, copy: str) -> None:
    """Take back the copy that has its name already, unless somebody has begun to work in it."""
    try:
        _rename_same(copy_fd, new, copy)
        if trees.is_alike(trees.listing(copy_fd, MARKER), own):
            trees.remove(new.parent_fd, copy, STATEPOINT_FILE)
            return
        changing.rename_new(new.parent_fd, copy, new.name)
        _unmark(copy_fd)
    except (OSError, NoSuchJob) as error:
        log.error("%s cannot be taken back (%s); its source is whole", new.path, error)
    else:
        log.error("somebody works in %s already; it stays, and so does what it was copied from", new.path)


def _bury(old: _Place, grave: str) -> None:
    files.fsync_directory(old.parent_fd)
    if not trees.remove(old.parent_fd, grave, STATEPOINT_FILE):
        left = os.path.join(os.path.dirname(old.path), grave)
        log.warning("not all of what was %s could be removed; the rest is in %s", old.path, left)


def _unmark(copy_fd: int) -> None:
    """Remove the marker and leave the directory's time as it was."""
    status = os.fstat(copy_fd)
    with contextlib.suppress(OSError):
        os.unlink(MARKER, dir_fd=copy_fd)
        os.utime(f"/proc/self/fd/{copy_fd}", ns=(status.st_atime_ns, status.st_mtime_ns))


def _rename_same(fd: int, place: _Place, name: str) -> None:
    """Give the directory *fd*, which is to be at *place*, another name beside it.

    Raises:
        NoSuchJob: it is not there any more.
    """
    try:
        changing.rename_new(place.parent_fd, place.name, name)
    except FileNotFoundError:
        raise NoSuchJob(f"{place.path} has just been removed or moved") from None
    if not os.path.samestat(os.fstat(fd), os.lstat(name, dir_fd=place.parent_fd)):
        changing.rename_new(place.parent_fd, name, place.name)
        raise NoSuchJob(f"{place.path} has just been replaced by another")


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def _place(path: str) -> Iterator[_Place]:
    above, name = os.path.split(path)
    try:
        fd = os.open(above, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise NoSuchJob(f"no job {path}: there is no directory {above}") from None
    try:
        yield _Place(path, fd, name)
    finally:
        os.close(fd)


def _open(place: _Place, flags: int = trees.LIST_FLAGS) -> int:
    try:
        return os.open(place.name, flags, dir_fd=place.parent_fd)
    except FileNotFoundError:
        raise NoSuchJob(f"no job {place.path} (any more)") from None
    except NotADirectoryError:
        raise NotADirectoryError(errno.ENOTDIR, "a job is a directory; this is none", place.path) from None


def _explained(error: OSError | JobChanged | RecursionError, old: _Place, new: _Place) -> Exception:
    """What to raise for *error*: it says what was to be moved where."""
    if isinstance(error, DestinationExists):
        return DestinationExists(errno.EEXIST, f"cannot move {old.path}: there is something already", new.path)
    if isinstance(error, FileNotFoundError | JobChanged) and not files.is_there(old.parent_fd, old.name):
        return NoSuchJob(f"{old.path} has just been removed or moved")
    what = f"cannot move {old.path} to {new.path}"
    if isinstance(error, JobChanged):
        return JobChanged(f"{what}: {error}; it stays where it is")
    if isinstance(error, RecursionError):
        return OSError(errno.ENAMETOOLONG, f"{what}: {_TOO_DEEP}", old.path)
    return OSError(error.errno, f"{what}: {error.strerror}", error.filename)
