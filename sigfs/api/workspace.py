"""Workspaces, as Python programs meet them."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, Self

from sigfs.errors import InvalidConfig, SigfsDeprecationWarning
from sigfs.model import files
from sigfs.model.config import WORKSPACE_CONFIG
from sigfs.model.statepoint import DEFAULT_FUNCTION, ID_FUNCTIONS, statepoint_id, validate
from sigfs.model.types import JobId, StatePoint
from sigfs.model.workspace import Workspace as WorkspaceFiles

if TYPE_CHECKING:
    from sigfs.api.job import Job

_FILE_MODE: Final = 0o666


class Workspace(WorkspaceFiles):
    """A directory of managed jobs, and a collection of those that can be read.

    What is equal is the directory, by whatever path.

    Attributes:
        path: absolute path.
        id_function: "md5" or "xxh3_128".
    """

    def __init__(self, path: str | os.PathLike[str], id_function: str | None = None) -> None:
        """Open the workspace at *path*; make the directory, and ``workspace.rc`` in it, if they are not there.

        A directory that may not be written is opened as it is.

        Args:
            id_function: which function is to give the state point ids; default: what ``workspace.rc`` says, else md5.
        Raises:
            InvalidConfig: ``workspace.rc`` is broken, or names another function than *id_function*.
            ValueError: there is no such function.
            OSError: the directory cannot be made.
        """
        if id_function is not None and id_function not in ID_FUNCTIONS:
            raise ValueError(f"unknown id_function {id_function!r}: use one of {', '.join(ID_FUNCTIONS)}")
        where = os.path.abspath(path)
        os.makedirs(where, exist_ok=True)
        text = f"id_function = {id_function or DEFAULT_FUNCTION}\n".encode("ascii")
        with contextlib.suppress(FileExistsError, PermissionError), files.opened_directory(where) as fd:
            files.write_exclusive(fd, WORKSPACE_CONFIG, text, _FILE_MODE)
        super().__init__(where)
        if id_function not in (None, self.id_function):
            raise InvalidConfig(f"{where}: the ids of this workspace are made by {self.id_function}, not {id_function}")

    @classmethod
    def at(cls, path: str) -> Self:
        """The workspace at *path* as it is; nothing is made, and the directory need not be there yet.

        Raises:
            InvalidConfig: ``workspace.rc`` is broken.
        """
        workspace = cls.__new__(cls)
        WorkspaceFiles.__init__(workspace, path)
        return workspace

    def is_at(self, path: str) -> bool:
        """Whether it is the directory at *path*, which may be reached by links."""
        return path == self.path or os.path.realpath(path) == os.path.realpath(self.path)

    def statepoint_id(self, statepoint: StatePoint | None) -> JobId:
        """The id of the job with this state point, which need not exist.

        Raises:
            InvalidStatePoint: see `sigfs.model.statepoint.validate`.
        """
        return statepoint_id(None if statepoint is None else validate(statepoint), self.id_function)

    def open(self, statepoint: StatePoint) -> Job:
        """The job with this state point, created if it is not there.

        Raises:
            InvalidStatePoint, PendingJob, OSError: see `create`.
        """
        from sigfs.api.job import Job

        return Job.at(None, os.path.join(self.path, self.create(statepoint)))

    def __iter__(self) -> Iterator[Job]:
        from sigfs.api.job import Job

        for change in self.scan():
            yield Job.at(None, os.path.join(self.path, change.id))

    def __str__(self) -> str:
        return self.path

    def __fspath__(self) -> str:
        return self.path

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, WorkspaceFiles):
            return NotImplemented
        return self.is_at(other.path)

    def __hash__(self) -> int:
        return hash(os.path.realpath(self.path))

    def __call__(self) -> str:
        """The path: ``workspace()`` is what it was asked for by in signac 1."""
        warnings.warn("workspace() is workspace.path now", SigfsDeprecationWarning, stacklevel=2)
        return self.path


class WorkspaceOfJob(Workspace):
    """The workspace that a job gives, which can be called: in signac 1 that gave the job's directory."""

    def __init__(self, workspace: Workspace, directory: str) -> None:
        """Take the place of *workspace*; *directory* is the job's."""
        self.__dict__.update(workspace.__dict__)
        self._directory = directory

    def __call__(self) -> str:
        """The absolute path of the job's directory."""
        warnings.warn("job.workspace() is job.path now", SigfsDeprecationWarning, stacklevel=2)
        return self._directory
