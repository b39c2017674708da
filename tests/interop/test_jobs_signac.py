"""What is made, changed and moved here is opened by the real signac, and the other way round."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sigfs import Job, diff_jobs, init_project
from tests.support.elsewhere import another_file_system

signac = pytest.importorskip("signac")

STATEPOINTS = [{"foo": 42}, {"a": {"b": [1, 2.5, None, {"x": []}]}}, {"ü": "日本", "n": 2**70}, {}]


def jobs_of(path: str) -> dict[str, object]:
    """Let signac check the project, which raises if anything is wrong, and give its state points."""
    project = signac.Project(path)
    project.check()
    return {job.id: job.statepoint() for job in project}


def test_signac_opens_what_is_made_moved_and_migrated(tmp_path: Path) -> None:
    project, other = init_project(tmp_path / "p"), init_project(tmp_path / "q")
    for statepoint in STATEPOINTS:
        job = project.open(statepoint)
        Path(job.fn("data.txt")).write_text("precious")
        job.doc.a = {"b": [1]}
        job.sp.new = {"c": 1}
        job.sp.new.c = 2
        assert jobs_of(project.root)[job.id] == {**statepoint, "new": {"c": 2}}
        job.id = "../data/out"
        job.sp.new = 3
        assert job.id == "../data/out"
        job.id = job.statepoint_id
        job.move(other)
        found = signac.Project(other.root).open_job(id=job.id)
        assert found.doc() == {"a": {"b": [1]}}
        assert Path(found.fn("data.txt")).read_text() == "precious"
    assert list(jobs_of(other.root).values()) != []
    assert sorted(map(str, jobs_of(other.root).values())) == sorted(str({**each, "new": 3}) for each in STATEPOINTS)
    assert jobs_of(project.root) == {}
    with another_file_system(tmp_path) as far:
        third = init_project(far / "r")
        for job in other:
            job.move(third)
        assert len(jobs_of(third.root)) == len(STATEPOINTS)
        assert jobs_of(other.root) == {}
        for job in third:
            job.clear()
            job.reset()
        assert {job.doc() == {} for job in signac.Project(third.root)} == {True}
        for job in third:
            job.remove()
        assert jobs_of(third.root) == {}


def test_the_ids_are_signacs(tmp_path: Path) -> None:
    project = init_project(tmp_path)
    job = project.open({"foo": 42})
    assert job.id == signac.Project(tmp_path).open_job({"foo": 42}).id
    job.sp.foo = 43
    assert job.id == signac.Project(tmp_path).open_job({"foo": 43}).id


def test_what_signac_makes_and_changes_is_seen(tmp_path: Path) -> None:
    theirs = signac.init_project(tmp_path)
    job = theirs.open_job({"foo": 42}).init()
    ours = Job(job.path)
    job.doc.a = 1
    assert (ours.id, ours.sp, ours.doc) == (job.id, {"foo": 42}, {"a": 1})
    ours.doc.a = 2
    assert job.doc.a == 2
    ours.update_statepoint({"bar": 1})
    assert [each.id for each in signac.Project(tmp_path)] == [ours.id]
    again = signac.Project(tmp_path).open_job(id=ours.id)
    again.sp.bar = 2
    moved = Job(again.path)
    assert moved.sp() == again.sp() == {"foo": 42, "bar": 2}
    assert json.loads(Path(moved.fn("signac_statepoint.json")).read_text()) == {"foo": 42, "bar": 2}


def test_jobs_differ_as_signac_has_it(tmp_path: Path) -> None:
    project = init_project(tmp_path)
    statepoints = [{"a": 1, "b": {"c": 2, "d": 3}}, {"a": 1, "b": {"c": 4, "d": 3}, "e": "x"}]
    theirs = signac.get_project(str(tmp_path))
    differ = diff_jobs(*map(project.open, statepoints))
    assert differ == signac.diff_jobs(*map(theirs.open_job, statepoints))
    assert list(differ.values()) == [{"b": {"c": 2}}, {"b": {"c": 4}, "e": "x"}]
