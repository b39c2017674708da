"""FUSE_PASSTHROUGH: the kernel reads and writes the file below by itself, without asking.

Needs CAP_SYS_ADMIN, Linux 6.9, and a store that is not itself stacked. The kernel's rules, which this module keeps:

* While a node is open, all its opens are of one kind, cached or passthrough, and the passthrough ones name the same
  backing id; anything else fails with EIO. So the kind is decided at the first open, and kept until the last release.
* A backing id may serve opens of any access mode, whatever the mode of the descriptor it was registered with.

Which files may be passed through at all, ``Operations.passthrough_fd`` says. The kernel writes them, whoever asks, with
the credentials of the thread that registered them: where others than root may come, those of an ordinary writer, from
whom set-id bits do not survive.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import sys
import threading
from contextlib import nullcontext
from typing import TYPE_CHECKING, Final

from sigfs.transports.kernel.protocol import BACKING_CLOSE, BACKING_MAP, BACKING_OPEN
from sigfs.vfs.credentials import as_ordinary_writer

if TYPE_CHECKING:
    from collections.abc import Callable

    from sigfs.transports.kernel.device import Device
    from sigfs.vfs.types import Inode

log = logging.getLogger(__name__)

CACHED: Final = 0
"""Stands for a backing id: opens of this node go through the page cache and the server."""
_FOR_THIS_FILE: Final = frozenset({errno.EISDIR, errno.EBADF, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EINTR})
"""Errors of registering that say nothing about other files."""
_REASONS: Final = {
    errno.EPERM: "it needs CAP_SYS_ADMIN in the initial user namespace",
    errno.ELOOP: "the workspace is on a stacked file system, such as overlayfs",
    errno.ENOTTY: "the kernel does not know it",
    errno.EOPNOTSUPP: "the workspace's file system cannot do it",
}


class Passthrough:
    """Which nodes are open, how often, and as what. Any thread may call any method.

    ``_lock`` makes each whole, the registering included: two first opens must not register one file twice. Nothing
    that may wait for the disk is done while it is held.
    """

    def __init__(self, device: Device, *, enabled: bool, for_others: bool = True) -> None:
        self._device = device
        self._writer = as_ordinary_writer if for_others else nullcontext  # two capset(2) less, some 25 µs
        self.enabled = enabled
        """False from the start, or from the first refusal that will not change."""
        self._lock = threading.Lock()
        self._opens: dict[Inode, list[int]] = {}
        """[backing id or CACHED, number of open handles]; an entry lives from the first open to the last release."""

    def opened(self, inode: Inode, get_fd: Callable[[], int | None]) -> int:
        """Count an open of *inode* and give the backing id to answer with, or CACHED.

        Args:
            inode: the node.
            get_fd: gives a descriptor of the file below, or None if there is no such file; called if it matters.
        """
        fd = get_fd() if self.enabled and inode not in self._opens else None
        with self._lock:
            known = self._opens.get(inode)
            if known is not None:
                known[1] += 1
                return known[0]
            backing = CACHED if fd is None else self._register(fd)
            self._opens[inode] = [backing, 1]
            return backing

    def is_cached(self, inode: Inode) -> bool:
        """Tell whether the kernel caches the data of *inode*, which is open."""
        known = self._opens.get(inode)
        return known is None or known[0] == CACHED

    def released(self, inode: Inode) -> None:
        """Count a release; the last one gives the backing id back."""
        with self._lock:
            known = self._opens.get(inode)
            if known is None:
                return
            known[1] -= 1
            if known[1]:
                return
            del self._opens[inode]
        if known[0] != CACHED:  # the kernel closes the file, which may wait for the disk
            self._unregister(known[0])

    def _register(self, fd: int) -> int:
        try:
            # With a mutable buffer fcntl.ioctl returns the call's result, which is the backing id, not the buffer.
            with self._writer():
                return int(fcntl.ioctl(self._device.fd, BACKING_OPEN, bytearray(BACKING_MAP.pack(fd, 0)), True))
        except OSError as error:
            if error.errno not in _FOR_THIS_FILE:
                self.enabled = False
                reason = _REASONS.get(error.errno or 0, error.strerror)
                log.info("no passthrough, data goes through the server: %s", reason)
            return CACHED

    def _unregister(self, backing: int) -> None:
        try:
            fcntl.ioctl(self._device.fd, BACKING_CLOSE, backing.to_bytes(4, sys.byteorder))
        except OSError as error:
            log.debug("backing id %d not closed: %s", backing, error.strerror)
