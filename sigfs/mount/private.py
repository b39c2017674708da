"""A mount table of one's own: what is mounted from then on is seen by this process and those it starts, and goes with
them.

Owned here: the namespaces, and what is said where they are forbidden. Root needs a mount namespace only; others get a
user namespace as well, in which they may mount, and which knows no other user.
"""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Final

from sigfs.errors import FuseUnavailable
from sigfs.transports.mounts import libc, may_mount
from sigfs.vfs import syscalls

_NEW_MOUNTS: Final = 0x00020000  # linux/sched.h: CLONE_NEWNS
_NEW_USERS: Final = 0x10000000  # CLONE_NEWUSER
_MS_REC: Final = 16384  # linux/mount.h
_MS_SLAVE: Final = 1 << 19
_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h

_SYSCTL: Final = "/proc/sys"
_FORBIDDING: Final = (
    ("kernel/unprivileged_userns_clone", "0", "sysctl -w kernel.unprivileged_userns_clone=1"),
    (
        "kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or give Python an AppArmor profile with userns",
    ),
    ("user/max_user_namespaces", "0", "sysctl -w user.max_user_namespaces=15000"),
)
"""Sysctl, the value by which it forbids user namespaces, and what root has to do then."""


def enter() -> bool:
    """Give this process, which has one thread, namespaces of its own. What others mount later is still seen.

    Returns:
        Whether it is in a user namespace now, of whose users it is the only one; its only capability is to mount.

    Raises:
        FuseUnavailable: they are forbidden; says by what, and what to do.
    """
    is_privileged = may_mount()
    uid, gid = os.geteuid(), os.getegid()
    if libc().unshare(_NEW_MOUNTS if is_privileged else _NEW_MOUNTS | _NEW_USERS) != 0:
        raise _forbidden(ctypes.get_errno())
    if not is_privileged:
        try:
            _write("setgroups", "deny")
            _write("uid_map", f"{uid} {uid} 1")
            _write("gid_map", f"{gid} {gid} 1")
        except OSError as error:
            raise _forbidden(error.errno or 0) from error
    if libc().mount(None, b"/", None, ctypes.c_ulong(_MS_REC | _MS_SLAVE), None) != 0:
        raise _forbidden(ctypes.get_errno())
    if not is_privileged and uid != 0:  # root's programs could not be run without
        _only_mount()
    return not is_privileged


def end_with_parent(parent: int, number: int) -> bool:
    """Have this process get the signal *number* when its parent ends; False if it is gone already."""
    libc().prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(number))
    return os.getppid() == parent


def obstacles() -> list[str]:
    """Say what keeps ordinary users from having user namespaces, and what to do about it, a line each."""
    found = []
    for path, value, remedy in _FORBIDDING:
        try:
            with open(os.path.join(_SYSCTL, path), encoding="ascii") as file:
                if file.read().strip() == value:
                    found.append(f"{path.replace('/', '.')} is {value}; root may change that: {remedy}")
        except OSError:
            continue  # not on this system
    return found


def _write(name: str, text: str) -> None:
    with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
        file.write(text)


def _only_mount() -> None:
    """Do not keep the rights that come with a namespace: on the disk this process is to be who it was."""
    capabilities = syscalls.get_capabilities()
    for kind in ("effective", "permitted", "inherited"):
        setattr(capabilities, f"{kind}_low", getattr(capabilities, f"{kind}_low") & syscalls.SYS_ADMIN)
        setattr(capabilities, f"{kind}_high", 0)
    syscalls.set_capabilities(capabilities)


def _forbidden(number: int) -> FuseUnavailable:
    whys = obstacles()
    if not whys and number == errno.ENOSPC:
        whys = ["there are as many as user.max_user_namespaces allows; root may change that with sysctl -w"]
    elif not whys and number in (errno.ENOSYS, errno.EINVAL):
        whys = ["this kernel has none (CONFIG_USER_NS)"]
    elif not whys:
        whys = ["a container, a chroot or a filter of system calls may be why; sigfs mount does without it"]
    return FuseUnavailable(f"no user namespace can be had here ({os.strerror(number)}): {'; '.join(whys)}")
