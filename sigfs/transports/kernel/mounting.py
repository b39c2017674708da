"""Getting a connected /dev/fuse descriptor: by mount(2), or by fusermount3 for ordinary users."""

from __future__ import annotations

import array
import contextlib
import ctypes
import errno
import logging
import os
import socket
import stat
import subprocess
from typing import TYPE_CHECKING, Final

from sigfs.errors import FuseUnavailable, MountError, MountPointError
from sigfs.transports.mounts import flags_of, fusermount, libc, may_mount, unmount

if TYPE_CHECKING:
    from sigfs.transports.base import MountSpec

log = logging.getLogger(__name__)

DEVICE: Final = "/dev/fuse"
SUBTYPE: Final = "sigfs"
_HELPER_TIMEOUT_S: Final = 60.0


def connect(spec: MountSpec) -> tuple[int, bool]:
    """Mount and give the connected descriptor, and whether this process mounted by itself (with privilege).

    The descriptor is the caller's to close; closing it makes a mount that is still there answer ENOTCONN.

    Raises:
        FuseUnavailable: no FUSE on this machine or not for this user; says what to do.
        MountPointError: the mount point does not exist or is no directory.
    """
    if spec.single_user:
        try:
            return _mount_directly(spec), False
        except PermissionError as error:
            raise FuseUnavailable(_explain_refusal(error)) from error
    if may_mount():
        with contextlib.suppress(PermissionError):
            return _mount_directly(spec), True
    return _mount_by_helper(spec), False


def mount_flags(spec: MountSpec) -> int:
    """Give the flags of mount(2); ``nosuid`` and ``nodev`` unless asked otherwise, as for any user's mount."""
    return flags_of(["nosuid", "nodev", *(["ro"] if spec.read_only else []), *spec.options])


def _mount_directly(spec: MountSpec) -> int:
    """Mount with mount(2). PermissionError where that is not allowed."""
    try:
        fd = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise _no_device() from error
    except OSError as error:
        if error.errno in (errno.ENODEV, errno.ENXIO):
            raise _no_device() from error
        if isinstance(error, PermissionError):  # a container that has the node but not the right to it
            raise
        raise FuseUnavailable(f"cannot open {DEVICE}: {error.strerror}") from error
    data = f"fd={fd},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()},default_permissions"
    if spec.allow_other:
        data += ",allow_other"
    result = libc().mount(
        os.fsencode(spec.source),
        os.fsencode(spec.mountpoint),
        f"fuse.{SUBTYPE}".encode(),
        ctypes.c_ulong(mount_flags(spec)),
        data.encode(),
    )
    if result == 0:
        return fd
    number = ctypes.get_errno()
    os.close(fd)
    if number == errno.EPERM or (number == errno.EACCES and spec.single_user):  # the latter by AppArmor
        raise PermissionError(number, os.strerror(number), "mount")
    if number in (errno.ENOENT, errno.ENOTDIR, errno.ENOTCONN, errno.EACCES):
        raise MountPointError(f"cannot mount at {spec.mountpoint}: {os.strerror(number)}")
    if number == errno.ENODEV:
        raise _no_device()
    raise FuseUnavailable(f"cannot mount at {spec.mountpoint}: {os.strerror(number)}")


def _no_device() -> FuseUnavailable:
    return FuseUnavailable(
        f"this system has no {DEVICE}; load the module with: modprobe fuse "
        "(in a container, start it with: --device /dev/fuse --cap-add SYS_ADMIN)"
    )


def helper_options(spec: MountSpec) -> str:
    r"""Give the argument of ``fusermount3 -o``. Commas and backslashes in the source are escaped as it expects.

    >>> from sigfs.transports.base import MountSpec
    >>> helper_options(MountSpec("/mnt", "/data/a,b"))
    'fsname=/data/a\\,b,subtype=sigfs,default_permissions,nosuid,nodev'
    """
    source = spec.source.replace("\\", "\\\\").replace(",", "\\,")
    options = [f"fsname={source}", f"subtype={SUBTYPE}", "default_permissions"]
    options += [name for name, wanted in (("ro", spec.read_only), ("allow_other", spec.allow_other)) if wanted]
    options += [name for name, asked in (("nosuid", "suid"), ("nodev", "dev")) if asked not in spec.options]
    options += [name for name in spec.options if name not in options and name != "defaults"]
    return ",".join(options)


def _mount_by_helper(spec: MountSpec) -> int:
    """Have fusermount3 mount; it hands the descriptor over a socket whose number it finds in _FUSE_COMMFD."""
    try:
        helper = fusermount()
    except MountError as error:
        raise FuseUnavailable(str(error)) from error
    try:
        directory = stat.S_ISDIR(os.stat(spec.mountpoint).st_mode)
    except OSError as error:
        raise MountPointError(f"cannot mount at {spec.mountpoint}: {error.strerror}") from error
    if not directory:
        raise MountPointError(f"cannot mount at {spec.mountpoint}: {os.strerror(errno.ENOTDIR)}")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        result = subprocess.run(
            [helper, "-o", helper_options(spec), "--", spec.mountpoint],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=[theirs.fileno()],
            env={**os.environ, "LC_ALL": "C", "_FUSE_COMMFD": str(theirs.fileno())},
            timeout=_HELPER_TIMEOUT_S,
        )
        said = os.fsdecode(result.stderr).strip()
        if result.returncode != 0:
            raise FuseUnavailable(_explain(said) or f"{helper} exited with status {result.returncode}")
        if said:
            log.warning("%s", said)
        fd = _receive(ours)
    if fd is None:
        with contextlib.suppress(MountError):
            unmount(spec.mountpoint, lazy=True)
        raise FuseUnavailable(f"{helper} mounted {spec.mountpoint} but handed over no descriptor")
    return fd


def _receive(channel: socket.socket) -> int | None:
    """Take the descriptor that the helper, which has exited, left in the socket."""
    size = array.array("i").itemsize
    try:
        _, messages, _, _ = channel.recvmsg(1, socket.CMSG_SPACE(size), socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC)
    except BlockingIOError:
        return None
    for level, kind, payload in messages:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS) and len(payload) >= size:
            return int(array.array("i", payload[:size])[0])
    return None


def _explain_refusal(error: PermissionError) -> str:
    """Say why a user cannot mount in a namespace of his own."""
    if error.filename == DEVICE:
        return _explain(f"cannot open {DEVICE}: {error.strerror}")
    return (
        f"FUSE cannot be mounted in a user namespace here ({error.strerror}): that needs Linux 4.18 or newer, and no "
        "security module that forbids it (AppArmor: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0)"
    )


def _explain(said: str) -> str:
    """Add the remedy to what fusermount3 says, where it is known."""
    if "/dev/fuse" in said:
        if os.strerror(errno.EACCES) in said:
            return f"{said}; ordinary users may mount when root has run: chmod 666 {DEVICE}"
        return f"{said}; load the module with: modprobe fuse"
    return said
