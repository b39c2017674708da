"""What a node's attributes are and how they are changed.

Owned here: the rules about modes, owners and times; no state. A ``Descriptor`` says what is meant, so nothing can be
swapped for something else between the steps.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import nullcontext
from typing import TYPE_CHECKING, Final

from sigfs.vfs import syscalls
from sigfs.vfs.credentials import as_caller, masking

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from sigfs.vfs.backing import Descriptor
    from sigfs.vfs.types import Caller, SetAttr

_DEFAULT_ACL: Final = "system.posix_acl_default"
_NS_PER_S: Final = 1_000_000_000
_READ_BYTES: Final = 1 << 17
"""How much programs are advised to read at a time."""
_EXTRA: Final = ("st_atime", "st_mtime", "st_ctime", "st_atime_ns", "st_mtime_ns", "st_ctime_ns", "st_rdev")


def of_tree_directory(st_ino: int, workspace: os.stat_result | None, changed_ns: int) -> os.stat_result:
    """Make up what ``stat`` says of a virtual directory.

    It has the owner and the permissions of the workspace: a copy of it can be written to and removed like any other.
    One link, which means "not counted": programs like find believe two to say that there are no subdirectories.

    Args:
        workspace: the workspace directory's attributes; None while there is none.
        changed_ns: when the index changed last.
    """
    permissions = 0o755 if workspace is None else workspace.st_mode & 0o777
    uid = os.geteuid() if workspace is None else workspace.st_uid
    gid = os.getegid() if workspace is None else workspace.st_gid
    device = 0 if workspace is None else workspace.st_dev
    seconds, float_s = changed_ns // _NS_PER_S, changed_ns / _NS_PER_S
    # All fields in their order, which takes a third of the time of naming them; last st_blksize, st_blocks, st_rdev.
    times = (seconds, seconds, seconds, float_s, float_s, float_s, changed_ns, changed_ns, changed_ns)
    return os.stat_result((stat.S_IFDIR | permissions, st_ino, device, 1, uid, gid, 0, *times, 4096, 0, 0))


def of_virtual_file(st_ino: int, workspace: os.stat_result | None, changed_ns: int, size_bytes: int) -> os.stat_result:
    """Make up what ``stat`` says of a file that is nowhere on the disk: who may read the workspace may read it."""
    directory = of_tree_directory(st_ino, workspace, changed_ns)
    mode = stat.S_IFREG | (directory.st_mode & 0o444)
    blocks = -(-size_bytes // 512)
    more = {name: getattr(directory, name) for name in _EXTRA}
    return os.stat_result(
        (mode, *directory[1:6], size_bytes, *directory[7:10]), {**more, "st_blksize": _READ_BYTES, "st_blocks": blocks}
    )


def within(found: os.stat_result, above: os.stat_result) -> os.stat_result:
    """Give attributes of a directory that show no rights to those who may not search the directory *above*.

    A mount leads past that one. Where it is not certain that somebody may search it, they may not.
    """
    if above.st_mode & stat.S_IXOTH:
        return found
    taken = stat.S_IRWXO
    if found.st_gid != above.st_gid or not above.st_mode & stat.S_IXGRP:
        taken |= stat.S_IRWXG
    if found.st_uid != above.st_uid or not above.st_mode & stat.S_IXUSR:
        taken |= stat.S_IRWXU
    more = {name: getattr(found, name) for name in (*_EXTRA, "st_blksize", "st_blocks")}
    return os.stat_result((found.st_mode & ~taken, *found[1:10]), more)


def change(
    target: Descriptor, changes: SetAttr, caller: Caller, writable_fd: int | None = None, *, is_handle: bool = False
) -> None:
    """Make *changes*: size, then owner, mode (a change of owner clears set-id bits) and last the times.

    Not atomic: if one step fails those before it have been made.

    Owner, mode and times are changed as *caller*, by whom the disk below judges it: what the kernel has cached may be
    of a file that another user has put in the place. Truncated, a file loses its set-id bits, unless root does it.

    Args:
        writable_fd: a descriptor of the file that was opened for writing, to change the size through: that right
            was checked when it was opened.
        is_handle: *target* is no O_PATH descriptor, so no path is needed.
    """
    at: int | str = target.fd if is_handle else target.path
    if changes.size is not None:
        with as_caller(caller):
            if writable_fd is not None:
                os.ftruncate(writable_fd, changes.size)
            else:
                os.truncate(target.path, changes.size)
    if changes.uid is not None or changes.gid is not None:
        uid = -1 if changes.uid is None else changes.uid
        gid = -1 if changes.gid is None else changes.gid
        with as_caller(caller):
            os.chown(at, uid, gid)
    if changes.mode is not None:
        mode = stat.S_IMODE(changes.mode)
        with as_caller(None if _only_drops_set_id(stat.S_IMODE(os.fstat(target.fd).st_mode), mode) else caller):
            os.chmod(at, mode)
    if changes.atime_ns is not None or changes.mtime_ns is not None:
        with as_caller(caller):
            syscalls.set_times(at, changes.atime_ns, changes.mtime_ns)


def _only_drops_set_id(before: int, mode: int) -> bool:
    """Tell whether *mode* is *before* with or without its set-id bits.

    Where a transport has not negotiated that the server does it, the kernel asks for this when anybody writes.
    """
    return not mode & ~before and not before & ~mode & ~(stat.S_ISUID | stat.S_ISGID)


def creation(directory: Descriptor, mode: int, caller: Caller) -> tuple[int, AbstractContextManager[None]]:
    """Give the mode to create a node in *directory* with, and a block to do it in.

    What it gets is *mode* less the caller's umask, unless a default ACL of the directory decides. The server runs with
    a umask of 0; in the block the thread has the caller's, so that the disk below looks for the ACL, if it knows any.
    """
    masked = masking(caller.umask & mode)
    return (creation_mode(directory, mode, caller), nullcontext()) if masked is None else (mode, masked)


def creation_mode(directory: Descriptor, mode: int, caller: Caller) -> int:
    """Give the mode itself: for what is not made at once, or where threads cannot have a umask of their own."""
    if caller.umask & mode:
        try:
            os.getxattr(directory.path, _DEFAULT_ACL)
        except OSError as error:
            if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
                raise
            return mode & ~caller.umask
    return mode
