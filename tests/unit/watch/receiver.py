"""A receiver of changes, as an index would be one, and ways of making changes below."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Sequence

from sigfs.errors import NoSuchJob, PendingJob
from sigfs.model.statepoint import statepoint_id
from sigfs.model.types import Change, Findings, JobId, Record
from sigfs.model.workspace import Workspace

SP_FILE = "signac_statepoint.json"
DOC_FILE = "signac_job_document.json"


class Receiver:
    """Keeps what it is told, as an index would."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.records: dict[JobId, Record] = {}
        self.batches: list[Sequence[Change]] = []
        self.trouble: list[Exception] = []  # raised by the next calls
        self.threads: set[int] = set()
        self.revalidations: list[bool] = []

    def __call__(self, changes: Sequence[Change]) -> None:
        self.threads.add(threading.get_ident())
        assert changes, "an empty batch"
        if self.trouble:
            raise self.trouble.pop()
        self.batches.append(changes)
        for change in changes:
            if change.record is None:
                self.records.pop(change.id, None)
            else:
                known = self.records.get(change.id)
                record = change.record
                if record.document is None and known is not None:
                    record = Record(record.id, record.statepoint, known.document)
                self.records[change.id] = record

    def known(self) -> set[JobId]:
        return set(self.records)

    def values(self) -> list[object]:
        return sorted(record.statepoint["a"] for record in self.records.values() if record.statepoint)  # type: ignore[type-var]

    def documents(self) -> dict[object, object]:
        """Give the document by the value of the state point's key."""
        records = [record for record in self.records.values() if record.statepoint]
        return {record.statepoint["a"]: record.document for record in records if record.statepoint}

    def revalidate(self, documents: bool) -> Findings:
        """Compare with the disk, by reading everything."""
        self.revalidations.append(documents)
        known = dict(self.records)
        here: dict[JobId, Record] = {}
        pending = []
        for job in self.workspace.ids():
            try:
                here[job] = self.workspace.read(job, documents)
            except PendingJob:
                pending.append(job)
            except NoSuchJob:
                continue
        changes = [Change(job, None) for job in known if job not in here and job not in pending]
        changes += [Change(job, record) for job, record in here.items() if known.get(job) != record]
        return Findings(changes, pending)


def write_later(workspace: Workspace, statepoint: dict[str, object]) -> Callable[[], None]:
    """Make the directory of a job as signac does while it migrates one; the returned call writes the state point."""
    path = os.path.join(workspace.path, statepoint_id(statepoint))
    os.mkdir(path)

    def finish() -> None:
        with open(os.path.join(path, "._tmp"), "w", encoding="utf-8") as file:
            json.dump(statepoint, file)
        os.rename(os.path.join(path, "._tmp"), os.path.join(path, SP_FILE))

    return finish


def create_many(path: str, numbers: range, documents: bool = False) -> None:
    """Run in another process: make jobs in the plainest way there is."""
    for number in numbers:
        statepoint = {"a": number}
        job = os.path.join(path, statepoint_id(statepoint))
        os.mkdir(job)
        with open(os.path.join(job, SP_FILE), "w", encoding="utf-8") as file:
            json.dump(statepoint, file)
        if documents:
            replace_document(job, {"b": number})


def replace_document(job: str, document: object) -> None:
    """Write a document as signac does."""
    with open(os.path.join(job, "._tmp"), "w", encoding="utf-8") as file:
        json.dump(document, file)
    os.replace(os.path.join(job, "._tmp"), os.path.join(job, DOC_FILE))
