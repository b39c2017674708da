"""Requests that wait for a lock, on a thread of their own: they hold up neither the loop nor the pool."""

from __future__ import annotations

import errno
import logging
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

_SHORTEST_S: Final = 0.001
_LONGEST_S: Final = 0.05
"""A lock that was refused is tried again after pauses that grow from the one to the other: nothing tells when it is
given up below."""


@dataclass(slots=True, eq=False)
class _Waiter:
    """A request. ``answer`` is called once, with 0 (it has the lock) or an errno; ``due`` is on the monotonic clock."""

    attempt: Callable[[], int | None]
    answer: Callable[[int], None]
    due: float
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
        self._thread: threading.Thread | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def submit(self, unique: int, attempt: Callable[[], int | None], answer: Callable[[int], None]) -> None:
        """Have request *unique* wait. It is tried for the first time at once.

        Args:
            attempt: tries without waiting; gives None (refused), 0 (granted) or an errno.
            answer: is told what came of it: 0, an errno, EINTR, or ENOTCONN at the end.
        """
        with self._condition:
            self._waiting[unique] = _Waiter(attempt, answer, time.monotonic())
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="sigfs-locks", daemon=True)
                self._thread.start()
            self._condition.notify()

    def interrupt(self, unique: int) -> bool:
        """Have request *unique* answered with EINTR, soon; False if it does not wait here."""
        with self._condition:
            waiter = self._waiting.get(unique)
            if waiter is None:
                return False
            waiter.interrupted = self._hurry = True
            self._condition.notify()
            return True

    def hurry(self) -> None:
        """Try all at once: a lock has been given up. Complexity: O(1), and next to nothing if nobody waits."""
        if self._waiting:
            with self._condition:
                self._hurry = True
                self._condition.notify()

    def close(self, timeout_s: float) -> bool:
        """Answer all that wait, with ENOTCONN; False if the thread did not end in time."""
        with self._condition:
            self._closed = True
            self._condition.notify()
        if self._thread is not None:
            self._thread.join(timeout_s)
            return not self._thread.is_alive()
        return True

    def _work(self) -> None:
        while True:
            with self._condition:
                if not self._hurry and not self._closed:
                    self._condition.wait(self._pause_s())
                closed, hurried, self._hurry = self._closed, self._hurry, False
                waiting = list(self._waiting.items())
            for unique, waiter in waiting:
                if closed:
                    result: int | None = errno.ENOTCONN
                elif waiter.interrupted:
                    result = errno.EINTR
                elif hurried or waiter.due <= time.monotonic():
                    result = self._try(waiter)
                else:
                    continue
                if result is not None:
                    with self._condition:
                        del self._waiting[unique]
                    waiter.answer(result)
            if closed:
                return

    def _pause_s(self) -> float | None:
        now = time.monotonic()
        return max(0.0, min(waiter.due for waiter in self._waiting.values()) - now) if self._waiting else None

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
