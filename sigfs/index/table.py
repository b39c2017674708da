"""The jobs in columns: what the index knows, and how it answers.

Owned here: answering queries and the questions that a directory asks, and the bookkeeping of one change. No lock: the
index holds one around every use.
"""

from __future__ import annotations

import json
import math
import time
from array import array
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from itertools import repeat
from typing import Final, TypeAlias, TypeVar, assert_never, cast

from pyroaring import BitMap

from sigfs.errors import AmbiguousId, NoSuchJob, QueryTooCostly
from sigfs.index.column import Column, Selection, is_subset
from sigfs.index.numbers import Numbers
from sigfs.index.shapes import NOTHING, Outline, Shapes, split
from sigfs.model.types import UNKNOWN, JobId, Json, Record, Row, Stamp, Stamped, StatePoint
from sigfs.query.evaluate import holds, holds_for_inner, holds_for_leaf
from sigfs.query.expr import (
    ABSENT,
    And,
    Compare,
    Exists,
    Expr,
    Field,
    In,
    IsType,
    Match,
    Near,
    Not,
    Op,
    Or,
    Space,
    Spelled,
    Spelling,
    Where,
)
from sigfs.query.values import has_nan, order_key

T = TypeVar("T")

_CACHE_LIMIT: Final = 8192
"""Answers kept until the next change; a walk asks for each directory's selection several times in a row."""

_QUERY_LIMIT_S: Final = 10.0
"""How long one condition may take over all values of a key: whoever can name a path can ask."""

_SELECTIVE: Final = 4
"""A condition on a selection so many times smaller than the values of its key is tried job by job."""

_SINGLY: Final = 4
"""So many jobs are put into the columns one by one."""

NO_JOBS: Final[Selection] = BitMap()

_Leaf: TypeAlias = Compare | In | Match | IsType | Near | Where


class Table:
    """All jobs at this moment. Selections that it gives are good until the next change.

    Attributes:
        generation: grows with each change of what the jobs say.
        numbers: which job has which number.
        statepoints, documents: the columns of the two spaces.
    """

    def __init__(self) -> None:
        self.generation = 0
        self.numbers = Numbers()
        self.statepoints = Shapes(Space.SP)
        self.documents = Shapes(Space.DOC)
        # By job number; what is there for a number not in use means nothing.
        self.statepoint_shapes = array("I")
        self.document_shapes = array("I")
        self.stamps = (array("Q"), array("Q"), array("Q"))  # the fields of Stamp
        self._cache: dict[Hashable, object] = {}

    # Jobs

    @property
    def jobs(self) -> Selection:
        """The selection of all jobs."""
        return self.numbers.jobs

    def __len__(self) -> int:
        """Count the jobs."""
        return len(self.numbers)

    def __contains__(self, job_id: object) -> bool:
        return isinstance(job_id, str) and self.numbers.number(job_id) is not None

    def __iter__(self) -> Iterator[JobId]:
        """Iterate over the ids of all jobs, in no particular order."""
        return map(self.numbers.__getitem__, self.numbers.jobs)

    def ids(self, selection: Selection) -> list[JobId]:
        """Give the ids of the selected jobs, sorted. About 0.1 µs a job."""
        return self.numbers.ids(selection)

    def number(self, job_id: str) -> int | None:
        """Give the job's number, as it is in selections; None if it is not here."""
        return self.numbers.number(job_id)

    def numbers_of(self, job_ids: Sequence[JobId]) -> list[tuple[JobId, int]]:
        """Give those of many jobs that are here, in their order, with their numbers. 0.2 µs a job if they are most."""
        if len(job_ids) * _SELECTIVE < len(self):
            numbers: Iterable[int | None] = self.numbers.among(job_ids)
        else:
            numbers = map(dict(zip(self.ids(self.jobs), self.numbers.in_order(), strict=True)).get, job_ids)
        return [(job_id, number) for job_id, number in zip(job_ids, numbers, strict=True) if number is not None]

    def record(self, job_id: JobId) -> Record:
        """Give what the job says, put together from the columns. About 0.5 µs a key.

        Raises:
            NoSuchJob: it is not here.
        """
        number = self.numbers.number(job_id)
        if number is None:
            raise NoSuchJob(f"no job {job_id}")
        return self.record_of(number)

    def record_of(self, number: int) -> Record:
        """Give what the job with this number says."""
        return Record(
            self.numbers[number],
            self.statepoints.rebuild(self.statepoint_shapes[number], number),
            self.documents.rebuild(self.document_shapes[number], number),
            self.stamp_of(number),
        )

    def statepoints_of(self, numbers: Sequence[int]) -> list[StatePoint | None]:
        """Give the state points of the jobs with these numbers, of the caller's own. About 0.1 µs a key."""
        return self.statepoints.rebuild_many([self.statepoint_shapes[number] for number in numbers], numbers)

    def documents_of(self, numbers: Sequence[int]) -> list[StatePoint | None]:
        """Give the documents of the jobs with these numbers, of the caller's own. About 0.1 µs a key."""
        return self.documents.rebuild_many([self.document_shapes[number] for number in numbers], numbers)

    def records(self) -> Iterator[Record]:
        """Give what all jobs say, by ascending id."""
        return map(self.record_of, self.numbers.in_order())

    def stamp(self, job_id: JobId) -> Stamp | None:
        """Give what the job's files were like when they were read; None if it is not here."""
        number = self.numbers.number(job_id)
        return None if number is None else self.stamp_of(number)

    def stamp_of(self, number: int) -> Stamp:
        """Give what the files of the job with this number were like."""
        statepoints, documents, contents = self.stamps
        return Stamp(statepoints[number], documents[number], contents[number])

    def stamped(self) -> Stamped:
        """Give a copy of the stamps of all jobs. About 0.2 µs a job."""
        order = self.numbers.in_order()
        if isinstance(order, range):
            return Stamped(self.numbers.ids(self.jobs), *(stamps[: order.stop] for stamps in self.stamps))
        ids = [*map(self.numbers.__getitem__, order)]
        return Stamped(ids, *(array("Q", map(stamps.__getitem__, order)) for stamps in self.stamps))

    def lookup(self, abbreviation: str) -> JobId:
        """Give the one id that begins with *abbreviation*. O(log jobs).

        Raises:
            NoSuchJob: there is none.
            AmbiguousId: there are several; the message names some.
        """
        found = sorted(job_id for job_id, _ in self.numbers.beginning(abbreviation))
        if not found:
            raise NoSuchJob(f"no job whose id begins with {abbreviation!r}")
        if len(found) > 1:
            some = ", ".join(found[:3])
            raise AmbiguousId(
                f"{len(found)} jobs have ids that begin with {abbreviation!r}: {some}, ...; say more digits"
            )
        return found[0]

    def cached(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Give what *compute* gives, computed once until the next change, or until there is no room for more answers.

        For facts that follow from this table alone. Two threads may both compute; both get equal results.
        """
        try:
            return cast("T", self._cache[key])
        except KeyError:
            value = compute()
            if len(self._cache) >= _CACHE_LIMIT:
                self._cache.clear()
            self._cache[key] = value
            return value

    # Keys, as a directory asks

    def fields(self, space: Space = Space.SP) -> Iterable[Field]:
        """Give the fields of *space* in which some job has a leaf value."""
        return [field for field, column in self._shapes(space).columns.items() if column.jobs]

    def having(self, field: Field) -> Selection:
        """Give the jobs that have a leaf value at *field*; a mapping with deeper keys is no leaf."""
        column = self._column(field)
        return NO_JOBS if column is None else column.jobs

    def having_mapping(self, field: Field) -> Selection:
        """Give the jobs that have a mapping with deeper keys at *field*."""
        return NO_JOBS if field.space is Space.ID else self._shapes(field.space).inner.get(field, NO_JOBS)

    def having_mapping_only(self, field: Field) -> Selection:
        """Give the jobs that have a mapping with deeper keys at *field* and no leaf value."""
        return self.cached(("mapping only", field), lambda: self.having_mapping(field) - self.having(field))

    def values(self, field: Field, selection: Selection) -> list[Json]:
        """Give the distinct values of *field* among *selection*, in typed order: one of each class of equal values.

        Complexity: O(v) or less in the number v of the key's values, or of the selected jobs, whichever is less.
        """
        column = self._column(field)
        return [] if column is None else column.distinct(selection)

    def values_at(self, field: Field, numbers: Iterable[int]) -> dict[int, Json]:
        """Give the values at *field* of those of *numbers* that have one: a leaf, or the mapping of the keys below it.

        Complexity: 0.3 µs a job that has a leaf there, O(keys of the job) for one that has a mapping.
        """
        if field.space is Space.ID:
            return {number: self.numbers[number] for number in numbers}
        wanted = BitMap(numbers)
        column = self._column(field)
        found: dict[int, Json] = {}
        if column is not None:
            leaves = wanted & column.jobs
            found = dict(zip(leaves, column.values_of(leaves), strict=True))
            wanted -= leaves
        steps = field.key.split(".")
        for number in wanted & self.having_mapping(field):
            record = self.record_of(number)
            value: Json = record.document if field.space is Space.DOC else record.statepoint
            for step in steps:
                value = value.get(step) if isinstance(value, dict) else None
            found[number] = value
        return found

    def count_values(self, field: Field, selection: Selection) -> int:
        """Count the distinct values of *field* among *selection*. O(1) for all jobs, else O(values that jobs share)."""
        column = self._column(field)
        return 0 if column is None else column.count(selection)

    def is_constant(self, field: Field, selection: Selection) -> bool:
        """Tell whether all of *selection* have one and the same value of the same type at *field*."""
        column = self._column(field)
        return column is not None and column.is_constant(selection)

    def is_constant_as(self, field: Field, selection: Selection, value: Json) -> bool:
        """Tell whether all of *selection*, which is not empty, have exactly *value* at *field*."""
        column = self._column(field)
        return column is not None and column.is_constant(selection) and column.has(selection.min(), value)

    def _shapes(self, space: Space) -> Shapes:
        return self.documents if space is Space.DOC else self.statepoints

    def _column(self, field: Field) -> Column | None:
        return None if field.space is Space.ID else self._shapes(field.space).columns.get(field)

    # Queries

    def select(self, expr: Expr, within: Selection | None = None) -> Selection:
        """Give the jobs for which *expr* holds, out of *within* (default: all).

        The answer is the one of ``query.holds`` on each record.

        Complexity: equality is O(1) in jobs and values, a range O(values in it), a pattern O(values of the key), or
        O(jobs of *within*) if they are few.

        Raises:
            QueryTooCostly: it takes too long.
        """
        if within is None:
            return self.cached(expr, lambda: self._evaluate(expr))
        if (
            isinstance(expr, Compare | Match | IsType | Near | Where)
            and _is_slow(expr)
            and expr not in self._cache
            and (column := self._column(expr.field)) is not None
            and len(within) * _SELECTIVE < len(column)
        ):
            return self._try_each(expr, column, within)
        return self.select(expr) & within

    def _evaluate(self, expr: Expr) -> Selection:
        match expr:
            case And(terms):
                selection = self.jobs
                for term in sorted(terms, key=_is_slow):
                    if not selection:
                        break
                    selection = self.select(term, selection)
                return selection
            case Or(terms):
                return BitMap.union(NO_JOBS, *(self.select(term) for term in terms))
            case Not(term):
                return self.jobs - self.select(term)
            case Spelled():
                return self._evaluate_spelled(expr)
            case _ if expr.field.space is Space.ID:
                return self._evaluate_id(expr)
            case Exists(field, present):
                found = self.having(field) | self.having_mapping(field)
                return found if present else self.jobs - found
            case Compare() | In() | Match() | IsType() | Near() | Where():
                column = self._column(expr.field)
                found = NO_JOBS if column is None else self._evaluate_leaf(expr, column)
                if holds_for_inner(expr):
                    return found | self.having_mapping_only(expr.field)
                return found
            case _:
                assert_never(expr)

    def _evaluate_leaf(self, expr: _Leaf, column: Column) -> Selection:
        match expr:
            case Compare(_, Op.EQ | Op.NE, value):
                found = NO_JOBS if has_nan(value.json) else column.union(column.equal_codes(value.json))
                return found if expr.op is Op.EQ else column.jobs - found
            case Compare(_, Op.IS, value):
                return column.union(column.equal_codes(value.json))
            case In(_, values, negated):
                plain = (value.json for value in values if not has_nan(value.json))
                found = column.union({code for value in plain for code in column.equal_codes(value)})
                return column.jobs - found if negated else found
            case Compare(_, op, value):
                return self._evaluate_order(op, value.json, expr, column)
            case IsType(_, name):
                if (name == "int" and len(column.ints) == len(column)) or (
                    name == "str" and len(column.strs) == len(column)
                ):
                    return column.jobs
                return self._scan(expr, column, column.codes())
            case Match():
                return self._scan(expr, column, column.strs.values())
            case Near(_, number, relative, absolute):
                reach = max(relative * abs(number) / (1 - relative), absolute) if relative < 1 else math.inf
                reach = reach * 1.001 + math.ulp(number)
                return self._scan(expr, column, column.numbers_between(number - reach, number + reach))
            case Where():
                return self._scan(expr, column, column.codes())
            case _:
                assert_never(expr)

    def _evaluate_order(self, op: Op, value: Json, expr: _Leaf, column: Column) -> Selection:
        below = op in (Op.LT, Op.LTE)
        if isinstance(value, bool) or value != value:
            return self._scan(expr, column, column.texts.values())
        inclusive = (op is not Op.GT, op is not Op.LT)
        match value:
            case int() | float():
                low, high = (-math.inf, value) if below else (value, math.inf)
                return column.union(column.numbers_between(low, high, inclusive))
            case str():
                return column.union(
                    column.strings_between(None if below else value, value if below else None, inclusive)
                )
            case _:
                return self._scan(expr, column, column.texts.values())

    def _scan(self, expr: _Leaf, column: Column, codes: Iterable[int]) -> Selection:
        """Ask the reference evaluator once for each value, of those that may come into question."""
        return column.union(_those_for_which(expr, codes, column.values.__getitem__))

    def _try_each(self, expr: _Leaf, column: Column, within: Selection) -> Selection:
        """Ask the reference evaluator once for each job of *within*."""
        found = BitMap(_those_for_which(expr, within & column.jobs, column.value_of))
        if holds_for_inner(expr):
            found |= within & self.having_mapping_only(expr.field)
        return found

    def _evaluate_spelled(self, expr: Spelled) -> Selection:
        spelling, name = expr.spelling, expr.name
        candidates = spelling.candidates(name) if len(expr.fields) == 1 else None
        if candidates is None:
            return self._named(expr.fields, spelling).get(name, NO_JOBS)
        (field,) = expr.fields
        values = [value for value in candidates if spelling((value,)) == name]
        if field.space is Space.ID:
            return BitMap(n for value in values if (n := self.number(str(value))) is not None)
        column = self._column(field)
        codes = [] if column is None else [code for value in values if (code := column.code(value)) is not None]
        found = NO_JOBS if column is None else column.union(codes)
        if spelling((ABSENT,)) == name:
            return found | (self.jobs - self.having(field))
        return found

    def _named(self, fields: tuple[Field, ...], spelling: Spelling) -> dict[str, Selection]:
        def compute() -> dict[str, Selection]:
            groups: dict[str, list[Selection]] = {}
            for values, jobs in self.combinations(fields, self.jobs):
                groups.setdefault(spelling(values), []).append(jobs)
            return {name: BitMap.union(NO_JOBS, *parts) for name, parts in groups.items()}

        return self.cached(("named", fields, spelling), compute)

    def spellings(self, fields: tuple[Field, ...], spelling: Spelling, selection: Selection) -> list[str]:
        """Give the names that the values of *fields* have among *selection*, each once, in the order of the values.

        Complexity: O(v log v) in the combinations of values.
        """
        if len(fields) == 1 and fields[0].space is not Space.ID:
            values = self.exact_values(fields[0], selection)
            names = dict.fromkeys(spelling((value,)) for value in values)
            if not is_subset(selection, self.having(fields[0])):
                names[spelling((ABSENT,))] = None
            return list(names)
        return list(dict.fromkeys(spelling(values) for values, _ in self.combinations(fields, selection)))

    def exact_values(self, field: Field, selection: Selection) -> list[Json]:
        """Give the distinct values of *field* among *selection*, in typed order; ``1`` and ``1.0`` are two."""
        column = self._column(field)
        return [] if column is None else sorted(map(column.values.__getitem__, column.codes(selection)), key=order_key)

    def combinations(
        self, fields: tuple[Field, ...], selection: Selection
    ) -> Iterator[tuple[tuple[Json, ...], Selection]]:
        """Yield each combination of values of *fields* in *selection*, ``ABSENT`` last, with its jobs."""
        if not fields:
            if selection:
                yield (), selection
            return
        for value, jobs in self._parts(fields[0], selection):
            for values, found in self.combinations(fields[1:], jobs):
                yield (value, *values), found

    def _parts(self, field: Field, selection: Selection) -> Iterator[tuple[Json, Selection]]:
        if field.space is Space.ID:
            for job_id, number in sorted((self.numbers[number], number) for number in selection):
                yield job_id, BitMap((number,))
            return
        column = self._column(field)
        if column is not None:
            values = column.values
            for code in sorted(column.codes(selection), key=lambda code: order_key(values[code])):
                yield values[code], selection & column.posting(code)
            selection = selection - column.jobs
        if selection:
            yield ABSENT, selection

    def _evaluate_id(self, expr: _Leaf | Exists) -> Selection:
        match expr:
            case Compare(_, Op.EQ, value) if isinstance(value.json, str):
                return BitMap(number for _, number in self.numbers.beginning(value.json))
            case In(field, values, False):
                return BitMap.union(NO_JOBS, *(self._evaluate_id(Compare(field, Op.EQ, value)) for value in values))
            case _:
                return BitMap(n for n in self.jobs if holds(expr, Record(self.numbers[n], None)))

    # Changes: by the index alone, while nobody reads

    def append(self, rows: Sequence[Row]) -> None:
        """Add jobs whose ids ascend and follow on all ids that are here. For the first filling; see `extend`."""
        start = self.numbers.append([row[0] for row in rows])
        self._extend(range(start, start + len(rows)), rows)

    def extend(self, rows: Sequence[Row]) -> None:
        """Add jobs that are not here, all different. About 0.5 µs a value if they are many."""
        self._extend([self.numbers.add(row[0]) for row in rows], rows)

    def _extend(self, numbers: Sequence[int], rows: Sequence[Row]) -> None:
        missing = max(numbers, default=-1) + 1 - len(self.statepoint_shapes)
        for each in (self.statepoint_shapes, self.document_shapes, *self.stamps):
            each.extend(repeat(0, missing))
        _put_all(self.statepoints, self.statepoint_shapes, numbers, [row[1] for row in rows])
        _put_all(self.documents, self.document_shapes, numbers, [row[2] for row in rows])
        if isinstance(numbers, range):
            for place, stamps in enumerate(self.stamps):
                stamps[numbers.start : numbers.stop] = array("Q", [row[3][place] for row in rows])
        else:
            for number, row in zip(numbers, rows, strict=True):
                self._set_stamp(number, row[3])

    def remove(self, number: int) -> None:
        """Forget a job. O(keys x log values)."""
        _take(self.statepoints, self.statepoint_shapes, number)
        _take(self.documents, self.document_shapes, number)
        self._set_stamp(number, Stamp())
        self.numbers.remove(self.numbers[number])

    def update(self, number: int, record: Record) -> bool:
        """Let the job say what *record* says; tell whether that is news. A document of None says nothing.

        O(keys, and log values for those that changed).
        """
        news = _replace(self.statepoints, self.statepoint_shapes, number, record.statepoint)
        if record.document is not None:
            news |= _replace(self.documents, self.document_shapes, number, record.document)
        return news

    def restamp(self, number: int, stamp: Stamp) -> bool:
        """Note what the job's files are like; tell whether that is news. What *stamp* does not know stays."""
        old = self.stamp_of(number)
        if stamp.document == UNKNOWN and not stamp.content:
            stamp = stamp._replace(document=old.document, content=old.content)
        if stamp == old:
            return False
        self._set_stamp(number, stamp)
        return True

    def changed(self) -> None:
        """Begin a new generation."""
        self.generation += 1
        self._cache.clear()

    def _set_stamp(self, number: int, stamp: Stamp) -> None:
        for stamps, value in zip(self.stamps, stamp, strict=True):
            stamps[number] = value

    # For Index.check

    def contents(self) -> dict[str, object]:
        """Give all that this table says, in terms of ids instead of numbers, for comparison."""
        shapes = (self.statepoints, self.documents)
        return {
            "records": {record.id: record.text() for record in self.records()},
            "leaves": {
                field: {text: self.ids(jobs) for text, jobs in column.contents().items()}
                for space in shapes
                for field, column in space.columns.items()
                if column.jobs
            },
            "inner": {field: self.ids(jobs) for space in shapes for field, jobs in space.inner.items() if jobs},
        }

    def check(self) -> None:
        """Assert that the columns agree with themselves."""
        for space in (self.statepoints, self.documents):
            for column in space.columns.values():
                column.check()
                assert column.jobs.issubset(self.jobs)
            assert BitMap(space.ambiguous).issubset(self.jobs)


def _those_for_which(expr: _Leaf, numbers: Iterable[int], value_of: Callable[[int], Json]) -> list[int]:
    """Give those of *numbers*, of jobs or values, for whose value *expr* holds.

    Raises:
        QueryTooCostly: it takes too long.
    """
    deadline_s = time.monotonic() + _QUERY_LIMIT_S
    found = []
    for count, number in enumerate(numbers):
        if holds_for_leaf(expr, value_of(number)):
            found.append(number)
        if not count % 64 and time.monotonic() > deadline_s:
            raise QueryTooCostly(f"looking at each value of {expr.field.key!r} takes more than {_QUERY_LIMIT_S} s")
    return found


def _put_all(shapes: Shapes, codes: array[int], numbers: Sequence[int], mappings: Iterable[StatePoint | None]) -> None:
    """Give jobs that have none a mapping each, column by column where they are many."""
    if len(numbers) <= _SINGLY:
        for number, mapping in zip(numbers, mappings, strict=True):
            _put(shapes, codes, number, mapping)
        return
    groups: dict[Outline, tuple[list[int], list[list[Json]], list[StatePoint]]] = {}
    for number, mapping in zip(numbers, mappings, strict=True):
        if mapping is None:
            codes[number] = NOTHING
            continue
        outline, values = split(mapping)
        try:
            jobs, rows, whole = groups[outline]
        except KeyError:
            jobs, rows, whole = groups[outline] = ([], [], [])
        jobs.append(number)
        rows.append(values)
        whole.append(mapping)
    columns: dict[int, tuple[Column, list[int], list[Json]]] = {}
    for outline, (jobs, rows, whole) in groups.items():
        code = shapes.code(outline)
        shape = shapes.shapes[code]
        if shape.ambiguous:
            for job, mapping in zip(jobs, whole, strict=True):
                _put(shapes, codes, job, mapping)
            continue
        for job in jobs:
            codes[job] = code
        for inner in shape.inner:
            inner.update(jobs)
        for column, each in zip(shape.columns, zip(*rows, strict=True), strict=True):
            _, all_jobs, all_values = columns.setdefault(id(column), (column, [], []))
            all_jobs += jobs
            all_values += each
    for column, all_jobs, all_values in columns.values():
        column.extend(all_jobs, all_values)


def _put(shapes: Shapes, codes: array[int], number: int, mapping: StatePoint | None) -> None:
    """Give a job that has none a mapping."""
    if mapping is None:
        codes[number] = NOTHING
        return
    outline, values = split(mapping)
    code = codes[number] = shapes.code(outline)
    shape = shapes.shapes[code]
    for inner in shape.inner:
        inner.add(number)
    if shape.ambiguous:  # of two values at one field the last counts
        shapes.ambiguous[number] = mapping
        for column, value in dict(zip(shape.columns, values, strict=True)).items():
            column.put(number, value)
    else:
        for column, value in zip(shape.columns, values, strict=True):
            column.put(number, value)


def _take(shapes: Shapes, codes: array[int], number: int) -> None:
    shape = shapes.shapes[codes[number]]
    for column in set(shape.columns) if shape.ambiguous else shape.columns:
        column.take(number)
    for inner in shape.inner:
        inner.discard(number)
    shapes.ambiguous.pop(number, None)
    codes[number] = NOTHING


def _replace(shapes: Shapes, codes: array[int], number: int, mapping: StatePoint | None) -> bool:
    """Give a job another mapping; tell whether it is another."""
    code = codes[number]
    known = shapes.shapes[code]
    if mapping is not None and code != NOTHING and not known.ambiguous:
        outline, values = split(mapping)
        if outline == known.outline:
            news = False
            for column, value in zip(known.columns, values, strict=True):
                if not column.has(number, value):
                    column.take(number)
                    column.put(number, value)
                    news = True
            return news
    if _text(shapes.rebuild(code, number)) == _text(mapping):
        return False
    _take(shapes, codes, number)
    _put(shapes, codes, number, mapping)
    return True


def _text(mapping: StatePoint | None) -> str:
    return json.dumps(mapping, sort_keys=True)


def _is_slow(expr: Expr) -> bool:
    """Whether this costs more than a look at each of a few jobs."""
    return not isinstance(expr, Compare | Exists | In) or (
        isinstance(expr, Compare) and expr.op not in (Op.EQ, Op.IS, Op.NE)
    )
