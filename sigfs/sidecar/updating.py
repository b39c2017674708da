"""A sidecar and the job directories, compared.

Owned here: what is brought up to date, and what is not believed. A workspace that is missing or empty may be a disk
that is not mounted; a directory that cannot be looked at may hold jobs: nothing that is known of them is forgotten.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from sigfs.errors import NoSuchJob, PendingJob, SidecarError
from sigfs.model.reading import DOCUMENT_FILE, STATEPOINT_FILE
from sigfs.model.types import JobId, Json
from sigfs.sidecar.file import LEAST_COMPACTED_BYTES
from sigfs.sidecar.jobs import LARGEST_DOCUMENT_BYTES, Sidecar, gone
from sigfs.sidecar.lines import SidecarRecord, encode

CHUNK_JOBS: Final = 256
"""Jobs looked at in one go."""

_WORKERS: Final = 8
"""Threads that read jobs: a network file system answers several questions as soon as one."""

_FILES: Final = (STATEPOINT_FILE, DOCUMENT_FILE)

Progress = Callable[[int, int], None]
"""Is told (jobs done, jobs in all)."""


@dataclass(slots=True)
class Known:
    """What a sidecar says of files, in little memory.

    Attributes:
        looks: fingerprint of path, sizes and times, by the id of a job.
        kept: ids of jobs of which it has a document that is not empty, and whose document file is said to be missing.
        has_broken: there is a line that says nothing.
    """

    looks: dict[str, int] = field(default_factory=dict)
    kept: set[str] = field(default_factory=set)
    has_broken: bool = False


class Listed(NamedTuple):
    """Jobs that are there.

    Attributes:
        keys: of all directories that are named like jobs, and of jobs outside of the workspace.
        is_unsure: the workspace is missing or empty.
    """

    keys: list[JobId]
    is_unsure: bool


class Difference(NamedTuple):
    """A job of which the sidecar does not say what its directory does.

    Attributes:
        record: None if the job is gone.
    """

    id: str
    record: SidecarRecord | None
    is_new: bool

    def line(self) -> bytes:
        """What the sidecar ought to be told."""
        return gone(self.id) if self.record is None else encode(self.record)


@dataclass(slots=True)
class Updated:
    """What an update has done.

    Attributes:
        jobs: how many there are.
        added, changed, gone: ids.
        unreadable: id -> why; what was known of them stays.
        unsure: how many are not there, where that may not be for good: they stay in the sidecar.
        is_new: there was no sidecar.
    """

    jobs: int = 0
    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    unsure: int = 0
    is_new: bool = False


class Disagreement(NamedTuple):
    """Something that a sidecar and a job directory do not agree on.

    Attributes:
        what: "unknown": the sidecar has no such job; "gone": there is no such job; "differs": state point or document
            are others; "damaged": the job, or its document, cannot be read.
    """

    id: str
    what: Literal["unknown", "gone", "differs", "damaged"]
    why: str


def require(sidecar: Sidecar) -> None:
    """See that there is one.

    Raises:
        SidecarError: there is none.
    """
    if not sidecar.file.exists:
        raise SidecarError(f"{sidecar.root} has no sidecar yet; `sigfs sidecar update` makes one")


def look_of(path: str, files: Mapping[str, Json]) -> int:
    """A fingerprint of what is said of a job's files: equal as long as they look alike. Of this process alone."""
    sizes = [tuple(said[:2]) if isinstance(said := files.get(name), list) else None for name in _FILES]
    return hash((path, *sizes))


def look(sidecar: Sidecar, key: JobId) -> int | None:
    """The fingerprint of a job's files as they are; None if it has no state point file."""
    path = sidecar.path_of(key)
    said: dict[str, Json] = {}
    for name in _FILES:
        try:
            status = os.lstat(f"{path}/{name}")
        except OSError:
            if name == STATEPOINT_FILE:
                return None
        else:
            said[name] = [status.st_size, status.st_mtime_ns]
    return look_of(sidecar.said_path(key), said)


def known(sidecar: Sidecar, pause: Callable[[], bool] = lambda: True) -> Known:
    """Read what the sidecar says of files; nothing if there is none.

    Args:
        pause: called now and then; False ends it there.
    Raises:
        SidecarError, OSError: see `SidecarFile.read`.
    """
    found = Known()
    if not sidecar.file.exists:
        return found
    said: set[str] = set()  # that have a document
    filed: set[str] = set()  # and a file of it
    for number, line in enumerate(sidecar.file.stream()):
        if not number % CHUNK_JOBS and not pause():
            break
        record = line.record
        found.has_broken |= record is None
        job_id = None if record is None else record.get("id")
        if record is None or not isinstance(job_id, str):
            continue
        if record.get("gone") is True:
            found.looks.pop(job_id, None)
            said.discard(job_id)
            continue
        if "doc" in record:
            (said.add if record["doc"] else said.discard)(job_id)
        files, path = record.get("files"), record.get("path")
        if isinstance(files, dict) and isinstance(path, str):
            found.looks[job_id] = look_of(path, files)
            (filed.add if DOCUMENT_FILE in files else filed.discard)(job_id)
    found.kept = said - filed
    return found


def with_documents(sidecar: Sidecar) -> set[str]:
    """The ids of the jobs of which the sidecar has a document that is not empty. Raises as `SidecarFile.read`."""
    found: set[str] = set()
    for line in sidecar.file.stream():
        job_id = None if line.record is None else line.record.get("id")
        if line.record is not None and isinstance(job_id, str):
            if line.record.get("doc"):
                found.add(job_id)
            elif "doc" in line.record or line.record.get("gone") is True:
                found.discard(job_id)
    return found


def listed(sidecar: Sidecar) -> Listed:
    """All jobs that are there, and directories named like jobs."""
    keys = list(sidecar.workspace.ids())
    is_unsure = not keys
    if sidecar.places:
        keys += sidecar.places.listing().jobs
    return Listed(keys, is_unsure)


def differences(
    sidecar: Sidecar, known: Known, keys: Sequence[JobId], *, forget: bool
) -> tuple[list[Difference], dict[str, str]]:
    """Compare some jobs with what is known of them, and read those that look different.

    Args:
        forget: a document that is missing is forgotten.
    Returns:
        What is different; and jobs that cannot be read, and why.
    """
    found: list[Difference] = []
    unreadable: dict[str, str] = {}
    for key in keys:
        job_id = sidecar.places.id_of(key)
        before = known.looks.get(job_id)
        if before is not None and before == look(sidecar, key) and not (forget and job_id in known.kept):
            continue
        try:
            record = sidecar.describe(key, forget=forget)
        except PendingJob as error:
            unreadable[job_id] = str(error).removeprefix(f"{job_id}: ")
        except NoSuchJob:
            continue  # between the listing and now
        else:
            found.append(Difference(job_id, record, before is None))
    return found, unreadable


def gone_jobs(
    sidecar: Sidecar, known: Iterable[str], found: Listed, *, forget_all: bool = False
) -> tuple[list[str], int]:
    """Which of the jobs that are *known* are gone; and how many are not there, of which that cannot be told."""
    there = {sidecar.places.id_of(key) for key in found.keys}
    missing = [job_id for job_id in known if job_id not in there]
    if forget_all:
        return missing, 0
    sure = [job_id for job_id in missing if not _may_be_there(sidecar, job_id, found)]
    return sure, len(missing) - len(sure)


def _may_be_there(sidecar: Sidecar, job_id: str, found: Listed) -> bool:
    if "/" not in job_id:
        return found.is_unsure
    path = os.path.normpath(os.path.join(sidecar.workspace.path, job_id))
    troubles = sidecar.places.troubles
    return not os.path.isdir(os.path.dirname(path)) or any(path.startswith(f"{each}/") for each in troubles)


def update(
    sidecar: Sidecar,
    *,
    dry_run: bool = False,
    forget: bool = True,
    forget_all: bool = False,
    is_mounted: bool = False,
    progress: Progress | None = None,
) -> Updated:
    """Have the sidecar say what the job directories do; it is made if there is none.

    Args:
        forget: documents that are missing are forgotten.
        forget_all: forget jobs that are not there, also where there is no other job in the workspace.
        is_mounted: the workspace is known to be the right one, also if it is empty.
    Raises:
        SidecarError: it is none, or that of something newer.
        OSError: it cannot be written; what is there stays.
    Complexity: two stats for each job, and two files read of those that look different.
    """
    from concurrent.futures import ThreadPoolExecutor

    result = Updated(is_new=not sidecar.file.exists)
    if result.is_new and not dry_run:
        sidecar.begin()
    before = known(sidecar)
    found = listed(sidecar)
    if is_mounted:
        found = found._replace(is_unsure=False)
    result.jobs = len(found.keys)
    chunks = [found.keys[at : at + CHUNK_JOBS] for at in range(0, len(found.keys), CHUNK_JOBS)]
    done = 0

    def compare(keys: Sequence[JobId]) -> tuple[list[Difference], dict[str, str]]:
        return differences(sidecar, before, keys, forget=forget)

    def take(news: Sequence[Difference]) -> None:
        result.added += [each.id for each in news if each.is_new]
        result.changed += [each.id for each in news if not each.is_new and each.record is not None]
        result.gone += [each.id for each in news if each.record is None]
        if news and not dry_run:
            sidecar.file.append([each.line() for each in news])

    with ThreadPoolExecutor(_WORKERS) as pool:
        for chunk, (news, unreadable) in zip(chunks, pool.map(compare, chunks), strict=True):
            take(news)
            result.unreadable |= unreadable
            done += len(chunk)
            if progress is not None:
                progress(done, result.jobs)
    missing, result.unsure = gone_jobs(sidecar, before.looks, found, forget_all=forget_all)
    take([Difference(job_id, None, is_new=False) for job_id in missing])
    if not dry_run and (before.has_broken or sidecar.file.size() >= LEAST_COMPACTED_BYTES):
        sidecar.file.compact(sidecar.header(), force=before.has_broken)
    return result


def disagreements(
    sidecar: Sidecar, jobs: Mapping[str, SidecarRecord], progress: Progress | None = None
) -> Iterator[Disagreement]:
    """Read all jobs, and give what a sidecar that says *jobs* does not agree with them on.

    Complexity: reads every state point and document.
    """
    found = listed(sidecar)
    for done, key in enumerate(found.keys, start=1):
        job_id = sidecar.places.id_of(key)
        record = jobs.get(job_id)
        try:
            now = sidecar.describe(key, forget=True)
        except PendingJob as error:
            yield Disagreement(job_id, "damaged", str(error).removeprefix(f"{job_id}: "))
        except NoSuchJob:
            continue
        else:
            if record is None:
                yield Disagreement(job_id, "unknown", "the sidecar does not have it")
            elif why := _differs(record, now):
                yield Disagreement(job_id, "differs", why)
            elif "doc" not in now and _document_bytes(now) <= LARGEST_DOCUMENT_BYTES:
                yield Disagreement(job_id, "damaged", f"{DOCUMENT_FILE} cannot be read, or is no JSON mapping")
        if progress is not None:
            progress(done, len(found.keys))
    there = {sidecar.places.id_of(key) for key in found.keys}
    for job_id in itertools.filterfalse(there.__contains__, jobs):
        yield Disagreement(job_id, "gone", "there is no such job (any more)")


def _document_bytes(now: SidecarRecord) -> int:
    files = now["files"]
    said = files.get(DOCUMENT_FILE) if isinstance(files, dict) else None
    return said[0] if isinstance(said, list) else 0


def _differs(record: SidecarRecord, now: SidecarRecord) -> str:
    if encode({"": record.get("sp")}) != encode({"": now["sp"]}):
        return "the state point is another one"
    if record.get("path") != now["path"]:
        return f"it is said to be in {record.get('path')}"
    if "doc" in now and encode({"": record.get("doc") or {}}) != encode({"": now["doc"]}):
        files = now["files"]
        missing = isinstance(files, dict) and DOCUMENT_FILE not in files
        return f"{DOCUMENT_FILE} is missing" if missing else "the document is another one"
    return ""
