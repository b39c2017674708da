"""One key of the index: which jobs have which value.

Owned here: ``Column``, an immutable map from exact JSON values to sets of job numbers. Values are kept apart by
type (``1``, ``1.0``, ``true``, ``"1"``) and grouped into classes of values that a query calls equal.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import NamedTuple, TypeAlias

from pyroaring import FrozenBitMap

from sigfs.model.types import Json
from sigfs.query.values import equality_key, order_key

Selection: TypeAlias = FrozenBitMap
"""A set of job numbers. Immutable; ``len``, ``&``, ``|``, ``-`` and iteration in ascending order."""

NO_JOBS: Selection = FrozenBitMap()


def exact_key(value: Json) -> Hashable:
    """Give a key that two values share exactly if their canonical JSON texts are the same.

    >>> len({exact_key(v) for v in (1, 1.0, True, "1", 0.0, -0.0)})
    6
    """
    kind = type(value)
    if kind is str or kind is int or kind is bool:
        return (kind, value)
    if kind is float:
        return (kind, repr(value))
    return json.dumps(value, sort_keys=True)


class Entry(NamedTuple):
    """A value and the jobs that have exactly it; never empty."""

    value: Json
    jobs: Selection


class Column:
    """The values of one key. Immutable: ``updated`` gives a new one, so that snapshots may share columns.

    Attributes:
        jobs: the jobs that have a leaf value here.
    """

    __slots__ = ("_classes", "_entries", "jobs")

    # exact_key -> entry
    _entries: dict[Hashable, Entry]
    # equality_key -> the exact keys of the values in that class, in the order of order_key; a class is never empty
    _classes: dict[Hashable, tuple[Hashable, ...]]

    def __init__(self) -> None:
        self._entries = {}
        self._classes = {}
        self.jobs = NO_JOBS

    def updated(self, removed: Iterable[tuple[Json, int]], added: Iterable[tuple[Json, int]]) -> Column:
        """Give this column without some (value, job) pairs and with others.

        Complexity: O(values of the column + pairs).
        """
        out: dict[Hashable, set[int]] = {}
        into: dict[Hashable, tuple[Json, set[int]]] = {}
        for value, job in removed:
            out.setdefault(exact_key(value), set()).add(job)
        for value, job in added:
            into.setdefault(exact_key(value), (value, set()))[1].add(job)
        column = Column()
        column._entries = self._entries.copy()
        column._classes = self._classes.copy()
        for key, jobs in out.items():
            value, before = column._entries[key]
            after = before - FrozenBitMap(jobs)
            if after:
                column._entries[key] = Entry(value, after)
            else:
                del column._entries[key]
                column._leave_class(key, value)
        for key, (value, jobs) in into.items():
            entry = column._entries.get(key)
            if entry is None:
                column._entries[key] = Entry(value, FrozenBitMap(jobs))
                column._join_class(key, value)
            else:
                column._entries[key] = Entry(value, entry.jobs | FrozenBitMap(jobs))
        column.jobs = (self.jobs - FrozenBitMap(set().union(*out.values()))) | FrozenBitMap(
            set().union(*(jobs for _, jobs in into.values()))
        )
        return column

    def _join_class(self, key: Hashable, value: Json) -> None:
        group = equality_key(value)
        members = [*self._classes.get(group, ()), key]
        if len(members) > 1:
            members.sort(key=lambda member: order_key(self._entries[member].value))
        self._classes[group] = tuple(members)

    def _leave_class(self, key: Hashable, value: Json) -> None:
        group = equality_key(value)
        members = tuple(member for member in self._classes[group] if member != key)
        if members:
            self._classes[group] = members
        else:
            del self._classes[group]

    def __len__(self) -> int:
        """Count the classes of equal values."""
        return len(self._classes)

    def entries(self) -> Iterator[Entry]:
        """Iterate over all exact values, in no particular order."""
        return iter(self._entries.values())

    def equal_to(self, value: Json) -> Selection:
        """Give the jobs whose value is in the same class as *value*; NaN is in a class of its own.

        Complexity: O(1) in the number of values and jobs.
        """
        members = self._classes.get(equality_key(value), ())
        return FrozenBitMap.union(NO_JOBS, *(self._entries[member].jobs for member in members))

    def is_constant(self, jobs: Selection) -> bool:
        """Tell whether all *jobs* have one and the same exact value here."""
        return any(jobs.issubset(entry.jobs) for entry in self._entries.values()) if jobs else False

    def distinct(self, jobs: Selection) -> list[Json]:
        """Give one value of each class that some of *jobs* have, in the order of ``order_key``.

        The value stands for its class, whichever of the jobs have which of its members: the same name always.

        Complexity: O(v log v) in the values v of the column.
        """
        everybody = self.jobs.issubset(jobs)
        found = [
            self._entries[members[0]].value
            for members in self._classes.values()
            if everybody or any(jobs.intersect(self._entries[member].jobs) for member in members)
        ]
        found.sort(key=order_key)
        return found

    def representatives(self, values: Iterable[Json]) -> list[Json]:
        """As ``distinct``, where the values of the jobs are known already. Complexity: O(v log v) in *values*."""
        classes = {equality_key(value) for value in values}
        return sorted((self._entries[self._classes[group][0]].value for group in classes), key=order_key)

    def contents(self) -> Mapping[Hashable, Selection]:
        """Give exact key -> jobs, for comparison by ``Index.check``."""
        return {key: entry.jobs for key, entry in self._entries.items()}

    def check(self) -> None:
        """Assert that classes and entries agree."""
        assert set(self._entries) == {key for members in self._classes.values() for key in members}
        assert self.jobs == FrozenBitMap.union(NO_JOBS, *(entry.jobs for entry in self._entries.values()))
        for group, members in self._classes.items():
            assert members
            assert all(equality_key(self._entries[member].value) == group for member in members)
            assert all(self._entries[member].jobs for member in members)
