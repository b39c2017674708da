"""A project is checked, and mended where that can be proven right."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import shutil
from pathlib import Path

import pytest

from sigfs.errors import JobsCorrupted

STATEPOINT = "signac_statepoint.json"


def problems(project) -> list[tuple[str, str]]:
    with pytest.raises(JobsCorrupted) as caught:
        project.check()
    error = caught.value
    assert error.job_ids == [finding.id for finding in error.findings]
    assert all(finding.id in str(error) for finding in error.findings[:5])
    return [(finding.id, finding.what) for finding in error.findings]


def test_a_sound_project_passes(twelve):
    assert twelve.check() is None
    assert twelve.repair() == []


def test_what_is_wrong_is_named_for_each_job(project):
    jobs = [project.open({"n": n}) for n in range(6)]
    os.unlink(jobs[0].fn(STATEPOINT))
    Path(jobs[1].fn(STATEPOINT)).write_text('{"n": 1')
    Path(jobs[2].fn(STATEPOINT)).write_text('{"n": 99}')
    Path(jobs[3].fn("signac_job_document.json")).write_text("[]")
    Path(jobs[4].fn(STATEPOINT)).write_text("3")
    expected = ["missing", "unreadable", "misnamed", "document", "unreadable"]
    assert problems(project) == sorted(zip((job.id for job in jobs), expected, strict=False))
    with pytest.raises(RuntimeError) as caught:
        project.check()
    assert pickle.loads(pickle.dumps(caught.value)).job_ids == caught.value.job_ids
    assert json.dumps([finding.to_json() for finding in caught.value.findings])


def test_a_directory_gets_the_name_that_its_state_point_says(project):
    job = project.open({"n": 1})
    wrong = os.path.join(project.workspace.path, "a" * 32)
    os.rename(job.path, wrong)
    Path(wrong, "data.txt").write_text("mine")
    assert [each.what for each in project.repair(dry_run=True)] == ["renamed"]
    assert os.path.isdir(wrong)
    (done,) = project.repair()
    assert (done.id, done.what) == ("a" * 32, "renamed")
    assert Path(job.fn("data.txt")).read_text() == "mine"
    project.check()


def test_a_directory_is_not_renamed_onto_another(project):
    job = project.open({"n": 1})
    wrong = os.path.join(project.workspace.path, "a" * 32)
    shutil.copytree(job.path, wrong)
    for dry_run in (True, False):
        with pytest.raises(JobsCorrupted, match="that job is there as well"):
            project.repair(dry_run)
    assert os.path.isdir(wrong)
    assert os.path.isdir(job.path)


def test_a_migration_that_was_killed_is_completed(project):
    job = project.open({"n": 1})
    new = project.workspace.statepoint_id({"n": 2})
    Path(job.fn("._sigfs_1")).write_text('{"n": 2}')
    os.rename(job.path, os.path.join(project.workspace.path, new))
    assert problems(project) == [(new, "misnamed")]
    assert [each.what for each in project.repair(dry_run=True)] == ["completed"]
    (done,) = project.repair()
    assert (done.id, done.what) == (new, "completed")
    assert project[new].statepoint == {"n": 2}


@pytest.mark.parametrize(
    "name", [".signac/statepoint_cache.json.gz", ".signac_sp_cache.json.gz", "signac_statepoints.json"]
)
@pytest.mark.parametrize("content", [None, b"", b"{"])
def test_a_lost_state_point_is_restored_from_what_signac_keeps(project, name, content):
    job = project.open({"n": 1, "x": [1, None, 0.5]})
    kept = json.dumps({job.id: {"n": 1, "x": [1, None, 0.5]}, "b" * 32: {"n": 7}}).encode()
    Path(project.fn(name)).write_bytes(gzip.compress(kept) if name.endswith(".gz") else kept)
    if content is None:
        os.unlink(job.fn(STATEPOINT))
    else:
        Path(job.fn(STATEPOINT)).write_bytes(content)
    assert [each.what for each in project.repair(dry_run=True)] == ["restored"]
    assert problems(project)
    (done,) = project.repair()
    assert (done.id, done.what, done.message) == (job.id, "restored", f"from {name}")
    assert project[job.id].statepoint == {"n": 1, "x": [1, None, 0.5]}
    project.check()
    if content is not None:
        assert Path(job.fn(f"{STATEPOINT}.damaged")).read_bytes() == content


def test_a_lost_state_point_is_restored_from_the_index_that_is_kept(twelve):
    twelve.update_cache()
    jobs = list(twelve.find("n.$lt 3"))
    statepoints = [job.statepoint for job in jobs]
    for job in jobs:
        os.unlink(job.fn(STATEPOINT))
    assert {each.message for each in twelve.repair()} == {"from the index"}
    assert [job.statepoint for job in jobs] == statepoints


def test_a_lost_state_point_is_restored_from_a_backup_in_the_job(project):
    job = project.open({"n": 1})
    os.rename(job.fn(STATEPOINT), job.fn(f"{STATEPOINT}~"))
    (done,) = project.repair()
    assert done.message == f"from {STATEPOINT}~"
    assert job.statepoint == {"n": 1}


def test_only_a_state_point_of_that_very_id_is_restored(project):
    job = project.open({"n": 1})
    os.unlink(job.fn(STATEPOINT))
    Path(job.fn("x~")).write_text('{"n": 2}')
    Path(project.fn(".signac/statepoint_cache.json.gz")).write_bytes(
        gzip.compress(json.dumps({job.id: {"n": 3}}).encode())
    )
    Path(project.fn(".signac_sp_cache.json.gz")).write_bytes(b"no gzip")
    with pytest.raises(JobsCorrupted, match="kept nowhere"):
        project.repair()
    assert os.listdir(job.path) == ["x~"]


def test_those_that_can_be_mended_are_even_if_others_cannot(project):
    lost, misnamed = project.open({"n": 1}), project.open({"n": 2})
    os.unlink(lost.fn(STATEPOINT))
    os.rename(misnamed.path, os.path.join(project.workspace.path, "a" * 32))
    with pytest.raises(JobsCorrupted) as caught:
        project.repair()
    assert caught.value.job_ids == [lost.id]
    assert [each.what for each in caught.value.done] == ["renamed"]
    assert misnamed.statepoint == {"n": 2}
