"""``sigfs backup``, ``sigfs snapshot`` and ``sigfs restore`` on the command line."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sigfs.cli.app import sigfs
from sigfs.cli.exits import Exit, exit_code
from sigfs.errors import BackupError
from tests.support.projects import job_id, make_project


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = make_project(str(tmp_path / "project"), *({"a": a, "b": b} for a in (1, 2) for b in (1, 2)))
    monkeypatch.chdir(root)
    return Path(root)


def run(*words: str) -> Result:
    return CliRunner().invoke(sigfs, words, catch_exceptions=False)


def test_a_backup_is_counted_and_a_dry_run_names_the_jobs(root: Path) -> None:
    dry = run("backup", "--dry-run", "--filter", "a 1", "../backup").stdout
    assert dry.splitlines()[-1] == "2 added, 0 changed, 0 removed, 0 unchanged"
    assert f"+ {job_id({'a': 1, 'b': 2})}\n" in dry
    assert not Path("../backup").exists()
    assert run("backup", "--layout", "hive", "../backup").stdout == "4 added, 0 changed, 0 removed, 0 unchanged\n"
    assert "'a=1/b=2'" in Path("../backup/restore.sh").read_text()
    assert os.access("../backup/restore.sh", os.X_OK)
    again = json.loads(run("backup", "--json", "--incremental", "--layout", "hive", "../backup").stdout)
    assert (again["unchanged"], again["written"]) == (4, [])


def test_a_job_that_cannot_be_read_is_named_and_the_exit_code_says_so(root: Path) -> None:
    run("backup", "../backup")
    Path("workspace", job_id({"a": 1, "b": 1}), "signac_statepoint.json").unlink()
    result = run("backup", "../backup")
    assert result.exit_code == Exit.FAILURE
    assert f"{job_id({'a': 1, 'b': 1})}: has no signac_statepoint.json" in result.output


def test_a_snapshot_is_counted_and_its_name_says_what_it_is(root: Path) -> None:
    dry = run("snapshot", "--dry-run", "--filter", "a 1", "../all.tar").stdout
    assert f"+ workspace/{job_id({'a': 1, 'b': 2})}\n" in dry
    assert run("snapshot", "../all.tar").stdout == "4 jobs, 1 files of the project\n"
    assert len(json.loads(run("snapshot", "--json", "--data", "../all.zip").stdout)["jobs"]) == 4
    with pytest.raises(BackupError, match="must end in one of") as caught:
        run("snapshot", "all.rar")
    assert exit_code(caught.value) == Exit.FAILURE


def test_what_is_restored_is_counted_and_what_differs_is_named(root: Path) -> None:
    run("snapshot", "../all.tar")
    gone, other = (Path("workspace", job_id({"a": 1, "b": b})) for b in (1, 2))
    shutil.rmtree(gone)
    dry = run("restore", "--dry-run", "../all.tar")
    assert dry.stdout == f"+ {gone}\n1 jobs, 0 files restored, 4 files unchanged\n"
    assert not gone.exists()
    assert run("restore", "../all.tar").stdout == "1 jobs, 0 files restored, 4 files unchanged\n"
    (other / "signac_statepoint.json").write_text('{"b": 2,  "a": 1}')
    result = run("restore", "../all.tar")
    assert result.exit_code == Exit.FAILURE
    assert f"! {other}/signac_statepoint.json\n" in result.stdout
    again = json.loads(run("restore", "--aside", "--json", "../all.tar").stdout)
    assert again["replaced"] == {f"{other}/signac_statepoint.json": "signac_statepoint.json.1~"}
    assert run("restore", "../all.tar", "../new").stdout == "4 jobs, 1 files restored, 0 files unchanged\n"
