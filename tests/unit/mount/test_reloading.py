"""Reloading, in its thread."""

from __future__ import annotations

import threading

import pytest

from sigfs.mount.reloading import Reloading
from tests.support.wait import wait_until


def test_all_steps_are_done_in_order_though_one_fails(caplog: pytest.LogCaptureFixture) -> None:
    done: list[str] = []

    def fail() -> None:
        done.append("fail")
        raise ValueError("no number")

    reloading = Reloading(
        (fail, lambda: done.append("compare")), lambda: done.append("begun"), lambda: done.append("ended")
    )
    reloading.start()
    reloading.ask()
    wait_until(lambda: len(done) >= 4)
    reloading.stop()
    assert done == ["begun", "fail", "compare", "ended"]
    assert "no number" in caplog.text


def test_who_asks_meanwhile_has_it_done_once_more() -> None:
    rounds: list[None] = []
    entered, leave = threading.Semaphore(0), threading.Semaphore(0)

    def step() -> None:
        entered.release()
        assert leave.acquire(timeout=60)

    reloading = Reloading((step,), lambda: None, lambda: rounds.append(None))
    reloading.start()
    reloading.ask()
    assert entered.acquire(timeout=60)
    reloading.ask()
    reloading.ask()
    leave.release()
    assert entered.acquire(timeout=60)
    leave.release()
    wait_until(lambda: len(rounds) == 2)
    reloading.stop()
    assert len(rounds) == 2


def test_one_that_was_never_started_can_be_stopped() -> None:
    Reloading((), lambda: None, lambda: None).stop()
