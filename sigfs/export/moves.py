"""Jobs moved out of their workspace to where a view shows them.

Owned here: that an export that is killed goes on by the plan that it began with: with jobs gone from the workspace the
view of the others is another one.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from sigfs.errors import DestinationExists, JobChanged, NoSuchJob
from sigfs.export.manifest import job_path
from sigfs.export.places import below
from sigfs.model import moving

if TYPE_CHECKING:
    from sigfs.export.manifest import Manifest, Memory
    from sigfs.export.report import Report


def move(
    root_fd: int,
    memory: Memory,
    workspace: str,
    old: Manifest | None,
    new: Manifest,
    report: Report,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Move jobs: first those of an export that has not come to its end, to where that would have moved them.

    Raises:
        OSError: no space, read-only and the like; the next export goes on from there.
    """
    if old is not None:
        begun = {job: path for path, job in old.jobs.items()}
        new.jobs = old.jobs | {path: job for path, job in new.jobs.items() if job not in begun}
    memory.write(new)
    left = {}
    with below(root_fd) as places:
        for number, (path, job) in enumerate(sorted(new.jobs.items())):
            if progress is not None:
                progress(number, len(new.jobs))
            above, _, name = path.rpartition("/")
            try:
                # Not by its path, on which somebody may put a symbolic link.
                place = f"/proc/self/fd/{places.open(above, make=True)}/{name}"
                source = job_path(workspace, job)
                if os.path.lexists(source):
                    moving.move(source, place)
                    report.added.append(path)
                else:
                    moving.finish(place)
                    report.unchanged += 1
            except DestinationExists:
                report.in_the_way.append(path)
                left[path] = job
            except (JobChanged, NoSuchJob, PermissionError) as error:
                report.failed[path] = str(error)
                left[path] = job
            except OSError as error:
                if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                    raise
                report.in_the_way.append(path)
                left[path] = job
    new.jobs = left
    new.complete = not left
    memory.write(new)
