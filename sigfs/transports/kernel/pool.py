"""A few threads for requests that may wait for a disk, so that who reads the device seldom does."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING

from sigfs.transports.kernel.crew import Crew, Worker

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class _Task:
    """``unique`` and ``pid`` as in ``crew.Task``."""

    unique: int
    pid: int
    run: Callable[[], None]


class Pool:
    """Runs tasks on up to *size* threads, started when first needed; those that are stuck do not count.

    Any thread may call any method.
    """

    def __init__(self, size: int = 8) -> None:
        self._size = size
        self._tasks: SimpleQueue[int | None] = SimpleQueue()
        self._waiting: dict[int, _Task] = {}
        """Tasks not begun, by request. Whoever pops one, the worker or ``cancel``, has it: dict.pop is atomic."""
        self.crew = Crew("sigfs-io", self._work)

    def submit(self, unique: int, run: Callable[[], None], pid: int = 0) -> None:
        """Queue a task on behalf of request *unique* of thread *pid*. It answers by itself and should not raise."""
        self._waiting[unique] = _Task(unique, pid, run)
        self._tasks.put(unique)
        self._fill()

    def cancel(self, unique: int) -> bool:
        """Take back the task of request *unique*; False if it has begun, is done, or never was."""
        return self._waiting.pop(unique, None) is not None

    @property
    def queued(self) -> int:
        """How many tasks have not begun."""
        return len(self._waiting)

    def asked_by(self, unique: int) -> int | None:
        """Give the thread on whose behalf request *unique* is queued; None if it is not."""
        task = self._waiting.get(unique)
        return None if task is None else task.pid

    def relieve(self) -> bool:
        """Have others go on where threads are stuck, as ``Crew.relieve``; tell whether there is anything to do."""
        self.crew.relieve()
        if self._waiting:
            self._fill()
        return bool(self._waiting) or any(worker.task is not None for worker in self.crew.on_duty)

    def close(self, timeout_s: float) -> bool:
        """Drop what is queued and wait for what is running; False if some task did not end in time."""
        self._waiting.clear()
        for _ in self.crew.workers():
            self._tasks.put(None)
        return self.crew.join(timeout_s)

    def _fill(self) -> None:
        """Start a thread if more tasks wait than threads."""
        on_duty = self.crew.on_duty
        if len(on_duty) < self._size and len(self._waiting) > sum(worker.task is None for worker in on_duty):
            self.crew.fill(len(on_duty) + 1)

    def _work(self, worker: Worker) -> None:
        while not worker.relieved:
            unique = self._tasks.get()
            if unique is None:
                return
            task = worker.task = self._waiting.get(unique)
            if task is not None and self._waiting.pop(unique, None) is not None:
                try:
                    task.run()
                except Exception:
                    log.exception("unexpected error while request %d ran", unique)
            worker.task = task = None
