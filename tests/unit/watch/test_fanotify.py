"""Events as bytes, made here and by the kernel."""

from __future__ import annotations

import errno
import os
import select
import struct
from pathlib import Path

import pytest

from sigfs.errors import SigfsError
from sigfs.model.types import JobId
from sigfs.watch import fanotify, handles
from sigfs.watch.fanotify import (
    CLOSE_WRITE,
    CREATE,
    DELETE,
    MOVED_FROM,
    MOVED_TO,
    ONDIR,
    Q_OVERFLOW,
    Event,
    Fanotify,
    parse,
)
from sigfs.watch.handles import JobHandles, handle_of
from sigfs.watch.sources import APPEARED, DOCUMENT, STATEPOINT, VANISHED, NoEvents, Noticed
from tests.support.descriptors import assert_none_left, descriptors
from tests.unit.watch.modes import require_fanotify

JOB = JobId("0123456789abcdef" * 2)
OTHER = JobId("f" * 32)


def record(handle: bytes, name: bytes, kind: int = 2) -> bytes:
    body = bytes(8) + handle + name + b"\0"
    body += bytes(-len(body) % 4)
    return struct.pack("=BBH", kind, 0, 4 + len(body)) + body


def event(mask: int, *records: bytes, pid: int = 7, extra_header: bytes = b"") -> bytes:
    info = b"".join(records)
    header = 24 + len(extra_header)
    return struct.pack("=IBBHQii", header + len(info), 3, 0, header, mask, -1, pid) + extra_header + info


def file_handle(content: bytes) -> bytes:
    return struct.pack("Ii", len(content), 1) + content


def test_events_that_concern_nobody_are_not_taken_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_fanotify(str(tmp_path))
    workspace = tmp_path / "workspace"
    (workspace / JOB).mkdir(parents=True)
    source = Fanotify(str(workspace))
    try:
        assert source.attach()
        source.read(Noticed())
        taken: list[bytes] = []
        monkeypatch.setattr(fanotify, "parse", lambda data: taken.append(data) or parse(data))
        (workspace / JOB / "file").touch()
        source.read(Noticed())
        if taken:  # somebody else on this file system has done something at the same time
            assert any(each.name != b"file" for each in parse(taken[0]))
        (workspace / OTHER).mkdir()
        noticed = Noticed()
        source.read(noticed)
        assert noticed.touched == {OTHER: APPEARED}
    finally:
        source.close()


def test_events_are_taken_apart() -> None:
    first, second = file_handle(b"abcdefgh"), file_handle(b"x" * 13)
    data = event(CREATE, record(first, b"one")) + event(DELETE | ONDIR, record(second, b"a longer name"), pid=0)
    assert list(parse(data)) == [
        Event(CREATE, 7, first, b"one"),
        Event(DELETE | ONDIR, 0, second, b"a longer name"),
    ]


def test_an_event_without_a_name_and_records_of_other_kinds_are_passed_over() -> None:
    handle = file_handle(b"12345678")
    data = event(Q_OVERFLOW) + event(CREATE, record(handle, b"", kind=1), record(handle, b"n"))
    assert list(parse(data)) == [Event(Q_OVERFLOW, 7, b"", b""), Event(CREATE, 7, handle, b"n")]


def test_a_header_that_has_grown_is_passed_over() -> None:
    handle = file_handle(b"12345678")
    assert list(parse(event(CREATE, record(handle, b"n"), extra_header=bytes(8)))) == [Event(CREATE, 7, handle, b"n")]


@pytest.mark.parametrize(
    "data",
    [
        b"\0" * 10,
        event(CREATE)[:-1],
        struct.pack("=IBBHQii", 24, 2, 0, 24, CREATE, -1, 7),
        struct.pack("=IBBHQii", 0, 3, 0, 24, CREATE, -1, 7),
        event(CREATE, struct.pack("=BBHQI", 1, 0, 0, 0, 0)),
    ],
)
def test_what_is_not_understood_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="event"):
        list(parse(data))


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    require_fanotify(str(tmp_path))
    made = tmp_path / "workspace"
    made.mkdir()
    return made


@pytest.fixture
def source(workspace: Path):
    made = Fanotify(str(workspace))
    assert made.attach()
    yield made
    made.close()


def noticed(source: Fanotify) -> dict[JobId, int]:
    """Read until nothing comes any more."""
    found = Noticed()
    poller = select.poll()
    poller.register(source.fileno(), select.POLLIN)
    while poller.poll(20):
        source.read(found)
    assert not found.overflown
    return found.touched


def test_the_kernel_tells_of_job_directories(source: Fanotify, workspace: Path) -> None:
    (workspace / JOB).mkdir()
    assert noticed(source) == {JOB: APPEARED}
    os.rename(workspace / JOB, workspace / OTHER)
    assert list(noticed(source).items()) == [(JOB, VANISHED), (OTHER, APPEARED)]
    (workspace / OTHER).rmdir()
    assert noticed(source) == {OTHER: VANISHED}


def test_names_that_are_no_jobs_and_jobs_elsewhere_are_noise(source: Fanotify, workspace: Path, tmp_path: Path) -> None:
    source.follow_all()
    (workspace / "notes").mkdir()
    (workspace / JOB[:31]).mkdir()
    elsewhere = tmp_path / "other" / JOB
    elsewhere.mkdir(parents=True)
    (elsewhere / "signac_job_document.json").write_text("{}")
    (elsewhere / "signac_statepoint.json").write_text("{}")
    deeper = workspace / "notes" / JOB
    deeper.mkdir()
    (deeper / "signac_job_document.json").write_text("{}")
    assert noticed(source) == {}


def test_the_kernel_tells_of_documents_however_they_are_written(source: Fanotify, workspace: Path) -> None:
    job = workspace / JOB
    job.mkdir()
    document = job / "signac_job_document.json"
    document.write_text("{}")
    assert noticed(source) == {JOB: APPEARED}, "documents are not followed yet"
    source.follow_all()
    document.write_text('{"a": 1}')
    assert noticed(source) == {JOB: DOCUMENT}
    (job / "tmp").write_text("{}")
    assert noticed(source) == {}
    os.replace(job / "tmp", document)
    assert noticed(source) == {JOB: DOCUMENT}
    document.unlink()
    assert noticed(source) == {JOB: DOCUMENT}


def test_a_renamed_directory_is_known_by_its_new_name(source: Fanotify, workspace: Path, tmp_path: Path) -> None:
    source.follow_all()
    (workspace / JOB).mkdir()
    (workspace / JOB / "signac_job_document.json").write_text("{}")
    assert noticed(source) == {JOB: APPEARED | DOCUMENT}
    os.rename(workspace / JOB, workspace / OTHER)
    noticed(source)
    (workspace / OTHER / "signac_job_document.json").write_text("{}")
    assert noticed(source) == {OTHER: DOCUMENT}
    os.rename(workspace / OTHER, tmp_path / OTHER)
    noticed(source)
    (tmp_path / OTHER / "signac_job_document.json").write_text("{}")
    assert noticed(source) == {}
    os.rename(tmp_path / OTHER, workspace / JOB)
    noticed(source)
    (workspace / JOB / "signac_job_document.json").write_text("{}")
    assert noticed(source) == {JOB: DOCUMENT}


def test_state_points_are_told_of_jobs_that_are_expected(source: Fanotify, workspace: Path) -> None:
    for job in (JOB, OTHER):
        (workspace / job).mkdir()
    noticed(source)
    assert source.expect(JOB)
    for job in (JOB, OTHER):
        (workspace / job / "signac_statepoint.json").write_text("{}")
    assert noticed(source) == {JOB: STATEPOINT}
    assert not source.expect(JobId("e" * 32))


def test_a_workspace_that_is_moved_is_told(source: Fanotify, workspace: Path, tmp_path: Path) -> None:
    os.rename(workspace, tmp_path / "away")
    found = Noticed()
    source.read(found)
    assert found.moved


def test_a_missing_workspace_is_no_error_and_attaching_again_is_possible(workspace: Path) -> None:
    workspace.rmdir()
    source = Fanotify(str(workspace))
    try:
        assert not source.attach()
        assert source.watches == 0
        workspace.mkdir()
        assert source.attach()
        assert source.attach()
        (workspace / JOB).mkdir()
        assert noticed(source) == {JOB: APPEARED}
        source.detach()
        (workspace / OTHER).mkdir()
        assert noticed(source) == {}
    finally:
        source.close()
        source.close()


@pytest.mark.parametrize("refused", ["fanotify_init", "fanotify_mark", "open_by_handle_at", "name_to_handle_at"])
@pytest.mark.parametrize("code", [1, 19, 18, 22, 38, 95])
def test_a_refusal_says_so(workspace: Path, monkeypatch: pytest.MonkeyPatch, refused: str, code: int) -> None:
    real = handles.call

    def call(name: str, *arguments: object) -> int:
        if name == refused:
            raise OSError(code, os.strerror(code))
        return real(name, *arguments)

    monkeypatch.setattr(handles, "call", call)
    before = descriptors()

    def attach() -> None:
        source = Fanotify(str(workspace))
        try:
            source.attach()
        finally:
            source.close()

    with pytest.raises(NoEvents) as caught:
        attach()
    assert isinstance(caught.value, SigfsError)
    assert caught.value.errno == code
    assert_none_left(before)


def test_the_cache_of_handles_is_bounded_and_consistent(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handles, "MAX_CACHED", 3)
    monkeypatch.setattr(handles, "MAX_FOREIGN", 2)
    known = JobHandles(str(workspace))
    directory = os.open(workspace, os.O_RDONLY)
    try:
        jobs = [JobId(f"{number:032x}") for number in range(6)]
        found = []
        for job in jobs:
            (workspace / job).mkdir()
            (workspace / f"foreign-{job}").mkdir()
            found.append(handle_of(directory, job))
            assert known.job_of(found[-1]) == job
            assert known.job_of(handle_of(directory, f"foreign-{job}")) is None
            known.check()
        assert len(known) == 3
        assert known.cached(found[0]) is None
        assert known.job_of(found[0]) == jobs[0]
        (workspace / jobs[1]).rmdir()
        assert known.job_of(found[1]) is None
        known.drop(jobs[0])
        known.check()
        assert known.cached(found[0]) is None
        assert not known.bind(jobs[1])
        assert known.bind(jobs[2])
        assert known.cached(found[2]) == jobs[2]
        known.check()
    finally:
        known.clear()
        os.close(directory)


@pytest.mark.parametrize("then", [0, errno.ESTALE])
def test_no_memory_for_a_directory_that_is_being_removed_is_no_lost_event(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, then: int
) -> None:
    (workspace / JOB).mkdir()
    directory = os.open(workspace, os.O_RDONLY)
    real, refusals = handles.open_handle, [then, errno.ENOMEM, errno.ENOMEM]

    def open_handle(mount_fd: int, handle: bytes) -> int:
        if refusals and (code := refusals.pop()):
            raise OSError(code, os.strerror(code))
        return real(mount_fd, handle)

    known = JobHandles(str(workspace))
    try:
        handle = handle_of(directory, JOB)
        monkeypatch.setattr(handles, "open_handle", open_handle)
        assert known.job_of(handle) == (None if then else JOB)
        known.clear()
        refusals[:] = [errno.ENOMEM] * 100
        with pytest.raises(OSError, match=os.strerror(errno.ENOMEM)):
            known.job_of(handle)
    finally:
        known.clear()
        os.close(directory)


def test_close_write_is_what_a_writer_in_place_causes() -> None:
    assert {CLOSE_WRITE, MOVED_FROM, MOVED_TO} == {0x8, 0x40, 0x80}  # linux/fanotify.h
