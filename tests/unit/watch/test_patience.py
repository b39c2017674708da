"""A directory that hangs is told from one that is slow."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from sigfs.watch import patience
from sigfs.watch.patience import NoAnswer, Patience, given_up
from tests.support.wait import wait_until


class Disk:
    """Something to ask, which hangs until it is let go on."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.has_answered = threading.Event()
        self.given_up: list[bool] = []

    def ask(self) -> str:
        self.go_on.wait()
        self.given_up.append(given_up())
        return "answer"


@pytest.fixture
def disk() -> Iterator[Disk]:
    made = Disk()
    yield made
    made.go_on.set()


@pytest.fixture
def asked(disk: Disk) -> Patience:
    made = Patience("/data", disk.has_answered.set)
    made.patience_s = 0.1
    return made


def test_what_answers_is_given_and_what_fails_is_raised(asked: Patience) -> None:
    assert asked.call(lambda: 42) == 42
    with pytest.raises(ZeroDivisionError):
        asked.call(lambda: 1 // 0)


def test_what_hangs_is_given_up_and_asked_no_more_until_it_answers(asked: Patience, disk: Disk) -> None:
    with pytest.raises(NoAnswer):
        asked.call(disk.ask)
    begun = []
    with pytest.raises(NoAnswer):
        asked.call(lambda: begun.append(1))
    assert not begun
    disk.go_on.set()
    assert disk.has_answered.wait(60)
    assert disk.given_up == [True]
    assert asked.call(disk.ask) == "answer"
    assert disk.given_up == [True, False]


def test_what_is_slow_is_waited_for(asked: Patience) -> None:
    never = threading.Event()
    assert asked.call(lambda: [never.wait(0.01) for _ in range(30)]) == [False] * 30


def test_what_stays_silent_is_asked_again_some_time(
    asked: Patience, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "AGAIN_S", 0.0)
    with pytest.raises(NoAnswer):
        asked.call(disk.ask)
    assert asked.call(lambda: 42) == 42
    assert disk.has_answered.is_set()


def test_whoever_waits_may_call_it_off(asked: Patience, disk: Disk) -> None:
    def call_off() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        asked.call(disk.ask, call_off)
    disk.go_on.set()
    wait_until(lambda: disk.given_up == [True])
