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


class Alertness:
    """Of one thread, which alone uses it.

    Attributes:
        stays_awake: what ``look`` has found.
    """

    def __init__(self, fd: int, switches: Callable[[], tuple[int, int]] | None = None) -> None:
        """Begin with sleeping between requests.

        Args:
            fd: where requests come from.
            switches: gives how often the thread has gone to sleep, and how often others have pushed it aside.
        """
        self._poller = select.poll()
        self._poller.register(fd, select.POLLIN)
        self._switches = switches or _switches
        self._may = len(os.sched_getaffinity(0)) > 1
        self.stays_awake = False
        self._not_before_ns = 0
        self._before = (*self._switches(), time.monotonic_ns())

    def wait(self) -> None:
        """Wait for a request, awake, for ``PATIENCE_NS``."""
        poll, now_ns = self._poller.poll, time.monotonic_ns
        until_ns = now_ns() + PATIENCE_NS
        while not poll(0) and now_ns() < until_ns:
            pass

    def look(self) -> bool:
        """Say whether to stay awake from now on; to be asked after each ``LOOK_EVERY`` requests."""
        slept, pushed_aside = self._switches()
        now_ns = time.monotonic_ns()
        slept_before, pushed_aside_before, before_ns = self._before
        self._before = slept, pushed_aside, now_ns
        slept, pushed_aside = slept - slept_before, pushed_aside - pushed_aside_before
        is_free = pushed_aside <= _PUSHED_ASIDE
        if self.stays_awake:
            self.stays_awake = is_free and slept <= _SLEPT
            if not self.stays_awake:
                self._not_before_ns = now_ns + _PAUSE_NS
        elif self._may and is_free and slept > _SLEPT and now_ns - before_ns < LOOK_EVERY * _CLOSE_NS:
            self.stays_awake = now_ns >= self._not_before_ns
        return self.stays_awake


def _switches() -> tuple[int, int]:
    used = resource.getrusage(resource.RUSAGE_THREAD)
    return used.ru_nvcsw, used.ru_nivcsw
