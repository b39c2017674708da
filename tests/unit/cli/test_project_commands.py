"""init, job and find: what they print, where, and with which exit code."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path
from types import SimpleNamespace

import pytest

from sigfs.api.project import get_project, init_project
from sigfs.cli import app
from sigfs.model.statepoint import statepoint_id
from tests.support.commands import Run, completed, real_command


@pytest.fixture
def project(run: Run, tmp_path: Path) -> Path:
    """A project in the working directory with three jobs."""
    made = init_project(str(tmp_path))
    made.open({"foo": 42, "bar": True, "a": {"b": -1}})
    made.open({"foo": 42, "bar": False, "name": "x\ty"})
    job = made.open({"foo": 7})
    Path(job.path, "signac_job_document.json").write_text('{"status": "done", "n": {"m": 1}}')
    return tmp_path


FOO_42_BAR = statepoint_id({"foo": 42, "bar": True, "a": {"b": -1}})
FOO_42 = statepoint_id({"foo": 42, "bar": False, "name": "x\ty"})
FOO_7 = statepoint_id({"foo": 7})


def test_init_makes_a_project_here_or_there(run: Run, tmp_path: Path) -> None:
    code, out, err = run("init")
    assert (code, out) == (0, f"made the project {tmp_path}\n")
    assert "sigfs job" in err
    assert run("init", "there", "--name", "N")[0] == 0
    assert get_project(str(tmp_path / "there")).name == "N"


def test_init_refuses_what_is_a_project_already(run: Run) -> None:
    run("init")
    code, out, err = run("init")
    assert (code, out) == (3, "")
    assert err.startswith("sigfs: ")
    assert "already" in err


def test_job_reads_values_as_a_query_does(run: Run, project: Path) -> None:
    code, out, _ = run("job", "foo=42", "bar=true", "a.b=1", 's="42"', "t=text here", "n=null", "l=[1, 2]", "e=a=b")
    assert code == 0
    expected = {"foo": 42, "bar": True, "a": {"b": 1}, "s": "42", "t": "text here", "n": None, "l": [1, 2], "e": "a=b"}
    assert get_project(".").job(out.strip()).statepoint == expected


def test_job_twice_is_the_same_job(run: Run, project: Path) -> None:
    assert run("job", "q=1") == run("job", "q=1")


def test_job_takes_json_as_argument_and_from_standard_input(
    run: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("job", '{"x": {"y": 1e400}}')[1].strip() == statepoint_id({"x": {"y": float("inf")}})
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b'{"x": 1}\n')))
    assert run("job", "-")[1].strip() == statepoint_id({"x": 1})


def test_job_prints_path_or_json_where_asked(run: Run, project: Path) -> None:
    job = statepoint_id({"q": 1})
    path = os.path.join(project, "workspace", job)
    assert run("job", "q=1", "--path")[1] == f"{path}\n"
    assert json.loads(run("job", "q=1", "--json")[1]) == {"id": job, "path": path, "sp": {"q": 1}}


def test_job_dry_run_makes_nothing(run: Run, project: Path) -> None:
    code, out, _ = run("job", "q=2", "--dry-run")
    assert (code, out.strip()) == (0, statepoint_id({"q": 2}))
    assert not os.path.exists(project / "workspace" / out.strip())


@pytest.mark.parametrize(
    "words",
    [
        ["foo"],
        ["=1"],
        ["a..b=1"],
        ["foo=[1"],
        ["a=1", "a=2"],
        ["a=1", "a.b=2"],
        ["a.b=2", "a=1"],
        ["{"],
        ["[1]"],
        ['{"a.b": 1}'],
        [],
    ],
)
def test_job_refuses_what_is_no_state_point(run: Run, project: Path, words: list[str]) -> None:
    before = os.listdir(project / "workspace")
    code, out, err = run("job", *words)
    assert (code, out) == (2, "")
    assert err.startswith("sigfs: ")
    assert os.listdir(project / "workspace") == before


def test_find_prints_ids_sorted(run: Run, project: Path) -> None:
    assert run("find")[1].split() == sorted([FOO_42, FOO_42_BAR, FOO_7])
    assert run("find", "foo", "42")[1].split() == sorted([FOO_42, FOO_42_BAR])
    assert run("find", "foo 42 bar true")[1].split() == [FOO_42_BAR]


def test_find_reads_documents_where_the_query_needs_them(run: Run, project: Path) -> None:
    assert run("find", "doc.status", "done")[1].split() == [FOO_7]


def test_find_takes_negative_numbers_for_values_and_not_for_options(run: Run, project: Path) -> None:
    assert run("find", "a.b", "-1")[1].split() == [FOO_42_BAR]
    assert run("find", "foo@gt", "-Infinity", "--path")[0] == 0
    assert run("find", "a.b", "--", "-1")[1].split() == [FOO_42_BAR]
    code, out, err = run("find", "a.b", "-1", "--jsn")
    assert (code, out) == (2, "")
    assert "--json" in err


def test_find_prints_paths(run: Run, project: Path) -> None:
    assert run("find", "foo", "7", "--path")[1] == f"{project}/workspace/{FOO_7}\n"


def test_find_adds_columns_separated_by_tabs(run: Run, project: Path) -> None:
    out = run("find", "foo", "42", "--sp", "name,a")[1]
    assert out.splitlines()[0] == "id\tname\ta"
    assert f'{FOO_42_BAR}\t\t{{"b": -1}}' in out.splitlines()
    assert f"{FOO_42}\tx\\ty\t" in out.splitlines()
    out = run("find", "foo", "7", "--sp", "--doc")[1]
    assert out == f"id\tfoo\tdoc.n.m\tdoc.status\n{FOO_7}\t7\t1\tdone\n"


def test_find_prints_json(run: Run, project: Path) -> None:
    out = run("find", "foo", "7", "--json", "--sp", "--doc", "n,none,status", "--path")[1]
    assert json.loads(out) == [
        {
            "id": FOO_7,
            "path": f"{project}/workspace/{FOO_7}",
            "sp": {"foo": 7},
            "doc": {"n": {"m": 1}, "status": "done"},
        }
    ]
    assert json.loads(run("find", "foo", "8", "--json")[1]) == []


def test_finding_nothing_is_no_error(run: Run, project: Path) -> None:
    assert run("find", "foo", "8") == (0, "", "")


def test_a_query_that_cannot_be_understood_names_the_column(run: Run, project: Path) -> None:
    code, out, err = run("find", "foo 42 a.$gtt 3")
    assert (code, out) == (2, "")
    assert "column 8" in err
    assert "$gt" in err
    assert "Traceback" not in err


def test_the_project_is_found_upward_or_named(run: Run, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "deep" / "er").mkdir(parents=True)
    monkeypatch.chdir(project / "deep" / "er")
    assert len(run("find")[1].split()) == 3
    monkeypatch.chdir("/")
    code, out, err = run("find")
    assert (code, out) == (3, "")
    assert "sigfs init" in err
    assert len(run("find", "-p", str(project))[1].split()) == 3


def test_unknown_commands_name_a_near_one(run: Run) -> None:
    code, _, err = run("fnd")
    assert code == 2
    assert "'find'" in err


@pytest.mark.parametrize("command", app.Commands.MODULES)
def test_every_command_has_help_with_examples(run: Run, command: str) -> None:
    code, out, err = run(command, "-h")
    assert code == 0, err
    assert f"Usage: sigfs {command}" in out
    assert "Example" in out


def test_version_and_help_are_there(run: Run) -> None:
    assert run("--version")[1].startswith("sigfs ")
    assert "demo" in run("--help")[1]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(run: Run, shell: str) -> None:
    code, out, _ = run("completion", shell)
    assert code == 0
    assert "_SIGFS_COMPLETE" in out


def test_without_a_reader_the_command_ends_by_sigpipe_and_quietly(project: Path) -> None:
    command = real_command("find", "-p", str(project))
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        err = process.stderr.read()
    assert (err, process.returncode) == (b"", -signal.SIGPIPE)


@pytest.mark.parametrize("arguments", [["find"], ["find", "--sp"], ["status"]])
def test_closed_standard_streams_are_no_bug(project: Path, arguments: list[str]) -> None:
    shell = ["sh", "-c", '"$@" <&- >&- 2>&-', "sh", *real_command(*arguments)]
    assert subprocess.run(shell, cwd=project).returncode == 0


def test_without_a_command_there_is_help(run: Run) -> None:
    code, out, err = run()
    assert (code, out) == (2, "")
    assert err.startswith("Usage: sigfs")


@pytest.mark.parametrize(
    "arguments",
    [["init", ""], ["find", "-p", ""], ["mount", ""], ["mount", "", "x"], ["umount", ""], ["status", ""]],
)
def test_empty_paths_are_refused(run: Run, project: Path, arguments: list[str]) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert "empty path" in err


def test_keys_of_job_are_spelled_as_in_a_query(run: Run, project: Path) -> None:
    assert json.loads(run("job", "sp.id=4", "sp.a.b=5", "--dry-run", "--json")[1])["sp"] == {"id": 4, "a": {"b": 5}}


@pytest.mark.parametrize(
    ("word", "remedy"),
    [
        ("doc.x=1", """sigfs job '{"doc": {"x": 1}}'"""),
        ("a@gt=1", """sigfs job '{"a@gt": 1}'"""),
        ("a.$gt=1", """sigfs job '{"a": {"$gt": 1}}'"""),
        ('a={"$gt":1}', """sigfs job '{"a": {"$gt": 1}}'"""),
        ('a=[{"$gt":1}]', """sigfs job '{"a": [{"$gt": 1}]}'"""),
        ("id=1", "sp.id"),
        ("doc=1", "sp.doc"),
    ],
)
def test_job_refuses_what_was_meant_for_a_query_and_names_the_remedy(
    run: Run, project: Path, word: str, remedy: str
) -> None:
    code, out, err = run("job", word)
    assert (code, out) == (2, "")
    assert remedy in err


def test_job_in_a_workspace_that_cannot_be_written_names_the_workspace(
    run: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        raise OSError(30, "Read-only file system", path)

    monkeypatch.setattr(os, "mkdir", refuse)
    code, out, err = run("job", "new=1")
    assert (code, out) == (1, "")
    assert err.startswith(f"sigfs: {project}/workspace: Read-only file system")


def test_find_says_which_keys_no_job_has(run: Run, project: Path) -> None:
    code, out, err = run("find", "foo=42")
    assert (code, out) == (0, "")
    assert err == "sigfs: no job has the key 'foo=42'; did you mean: foo 42?\n"
    code, out, err = run("find", "a@exists", "true", "--sp", "none,foo", "--doc", "n,neither")
    assert (code, out.count("\n")) == (0, 2)
    assert err.splitlines() == ["sigfs: no job has the key 'none'", "sigfs: no job has the key 'doc.neither'"]
    assert run("find", "id", "0")[2] == ""


def test_find_says_which_directories_are_no_jobs(run: Run, project: Path) -> None:
    assert run("find")[2] == ""
    for digit in "1", "0":
        (project / "workspace" / (digit * 32)).mkdir()
    code, out, err = run("find")
    assert (code, out.count("\n")) == (0, 3)
    assert "2 directories" in err
    assert f"{'0' * 32}: has no signac_statepoint.json" in err


def test_json_that_the_shell_has_torn_apart_is_explained(run: Run, project: Path) -> None:
    code, _, err = run("find", "foo.$in [8, 11]")
    assert code == 2
    assert "single quotes, as a.$in '[8, 11]'" in err


def test_a_table_on_a_terminal_is_never_cut(project: Path) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 20, 0, 0))
    subprocess.run(real_command("find", "-p", str(project), "foo", "42", "--sp", "--path"), stdout=theirs, check=True)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # EIO: the end
        while data := os.read(ours, 1 << 16):
            shown += data
    os.close(ours)
    lines = shown.decode().splitlines()
    assert lines[0].split() == ["path", "a.b", "bar", "foo", "name"]
    assert sorted(line.split()[0] for line in lines[1:]) == sorted(
        f"{project}/workspace/{job}" for job in (FOO_42, FOO_42_BAR)
    )


def test_words_complete(run: Run, project: Path) -> None:
    assert completed("find", "") == ["a.b", "bar", "foo", "name"]
    assert completed("find", "f") == ["foo"]
    assert completed("find", "foo", "") == ["7", "42"]
    assert completed("find", "bar", "t") == ["true"]
    assert completed("find", "name", "") == []
    assert completed("mount", "-o", "ro,tr") == [
        "ro,transport=", "ro,transport=fusepy", "ro,transport=kernel", "ro,transport=llfuse",
    ]  # fmt: skip
    assert completed("mount", "") == ["dir"]


def test_an_interrupt_ends_quietly(run: Run, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(path: str | None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sigfs.cli.project.get_project", interrupt)
    code, out, err = run("find")
    assert (code, out) == (130, "")
    assert "Traceback" not in err


def test_a_bug_shows_its_traceback(run: Run, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: str | None) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("sigfs.cli.project.get_project", fail)
    code, out, err = run("find")
    assert (code, out) == (70, "")
    assert "Traceback" in err
