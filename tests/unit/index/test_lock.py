from __future__ import annotations

import threading
import time

import pytest

from sigfs.index.lock import SharedLock
from tests.support.wait import wait_until


def start(target: object) -> threading.Thread:
    thread = threading.Thread(target=target, daemon=True)  # type: ignore[arg-type]
    thread.start()
    return thread


def test_readers_overlap() -> None:
    lock = SharedLock()
    both = threading.Barrier(2)

    def read() -> None:
        with lock.shared():
            both.wait(60)

    for thread in (start(read), start(read)):
        thread.join(60)
        assert not thread.is_alive()


def test_a_change_waits_for_readers_and_readers_for_a_change() -> None:
    lock = SharedLock()
    log: list[str] = []
    changing, go_on = threading.Event(), threading.Event()

    def change() -> None:
        with lock.exclusive():
            log.append("change")
            changing.set()
            go_on.wait(60)
            log.append("changed")

    def read() -> None:
        with lock.shared():
            log.append("read")

    with lock.shared():
        writer = start(change)
        assert not changing.wait(0.02)
    assert changing.wait(60)
    reader = start(read)
    go_on.set()
    for thread in (writer, reader):
        thread.join(60)
        assert not thread.is_alive()
    assert log == ["change", "changed", "read"]


def test_a_slow_reader_holds_up_a_change_but_not_every_other_reader() -> None:
    lock = SharedLock()
    done = threading.Event()

    def change() -> None:
        with lock.exclusive():
            done.set()

    def read() -> None:
        with lock.shared():
            pass

    with lock.shared():
        writer = start(change)
        for _ in range(3):
            reader = start(read)
            wait_until(lambda reader=reader: not reader.is_alive())  # type: ignore[misc]
        assert not done.is_set()
    writer.join(60)
    assert done.is_set()


def test_a_change_gets_its_turn_among_readers_without_end() -> None:
    lock = SharedLock()
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            with lock.shared():
                pass

    readers = [start(read) for _ in range(3)]
    for _ in range(20):
        with lock.exclusive():
            pass
    stop.set()
    for reader in readers:
        reader.join(60)
        assert not reader.is_alive()


def test_a_change_gets_its_turn_among_slow_readers_without_end() -> None:
    lock, ended = SharedLock(), threading.Event()

    def read() -> None:
        while not ended.is_set():
            with lock.shared():
                time.sleep(0.12)

    readers = [threading.Thread(target=read, daemon=True) for _ in range(6)]
    for reader in readers:
        reader.start()
        time.sleep(0.02)
    changed = threading.Event()

    def change() -> None:
        with lock.exclusive():
            changed.set()

    threading.Thread(target=change, daemon=True).start()
    try:
        assert changed.wait(60)
    finally:
        ended.set()


def test_a_change_that_is_interrupted_while_it_waits_keeps_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    lock = SharedLock()

    def interrupted(timeout_s: float | None = None) -> bool:
        raise KeyboardInterrupt

    with lock.shared():
        with monkeypatch.context() as patch:
            patch.setattr(lock._changed, "wait", interrupted)
            with pytest.raises(KeyboardInterrupt), lock.exclusive():
                pass
        read = threading.Event()

        def reader() -> None:
            with lock.shared():
                read.set()

        threading.Thread(target=reader, daemon=True).start()
        assert read.wait(60)
