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
from sigfs.model.types import Change, JobId
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

    def changes(self, job_ids: Iterable[JobId]) -> list[Change]:
        """Give the jobs, out of *job_ids*, whose document is not as it was when last given.

        Cost: one stat a job, about 5 µs, at most once in ``max_age_s``.
        """
        with self._lock:
            now_s = time.monotonic()
            fresh = now_s - self._looked_at_s < self._max_age_s
            looked_at = {job_id: self._seen[job_id] for job_id in job_ids if job_id in self._seen} if fresh else {}
            changes: list[Change] = []
            try:
                workspace_fd = self._workspace.open_dir()
            except FileNotFoundError:
                return []
            try:
                for job_id in job_ids:
                    if job_id in looked_at:
                        continue
                    seen = _fingerprint(workspace_fd, job_id)
                    if job_id not in self._seen or seen != self._seen[job_id]:
                        try:
                            changes.append(Change(job_id, self._workspace.read(job_id, documents=True)))
                        except (NoSuchJob, PendingJob):
                            continue
                    looked_at[job_id] = seen
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
