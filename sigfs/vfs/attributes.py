"""What a node's attributes are and how they are changed or given to a new one.

Owned here: the rules about modes, owners and times; no state. A ``Descriptor`` says what is meant, so nothing can be
swapped for something else between the steps.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Final

from sigfs.vfs import syscalls

if TYPE_CHECKING:
    from sigfs.vfs.backing import Descriptor
    from sigfs.vfs.types import Caller, SetAttr

_DEFAULT_ACL: Final = "system.posix_acl_default"
_NS_PER_S: Final = 1_000_000_000


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
    seconds = changed_ns // _NS_PER_S
    times = dict.fromkeys(("st_atime", "st_mtime", "st_ctime"), changed_ns / _NS_PER_S)
    return os.stat_result(
        (stat.S_IFDIR | permissions, st_ino, device, 1, uid, gid, 0, seconds, seconds, seconds),
        {
            **times,
            **dict.fromkeys(("st_atime_ns", "st_mtime_ns", "st_ctime_ns"), changed_ns),
            "st_blksize": 4096,
            "st_blocks": 0,
            "st_rdev": 0,
        },
    )


def change(target: Descriptor, changes: SetAttr, writable_fd: int | None = None) -> None:
    """Make *changes*: size, then owner, mode (a change of owner clears set-id bits) and last the times.

    Not atomic: if one step fails those before it have been made.

    Args:
        writable_fd: a descriptor of the file that was opened for writing, to change the size through: that right
            was checked when it was opened.
    """
    if changes.size is not None:
        if writable_fd is not None:
            os.ftruncate(writable_fd, changes.size)
        else:
            os.truncate(target.path, changes.size)
    if changes.uid is not None or changes.gid is not None:
        uid = -1 if changes.uid is None else changes.uid
        gid = -1 if changes.gid is None else changes.gid
        os.chown(target.path, uid, gid)
    if changes.mode is not None:
        os.chmod(target.path, stat.S_IMODE(changes.mode))
    elif changes.kill_suidgid:
        kill_suidgid(target)
    if changes.atime_ns is not None or changes.mtime_ns is not None:
        syscalls.set_times(target.path, changes.atime_ns, changes.mtime_ns)


def kill_suidgid(target: Descriptor) -> None:
    """Take the set-user-id bit away, and set-group-id where the group may execute (else it means something else)."""
    found = os.fstat(target.fd)
    mode = stat.S_IMODE(found.st_mode)
    kept = mode & ~stat.S_ISUID
    if mode & stat.S_IXGRP:
        kept &= ~stat.S_ISGID
    if kept != mode and stat.S_ISREG(found.st_mode):
        os.chmod(target.path, kept)


def creation_mode(directory: Descriptor, mode: int, caller: Caller) -> int:
    """Give the mode to create a node in *directory* with: less the caller's umask, unless a default ACL decides.

    The server runs with a umask of 0, so what is given here is what the disk below gets.
    """
    if caller.umask & mode:
        try:
            os.getxattr(directory.path, _DEFAULT_ACL)
        except OSError as error:
            if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
                raise
            return mode & ~caller.umask
    return mode


def hand_over(made: Descriptor, directory: Descriptor, caller: Caller, mode: int) -> None:
    """Give what a privileged server has just made to the one who asked for it.

    The group stays as the disk below gave it where *directory* hands its own on (set-group-id). What is found there
    and cannot have been made just now is left alone: whoever may write in *directory* might have put something of
    root's in its place.

    Args:
        mode: the permissions it was created with, since a change of owner clears set-id bits.
    """
    if os.geteuid() != 0 or (caller.uid, caller.gid) == (0, os.getegid()):
        return
    found = os.fstat(made.fd)
    is_new = found.st_uid == 0 and abs(found.st_ctime_ns - found.st_mtime_ns) < _NS_PER_S
    if not is_new or (found.st_nlink != 1 and not stat.S_ISDIR(found.st_mode)):
        return
    inherits_group = os.fstat(directory.fd).st_mode & stat.S_ISGID
    os.chown(made.path, caller.uid, -1 if inherits_group else caller.gid)
    if mode & (stat.S_ISUID | stat.S_ISGID) and stat.S_ISREG(found.st_mode):
        os.chmod(made.path, stat.S_IMODE(found.st_mode))
