"""Directory trees as a whole: listed, compared, removed.

Owned here: that nothing of a tree is reached but by descriptors of its directories, which follow no symbolic link, and
that no tree goes on in another file system that is mounted in it. Trees may be up to some hundred levels deep: there is
an open descriptor a level.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import signal
import stat
from collections.abc import Iterator
from typing import Final, NamedTuple, TypeAlias

import xxhash

from sigfs.errors import JobChanged
from sigfs.model import files

CHUNK_BYTES: Final = 2**20
LIST_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Seen(NamedTuple):
    """What one entry of a tree is like.

    Attributes:
        identity: what stat(2) says that changes if the entry does.
        ctime_ns: of the entry; 0 for the tree itself, whose ctime changes when it is renamed.
        content: xxh3_128 of a regular file's data; 0 for everything else, and where nobody has read it.
    """

    identity: tuple[int, ...]
    ctime_ns: int
    content: int = 0


Listing: TypeAlias = dict[str, Seen]
"""Path in the tree, "" for the tree itself -> what is there."""


def listing(tree_fd: int, ignored: str = "") -> Listing:
    """What is in the tree: everything but the entry *ignored* at its top.

    Raises:
        OSError: something cannot be listed; EXDEV, with a message, if another file system is mounted in it.
    """
    status = os.fstat(tree_fd)
    found = {"": seen(status, top=True)}
    for path, below, _ in _walk(tree_fd, "", status.st_dev, ignored):
        found[path] = seen(below)
    return found


def is_alike(one: Listing, other: Listing) -> bool:
    """Whether two listings of the same tree show it unchanged. The content is not compared."""
    return {path: seen[:2] for path, seen in one.items()} == {path: seen[:2] for path, seen in other.items()}


def fingerprint(tree: Listing) -> str:
    """32 hexadecimal digits that stand for a listing, less what was in its files."""
    return xxhash.xxh3_128_hexdigest(repr(sorted((path, seen[:2]) for path, seen in tree.items())).encode())


def require_unchanged(tree_fd: int, before: Listing, young_ns: int, ignored: str = "") -> None:
    """Make sure that the tree is as it was when it was copied, and that nobody is about to change it.

    Args:
        before: what `copy` gave.
        young_ns: files with a younger ctime are read again, since clocks tick so rarely that a change might not show.
    Raises:
        JobChanged: something has changed, or is about to, see `require_quiet`.
        OSError: something cannot be read.
    """
    now = listing(tree_fd, ignored)
    for path in sorted(now.keys() | before.keys()):
        if path not in now or path not in before or now[path][:2] != before[path][:2]:
            raise JobChanged(f"{path or 'its directory'} has just been changed")
    for path, status, directory_fd in _walk(tree_fd, "", os.fstat(tree_fd).st_dev, ignored):
        if not stat.S_ISREG(status.st_mode):
            continue
        with opened(os.path.basename(path), directory_fd) as fd:
            _require_unwritten(fd, path)
            if status.st_ctime_ns >= young_ns and content(fd, status.st_size) != before[path].content:
                raise JobChanged(f"{path} has just been changed")


def require_quiet(tree_fd: int) -> None:
    """Make sure that nobody has a file of the tree open for writing.

    That can only be seen where the file system has leases, and for files of one's own, or by root.

    Raises:
        JobChanged: some process has.
        OSError: something cannot be read.
    """
    for path, status, directory_fd in _walk(tree_fd, "", os.fstat(tree_fd).st_dev):
        if stat.S_ISREG(status.st_mode):
            with opened(os.path.basename(path), directory_fd) as fd:
                _require_unwritten(fd, path)


def is_quiet(tree_fd: int) -> bool:
    """Whether `require_quiet` has nothing to say."""
    try:
        require_quiet(tree_fd)
    except JobChanged:
        return False
    return True


def require_removable(tree_fd: int) -> None:
    """Make sure, as far as modes tell, that every directory of the tree may be emptied.

    Raises:
        PermissionError: one may not.
        OSError: as `listing`.
    """
    me = os.geteuid()
    status = os.fstat(tree_fd)
    tree = ("", status, tree_fd)
    for path, below, directory_fd in itertools.chain([tree], _walk(tree_fd, "", status.st_dev)):
        if stat.S_ISDIR(below.st_mode) and me not in (0, below.st_uid):
            name = os.path.basename(path) or "."
            if not os.access(name, os.W_OK | os.X_OK, dir_fd=directory_fd, effective_ids=True, follow_symlinks=False):
                raise PermissionError(errno.EACCES, "not allowed to take files out of this directory", path or ".")


def remove(parent_fd: int, name: str, first: str = "") -> bool:
    """Remove the directory *name* with all that is in it; whether nothing is left over.

    What cannot be removed, or comes into it meanwhile, stays; nothing is raised for it.

    Args:
        first: name at its top that is to go before everything else.
    """
    with contextlib.suppress(OSError):
        fd = os.open(name, LIST_FLAGS, dir_fd=parent_fd)
        try:
            if first:
                with contextlib.suppress(OSError):
                    os.unlink(first, dir_fd=fd)
        finally:
            os.close(fd)
    with contextlib.suppress(OSError):
        remove_at(parent_fd, name)
    try:
        os.lstat(name, dir_fd=parent_fd)
    except FileNotFoundError:
        return True
    return False


def empty(tree_fd: int, kept: frozenset[str] = frozenset()) -> None:
    """Remove all that is in the directory *tree_fd* but the names *kept* and what sigfs has not finished yet.

    Raises:
        OSError: something cannot be removed; the rest is.
    """
    failure: OSError | None = None
    for name in os.listdir(tree_fd):
        if name in kept or name.startswith(files.TEMPORARY_PREFIX):
            continue
        try:
            remove_at(tree_fd, name)
        except OSError as error:
            failure = failure or error
    if failure is not None:
        raise failure


def set_permissions(tree_fd: int, mode: int) -> None:
    """Give all files of the tree the permissions *mode*, and all directories those that may be entered by whoever may
    read. Symbolic links have none, and what they lead to is not touched.

    Raises:
        OSError: EPERM for what is not one's own.
    """
    directories = mode | (mode & 0o444) >> 2
    for place, status, directory_fd in _walk(tree_fd, "", os.fstat(tree_fd).st_dev):
        if stat.S_ISLNK(status.st_mode):
            continue
        try:
            with magic_path(directory_fd, os.path.basename(place)) as path:
                os.chmod(path, directories if stat.S_ISDIR(status.st_mode) else mode)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise OSError(error.errno, error.strerror, place) from error
    os.chmod(f"/proc/self/fd/{tree_fd}", directories)


def seen(status: os.stat_result, *, top: bool = False) -> Seen:
    is_directory = stat.S_ISDIR(status.st_mode)
    size = 0 if is_directory else status.st_size
    identity = (status.st_mode, status.st_uid, status.st_gid, status.st_ino, status.st_rdev, size, status.st_mtime_ns)
    return Seen(identity, 0 if top else status.st_ctime_ns)


def entries(fd: int, path: str, device: int) -> list[tuple[str, os.stat_result]]:
    """The entries of a directory by name; what vanishes meanwhile is left out."""
    found = []
    for name in sorted(os.listdir(fd)):
        with contextlib.suppress(FileNotFoundError):
            status = os.lstat(name, dir_fd=fd)
            if stat.S_ISDIR(status.st_mode) and status.st_dev != device:
                raise OSError(errno.EXDEV, "another file system is mounted here: unmount it", os.path.join(path, name))
            found.append((name, status))
    return found


def _walk(fd: int, path: str, device: int, ignored: str = "") -> Iterator[tuple[str, os.stat_result, int]]:
    """All below a directory, what is in a directory before itself: path, status, descriptor of what it is in.

    What vanishes meanwhile is left out.
    """
    for name, status in entries(fd, path, device):
        if not path and name == ignored:
            continue
        place = os.path.join(path, name)
        if stat.S_ISDIR(status.st_mode):
            try:
                below = os.open(name, LIST_FLAGS, dir_fd=fd)
            except (FileNotFoundError, NotADirectoryError):
                continue
            try:
                yield from _walk(below, place, device)
            finally:
                os.close(below)
        yield place, status, fd


def open_own(directory_fd: int, name: str) -> int:
    """Open a directory of one's own to be listed and written, which an earlier copying may have made read-only."""
    try:
        return os.open(name, LIST_FLAGS, dir_fd=directory_fd)
    except PermissionError:
        with magic_path(directory_fd, name) as path:
            os.chmod(path, 0o700)
        return os.open(name, LIST_FLAGS, dir_fd=directory_fd)


@contextlib.contextmanager
def opened(name: str, directory_fd: int) -> Iterator[int]:
    """Give a descriptor of a file, to be read.

    Raises:
        JobChanged: it is not there any more.
        OSError: as open(2).
    """
    try:
        fd = _open_to_read(name, directory_fd)
    except FileNotFoundError:
        raise JobChanged(f"{name} has just gone") from None
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def magic_path(directory_fd: int, name: str) -> Iterator[str]:
    """Give a path that leads to just this entry, not to where it may point."""
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory_fd)
    try:
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def content(fd: int, size: int) -> int:
    """A hash of a file's data; zeros count the same whether they are on the disk or a hole."""
    digest = xxhash.xxh3_128(size.to_bytes(8, "little"))
    position = 0
    for start, end in extents(fd, size):
        position = max(position, start - start % CHUNK_BYTES)
        while position < end:
            data = os.pread(fd, CHUNK_BYTES, position)
            if data.count(0) != len(data):
                digest.update(position.to_bytes(8, "little"))
                digest.update(data)
            position += CHUNK_BYTES
    return digest.intdigest()


def extents(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """Where a file has data, from where to where; what is between them are holes."""
    end = 0
    while end < size:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
            stop = os.lseek(fd, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno != errno.ENXIO:  # which says that there is no more
                yield end, size
            return
        yield start, min(stop, size)
        end = stop


def remove_at(directory_fd: int, name: str) -> None:
    """Remove the entry *name*, if it is there, with all that is in it."""
    try:
        status = os.lstat(name, dir_fd=directory_fd)
        if not stat.S_ISDIR(status.st_mode):
            os.unlink(name, dir_fd=directory_fd)
            return
        if status.st_dev != os.fstat(directory_fd).st_dev:
            raise OSError(errno.EXDEV, "another file system is mounted here: unmount it", name)
        fd = open_own(directory_fd, name)
        try:
            below = os.listdir(fd)
            if below and not status.st_mode & stat.S_IWUSR and status.st_uid == os.geteuid():
                os.fchmod(fd, 0o700)
            for each in below:
                remove_at(fd, each)
        finally:
            os.close(fd)
        os.rmdir(name, dir_fd=directory_fd)
    except FileNotFoundError:
        pass


def _open_to_read(name: str, directory_fd: int) -> int:
    try:
        return os.open(name, files.READ_FLAGS | os.O_NOATIME, dir_fd=directory_fd)
    except PermissionError:  # only owners may leave the time of access alone
        return os.open(name, files.READ_FLAGS, dir_fd=directory_fd)


def _require_unwritten(fd: int, path: str) -> None:
    if _is_written(fd):
        raise JobChanged(f"a process has {path} open for writing")


def _is_written(fd: int) -> bool:
    """Whether anybody has the file open for writing, or mapped so. Who asks gets no lease of it then."""
    try:
        # What tells of the end of a lease must not end the process.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False
