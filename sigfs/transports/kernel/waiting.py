"""Requests that wait for a lock or a lease, on a thread of their own: they hold up neither the loop nor the pool."""

from __future__ import annotations

import errno
import logging
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sigfs.transports.kernel.crew import Crew, Worker

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

_SHORTEST_S: Final = 0.001
_LONGEST_S: Final = 0.05
"""A lock that was refused is tried again after pauses that grow from the one to the other: nothing tells when it is
given up below."""


@dataclass(slots=True, eq=False)
class _Waiter:
    """A request. ``answer`` is called once, with 0 (it has the lock) or an errno; ``due`` is on the monotonic clock.

    ``busy``: a thread is trying. ``unique`` and ``pid`` as in ``crew.Task``.
    """

    unique: int
    pid: int
    attempt: Callable[[], int | None]
    answer: Callable[[int], None]
    due: float
    busy: bool = False
    pause_s: float = _SHORTEST_S
    interrupted: bool = False


class Waiters:
    """Tries again what was refused, until it is granted, fails or is interrupted. Any thread may call any method.

    ``_condition`` guards the fields; nothing is tried or answered while it is held.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._waiting: dict[int, _Waiter] = {}  # by request; in the order of their coming
        self._hurry = False
        """Something may have been given up since the thread looked last: try all."""
        self._closed = False
        self.crew = Crew("sigfs-locks", self._work)

    def __len__(self) -> int:
        return len(self._waiting)

    def submit(
        self, unique: int, attempt: Callable[[], int | None], answer: Callable[[int], None], pid: int = 0
    ) -> None:
        """Have request *unique* of thread *pid* wait. It is tried for the first time at once.

        Args:
            attempt: tries without waiting; gives None (refused), 0 (granted) or an errno.
            answer: is told what came of it: 0, an errno, EINTR, or ENOTCONN at the end.
        """
        with self._condition:
            self._waiting[unique] = _Waiter(unique, pid, attempt, answer, time.monotonic())
            self._condition.notify()
        self.crew.fill(1)

    def interrupt(self, unique: int) -> bool:
        """Have request *unique* answered with EINTR, soon; False if it does not wait here, or is just being tried."""
        with self._condition:
            waiter = self._waiting.get(unique)
            if waiter is None:
                return False
            waiter.interrupted = self._hurry = True
            self._condition.notify()
            return not waiter.busy

    def hurry(self) -> None:
        """Try all at once: a lock has been given up. Complexity: O(1), and next to nothing if nobody waits."""
        if self._waiting:
            with self._condition:
                self._hurry = True
                self._condition.notify()

    def relieve(self) -> None:
        """Have another thread go on where one is stuck, as ``Crew.relieve``."""
        if self.crew.relieve():
            self.crew.fill(1)

    def close(self, timeout_s: float) -> bool:
        """Answer all that wait, with ENOTCONN; False if the thread did not end in time."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
        return self.crew.join(timeout_s)

    def _work(self, worker: Worker) -> None:
        while True:
            with self._condition:
                if not self._hurry and not self._closed:
                    self._condition.wait(self._pause_s())
                closed, hurried, self._hurry = self._closed, self._hurry, False
                waiting = list(self._waiting.values())
            for waiter in waiting:
                if closed or waiter.interrupted or hurried or waiter.due <= time.monotonic():
                    self._attend(worker, waiter, closed=closed)
                if worker.relieved:  # who goes on instead does not know what came of the attempt
                    self.hurry()
                    return
            if closed:
                return

    def _attend(self, worker: Worker, waiter: _Waiter, *, closed: bool) -> None:
        with self._condition:
            if waiter.busy:
                return
            waiter.busy = True
        worker.task = waiter
        result: int | None = None
        try:
            result = errno.ENOTCONN if closed else errno.EINTR if waiter.interrupted else self._try(waiter)
            if result is not None:
                with self._condition:
                    self._waiting.pop(waiter.unique, None)
                waiter.answer(result)
        finally:
            worker.task = None
            waiter.busy = result is not None

    def _pause_s(self) -> float | None:
        due = min((waiter.due for waiter in self._waiting.values() if not waiter.busy), default=None)
        return None if due is None else max(0.0, due - time.monotonic())

    @staticmethod
    def _try(waiter: _Waiter) -> int | None:
        try:
            result = waiter.attempt()
        except Exception:
            log.exception("unexpected error while a request waited for a lock")
            return errno.EIO
        if result is None:
            waiter.pause_s = min(waiter.pause_s * 2, _LONGEST_S)
            waiter.due = time.monotonic() + waiter.pause_s
        return result
