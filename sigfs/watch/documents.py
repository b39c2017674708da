"""Documents, followed only while somebody asks for them: a stat of each, a read of those that changed.

Owned here: ``DocumentPoller``. Documents are written without any event on the workspace directory, and most views do
not depend on them; so they are looked at when a query, view or path reads a document key.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from typing import TypeAlias

from sigfs.errors import NoSuchJob, PendingJob
from sigfs.model.types import Change, JobId, Record
from sigfs.model.workspace import DOCUMENT_FILE, Workspace

# (st_mtime_ns, st_ctime_ns, st_ino, st_size) of the document file; None: there is none
_Fingerprint: TypeAlias = tuple[int, int, int, int] | None


class DocumentPoller:
    """Finds the documents that changed since the last look."""

    def __init__(self, workspace: Workspace, max_age_s: float = 1.0) -> None:
        """Follow the documents of *workspace*.

        Args:
            max_age_s: how old an answer may be; asked again sooner, ``changes`` looks at new jobs only.
        """
        self._workspace = workspace
        self._max_age_s = max_age_s
        self._lock = threading.Lock()  # guards the two below; held while files are read
        self._seen: dict[JobId, _Fingerprint] = {}
        self._looked_at_s = float("-inf")

    def changes(self, records: Iterable[Record]) -> list[Change]:
        """Give those jobs whose document is not known, or not as it was when last given.

        A job may go away meanwhile: whoever applies the changes must not bring it back.

        Args:
            records: what is known of the jobs; a record without document was never read.
        Cost: one stat a job, about 5 µs, at most once in ``max_age_s``.
        """
        with self._lock:
            now_s = time.monotonic()
            fresh = now_s - self._looked_at_s < self._max_age_s
            looked_at: dict[JobId, _Fingerprint] = {}
            changes: list[Change] = []
            try:
                workspace_fd = self._workspace.open_dir()
            except FileNotFoundError:
                return []
            try:
                for record in records:
                    known = record.document is not None and record.id in self._seen
                    if known and fresh:
                        looked_at[record.id] = self._seen[record.id]
                        continue
                    seen = _fingerprint(workspace_fd, record.id)
                    if not known or seen != self._seen[record.id]:
                        try:
                            changes.append(Change(record.id, self._workspace.read(record.id, documents=True)))
                        except (NoSuchJob, PendingJob):
                            continue
                    looked_at[record.id] = seen
            finally:
                os.close(workspace_fd)
            self._seen = looked_at
            if not fresh:
                self._looked_at_s = now_s
            return changes


def _fingerprint(workspace_fd: int, job_id: JobId) -> _Fingerprint:
    try:
        stat = os.stat(f"{job_id}/{DOCUMENT_FILE}", dir_fd=workspace_fd, follow_symlinks=False)
    except OSError:
        return None
    return (stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, stat.st_size)
