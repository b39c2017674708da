"""A sidecar that follows a program: what Python programs and commands do to jobs is noted as it is done.

Owned here: that noting never makes anybody fail, nor wait for the disk each time: a program that makes thousands of
jobs has what it noted brought to the disk once a second.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable
from typing import Final

from sigfs.model.types import JobId
from sigfs.sidecar.jobs import Sidecar

log = logging.getLogger(__name__)

_SYNC_S: Final = 1.0

_LONGEST_WAIT_BYTES: Final = 2**24
"""A longer file is left to be made shorter by a mount, or ``sigfs sidecar update``: nobody is to wait for that."""


class Notes:
    """What a process notes in one sidecar. Any thread may call any method; a child process goes on by itself."""

    def __init__(self, open_sidecar: Callable[[], Sidecar]) -> None:
        """Look at nothing yet.

        Args:
            open_sidecar: called when there is something to note.
        """
        self._open = open_sidecar
        self._sidecar: Sidecar | None = None
        self._synced_s = -_SYNC_S
        self._warned = False

    def note(self, keys: Iterable[JobId]) -> None:
        """Write down what these jobs are now, if there is a sidecar. Never raises.

        Complexity: some 100 µs a job; a look where there is no sidecar.
        """
        self._try(lambda: self._note(keys))

    def note_all(self) -> None:
        """Write down what all jobs are now, after work on many, if there is a sidecar. Never raises.

        Complexity: two stats for each job, and two files read of those that look different.
        """
        self._try(self._note_all)

    def _try(self, act: Callable[[], None]) -> None:
        try:
            act()
        except FileNotFoundError:
            pass  # somebody has just taken it away
        except Exception as error:  # noqa: BLE001 - a copy of what the jobs say must make nobody fail
            if not self._warned:
                self._warned = True
                log.warning("the sidecar cannot be written: %s; sigfs sidecar update brings it up to date", error)

    def _opened(self) -> Sidecar:
        if self._sidecar is None:
            self._sidecar = self._open()
        return self._sidecar

    def _note_all(self) -> None:
        sidecar = self._opened()
        if sidecar.file.exists:
            from sigfs.sidecar.updating import update

            update(sidecar, forget=False, is_mounted=os.path.isdir(sidecar.workspace.path))

    def _note(self, keys: Iterable[JobId]) -> None:
        sidecar = self._opened()
        if not sidecar.file.exists:
            return
        lines = list(sidecar.lines_of(keys))
        if not lines:
            return
        now_s = time.monotonic()
        is_due = now_s - self._synced_s >= _SYNC_S
        if sidecar.file.append(lines, sync=is_due) and sidecar.file.size() <= _LONGEST_WAIT_BYTES:
            sidecar.file.compact()
        if is_due:
            self._synced_s = now_s
