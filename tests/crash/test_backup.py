"""Who makes a backup may be killed at any call, or have any call fail: what was there stays whole, and the next backup
completes."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from sigfs.api.project import Project
from sigfs.backup import kept
from sigfs.backup.making import Options, back_up
from sigfs.backup.restoring import restore
from sigfs.backup.snapshot import snapshot
from tests.support.projects import add_job, job_id, make_project
from tests.support.stepping import every_call, fail_at_each_call, kill_at_each_call

OLD, NEW = {"a": 1}, {"a": 2}


def run(path: str, *, incremental: bool = True) -> None:
    project = Project(os.path.join(path, "project"))
    state = os.path.join(path, "state")
    back_up(project, os.path.join(path, "backup"), Options(incremental=incremental, state_dir=state))


def prepare(path: str) -> None:
    root = make_project(os.path.join(path, "project"), OLD)
    run(path)
    add_job(root, NEW)


def full(path: str) -> None:
    run(path, incremental=False)


def look(path: str) -> None:
    backup = kept.read(os.path.join(path, "backup", "metadata"))
    assert backup is not None
    assert backup.damaged == []
    assert {job_id(OLD)} <= backup.jobs.keys() <= {job_id(OLD), job_id(NEW)}
    script = os.path.join(path, "backup", "restore.sh")
    assert job_id(OLD) in subprocess.run(["sh", script, "list"], capture_output=True, text=True, check=True).stdout
    run(path)
    assert Path(script).read_text().endswith("# end of restore.sh\n")
    assert job_id(NEW) in Path(script).read_text()
    assert not [name for _, _, names in os.walk(os.path.join(path, "backup")) for name in names if name[0] == "."]


@pytest.mark.parametrize(("act", "code"), [(run, None), (run, errno.ENOSPC), (full, None)])
def test_a_backup_is_completed_by_the_next_one(tmp_path: Path, act: object, code: int | None) -> None:
    stop = (prepare, act, look, tmp_path)
    calls = kill_at_each_call(*stop) if code is None else fail_at_each_call(code, *stop)  # type: ignore[arg-type]
    every_call(calls, "openat", "write", "fsync", "renameat")


def to_restore(path: str) -> None:
    root = make_project(os.path.join(path, "project"), OLD, NEW)
    for statepoint in (OLD, NEW):
        Path(root, "workspace", job_id(statepoint), "data").write_text(str(statepoint))
    state = os.path.join(path, "state")
    snapshot(Project(root), os.path.join(path, "all.tar"), data=True, state_dir=state)
    Path(root, "workspace", job_id(OLD), "signac_statepoint.json").write_text("{")
    Path(root, "workspace", job_id(OLD), "data").unlink()
    shutil.rmtree(os.path.join(root, "workspace", job_id(NEW)))


def back(path: str) -> None:
    restore(os.path.join(path, "all.tar"), os.path.join(path, "project"))


def look_restored(path: str) -> None:
    for statepoint in (OLD, NEW):
        data = Path(path, "project", "workspace", job_id(statepoint), "data")
        assert not data.exists() or data.read_text() == str(statepoint)
    back(path)
    assert {job.id for job in Project(os.path.join(path, "project"))} == {job_id(OLD), job_id(NEW)}
    workspace = os.path.join(path, "project", "workspace")
    assert sorted(os.listdir(workspace)) == sorted([job_id(OLD), job_id(NEW)])
    for statepoint in (OLD, NEW):
        names = sorted(os.listdir(os.path.join(workspace, job_id(statepoint))))
        old = ["signac_statepoint.json.1~"] if statepoint == OLD else []
        assert names == sorted(["data", "signac_statepoint.json", *old])
        assert Path(workspace, job_id(statepoint), "data").read_text() == str(statepoint)


@pytest.mark.parametrize("code", [None, errno.ENOSPC])
def test_what_is_restored_is_completed_by_the_next_run(tmp_path: Path, code: int | None) -> None:
    stop = (to_restore, back, look_restored, tmp_path)
    calls = kill_at_each_call(*stop) if code is None else fail_at_each_call(code, *stop)
    every_call(calls, "openat", "mkdirat", "renameat2")


def lost(path: str) -> None:
    """Have one job that a copy has, one that has lost its files, and one that is there."""
    root = make_project(os.path.join(path, "project"), OLD, NEW, {"a": 3})
    workspace = os.path.join(root, "workspace")
    for statepoint in (OLD, NEW):
        Path(workspace, job_id(statepoint), "signac_job_document.json").write_text(f'{{"document of": "{statepoint}"}}')
        Path(workspace, job_id(statepoint), "data").write_text("data" * 1000)
    back_up(Project(root), os.path.join(path, "backup"), Options(state_dir=os.path.join(path, "state")))
    shutil.copytree(workspace, os.path.join(path, "before"))
    shutil.copytree(workspace, os.path.join(path, "copy"))
    shutil.rmtree(os.path.join(workspace, job_id(OLD)))
    for name in ("signac_statepoint.json", "signac_job_document.json"):
        Path(workspace, job_id(NEW), name).unlink()


def run_script(path: str) -> None:
    words = [os.path.join(path, name) for name in ("backup/restore.sh", "copy", "project/workspace")]
    subprocess.run(["sh", words[0], "workspace", *words[1:]], check=True, stdout=subprocess.DEVNULL)


def look_at_workspace(path: str) -> None:
    old = Path(path, "project", "workspace", job_id(OLD))
    assert not old.exists() or len(os.listdir(old)) == 3
    run_script(path)
    found = subprocess.run(
        ["diff", "-r", os.path.join(path, "before"), os.path.join(path, "project/workspace")],
        capture_output=True,
        text=True,
    )
    assert found.stdout == ""


def test_the_script_is_completed_by_its_next_run(tmp_path: Path) -> None:
    calls = kill_at_each_call(lost, run_script, look_at_workspace, tmp_path)
    every_call(calls, "openat", "mkdir")
