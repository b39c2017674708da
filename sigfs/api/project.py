"""Projects, as Python programs meet them.

Owned here: which jobs belong to a project, and how they are asked for.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from sigfs.api.cursor import Filter, Jobs, query_of
from sigfs.api.document import Document
from sigfs.api.exchange import Exchange
from sigfs.api.job import Job
from sigfs.api.legacy import LegacyProject, renamed
from sigfs.api.workspace import Workspace
from sigfs.errors import AmbiguousId, NoSuchJob, NoSuchProject, PendingJob, ProjectExists, SigfsError
from sigfs.model import files, mounted
from sigfs.model.configuring import editing
from sigfs.model.document import JsonFile
from sigfs.model.indexed import add_indexed, remove_indexed
from sigfs.model.project import PROJECT_DOCUMENT_FILE, Path, ProjectFiles, find_root, make_project
from sigfs.model.statepoint import ID_LENGTH, is_job_id
from sigfs.model.types import JobId, StatePoint

if TYPE_CHECKING:
    import pandas as pd

    from sigfs.api.checking import Done
    from sigfs.api.index import Index
    from sigfs.api.refreshing import Directories
    from sigfs.api.schema import Schema
    from sigfs.model.places import Place
    from sigfs.sidecar import Sidecar
    from sigfs.sidecar.noting import Notes

_CANDIDATES_SHOWN: Final = 5


class Project(LegacyProject, Exchange):
    """A project: its jobs, and what they are asked by.

    A project is a collection of `Job`: iteration, ``len`` and ``in`` are about the jobs that can be read, so that a
    pending directory disturbs nobody; `Workspace.ids` and `Workspace.pending` show those too. Projects of the same
    directory are equal. Any thread may call any method; a project can be pickled, and used after a fork.

    >>> import tempfile
    >>> project = init_project(tempfile.mkdtemp())
    >>> project.open({"foo": 42}).id
    '0300c31b9d55c0196b3848d252e46c0f'
    >>> [job.id for job in project.find("foo 42")]
    ['0300c31b9d55c0196b3848d252e46c0f']

    Attributes:
        files: what the project is on disk, without its jobs.
        root: absolute path of the project's directory.
    """

    def __init__(self, root: Path | None = None) -> None:
        """Open the project at *root*, by default the working directory, without looking above it.

        Raises:
            NoSuchProject: there is none.
            UnsupportedSchema: it was written by something newer.
            InvalidConfig: its configuration, or its workspace's, is broken.
        """
        self.root = os.path.abspath("." if root is None else root)
        self._open()

    def _open(self) -> None:
        """Read the configuration."""
        self.files = ProjectFiles(self.root)
        self._workspace = Workspace.at(self.files.workspace_path)
        self._workspace.on_change = self._note
        self._directories: Directories | None = None
        self._index: Index | None = None
        self._notes: Notes | None = None

    # What it is

    @property
    def path(self) -> str:
        """Absolute path of the project's directory, as signac names it."""
        return self.root

    @property
    def config_path(self) -> str:
        """The project's configuration file."""
        return self.files.config_path

    @property
    def config(self) -> Mapping[str, object]:
        """What the configuration file says, unconverted."""
        return self.files.config

    @property
    def schema(self) -> str:
        """The version of the project's layout: "1" for signac 1, "2" for signac 2 and sigfs."""
        return self.files.schema

    @property
    def name(self) -> str | None:
        """The project's name, if it has one."""
        return self.files.name

    @property
    def workspace(self) -> Workspace:
        """Where the managed jobs are; the directory need not exist yet.

        Assign a path, or a `Workspace`, to have the configuration name another one from now on. A path that is not
        absolute begins at the project's directory. No job is moved.
        """
        return self._workspace

    @workspace.setter
    def workspace(self, workspace: Path) -> None:
        path = os.path.normpath(os.path.join(self.root, workspace))
        inside = path.startswith(os.path.join(self.root, ""))
        with editing(self.config_path) as config:
            config.pop("workspace_dir", None)
            config["workspace"] = os.path.relpath(path, self.root) if inside else path
        self._open()

    @property
    def directories(self) -> Directories:
        """Where all jobs of the project are."""
        if self._directories is None:
            from sigfs.api.refreshing import Directories

            self._directories = Directories.of(self.root, self._workspace)
        return self._directories

    @property
    def indexed(self) -> tuple[Place, ...]:
        """The directories outside of the workspace whose jobs are the project's as well."""
        return self.directories.places.places

    def add_index(self, path: Path, recursive: bool = False) -> None:
        """Have the jobs in the directory *path* be the project's from now on, as they are and where they are.

        It is kept in the project's configuration.

        Args:
            path: if it is not absolute, it begins at the project's directory.
            recursive: those at any depth below, too.
        Raises:
            FileNotFoundError, NotADirectoryError: there is no such directory.
            ValueError: it is the workspace, or a job.
            InvalidConfig, OSError: the configuration is broken, or cannot be written.
        """
        add_indexed(self.root, path, recursive)
        self._open()

    def remove_index(self, path: Path) -> None:
        """Have the jobs in the directory *path* not be the project's any more. They stay as they are.

        Raises:
            LookupError: it is not indexed.
            InvalidConfig, OSError: the configuration is broken, or cannot be written.
        """
        remove_indexed(self.root, path)
        self._open()

    @property
    def index(self) -> Index:
        """The index of the project's jobs, which searches ask."""
        if self._index is None:
            from sigfs.api.index import Index

            self._index = Index.of(self)
        return self._index

    @property
    def sidecar(self) -> Sidecar:
        """The plain file that says what all jobs do, from which they can be restored; it need not be there."""
        from sigfs.sidecar import Sidecar

        return Sidecar(self.root, self._workspace, self.directories.places)

    def note(self, *paths: str) -> None:
        """Have the sidecar follow a change of the jobs at absolute *paths*, as far as they are the project's.

        Never raises; does nothing without a sidecar. Whatever is done by way of `Job`, `Workspace` and documents is
        noted without being asked for.
        """
        keys = [key for path in paths if (key := self._key_at(path)) is not None]
        if keys:
            self._note(keys)

    def note_all(self) -> None:
        """Have the sidecar follow what was done to many jobs at once, otherwise than by way of `Job`; as `note`."""
        self._opened_notes().note_all()

    def _note(self, keys: Collection[JobId]) -> None:
        self._opened_notes().note(keys)

    def _opened_notes(self) -> Notes:
        if self._notes is None:
            from sigfs.sidecar.noting import Notes

            self._notes = Notes(lambda: self.sidecar)
        return self._notes

    def _key_at(self, path: str) -> JobId | None:
        """The key by which the sidecar knows a job at *path*, whether it is there or not."""
        above, name = os.path.split(path)
        if is_job_id(name) and self._workspace.is_at(above):
            return JobId(name)
        try:
            places = self.directories.places
            if not places:
                return None
            places.named(places.id_at(path))
        except (OSError, SigfsError):
            return None
        key = places.key_at(path)
        return key if places.owns(key) else None

    def fn(self, name: str) -> str:
        """Absolute path of the file *name* in the project's directory."""
        return os.path.join(self.root, name)

    def isfile(self, name: str) -> bool:
        """Whether there is a file *name* in the project's directory."""
        return os.path.isfile(self.fn(name))

    @property
    def document(self) -> Document:
        """The project's document, live as a job's; assign a mapping to replace all that is in it."""

        def open_root() -> int:
            try:
                return os.open(self.root, files.DIRECTORY_FLAGS & ~os.O_NOFOLLOW)
            except (FileNotFoundError, NotADirectoryError):
                raise NoSuchProject(f"no project in {self.root} any more") from None

        return Document(JsonFile(open_root, PROJECT_DOCUMENT_FILE, NoSuchProject))

    @document.setter
    def document(self, document: Mapping[str, object]) -> None:
        self.document.reset(document)

    doc = document

    # One job

    def open(self, statepoint: StatePoint) -> Job:
        """The job with this state point, created if it is not there.

        Raises:
            InvalidStatePoint, PendingJob, OSError: see `Workspace.create`.
        """
        try:
            return Job.of(self, self._workspace.create(statepoint))
        except PendingJob as error:
            remedy = "Job.init(PATH, STATEPOINT, force=True) writes it anew, its path being in"
            raise PendingJob(f"{error}; {remedy} {self._workspace.path}") from error

    def open_job(self, statepoint: StatePoint | None = None, id: str | None = None) -> Job:  # noqa: A002
        """The job with this state point, created if it is not there; or the one with this id, which may be abbreviated.

        Raises:
            KeyError: no job has the id (NoSuchJob).
            LookupError: several jobs have ids that begin so (AmbiguousId).
            ValueError: neither is given, or both; or the state point is none (InvalidStatePoint).
        """
        if (statepoint is None) == (id is None):
            raise ValueError(f"give a state point or an id{', not both' if id is not None else ''}")
        return self.open(statepoint) if statepoint is not None else self[id or ""]

    def job(self, prefix: str) -> Job:
        """The job whose id is or begins with *prefix*; as `lookup`."""
        return self[prefix]

    def __getitem__(self, job_id: str) -> Job:
        """The job with an id, which may be abbreviated; of a job outside of the workspace ``'../data/my_job'``.

        Raises:
            KeyError: there is none (NoSuchJob).
            LookupError: there are several (AmbiguousId).
        """
        if not isinstance(job_id, str):
            raise TypeError(f"an id is a str, not {type(job_id).__name__}")
        return self.index.job_at(self._outside(job_id)) if "/" in job_id else Job.of(self, self._managed(job_id))

    def _outside(self, job_id: str) -> JobId:
        """The key of a job outside of the workspace, by its id, the last step of which may be abbreviated."""
        places = self.directories.places
        found = places.named(job_id) if places else {}
        if len(found) > 1:
            raise _ambiguous(job_id, sorted(found))
        if not found:
            where = ", ".join(place.path for place in self.indexed) or "a directory that add_index has been told of"
            raise NoSuchJob(
                f"no job {job_id!r} outside of the workspace: its id would be its path relative to the workspace, as "
                f"'../data/my_job', and it would be in {where}"
            )
        return next(iter(found.values()))

    def get(self, job_id: str, default: Job | None = None) -> Job | None:
        """The job with an id, or *default* if there is none.

        Raises:
            LookupError: there are several (AmbiguousId).
        """
        try:
            return self[job_id]
        except NoSuchJob:
            return default

    def lookup(self, prefix: str) -> str:
        """The id that *prefix* abbreviates. Pending directories are found too.

        Of a job outside of the workspace the last step of its path may be abbreviated.

        Raises:
            NoSuchJob: none begins so.
            AmbiguousId: several do; the message names some of them.
        Complexity: one look for a whole id, one listing of the workspace for an abbreviated one.
        """
        return self.directories.places.id_of(self._outside(prefix)) if "/" in prefix else self._managed(prefix)

    def _managed(self, prefix: str) -> JobId:
        if is_job_id(prefix):
            if not self._is_there(prefix):
                raise NoSuchJob(f"no job {prefix} in {self._workspace.path}")
            return JobId(prefix)
        found = sorted(job_id for job_id in self._workspace.ids() if job_id.startswith(prefix))
        if len(found) == 1:
            return found[0]
        if found:
            raise _ambiguous(prefix, found)
        if prefix.strip("0123456789abcdef") or len(prefix) > ID_LENGTH:
            raise NoSuchJob(f"no job {prefix!r}: an id is {ID_LENGTH} digits of 0-9 and a-f, or the first few of them")
        raise NoSuchJob(f"no job in {self._workspace.path} has an id that begins with {prefix!r}")

    def _is_there(self, job_id: str) -> bool:
        try:
            return stat.S_ISDIR(os.lstat(f"{self._workspace.path}/{job_id}").st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return False

    def is_managed(self, job: object) -> bool:
        """Whether *job*, a `Job` or an id, is in the workspace, by the id of a state point."""
        key = self.index.key_of(job)
        return key is not None and self._is_there(key)

    def min_len_unique_id(self) -> int:
        """How many digits of any id tell the job from all others; 0 if there is one job, or none.

        Complexity: a listing of the workspace.
        """
        digits = 0
        for one, next_one in pairwise(sorted(self._workspace.ids())):
            while one[:digits] == next_one[:digits]:
                digits += 1
        return digits

    # Many jobs

    def find(self, filter: Filter = None, doc: Mapping[str, object] | None = None, **keywords: object) -> Jobs:  # noqa: A002
        """The jobs for which a query holds; all that is given must.

        Args:
            filter: text (``'foo 42 doc.bar true'``), a mapping (``{'foo': 42, 'doc.bar': True}``) or an expression of
                `sigfs.query`; default: all jobs.
            doc: a mapping about the document, without the prefix ``doc.``.
            **keywords: further entries of a mapping.
        Raises:
            QuerySyntaxError: it cannot be understood.
        Complexity: the first look of a process loads the index that is kept and stats every job, or reads every job if
            there is none. Later ones cost one stat if no job came or went, else a listing of the workspace; and a stat
            of every job's document where documents matter.
        """
        return Jobs(self.index, query_of(filter, doc, **keywords))

    def find_jobs(
        self,
        filter: Filter = None,  # noqa: A002
        doc: Mapping[str, object] | None = None,
        doc_filter: Mapping[str, object] | None = None,
        **keywords: object,
    ) -> Jobs:
        """As `find`."""
        if doc_filter is not None:
            renamed("find_jobs(doc_filter={'a': 1})", "find({'doc.a': 1}) or find(doc={'a': 1})")
        return self.find(filter, doc if doc_filter is None else doc_filter, **keywords)

    def __iter__(self) -> Iterator[Job]:
        return iter(self.find())

    def __len__(self) -> int:
        return len(self.index)

    def __bool__(self) -> bool:
        return True  # a project without jobs is one

    def __contains__(self, job: object) -> bool:
        """Whether *job*, a `Job` or a whole id, is a job of this project that can be read."""
        key = self.index.key_of(job)
        if key is None:
            return False
        try:
            self.directories.read(key)
        except LookupError:  # NoSuchJob and PendingJob are
            return False
        return True

    def groupby(
        self, key: str | Iterable[str] | Callable[[Job], object] | None = None, default: object = None
    ) -> Iterator[tuple[object, Jobs]]:
        """All jobs in groups of the same value; see `Jobs.groupby`."""
        return self.find().groupby(key, default)

    def detect_schema(self, exclude_const: bool = False, subset: Iterable[object] | None = None) -> Schema:
        """Say which keys the state points have, and which values.

        Args:
            exclude_const: leave out what is the same for all jobs.
            subset: of which jobs, or ids; default: all.
        """
        jobs = self.find()
        if subset is None:
            return jobs.detect_schema(exclude_const)
        keys = [key for each in subset if (key := self.index.key_of(each)) is not None]
        return Jobs(self.index, ids=keys).detect_schema(exclude_const)

    def to_dataframe(self, *args: Any, **kwargs: Any) -> pd.DataFrame:
        """All jobs as a pandas DataFrame; see `Jobs.to_dataframe`."""
        return self.find().to_dataframe(*args, **kwargs)

    def update_cache(self) -> None:
        """Bring the index up to date and keep it on disk: `Index.store_cache`, as signac names it."""
        self.index.store_cache()

    # Is it sound?

    def check(self) -> None:
        """See that every job of the workspace is sound.

        Raises:
            JobsCorrupted: some are not; it has their ids, and what is wrong with each.
        Complexity: reads every state point and document.
        """
        from sigfs.api.checking import check

        check(self)

    def repair(self, dry_run: bool = False) -> list[Done]:
        """Mend what can be: complete migrations that were killed half-way, give back their names to directories whose
        state point says another one, and restore state points that are lost from what signac and sigfs keep of them.
        Nothing is overwritten.

        Args:
            dry_run: only say what would be done.
        Returns:
            What has been done.
        Raises:
            JobsCorrupted: some jobs could not be mended, by what is known; the others have been.
        """
        from sigfs.api.checking import repair

        return repair(self, dry_run)

    # As others see it

    @classmethod
    def get_project(cls, path: Path | None = None, search: bool = True, *, root: Path | None = None) -> Project:
        """As the function `get_project`."""
        return get_project(path, search, root=root)

    @classmethod
    def init_project(cls, path: Path | None = None, name: str | None = None, *, root: Path | None = None) -> Project:
        """As the function `init_project`."""
        return init_project(path, name, root=root)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Project):
            return NotImplemented
        return self.root == other.root or os.path.realpath(self.root) == os.path.realpath(other.root)

    def __hash__(self) -> int:
        return hash(os.path.realpath(self.root))

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_directories": None, "_index": None, "_notes": None}

    def __str__(self) -> str:
        return self.root

    def __fspath__(self) -> str:
        return self.root

    def __repr__(self) -> str:
        return f"Project({self.root!r})"

    def _repr_html_(self) -> str:
        from html import escape

        facts = {"Project": self.root, "Workspace": self._workspace.path, "Jobs": len(self)}
        lines = (f"<strong>{name}:</strong> {escape(str(value))}<br>" for name, value in facts.items())
        return f"<p>{''.join(lines)}</p>{self.find()._repr_html_()}"


def get_project(path: Path | None = None, search: bool = True, *, root: Path | None = None) -> Project:
    """Open the project that *path*, by default the working directory, is in; in a mounted project, that one.

    Args:
        search: look in the directories above, too.
        root: the older name of *path*.
    Raises:
        NoSuchProject: there is none (a LookupError).
        UnsupportedSchema, InvalidConfig: as `Project`.
    """
    if root is not None:
        renamed("get_project(root=...)", "get_project(path)")
        path = root
    where = "." if path is None else path
    if not search:
        return Project(where)
    return Project(mounted.project_root(os.path.abspath(where)) or find_root(where))


def init_project(
    path: Path | None = None, name: str | None = None, *, exist_ok: bool = True, root: Path | None = None
) -> Project:
    """Make the directory *path*, by default the working directory, a project that signac 2 opens too; or open the one
    that it is.

    Creates ``.signac/config``, ``workspace/`` and, if there is a *name*, the project document; missing directories on
    the way as well. A workspace that is there is kept, with its jobs. As with signac, a project may lie inside another.

    Args:
        root: the older name of *path*.
    Raises:
        ProjectExists: *path* itself is a project's root already, and has another *name*, or that is not *exist_ok*.
        UnsupportedSchema, InvalidConfig: as `Project`, of the one that is there.
        OSError: no project was made.
    """
    if root is not None:
        renamed("init_project(root=...)", "init_project(path)")
        path = root
    try:
        return Project(make_project(path, name))
    except ProjectExists:
        if not exist_ok:
            raise
        project = Project(path)
        if name not in (None, project.name):
            raise
        return project


def _ambiguous(prefix: str, found: Sequence[str]) -> AmbiguousId:
    shown = ", ".join(found[:_CANDIDATES_SHOWN]) + (", ..." if len(found) > _CANDIDATES_SHOWN else "")
    return AmbiguousId(f"{len(found)} jobs have an id that begins with {prefix!r}: {shown}")
