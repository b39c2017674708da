"""check, repair and freeze: what they find, what they do, and what they leave alone."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from sigfs.api.freezing import freeze
from sigfs.api.project import Project, get_project, init_project
from sigfs.model.workspace import Workspace
from tests.support.commands import Run


@pytest.fixture
def project(run: Run, tmp_path: Path) -> Project:
    """Three jobs in the project of the working directory."""
    made = init_project(tmp_path)
    for foo in range(3):
        made.open({"foo": foo})
    return made


def spoil(project: Project) -> str:
    """Give a job's directory another name; gives that."""
    job = project.open({"foo": 1})
    wrong = os.path.join(project.workspace.path, "0" * 32)
    os.rename(job, wrong)
    return "0" * 32


def test_a_sound_project_is_said_to_be_one(run: Run, project: Project) -> None:
    code, out, err = run("check")
    assert (code, out) == (0, "")
    assert "sound" in err
    assert run("check", "--json")[:2] == (0, "[]\n")
    assert run("repair")[0] == 0
    assert json.loads(run("repair", "--json")[1]) == {"done": [], "left": []}


def test_what_is_wrong_is_listed_and_mended(run: Run, project: Project) -> None:
    wrong = spoil(project)
    code, out, err = run("check")
    assert code == 1
    assert out.splitlines()[1].startswith(f"{wrong}\tmisnamed\t")
    assert "sigfs repair" in err
    assert json.loads(run("check", "--json")[1])[0]["id"] == wrong
    code, out, _ = run("repair", "--dry-run")
    assert (code, out.splitlines()[0]) == (0, "id\twould be\tmore")
    assert run("check")[0] == 1
    assert run("repair")[1].splitlines()[1].startswith(f"{wrong}\trenamed\t")
    assert run("check")[0] == 0


def test_what_cannot_be_mended_is_said(run: Run, project: Project) -> None:
    os.unlink(project.open({"foo": 1}).fn("signac_statepoint.json"))
    code, out, err = run("repair")
    assert code == 1
    assert "\tleft\t" in out
    assert "could not be mended" in err
    assert len(json.loads(run("repair", "--json")[1])["left"]) == 1


def test_frozen_jobs_are_found_and_keep_their_ids(run: Run, project: Project, tmp_path: Path) -> None:
    before = {job.id for job in project}
    assert run("freeze", "data", "--dry-run")[0] == 0
    assert {job.id for job in get_project(".")} == before
    code, out, err = run("freeze", "data")
    assert (code, out) == (0, "")
    assert f"3 jobs are in {tmp_path}/data" in err
    assert set(run("find")[1].split()) == {f"../data/{job_id}" for job_id in before}
    (job,) = get_project(".").find("foo 1")
    assert run("migrate", job.id, "foo=5")[1] == f"id\tnew id\n{job.id}\t{job.id}\n"
    assert run("find", "foo", "5")[1].split() == [job.id]
    assert os.listdir(project.workspace.path) == []
    assert len(run("job", "foo=1")[1].strip()) == 32
    assert json.loads(run("freeze", "more", "--json")[1])["jobs"] == 1
    assert len(get_project(".")) == 4


@pytest.mark.parametrize("directory", ["there", "file", "workspace", "workspace/x", "no/where", "link", ""])
def test_a_place_that_is_none_leaves_all_as_it_is(run: Run, project: Project, tmp_path: Path, directory: str) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "x").touch()
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    before = sorted(os.listdir(tmp_path))
    config = (tmp_path / ".signac" / "config").read_bytes()
    code, out, err = run("freeze", directory)
    assert (code in (1, 2), out) == (True, "")
    assert err.startswith("sigfs: ")
    assert sorted(os.listdir(tmp_path)) == before
    assert (tmp_path / ".signac" / "config").read_bytes() == config


def test_the_workspace_that_comes_after_a_frozen_one_has_its_function(run: Run, tmp_path: Path) -> None:
    project = init_project(tmp_path)
    Path(project.workspace.path, "workspace.rc").write_text("id_function = xxh3_128\n")
    job = get_project(tmp_path).open({"foo": 1})
    assert freeze(get_project(tmp_path), "data") == 1
    assert Workspace(project.workspace.path).id_function == "xxh3_128"
    assert [each.id for each in get_project(tmp_path)] == [f"../data/{job.id}"]


@pytest.mark.parametrize("call", ["mkdir", "rename", "add_index"])
def test_a_freeze_that_fails_leaves_all_as_it_is(
    run: Run, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    config = (tmp_path / ".signac" / "config").read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(Project if call == "add_index" else os, call, fail)
        with pytest.raises(PermissionError):
            freeze(project, "data")
    assert not (tmp_path / "data").exists()
    assert len(Project(tmp_path)) == 3
    if call != "rename":
        assert (tmp_path / ".signac" / "config").read_bytes() == config


def test_a_freeze_that_was_killed_is_completed_by_the_same_command(run: Run, project: Project, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    project.add_index("data")
    assert len(Project(tmp_path)) == 3
    assert run("freeze", "data")[0] == 0
    assert len(Project(tmp_path)) == 3
    assert len(Project(tmp_path).indexed) == 1
