"""Whether a thread that has answered a request sleeps until the next, or stays awake for a moment.

Where a processor is free, to wake up who sleeps on it takes longer than most answers: in a virtual machine 20 µs of
the 60 of a request. Staying awake costs that processor; where others want it, it would cost them more than it gains. So
it is for the time in which requests follow each other closely and nobody else wants to run, which is looked at again
and again.
"""

from __future__ import annotations

import os
import resource
import select
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

LOOK_EVERY: Final = 128
"""Requests between two looks: at most some 10 ms of those that make it worth while."""
PATIENCE_NS: Final = 100_000
"""How long to stay awake for a request. The next one of a program that does little else comes sooner."""
_CLOSE_NS: Final = 3 * PATIENCE_NS
"""Requests that come one after the other within so long, their answers included, follow closely."""
_PAUSE_NS: Final = 100_000_000
"""After others wanted to run, or requests did not come in time, for so long it is not tried again."""
_SLEPT: Final = LOOK_EVERY // 2
_PUSHED_ASIDE: Final = LOOK_EVERY // 20
_WAITED: Final = 10
"""Others want to run where a thread that could run waits more than one part in so many of the time until it may: whose
turn comes is decided every few ms only, so being pushed aside is too rare to tell of those who compute all the time."""


class Alertness:
    """Of one thread, which alone uses it.

    Attributes:
        stays_awake: what ``look`` has found.
    """

    def __init__(self, fd: int, switches: Callable[[], tuple[int, int, int]] | None = None) -> None:
        """Begin with sleeping between requests.

        Args:
            fd: where requests come from.
            switches: gives how often the thread has gone to sleep, how often others have pushed it aside, and for how
                many ns it could have run and had to wait, -1 if that is not known: then it never stays awake.
        """
        self._poller = select.poll()
        self._poller.register(fd, select.POLLIN)
        self._switches = switches or _switches
        self.stays_awake = False
        self._not_before_ns = 0
        self._before = (*self._switches(), time.monotonic_ns())
        self._may = len(os.sched_getaffinity(0)) > 1 and self._before[2] >= 0

    def wait(self) -> None:
        """Wait for a request, awake, for ``PATIENCE_NS``."""
        poll, now_ns = self._poller.poll, time.monotonic_ns
        until_ns = now_ns() + PATIENCE_NS
        while not poll(0) and now_ns() < until_ns:
            pass

    def look(self) -> bool:
        """Say whether to stay awake from now on; to be asked after each ``LOOK_EVERY`` requests."""
        if not self._may:
            return False
        now = (*self._switches(), time.monotonic_ns())
        slept, pushed_aside, waited_ns, took_ns = (this - that for this, that in zip(now, self._before, strict=True))
        self._before = now
        now_ns = now[3]
        is_free = pushed_aside <= _PUSHED_ASIDE and waited_ns * _WAITED <= took_ns
        if self.stays_awake:
            self.stays_awake = is_free and slept <= _SLEPT
            if not self.stays_awake:
                self._not_before_ns = now_ns + _PAUSE_NS
        elif is_free and slept > _SLEPT and took_ns < LOOK_EVERY * _CLOSE_NS:
            self.stays_awake = now_ns >= self._not_before_ns
        return self.stays_awake


def _switches() -> tuple[int, int, int]:
    used = resource.getrusage(resource.RUSAGE_THREAD)
    return used.ru_nvcsw, used.ru_nivcsw, _waited_ns()


def _waited_ns() -> int:
    """How long this thread could have run and had to wait; -1 where the kernel does not count that.

    Source: sched-stats.rst of the kernel's documentation.
    """
    try:
        with open("/proc/thread-self/schedstat", "rb") as file:
            ran_ns, waited_ns, _ = map(int, file.read().split())
    except (OSError, ValueError):
        return -1
    return waited_ns if ran_ns else -1
