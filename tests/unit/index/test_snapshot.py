from __future__ import annotations

import random
import struct

import pytest
import xxhash
from pyroaring import BitMap

from sigfs.errors import DamagedStore
from sigfs.index import Index, Table
from sigfs.index.column import Column
from sigfs.index.snapshot import _check_bitmap, dump, parse, read_meta
from sigfs.model.types import ABSENT, Batch, Change, JobId, Json, Record, Stamp
from tests.support.strategies import job_id


def a_table(jobs: int = 60) -> Table:
    """Every encoding: values that repeat or not, mixed, nested, missing, ambiguous; with and without document."""
    mixed: list[Json] = [1, 1.0, True, "1", None, [1, 2], [{"a": float("nan")}], {}, 0.0, -0.0, 2**70, float("nan")]
    rows = []
    for number in range(jobs):
        sp: dict[str, Json] = {
            "n": number % 3,
            "seed": number,
            "x": number / 7,
            "big": 2**40 + number,
            "s": f"s{number}",
        }
        sp["mixed"] = mixed[number % len(mixed)]
        if number % 2:
            sp["a"] = {"b": {"c": number % 5}, "d": "\ud800"}
        if number % 20 == 0:
            sp |= {"a": {"b.c": 1, "b": {"c": 2}}, "huge": 2**80 + number}
        stamp = Stamp(number + 2, number + 3, number) if number % 3 else Stamp(number + 2, ABSENT)
        rows.append((job_id(sp), sp, {"energy": number * 1.5} if number % 3 else {}, stamp))
    rows.append((JobId("f" * 32), None, None, Stamp()))
    index = Index()
    index.load([Batch(sorted(rows, key=lambda row: row[0]), [])])
    return index._table


def write(table: Table) -> bytes:
    return b"".join(dump(table, {"a": "b"}))


def test_what_is_written_is_read_again() -> None:
    table = a_table()
    data = write(table)
    copy, meta = parse(data)
    assert meta == read_meta(data) == {"a": "b"}
    assert copy.contents() == table.contents()
    assert copy.stamped() == table.stamped()
    copy.check()


@pytest.mark.parametrize("jobs", [0, 60])
def test_a_job_that_came_and_went_leaves_nothing(jobs: int) -> None:
    index = Index(a_table(jobs) if jobs else None)
    new = job_id({"new": 1})
    index.apply([Change(new, Record(new, {"new": 1}, {"n": 1}))])
    index.apply([Change(new, None)])
    copy, _ = parse(write(index._table))
    assert copy.contents() == index._table.contents()
    copy.check()


def test_after_changes_too() -> None:
    index = Index(a_table())
    ids = index.ids()
    index.apply([Change(job_id({"new": n}), Record(job_id({"new": n}), {"new": n}, {"n": n})) for n in range(30)])
    index.apply([Change(gone, None) for gone in ids[::4]])
    with index.frozen() as table:
        copy, _ = parse(write(table))
        assert copy.contents() == table.contents()
        assert copy.stamped() == table.stamped()
    changed = Index(copy)
    changed.apply([Change(gone, None) for gone in changed.ids()[::3]])
    changed.check()


def test_without_jobs() -> None:
    assert len(parse(write(Table()))[0]) == 0


def test_what_was_read_counts_the_same_before_and_after_it_is_filled() -> None:
    table = a_table()
    copy, _ = parse(write(table))
    for field in table.fields():
        for jobs in (table.jobs, table.having(field), BitMap((1, 2, 3))):
            assert copy.is_constant(field, jobs) == table.is_constant(field, jobs)
            assert copy.count_values(field, jobs) == table.count_values(field, jobs)
        assert copy.is_constant(field, BitMap((5,))) == table.is_constant(field, BitMap((5,)))
        assert list(map(repr, copy.values(field, copy.jobs))) == list(map(repr, table.values(field, table.jobs)))


@pytest.mark.parametrize("cut", [0, 1, 16, 24, 100, -1, -8, -100])
def test_a_part_of_it_is_refused(cut: int) -> None:
    with pytest.raises(DamagedStore):
        parse(write(a_table())[:cut])


def test_every_flipped_bit_is_noticed() -> None:
    data = write(a_table())
    for place in range(0, len(data), 7):
        broken = bytearray(data)
        broken[place] ^= 1 << place % 8
        with pytest.raises(DamagedStore):
            parse(bytes(broken))


def test_what_somebody_made_up_gives_a_consistent_table_or_is_refused() -> None:
    data = write(a_table())
    chance = random.Random(1)
    refused = 0
    for _ in range(400):
        made_up = bytearray(data[:-8])
        for _ in range(chance.randrange(1, 6)):
            made_up[chance.randrange(len(made_up))] = chance.randrange(256)
        made_up += struct.pack("<Q", xxhash.xxh3_64_intdigest(bytes(made_up)))
        try:
            table, _ = parse(bytes(made_up))
        except DamagedStore:
            refused += 1
        else:
            for record in table.records():
                record.text()
    assert 100 < refused < 400


def test_bitmaps_of_every_kind_pass_and_no_broken_one() -> None:
    chance = random.Random(1)
    kinds = [
        BitMap(),
        BitMap([5]),
        BitMap(chance.sample(range(200_000), 3000), optimize=False),
        BitMap(chance.sample(range(70_000), 30_000), optimize=False),
        BitMap(range(10, 5000)),
        BitMap([*range(70_000), *range(140_000, 150_000), 400_000, 500_000, 600_000]),
    ]
    for bitmap in kinds:
        data = bitmap.serialize()
        _check_bitmap(memoryview(data))
        with pytest.raises(ValueError, match=r"bitmap|multiple of item size"):
            _check_bitmap(memoryview(data[:-1]))
        with pytest.raises(ValueError, match=r"bitmap|multiple of item size"):
            _check_bitmap(memoryview(data + b"\0"))
        for _ in range(200):
            broken = bytearray(data)
            broken[chance.randrange(len(broken))] ^= 1 << chance.randrange(8)
            try:
                _check_bitmap(memoryview(bytes(broken)))
            except ValueError:
                continue
            read = BitMap.deserialize(bytes(broken))
            members = [*read]
            assert members == sorted(set(members))
            assert len(members) == len(read)


@pytest.mark.parametrize("depth", [90, 150, 200])
def test_state_points_as_deep_as_can_be_read_are_read_again(depth: int) -> None:
    sp: dict[str, Json] = {"k": 1}
    for _ in range(depth - 1):
        sp = {"k": sp}
    clashing: dict[str, Json] = {"a.b": 1, "a": {"b": 2}, "k": sp["k"]}
    index = Index()
    index.apply([Change(job_id(each), Record(job_id(each), each)) for each in (sp, clashing)])
    copy, _ = parse(write(index._table))
    assert copy.contents() == index._table.contents()


def test_an_impossible_number_of_values_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    table = a_table()
    monkeypatch.setattr(Column, "__len__", lambda _: 10_000)
    data = write(table)
    monkeypatch.undo()
    with pytest.raises(DamagedStore):
        parse(data)
