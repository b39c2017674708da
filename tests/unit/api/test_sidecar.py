"""The sidecar follows what programs do to jobs, and a project is mended from it."""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
import time
from pathlib import Path

import pytest

import sigfs
from sigfs.api.checking import findings
from sigfs.api.freezing import freeze
from sigfs.api.leftovers import leftovers
from sigfs.errors import JobsCorrupted
from sigfs.model import moving
from sigfs.sidecar.file import SidecarFile
from sigfs.sidecar.updating import disagreements, update

STATEPOINT, DOCUMENT = "signac_statepoint.json", "signac_job_document.json"


@pytest.fixture
def followed(project: sigfs.Project) -> sigfs.Project:
    """Give a project without jobs and with a sidecar."""
    project.sidecar.begin()
    return project


def said(project: sigfs.Project) -> dict[str, tuple[object, object]]:
    """State point and document of each job in the sidecar, which is as the jobs are."""
    jobs = project.sidecar.file.read().jobs
    assert list(disagreements(project.sidecar, jobs)) == []
    return {job_id: (record["sp"], record.get("doc")) for job_id, record in jobs.items()}


# Following


def test_without_a_sidecar_none_is_made(project):
    project.open({"n": 1}).doc.x = 1
    assert not Path(project.fn(".sigfs")).exists()


def test_what_is_done_to_managed_jobs_is_in_it(followed):
    job, other = followed.open({"n": 1}), followed.open({"n": 2})
    job.doc.x = [1]
    with job.doc.transaction() as doc:
        doc.y = 2
        doc.x.append(3)
    assert said(followed) == {job.id: ({"n": 1}, {"x": [1, 3], "y": 2}), other.id: ({"n": 2}, None)}
    job.sp.n = 3
    other.remove()
    assert said(followed) == {job.id: ({"n": 3}, {"x": [1, 3], "y": 2})}
    job.clear()
    assert said(followed) == {job.id: ({"n": 3}, {})}
    sigfs.Job.init(os.path.join(followed.workspace.path, followed.workspace.statepoint_id({"n": 4})), {"n": 4})
    assert len(said(followed)) == 2
    followed.workspace.remove(followed.workspace.statepoint_id({"n": 4}))
    job.path = followed.fn("elsewhere")
    assert said(followed) == {}


def test_what_changes_nothing_adds_no_line(followed):
    job = followed.open({"n": 1})
    job.doc.x = 1
    size = followed.sidecar.file.size()
    followed.open({"n": 1}).doc.x = 1
    job.sp = {"n": 1}
    assert job.doc.x == 1
    assert followed.sidecar.file.size() == size


def test_a_job_that_is_null_is_in_it_and_comes_back(followed):
    job = followed.open({"n": 1})
    job.sp = None
    assert said(followed) == {job.id: (None, None)}


def test_a_pickled_project_goes_on_with_it(followed):
    followed.open({"n": 1})
    pickle.loads(pickle.dumps(followed)).open({"n": 2})
    assert len(said(followed)) == 2


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), ValueError("whatever")])
def test_what_goes_wrong_with_it_makes_nobody_fail_and_is_said_once(followed, monkeypatch, caplog, error):
    def fail(*args: object, **kwargs: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(SidecarFile, "append", fail)
        job = followed.open({"n": 1})
        job.doc.x = 1
        job.sp.n = 2
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "sigfs sidecar update" in caplog.text
    update(followed.sidecar)
    assert said(followed) == {job.id: ({"n": 2}, {"x": 1})}


def test_what_is_done_to_many_jobs_at_once_is_in_it(followed, tmp_path):
    jobs = [followed.open({"n": n}) for n in range(3)]
    jobs[0].doc.x = 1
    followed.export_to(tmp_path / "view", path="n/{n}", copytree=shutil.move)
    assert said(followed) == {}
    assert len(followed.import_from(tmp_path / "view")) == 3
    assert len(said(followed)) == 3
    freeze(followed, "data")
    assert {key: sp["n"] for key, (sp, _) in said(followed).items()} == {
        f"../data/{job.id}": n for n, job in enumerate(jobs)
    }
    assert said(followed)[f"../data/{jobs[0].id}"][1] == {"x": 1}


# Mending


def test_state_points_that_are_lost_or_another_jobs_come_back_from_it(followed):
    jobs = [followed.open({"n": n, "x": [1, None, 0.5]}) for n in range(5)]
    contents = [Path(job.fn(STATEPOINT)).read_bytes() for job in jobs]
    os.unlink(jobs[0].fn(STATEPOINT))
    Path(jobs[1].fn(STATEPOINT)).write_bytes(contents[1][:7])
    Path(jobs[2].fn(STATEPOINT)).write_bytes(contents[3])
    Path(jobs[4].fn(STATEPOINT)).write_bytes(b"")
    before = followed.sidecar.file.read().jobs
    assert {done.what for done in followed.repair(dry_run=True)} == {"restored"}
    done = {each.id: each.message for each in followed.repair()}
    assert set(done) == {jobs[n].id for n in (0, 1, 2, 4)}
    assert done[jobs[2].id] == f"from the sidecar; {STATEPOINT} was that of {jobs[3].id}"
    assert [Path(job.fn(STATEPOINT)).read_bytes() for job in jobs] == contents
    assert Path(jobs[2].fn(f"{STATEPOINT}.damaged")).read_bytes() == contents[3]
    followed.check()
    assert {key: record["sp"] for key, record in followed.sidecar.file.read().jobs.items()} == {
        key: record["sp"] for key, record in before.items()
    }


def test_what_says_another_state_point_than_the_id_is_not_taken_from_it(followed):
    job = followed.open({"n": 1})
    os.unlink(job.fn(STATEPOINT))
    followed.sidecar.file.append([json.dumps({"id": job.id, "sp": {"n": 2}}).encode() + b"\n"])
    with pytest.raises(JobsCorrupted, match="kept nowhere"):
        followed.repair()
    assert not job.isfile(STATEPOINT)


def test_a_directory_that_was_given_the_name_of_another_job_gets_its_own_back(followed):
    job, other = followed.open({"n": 1}), followed.open({"n": 2})
    Path(job.fn("data")).write_text("mine")
    shutil.rmtree(other.path)
    os.rename(job.path, other.path)
    assert [(done.what, done.to) for done in followed.repair()] == [("renamed", job.id)]
    assert Path(job.fn("data")).read_text() == "mine"
    followed.check()
    assert set(said(followed)) == {job.id}


def test_a_state_point_that_was_edited_by_hand_is_put_aside(followed):
    job = followed.open({"n": 1})
    Path(job.fn(STATEPOINT)).write_text('{"n": 17}')
    assert [done.what for done in followed.repair()] == ["restored"]
    assert job.statepoint == {"n": 1}
    assert Path(job.fn(f"{STATEPOINT}.damaged")).read_text() == '{"n": 17}'


@pytest.mark.parametrize("content", ["", "{", "[]", None])
def test_documents_come_back_from_it_and_broken_ones_are_kept(followed, content):
    job = followed.open({"n": 1})
    job.doc.x = {"a": [1, 0.5]}
    os.unlink(job.fn(DOCUMENT))
    if content is not None:
        Path(job.fn(DOCUMENT)).write_text(content)
    Path(job.fn(f"{DOCUMENT}.damaged")).write_text("of before")
    assert [finding.what for finding in findings(followed)] == ["document"]
    assert [done.message for done in followed.repair(dry_run=True)] == ["its document, from the sidecar"]
    followed.repair()
    assert job.doc == {"x": {"a": [1, 0.5]}}
    assert Path(job.fn(f"{DOCUMENT}.damaged")).read_text() == "of before"
    if content is not None:
        assert Path(job.fn(f"{DOCUMENT}.damaged2")).read_text() == content
    followed.check()


def test_state_point_and_document_of_one_job_come_back_at_once(followed):
    job = followed.open({"n": 1})
    job.doc.x = 1
    os.unlink(job.fn(STATEPOINT))
    os.unlink(job.fn(DOCUMENT))
    assert [done.what for done in followed.repair()] == ["restored", "restored"]
    assert (job.sp, job.doc) == ({"n": 1}, {"x": 1})


def test_a_document_that_is_whole_is_never_replaced(followed, monkeypatch):
    job = followed.open({"n": 1})
    job.doc.x = 1
    Path(job.fn(DOCUMENT)).write_text("{")
    found = findings(followed)
    Path(job.fn(DOCUMENT)).write_text('{"mended": "by hand"}')
    monkeypatch.setattr("sigfs.api.checking.findings", lambda _: found)
    with pytest.raises(JobsCorrupted, match="another one by now"):
        followed.repair()
    assert job.doc == {"mended": "by hand"}
    assert sorted(os.listdir(job.path)) == [DOCUMENT, STATEPOINT]


def test_a_document_that_was_removed_on_purpose_is_forgotten_by_an_update(followed):
    job = followed.open({"n": 1})
    job.doc.x = 1
    os.unlink(job.fn(DOCUMENT))
    with pytest.raises(JobsCorrupted, match="sigfs sidecar update forgets it"):
        followed.check()
    update(followed.sidecar)
    followed.check()


def test_a_sidecar_that_cannot_be_read_does_not_keep_a_project_from_being_mended(followed, caplog):
    job = followed.open({"n": 1})
    os.rename(job.path, os.path.join(followed.workspace.path, "a" * 32))
    Path(followed.sidecar.file.path).write_text('{"format": "sigfs-sidecar", "version": 9}\n')
    assert [done.what for done in followed.repair()] == ["renamed"]
    assert "version 9" in caplog.text


def test_all_that_is_kept_may_be_gone(followed):
    for n in range(3):
        followed.open({"n": n}).doc.x = n
    lost = followed.open({"n": 0})
    before = said(followed)
    followed.update_cache()
    shutil.rmtree(followed.fn(".sigfs"))
    os.unlink(lost.fn(STATEPOINT))
    done = update(followed.sidecar)
    assert (len(done.added), list(done.unreadable)) == (2, [lost.id])
    with pytest.raises(JobsCorrupted) as caught:
        followed.repair()
    assert caught.value.job_ids == [lost.id]
    del before[lost.id]
    assert {key: (record["sp"], record["doc"]) for key, record in followed.sidecar.file.read().jobs.items()} == before


# What is left over


def test_what_killed_processes_left_is_named(followed):
    workspace = followed.workspace.path
    followed.open({"n": 1})
    assert leftovers(followed) == []
    os.mkdir(os.path.join(workspace, "._sigfs_0123456789abcdef"))
    copy = os.path.join(workspace, "._sigfs_copy_1")
    os.mkdir(copy)
    Path(copy, moving.MARKER).write_text(json.dumps(["/from/there", "abc", "0"]))
    (found,) = leftovers(followed)
    assert found.path == copy
    assert found.message.startswith("the beginning of a copy of /from/there, which is whole")
    followed.check()


def test_what_is_old_is_named_by_what_it_was(followed, monkeypatch):
    workspace = followed.workspace.path
    for name in ("0123456789abcdef", "hidden_1", "gone_1"):
        os.mkdir(os.path.join(workspace, f"._sigfs_{name}"))
    Path(workspace, "._sigfs_file").touch()
    now_s = time.time()
    monkeypatch.setattr(time, "time", lambda: now_s + 4000)
    messages = [found.message for found in leftovers(followed)]
    assert len(messages) == 4
    for words in ("made or removed", "being written", "the rest of a job", "being moved away"):
        assert sum(words in message for message in messages) == 1


def test_a_copy_that_somebody_works_on_is_not_left_over(followed):
    copy = os.path.join(followed.workspace.path, "._sigfs_copy_1")
    os.mkdir(copy)
    with open(os.path.join(copy, moving.MARKER), "w") as file:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX)
        assert leftovers(followed) == []


def test_a_move_whose_process_was_killed_at_the_end_is_completed(followed):
    job = followed.open({"n": 1})
    old, new = job.path, followed.open({"n": 2}).path
    Path(new, moving.MARKER).write_text(json.dumps([os.path.abspath(followed.fn("source")), "abc", "0"]))
    (found,) = leftovers(followed)
    assert (found.is_move, os.path.abspath(new)) == (True, found.path)
    assert [done.what for done in followed.repair(dry_run=True)] == ["completed"]
    assert [(done.what, done.id) for done in followed.repair()] == [("completed", os.path.basename(new))]
    assert leftovers(followed) == []
    assert os.path.isdir(old)
