"""The connected /dev/fuse descriptor: receiving requests, sending replies and notifications.

Owned here: the descriptor and what its errors mean. Any datagram-like descriptor will do, such as one end of a
``SOCK_SEQPACKET`` pair in tests. Any thread receives and sends: the kernel gives and takes each
message as a whole.
"""

from __future__ import annotations

import errno
import logging
import os
from typing import TYPE_CHECKING, Final

from sigfs.transports.kernel.protocol import OUT_HEADER

if TYPE_CHECKING:
    from sigfs.transports.kernel.protocol import Notification

log = logging.getLogger(__name__)

_GONE: Final = frozenset({errno.ENODEV, errno.ECONNABORTED, errno.ENOTCONN, errno.ECONNRESET, errno.EPIPE})
"""Unmounted or aborted. The last two come from sockets only."""
_AGAIN: Final = frozenset({errno.EINTR, errno.EAGAIN, errno.ENOENT})
"""Nothing to read this time; ENOENT: the request was taken back while it was being read."""
_SMALL_BYTES: Final = 16 * 1024
"""Up to here copying header and payload together is cheaper than a gather write."""
_HEADER_SIZE: Final = OUT_HEADER.size


class Device:
    """A connected descriptor. Closed by whoever opened it."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def receive(self, buffer: bytearray) -> int:
        """Wait for a request and read it into *buffer*; give its length, 0 if the file system is unmounted."""
        vector = (buffer,)
        while True:
            try:
                return os.readv(self.fd, vector)
            except OSError as error:
                if error.errno in _GONE:
                    return 0
                if error.errno not in _AGAIN:
                    raise

    def reply(self, unique: int, payload: bytes | memoryview = b"") -> bool:
        """Answer a request with success. False if the kernel did not take it: it knows nothing of the answer."""
        size = _HEADER_SIZE + len(payload)
        header = OUT_HEADER.pack(size, 0, unique)
        try:
            if size <= _SMALL_BYTES:
                os.write(self.fd, header + payload)
            else:
                os.writev(self.fd, (header, payload))
        except OSError as error:
            self._not_taken(unique, error)
            return False
        return True

    def fail(self, unique: int, number: int) -> bool:
        """Answer a request with the errno *number*."""
        try:
            os.write(self.fd, OUT_HEADER.pack(_HEADER_SIZE, -number, unique))
        except OSError as error:
            self._not_taken(unique, error)
            return False
        return True

    def notify(self, code: Notification, payload: bytes) -> None:
        """Send a notification. May block until requests on the node concerned have been answered (I6).

        Raises:
            OSError: ENOENT: the kernel knows no such node or name; ENODEV and the like: unmounted.
        """
        os.write(self.fd, OUT_HEADER.pack(_HEADER_SIZE + len(payload), code, 0) + payload)

    @staticmethod
    def _not_taken(unique: int, error: OSError) -> None:
        # ENOENT: the caller was killed, or the file system unmounted, while we worked.
        if error.errno != errno.ENOENT and error.errno not in _GONE:
            log.error("the kernel refuses the reply to request %d: %s", unique, error.strerror)
