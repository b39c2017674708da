"""When a thread stays awake between two requests. Clock and processors are made here."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from sigfs.transports.kernel import alertness
from sigfs.transports.kernel.alertness import LOOK_EVERY, PATIENCE_NS, Alertness

if TYPE_CHECKING:
    from collections.abc import Iterator


class Machine:
    """A clock, and a thread's switches."""

    def __init__(self, fd: int) -> None:
        self.now_ns = 5_000_000_000
        self.slept = self.pushed_aside = self.waited_ns = 0
        self.fd = fd

    def requests(
        self,
        one: Alertness,
        *,
        slept: float = 1.0,
        pushed_aside: float = 0.0,
        each_ns: int = 70_000,
        waited: float = 0.0,
    ) -> bool:
        """Let as many requests come as lie between two looks; give what is found then.

        Args:
            slept, pushed_aside: how often the thread was, for each request.
            each_ns: time between two.
            waited: share of the time in which the thread had to wait for a processor.
        """
        self.slept += int(LOOK_EVERY * slept)
        self.pushed_aside += int(LOOK_EVERY * pushed_aside)
        self.now_ns += LOOK_EVERY * each_ns
        self.waited_ns += int(LOOK_EVERY * each_ns * waited)
        return one.look()

    def thread(self) -> Alertness:
        return Alertness(self.fd, lambda: (self.slept, self.pushed_aside, self.waited_ns))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """Give one with two processors."""
    reader, writer = os.pipe()
    made = Machine(reader)
    monkeypatch.setattr(alertness, "time", SimpleNamespace(monotonic_ns=lambda: made.now_ns))
    monkeypatch.setattr(alertness.os, "sched_getaffinity", lambda _: {0, 1})
    yield made
    os.close(reader)
    os.close(writer)


def test_who_had_to_be_woken_for_each_of_many_requests_stays_awake(machine: Machine) -> None:
    one = machine.thread()
    assert machine.requests(one)
    assert machine.requests(one, slept=0.1)


@pytest.mark.parametrize(
    "so",
    [
        {"pushed_aside": 0.5},  # others want to run
        {"waited": 0.3},  # also who is seldom pushed aside, but for long
        {"slept": 0.1},  # the next request is there before the last is answered
        {"each_ns": 10 * PATIENCE_NS},  # they come too late
    ],
)
def test_it_sleeps_where_staying_awake_gains_nothing(machine: Machine, so: dict[str, float]) -> None:
    one = machine.thread()
    assert not machine.requests(one, **so)  # type: ignore[arg-type]


def test_it_sleeps_where_nobody_tells_how_long_it_waits_for_a_processor(machine: Machine) -> None:
    assert not machine.requests(Alertness(machine.fd, lambda: (machine.slept, 0, -1)))


def test_it_sleeps_where_there_is_one_processor(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alertness.os, "sched_getaffinity", lambda _: {0})
    assert not machine.requests(machine.thread())


@pytest.mark.parametrize("so", [{"slept": 0.0, "pushed_aside": 0.5}, {"slept": 0.0, "waited": 0.3}, {"slept": 0.9}])
def test_it_gives_that_up_for_a_while_when_others_want_to_run_or_requests_are_late(
    machine: Machine, so: dict[str, float]
) -> None:
    one = machine.thread()
    assert machine.requests(one)
    assert not machine.requests(one, **so)  # type: ignore[arg-type]
    assert not machine.requests(one)
    machine.now_ns += 100_000_000
    assert not machine.requests(one, each_ns=10 * PATIENCE_NS)
    assert machine.requests(one)


def test_it_waits_no_longer_than_till_a_request_comes(machine: Machine) -> None:
    begun_ns, step_ns = machine.now_ns, 1000

    def tick() -> int:
        machine.now_ns += step_ns
        return machine.now_ns

    alertness.time.monotonic_ns = tick  # type: ignore[assignment]
    one = machine.thread()
    one.wait()
    assert machine.now_ns - begun_ns >= PATIENCE_NS
    with open(f"/proc/self/fd/{machine.fd}", "wb", buffering=0) as file:
        file.write(b"a request")
    begun_ns = machine.now_ns
    one.wait()
    assert machine.now_ns - begun_ns == step_ns


def test_what_the_system_says_of_this_thread_is_understood() -> None:
    reader, writer = os.pipe()
    try:
        assert not Alertness(reader).look()
    finally:
        os.close(reader)
        os.close(writer)
