"""Who imports jobs, or exports them into an archive, may be killed at any call, or have any call fail: every job is in
the workspace whole or not at all, nothing that was there is touched, and the next run completes."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from sigfs.api.project import Project
from sigfs.errors import DestinationExists
from sigfs.export.exporting import Options, export_archive
from sigfs.export.importing import ImportOptions, import_jobs
from sigfs.model.statepoint import is_job_id
from tests.support.projects import job_id, make_project
from tests.support.stepping import Step, every_call, fail_at_each_call, kill_at_each_call

JOBS = [{"a": 1}, {"a": 2}]
MINE = {"a": 3}


def prepare(path: str) -> None:
    root = make_project(os.path.join(path, "old"), *JOBS)
    for statepoint in JOBS:
        Path(root, "workspace", job_id(statepoint), "data").write_text(json.dumps(statepoint))
    make_project(os.path.join(path, "new"), MINE)


def prepare_archive(path: str) -> None:
    prepare(path)
    export_archive(Project(os.path.join(path, "old")), os.path.join(path, "origin"), "tar.gz", Options())


def prepare_paths(path: str) -> None:
    make_project(os.path.join(path, "new"), MINE)
    for statepoint in JOBS:
        job = Path(path, "origin", f"a_{statepoint['a']}")
        job.mkdir(parents=True)
        (job / "data").write_text(json.dumps(statepoint))


def look(path: str) -> None:
    """See that there are whole jobs, and only those."""
    workspace = Path(path, "new", "workspace")
    for name in filter(is_job_id, os.listdir(workspace)):
        statepoint = json.loads((workspace / name / "signac_statepoint.json").read_text())
        assert name == job_id(statepoint)
        if statepoint != MINE:
            assert (workspace / name / "data").read_text() == json.dumps(statepoint)


def look_complete(path: str) -> None:
    look(path)
    assert sorted(os.listdir(Path(path, "new", "workspace"))) == sorted(map(job_id, [*JOBS, MINE]))


def bring(path: str, origin: str, **options: object) -> None:
    new = Project(os.path.join(path, "new"))
    import_jobs(new, os.path.join(path, origin), ImportOptions(**options))  # type: ignore[arg-type]


def copy(path: str) -> None:
    bring(path, "old")


def look_copied(path: str) -> None:
    look(path)
    copy(path)
    look_complete(path)
    assert len(os.listdir(Path(path, "old", "workspace"))) == len(JOBS)


def move(path: str) -> None:
    bring(path, "origin", move=True, schema="a_{a:int}")


def look_moved(path: str) -> None:
    look(path)
    there = len(os.listdir(Path(path, "origin")))
    jobs = [name for name in os.listdir(Path(path, "new", "workspace")) if is_job_id(name)]
    assert there + len(jobs) - 1 == len(JOBS)
    if there:
        move(path)
    look_complete(path)


def unpack(path: str) -> None:
    bring(path, "origin")


def look_unpacked(path: str) -> None:
    look(path)
    unpack(path)
    look_complete(path)


@pytest.mark.parametrize(
    ("begin", "act", "end", "code", "calls"),
    [
        (prepare, copy, look_copied, None, ("mkdirat", "renameat2", "fsync")),
        (prepare_paths, move, look_moved, None, ("linkat", "renameat2", "write")),
        (prepare_archive, unpack, look_unpacked, None, ("mkdirat", "renameat2", "pwrite64", "fsync")),
        (prepare_archive, unpack, look_unpacked, errno.ENOSPC, ("mkdirat", "renameat2", "pwrite64", "fsync")),
    ],
    ids=["copy", "move", "archive", "archive, no space"],
)
def test_jobs_are_imported_whole_or_not_at_all(
    tmp_path: Path, begin: Step, act: Step, end: Step, code: int | None, calls: tuple[str, ...]
) -> None:
    stop = (begin, act, end, tmp_path)
    found = kill_at_each_call(*stop) if code is None else fail_at_each_call(code, *stop)
    every_call(found, *calls)


def pack(path: str) -> None:
    for kind in ("tar", "zip"):
        try:
            export_archive(Project(os.path.join(path, "old")), os.path.join(path, f"t.{kind}"), kind, Options())  # type: ignore[arg-type]
        except DestinationExists:
            bring(path, f"t.{kind}")  # it is whole


def look_packed(path: str) -> None:
    pack(path)
    for kind in ("tar", "zip"):
        bring(path, f"t.{kind}")
        look_complete(path)
    for statepoint in JOBS:
        job = Path(path, "old", "workspace", job_id(statepoint))
        assert (job / "data").read_text() == json.dumps(statepoint)


def test_archives_are_whole_or_not_there(tmp_path: Path) -> None:
    every_call(kill_at_each_call(prepare, pack, look_packed, tmp_path), "write", "linkat", "unlinkat")
