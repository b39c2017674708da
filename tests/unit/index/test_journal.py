"""The journal: what is appended is read back; what is torn or foreign ends it."""

from __future__ import annotations

import errno
import json
import logging
import math
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigfs.index import journal as journals
from sigfs.index.journal import HEADER_BYTES, Journal, decode, encode, read
from sigfs.model.types import UNKNOWN, Change, JobId, Record, Stamp


def job(number: int) -> JobId:
    return JobId(f"{number:032x}")


def change(number: int, **statepoint: object) -> Change:
    return Change(job(number), Record(job(number), statepoint, {}, Stamp(2, 1, 0)))


def texts(changes: list[Change]) -> list[tuple[str, str | None, Stamp | None]]:
    """Spell changes so that 1, 1.0 and true differ and NaN equals itself."""
    return [(c.id, c.record and c.record.text(), c.record and c.record.stamp) for c in changes]


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters() | st.characters(categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
mappings = st.none() | st.dictionaries(st.text(max_size=4), values, max_size=4)
numbers = st.integers(0, 2**64 - 1)
changes = st.builds(
    lambda number, gone, sp, doc, stamp: Change(job(number), None if gone else Record(job(number), sp, doc, stamp)),
    st.integers(0, 3),
    st.booleans(),
    mappings,
    mappings,
    st.none() | st.builds(Stamp, numbers, numbers, numbers),
)


@given(st.lists(changes, max_size=4))
def test_a_payload_says_exactly_what_was_said(said: list[Change]) -> None:
    payload = encode(said)
    assert texts(decode(payload)) == texts(said)
    json.loads(payload)  # it is JSON text, to others too


@pytest.mark.parametrize(
    "value", [math.nan, -math.inf, 2**64, -(2**63) - 1, 10**40, "\ud800", -0.0, 1e22, "null", None]
)
def test_values_that_the_fast_writer_cannot_spell_are_kept(value: object) -> None:
    said = [change(1, x=value, y=[None, {"z": value}])]
    assert texts(decode(encode(said))) == texts(said)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"7",
        b"{}",
        b"[7]",
        b'["' + b"0" * 32 + b'"]',
        b"[[]]",
        b'[["x"]]',
        b'[["' + b"0" * 32 + b'", {}, {}]]',
        b'[["' + b"0" * 32 + b'", [], {}, null]]',
        b'[["' + b"0" * 32 + b'", {}, {}, [1, 2]]]',
        b'[["' + b"0" * 32 + b'", {}, {}, [1, 2, -1]]]',
        b' [["' + b"0" * 32 + b'", {}, {}, [1, 2, 18446744073709551616]]]',
        b" " + b"[" * 100_000,
    ],
)
def test_a_payload_of_another_shape_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any
        decode(text)


def test_appended_changes_are_read_in_order(directory: int, tmp_path: Path) -> None:
    journal = Journal.create(directory)
    journal.append([change(1, a=1), change(2, a=1)])
    journal.append([Change(job(1), None)])
    journal.append([change(n, b=n) for n in range(10, 3000)])
    journal.close()
    found = read(Path(tmp_path, journal.name).read_bytes(), journal.name)
    assert found.records == journal.records == 5
    assert found.end == journal.end == os.stat(tmp_path / journal.name).st_size
    (batch,) = found.batches
    assert texts(batch)[:2] == texts([Change(job(1), None), change(2, a=1)])
    assert len(batch) == 2992
    assert os.stat(tmp_path / journal.name).st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "later",
    [
        Record(job(1), {"a": 2}, None, Stamp(3, 3, 3)),
        Record(job(1), {"a": 2}, {}, None),
        Record(job(1), {"a": 2}, {}, Stamp(3, UNKNOWN, 0)),
    ],
)
def test_a_change_that_leaves_something_as_it_was_does_not_hide_the_one_before(
    directory: int, tmp_path: Path, later: Record
) -> None:
    journal = Journal.create(directory)
    first = Change(job(1), Record(job(1), {"a": 1}, {"d": 1}, Stamp(2, 2, 2)))
    journal.append([first])
    journal.append([Change(job(1), later)])
    journal.close()
    found = read(Path(tmp_path, journal.name).read_bytes(), journal.name)
    assert [texts(batch) for batch in found.batches] == [texts([first]), texts([Change(job(1), later)])]


def test_every_beginning_of_a_journal_is_its_whole_records(directory: int, tmp_path: Path) -> None:
    journal = Journal.create(directory)
    ends = [journal.end]
    for number in range(4):
        journal.append([change(number, x="y" * number)])
        ends.append(journal.end)
    journal.close()
    data = Path(tmp_path, journal.name).read_bytes()
    for size in range(HEADER_BYTES, len(data) + 1):
        found = read(data[:size], journal.name)
        assert found.end == max(end for end in ends if end <= size)
        assert found.records == ends.index(found.end)
    for size in range(HEADER_BYTES):
        with pytest.raises(ValueError, match="not a journal"):
            read(data[:size], journal.name)


def test_a_flipped_bit_ends_a_journal_where_it_is(directory: int, tmp_path: Path) -> None:
    journal = Journal.create(directory)
    ends = [journal.end]
    for number in range(3):
        journal.append([change(number, x=number)])
        ends.append(journal.end)
    journal.close()
    data = Path(tmp_path, journal.name).read_bytes()
    for place in range(HEADER_BYTES, len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 1 << place % 8
        found = read(bytes(damaged), journal.name)
        assert found.end == max(end for end in ends if end <= place)
    for place in range(HEADER_BYTES):
        damaged = bytearray(data)
        damaged[place] ^= 1
        with pytest.raises(ValueError, match="not a journal"):
            read(bytes(damaged), journal.name)


def test_records_of_another_journal_are_not_believed(directory: int, tmp_path: Path) -> None:
    one, two = Journal.create(directory), Journal.create(directory)
    two.append([change(1)])
    data = Path(tmp_path, one.name).read_bytes() + Path(tmp_path, two.name).read_bytes()[HEADER_BYTES:]
    assert read(data, one.name).records == 0
    one.close()
    two.close()


def test_resuming_cuts_a_torn_tail_and_goes_on(directory: int, tmp_path: Path) -> None:
    journal = Journal.create(directory)
    journal.append([change(1)])
    journal.close()
    path = tmp_path / journal.name
    with open(path, "ab") as file:
        file.write(b"\x50\0\0\0torn")
    again = Journal.resume(directory, journal.name, journal.end, 1)
    assert again is not None
    assert path.stat().st_size == journal.end
    again.append([change(2)])
    again.close()
    assert read(path.read_bytes(), journal.name).records == again.records == 2


def test_a_journal_that_somebody_went_on_with_is_not_resumed(directory: int, tmp_path: Path) -> None:
    journal = Journal.create(directory)
    end = journal.end
    journal.append([change(1)])
    journal.close()
    assert Journal.resume(directory, journal.name, end, 0) is None
    assert read((tmp_path / journal.name).read_bytes(), journal.name).records == 1
    os.truncate(tmp_path / journal.name, 3)
    assert Journal.resume(directory, journal.name, end, 0) is None


def test_a_failing_append_leaves_the_last_whole_record(
    directory: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal.create(directory)
    journal.append([change(1)])
    with monkeypatch.context() as patch:
        write = os.write
        patch.setattr(journals.os, "write", lambda fd, data: write(fd, data[:7]))
        with caplog.at_level(logging.WARNING):
            journal.append([change(2)])
            journal.append([change(2)])
    assert len(caplog.records) == 1
    assert (tmp_path / journal.name).stat().st_size == journal.end
    journal.append([change(3)])
    journal.close()
    assert not journal.broken
    assert [c.id for c in read((tmp_path / journal.name).read_bytes(), journal.name).batches[0]] == [job(1), job(3)]


def test_a_journal_that_cannot_be_mended_is_given_up(
    directory: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal.create(directory)
    journal.append([change(1)])

    def fail(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(journals.os, "write", fail)
        patch.setattr(journals.os, "ftruncate", fail)
        journal.append([change(2)])
    assert journal.broken
    journal.append([change(3)])
    journal.close()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert read((tmp_path / journal.name).read_bytes(), journal.name).records == 1


def test_what_has_no_form_in_json_is_left_out(directory: int, caplog: pytest.LogCaptureFixture) -> None:
    journal = Journal.create(directory)
    journal.append([change(1, x=object())])
    journal.append([change(2)])
    journal.close()
    assert journal.records == 1
    assert len(caplog.records) == 1


def test_a_synchronised_journal_is_one(directory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    monkeypatch.setattr(journals.os, "fdatasync", synced.append)
    journal = Journal.create(directory, sync=True)
    journal.append([change(1)])
    journal.close()
    assert len(synced) == 1
