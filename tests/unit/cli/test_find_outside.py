"""``sigfs find`` and jobs outside of the workspace."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import sigfs
from sigfs.cli.app import run


@pytest.mark.parametrize("kept", [False, True])
def test_jobs_of_indexed_directories_are_found_by_what_they_are_called(tmp_path, capfd, kept):
    project = sigfs.init_project(tmp_path)
    project.open({"n": 1})
    Path(project.fn("data/mine")).mkdir(parents=True)
    Path(project.fn("data/mine/signac_statepoint.json")).write_text('{"n": 2}')
    project.add_index("data")
    if kept:
        project.update_cache()
    assert run(["find", "-p", str(tmp_path), "n", "2"]) == 0
    assert capfd.readouterr() == ("../data/mine\n", "")
    assert run(["find", "-p", str(tmp_path), "n", "2", "--json", "--path"]) == 0
    assert json.loads(capfd.readouterr().out) == [{"id": "../data/mine", "path": project.fn("data/mine")}]
    assert run(["find", "-p", str(tmp_path), "--path"]) == 0
    assert len(capfd.readouterr().out.splitlines()) == 2
