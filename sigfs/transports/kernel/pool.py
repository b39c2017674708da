"""A few threads for requests that may wait for a disk, so that the loop never does."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from queue import SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)


class Pool:
    """Runs tasks on up to *size* threads, started when first needed.

    The threads are daemons: one that hangs in a dead network file system does not keep the process from ending.
    ``submit``, ``cancel`` and ``close`` are for one thread, the loop's.
    """

    def __init__(self, size: int = 8) -> None:
        self._size = size
        self._tasks: SimpleQueue[int | None] = SimpleQueue()
        self._waiting: dict[int, Callable[[], None]] = {}
        """Tasks not begun, by request. Whoever pops one, the worker or ``cancel``, has it: dict.pop is atomic."""
        self._idle = threading.Semaphore(0)
        self._threads: list[threading.Thread] = []

    def submit(self, unique: int, task: Callable[[], None]) -> None:
        """Queue *task* on behalf of request *unique*. It answers the request itself and should not raise."""
        self._waiting[unique] = task
        self._tasks.put(unique)
        if not self._idle.acquire(blocking=False) and len(self._threads) < self._size:
            thread = threading.Thread(target=self._work, name=f"sigfs-io-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def cancel(self, unique: int) -> bool:
        """Take back the task of request *unique*; False if it has begun, is done, or never was."""
        return self._waiting.pop(unique, None) is not None

    def close(self, timeout_s: float) -> bool:
        """Drop what is queued and wait for what is running; False if some task did not end in time."""
        self._waiting.clear()
        for _ in self._threads:
            self._tasks.put(None)
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _work(self) -> None:
        while True:
            unique = self._tasks.get()
            if unique is None:
                return
            with contextlib.suppress(KeyError):
                task = self._waiting.pop(unique)
                try:
                    task()
                except Exception:
                    log.exception("unexpected error while request %d ran", unique)
                del task
            self._idle.release()
