"""Handles that came out of a question know what the index knows, and never more than the disk proves."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import pytest

import sigfs
from sigfs.errors import NoSuchJob, PendingJob
from sigfs.model import files
from sigfs.model.statepoint import statepoint_id

FILE = "signac_statepoint.json"


@pytest.fixture(params=[2.0, -10.0], ids=["young", "settled"])
def age(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have files be too young for their stamps to be believed, or old enough."""
    monkeypatch.setattr(files, "RACY_S", request.param)


def test_cached_state_points_of_an_answer_are_those_of_the_index(project: sigfs.Project) -> None:
    for n in range(600):
        project.open({"n": n, "in": {"x": [n], "e": {}}})
    jobs = project.find()
    assert len(jobs) == 600
    for job in jobs:
        Path(job.fn(FILE)).unlink()
    found = {job.id: job.cached_statepoint for job in jobs}
    assert found == {statepoint_id(each): each for each in ({"n": n, "in": {"x": [n], "e": {}}} for n in range(600))}
    assert jobs[599].cached_statepoint == found[jobs[599].id]
    with pytest.raises(PendingJob):
        _ = jobs[0].statepoint


@pytest.mark.usefixtures("age")
def test_what_is_given_is_the_callers_own(project: sigfs.Project) -> None:
    project.open({"a": [1, [2]], "b": {"c": [3]}})
    for _ in range(2):
        for job in (project.find()[0], *project):
            for look in (lambda job=job: job.cached_statepoint, lambda job=job: job.statepoint()):
                for _ in range(2):
                    found = look()
                    assert found == {"a": [1, [2]], "b": {"c": [3]}}
                    found["a"][1].append(4)
                    found["b"]["c"].clear()
        (entry,) = project.find().entries()
        assert entry["sp"] == {"a": [1, [2]], "b": {"c": [3]}}
        entry["sp"]["a"].clear()
    assert len(project.find({"a": [1, [2]]})) == 1


@pytest.mark.usefixtures("age")
def test_a_job_that_is_gone_is_not_remembered(project: sigfs.Project) -> None:
    project.open({"n": 1})
    (job,) = project
    statepoint = job.statepoint
    assert statepoint["n"] == 1
    shutil.rmtree(job)
    for look in (lambda: statepoint["n"], lambda: job.statepoint, lambda: job.cached_statepoint):
        with pytest.raises(NoSuchJob):
            look()


@pytest.mark.usefixtures("age")
def test_a_handle_follows_its_own_changes_and_forgets_the_index(project: sigfs.Project) -> None:
    project.open({"n": 1})
    (job,) = project
    same = copy.copy(job)
    assert job.sp.n == 1
    job.sp.n = 2
    for each in (job, same):
        assert each.id == statepoint_id({"n": 2})
        assert each.is_managed
        assert each.cached_statepoint == each.statepoint() == {"n": 2}
    job.id = "../data/out"
    job.sp.n = 3
    for each in (job, same):
        assert each.id == "../data/out"
        assert not each.is_managed
        assert each.cached_statepoint == each.statepoint() == {"n": 3}


@pytest.mark.usefixtures("age")
def test_what_changes_beside_is_seen_at_the_next_look(project: sigfs.Project) -> None:
    job = sigfs.Job.init(project.fn("data/job"), {"n": 1})
    statepoint = job.statepoint
    assert statepoint["n"] == 1
    for n in (2, 3):
        sigfs.Job(project.fn("data/job")).sp.n = n
        assert statepoint["n"] == job.statepoint["n"] == job.cached_statepoint["n"] == n


@pytest.mark.usefixtures("age")
def test_a_state_point_that_was_destroyed_is_noticed(project: sigfs.Project) -> None:
    project.open({"n": 1})
    (job,) = project
    assert job.sp.n == 1
    Path(job.fn(FILE)).write_text("{")
    with pytest.raises(PendingJob):
        _ = job.statepoint


def test_an_index_that_was_kept_is_believed_only_where_the_id_proves_it(project: sigfs.Project) -> None:
    path = Path(project.open({"n": 1}).fn(FILE))
    path.write_text(json.dumps({"n": 2}))
    project.update_cache()
    (job,) = sigfs.Project(project.root)
    path.write_text(json.dumps({"n": 1}))
    assert job.cached_statepoint == {"n": 1}
