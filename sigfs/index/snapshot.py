"""The index at one moment: immutable, shared freely between threads.

Owned here: answering queries and the questions that a directory asks, from columns.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, TypeVar, assert_never, cast

from pyroaring import FrozenBitMap

from sigfs.errors import AmbiguousId, NoSuchJob, QueryTooCostly
from sigfs.index.column import NO_JOBS, Column, Selection
from sigfs.model.types import JobId, Json, Record
from sigfs.query.evaluate import holds
from sigfs.query.expr import And, Compare, Exists, Expr, Field, In, IsType, Match, Near, Not, Op, Or, Space, Where
from sigfs.query.values import flatten, has_nan

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")

# Results kept per snapshot; a walk asks for each directory's selection several times in a row.
_CACHE_LIMIT = 8192

# How long one comparison may take over all values of a key: whoever can name a path can ask.
_QUERY_LIMIT_S = 10.0

# Reading a job's value out of its record costs about as much as trying this many values of a column.
_READ_COST = 8


class Snapshot:
    """All jobs as they were at one generation.

    Attributes:
        generation: grows by one with each change that changed anything.
        jobs: the selection of all jobs.
    """

    def __init__(
        self,
        generation: int,
        numbers: Mapping[JobId, int],
        records: Mapping[int, Record],
        leaves: Mapping[Field, Column],
        inner: Mapping[Field, Column],
    ) -> None:
        """Take over the given maps, which must never change again."""
        self.generation = generation
        self.jobs: Selection = FrozenBitMap(records.keys())
        self._numbers = numbers
        self._records = records
        self._leaves = leaves
        self._inner = inner  # the jobs that have a mapping with deeper keys at the field: columns of one value
        self._cache: dict[Hashable, object] = {}

    def __len__(self) -> int:
        """Count the jobs."""
        return len(self._records)

    def __contains__(self, job_id: object) -> bool:
        return job_id in self._numbers

    def __iter__(self) -> Iterator[JobId]:
        """Iterate over the ids of all jobs, in no particular order."""
        return iter(self._numbers)

    def cached(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Give what *compute* gives, computed at most once per snapshot and *key* while the cache has room.

        For facts that follow from this snapshot alone. Two threads may both compute; both get equal results.
        """
        try:
            return cast("T", self._cache[key])
        except KeyError:
            value = compute()
            if len(self._cache) < _CACHE_LIMIT:
                self._cache[key] = value
            return value

    # Jobs

    def record(self, job_id: JobId) -> Record:
        """Give what the job says.

        Raises:
            NoSuchJob: it is not in this snapshot.
        """
        try:
            return self._records[self._numbers[job_id]]
        except KeyError:
            raise NoSuchJob(f"no job {job_id}") from None

    def records(self) -> Iterable[Record]:
        """Give what all jobs say, in no particular order."""
        return self._records.values()

    def lookup(self, abbreviation: str) -> JobId:
        """Give the one id that begins with *abbreviation*.

        Raises:
            NoSuchJob: there is none.
            AmbiguousId: there are several; the message names some.
        """
        found = self._ids_beginning(abbreviation)
        if not found:
            raise NoSuchJob(f"no job whose id begins with {abbreviation!r}")
        if len(found) > 1:
            some = ", ".join(found[:3])
            raise AmbiguousId(
                f"{len(found)} jobs have ids that begin with {abbreviation!r}: {some}, ...; say more digits"
            )
        return found[0]

    def ids(self, selection: Selection) -> list[JobId]:
        """Give the ids of the selected jobs, sorted."""
        return sorted(self._records[number].id for number in selection)

    def number(self, job_id: str) -> int | None:
        """Give the job's number, as it is in selections; None if it is not in this snapshot."""
        return self._numbers.get(JobId(job_id))

    def _ids_beginning(self, abbreviation: str) -> list[JobId]:
        ids: list[JobId] = self.cached("sorted ids", lambda: sorted(self._numbers))
        first = bisect_left(ids, abbreviation)
        last = first
        while last < len(ids) and ids[last].startswith(abbreviation):
            last += 1
        return ids[first:last]

    # Keys, as a directory asks

    def fields(self, space: Space = Space.SP) -> Iterable[Field]:
        """Give the fields of *space* in which some job has a leaf value."""
        return [field for field in self._leaves if field.space is space]

    def having(self, field: Field) -> Selection:
        """Give the jobs that have a leaf value at *field*; a mapping with deeper keys is no leaf."""
        column = self._leaves.get(field)
        return column.jobs if column else NO_JOBS

    def having_mapping(self, field: Field) -> Selection:
        """Give the jobs that have a mapping with deeper keys at *field*."""
        column = self._inner.get(field)
        return column.jobs if column else NO_JOBS

    def values(self, field: Field, selection: Selection) -> list[Json]:
        """Give the distinct values of *field* among *selection*, in typed order: one of each class of equal values.

        Complexity: O(v log v) in the number v of the key's values or of the selected jobs, whichever is less.
        """
        column = self._leaves.get(field)
        if column is None:
            return []
        if len(selection) * _READ_COST < len(column):
            return column.representatives(self._value(number, field) for number in selection & column.jobs)
        return column.distinct(selection)

    def count_values(self, field: Field, selection: Selection) -> int:
        """Count the distinct values of *field* among *selection*."""
        column = self._leaves.get(field)
        if column is not None and column.jobs.issubset(selection):
            return len(column)
        return len(self.values(field, selection))

    def _value(self, number: int, field: Field) -> Json:
        record = self._records[number]
        return dict(flatten(record.statepoint if field.space is Space.SP else record.document))[field.key]

    def is_constant(self, field: Field, selection: Selection) -> bool:
        """Tell whether all of *selection* have one and the same value of the same type at *field*."""
        column = self._leaves.get(field)
        return column.is_constant(selection) if column else False

    # Queries

    def select(self, expr: Expr, within: Selection | None = None) -> Selection:
        """Give the jobs for which *expr* holds, out of *within* (default: all).

        The answer is the one of ``query.holds`` on each record.

        Complexity: equality is O(1) in jobs and values; other comparisons O(values of the key).
        """
        found = self.cached(expr, lambda: self._evaluate(expr))
        return found if within is None else found & within

    def _evaluate(self, expr: Expr) -> Selection:
        match expr:
            case And(terms):
                selection = self.jobs
                for term in terms:
                    if not selection:
                        break
                    selection = self.select(term, selection)
                return selection
            case Or(terms):
                return FrozenBitMap.union(NO_JOBS, *(self.select(term) for term in terms))
            case Not(term):
                return self.jobs - self.select(term)
            case _ if expr.field.space is Space.ID:
                return self._evaluate_id(expr)
            case Exists(field, present):
                found = self.having(field) | self.having_mapping(field)
                return found if present else self.jobs - found
            case Compare(field, Op.EQ | Op.IS, value) if not isinstance(value.json, dict):
                column = self._leaves.get(field)
                if column is None or (expr.op is Op.EQ and has_nan(value.json)):
                    return NO_JOBS
                return column.equal_to(value.json)
            case Compare() | In() | Match() | IsType() | Near() | Where():
                return self._evaluate_values(expr)
            case _:
                assert_never(expr)

    def _evaluate_values(self, expr: Compare | In | Match | IsType | Near | Where) -> Selection:
        """Ask the reference evaluator once for each value: of one of the jobs that share it."""
        column = self._leaves.get(expr.field)
        deadline_s = time.monotonic() + _QUERY_LIMIT_S
        shared = []
        for entry in column.entries() if column else ():
            if self._holds(expr, entry.jobs.min()):
                shared.append(entry.jobs)
            if time.monotonic() > deadline_s:
                raise QueryTooCostly(f"looking at each value of {expr.field.key!r} takes more than {_QUERY_LIMIT_S} s")
        inner_only = self.having_mapping(expr.field) - self.having(expr.field)
        mappings = (number for number in inner_only if self._holds(expr, number))
        return FrozenBitMap.union(FrozenBitMap(mappings), *shared)

    def _evaluate_id(self, expr: Compare | Exists | In | Match | IsType | Near | Where) -> Selection:
        match expr:
            case Compare(_, Op.EQ, value) if isinstance(value.json, str):
                return FrozenBitMap(self._numbers[job_id] for job_id in self._ids_beginning(value.json))
            case _:
                return FrozenBitMap(number for number in self.jobs if self._holds(expr, number))

    def _holds(self, expr: Expr, number: int) -> bool:
        return holds(expr, self._records[number])

    # For Index.check

    def contents(self) -> dict[str, object]:
        """Give all that this snapshot says, in terms of ids instead of job numbers, for comparison."""
        return {
            "records": {job_id: self._records[number].text() for job_id, number in self._numbers.items()},
            "leaves": self._contents(self._leaves),
            "inner": self._contents(self._inner),
        }

    def _contents(self, columns: Mapping[Field, Column]) -> dict[Field, dict[Hashable, list[JobId]]]:
        return {
            field: {key: self.ids(jobs) for key, jobs in column.contents().items()} for field, column in columns.items()
        }
