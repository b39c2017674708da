"""Transport ``kernel``: speaks the /dev/fuse protocol itself, in pure Python, with no library below.

Only a direct transport can negotiate READDIRPLUS, HANDLE_KILLPRIV_V2, POSIX_ACL, name expiry and, for root,
passthrough; and a request costs no more than with a compiled binding. Linux 5.4 or newer.

=================  =============================================================================
``protocol``       numbers and layouts of linux/fuse.h
``mounting``       mount(2) or fusermount3: a connected descriptor
``device``         the descriptor: receive, reply, notify
``negotiation``    INIT
``server``         the loop
``alertness``      whether it stays awake between two requests
``handlers``       one method a request; ``directories`` packs listings
``crew``           threads that may get stuck, and others that take over
``pool``           threads for requests that may wait for a disk
``waiting``        the thread for requests that wait for a lock or a lease
``passthrough``    files that the kernel reads and writes by itself
``notify``         the thread that tells the kernel of changes
``tracing``        ``-o debug``
=================  =============================================================================
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from typing import TYPE_CHECKING, Final

from sigfs.errors import MountBusy, MountError
from sigfs.transports.kernel import mounting
from sigfs.transports.kernel.device import Device
from sigfs.transports.kernel.negotiation import Session, negotiate
from sigfs.transports.kernel.notify import KernelNotifier
from sigfs.transports.kernel.protocol import VERSION, Init, Opcode, Owner, own
from sigfs.transports.kernel.server import Server
from sigfs.transports.kernel.tracing import TracingDevice
from sigfs.transports.mounts import mounted, unmount

if TYPE_CHECKING:
    from sigfs.transports.base import MountSpec
    from sigfs.vfs.operations import Operations
    from sigfs.vfs.types import Notifier

__all__ = ["Transport"]

log = logging.getLogger(__name__)

_STOP_TIMEOUT_S: Final = 5.0
"""How long what is under way may keep ``serve`` from ending. Its callers are gone already."""


class Transport:
    """The ``Transport`` of ``transports.base`` on /dev/fuse.

    INIT is done in ``mount``, so that a kernel that will not do is found out there; from then on, requests wait in
    the kernel for ``serve``. No thread is started before ``serve``: between the two the process may fork.
    """

    notifier: Notifier
    can_notify: bool = True

    def __init__(self, spec: MountSpec) -> None:
        self._spec = spec
        self._notifier = KernelNotifier()
        self.notifier = self._notifier
        self._device: Device | None = None
        """Open from ``mount`` to the end of ``serve``, or to ``close`` if there was no ``serve``."""
        self._mount_device = 0
        """``st_dev`` of our mount, by which ``close`` knows it from one that others made at the same place since."""
        self._session: Session | None = None
        self._server: Server | None = None
        self._lock = threading.Lock()
        """Guards the passing of the device between ``serve`` and ``close``: _device, _server, _closed. Nothing that
        waits is done while it is held."""
        self._closed = False
        self._served = threading.Event()
        """Set when ``serve`` has ended."""

    def mount(self) -> None:
        """Make the mount appear.

        Raises:
            FuseUnavailable: no FUSE here, or not for this user, or the kernel is too old.
            MountPointError: the mount point does not exist or is no directory.
        """
        fd, privileged = mounting.connect(self._spec)
        self._device = TracingDevice(fd) if self._spec.debug else Device(fd)
        try:
            self._session = negotiate(
                self._device, passthrough=privileged and self._spec.passthrough, acls=not self._spec.single_user
            )
            own(_owner() if self._spec.single_user else None)
            found = mounted(self._spec.mountpoint)
            self._mount_device = found.device if found else 0
        except BaseException:
            with contextlib.suppress(MountError):
                unmount(self._spec.mountpoint, lazy=True)
            self._close_device()
            raise
        log.debug("mounted with FUSE %d.%d, %r", VERSION, self._session.minor, self._session.flags)

    def serve(self, operations: Operations) -> None:
        """Answer requests until the file system is unmounted."""
        with self._lock:
            if self._closed:
                return
            if self._device is None or self._session is None:
                raise MountError("serve without mount")
            device, session = self._device, self._session
            server = self._server = Server(device, operations, session, for_others=self._spec.allow_other)
        try:
            self._notifier.start(device, expire_only=session.has(Init.HAS_EXPIRE_ONLY))
            server.run()
        finally:
            # Where a request or a notification hangs, the descriptor stays open: a late answer must not go to
            # whatever file gets its number next.
            if server.close(_STOP_TIMEOUT_S) and self._notifier.stop(_STOP_TIMEOUT_S):
                self._close_device()
            else:
                log.warning("a request or notification has not ended %g s after the last one", _STOP_TIMEOUT_S)
            self._served.set()

    def close(self) -> None:
        """Unmount if still mounted (lazily if busy), have ``serve`` return, and release everything."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            server = self._server
        if self._device is None and server is None:  # never mounted
            return
        wake = self._unmount(serving=server is not None and not self._served.is_set())
        if server is None:
            self._close_device()
            return
        if wake >= 0:
            self._notifier.stop(_STOP_TIMEOUT_S)  # while there still is somebody to answer what it may be waiting for
            server.stopping = True
            threading.Thread(target=_wake, args=(wake, server), name="sigfs-wake", daemon=True).start()
        if not self._served.wait(_STOP_TIMEOUT_S * 2):
            log.warning("the server has not ended")

    def let_go(self) -> None:
        """Let no thread that cannot be ended hold the connection; see ``base.Transport``."""
        if self._device is not None:
            # Not closed: what some thread still has to say must not go to whatever gets the number next.
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_RDWR), self._device.fd)

    def statistics(self) -> dict[str, object]:
        """Facts for ``sigfs status``."""
        counts = dict(self._server.counts) if self._server else {}
        names = {int(opcode): opcode.name.lower() for opcode in Opcode}
        by_name = {names.get(code, str(code)): count for code, count in counts.items()}
        return {
            "requests": sum(counts.values()),
            "requests_by_kind": by_name,
            "notifications": self._notifier.sent,
            **(self._server.statistics() if self._server else {}),
            "passthrough": self._server.passthrough.enabled if self._server else False,
            "protocol": f"{VERSION}.{self._session.minor}" if self._session else "",
        }

    def _unmount(self, *, serving: bool) -> int:
        """Unmount if our mount is still there. If that had to be lazy while *serving*, give a descriptor of its root
        by which to wake the loop: the kernel keeps the connection as long as processes are inside. Else -1."""
        mountpoint = self._spec.mountpoint
        found = mounted(mountpoint)
        if found is None or found.device != self._mount_device:
            return -1
        wake = -1
        try:
            unmount(mountpoint)
        except MountBusy:
            if serving:
                with contextlib.suppress(OSError):
                    wake = os.open(mountpoint, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                unmount(mountpoint, lazy=True, abort=True)
            except MountError as error:
                log.warning("%s", error)
        except MountError as error:
            log.warning("%s", error)
        return wake

    def _close_device(self) -> None:
        with self._lock:
            device, self._device = self._device, None
        if device is not None:
            os.close(device.fd)


def _wake(root: int, server: Server) -> None:
    """Make requests that the kernel always passes on, one for each thread that waits for one; give *root* back."""
    try:
        with contextlib.suppress(OSError):
            while server.is_reading:
                os.fstatvfs(root)
    finally:
        os.close(root)


def _owner() -> Owner:
    """Tell who this process is, and which numbers those have here who have none."""
    return Owner(_overflow("uid"), _overflow("gid"), os.geteuid(), os.getegid())


def _overflow(kind: str) -> int:
    with open(f"/proc/sys/kernel/overflow{kind}", encoding="ascii") as file:
        return int(file.read())
