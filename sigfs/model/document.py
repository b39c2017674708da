"""JSON files that many processes change at once: documents of jobs and of projects.

Owned here: that of all edits each sees what the one before has written, that readers see one whole state and wait for
nobody, and what becomes of the file's owner and permissions. signac and others who take no lock are noticed, if they
write while an edit is made, up to the moment between the last look and the rename.
"""

from __future__ import annotations

import contextlib
import copy
import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from sigfs.errors import DocumentChanged, InvalidDocument, NoSuchJob
from sigfs.model import files, locking
from sigfs.model.statepoint import encode, load_json
from sigfs.model.types import Json

_EMPTY: Final = b"{}"
_ACL: Final = "system.posix_acl_access"
_WHY: Final = {
    errno.ELOOP: "is a symbolic link, which is not followed: put the file itself in its place",
    errno.EISDIR: "is a directory: move it away",
    errno.EINVAL: "is no regular file: move it away",
    errno.ENXIO: "is no regular file: move it away",
}


class _Open(NamedTuple):
    """An edit that this thread is in the middle of. *key* says of which file, by way of whatever handle."""

    file: JsonFile
    key: tuple[int, int, str]
    pid: int
    data: dict[str, Json]


class _OfThread(threading.local):
    def __init__(self) -> None:
        self.edits: list[_Open] = []


_of_thread = _OfThread()


class JsonFile:
    """A file in a directory, with a JSON mapping in it; no file is an empty mapping. Nothing of it is remembered."""

    __slots__ = ("_gone", "_name", "_on_change", "_open_directory")

    def __init__(
        self,
        open_directory: Callable[[], int],
        name: str,
        gone: type[LookupError] = NoSuchJob,
        on_change: Callable[[], None] | None = None,
    ) -> None:
        """Name a file; nothing is touched.

        Args:
            open_directory: gives a new descriptor of the directory (O_PATH suffices), or raises *gone*.
            gone: raised, with a message, if the directory goes away in the middle of something.
            on_change: called when the file has been written. Must not raise.
        """
        self._open_directory = open_directory
        self._name = name
        self._gone = gone
        self._on_change = on_change

    def load(self) -> dict[str, Json]:
        """What the file says now; during an edit of this thread, what it would say. The caller does not change it.

        Raises:
            InvalidDocument: it is there, but says no mapping.
            OSError: it cannot be read.
            LookupError: *gone*: there is no such directory.
        """
        edit = self._own_edit()
        while edit is None:
            fd = self._open_directory()
            try:
                edit = self._edit_of(fd)
                if edit is not None:
                    break
                content = self._content(fd)
            except FileNotFoundError:
                if self._is_there(fd):  # and not on the way out with its job, or elsewhere by now
                    return {}
                continue
            except OSError as error:
                raise self._error(fd, error) from error
            else:
                return self._parse(fd, content)
            finally:
                os.close(fd)
        return edit.data

    @contextlib.contextmanager
    def edit(self, timeout_s: float | None = None, *, savepoint: bool = False) -> Iterator[dict[str, Json]]:
        """Give what the file says, to be changed in place and written at the end of the block, if it was changed.

        Others who edit wait. If the block raises, nothing is written. An edit within an edit of the same file by the
        same thread is part of it. A job's directory that is renamed meanwhile is followed.

        Args:
            timeout_s: how long to wait for others; for ever if None.
            savepoint: within another edit, take back what this one has done if it raises; costs a copy.
        Raises:
            InvalidDocument: the file says no mapping; or what is in the mapping now has no form in JSON.
            DocumentChanged: a program that takes no lock has changed the file meanwhile; nothing is written.
            TimeoutError: others have been at it for too long.
            OSError: permissions, no space and the like; the file is as it was.
            LookupError: *gone*.
        Complexity: reads the file, writes it anew, two fsyncs; the first time, four.
        """
        outer = self._own_edit()
        fd = -1 if outer is not None else self._open_directory()
        try:
            outer = outer or self._edit_of(fd)
            if outer is None:
                before: list[bytes] = []
                with self._whole(fd, timeout_s, before) as data:
                    yield data
                if before and self._on_change is not None:
                    self._on_change()
            elif savepoint:
                with _restored(outer.data):
                    yield outer.data
            else:
                yield outer.data
        finally:
            if fd >= 0:
                os.close(fd)

    @contextlib.contextmanager
    def _whole(self, fd: int, timeout_s: float | None, replaced: list[bytes]) -> Iterator[dict[str, Json]]:
        """An edit that is no part of another; *replaced* gets what the file said, if it is written."""
        with self._locked(fd, timeout_s) as held:
            status = os.fstat(held)
            try:
                before = files.read_whole(held, status.st_size, self._name)
            except OSError as error:
                raise self._error(fd, error) from error
            data = self._parse(fd, before)
            edit = _Open(self, self._key(fd), os.getpid(), data)
            _of_thread.edits.append(edit)
            try:
                yield data
            finally:
                _of_thread.edits.remove(edit)
            if os.getpid() != edit.pid:
                raise RuntimeError(f"{self._path(fd)}: an edit cannot be ended by a child of the process that began it")
            after = self._encode(fd, data)
            if after != before and after != encode(self._parse(fd, before)):
                try:
                    self._replace(fd, held, status, after)
                    replaced.append(before)
                except OSError as error:
                    raise self._error(fd, error) from error

    def _content(self, fd: int) -> bytes:
        held = locking.open_current(fd, self._name)
        try:
            return files.read_whole(held, os.fstat(held).st_size, self._name)
        finally:
            os.close(held)

    @contextlib.contextmanager
    def _locked(self, fd: int, timeout_s: float | None) -> Iterator[int]:
        with contextlib.ExitStack() as stack:
            while True:
                try:
                    held = stack.enter_context(locking.locked(fd, self._name, timeout_s))
                    break
                except FileNotFoundError:
                    # Something must be there to be locked.
                    try:
                        files.write_exclusive(fd, self._name, _EMPTY)
                    except FileExistsError:
                        pass
                    except OSError as error:
                        raise self._error(fd, error) from error
                except OSError as error:
                    raise self._error(fd, error) from error
            yield held

    def _replace(self, fd: int, held: int, seen: os.stat_result, content: bytes) -> None:
        temporary = files.temporary_name()
        files.write_new(fd, temporary, content, 0o600)
        try:
            _make_alike(fd, temporary, held)
            now = os.fstat(held)
            if (now.st_size, now.st_mtime_ns) != (seen.st_size, seen.st_mtime_ns) or not locking.has_name(
                held, fd, self._name
            ):
                message = "a program that takes no lock has changed it meanwhile; nothing is written: do it again"
                raise DocumentChanged(f"{self._path(fd)}: {message}")
            os.rename(temporary, self._name, src_dir_fd=fd, dst_dir_fd=fd)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=fd)
            raise
        try:
            files.fsync_directory(fd)
        except OSError as error:
            raise OSError(error.errno, f"{error.strerror}; it is changed, but perhaps not for good") from error

    def _parse(self, fd: int, content: bytes) -> dict[str, Json]:
        try:
            data = load_json(content)
        except ValueError as error:
            why = "is empty" if not content else f"is not JSON ({error})"
            raise InvalidDocument(f"{self._path(fd)} {why}: mend it or move it away") from error
        if not isinstance(data, dict):
            raise InvalidDocument(f"{self._path(fd)} is JSON but no mapping: mend it or move it away")
        return data

    def _encode(self, fd: int, data: dict[str, Json]) -> bytes:
        try:
            content = encode(data)
        except ValueError as error:
            raise InvalidDocument(f"{self._path(fd)} cannot be written, nothing is changed: {error}") from error
        if len(content) > files.MAX_FILE_BYTES:
            limit = files.MAX_FILE_BYTES
            raise InvalidDocument(f"{self._path(fd)} would be over {limit} bytes; nothing is changed")
        return content

    def _own_edit(self) -> _Open | None:
        """The edit of this thread that was begun by way of this handle, wherever the directory is by now."""
        if not _of_thread.edits:
            return None
        pid = os.getpid()
        return next((edit for edit in _of_thread.edits if edit.file is self and edit.pid == pid), None)

    def _edit_of(self, fd: int) -> _Open | None:
        """The edit of this thread of this file in directory *fd*, by way of whatever handle."""
        if not _of_thread.edits:
            return None
        key, pid = self._key(fd), os.getpid()
        return next((edit for edit in _of_thread.edits if edit.key == key and edit.pid == pid), None)

    def _key(self, fd: int) -> tuple[int, int, str]:
        status = os.fstat(fd)
        return status.st_dev, status.st_ino, self._name

    def _is_there(self, fd: int) -> bool:
        """Whether the directory is where it was.

        Raises:
            LookupError: *gone*.
        """
        again = self._open_directory()
        try:
            return self._key(fd) == self._key(again)
        finally:
            os.close(again)

    def _path(self, fd: int) -> str:
        """The file's path, wherever its directory is by now; for messages."""
        try:
            return os.path.join(os.readlink(f"/proc/self/fd/{fd}"), self._name)
        except OSError:
            return self._name

    def _error(self, fd: int, error: OSError) -> Exception:
        """What to raise for *error*: it names the file."""
        if isinstance(error, FileNotFoundError):
            return self._gone(f"{self._path(fd)}: its directory has just been removed")
        why = _WHY.get(error.errno or 0, error.strerror)
        return OSError(error.errno, why, self._path(fd))


@contextlib.contextmanager
def _restored(data: dict[str, Json]) -> Iterator[None]:
    before = copy.deepcopy(data)
    try:
        yield
    except BaseException:
        data.clear()
        data.update(before)
        raise


def _make_alike(dir_fd: int, name: str, model: int) -> None:
    """Give the new file *name*, which only its owner can read yet, the owner, permissions and extended attributes of
    the open file *model*, as far as that is allowed; never so that anybody may read it who could not before."""
    fd = files.open_regular(dir_fd, name)
    try:
        wanted, status = os.fstat(model), os.fstat(fd)
        if (wanted.st_uid, wanted.st_gid) != (status.st_uid, status.st_gid):
            try:
                os.fchown(fd, wanted.st_uid, wanted.st_gid)
            except PermissionError:
                with contextlib.suppress(PermissionError):
                    os.fchown(fd, -1, wanted.st_gid)
        names = _attributes(model)
        mode = stat.S_IMODE(wanted.st_mode)
        if os.fstat(fd).st_gid != wanted.st_gid:  # the group's rights are not for another: what everybody may
            names.discard(_ACL)
            mode = mode & ~0o070 | (mode & 0o007) << 3 & mode
        for attribute in _attributes(fd) - names:
            with contextlib.suppress(OSError):
                os.removexattr(fd, attribute)
        for attribute in names:
            with contextlib.suppress(OSError):
                os.setxattr(fd, attribute, os.getxattr(model, attribute))
        with contextlib.suppress(PermissionError):
            os.fchmod(fd, mode)
    finally:
        os.close(fd)


def _attributes(fd: int) -> set[str]:
    """Names of the extended attributes of a file that mean something to its users."""
    try:
        return {name for name in os.listxattr(fd) if name == _ACL or name.startswith("user.")}
    except OSError:
        return set()
