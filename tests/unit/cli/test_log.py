"""Logs: their forms, their bound, that nobody waits for them, and ``sigfs log``."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from sigfs.cli import log as log_module
from sigfs.cli import logs, registry
from sigfs.cli.log import journal_command
from sigfs.cli.logs import BoundedFile, JsonLines, LogStyle, Unhurried, log_file_of
from tests.support.commands import Run
from tests.support.wait import wait_until


def record(message: str, *arguments: object, exc_info: object = None) -> logging.LogRecord:
    return logging.LogRecord("sigfs.test", logging.WARNING, __file__, 1, message, arguments, exc_info)  # type: ignore[arg-type]


def test_json_is_one_object_a_line_with_the_time_in_utc() -> None:
    try:
        raise ValueError("of\nno use \udcff")
    except ValueError as error:
        line = JsonLines().format(record("%s is\nbad", "x\udcff", exc_info=(ValueError, error, error.__traceback__)))
    assert "\n" not in line
    assert line.isascii()
    said = json.loads(line)
    assert datetime.fromisoformat(said["ts"]).utcoffset().total_seconds() == 0  # type: ignore[union-attr]
    assert (said["level"], said["logger"], said["message"]) == ("WARNING", "sigfs.test", "x\udcff is\nbad")
    assert "ValueError: of\nno use" in said["exception"]
    assert "exception" not in json.loads(JsonLines().format(record("well")))


class Gate:
    """A disk that takes nothing until it is opened."""

    def __init__(self) -> None:
        self.opened, self.asked = threading.Event(), threading.Event()
        self.lines: list[str] = []

    def write(self, text: str) -> None:
        self.asked.set()
        self.opened.wait(60)
        self.lines.append(text)


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.opened.set()


def test_who_logs_does_not_wait_and_learns_what_was_lost(gate: Gate) -> None:
    handler = Unhurried(gate.write, limit=3)
    handler.handle(record("0"))
    assert gate.asked.wait(60)  # the writer has it, and hangs
    for number in range(1, 8):
        handler.handle(record("%d", number))
    gate.opened.set()
    handler.flush()
    handler.handle(record("%s", "last"))
    handler.close()
    assert gate.lines == ["0", "1", "2", "3", "4 messages are lost: the disk did not take them", "last"]


def test_the_end_does_not_wait_for_a_disk_that_hangs(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_FLUSH_S", 0.01)
    handler = Unhurried(gate.write)
    handler.handle(record("0"))
    handler.close()
    assert gate.lines == []


def test_a_full_disk_is_no_reason_to_end(tmp_path: Path) -> None:
    path = tmp_path / "full.log"
    path.symlink_to("/dev/full")
    file = BoundedFile(str(path))
    for number in range(300):
        file.write(f"{number} {'x' * 100}")
    file.close()
    path.unlink()
    file.write("again")
    file.close()
    assert path.read_text() == "again\n"


def test_there_are_two_files_at_most_and_each_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "LOG_BYTES", 4096)
    (tmp_path / "a.log").write_text(f"{'before' * 600}\n")
    file = BoundedFile(str(tmp_path / "a.log"))
    handler = Unhurried(file.write)
    for number in range(500):
        handler.handle(record("%04d %s", number, "x" * 40))
    handler.close()
    file.close()
    assert sorted(os.listdir(tmp_path)) == ["a.log", "a.log.1"]
    assert all(os.path.getsize(tmp_path / name) <= 4096 for name in os.listdir(tmp_path))
    lines = (tmp_path / "a.log.1").read_text().splitlines() + (tmp_path / "a.log").read_text().splitlines()
    assert [int(line[:4]) for line in lines] == list(range(500 - len(lines), 500))


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> registry.Registration:
    """This process, as the server of a mount whose log is ``log/mnt.log``."""
    monkeypatch.setattr(registry, "directories", lambda: [str(tmp_path / "run")])
    monkeypatch.setattr(logs.platformdirs, "user_log_dir", lambda *_, **__: str(tmp_path / "log"))
    (tmp_path / "log").mkdir()
    made = registry.Registration(
        os.getpid(),
        registry.start_time(os.getpid()) or 0,
        str(tmp_path / "mnt"),
        "/project",
        "auto",
        "",
        "kernel",
        read_only=False,
        log_file=str(tmp_path / "log" / "mnt.log"),
    )
    registry.register(made)
    return made


def test_the_last_lines_are_those_of_both_files(server: registry.Registration, run: Run) -> None:
    assert server.log_file is not None
    assert "nothing has been logged" in run("log", server.mountpoint)[2]
    Path(f"{server.log_file}.1").write_text("one\ntwo\n")
    Path(server.log_file).write_text("three\nfo")
    assert run("log", server.mountpoint) == (0, "one\ntwo\nthree\nfo\n", "")
    assert run("log", "-n", "3")[1] == "two\nthree\nfo\n"  # it is the only mount
    assert run("log", "-n", "1")[1] == "fo\n"
    assert run("log", "-n", "0")[1] == ""
    assert run("log", "--path")[1] == f"{server.log_file}\n"
    registry.register(replace(server, mountpoint="/elsewhere"))  # the file of the same process is replaced
    assert "is not mounted by you, and there is no log" in run("log", server.mountpoint)[2]


def test_of_a_mount_that_has_ended_the_log_is_still_shown(
    server: registry.Registration, run: Run, tmp_path: Path
) -> None:
    ended = log_file_of(str(tmp_path / "old"))
    Path(ended).write_text("the end\n")
    code, out, err = run("log", str(tmp_path / "old"))
    assert (code, out) == (0, "the end\n")
    assert "the last mount" in err


def test_several_mounts_are_named(server: registry.Registration, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    both = [server, replace(server, mountpoint="/b c")]
    monkeypatch.setattr(registry, "registrations", lambda: iter(both))
    code, _, err = run("log")
    assert code == 1
    assert "sigfs log '/b c'" in err


def test_of_a_foreground_mount_it_is_said_where_its_log_is(
    server: registry.Registration, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreground = replace(server, log_file=None)
    monkeypatch.setattr(registry, "registrations", lambda: iter([foreground]))
    monkeypatch.setattr(os, "readlink", lambda *_, **__: "pipe:[1]")
    monkeypatch.setattr(log_module, "journal_command", lambda _: "journalctl -u sigfs@x.service")
    assert "journalctl -u sigfs@x.service -n 5 -f" in run("log", "-f", "-n", "5")[2]
    monkeypatch.setattr(log_module, "journal_command", lambda _: "")
    code, _, err = run("log")
    assert code == 1
    assert "standard error, pipe:[1]" in err


@pytest.mark.parametrize(
    ("cgroup", "command"),
    [
        ("0::/system.slice/sigfs@data.service\n", "journalctl -u sigfs@data.service"),
        (
            "0::/user.slice/user-7.slice/user@7.service/app.slice/sigfs@my.service\n",
            "journalctl --user -u sigfs@my.service",
        ),
        ("0::/user.slice/user-7.slice/user@7.service/app.slice/term.scope\n", ""),
        ("0::/user.slice/user-7.slice/session-2.scope\n", ""),
        ("12:cpu:/\n1:name=systemd:/system.slice/sigfs@a b.service/sub\n", "journalctl -u 'sigfs@a b.service'"),
        ("0::/\n", ""),
    ],
)
def test_the_journal_is_asked_for_what_is_a_service(tmp_path: Path, cgroup: str, command: str) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "cgroup").write_text(cgroup)
    assert journal_command(7, str(tmp_path)) == command
    assert journal_command(8, str(tmp_path)) == ""


def test_following_goes_on_in_the_next_file_and_ends_with_the_server(
    server: registry.Registration, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(server.log_file or "")
    path.write_text("0\n1")
    found: list[str] = []
    alive = threading.Event()
    alive.set()
    monkeypatch.setattr(log_module, "_LOOK_S", 0.001)
    monkeypatch.setattr(registry.Registration, "alive", property(lambda _: alive.is_set()))

    reader = threading.Thread(target=lambda: _collect(path, server, found))
    reader.start()
    try:
        wait_until(lambda: found == ["begun"])
        with path.open("a") as file:
            file.write("1\n2\n")
        wait_until(lambda: found[1:] == ["11", "2"])
        with path.open("a") as file:
            file.write("3\n")
        path.rename(f"{path}.1")
        path.write_text("4\n5")
        wait_until(lambda: found[3:5] == ["3", "4"])
    finally:
        alive.clear()
        reader.join()
    assert found == ["begun", "11", "2", "3", "4", "5"]


def _collect(path: Path, server: registry.Registration, found: list[str]) -> None:
    with path.open() as file:
        *_, begun = file.read().split("\n")
        found.append("begun")
        for line in log_module.new_lines(str(path), file, begun, server):
            found.append(line)  # noqa: PERF402 - each as soon as it comes


def test_the_style_says_level_and_form() -> None:
    assert isinstance(LogStyle(format="json").formatter("%(message)s"), JsonLines)
    assert LogStyle().formatter("%(message)s").format(record("%d", 1)) == "1"
