"""When an export has nothing to do.

Owned here: what tells that without a look at any job or link. A managed job keeps its state point as long as its name
(I1), and a link what it says: so if no name came or went in the workspace, nor in any directory of the target, since an
export was complete, all is as it was. It is looked at by their stamps, one system call a directory.

Not noticed is a change within the same tick of the file system's clock, some 4 ms, as the export's last one in the same
directory. A view that follows documents is never settled.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from sigfs.export.manifest import RESERVED, Manifest, Memory
from sigfs.export.target import opened_target
from sigfs.model.files import DIRECTORY_FLAGS, stat_many
from sigfs.model.types import ABSENT, UNKNOWN

if TYPE_CHECKING:
    from sigfs.model.project import ProjectFiles
    from sigfs.model.workspace import Workspace


def begun(path: str, project: ProjectFiles, method: str, layout: str, filter: str) -> Manifest:  # noqa: A002 - the view's word
    """The manifest of an export that is about to be.

    Args:
        path: as `sigfs.export.target.check_target` gave it.
        filter: as text.
    """
    workspace = os.path.relpath(os.path.realpath(project.workspace_path), path)
    return Manifest(project.root, method, layout, filter, workspace)


def count_unchanged(fd: int, old: Manifest | None, new: Manifest, workspace: Workspace) -> int | None:
    """How many links there are if all are as the export *new* would make them; None if that is to be looked at.

    Args:
        fd, old: as of `looking`.
    """
    if old is None or not old.complete or old.method != "symlink" or not old.is_alike(new):
        return None
    if old.listed == UNKNOWN or workspace.stamp() != old.listed:
        return None
    return len(old.jobs) if len(settled_directories(fd, old)) == len(old.directories) else None


@contextlib.contextmanager
def looking(path: str) -> Iterator[tuple[int, Manifest | None]]:
    """Give the target, -1 if there is none, and what it remembers, without a change or a lock."""
    try:
        fd = opened_target(path, make=False)
    except FileNotFoundError:
        yield -1, None
        return
    try:
        old = None
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            memory_fd = os.open(RESERVED, DIRECTORY_FLAGS, dir_fd=fd)
            try:
                old = Memory(memory_fd).read()
            finally:
                os.close(memory_fd)
        yield fd, old
    finally:
        os.close(fd)


def settled_directories(target_fd: int, old: Manifest | None) -> set[str]:
    """The directories in which nobody has changed anything since the manifest was completed."""
    if old is None or target_fd < 0:
        return set()
    found = stamps(target_fd, old.directories)
    return {path for path, stamp in found.items() if stamp == old.directories[path] and stamp > ABSENT}


def stamps(target_fd: int, directories: Iterable[str]) -> dict[str, int]:
    """What each of the directories is like now, whatever is there in place of one."""
    paths = list(directories)
    found = stat_many(target_fd, [path.encode() or b"." for path in paths])
    return dict(zip(paths, found, strict=True))
