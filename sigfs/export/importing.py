"""Jobs brought into a workspace, out of a directory tree or an archive.

Owned here: what is done in which order, so that a job is in the workspace whole or not at all, that nothing that is
there is overwritten, and that an import that was killed is completed by the next one: jobs that are there with the
same data count as done.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sigfs.errors import DestinationExists, JobChanged, NoSuchJob, NotImportable, PendingJob
from sigfs.export.finding import Found, Job, SchemaFunction, duplicates, find
from sigfs.export.origins import Directory
from sigfs.export.report import Imported, Progress
from sigfs.export.spelled import Schema
from sigfs.export.staging import Staging, exists, is_same, staging, taken
from sigfs.export.unpacking import Packed
from sigfs.model import files, moving
from sigfs.model.reading import STATEPOINT_FILE
from sigfs.model.statepoint import encode, statepoint_id
from sigfs.model.types import ABSENT, JobId

if TYPE_CHECKING:
    from sigfs.api.project import Project
    from sigfs.model.workspace import Workspace


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """How something is imported.

    Attributes:
        schema: as text, or a function from a path below the origin to a state point or None; default: see `find`.
        move: directories leave the origin.
        dry_run: change nothing.
        progress: called now and then with what is done and how much there is to do.
    """

    schema: str | SchemaFunction | None = None
    move: bool = False
    dry_run: bool = False
    progress: Progress | None = None


def import_jobs(project: Project, origin: str, options: ImportOptions) -> Imported:
    """Bring the jobs of *origin*, a directory or an archive, into the workspace of *project*.

    Raises:
        NotImportable: there is no such thing, nothing in it is a job, or the archive is damaged or hostile.
        OSError: no space, permissions and the like; the next import goes on from there.
    """
    try:
        return _import_jobs(project, origin, options)
    finally:
        if not options.dry_run:
            project.note_all()


def _import_jobs(project: Project, origin: str, options: ImportOptions) -> Imported:
    path = _checked(origin, project)
    schema = _schema(options.schema, path)
    if os.path.isdir(path):
        finished = [] if options.dry_run or not options.move else _finished_moves(project.workspace)
        with contextlib.closing(Directory(path, project.workspace.path)) as directory:
            found = find(directory, schema, directory.known())
            if finished and not found.jobs and not found.failed:
                return Imported(origin, {job_id: job_id for job_id in finished})
            report, ids = _planned(origin, found, project.workspace)
            report.imported.update({job_id: job_id for job_id in finished})
            with _workspace(project.workspace, options) as (workspace_fd, stage):
                _Bringing(directory, project.workspace, workspace_fd, stage, options, report).bring(found.jobs, ids)
        return report
    if options.move:
        raise NotImportable(f"{origin} is an archive, out of which nothing can be moved: import without --move")
    archive = Packed(path)
    found = find(archive, schema, {})
    report, ids = _planned(origin, found, project.workspace)
    archive.require_harmless(ids)
    with _workspace(project.workspace, options) as (workspace_fd, stage):
        there = _there(project.workspace, workspace_fd, ids, report)
        archive.unpack(found.jobs, ids, there, workspace_fd, stage, report, options.progress)
    return report


def _checked(origin: str, project: Project) -> str:
    path = os.path.realpath(origin) if origin else ""
    if not path or not os.path.lexists(path):
        raise NotImportable(f"there is no {origin!r}: name a directory, or an archive")
    if not (os.path.isdir(path) or os.path.isfile(path)):
        raise NotImportable(f"{origin} is neither a directory nor an archive")
    workspace = os.path.realpath(project.workspace.path)
    if (path + os.sep).startswith(workspace + os.sep):
        raise NotImportable(f"{origin} is in the workspace {workspace}: it is the project's already")
    return path


def _finished_moves(workspace: Workspace) -> list[JobId]:
    """Complete what a killed import has been moving from another file system; the jobs."""
    ids = list(workspace.ids())
    if not ids:
        return []
    with files.opened_directory(workspace.path) as fd:
        stamps = files.stat_many(fd, [f"{job_id}/{moving.MARKER}".encode() for job_id in ids])
    marked = [job_id for job_id, stamp in zip(ids, stamps, strict=True) if stamp != ABSENT]
    return [job_id for job_id in marked if moving.finish(os.path.join(workspace.path, job_id))]


def _schema(schema: str | SchemaFunction | None, origin: str) -> Schema | SchemaFunction | None:
    if not isinstance(schema, str):
        return schema
    return Schema(os.path.relpath(schema, origin) if os.path.isabs(schema) else schema)


def _planned(origin: str, found: Found, workspace: Workspace) -> tuple[Imported, dict[str, JobId]]:
    """The report to begin with, and path -> id of the jobs that can be imported as far as is known."""
    if not found.jobs and not found.failed:
        raise NotImportable(
            f"no directory in {origin} is a job: none has a {STATEPOINT_FILE}, or a path that says its state point; "
            f"say how paths are made: --schema 'foo/{{foo:int}}'"
        )
    failed = {path or ".": why for path, why in found.failed.items()}
    report = Imported(origin, failed=failed, left=[path or "." for path in found.left], spelled=found.spelled)
    ids = {path: statepoint_id(job.statepoint, workspace.id_function) for path, job in sorted(found.jobs.items())}
    for path, other in list(duplicates(ids)):
        report.failed.setdefault(path or ".", f"{other or '.'} is the same job, {ids[path]}")
    return report, {path: job_id for path, job_id in ids.items() if (path or ".") not in report.failed}


@contextlib.contextmanager
def _workspace(workspace: Workspace, options: ImportOptions) -> Iterator[tuple[int, Staging | None]]:
    """Give a descriptor of the workspace, negative if there is none yet, and where jobs are made, if any are to be."""
    if not options.dry_run:
        os.makedirs(workspace.path, exist_ok=True)
    try:
        fd = workspace.open_dir()
    except FileNotFoundError:
        yield -1, None
        return
    try:
        with contextlib.nullcontext() if options.dry_run or options.move else staging(fd) as stage:
            yield fd, stage
    finally:
        os.close(fd)


def _is_sound(workspace: Workspace, job_id: JobId) -> bool:
    """Whether the directory of that name is a job, so that its data may be compared."""
    try:
        return statepoint_id(workspace.read(job_id).statepoint, workspace.id_function) == job_id
    except (PendingJob, NoSuchJob):
        return False


def _there(workspace: Workspace, workspace_fd: int, ids: Mapping[str, JobId], report: Imported) -> set[JobId]:
    """The jobs that are there and can be compared; of others of such names it is told that they are in the way."""
    found = {job_id for job_id in ids.values() if exists(workspace_fd, job_id)}
    for path, job_id in ids.items():
        if job_id in found and not _is_sound(workspace, job_id):
            report.failed[path or "."] = _in_the_way(job_id)
    return found


def _in_the_way(job_id: JobId) -> str:
    return f"there is {job_id} in the workspace, which cannot be read as a job: see sigfs check"


class _Bringing:
    """One import out of a directory."""

    def __init__(
        self,
        origin: Directory,
        workspace: Workspace,
        workspace_fd: int,
        stage: Staging | None,
        options: ImportOptions,
        report: Imported,
    ) -> None:
        self._origin = origin
        self._workspace = workspace
        self._workspace_fd = workspace_fd
        self._stage = stage
        self._options = options
        self._report = report

    def bring(self, jobs: Mapping[str, Job], ids: Mapping[str, JobId]) -> None:
        for number, (path, job_id) in enumerate(ids.items()):
            if self._options.progress is not None:
                self._options.progress(number, len(ids))
            try:
                is_new = self._bring(path, jobs[path], job_id)
            except (DestinationExists, JobChanged, NoSuchJob, NotImportable) as error:
                self._report.failed[path or "."] = str(error)
            except PermissionError as error:
                self._report.failed[path or "."] = f"{error.filename or path}: {error.strerror}"
            else:
                (self._report.imported if is_new else self._report.unchanged)[path or "."] = job_id

    def _bring(self, path: str, job: Job, job_id: JobId) -> bool:
        """Import a job; whether there was something to do.

        Raises:
            DestinationExists: there is one with other data, or something else of its name.
        """
        with self._origin.opened(path) as fd:
            if exists(self._workspace_fd, job_id):
                if not _is_sound(self._workspace, job_id):
                    raise DestinationExists(_in_the_way(job_id))
                if not is_same(fd, self._workspace_fd, job_id):
                    raise taken(job_id)
                return False
            if self._options.move and path in self._origin.links:
                raise NotImportable("it is a link: --move would take the job from where it is; import without --move")
            if self._stage is not None:
                self._stage.copy(fd, job_id, job.statepoint)
            if self._stage is not None or self._options.dry_run:
                return True
            if not job.has_file:
                with contextlib.suppress(FileExistsError):
                    files.write_exclusive(fd, STATEPOINT_FILE, encode(job.statepoint))
        moving.move(self._origin.path_of(path), os.path.join(self._workspace.path, job_id))
        return True
