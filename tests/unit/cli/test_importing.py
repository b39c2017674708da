"""``sigfs import`` on the command line."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sigfs.cli.app import sigfs
from sigfs.cli.exits import Exit
from tests.support.projects import job_id, make_project


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = make_project(str(tmp_path / "project"))
    for foo in (1, 2):
        (tmp_path / f"runs/foo/{foo}").mkdir(parents=True)
        (tmp_path / f"runs/foo/{foo}/out").write_text(str(foo))
    (tmp_path / "runs/notes").write_text("")
    monkeypatch.chdir(root)
    return Path(root)


def run(*words: str) -> Result:
    return CliRunner().invoke(sigfs, ["import", *words], catch_exceptions=False)


def test_a_dry_run_names_what_would_be_imported_and_a_run_does_it(root: Path) -> None:
    ids = [job_id({"foo": foo}) for foo in (1, 2)]
    result = run("../runs", "--schema", "foo/{foo:int}", "--dry-run")
    assert result.stdout == f"+ foo/1 {ids[0]}\n+ foo/2 {ids[1]}\n2 imported, 0 unchanged, 0 refused\n"
    assert os.listdir(root / "workspace") == []
    assert run("../runs", "--schema", "foo/{foo:int}").stdout == "2 imported, 0 unchanged, 0 refused\n"
    assert (root / "workspace" / ids[0] / "out").read_text() == "1"
    again = run("../runs", "--json")
    assert json.loads(again.stdout)["unchanged"] == {"foo/1": ids[0], "foo/2": ids[1]}
    assert "what the paths spell" in again.stderr
    assert "belong to no job: ." in again.stderr


def test_what_is_refused_is_named_and_the_exit_code_says_so(root: Path) -> None:
    run("../runs")
    (root / "workspace" / job_id({"foo": 2}) / "out").write_text("other")
    result = run("../runs", "--move")
    assert result.exit_code == Exit.FAILURE
    assert result.stdout == "0 imported, 1 unchanged, 1 refused\n"
    assert f"foo/2: there is a job {job_id({'foo': 2})} with other data" in result.stderr
    assert (root / "../runs/foo/2/out").read_text() == "2"


def test_moved_directories_leave_the_origin(root: Path) -> None:
    assert run("../runs", "--move").stdout == "2 imported, 0 unchanged, 0 refused\n"
    assert os.listdir(root / "../runs/foo") == []
