"""Which job directories wait for their state point, and when to look at each again.

Owned here: the timing only. No file is opened.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sigfs.model.types import JobId

FIRST_RETRY_S: Final = 0.002
"""signac writes the state point within a millisecond or two of renaming the directory."""

EAGER_RETRY_S: Final = 0.5
"""How long at most until the next look at a directory that nothing would tell us about."""

PATIENT_RETRY_S: Final = 30.0
"""The same for a directory whose events are told: the look only makes up for one that never came."""


@dataclass(slots=True)
class _Waiting:
    since_s: float
    due_s: float
    told: bool


class PendingJobs:
    """The waiting directories, by time of the next look. Used by one thread.

    The wait grows with the age of the directory, so that a state point that is a moment late is seen at once
    and one that never comes costs next to nothing.

    >>> waiting = PendingJobs()
    >>> waiting.add(JobId("a" * 32), told=False, now_s=0.0)
    >>> waiting.due(0.001), waiting.due(0.0025)
    ([], ['aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'])
    """

    def __init__(self) -> None:
        self._jobs: dict[JobId, _Waiting] = {}
        self._heap: list[tuple[float, JobId]] = []  # (due_s, id); an entry that differs from _jobs is stale

    def __len__(self) -> int:
        return len(self._jobs)

    def __contains__(self, job: object) -> bool:
        return job in self._jobs

    def __iter__(self) -> Iterator[JobId]:
        return iter(self._jobs)

    def age_s(self, job: JobId, now_s: float) -> float:
        """Tell how long *job* has waited; 0 if it does not."""
        waiting = self._jobs.get(job)
        return 0.0 if waiting is None else now_s - waiting.since_s

    def add(self, job: JobId, *, told: bool, now_s: float) -> None:
        """Wait for *job*, which must not wait already. O(log n).

        Args:
            told: whether an event will tell of its state point.
        """
        self._jobs[job] = _Waiting(now_s, now_s + FIRST_RETRY_S, told)
        heapq.heappush(self._heap, (now_s + FIRST_RETRY_S, job))

    def postpone(self, job: JobId, *, told: bool, now_s: float) -> None:
        """Look at *job* again later, the later the longer it has waited. O(log n)."""
        waiting = self._jobs[job]
        waiting.told = told
        longest_s = PATIENT_RETRY_S if waiting.told else max(EAGER_RETRY_S, len(self._jobs) / 1000)
        waiting.due_s = now_s + min(max(FIRST_RETRY_S, (now_s - waiting.since_s) / 2), longest_s)
        heapq.heappush(self._heap, (waiting.due_s, job))

    def discard(self, job: JobId) -> bool:
        """Stop waiting for *job*; False if nobody did."""
        return self._jobs.pop(job, None) is not None

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
        """Forget everything."""
        self._jobs.clear()
        self._heap.clear()
