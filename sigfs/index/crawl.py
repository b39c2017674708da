"""Reading a whole workspace, and finding what has changed in it.

Owned here: which jobs are read or looked at, in which portions, and by whom. How a job is read is the model's.

The order of results is that of the ids, whoever does the work. Without an executor the caller's thread does it, and
hands over to threads where it finds itself waiting for the disk: with a warm page cache they would only be in each
other's way, with a cold one eight of them are four times as fast.
"""

from __future__ import annotations

import contextlib
import functools
import resource
import time
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from operator import sub
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

from sigfs.model.reading import RawJobs, parse, read_chunk, stat_chunk
from sigfs.model.types import UNKNOWN, Batch, Change, Findings, JobId, Record, Stamped
from sigfs.model.workspace import Workspace

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future, ThreadPoolExecutor

J = TypeVar("J")
T = TypeVar("T")

Progress: TypeAlias = Callable[[int, int], None]
"""Called with (jobs looked at, jobs to look at) now and then: first with 0, last with twice the same."""

EXECUTOR_JOBS: Final = 2000
"""Jobs in a task of a foreign executor: some 10 ms of work where a scheduler asks 2 to 3 ms for itself."""

EXECUTOR_AHEAD: Final = 64
"""Tasks that a foreign executor is given before the first result is taken: some 30 MB of results."""

THREADS: Final = 8
THREAD_JOBS: Final = 250
"""Jobs in a task of a reader thread: half a second of work on a cold disk."""

THREAD_ROUND: Final = 80 * THREAD_JOBS
"""Jobs that reader threads do before the caller's thread tries again for itself."""

TRIAL_JOBS: Final = 100
"""Jobs by which the caller's thread finds out whether the page cache is warm."""

INLINE_JOBS: Final = 1000
"""Jobs that the caller's thread does at once as long as it is."""

WAITING: Final = 3.0
"""Wall time over processor time of a thread from which on it is taken to wait for the disk, provided that it has let
go of the processor for every tenth job: one that others crowd out does not do so of its own will."""


def crawl(
    workspace: Workspace,
    ids: Iterable[JobId] | None = None,
    *,
    documents: bool = False,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Generator[Batch, None, None]:
    """Read jobs.

    Jobs that disappear meanwhile are left out. No job disturbs another.

    Args:
        ids: which; all that the workspace has if None.
        documents: read the documents too.
        executor: of ``concurrent.futures`` (threads, processes, Dask, MPI) that shall do the reading; its workers need
            to see the workspace under the same path. It is not shut down.
    Returns:
        Batches by ascending ids. Closing the iterator early ends what it has started. Who keeps the rows of many jobs
        should hold off the garbage collector meanwhile: it takes a fifth of the time.
    Raises:
        OSError: the workspace cannot be listed, or the process is out of descriptors or memory. A workspace that is
            missing has no jobs.
    Complexity: with warm caches 10 us of processor time a job, 17 with documents; memory for a bounded number of jobs.
    """
    wanted = sorted(workspace.ids() if ids is None else ids)
    work = functools.partial(read_chunk, workspace.path, documents=documents)
    return _parsed(in_portions(work, wanted, executor, progress))


def _parsed(portions: Generator[RawJobs, None, None]) -> Generator[Batch, None, None]:
    with contextlib.closing(portions):
        for raw in portions:
            yield parse(raw)


def revalidate(
    workspace: Workspace,
    known: Stamped,
    *,
    documents: bool = False,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Findings:
    """Find what is not as it is known to be: jobs that came, went, or whose files have other stamps.

    A job of which only stamps have changed is among the changes too; its document is None if its bytes are those
    known. A known job that has lost its state point, but not its directory, is pending and not changed.

    Args:
        documents: compare the documents too, and read those of the jobs that are read.
        executor: as in `crawl`.
    Raises:
        OSError: as `crawl`.
    Complexity: one listing, one stat per job (two with documents), and the reading of what has changed: 4.6 us of
        processor time for an unchanged job, 7.2 with documents.
    """
    found = set(workspace.ids())
    gone = {job_id for job_id in known.ids if job_id not in found}
    new = found.difference(known.ids) if len(found) > len(known.ids) - len(gone) else set()
    suspected: list[int] = []  # places in known
    work = functools.partial(stat_chunk, workspace.path, documents=documents)
    start = 0
    for statepoints, bodies in in_portions(work, known.ids, executor, progress):
        end = start + len(statepoints)
        suspected += differing(known.statepoints[start:end], statepoints, start)
        if documents:
            suspected += differing(known.documents[start:end], bodies, start)
        start = end
    suspects = {known.ids[k]: known.contents[k] for k in suspected if known.ids[k] not in gone}
    changes = [Change(job_id, None) for job_id in gone]
    read = _read_changes(workspace, new | suspects.keys(), documents, executor, suspects)
    changes += read.changes
    # Gone between the listing and the reading.
    missing = suspects.keys() - {change.id for change in read.changes} - set(read.pending)
    changes += [Change(job_id, None) for job_id in missing]
    return Findings(sorted(changes, key=lambda change: change.id), read.pending)


def new_and_gone(
    workspace: Workspace,
    known: Collection[JobId],
    *,
    documents: bool = False,
    executor: Executor | None = None,
) -> Findings:
    """Find the jobs that came or went: `revalidate` without a look at those that are known and there.

    Raises:
        OSError: as `crawl`.
    Complexity: one listing, 1.5 us of processor time a job, and the reading of what is new.
    """
    found = set(workspace.ids())
    gone = [job_id for job_id in known if job_id not in found]
    new = found.difference(known) if len(found) > len(known) - len(gone) else set()
    read = _read_changes(workspace, new, documents, executor)
    changes = [Change(job_id, None) for job_id in gone] + read.changes
    return Findings(sorted(changes, key=lambda change: change.id), read.pending)


def _read_changes(
    workspace: Workspace,
    ids: Iterable[JobId],
    documents: bool,
    executor: Executor | None,
    contents: dict[JobId, int] | None = None,
) -> Findings:
    """Read jobs; documents whose bytes hash to what *contents* says are not parsed."""
    changes: list[Change] = []
    pending: list[JobId] = []
    work = functools.partial(read_chunk, workspace.path, documents=documents)
    for raw in in_portions(work, sorted(ids), executor, None):
        if contents:
            drop_known_documents(raw, contents)
        batch = parse(raw)
        changes += [Change(row[0], Record(*row)) for row in batch.rows]
        pending += batch.pending
    return Findings(changes, pending)


def drop_known_documents(raw: RawJobs, contents: dict[JobId, int]) -> None:
    """Take out the documents whose bytes hash to what is known, lest they are parsed again."""
    if raw.documents is None:
        return
    for k, (job_id, content) in enumerate(zip(raw.ids, raw.stamps[2], strict=True)):
        if content and contents.get(job_id) == content:
            raw.documents[k] = b""


def differing(before: Sequence[int], now: Sequence[int], start: int) -> list[int]:
    """Give the places, counted from *start*, at which stamps are not the same or say nothing."""
    if before == now and UNKNOWN not in now:  # two passes in C
        return []
    return [k for k, (old, new) in enumerate(zip(before, now, strict=True), start) if old != new or new == UNKNOWN]


def in_portions(
    work: Callable[[Sequence[J]], T], ids: Sequence[J], executor: Executor | None, progress: Progress | None
) -> Generator[T, None, None]:
    """Apply *work* to consecutive parts of *ids*, jobs by whatever name, which it gets as lists; results in order."""
    done = 0
    portions = _adaptively(work, ids) if executor is None else _by(executor, work, ids, EXECUTOR_JOBS, EXECUTOR_AHEAD)
    with contextlib.closing(portions):
        for jobs, result in portions:
            if progress is not None:
                progress(done, len(ids))
            done += jobs
            yield result
    if progress is not None:
        progress(len(ids), len(ids))


def _by(
    executor: Executor, work: Callable[[Sequence[J]], T], ids: Sequence[J], size: int, ahead: int
) -> Generator[tuple[int, T], None, None]:
    """Have *executor* do it, with at most *ahead* results waiting; give results and how many jobs each is of."""
    running: deque[tuple[int, Future[T]]] = deque()
    try:
        for start in range(0, len(ids), size):
            part = ids[start : start + size]
            running.append((len(part), executor.submit(work, part)))
            if len(running) >= ahead:
                jobs, future = running.popleft()
                yield jobs, future.result()
        while running:
            jobs, future = running.popleft()
            yield jobs, future.result()
    finally:
        for _, future in running:
            future.cancel()


def _adaptively(work: Callable[[Sequence[J]], T], ids: Sequence[J]) -> Generator[tuple[int, T], None, None]:
    """Do it here while the page cache is warm, by threads in rounds while it is not."""
    threads: ThreadPoolExecutor | None = None
    start, size = 0, TRIAL_JOBS
    try:
        while start < len(ids):
            part = ids[start : start + size]
            before = _spent()
            result = work(part)
            wall_s, cpu_s, pauses = map(sub, _spent(), before)
            waited = wall_s > WAITING * cpu_s and pauses >= len(part) // 10
            yield len(part), result
            start += size
            size = INLINE_JOBS
            if waited and start < len(ids):
                from concurrent.futures import ThreadPoolExecutor

                threads = threads or ThreadPoolExecutor(THREADS, thread_name_prefix="sigfs-read")
                part = ids[start : start + THREAD_ROUND]
                yield from _by(threads, work, part, THREAD_JOBS, 3 * THREADS)
                start += THREAD_ROUND
                size = TRIAL_JOBS
    finally:
        if threads is not None:
            threads.shutdown(wait=True, cancel_futures=True)


def _spent() -> tuple[float, float, float]:
    """Wall time, processor time of this thread, and how often it went to sleep."""
    return time.perf_counter(), time.thread_time(), resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
