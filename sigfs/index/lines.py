"""All jobs as lines of JSON, by ascending id, and how long that is before it is spelled.

Owned here: the shape of a line. ``{"id": ..., "sp": ..., "doc": ...}`` in ASCII; the text of the state point is the
one that signac hashes. Without ``doc`` where documents are not wanted, or the job's is not known.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from sigfs.index.shapes import NOTHING, as_mapping
from sigfs.model.statepoint import ID_LENGTH
from sigfs.model.types import JobId, Record, StatePoint

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterator

    from sigfs.index.shapes import Shapes
    from sigfs.index.table import Table

canonical = json.JSONEncoder(sort_keys=True).encode
"""Spells a value as signac does the state point that it hashes."""

_EMPTY: Final = len('{"id": "", "sp": }\n') + ID_LENGTH
_DOCUMENT: Final = len(', "doc": ')


class Length(NamedTuple):
    """How many bytes lines have: without documents, and what documents add."""

    statepoints: int
    documents: int

    def of(self, *, documents: bool) -> int:
        """Give the length with documents or without."""
        return self.statepoints + self.documents if documents else self.statepoints


def line(job_id: JobId, statepoint: StatePoint | None, document: StatePoint | None = None) -> str:
    r"""Spell one job.

    >>> line(JobId("0300c31b9d55c0196b3848d252e46c0f"), {"foo": 42}, {"done": True})
    '{"id": "0300c31b9d55c0196b3848d252e46c0f", "sp": {"foo": 42}, "doc": {"done": true}}\n'
    """
    said = "" if document is None else f', "doc": {canonical(document)}'
    return f'{{"id": "{job_id}", "sp": {canonical(statepoint)}{said}}}\n'


def length(record: Record) -> Length:
    """Give the length of one line."""
    return Length(
        _EMPTY + len(canonical(record.statepoint)),
        0 if record.document is None else _DOCUMENT + len(canonical(record.document)),
    )


def total_length(table: Table) -> Length:
    """Give the length of all lines. About 0.3 µs for each value that no two jobs share, 2 µs for others."""
    statepoints, without = _mappings(table.statepoints, table.statepoint_shapes, len(table))
    documents, undocumented = _mappings(table.documents, table.document_shapes, len(table))
    return Length(
        _EMPTY * len(table) + statepoints + len("null") * without,
        documents + _DOCUMENT * (len(table) - undocumented),
    )


def lines_after(table: Table, job_id: str, count: int, *, documents: bool) -> Iterator[tuple[JobId, str]]:
    """Yield the next *count* jobs behind the id *job_id* ("": from the first on), each with its line.

    Complexity: O(log jobs), and some 5 µs a job.
    """
    statepoints, shapes = table.statepoints, table.statepoint_shapes
    for each, number in table.numbers.following(job_id, count):
        document = table.documents.rebuild(table.document_shapes[number], number) if documents else None
        yield each, line(each, statepoints.rebuild(shapes[number], number), document)


def _mappings(shapes: Shapes, codes: array[int], jobs: int) -> tuple[int, int]:
    """Give the length of the mappings of all jobs, and how many of *jobs* have none."""
    total = sum(column.text_length() for column in shapes.columns.values())
    for number, mapping in shapes.ambiguous.items():  # what the columns say of it is not what it is
        columns = set(shapes.shapes[codes[number]].columns)
        total += len(canonical(mapping)) - sum(len(canonical(column.value_of(number))) for column in columns)
    counts = Counter(codes)
    del counts[NOTHING]  # that of numbers that are not in use, too
    for code, count in counts.items():
        shape = shapes.shapes[code]
        if not shape.ambiguous:
            total += count * (len(canonical(as_mapping(shape.outline))) - len("null") * len(shape.columns))
    return total, jobs - counts.total()
