"""A sidecar is brought up to date, and what it is told by damaged jobs is not believed."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from sigfs.api.project import Project
from sigfs.model.reading import DOCUMENT_FILE, STATEPOINT_FILE
from sigfs.sidecar import Sidecar
from sigfs.sidecar.keeper import Keeper
from sigfs.sidecar.updating import disagreements, known, update
from tests.support.wait import wait_until


def differing(sidecar: Sidecar) -> list[tuple[str, str]]:
    return [(each.id, each.what) for each in disagreements(sidecar, sidecar.file.read().jobs)]


def test_it_says_of_each_job_what_its_files_do(project: Project, sidecar: Sidecar) -> None:
    done = update(sidecar)
    assert (done.is_new, done.jobs, len(done.added), done.changed, done.gone) == (True, 4, 4, [], [])
    jobs = sidecar.file.read().jobs
    for n in range(4):
        job = project.open({"n": n})
        record = jobs[job.id]
        assert (record["path"], record["sp"]) == (f"workspace/{job.id}", {"n": n})
        assert record["doc"] == ({"x": n} if n > 1 else {})
        size, mtime_ns, digest = record["files"][STATEPOINT_FILE]  # type: ignore[index]
        status = os.stat(job.fn(STATEPOINT_FILE))
        assert (size, mtime_ns) == (status.st_size, status.st_mtime_ns)
        assert len(digest) == 16
    assert differing(sidecar) == []


def test_it_is_told_only_what_has_changed(project: Project, sidecar: Sidecar) -> None:
    update(sidecar)
    jobs = [project.open({"n": n}) for n in range(4)]
    for job in jobs:
        os.utime(job.path, ns=(1, 1))
        if job.isfile(DOCUMENT_FILE):
            os.utime(job.fn(DOCUMENT_FILE), ns=(10**18, 10**18))
    update(sidecar)
    size = sidecar.file.size()
    assert update(sidecar).changed == []
    assert sidecar.file.size() == size
    Path(jobs[3].fn(DOCUMENT_FILE)).write_text('{"x": 4, "y": 1}')
    shutil.rmtree(jobs[0].path)
    Path(jobs[1].fn(DOCUMENT_FILE)).write_text("{}")
    dry = update(sidecar, dry_run=True)
    assert sidecar.file.size() == size
    done = update(sidecar)
    assert (dry.changed, dry.gone) == (done.changed, done.gone) == (sorted_ids(project, done.changed), [jobs[0].id])
    assert set(done.changed) == {jobs[1].id, jobs[3].id}
    assert sidecar.file.read().jobs[jobs[3].id]["doc"] == {"x": 4, "y": 1}
    assert jobs[0].id not in sidecar.file.read().jobs


def sorted_ids(project: Project, ids: list[str]) -> list[str]:
    order = list(project.workspace.ids())
    return sorted(ids, key=order.index)  # type: ignore[arg-type]


def test_what_a_damaged_job_says_is_not_believed(project: Project, sidecar: Sidecar) -> None:
    update(sidecar)
    before = sidecar.file.read().jobs
    jobs = [project.open({"n": n}) for n in range(4)]
    os.unlink(jobs[0].fn(STATEPOINT_FILE))
    Path(jobs[1].fn(STATEPOINT_FILE)).write_text("")
    shutil.copy(jobs[3].fn(STATEPOINT_FILE), jobs[2].fn(STATEPOINT_FILE))
    Path(jobs[3].fn(DOCUMENT_FILE)).write_text("{")
    done = update(sidecar)
    assert set(done.unreadable) == {job.id for job in jobs[:3]}
    after = sidecar.file.read().jobs
    for job in jobs:
        assert (after[job.id]["sp"], after[job.id]["doc"]) == (before[job.id]["sp"], before[job.id]["doc"])
    assert set(differing(sidecar)) == {(job.id, "damaged") for job in jobs}


def test_only_an_update_forgets_a_document_that_is_missing(project: Project, sidecar: Sidecar) -> None:
    update(sidecar)
    job = project.open({"n": 2})
    os.unlink(job.fn(DOCUMENT_FILE))
    sidecar.file.append(sidecar.lines_of([job.id]))  # type: ignore[list-item]
    assert sidecar.file.read().jobs[job.id]["doc"] == {"x": 2}
    assert known(sidecar).kept == {job.id}
    assert differing(sidecar) == [(job.id, "differs")]
    assert job.id in update(sidecar).changed
    assert sidecar.file.read().jobs[job.id]["doc"] == {}
    assert known(sidecar).kept == set()


@pytest.mark.parametrize("is_there", [False, True])
def test_a_workspace_that_is_missing_or_empty_may_be_one_that_is_not_mounted(
    project: Project, sidecar: Sidecar, is_there: bool
) -> None:
    update(sidecar)
    os.rename(project.workspace.path, project.fn("elsewhere"))
    if is_there:
        os.mkdir(project.workspace.path)
    assert (update(sidecar).gone, update(sidecar).unsure) == ([], 4)
    assert len(sidecar.file.read().jobs) == 4
    done = update(sidecar, forget_all=True)
    assert (len(done.gone), done.unsure) == (4, 0)
    assert sidecar.file.read().jobs == {}


def test_jobs_outside_of_the_workspace_are_in_it_too(project: Project) -> None:
    os.makedirs(project.fn("data"))
    project.add_index("data")
    job = type(project.open({"n": 0})).init(project.fn("data/mine"), {"a": 1})
    sidecar = project.sidecar
    assert len(update(sidecar).added) == 5
    record = sidecar.file.read().jobs["../data/mine"]
    assert (record["path"], record["sp"]) == ("data/mine", {"a": 1})
    job.doc.b = 2
    assert project.sidecar.file.read().jobs["../data/mine"]["doc"] == {"b": 2}
    job.sp.a = 2
    assert project.sidecar.file.read().jobs["../data/mine"]["sp"] == {"a": 2}
    job.path = project.fn("data/yours")
    found = project.sidecar.file.read().jobs
    assert "../data/mine" not in found
    assert found["../data/yours"]["doc"] == {"b": 2}
    os.rename(project.fn("data"), project.fn("unmounted"))
    assert (update(project.sidecar).gone, update(project.sidecar).unsure) == ([], 1)


def test_broken_lines_are_told_and_an_update_puts_them_aside(sidecar: Sidecar) -> None:
    update(sidecar)
    with open(sidecar.file.path, "ab") as file:
        file.write(b"\x00\n")
    assert [number for number, _ in sidecar.file.read().broken] == [6]
    update(sidecar)
    assert sidecar.file.read().broken == []
    assert len(sidecar.file.read().jobs) == 4


# A keeper


@pytest.fixture
def keeper(sidecar: Sidecar) -> Keeper:
    return Keeper(sidecar)


def jobs_in(sidecar: Sidecar) -> dict[str, dict[str, object]]:
    return sidecar.file.read().jobs if sidecar.file.exists else {}


def test_a_keeper_makes_it_and_follows_what_it_is_told(project: Project, sidecar: Sidecar, keeper: Keeper) -> None:
    keeper.start()
    try:
        wait_until(lambda: len(jobs_in(sidecar)) == 4)
        new, old = project.open({"n": 9}), project.open({"n": 0})
        Path(new.fn(DOCUMENT_FILE)).write_text('{"y": 1}')
        shutil.rmtree(old.path)
        keeper.tell([new.id, old.id, "0" * 32])  # type: ignore[list-item]
    finally:
        keeper.stop()
    found = jobs_in(sidecar)
    assert old.id not in found
    assert found[new.id]["doc"] == {"y": 1}
    assert differing(sidecar) == []


def test_a_keeper_finds_what_came_to_pass_while_nobody_looked(
    project: Project, sidecar: Sidecar, keeper: Keeper
) -> None:
    update(sidecar)
    job = project.open({"n": 2})
    Path(job.fn(DOCUMENT_FILE)).write_text('{"other": "document"}')
    shutil.rmtree(project.open({"n": 0}).path)
    os.mkdir(project.workspace.path + "/" + "1" * 32)
    keeper.start()
    try:
        wait_until(lambda: len(jobs_in(sidecar)) == 3)
    finally:
        keeper.stop()
    assert jobs_in(sidecar)[job.id]["doc"] == {"other": "document"}


def test_a_keeper_makes_it_anew_when_it_is_taken_away(project: Project, sidecar: Sidecar, keeper: Keeper) -> None:
    keeper.start()
    try:
        wait_until(lambda: len(jobs_in(sidecar)) == 4)
        shutil.rmtree(project.fn(".sigfs"))
        keeper.tell(project.workspace.ids())
        wait_until(lambda: len(jobs_in(sidecar)) == 4)
    finally:
        keeper.stop()


def test_a_keeper_does_not_believe_that_all_jobs_are_gone_with_the_workspace(
    project: Project, sidecar: Sidecar, keeper: Keeper
) -> None:
    ids = list(project.workspace.ids())
    keeper.start()
    try:
        wait_until(lambda: len(jobs_in(sidecar)) == 4)
        os.rename(project.workspace.path, project.fn("elsewhere"))
        os.mkdir(project.workspace.path)
        keeper.tell(ids)
    finally:
        keeper.stop()
    assert len(jobs_in(sidecar)) == 4


def test_a_keeper_leaves_a_newer_sidecar_alone(
    project: Project, sidecar: Sidecar, keeper: Keeper, caplog: pytest.LogCaptureFixture
) -> None:
    newer = json.dumps({"format": "sigfs-sidecar", "version": 2}) + "\n"
    os.makedirs(os.path.dirname(sidecar.file.path))
    Path(sidecar.file.path).write_text(newer)
    with caplog.at_level("INFO"):
        keeper.start()
        wait_until(lambda: "version 2" in caplog.text)
        keeper.tell(project.workspace.ids())
        keeper.stop()
    assert Path(sidecar.file.path).read_text() == newer
    assert len(caplog.records) == 1
