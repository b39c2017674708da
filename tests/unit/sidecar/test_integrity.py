"""Fingerprints of data: what is changed, missing and added is told apart."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import xxhash

from sigfs.api.job import Job
from sigfs.api.project import Project
from sigfs.sidecar import Sidecar
from sigfs.sidecar import integrity as module
from sigfs.sidecar.integrity import Verified, hash_data, verify
from sigfs.sidecar.lines import encode
from sigfs.sidecar.updating import update

LONG_AGO = (10**18, 10**18)


@pytest.fixture
def job(project: Project, sidecar: Sidecar) -> Job:
    job = project.open({"n": 0})
    os.makedirs(job.fn("sub/deep"))
    for path, content in {"a": b"A" * 3_000_000, "sub/deep/b": b"", os.fsdecode(b"\xff\n"): b"odd", "c~": b"c"}.items():
        Path(job.fn(path)).write_bytes(content)
        os.utime(job.fn(path), ns=LONG_AGO)
    os.symlink("/nowhere", job.fn("sub/link"))
    os.symlink("sub", job.fn("directory"))
    os.mkfifo(job.fn("fifo"))
    Path(job.fn("._sigfs_unfinished")).touch()
    update(sidecar)
    note(project, sidecar)
    return job


def note(project: Project, sidecar: Sidecar) -> list[str]:
    jobs = sidecar.file.read().jobs
    found = list(hash_data(sidecar, list(project.workspace.ids()), jobs))
    sidecar.file.append([encode({"id": job_id, "data": data}) for job_id, data, _ in found])
    assert all(data is not None for _, data, _ in found)
    return [job_id for job_id, _, _ in found]


def verified(project: Project, sidecar: Sidecar) -> Verified:
    return verify(sidecar, list(project.workspace.ids()), sidecar.file.read().jobs)


def test_every_data_file_is_noted_and_no_other(job: Job, sidecar: Sidecar) -> None:
    data = sidecar.file.read().jobs[job.id]["data"]
    assert data == {
        "a": [3_000_000, 10**18, xxhash.xxh3_64_hexdigest(b"A" * 3_000_000)],
        "c~": [1, 10**18, xxhash.xxh3_64_hexdigest(b"c")],
        os.fsdecode(b"\xff\n"): [3, 10**18, xxhash.xxh3_64_hexdigest(b"odd")],
        "directory": {"type": "link", "target": "sub"},
        "fifo": {"type": "fifo", "mode": os.stat(job.fn("fifo")).st_mode & 0o7777},
        "sub": {"type": "directory", "mode": os.stat(job.fn("sub")).st_mode & 0o7777},
        "sub/deep": {"type": "directory", "mode": os.stat(job.fn("sub/deep")).st_mode & 0o7777},
        "sub/deep/b": [0, 10**18, xxhash.xxh3_64_hexdigest(b"")],
        "sub/link": {"type": "link", "target": "/nowhere"},
    }


def test_unharmed_data_are_said_to_be(job: Job, project: Project, sidecar: Sidecar) -> None:
    os.utime(job.fn("a"), ns=(5, 5))
    os.chmod(job.fn("c~"), 0o600)
    found = verified(project, sidecar)
    assert (found.findings, found.unhashed, found.jobs, found.files) == ([], [], 4, 9)
    assert found.size_bytes == 3_000_004


def test_what_is_not_as_it_was_is_told_apart(job: Job, project: Project, sidecar: Sidecar) -> None:
    with open(job.fn("a"), "r+b") as file:
        file.seek(2_999_999)
        file.write(b"B")
    os.utime(job.fn("a"), ns=LONG_AGO)  # as after a silent fault of the disk
    Path(job.fn("sub/deep/b")).write_text("longer")
    os.unlink(job.fn("c~"))
    Path(job.fn("sub/new")).touch()
    os.unlink(job.fn("sub/link"))
    os.symlink("/elsewhere", job.fn("sub/link"))
    os.unlink(job.fn("fifo"))
    Path(job.fn("fifo")).touch()
    os.unlink(job.fn("directory"))
    os.mkdir(job.fn("directory"))
    found = {each.path: (each.what, each.why) for each in verified(project, sidecar).findings}
    assert found == {
        "a": ("changed", "has another content"),
        "c~": ("missing", "there is nothing of this name"),
        "directory": ("changed", "is a directory, and was a link"),
        "fifo": ("changed", "is a file, and was a fifo"),
        "sub/deep/b": ("changed", "has 6 bytes, and had 0"),
        "sub/link": ("changed", "leads to /elsewhere, and led to /nowhere"),
        "sub/new": ("added", "the sidecar does not have it"),
    }


def test_files_of_the_same_size_and_time_are_not_read_again(
    job: Job, project: Project, sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    original = module.hash_file

    def counted(directory: str, path: str) -> tuple[os.stat_result, str]:
        read.append(path)
        return original(directory, path)

    monkeypatch.setattr(module, "hash_file", counted)
    assert note(project, sidecar) == []
    assert read == []
    Path(job.fn("a")).write_text("short")
    assert note(project, sidecar) == [job.id]
    assert read == ["a"]
    assert verified(project, sidecar).findings == []


def test_a_file_that_may_still_change_without_its_time_telling_is_read_again(
    job: Job, project: Project, sidecar: Sidecar
) -> None:
    Path(job.fn("a")).write_text("young")
    note(project, sidecar)
    assert sidecar.file.read().jobs[job.id]["data"]["a"][1] is None  # type: ignore[index]


def test_what_was_never_noted_is_no_finding(project: Project, sidecar: Sidecar) -> None:
    update(sidecar)
    found = verified(project, sidecar)
    assert (found.findings, len(found.unhashed), found.jobs) == ([], 4, 0)
