"""Answers: the jobs for which a query holds.

Owned here: `Jobs`, which a search gives, and how the arguments of a search become one query.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, overload

from sigfs.model.types import JobId
from sigfs.query import EVERYTHING, And, Expr, format_text, needs_documents, parse
from sigfs.query.mapping import join, parse_mapping

if TYPE_CHECKING:
    import pandas as pd

    from sigfs.api.job import Job
    from sigfs.api.schema import Schema
    from sigfs.index import Index
    from sigfs.model.types import Record

Filter: TypeAlias = str | Mapping[str, object] | Expr | None
"""A query: text, a mapping, an expression, or none, which is all jobs."""


class Source(Protocol):
    """Where jobs are found: a project, or an index of directories."""

    def current(self, documents: bool = False) -> Index:
        """The index as it is to be now, with the documents if they matter."""

    def job_at(self, key: JobId) -> Job:
        """The job that the index knows as *key*; the disk is not looked at."""

    def jobs_at(self, keys: Sequence[JobId]) -> Iterator[Job]:
        """Many jobs, as `job_at`."""

    def describe(self, keys: Sequence[JobId]) -> Iterable[tuple[str, str]]:
        """The ids of those jobs, and their absolute paths."""

    def key_of(self, job: object) -> JobId | None:
        """As what the index knows a `Job`, or the job with an id; None if neither is in it by what it is called."""


def query_of(filter: Filter = None, doc: Mapping[str, object] | None = None, **keywords: object) -> Expr:  # noqa: A002
    """One query of all that is said; all of it must hold.

    Raises:
        QuerySyntaxError: it cannot be understood.
    """
    if isinstance(filter, Mapping):
        return parse_mapping(filter, doc=doc, **keywords)
    return both(parse(filter), parse_mapping(None, doc=doc, **keywords))


def both(one: Expr, other: Expr) -> Expr:
    """The query that two queries hold."""
    return join([term for each in (one, other) for term in (each.terms if isinstance(each, And) else (each,))])


def records_of(source: Source, keys: Sequence[JobId], documents: bool) -> list[tuple[JobId, Record]]:
    """What the index says of jobs; those that are gone by now are left out."""
    with source.current(documents).reading() as table:
        return [(key, table.record_of(number)) for key, number in table.numbers_of(keys)]


class Jobs(Sequence["Job"]):
    """The jobs for which a query holds, by id, or some of them.

    The index is asked at the first use, and the answer stays as it is, whatever becomes of the jobs: a loop may remove
    or change those that it meets. Ask anew with ``find()``. A job that others have removed since is there all the same,
    and says so (NoSuchJob) when it is used.

    >>> import sigfs, tempfile
    >>> project = sigfs.init_project(tempfile.mkdtemp())
    >>> for n in range(4):
    ...     job = project.open({"n": n, "even": n % 2 == 0})
    >>> jobs = project.find(even=True)
    >>> len(jobs), len(jobs.find("n.$gt 1")), job in jobs
    (2, 1, False)
    """

    def __init__(self, source: Source, query: Expr = EVERYTHING, ids: list[JobId] | None = None) -> None:
        """Not for users: see `Project.find`.

        Args:
            ids: which jobs, by what the index knows them as, in their order; default: those for which *query* holds.
        """
        self._source = source
        self._query = query
        self._is_part = ids is not None
        self._ids = ids
        self._id_set: frozenset[JobId] | None = None

    @property
    def source(self) -> Source:
        """The project or index that was asked."""
        return self._source

    @property
    def query(self) -> Expr:
        """What was asked for; of a part, such as a slice or a group, what was asked for when all of it was."""
        return self._query

    def found(self) -> list[JobId]:
        """What the index knows the jobs as, in their order; of managed jobs their ids. Not to be changed."""
        if self._ids is None:
            self._ids = self._source.current(needs_documents(self._query)).find(self._query)
        return self._ids

    # A sequence

    def __len__(self) -> int:
        return len(self.found())

    def __iter__(self) -> Iterator[Job]:
        return self._source.jobs_at(self.found())

    @overload
    def __getitem__(self, index: int) -> Job: ...
    @overload
    def __getitem__(self, index: slice) -> Jobs: ...
    def __getitem__(self, index: int | slice) -> Job | Jobs:
        found = self.found()[index]
        return self._part(found) if isinstance(found, list) else self._source.job_at(found)

    def __contains__(self, job: object) -> bool:
        """Whether *job*, a `Job` or an id, is among them."""
        if self._id_set is None:
            self._id_set = frozenset(self.found())
        return self._source.key_of(job) in self._id_set

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Jobs):
            return NotImplemented
        return self._source == other._source and self.found() == other.found()

    __hash__ = None  # type: ignore[assignment]

    def _part(self, ids: list[JobId]) -> Jobs:
        return Jobs(self._source, self._query, ids)

    # Further questions

    def find(self, filter: Filter = None, doc: Mapping[str, object] | None = None, **keywords: object) -> Jobs:  # noqa: A002
        """Those of them for which a query holds as well, as `Project.find`; without one, the same question anew."""
        query = query_of(filter, doc, **keywords)
        if not self._is_part:
            return Jobs(self._source, both(self._query, query))
        if query == EVERYTHING:
            return self
        found = set(self._source.current(needs_documents(query)).find(query))
        return self._part([key for key in self.found() if key in found])

    find_jobs = find

    def groupby(
        self, key: str | Iterable[str] | Callable[[Job], object] | None = None, default: object = None
    ) -> Iterator[tuple[object, Jobs]]:
        """Sort the jobs into groups, by ascending values: yields (value, jobs).

        Args:
            key: of the state point, ``"a"`` or nested ``"a.b"``, or of the document, ``"doc.a"``; several keys, for
                tuples of values in their order; a function of a job; None for the id, which makes groups of one.
            default: the value of jobs that do not have the key; without it they are in no group.

        Values are equal as in a query: 1 and 1.0 are, 1 and true are not. Those of different types have an order, too.

        Raises:
            QuerySyntaxError: a key cannot be understood.
        """
        from sigfs.api.grouping import grouped

        return grouped(self, key, default)

    def entries(self, documents: bool = False) -> Iterator[dict[str, Any]]:
        """What the jobs say: yields ``{"id": ..., "path": ..., "sp": {...}}``, and "doc" with *documents*.

        Paths are absolute. It is read from the index. Jobs that are gone by now are left out.
        """
        keys = self.found()
        with self._source.current(documents).reading() as table:
            found = table.numbers_of(keys)
            numbers = [number for _, number in found]
            statepoints = table.statepoints_of(numbers)
            read = table.documents_of(numbers) if documents else None
        described = self._source.describe([key for key, _ in found])
        entries = (
            {"id": job_id, "path": path, "sp": statepoint}
            for (job_id, path), statepoint in zip(described, statepoints, strict=True)
        )
        return entries if read is None else ({**entry, "doc": doc} for entry, doc in zip(entries, read, strict=True))

    def detect_schema(self, exclude_const: bool = False) -> Schema:
        """Say which keys the state points have, and which values."""
        from sigfs.api.schema import schema_of

        return schema_of(self._source, self.found(), exclude_const)

    def to_dataframe(
        self,
        sp_prefix: str = "sp.",
        doc_prefix: str = "doc.",
        usecols: Iterable[str] | Callable[[str], bool] | None = None,
        flatten: bool = False,
    ) -> pd.DataFrame:
        """Make a pandas DataFrame: a row for each job, with its id, a column for each key of state point and document.

        Args:
            sp_prefix, doc_prefix: what the names of columns begin with.
            usecols: names of the columns to keep, prefix included, or a function that tells.
            flatten: a column for each nested key, ``sp.a.b``, and not one of mappings.

        Raises:
            ImportError: pandas is not there.
        """
        from sigfs.api.frames import dataframe

        return dataframe(self._source, self.found(), sp_prefix, doc_prefix, usecols, flatten)

    # How it looks

    def __repr__(self) -> str:
        try:
            text = format_text(self._query)
        except ValueError:  # with a function in it
            text = "..."
        asked = f"{self._source!r}.find({repr(text) if text else ''})"
        return f"<{len(self)} of {asked}>" if self._is_part else asked

    def _repr_html_(self) -> str:
        from sigfs.api.frames import table_html

        return table_html(self._source, self.found(), repr(self))

    def __getstate__(self) -> tuple[Source, Expr, bool, list[JobId] | None]:
        return self._source, self._query, self._is_part, self._ids

    def __setstate__(self, state: tuple[Source, Expr, bool, list[JobId] | None]) -> None:
        self._source, self._query, self._is_part, self._ids = state
        self._id_set = None
