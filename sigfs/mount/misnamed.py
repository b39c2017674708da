"""Jobs whose directory has the state point of another name: migrations that a killed process has left half done.

Owned here: the thread that looks for them among the jobs that a mount has read at its start. It goes slowly, since it
matters to none of the others. What it finds the watcher looks at, which completes what is not completed by itself.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

from sigfs.errors import InvalidStatePoint
from sigfs.model.statepoint import statepoint_id

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sigfs.index import Index
    from sigfs.model.types import JobId, Record
    from sigfs.model.workspace import Workspace

_PORTION: Final = 200
"""Jobs looked at before a pause: some 4 ms."""

_REST: Final = 3
"""A pause is this many times as long as the work before it."""


class Misnamed:
    """Looks for them. ``start`` and ``stop`` are called by one thread."""

    def __init__(self, index: Index, workspace: Workspace, found: Callable[[JobId], None]) -> None:
        """Do nothing yet.

        Args:
            found: called in a thread of its own with each job whose name is not the id of its state point.
        """
        self._index = index
        self._function = workspace.id_function
        self._found = found
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, jobs: Sequence[JobId]) -> None:
        """Look at *jobs*."""
        if jobs:
            self._thread = threading.Thread(target=self._run, args=(jobs,), name="sigfs-misnamed", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread; idempotent."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self, jobs: Sequence[JobId]) -> None:
        for start in range(0, len(jobs), _PORTION):
            begun_s = time.monotonic()
            with self._index.reading() as table:
                numbers = [table.number(job) for job in jobs[start : start + _PORTION]]
                records = [table.record_of(number) for number in numbers if number is not None]
            for record in records:
                if not self._is_own(record):
                    self._found(record.id)
            if self._stopping.wait(_REST * (time.monotonic() - begun_s)):
                return

    def _is_own(self, record: Record) -> bool:
        try:
            return statepoint_id(record.statepoint, self._function) == record.id
        except InvalidStatePoint:
            return True
