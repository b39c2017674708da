"""From events, or looks now and then, to changes of a workspace.

Owned here: the thread that looks at jobs, what it still has to look at, and when everything is compared again.

Events are hints and truth is what is on disk: an event only names a job to look at, and whatever may have been
missed (before the start, by a full queue, while the workspace was away, after a failure) is found by comparing
the directory with what the caller knows. A change so found twice is harmless (``Change`` states a fact).

All reading that leads to a change is done, or put in order, by one thread, so that an older reading never comes
after a newer one.

Not watched: the inside of a job that is known, unless documents are followed. Its state point cannot change without
its name changing (I1); a directory with the state point of another name is told, and looked at until it has its own.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import islice
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final

from sigfs.errors import InvalidStatePoint
from sigfs.model.reading import parse, read_chunk
from sigfs.model.statepoint import statepoint_id
from sigfs.model.types import Change, Findings, JobId, Json, Record
from sigfs.watch.comparison import Comparisons, Outcome
from sigfs.watch.fanotify import Fanotify
from sigfs.watch.inotify import Inotify
from sigfs.watch.pace import Pace
from sigfs.watch.pending import PendingJobs
from sigfs.watch.sources import (
    APPEARED,
    DOCUMENT,
    LOOK,
    STATEPOINT,
    Mode,
    NoEvents,
    Noticed,
    Source,
    file_system_type,
    is_remote,
)

if TYPE_CHECKING:
    from sigfs.model.workspace import Workspace

log = logging.getLogger(__name__)

POLL_S: Final = 1.0
"""With events: how often a missing workspace is looked for."""

IDENTITY_S: Final = 5.0
"""With events: how often it is checked that the watched directory still is the one at the workspace's path, since
the renaming of a directory above it, or a mount over it, sends no event."""

UNTRUSTED_MTIME_NS: Final = 2_000_000_000
"""A directory changed this recently may change again without its time stamp telling (coarse clocks)."""

FULL_LISTING_S: Final = 30.0
"""Without events: list even a directory that looks unchanged (clock steps, attribute caches)."""

REVALIDATION_S: Final = 600.0
"""With events: how often everything is compared all the same."""

RETRY_S: Final = 1.0
"""After a failure: how long until the workspace is compared again."""

BATCH: Final = 2000
"""Changes told in one call at most, so that the receiver's readers are not held off for long."""

MAX_AGE_S: Final = 1.0
"""How old documents may be for who asks, where events do not tell of all of them."""

MAX_AGE_TOOK: Final = 5.0
"""They may always be this many times as old as the last comparison took, lest a process that asks without end keeps
this one comparing without end."""

HURRIED: Final = 8
"""So many steps without quiet in between mean a storm, here or elsewhere on the file system ..."""

QUIET_S: Final = 0.0005
"""A wait that is no part of a storm: who makes one job after the other, each when the last is seen, waits longer."""

QUIET_ELSEWHERE_S: Final = 0.005
"""The same after events that concern nobody here, such as what programs do in the mount."""

BUSY_PAUSE_S: Final = 0.002
"""... in which a pause gathers events, and lets directories be filled before they are looked at."""

FINISH_S: Final = 2.0
"""How long a directory may have the state point of another name before whoever migrates it is taken to be dead."""

LONGEST_PAUSE: Final = 4
"""A storm that lasts makes the pause up to this many times as long."""

SOURCES: Final[tuple[Callable[[str], Source], ...]] = (Fanotify, Inotify)
"""Ways of being told, the best first."""


class WorkspaceWatcher:
    """Tells *on_changes* what happens in a workspace, from a thread of its own.

    Life: ``open`` (from here on nothing is missed), the caller's own scan, ``start``, ``stop``. ``start`` opens
    if that has not been done. The first thing after the start is a comparison with what the caller knows.

    Args:
        workspace: may be missing and appear later; may vanish, and so do its jobs.
        on_changes: receives what could be read at once, in calls of at most ``BATCH`` changes, never empty; both
            halves of a rename are in the same call unless the new directory has no state point yet or there is more
            than one call's worth to tell. An exception from it is logged and leads to a new comparison.
        known: the ids that the receiver has, as of now; called from the watcher's thread.
        documents: whether documents are followed from the start.
        revalidate: compares the workspace, with documents or without, with what the receiver knows; called from a
            thread of the watcher, one call at a time. It should call ``progress`` now and then, which ends it when
            the watcher is stopped. None: lists are compared only, and with documents every job is read again.
        finish: completes a migration that somebody has left half done, as ``Workspace.finish``. None: nobody does.
    """

    def __init__(
        self,
        workspace: Workspace,
        on_changes: Callable[[Sequence[Change]], None],
        known: Callable[[], Collection[JobId]],
        *,
        documents: bool = False,
        revalidate: Callable[[bool], Findings] | None = None,
        finish: Callable[[JobId], bool] | None = None,
    ) -> None:
        self._workspace = workspace
        self._finish = finish
        self._suspects: SimpleQueue[JobId] = SimpleQueue()  # put there by any thread, to be looked at
        self._on_changes = on_changes
        self._known = known
        self._comparisons = Comparisons(revalidate, self._wake)
        self._lists_only = revalidate is None
        self._documents = documents
        self._following = False  # all documents have been read since they are followed
        self._source: Source | None = None  # None: polling
        self._reasons: list[str] = []  # why not in a better mode
        self._kind = ""  # type of the file system
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._wakeup = -1  # eventfd; open from open() to stop()
        self._wakeup_lock = threading.Lock()  # guards _wakeup

        # The watcher's thread only.
        self._pending = PendingJobs()
        self._touched: dict[JobId, int] = {}  # to be looked at, in order; bits as in Noticed
        self._to_follow: list[JobId] | None = None  # jobs whose events are yet to be asked for; None: not listed yet
        self._unfollowed = False  # events do not tell of every document
        self._outcome: Outcome | None = None  # of a comparison, while it is being told
        self._found: list[Change] = []  # what of it is yet to be told, last first
        self._later: set[JobId] = set()  # looked at since the comparison began, which so is out of date
        self._list_due = False  # compare the lists as soon as possible
        self._full_due = True  # compare everything as soon as possible
        self._due_s = 0.0  # but neither before this monotonic time
        self._check_s = 0.0  # monotonic time of the next poll or check of identity
        self._next_full_s = float("inf")  # monotonic time of the next comparison that nobody asked for
        self._listing_pace = Pace()
        self._document_pace = Pace()
        self._polled_state: tuple[int, int, int] | None = None  # (st_dev, st_ino, st_mtime_ns) at the last look
        self._listed_s = 0.0  # monotonic time of the last listing
        self._changed = False  # something was told since the last poll
        self._hurried = 0  # steps without a wait
        self._heard = True  # in the last step, of something that matters here
        self._overflows = 0
        self._events = 0  # jobs that events have named, each as often as one reading did
        self._noticed_s: float | None = None  # seconds since 1970: when something was last noticed
        self._busy_since_s: float | None = None  # monotonic time; None: waiting for something to do
        self._last: dict[str, Json] = {}  # about the last comparison

    # From any thread.

    @property
    def mode(self) -> Mode:
        """How changes are noticed at present."""
        source = self._source
        return "polling" if source is None else source.mode

    def status(self) -> dict[str, Json]:
        """Describe the watcher, for people and tests.

        Returns:
            mode; reason (why not a better mode, "" in the best); file_system (type, "" if unknown); attached (the
            workspace is there); watches (of the kernel); pending (directories without state point); documents
            (followed: "no", "reading", "events" or "polling"); overflows; events (jobs that were named by them);
            noticed_s (seconds since 1970 at which something last was, by an event or a look; None: nothing yet); queue
            (jobs yet to be looked at or told); busy_s (for how long the thread has been at what it is at: long if the
            disk hangs; 0 while it waits for something to do); interval_s (between two looks; None with events for
            everything); last (comparison: time_s, duration_s, documents, changes, pending, or error; {}).
        """
        source = self._source
        documents = "no"
        if self._documents:
            documents = "reading" if not self._following else "events" if self._told_of_documents() else "polling"
        interval_s = None
        if source is None:
            interval_s = self._listing_pace.interval_s
        elif documents == "polling":
            interval_s = self._document_pace.interval_s
        busy_since_s = self._busy_since_s
        return {
            "mode": self.mode,
            "reason": "; ".join(self._reasons),
            "file_system": self._kind,
            "attached": source is None or source.attached,
            "watches": 0 if source is None else source.watches,
            "pending": len(self._pending),
            "documents": documents,
            "overflows": self._overflows,
            "events": self._events,
            "noticed_s": self._noticed_s,
            "queue": len(self._touched) + len(self._found) + self._suspects.qsize(),
            "busy_s": 0.0 if busy_since_s is None else time.monotonic() - busy_since_s,
            "interval_s": interval_s,
            "last": self._last,
        }

    def open(self) -> None:
        """Begin to collect events. Idempotent; never fails: where there are no events, ``mode`` is ``polling``."""
        with self._wakeup_lock:
            if self._wakeup >= 0:
                return
            self._wakeup = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._kind = file_system_type(self._workspace.path)
        if is_remote(self._kind):
            self._reasons.append(f"{self._kind} does not report the changes of others")
        else:
            self._attach_to(SOURCES)
        reason = f" ({'; '.join(self._reasons)})" if self._reasons else ""
        log.info("%s: changes are noticed by %s%s", self._workspace.path, self.mode, reason)

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
        """End the threads and wait for them; idempotent. No call of ``on_changes`` begins after this returns."""
        self._stopping.set()
        self._comparisons.stop()
        self._wake()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        self._comparisons.join()
        if self._source is not None:
            self._source.close()
            self._source = None
        with self._wakeup_lock:
            if self._wakeup >= 0:
                os.close(self._wakeup)
                self._wakeup = -1

    def reconcile(self) -> None:
        """Ask for a comparison of everything with what is known; returns at once."""
        self._comparisons.ask()

    def compare(self) -> None:
        """Compare everything with what is known; returns when what was found has been told, or the watcher stopped."""
        self._compare_and_wait()

    def look_at(self, job: JobId) -> None:
        """Have a job looked at that may not be what its name says; returns at once."""
        self._suspects.put(job)
        self._wake()

    def progress(self, done: int, total: int) -> None:  # noqa: ARG002 - the signature of a progress function
        """Let a comparison that *revalidate* makes go on.

        Raises:
            Interrupted: the watcher is being stopped.
        """
        self._comparisons.progress()

    def follow_documents(self) -> None:
        """Follow documents from now on; returns when those of all jobs known now have been read and told.

        Idempotent. To be called with no lock held that ``on_changes`` takes. Returns at once in a thread of the
        watcher, before the start (documents are then part of the first comparison) and after the stop; and after an
        attempt that failed, which will be made again.

        Cost: the first time a full comparison, and in ``inotify`` mode 12 us a job for a watch.
        """
        self._documents = True
        for _ in range(2):  # a comparison that was about to begin may not have heard of documents
            if not self._following:
                self._compare_and_wait()

    def refresh_documents(self, max_age_s: float = MAX_AGE_S) -> None:
        """Bring documents up to date where events do not tell of all of them; otherwise this costs nothing.

        Args:
            max_age_s: how old what is known may be; see ``MAX_AGE_TOOK``.
        """
        last = self._comparisons.last
        if self._told_of_documents() or (
            last is not None and time.monotonic() - last.begun_s < max(max_age_s, MAX_AGE_TOOK * last.took_s)
        ):
            return
        self._compare_and_wait()

    def now(self) -> None:
        """Have all documents told, as they are now or were ``MAX_AGE_S`` ago: ``follow_documents``, and later
        ``refresh_documents``."""
        if self._following:
            self.refresh_documents()
        else:
            self.follow_documents()

    def _told_of_documents(self) -> bool:
        source = self._source
        return self._following and source is not None and source.attached and not self._unfollowed

    def _compare_and_wait(self) -> None:
        number = self._comparisons.ask()
        if self._thread not in {None, threading.current_thread()} and not self._comparisons.runs_here():
            self._comparisons.wait(number)

    def _wake(self) -> None:
        with self._wakeup_lock:
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
        """Wait for something to do, then do some of it."""
        begun_s = time.monotonic()
        self._busy_since_s = None
        self._wait()
        self._busy_since_s = time.monotonic()
        quiet_s = QUIET_S if self._heard else QUIET_ELSEWHERE_S
        self._hurried = self._hurried + 1 if self._busy_since_s - begun_s < quiet_s else 0
        if self._hurried >= HURRIED and not (self._touched or self._outcome):
            self._stopping.wait(BUSY_PAUSE_S * min(self._hurried // HURRIED, LONGEST_PAUSE))
        if self._stopping.is_set():
            return
        self._read_events()
        now_s = time.monotonic()
        if self._comparisons.asked():
            self._full_due, self._due_s = True, 0.0
        if now_s >= self._check_s:
            self._check(now_s)
        if self._list_due and now_s >= self._due_s:
            self._list()
        if now_s >= self._due_s and (self._full_due or now_s >= self._next_full_s):
            self._compare()
        for job in self._pending.due(now_s):
            self._touched.setdefault(job, LOOK)
        while not self._suspects.empty():
            self._touched.setdefault(self._suspects.get(), LOOK)
        self._look_at_touched()
        self._tell_found()

    def _wait(self) -> None:
        """Sleep until there is something to do."""
        poller = select.poll()
        poller.register(self._wakeup, select.POLLIN)
        if self._source is not None:
            poller.register(self._source.fileno(), select.POLLIN)
        timeout_s = 0.0
        if not (self._touched or self._outcome or self._to_follow):
            moments = [self._check_s]
            if not self._comparisons.comparing:
                moments.append(max(self._due_s, 0.0 if self._full_due else self._next_full_s))
            if self._list_due:
                moments.append(self._due_s)
            if (due_s := self._pending.next_due_s()) is not None:
                moments.append(due_s)
            timeout_s = max(0.0, min(moments) - time.monotonic())
        for descriptor, _ in poller.poll(timeout_s * 1000 + (1 if timeout_s else 0)):
            if descriptor == self._wakeup:
                os.eventfd_read(self._wakeup)

    def _read_events(self) -> None:
        if self._source is None:
            return
        noticed = Noticed()
        self._source.read(noticed)
        self._heard = bool(noticed.touched) or noticed.moved or noticed.overflown
        if noticed.touched:
            self._noticed_s = time.time()
            self._events += len(noticed.touched)
        for job, what in noticed.touched.items():
            if what & APPEARED:  # another directory than the one that may have been awaited under this name
                self._pending.discard(job)
            if what != STATEPOINT or job in self._pending:
                self._touched[job] = self._touched.get(job, LOOK) | what
        if noticed.moved:
            self._check_s = 0.0
        if noticed.overflown:
            self._overflows += 1
            log.info("the queue of events was too short: comparing")
            # Names may have come and gone unseen, so no watch below can be trusted to be where it was put.
            self._attach_again()

    def _attach_to(self, kinds: Iterable[Callable[[str], Source]]) -> None:
        """Use the first kind of source that works. If there is none, there is polling."""
        for kind in kinds:
            source: Source | None = None
            try:
                source = kind(self._workspace.path)
                source.attach()
            except NoEvents as error:
                self._reasons.append(error.strerror or str(error))
                if source is not None:
                    source.close()
                continue
            self._source = source
            return
        self._source = None

    def _attach_again(self) -> None:
        """Watch the directory that is the workspace now, and compare: anything may have happened."""
        assert self._source is not None
        self._list_due, self._due_s = True, 0.0
        self._full_due = self._full_due or self._documents
        for job in self._pending:
            self._touched.setdefault(job, LOOK)
        self._to_follow, self._unfollowed = None, False
        try:
            self._source.detach()
            self._source.attach()
        except NoEvents as error:
            log.warning("%s: %s", self._workspace.path, error.strerror)
            self._source.close()
            mode = self._source.mode
            self._reasons.append(error.strerror or str(error))
            self._attach_to(SOURCES[1:] if mode == "fanotify" else ())
            log.warning("%s: changes are noticed by %s now", self._workspace.path, self.mode)

    def _check(self, now_s: float) -> None:
        """See that the right directory is watched; without events, whether it has changed."""
        if self._source is not None and not self._in_place(self._source):
            if self._source.attached:
                log.info("%s is gone or another directory now", self._workspace.path)
            self._attach_again()
            self._full_due = True
        if self._source is None:
            self._check_s = now_s + self._poll(now_s)
        else:
            self._check_s = now_s + (IDENTITY_S if self._source.attached else POLL_S)

    def _in_place(self, source: Source) -> bool:
        try:
            return source.in_place()
        except OSError as error:
            log.warning("%s: %s", self._workspace.path, error.strerror)
            return True

    def _poll(self, now_s: float) -> float:
        """Compare lists unless the directory's time stamp proves that nothing came or went; when to look again."""
        begun_s = time.thread_time()
        try:
            status = os.stat(self._workspace.path)
        except FileNotFoundError:
            state = None
        else:
            state = (status.st_dev, status.st_ino, status.st_mtime_ns)
        changed = state != self._polled_state
        young = state is not None and abs(time.time_ns() - state[2]) < UNTRUSTED_MTIME_NS
        self._polled_state = state
        # A comparison of everything that is about to begin lists too.
        if (changed or young or now_s - self._listed_s >= FULL_LISTING_S) and not self._full_due:
            self._list()
        changed, self._changed = changed or self._changed, False
        return self._listing_pace.looked(changed=changed, cost_s=time.thread_time() - begun_s)

    def _list(self) -> None:
        """Have the jobs looked at that are on disk or known, but not both."""
        self._list_due = False
        try:
            on_disk = set(self._workspace.ids())
        except OSError as error:
            # Unreadable is not empty: the jobs stay until the directory can be read.
            log.warning("cannot list %s: %s", self._workspace.path, error.strerror)
            self._compare_later()
            return
        self._listed_s = time.monotonic()
        for job in sorted(on_disk.symmetric_difference(self._known())):
            if job not in self._pending:
                self._touched.setdefault(job, LOOK)

    def _compare_later(self) -> None:
        self._list_due = self._full_due = True
        self._due_s = time.monotonic() + RETRY_S

    def _compare(self) -> None:
        """Begin to compare everything."""
        documents = self._documents
        if self._comparisons.comparing or (documents and not self._told_first()):
            return
        self._full_due = False
        self._later = set()
        self._comparisons.begin(documents=documents)
        if self._lists_only:
            self._list()
            # A scan has just read what is known at the start; later, documents may have changed unseen.
            if documents and self._last:
                for job in sorted(self._known()):
                    self._touched.setdefault(job, LOOK)

    def _told_first(self) -> bool:
        """Ask for the events of all documents, so that reading comes after it.

        Done in parts, so that events are read meanwhile: false until all of it is done.
        """
        source = self._source
        if source is None or source.follow_all():
            return True
        if self._to_follow is None:
            self._to_follow = sorted(self._known())
        for job in self._to_follow[-BATCH:]:
            if not source.follow(job):
                self._unfollowed = True
                self._to_follow.clear()
                break
        del self._to_follow[-BATCH:]
        return not self._to_follow

    def _look_at_touched(self) -> None:
        """Look at the jobs that have waited longest."""
        jobs = dict(islice(self._touched.items(), BATCH))
        for job in jobs:
            del self._touched[job]
        if jobs:
            self._look_at(jobs)

    def _look_at(self, jobs: Mapping[JobId, int]) -> None:
        """Read each job as it is now and tell what was found."""
        if self._comparisons.comparing:
            self._later.update(jobs)
        source = self._source
        documents = self._documents
        if documents and source is not None:
            for job in jobs:
                self._unfollowed = not source.follow(job) or self._unfollowed
        try:
            records, pending = self._read(jobs, documents)
            awaited = [job for job in (*pending, *self._misnamed(records, jobs)) if self._await(job)]
            awaited += [job for job in self._misnamed(records, jobs) if self._finished(job)]
            if awaited:
                # First the watch, then another look, so that the state point cannot come in between.
                more, _ = self._read(awaited, documents)
                records.update(more)
        except OSError as error:
            log.warning("cannot read %d jobs: %s", len(jobs), error.strerror)
            for job in jobs:
                self._await(job)
            return
        changes = []
        misnamed = self._misnamed(records, jobs)
        for job, what in jobs.items():
            record = records.get(job)
            if record is not None or job not in pending:
                if job not in misnamed:
                    self._forget(job)
                changes.append(Change(job, record))
            elif what & APPEARED:  # what had been known under this name is no more
                changes.append(Change(job, None))
        self._tell(changes)

    def _read(self, jobs: Iterable[JobId], documents: bool) -> tuple[dict[JobId, Record], set[JobId]]:
        """Give what could be read, and which directories are pending; what is in neither is gone."""
        batch = parse(read_chunk(self._workspace.path, list(jobs), documents))
        return {row[0]: Record(*row) for row in batch.rows}, set(batch.pending)

    def _misnamed(self, records: Mapping[JobId, Record], looks: Mapping[JobId, int]) -> set[JobId]:
        """Name the jobs of which more may come: who moves a directory first writes its state point after (I1)."""
        function = self._workspace.id_function
        return {
            job
            for job, record in records.items()
            if (looks[job] != DOCUMENT or job in self._pending) and not _is_own(record, function)
        }

    def _finished(self, job: JobId) -> bool:
        """Complete the migration to *job*, if that has been waited for in vain; whether that was done."""
        if self._finish is None or self._pending.age_s(job, time.monotonic()) < FINISH_S:
            return False
        try:
            done = self._finish(job)
        except OSError as error:
            log.debug("%s cannot be completed: %s", job, error)
            return False
        if done:
            log.info("the migration to %s, left half done, is complete", job)
        return done

    def _await(self, job: JobId) -> bool:
        """Look at *job* again later; whether it has not been awaited before."""
        now_s = time.monotonic()
        told = self._source is not None and self._source.expect(job)
        if job in self._pending:
            self._pending.postpone(job, told=told, now_s=now_s)
            return False
        self._pending.add(job, told=told, now_s=now_s)
        return True

    def _forget(self, job: JobId) -> None:
        if self._pending.discard(job) and self._source is not None:
            self._source.settle(job)

    def _tell_found(self) -> None:
        """Tell some of what the comparison found."""
        if self._outcome is None:
            self._outcome = self._comparisons.take()
            if self._outcome is None:
                return
            self._found = self._outcome.findings.changes[::-1]
            for job in self._outcome.findings.pending:
                if job not in self._pending:
                    self._touched.setdefault(job, LOOK)
        part = self._found[: -BATCH - 1 : -1]
        del self._found[-BATCH:]
        # What happened since is not for an older reading to overwrite, and events come before reading.
        queued = {
            change.id: self._touched.pop(change.id, LOOK)
            for change in part
            if change.id in self._touched or not self._follows(change)
        }
        if queued:
            self._look_at(queued)
        self._tell([change for change in part if change.id not in self._later])
        if not self._found and not (self._lists_only and self._touched):
            self._end(self._outcome)

    def _follows(self, change: Change) -> bool:
        """Whether events tell of the document of the job, as far as they can."""
        source = self._source
        if source is None or not self._documents or self._unfollowed or change.record is None:
            return True
        return source.follows(change.id)

    def _end(self, outcome: Outcome) -> None:
        """Put down what came of a comparison and when the next is due."""
        now_s = time.monotonic()
        self._outcome = None
        found = len(outcome.findings.changes)
        self._last = {
            "time_s": time.time() - (now_s - outcome.begun_s),
            "duration_s": now_s - outcome.begun_s,
            "documents": outcome.documents,
            "changes": found,
            "pending": len(outcome.findings.pending),
            "error": outcome.error,
        }
        if outcome.error:
            self._compare_later()
        elif outcome.documents:
            self._following = True
        self._next_full_s = now_s + REVALIDATION_S
        if self._following and not self._told_of_documents():
            self._next_full_s = now_s + self._document_pace.looked(changed=found > 0, cost_s=outcome.cost_s)
        self._comparisons.end(outcome)

    def _tell(self, changes: Sequence[Change]) -> None:
        if not changes or self._stopping.is_set():
            return
        self._changed = True
        if self._last:  # the first comparison tells everything
            self._noticed_s = time.time()
        try:
            self._on_changes(changes)
        except Exception:
            log.exception("%d changes could not be applied; comparing again", len(changes))
            self._compare_later()


def _is_own(record: Record, function: str) -> bool:
    try:
        return statepoint_id(record.statepoint, function) == record.id
    except InvalidStatePoint:  # of no id: nothing to wait for
        return True
