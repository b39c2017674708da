"""Threads that may get stuck below, and how others take over from them.

A system call on a disk that does not answer cannot be taken back, and nothing tells beforehand which one it will be.
So whoever makes one notes what it is at (``Worker.task``, which costs next to nothing), and ``Crew.relieve``, called
now and then, takes off duty who has been at the same task since the last call and waits in the kernel. Such a worker
ends its task in its own time, and then its thread; on duty somebody else goes on.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

STUCK_LIMIT: Final = 256
"""Threads of one crew that may be stuck at once; about 60 KiB each. Then nobody takes over any more."""


class Task(Protocol):
    """What a worker is at: a new object each time.

    Attributes:
        unique: the request's number.
        pid: the thread that asked, as /proc calls it; 0 if that is not known.
    """

    @property
    def unique(self) -> int: ...
    @property
    def pid(self) -> int: ...


class Worker:
    """One thread.

    Attributes:
        task: what it is at; None: it waits for something to do. Set by the thread itself.
        relieved: it is to end after this task.
        counts: requests received, by opcode. For the thread itself.
        stuck_since_s: monotonic time at which it was taken off duty because it waits.
        body: what came with the request; its own as long as ``task`` is that request.
    """

    __slots__ = ("body", "counts", "relieved", "seen", "stuck_since_s", "task", "thread")

    def __init__(self) -> None:
        self.task: Task | None = None
        self.seen: Task | None = None  # what it was at when it was last looked at
        self.relieved = False
        self.stuck_since_s = 0.0
        self.counts: dict[int, int] = {}
        self.body = memoryview(b"")
        self.thread: threading.Thread


class Crew:
    """Workers that all do the same. Any thread may call any method.

    The threads are daemons: one that hangs in a dead network file system does not keep the process from ending.
    ``_lock`` guards the lists. Nothing else is locked while it is held, but a thread may be started.
    """

    def __init__(self, name: str, run: Callable[[Worker], None], limit: int = STUCK_LIMIT) -> None:
        """Begin with nobody.

        Args:
            name: of the threads; a number is added.
            run: what a worker does until it is relieved, or until there is nothing to do any more.
            limit: how many may be stuck at once.
        """
        self._name = name
        self._run = run
        self._limit = limit
        self._lock = threading.Lock()
        self._started = 0
        self.on_duty: list[Worker] = []
        """Those who take new tasks. Replaced, never changed."""
        self.stuck: list[Worker] = []
        """Those who were relieved while they waited, and have not come back. Replaced, never changed."""
        self._leaving: list[Worker] = []  # the others that were relieved
        self.counts: dict[int, int] = {}  # of workers that have ended

    def fill(self, size: int) -> None:
        """Start workers until *size* are on duty. Not within ``as_caller``, whose credentials they would have."""
        while True:
            with self._lock:
                if len(self.on_duty) >= size or len(self.stuck) >= self._limit:
                    return
                worker = Worker()
                worker.thread = threading.Thread(
                    target=self._work, args=(worker,), name=f"{self._name}-{self._started}", daemon=True
                )
                self._started += 1
                worker.thread.start()
                self.on_duty = [*self.on_duty, worker]

    def shrink(self, size: int) -> None:
        """Let all but *size* of those on duty end after their next task."""
        with self._lock:
            for worker in self.on_duty[size:]:
                worker.relieved = True
            self._leaving = [*self._leaving, *self.on_duty[size:]]
            self.on_duty = self.on_duty[:size]

    def relieve(self) -> list[Worker]:
        """Take off duty, and give, who has been at the same task (``seen``) since the last call, and waits.

        Nobody is taken off if too many are stuck already.
        """
        found: list[Worker] = []
        for worker in self.on_duty:
            task = worker.task
            if task is None or task is not worker.seen:
                worker.seen = task
            elif _waits(worker.thread.native_id):
                found.append(worker)
                self._take_off(worker)
        return found

    def workers(self) -> list[Worker]:
        """Give all, on duty or not."""
        with self._lock:  # one who is taken off duty meanwhile is in one of the lists
            return [*self.stuck, *self._leaving, *self.on_duty]

    def join(self, timeout_s: float) -> bool:
        """Wait for all threads to end; False if one did not in time."""
        deadline = time.monotonic() + timeout_s
        for worker in self.workers():
            worker.thread.join(max(0.0, deadline - time.monotonic()))
        return not any(worker.thread.is_alive() for worker in self.workers())

    def _take_off(self, worker: Worker) -> None:
        with self._lock:
            if worker not in self.on_duty or len(self.stuck) >= self._limit:
                return
            worker.relieved = True
            worker.stuck_since_s = time.monotonic()
            self.on_duty = _without(worker, self.on_duty)
            self.stuck = [*self.stuck, worker]
            if len(self.stuck) == self._limit:
                log.warning("%d requests wait for a disk that does not answer; now all have to", self._limit)

    def _work(self, worker: Worker) -> None:
        with self._lock:  # wait until ``worker`` is in the books
            pass
        try:
            self._run(worker)
        finally:
            with self._lock:
                self.on_duty = _without(worker, self.on_duty)
                self.stuck = _without(worker, self.stuck)
                self._leaving = _without(worker, self._leaving)
                for key, count in worker.counts.items():
                    self.counts[key] = self.counts.get(key, 0) + count


def _without(worker: Worker, workers: list[Worker]) -> list[Worker]:
    return [other for other in workers if other is not worker]


def _waits(thread: int | None) -> bool:
    """Tell whether *thread* of this process sleeps in the kernel for something else than a lock or Python itself."""
    try:
        with open(f"/proc/self/task/{thread}/stat", "rb") as file:
            if file.read().rpartition(b")")[2].split()[0] == b"R":
                return False
        with open(f"/proc/self/task/{thread}/wchan", "rb") as file:
            return b"futex" not in file.read()
    except OSError:
        return True


def is_dying(pid: int) -> bool:
    """Tell whether the thread *pid* has been killed and only waits for its request: SIGKILL is pending.

    Any signal that ends a process without dumping core is turned into that.
    """
    if not pid:
        return False
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            for line in file:
                if line.startswith((b"SigPnd:", b"ShdPnd:")) and int(line[7:], 16) & 1 << 8:
                    return True
    except OSError:
        pass
    return False
