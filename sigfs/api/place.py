"""Where a job is: its path, what that makes it be called, and moving it.

Everything is on the disk: a handle holds the job's path and nothing that can grow old. The state point of a managed job
is such a thing, as the id is made of it (I1).
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, Self

from sigfs.api import locating
from sigfs.api.workspace import WorkspaceOfJob
from sigfs.errors import PendingJob, SigfsError
from sigfs.model import files, moving
from sigfs.model.project import Path
from sigfs.model.reading import STATEPOINT_FILE, parse_statepoint, pending
from sigfs.model.statepoint import is_job_id
from sigfs.model.types import JobId, StatePoint

if TYPE_CHECKING:
    from sigfs.api.project import Project
    from sigfs.api.recalling import Recollection
    from sigfs.api.workspace import Workspace

NONE: Final = object()
"""No state point is there, or known; as opposed to the state point ``null``."""


class Place:
    """Where a job is, shared by all shallow copies of its handle.

    Attributes:
        path: absolute; no symbolic link itself.
        context: the workspace and the project it belongs to, either may be None; None itself if nobody has asked yet.
        lock: held while the path changes.
        known: the state point that the job had when it was removed, or `NONE`.
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
        self.known: object = NONE
        self.key = key
        self.recollection = recollection
        self.seen: tuple[str, int, StatePoint | None] | None = None

    def go(self, path: str, key: JobId | None) -> None:
        """Be elsewhere, where nothing is known of the job."""
        self.path, self.key, self.recollection = path, key, None


class PlacedJob:
    """A handle as far as it is a place: see `Job`."""

    __slots__ = ("_left", "_place")

    def __init__(self, place: Place) -> None:
        self._place = place
        self._left: list[int] = []  # directories to which `Job.close` goes back

    @classmethod
    def at(cls, project: Project | None, path: str) -> Self:
        """The job at an absolute path, attached to *project* if there is one. The disk is not looked at."""
        return cls._in(Place(path, None if project is None else (project.workspace, project)))

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
        context = None if project is None else (workspace, project)
        key = None if project is None else job_id
        return cls._in(Place(f"{workspace.path}/{job_id}", context, key, recollection))

    @classmethod
    def _in(cls, place: Place) -> Self:
        self = cls.__new__(cls)
        PlacedJob.__init__(self, place)
        return self

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
                if statepoint is NONE:
                    raise PendingJob(f"{old} has no state point, so that it has no name in a workspace")
                locating.require_name(new, workspace.statepoint_id(statepoint))  # type: ignore[arg-type]  # not NONE
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

    def _read_file(self) -> object:
        """What the state point file says; `NONE` if there is none."""
        with self._opened() as fd:
            try:
                return parse_statepoint(JobId(self._place.path), files.read_at(fd, STATEPOINT_FILE))
            except FileNotFoundError:
                return NONE
            except OSError as error:
                raise pending(JobId(self._place.path), error) from error

    def _note(self) -> None:
        """Have the project's sidecar follow a change of this job."""
        try:
            project = self.project
        except (OSError, SigfsError):
            return
        if project is not None:
            project.note(self._place.path)

    def fn(self, name: str) -> str:
        """Absolute path of the file *name* in the job's directory."""
        return os.path.join(self._place.path, name)

    def isfile(self, name: str) -> bool:
        """Whether there is a file *name* in the job's directory."""
        return os.path.isfile(self.fn(name))

    def _open(self) -> int:
        return locating.open_directory(self._place.path, files.DIRECTORY_FLAGS)

    @contextlib.contextmanager
    def _opened(self, flags: int = files.DIRECTORY_FLAGS) -> Iterator[int]:
        fd = locating.open_directory(self._place.path, flags)
        try:
            yield fd
        finally:
            os.close(fd)

    def __fspath__(self) -> str:
        return self._place.path
