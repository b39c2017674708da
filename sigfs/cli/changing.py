"""``sigfs mv``, ``migrate`` and ``rm``: jobs elsewhere, with another state point, or gone."""

from __future__ import annotations

import contextlib
import copy
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import click
from click.shell_completion import CompletionItem

from sigfs.api.cursor import Jobs, records_of
from sigfs.api.job import Job
from sigfs.api.progress import progress_bar
from sigfs.api.project import Project, get_project
from sigfs.cli.app import say
from sigfs.cli.assignments import assignment_of, keys_of
from sigfs.cli.choosing import (
    JobsWord,
    QueryCommand,
    all_option,
    complete_keys,
    complete_values,
    dry_run_option,
    job_argument,
    job_of,
    jobs_argument,
    jobs_of,
    json_option,
    project_option,
    unmarked,
)
from sigfs.cli.documents import plain_statepoint
from sigfs.cli.output import Column, print_json, print_rows
from sigfs.cli.paths import DirectoryName
from sigfs.errors import DestinationExists, InvalidStatePoint, JobNotEmpty, NoSuchJob, PendingJob, SigfsError
from sigfs.model.changing import is_metadata
from sigfs.model.reading import DOCUMENT_FILE, STATEPOINT_FILE
from sigfs.model.statepoint import encode, validate
from sigfs.model.types import JobId, Json, StatePoint

_SHOWN: Final = 5

# mv


@click.command(
    "mv",
    epilog="""\b
Examples:
  sigfs mv 0300 data/reference        its directory gets this path
  sigfs mv 0300 data/                 into a directory, by the name that it has
  sigfs mv ../data/reference 0300c31b9d55c0196b3848d252e46c0f --id
A job outside of the workspace belongs to the project if the directory it is in is indexed: see sigfs freeze.""",
)
@job_argument
@click.argument("destination", metavar="[DEST]", type=click.Path(), required=False)
@click.option("--to", "other", metavar="PROJECT", type=DirectoryName(), help="Into the workspace of another project.")
@dry_run_option
@json_option
@project_option
@click.pass_context
def mv_command(
    context: click.Context,
    job_id: str,
    destination: str | None,
    other: str | None,
    dry_run: bool,
    as_json: bool,
    project_path: str | None,
) -> None:
    """Move the directory of a job. What is there already is never replaced.

    On another file system it is copied, compared, and then removed here; if that is interrupted, the same command goes
    on with it.
    """
    if bool(destination) == bool(other):
        raise click.UsageError("say where to: a path, or --to a project", context)
    project = get_project(project_path)
    job = job_of(project, job_id)
    before = os.fspath(job)
    if other:
        workspace = get_project(other).workspace
        path = os.path.join(workspace.path, workspace.statepoint_id(plain_statepoint(job)))
    else:
        path = os.path.abspath(destination or "")
        if os.path.isdir(path) or (destination or "").endswith("/"):
            path = os.path.join(path, os.path.basename(before))
    if os.path.lexists(path):
        raise DestinationExists(f"{path}: there is something already, and nothing is replaced")
    if not dry_run:
        try:
            job.path = path
        except ValueError as error:
            if isinstance(error, SigfsError):
                raise
            raise click.ClickException(str(error)) from None
    if as_json:
        print_json({"from": before, "path": path})
    else:
        click.echo(os.fsencode(path))
    if not (other or dry_run) and not _is_known(project, path):
        say(f"find does not find it there, as {os.path.dirname(path)} is not indexed; its path leads to it")


def _is_known(project: Project, path: str) -> bool:
    """Whether a job at *path* is one of the project's."""
    job_id = os.path.relpath(path, project.workspace.path)
    return "/" not in job_id or bool(project.directories.places.named(job_id))


# migrate


class ChangeWord(JobsWord):
    """A word that says which jobs, or what is to change."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Name ids, keys, values, and keys that a value is to be assigned to."""
        key, equals, value = incomplete.partition("=")
        if equals:
            return complete_values(ctx, key, value, prefix=f"{key}=")
        words: Sequence[str] = ctx.params.get(param.name or "") or ()
        items = [] if any(map(_is_change, words)) else super().shell_complete(ctx, param, incomplete)
        return items + (complete_keys(ctx, incomplete, suffix="=") if words else [])


@dataclass(frozen=True, slots=True)
class _Migration:
    job: Job
    job_id: str
    new_id: str
    before: StatePoint | None
    statepoint: dict[str, Json]


@click.command(
    "migrate",
    cls=QueryCommand,
    epilog="""\b
Examples:
  sigfs migrate 0300 foo=43           the job gets another state point, and its id
  sigfs migrate foo 42 bar=true --dry-run
  sigfs migrate foo 42 bar=true       all jobs that the query holds for
  sigfs migrate --all unit=kelvin     a new key for all jobs
  sigfs migrate --all --rename T=temperature
  sigfs migrate --all --delete debug
Assignments begin at the first word that has a = after its key: foo=42 is never part of the query. Values are what a
query says: 42, 1e-1, true, null, [1, 2], "42" in quotes, anything else is text.""",
)
@click.argument("words", metavar="[ID... | QUERY] KEY=VALUE...", nargs=-1, type=ChangeWord())
@all_option
@click.option("--delete", "deleted", metavar="KEY", multiple=True, help="Take a key out; again for several.")
@click.option("--rename", "renamed", metavar="OLD=NEW", multiple=True, help="Give a key another name.")
@dry_run_option
@json_option
@project_option
def migrate_command(
    words: tuple[str, ...],
    everything: bool,
    deleted: tuple[str, ...],
    renamed: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
    project_path: str | None,
) -> None:
    """Change the state points of jobs, and with them their ids.

    Prints the old and the new ids. If any two jobs would get the same state point, or one that a job has already,
    nothing is changed. Each job is changed at once; if the command is interrupted, it prints the ids of those that are
    done, and the same command does the rest.
    """
    plain = unmarked(words)
    at = next((number for number, word in enumerate(plain) if _is_change(word)), len(plain))
    changes = [assignment_of(word) for word in plain[at:]]
    names = [_renaming(text) for text in renamed]
    gone = [keys_of(key, f"--delete sp.{key}") for key in deleted]
    if not (changes or names or gone):
        raise click.UsageError("say what is to change: KEY=VALUE", click.get_current_context())
    project = get_project(project_path)
    jobs = jobs_of(project, words[:at], everything)

    def changed(statepoint: dict[str, Json]) -> dict[str, Json]:
        for keys in gone:
            _take(statepoint, keys)
        for old, new in names:
            for value in _take(statepoint, old):
                if _has(statepoint, new):
                    raise InvalidStatePoint(f"there is a key {'.'.join(new)} already")
                _set(statepoint, new, value)
        for keys, value in changes:
            _set(statepoint, keys, value)
        return validate(statepoint)

    migrations = _planned(jobs, changed)
    done = list(migrations) if dry_run else []
    try:
        if not dry_run:
            _migrate(migrations, done)
    finally:
        if as_json:
            print_json([{"id": each.job_id, "new_id": each.new_id, "sp": each.statepoint} for each in done])
        elif done:
            print_rows([Column("id"), Column("new id")], [[each.job_id, each.new_id] for each in done])
    if not migrations:
        say("nothing to change: the state points are so already" if jobs else "nothing to change: there are no jobs")


def _is_change(word: str) -> bool:
    key, equals, _ = word.partition("=")
    return bool(equals) and bool(key) and not any(map(str.isspace, key)) and not key.startswith(("{", "/", "./", "../"))


def _renaming(text: str) -> tuple[list[str], list[str]]:
    old, equals, new = text.partition("=")
    if not (equals and old and new):
        raise click.UsageError(f"--rename is given OLD=NEW, two keys, not {text!r}", click.get_current_context())
    return keys_of(old, f"--rename sp.{old}=..."), keys_of(new, f"--rename ...=sp.{new}")


def _take(mapping: dict[str, Json], keys: Sequence[str]) -> list[Json]:
    """Take a value out, and the mappings that are empty then; give it, in a list that is empty if there was none."""
    key, *below = keys
    if key not in mapping:
        return []
    inner = mapping[key]
    if not below:
        return [mapping.pop(key)]
    if not isinstance(inner, dict):
        return []
    taken = _take(inner, below)
    if taken and not inner:
        del mapping[key]
    return taken


def _set(mapping: dict[str, Json], keys: Sequence[str], value: Json) -> None:
    for number, key in enumerate(keys[:-1], start=1):
        inner = mapping.setdefault(key, {})
        if not isinstance(inner, dict):
            above = ".".join(keys[:number])
            raise InvalidStatePoint(f"{'.'.join(keys)} cannot be set: {above} is a value: --delete {above}")
        mapping = inner
    if mapping.get(keys[-1]) and isinstance(mapping[keys[-1]], dict) and not isinstance(value, dict):
        whole = ".".join(keys)
        raise InvalidStatePoint(f"{whole} cannot be set: it is a mapping, with keys of its own: --delete {whole}")
    mapping[keys[-1]] = value


def _has(mapping: Json, keys: Sequence[str]) -> bool:
    for key in keys:
        if not isinstance(mapping, dict) or key not in mapping:
            return False
        mapping = mapping[key]
    return True


def _planned(jobs: Sequence[Job], changed: Callable[[dict[str, Json]], dict[str, Json]]) -> list[_Migration]:
    """Compute all new state points and ids.

    Raises:
        InvalidStatePoint: one of them is none.
        DestinationExists: two jobs would be the same.
    """
    planned = []
    users: dict[str, list[str]] = {}
    with progress_bar("reading jobs") as progress:
        for number, (job, before) in enumerate(_with_statepoints(jobs), start=1):
            try:
                after = changed(copy.deepcopy(dict(before or {})))
            except InvalidStatePoint as error:
                raise InvalidStatePoint(f"{job.id}: {error}; nothing has been changed") from None
            if before is None or encode(before) != encode(after):
                new_id = job.workspace.statepoint_id(after) if job.is_managed and job.workspace else job.id
                planned.append(_Migration(job, job.id, new_id, before, after))
                if job.is_managed:
                    users.setdefault(os.path.join(os.path.dirname(os.fspath(job)), new_id), []).append(job.id)
            progress(number, len(jobs))
    taken = []
    for path, ids in users.items():
        if len(ids) > 1:
            taken.append(f"{', '.join(ids[:_SHOWN])}{', ...' if len(ids) > _SHOWN else ''} would all be {path}")
        elif os.path.lexists(path):
            taken.append(f"{ids[0]} would be {os.path.basename(path)}, which is there already")
    if taken:
        more = f"; and {len(taken) - _SHOWN} more" if len(taken) > _SHOWN else ""
        raise DestinationExists(f"nothing has been changed: {'; '.join(taken[:_SHOWN])}{more}")
    return planned


def _with_statepoints(jobs: Sequence[Job]) -> Iterator[tuple[Job, StatePoint | None]]:
    """The jobs with their state points; those that were found are not read again."""
    if isinstance(jobs, Jobs):
        source = jobs.source
        for key, record in records_of(source, jobs.found(), documents=False):
            yield source.job_at(key), record.statepoint
    else:
        for job in jobs:
            yield job, plain_statepoint(job)


def _migrate(migrations: Sequence[_Migration], done: list[_Migration]) -> None:
    """Make all changes, in their order; *done* gets each that is made.

    Raises:
        JobChanged: somebody else has changed one of the jobs since they were read.
    """
    try:
        with progress_bar("changing state points") as progress:
            for each in migrations:
                with _about(each.job, "cannot be changed"):
                    each.job.replace_statepoint(each.before, each.statepoint)
                done.append(each)
                progress(len(done), len(migrations))
    except BaseException:
        if len(migrations) > 1:
            say(f"{len(done)} of {len(migrations)} jobs have been changed; the same command goes on with the others")
        raise


# rm


@dataclass(frozen=True, slots=True)
class _Removal:
    """A job that is to be removed: how many files it has beside those that describe it, and how many bytes."""

    job: Job
    id: str
    files: int
    size_bytes: int


@click.command(
    "rm",
    cls=QueryCommand,
    epilog="""\b
Examples:
  sigfs rm 0300                       a job without data; asks first
  sigfs rm 0300 --recursive           with all that is in its directory
  sigfs rm foo 42 doc.failed true -r --dry-run
  sigfs find foo 42 | xargs sigfs rm --yes
  sigfs rm --all -r""",
)
@jobs_argument
@all_option
@click.option("-r", "--recursive", is_flag=True, help="Also jobs that have files, or a document.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@dry_run_option
@json_option
@project_option
def rm_command(
    words: tuple[str, ...],
    everything: bool,
    recursive: bool,
    yes: bool,
    dry_run: bool,
    as_json: bool,
    project_path: str | None,
) -> None:
    """Remove jobs. What is removed is gone; links in a job are removed and not followed.

    Asks first on a terminal; where nobody can be asked, --yes must be given. Jobs that have files beside their state
    point are removed only with --recursive: if there is one among several, none is.
    """
    project = get_project(project_path)
    removals = _removals(jobs_of(project, words, everything))
    with_data = [each for each in removals if each.files]
    if with_data and not recursive and not dry_run:
        shown = ", ".join(each.id for each in with_data[:_SHOWN]) + (", ..." if len(with_data) > _SHOWN else "")
        raise JobNotEmpty(
            f"nothing is removed: {_count(len(with_data), 'job has', 'jobs have')} data: {shown}; "
            "see it with --dry-run, remove it with --recursive"
        )
    if not dry_run and not yes:
        _ask(removals)
    if not dry_run:
        _remove(removals, recursive)
    if as_json:
        print_json([{"id": each.id, "files": each.files, "bytes": each.size_bytes} for each in removals])
    elif dry_run:
        rows = [[each.id, str(each.files), str(each.size_bytes)] for each in removals]
        print_rows([Column("id"), Column("files"), Column("bytes")], rows)


def _removals(jobs: Sequence[Job]) -> list[_Removal]:
    found = []
    with progress_bar("looking at jobs") as progress:
        for number, job in enumerate(jobs, start=1):
            count, size = _data_of(os.fspath(job))
            found.append(_Removal(job, job.id, count + _is_damaged(job), size))
            progress(number, len(jobs))
    return found


def _is_damaged(job: Job) -> bool:
    """Whether the job has a state point file that cannot be read: it may be the last trace of what the job was."""
    try:
        return not job.statepoint_id
    except (NoSuchJob, PendingJob, InvalidStatePoint):
        return os.path.lexists(job.fn(STATEPOINT_FILE))


def _data_of(path: str) -> tuple[int, int]:
    """How many files and other things are in a job's directory that do not just say what it is, and their bytes."""
    count = size = 0
    for above, directories, names in os.walk(path):
        links = [name for name in directories if os.path.islink(os.path.join(above, name))]
        for name in [*names, *links]:
            if above == path and name != DOCUMENT_FILE and is_metadata(name):
                continue
            try:
                status = os.lstat(os.path.join(above, name))
            except FileNotFoundError:
                continue
            if above == path and name == DOCUMENT_FILE and status.st_size <= len("{}\n"):
                continue
            count, size = count + 1, size + status.st_size
        if above != path and not directories and not names:
            count += 1
    return count, size


def _ask(removals: Sequence[_Removal]) -> None:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise click.UsageError("there is nobody to be asked here: give --yes", click.get_current_context())
    what = f"job {removals[0].id}" if len(removals) == 1 else f"{len(removals)} jobs"
    count, size = sum(each.files for each in removals), sum(each.size_bytes for each in removals)
    data = f" with {_count(count, 'file', 'files')}, {size:,} bytes" if count else ""
    click.confirm(f"remove {what}{data}?", abort=True, err=True)


def _remove(removals: Sequence[_Removal], recursive: bool) -> None:
    done = 0
    try:
        with progress_bar("removing jobs") as progress:
            for each in removals:
                with _about(each.job, "cannot be removed"):
                    _remove_one(each.job, recursive)
                done += 1
                progress(done, len(removals))
    except BaseException:
        if len(removals) > 1:
            say(f"{done} of {len(removals)} jobs have been removed")
        raise


def _remove_one(job: Job, recursive: bool) -> None:
    with contextlib.suppress(NoSuchJob):  # somebody else has done it
        if not recursive and job.workspace is not None and job.is_managed:
            job.workspace.remove(JobId(job.id))  # which looks again whether there are data
        else:
            job.remove()


@contextlib.contextmanager
def _about(job: Job, what: str) -> Iterator[None]:
    """Have errors of the system name the job, and not a file on the way."""
    path = os.fspath(job)
    try:
        yield
    except OSError as error:
        if isinstance(error, SigfsError):
            raise
        raise OSError(error.errno, f"{what}: {error.strerror or error}", path) from error


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
