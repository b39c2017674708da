"""open: where the command runs, what it finds in its environment, and what becomes of exit codes and signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from sigfs.api.project import Project, init_project
from sigfs.cli.environment import environment_of, variables_of
from sigfs.model.types import Json
from tests.support.commands import Run, real_command
from tests.support.wait import wait_until


@pytest.fixture
def project(run: Run, tmp_path: Path) -> Project:
    """Three jobs in the project of the working directory."""
    made = init_project(tmp_path)
    for foo in range(3):
        made.open({"foo": foo, "a": {"b": "x y"}})
    return made


def open_in(project: Project, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    command = real_command("open", "-p", project.root, *arguments)
    return subprocess.run(command, capture_output=True, text=True, **options)  # type: ignore[call-overload, no-any-return]


def test_the_command_runs_in_the_job_and_knows_it(project: Project) -> None:
    (job,) = project.find("foo 1")
    script = 'pwd; echo "$PWD"; echo "$SIGFS_JOB_ID $SIGFS_SP_FOO $SIGFS_SP_A_B"; echo "$SIGFS_STATEPOINT"'
    done = open_in(project, job.id[:6], "--", "sh", "-c", script)
    pwd, pwd_too, known, statepoint = done.stdout.splitlines()
    assert pwd == pwd_too == os.fspath(job)
    assert known == f"{job.id} 1 x y"
    assert json.loads(statepoint) == job.statepoint()
    assert (done.returncode, done.stderr) == (0, "")


def test_options_of_the_command_are_its_own(project: Project) -> None:
    done = open_in(project, "foo", "1", "--", "printf", "%s\n", "--json", "-1", "--")
    assert done.stdout == "--json\n-1\n--\n"


def test_several_jobs_are_done_in_their_order(project: Project) -> None:
    done = open_in(project, "--all", "--", "sh", "-c", "echo $SIGFS_JOB_ID")
    assert done.stdout.split() == sorted(project.workspace.ids())


def test_the_first_failure_ends_it_and_gives_the_code(project: Project) -> None:
    done = open_in(project, "--all", "--", "sh", "-c", "echo $SIGFS_JOB_ID; exit 7")
    first, *_ = sorted(project.workspace.ids())
    assert (done.returncode, done.stdout) == (7, f"{first}\n")
    assert f"job {first}: exit code 7" in done.stderr
    assert "2 of 3 jobs have not been begun" in done.stderr


@pytest.mark.parametrize("parallel", ["1", "3"])
def test_keep_going_goes_on_and_gives_the_code_of_a_failure(project: Project, parallel: str) -> None:
    script = 'echo $SIGFS_JOB_ID; test "$SIGFS_SP_FOO" != 1 || exit 5'
    done = open_in(project, "--all", "--keep-going", "--parallel", parallel, "--", "sh", "-c", script)
    assert done.returncode == 5
    assert sorted(done.stdout.split()) == sorted(project.workspace.ids())


def test_exit_codes_are_printed_as_json_beside_the_output(project: Project) -> None:
    done = open_in(project, "--all", "--keep-going", "--json", "--", "sh", "-c", "echo out; exit $SIGFS_SP_FOO")
    assert {each["id"]: each["exit_code"] for each in json.loads(done.stdout)} == {
        job.id: job.statepoint.foo for job in project
    }
    assert done.stderr.count("out\n") == 3


@pytest.mark.parametrize(
    ("command", "code"), [("no-such-command", 127), ("/etc/passwd", 126), ("sh -c 'kill -KILL $$'", 137)]
)
def test_commands_that_cannot_run_or_are_killed_have_the_codes_of_a_shell(
    project: Project, command: str, code: int
) -> None:
    words = ["sh", "-c", "kill -KILL $$"] if command.startswith("sh") else [command]
    done = open_in(project, "foo", "1", "--", *words)
    assert done.returncode == code
    assert "Traceback" not in done.stderr


def test_without_a_command_one_job_is_opened_in_a_shell(project: Project) -> None:
    done = open_in(project, "foo", "1", input="pwd\n", env={**os.environ, "SHELL": "/bin/sh"})
    assert done.stdout.strip() == os.fspath(next(iter(project.find("foo 1"))))
    done = open_in(project, "--all", input="pwd\n")
    assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 3), (signal.SIGINT, 4), (signal.SIGHUP, 5)])
def test_signals_are_passed_on_and_no_other_job_is_begun(
    project: Project, tmp_path: Path, number: int, code: int
) -> None:
    script = "trap 'exit 3' TERM; trap 'exit 4' INT; trap 'exit 5' HUP; echo $SIGFS_JOB_ID; "
    script += "for _ in $(seq 9999); do sleep 0.01; done"
    command = real_command("open", "-p", project.root, "--all", "--keep-going", "--", "sh", "-c", script)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        begun = process.stdout.readline().strip()
        process.send_signal(number)
        out, _ = process.communicate()
    assert (process.returncode, out) == (code, "")
    assert begun == min(project.workspace.ids())


def test_a_signal_ends_it_even_if_the_command_does_not_mind(project: Project, tmp_path: Path) -> None:
    script = f"trap 'touch {tmp_path}/got' TERM; echo ready; until test -e {tmp_path}/got; do sleep 0.01; done"
    command = real_command("open", "-p", project.root, "--all", "--", "sh", "-c", script)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.terminate()
        out, _ = process.communicate()
    assert (process.returncode, out) == (128 + signal.SIGTERM, "")


def test_a_job_that_has_gone_meanwhile_is_a_failure_of_that_job(project: Project) -> None:
    script = f"rmdir $(ls -d {project.workspace.path}/* | grep -v $SIGFS_JOB_ID) 2>/dev/null; echo $SIGFS_JOB_ID"
    first, *others = sorted(project.workspace.ids())
    for job_id in others:
        os.unlink(os.path.join(project.workspace.path, job_id, "signac_statepoint.json"))
    project.find()  # as others know them
    done = open_in(project, first, *others, "--keep-going", "--", "sh", "-c", script)
    assert (done.returncode, done.stdout) == (4, f"{first}\n")
    assert others[0] in done.stderr


def test_with_several_at_a_time_none_reads_standard_input(project: Project) -> None:
    done = open_in(project, "--all", "--parallel", "2", "--", "cat", input="text")
    assert (done.returncode, done.stdout) == (0, "")


def test_as_many_run_at_a_time_as_is_said(project: Project, tmp_path: Path) -> None:
    (tmp_path / "begun").mkdir()
    script = f"cd {tmp_path}/begun; touch $SIGFS_JOB_ID; until test $(ls | wc -l) = 3; do sleep 0.01; done"
    command = real_command("open", "-p", project.root, "--all", "--parallel", "3", "--", "sh", "-c", script)
    with subprocess.Popen(command) as process:
        wait_until(lambda: process.poll() is not None)
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("statepoint", "expected", "missing"),
    [
        ({"a": 1, "b": True, "c": None, "d": [1, "x"]}, {"A": "1", "B": "true", "C": "null", "D": '[1, "x"]'}, 0),
        ({"s": "42", "t": ""}, {"S": "42", "T": ""}, 0),
        ({"a": {"b": {"c": 0.1}}, "e": {}}, {"A_B_C": "0.1", "E": "{}"}, 0),
        ({"a b": 1, "é": 2, "x=y": 3}, {"A_B": "1", "_": "2", "X_Y": "3"}, 0),
        ({"a": {"b": 1}, "a_b": 2, "c": 3}, {"C": "3"}, 1),
        ({"a": 1, "A": 2}, {}, 1),
        ({"nul": "a\0b", "surrogate": "\ud800", "long": "x" * 131072}, {}, 4),
    ],
)
def test_each_value_has_a_variable_of_its_own_or_none(
    statepoint: dict[str, Json], expected: dict[str, str], missing: int
) -> None:
    variables, why = variables_of(statepoint)
    whole = variables.pop("SIGFS_STATEPOINT", None)
    assert whole is None or json.loads(whole) == statepoint
    assert variables == {f"SIGFS_SP_{name}": value for name, value in expected.items()}
    assert len(why) == missing


def test_no_state_point_is_null() -> None:
    assert variables_of(None) == ({"SIGFS_STATEPOINT": "null"}, [])


def test_what_a_command_around_has_set_is_not_inherited() -> None:
    others = {"SIGFS_SP_OLD": "1", "SIGFS_JOB_ID": "x", "SIGFS_STATEPOINT": "{}", "PATH": "/bin"}
    assert environment_of({"SIGFS_SP_NEW": "2"}, others) == {"PATH": "/bin", "SIGFS_SP_NEW": "2"}


def test_it_stops_and_goes_on_with_the_command(project: Project) -> None:
    command = real_command(
        "open", "-p", project.root, "foo", "1", "--", "sh", "-c", "echo begun; read line; echo $line"
    )
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, process_group=0
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
            process.send_signal(signal.SIGTSTP)  # to it alone, as by a shell script
            stopped = wait_until(lambda: os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOHANG))
            assert stopped.si_status == signal.SIGTSTP
            with open(f"/proc/{process.pid}/task/{process.pid}/children", encoding="ascii") as file:
                (child,) = file.read().split()
            assert "stopped" in Path(f"/proc/{child}/status").read_text()
            process.send_signal(signal.SIGCONT)
            out, _ = process.communicate("on\n", timeout=60)
            assert (process.returncode, out) == (0, "on\n")
        finally:
            process.kill()


def test_what_the_caller_has_left_open_is_the_commands(project: Project) -> None:
    readable, writable = os.pipe()
    try:
        done = open_in(
            project, "foo", "1", "--", "sh", "-c", f"echo text > /proc/self/fd/{writable}", pass_fds=[writable]
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert os.read(readable, 100) == b"text\n"
    finally:
        os.close(readable)
        os.close(writable)
