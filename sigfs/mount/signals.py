"""Signals of the serving process.

Owned here: how SIGTERM and SIGINT end a mount, and what SIGHUP means: the end where it comes with the end of the
terminal, otherwise that the configuration is to be read again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from sigfs.errors import MountBusy, MountError
from sigfs.mount.ending import leave
from sigfs.mount.notifying import QUESTION
from sigfs.transports.mounts import Mount, libc, mounted, unmount

if TYPE_CHECKING:
    from sigfs.transports.base import Transport

log = logging.getLogger(__name__)

_WAKE: Final = signal.SIGUSR2
"""Sent to the thread that waits for signals to end it; from outside it means nothing."""

GRACE_S: Final = 5.0
"""How long a mount that was told to end keeps serving programs that still hold its files."""


_ANSWERS_S: Final = 5.0
"""How long what the kernel has sent may take to be answered, while others may ask for more."""

_SYNC_S: Final = 30.0
"""How long dirty pages may take to be written before the process ends without them."""


class Stopped(Exception):
    """A signal came before there was anything to unmount."""


class Signals:
    """Ends the mount when SIGTERM or SIGINT comes, or the terminal goes; has it reload when only SIGHUP comes.

    The signals are blocked in all threads and taken by one that waits for them, so that no handler ever
    interrupts a request, whatever binding runs the main thread. Life: ``block`` before any thread exists,
    ``start``, ``mounted`` as soon as there is something to unmount, ``finish``.
    """

    def __init__(self) -> None:
        self.asked = threading.Event()  # a signal has come
        self._finished = threading.Event()  # serving is over
        self._lock = threading.Lock()  # guards _mountpoint against mounting and unmounting at once
        self._mountpoint: str | None = None  # None: not mounted yet
        self._ending = frozenset({signal.SIGTERM, signal.SIGINT, _WAKE})
        self._waited = self._ending | {signal.SIGHUP}
        self._had_terminal = False  # whose end ends the mount
        self.on_stop: Callable[[], None] = lambda: None
        """Called when the end begins, because of a signal."""
        self.on_reload: Callable[[], None] | None = None
        """Called when SIGHUP asks for it. None: everything is being read just now."""
        self._before: set[signal.Signals | int] = set()

    def block(self) -> None:
        """Block the signals here and so in all threads to come.

        A terminal that hangs up unmounts, unless there is none, or SIGHUP is ignored (``nohup``).
        """
        self._had_terminal = _has_terminal() and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
        self._before = set(signal.pthread_sigmask(signal.SIG_BLOCK, self._waited))

    def start(self) -> None:
        """Begin to wait for the signals."""
        self._thread = threading.Thread(target=self._run, name="sigfs-signals", daemon=True)
        self._thread.start()

    def mount(self, mountpoint: str, transport: Transport, has_open_files: Callable[[], bool]) -> None:
        """Mount, unless a signal has come.

        Args:
            has_open_files: whether programs have files of the mount open or mapped.

        Raises:
            Stopped: a signal has come.
        """
        with self._lock:
            if self.asked.is_set():
                raise Stopped
            transport.mount()
            self._has_open_files = has_open_files
            self._let_go = transport.let_go
            self._statistics = transport.statistics
            self._mountpoint = mountpoint

    def finish(self) -> None:
        """Say that serving is over; give the signals back."""
        self._finished.set()
        if self._thread.is_alive():
            signal.pthread_kill(self._thread.ident or 0, _WAKE)
            self._thread.join()
        while signal.sigtimedwait(self._waited, 0) is not None:
            pass  # a signal that asked for what is done already
        signal.pthread_sigmask(signal.SIG_SETMASK, self._before)

    def _run(self) -> None:
        number: signal.Signals | int = _WAKE
        while number == _WAKE or (number == signal.SIGHUP and not self._has_hung_up()):
            if number == signal.SIGHUP and self.on_reload is not None:
                self.on_reload()
            number = signal.sigwait(self._waited)
            if self._finished.is_set():
                return
        self.on_stop()
        log.info("%s: unmounting", signal.Signals(number).name)
        with self._lock:
            self.asked.set()
            mountpoint = self._mountpoint
        if mountpoint is not None:
            self._end(mountpoint)
        elif not self._finished.wait(GRACE_S):  # the disk does not answer; there is nothing to lose yet
            log.info("ended before it was mounted")
            leave()

    def _has_hung_up(self) -> bool:
        """Whether there was a terminal, and is none any more: to a process that still has its own, somebody has sent
        the signal."""
        return self._had_terminal and not _has_terminal()

    def _end(self, mountpoint: str) -> None:
        entry = mounted(mountpoint)
        try:
            unmount(mountpoint)
        except MountBusy:
            log.warning("%s is in use: it disappears now and ends in %g s", mountpoint, GRACE_S)
            self._end_gently(mountpoint, entry)
        except MountError as error:
            log.warning("%s", error)
            if mounted(mountpoint) is not None:
                self._end_gently(mountpoint, entry)
        if not self._finished.wait(GRACE_S):
            self._leave()

    def _end_gently(self, mountpoint: str, entry: Mount | None) -> None:
        """Take the mount out of the tree, go on serving who still holds files of it, then end for all."""
        pages = _DirtyPages(mountpoint, self._statistics)
        try:
            unmount(mountpoint, lazy=True)
        except MountError as error:
            log.error("%s", error)
        deadline_s = time.monotonic() + GRACE_S
        while not self._finished.is_set() and (left_s := deadline_s - time.monotonic()) > 0:
            if signal.sigtimedwait(self._ending, min(left_s, 0.1)) is not None and not self._finished.is_set():
                break  # asked again
            if not self._has_open_files():
                pages.write()
        pages.write()
        if not self._finished.is_set() and not (entry is not None and _abort(entry.device)):
            self._leave()

    def _leave(self) -> None:
        """End the process at once and with it the mount, whatever the transport waits for."""
        log.info("leaving those who still hold files of the mount")
        leave(self._let_go)


class _DirtyPages:
    """What programs have written into memory mappings of the mount and the kernel not yet to us.

    A normal unmount has it written first; an end of the connection would drop it. So the mount is held by a
    descriptor until it is written. The system calls are made by a thread of their own: they wait for the server.
    """

    def __init__(self, mountpoint: str, statistics: Callable[[], Mapping[str, object]]) -> None:
        self._mountpoint = mountpoint
        self._statistics = statistics
        self._opened = threading.Event()
        self._wanted = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sigfs-pages", daemon=True)
        self._thread.start()
        self._opened.wait(_SYNC_S)

    def write(self) -> None:
        """Have it all written, once, and let go of the mount; waits for it at most ``_SYNC_S``."""
        self._wanted.set()
        self._thread.join(_SYNC_S)
        if self._thread.is_alive():
            log.error("not all that was written to memory mappings could be saved in %g s", _SYNC_S)

    def _run(self) -> None:
        try:
            fd = os.open(self._mountpoint, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            log.warning("cannot hold %s: %s", self._mountpoint, error)
            return
        finally:
            self._opened.set()
        self._wanted.wait()
        if libc().syncfs(fd) != 0:
            log.error("not all that was written to memory mappings could be saved")
        self._wait_for_writes(fd)
        os.close(fd)

    def _wait_for_writes(self, fd: int) -> None:
        """Wait until the server has answered what syncfs has made the kernel ask: that does not wait for it.

        Requests come in order, and of those in the background (some 12 at a time) the next ones come before the last
        are done. So when of two questions the second is the next request, and nobody is at anything, all are.
        """
        deadline_s = time.monotonic() + _ANSWERS_S
        received = 0
        while time.monotonic() < deadline_s:
            with contextlib.suppress(OSError):
                os.getxattr(fd, QUESTION)
            time.sleep(0.001)  # until who has answered is ready for the next
            before, received = received, self._count("requests")
            if received - before == 1 and not self._count("under_way") and not self._count("waiting"):
                return
        log.warning("programs still ask for more: what is in memory mappings may not have been saved")

    def _count(self, name: str) -> int:
        found = self._statistics().get(name, 0)
        return found if isinstance(found, int) else 0


def _has_terminal() -> bool:
    """Whether this process has a controlling terminal, and that is connected."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _abort(device: int) -> bool:
    """End the kernel's side of a FUSE connection, so that whoever waits for it gets an error.

    False where that is not possible: the control file system is not mounted, or not permitted.
    """
    try:
        with open(f"/sys/fs/fuse/connections/{os.minor(device)}/abort", "w", encoding="ascii") as control:
            control.write("1")
    except OSError as error:
        log.debug("no abort: %s", error)
        return False
    return True
