"""Projects, as Python programs meet them.

Owned here: which jobs belong to a project, and how one is asked for.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Final

from sigfs.api.job import Job
from sigfs.api.workspace import Workspace
from sigfs.errors import AmbiguousId, NoSuchJob
from sigfs.model import files
from sigfs.model.project import Path, ProjectFiles, find_root, make_project
from sigfs.model.statepoint import ID_LENGTH, is_job_id
from sigfs.model.types import JobId, StatePoint

_CANDIDATES_SHOWN: Final = 5


class Project:
    """A project and its workspace.

    A project is a collection of `Job`: iteration, ``len`` and ``in`` are about the jobs that can be read, so that a
    pending directory disturbs nobody; `Workspace.ids` and `Workspace.pending` show those too.

    Attributes:
        files: what the project is on disk.
        root: absolute path of the project's directory.
        workspace: where the jobs are; need not exist yet.
    """

    def __init__(self, root: Path) -> None:
        """Open the project at *root*, without looking above it.

        Raises:
            NoSuchProject: there is none.
            UnsupportedSchema: it was written by something newer.
            InvalidConfig: its configuration, or its workspace's, is broken.
        """
        self.files = ProjectFiles(root)
        self.root = self.files.root
        self.workspace = Workspace.at(self.files.workspace_path)

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

    def open(self, statepoint: StatePoint) -> Job:
        """The job with this state point, created if it is not there.

        Raises:
            InvalidStatePoint, PendingJob, OSError: see `Workspace.create`.
        """
        return Job.of(self, self.workspace.create(statepoint))

    def job(self, prefix: str) -> Job:
        """The job whose id is or begins with *prefix*; as `lookup`."""
        return Job.of(self, self.lookup(prefix))

    def lookup(self, prefix: str) -> JobId:
        """The id that *prefix* abbreviates. Pending directories are found too.

        Raises:
            NoSuchJob: none begins so.
            AmbiguousId: several do; the message names some of them.
        Complexity: one look for a whole id, one listing of the workspace for an abbreviated one.
        """
        if is_job_id(prefix):
            with (
                contextlib.suppress(FileNotFoundError, NotADirectoryError),
                files.opened_directory(self.workspace.path) as fd,
            ):
                os.close(os.open(prefix, files.DIRECTORY_FLAGS, dir_fd=fd))
                return JobId(prefix)
            raise NoSuchJob(f"no job {prefix} in {self.workspace.path}")
        found = sorted(job_id for job_id in self.workspace.ids() if job_id.startswith(prefix))
        if len(found) == 1:
            return found[0]
        if found:
            shown = ", ".join(found[:_CANDIDATES_SHOWN]) + (", ..." if len(found) > _CANDIDATES_SHOWN else "")
            raise AmbiguousId(f"{len(found)} jobs have an id that begins with {prefix!r}: {shown}")
        if prefix.strip("0123456789abcdef") or len(prefix) > ID_LENGTH:
            raise NoSuchJob(f"no job {prefix!r}: an id is {ID_LENGTH} digits of 0-9 and a-f, or the first few of them")
        raise NoSuchJob(f"no job in {self.workspace.path} has an id that begins with {prefix!r}")

    def __iter__(self) -> Iterator[Job]:
        for change in self.workspace.scan():
            yield Job.of(self, change.id)

    def __len__(self) -> int:
        """Complexity: reads every state point."""
        return sum(1 for _ in self.workspace.scan())

    def __bool__(self) -> bool:
        return True  # a project without jobs is one

    def __contains__(self, job: object) -> bool:
        """Whether *job*, a `Job` or a whole id, is a job of this project."""
        if isinstance(job, Job):
            return job.workspace == self.workspace and job.id in self
        if not isinstance(job, str) or not is_job_id(job):
            return False
        try:
            self.workspace.read(JobId(job))
        except LookupError:  # NoSuchJob and PendingJob are
            return False
        return True

    def __repr__(self) -> str:
        return f"Project({self.root!r})"


def get_project(path: Path | None = None) -> Project:
    """Open the project that *path*, by default the working directory, is in.

    Raises:
        NoSuchProject, UnsupportedSchema, InvalidConfig: as `find_root` and `Project`.
    """
    return Project(find_root("." if path is None else path))


def init_project(path: Path | None = None, name: str | None = None) -> Project:
    """Make the directory *path*, by default the working directory, a project that signac 2 opens too.

    Creates ``.signac/config``, ``workspace/`` and, if there is a *name*, the project document; missing directories on
    the way as well. A workspace that is there is kept, with its jobs. As with signac, a project may lie inside another.

    Raises:
        ProjectExists: *path* itself is a project's root already.
        OSError: no project was made.
    """
    return Project(make_project(path, name))
