"""What the service manager is told: sd_notify(3).

Owned here: the protocol (one datagram of ``NAME=value`` lines each), and the thread that asks the mount whether it
answers. A process that no service manager has started tells nobody anything.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Final

from sigfs.transports.mounts import FS_TYPE, mounted

log = logging.getLogger(__name__)

PATIENCE_S: Final = 120.0
"""How much time is asked for while jobs are read: more than ever passes between two calls of ``progress``."""

PROGRESS_S: Final = 1.0
"""How often the manager is told of progress."""

QUESTION: Final = "system.sigfs"
"""An attribute that no file has. For names in ``system.`` the kernel checks no permissions, which it might have to ask
for, and keeps no answer, so that this very question reaches the server, which looks at no disk for it."""

_SEND_S: Final = 5.0
"""How long a message may wait for a manager that is busy."""

_GONE: Final = frozenset({errno.ENOTCONN, errno.ECONNABORTED})


class ServiceManager:
    """Where the messages go. Any thread may send; a message that cannot be sent is lost, with a line in the log."""

    def __init__(self, address: str | None = None, watchdog_s: float = 0.0) -> None:
        """Nothing is sent yet.

        Args:
            address: of ``$NOTIFY_SOCKET``: an absolute path, or ``@`` and a name in the abstract namespace; None:
                there is no manager.
            watchdog_s: within what time it wants a sign of life; 0: never.
        """
        self._address = address
        self.watchdog_s = watchdog_s if address else 0.0
        self._progress_s = -PROGRESS_S  # monotonic time of the last message of progress
        self._ending = False  # it has been told

    @property
    def listens(self) -> bool:
        """Whether there is one."""
        return self._address is not None

    def tell(self, *lines: str) -> None:
        """Send *lines*, each ``NAME=value`` without a line break."""
        if self._address is None:
            return
        name = os.fsencode(self._address)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.settimeout(_SEND_S)
                channel.sendto(os.fsencode("\n".join(lines)), b"\0" + name[1:] if name[:1] == b"@" else name)
        except OSError as error:
            log.warning("the service manager at %s is not to be told %s: %s", self._address, lines[0], error)

    def progress(self, done: int, total: int) -> None:
        """Say how many jobs have been read, and ask for time to read the others."""
        now_s = time.monotonic()
        if self._address is not None and now_s - self._progress_s >= PROGRESS_S:
            self._progress_s = now_s
            self.tell(f"STATUS=Reading jobs: {done} of {total}", _more_time())

    def loading(self) -> None:
        """Ask for time to do what is done without ``progress``."""
        self.tell("STATUS=Looking at what was read", _more_time())

    def ready(self, status: str) -> None:
        """Say that the mount answers: after the start, and after ``reloading``."""
        self.tell("READY=1", _status(status))

    def reloading(self) -> None:
        """Say that a reload has begun; ends with ``ready``."""
        self.tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", "STATUS=Reloading")

    def alive(self, status: str) -> None:
        """Say that the mount has answered just now."""
        self.tell("WATCHDOG=1", _status(status))

    def stopping(self) -> None:
        """Say that the end has begun; once."""
        if not self._ending:
            self._ending = True
            self.tell("STOPPING=1", "STATUS=Unmounting")


def _more_time() -> str:
    return f"EXTEND_TIMEOUT_USEC={PATIENCE_S * 1e6:.0f}"


def _status(text: str) -> str:
    return "STATUS=" + " ".join(text.split("\n"))


class Heartbeat:
    """Asks the mount again and again, and tells the manager when it has answered: READY the first time, WATCHDOG later.

    The question goes through the kernel to the loop that serves everybody, and its answer back. Where that hangs, so
    does this, and the manager hears nothing. A disk below that does not answer is no matter.
    """

    def __init__(self, manager: ServiceManager, status: Callable[[], str], answers: Callable[[], bool]) -> None:
        """Nothing is asked yet.

        Args:
            status: what to say of the mount, in a line.
            answers: asks it, and returns when it has answered; False: it will not any more.
        """
        self._manager = manager
        self._status = status
        self._answers = answers
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to ask, if there is a manager."""
        if self._manager.listens:
            self._thread = threading.Thread(target=self._run, name="sigfs-heartbeat", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Tell no more; a question that hangs is left alone. Idempotent."""
        self._stopping.set()

    def ready(self) -> None:
        """Say READY, once more after a reload, if the mount answers."""
        if self._manager.listens and self._asked():
            self._manager.ready(self._status())

    def _asked(self) -> bool:
        return self._answers() and not self._stopping.is_set()

    def _run(self) -> None:
        self.ready()
        while self._manager.watchdog_s and not self._stopping.wait(self._manager.watchdog_s / 2) and self._asked():
            self._manager.alive(self._status())


def answers(mountpoint: str) -> bool:
    """Ask the mount at *mountpoint*; returns when it has answered. False: its server is gone.

    Where it is mounted no more, but still serves who was inside (``umount -l``), nobody can ask it from outside, and it
    is taken to be well.
    """
    try:
        entry = mounted(mountpoint)
        if entry is not None and entry.type == FS_TYPE:
            os.getxattr(mountpoint, QUESTION)
    except OSError as error:
        return error.errno not in _GONE
    return True
