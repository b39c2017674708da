"""Who makes, changes, clears or removes a job by its handle may be killed at any call, or have any call fail."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sigfs.api import Job
from sigfs.api.project import Project, init_project
from sigfs.model.reading import DOCUMENT_FILE, STATEPOINT_FILE
from sigfs.model.statepoint import statepoint_id
from tests.support.stepping import Step, fail_at_each_call, kill_at_each_call

pytestmark = pytest.mark.timeout(900)

OLD, NEW = {"foo": 42}, {"foo": 43}


def jobs(path: str) -> list[Job]:
    """A managed job and another one."""
    project = Project(os.path.join(path, "project"))
    return [*project, *(Job(each) for each in [os.path.join(project.root, "data/a")] if os.path.isdir(each))]


def empty_project(path: str) -> None:
    init_project(os.path.join(path, "project"))


def two_jobs(path: str) -> None:
    project = init_project(os.path.join(path, "project"))
    for job in (project.open(OLD), Job.init(os.path.join(project.root, "data/a"), OLD)):
        for name in ("x", "below/y"):
            Path(job.fn(name)).parent.mkdir(exist_ok=True)
            Path(job.fn(name)).write_text("precious")
        job.doc.a = 1


def check(path: str, *states: object) -> None:
    """All jobs have one of the state points and are whole."""
    for job in jobs(path):
        assert job.sp in states
        assert json.loads(Path(job.fn(STATEPOINT_FILE)).read_text()) == job.sp
        assert Path(job.fn("x")).read_text() == Path(job.fn("below/y")).read_text() == "precious"
        assert job.doc == {"a": 1}
        assert job.id in ("../data/a", statepoint_id(job.sp()))
    assert len(jobs(path)) == 2


def init(path: str) -> None:
    Job.init(os.path.join(path, "project", "data", "a"), OLD)


def look_init(path: str) -> None:
    where = os.path.join(path, "project", "data", "a")
    if os.path.exists(where):
        assert Job(where).sp == OLD
    init(path)
    assert Job(where).sp == OLD


def init_in_directory(path: str) -> None:
    os.makedirs(os.path.join(path, "project", "data", "a"), exist_ok=True)
    init(path)


def look_init_in_directory(path: str) -> None:
    where = os.path.join(path, "project", "data", "a")
    assert not os.path.isdir(where) or Job(where).sp in (None, OLD)
    init(path)
    assert Job(where).sp == OLD


def force(path: str) -> None:
    Job.init(os.path.join(path, "project", "data", "a"), NEW, force=True)
    assign(path)


def assign(path: str) -> None:
    for job in jobs(path):
        job.sp.foo = 43


def look_assign(path: str) -> None:
    check(path, OLD, NEW)
    assign(path)
    check(path, NEW)
    assert [job.sp.foo for job in jobs(path)] == [43, 43]


def to_null(path: str) -> None:
    for job in jobs(path):
        job.sp = None


def look_null(path: str) -> None:
    check_states = [job.sp for job in jobs(path)]
    assert all(state in (OLD, None) for state in check_states)
    to_null(path)
    assert [job.sp for job in jobs(path)] == [None, None]


def swap(path: str) -> None:
    """Move the managed job out of the workspace and the other one into it."""
    project = Project(os.path.join(path, "project"))
    Job(os.path.join(project.root, f"workspace/{statepoint_id(OLD)}")).id = "../data/b"
    Job(os.path.join(project.root, "data/a")).id = statepoint_id(OLD)


def look_swap(path: str) -> None:
    places = [
        os.path.join(path, "project", *each)
        for each in (("workspace", statepoint_id(OLD)), ("data", "a"), ("data", "b"))
    ]
    there = [each for each in places if os.path.exists(each)]
    assert len(there) == 2
    for each in there:
        job = Job(each)
        assert job.sp == OLD
        assert Path(job.fn("below/y")).read_text() == "precious"


def clear(path: str) -> None:
    for job in jobs(path):
        job.clear()


def look_clear(path: str) -> None:
    for job in jobs(path):
        assert job.sp == OLD
        assert job.doc in ({}, {"a": 1})
    clear(path)
    for job in jobs(path):
        names = {name for name in os.listdir(job) if not name.startswith("._sigfs_")}
        assert (names, job.doc()) == ({STATEPOINT_FILE, DOCUMENT_FILE}, {})
    assert len(jobs(path)) == 2


def remove(path: str) -> None:
    for job in jobs(path):
        job.remove()


def look_removed(path: str) -> None:
    for job in jobs(path):
        assert job.sp == OLD
        assert Path(job.fn("below/y")).read_text() == "precious"
        assert job.doc == {"a": 1}
    remove(path)
    assert jobs(path) == []


@pytest.mark.parametrize("code", [None, errno.ENOSPC, errno.EACCES])
@pytest.mark.parametrize(
    ("prepare", "act", "look"),
    [
        (empty_project, init, look_init),
        (empty_project, init_in_directory, look_init_in_directory),
        (two_jobs, assign, look_assign),
        (two_jobs, force, look_assign),
        (two_jobs, to_null, look_null),
        (two_jobs, swap, look_swap),
        (two_jobs, clear, look_clear),
        (two_jobs, remove, look_removed),
    ],
    ids=lambda step: step.__name__,
)
def test_every_job_is_whole_afterwards(tmp_path: Path, prepare: Step, act: Step, look: Step, code: int | None) -> None:
    stop: Callable[..., list[str]] = kill_at_each_call
    calls = (
        stop(prepare, act, look, tmp_path) if code is None else fail_at_each_call(code, prepare, act, look, tmp_path)
    )
    assert len(calls) > 5
