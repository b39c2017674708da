"""Telling the kernel that what it has cached is no longer so.

The one thread that sends notifications is here. A notification may wait inside the kernel until requests in the same
directory or on the same file are answered; so it is never sent by a thread that answers requests, nor while a lock
is held that such a thread may want (I6).
"""

from __future__ import annotations

import errno
import logging
import os
import threading
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final, TypeAlias

from sigfs.transports.kernel.protocol import EXPIRE_ONLY, INVAL_ENTRY_OUT, INVAL_INODE_OUT, NAME_MAX_BYTES, Notification

if TYPE_CHECKING:
    from sigfs.transports.kernel.device import Device
    from sigfs.vfs.types import Inode

log = logging.getLogger(__name__)

_Item: TypeAlias = "tuple[int, str | None]"
"""(parent, name), or (inode, None), or (inode, _ATTRIBUTES)."""

_ATTRIBUTES: Final = ""
"""Stands for a name that there cannot be."""


class KernelNotifier:
    """The ``Notifier`` of this transport. What is queued before ``start`` is sent then."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[_Item | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._device: Device | None = None
        self._entry_flags = 0
        self.sent = 0
        """Notifications that the kernel has taken, those about nodes it does not hold included."""

    def invalidate_entry(self, parent: Inode, name: str) -> None:
        """Have the kernel look *name* up again at its next use."""
        self._queue.put((parent, name))

    def invalidate_inode(self, inode: Inode) -> None:
        """Have the kernel drop attributes, listing and data of *inode*."""
        self._queue.put((inode, None))

    def invalidate_attributes(self, inode: Inode) -> None:
        """Have the kernel drop the attributes of *inode*."""
        self._queue.put((inode, _ATTRIBUTES))

    def start(self, device: Device, *, expire_only: bool) -> None:
        """Begin to send.

        Args:
            device: where to.
            expire_only: the kernel can expire a name instead of dropping it, which leaves working directories and
                mounts below it alone and is a third of the cost.
        """
        self._device = device
        self._entry_flags = EXPIRE_ONLY if expire_only else 0
        self._thread = threading.Thread(target=self._run, name="sigfs-notify", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float) -> bool:
        """End the thread; False if it is still waiting in the kernel after *timeout_s*."""
        if self._thread is None:
            return True
        self._queue.put(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            batch: dict[_Item | None, None] = {self._queue.get(): None}
            try:
                while True:  # a burst of changes names the same directory many times: once is enough
                    batch[self._queue.get_nowait()] = None
            except Empty:
                pass
            for item in batch:
                if item is None or not self._send(*item):
                    return

    def _send(self, node: int, name: str | None) -> bool:
        """Send one; False if there is nobody to send to any more."""
        assert self._device is not None
        try:
            if not name:
                start = 0 if name is None else -1
                self._device.notify(Notification.INVAL_INODE, INVAL_INODE_OUT.pack(node, start, 0))
            else:
                raw = os.fsencode(name)
                if len(raw) > NAME_MAX_BYTES:  # the kernel cannot hold it
                    return True
                payload = INVAL_ENTRY_OUT.pack(node, len(raw), self._entry_flags) + raw + b"\0"
                self._device.notify(Notification.INVAL_ENTRY, payload)
        except OSError as error:
            if error.errno in (errno.ENODEV, errno.ENOTCONN, errno.ECONNABORTED, errno.EPIPE, errno.EBADF, errno.EPERM):
                return False  # EPERM: between the end of the connection and that of the mount
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ENOTEMPTY, errno.EBUSY):
                log.warning("the kernel refuses to invalidate %r: %s", (node, name), error.strerror)
        except UnicodeEncodeError:
            log.warning("cannot name %r to the kernel", name)
        self.sent += 1
        return True
