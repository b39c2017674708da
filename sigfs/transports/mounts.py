"""Mounts as the kernel lists them, and taking one away. Shared by all transports and the command line."""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import shutil
import subprocess
from collections.abc import Iterable
from typing import Final

from sigfs.errors import MountBusy, MountError
from sigfs.model.mounted import FS_TYPE, Mount, mounts, parse_mountinfo
from sigfs.vfs import syscalls

__all__ = [
    "CLEARED",
    "FLAGS",
    "FS_TYPE",
    "Mount",
    "flags_of",
    "fusermount",
    "is_read_only",
    "libc",
    "may_mount",
    "mounted",
    "mounts",
    "parse_mountinfo",
    "remount",
    "resolve_mountpoint",
    "unmount",
]

FLAGS: Final = {
    "ro": 1,
    "nosuid": 2,
    "nodev": 4,
    "noexec": 8,
    "sync": 16,
    "dirsync": 128,
    "nosymfollow": 256,
    "noatime": 1024,
    "nodiratime": 2048,
    "relatime": 1 << 21,
    "strictatime": 1 << 24,
    "lazytime": 1 << 25,
}
"""Flags of mount(2) by the name that mount(8) gives them."""

CLEARED: Final = {
    "rw": FLAGS["ro"],
    "suid": FLAGS["nosuid"],
    "dev": FLAGS["nodev"],
    "exec": FLAGS["noexec"],
    "async": FLAGS["sync"],
    "atime": FLAGS["noatime"],
    "diratime": FLAGS["nodiratime"],
    "relatime": FLAGS["noatime"] | FLAGS["strictatime"],
    "strictatime": FLAGS["noatime"],
}
"""Those that a name takes away."""

MS_REMOUNT: Final = 32
MNT_FORCE: Final = 1
MNT_DETACH: Final = 2
UMOUNT_NOFOLLOW: Final = 8
_HELPER_TIMEOUT_S: Final = 60.0


def mounted(mountpoint: str) -> Mount | None:
    """Give what is mounted at *mountpoint* (the topmost), or None. Works for a dead mount and asks it nothing."""
    where = resolve_mountpoint(mountpoint)
    return next((mount for mount in reversed(mounts()) if mount.mountpoint == where), None)


def resolve_mountpoint(path: str) -> str:
    """Make *path* absolute and free of links.

    Its last component is looked at only if nothing is mounted there: a dead mount answers ENOTCONN, a hung one never.
    """
    directory, name = os.path.split(os.path.abspath(path))
    candidate = os.path.join(os.path.realpath(directory), name) if name else "/"
    is_mounted = any(mount.mountpoint == candidate for mount in mounts())
    return candidate if is_mounted else os.path.realpath(candidate)


def unmount(mountpoint: str, lazy: bool = False, abort: bool = False) -> None:
    """Take away the topmost mount at *mountpoint*.

    Uses umount2(2), and fusermount3 or fusermount where that is not permitted.

    Args:
        mountpoint: where; links are followed, a dead or hung mount is not touched.
        lazy: even if it is in use: it vanishes from the tree at once, and its server ends when the last process has
            left it.
        abort: fail all requests under way, which frees whatever hangs in them (``umount -f``). Done where permitted,
            which is for root only.

    Raises:
        MountBusy: in use, and not *lazy*.
        MountError: nothing is mounted there, not permitted, no fusermount3.
    """
    path = resolve_mountpoint(mountpoint)
    flags = UMOUNT_NOFOLLOW | (MNT_DETACH if lazy else 0)
    number = _umount2(path, flags | MNT_FORCE) if abort else errno.EPERM
    if number == errno.EPERM:
        number = _umount2(path, flags)
    if number == errno.EPERM:
        _fusermount(path, lazy)
    elif number == errno.EBUSY:
        raise MountBusy(f"{path} is in use; end the processes that use it, or unmount lazily")
    elif number == errno.EINVAL:
        raise MountError(f"nothing is mounted at {path}")
    elif number:
        raise MountError(f"cannot unmount {path}: {os.strerror(number)}")


def flags_of(options: Iterable[str]) -> int:
    """Give the flags of mount(2) for *options* by name; of contradicting ones the last counts, others mean nothing.

    >>> flags_of(["nosuid", "ro", "noexec", "exec", "allow_other"])
    3
    """
    flags = 0
    for option in options:
        flags = (flags | FLAGS.get(option, 0)) & ~CLEARED.get(option, 0)
    return flags


def remount(mountpoint: str, options: Iterable[str]) -> None:
    """Change flags of the mount at *mountpoint*: those that *options* name; the others stay as they are.

    Raises:
        MountBusy: it is to become read-only, and files are open for writing.
        MountError: nothing is mounted there, or not permitted.
    """
    entry = mounted(mountpoint)
    if entry is None:
        raise MountError(f"nothing is mounted at {mountpoint}")
    flags = MS_REMOUNT | flags_of([*sorted(entry.options & FLAGS.keys()), *options])
    if libc().mount(None, os.fsencode(entry.mountpoint), None, ctypes.c_ulong(flags), None) == 0:
        return
    match ctypes.get_errno():
        case errno.EBUSY:
            raise MountBusy(f"{mountpoint} cannot become read-only: files are open for writing")
        case errno.EPERM:
            raise MountError(f"only root may remount {mountpoint}; unmount it, and mount it anew")
        case number:
            raise MountError(f"cannot remount {mountpoint}: {os.strerror(number)}")


def is_read_only(mountpoint: str) -> bool | None:
    """Tell whether the kernel refuses all changes of the sigfs mount at *mountpoint*; None if there is none."""
    entry = mounted(mountpoint)
    return "ro" in entry.super_options if entry is not None and entry.type == FS_TYPE else None


def _umount2(path: str, flags: int) -> int:
    """Call umount2(2); give 0 or the errno."""
    if libc().umount2(os.fsencode(path), flags) == 0:
        return 0
    return ctypes.get_errno()


def _fusermount(path: str, lazy: bool) -> None:
    command = [fusermount(), "-u", *(["-z"] if lazy else []), "--", path]
    result = subprocess.run(
        command,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "LC_ALL": "C"},
        timeout=_HELPER_TIMEOUT_S,
    )
    if result.returncode == 0:
        return
    said = os.fsdecode(result.stderr).strip()
    if os.strerror(errno.EBUSY) in said or "busy" in said:
        raise MountBusy(f"{path} is in use; end the processes that use it, or unmount lazily")
    if mounted(path) is None:
        raise MountError(f"nothing is mounted at {path}")
    raise MountError(f"cannot unmount {path}: {said or f'{command[0]} exited with status {result.returncode}'}")


def fusermount() -> str:
    """Find the set-user-id helper by which ordinary users mount and unmount.

    Raises:
        MountError: not installed.
    """
    for name in ("fusermount3", "fusermount"):
        path = shutil.which(name) or shutil.which(name, path="/bin:/usr/bin:/usr/local/bin")
        if path:
            return path
    raise MountError("fusermount3 is not installed; install the package fuse3, or ask root to mount")


def may_mount() -> bool:
    """Tell whether this thread may use mount(2): whether it has CAP_SYS_ADMIN, as root and some services have."""
    return bool(syscalls.get_capabilities().effective_low & syscalls.SYS_ADMIN)


@functools.cache
def libc() -> ctypes.CDLL:
    """The C library, with errno kept for ``ctypes.get_errno``."""
    return ctypes.CDLL(None, use_errno=True)
