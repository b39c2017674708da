"""The index: follows changes, gives snapshots.

Owned here: ``Index``, the one mutable object of this layer, and ``Delta``, what a change did. The index is always
disposable: what it says follows from the job directories alone (I2).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from sigfs.index.column import Column
from sigfs.index.snapshot import Snapshot
from sigfs.model.types import Change, Json, Record, StatePoint
from sigfs.query.evaluate import inner_keys
from sigfs.query.expr import Field, Space
from sigfs.query.values import flatten


@dataclass(frozen=True, slots=True)
class Delta:
    """What ``Index.apply`` changed: for each job that is not as before, its record before and after.

    Attributes:
        generation: the index's generation afterwards; unchanged if ``jobs`` is empty.
        jobs: (before, after); before is None for a new job, after is None for one that is gone.
    """

    generation: int
    jobs: tuple[tuple[Record | None, Record | None], ...]


class Index:
    """An incrementally maintained, searchable copy of what the job directories say.

    Any thread may call any method; ``apply`` calls are serialized. A snapshot taken after ``apply`` has returned
    shows its changes (I8).

    >>> from sigfs.model.types import JobId
    >>> index = Index()
    >>> delta = index.apply([Change(JobId("0" * 32), Record(JobId("0" * 32), {"foo": 42}))])
    >>> from sigfs.query import parse
    >>> index.snapshot().ids(index.snapshot().select(parse("foo 42")))
    ['00000000000000000000000000000000']
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # serializes apply; guards _next_number
        self._next_number = 0
        self._snapshot = Snapshot(0, {}, {}, {}, {})  # replaced as a whole, never changed

    def snapshot(self) -> Snapshot:
        """Give the index as it is now. Complexity: O(1)."""
        return self._snapshot

    def apply(self, changes: Iterable[Change], *, known_only: bool = False) -> Delta:
        """Make the index say what *changes* say. The last of several changes to one job counts.

        Args:
            known_only: leave out jobs that the index does not have: the changes may be older than what removed them.

        A record without a document (None: not read) leaves the document that is known of the job as it is.

        Cost: O(jobs + values of the keys concerned) a call, whatever the number of changes: apply them together.
        """
        latest = {change.id: change for change in changes}
        with self._lock:
            before = self._snapshot
            numbers = dict(before._numbers)  # noqa: SLF001 - index and snapshot are one subject in two files
            records = dict(before._records)  # noqa: SLF001
            leaves = _Columns(before._leaves)  # noqa: SLF001
            inner = _Columns(before._inner)  # noqa: SLF001
            jobs: list[tuple[Record | None, Record | None]] = []
            for job_id, change in latest.items():
                number = numbers.get(job_id)
                if number is None and known_only:
                    continue
                old = None if number is None else records[number]
                new = change.record
                if old is not None and new is not None and new.document is None:
                    new = replace(new, document=old.document)
                if (old and old.text()) == (new and new.text()):
                    continue
                jobs.append((old, new))
                if number is None:
                    number = numbers[job_id] = self._next_number
                    self._next_number += 1
                if old is not None:
                    leaves.remove(number, _leaves(old))
                    inner.remove(number, _inner(old))
                if new is None:
                    del numbers[job_id], records[number]
                else:
                    records[number] = new
                    leaves.add(number, _leaves(new))
                    inner.add(number, _inner(new))
            if not jobs:
                return Delta(before.generation, ())
            after = Snapshot(before.generation + 1, numbers, records, leaves.updated(), inner.updated())
            self._snapshot = after
            return Delta(after.generation, tuple(jobs))

    def check(self, records: Iterable[Record] | None = None) -> None:
        """Assert that this index equals one built from scratch (I2).

        Args:
            records: what the job directories say; default: what this index was told.
        """
        snapshot = self.snapshot()
        if records is None:
            records = [snapshot.record(job_id) for job_id in snapshot]
        rebuilt = Index()
        rebuilt.apply(Change(record.id, record) for record in records)
        ours, theirs = snapshot.contents(), rebuilt.snapshot().contents()
        assert ours == theirs, "the index differs from a rebuild"
        for column in (*snapshot._leaves.values(), *snapshot._inner.values()):  # noqa: SLF001
            column.check()


class _Columns:
    """Columns by field, with what one ``apply`` takes out of and puts into each."""

    def __init__(self, columns: Mapping[Field, Column]) -> None:
        self._columns = columns
        self._removed: dict[Field, list[tuple[Json, int]]] = {}
        self._added: dict[Field, list[tuple[Json, int]]] = {}

    def remove(self, number: int, values: Iterable[tuple[Field, Json]]) -> None:
        for field, value in values:
            self._removed.setdefault(field, []).append((value, number))

    def add(self, number: int, values: Iterable[tuple[Field, Json]]) -> None:
        for field, value in values:
            self._added.setdefault(field, []).append((value, number))

    def updated(self) -> dict[Field, Column]:
        columns = dict(self._columns)
        for field in self._removed.keys() | self._added.keys():
            column = columns.get(field, Column()).updated(self._removed.get(field, ()), self._added.get(field, ()))
            if column.jobs:
                columns[field] = column
            else:
                del columns[field]
        return columns


def _mappings(record: Record) -> tuple[tuple[Space, StatePoint | None], ...]:
    return (Space.SP, record.statepoint), (Space.DOC, record.document)


def _leaves(record: Record) -> Iterator[tuple[Field, Json]]:
    # dict: two spellings of one dotted key in a state point ({"a.b": 1, "a": {"b": 2}}) count as one, the last
    for space, mapping in _mappings(record):
        for key, value in dict(flatten(mapping)).items():
            yield Field(space, key), value


def _inner(record: Record) -> Iterator[tuple[Field, Json]]:
    for space, mapping in _mappings(record):
        for key in set(inner_keys(mapping)):
            yield Field(space, key), None
