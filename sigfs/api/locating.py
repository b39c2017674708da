"""Which directory a path means as a job, and what it belongs to there.

Owned here: mounted projects seen through, links resolved, and the rule that in a workspace a job is named by the id of
its state point.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sigfs.errors import NoSuchJob, NoSuchProject
from sigfs.model import mounted
from sigfs.model.config import WORKSPACE_CONFIG
from sigfs.model.project import Path, find_root
from sigfs.model.reading import STATEPOINT_FILE
from sigfs.model.types import JobId

if TYPE_CHECKING:
    from sigfs.api.project import Project
    from sigfs.api.workspace import Workspace


def no_such_job(path: str) -> NoSuchJob:
    what = "is no directory" if os.path.lexists(path) else "is not there"
    return NoSuchJob(f"no job {path}: it {what}. Job.init({path!r}, ...) makes one; if it has moved, open it anew")


def open_directory(path: str, flags: int) -> int:
    try:
        return os.open(path, flags)
    except (FileNotFoundError, NotADirectoryError):
        raise no_such_job(path) from None


def directory(path: Path) -> str:
    """The absolute path of the directory that *path* means: below, if it leads into a mount; and no symbolic link.

    Raises:
        NoSuchJob: it is a virtual directory of a mounted project.
    """
    where = os.path.abspath(os.fsdecode(os.fspath(path)))
    below = mounted.below(where)
    if below is not None:
        return below
    if mounted.mount_of(where) is not None and not os.path.lexists(os.path.join(where, STATEPOINT_FILE)):
        raise NoSuchJob(f"{where} is a directory of a view, and no job's: jobs are further down")
    return os.path.realpath(where) if os.path.islink(where) else where


def destination(path: str) -> str:
    """Where something that is to be at the absolute *path* comes, if that leads into a mount.

    Raises:
        ValueError: it is a virtual directory.
    """
    above, name = os.path.split(path)
    existing = above
    while not os.path.lexists(existing):
        existing = os.path.dirname(existing)
    if mounted.mount_of(existing) is None:
        return path
    below = mounted.below(existing)
    if below is None:
        remedy = "open or assign its state point to have a job appear there"
        raise ValueError(f"{path} is in a view of a mounted project: {remedy}")
    return os.path.normpath(os.path.join(below, os.path.relpath(above, existing), name))


def context_of(path: str) -> tuple[Workspace | None, Project | None]:
    from sigfs.api.project import Project
    from sigfs.api.workspace import Workspace

    above = os.path.dirname(path)
    existing = above
    while not os.path.isdir(existing):
        existing = os.path.dirname(existing)
    try:
        project = Project(find_root(existing))
    except NoSuchProject:
        has_workspace = os.path.isfile(os.path.join(above, WORKSPACE_CONFIG))
        return (Workspace.at(above) if has_workspace else None), None
    return project.workspace, project


def workspace_at(directory: str) -> Workspace | None:
    """The workspace that *directory*, which need not exist, is; None if it is none."""
    workspace, _ = context_of(os.path.join(directory, "job"))
    return workspace if workspace is not None and workspace.is_at(directory) else None


def workspace_around(path: str) -> Workspace | None:
    """The workspace that a new job at *path* is in; None if it is in none.

    Raises:
        ValueError: *path* is a workspace itself. As a job, it would be cleared and removed with all that are in it.
    """
    workspace, _ = context_of(path)
    if os.path.lexists(os.path.join(path, WORKSPACE_CONFIG)) or (workspace is not None and workspace.is_at(path)):
        raise ValueError(f"{path} is a workspace, and no job: Workspace({path!r}).open(...) makes a job in it")
    return workspace if workspace is not None and workspace.is_at(os.path.dirname(path)) else None


def require_name(path: str, job_id: JobId) -> None:
    if os.path.basename(path) != job_id:
        raise ValueError(
            f"{path} is in a workspace, where a job is named by the id of its state point, which is {job_id}: "
            "give it that name, or assign the state point"
        )


def working_directory_in(path: str) -> str | None:
    """Where in *path* the working directory is; None if it is elsewhere."""
    try:
        inside = os.path.relpath(os.getcwd(), os.path.realpath(path))
    except OSError:
        return None
    return None if inside == ".." or inside.startswith("../") else inside
