"""A backup of a project's metadata, made or brought up to date.

Owned here: what is read, what of it is believed, and in which order things are written. What an earlier backup has is
never given up for something worse: a state point that is not that of its job, or a document that is no mapping, does
not take the place of one that was right, and a job that is gone stays, as one that is gone.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from sigfs.backup import kept
from sigfs.backup.kept import Backup, Kept, Seen
from sigfs.backup.script import script
from sigfs.errors import BackupError, NoSuchJob, PendingJob
from sigfs.export.jobs import planned
from sigfs.export.target import check_target
from sigfs.model import files, locking, views
from sigfs.model.config import SIGNAC_2_CONFIG, WORKSPACE_CONFIG
from sigfs.model.project import PROJECT_DOCUMENT_FILE, ProjectFiles
from sigfs.model.reading import DOCUMENT_FILE, STATEPOINT_FILE, parse_document, parse_statepoint, pending
from sigfs.model.statepoint import is_job_id, statepoint_id
from sigfs.model.types import ABSENT, UNKNOWN, JobId
from sigfs.query.expr import EVERYTHING, Expr
from sigfs.tree import Tree

if TYPE_CHECKING:
    from sigfs.api.project import Project
    from sigfs.tree import Layout

SCRIPT: Final = "restore.sh"
_LOCK: Final = "lock"
_LOCK_S: Final = 60.0
"""How long another backup into the same directory is waited for."""


@dataclass(slots=True)
class Report:
    """What has been done, or with ``dry_run`` would be.

    Attributes:
        added, changed, removed: ids of jobs.
        unchanged: how many jobs are in the backup as they are.
        files: of the project's own files, those that are new or other ones.
        unreadable: id -> why of jobs that could not be read, or only in part; what the backup had of them it still has.
        pending: directories named like jobs that cannot be read as ones.
        damaged: lines of earlier backups that cannot be understood.
        written: names of the files that have been written.
    """

    target: str
    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    unchanged: int = 0
    files: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    pending: int = 0
    damaged: list[str] = field(default_factory=list)
    written: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Options:
    """What is backed up, and how.

    Attributes:
        layout, filter: of the view that the script makes. Jobs that the filter leaves out stay in the backup as they
            are there, if they are.
        incremental: read what has changed, and write that; else read and write all.
        state_dir: where the index is kept, in place of the project's ``.sigfs``.
    """

    layout: Layout = "auto"
    filter: Expr = EVERYTHING
    incremental: bool = False
    state_dir: str | None = None
    dry_run: bool = False


def back_up(project: Project, target: str, options: Options) -> Report:
    """Have the directory *target* hold the metadata of *project*.

    Raises:
        BackupError: *target* has the backup of another project, or of something newer; or another is at work in it.
        ExportError: it is in the workspace, or in a mount of sigfs.
        OSError: no space, permissions and the like; what was there is as it was.
    Complexity: reads two files of each job; incrementally two system calls a job that is as it was.
    """
    path = check_target(target, project.root, project.workspace.path)
    report = Report(target)
    plan = planned(project, Tree(options.layout, options.filter), options.state_dir, save=not options.dry_run)
    report.pending = plan.pending
    if options.dry_run:
        _update(project, path, plan.jobs, options, report)
        return report
    below = os.path.join(path, kept.DIRECTORY)
    os.makedirs(below, exist_ok=True)
    with files.opened_directory(path) as fd, files.opened_directory(below) as below_fd, _locked(below_fd, target):
        _sweep(fd)
        _sweep(below_fd)
        backup, jobs, is_full = _update(project, path, plan.jobs, options, report)
        if is_full or jobs or report.files:
            own = backup.files if is_full else {name: backup.files[name] for name in report.files}
            name = kept.write(below_fd, backup, jobs, own, full=is_full)
            report.written.append(f"{kept.DIRECTORY}/{name}")
        text = script(backup, plan.jobs)
        if _read_script(fd) != text:
            files.write_atomic(fd, SCRIPT, text, 0o777)
            report.written.append(SCRIPT)
    return report


def project_files(project: ProjectFiles, workspace: str) -> Iterator[tuple[str, bytes]]:
    """The project's own files: path from the root, and content.

    Args:
        workspace: path from the root to the workspace.
    """
    own = [SIGNAC_2_CONFIG, os.path.relpath(project.config_path, project.root)]
    own += [os.path.relpath(path, project.root) for path in views.view_files(project.root)]
    own.append(PROJECT_DOCUMENT_FILE)
    for name in dict.fromkeys([*own, f"{workspace}/{WORKSPACE_CONFIG}"]):
        with (
            contextlib.suppress(FileNotFoundError, NotADirectoryError),
            open(os.path.join(project.root, name), "rb") as file,
        ):
            yield name, file.read()


def _update(
    project: Project, path: str, view: dict[str, str], options: Options, report: Report
) -> tuple[Backup, list[Kept], bool]:
    """Read what has to be read; give what the backup says then, the jobs to be written, and whether these are all."""
    workspace = project.workspace.path
    inside = os.path.relpath(workspace, project.root)
    old = kept.read(os.path.join(path, kept.DIRECTORY))
    if old is not None and old.project != project.root and os.path.isdir(old.project):
        raise BackupError(f"{report.target} has the backup of {old.project}: choose another directory")
    backup = old or Backup("", "")
    backup.project = project.root
    backup.workspace = workspace if inside.startswith("..") else inside
    backup.id_function = project.workspace.id_function
    report.damaged = backup.damaged
    is_full = old is None or not options.incremental or bool(backup.damaged)
    changed = _read_jobs(project, backup, sorted(set(view.values())), report, anew=is_full)
    for name, data in project_files(project.files, backup.workspace):
        if backup.files.get(name) != data:
            backup.files[name] = data
            report.files.append(name)
    return backup, sorted(backup.jobs.values(), key=lambda job: job.id) if is_full else changed, is_full


def _read_jobs(project: Project, backup: Backup, ids: list[str], report: Report, *, anew: bool) -> list[Kept]:
    """Bring the jobs of the backup up to date; give those that differ from what it said."""
    workspace = os.path.realpath(project.workspace.path)
    changed = []
    unchanged = set() if anew else _unchanged(workspace, ids, backup)
    report.unchanged = len(unchanged)
    for job_id in ids:
        if job_id in unchanged:
            continue
        place = os.path.normpath(os.path.join(workspace, job_id))
        shown = f"{backup.workspace}/{job_id}" if is_job_id(job_id) else os.path.relpath(place, project.root)
        before = backup.jobs.get(job_id)
        job = Kept(job_id, shown)
        try:
            _read_job(place, job, before, backup.id_function, report)
        except (PendingJob, NoSuchJob, OSError) as error:
            report.unreadable[job_id] = str(error).removeprefix(f"{job_id}: ")
            continue
        backup.jobs[job_id] = job
        if before is not None and before.is_alike(job):
            report.unchanged += 1
            continue
        (report.added if before is None else report.changed).append(job_id)
        changed.append(job)
    standing = {*ids, *project.workspace.ids()}
    for job in backup.jobs.values():
        if not job.gone and job.id not in standing and not os.path.isdir(os.path.join(workspace, job.id)):
            job.gone = True
            report.removed.append(job.id)
            changed.append(job)
    return changed


def _unchanged(workspace: str, ids: list[str], backup: Backup) -> set[str]:
    """Those of *ids* whose files are the ones that the backup has."""
    known = [backup.jobs[job_id] for job_id in ids if job_id in backup.jobs and not backup.jobs[job_id].gone]
    with contextlib.suppress(FileNotFoundError), files.opened_directory(workspace) as fd:
        found = [
            files.stat_many(fd, [os.fsencode(f"{job.id}/{name}") for job in known])
            for name in (STATEPOINT_FILE, DOCUMENT_FILE)
        ]
        return {
            job.id
            for job, *stamps in zip(known, *found, strict=True)
            if stamps == [_stamp(job, STATEPOINT_FILE), _stamp(job, DOCUMENT_FILE)]
        }
    return set()


def _stamp(job: Kept, name: str) -> int:
    return job.files[name].stamp if name in job.files else ABSENT


def _read_job(place: str, job: Kept, before: Kept | None, function: str, report: Report) -> None:
    """Read the files of a job.

    Raises:
        PendingJob, NoSuchJob: it has no state point, or that of another.
    """
    job_id = JobId(job.id)
    try:
        fd = os.open(place, files.DIRECTORY_FLAGS)
    except (FileNotFoundError, NotADirectoryError):
        raise NoSuchJob("its directory has just gone") from None
    try:
        try:
            job.files[STATEPOINT_FILE] = _seen(fd, STATEPOINT_FILE)
        except FileNotFoundError:
            raise PendingJob(f"has no {STATEPOINT_FILE}") from None
        except OSError as error:
            raise pending(job_id, error) from error
        value = parse_statepoint(job_id, job.files[STATEPOINT_FILE].data)
        if is_job_id(job_id) and (other := statepoint_id(value, function)) != job_id:
            raise PendingJob(f"{STATEPOINT_FILE} in it is that of {other}")
        document = None
        try:
            document = _seen(fd, DOCUMENT_FILE)
            if parse_document(document.data) is None:
                report.unreadable[job_id] = f"{DOCUMENT_FILE} is no JSON mapping"
                document = document._replace(stamp=UNKNOWN)
        except FileNotFoundError:
            pass
        except OSError as error:
            report.unreadable[job_id] = f"{DOCUMENT_FILE}: {error.strerror}"
        if job_id in report.unreadable and before is not None and DOCUMENT_FILE in before.files:
            document = before.files[DOCUMENT_FILE]._replace(stamp=UNKNOWN)
        if document is not None:
            job.files[DOCUMENT_FILE] = document
    finally:
        os.close(fd)


def _seen(directory_fd: int, name: str) -> Seen:
    fd = files.open_regular(directory_fd, name)
    try:
        status = os.fstat(fd)
        return Seen(files.read_whole(fd, status.st_size, name), status.st_mtime_ns, files.stamp_of(status))
    finally:
        os.close(fd)


@contextlib.contextmanager
def _locked(fd: int, target: str) -> Iterator[None]:
    flags = os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    os.close(os.open(_LOCK, flags, 0o666, dir_fd=fd))
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locking.locked(fd, _LOCK, _LOCK_S))
        except TimeoutError:
            raise BackupError(f"another backup into {target} is at work: try again when it is done") from None
        yield


def _sweep(fd: int) -> None:
    """Remove what a backup that was killed has not finished."""
    listing_fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
    try:
        for name in os.listdir(listing_fd):
            if name.startswith(files.TEMPORARY_PREFIX):
                with contextlib.suppress(OSError):
                    os.unlink(name, dir_fd=fd)
    finally:
        os.close(listing_fd)


def _read_script(fd: int) -> bytes | None:
    with contextlib.suppress(OSError):
        return files.read_at(fd, SCRIPT)
    return None
