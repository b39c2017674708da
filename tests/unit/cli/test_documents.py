"""sp and doc: what they print, and what they change."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from pathlib import Path

import pytest

from sigfs.api.job import Job
from sigfs.api.project import init_project
from sigfs.model.statepoint import statepoint_id
from tests.support.commands import Run, completed, real_command

STATEPOINT = {"foo": 42, "a": {"b": 0.1, "c": {}}, "s": "42", "t": "x y", "n": None, "l": [1, "two"], "e": "a\nb"}


@pytest.fixture
def job(run: Run, tmp_path: Path) -> Job:
    """A job in the project of the working directory."""
    return init_project(tmp_path).open(STATEPOINT)


def test_a_state_point_is_printed_as_it_can_be_given_to_job(run: Run, job: Job) -> None:
    code, out, _ = run("sp", job.id)
    assert code == 0
    assert out == 'foo=42\na.b=0.1\na.c={}\ns="42"\nt=x y\nn=null\nl=[1, "two"]\ne="a\\nb"\n'
    assert run("job", *out.splitlines())[1].strip() == job.id


def test_a_state_point_is_printed_as_json(run: Run, job: Job) -> None:
    assert json.loads(run("sp", job.id[:4], "--json")[1]) == STATEPOINT


def test_one_value_is_printed_as_it_is(run: Run, job: Job) -> None:
    assert run("sp", job.id, "s") == (0, "42\n", "")
    assert run("sp", job.id, "s", "--json") == (0, '"42"\n', "")
    assert run("sp", job.id, "sp.a.b") == (0, "0.1\n", "")
    assert run("sp", job.id, "a")[1] == '{"b": 0.1, "c": {}}\n'
    assert run("sp", job.id, "e")[1] == "a\nb\n"
    code, out, err = run("sp", job.id, "a.x")
    assert (code, out) == (1, "")
    assert "'a.x'" in err


def test_a_job_without_state_point_has_none_to_print(run: Run, tmp_path: Path) -> None:
    project = init_project(tmp_path)
    (Path(project.workspace.path) / statepoint_id(None)).mkdir()
    (Path(project.workspace.path) / statepoint_id(None) / "signac_statepoint.json").write_text("null")
    assert run("sp", statepoint_id(None)) == (0, "", "")
    assert run("sp", statepoint_id(None), "--json") == (0, "null\n", "")


def test_documents_are_set_read_and_deleted(run: Run, job: Job) -> None:
    assert run("doc", job.id) == (0, "", "")
    assert run("doc", job.id, "set", "x.y", "1e-1", "s", '"42"', "n", "null", "m", "-1") == (0, "", "")
    assert job.document() == {"x": {"y": 0.1}, "s": "42", "n": None, "m": -1}
    assert run("doc", job.id)[1] == 'x.y=0.1\ns="42"\nn=null\nm=-1\n'
    assert run("doc", job.id, "get", "doc.x.y")[1] == "0.1\n"
    assert json.loads(run("doc", job.id, "--json")[1]) == job.document()
    assert run("doc", job.id, "del", "x.y", "s") == (0, "", "")
    assert job.document() == {"x": {}, "n": None, "m": -1}
    assert json.loads(run("doc", job.id, "set", "k", "v", "--json")[1])["k"] == "v"


def test_text_is_text_where_that_is_said(run: Run, job: Job) -> None:
    assert run("doc", job.id, "set", "--text", "a", "true", "b", "[1", "c", "-1")[0] == 0
    assert job.document() == {"a": "true", "b": "[1", "c": "-1"}
    code, _, err = run("doc", job.id, "set", "b", "[1")
    assert (code, "--text" in err) == (2, True)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["get"], 2),
        (["get", "a", "b"], 2),
        (["set", "a"], 2),
        (["set"], 2),
        (["del"], 2),
        (["frobnicate", "a"], 2),
        (["get", "a", "--text"], 2),
        (["get", "a..b"], 2),
        (["get", "a@gt"], 2),
        (["get", "none"], 1),
        (["del", "none"], 1),
        (["del", "a.none"], 1),
        (["del", "a.b.c"], 1),
        (["set", "a.b.c", "1"], 2),
    ],
)
def test_what_cannot_be_done_to_a_document_changes_nothing(run: Run, job: Job, words: list[str], code: int) -> None:
    job.document.update({"a": {"b": 1}})
    found, out, err = run("doc", job.id, *words)
    assert (found, out) == (code, "")
    assert err.startswith("sigfs: ")
    assert job.document() == {"a": {"b": 1}}


def test_one_bad_pair_among_several_changes_nothing(run: Run, job: Job) -> None:
    job.document.update({"a": 1})
    assert run("doc", job.id, "set", "b", "2", "a.x", "3")[0] == 2
    assert run("doc", job.id, "del", "a", "none")[0] == 1
    assert job.document() == {"a": 1}


def test_a_document_that_cannot_be_read_is_named(run: Run, job: Job) -> None:
    Path(job.fn("signac_job_document.json")).write_text("[1]")
    code, out, err = run("doc", job.id)
    assert (code, out) == (1, "")
    assert job.fn("signac_job_document.json") in err


def test_a_terminal_stays_sane(job: Job) -> None:
    job.document.update({"x": "\x1b[31m"})
    ours, theirs = pty.openpty()
    subprocess.run(real_command("doc", job.id, "get", "x"), stdout=theirs, check=True)
    os.close(theirs)
    shown = os.read(ours, 1024)
    os.close(ours)
    assert shown == b"\\x1b[31m\r\n"


def test_concurrent_settings_are_all_kept(job: Job) -> None:
    commands = [real_command("doc", job.id, "set", f"k{number}", str(number)) for number in range(6)]
    processes = [subprocess.Popen(command) for command in commands]
    assert [process.wait() for process in processes] == [0] * 6
    assert job.document() == {f"k{number}": number for number in range(6)}


def test_keys_of_state_point_and_document_complete(run: Run, job: Job) -> None:
    job.document.update({"status": "done", "run": {"steps": 1}})
    assert completed("sp", job.id, "a") == ["a.b", "a.c"]
    assert completed("doc", job.id, "") == ["get", "set", "del"]
    assert completed("doc", job.id, "get", "") == ["status", "run.steps"]
    assert completed("doc", job.id, "set", "st") == ["status"]
    assert completed("doc", job.id, "set", "status", "") == []
    assert completed("doc", "nothing", "get", "") == []
