"""Jobs, as Python programs meet them: made and opened, with what belongs to them, and removed.

A job is, in the order of its classes, somewhere (`place`), described by its state point (`described`), and has files.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Final, Self, overload

from sigfs.api import locating
from sigfs.api.described import DescribedJob
from sigfs.api.document import Document
from sigfs.api.legacy import LegacyJob
from sigfs.api.place import NONE, Place
from sigfs.errors import NoSuchJob, PendingJob, SigfsError
from sigfs.model import changing, files, moving, trees
from sigfs.model.document import JsonFile
from sigfs.model.project import Path
from sigfs.model.reading import DOCUMENT_FILE, STATEPOINT_FILE
from sigfs.model.statepoint import encode, statepoint_id, validate
from sigfs.model.types import StatePoint

if TYPE_CHECKING:
    from sigfs.api.data import Data
    from sigfs.api.project import Project

_TRIES: Final = 100
"""How often `Job.init` looks again when others come between."""

_SHOWN: Final = 100
"""Characters of a state point in a message."""


class _Init:
    """``Job.init(path, ...)`` makes or opens a job, ``job.init()`` makes sure that it is there."""

    @overload
    def __get__(self, job: None, owner: type[Job]) -> Callable[..., Job]: ...
    @overload
    def __get__(self, job: Job, owner: type[Job]) -> Callable[..., Job]: ...
    def __get__(self, job: Job | None, owner: type[Job]) -> Callable[..., Job]:
        return owner._init_at if job is None else job._init_again  # noqa: SLF001 - of the same class


class Job(DescribedJob, LegacyJob):
    """A directory with a state point: the handle of a job.

    It follows the job where this handle moves it, and no other handle but its shallow copies. Handles of the same
    directory are equal. Every property but ``cached_statepoint`` looks at the disk; any thread may use a handle.

    A job belongs to the project that is found upward from its directory (not counting that itself), or that it was
    opened through: it is *attached*, and *managed* if it is in the project's workspace, by the id of its state point.

    >>> import os, tempfile
    >>> from sigfs import Job, init_project
    >>> before = os.getcwd()
    >>> os.chdir(init_project(tempfile.mkdtemp()).root)
    >>> job = Job.init("data/my_job", {"foo": 42})
    >>> job.id, job.path, job.statepoint_id
    ('../data/my_job', 'data/my_job', '0300c31b9d55c0196b3848d252e46c0f')
    >>> job.id = job.statepoint_id
    >>> job.path
    'workspace/0300c31b9d55c0196b3848d252e46c0f'
    >>> job.sp.foo = 43
    >>> job.id
    'fb5599b2a36a3cc7cd97aeaf6febfe97'
    >>> os.chdir(before)
    """

    __slots__ = ()

    init = _Init()

    def __init__(self, path: Path) -> None:
        """Open the existing directory *path*.

        A path into a mounted project means the job's directory in that project, if that can be reached. What a killed
        process has left half done, a move or a migration, is completed.

        Raises:
            NoSuchJob: there is no such directory.
        """
        super().__init__(Place(locating.directory(path)))
        if not os.path.isdir(self._place.path):
            raise locating.no_such_job(self._place.path)
        with contextlib.suppress(OSError):
            moving.finish(self._place.path)

    @classmethod
    def _init_at(cls, path: Path, statepoint: Mapping[str, object] | None = None, force: bool = False) -> Self:
        """Make a job at *path*, or open the one that is there.

        It appears whole, and nothing that is there is replaced; missing directories above it are made. A directory
        without a state point is given one. Any number of processes may do this at once.

        Args:
            statepoint: what the job is to have; None: what it has, or if it is new, null.
            force: replace a state point that is another one, or cannot be read.
        Raises:
            ValueError: a different state point is there; or *path* is in a project's workspace, and is not named by the
                state point's id; or it is a workspace itself, or in a view of a mounted project. InvalidStatePoint,
                which is one: *statepoint* is none.
            PendingJob: the state point that is there cannot be read.
            OSError: permissions and the like.
        """
        where = locating.directory(path)
        if not os.path.lexists(where):
            where = locating.destination(where)
        clean = None if statepoint is None else validate(statepoint)
        workspace = locating.workspace_around(where)
        is_open = statepoint is None and os.path.isdir(where)
        if workspace is not None and not is_open:
            locating.require_name(where, workspace.statepoint_id(clean))
        os.makedirs(os.path.dirname(where), exist_ok=True)
        self = cls.at(None, where)
        with contextlib.suppress(OSError):
            moving.finish(where)
        for _ in range(_TRIES):
            if self._open_or_make(clean, adapt=statepoint is not None, force=force):
                return self
        raise PendingJob(f"{where} is made and removed again and again by others")

    def _init_again(self, force: bool = False, validate_statepoint: bool = True) -> Self:
        """Make sure that the job is there, and give it. One that was removed by way of this handle is made anew.

        Args:
            force: write the state point again, if it cannot be read, where it is known.
            validate_statepoint: as in signac; False: if the directory is there, look no further.
        Raises:
            NoSuchJob: it is not there, and its state point is not known.
            PendingJob: its state point cannot be read.
        """
        with self._place.lock:
            is_there = os.path.isdir(self._place.path)
            if is_there and not validate_statepoint:
                return self
            known = self._place.known
            if is_there and (known is NONE or not force):
                self._read_statepoint()
            elif known is NONE:
                raise locating.no_such_job(self._place.path)
            else:
                self._init_at(self._place.path, known, force)  # type: ignore[arg-type]  # not NONE
            return self

    def _open_or_make(self, statepoint: StatePoint | None, *, adapt: bool, force: bool) -> bool:
        """One try of ``_init_at``; False if others have come between.

        Args:
            adapt: whether *statepoint* is what a job that is there has to have.
        """
        path = self._place.path
        data = encode(statepoint)
        if not os.path.isdir(path):
            above, name = os.path.split(path)
            with files.opened_directory(above) as fd:
                is_made = changing.publish(fd, above, name, data, replace_empty=False)
            if is_made:
                self._note()
            return is_made
        try:
            found = self._read_file()
            if found is NONE:
                with self._opened() as fd:
                    files.write_exclusive(fd, STATEPOINT_FILE, data)
                self._note()
                return True
        except NoSuchJob:
            return False
        except FileExistsError:
            return False
        except PendingJob:
            if not (adapt and force):
                raise
            with self._opened() as fd:
                files.write_atomic(fd, STATEPOINT_FILE, data)
            self._note()
            return True
        if adapt and statepoint_id(found) != statepoint_id(statepoint):
            if not force:
                raise ValueError(
                    f"{path} has another state point, {_short(found)}: open it by its path alone, assign its state "
                    "point, or use force=True to replace it"
                )
            self._write_statepoint(statepoint)
        return True

    # What it has

    @property
    def document(self) -> Document:
        """The document, live: see `Document`. Assign a mapping to replace all that is in it.

        Raises:
            NoSuchJob: on use: there is no job (any more).
        """
        return Document(JsonFile(self._open, DOCUMENT_FILE, on_change=self._note))

    @document.setter
    def document(self, document: Mapping[str, object]) -> None:
        self.document.reset(document)

    doc = document

    @property
    def data(self) -> Data:
        """Arrays and other data in the HDF5 file ``signac_data.h5``, as in signac: see `Data`.

        Assign a mapping to replace all that is in it.

        Raises:
            ImportError: h5py is not installed.
        """
        from sigfs.api.data import Data

        return Data(self.fn("signac_data.h5"))

    @data.setter
    def data(self, data: Mapping[str, object]) -> None:
        self.data.reset(data)

    def set_permissions(self, mode: int = 0o644) -> None:
        """Give all files of the job these permissions, and its directories those that may be entered by who may read.

        Raises:
            NoSuchJob: there is no job (any more).
            OSError: EPERM for what is not one's own.
        """
        with self._opened(trees.LIST_FLAGS) as fd, self._naming():
            trees.set_permissions(fd, mode)

    def remove(self) -> None:
        """Remove the job with all that is in its directory; nothing is done if it is not there.

        It vanishes at once. Symbolic links are removed and not followed.

        Raises:
            PendingJob: it is a directory without a state point, and not in a workspace: no job to all appearances.
            OSError: permissions and the like; nothing is removed.
        """
        place = self._place
        with place.lock, contextlib.suppress(NoSuchJob):
            try:
                known: object = self._read_statepoint()
                if known is None and self._read_file() is NONE:
                    raise PendingJob(f"{place.path} has no {STATEPOINT_FILE}: it is not removed as a job")
            except PendingJob:
                if not self.is_managed:
                    raise
                known = NONE
            moving.remove(place.path)
            place.known = known
            self._note()

    def clear(self) -> None:
        """Remove all that is in the job's directory but the state point, and empty the document.

        Raises:
            OSError: something cannot be removed; the rest is.
        """
        with contextlib.suppress(NoSuchJob):
            with self._opened(trees.LIST_FLAGS) as fd:
                if not files.is_there(fd, STATEPOINT_FILE):
                    raise PendingJob(f"{self._place.path} has no {STATEPOINT_FILE}: it is not cleared as a job")
                with self._naming():
                    trees.empty(fd, frozenset({STATEPOINT_FILE, DOCUMENT_FILE}))
            if self.isfile(DOCUMENT_FILE):
                self.document.clear()

    def reset(self) -> None:
        """Remove all data: `clear`, and make sure that the job is there."""
        self.clear()
        self.init()

    def move(self, project: Project) -> None:
        """Move the job into the workspace of another project.

        Raises:
            NoSuchJob, DestinationExists, JobChanged, OSError: as assigning `path`.
        """
        workspace = project.workspace
        self._move(os.path.join(workspace.path, workspace.statepoint_id(self._read_statepoint())))
        self._place.context = (workspace, project)

    @contextlib.contextmanager
    def _naming(self) -> Iterator[None]:
        """Have errors name the file by its whole path."""
        try:
            yield
        except OSError as error:
            raise OSError(error.errno, error.strerror, self.fn(str(error.filename or ""))) from error
        except RecursionError as error:
            raise OSError(errno.ENAMETOOLONG, "directories in it are nested too deep", self._place.path) from error

    # As a block, and as a value

    def open(self) -> None:
        """Make the job's directory the working directory, until `close`. The working directory is the whole process's:
        with threads, use `fn` instead."""
        left = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._init_again(validate_statepoint=False)
            os.chdir(self._place.path)
        except BaseException:
            os.close(left)
            raise
        self._left.append(left)

    def close(self) -> None:
        """Go back to where the last `open` that has not been closed yet has left; wherever that directory is by now."""
        if self._left:
            left = self._left.pop()
            try:
                os.fchdir(left)
            finally:
                os.close(left)

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Job):
            return NotImplemented
        one, two = self._place.path, other._place.path
        return one == two or os.path.realpath(one) == os.path.realpath(two)

    def __hash__(self) -> int:
        return hash(os.path.realpath(self._place.path))

    def __str__(self) -> str:
        return self.id

    def __repr__(self) -> str:
        return f"Job({self._place.path!r})"

    def __copy__(self) -> Self:
        return self._in(self._place)

    def __deepcopy__(self, _: object) -> Self:
        return self.at(self.project, self._place.path)

    def __reduce__(self) -> tuple[object, ...]:
        project = self.project
        return _unpickled, (type(self), self._place.path, None if project is None else project.root)


def get_job(path: Path | None = None) -> Job:
    """The job that *path*, by default the working directory, is in or is.

    Raises:
        NoSuchJob: neither it nor a directory above it has a state point.
    """
    where = os.path.abspath("." if path is None else os.fsdecode(os.fspath(path)))
    above = where
    while not os.path.lexists(os.path.join(above, STATEPOINT_FILE)):
        if above == os.path.dirname(above):
            raise NoSuchJob(f"no job in {where} or in any directory above it")
        above = os.path.dirname(above)
    return Job(above)


def _unpickled(cls: type[Job], path: str, root: str | None) -> Job:
    from sigfs.api.project import Project

    project = None
    if root is not None:
        with contextlib.suppress(SigfsError):
            project = Project(root)
    return cls.at(project, path)


def _short(statepoint: object) -> str:
    text = repr(statepoint)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
