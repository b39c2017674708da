"""Jobs, as Python programs meet them.

Owned here: what a job is called, and what becomes of it when it gets another path, id or state point. Everything is on
the disk: a handle holds the job's path and nothing that can grow old. The state point of a managed job is such a thing,
as the id is made of it (I1).
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Self, overload

from sigfs.api import locating
from sigfs.api.document import Document
from sigfs.api.legacy import LegacyJob
from sigfs.api.mapping import LiveMapping, plain_copy
from sigfs.api.workspace import WorkspaceOfJob
from sigfs.errors import JobChanged, NoSuchJob, PendingJob, SigfsError
from sigfs.model import changing, files, locking, moving, trees
from sigfs.model.document import JsonFile
from sigfs.model.project import Path
from sigfs.model.reading import DOCUMENT_FILE, STATEPOINT_FILE, parse_statepoint, pending
from sigfs.model.statepoint import encode, is_job_id, statepoint_id, validate
from sigfs.model.types import JobId, Json, StatePoint

if TYPE_CHECKING:
    from sigfs.api.data import Data
    from sigfs.api.project import Project
    from sigfs.api.recalling import Recollection
    from sigfs.api.workspace import Workspace

_NONE: Final = object()
"""No state point is there, or known; as opposed to the state point ``null``."""

_TRIES: Final = 100
"""How often `Job.init` looks again when others come between."""

_SHOWN: Final = 100
"""Characters of a state point in a message."""


class _Place:
    """Where a job is, shared by all shallow copies of its handle.

    Attributes:
        path: absolute; no symbolic link itself.
        context: the workspace and the project it belongs to, either may be None; None itself if nobody has asked yet.
        lock: held while the path changes.
        known: the state point that the job had when it was removed, or `_NONE`.
        key: the id of a job that is managed to all appearances of *path* and *context*; else None.
        recollection: what the index says of a managed job, if the handle came out of one.
        seen: of a managed job that was found whole: its path, the stamp of its state point file, its state point.
    """

    __slots__ = ("context", "key", "known", "lock", "path", "recollection", "seen")

    def __init__(
        self,
        path: str,
        context: tuple[Workspace | None, Project | None] | None = None,
        key: JobId | None = None,
        recollection: Recollection | None = None,
    ) -> None:
        self.path = path
        self.context = context
        self.lock = threading.RLock()
        self.known: object = _NONE
        self.key = key
        self.recollection = recollection
        self.seen: tuple[str, int, StatePoint | None] | None = None

    def go(self, path: str, key: JobId | None) -> None:
        """Be elsewhere, where nothing is known of the job."""
        self.path, self.key, self.recollection = path, key, None


class _Init:
    """``Job.init(path, ...)`` makes or opens a job, ``job.init()`` makes sure that it is there."""

    @overload
    def __get__(self, job: None, owner: type[Job]) -> Callable[..., Job]: ...
    @overload
    def __get__(self, job: Job, owner: type[Job]) -> Callable[..., Job]: ...
    def __get__(self, job: Job | None, owner: type[Job]) -> Callable[..., Job]:
        return owner._init_at if job is None else job._init_again  # noqa: SLF001 - of the same class


class Job(LegacyJob):
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

    __slots__ = ("_left", "_place")

    init = _Init()

    def __init__(self, path: Path) -> None:
        """Open the existing directory *path*.

        A path into a mounted project means the job's directory in that project, if that can be reached. What a killed
        process has left half done, a move or a migration, is completed.

        Raises:
            NoSuchJob: there is no such directory.
        """
        self._place = _Place(locating.directory(path))
        self._left: list[int] = []
        if not os.path.isdir(self._place.path):
            raise locating.no_such_job(self._place.path)
        with contextlib.suppress(OSError):
            moving.finish(self._place.path)

    @classmethod
    def at(cls, project: Project | None, path: str) -> Self:
        """The job at an absolute path, attached to *project* if there is one. The disk is not looked at."""
        self = cls.__new__(cls)
        self._place = _Place(path, None if project is None else (project.workspace, project))
        self._left = []
        return self

    @classmethod
    def of(cls, project: Project, job_id: JobId) -> Self:
        """A managed job of *project*. The disk is not looked at."""
        return cls.managed(project.workspace, project, job_id)

    @classmethod
    def managed(
        cls,
        workspace: Workspace,
        project: Project | None,
        job_id: JobId,
        recollection: Recollection | None = None,
    ) -> Self:
        """A job of *workspace*, and of *project*, whose workspace that is; None: of the one that is found upward.

        The disk is not looked at.

        Args:
            recollection: what is known of it.
        """
        self = cls.__new__(cls)
        context = None if project is None else (workspace, project)
        key = None if project is None else job_id
        self._place = _Place(f"{workspace.path}/{job_id}", context, key, recollection)
        self._left = []
        return self

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
            if is_there and (known is _NONE or not force):
                self._read_statepoint()
            elif known is _NONE:
                raise locating.no_such_job(self._place.path)
            else:
                self._init_at(self._place.path, known, force)  # type: ignore[arg-type]  # not _NONE
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
            if found is _NONE:
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

    # What it is called

    @property
    def path(self) -> str:
        """The path of the directory, relative to the working directory of this moment.

        Assign another to move the job there: at once by a rename within a file system, else by a copy that is compared
        with the original, which is removed then. Missing directories are made; nothing is replaced. Working directories
        in the job go with it: those of other processes only within the file system.

        Raises:
            NoSuchJob: there is no job (any more).
            DestinationExists: something has the path already.
            ValueError: it is inside the job; or in a project's workspace, and not named by the state point's id.
            JobChanged: it would have to be copied, and somebody writes into it.
            OSError: permissions and the like; the job is where it was.
        """
        try:
            return os.path.relpath(self._place.path)
        except FileNotFoundError:  # the working directory has been removed
            return self._place.path

    @path.setter
    def path(self, path: Path) -> None:
        self._move(os.path.abspath(os.fsdecode(os.fspath(path))))

    @property
    def id(self) -> str:
        """What the job is called in its project: 32 digits if it is managed; else its path relative to the workspace,
        ``../data/my_job``; absolute for a job without a project.

        Assign another to move the job there, as by ``path``.

        Raises:
            ValueError: 32 digits that are not its state point's id; a relative path without a project.
        """
        key = self._place.key
        if key is not None:
            return key
        if self.is_managed:
            return os.path.basename(self._place.path)
        workspace = self.workspace
        return self._place.path if workspace is None else os.path.relpath(self._place.path, workspace.path)

    @id.setter  # noqa: A003 - what it is called
    def id(self, job_id: str) -> None:
        workspace = self.workspace
        if workspace is None and not os.path.isabs(job_id):
            raise ValueError(f"{self._place.path} belongs to no project: its id is an absolute path, not {job_id!r}")
        above = "/" if workspace is None else workspace.path
        self._move(os.path.normpath(os.path.join(above, job_id)))

    @property
    def project(self) -> Project | None:
        """The project that the job is attached to, if any."""
        return self._context()[1]

    @property
    def workspace(self) -> Workspace | None:
        """The workspace of that project; without one, the one that the job is in, if that has a ``workspace.rc``."""
        workspace = self._context()[0]
        return None if workspace is None else WorkspaceOfJob(workspace, self._place.path)

    @property
    def is_managed(self) -> bool:
        """Whether the job's directory is in the workspace, and named like a job there."""
        if self._place.key is not None:
            return True
        above, name = os.path.split(self._place.path)
        workspace = self._context()[0] if is_job_id(name) else None
        return workspace is not None and workspace.is_at(above)

    def _context(self) -> tuple[Workspace | None, Project | None]:
        place = self._place
        context = place.context
        if context is None:
            context = place.context = locating.context_of(place.path)
        return context

    def _move(self, path: str) -> None:
        place = self._place
        with place.lock:
            old, new = place.path, locating.destination(path)
            if os.path.lexists(new) and os.path.exists(old) and os.path.samefile(new, old):
                return
            workspace = self.workspace
            above = os.path.dirname(new)
            if workspace is None or not workspace.is_at(above):
                workspace = locating.workspace_at(above)
            if workspace is not None:
                statepoint = self._read_file()
                if statepoint is _NONE:
                    raise PendingJob(f"{old} has no state point, so that it has no name in a workspace")
                locating.require_name(new, workspace.statepoint_id(statepoint))  # type: ignore[arg-type]  # not _NONE
            inside = locating.working_directory_in(old)
            project = self.project
            moving.move(old, new)
            place.go(new, None)
            place.context = None
            self._note()
            if project is not None:
                project.note(old)
            if inside is not None:
                with contextlib.suppress(OSError):
                    os.chdir(os.path.join(new, inside))

    # What it says

    @property
    def statepoint(self) -> Any:
        """The state point: a mapping as which it can be read and changed, nested keys as attributes too; or None.

        Assign a mapping, or None, to change all of it. If the job is managed, each change is a migration: the job gets
        the new id, its directory that name, and this handle follows. At any moment, whoever is killed, it has the old
        state point or the new one. Of any other job just the file changes.

        Raises:
            NoSuchJob: there is no job (any more).
            PendingJob: it has no state point that can be read.
            DestinationExists: there is a job of this state point.
            InvalidStatePoint: that is no state point.
        """
        statepoint = self._read_statepoint()
        return None if statepoint is None else LiveMapping(_StatePointBackend(self))

    @statepoint.setter
    def statepoint(self, statepoint: Mapping[str, object] | None) -> None:
        self._write_statepoint(None if statepoint is None else validate(statepoint))

    sp = statepoint

    @property
    def statepoint_id(self) -> JobId:
        """The id that a job of this state point has in the workspace; by md5 if there is none.

        Raises:
            NoSuchJob, PendingJob: as ``statepoint``.
        """
        workspace, statepoint = self.workspace, self._read_statepoint()
        return statepoint_id(statepoint) if workspace is None else workspace.statepoint_id(statepoint)

    def update_statepoint(self, update: Mapping[str, object], overwrite: bool = False) -> None:
        """Put keys and values into the state point, in one change.

        Raises:
            KeyError: a key has another value already, and that is not to be overwritten.
            NoSuchJob, PendingJob, DestinationExists, InvalidStatePoint: as ``statepoint``.
        """
        statepoint = self._read_statepoint() or {}
        new = validate({**statepoint, **update})
        if not overwrite:
            for key in update:
                if key in statepoint and statepoint_id(statepoint[key]) != statepoint_id(new[key]):
                    raise KeyError(f"{key} has the value {statepoint[key]!r} already: use overwrite=True to change it")
        self._write_statepoint(new)

    def replace_statepoint(self, before: StatePoint | None, after: StatePoint | None) -> None:
        """Assign the state point *after*, if the job has the state point *before* at that moment.

        Raises:
            JobChanged: it has another one, of somebody else's; nothing is changed.
            NoSuchJob, PendingJob, DestinationExists, InvalidStatePoint: as ``statepoint``. A managed job with another
                state point has another id, so that there is no such job.
        """
        self._write_statepoint(None if after is None else validate(after), before)

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

    @property
    def cached_statepoint(self) -> StatePoint | None:
        """The state point as plain data: quicker where many jobs are read. As signac 2 names it.

        Of a managed job that a question gave, it is what the index has, and the disk is not looked at: it cannot be
        another one, but the job may be gone.

        Raises:
            NoSuchJob, PendingJob: as ``statepoint``, if it has to be read.
        """
        place = self._place
        key, recollection = place.key, place.recollection
        if key is not None and recollection is not None and place.seen is None:
            found = recollection.take(key)
            if found is not None:
                return found[1]
        statepoint = self._read_statepoint()
        return None if statepoint is None else {key: plain_copy(value) for key, value in statepoint.items()}

    def _read_statepoint(self) -> StatePoint | None:
        """The state point, not to be changed; a migration that has been left half done is completed.

        What was read of a managed job and is that of its id can be no other later (I1): as long as the file is the same
        it is not read again.

        Raises:
            NoSuchJob, PendingJob: see ``statepoint``.
        """
        place = self._place
        path, seen = place.path, place.seen
        if seen is None and place.key is not None and place.recollection is not None:
            recalled = place.recollection.take(place.key)
            if recalled is not None:
                seen = place.seen = (path, *recalled)
        if seen is not None and seen[0] == path and files.is_as_before(f"{path}/{STATEPOINT_FILE}", seen[1]):
            return seen[2]
        if not self.is_managed:
            found = self._read_file()
            return None if found is _NONE else found  # type: ignore[return-value]  # what _read_file gives
        workspace, job_id = self._context()[0], JobId(os.path.basename(path))
        assert workspace is not None
        try:
            record = workspace.read(job_id)
            if statepoint_id(record.statepoint, workspace.id_function) == job_id:
                if record.stamp is not None:
                    place.seen = (path, record.stamp.statepoint, record.statepoint)
                return record.statepoint
            if not workspace.finish(job_id):
                return record.statepoint
        except PendingJob:
            if not workspace.finish(job_id):
                raise
        return workspace.read(job_id).statepoint

    def _read_file(self) -> object:
        """What the state point file says; `_NONE` if there is none."""
        with self._opened() as fd:
            try:
                return parse_statepoint(JobId(self._place.path), files.read_at(fd, STATEPOINT_FILE))
            except FileNotFoundError:
                return _NONE
            except OSError as error:
                raise pending(JobId(self._place.path), error) from error

    def _write_statepoint(self, statepoint: StatePoint | None, before: object = _NONE) -> None:
        place = self._place
        with place.lock:
            try:
                if self.is_managed:
                    workspace, job_id = self.workspace, JobId(os.path.basename(place.path))
                    assert workspace is not None
                    new = workspace.migrate(job_id, statepoint)
                    if new != job_id:
                        place.go(os.path.join(os.path.dirname(place.path), new), place.key and new)
                else:
                    self._write_file(statepoint, before)
            except OSError as error:
                if isinstance(error, SigfsError):
                    raise
                message = f"{error.strerror}; the state point is as it was"
                raise OSError(error.errno, message, self.fn(STATEPOINT_FILE)) from error

    def _write_file(self, statepoint: StatePoint | None, before: object = _NONE) -> None:
        with self._opened() as fd, contextlib.ExitStack() as stack:
            mode = 0o666
            with contextlib.suppress(FileNotFoundError):
                held = stack.enter_context(locking.locked(fd, STATEPOINT_FILE))
                mode = stat.S_IMODE(os.fstat(held).st_mode)
            if before is not _NONE and not _is_same(self._read_file(), before):
                raise JobChanged(f"{self._place.path} has got another state point meanwhile; it is left as it is")
            files.write_atomic(fd, STATEPOINT_FILE, encode(statepoint), mode)
        self._note()

    def _note(self) -> None:
        """Have the project's sidecar follow a change of this job."""
        try:
            project = self.project
        except (OSError, SigfsError):
            return
        if project is not None:
            project.note(self._place.path)

    # Its files

    def fn(self, name: str) -> str:
        """Absolute path of the file *name* in the job's directory."""
        return os.path.join(self._place.path, name)

    def isfile(self, name: str) -> bool:
        """Whether there is a file *name* in the job's directory."""
        return os.path.isfile(self.fn(name))

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
                if known is None and self._read_file() is _NONE:
                    raise PendingJob(f"{place.path} has no {STATEPOINT_FILE}: it is not removed as a job")
            except PendingJob:
                if not self.is_managed:
                    raise
                known = _NONE
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

    def _open(self) -> int:
        return locating.open_directory(self._place.path, files.DIRECTORY_FLAGS)

    @contextlib.contextmanager
    def _opened(self, flags: int = files.DIRECTORY_FLAGS) -> Iterator[int]:
        fd = locating.open_directory(self._place.path, flags)
        try:
            yield fd
        finally:
            os.close(fd)

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

    def __fspath__(self) -> str:
        return self._place.path

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
        job = type(self).at(None, "")
        job._place = self._place  # noqa: SLF001 - of the same class
        return job

    def __deepcopy__(self, _: object) -> Self:
        return self.at(self.project, self._place.path)

    def __reduce__(self) -> tuple[object, ...]:
        project = self.project
        return _unpickled, (type(self), self._place.path, None if project is None else project.root)


class _StatePointBackend:
    """A state point that is changed as a live mapping: each edit is one change of the job's."""

    __slots__ = ("_job",)

    def __init__(self, job: Job) -> None:
        self._job = job

    def load(self) -> Mapping[str, Json]:
        return self._job._read_statepoint() or {}  # noqa: SLF001 - of the same module

    @contextlib.contextmanager
    def edit(self) -> Iterator[dict[str, Json]]:
        job = self._job
        if job.is_managed:
            with job._place.lock:  # noqa: SLF001
                data = validate(self.load())
                yield data
                job._write_statepoint(validate(data))  # noqa: SLF001
        else:
            with JsonFile(job._open, STATEPOINT_FILE, on_change=job._note).edit() as data:  # noqa: SLF001
                yield data
                validate(data)


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


def _is_same(one: object, other: object) -> bool:
    """Whether two state points are the same, as JSON spells them; `_NONE` is none."""
    return _NONE not in (one, other) and encode(one) == encode(other)  # type: ignore[arg-type]  # state points


def _short(statepoint: object) -> str:
    text = repr(statepoint)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
