"""The index: follows changes, lets others read.

Owned here: ``Index``, which keeps one table, one lock and the order of changes, and ``Delta``, what a change did. The
index is always disposable: what it says follows from the job directories alone (I2).
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Self

from sigfs.index.crawl import crawl
from sigfs.index.lock import SharedLock
from sigfs.index.table import Table
from sigfs.model.types import UNKNOWN, Batch, Change, JobId, Record, Row, Stamp

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from sigfs.model.workspace import Workspace
    from sigfs.query.expr import Expr

_LOAD_ROWS: Final = 2**14
"""Rows taken into the columns at a time: the more, the cheaper each."""


@dataclass(frozen=True, slots=True)
class Delta:
    """What ``Index.apply`` changed: for each job that does not say what it said, its record before and after.

    Attributes:
        generation: the index's generation afterwards; unchanged if ``jobs`` is empty.
        jobs: (before, after); before is None for a new job, after is None for one that is gone.
    """

    generation: int
    jobs: tuple[tuple[Record | None, Record | None], ...]


class Index:
    """An incrementally maintained, searchable copy of what the job directories say.

    Any thread may call any method. What is read after ``apply`` has returned shows its changes (I8).

    >>> index = Index()
    >>> delta = index.apply([Change(JobId("0" * 32), Record(JobId("0" * 32), {"foo": 42}))])
    >>> from sigfs.query import parse
    >>> index.find(parse("foo 42"))
    ['00000000000000000000000000000000']

    Attributes:
        documents: whether the documents of all jobs are in it, and not only those that somebody happened to read.
        listed: the stamp of the workspace whose jobs are exactly those in the index, with none pending; UNKNOWN if that
            is not known. Forgotten when a job comes or goes.
        journal: told of the changes that made a difference, to what jobs say or to their stamps, in their order, before
            ``apply`` returns. Must not raise, nor call the index.
        follower: told the same, for whoever keeps something else than a journal.
    """

    def __init__(self, table: Table | None = None, *, documents: bool = False) -> None:
        """Begin without jobs, or with those of *table*, which belongs to the index from now on."""
        self.documents = documents
        self.listed = UNKNOWN
        self.journal: Callable[[Sequence[Change]], None] | None = None
        self.follower: Callable[[Sequence[Change]], None] | None = None
        self._order = threading.Lock()  # serializes changes and those who must not meet one; taken before _lock
        self._lock = SharedLock()  # guards _table
        self._table = Table() if table is None else table

    @classmethod
    def build(
        cls,
        workspace: Workspace,
        *,
        documents: bool = False,
        executor: Executor | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Self:
        """Read a whole workspace.

        Args:
            documents: read documents too, at the price of a second file a job.
            executor: who reads: any executor whose workers see the workspace at the same path (threads, processes,
                Dask's ``Client.get_executor()``, ``mpi4py.futures``). By default this process, with several threads
                as long as it has to wait for the disk.
            progress: called now and then with (jobs read, jobs to read).

        Raises:
            OSError: the workspace cannot be listed.

        Cost: about 15 µs of processor time a job, 25 with documents.
        """
        index = cls(documents=documents)
        stamp = workspace.stamp()
        if not index.load(crawl(workspace, documents=documents, executor=executor, progress=progress)):
            index.listed = stamp
        return index

    # Reading

    @property
    def generation(self) -> int:
        """Grows with each change of what the jobs say. Needs no lock."""
        return self._table.generation

    @contextmanager
    def reading(self) -> Iterator[Table]:
        """Hold off changes and give the table. Not re-entrant; to be short; no ``apply`` inside."""
        with self._lock.shared():
            yield self._table

    @contextmanager
    def frozen(self) -> Iterator[Table]:
        """Hold off changes, for long, without holding off readers."""
        with self._order:
            yield self._table

    def find(self, expr: Expr) -> list[JobId]:
        """Give the ids of the jobs for which *expr* holds, sorted."""
        with self._lock.shared():
            return self._table.ids(self._table.select(expr))

    def ids(self) -> list[JobId]:
        """Give the ids of all jobs, sorted."""
        with self._lock.shared():
            return self._table.ids(self._table.jobs)

    def __len__(self) -> int:
        return len(self._table)

    def warm(self) -> None:
        """Fill the columns that wait for somebody to ask, lest a change has to: 0.5 s for a million values."""
        with self._lock.shared():
            columns = [*self._table.statepoints.columns.values(), *self._table.documents.columns.values()]
        for column in columns:
            with self._lock.shared():
                len(column)

    # Changes

    def load(self, batches: Iterable[Batch]) -> list[JobId]:
        """Take the jobs of many batches, by ascending id, into an index that has none yet.

        Returns:
            What was pending.
        Cost: about 0.5 µs a value.
        """
        with self._order, without_collector():
            assert not len(self._table)
            table, rows, pending = Table(), list[Row](), list[JobId]()
            for batch in batches:
                rows += batch.rows
                pending += batch.pending
                if len(rows) >= _LOAD_ROWS:
                    table.append(rows)
                    rows.clear()
            table.append(rows)
            table.generation = self._table.generation + 1
            with self._lock.exclusive():
                self._table = table
        return pending

    def apply(self, changes: Iterable[Change], *, known_only: bool = False) -> Delta:
        """Make the index say what *changes* say. The last of several changes to one job counts.

        Args:
            known_only: leave out jobs that the index does not have: the changes may be older than what removed them.

        A record without a document (None: not read) leaves the document that is known of the job as it is.

        Cost: 20 to 80 µs a change, with the number of jobs only as the processor's caches go; less for many new jobs at
        once. Readers wait meanwhile.
        """
        latest: dict[JobId, Change] = {}
        for change in changes:
            latest[change.id] = _follow(latest.get(change.id), change)
        jobs: list[tuple[Record | None, Record | None]] = []
        effective: list[Change] = []
        with self._order:
            with self._lock.exclusive():
                table = self._table
                new: list[Record] = []
                for job_id, change in latest.items():
                    number = table.number(job_id)
                    record = change.record
                    if number is None:
                        if record is None or known_only:
                            continue
                        new.append(record)
                        jobs.append((None, record))
                    elif record is None:
                        jobs.append((table.record_of(number), None))
                        table.remove(number)
                    else:
                        before = table.record_of(number)
                        is_news = table.update(number, record)
                        if is_news:
                            known = before.document if record.document is None else record.document
                            jobs.append((before, replace(record, document=known)))
                        if record.stamp is not None:
                            is_news |= table.restamp(number, record.stamp)
                        if not is_news:
                            continue
                    effective.append(change)
                if any(before is None or after is None for before, after in jobs):
                    self.listed = UNKNOWN
                if new:
                    table.extend([(r.id, r.statepoint, r.document, r.stamp or Stamp()) for r in new])
                if jobs:
                    table.changed()
            if effective and self.journal is not None:
                self.journal(effective)
            if effective and self.follower is not None:
                self.follower(effective)
            return Delta(table.generation, tuple(jobs))

    # Truth

    def check(self, records: Iterable[Record] | None = None) -> None:
        """Assert that this index equals one built from scratch (I2).

        Args:
            records: what the job directories say; default: what this index was told.
        """
        with self._order:
            table = self._table
            rebuilt = Index()
            rebuilt.apply(Change(record.id, record) for record in (table.records() if records is None else records))
            ours, theirs = table.contents(), rebuilt._table.contents()
            assert ours == theirs, "the index differs from a rebuild"
            table.check()


def _follow(first: Change | None, then: Change) -> Change:
    """Give what two changes to one job come to: the later one, with the document that it leaves as it is."""
    if first is None or first.record is None or then.record is None or then.record.document is not None:
        return then
    before, after = first.record.stamp, then.record.stamp
    if before is not None and after is not None and after.document == UNKNOWN and not after.content:
        after = Stamp(after.statepoint, before.document, before.content)
    return Change(then.id, replace(then.record, document=first.record.document, stamp=after or before))


@contextmanager
def without_collector() -> Iterator[None]:
    """Make many objects, none of them garbage, without the collector looking through all of them again and again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
