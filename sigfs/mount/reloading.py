"""What a running mount does when it is told to reload (SIGHUP): what a restart would, short of mounting anew.

Owned here: the thread that does it, so that signals and requests are answered meanwhile.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

log = logging.getLogger(__name__)


class Reloading:
    """Does all *steps*, in order, each time it is asked; once more if it is asked meanwhile. Any thread may ask."""

    def __init__(
        self, steps: Sequence[Callable[[], None]], begun: Callable[[], None], done: Callable[[], None]
    ) -> None:
        """Do nothing yet.

        Args:
            steps: one that fails is logged, and does not keep the others from being done.
            begun, done: called before and after all.
        """
        self._steps = steps
        self._begun = begun
        self._done = done
        self._asked = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Wait to be asked."""
        self._thread = threading.Thread(target=self._run, name="sigfs-reload", daemon=True)
        self._thread.start()

    def ask(self) -> None:
        """Ask for it, before the start too; returns at once."""
        self._asked.set()

    def stop(self) -> None:
        """Begin no more, and wait for the step under way: what it waits for must have been stopped before."""
        self._stopping.set()
        self._asked.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            self._asked.wait()
            self._asked.clear()
            if self._stopping.is_set():
                return
            log.info("reloading")
            self._begun()
            for step in self._steps:
                if self._stopping.is_set():
                    return
                try:
                    step()
                except Exception:
                    log.exception("unexpected error while reloading")
            self._done()
            log.info("reloaded")
