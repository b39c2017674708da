"""The loop: receive a request, have it handled, until the file system is unmounted.

Threads: one reads the device and answers what needs no waiting for data by itself (measured: more readers make each
request slower); the pool's do what is known to wait for a disk; one tries again to get locks that were refused; the
notifier's only tells the kernel of changes.

Any request may turn out to wait for a disk. The watchdog looks every ``_TICK_S`` at what the others are at. Who is
still at the same request, and sleeps, is left to it, and another thread reads on; so a fast disk costs nothing more,
and one that hangs holds up the others for 20 ms. For as long as the disk is slow several threads read, so that it is
asked for several things at once.
"""

from __future__ import annotations

import errno
import logging
import threading
import time
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final

from sigfs.transports.base import errno_of
from sigfs.transports.kernel.alertness import LOOK_EVERY, Alertness
from sigfs.transports.kernel.crew import Crew, Worker
from sigfs.transports.kernel.handlers import Handlers
from sigfs.transports.kernel.negotiation import BUFFER_BYTES
from sigfs.transports.kernel.passthrough import Passthrough
from sigfs.transports.kernel.pool import Pool
from sigfs.transports.kernel.protocol import IN_HEADER, Header, Init, Opcode
from sigfs.transports.kernel.waiting import Waiters

if TYPE_CHECKING:
    from sigfs.transports.kernel.device import Device
    from sigfs.transports.kernel.negotiation import Session
    from sigfs.vfs.operations import Operations

log = logging.getLogger("sigfs.transports.kernel")

_UNANSWERED: Final = frozenset({Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT, Opcode.NOTIFY_REPLY})

_TICK_S: Final = 0.01
"""Between two looks of the watchdog: some 20 µs each, while there are requests."""
_QUIET_TICKS: Final = 10
"""After how many looks at nothing it sleeps until the next request."""
_SLOW_READERS: Final = 8
"""Threads that read while the disk is slow, and for how long after it was seen to be: """
_SLOW_S: Final = 2.0
_AGAIN_S: Final = 0.1
"""How long an INTERRUPT that came to nothing waits to be sent again."""


class Server:
    """Serves one connection.

    Args:
        device: connected, INIT done.
        operations: what answers.
        session: what INIT agreed on.
        for_others: whether others than the user of this process may come.
    """

    def __init__(self, device: Device, operations: Operations, session: Session, *, for_others: bool = True) -> None:
        self._device = device
        self._pool = Pool()
        self.passthrough = Passthrough(device, enabled=session.has(Init.PASSTHROUGH), for_others=for_others)
        self._waiters = Waiters()
        self._readers = Crew("sigfs-serve", self._read)
        handlers = Handlers(device, operations, session, self)
        self._handlers, self._list_names = handlers.by_opcode, handlers.list_names
        self.stopping = False
        """Set it and send requests, as long as ``is_reading``, to end the loop before the file system is unmounted."""
        self._ended = threading.Event()
        self._failure: BaseException | None = None  # what ended the loop
        self._watchdog: threading.Thread | None = None
        self._calls: SimpleQueue[None] = SimpleQueue()  # wakes the watchdog
        self._asleep = False  # it is to be woken by the next request
        self._slow_until_s = 0.0  # on the monotonic clock
        self._deferred: dict[int, float] = {}  # INTERRUPTs by their own number, and when to have them sent again

    def run(self) -> None:
        """Serve until unmounted."""
        self._watchdog = threading.Thread(target=self._watch, name="sigfs-watchdog", daemon=True)
        self._watchdog.start()
        self._readers.fill(1)
        self._ended.wait()
        if self._failure is not None:
            raise self._failure

    def close(self, timeout_s: float) -> bool:
        """Drop the requests that wait, wait for those under way; False if one did not end in time."""
        deadline = time.monotonic() + timeout_s
        self._ended.set()
        self._calls.put(None)
        if self._watchdog is not None:  # first: it starts threads
            self._watchdog.join(timeout_s)
        ended = self._waiters.close(max(0.0, deadline - time.monotonic()))
        ended = self._pool.close(max(0.0, deadline - time.monotonic())) and ended
        return self._readers.join(max(0.0, deadline - time.monotonic())) and ended

    @property
    def is_reading(self) -> bool:
        """Whether some thread reads the device, or will again."""
        return bool(self._readers.workers())

    @property
    def counts(self) -> dict[int, int]:
        """Requests received, by opcode."""
        counts = dict(self._readers.counts)
        for worker in self._readers.workers():
            for opcode, count in list(worker.counts.items()):
                counts[opcode] = counts.get(opcode, 0) + count
        return counts

    def statistics(self) -> dict[str, float]:
        """Count threads and what they are at, at this moment.

        ``threads`` that answer requests; ``stuck``: those of them that have waited for the disk for some time;
        ``stuck_s``: for how long the first of them has; ``under_way``: requests that are being answered; ``waiting``:
        that have not begun, or wait for somebody's lock.
        """
        workers = [*self._readers.workers(), *self._pool.crew.workers()]
        stuck = [*self._readers.stuck, *self._pool.crew.stuck]
        now_s = time.monotonic()
        return {
            "threads": len(workers),
            "stuck": len(stuck),
            "stuck_s": max((now_s - worker.stuck_since_s for worker in stuck), default=0.0),
            "under_way": sum(worker.task is not None for worker in workers),
            "waiting": self._pool.queued + len(self._waiters),
        }

    # What handlers need

    @property
    def pool(self) -> Pool:
        """Where to leave what may wait for a disk."""
        return self._pool

    @property
    def waiters(self) -> Waiters:
        """Where to leave what waits for others."""
        return self._waiters

    @property
    def is_stuck(self) -> bool:
        """Whether some request has been waiting for the disk for some time: do not touch it without need."""
        return bool(self._readers.stuck)

    def asked_by(self, unique: int) -> int | None:
        """Give the thread whose request *unique* is; None if it is not under way, or waits for somebody's lock."""
        for crew in (self._readers, self._pool.crew, self._waiters.crew):
            for worker in crew.workers():
                task = worker.task
                if task is not None and task.unique == unique:
                    return task.pid
        return self._pool.asked_by(unique)

    def defer(self, interrupt: int) -> None:
        """Have the kernel send the INTERRUPT with this number of its own once more, after ``_AGAIN_S``."""
        self._deferred[interrupt] = time.monotonic() + _AGAIN_S

    # The threads

    def _read(self, worker: Worker) -> None:
        """Receive and handle requests, until relieved. Much of what a request costs, so: few calls."""
        buffer = bytearray(BUFFER_BYTES)
        view = memoryview(buffer)
        receive, header_size, counts = self._device.receive, IN_HEADER.size, worker.counts
        unpack, new, handlers, no_handler = IN_HEADER.unpack_from, tuple.__new__, self._handlers, self._refuse
        stays_awake, left = False, LOOK_EVERY
        try:
            alertness = Alertness(self._device.fd)
            while True:
                if stays_awake:
                    alertness.wait()
                length = receive(buffer)
                if not length:
                    break
                left -= 1
                if not left:
                    left, stays_awake = LOOK_EVERY, alertness.look() and len(self._readers.on_duty) == 1
                if length < header_size:
                    log.error("a request of %d bytes has no header", length)
                    continue
                request = worker.task = new(Header, unpack(buffer))
                if self._asleep:
                    self._asleep = False
                    self._calls.put(None)
                opcode = request.opcode
                counts[opcode] = counts.get(opcode, 0) + 1
                body = worker.body = view[header_size:length]
                try:
                    handlers.get(opcode, no_handler)(request, body)
                except Exception as error:  # noqa: BLE001 - whatever it is, the loop goes on
                    number = errno_of(error)
                    if opcode not in _UNANSWERED:
                        self._device.fail(request.unique, number)
                worker.task = None
                if self.stopping:
                    break
                if worker.relieved:
                    return
        except BaseException as error:  # noqa: BLE001 - run() raises it
            self._failure = error
        self._ended.set()

    def _refuse(self, request: Header, body: memoryview) -> None:
        del body
        self._device.fail(request.unique, errno.ENOSYS)

    def _watch(self) -> None:
        """See that somebody reads, whatever the others wait for."""
        quiet = 0
        while not self._ended.is_set():
            with suppress(Empty):
                self._calls.get(timeout=_TICK_S)
            try:
                quiet = 0 if self._tick() else quiet + 1
            except Exception:
                log.exception("unexpected error in the watchdog")
            if quiet >= _QUIET_TICKS:
                self._asleep = True
                # A request, or the end, that came before this was said, and wakes nobody, is seen here.
                if not self._ended.is_set() and all(worker.task is None for worker in self._readers.on_duty):
                    with suppress(Empty):
                        self._calls.get(timeout=_AGAIN_S if self._deferred or self._waiters else None)
                self._asleep, quiet = False, 0

    def _answer_without_attributes(self, worker: Worker) -> None:
        """If *worker* is stuck looking up what it lists, have the names listed by somebody else."""
        request, body = worker.seen, bytes(worker.body)
        if isinstance(request, Header) and request.opcode == Opcode.READDIRPLUS and worker.task is request:
            self._pool.submit(request.unique, lambda: self._list_names(request, body), request.pid)

    def _tick(self) -> bool:
        """Look at everybody once; tell whether there was anything to see."""
        now_s = time.monotonic()
        for worker in self._readers.relieve():
            self._slow_until_s = now_s + _SLOW_S
            self._answer_without_attributes(worker)
        is_slow = now_s < self._slow_until_s
        if self._ended.is_set() or self.stopping:
            return False
        if is_slow:
            self._readers.fill(_SLOW_READERS)
        elif len(self._readers.on_duty) > 1:
            self._readers.shrink(1)
        else:
            self._readers.fill(1)
        for interrupt, due_s in list(self._deferred.items()):
            if due_s <= now_s:
                del self._deferred[interrupt]
                self._device.fail(interrupt, errno.EAGAIN)
        self._waiters.relieve()
        busy = self._pool.relieve()
        return busy or is_slow or any(worker.task is not None for worker in self._readers.on_duty)
