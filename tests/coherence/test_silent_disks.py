"""A disk that does not answer holds up neither the start nor the end of a mount, nor what is on other disks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from sigfs.model.indexed import add_indexed
from tests.coherence.conftest import gone
from tests.support.projects import add_job, job_id, make_project
from tests.support.server import Server, mount_type, unmount
from tests.support.slow_disk import SlowDisk
from tests.support.wait import wait_until

pytestmark = pytest.mark.fuse


class HastyServer(Server):
    """A server that waits for nothing longer than it must."""

    def command(self) -> Sequence[str]:
        shim = (
            "import sigfs.mount.ending as ending, sigfs.mount.signals as signals, sigfs.watch.outside as outside\n"
            "ending.END_S = signals.GRACE_S = outside.START_PATIENCE_S = 0.5\n"
            "from sigfs.cli import main; main()"
        )
        command = list(super().command())
        at = command.index("-m")
        return [*command[:at], "-c", shim, *command[at + 2 :]]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SlowDisk]:
    made = SlowDisk(tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.stop()


def make_server(project: str) -> HastyServer:
    server = HastyServer("kernel", project)
    server.may_say = "does not answer"
    return server


@pytest.fixture
def frozen(disk: SlowDisk, tmp_path: Path) -> str:
    """A project with the job a=1, and jobs a=2 on the disk and a=3 beside it, in indexed directories."""
    root = make_project(str(tmp_path / "project"), {"a": 1})
    for directory, a in ((disk.mountpoint / "data", 2), (tmp_path / "local", 3)):
        make(directory / "first", a)
        add_indexed(root, str(directory))
    return root


def make(path: Path, a: int) -> None:
    path.mkdir(parents=True)
    (path / "._new").write_text(json.dumps({"a": a}))
    (path / "._new").rename(path / "signac_statepoint.json")


def seen(server: Server) -> set[str]:
    return set(os.listdir(os.path.join(server.mountpoint, "a")))


def wait_for_end(server: Server) -> None:
    """Wait until a server has ended, but for threads that this disk lets go of only when it answers."""
    process = server.process
    assert process is not None
    wait_until(lambda: gone(process.pid))


def troubles(server: Server) -> list[str]:
    with open(os.path.join(server.mountpoint, ".sigfs/status.json"), "rb") as file:
        return [each["trouble"] for each in json.load(file)["watch"]["indexed"]]


def test_an_indexed_directory_that_does_not_answer_is_left_out_until_it_does(
    disk: SlowDisk, frozen: str, tmp_path: Path
) -> None:
    said = f"{disk.mountpoint}/data: it does not answer"
    server = make_server(frozen)
    try:
        server.start()
        assert seen(server) == {"1", "2", "3"}
        with disk.hanging():
            wait_until(lambda: troubles(server) == [said, ""])
            make(tmp_path / "local" / "second", 4)
            add_job(frozen, {"a": 5})
            wait_until(lambda: seen(server) == {"1", "2", "3", "4", "5"})
            assert len(os.listdir(os.path.join(server.mountpoint, ".sigfs/find/doc.q@exists false"))) > 0
            unmount(server.mountpoint)
            wait_for_end(server)
    finally:
        server.kill()
    again = make_server(frozen)
    try:
        with disk.hanging():
            again.start()
            assert seen(again) == {"1", "3", "4", "5"}
            assert troubles(again) == [said, ""]
            assert "does not answer: it is left out until it does" in again.log()
        wait_until(lambda: seen(again) == {"1", "2", "3", "4", "5"})
        wait_until(lambda: troubles(again) == ["", ""])
        again.stop()
    finally:
        again.kill()


def test_a_workspace_that_does_not_answer_keeps_neither_status_nor_umount_waiting(disk: SlowDisk) -> None:
    project = make_project(str(disk.mountpoint / "project"), {"a": 1}, {"a": 2})
    server = make_server(project)

    def sigfs(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "sigfs", *arguments, server.mountpoint]
        return subprocess.run(command, capture_output=True, text=True, timeout=SlowDisk.LIMIT_S)

    try:
        server.start()
        with disk.hanging():
            job = os.path.join(server.mountpoint, "a/1/signac_statepoint.json")
            client = subprocess.Popen([sys.executable, "-c", f"open({job!r}).read()"], stderr=subprocess.PIPE)
            try:
                wait_until(lambda: disk.hung() > 0)
                status = sigfs("status")
                assert (status.returncode, "alive" in status.stdout) == (0, True)
                assert sigfs("umount", "--lazy").returncode == 0
                assert mount_type(server.mountpoint) is None
            finally:
                client.kill()
                client.communicate()
            wait_for_end(server)
    finally:
        server.kill()


def test_a_server_that_hangs_before_it_is_mounted_can_be_told_to_end(disk: SlowDisk) -> None:
    project = make_project(str(disk.mountpoint / "project"), {"a": 1})
    server = make_server(project)
    try:
        with disk.hanging("readdir", "workspace"):
            process = server.process = subprocess.Popen(
                server.command(), stdin=subprocess.PIPE, stdout=server._log, stderr=subprocess.STDOUT
            )
            wait_until(lambda: disk.hung() > 0)
            process.terminate()
            wait_until(lambda: "ended before it was mounted" in server.log())
        assert process.wait(60) == 0
        assert mount_type(server.mountpoint) is None
    finally:
        server.kill()
    assert os.path.exists(os.path.join(project, "workspace", job_id({"a": 1})))
