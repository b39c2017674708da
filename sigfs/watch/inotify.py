"""Events of single directories, by inotify: the workspace, pending jobs, and jobs whose documents are followed.

Owned here: the watches, which are a scarce good that all programs of a user share.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import Final, Literal

from inotify_simple import INotify, flags, parse_events

from sigfs.model.statepoint import is_job_id
from sigfs.model.types import JobId
from sigfs.watch.sources import APPEARED, FILES, VANISHED, NoEvents, Noticed, identity

MAX_PENDING_WATCHES: Final = 1024
"""Further pending directories are looked at from time to time."""

MAX_DOCUMENT_WATCHES: Final = 65_536
"""Each takes about 1.4 kB of kernel memory: the watch and the inode that it holds."""

SHARE_OF_WATCHES: Final = 4
"""Not more than one in so many of the watches that a user may have."""

_WORKSPACE_EVENTS: Final = (
    flags.CREATE
    | flags.DELETE
    | flags.MOVED_FROM
    | flags.MOVED_TO
    | flags.DELETE_SELF
    | flags.MOVE_SELF
    | flags.ONLYDIR
)
_PENDING_EVENTS: Final = (
    flags.CREATE | flags.MOVED_TO | flags.CLOSE_WRITE | flags.ATTRIB | flags.ONLYDIR | flags.DONT_FOLLOW
)
_DOCUMENT_EVENTS: Final = (
    flags.CREATE
    | flags.MOVED_TO
    | flags.CLOSE_WRITE
    | flags.DELETE
    | flags.MOVED_FROM
    | flags.ONLYDIR
    | flags.DONT_FOLLOW
)
_NO_EVENTS_HERE: Final = frozenset({errno.ENOSPC, errno.EMFILE, errno.ENFILE, errno.EPERM, errno.ENOSYS, errno.ENOMEM})
_READ_BYTES: Final = 1 << 18


class Inotify:
    """Tells of changes by one watch on the workspace directory and one on each job that is of interest."""

    mode: Literal["inotify"] = "inotify"

    def __init__(self, workspace: str) -> None:
        """Open a queue. Nothing is watched yet.

        Args:
            workspace: path of the directory; it need not exist.
        Raises:
            NoEvents: there is no inotify to be had.
        """
        self._workspace = workspace
        self._queue = _open_queue()
        self._max_documents = min(MAX_DOCUMENT_WATCHES, max_user_watches() // SHARE_OF_WATCHES)
        self._watch: int | None = None  # of the workspace directory
        self._identity: tuple[int, int] | None = None  # of the directory that the watch was put on
        self._jobs: dict[int, JobId] = {}  # watch -> the directory it was put on
        self._pending: dict[JobId, int] = {}  # directories watched for a state point only
        self._followed: dict[JobId, int] = {}  # directories watched for both files

    @property
    def attached(self) -> bool:
        """See ``Source``."""
        return self._watch is not None

    @property
    def watches(self) -> int:
        """See ``Source``."""
        return len(self._jobs) + self.attached

    def fileno(self) -> int:
        """See ``Source``."""
        fd: int = self._queue.fileno()
        return fd

    def in_place(self) -> bool:
        """See ``Source``."""
        here = identity(self._workspace)
        return here is None if self._watch is None else here == self._identity

    def attach(self) -> bool:
        """See ``Source``."""
        # Before the watch: should the directory be replaced in between, ``in_place`` is to notice it.
        here = identity(self._workspace)
        try:
            self._watch = self._queue.add_watch(self._workspace, _WORKSPACE_EVENTS)
        except OSError as error:
            if error.errno in {errno.ENOENT, errno.ENOTDIR}:
                return False
            raise NoEvents(error.errno, f"inotify: {error.strerror}") from error
        self._identity = here
        return True

    def detach(self) -> None:
        """See ``Source``. A new queue, since to remove watches one by one would fill the old one with events."""
        self._queue.close()
        self._watch = self._identity = None
        self._queue = _open_queue()
        self._jobs.clear()
        self._pending.clear()
        self._followed.clear()

    def read(self, noticed: Noticed) -> None:
        """See ``Source``."""
        while not self._queue.closed:
            try:
                data = os.read(self._queue.fileno(), _READ_BYTES)
            except BlockingIOError:
                break
            for event in parse_events(data):
                self._take(event.wd, event.mask, event.name, noticed)
            if len(data) < _READ_BYTES // 2:
                break

    def _take(self, watch: int, mask: int, name: str, noticed: Noticed) -> None:
        if watch == self._watch:
            if mask & (flags.DELETE_SELF | flags.MOVE_SELF | flags.UNMOUNT | flags.IGNORED):
                noticed.moved = True
                if not mask & flags.MOVE_SELF:
                    self._watch = None  # another directory may be there by now, perhaps with the same inode number
            elif is_job_id(name):
                job = JobId(name)
                self._drop(job)
                noticed.touch(job, APPEARED if mask & (flags.CREATE | flags.MOVED_TO) else VANISHED)
        elif mask & flags.Q_OVERFLOW:
            noticed.overflown = True
        elif (found := self._jobs.get(watch)) is not None:
            if mask & flags.IGNORED:
                self._drop(found)
            elif (what := FILES.get(os.fsencode(name))) is not None:
                noticed.touch(found, what)

    def expect(self, job: JobId) -> bool:
        """See ``Source``."""
        if job in self._followed or job in self._pending:
            return True
        if not self.attached or len(self._pending) >= MAX_PENDING_WATCHES:
            return False
        return self._add(job, _PENDING_EVENTS, self._pending)

    def settle(self, job: JobId) -> None:
        """See ``Source``."""
        if job in self._pending:
            self._drop(job)

    def follow_all(self) -> bool:
        """See ``Source``."""
        return False

    def follow(self, job: JobId) -> bool:
        """See ``Source``. About 12 us."""
        if job in self._followed:
            return True
        if not self.attached or len(self._followed) >= self._max_documents:
            return False
        self.settle(job)
        return self._add(job, _DOCUMENT_EVENTS, self._followed)

    def follows(self, job: JobId) -> bool:
        """See ``Source``."""
        return job in self._followed

    def close(self) -> None:
        """See ``Source``."""
        self._queue.close()
        self._watch = None

    def check(self) -> None:
        """Assert that the maps agree."""
        assert not self._pending.keys() & self._followed.keys()
        assert {watch: job for job, watch in (self._pending | self._followed).items()} == self._jobs

    def _add(self, job: JobId, events: int, where: dict[JobId, int]) -> bool:
        try:
            watch = self._queue.add_watch(os.path.join(self._workspace, job), events)
        except OSError as error:
            if where is self._followed and error.errno in _NO_EVENTS_HERE:
                self._max_documents = len(self._followed)
            # A directory that is gone needs no watch: whoever reads it will see.
            return error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}
        # The same inode under a new name keeps its watch.
        if (before := self._jobs.get(watch)) is not None:
            self._pending.pop(before, None)
            self._followed.pop(before, None)
        self._jobs[watch] = job
        where[job] = watch
        return True

    def _drop(self, job: JobId) -> None:
        """Give up the watch on *job*: its name has come or gone, and may belong to another directory."""
        for where in (self._pending, self._followed):
            watch = where.pop(job, None)
            if watch is not None:
                del self._jobs[watch]
                self._remove(watch)

    def _remove(self, watch: int) -> None:
        with contextlib.suppress(OSError):  # EINVAL: went away together with its directory
            self._queue.rm_watch(watch)


def _open_queue() -> INotify:
    try:
        return INotify(nonblocking=True)
    except OSError as error:
        raise NoEvents(error.errno, f"inotify: {error.strerror}") from error


def max_user_watches() -> int:
    """Give how many watches all programs of a user may have together."""
    try:
        with open("/proc/sys/fs/inotify/max_user_watches", encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 8192
