"""System calls that the os module lacks: renameat2, fallocate, utimensat with UTIME_NOW and UTIME_OMIT.

Owned here: the C signatures. Nothing is remembered; every function may be called from any thread (ctypes releases
the interpreter lock during the call) and raises OSError with errno and name.
"""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sigfs.vfs.types import Time

RENAME_NOREPLACE: Final = 1
RENAME_EXCHANGE: Final = 2

_AT_FDCWD: Final = -100
# linux/stat.h: in tv_nsec, "the time of the call" and "leave as it is"
_UTIME_NOW: Final = (1 << 30) - 1
_UTIME_OMIT: Final = (1 << 30) - 2
_NS_PER_S: Final = 1_000_000_000


class _Timespec(ctypes.Structure):
    _fields_ = (("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long))


_libc = ctypes.CDLL(None, use_errno=True)

_renameat2 = _libc.renameat2
_renameat2.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
_utimensat = _libc.utimensat
_utimensat.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(_Timespec * 2), ctypes.c_int)
# off_t is 64 bits under this name on 32-bit machines too
_fallocate = _libc.fallocate64
_fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


def _fail(name: str | None = None) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), name)


def rename(old_name: str, new_name: str, old_fd: int, new_fd: int, flags: int) -> None:
    """Rename *old_name* in directory *old_fd* to *new_name* in *new_fd*.

    Args:
        flags: RENAME_NOREPLACE, RENAME_EXCHANGE, or 0 for a plain rename.

    Raises:
        OSError: as renameat2(2); EINVAL also where the disk does not know the flag.
    """
    if flags == 0:
        os.rename(old_name, new_name, src_dir_fd=old_fd, dst_dir_fd=new_fd)
    elif _renameat2(old_fd, os.fsencode(old_name), new_fd, os.fsencode(new_name), flags) != 0:
        raise _fail(old_name)


def set_times(path: str, atime_ns: Time | None, mtime_ns: Time | None) -> None:
    """Set the times of what *path* leads to; None leaves one as it is, "now" is the time of the call."""
    times = (_Timespec * 2)(_timespec(atime_ns), _timespec(mtime_ns))
    if _utimensat(_AT_FDCWD, os.fsencode(path), ctypes.byref(times), 0) != 0:
        raise _fail(path)


def _timespec(time: Time | None) -> _Timespec:
    if time is None:
        return _Timespec(0, _UTIME_OMIT)
    if time == "now":
        return _Timespec(0, _UTIME_NOW)
    return _Timespec(*divmod(time, _NS_PER_S))


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    """Allocate, punch, zero or collapse a range of the open file *fd*: fallocate(2) with its *mode* flags."""
    if _fallocate(fd, mode, offset, length) != 0:
        raise _fail()
