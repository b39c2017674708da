"""Having an index say what the job directories say.

Owned here: the reading of all jobs, the comparison of an index with the disk, and ``Current``, which keeps the index
of a process and looks, each time it is asked for, whether it still holds.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from sigfs.api.progress import progress_bar
from sigfs.errors import InvalidStatePoint, NoSuchJob, PendingJob
from sigfs.index import Index, Table
from sigfs.index.crawl import crawl, new_and_gone, revalidate
from sigfs.index.outside import NOTHING_KNOWN, revalidate_places, split
from sigfs.index.store import Store
from sigfs.model.indexed import read_indexed
from sigfs.model.places import Places
from sigfs.model.statepoint import statepoint_id
from sigfs.model.types import UNKNOWN, Batch, Change, Findings, JobId, Record, Stamped, StatePoint
from sigfs.model.workspace import Workspace as WorkspaceFiles

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from sigfs.api.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Update:
    """An index that has been brought up to date.

    Attributes:
        added, changed, removed: jobs that say something else than the index said.
        pending: directories named like jobs that cannot be read as ones.
        differs: whether what is kept is worth replacing.
    """

    index: Index
    added: int
    changed: int
    removed: int
    pending: int
    differs: bool


class Directories(NamedTuple):
    """Where the jobs of an index are.

    Attributes:
        workspace: that of the managed jobs, if there are any.
        places: the directories of jobs outside of it.
    """

    workspace: Workspace | None
    places: Places

    @classmethod
    def of(cls, root: str, workspace: Workspace) -> Directories:
        """Those of a project.

        Raises:
            InvalidConfig: its configuration is broken.
        """
        return cls(workspace, Places(workspace.path, read_indexed(root)))

    def path_of(self, key: JobId) -> str:
        """Absolute path of a job's directory. The disk is not looked at."""
        location = self.places.location(key)
        if location is not None:
            return location.path
        assert self.workspace is not None
        return os.path.join(self.workspace.path, key)

    def read(self, key: JobId, documents: bool = False) -> Record:
        """What a job's directory says now.

        Raises:
            NoSuchJob, PendingJob, OSError: as `sigfs.model.workspace.Workspace.read`.
        """
        if self.places.owns(key):
            return self.places.read(key, documents)
        if self.workspace is None:
            raise NoSuchJob(f"no job {key}")
        return self.workspace.read(key, documents)

    def revalidate(self, known: Stamped, **how: Any) -> Findings:
        """Find what is not as it is known to be; ``how`` as in `sigfs.index.crawl.revalidate`."""
        listing = self.places.listing() if self.places else None
        inside, outside = split(known, self.places) if self.places else (known, NOTHING_KNOWN)
        if self.workspace is None:
            found = Findings([Change(key, None) for key in inside.ids], [])
        else:
            found = revalidate(self.workspace, inside, **how)
        if listing is None:
            return found
        more = revalidate_places(self.places, outside, listing=listing, **how)
        return Findings(found.changes + more.changes, found.pending + more.pending)


def bring_up_to_date(
    store: Store, directories: Directories, documents: bool = False, workers: Executor | None = None
) -> Update | None:
    """Load the index and compare it with the disk; afterwards it says what reading all jobs would.

    Args:
        documents: also where the index that is kept has none.
    Returns:
        None if there is no index that could be used.
    Raises:
        OSError: the workspace cannot be listed.
    """
    index = store.load()
    if index is None:
        return None
    kept_journal = store.contents().journal_records
    documents = documents or index.documents
    update, _ = _compare(index, directories, documents, workers)
    return replace(update, differs=True) if kept_journal else update


def _compare(
    index: Index, directories: Directories, documents: bool, workers: Executor | None = None
) -> tuple[Update, Findings]:
    """Have *index* say what reading all jobs would."""
    with index.reading() as table:
        known = table.stamped()
    with progress_bar("looking at jobs") as progress:
        findings = directories.revalidate(known, documents=documents, executor=workers, progress=progress)
    # The index keeps a document that cannot be read any more, and a job that has lost its state point. What reads all
    # jobs knows nothing of either.
    with index.reading() as table:
        lost = [job_id for job_id in findings.pending if job_id in table]
        if documents:
            lost += [change.id for change in findings.changes if _has_lost_its_document(change, table)]
    removals = index.apply(Change(job_id, None) for job_id in lost)
    delta = index.apply(findings.changes)
    before = {old.id: old for old, _ in removals.jobs if old is not None}
    added = changed = removed = 0
    for old, new in delta.jobs:
        if new is not None:
            old = before.pop(new.id, old)
        added += old is None
        removed += new is None
        changed += old is not None and new is not None and old.text() != new.text()
    differs = bool(findings.changes or lost or documents != index.documents)
    index.documents = documents
    update = Update(index, added, changed, removed + len(before), len(findings.pending), differs)
    return update, findings


def _has_lost_its_document(change: Change, table: Table) -> bool:
    """Whether the job's document was to be read and could not be; it is not read where its bytes are those known."""
    record, known = change.record, table.stamp(change.id)
    if record is None or record.document is not None or known is None:
        return False
    return record.stamp is None or not record.stamp.content or record.stamp.content != known.content


def build(
    directories: Directories,
    documents: bool,
    workers: Executor | None = None,
    look: Callable[[Batch], None] | None = None,
) -> tuple[Index, list[JobId]]:
    """Read all jobs; give the index, and which directories are pending.

    Args:
        look: called with the managed jobs as they are read.
    """
    index = Index(documents=documents)
    pending: list[JobId] = []
    with progress_bar("reading jobs") as progress:
        if directories.workspace is not None:
            batches = crawl(directories.workspace, documents=documents, executor=workers, progress=progress)
            pending += index.load(batches if look is None else _looked_at(batches, look))
        if directories.places:
            found = revalidate_places(directories.places, documents=documents, executor=workers, progress=progress)
            index.apply(found.changes)
            pending += found.pending
    return index, pending


def _looked_at(batches: Iterable[Batch], look: Callable[[Batch], None]) -> Iterator[Batch]:
    for batch in batches:
        look(batch)
        yield batch


class Current:
    """The index of a workspace in this process: read when it is first asked for, then kept and looked after.

    Any thread may ask. A child process begins anew: what its parent's threads were at when it was forked is not known.

    Each look sees which jobs came and went: one stat if none did and none of the last two seconds. It reads no job
    again, as the state point of a managed job is in its name (I1); but those that had none, or that of another name,
    which somebody is migrating at this moment or was killed at: these are looked at until they are whole, or gone.
    Documents are compared if the look is for them: one stat a job.
    """

    def __init__(self, root: str, directories: Directories, *, auto_cache: bool = False) -> None:
        """Do nothing yet.

        Args:
            root: the directory that has the store.
            auto_cache: keep on disk what has been read, where it differs from what is kept.
        """
        self.root = root
        self.directories = directories
        self.auto_cache = auto_cache
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.RLock()  # guards all that follows
        self._pid = os.getpid()
        self._index: Index | None = None
        self._listed = UNKNOWN  # stamp of the workspace whose directories are those in the index and the pending
        self._pending: Sequence[JobId] = ()
        self._misnamed: set[JobId] = set()  # but for those that were kept so
        self._is_from_store = False  # then nobody has compared the ids with the state points in it

    def __getstate__(self) -> tuple[str, Directories, bool]:
        return self.root, self.directories, self.auto_cache

    def __setstate__(self, state: tuple[str, Directories, bool]) -> None:
        self.root, self.directories, self.auto_cache = state
        self._begin()

    def index(self, documents: bool = False) -> Index:
        """The index, up to date, with documents if they matter.

        Raises:
            OSError: the workspace cannot be listed.
        """
        if self._pid != os.getpid():
            self._begin()
        with self._lock:
            stamp = self._stamp()
            if self._index is None:
                self._open(documents, stamp)
            elif documents:
                self._compare_all(documents=True, stamp=stamp)
            else:
                self._look(stamp)
            assert self._index is not None
            return self._index

    def build(self, documents: bool = False) -> Index:
        """The index, of jobs that have all been read now.

        Raises:
            OSError: the workspace cannot be listed.
        """
        if self._pid != os.getpid():
            self._begin()
        with self._lock:
            stamp = self._stamp()
            self._build(documents, stamp)
            assert self._index is not None
            if self.auto_cache:
                self._save()
            return self._index

    def proved(self, ids: Sequence[JobId]) -> dict[JobId, tuple[int, StatePoint | None]]:
        """The stamps of the state point files of managed jobs, and their state points, of the caller's own: as they
        were when the index was asked last, the disk is not looked at. Only those that the ids prove to be so (I1).

        Complexity: 1 µs a job, 4 µs if the index was kept on disk.
        """
        with self._lock:
            index, workspace = self._index, self.directories.workspace
            if index is None or workspace is None or self._pid != os.getpid():
                return {}
            with index.reading() as table:
                found = table.numbers_of(ids)
                numbers = [number for _, number in found]
                stamps = [table.stamps[0][number] for number in numbers]
                statepoints = table.statepoints_of(numbers)
            proved = {
                job_id: (stamp, statepoint)
                for (job_id, _), stamp, statepoint in zip(found, stamps, statepoints, strict=True)
            }
            if self._is_from_store:
                function = workspace.id_function
                return {key: each for key, each in proved.items() if _is_own(key, each[1], function)}
            for job_id in self._misnamed:
                proved.pop(job_id, None)
            return proved

    def save(self) -> str:
        """Keep the index on disk, for other processes and mounts; what has been read of documents as well.

        Returns:
            Why nothing is kept; empty if it is.
        Raises:
            OSError: it cannot be written.
        """
        with self._lock:
            self.index()
            return self._save()

    def store(self) -> Store:
        """Where it is kept."""
        return Store.open(self.root, self.directories.workspace or WorkspaceFiles(self.root))

    def _stamp(self) -> int:
        workspace = self.directories.workspace
        return UNKNOWN if workspace is None else workspace.stamp()

    def _save(self) -> str:
        assert self._index is not None
        with self.store() as store:
            return "" if store.save(self._index) else store.reason

    def _open(self, documents: bool, stamp: int) -> None:
        with self.store() as store:
            kept = store.load() if store.exists else None
        if kept is None:
            self._build(documents, stamp)
            differs = True
        else:
            self._index, self._is_from_store = kept, True
            differs = self._compare_all(documents or kept.documents, stamp)
        if differs and self.auto_cache:
            self._save()

    def _build(self, documents: bool, stamp: int) -> None:
        self._misnamed.clear()
        self._is_from_store = False
        self._index, pending = build(self.directories, documents, look=self._check_batch)
        self._listed_at(stamp, pending)

    def _check_batch(self, batch: Batch) -> None:
        workspace = self.directories.workspace
        assert workspace is not None
        function = workspace.id_function
        self._misnamed.update(row[0] for row in batch.rows if not _is_own(row[0], row[1], function))

    def _compare_all(self, documents: bool, stamp: int) -> bool:
        assert self._index is not None
        update, findings = _compare(self._index, self.directories, documents)
        self._check_names(change.record for change in findings.changes)
        self._listed_at(stamp, findings.pending)
        return update.differs

    def _look(self, stamp: int) -> None:
        """See which jobs came and went, and whether those that were not whole are by now."""
        index = self._index
        assert index is not None
        workspace, places = self.directories
        if workspace is not None:
            if stamp == UNKNOWN or stamp != self._listed:
                managed = [key for key in index.ids() if not places.owns(key)] if places else index.ids()
                found = new_and_gone(workspace, managed, documents=index.documents)
                self._apply(found.changes)
                self._listed_at(stamp, found.pending)
            elif self._pending:
                self._listed_at(stamp, self._read_again(self._pending))
            if self._misnamed:
                suspects, self._misnamed = self._misnamed, set()
                for job_id in suspects:
                    with contextlib.suppress(OSError):
                        workspace.finish(job_id)
                self._read_again(suspects)
        if places:
            listing = places.listing()
            with index.reading() as table:
                _, known = split(table.stamped(), places)
            outside = revalidate_places(places, known, listing=listing, documents=index.documents)
            self._apply([*outside.changes, *(Change(key, None) for key in outside.pending)])

    def _read_again(self, ids: Iterable[JobId]) -> list[JobId]:
        """Read these jobs; give those that are pending."""
        assert self._index is not None
        changes: list[Change] = []
        pending: list[JobId] = []
        for job_id in ids:
            record = None
            try:
                record = self.directories.read(job_id, self._index.documents)
            except PendingJob:
                pending.append(job_id)
            except NoSuchJob:
                pass
            changes.append(Change(job_id, record))
        self._apply(changes)
        return pending

    def _apply(self, changes: Sequence[Change]) -> None:
        assert self._index is not None
        self._index.apply(changes)
        self._check_names(change.record for change in changes)

    def _check_names(self, records: Iterable[Record | None]) -> None:
        """Note those whose state point is that of another name."""
        workspace, places = self.directories
        if workspace is None:
            return
        for record in records:
            if record is not None and not (
                places.owns(record.id) or _is_own(record.id, record.statepoint, workspace.id_function)
            ):
                self._misnamed.add(record.id)

    def _listed_at(self, stamp: int, pending: Sequence[JobId]) -> None:
        assert self._index is not None
        self._listed, self._pending = stamp, [key for key in pending if not self.directories.places.owns(key)]
        # With jobs outside, the workspace's directories are not all there is in the index.
        self._index.listed = UNKNOWN if pending or self.directories.places else stamp


def _is_own(job_id: JobId, statepoint: StatePoint | None, function: str) -> bool:
    try:
        return statepoint_id(statepoint, function) == job_id
    except InvalidStatePoint:
        return True
