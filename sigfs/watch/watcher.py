"""From inotify events, or polls, to changes of a workspace.

Owned here: one thread, one inotify descriptor, the list of directories whose state point is awaited.

Events are hints and truth is what is on disk: an event only names a job to look at, and whatever may have been
missed (before the start, by a full queue, while the workspace was away, after a failure) is found by comparing
the directory with what the caller knows. A change so found twice is harmless (``Change`` states a fact).

Not watched: the inside of a job that is known. Its state point cannot change without its name changing (I1).
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Literal

from inotify_simple import INotify, flags, parse_events

from sigfs.errors import NoSuchJob, PendingJob
from sigfs.model.statepoint import is_job_id
from sigfs.model.types import Change, JobId
from sigfs.watch.pending import PendingJobs

if TYPE_CHECKING:
    from sigfs.model.workspace import Workspace

log = logging.getLogger(__name__)

POLL_S: Final = 1.0
"""Without events: how often the workspace is looked at. Also how often a missing workspace is looked for."""

IDENTITY_S: Final = 5.0
"""With events: how often it is checked that the watched directory still is the one at the workspace's path, since
the renaming of a directory above it, or a mount over it, sends no event."""

UNTRUSTED_MTIME_NS: Final = 2_000_000_000
"""A directory changed this recently may change again without its time stamp telling (coarse clocks)."""

FULL_LISTING_S: Final = 30.0
"""Without events: list even a directory that looks unchanged (clock steps, attribute caches)."""

MAX_PENDING_WATCHES: Final = 1024
"""Watches are a scarce good shared by all programs of a user; further pending directories are polled."""

RETRY_S: Final = 1.0
"""After a failure: how long until the workspace is compared again."""

REMOTE_FILE_SYSTEMS: Final = frozenset({
    "9p", "afs", "beegfs", "ceph", "cifs", "coda", "gfs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs",
    "nfs4", "ocfs2", "orangefs", "pvfs2", "smb3", "smbfs", "virtiofs", "vboxsf", "wekafs",
})  # fmt: skip
"""Where other hosts make changes that the local kernel sends no event for (and every ``fuse`` type)."""

_WORKSPACE_EVENTS: Final = (
    flags.CREATE
    | flags.DELETE
    | flags.MOVED_FROM
    | flags.MOVED_TO
    | flags.DELETE_SELF
    | flags.MOVE_SELF
    | flags.ONLYDIR
)
_STATE_POINT_EVENTS: Final = flags.CREATE | flags.MOVED_TO | flags.CLOSE_WRITE | flags.ATTRIB
_JOB_EVENTS: Final = _STATE_POINT_EVENTS | flags.ONLYDIR | flags.DONT_FOLLOW
_NO_EVENTS_HERE: Final = frozenset({errno.ENOSPC, errno.EMFILE, errno.ENFILE, errno.EPERM, errno.ENOSYS, errno.ENOMEM})
_READ_BYTES: Final = 1 << 20


class WorkspaceWatcher:
    """Tells *on_changes* what happens in a workspace, from a thread of its own.

    Life: ``open`` (from here on nothing is missed), the caller's own scan, ``start``, ``stop``. ``start`` opens
    if that has not been done. The first thing after the start is a comparison with *known*.

    Args:
        workspace: may be missing and appear later; may vanish, and so do its jobs.
        on_changes: receives everything that could be read at once, in one call, never empty; both halves of a
            rename are in the same call unless the new directory has no state point yet. An exception from it is
            logged and leads to a new comparison.
        known: the ids that the receiver has, as of now; called from the watcher's thread.
        documents: whether records shall carry documents.
    """

    def __init__(
        self,
        workspace: Workspace,
        on_changes: Callable[[Sequence[Change]], None],
        known: Callable[[], Collection[JobId]],
        *,
        documents: bool = False,
    ) -> None:
        self._workspace = workspace
        self._on_changes = on_changes
        self._known = known
        self._documents = documents
        self._inotify: INotify | None = None
        self._watch: int | None = None  # descriptor on the workspace directory; None: not watched at present
        self._identity: tuple[int, int] | None = None  # (st_dev, st_ino) of the directory that _watch is on
        self._pending = PendingJobs()
        self._polled_state: tuple[int, int, int] | None = None  # (st_dev, st_ino, st_mtime_ns) at the last listing
        self._listed_s = 0.0  # monotonic time of the last listing
        self._check_s = 0.0  # monotonic time of the next poll or check of identity
        self._compare = True  # compare the directory with what is known as soon as possible
        self._compare_s = 0.0  # but not before this monotonic time
        self._started = False  # the first comparison has been made
        self._thread: threading.Thread | None = None
        self._wakeup = -1  # eventfd; open from open() to stop()
        self._stopping = threading.Event()
        self._asked = threading.Event()  # reconcile() was called

    @property
    def mode(self) -> Literal["inotify", "polling"]:
        """How changes are noticed at present."""
        return "polling" if self._inotify is None else "inotify"

    def open(self) -> None:
        """Begin to collect events. Idempotent; never fails: where there are no events, ``mode`` is ``polling``."""
        if self._wakeup >= 0:
            return
        self._wakeup = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        kind = _file_system_type(self._workspace.path)
        if kind in REMOTE_FILE_SYSTEMS or kind.startswith("fuse"):
            log.info("%s is on %s, which does not report the changes of others: polling", self._workspace.path, kind)
            return
        try:
            self._inotify = INotify(nonblocking=True)
        except OSError as error:
            log.warning("no inotify (%s): polling", error)
            return
        self._watch_workspace()

    def start(self) -> None:
        """Start the thread.

        Raises:
            RuntimeError: it has been started before.
        """
        if self._thread is not None:
            raise RuntimeError("the watcher has been started before")
        self.open()
        self._thread = threading.Thread(target=self._run, name="sigfs-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for it; idempotent. No call of ``on_changes`` begins after this returns."""
        self._stopping.set()
        self._wake()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        if self._inotify is not None:
            self._inotify.close()
            self._inotify = None
        if self._wakeup >= 0:
            os.close(self._wakeup)
            self._wakeup = -1

    def reconcile(self) -> None:
        """Ask for a comparison of the workspace with what is known; returns at once, from any thread."""
        self._asked.set()
        self._wake()

    def _wake(self) -> None:
        if self._wakeup >= 0:
            os.eventfd_write(self._wakeup, 1)

    # Below: the watcher's thread only.

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._step()
            except Exception:
                log.exception("watching %s: unexpected error; comparing again", self._workspace.path)
                self._compare_later()

    def _step(self) -> None:
        """Wait for something to do, then do all of it."""
        touched = self._wait()
        if self._stopping.is_set():
            return
        now_s = time.monotonic()
        if self._asked.is_set():
            self._asked.clear()
            self._compare, self._compare_s = True, 0.0
        if now_s >= self._check_s:
            self._check(now_s)
        if self._compare and now_s >= self._compare_s:
            self._compare = False
            for job in self._differences():
                touched.setdefault(job, False)
        for job in self._pending.due(now_s):
            touched.setdefault(job, False)
        if touched:
            self._look_at(touched)

    def _wait(self) -> dict[JobId, bool]:
        """Sleep until there is something to do; give the jobs named by events in order, and whether each appeared."""
        poller = select.poll()
        poller.register(self._wakeup, select.POLLIN)
        if self._inotify is not None:
            poller.register(self._inotify.fileno(), select.POLLIN)
        moments = [self._check_s]
        if self._compare:
            moments.append(self._compare_s)
        if (due_s := self._pending.next_due_s()) is not None:
            moments.append(due_s)
        timeout_s = max(0.0, min(moments) - time.monotonic())
        for descriptor, _ in poller.poll(timeout_s * 1000 + (1 if timeout_s else 0)):
            if descriptor == self._wakeup:
                os.eventfd_read(self._wakeup)
        return self._read_events()

    def _read_events(self) -> dict[JobId, bool]:
        touched: dict[JobId, bool] = {}
        while self._inotify is not None:
            try:
                data = os.read(self._inotify.fileno(), _READ_BYTES)
            except BlockingIOError:
                break
            for event in parse_events(data):
                if event.mask & flags.Q_OVERFLOW:
                    log.info("the queue of events was too short: comparing")
                    self._compare, self._compare_s = True, 0.0
                elif event.wd == self._watch:
                    if event.mask & (flags.DELETE_SELF | flags.MOVE_SELF | flags.UNMOUNT | flags.IGNORED):
                        self._check_s = 0.0
                    elif is_job_id(event.name):
                        job = JobId(event.name)
                        appeared = bool(event.mask & (flags.CREATE | flags.MOVED_TO))
                        if appeared:  # another directory than the one that may have been awaited under this name
                            self._forget(job)
                        touched[job] = touched.get(job, False) or appeared
                elif (awaited := self._pending.job_of(event.wd)) is not None:
                    touched.setdefault(awaited, False)
            if len(data) < _READ_BYTES // 2:
                break
        return touched

    def _check(self, now_s: float) -> None:
        """See that the right directory is watched; without events, whether it has changed."""
        if self._inotify is None:
            self._check_s = now_s + POLL_S
            self._poll(now_s)
            return
        if self._watch is not None and self._identity != _identity(self._workspace.path):
            self._unwatch_workspace()
            self._compare, self._compare_s = True, 0.0
        if self._watch is None and self._watch_workspace():
            self._compare, self._compare_s = True, 0.0
        if self._watch is None:
            self._check_s = now_s + POLL_S
            self._poll(now_s)
        else:
            self._check_s = now_s + IDENTITY_S

    def _poll(self, now_s: float) -> None:
        """Ask for a comparison unless the directory's time stamp proves that nothing came or went."""
        try:
            status = os.stat(self._workspace.path)
        except FileNotFoundError:
            state = None
        else:
            state = (status.st_dev, status.st_ino, status.st_mtime_ns)
            if abs(time.time_ns() - status.st_mtime_ns) < UNTRUSTED_MTIME_NS:
                self._compare = True
        if state != self._polled_state or now_s - self._listed_s >= FULL_LISTING_S:
            self._compare = True
        self._polled_state = state

    def _watch_workspace(self) -> bool:
        """Put the watch on the workspace directory, if it is there; give up events for good if that is impossible."""
        assert self._inotify is not None
        try:
            self._watch = self._inotify.add_watch(self._workspace.path, _WORKSPACE_EVENTS)
            self._identity = _identity(self._workspace.path)
        except OSError as error:
            self._watch = None
            if error.errno in _NO_EVENTS_HERE:
                log.warning("cannot watch %s by inotify (%s): polling", self._workspace.path, error.strerror)
                self._pending.clear()
                self._inotify.close()
                self._inotify = None
            return False
        return True

    def _unwatch_workspace(self) -> None:
        log.info("%s is gone or another directory now", self._workspace.path)
        if self._watch is not None:
            self._remove_watch(self._watch)
        self._watch = self._identity = None

    def _remove_watch(self, watch: int) -> None:
        if self._inotify is not None:
            with contextlib.suppress(OSError):  # EINVAL: went away together with its directory
                self._inotify.rm_watch(watch)

    def _differences(self) -> list[JobId]:
        """List the jobs that are to be looked at: those on disk or known, but not both."""
        try:
            on_disk = set(self._workspace.ids())
        except OSError as error:
            # Unreadable is not empty: the jobs stay until the directory can be read.
            log.warning("cannot list %s: %s", self._workspace.path, error.strerror)
            self._compare_later()
            return []
        self._listed_s = time.monotonic()
        known = set(self._known())
        # A scan has just read what is known at the start; later, documents may have changed unseen.
        thorough = self._documents and self._started
        self._started = True
        return sorted(known | on_disk if thorough else known ^ on_disk)

    def _compare_later(self) -> None:
        self._compare, self._compare_s = True, time.monotonic() + RETRY_S

    def _look_at(self, touched: Mapping[JobId, bool]) -> None:
        """Read each job as it is now and tell what was found."""
        changes = []
        for job, appeared in touched.items():
            if self._stopping.is_set():
                return
            try:
                changes.append(self._read(job))
            except PendingJob:
                if appeared:  # what had been known under this name is no more
                    changes.append(Change(job, None))
            except OSError as error:
                log.warning("cannot read job %s: %s", job, error.strerror)
                self._await(job)
        if changes:
            try:
                self._on_changes(changes)
            except Exception:
                log.exception("%d changes could not be applied; comparing again", len(changes))
                self._compare_later()

    def _read(self, job: JobId) -> Change:
        """Give the job as it is now.

        Raises:
            PendingJob: its state point is not there, and is awaited from now on.
        """
        try:
            try:
                record = self._workspace.read(job, documents=self._documents)
            except PendingJob:
                # First the watch, then another look, so that the state point cannot come in between.
                self._await(job)
                record = self._workspace.read(job, documents=self._documents)
        except NoSuchJob:
            self._forget(job)
            return Change(job, None)
        self._forget(job)
        return Change(job, record)

    def _await(self, job: JobId) -> None:
        now_s = time.monotonic()
        if job in self._pending:
            self._pending.postpone(job, now_s)
            return
        watch = None
        if self._inotify is not None and self._pending.watches < MAX_PENDING_WATCHES:
            try:
                watch = self._inotify.add_watch(os.path.join(self._workspace.path, job), _JOB_EVENTS)
            except OSError:  # gone again, or no watch to be had: the timer looks after it
                watch = None
        self._pending.add(job, watch, now_s)

    def _forget(self, job: JobId) -> None:
        if (watch := self._pending.discard(job)) is not None:
            self._remove_watch(watch)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _file_system_type(path: str) -> str:
    """Name the type of the file system that *path*, or the nearest directory above it that exists, is on.

    Empty where it cannot be told (``/proc`` not mounted, or a device number that only parts of a file system have).
    """
    while (identity := _identity(path)) is None and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    if identity is None:
        return ""
    device = f"{os.major(identity[0])}:{os.minor(identity[0])}"
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
            for line in lines:
                fields = line.split(" ")
                if fields[2] == device:
                    return fields[fields.index("-") + 1]
    except (OSError, ValueError, IndexError):
        pass
    return ""
