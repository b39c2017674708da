"""What the lines of a sidecar say, also when somebody has torn or garbled them."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigfs.errors import SidecarError
from sigfs.sidecar.lines import Contents, collect, encode, header, merged, parse, read_header, split
from tests.support.strategies import job_id, statepoints

HEADER = header("md5", "workspace")


def contents(data: bytes) -> Contents:
    return collect(split(data.splitlines(keepends=True), 2, len(HEADER)), Contents({}))


@given(st.lists(statepoints, max_size=6))
@settings(max_examples=60)
def test_what_is_written_is_read_again(points: list[dict[str, object]]) -> None:
    records = [{"id": job_id(point), "sp": point} for point in points]
    data = b"".join(map(encode, records))
    assert data.isascii()
    assert data.count(b"\n") == len(records)
    found = contents(data)
    assert (found.broken, found.torn, found.lines) == ([], False, len(records))
    assert json.dumps(list(found.jobs.values())) == json.dumps(list({each["id"]: each for each in records}.values()))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=8), st.data())
@settings(max_examples=60)
def test_of_a_torn_file_all_that_was_written_to_its_end_is_read(ids: list[int], data: st.DataObject) -> None:
    lines = [encode({"id": str(n), "n": at}) for at, n in enumerate(ids)]
    whole = b"".join(lines)
    cut = data.draw(st.integers(0, len(whole)))
    found = contents(whole[:cut])
    ends = [sum(map(len, lines[: n + 1])) for n in range(len(lines))]
    done = sum(end - 1 <= cut for end in ends)  # all but the end of the line suffices
    expected = {str(n): at for at, n in list(enumerate(ids))[:done]}
    assert {key: record["n"] for key, record in found.jobs.items()} == expected
    assert found.broken == []


@given(st.binary(max_size=30).filter(lambda data: b"\n" not in data), st.integers(0, 2))
@settings(max_examples=60)
def test_a_garbled_line_costs_no_other_one(garbage: bytes, at: int) -> None:
    lines = [encode({"id": str(n)}) for n in range(3)]
    lines.insert(at, b"\x00" + garbage + b"\n")
    found = collect(split(lines, 2, 0), Contents({}))
    assert list(found.jobs) == ["0", "1", "2"]
    assert [number for number, _ in found.broken] == [at + 2]


def test_a_later_line_replaces_what_it_names_and_keeps_what_it_does_not() -> None:
    data = [{"id": "a", "sp": 1, "data": {}, "mine": 7}, {"id": "a", "sp": 2}, {"id": "b"}, {"id": "b", "gone": True}]
    assert contents(b"".join(map(encode, data))).jobs == {"a": {"id": "a", "sp": 2, "data": {}, "mine": 7}}


def test_a_job_that_comes_again_has_nothing_of_before() -> None:
    lines = [{"id": "a", "doc": {"x": 1}}, {"id": "a", "gone": True}, {"id": "a", "sp": 1}]
    assert contents(b"".join(map(encode, lines))).jobs == {"a": {"id": "a", "sp": 1}}
    assert merged(None, {"id": "a", "gone": False}) == {"id": "a", "gone": False}


def test_lines_of_a_kind_that_is_not_known_yet_disturb_nobody() -> None:
    found = contents(b'{"note": 1}\n{"id": 3}\n\n{"id": "a"}\n')
    assert (list(found.jobs), found.broken) == (["a"], [])


@pytest.mark.parametrize("number", [2**63, 2**64, -(2**63) - 1, 2**70, 1795352032729230888, -1])
def test_integers_are_exact(number: int) -> None:
    assert parse(encode({"n": number})) == {"n": number}
    assert type(parse(encode({"n": number}))["n"]) is int


def test_paths_that_are_no_utf_8_and_values_that_are_no_json_elsewhere_come_back() -> None:
    path = os.fsdecode(b"data/\xff\n")
    line = encode({"path": path, "x": float("inf")})
    assert b"\\udcff" in line
    assert parse(line) == {"path": path, "x": float("inf")}


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b'{"format": "sigfs-sidecar"}', b'{"format": "x", "version": 1}'])
def test_what_does_not_begin_as_a_sidecar_is_none(line: bytes) -> None:
    with pytest.raises(SidecarError, match="/p/jobs does not begin as a sidecar does; move it away"):
        read_header(line, "/p/jobs")


def test_a_newer_version_is_refused_and_an_own_one_with_more_in_it_is_not() -> None:
    assert read_header(b'{"format": "sigfs-sidecar", "version": 1, "more": 2}', "")["more"] == 2
    with pytest.raises(SidecarError, match="of version 2, and this sigfs knows 1: use a newer sigfs"):
        read_header(b'{"format": "sigfs-sidecar", "version": 2}', "")
