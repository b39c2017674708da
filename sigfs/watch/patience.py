"""Work in a directory that may not answer: done by another thread, and waited for only as long as that gets on.

Owned here: how to tell a disk that hangs from one that is slow. A thread that waits for a disk and is answered, however
late, runs again; one that has not run at all for a while is in a system call that does not return.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final, Generic, TypeVar, cast

log = logging.getLogger(__name__)

Result = TypeVar("Result")

PATIENCE_S: Final = 2.0
"""How long one system call may take before its directory is called silent. A false alarm costs one comparison more."""

AGAIN_S: Final = 60.0
"""A silent directory is asked by another thread after so long, twice as long, and so on: what is there now need not be
what the first one waits for, which may be mounted elsewhere or nowhere by now."""

_MOST_WAITING: Final = 10
"""Threads that wait for one directory at most."""

_LOOK_S: Final = 0.05


class NoAnswer(Exception):
    """The directory does not answer."""


class _Thread(threading.Thread):
    """Attributes: ``given_up``: nobody waits for the result any more."""

    given_up = False


def given_up() -> bool:
    """Whether the work that this thread does is of no use any more; for functions that could end it early."""
    thread = threading.current_thread()
    return isinstance(thread, _Thread) and thread.given_up


class Patience:
    """With one directory. Used by one thread; what answers late does so in a thread of its own.

    Attributes:
        patience_s: as ``PATIENCE_S``.
    """

    def __init__(self, path: str, answered: Callable[[], None]) -> None:
        """Nothing has been asked yet.

        Args:
            path: of the directory, for messages.
            answered: called from any thread when a directory that was silent has answered.
        """
        self._path = path
        self._answered = answered
        self._lock = threading.Lock()  # guards what follows; nothing is called while it is held
        self._waiting: set[threading.Thread] = set()  # those that have been given up and have not come back
        self._silent = False
        self._pause_s = AGAIN_S
        self._again_s = 0.0  # monotonic time from which a silent directory may be asked again
        self.patience_s = PATIENCE_S

    def call(self, work: Callable[[], Result], check: Callable[[], None] = lambda: None) -> Result:
        """Give what *work* gives, or raise what it raises.

        Args:
            check: called now and then while that is waited for; what it raises gives the work up.

        Raises:
            NoAnswer: the directory is silent.

        Cost: about 0.1 ms.
        """
        if self._silent and (time.monotonic() < self._again_s or len(self._waiting) >= _MOST_WAITING):
            raise NoAnswer(self._path)
        call = _Call(work)
        thread = _Thread(target=self._run, args=(call,), name="sigfs-place", daemon=True)
        thread.start()
        try:
            self._wait(call, thread, check)
        except BaseException:
            thread.given_up = True
            raise
        if self._speaks():
            self._answered()
        return call.result()

    def _run(self, call: _Call[Result]) -> None:
        call.run()
        with self._lock:
            was_missed = threading.current_thread() in self._waiting
            self._waiting.discard(threading.current_thread())
        if was_missed and self._speaks():
            self._answered()

    def _wait(self, call: _Call[Result], thread: threading.Thread, check: Callable[[], None]) -> None:
        runs, since_s = -1, time.monotonic()
        while not call.done.wait(_LOOK_S):
            check()
            now_s = time.monotonic()
            before, runs = runs, _runs(thread.native_id)
            if runs != before:
                since_s = now_s
            elif now_s - since_s >= self.patience_s and self._give_up(call, thread):
                raise NoAnswer(self._path)

    def _give_up(self, call: _Call[Result], thread: threading.Thread) -> bool:
        """Call the directory silent, unless it has answered just now."""
        with self._lock:
            if call.done.is_set():
                return False
            was, self._silent = self._silent, True
            self._waiting.add(thread)
            self._pause_s = self._pause_s * 2 if was else AGAIN_S
            self._again_s = time.monotonic() + self._pause_s
        if not was:
            log.warning("%s does not answer: it is left out until it does", self._path)
        return True

    def _speaks(self) -> bool:
        """Note that it answers; whether it had been silent."""
        with self._lock:
            was, self._silent = self._silent, False
        if was:
            log.info("%s answers again", self._path)
        return was


class _Call(Generic[Result]):
    """Work, and what has come of it."""

    def __init__(self, work: Callable[[], Result]) -> None:
        self._work = work
        self._result: Result | None = None
        self._error: BaseException | None = None
        self.done = threading.Event()

    def run(self) -> None:
        try:
            self._result = self._work()
        except BaseException as error:  # noqa: BLE001 - raised again by ``result``
            self._error = error
        self.done.set()

    def result(self) -> Result:
        if self._error is not None:
            raise self._error
        return cast("Result", self._result)


def _runs(thread: int | None) -> int:
    """Count how often *thread* of this process has begun to run; another number each time while it could run."""
    try:
        with open(f"/proc/self/task/{thread}/status", "rb") as file:
            lines = dict(line.split(b":", 1) for line in file if line.startswith((b"State", b"volunt", b"nonvol")))
        if lines[b"State"].split()[0] != b"R":
            return int(lines[b"voluntary_ctxt_switches"]) + int(lines[b"nonvoluntary_ctxt_switches"])
    except (OSError, ValueError, KeyError):
        pass
    return time.monotonic_ns()
