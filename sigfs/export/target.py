"""Where a view may be exported to.

Owned here: that no export goes into jobs, or into a mount, where making a directory would make a job.
"""

from __future__ import annotations

import os

from sigfs.errors import ExportError
from sigfs.model.mounted import mount_of


def check_target(target: str, root: str, workspace: str) -> str:
    """Give the real path of a target, which need not be there, for a view of the project at *root*.

    Raises:
        ExportError: it is in the workspace, has the workspace in it, or is in a mount of sigfs.
    """
    if not target:
        raise ExportError("an empty path is no target: name a directory")
    path = os.path.realpath(target)
    jobs = os.path.realpath(workspace)
    if _is_in(path, jobs):
        raise ExportError(f"{target} is inside the workspace {workspace}: choose a target outside of it")
    if _is_in(jobs, path):
        raise ExportError(f"{target} has the workspace {workspace} in it: choose a target beside it")
    for name in (".sigfs", ".signac"):
        if _is_in(path, os.path.join(os.path.realpath(root), name)):
            raise ExportError(f"{target} is inside {name} of the project: choose another target")
    there = path
    while not os.path.lexists(there):
        there = os.path.dirname(there)
    if mount_of(there) is not None:
        raise ExportError(f"{target} is in a mount of sigfs, where a new directory is a new job: choose another target")
    return path


def opened_target(path: str, *, make: bool) -> int:
    """A descriptor of a target directory.

    Args:
        path: as `check_target` gave it.
        make: make it, and what is missing on the way to it.
    Raises:
        FileNotFoundError: it is not there, and is not to be made.
        ExportError: it is something else than a directory.
    """
    try:
        if make:
            os.makedirs(path, exist_ok=True)
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileExistsError, NotADirectoryError) as error:
        raise ExportError(f"{error.filename or path} is no directory: choose another target") from None


def _is_in(path: str, above: str) -> bool:
    return (path + os.sep).startswith(above.rstrip(os.sep) + os.sep)
