"""Files read and written relative to a directory's descriptor.

Owned here: the two promises that no read leaves the directory it was asked for (no symbolic link is followed) or hangs
(on a fifo or a device), and that a file that sigfs writes appears whole or not at all. Nothing here knows of jobs.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from typing import Final

TEMPORARY_PREFIX: Final = "._sigfs_"
"""Begins the name of everything unfinished that sigfs makes. ``._`` is signac's own mark of a temporary file, and no
such name can be taken for a job's: signac accepts any name that *begins* with 32 hexadecimal digits."""

MAX_FILE_BYTES: Final = 2**28
"""Largest file that is read whole. A sparse file of a terabyte must be an error of that file, not of the process."""

READ_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
DIRECTORY_FLAGS: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
RENAME_NOREPLACE: Final = 1

_CHUNK_BYTES: Final = 2**15

# What link(2) says where the file system has no hard links, or the directory may not have more of them.
_NO_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL})
# What fsync(2) says of a directory on file systems that cannot synchronise one.
_NO_FSYNC: Final = frozenset({errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EROFS})


def is_temporary(name: str) -> bool:
    """Whether *name* marks a file or directory as unfinished or put aside, by the customs of signac and editors."""
    return name.startswith("._") or name.endswith("~")


def temporary_name() -> str:
    """A new name for something unfinished; see `TEMPORARY_PREFIX`."""
    return TEMPORARY_PREFIX + secrets.token_hex(8)


def read_at(dir_fd: int, name: str) -> bytes:
    """Read the regular file *name* in directory *dir_fd* (which may be an O_PATH descriptor) to its end.

    Returns:
        The content. The bytes are of one moment only if writers replace the file, as signac and sigfs do.
    Raises:
        OSError: ELOOP for a symbolic link, EISDIR for a directory, ESPIPE, ENXIO or EINVAL for anything else that is
            no regular file, EFBIG over `MAX_FILE_BYTES`, and whatever open and read say.
    Complexity: open, two reads, close; no fstat for a file of less than 32 KiB.
    """
    fd = os.open(name, READ_FLAGS, dir_fd=dir_fd)
    try:
        # pread and not read: a fifo, socket or terminal refuses it, untouched. What is left are endless devices,
        # which fill the first chunk.
        data = os.pread(fd, _CHUNK_BYTES, 0)
        if len(data) < _CHUNK_BYTES and not os.pread(fd, 1, len(data)):
            return data
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", name)
        chunks, size = [data], len(data)
        while size <= MAX_FILE_BYTES:
            data = os.pread(fd, max(_CHUNK_BYTES, min(status.st_size, MAX_FILE_BYTES) - size + 1), size)
            if not data:
                return b"".join(chunks)
            chunks.append(data)
            size += len(data)
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), name)
    finally:
        os.close(fd)


def write_new(dir_fd: int, name: str, data: bytes, mode: int = 0o666) -> None:
    """Create the file *name*, which must not be there, and bring *data* to the disk; removed again on failure.

    The name itself is not synchronised (see `fsync_directory`), and others see the file grow: give it a temporary name.

    Raises:
        OSError: EEXIST if the name is taken, ENOSPC and the like.
    """
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=dir_fd)
    try:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            os.fsync(fd)
        finally:
            os.close(fd)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=dir_fd)
        raise


def write_atomic(dir_fd: int, name: str, data: bytes, mode: int = 0o666) -> None:
    """Make *name* in directory *dir_fd* a file with content *data*, replacing what was there at once or not at all.

    Args:
        mode: permissions of the new file, less the process's umask.
    Raises:
        OSError: nothing is changed, and no temporary file is left.
    """
    with _temporary_file(dir_fd, data, mode) as temporary:
        os.rename(temporary, name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    fsync_directory(dir_fd)


def write_exclusive(dir_fd: int, name: str, data: bytes, mode: int = 0o666) -> None:
    """As `write_atomic`, but never in place of anything.

    Raises:
        FileExistsError: *name* is taken.
        OSError: nothing is changed, and no temporary file is left.
    """
    with _temporary_file(dir_fd, data, mode) as temporary:
        try:
            os.link(temporary, name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            renameat2(dir_fd, temporary, dir_fd, name, RENAME_NOREPLACE)
    fsync_directory(dir_fd)


@contextlib.contextmanager
def _temporary_file(dir_fd: int, data: bytes, mode: int) -> Iterator[str]:
    name = temporary_name()
    write_new(dir_fd, name, data, mode)
    try:
        yield name
    finally:
        # Also after success: a link leaves the temporary name behind, a rename does not.
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=dir_fd)


def fsync_directory(dir_fd: int) -> None:
    """Bring the names in directory *dir_fd* (which may be an O_PATH descriptor) to the disk, where that can be done.

    A directory that may be written but not read cannot be synchronised; neither can one on some network file systems.
    """
    try:
        fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=dir_fd)
    except PermissionError:
        return
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _NO_FSYNC:
            raise
    finally:
        os.close(fd)


def renameat2(old_dir_fd: int, old_name: str, new_dir_fd: int, new_name: str, flags: int) -> None:
    """The system call of that name, which Python does not offer.

    Raises:
        OSError: as renameat2(2); EINVAL where the file system does not know a flag.
    """
    if _libc_renameat2 is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), old_name)
    if _libc_renameat2(old_dir_fd, os.fsencode(old_name), new_dir_fd, os.fsencode(new_name), flags):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), old_name, None, new_name)


_libc_renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
if _libc_renameat2 is not None:
    _libc_renameat2.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
