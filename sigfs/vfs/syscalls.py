"""System calls that the os module lacks: renameat2, fallocate, utimensat with UTIME_NOW and UTIME_OMIT, and those that
change the credentials of one thread.

Owned here: the C signatures. Nothing is remembered; every function may be called from any thread (ctypes releases
the interpreter lock during a call that may wait for a disk) and raises OSError with errno and name.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from struct import Struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sigfs.vfs.types import Time

RENAME_NOREPLACE: Final = 1
RENAME_EXCHANGE: Final = 2

_AT_FDCWD: Final = -100
_AT_EMPTY_PATH: Final = 0x1000
_STATX_BTIME: Final = 0x800
# linux/stat.h: in tv_nsec, "the time of the call" and "leave as it is"
_UTIME_NOW: Final = (1 << 30) - 1
_UTIME_OMIT: Final = (1 << 30) - 2
_NS_PER_S: Final = 1_000_000_000


_TIMES: Final = Struct("@llll")
"""Two of C's struct timespec."""

_libc = ctypes.CDLL(None, use_errno=True)

_renameat2 = _libc.renameat2
_renameat2.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
_utimensat = _libc.utimensat
_utimensat.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int)
# off_t is 64 bits under this name on 32-bit machines too
_fallocate = _libc.fallocate64
_fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
_statx = getattr(_libc, "statx", None)  # glibc 2.28, musl 1.2.5
_fstatfs = _libc.fstatfs


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


def set_times(target: str | int, atime_ns: Time | None, mtime_ns: Time | None) -> None:
    """Set the times of what a path leads to, or a descriptor; None leaves one as it is, "now" is the time of the call.

    Args:
        target: no O_PATH descriptor.
    """
    times = _TIMES.pack(*_timespec(atime_ns), *_timespec(mtime_ns))
    fd, path = (target, None) if isinstance(target, int) else (_AT_FDCWD, os.fsencode(target))
    if _utimensat(fd, path, times, 0) != 0:
        raise _fail(target if isinstance(target, str) else None)


def _timespec(time: Time | None) -> tuple[int, int]:
    if time is None:
        return 0, _UTIME_OMIT
    if time == "now":
        return 0, _UTIME_NOW
    return divmod(time, _NS_PER_S)


class _StatxTime(ctypes.Structure):
    _fields_ = (("tv_sec", ctypes.c_int64), ("tv_nsec", ctypes.c_uint32), ("unused", ctypes.c_int32))


class _Statx(ctypes.Structure):
    # linux/stat.h; what comes before the times and behind them is not wanted
    _fields_ = (
        ("mask", ctypes.c_uint32),
        ("before", ctypes.c_uint8 * 60),
        ("atime", _StatxTime),
        ("btime", _StatxTime),
        ("behind", ctypes.c_uint8 * 160),
    )


def birth_ns(fd: int) -> int | None:
    """Give when what *fd* leads to was made, in ns since the epoch; None if the disk does not say."""
    found = _Statx()
    if _statx is None or _statx(fd, b"", _AT_EMPTY_PATH, _STATX_BTIME, ctypes.byref(found)) != 0:
        return None
    return found.btime.tv_sec * _NS_PER_S + found.btime.tv_nsec if found.mask & _STATX_BTIME else None


def file_system_type(fd: int) -> int:
    """Give the magic number of the file system that *fd* is on, as statfs(2) does."""
    found = (ctypes.c_long * 64)()  # struct statfs, which begins with it, and room to spare
    if _fstatfs(fd, found) != 0:
        raise _fail()
    return int(found[0]) & 0xFFFFFFFF


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    """Allocate, punch, zero or collapse a range of the open file *fd*: fallocate(2) with its *mode* flags."""
    if _fallocate(fd, mode, offset, length) != 0:
        raise _fail()


def get_own_umask() -> None:
    """Give this thread a umask (and working directory) that it shares with no other thread, but those it starts.

    Raises:
        OSError: a filter of system calls forbids it.
    """
    if _quick.unshare(_CLONE_FS) != 0:
        raise _fail("unshare")


# Credentials. The interpreter lock is kept: these only change the thread's own record, and giving the lock up twice
# costs more than they do.

_quick = ctypes.PyDLL(None, use_errno=True)
_CLONE_FS: Final = 0x200  # linux/sched.h
_syscall = _quick.syscall
_syscall.restype = ctypes.c_long

_fcntl = _quick.fcntl
_fcntl.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_long)


def has_no_writer(fd: int) -> bool:
    """Tell whether nobody has the file open for writing, or mapped so, through any descriptor; False if unknown.

    A lease is taken and given back at once, with the interpreter lock held: who opens the file for writing in between
    waits some microseconds, and this process gets a SIGIO, which it must ignore.
    """
    if _fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK) != 0:
        return False
    _fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return True


_CAPABILITY_VERSION: Final = 0x20080522  # linux/capability.h: version 3, two words of 32 capabilities each
# asm/unistd.h, for programs of 64 bits; setgroups(3) would change every thread
_SETGROUPS: Final = (
    {"x86_64": 116, "aarch64": 159, "riscv64": 159, "loongarch64": 159, "ppc64le": 81, "s390x": 206}.get(
        os.uname().machine
    )
    if ctypes.sizeof(ctypes.c_void_p) == 8
    else None
)
_UNCHANGED: Final = 0xFFFFFFFF

SYS_ADMIN: Final = 1 << 21
"""The capability to mount, in the low half."""


class Capabilities(ctypes.Structure):
    """The capabilities of a thread: for each half of the set the effective, permitted and inheritable ones."""

    _fields_ = tuple(
        (f"{kind}_{half}", ctypes.c_uint32)
        for half in ("low", "high")
        for kind in ("effective", "permitted", "inherited")
    )


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


_THIS_THREAD: Final = ctypes.byref(_CapabilityHeader(_CAPABILITY_VERSION, 0))


def get_capabilities() -> Capabilities:
    """Give the capabilities of this thread."""
    found = Capabilities()
    if _quick.capget(_THIS_THREAD, ctypes.byref(found)) != 0:
        raise _fail()
    return found


def set_capabilities(capabilities: Capabilities) -> None:
    """Set the capabilities of this thread; those that are permitted may be made effective at any time."""
    if _quick.capset(_THIS_THREAD, ctypes.byref(capabilities)) != 0:
        raise _fail()


def set_fs_ids(uid: int, gid: int) -> None:
    """Set the user and group by which this thread's file accesses are judged and that own what it makes.

    Raises:
        OSError: EPERM if the kernel did not do so. One of the two may then have been set.
    """
    _quick.setfsgid(ctypes.c_uint32(gid))
    _quick.setfsuid(ctypes.c_uint32(uid))
    # The calls give the id before them and no error; one with an id that does not exist changes nothing.
    unchanged = ctypes.c_uint32(_UNCHANGED)
    found = _quick.setfsuid(unchanged) & _UNCHANGED, _quick.setfsgid(unchanged) & _UNCHANGED
    if found != (uid, gid):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM), "setfsuid")


def set_thread_groups(groups: Sequence[int]) -> None:
    """Set the supplementary groups of this thread only.

    Raises:
        OSError: EPERM without CAP_SETGID; ENOSYS on a machine whose system call numbers are not listed here.
    """
    if _SETGROUPS is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), "setgroups")
    if _syscall(_SETGROUPS, ctypes.c_size_t(len(groups)), (ctypes.c_uint32 * len(groups))(*groups)) != 0:
        raise _fail("setgroups")
