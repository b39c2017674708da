"""What an administrator sees of a mount in the background: status, log, stacks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sigfs.api.project import Project
from tests.coherence.conftest import Mounts
from tests.support.wait import wait_until

pytestmark = pytest.mark.fuse


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "mnt"


def test_status_and_log_of_a_mount_say_how_it_is(mounts: Mounts, project: Project, place: Path) -> None:
    mounts.mount(project, place, "--log-level", "error")
    pid = mounts.pid(place)
    project.open({"a": 9, "b": "x"})
    wait_until((place / "b/x/a/9").exists)
    with open(place / "b/x/a/9/file", "w") as file:
        # It has 2 s to answer, beside all else that runs.
        status = wait_until(lambda: found if "open_files" in (found := mounts.status(place)) else None)
        assert status is not None
        assert status["open_files"] == 1
        assert status == {**status, "jobs": 7, "pid": pid, "project": project.root, "mountpoint": str(place)}
        assert status["cache"]["names"] > 0  # type: ignore[index]
        assert status["watch"]["noticed_s"] > status["mounted_s"]  # type: ignore[index,operator]
        file.write("x")
    log_file = Path(mounts.sigfs("log", "--path", place).stdout.strip())
    assert log_file.read_text() == ""  # nothing of that level
    os.kill(pid, signal.SIGUSR1)
    wait_until(lambda: "stacks of" in log_file.read_text())
    os.kill(pid, signal.SIGUSR1)  # and it lives
    wait_until(lambda: log_file.read_text().count("stacks of") == 2)
    said = mounts.sigfs("log", place).stdout
    for words in ("MainThread (", "sigfs-serve-", "sigfs-watch (", "Server.run"):
        assert words in said, said
    follower = subprocess.Popen(
        [sys.executable, "-m", "sigfs", "log", "-f", "-n", "0", str(place)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=mounts.environment(),
    )
    try:
        assert mounts.sigfs("umount", place).returncode == 0
        _, err = follower.communicate(timeout=60)
    finally:
        follower.kill()
        follower.communicate()
    assert "has ended" in err or "is not mounted" in err  # it may have begun too late to follow
    ended = mounts.sigfs("log", "-n", "1", place)
    assert ended.returncode == 0
    assert "the last mount" in ended.stderr


def test_a_log_may_be_lines_of_json(mounts: Mounts, project: Project, place: Path) -> None:
    mounts.mount(project, place, "--log-format", "json")
    lines = mounts.sigfs("log", place).stdout.splitlines()
    assert any("is mounted on" in json.loads(line)["message"] for line in lines)
    assert mounts.sigfs("umount", place).returncode == 0
    process = mounts.start(project, place.with_name("other"), "--log-format", "json")
    process.send_signal(signal.SIGUSR1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0
    said = [json.loads(line) for line in err.splitlines()]
    assert {each.keys() >= {"ts", "level", "logger", "message"} for each in said} == {True}
