"""A mount as a service: what its manager hears of it, over each transport."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.drivers import STATEPOINTS
from tests.support.manager import Manager
from tests.support.projects import make_project
from tests.support.server import Server
from tests.support.wait import wait_until

NOT_ON = ("plain", "direct")

HANGING = """
import os, sys, threading
from sigfs.cli import main
from sigfs.vfs.operations import Operations

looked, begun, release = Operations.lookup, [], threading.Event()

def lookup(self, parent, name, *more, **others):
    if name == "slow":  # waits for a disk, so that another thread takes over
        begun.append(name)
        os.read(0, 1)
    if name == "hang":  # the loop itself; no system call that another thread could take over in
        begun.append(name)
        release.wait()
    return looked(self, parent, name, *more, **others)

def tell():
    while True:
        release.wait(0.01)
        while begun:
            os.mkdir(f"{sys.argv[-1]}.{begun.pop()}")
        if os.path.exists(sys.argv[-1] + ".go"):
            release.set()

Operations.lookup = lookup
threading.Thread(target=tell, daemon=True).start()
main(sys.argv[1:])
"""


class HangingServer(Server):
    def command(self) -> list[str]:
        return [sys.executable, "-c", HANGING, *super().command()[3:]]


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    made = Manager(f"@sigfs-test-{os.getpid()}")
    monkeypatch.setenv("NOTIFY_SOCKET", made.address)
    monkeypatch.setenv("WATCHDOG_USEC", "100000")
    yield made
    made.close()


@pytest.fixture
def project(tmp_path: Path) -> str:
    return make_project(str(tmp_path / "a project"), *STATEPOINTS)


def test_the_manager_hears_when_the_mount_answers_lives_reloads_and_ends(
    driver: str, manager: Manager, project: str
) -> None:
    server = Server(driver, project)
    try:
        server.start()
        before = manager.until("WATCHDOG=1")
        starting = [line for message in before for line in message]
        assert starting.index("READY=1") > starting.index(f"STATUS=Reading jobs: 0 of {len(STATEPOINTS)}")
        assert f"STATUS={project} on {server.mountpoint}: {len(STATEPOINTS)} jobs, 0 files open" in before[-1]
        compared_s = last_comparison_s(server)
        assert server.process is not None
        server.process.send_signal(signal.SIGHUP)
        manager.until("RELOADING=1")
        manager.until("READY=1")
        assert last_comparison_s(server) > compared_s
        manager.until("WATCHDOG=1")
        server.process.send_signal(signal.SIGTERM)
        manager.until("STOPPING=1")
        assert server.process.wait(60) == 0
        assert "sigfs: INFO: reloaded" in server.log()
    finally:
        server.kill()


def last_comparison_s(server: Server) -> float:
    def ended() -> float:
        status = json.loads(os.getxattr(server.mountpoint, "user.sigfs.status"))
        return float(status["watch"]["last"].get("time_s", 0.0))

    return wait_until(ended)


def test_a_loop_that_hangs_is_a_matter_to_the_watchdog_and_a_disk_that_hangs_is_not(
    driver: str, manager: Manager, project: str
) -> None:
    if driver != "kernel":
        pytest.skip("the others answer one request after the other")
    server = HangingServer(driver, project)
    server.may_say = "the service manager"  # whom this test does not listen to all the time
    callers: list[threading.Thread] = []

    def look_up(name: str) -> None:
        callers.append(threading.Thread(target=lambda: os.path.exists(os.path.join(server.mountpoint, name))))
        callers[-1].start()
        wait_until(lambda: os.path.isdir(f"{server.mountpoint}.{name}"))

    try:
        server.start()
        assert server.process is not None
        assert server.process.stdin is not None
        look_up("hang")
        wait_until(lambda: asks(server.process.pid))
        while not manager.hears_nothing():
            manager.next()
        assert asks(server.process.pid)
        assert manager.hears_nothing()
        os.mkdir(f"{server.mountpoint}.go")
        manager.until("WATCHDOG=1")
        look_up("slow")
        for _ in range(3):
            manager.until("WATCHDOG=1")
        server.process.stdin.write(b"x")
        server.process.stdin.flush()
        for caller in callers:
            caller.join(60)
        server.stop()
    finally:
        server.kill()
        for name in ("slow", "hang", "go"):
            if os.path.isdir(f"{server.mountpoint}.{name}"):
                os.rmdir(f"{server.mountpoint}.{name}")


def asks(pid: int) -> bool:
    """Whether a thread of the process waits for an answer of a FUSE server."""
    found = []
    for thread in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{thread}/wchan", encoding="ascii") as file:
            found.append(file.read())
    return "request_wait_answer" in found
