"""Which job directories wait for their state point, and when to look at each again.

Owned here: the timing only. No file is opened.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Final

from sigfs.model.types import JobId

FIRST_RETRY_S: Final = 0.002
"""signac writes the state point within a millisecond or two of renaming the directory."""

EAGER_RETRY_S: Final = 0.5
"""How long at most until the next look at a directory that nothing would tell us about."""

PATIENT_RETRY_S: Final = 30.0
"""The same for a directory with a watch on it: the look only makes up for an event that never came."""


@dataclass(slots=True)
class _Waiting:
    since_s: float
    due_s: float
    watch: int | None


class PendingJobs:
    """The waiting directories, by time of the next look. Used by one thread.

    The wait grows with the age of the directory, so that a state point that is a moment late is seen at once
    and one that never comes costs next to nothing.

    >>> waiting = PendingJobs()
    >>> waiting.add(JobId("a" * 32), None, now_s=0.0)
    >>> waiting.due(0.001), waiting.due(0.0025)
    ([], ['aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'])
    """

    def __init__(self) -> None:
        self._jobs: dict[JobId, _Waiting] = {}
        self._heap: list[tuple[float, JobId]] = []  # (due_s, id); an entry that differs from _jobs is stale
        self._by_watch: dict[int, JobId] = {}
        """watch descriptor -> the directory it was put on; removed together with its entry in _jobs."""

    def __len__(self) -> int:
        return len(self._jobs)

    def __contains__(self, job: object) -> bool:
        return job in self._jobs

    @property
    def watches(self) -> int:
        """How many of the directories have a watch."""
        return len(self._by_watch)

    def job_of(self, watch: int) -> JobId | None:
        """Name the directory that this watch descriptor was put on; None for a descriptor that is no longer ours."""
        return self._by_watch.get(watch)

    def add(self, job: JobId, watch: int | None, now_s: float) -> None:
        """Wait for *job*, which must not wait already. O(log n)."""
        self._jobs[job] = _Waiting(now_s, now_s + FIRST_RETRY_S, watch)
        if watch is not None:
            self._by_watch[watch] = job
        heapq.heappush(self._heap, (now_s + FIRST_RETRY_S, job))

    def postpone(self, job: JobId, now_s: float) -> None:
        """Look at *job* again later, the later the longer it has waited. O(log n)."""
        waiting = self._jobs[job]
        longest_s = max(EAGER_RETRY_S, len(self._jobs) / 1000) if waiting.watch is None else PATIENT_RETRY_S
        waiting.due_s = now_s + min(max(FIRST_RETRY_S, (now_s - waiting.since_s) / 2), longest_s)
        heapq.heappush(self._heap, (waiting.due_s, job))

    def discard(self, job: JobId) -> int | None:
        """Stop waiting for *job*; give the watch descriptor to remove, if there is one."""
        waiting = self._jobs.pop(job, None)
        if waiting is None or waiting.watch is None:
            return None
        # The same inode under a new name keeps its descriptor: it may belong to another job by now.
        if self._by_watch.get(waiting.watch) == job:
            del self._by_watch[waiting.watch]
            return waiting.watch
        return None

    def next_due_s(self) -> float | None:
        """Tell when the next look is due; None if nothing waits."""
        while self._heap:
            due_s, job = self._heap[0]
            waiting = self._jobs.get(job)
            if waiting is not None and waiting.due_s == due_s:
                return due_s
            heapq.heappop(self._heap)
        return None

    def due(self, now_s: float) -> list[JobId]:
        """Give the directories whose time has come; each must then be discarded or postponed."""
        jobs = []
        while (due_s := self.next_due_s()) is not None and due_s <= now_s:
            jobs.append(heapq.heappop(self._heap)[1])
        return jobs

    def clear(self) -> None:
        """Forget everything, without removing any watch."""
        self._jobs.clear()
        self._heap.clear()
        self._by_watch.clear()
