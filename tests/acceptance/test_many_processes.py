"""Many processes at once, beside each other, in a mount, and on both sides of one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import signac

import sigfs
from tests.acceptance.conftest import Mount
from tests.support.crowd import ROOT, run
from tests.support.projects import add_job, make_project

COUNTER = """
import sys, sigfs
for n in range(int(sys.argv[2])):
    with sigfs.Job(sys.argv[1]).doc.transaction() as doc:
        doc.n = doc.get("n", 0) + 1
        doc.setdefault("by", {}).setdefault(sys.argv[3], []).append(n)
"""


def count(places: Sequence[str], times: int) -> None:
    """Count to *times* in one document in a process for each place, all at once."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", COUNTER, place, str(times), f"process {number}"],
            env={**os.environ, "PYTHONPATH": ROOT},
        )
        for number, place in enumerate(places)
    ]
    assert [process.wait() for process in processes] == [0] * len(places)


def expected(places: Sequence[str], times: int) -> dict[str, object]:
    return {
        "n": len(places) * times,
        "by": {f"process {number}": list(range(times)) for number in range(len(places))},
    }


def test_four_processes_that_count_three_hundred_times_in_one_document_come_to_twelve_hundred(tmp_path: Path) -> None:
    job = sigfs.init_project(tmp_path).open({"foo": 42})
    places = [os.path.abspath(job.path)] * 4
    count(places, 300)
    assert job.doc == expected(places, 300)
    assert signac.get_project(str(tmp_path)).open_job(id=job.id).doc() == expected(places, 300)


@pytest.mark.fuse
def test_no_change_of_a_document_is_lost_between_processes_in_a_mount_and_below(tmp_path: Path, mount: Mount) -> None:
    project = make_project(str(tmp_path / "p"))
    job = add_job(project, {"a": 1})
    add_job(project, {"a": 2})
    places = [f"{mount(project)}/a/1"] * 2 + [job] * 2
    count(places, 25)
    assert sigfs.Job(job).doc == expected(places, 25)
    assert sigfs.Job(places[0]).doc == expected(places, 25)


def assert_a_crowd_makes_no_errors(project: str, place: str, jobs: int) -> None:
    one, other, *readers = run(place, jobs, project)
    for reader in readers:
        assert reader["errors"] == {}
        assert reader["rounds"]
    left = {*one["left"], *other["left"]}
    found = sigfs.get_project(project)
    assert {job.id for job in found.find({"state": "old"})} == set(os.listdir(found.workspace.path)) == left
    theirs = signac.get_project(project)
    theirs.check()
    assert {job.id for job in theirs} == left
    assert all(job.doc() == {"n": job.sp.n} for job in theirs)


def test_queries_never_fail_because_others_create_migrate_and_remove_jobs(tmp_path: Path) -> None:
    sigfs.init_project(tmp_path)
    assert_a_crowd_makes_no_errors(str(tmp_path), str(tmp_path), 60)


@pytest.mark.fuse
def test_queries_never_fail_through_a_mount_and_below_at_once(tmp_path: Path, mount: Mount) -> None:
    sigfs.init_project(tmp_path / "p")
    project = str(tmp_path / "p")
    assert_a_crowd_makes_no_errors(project, mount(project), 25)
