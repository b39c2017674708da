"""One key of the index: which job has which value, and which jobs have a value.

Owned here: ``Column``. Values are kept apart by type (``1``, ``1.0``, ``true``, ``"1"``) and numbered: a *code* is the
number of an exact value. Two maps, neither sufficient alone: from job to code (for few jobs, and for values that hardly
repeat), and from code to the jobs that have it, its *posting* (for many jobs).
"""

from __future__ import annotations

import json
import math
import threading
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, repeat
from typing import Final, TypeAlias

from pyroaring import AbstractBitMap, BitMap
from sortedcontainers import SortedKeyList, SortedList

from sigfs.model.types import Json
from sigfs.query.values import equality_key, order_key

Selection: TypeAlias = AbstractBitMap
"""A set of job numbers: ``len``, ``&``, ``|``, ``-``, iteration in ascending order. Not to be changed by who gets it,
and the index may change it: keep a copy of what is to outlive the moment."""

_FREE: Final = -1  # in _one: nobody has the value, and its code may be given to another
_SHARED: Final = -2  # in _one: several jobs have it
_NONE: Final = {"B": 0xFF, "H": 0xFFFF, "I": 0xFFFFFFFF}  # in an array of codes: the job has no value

_DENSE: Final = 16
"""A map from job to code becomes an array when it has an entry for every so many places."""

_MEET_COST: Final = 64
"""Asking a posting whether it meets a small selection may cost as much as looking up so many jobs' codes."""

_FEW: Final = 20_000
"""A selection of more jobs meets a posting at the first look."""

_FEW_WAITING: Final = 1000
"""The values of so few jobs are picked out of those that wait, without filling the column."""

_TOGETHER: Final = 4096
"""So many values are spelled at a time: each is then cheaper, and other threads get their turn in between."""

_MINUS_ZERO: Final = "-0.0"
_NAN: Final = "NaN"
_BEFORE_NUMBERS: Final = frozenset({"null", "false", "true"})
_NOT_LAST: Final = _BEFORE_NUMBERS | {_MINUS_ZERO, _NAN}


def is_subset(jobs: Selection, others: Selection) -> bool:
    """Tell whether all *jobs* are among *others*. ``issubset`` takes a hundred times longer where one has long runs."""
    return len(jobs) <= len(others) and jobs.intersection_cardinality(others) == len(jobs)


class _Order:
    """The values of a column by kind, ascending. Built when first asked for: it is costly for unique values."""

    __slots__ = ("floats", "ints", "strs", "texts")

    def __init__(self, column: Column) -> None:
        self.ints = SortedList(column.ints)
        self.floats = SortedList(column.floats)
        self.strs = SortedList(column.strs)
        values, codes = column.values, column.texts
        self.texts = SortedKeyList(codes, key=lambda text: order_key(values[codes[text]]))


class Column:
    """The values of one key. Changed only by the index, while nobody reads it.

    Attributes:
        jobs: the jobs that have a leaf value here.
        single: those of them whose value nobody shares.
        values: code -> value; None where the code is free.
        ints, floats, strs: value -> code.
        texts: JSON text -> code, of every other kind of value: null, true, false, NaN, -0.0 (which is equal to 0.0
            and must not be the same), lists and the empty mapping.
        one: code -> the one job that has it, `_SHARED` or `_FREE`.
        shared: code -> the jobs, where there are several.
    """

    __slots__ = (
        "_classes",
        "_codes",
        "_distinct",
        "_free",
        "_order",
        "_twins",
        "_waiting",
        "floats",
        "ints",
        "jobs",
        "one",
        "shared",
        "single",
        "strs",
        "texts",
        "values",
    )

    def __init__(self, jobs: BitMap | None = None, rare: Sequence[Json] | None = None, distinct: int = 0) -> None:
        """Make an empty column, or one that is going to be filled when somebody asks for more than how many there are.

        Args:
            jobs: who has a value.
            rare: the value of each, none equal to another but those that are the same.
            distinct: how many different values that are.
        """
        self.jobs = BitMap() if jobs is None else jobs
        self._waiting = rare
        self._distinct = distinct
        if rare is None:
            self._clear()

    def __getattr__(self, name: str) -> object:
        """Fill the column: what is asked for is not there yet."""
        if name not in _LATE:
            raise AttributeError(name)
        with _filling:
            if (values := self._waiting) is not None:
                jobs = self.jobs
                filled = Column()
                filled.extend([*jobs], values)
                for late in _LATE:
                    setattr(self, late, getattr(filled, late))
                self._waiting = None
        return object.__getattribute__(self, name)

    def _clear(self) -> None:
        self.single = BitMap()
        self.values: list[Json] = []
        self.ints: dict[int, int] = {}
        self.floats: dict[float, int] = {}
        self.strs: dict[str, int] = {}
        self.texts: dict[str, int] = {}
        self.one = array("i")
        self.shared: dict[int, BitMap] = {}
        self._codes: dict[int, int] | array[int] = {}  # job -> code
        self._free: list[int] = []
        self._twins = 0  # values less classes of values that a query calls equal
        self._classes: dict[object, list[int]] = {}  # equality key -> codes, of lists only
        self._order: _Order | None = None

    # Changes

    def put(self, job: int, value: Json) -> None:
        """Give *job*, which has none, a value. O(log values)."""
        code = self._intern(value)
        held = self.one[code]
        if held == _FREE:
            self.one[code] = job
            self.single.add(job)
        elif held == _SHARED:
            self.shared[code].add(job)
        else:
            self.shared[code] = BitMap((held, job))
            self.one[code] = _SHARED
            self.single.discard(held)
        self.jobs.add(job)
        self._room()[job] = code

    def extend(self, jobs: Sequence[int], values: Sequence[Json]) -> None:
        """Give each of *jobs*, which have none and are all different, the value at the same place of *values*.

        Complexity: about 0.3 µs a value, where `put` takes 2.
        """
        codes = self._intern_all(values)
        if isinstance(codes, range):
            self.one[codes.start : codes.stop] = array("i", jobs)
            self.single.update(jobs)
        elif 4 * len(set(codes)) > len(codes):
            self._post_rare(jobs, codes)
        else:
            groups: defaultdict[int, list[int]] = defaultdict(list)
            for job, code in zip(jobs, codes, strict=True):
                groups[code].append(job)
            for code, group in groups.items():
                self._post(code, group)
        self.jobs.update(jobs)
        held = self._room()
        if isinstance(codes, range) and isinstance(held, array):
            start, stop = jobs[0], jobs[0] + len(jobs)
            if [*jobs] == [*range(start, stop)]:  # as where all jobs have a value of their own
                held[start:stop] = array(held.typecode, codes)
                return
        for job, code in zip(jobs, codes, strict=True):
            held[job] = code

    def adopt(self, values: Sequence[Json], postings: Sequence[BitMap]) -> None:
        """Begin with *values*, all different, and the jobs of each, none of them empty or meeting another.

        Raises:
            ValueError: they are not so.
        Complexity: O(jobs), about 40 ns each.
        """
        self.jobs = BitMap.union(BitMap(), *postings)
        codes = [*map(self._intern, values)]
        if codes != [*range(len(values))] or sum(map(len, postings)) != len(self.jobs) or not all(postings):
            raise ValueError("a value twice, a job with two values, or a value without job")
        for code, posting in enumerate(postings):
            if len(posting) == 1:
                self.one[code] = posting.min()
            else:
                self.one[code] = _SHARED
                self.shared[code] = posting
        self.single = BitMap(job for job in self.one if job >= 0)
        held = self._room()
        for code, posting in enumerate(postings):
            for job in posting:
                held[job] = code

    def take(self, job: int) -> None:
        """Take *job*'s value from it. O(log values)."""
        code = self._codes[job]
        if isinstance(self._codes, dict):
            del self._codes[job]
        else:
            self._codes[job] = _NONE[self._codes.typecode]
        self.jobs.discard(job)
        if self.one[code] == job:
            self.single.discard(job)
            self._release(code)
            return
        posting = self.shared[code]
        posting.discard(job)
        if len(posting) == 1:
            self.one[code] = posting.min()
            self.single.add(posting.min())
            del self.shared[code]

    def _post(self, code: int, jobs: Sequence[int]) -> None:
        held = self.one[code]
        if held == _SHARED:
            self.shared[code].update(jobs)
        elif held == _FREE and len(jobs) == 1:
            self.one[code] = jobs[0]
            self.single.add(jobs[0])
        else:
            posting = BitMap(jobs)
            if held != _FREE:
                posting.add(held)
                self.single.discard(held)
            self.shared[code] = posting
            self.one[code] = _SHARED

    def _post_rare(self, jobs: Sequence[int], codes: Sequence[int]) -> None:
        """Post values that hardly repeat: those that do not, all at once."""
        first = dict(zip(reversed(codes), reversed(jobs), strict=True))
        last = dict(zip(codes, jobs, strict=True))
        one, alone = self.one, []
        repeated: dict[int, list[int]] = {}
        for code, job in first.items():
            if one[code] == _FREE and last[code] == job:
                one[code] = job
                alone.append(job)
            else:
                repeated[code] = []
        if repeated:
            for job, code in zip(jobs, codes, strict=True):
                if code in repeated:
                    repeated[code].append(job)
            for code, group in repeated.items():
                self._post(code, group)
        self.single.update(alone)

    def _intern_all(self, values: Sequence[Json]) -> Sequence[int]:
        """Give the codes of many values, quickly where all are of one usual kind; a range if all are new and differ."""
        kinds = set(map(type, values))
        table: dict[Json, int] | None = None
        twin: object = None  # what may hold values equal to those of the table
        if kinds == {int}:
            table, twin = self.ints, self.floats  # type: ignore[assignment]
        elif kinds == {str}:
            table = self.strs  # type: ignore[assignment]
        elif kinds == {float} and not _has_odd(values):  # type: ignore[arg-type]
            table, twin = self.floats, self.ints  # type: ignore[assignment]
        elif kinds == {bool}:
            codes = {value: self._intern(value) for value in set(values)}
            return [*map(codes.__getitem__, values)]
        if table is None:
            return [*map(self._intern, values)]
        new = [*dict.fromkeys(values)]
        if table:
            new = [value for value in new if value not in table]
        if self._order is None and not self._free and not twin and _MINUS_ZERO not in self.texts:
            start = len(self.values)
            self.values.extend(new)
            self.one.extend(repeat(_FREE, len(new)))
            fresh = range(start, start + len(new))
            table.update(zip(new, fresh, strict=True))
            if len(new) == len(values):
                return fresh
        else:
            for value in new:
                self._intern(value)
        return [*map(table.__getitem__, values)]

    def _intern(self, value: Json) -> int:
        """Give the code of exactly *value*, a new one if it has none."""
        code = self.code(value)
        if code is not None:
            return code
        if self._free:
            code = self._free.pop()
            self.values[code] = value
        else:
            code = len(self.values)
            self.values.append(value)
            self.one.append(_FREE)
        match value:
            case bool() | None:
                self._add_text(code, _text(value))
            case int():
                self._twins += self._has_number(value)
                self.ints[value] = code
                if self._order is not None:
                    self._order.ints.add(value)
            case float() if value == value and not _is_minus_zero(value):
                self._twins += self._has_number(value)
                self.floats[value] = code
                if self._order is not None:
                    self._order.floats.add(value)
            case str():
                self.strs[value] = code
                if self._order is not None:
                    self._order.strs.add(value)
            case _:
                if isinstance(value, float):
                    self._twins += value == value and self._has_number(value)
                else:
                    members = self._classes.setdefault(equality_key(value), [])
                    self._twins += bool(members)
                    members.append(code)
                self._add_text(code, _text(value))
        return code

    def _add_text(self, code: int, text: str) -> None:
        self.texts[text] = code
        if self._order is not None:
            self._order.texts.add(text)

    def _release(self, code: int) -> None:
        """Forget the value of *code*: nobody has it any more."""
        value = self.values[code]
        order = self._order
        match value:
            case bool() | None:
                self._remove_text(_text(value))
            case int():
                del self.ints[value]
                self._twins -= self._has_number(value)
                if order is not None:
                    order.ints.remove(value)
            case float() if value == value and not _is_minus_zero(value):
                del self.floats[value]
                self._twins -= self._has_number(value)
                if order is not None:
                    order.floats.remove(value)
            case str():
                del self.strs[value]
                if order is not None:
                    order.strs.remove(value)
            case _:
                self._remove_text(_text(value))
                if isinstance(value, float):
                    self._twins -= value == value and self._has_number(value)
                else:
                    members = self._classes[equality_key(value)]
                    members.remove(code)
                    self._twins -= bool(members)
                    if not members:
                        del self._classes[equality_key(value)]
        self.values[code] = None
        self.one[code] = _FREE
        self._free.append(code)

    def _remove_text(self, text: str) -> None:
        if self._order is not None:
            self._order.texts.remove(text)
        del self.texts[text]

    def _has_number(self, value: float) -> bool:
        """Whether a number equal to *value* is here."""
        return value in self.ints or value in self.floats or (value == 0 and _MINUS_ZERO in self.texts)

    def _room(self) -> dict[int, int] | array[int]:
        """Give the map from job to code, with room for all of `jobs` and `values`."""
        held = self._codes
        places = self.jobs.max() + 1 if self.jobs else 0
        if isinstance(held, dict):
            if not places or len(self.jobs) * _DENSE < places:
                return held
            dense = _array_of_codes(len(self.values), places)
            for job, code in held.items():
                dense[job] = code
        elif len(self.values) > _NONE[held.typecode]:  # the highest number means that there is none
            none = _NONE[held.typecode]
            dense = _array_of_codes(len(self.values), places)
            for job, code in enumerate(held):
                if code != none:
                    dense[job] = code
        else:
            if places > len(held):
                held.extend(repeat(_NONE[held.typecode], places - len(held)))
            return held
        self._codes = dense
        return dense

    # Single jobs and values

    def code(self, value: Json) -> int | None:
        """Give the code of exactly *value*; None if nobody has it."""
        kind = type(value)
        if kind is int:
            return self.ints.get(value)  # type: ignore[call-overload, no-any-return]
        if kind is str:
            return self.strs.get(value)  # type: ignore[call-overload, no-any-return]
        if kind is float and value == value and value != 0.0:
            return self.floats.get(value)  # type: ignore[call-overload, no-any-return]
        if kind is float and value == 0.0 and not _is_minus_zero(value):
            return self.floats.get(0.0)
        return self.texts.get(_text(value))

    def value_of(self, job: int) -> Json:
        """Give *job*'s value, which it has."""
        return self.values[self._codes[job]]

    def values_of(self, jobs: Iterable[int]) -> list[Json]:
        """Give the values of *jobs*, which have one."""
        return [*map(self.values.__getitem__, map(self._codes.__getitem__, jobs))]

    def has(self, job: int, value: Json) -> bool:
        """Whether *job* has exactly *value*."""
        code = self.code(value)
        return code is not None and job in self.jobs and self._codes[job] == code

    # Sets of jobs

    def posting(self, code: int) -> Selection:
        """Give the jobs that have the value with this code."""
        held = self.one[code]
        return self.shared[code] if held == _SHARED else BitMap((held,))

    def union(self, codes: Iterable[int]) -> Selection:
        """Give the jobs that have one of these values."""
        alone: list[int] = []
        postings: list[BitMap] = []
        for code in codes:
            held = self.one[code]
            if held == _SHARED:
                postings.append(self.shared[code])
            else:
                alone.append(held)
        if len(postings) == 1 and not alone:
            return postings[0]
        return BitMap.union(BitMap(alone), *postings)

    def equal_codes(self, value: Json) -> list[int]:
        """Give the codes of the values that a query calls equal to *value*; NaN is equal to itself here. O(1)."""
        match value:
            case bool() | str() | None:
                found = [self.code(value)]
            case int() | float() if value == value:
                found = [self.ints.get(value), self.floats.get(value)]  # type: ignore[arg-type]
                if value == 0:
                    found.append(self.texts.get(_MINUS_ZERO))
            case int() | float():
                found = [self.texts.get(_NAN)]
            case _:
                found = [*self._classes.get(equality_key(value), ())]
        return [code for code in found if code is not None]

    @property
    def may_have_equals(self) -> bool:
        """Whether values that are equal and not the same are possible: numbers of both types, or lists."""
        if self._waiting is not None:
            return False  # of one kind, and no lists
        return bool(self._classes) or (bool(self.ints) + bool(self.floats) + (_MINUS_ZERO in self.texts) > 1)

    def numbers_between(self, low: float, high: float, inclusive: tuple[bool, bool] = (True, True)) -> Iterable[int]:
        """Give the codes of all numbers from *low* to *high*. O(log values + their number)."""
        order = self._ordered()
        ints = map(self.ints.__getitem__, order.ints.irange(low, high, inclusive))
        floats = map(self.floats.__getitem__, order.floats.irange(low, high, inclusive))
        zeros = [self.texts[_MINUS_ZERO]] if _MINUS_ZERO in self.texts and _is_within(0, low, high, inclusive) else ()
        return chain(ints, floats, zeros)

    def strings_between(
        self, low: str | None, high: str | None, inclusive: tuple[bool, bool] = (True, True)
    ) -> Iterable[int]:
        """Give the codes of all strings from *low* to *high*; None: no limit."""
        return map(self.strs.__getitem__, self._ordered().strs.irange(low, high, inclusive))

    def codes(self, selection: Selection | None = None) -> Iterable[int]:
        """Give the codes in use, or those of some of *selection*, each once."""
        if selection is None or is_subset(self.jobs, selection):
            return chain(self.ints.values(), self.floats.values(), self.strs.values(), self.texts.values())
        few = selection & self.jobs
        if self._is_few(few):
            return set(map(self._codes.__getitem__, few))
        meets = selection.intersect
        shared = [code for code, posting in self.shared.items() if meets(posting)]
        return chain(shared, map(self._codes.__getitem__, self.single & selection))

    def _is_few(self, selection: Selection) -> bool:
        """Whether it is quicker to look at each job of *selection* than at each shared value."""
        return len(selection) < max(len(self.shared), min(_MEET_COST * len(self.shared), _FEW))

    def __len__(self) -> int:
        """Count the exact values."""
        return len(self.values) - len(self._free)

    def count(self, selection: Selection) -> int:
        """Count the classes of equal values among *selection*. O(1) for all jobs, else O(shared values)."""
        if is_subset(self.jobs, selection):
            return self._distinct if self._waiting is not None else len(self) - self._twins
        if self._twins:
            return len(self.distinct(selection))
        few = selection & self.jobs
        if self._is_few(few):
            return len(set(map(self._codes.__getitem__, few)))
        meets = selection.intersect
        return int(self.single.intersection_cardinality(selection)) + sum(map(meets, self.shared.values()))

    def is_constant(self, selection: Selection) -> bool:
        """Tell whether all of *selection* have one and the same exact value. O(1) in jobs, but for a set comparison."""
        if not selection or selection.min() not in self.jobs:
            return False
        if self._waiting is not None and len(selection) > len(self.jobs) - self._distinct + 1:
            return False  # more than can share a value
        posting = self.posting(self._codes[selection.min()])
        return is_subset(selection, posting)

    def distinct(self, selection: Selection) -> list[Json]:
        """Give one value of each class of equal values that some of *selection* have, in the order of ``order_key``.

        The value stands for its class, whichever of the jobs have which of its members: the same name always.

        Complexity: O(v) in the values v of the column where they are asked for often, else O(v log v) in the
        values found.
        """
        if (rare := self._waiting) is not None and len(few := selection & self.jobs) < _FEW_WAITING:
            place = self.jobs.rank
            return sorted({rare[place(job) - 1] for job in few})  # type: ignore[type-var]
        if self._twins:
            return self._distinct_classes(selection)
        whole = is_subset(self.jobs, selection)
        for table, name in ((self.ints, "ints"), (self.floats, "floats"), (self.strs, "strs")):
            if len(table) == len(self):  # all of one kind, which sorts by nature
                if whole:
                    return [*getattr(self._ordered(), name)]
                return sorted(map(self.values.__getitem__, self.codes(selection)))  # type: ignore[type-var]
        if whole:
            return [*map(self.values.__getitem__, self._in_order())]
        return sorted(map(self.values.__getitem__, self.codes(selection)), key=order_key)

    def text_length(self) -> int:
        """Sum the lengths of all jobs' values as JSON text, in characters. About 0.3 µs a value, whoever shares it."""
        if (rare := self._waiting) is not None:
            return _text_length(rare)
        values = self.values
        total = _text_length([values[code] for code, held in enumerate(self.one) if held >= 0])
        return total + sum(len(_canonical(values[code])) * len(jobs) for code, jobs in self.shared.items())

    def _distinct_classes(self, selection: Selection) -> list[Json]:
        groups = {equality_key(self.values[code]) for code in self.codes(selection)}
        seen = set()
        result = []
        for code in self._in_order():
            group = equality_key(self.values[code])
            if group in groups and group not in seen:
                seen.add(group)
                result.append(self.values[code])
        return result

    def _in_order(self) -> Iterator[int]:
        """Give all codes in the order of their values."""
        order = self._ordered()
        odd = [text for text in (_MINUS_ZERO, _NAN) if text in self.texts]
        yield from map(self.texts.__getitem__, (text for text in order.texts if text in _BEFORE_NUMBERS))
        if odd or (self.ints and self.floats):
            every = chain(self.ints.values(), self.floats.values(), map(self.texts.__getitem__, odd))
            yield from sorted(every, key=lambda code: order_key(self.values[code]))
        else:
            yield from map(self.ints.__getitem__, order.ints)
            yield from map(self.floats.__getitem__, order.floats)
        yield from map(self.strs.__getitem__, order.strs)
        yield from map(self.texts.__getitem__, (text for text in order.texts if text not in _NOT_LAST))

    def _ordered(self) -> _Order:
        if self._order is None:
            self._order = _Order(self)
        return self._order

    # For Index.check

    def contents(self) -> Mapping[str, Selection]:
        """Give kind and JSON text of each value -> jobs, for comparison by ``Index.check``."""
        return {json.dumps(self.values[code], sort_keys=True): self.posting(code) for code in self.codes()}

    def check(self) -> None:
        """Assert that all that is kept twice agrees."""
        codes = [*self.codes()]
        assert len(codes) == len(set(codes)) == len(self)
        assert set(self._free) == {code for code, held in enumerate(self.one) if held == _FREE}
        assert len(self.values) == len(self.one)
        assert self.shared.keys() == {code for code, held in enumerate(self.one) if held == _SHARED}
        assert all(len(posting) > 1 for posting in self.shared.values())
        assert self.single == BitMap(held for held in self.one if held >= 0)
        total = 0
        for code in codes:
            assert self.code(self.values[code]) == code
            for job in self.posting(code):
                assert self._codes[job] == code
                total += 1
        assert total == len(self.jobs)
        assert self.jobs == BitMap.union(BitMap(), *map(self.posting, codes))
        if not isinstance(self._codes, dict):
            none = _NONE[self._codes.typecode]
            assert all((code == none) == (job not in self.jobs) for job, code in enumerate(self._codes))
        else:
            assert set(self._codes) == set(self.jobs)
        assert len({equality_key(self.values[code]) for code in codes}) == len(self) - self._twins
        if self._order is not None:
            assert list(self._order.ints) == sorted(self.ints)
            assert list(self._order.floats) == sorted(self.floats)
            assert list(self._order.strs) == sorted(self.strs)
            assert sorted(self._order.texts) == sorted(self.texts)


def _text(value: Json) -> str:
    """Spell a value so that two are spelled alike exactly if they are the same: JSON with sorted keys, or quicker."""
    if type(value) is list:
        text = repr(value)
        if "{" not in text:
            return text
    return _canonical(value)


def _text_length(values: Sequence[Json]) -> int:
    total = 0
    for start in range(0, len(values), _TOGETHER):
        some = values[start : start + _TOGETHER]
        total += len(_canonical(some)) - len(", ") * len(some)  # as many as there are commas and brackets
    return total


_LATE: Final = tuple(name for name in Column.__slots__ if name not in ("jobs", "_waiting", "_distinct"))
_filling: Final = threading.Lock()  # one column at a time is filled by a reader

_canonical: Final = json.JSONEncoder(sort_keys=True).encode


def _is_minus_zero(value: float) -> bool:
    return value == 0 and math.copysign(1.0, value) < 0


def _is_within(value: float, low: float, high: float, inclusive: tuple[bool, bool]) -> bool:
    return (low < value or (inclusive[0] and low == value)) and (value < high or (inclusive[1] and value == high))


def _has_odd(values: Sequence[float]) -> bool:
    """Whether NaN or -0.0 is among *values*."""
    total = sum(values)
    return (total != total and any(map(math.isnan, values))) or (0.0 in values and any(map(_is_minus_zero, values)))


def _array_of_codes(codes: int, places: int) -> array[int]:
    """Make an array with room for that many codes and *places* times none in it."""
    kind = next(kind for kind, none in _NONE.items() if codes <= none)
    return array(kind, (_NONE[kind],)) * places
