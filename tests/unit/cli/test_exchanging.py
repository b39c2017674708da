"""put and get: whole or not at all, nothing replaced unasked, and never out of the job."""

from __future__ import annotations

import errno
import io
import json
import os
import resource
import signal
import stat
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from sigfs.api.job import Job
from sigfs.api.project import init_project
from sigfs.model import exchange
from tests.support.commands import Run, completed, real_command
from tests.support.wait import wait_until


@pytest.fixture
def job(run: Run, tmp_path: Path) -> Job:
    """A job in the project of the working directory."""
    return init_project(tmp_path).open({"foo": 42})


def names_in(job: Job) -> list[str]:
    return sorted(name for name in os.listdir(job) if name != "signac_statepoint.json")


def test_files_go_into_a_job_and_out_of_it(run: Run, job: Job, tmp_path: Path) -> None:
    names = ["a.txt", "with space\nand newline", "-dash", "ünï"]
    for name in names:
        (tmp_path / name).write_text(name)
    assert run("put", job.id, *(f"./{name}" for name in names)) == (0, "", "")
    assert names_in(job) == sorted(names)
    for name in names:
        assert run("get", job.id, "--", name, "out")[0] == 0
        assert (tmp_path / "out").read_text() == name
        (tmp_path / "out").unlink()
    assert run("get", job.id, "a.txt", "-") == (0, "a.txt", "")


def test_put_keeps_permissions_and_the_umask(run: Run, job: Job, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o777)
    before = os.umask(0o027)
    try:
        run("put", job.id, "script")
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(job.fn("script")).st_mode) == 0o750


def test_standard_input_gets_a_name(run: Run, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    done = subprocess.run(real_command("put", job.id, "-", "--as", "a/b.txt"), input=b"text")
    assert done.returncode == 0
    assert Path(job.fn("a/b.txt")).read_text() == "text"
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"")))
    assert run("put", job.id, "-")[0] == 2


def test_nothing_is_replaced_unless_that_is_said(run: Run, job: Job, tmp_path: Path) -> None:
    for name, text in (("one", "new"), ("two", "new")):
        (tmp_path / name).write_text(text)
    Path(job.fn("two")).write_text("old")
    code, out, err = run("put", job.id, "one", "two")
    assert (code, out) == (1, "")
    assert job.fn("two") in err
    assert "--force" in err
    assert names_in(job) == ["two"]
    assert run("put", job.id, "one", "two", "--force")[0] == 0
    assert Path(job.fn("two")).read_text() == "new"
    (tmp_path / "two").write_text("mine")
    assert run("get", job.id, "two")[0] == 1
    assert (tmp_path / "two").read_text() == "mine"
    assert run("get", job.id, "two", "--force")[0] == 0
    assert (tmp_path / "two").read_text() == "new"


def test_force_does_not_replace_a_directory(run: Run, job: Job, tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    os.mkdir(job.fn("x"))
    assert run("put", job.id, "x", "--force")[0] == 1
    assert os.path.isdir(job.fn("x"))
    assert names_in(job) == ["x"]


def test_directories_are_copied_where_that_is_said(run: Run, job: Job, tmp_path: Path) -> None:
    (tmp_path / "d" / "e").mkdir(parents=True)
    (tmp_path / "d" / "e" / "f").write_text("text")
    (tmp_path / "d" / "link").symlink_to("/etc")
    assert run("put", job.id, "d")[0] == 1
    assert names_in(job) == []
    assert run("put", job.id, "-r", "d")[0] == 0
    assert Path(job.fn("d/e/f")).read_text() == "text"
    assert os.readlink(job.fn("d/link")) == "/etc"
    assert run("put", job.id, "-r", "-f", "d")[0] == 1
    (tmp_path / "out").mkdir()
    assert run("get", job.id, "-r", "d", "out")[0] == 0
    assert (tmp_path / "out" / "d" / "e" / "f").read_text() == "text"
    assert run("get", job.id, "d", "-")[0] == 1


@pytest.mark.parametrize("name", ["signac_statepoint.json", "./signac_job_document.json"])
def test_what_a_job_is_cannot_be_put(run: Run, job: Job, tmp_path: Path, name: str) -> None:
    (tmp_path / "x").write_text("{}")
    code, _, err = run("put", job.id, "x", "--as", name, "--force")
    assert code == 1
    assert "sigfs migrate" in err or "sigfs doc" in err
    assert job.statepoint() == {"foo": 42}
    assert run("get", job.id, "signac_statepoint.json", "-")[1] == '{"foo": 42}'


@pytest.mark.parametrize("name", ["", "/", "..", "../x", "a/../../x", "/etc/x", "x/"])
def test_a_name_that_is_none_in_the_job_is_refused(run: Run, job: Job, tmp_path: Path, name: str) -> None:
    (tmp_path / "f").touch()
    assert run("put", job.id, "f", "--as", name)[0] == 2
    assert names_in(job) == []


@pytest.mark.parametrize("has_openat2", [True, False])
@pytest.mark.parametrize("target", ["..", "/etc", "../../secret"])
def test_no_link_leads_out_of_a_job(
    run: Run, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, has_openat2: bool
) -> None:
    if not has_openat2:
        monkeypatch.setattr(exchange, "_SYS_OPENAT2", -1)
    (tmp_path / "f").write_text("x")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "passwd").touch()
    os.symlink(target, job.fn("out"))
    for arguments in (
        ["put", job.id, "f", "--as", "out/f"],
        ["get", job.id, "out/passwd", "got"],
        ["get", job.id, "-r", "out", "got"],
        ["get", job.id, "../../f", "got"],
        ["get", job.id, "/etc/passwd", "got"],
    ):
        code, out, err = run(*arguments)
        assert (code, out) == (1, ""), arguments
        assert err.startswith("sigfs: ")
    assert not (tmp_path / "got").exists()
    assert run("put", job.id, "f", "--as", "out", "--force")[0] == 0
    assert Path(job.fn("out")).read_text() == "x"
    assert not os.path.islink(job.fn("out"))


def test_links_within_a_job_are_followed_when_files_are_taken_out(run: Run, job: Job, tmp_path: Path) -> None:
    os.makedirs(job.fn("runs/3"))
    Path(job.fn("runs/3/log")).write_text("text")
    os.symlink("runs/3", job.fn("latest"))
    os.symlink("../runs/3/log", job.fn("runs/log"))
    assert run("get", job.id, "latest/log", "-") == (0, "text", "")
    assert run("get", job.id, "runs/log") == (0, "", "")
    assert not (tmp_path / "log").is_symlink()


@pytest.mark.parametrize("kind", ["fifo", "device"])
def test_what_is_no_file_is_refused_and_not_waited_for(run: Run, job: Job, tmp_path: Path, kind: str) -> None:
    path = "/dev/zero" if kind == "device" else str(tmp_path / "fifo")
    os.mkfifo(tmp_path / "fifo")
    os.mkfifo(job.fn("fifo"))
    assert run("put", job.id, path, "--as", "x")[0] == 1
    assert run("get", job.id, "fifo", "out")[0] == 1
    assert names_in(job) == ["fifo"]


def test_where_a_copy_cannot_be_written_nothing_is_left(run: Run, job: Job, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * 5000)
    Path(job.fn("g")).write_bytes(b"x" * 5000)

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    put = subprocess.run(real_command("put", job.id, "f"), preexec_fn=limit, capture_output=True, text=True)
    get = subprocess.run(real_command("get", job.id, "g"), preexec_fn=limit, capture_output=True, text=True)
    assert (put.returncode, get.returncode) == (1, 1)
    assert job.fn("f") in put.stderr
    assert os.strerror(errno.EFBIG) in put.stderr
    assert names_in(job) == ["g"]
    assert sorted(os.listdir(tmp_path)) == [".signac", "f", "workspace"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_an_interrupted_copy_leaves_nothing(job: Job, number: int) -> None:
    with subprocess.Popen(real_command("put", job.id, "-", "--as", "x"), stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(b"begun")
        process.stdin.flush()
        wait_until(lambda: any(os.path.getsize(job.fn(name)) for name in names_in(job)))
        process.send_signal(number)
        assert process.wait() == 128 + number
    assert names_in(job) == []


def test_output_that_nobody_can_take_is_an_error(job: Job) -> None:
    Path(job.fn("f")).write_text("text")
    with open("/dev/full", "wb") as full:
        done = subprocess.run(real_command("get", job.id, "f", "-"), stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (1, "sigfs: No space left on device\n")


def test_put_and_get_say_where_in_json(run: Run, job: Job, tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    assert json.loads(run("put", job.id, "f", "--json")[1]) == [{"id": job.id, "name": "f", "path": job.fn("f")}]
    assert json.loads(run("get", job.id, "f", "g", "--json")[1])["path"] == str(tmp_path / "g")


def test_names_in_the_job_complete(run: Run, job: Job) -> None:
    os.makedirs(job.fn("runs/3"))
    Path(job.fn("result")).touch()
    assert completed("get", job.id, "r") == ["result", "runs/"]
    assert completed("get", job.id, "runs/") == ["runs/3/"]
