"""The loop: receive a request, have it handled, until the file system is unmounted.

Threads: the loop's answers what needs no waiting for data, by itself (measured: more readers make each request
slower); the pool's do what may wait for a disk; one tries again to get locks that were refused; the notifier's only
tells the kernel of changes.
"""

from __future__ import annotations

import errno
import logging
import threading
import time
from typing import TYPE_CHECKING, Final

from sigfs.transports.base import errno_of
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


class Server:
    """Serves one connection.

    Args:
        device: connected, INIT done.
        operations: what answers.
        session: what INIT agreed on.
    """

    def __init__(self, device: Device, operations: Operations, session: Session) -> None:
        self._device = device
        self._pool = Pool()
        self.passthrough = Passthrough(device, enabled=session.has(Init.PASSTHROUGH))
        self._waiters = Waiters()
        self._handlers = Handlers(device, operations, session, self._pool, self._waiters, self.passthrough).by_opcode
        self.counts: dict[int, int] = {}
        """Requests received, by opcode. Written by the loop's thread only."""
        self.stopping = threading.Event()
        """Set it and send any request to end the loop before the file system is unmounted."""

    def run(self) -> None:
        """Serve until unmounted."""
        buffer = bytearray(BUFFER_BYTES)
        view = memoryview(buffer)
        receive, header_size, counts = self._device.receive, IN_HEADER.size, self.counts
        while length := receive(buffer):
            if length < header_size:
                log.error("a request of %d bytes has no header", length)
                continue
            request = Header._make(IN_HEADER.unpack_from(buffer))
            opcode = request.opcode
            counts[opcode] = counts.get(opcode, 0) + 1
            self._handle(request, view[header_size:length])
            if self.stopping.is_set():
                break

    def close(self, timeout_s: float) -> bool:
        """Drop the requests that wait, wait for those under way; False if one did not end in time."""
        deadline = time.monotonic() + timeout_s
        ended = self._waiters.close(timeout_s)
        return self._pool.close(max(0.0, deadline - time.monotonic())) and ended

    def _handle(self, request: Header, body: memoryview) -> None:
        """Handle one request. Whatever it is, the loop goes on."""
        handler = self._handlers.get(request.opcode)
        if handler is None:
            self._device.fail(request.unique, errno.ENOSYS)
            return
        try:
            handler(request, body)
        except Exception as error:  # noqa: BLE001  the table of errors is errno_of's
            number = errno_of(error)
        else:
            return
        if request.opcode not in _UNANSWERED:
            self._device.fail(request.unique, number)
