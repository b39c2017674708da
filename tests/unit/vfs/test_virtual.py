"""The files of ``.sigfs``: one moment for each node, whatever changes meanwhile."""

from __future__ import annotations

import errno
import json
import os
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigfs.index import Index
from sigfs.index.lines import line
from sigfs.model.types import Change, JobId, Record
from sigfs.vfs import virtual
from sigfs.vfs.types import FsError
from sigfs.vfs.virtual import Lines, Pages
from tests.unit.vfs.conftest import World

INDEX = ".sigfs/index.jsonl"


def job_id(number: int) -> JobId:
    return JobId(f"{number:032x}")


def spelled(index: Index, *, documents: bool = False) -> bytes:
    with index.reading() as table:
        records = [table.record(each) for each in sorted(table)]
    return "".join(line(r.id, r.statepoint, r.document if documents else None) for r in records).encode()


def whole(lines: Lines) -> bytes:
    return lines.read(0, lines.size + 100)


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(virtual, "_CHUNK_JOBS", 3)
    monkeypatch.setattr(virtual, "_CHUNKS_KEPT", 2)


mappings = st.dictionaries(st.sampled_from("ab"), st.integers(0, 3) | st.sampled_from(["ü", None, [1.5]]), max_size=2)
jobs = st.integers(0, 15).map(job_id)
additions = st.builds(Record, jobs, mappings, st.none() | mappings).map(lambda record: Change(record.id, record))
changes = st.lists(additions | jobs.map(lambda job: Change(job, None)), max_size=5)


@settings(max_examples=300, deadline=None)
@given(st.data(), st.booleans())
def test_lines_stay_those_of_their_moment_and_as_long_as_said(data: st.DataObject, documents: bool) -> None:
    index = Index()
    pages = Pages(index, 0)
    held: list[tuple[Lines, bytes]] = []
    for _ in range(data.draw(st.integers(1, 5))):
        pages.apply(data.draw(changes), known_only=False)
        lines = pages.lines(documents=documents)
        lines.opened()
        held.append((lines, spelled(index, documents=documents)))
        assert lines.size == len(held[-1][1])
        for then, text in held:
            offset, size = data.draw(st.integers(0, len(text) + 2)), data.draw(st.integers(0, 200))
            part = then.read_nowait(offset, size)
            assert part is None or part == text[offset : offset + size]
            if data.draw(st.booleans()):
                assert then.read(offset, size) == text[offset : offset + size]
    for then, text in held:
        assert whole(then) == text


def test_what_was_read_lately_is_had_at_once() -> None:
    index = Index()
    pages = Pages(index, 0)
    pages.apply([Change(job_id(n), Record(job_id(n), {"n": n})) for n in range(30)], known_only=False)
    lines = pages.lines(documents=False)
    assert lines.read_nowait(0, 10) is None
    text = whole(lines)
    assert text == spelled(index)
    assert lines.read_nowait(len(text) - 10, 20) == text[-10:]
    assert lines.read_nowait(0, 10) is None
    assert lines.read(5, 10) == text[5:15]
    assert lines.read_nowait(0, 10) == text[:10]


def test_lines_of_one_moment_are_one_content() -> None:
    index = Index()
    pages = Pages(index, 0)
    pages.apply([Change(job_id(1), Record(job_id(1), {}))], known_only=False)
    first = pages.lines(documents=False)
    pages.apply([Change(job_id(1), Record(job_id(1), {}))], known_only=False)  # no news
    assert pages.lines(documents=False) is first
    pages.apply([Change(job_id(1), None)], known_only=False)
    assert pages.lines(documents=False) is not first


def test_lines_that_nobody_opened_in_time_are_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    index = Index()
    pages = Pages(index, 0)
    early, late = pages.lines(documents=False), pages.lines(documents=True)
    early.opened()
    monkeypatch.setattr(virtual, "_GRACE_S", 0.0)
    now = virtual.time.monotonic() + 10
    monkeypatch.setattr(virtual.time, "monotonic", lambda: now)
    pages.apply([Change(job_id(1), Record(job_id(1), {}))], known_only=False)
    assert whole(early) == b""
    with pytest.raises(FsError) as error:
        late.opened()
    assert error.value.errno == errno.ESTALE


def test_an_open_file_stays_and_the_name_leads_to_what_is_new(world: World) -> None:
    attrs = world.find(INDEX)
    assert attrs is not None
    operations, inode = world.operations, attrs.inode
    before = world.read_file(inode)
    handle = operations.open(inode, os.O_RDONLY, world.caller)
    operations.apply([world.add(3)])
    again = world.find(INDEX)
    assert again is not None
    assert again.inode != inode
    assert again.stat.st_ino == attrs.stat.st_ino
    assert again.stat.st_mtime_ns > attrs.stat.st_mtime_ns
    assert len(world.read_file(again.inode)) == again.stat.st_size > attrs.stat.st_size
    assert operations.read(handle, 0, 1 << 16) == before
    assert operations.getattr(inode, handle).stat == operations.getattr(inode).stat == attrs.stat
    world.forget_all()
    assert operations.read(handle, 10, 20) == before[10:30]
    operations.check()
    operations.release(handle)
    operations.check()
    assert operations.statistics()["inodes"] == 1


def test_names_of_files_are_not_kept_and_their_nodes_are(world: World) -> None:
    for name in ("index.jsonl", "schema.json", "status.json"):
        attrs = world.find(f".sigfs/{name}")
        assert attrs is not None
        assert attrs.entry_timeout_s == 0
        handle = world.operations.open(attrs.inode, os.O_RDONLY, world.caller)
        assert world.operations.data_cache(handle).may_keep
        assert world.operations.passthrough_fd(handle) is None
        assert world.operations.is_virtual(handle)
        world.operations.release(handle)


def test_the_same_moment_is_the_same_node(world: World) -> None:
    assert world.at(INDEX) == world.at(INDEX)
    assert world.at(".sigfs/schema.json") == world.at(".sigfs/schema.json")
    assert world.at(".sigfs/status.json") == world.at(".sigfs/status.json")


def test_the_status_is_told_anew_when_a_job_came(world: World) -> None:
    first = world.at(".sigfs/status.json")
    world.operations.apply([world.add(3)])
    second = world.at(".sigfs/status.json")
    assert [json.loads(world.read_file(inode))["project_jobs"] for inode in (first, second)] == [2, 3]


def test_documents_are_told_where_they_are_followed(world: World) -> None:
    world.operations.apply([Change(world.job_id(1), Record(world.job_id(1), {"foo": 1}, {"done": True}))])
    world.index.documents = True
    assert b"done" not in world.read_file(world.at(INDEX))
    asked = []
    world.operations.attach_documents(lambda: asked.append(1))
    assert world.find("doc.done/true") is not None  # whoever asks for some has them followed
    del asked[:]
    assert b'"doc": {"done": true}' in world.read_file(world.at(INDEX))
    assert asked
    assert "done" in json.loads(world.read_file(world.at(".sigfs/schema.json")))["doc"]


def test_many_readers_and_a_writer_do_not_disturb_each_other(world: World) -> None:
    operations, wrong = world.operations, []

    def read() -> None:
        for _ in range(30):
            attrs = operations.lookup(sigfs, "index.jsonl", world.caller)
            assert attrs is not None
            handle = operations.open(attrs.inode, os.O_RDONLY, world.caller)
            text = b"".join(operations.read(handle, offset, 50) for offset in range(0, attrs.stat.st_size, 50))
            ids = [json.loads(each)["id"] for each in text.splitlines()]
            if len(text) != attrs.stat.st_size or ids != sorted(set(ids)) or operations.read(handle, len(text), 9):
                wrong.append(text)
            operations.release(handle)
            operations.forget(attrs.inode)

    sigfs = world.at(".sigfs")
    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    number = 10
    while any(thread.is_alive() for thread in threads):
        number += 1
        at = JobId(f"{number % 50:032x}")
        operations.apply([Change(at, Record(at, {"foo": number}) if number % 3 else None)])
    for thread in threads:
        thread.join()
    assert not wrong
    operations.check()


def test_two_who_open_a_file_first_share_what_carries_its_locks(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    operations, made, others = world.operations, [], []
    attrs = operations.lookup(world.at(".sigfs"), "index.jsonl", world.caller)
    assert attrs is not None
    memfd_create = os.memfd_create

    def open_and_close() -> None:
        operations.release(operations.open(attrs.inode, os.O_RDONLY, world.caller))

    def make(name: str) -> int:
        made.append(name)
        if not others:
            others.append(threading.Thread(target=open_and_close))
            others[0].start()
            others[0].join(0.2)  # has to wait for us; if it does not, it makes one of its own
        return memfd_create(name)

    monkeypatch.setattr(os, "memfd_create", make)
    open_and_close()
    others[0].join()
    assert made == ["index.jsonl"]


def test_a_job_has_no_attributes_of_a_state_point_once_it_is_gone(world: World) -> None:
    job = world.job(2)
    world.operations.apply([world.remove(2)])
    assert world.operations.getxattr(job, "user.sigfs.count") == b"0"
    with pytest.raises(FsError) as error:
        world.operations.getxattr(job, "user.sigfs.statepoint")
    assert error.value.errno == errno.ENODATA
