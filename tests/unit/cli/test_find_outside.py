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


@pytest.mark.parametrize(
    "words", [["find"], ["find", "n", "1"], ["rm", "--all", "--dry-run"], ["open", "n", "1", "--dry-run"], ["check"]]
)
def test_jobs_that_may_be_where_nobody_can_look_are_not_passed_over_in_silence(tmp_path, capfd, words):
    project = sigfs.init_project(tmp_path)
    project.open({"n": 1})
    Path(project.fn("data")).mkdir()
    project.add_index("data")
    assert run([*words, "-p", str(tmp_path)]) == 0
    assert project.fn("data") not in capfd.readouterr().err
    Path(project.fn("data")).rmdir()
    code = run([*words, "-p", str(tmp_path)])
    out, err = capfd.readouterr()
    if words == ["check"]:
        assert (code, "../data\tunreadable" in out) == (1, True)
    else:
        assert (code, f"{project.fn('data')}: No such file or directory" in err) == (0, True)


def test_a_job_outside_is_found_by_id_without_reading_the_others(tmp_path, monkeypatch):
    project = sigfs.init_project(tmp_path)
    for name in ("one", "two"):
        sigfs.Job.init(project.fn(f"data/{name}"), {"name": name})
    project.add_index("data")
    monkeypatch.setattr("sigfs.api.index.Index.current", None)
    assert project["../data/one"].sp.name == "one"
    monkeypatch.setattr("sigfs.model.places.Places.listing", None)
    assert project["../data/two"].sp.name == "two"


def test_ids_of_jobs_outside_are_sorted_as_they_are_printed(tmp_path, capfd):
    project = sigfs.init_project(tmp_path)
    ids = [f"../data/{n}" for n in range(9)]
    for job_id in ids:
        sigfs.Job.init(project.fn(job_id.removeprefix("../")), {"id": job_id})
    project.add_index("data")
    assert run(["find", "-p", str(tmp_path)]) == 0
    assert capfd.readouterr() == ("\n".join(ids) + "\n", "")


def test_a_job_outside_whose_state_point_cannot_be_read_is_named(tmp_path, capfd):
    project = sigfs.init_project(tmp_path)
    for n in range(2):
        sigfs.Job.init(project.fn(f"data/{n}"), {"n": n})
    Path(project.fn("data/1/signac_statepoint.json")).write_text("{")
    project.add_index("data")
    assert run(["find", "-p", str(tmp_path)]) == 0
    out, err = capfd.readouterr()
    assert (out, project.fn("data/1: its state point cannot be read") in err) == ("../data/0\n", True)
    assert run(["check", "-p", str(tmp_path)]) == 1
    assert len(capfd.readouterr().out.splitlines()) == 2
