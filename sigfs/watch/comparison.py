"""Comparisons of a whole workspace with what is known of it: who asks, who waits, and the thread that compares.

Owned here: that one runs at a time, that whoever asks waits for one that begins later than the question, and how old
and how costly the last one was. What is found is told by the watcher.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from sigfs.model.types import Findings

log = logging.getLogger(__name__)


class Interrupted(Exception):
    """Raised by ``Comparisons.progress`` so that a comparison ends with the watcher."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one comparison.

    Attributes:
        findings: empty after a failure.
        documents: whether documents were compared.
        begun_s: monotonic time.
        took_s: until it was found, not until it was told.
        cost_s: processor time of the process meanwhile.
        error: what went wrong; empty if nothing did.
    """

    documents: bool
    begun_s: float
    findings: Findings = field(default_factory=lambda: Findings([], []))
    took_s: float = 0.0
    cost_s: float = 0.0
    error: str = ""


class Comparisons:
    """At most one comparison at a time, in a thread of its own so that events are read meanwhile."""

    def __init__(self, revalidate: Callable[[bool], Findings] | None, wake: Callable[[], None]) -> None:
        """Nothing is compared before ``begin``.

        Args:
            revalidate: None: nothing is ever found.
            wake: called from any thread when there is something to take.
        """
        self._revalidate = revalidate
        self._wake = wake
        self._thread: threading.Thread | None = None
        self._outcome: Outcome | None = None  # found, and not taken yet; set by the thread
        self._stopping = threading.Event()
        self._changed = threading.Condition()  # guards what follows; nothing is called while it is held
        self._asked = False
        self._begun = 0
        self._ended = 0
        self._last: Outcome | None = None  # the last with documents that went well
        self.comparing = False  # from ``begin`` to ``end``; the watcher's thread only

    # From any thread.

    def ask(self) -> int:
        """Ask for a comparison that begins later than now; give its number."""
        with self._changed:
            self._asked = True
            number = self._begun + 1
        self._wake()
        return number

    def wait(self, number: int) -> None:
        """Wait until comparison *number* has been told, or has failed, or there will be none any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended >= number or self._stopping.is_set())

    def runs_here(self) -> bool:
        """Whether this is the thread that compares."""
        return threading.current_thread() is self._thread

    @property
    def last(self) -> Outcome | None:
        """The last comparison with documents that has been told."""
        return self._last

    def progress(self) -> None:
        """Let a comparison go on.

        Raises:
            Interrupted: ``stop`` was called.
        """
        if self._stopping.is_set():
            raise Interrupted

    def stop(self) -> None:
        """Let nobody wait any longer, and a comparison end when it next calls ``progress``."""
        self._stopping.set()
        with self._changed:
            self._changed.notify_all()

    def join(self) -> None:
        """Wait for the thread."""
        if self._thread is not None and not self.runs_here():
            self._thread.join()

    # The watcher's thread only.

    def asked(self) -> bool:
        """Whether somebody has asked since the last call."""
        with self._changed:
            asked, self._asked = self._asked, False
        return asked

    def begin(self, *, documents: bool) -> None:
        """Begin a comparison; ``comparing`` must be false."""
        self.comparing = True
        with self._changed:
            self._begun += 1
        if self._revalidate is None:
            self._outcome = Outcome(documents, time.monotonic())
            self._wake()
            return
        self.join()
        self._thread = threading.Thread(
            target=self._run, args=(self._revalidate, documents), name="sigfs-compare", daemon=True
        )
        self._thread.start()

    def take(self) -> Outcome | None:
        """Give what has been found, once; to be told, and then ``end`` to be called."""
        outcome, self._outcome = self._outcome, None
        return outcome

    def end(self, outcome: Outcome) -> None:
        """All has been told."""
        self.comparing = False
        with self._changed:
            self._ended = self._begun
            if outcome.documents and not outcome.error:
                self._last = outcome
            self._changed.notify_all()

    def _run(self, revalidate: Callable[[bool], Findings], documents: bool) -> None:
        begun_s, cost_s = time.monotonic(), time.process_time()
        findings, error = Findings([], []), ""
        try:
            findings = revalidate(documents)
        except Interrupted:
            error = "interrupted"
        except Exception as problem:
            if not self._stopping.is_set():
                log.exception("the workspace could not be compared")
            error = str(problem) or type(problem).__name__
        took_s, cost_s = time.monotonic() - begun_s, time.process_time() - cost_s
        self._outcome = Outcome(documents, begun_s, findings, took_s, cost_s, error)
        self._wake()
