"""Files and directories brought into a job's directory, or out of it.

Owned here: that what is brought appears whole under its name or not at all, replaces nothing unless that is wished, and
that no path leads out of the job, whatever links are in it. Links that stay within it are followed.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
import struct
from collections.abc import Callable, Iterator
from typing import Final

from sigfs.model import copying, files, trees

_CHUNK_BYTES: Final = 2**20
_SYS_OPENAT2: Final = 437
_BENEATH: Final = 0x08 | 0x02  # RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS
_LIST_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_TAKEN: Final = frozenset({errno.EEXIST, errno.ENOTEMPTY})
_NO_FLAGS: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})
_TRIES: Final = 16

Progress = Callable[[int, int], None]
"""Is told (bytes done, bytes in all)."""


def open_beneath(directory_fd: int, path: str, flags: int) -> int:
    """Open what *path* names in a directory, following links that stay in it, and no others.

    Raises:
        OSError: EXDEV where the path leads out of it; ENOENT and so on. Where the kernel cannot tell (before Linux 5.6,
            in some sandboxes), ELOOP or ENOTDIR for any link.
    """
    try:
        return _open_beneath(directory_fd, path, flags)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.ELOOP):
            raise
        raise OSError(error.errno, "leads out of the job's directory, and is not followed", path) from None


def _open_beneath(directory_fd: int, path: str, flags: int) -> int:
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, 0, _BENEATH)
    libc = ctypes.CDLL(None, use_errno=True)
    for _ in range(_TRIES):  # EAGAIN: something in it was just renamed
        fd: int = libc.syscall(_SYS_OPENAT2, directory_fd, os.fsencode(path), how, ctypes.c_size_t(len(how)))
        if fd >= 0:
            return fd
        code = ctypes.get_errno()
        if code != errno.EAGAIN:
            break
    if code not in (errno.ENOSYS, errno.EPERM, errno.EAGAIN):
        raise OSError(code, os.strerror(code), path)
    above, name = os.path.split(os.path.normpath(path))
    if os.path.isabs(path) or ".." in path.split("/"):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
    flags |= os.O_NOFOLLOW | os.O_CLOEXEC
    if not above:
        return os.open(name, flags, dir_fd=directory_fd)
    above_fd = files.open_below(directory_fd, above)
    try:
        return os.open(name, flags, dir_fd=above_fd)
    finally:
        os.close(above_fd)


def bring(
    source_fd: int, target_fd: int, name: str, *, replace: bool = False, progress: Progress | None = None
) -> None:
    """Make what *source_fd* is, a file or pipe open for reading, or a directory, the entry *name* of a directory.

    A directory is copied with all that is in it (see `copying.copy`; links are copied as links). A file gets the
    permissions of its source, as far as the umask allows.

    Args:
        replace: a file or link that has the name, and is no directory.
    Raises:
        FileExistsError: the name is taken.
        OSError: as read(2), write(2) and so on; ENOSPC. Nothing is left then.
    """
    status = os.fstat(source_fd)
    temporary = files.temporary_name()
    try:
        if stat.S_ISDIR(status.st_mode):
            os.mkdir(temporary, 0o700, dir_fd=target_fd)
            copy_fd = trees.open_own(target_fd, temporary)
            try:
                copying.copy(source_fd, copy_fd)
            finally:
                os.close(copy_fd)
            replace = False
        else:
            _copy_file(source_fd, status, target_fd, temporary, progress)
        if replace:
            os.rename(temporary, name, src_dir_fd=target_fd, dst_dir_fd=target_fd)
        else:
            _rename_new(target_fd, temporary, name)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            trees.remove_at(target_fd, temporary)
        raise
    with contextlib.suppress(OSError), _listable(target_fd) as fd:
        files.fsync_directory(fd)


def _copy_file(source_fd: int, status: os.stat_result, target_fd: int, name: str, progress: Progress | None) -> None:
    mode = stat.S_IMODE(status.st_mode) & 0o777 if stat.S_ISREG(status.st_mode) else 0o666
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode, dir_fd=target_fd)
    try:
        done = 0
        while data := os.read(source_fd, _CHUNK_BYTES):
            written = 0
            while written < len(data):
                written += os.write(fd, data[written:])
            done += len(data)
            if progress is not None:
                progress(done, max(done, status.st_size))
        os.fsync(fd)
    finally:
        os.close(fd)


def _rename_new(directory_fd: int, old: str, new: str) -> None:
    try:
        try:
            files.renameat2(directory_fd, old, directory_fd, new, files.RENAME_NOREPLACE)
        except OSError as error:
            if error.errno not in _NO_FLAGS:
                raise
            os.link(old, new, src_dir_fd=directory_fd, dst_dir_fd=directory_fd)
            os.unlink(old, dir_fd=directory_fd)
    except OSError as error:
        if error.errno in _TAKEN:
            raise FileExistsError(errno.EEXIST, "there is something of this name already", new) from None
        raise


@contextlib.contextmanager
def _listable(directory_fd: int) -> Iterator[int]:
    fd = os.open(".", _LIST_FLAGS, dir_fd=directory_fd)
    try:
        yield fd
    finally:
        os.close(fd)
