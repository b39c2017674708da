"""Which job has which number.

Owned here: ``Numbers``. The jobs that the index began with are numbered in the order of their ids, so that a blob of
ids serves both ways at 32 bytes a job; those that came later have numbers behind.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from heapq import merge
from itertools import islice
from typing import Final

from pyroaring import BitMap
from sortedcontainers import SortedDict

from sigfs.index.column import Selection
from sigfs.model.statepoint import ID_LENGTH
from sigfs.model.types import JobId

_MANY: Final = 16
"""A list of a job in so many, or more, is picked from a list of all."""

_NEIGHBOURS: Final = 4
"""Ids are neighbours if at most so many times as many lie between the first and the last of them."""


class Numbers:
    """A map between ids and numbers, both ways. Changed only by the index, while nobody reads it.

    Attributes:
        jobs: the numbers in use.
    """

    def __init__(self, blob: str = "") -> None:
        """Begin with the ids in *blob*, ascending, one after the other; numbered from 0."""
        self._blob = blob
        self._first = len(blob) // ID_LENGTH  # the number of the first job that came later
        self._ids: list[JobId] | None = None  # those of the blob, once many were asked for: 90 bytes a job
        self._later: SortedDict = SortedDict()  # id -> number
        self._later_ids: list[JobId | None] = []  # number - _first -> id
        self._free: list[int] = []  # numbers from _first on that are not in use
        self.jobs = BitMap()
        self._use(range(self._first))

    def append(self, ids: Sequence[JobId]) -> int:
        """Number ids that ascend and follow on those that are here, one by one; give the first number."""
        assert not self._later_ids
        start = self._first
        self._blob += "".join(ids)
        self._first += len(ids)
        self._ids = None
        self._use(range(start, self._first))
        return start

    def _use(self, numbers: range) -> None:
        # Not as a range: from containers of runs a job is hard to take away.
        self.jobs.update(array("I", numbers))

    def add(self, job_id: JobId) -> int:
        """Number *job_id*, which has none. O(log jobs)."""
        if self._free:
            number = self._free.pop()
            self._later_ids[number - self._first] = job_id
        else:
            number = self._first + len(self._later_ids)
            self._later_ids.append(job_id)
        self._later[job_id] = number
        self.jobs.add(number)
        return number

    def remove(self, job_id: JobId) -> None:
        """Take its number from *job_id*. O(log jobs)."""
        number = self.number(job_id)
        assert number is not None
        if number >= self._first:
            del self._later[job_id]
            self._later_ids[number - self._first] = None
            self._free.append(number)
        self.jobs.discard(number)

    def number(self, job_id: str) -> int | None:
        """Give the number of *job_id*, None if it has none. O(log jobs)."""
        number: int | None = self._later.get(job_id)
        if number is None and self._first and len(job_id) == ID_LENGTH:
            place = bisect_left(self, job_id, hi=self._first)
            if place < self._first and self[place] == job_id and place in self.jobs:
                return place
        return number

    def among(self, job_ids: Sequence[JobId]) -> Iterable[int | None]:
        """Give what `number` gives of each. 0.4 µs an id if they are neighbours, as a part of all in their order is."""
        if len(job_ids) < _NEIGHBOURS:
            return map(self.number, job_ids)
        low = bisect_left(self, min(job_ids), hi=self._first)
        high = bisect_left(self, max(job_ids), lo=low, hi=self._first) + 1
        if high - low > len(job_ids) * _NEIGHBOURS:
            return map(self.number, job_ids)
        places = range(low, min(high, self._first))
        near = {self[place]: place for place in places if place in self.jobs}
        return [near[job_id] if job_id in near else self.number(job_id) for job_id in job_ids]

    def __getitem__(self, number: int) -> JobId:
        """Give the id of *number*, which is in use."""
        if number < self._first:
            return JobId(self._blob[number * ID_LENGTH : (number + 1) * ID_LENGTH])
        job_id = self._later_ids[number - self._first]
        assert job_id is not None
        return job_id

    def __len__(self) -> int:
        return len(self.jobs)

    def ids(self, selection: Selection) -> list[JobId]:
        """Give the ids of *selection*, sorted. 0.1 µs a job, less for many."""
        numbers = selection.to_array()
        if len(numbers) and numbers[-1] >= self._first:
            return sorted(map(self.__getitem__, numbers))
        blob = self._blob
        if self._ids is None and len(numbers) * _MANY > self._first:
            self._ids = [blob[n : n + ID_LENGTH] for n in range(0, len(blob), ID_LENGTH)]  # type: ignore[misc]
        if self._ids is not None:
            return [*map(self._ids.__getitem__, numbers)]
        return [blob[n : n + ID_LENGTH] for n in map(ID_LENGTH.__mul__, numbers)]  # type: ignore[misc]

    def in_order(self) -> Sequence[int]:
        """Give all numbers in use by ascending id; a range if that is how they are."""
        if self._later:
            return sorted(self.jobs, key=self.__getitem__)
        return range(self._first) if len(self.jobs) == self._first else [*self.jobs]

    def following(self, job_id: str, count: int) -> list[tuple[JobId, int]]:
        """Give the next *count* ids behind *job_id* ("": the first ones), and their numbers, by ascending id.

        Complexity: O(log jobs + count), and the places of jobs that are gone.
        """
        start = bisect_right(self, job_id, hi=self._first)
        old = ((self[number], number) for number in range(start, self._first) if number in self.jobs)
        later = self._later
        new = ((each, later[each]) for each in later.irange(job_id, None, (False, True)))
        return [*islice(merge(old, new) if later else old, count)]

    def blob(self, order: Sequence[int]) -> str:
        """Give the ids of these numbers, one after the other."""
        return self._blob if order == range(self._first) else "".join(map(self.__getitem__, order))

    def beginning(self, prefix: str) -> Iterator[tuple[JobId, int]]:
        """Yield the ids that begin with *prefix*, and their numbers. O(log jobs + found)."""
        for job_id in self._later.irange(prefix, prefix + "g"):
            yield job_id, self._later[job_id]
        for number in range(bisect_left(self, prefix, hi=self._first), self._first):
            job_id = self[number]
            if not job_id.startswith(prefix):
                break
            if number in self.jobs:
                yield job_id, number
