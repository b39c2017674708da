"""What a service manager hears, from a socket of the test's own."""

from __future__ import annotations

import errno
import os
import queue
from collections.abc import Iterator
from pathlib import Path

import pytest

from sigfs.mount import notifying
from sigfs.mount.notifying import Heartbeat, ServiceManager, answers
from sigfs.transports.mounts import Mount
from tests.support.manager import Manager


@pytest.fixture(params=["path", "abstract"])
def ear(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    made = Manager(str(tmp_path / "notify") if request.param == "path" else f"@sigfs-test-{os.getpid()}")
    yield made
    made.close()


def test_each_message_has_the_words_of_the_protocol(ear: Manager) -> None:
    manager = ServiceManager(ear.address, 10.0)
    manager.progress(1, 9)
    assert ear.next() == ["STATUS=Reading jobs: 1 of 9", "EXTEND_TIMEOUT_USEC=120000000"]
    manager.progress(2, 9)
    assert ear.hears_nothing()  # so soon after the last
    manager.ready("/p on /m\nand more")
    assert ear.next() == ["READY=1", "STATUS=/p on /m and more"]
    manager.reloading()
    reloading, clock, _ = ear.next()
    assert reloading == "RELOADING=1"
    assert clock.startswith("MONOTONIC_USEC=")
    manager.alive("well")
    assert ear.next() == ["WATCHDOG=1", "STATUS=well"]
    manager.stopping()
    manager.stopping()
    assert ear.next() == ["STOPPING=1", "STATUS=Unmounting"]
    assert ear.hears_nothing()


def test_a_manager_that_is_gone_is_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ServiceManager(str(tmp_path / "gone")).tell("READY=1")
    assert "READY=1" in caplog.text
    caplog.clear()
    ServiceManager().tell("READY=1")
    assert not caplog.text


def test_nothing_is_said_before_the_mount_has_answered_and_while_it_does_not() -> None:
    ear = Manager(f"@sigfs-test-beat-{os.getpid()}")
    asked: queue.SimpleQueue[None] = queue.SimpleQueue()
    answered: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def ask() -> bool:
        asked.put(None)
        return answered.get(timeout=60)

    heartbeat = Heartbeat(ServiceManager(ear.address, 0.002), lambda: "well", ask)
    try:
        heartbeat.start()
        asked.get(timeout=60)
        assert ear.hears_nothing()
        answered.put(True)
        assert ear.next()[0] == "READY=1"
        for _ in range(2):
            asked.get(timeout=60)
            assert ear.hears_nothing()
            answered.put(True)
            assert ear.next()[0] == "WATCHDOG=1"
        asked.get(timeout=60)
        heartbeat.stop()
        answered.put(True)
        assert heartbeat._thread is not None
        heartbeat._thread.join(60)
        assert ear.hears_nothing()
    finally:
        answered.put(False)
        ear.close()


@pytest.mark.parametrize(
    ("number", "is_alive"),
    [(errno.ENODATA, True), (errno.EOPNOTSUPP, True), (errno.ENOTCONN, False), (errno.ECONNABORTED, False)],
)
def test_any_answer_but_that_of_the_kernel_for_a_server_that_is_gone_is_one(
    monkeypatch: pytest.MonkeyPatch, number: int, is_alive: bool
) -> None:
    def refuse(path: str, name: str) -> bytes:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(notifying, "mounted", lambda path: Mount(path, 7, "fuse.sigfs", "/p", frozenset()))
    monkeypatch.setattr("os.getxattr", refuse)
    assert answers("/mnt") is is_alive


def test_who_is_not_mounted_any_more_is_taken_to_be_well(tmp_path: Path) -> None:
    assert answers(str(tmp_path))
