"""Names of signac 1 and older: they work, and say what the name is now.

Owned here: what `Project` and `Index` have for the sake of programs written for these. docs/api.md has the table.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from sigfs.errors import SigfsDeprecationWarning
from sigfs.model import files
from sigfs.model.statepoint import statepoint_id, validate

if TYPE_CHECKING:
    from sigfs.api.cursor import Filter, Jobs
    from sigfs.api.index import Index
    from sigfs.api.job import Job
    from sigfs.model.types import Json, StatePoint

STATEPOINTS_FILE = "signac_statepoints.json"
"""What ``write_statepoints`` writes in the project's directory, as in signac 1."""


def renamed(old: str, new: str, *, depth: int = 2) -> None:
    """Warn that *old* is *new* now.

    Args:
        depth: how many calls above this one the line is that the warning names; 2: who called the caller.
    """
    warnings.warn(f"{old} is {new} now", SigfsDeprecationWarning, stacklevel=depth + 1)


class LegacyProject:
    """The older names of a project."""

    if TYPE_CHECKING:
        root: str

        @property
        def index(self) -> Index: ...
        @property
        def name(self) -> str | None: ...
        def __len__(self) -> int: ...
        def __iter__(self) -> Iterator[Job]: ...
        def find(
            self,
            filter: Filter = None,  # noqa: A002
            doc: Mapping[str, object] | None = None,
            **keywords: object,
        ) -> Jobs: ...
        def open(self, statepoint: StatePoint) -> Job: ...
        def fn(self, name: str) -> str: ...
        def __getitem__(self, job_id: str) -> Job: ...

    def root_directory(self) -> str:
        """The older name of `root`."""
        renamed("project.root_directory()", "project.root")
        return self.root

    def get_root(self) -> str:
        """The older name of `root`."""
        renamed("project.get_root()", "project.root")
        return self.root

    def get_id(self) -> str | None:
        """The older name of `name`."""
        renamed("project.get_id()", "project.name")
        return self.name

    @property
    def id(self) -> str | None:
        """The older name of `name`."""
        renamed("project.id", "project.name")
        return self.name

    def num_jobs(self) -> int:
        """The older way to say ``len(project)``."""
        renamed("project.num_jobs()", "len(project)")
        return len(self)

    def find_job_ids(self, filter: Filter = None, doc_filter: Mapping[str, object] | None = None) -> list[str]:  # noqa: A002
        """The ids of the jobs for which a query holds."""
        renamed("project.find_job_ids(...)", "[job.id for job in project.find(...)]")
        return [job.id for job in self.find(filter, doc_filter)]

    def find_statepoints(
        self,
        filter: Filter = None,  # noqa: A002
        doc_filter: Mapping[str, object] | None = None,
        skip_errors: bool = False,  # noqa: ARG002
    ) -> Iterator[dict[str, Json] | None]:
        """The state points of the jobs for which a query holds."""
        renamed("project.find_statepoints(...)", "[job.statepoint for job in project.find(...)]")
        return (entry["sp"] for entry in self.find(filter, doc_filter).entries())

    def find_job_documents(self, filter: Filter = None) -> Iterator[dict[str, Any]]:  # noqa: A002
        """The documents of the jobs for which a query holds, each with the id and the state point."""
        renamed("project.find_job_documents(...)", "[job.document for job in project.find(...)]")
        return (
            {"_id": entry["id"], "statepoint": entry["sp"], **(entry["doc"] or {})}
            for entry in self.find(filter).entries(documents=True)
        )

    def get_statepoint(self, jobid: str, fn: str | None = None) -> Any:
        """The state point of a job; with *fn*, of that id in a file of ``write_statepoints``."""
        renamed("project.get_statepoint(id)", "project[id].statepoint")
        if fn is not None:
            return self._read_statepoints(fn)[jobid]
        (entry,) = self.find({"id": self[jobid].id}).entries()
        return entry["sp"]

    def read_statepoints(self, fn: str | None = None) -> dict[str, Any]:
        """The state points of a file that ``write_statepoints`` has written, by id."""
        renamed("project.read_statepoints()", "project.index()")
        return self._read_statepoints(fn)

    def _read_statepoints(self, fn: str | None = None) -> dict[str, Any]:
        with open(self.fn(STATEPOINTS_FILE) if fn is None else fn, "rb") as file:
            found = json.loads(file.read())
        assert isinstance(found, dict)
        return found

    def dump_statepoints(self, statepoints: Iterable[StatePoint]) -> dict[str, Any]:
        """State points by the ids that signac gives them."""
        renamed("project.dump_statepoints(...)", "{workspace.statepoint_id(sp): sp for sp in ...}")
        return {statepoint_id(validate(each)): validate(each) for each in statepoints}

    def write_statepoints(
        self, statepoints: Iterable[StatePoint] | None = None, fn: str | None = None, indent: int = 2
    ) -> None:
        """Write state points, by default those of all jobs, to a file, in addition to those that are in it."""
        renamed("project.write_statepoints()", "project.index.store_cache()")
        path = self.fn(STATEPOINTS_FILE) if fn is None else fn
        try:
            known = self._read_statepoints(path)
        except FileNotFoundError:
            known = {}
        if statepoints is None:
            known.update({entry["id"]: entry["sp"] for entry in self.find().entries()})
        else:
            known.update({statepoint_id(validate(each)): validate(each) for each in statepoints})
        with files.opened_directory(os.path.dirname(os.path.abspath(path))) as fd:
            files.write_atomic(fd, os.path.basename(path), json.dumps(known, indent=indent).encode("ascii"))

    def build_job_search_index(self, index: object = None, _trust: bool = False) -> Index:  # noqa: ARG002
        """The index of the project, whatever entries it is to be made of."""
        renamed("project.build_job_search_index(...)", "project.index")
        return self.index

    def build_job_statepoint_index(
        self,
        exclude_const: bool = False,
        index: object = None,  # noqa: ARG002
    ) -> Iterator[tuple[tuple[str, ...], dict[object, set[Any]]]]:
        """For each key, as a tuple, the ids of the jobs by its values; the key with the fewest values first."""
        renamed("project.build_job_statepoint_index()", "project.groupby(key) or project.detect_schema()")
        jobs = self.find()
        for key in jobs.detect_schema(exclude_const):
            groups = {_hashable(value): {job.id for job in group} for value, group in jobs.groupby(key)}
            yield tuple(key.split(".")), groups

    def groupbydoc(self, key: Any = None, default: object = None) -> Iterator[tuple[object, Jobs]]:
        """Group by keys of documents; a function is given the document."""
        renamed("project.groupbydoc('a')", "project.groupby('doc.a')")
        if isinstance(key, str):
            key = f"doc.{key}"
        elif callable(key):
            function = key
            key = lambda job: function(job.document)  # noqa: E731
        elif key is not None:
            key = [f"doc.{each}" for each in key]
        return self.find().groupby(key, default)

    def reset_statepoint(self, job: Job, new_statepoint: StatePoint) -> None:
        """The older way to say ``job.statepoint = ...``."""
        renamed("project.reset_statepoint(job, sp)", "job.statepoint = sp")
        job.statepoint = new_statepoint

    def update_statepoint(self, job: Job, update: StatePoint, overwrite: bool = False) -> None:
        """The older way to say ``job.update_statepoint(...)``."""
        renamed("project.update_statepoint(job, ...)", "job.update_statepoint(...)")
        job.update_statepoint(update, overwrite=overwrite)

    def create_linked_view(self, *args: object, **kwargs: object) -> NoReturn:
        """What a mount does.

        Raises:
            NotImplementedError: always; the message says how to mount.
        """
        raise NotImplementedError(
            f"a view is mounted, and stays up to date: sigfs mount --layout signac {self.root} MNT shows the same tree"
        )


class LegacyJob:
    """The older names of a job."""

    __slots__ = ()

    if TYPE_CHECKING:
        id: str
        statepoint: Any

        def __fspath__(self) -> str: ...

    @property
    def ws(self) -> str:
        """The absolute path of the job's directory."""
        renamed("job.ws", "job.path")
        return os.fspath(self)

    @property
    def wd(self) -> str:
        """The absolute path of the job's directory."""
        renamed("job.wd", "job.path")
        return os.fspath(self)

    def get_id(self) -> str:
        """The older name of `id`."""
        renamed("job.get_id()", "job.id")
        return self.id

    def reset_statepoint(self, new_statepoint: StatePoint) -> None:
        """The older way to say ``job.statepoint = ...``."""
        renamed("job.reset_statepoint(sp)", "job.statepoint = sp")
        self.statepoint = new_statepoint


def _hashable(value: object) -> object:
    if isinstance(value, list):
        return tuple(map(_hashable, value))
    return json.dumps(value, sort_keys=True) if isinstance(value, dict) else value
