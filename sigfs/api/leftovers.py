"""What processes that were killed have left beside the jobs, and what can be done about it.

Owned here: what each of these names means. Whose process lives is not told from outside, but for moves, which hold a
lock; so the rest counts as left over only when it is old.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from sigfs.model import files, moving

if TYPE_CHECKING:
    from sigfs.api.project import Project

_OLD_S: Final = 3600.0

_COPY: Final = f"{files.TEMPORARY_PREFIX}copy_"
_HIDDEN: Final = f"{files.TEMPORARY_PREFIX}hidden_"
_GONE: Final = f"{files.TEMPORARY_PREFIX}gone_"


@dataclass(frozen=True, slots=True)
class Leftover:
    """Something that is left over.

    Attributes:
        path: absolute; of a job's directory, if the move to there is not completed.
        message: what it is.
        is_move: `sigfs repair` may complete it.
    """

    path: str
    message: str
    is_move: bool = False

    def to_json(self) -> dict[str, object]:
        """The fields by their names."""
        return asdict(self)


def leftovers(project: Project) -> list[Leftover]:
    """What is left over in the directories of jobs, by path.

    Complexity: one open for each job; lists the workspace and the indexed directories.
    """
    sidecar = project.sidecar
    places = sidecar.places
    found = [
        Leftover(path, f"{path} is a copy of {source}, from where it was being moved: both are there", is_move=True)
        for path in (*_jobs(project),)
        if (source := moving.unfinished(path))
    ]
    for directory in dict.fromkeys([project.workspace.path, *(place.path for place in places.places)]):
        found += _beside_jobs(directory)
    return sorted(found, key=lambda each: each.path)


def finish(leftover: Leftover) -> bool:
    """Complete it; whether that could be done.

    Raises:
        OSError: permissions and the like.
    """
    return leftover.is_move and moving.finish(leftover.path)


def _jobs(project: Project) -> Iterator[str]:
    workspace, places = project.workspace, project.directories.places
    for job_id in workspace.ids():
        yield os.path.join(workspace.path, job_id)
    if places:
        for location, _ in places.listing().jobs.values():
            yield location.path


def _beside_jobs(directory: str) -> Iterator[Leftover]:
    try:
        names = [name for name in os.listdir(directory) if name.startswith(files.TEMPORARY_PREFIX)]
    except OSError:
        return
    for name in names:
        path = os.path.join(directory, name)
        with contextlib.suppress(FileNotFoundError):
            if message := _meaning(name, path):
                yield Leftover(path, message)


def _meaning(name: str, path: str) -> str:
    """Say what it is; empty if somebody may be at work on it."""
    if name.startswith(_COPY):
        source = moving.unfinished(path)
        if source is None:
            return ""
        of = source or "a job"
        return f"the beginning of a copy of {of}, which is whole: the same move goes on with it, or it can be removed"
    if time.time() - os.lstat(path).st_ctime < _OLD_S:
        return ""
    if name.startswith(_HIDDEN):
        return "a job that was being moved away when the process was killed: whoever opens its copy completes that"
    if name.startswith(_GONE):
        return "the rest of a job that has been moved away, and is whole there: it can be removed"
    if os.path.isdir(path):
        return "a job that was being made or removed when the process was killed: it can be removed"
    return "a file that was being written when the process was killed: it can be removed"
