"""Freezing: jobs that are to keep their paths and ids from now on.

Owned here: that the jobs are found at any moment, whoever is killed. The new place is an empty directory first, which
is indexed; then one rename puts the workspace in its place.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING

from sigfs.errors import DestinationExists, NoSuchJob
from sigfs.model import files
from sigfs.model.config import WORKSPACE_CONFIG

if TYPE_CHECKING:
    from sigfs.api.project import Project


def freeze(project: Project, path: str | os.PathLike[str], *, dry_run: bool = False) -> int:
    """Give the workspace the path *path*, index it there, and make a new, empty one.

    Args:
        path: of nothing, or an empty directory, in the file system of the workspace; if it is not absolute, it begins
            at the project's directory.
    Returns:
        How many directories of jobs were in the workspace.
    Raises:
        NoSuchJob: there is none.
        DestinationExists: something has the path.
        ValueError: it is in the workspace, or cannot be indexed.
        InvalidConfig, OSError: the configuration is broken or cannot be written; permissions; another file system.
    """
    workspace = project.workspace
    where = os.path.normpath(os.path.join(project.root, path))
    count = sum(1 for _ in workspace.ids())
    if not count:
        raise NoSuchJob(f"there are no jobs in {workspace.path} that could be frozen")
    if (os.path.realpath(where) + os.sep).startswith(os.path.realpath(workspace.path) + os.sep):
        raise ValueError(f"{where} is in the workspace, which cannot be moved into itself")
    if os.path.islink(workspace.path):
        raise ValueError(f"{workspace.path} is a symbolic link, which cannot take its jobs along")
    above = os.path.dirname(where)
    if not os.path.isdir(above):
        raise FileNotFoundError(errno.ENOENT, "there is no such directory", above)
    if os.path.lexists(where) and (os.path.islink(where) or not os.path.isdir(where) or os.listdir(where)):
        raise DestinationExists(f"{where} is there already, and is no empty directory: choose another name")
    if os.stat(above).st_dev != os.stat(workspace.path).st_dev:
        raise OSError(errno.EXDEV, f"is on another file system than {workspace.path}, and jobs are not copied", where)
    if not dry_run:
        _freeze(project, where)
        project.note_all()
    return count


def _freeze(project: Project, where: str) -> None:
    old = project.workspace.path
    is_new = not os.path.lexists(where)
    was_indexed = any(place.path == where for place in project.indexed)
    if is_new:
        os.mkdir(where)
    try:
        project.add_index(where)
        os.rename(old, where)  # which replaces an empty directory, and no other
    except BaseException:
        if not was_indexed:
            with contextlib.suppress(LookupError):
                project.remove_index(where)
        if is_new:
            with contextlib.suppress(OSError):
                os.rmdir(where)
        raise
    with files.opened_directory(where) as fd:
        settings = None
        with contextlib.suppress(FileNotFoundError):
            settings = files.read_at(fd, WORKSPACE_CONFIG)
    os.mkdir(old)
    if settings is not None:
        with files.opened_directory(old) as fd:
            files.write_exclusive(fd, WORKSPACE_CONFIG, settings)
