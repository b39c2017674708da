"""Where all threads of a server are, written to the log when SIGUSR1 comes.

Owned here: that signal. It is blocked in all threads and taken by one that does nothing else, so that it is answered
also while the main thread, or the one that ends the mount, hangs in a system call. The stacks are read by a thread that
runs, never within a signal handler, and no source file is opened for them: that might hang as well.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from types import FrameType

log = logging.getLogger(__name__)

SIGNAL: Final = signal.SIGUSR1

_DEEPEST: Final = 100
"""Calls of one thread that are written at most."""

_BEGINNING: Final = ("_bootstrap", "_bootstrap_inner")
"""How every thread begins."""


class Stacks:
    """Answers the signal. Life: ``block`` before any thread exists, ``start``, ``stop``."""

    def __init__(self) -> None:
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="sigfs-stacks", daemon=True)

    def block(self) -> None:
        """Block the signal here and so in all threads to come."""
        signal.pthread_sigmask(signal.SIG_BLOCK, {SIGNAL})

    def start(self) -> None:
        """Begin to wait for it."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread. The signal stays blocked: who sends it once more does not end the process."""
        self._stopping = True
        if self._thread.is_alive():
            signal.pthread_kill(self._thread.ident or 0, SIGNAL)
            self._thread.join()

    def _run(self) -> None:
        while True:
            signal.sigwait({SIGNAL})
            if self._stopping:
                return
            try:
                # Whoever asks wants it, whatever the level of the log.
                log.handle(log.makeRecord(log.name, logging.INFO, __file__, 0, "%s", (describe_threads(),), None))
            except Exception:
                log.exception("the stacks cannot be written")


def describe_threads() -> str:
    """Say of each thread of this process what it is called, what the kernel has it do, and its calls, latest first.

    What the kernel says is the state (R: runs, S: sleeps, D: waits for a disk) and the function in which it waits.
    Threads that are at the same are named together.
    """
    frames = sys._current_frames()  # noqa: SLF001 - what faulthandler reads; there is no public name for it
    threads = [thread for thread in threading.enumerate() if thread.ident in frames]
    found: dict[tuple[str, ...], list[str]] = {}
    for thread in threads:
        # What Python remembers of the main thread may be of the process that this one was forked from.
        number = os.getpid() if thread is threading.main_thread() else thread.native_id
        at = (_in_kernel(number), *_calls(frames[thread.ident or 0]))
        found.setdefault(at, []).append(f"{thread.name} ({number})")
    lines = [f"the stacks of {len(threads)} threads, latest call first:"]
    for (in_kernel, *calls), names in found.items():
        lines += [f"{', '.join(names)}: {in_kernel}", *(f"  {call}" for call in calls)]
    return "\n".join(lines)


def _calls(frame: FrameType | None) -> list[str]:
    calls: list[str] = []
    while frame is not None and len(calls) < _DEEPEST:
        code = frame.f_code
        if code.co_name not in _BEGINNING:
            calls.append(f"{code.co_filename}:{frame.f_lineno} {code.co_qualname}")
        frame = frame.f_back
    return calls


def _in_kernel(thread: int | None) -> str:
    said = []
    for name in ("stat", "wchan"):
        try:
            with open(f"/proc/self/task/{thread}/{name}", encoding="utf-8", errors="replace") as file:
                text = file.read()
        except OSError:
            continue
        said.append(text.rpartition(")")[2].split()[0] if name == "stat" else text)
    return " ".join(text for text in said if text not in ("", "0"))
