"""What every way of being told by the kernel has in common, and which file systems tell nothing.

Owned here: the words in which events are handed to the watcher, and the type of a file system.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol, TypeAlias

from sigfs.errors import SigfsError
from sigfs.model.types import JobId
from sigfs.model.workspace import DOCUMENT_FILE, STATEPOINT_FILE

Mode: TypeAlias = Literal["fanotify", "inotify", "polling"]

# What happened to a job, as bits: any number of events to one job are one look at it.
LOOK: Final = 0
"""No event: to be looked at all the same."""
APPEARED: Final = 1
"""A directory has come to have the job's name: not the one, perhaps, that had it before."""
VANISHED: Final = 2
STATEPOINT: Final = 4
DOCUMENT: Final = 8

FILES: Final = {os.fsencode(STATEPOINT_FILE): STATEPOINT, os.fsencode(DOCUMENT_FILE): DOCUMENT}

REMOTE_FILE_SYSTEMS: Final = frozenset({
    "9p", "afs", "beegfs", "ceph", "cifs", "coda", "gfs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs",
    "nfs4", "ocfs2", "orangefs", "pvfs2", "smb3", "smbfs", "virtiofs", "vboxsf", "wekafs",
})  # fmt: skip
"""Where other hosts make changes that the local kernel sends no event for (and every ``fuse`` type)."""


class NoEvents(SigfsError, OSError):
    """The kernel does not tell of changes here in this way; the message says why."""


@dataclass(slots=True)
class Noticed:
    """What events said, in their order.

    Attributes:
        touched: job -> what happened to it.
        overflown: events were lost.
        moved: the workspace directory itself may have gone or been replaced.
    """

    touched: dict[JobId, int] = field(default_factory=dict)
    overflown: bool = False
    moved: bool = False

    def touch(self, job: JobId, what: int) -> None:
        """Note that *what* happened to *job*."""
        self.touched[job] = self.touched.get(job, LOOK) | what


class Source(Protocol):
    """One way of being told. Used by one thread, except for ``close``."""

    @property
    def mode(self) -> Mode:
        """What it is called."""

    @property
    def attached(self) -> bool:
        """Whether the workspace directory is watched at present."""

    @property
    def watches(self) -> int:
        """How many watches, or marks, of the kernel are in use."""

    def fileno(self) -> int:
        """Give a descriptor that is readable when there are events."""

    def in_place(self) -> bool:
        """Whether the directory that is watched is the one at the workspace's path; or neither is there."""

    def attach(self) -> bool:
        """Watch the workspace directory from now on; False if it is not there.

        Raises:
            NoEvents: that cannot be done, neither now nor later.
        """

    def detach(self) -> None:
        """Watch nothing any more, and forget what has not been read.

        Raises:
            NoEvents: it cannot be attached again.
        """

    def read(self, noticed: Noticed) -> None:
        """Add all that the queue holds; never waits."""

    def expect(self, job: JobId) -> bool:
        """Tell of the state point of *job*, which is pending; False if there will be no event."""

    def settle(self, job: JobId) -> None:
        """*job* is pending no more."""

    def follow_all(self) -> bool:
        """Tell of documents from now on; False if each job must be followed by itself."""

    def follow(self, job: JobId) -> bool:
        """Tell of the document of *job* from now on; False if there will be no event. To be called before reading."""

    def follows(self, job: JobId) -> bool:
        """Whether ``follow`` need not be called for *job*."""

    def close(self) -> None:
        """Give everything back; idempotent."""


def is_remote(kind: str) -> bool:
    """Whether changes on a file system of this type may be made where the local kernel does not see them."""
    return kind in REMOTE_FILE_SYSTEMS or kind.startswith("fuse")


def identity(path: str) -> tuple[int, int] | None:
    """Give the device and inode of *path*; None if it is not there."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def file_system_type(path: str) -> str:
    """Name the type of the file system that *path*, or the nearest directory above it that exists, is on.

    Empty where it cannot be told (``/proc`` not mounted, or a device number that only parts of a file system have).
    """
    while (found := identity(path)) is None and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    if found is None:
        return ""
    device = f"{os.major(found[0])}:{os.minor(found[0])}"
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
            for line in lines:
                fields = line.split(" ")
                if fields[2] == device:
                    return fields[fields.index("-") + 1]
    except (OSError, ValueError, IndexError):
        pass
    return ""
