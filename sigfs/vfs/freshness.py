"""By what it is known that something on the disk below has not changed.

Owned here: stamps, and when one can be trusted to be another after any change. No state.

A write sets the time of change, but clocks are coarse: two writes within one tick of the file system's may leave the
same time. So a stamp tells of later changes only if it is older than a tick, with room to spare.

A store into a mapping sets it too, but only the first one into each page until the page has been written to disk.
Who mapped the file before the stamp was taken may store unnoticed after it; so the stamp counts only if nobody has the
file open for writing at that time, which taking a lease tells. Some file systems, tmpfs among them, may set no time.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, TypeAlias

from sigfs.vfs import syscalls

if TYPE_CHECKING:
    import os

QUIET_NS: Final = 2_000_000_000
"""The coarsest clock of a local file system: FAT's. The usual ones tick every 10 ms or are exact."""

_TELLING: Final = frozenset({"bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "xfs"})
"""Local file systems where the first store into a page of a mapping sets the time of change."""

Stamp: TypeAlias = tuple[int, ...]
"""A state of a file or directory; of one on disk mtime and ctime (ns), size, mode, uid and gid."""


def stamp(found: os.stat_result) -> Stamp:
    """Name the state of something on disk."""
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_mode, found.st_uid, found.st_gid


def same_rights(one: Stamp, other: Stamp) -> bool:
    """Tell whether owner, group and mode are the same in two states of something on disk."""
    return one[3:] == other[3:]


def is_quiet(found: os.stat_result) -> bool:
    """Tell whether any change from now on will give another stamp, stores into mappings aside.

    Only if the file system has this host's clock.
    """
    return max(found.st_mtime_ns, found.st_ctime_ns) < time.time_ns() - QUIET_NS


def will_tell(fd: int, found: os.stat_result) -> bool:
    """Tell whether any change of a file's data from now on will give another stamp.

    False also where that cannot be found out: for a descriptor that can write, and for a file of somebody else's,
    unless this process has CAP_LEASE.

    Args:
        fd: of a regular file on a file system that ``tells``, opened before *found* was asked for.
    """
    return is_quiet(found) and syscalls.has_no_writer(fd)


def tells(file_system: str) -> bool:
    """Tell whether ``will_tell`` is right about files on this type of file system."""
    return file_system in _TELLING
