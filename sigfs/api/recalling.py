"""State points that an index has, for the handles that came out of it.

Owned here: that many are taken out of the index at once where a loop looks at one job after the other, and one where
somebody looks at one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sigfs.api.refreshing import Current
    from sigfs.model.types import JobId, StatePoint


class Recollection:
    """What an index says of some managed jobs. Any thread may ask."""

    __slots__ = ("_current", "_ids", "_taken", "_was_asked")

    def __init__(self, current: Current, ids: Sequence[JobId]) -> None:
        """Take nothing yet.

        Args:
            ids: those that are probably asked for together.
        """
        self._current = current
        self._ids = ids
        self._taken: dict[JobId, tuple[int, StatePoint | None]] = {}
        self._was_asked = False

    def take(self, job_id: JobId) -> tuple[int, StatePoint | None] | None:
        """The stamp of a job's state point file and the state point, of the caller's own; None if it is not known."""
        found = self._taken.pop(job_id, None)
        if found is None:
            ids, self._ids = ([job_id], self._ids) if not self._was_asked else (self._ids or [job_id], ())
            self._was_asked = True
            more = self._current.proved(ids)
            found = more.pop(job_id, None)
            self._taken.update(more)
        return found
