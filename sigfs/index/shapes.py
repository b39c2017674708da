"""What a mapping looks like without its values: its keys, in order, and how they nest.

Owned here: ``Shapes``. The jobs of a project share few shapes; shape and values together give the mapping back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from pyroaring import BitMap

from sigfs.index.column import Column
from sigfs.model.types import Json, StatePoint
from sigfs.query.evaluate import inner_keys
from sigfs.query.expr import Field, Space
from sigfs.query.values import flatten

Outline: TypeAlias = tuple[object, ...]
"""The keys of a mapping in order; in place of a key that has a mapping with keys, the pair (key, its outline)."""

NOTHING: Final = 0
"""The shape of no mapping at all: a state point that is null, a document that was not read."""


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """One shape.

    Attributes:
        columns: where the values of the leaves are, in the order in which the leaves come.
        inner: the jobs that have a mapping with keys, one set for each such field below the top.
        ambiguous: two leaves have the same field (a key with a point in it): the values cannot tell them apart.
    """

    outline: Outline
    columns: tuple[Column, ...]
    inner: tuple[BitMap, ...]
    ambiguous: bool


class Shapes:
    """The shapes and columns of one space.

    Attributes:
        columns: field -> its values. A column without jobs stays: shapes refer to it.
        inner: field -> the jobs that have a mapping with deeper keys there.
        shapes: by number; the first is that of `NOTHING`.
        ambiguous: job -> its mapping, where values and shape do not give it back.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self._codes: dict[Outline, int] = {}
        self.columns: dict[Field, Column] = {}
        self.inner: dict[Field, BitMap] = {}
        self.shapes = [Shape((), (), (), ambiguous=False)]
        self.ambiguous: dict[int, StatePoint] = {}

    def code(self, outline: Outline) -> int:
        """Give the number of the shape with this outline. O(keys)."""
        code = self._codes.get(outline)
        return self.add(outline) if code is None else code

    def add(self, outline: Outline) -> int:
        """Number one more shape."""
        template = as_mapping(outline)
        leaves = [Field(self._space, key) for key, _ in flatten(template)]
        inner = dict.fromkeys(Field(self._space, key) for key in inner_keys(template))
        code = self._codes[outline] = len(self.shapes)
        self.shapes.append(
            Shape(
                outline,
                tuple(self.columns.setdefault(field, Column()) for field in leaves),
                tuple(self.inner.setdefault(field, BitMap()) for field in inner),
                ambiguous=len(set(leaves)) < len(leaves),
            )
        )
        return code

    def rebuild(self, code: int, job: int) -> StatePoint | None:
        """Give the mapping of *job*, which has that shape. O(keys), about 0.5 µs each."""
        if code == NOTHING:
            return None
        shape = self.shapes[code]
        if shape.ambiguous:
            return self.ambiguous[job]
        return _fill(shape.outline, iter([column.value_of(job) for column in shape.columns]))

    def rebuild_many(self, codes: Sequence[int], jobs: Sequence[int]) -> list[StatePoint | None]:
        """Give the mappings of many *jobs*, of the caller's own.

        Args:
            codes: the shape of each, parallel to *jobs*.
        Complexity: O(keys), about 0.1 µs each.
        """
        found: list[StatePoint | None] = [None] * len(jobs)
        by_shape: dict[int, list[int]] = {}
        for k, code in enumerate(codes):
            by_shape.setdefault(code, []).append(k)
        for code, places in by_shape.items():
            if code == NOTHING:
                continue
            shape, members = self.shapes[code], [jobs[k] for k in places]
            if shape.ambiguous:
                mappings = [_own(self.ambiguous[job]) for job in members]
            else:
                leaves = iter([_own_all(column.values_of(members)) for column in shape.columns])
                mappings = _fill_many(shape.outline, leaves, len(members))
            for k, mapping in zip(places, mappings, strict=True):
                found[k] = mapping
        return found


def split(mapping: Mapping[str, Json]) -> tuple[Outline, list[Json]]:
    """Give the outline of a mapping and the values of its leaves, in the order of the shape's columns."""
    values = [*mapping.values()]
    if dict not in map(type, values):
        return tuple(mapping), values
    outline: list[object] = []
    leaves: list[Json] = []
    for key, value in mapping.items():
        if type(value) is dict and value:
            below, values = split(value)
            outline.append((key, below))
            leaves += values
        else:
            outline.append(key)
            leaves.append(value)
    return tuple(outline), leaves


def as_mapping(outline: Outline) -> dict[str, Json]:
    """Give the mapping of that outline in which every leaf is null."""
    return {key: None if below is None else as_mapping(below) for key, below in map(_pair, outline)}


def _pair(item: object) -> tuple[str, Outline | None]:
    if isinstance(item, str):
        return item, None
    assert isinstance(item, tuple)
    return item


def _fill(outline: Outline, values: Iterator[Json]) -> dict[str, Json]:
    result: dict[str, Json] = {}
    for item in outline:
        if isinstance(item, str):
            result[item] = next(values)
        else:
            key, below = _pair(item)
            result[key] = _fill(below or (), values)
    return result


def _fill_many(outline: Outline, leaves: Iterator[list[Json]], count: int) -> list[dict[str, Json]]:
    """As `_fill`, column by column."""
    keys: list[str] = []
    columns: list[Sequence[Json]] = []
    for key, below in map(_pair, outline):
        keys.append(key)
        columns.append(next(leaves) if below is None else _fill_many(below, leaves, count))
    if not keys:
        return [{} for _ in range(count)]
    return [dict(zip(keys, row, strict=True)) for row in zip(*columns, strict=True)]


def _own_all(values: list[Json]) -> list[Json]:
    return list(map(_own, values)) if not {list, dict}.isdisjoint(map(type, values)) else values


def _own(value: Any) -> Any:
    """A deep copy: what the columns have is no caller's."""
    if isinstance(value, dict):
        return {key: _own(item) for key, item in value.items()}
    return [_own(item) for item in value] if isinstance(value, list) else value
