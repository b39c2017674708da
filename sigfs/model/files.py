"""Files read and written relative to a directory's descriptor.

Owned here: the two promises that no read leaves the directory it was asked for (no symbolic link is followed) or hangs
(on a fifo or a device), and that a file that sigfs writes appears whole or not at all. Nothing here knows of jobs.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
import struct
import time
from array import array
from collections.abc import Iterator, Sequence
from typing import Final

from xxhash import xxh3_64_intdigest

from sigfs.model.types import ABSENT, UNKNOWN

TEMPORARY_PREFIX: Final = "._sigfs_"
"""Begins the name of everything unfinished that sigfs makes. ``._`` is signac's own mark of a temporary file, and no
such name can be taken for a job's: signac accepts any name that *begins* with 32 hexadecimal digits."""

EMPTY_PATH: Final = "an empty path names nothing; the working directory is ."
"""What is said of one."""

MAX_FILE_BYTES: Final = 2**28
"""Largest file that is read whole. A sparse file of a terabyte must be an error of that file, not of the process."""

READ_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
DIRECTORY_FLAGS: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
RENAME_NOREPLACE: Final = 1

RACY_S: Final = 2.0
"""A file whose ctime is younger may change once more without its ctime telling: the clocks of file systems tick as
rarely as every 2 s (FAT) and commonly every 4 ms."""

_QUICK_BYTES: Final = 2**16
"""Largest file that `read_many` reads."""

# struct statx is the same on every architecture: stx_ino and stx_size from byte 32 on, stx_ctime and stx_mtime from
# byte 96 on, each 8 bytes of seconds, 4 of nanoseconds, 4 of nothing. A stamp hashes these 48 bytes.
_STATX_BYTES: Final = 256
_STATX_SEEN: Final = struct.Struct("=28xH10xq48xq").unpack_from  # stx_mode, stx_size, seconds of stx_ctime
_STATX_ALIKE: Final = struct.Struct("=QqqI4xqI4x").pack
_STATX_MASK: Final = 0x1 | 0x40 | 0x80 | 0x100 | 0x200  # type, mtime, ctime, ino, size; not the atime, costly on NFS
_AT_SYMLINK_NOFOLLOW: Final = 0x100
_AT_EMPTY_PATH: Final = 0x1000

_SYS_OPENAT2: Final = 437  # everywhere but on alpha, which answers ENOSYS
_OPEN_HOW: Final = struct.pack("=QQQ", READ_FLAGS, 0, 0x04)  # RESOLVE_NO_SYMLINKS

# What link(2) says where the file system has no hard links, or the directory may not have more of them.
NO_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL})
# What fsync(2) says of a directory on file systems that cannot synchronise one.
_NO_FSYNC: Final = frozenset({errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EROFS})


def is_temporary(name: str) -> bool:
    """Whether *name* marks a file or directory as unfinished or put aside, by the customs of signac and editors."""
    return name.startswith("._") or name.endswith("~")


def temporary_name() -> str:
    """A new name for something unfinished; see `TEMPORARY_PREFIX`."""
    return TEMPORARY_PREFIX + os.urandom(8).hex()


@contextlib.contextmanager
def opened_directory(path: str) -> Iterator[int]:
    """Give an O_PATH descriptor of a directory: good for ``dir_fd=`` and fstat, not for listing or fsync.

    Raises:
        FileNotFoundError, NotADirectoryError: there is none.
    """
    fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def open_below(dir_fd: int, path: str) -> int:
    """Give a new O_PATH descriptor of a directory any number of steps below *dir_fd*, following no symbolic link.

    Raises:
        OSError: ENOENT and the like; ENOTDIR for a symbolic link on the way, too.
    """
    fd = -1
    for name in path.split("/"):
        above = fd
        try:
            fd = os.open(name, DIRECTORY_FLAGS, dir_fd=dir_fd if above < 0 else above)
        finally:
            if above >= 0:
                os.close(above)
    return fd


def read_at(dir_fd: int, name: str) -> bytes:
    """Read the regular file *name* in directory *dir_fd* (which may be an O_PATH descriptor) to its end.

    Returns:
        The content. The bytes are of one moment only if writers replace the file, as signac and sigfs do.
    Raises:
        OSError: ELOOP for a symbolic link, EISDIR for a directory, ENXIO or EINVAL for anything else that is no
            regular file, EFBIG over `MAX_FILE_BYTES`, and whatever open and read say.
    Complexity: open, fstat, two reads, close.
    """
    return read_stamped(dir_fd, name)[0]


def read_stamped(dir_fd: int, name: str) -> tuple[bytes, int]:
    """As `read_at`, with the file's stamp (see `sigfs.model.types.Stamp`), which is taken before the content."""
    fd = open_regular(dir_fd, name)
    try:
        status = os.fstat(fd)
        return read_whole(fd, status.st_size, name), stamp_of(status)
    finally:
        os.close(fd)


def open_regular(dir_fd: int, name: str) -> int:
    """A new descriptor, for reading, of the regular file *name* in directory *dir_fd*; the caller closes it.

    Raises:
        OSError: ELOOP for a symbolic link, EISDIR for a directory, ENXIO or EINVAL for anything else that is no
            regular file, and whatever open says.
    """
    fd = os.open(name, READ_FLAGS, dir_fd=dir_fd)
    try:
        mode = os.fstat(fd).st_mode
        if not stat.S_ISREG(mode):
            # A fifo, socket, terminal or endless device: not read from, so that nothing in it is lost.
            code = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
            raise OSError(code, os.strerror(code), name)
    except BaseException:
        os.close(fd)
        raise
    return fd


def read_whole(fd: int, size_bytes: int, name: str) -> bytes:
    """Read from *fd* to the end.

    Args:
        size_bytes: how much there probably is.
        name: for the error message.
    Raises:
        OSError: EFBIG over `MAX_FILE_BYTES`, and whatever read says.
    """
    chunks: list[bytes] = []
    size = 0
    while size <= MAX_FILE_BYTES:
        data = os.read(fd, max(_QUICK_BYTES, min(size_bytes, MAX_FILE_BYTES) - size + 1))
        if not data:
            return b"".join(chunks)
        chunks.append(data)
        size += len(data)
    raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), name)


def stamp_of(status: os.stat_result, now_s: float | None = None) -> int:
    """The stamp of a file that *status* was just taken of; UNKNOWN if it cannot be relied on.

    Args:
        now_s: the time, if it is at hand; any moment not after that of *status*.
    """
    if status.st_ctime_ns // 10**9 >= _settled_before_s(now_s):
        return UNKNOWN
    return _stamp(status)


def _stamp(status: os.stat_result) -> int:
    ctime_s, ctime_ns = divmod(status.st_ctime_ns, 10**9)
    mtime_s, mtime_ns = divmod(status.st_mtime_ns, 10**9)
    return xxh3_64_intdigest(_STATX_ALIKE(status.st_ino, status.st_size, ctime_s, ctime_ns, mtime_s, mtime_ns)) | 2


def is_as_before(path: str, stamp: int) -> bool:
    """Whether the file at *path* is the one that *stamp* is of, and was not touched since.

    Complexity: one system call.
    """
    if stamp == UNKNOWN:
        return False
    try:
        return _stamp(os.lstat(path)) == stamp
    except OSError:
        return False


def _settled_before_s(now_s: float | None = None) -> int:
    return int((time.time() if now_s is None else now_s) - RACY_S)


def read_many(dir_fd: int, paths: Sequence[bytes]) -> tuple[list[bytes | None], array[int]]:
    """Read many small regular files below directory *dir_fd*, following no symbolic link anywhere in the paths.

    Returns:
        Contents and stamps, parallel to *paths*. The content is None, and the stamp ABSENT, for a path that leads to
        no file; None and UNKNOWN for whatever is not plainly a small regular file at rest, also if only the system
        lacks openat2 (before Linux 5.6, some sandboxes): look at those step by step. Every other content is complete.
    Raises:
        Nothing: running out of descriptors too is left to the second look.
    Complexity: four system calls a file; 6 us of processor time, 1.5 times that of a loop in C that takes no stamp.
    """
    contents: list[bytes | None] = [None] * len(paths)
    stamps = array("Q", bytes(8 * len(paths)))
    if _syscall is None or _statx is None:
        return contents, stamps
    status = ctypes.create_string_buffer(_STATX_BYTES)
    view = memoryview(status).cast("B")
    identity, times = view[32:48].tobytes, view[96:128]
    settled_before_s = _settled_before_s()
    read, close = os.read, os.close
    for k, path in enumerate(paths):
        fd = _syscall(_SYS_OPENAT2, dir_fd, path, _OPEN_HOW, len(_OPEN_HOW))
        if fd < 0:
            if ctypes.get_errno() == errno.ENOENT:
                stamps[k] = ABSENT
            continue
        try:
            if _statx(fd, b"", _AT_EMPTY_PATH, _STATX_MASK, status):
                continue
            mode, size, ctime_s = _STATX_SEEN(status)
            if mode & 0o170000 != 0o100000 or size > _QUICK_BYTES:
                continue
            stamp = xxh3_64_intdigest(identity() + times) | 2 if ctime_s < settled_before_s else UNKNOWN
            content = read(fd, size + 1)
        except OSError:
            continue
        finally:
            close(fd)
        if len(content) == size:
            contents[k] = content
            stamps[k] = stamp
    return contents, stamps


def stat_many(dir_fd: int, paths: Sequence[bytes]) -> array[int]:
    """What `read_many` would give as stamps, without its regard for youth: ABSENT for no file, UNKNOWN for trouble.

    What a symbolic link in place of a file points to is not looked at. To compare with a stamp taken earlier: if they
    are equal the file is as it was.

    Complexity: one system call a file; 2.7 us of processor time.
    """
    stamps = array("Q", bytes(8 * len(paths)))
    if _statx is None:
        return stamps
    status = ctypes.create_string_buffer(_STATX_BYTES)
    view = memoryview(status).cast("B")
    identity, times = view[32:48].tobytes, view[96:128]
    for k, path in enumerate(paths):
        if not _statx(dir_fd, path, _AT_SYMLINK_NOFOLLOW, _STATX_MASK, status):
            stamps[k] = xxh3_64_intdigest(identity() + times) | 2
        elif ctypes.get_errno() == errno.ENOENT:
            stamps[k] = ABSENT
    return stamps


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
            if error.errno not in NO_LINKS:
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


def is_there(dir_fd: int, name: str) -> bool:
    """Whether directory *dir_fd* has an entry *name*, of whatever kind."""
    try:
        os.lstat(name, dir_fd=dir_fd)
    except FileNotFoundError:
        return False
    return True


def make_directories(path: str, made: list[str]) -> None:
    """Make *path* and what is missing above it, and note in *made* what was made, the outermost first."""
    if os.path.isdir(path):
        return
    make_directories(os.path.dirname(path), made)
    try:
        os.mkdir(path)
    except FileExistsError:
        if not os.path.isdir(path):
            raise
    else:
        made.append(path)


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


_libc = ctypes.CDLL(None, use_errno=True)
# Without argtypes, which would cost a tenth of the whole reading: the callers pass ints that fit into a C int, bytes
# and buffers only.
_syscall = getattr(_libc, "syscall", None)
_statx = getattr(_libc, "statx", None)
_libc_renameat2 = getattr(_libc, "renameat2", None)
if _libc_renameat2 is not None:
    _libc_renameat2.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
