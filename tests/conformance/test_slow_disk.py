"""A disk that hangs keeps only those waiting who want something of it, as long as they want it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.outcome import has_failed
from tests.support.projects import job_id, make_project
from tests.support.server import Server, mount_type, unmount
from tests.support.slow_disk import SlowDisk
from tests.support.wait import wait_until

STATEPOINTS = [{"a": a, "b": b} for a in (1, 2) for b in (1, 2)]
SLOW, OTHER = STATEPOINTS[0], STATEPOINTS[3]

HANGING = {
    "lookup": ("getattr", "os.stat('{}/none')"),
    "readdir": ("readdir", "os.listdir('{}')"),
    "open": ("open", "open('{}/file')"),
    "create": ("create", "open('{}/new', 'x')"),
    "mkdir": ("mkdir", "os.mkdir('{}/directory')"),
    "unlink": ("unlink", "os.unlink('{}/file')"),
    "rename": ("rename", "os.rename('{}/file', '{}/renamed')"),
    "fsync": ("fsync", "os.fsync(os.open('{}/file', os.O_RDWR))"),
    "read": ("read", "open('{}/file').read()"),
    "write": ("write", "os.write(os.open('{}/file', os.O_RDWR), b'data')"),
    "copy": ("read", "os.copy_file_range(os.open('{}/file', 0), os.open('{}/second', os.O_RDWR), 1 << 20)"),
}

WAITS = ("request_wait", "wait_bit", "page_bit")
"""Parts of the names of functions in which the kernel waits for an answer, or for the pages that come with one."""


class World:
    """A project on a slow disk, and its mount."""

    def __init__(self, base: Path, transport: str = "kernel") -> None:
        self.disk = SlowDisk(base)
        self.disk.start()
        project = make_project(str(self.disk.mountpoint / "project"), *STATEPOINTS)
        for statepoint in STATEPOINTS:
            for name in ("file", "second"):
                Path(project, "workspace", job_id(statepoint), name).write_text("data")
        self.server = Server(transport, project, "nopassthrough", "attr_timeout=0", "entry_timeout=0")
        self.server.start()
        self.top = Path(self.server.mountpoint)
        self.clients: list[subprocess.Popen[bytes]] = []

    def job(self, statepoint: dict[str, int]) -> Path:
        return self.top / "a" / str(statepoint["a"]) / "b" / str(statepoint["b"])

    def client(self, code: str) -> subprocess.Popen[bytes]:
        """Have another process do something in the slow job."""
        code = "import os; " + code.replace("{}", str(self.job(SLOW)))
        client = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)
        self.clients.append(client)
        return client

    def hang(self, code: str) -> subprocess.Popen[bytes]:
        """Have another process hang. The server may have hung before, which looks at the disk by itself."""
        before = self.disk.hung()
        client = self.client(code)

        def hangs() -> bool:
            waits_for = Path(f"/proc/{client.pid}/wchan").read_text()
            return self.disk.hung() > before and any(name in waits_for for name in WAITS)

        wait_until(lambda: client.poll() is not None or hangs(), what="a client to hang")
        assert client.poll() is None, client.communicate()
        return client

    def close(self) -> None:
        self.disk.go_on()
        for client in self.clients:
            client.communicate(timeout=60)


@pytest.fixture
def world(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    made = World(tmp_path, getattr(request, "param", "kernel"))
    try:
        yield made
        made.close()
        if not has_failed(request.node) and made.server.process is not None and made.server.process.poll() is None:
            made.server.stop()
    finally:
        made.disk.go_on()
        made.server.kill()
        made.disk.stop()


@pytest.mark.parametrize("what", HANGING)
def test_what_hangs_in_one_job_holds_up_nobody_elsewhere(world: World, what: str) -> None:
    operation, code = HANGING[what]
    assert os.listdir(world.job(OTHER))  # so that what else the disk has to be asked is known
    with world.disk.hanging(operation, job_id(SLOW)):
        hanging = [world.hang(code)]
        for path in (world.top, world.top / "a", world.top / "a" / "1" / "b"):
            assert os.listdir(path)
        assert [entry.name for entry in os.scandir(world.top / "a")] == ["1", "2"]
        other = world.job(OTHER)
        assert (other / "file").stat().st_size == 4
        assert (other / "second").read_text() == "data"
        (other / "made").write_text("data")
        (other / "made").rename(other / "moved")
        (other / "moved").unlink()
        with (other / "file").open("r+") as file:
            os.fsync(file.fileno())
        assert hanging[0].poll() is None
    assert [client.wait(60) for client in hanging] == [1 if what == "lookup" else 0]


def test_a_disk_that_hangs_as_a_whole_leaves_the_virtual_directories(world: World) -> None:
    with world.disk.hanging():
        clients = [world.hang("os.stat('{}/file')")]
        clients += [world.client(f"os.stat('{{}}/../1/../2/{number}')") for number in range(20)]
        for _ in range(20):
            assert sorted(os.listdir(world.top)) == ["a"]
            assert sorted(os.listdir(world.top / "a" / "2" / "b")) == ["1", "2"]
            assert (world.top / "a" / "2").is_dir()
            assert not (world.top / "a" / "3").exists()
        assert json.loads(os.getxattr(world.top, "user.sigfs.status"))["stuck"] > 0
        command = [sys.executable, "-m", "sigfs", "status", "--json", str(world.top)]

        def jobs() -> object:
            (row,) = json.loads(subprocess.run(command, capture_output=True, timeout=60).stdout)
            return row["jobs"]

        assert wait_until(jobs) == len(STATEPOINTS)
        assert [client.poll() for client in clients] == [None] * 21
    assert [client.wait(60) for client in clients] == [0] + [1] * 20


@pytest.mark.parametrize("what", HANGING)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_client_that_is_killed_while_it_hangs_ends_at_once(world: World, what: str, number: signal.Signals) -> None:
    operation, code = HANGING[what]
    with world.disk.hanging(operation, job_id(SLOW)):
        client = world.hang(code)
        client.send_signal(number)
        wait_until(lambda: client.poll() is not None, what="the client to end")
        assert client.returncode == -number
    world.job(SLOW).stat()


def test_a_signal_that_is_caught_ends_no_call_and_the_next_one_may_kill(world: World) -> None:
    code = "import signal; signal.signal(signal.SIGUSR1, lambda *_: None); os.stat('{}/none')"
    with world.disk.hanging("getattr", job_id(SLOW)):
        client = world.hang(code)
        client.send_signal(signal.SIGUSR1)
        assert os.listdir(world.top)
        assert client.poll() is None
        client.kill()
        wait_until(lambda: client.poll() is not None, what="the client to end")


def test_more_reads_may_hang_than_the_pool_has_threads(world: World) -> None:
    with world.disk.hanging("read", job_id(SLOW)):
        clients = [world.hang("open('{}/file').read()")]
        clients += [
            world.client("fd = os.open('{}/file', os.O_RDONLY | os.O_DIRECT); os.read(fd, 4096)") for _ in range(12)
        ]
        wait_until(lambda: (world.job(OTHER) / "file").read_text() == "data")
    assert [client.wait(60) for client in clients] == [0] * 13


def test_a_server_that_is_told_to_end_leaves_nobody_waiting_though_the_disk_hangs(world: World) -> None:
    process = world.server.process
    assert process is not None
    with world.disk.hanging("getattr", job_id(SLOW)):
        client = world.hang("os.stat('{}/file')")
        process.terminate()
        wait_until(lambda: client.poll() is not None, SlowDisk.LIMIT_S, "the client to be told")
        assert mount_type(world.server.mountpoint) is None
    assert process.wait(60) == 0  # this disk lets go of no thread before it answers


def test_a_mount_taken_out_of_the_tree_ends_when_the_disk_answers(world: World) -> None:
    with world.disk.hanging("getattr", job_id(SLOW)):
        client = world.hang("os.stat('{}/file')")
        unmount(world.server.mountpoint, lazy=True)
    assert client.wait(60) == 0
    process = world.server.process
    assert process is not None
    assert process.wait(60) == 0


@pytest.mark.parametrize("world", ["kernel", "llfuse"], indirect=True)
def test_who_asks_where_a_server_hangs_is_told(world: World) -> None:
    process = world.server.process
    assert process is not None
    who = "sigfs-serve-[^:]*" if world.server.transport == "kernel" else "MainThread [^:]*"

    def is_told() -> bool:
        assert process is not None
        process.send_signal(signal.SIGUSR1)
        return re.search(f"^{who}: . [a-z_]*(?:{'|'.join(WAITS)})", world.server.log(), re.MULTILINE) is not None

    with world.disk.hanging("getattr", job_id(SLOW)):
        world.hang("os.stat('{}/none')")
        wait_until(is_told, what="the stacks of who waits")
        if world.server.transport == "kernel":
            stuck_s = wait_until(lambda: json.loads(os.getxattr(world.top, "user.sigfs.status"))["stuck_s"])
            wait_until(lambda: json.loads(os.getxattr(world.top, "user.sigfs.status"))["stuck_s"] > stuck_s)
