"""A data space in one archive.

Owned here: what of a project goes into the archive, and under which names: those that it has in the project, so that
the archive, unpacked by any program, is one.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sigfs.backup.contents import FORMAT, HEAD
from sigfs.backup.making import project_files
from sigfs.errors import BackupError
from sigfs.export.archives import Writer, add_directory, new_archive
from sigfs.export.jobs import planned
from sigfs.export.report import ARCHIVES, Archive, Progress
from sigfs.export.target import check_target
from sigfs.model import files
from sigfs.model.reading import DOCUMENT_FILE, STATEPOINT_FILE
from sigfs.model.statepoint import is_job_id
from sigfs.query import format_text
from sigfs.query.expr import EVERYTHING, Expr
from sigfs.tree import Tree
from sigfs.version import __version__

if TYPE_CHECKING:
    from sigfs.api.project import Project


@dataclass(slots=True)
class Snapshot:
    """What a snapshot has, or with ``dry_run`` would have.

    Attributes:
        jobs: paths of the jobs in it.
        files: paths of the project's own files.
        left_out: paths of jobs that are not in it, as they are outside of the project's directory.
        pending: directories named like jobs that cannot be read as ones. They are in it, as they are, if there is no
            filter.
    """

    target: str
    jobs: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    pending: int = 0


def kind_of(path: str) -> Archive:
    """What kind of archive a name asks for.

    Raises:
        BackupError: none.

    >>> kind_of("a/study.tgz")
    'tar.gz'
    """
    for ending, kind in ARCHIVES.items():
        if path.endswith(ending):
            return kind
    raise BackupError(f"{path}: the name must end in one of {' '.join(ARCHIVES)}, which says what is written")


def snapshot(
    project: Project,
    target: str,
    *,
    data: bool = False,
    query: Expr = EVERYTHING,
    state_dir: str | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Snapshot:
    """Write the metadata of a project, or all that its jobs have, into the archive *target*, which must not be there.

    Args:
        data: all of the jobs' directories.
        query: only the jobs that it holds for.
    Raises:
        BackupError: the name says no kind of archive.
        ExportError, DestinationExists, JobChanged, OSError: as `sigfs.export.archives`; there is no archive then.
    """
    kind = kind_of(target)
    path = check_target(target, project.root, project.workspace.path)
    plan = planned(project, Tree("auto", query), state_dir, save=not dry_run)
    report = Snapshot(target, pending=plan.pending)
    inside = os.path.relpath(project.workspace.path, project.root)
    name = "workspace" if inside.startswith("..") else inside
    ids = set(plan.jobs.values())
    if query == EVERYTHING:
        ids.update(project.workspace.ids())
    jobs = _places(project, name, ids, report)
    own = [each for each in project_files(project.files, name) if not each[0].startswith("..")]
    report.files = [each for each, _ in own]
    if dry_run:
        return report
    head = {
        **FORMAT,
        "sigfs": __version__,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "project": project.root,
        "workspace": name,
        "id_function": project.workspace.id_function,
        "data": data,
        "filter": format_text(query),
        "outside": [each for each in report.jobs if not is_job_id(each.removeprefix(f"{name}/"))],
    }
    with new_archive(path, kind) as writer:
        writer.add_text(HEAD, json.dumps(head, indent=1).encode("ascii"))
        for file, content in own:
            writer.add_text(file, content)
        for number, job in enumerate(report.jobs):
            if progress is not None:
                progress(number, len(report.jobs))
            if data:
                add_directory(writer, job, jobs[job])
            else:
                _add_metadata(writer, job, jobs[job])
    return report


def _places(project: Project, workspace: str, ids: set[str], report: Snapshot) -> dict[str, str]:
    """Path in the archive -> directory of each job."""
    real = os.path.realpath(project.workspace.path)
    root = os.path.realpath(project.root)
    jobs = {}
    for job_id in ids:
        place = os.path.normpath(os.path.join(real, job_id))
        outside = os.path.relpath(place, root)
        if is_job_id(job_id):
            jobs[f"{workspace}/{job_id}"] = place
        elif outside.startswith(".."):
            report.left_out.append(place)
        else:
            jobs[outside] = place
    report.jobs = sorted(jobs)
    return jobs


def _add_metadata(writer: Writer, path: str, directory: str) -> None:
    try:
        fd = os.open(directory, files.DIRECTORY_FLAGS)
    except (FileNotFoundError, NotADirectoryError):
        return  # it has just gone
    try:
        for name in (STATEPOINT_FILE, DOCUMENT_FILE):
            with contextlib.suppress(FileNotFoundError):
                writer.add(f"{path}/{name}", os.lstat(name, dir_fd=fd), fd, name)
    finally:
        os.close(fd)
