"""The table as bytes, and back.

Owned here: the format of the snapshot file. Nothing in it is executed, and nothing is believed: whatever the bytes,
`parse` gives a table or raises ``DamagedStore``.

Layout, little-endian: `MAGIC` (with the version), the length of the header (u64), the header (JSON), the sections one
after the other, xxh3_64 of all before (u64). The header says which sections follow, in the order of `_Writer.add`; a
section is an array of numbers, a bitmap in the portable format of Roaring, or JSON text. Job numbers in it are ranks:
the jobs are in the order of their ids.
"""

from __future__ import annotations

import contextlib
import json
import operator
import struct
import sys
from array import array
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import count, islice
from typing import Final

import xxhash
from pyroaring import BitMap

from sigfs.errors import DamagedStore
from sigfs.index.column import Column
from sigfs.index.numbers import Numbers
from sigfs.index.shapes import NOTHING, Shapes, as_mapping, split
from sigfs.index.table import Table
from sigfs.model.statepoint import ID_LENGTH, load_json
from sigfs.model.types import ABSENT, Json, StatePoint
from sigfs.query.expr import Field, Space

MAGIC: Final = b"sigfs index 1\n\0\0"

_RARE: Final = 2
"""A column with a value for every so many jobs, or more, is written job by job and not value by value."""

_HEAD: Final = struct.Struct("<16sQ")
_HASH: Final = struct.Struct("<Q")
_COOKIE: Final = struct.Struct("<II")
_WITH_RUNS: Final = 12347
_WITHOUT_RUNS: Final = 12346
_ARRAY_LIMIT: Final = 4096  # jobs in a Roaring container above which it is a bitset
_BITSET_BYTES: Final = 8192
_OFFSETS_FROM: Final = 4  # containers from which on a bitmap with runs carries offsets


def dump(table: Table, meta: Mapping[str, Json]) -> list[bytes]:
    """Write *table* as the content of a snapshot file, in pieces.

    Args:
        meta: JSON data to go with it.
    Cost: about 0.5 µs a job, as much again if jobs were added or removed since the table was read.
    """
    out = _Writer()
    order = table.numbers.in_order()
    ranks = None if isinstance(order, range) else dict(zip(order, range(len(order)), strict=True))
    out.add(bytes.fromhex(table.numbers.blob(order)))
    _dump_stamps(out, table, order, ranks)
    spaces = [
        _dump_space(out, table.statepoints, table.statepoint_shapes, order, ranks),
        _dump_space(out, table.documents, table.document_shapes, order, ranks),
    ]
    header = _encode({"meta": meta, "jobs": len(order), "spaces": spaces, "sections": out.lengths})
    head = _HEAD.pack(MAGIC, len(header))
    digest = xxhash.xxh3_64()
    for piece in (head, header, *out.sections):
        digest.update(piece)
    return [head, header, *out.sections, _HASH.pack(digest.intdigest())]


def parse(data: bytes) -> tuple[Table, dict[str, Json]]:
    """Read what `dump` wrote; give the table and what went with it.

    Raises:
        DamagedStore: *data* is not that, or of another version of sigfs; the message says which.
    """
    meta, header, sections = _open(data)
    try:
        return _parse(header, _Reader(sections)), meta
    except (KeyError, IndexError, ValueError, TypeError, OverflowError, AttributeError, AssertionError) as error:
        raise DamagedStore(f"the snapshot contradicts itself: {error!r}") from error


def read_meta(data: bytes) -> dict[str, Json]:
    """Give what went with the table, without reading the table.

    Raises:
        DamagedStore: as `parse`.
    """
    return _open(data)[0]


class _Writer:
    def __init__(self) -> None:
        self.sections: list[bytes] = []
        self.lengths: list[int] = []

    def add(self, section: bytes) -> None:
        self.sections.append(section)
        self.lengths.append(len(section))

    def add_array(self, numbers: array[int] | array[float]) -> None:
        if sys.byteorder == "big":
            numbers = numbers[:]
            numbers.byteswap()
        self.add(numbers.tobytes())

    def add_bitmap(self, jobs: BitMap, ranks: Mapping[int, int] | None = None) -> None:
        self.add((jobs if ranks is None else BitMap([*map(ranks.__getitem__, jobs)], optimize=False)).serialize())

    def add_json(self, value: Json) -> None:
        self.add(_encode(value))


class _Reader:
    def __init__(self, sections: Iterable[memoryview]) -> None:
        self._sections = iter(sections)

    def next(self) -> memoryview:
        section = next(self._sections, None)
        if section is None:
            raise ValueError("too few sections")
        return section

    def array(self, kind: str, count: int | None = None) -> array[int]:
        numbers = array(kind)
        numbers.frombytes(self.next())
        if sys.byteorder == "big":
            numbers.byteswap()
        if count is not None and len(numbers) != count:
            raise ValueError(f"{len(numbers)} numbers where {count} were expected")
        return numbers

    def bitmap(self, jobs: int) -> BitMap:
        section = self.next()
        _check_bitmap(section)
        bitmap = BitMap.deserialize(bytes(section))
        if bitmap and bitmap.max() >= jobs:
            raise ValueError("a job that is not there")
        return bitmap

    def json(self) -> Json:
        return load_json(bytes(self.next()))


def _open(data: bytes) -> tuple[dict[str, Json], dict[str, Json], list[memoryview]]:
    """Check the frame; give meta, header and sections."""
    view = memoryview(data)
    if len(data) < _HEAD.size + _HASH.size or data[: len(MAGIC)] != MAGIC:
        raise DamagedStore("not a snapshot that this version of sigfs reads")
    if xxhash.xxh3_64_intdigest(view[: -_HASH.size]) != _HASH.unpack(view[-_HASH.size :])[0]:
        raise DamagedStore("the snapshot is damaged: its checksum is wrong")
    start = _HEAD.size + _HEAD.unpack_from(data)[1]
    try:
        header = load_json(bytes(view[_HEAD.size : start]))
        assert isinstance(header, dict)
        meta, lengths = header["meta"], header["sections"]
        assert isinstance(meta, dict)
        sections = []
        for length in lengths:
            assert isinstance(length, int)
            assert length >= 0
            sections.append(view[start : start + length])
            start += length
        assert start == len(data) - _HASH.size
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise DamagedStore(f"the snapshot contradicts itself: {error!r}") from error
    return meta, header, sections


def _parse(header: Mapping[str, Json], sections: _Reader) -> Table:
    jobs = header["jobs"]
    assert isinstance(jobs, int)
    blob = sections.next().hex()
    if len(blob) != jobs * ID_LENGTH:
        raise ValueError("another number of ids than of jobs")
    table = Table()
    table.numbers = Numbers(blob)
    ids = [blob[start : start + ID_LENGTH] for start in range(0, len(blob), ID_LENGTH)]
    if not all(map(operator.lt, ids, islice(ids, 1, None))):
        raise ValueError("the ids do not ascend")
    table.stamps = _parse_stamps(sections, jobs)
    spaces = header["spaces"]
    assert isinstance(spaces, list)
    statepoints, documents = spaces
    table.statepoint_shapes = _parse_space(statepoints, sections, table.statepoints, Space.SP, jobs)
    table.document_shapes = _parse_space(documents, sections, table.documents, Space.DOC, jobs)
    table.generation = 1
    return table


# Stamps: of jobs without a document nothing is written but that they have none


def _dump_stamps(out: _Writer, table: Table, order: Sequence[int], ranks: Mapping[int, int] | None) -> None:
    statepoints, documents, contents = table.stamps
    out.add_array(_permuted(statepoints, order, ranks))
    documents, contents = _permuted(documents, order, ranks), _permuted(contents, order, ranks)
    pairs = zip(count(), documents, contents)
    there = BitMap([number for number, stamp, content in pairs if stamp > ABSENT or content])
    out.add_bitmap(BitMap([number for number, stamp in enumerate(documents) if stamp == ABSENT]) - there)
    out.add_bitmap(there)
    out.add_array(array("Q", map(documents.__getitem__, there)))
    out.add_array(array("Q", map(contents.__getitem__, there)))


def _parse_stamps(sections: _Reader, jobs: int) -> tuple[array[int], array[int], array[int]]:
    statepoints = sections.array("Q", jobs)
    documents, contents = array("Q", bytes(8 * jobs)), array("Q", bytes(8 * jobs))
    for number in sections.bitmap(jobs):
        documents[number] = ABSENT
    there = sections.bitmap(jobs)
    for stamps in (documents, contents):
        for number, stamp in zip(there, sections.array("Q", len(there)), strict=True):
            stamps[number] = stamp
    return statepoints, documents, contents


# Spaces


def _dump_space(
    out: _Writer, shapes: Shapes, codes: array[int], order: Sequence[int], ranks: Mapping[int, int] | None
) -> Json:
    """Write what follows; give what the header says of it."""
    ranked = _permuted(codes, order, ranks)
    used = sorted(set(ranked))
    kind = "B" if len(used) <= 0xFF else "I"
    is_dense = used == [*range(len(used))]
    places = dict(zip(used, count(), strict=False))
    out.add_array(array(kind, ranked if is_dense else map(places.__getitem__, ranked)))
    columns = [(field, column) for field, column in shapes.columns.items() if column.jobs]
    out.add_json([[job if ranks is None else ranks[job], _spell(mapping)] for job, mapping in shapes.ambiguous.items()])
    return {
        "shapes": [_spell(as_mapping(shapes.shapes[code].outline)) if code else None for code in used],
        "columns": [[field.key, _dump_column(out, column, ranks)] for field, column in columns],
    }


def _parse_space(said: Json, sections: _Reader, shapes: Shapes, space: Space, jobs: int) -> array[int]:
    assert isinstance(said, dict)
    outlines, columns = said["shapes"], said["columns"]
    assert isinstance(outlines, list)
    assert isinstance(columns, list)
    ranked = sections.array("B" if len(outlines) <= 0xFF else "I", jobs)
    ambiguous = sections.json()
    assert isinstance(ambiguous, list)
    shapes.ambiguous = {job: _mapping(text) for job, text in ambiguous if 0 <= job < jobs}
    for key, encoding in columns:
        assert isinstance(key, str)
        shapes.columns[Field(space, key)] = _parse_column(encoding, sections, jobs)
    # Last: a shape takes the columns that are there.
    numbers = [NOTHING if text is None else shapes.add(split(_mapping(text))[0]) for text in outlines]
    _distribute(shapes, numbers, ranked)
    return array("I", map(numbers.__getitem__, ranked))


def _distribute(shapes: Shapes, numbers: Sequence[int], ranked: array[int]) -> None:
    """Tell who has mappings where, and see that every job has exactly the values that its shape says."""
    groups: defaultdict[int, list[int]] = defaultdict(list)
    for job, code in enumerate(ranked):
        groups[code].append(job)
    expected = {id(column): BitMap() for column in shapes.columns.values()}
    for code, members in groups.items():
        shape = shapes.shapes[numbers[code]]
        jobs = BitMap(members)
        for inner in shape.inner:
            inner |= jobs
        for column in shape.columns:
            expected[id(column)] |= jobs
        if shape.ambiguous and not jobs.issubset(BitMap(shapes.ambiguous)):
            raise ValueError("a mapping is missing")
    if any(expected[id(column)] != column.jobs for column in shapes.columns.values()):
        raise ValueError("a job has other values than keys")


def _spell(mapping: StatePoint) -> str:
    """Spell a mapping apart from what it stands in, with which it would be nested deeper than `load_json` reads."""
    return _encode(mapping).decode("ascii")


def _mapping(text: Json) -> dict[str, Json]:
    assert isinstance(text, str)
    mapping = load_json(text.encode())
    assert isinstance(mapping, dict)
    return mapping


# Columns: value by value with the jobs of each, or, where values hardly repeat, job by job


def _dump_column(out: _Writer, column: Column, ranks: Mapping[int, int] | None) -> str:
    """Write what follows; give the name of its encoding."""
    if len(column) * _RARE > len(column.jobs):
        values = column.values_of(column.jobs if ranks is None else sorted(column.jobs, key=ranks.__getitem__))
        out.add_bitmap(column.jobs, ranks)
        out.add_json(len(column))
        if len(column.floats) == len(column):
            out.add_array(array("d", values))  # type: ignore[type-var, arg-type]
            return "d"
        if len(column.ints) == len(column):
            for kind in ("i", "q"):
                with contextlib.suppress(OverflowError):
                    out.add_array(array(kind, values))  # type: ignore[type-var, arg-type]
                    return kind
        out.add_json(values)
        return "json"
    codes = [*column.codes()]
    out.add_json([*map(column.values.__getitem__, codes)])
    held = [column.one[code] for code in codes]
    out.add_array(array("i", held if ranks is None else [ranks.get(job, job) for job in held]))
    for code in codes:
        if code in column.shared:
            out.add_bitmap(column.shared[code], ranks)
    return "values"


def _parse_column(encoding: Json, sections: _Reader, jobs: int) -> Column:
    column = Column()
    if encoding != "values":
        assert encoding in ("d", "i", "q", "json")
        there = sections.bitmap(jobs)
        distinct = sections.json()
        assert isinstance(distinct, int)
        assert bool(there) <= distinct <= len(there)
        if encoding == "json":
            values = sections.json()
            assert isinstance(values, list)
        else:
            values = sections.array(str(encoding)).tolist()
        if len(values) != len(there):
            raise ValueError("another number of values than of jobs")
        if encoding == "json":
            column.extend([*there], values)
            return column
        return Column(there, values, distinct)
    values = sections.json()
    assert isinstance(values, list)
    held = sections.array("i", len(values))
    if held and max(held) >= jobs:
        raise ValueError("a job that is not there")
    column.adopt(values, [sections.bitmap(jobs) if job < 0 else BitMap((job,)) for job in held])
    return column


def _permuted(numbers: array[int], order: Sequence[int], ranks: Mapping[int, int] | None) -> array[int]:
    if ranks is None:  # what is behind is of jobs that are gone
        return numbers if len(numbers) == len(order) else numbers[: len(order)]
    return array(numbers.typecode, map(numbers.__getitem__, order))


# Bitmaps: Roaring trusts what it is given, so what comes from a file is looked through first


def _check_bitmap(data: memoryview) -> None:
    """See that *data* is a well-formed bitmap.

    Raises:
        ValueError: it is not.
    Source: the format specification of Roaring.
    """
    cookie, count = _COOKIE.unpack_from(data) if len(data) >= _COOKIE.size else (0, 0)
    runs = 0
    if cookie & 0xFFFF == _WITH_RUNS:
        count = (cookie >> 16) + 1
        start = 4 + (count + 7) // 8
        runs = int.from_bytes(data[4:start], "little")
    elif cookie == _WITHOUT_RUNS:
        start = _COOKIE.size
    else:
        raise ValueError("no bitmap")
    heads = _shorts(data[start : start + 4 * count])
    start += 4 * count
    if cookie == _WITHOUT_RUNS or count >= _OFFSETS_FROM:
        start += 4 * count
    if len(heads) != 2 * count or not _ascends(heads[::2]):
        raise ValueError("a bitmap with broken containers")
    for place, jobs in enumerate(heads[1::2]):
        if runs >> place & 1:
            stop = start + 2 + 4 * int.from_bytes(data[start : start + 2], "little")
            pairs = _shorts(data[start + 2 : stop])
            ends = [first + length for first, length in zip(pairs[::2], pairs[1::2], strict=True)]
            good = bool(ends) and ends[-1] <= 0xFFFF and all(a + 1 < b for a, b in zip(ends, pairs[2::2], strict=False))
            good = good and sum(pairs[1::2]) + len(ends) == jobs + 1
        elif jobs < _ARRAY_LIMIT:
            stop = start + 2 * (jobs + 1)
            good = _ascends(_shorts(data[start:stop]))
        else:
            stop = start + _BITSET_BYTES
            good = int.from_bytes(data[start:stop], "little").bit_count() == jobs + 1
        if not good or stop > len(data):
            raise ValueError("a bitmap with a broken container")
        start = stop
    if start != len(data):
        raise ValueError("a bitmap of another length")


def _shorts(data: memoryview) -> array[int]:
    numbers = array("H")
    numbers.frombytes(data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def _ascends(numbers: array[int]) -> bool:
    return all(map(operator.lt, numbers, islice(numbers, 1, None)))


def _encode(value: Json) -> bytes:
    return json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode("ascii")
