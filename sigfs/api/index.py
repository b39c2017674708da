"""The index, as Python programs meet it.

It is the one that the mount and the command line use: searched in memory, kept in the same store, compared with the
disk by the same rules. Owned here: how its jobs are named and asked for.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from sigfs.api.cursor import Filter, Jobs, query_of
from sigfs.api.job import Job
from sigfs.api.recalling import Recollection
from sigfs.api.refreshing import Current, Directories
from sigfs.api.workspace import Workspace
from sigfs.errors import NoSuchJob, NoSuchProject
from sigfs.model import mounted
from sigfs.model.config import WORKSPACE_CONFIG
from sigfs.model.places import Location, Place, Places
from sigfs.model.project import Path, find_root
from sigfs.model.statepoint import is_job_id
from sigfs.model.types import JobId

if TYPE_CHECKING:
    from sigfs.api.project import Project
    from sigfs.index import Index as Searchable

_TOGETHER: Final = 256
"""Jobs whose state points are taken out of the index at once, when somebody looks at one after the other."""


class Index(Mapping[str, Job]):
    """What the jobs in some directories say, to be searched: a mapping of ids to jobs.

    Whatever it is asked, the answer is of what is on disk at that moment. Any thread may ask; it can be pickled, and
    used after a fork, when it begins anew.

    >>> import sigfs, tempfile
    >>> workspace = sigfs.Workspace(tempfile.mkdtemp())
    >>> job = workspace.open({"foo": 42})
    >>> index = Index(workspace)
    >>> len(index), index.lookup("0300"), len(index.find("foo.$gt 41"))
    (1, '0300c31b9d55c0196b3848d252e46c0f', 1)

    Attributes:
        directories: where it looks.
    """

    def __init__(
        self,
        *paths: Path,
        recursive: bool = False,
        auto_cache: bool = False,
        _of: tuple[Project | None, Directories, str] | None = None,
    ) -> None:
        """Look at no job yet.

        Args:
            paths: directories of jobs: workspaces, or any others. Default: the working directory.
            recursive: have the jobs at any depth below these, not only those directly in them.
            auto_cache: keep what has been read, and what was found to have changed when it was first looked at, as
                `store_cache` does.
        Raises:
            FileNotFoundError: one of the directories is not there.
            ValueError: one is in a mounted project.
        """
        self._is_project = _of is not None
        self._project, self.directories, root = _of or _taken_in(paths or (".",), recursive)
        # The project whose managed jobs are here, if they are a project's.
        workspace, project = self.directories.workspace, self._project
        self._managing = project if workspace is not None and project and workspace == project.workspace else None
        self._current = Current(root, self.directories, auto_cache=auto_cache)

    @classmethod
    def of(cls, project: Project) -> Index:
        """The index of a project."""
        return cls(_of=(project, project.directories, project.root))

    def build(self, include_documents: bool = False) -> Index:
        """Read all jobs now, whatever is known of them; give the index itself.

        Raises:
            OSError: a directory cannot be listed.
        """
        self._current.build(include_documents)
        return self

    def store_cache(self) -> None:
        """Keep the index on disk: from then on programs, commands and mounts need not read every job to begin with.

        Raises:
            OSError: it cannot be kept; the message says why, such as that a mount keeps it at present.
        """
        why = self._current.save()
        if why:
            raise OSError(f"the index is not kept: {why}")

    def find(self, filter: Filter = None, doc: Mapping[str, object] | None = None, **keywords: object) -> Jobs:  # noqa: A002
        """The jobs for which a query holds; see `Project.find`."""
        return Jobs(self, query_of(filter, doc, **keywords))

    def lookup(self, abbreviation: str) -> str:
        """The id that begins with *abbreviation*.

        Raises:
            KeyError: none does (NoSuchJob).
            LookupError: several do (AmbiguousId); the message names some.
        """
        key = self.key_of(abbreviation)
        with self.current().reading() as table:
            return self._id_of(key if key is not None and key in table else table.lookup(abbreviation))

    def __getitem__(self, job_id: str) -> Job:
        """The job with an id, whole or abbreviated.

        Raises:
            KeyError, LookupError: as `lookup`.
        """
        key = self.key_of(self.lookup(job_id))
        if key is None:
            raise NoSuchJob(f"no job {job_id!r} in {self!r}")
        return self.job_at(key)

    def __iter__(self) -> Iterator[str]:
        return map(self._id_of, self.current().ids())

    def __len__(self) -> int:
        return len(self.current())

    def __contains__(self, job: object) -> bool:
        """Whether *job*, a `Job` or a whole id, is here."""
        key = self.key_of(job)
        if key is None:
            return False
        with self.current().reading() as table:
            return key in table

    def __bool__(self) -> bool:
        return True

    def __call__(self) -> Iterator[dict[str, Any]]:
        """What all jobs say; see `Jobs.entries`. Documents are there if they have been asked for before."""
        jobs = self.find()
        return jobs.entries(documents=self.current().documents)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Index):
            return NotImplemented
        ours, theirs = self.directories, other.directories
        return ours.workspace == theirs.workspace and ours.places.places == theirs.places.places

    def __hash__(self) -> int:
        return hash((self.directories.workspace, self.directories.places.places))

    def __repr__(self) -> str:
        if self._is_project and self._project is not None:
            return f"{self._project!r}"
        workspace, places = self.directories
        paths = [repr(path) for path in ([] if workspace is None else [workspace.path])]
        paths += [repr(place.path) for place in places.places]
        return f"Index({', '.join(dict.fromkeys(paths))})"

    # For searches

    def current(self, documents: bool = False) -> Searchable:
        return self._current.index(documents)

    def job_at(self, key: JobId) -> Job:
        (job,) = self.jobs_at([key])
        return job

    def jobs_at(self, keys: Sequence[JobId]) -> Iterator[Job]:
        workspace, places = self.directories
        for first in range(0, len(keys), _TOGETHER):
            some = keys[first : first + _TOGETHER]
            recollection = Recollection(self._current, some)
            for key in some:
                location = places.location(key) if places else None
                if location is not None:
                    yield Job.at(self._attaching(location), location.path)
                elif workspace is None:
                    raise NoSuchJob(f"no job {key}")
                else:
                    yield Job.managed(workspace, self._managing, key, recollection)

    def describe(self, keys: Sequence[JobId]) -> Iterable[tuple[str, str]]:
        workspace, places = self.directories
        if workspace is not None and not places:
            above = os.path.join(workspace.path, "")
            return [(key, above + key) for key in keys]
        return ((self._id_of(key), self.directories.path_of(key)) for key in keys)

    def key_of(self, job: object) -> JobId | None:
        workspace, places = self.directories
        if isinstance(job, Job):
            path = os.path.abspath(job)
            above, name = os.path.split(path)
            if workspace is None or not is_job_id(name) or not workspace.is_at(above):
                return places.key_at(path) if places else None
            return JobId(name)
        if not isinstance(job, str):
            return None
        if "/" in job:
            if not places:
                return None
            self.current()
            return places.find(job)
        return JobId(job) if is_job_id(job) else None

    def _attaching(self, location: Location) -> Project | None:
        """The project that a job belongs to, if it is the one of this index."""
        project = self._project
        if project is None or location.base.startswith(os.path.join(project.root, "")):
            return project
        return project if any(place.path == location.base for place in project.indexed) else None

    def _id_of(self, key: JobId) -> str:
        return self.directories.places.id_of(key)


def _project_of(path: str) -> Project | None:
    from sigfs.api.project import Project

    try:
        return Project(find_root(path))
    except NoSuchProject:
        return None


def _is_below(path: str, directory: str) -> bool:
    return path.startswith(os.path.join(directory, ""))


def _is_workspace(path: str, project: Project | None) -> bool:
    """Whether jobs in the directory are managed: it says so, it is the project's, or it has some that are named so."""
    if project is not None and project.workspace.is_at(path):
        return True
    if os.path.lexists(os.path.join(path, WORKSPACE_CONFIG)):
        return True
    with os.scandir(path) as entries:
        return any(is_job_id(entry.name) for entry in entries)


def _taken_in(paths: Sequence[Path], recursive: bool) -> tuple[Project | None, Directories, str]:
    """The project that the first of *paths* is in, where jobs are looked for, and the directory of the store."""
    where = [os.path.abspath(path) for path in paths]
    for path in where:
        os.stat(path)
        if mounted.mount_of(path) is not None:
            raise ValueError(f"{path} is in a mounted project, whose index is get_project({path!r}).index")
    project = _project_of(where[0])
    workspace: Workspace | None = None
    places: list[Place] = []
    for path in where:
        if workspace is None and _is_workspace(path, project):
            workspace = Workspace.at(path)
            if not recursive:
                continue
        if workspace is None and recursive and project is not None and _is_below(project.workspace.path, path):
            workspace = project.workspace
        places.append(Place(path, recursive))
    root, base = where[0], None
    if project is not None:
        base = project.workspace.path
        if workspace is not None and workspace == project.workspace:
            root = project.root
    if workspace is not None:
        base = workspace.path
    return project, Directories(workspace, Places(base, places, into_projects=True)), root
