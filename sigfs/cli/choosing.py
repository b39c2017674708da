"""Which jobs are meant: by a query, by ids or their beginnings, or by the path of a job's directory.

Owned here: the arguments and options that say so, how they complete, and that nothing is taken for all jobs that may
have been a slip.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final

import click
from click.shell_completion import CompletionItem

from sigfs.api.job import Job
from sigfs.api.project import Project, get_project
from sigfs.cli.app import say, unknown_jobs
from sigfs.cli.paths import DirectoryName
from sigfs.errors import NoSuchJob, SigfsError
from sigfs.model.reading import STATEPOINT_FILE
from sigfs.model.statepoint import ID_LENGTH, is_job_id
from sigfs.model.types import Record
from sigfs.query import EVERYTHING, Expr, format_text, parse_text, parse_tokens
from sigfs.query.evaluate import fields
from sigfs.query.expr import Exists, Field, Space
from sigfs.query.tokens import format_key, format_value, parse_key
from sigfs.query.values import flatten, order_key

project_option = click.option(
    "-p",
    "--project",
    "project_path",
    metavar="DIR",
    type=DirectoryName(),
    help="The project; default: found upward from the working directory.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
dry_run_option = click.option("--dry-run", is_flag=True, help="Change nothing, only print what would be done.")
all_option = click.option("--all", "everything", is_flag=True, help="All jobs of the project.")

_NEGATIVE = re.compile(r"-(?:\.?\d|Infinity$)")
_MARK = "\0"  # cannot be in an argument

_ABBREVIATED = re.compile(f"[0-9a-f]{{1,{ID_LENGTH}}}")
_BARE = re.compile(r"[\w.,:@%+/-]+", re.ASCII)
"""What any shell takes as it stands, also in the middle of a command."""

_COMPLETED_JOBS: Final = 200
"""How many jobs the completion of keys and values looks at."""

_COMPLETED_IDS: Final = 64
"""How many ids are offered one by one; of more, only their next digits."""


def query_of(words: Sequence[str]) -> Expr:
    """Read a query from the command line: one word is text, several are its tokens."""
    tokens = [word.removeprefix(_MARK) for word in words]
    return parse_text(tokens[0]) if len(tokens) == 1 else parse_tokens(tokens)


class QueryCommand(click.Command):
    """A command whose arguments may be negative numbers; other words with a dash still must be options."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Hide the numbers from the parser; ``query_of`` and ``unmarked`` show them again."""
        end = args.index("--") if "--" in args else len(args)
        marked = [_MARK + word if _NEGATIVE.match(word) else word for word in args[:end]]
        return super().parse_args(ctx, marked + args[end:])


def unmarked(words: Iterable[str]) -> list[str]:
    """The arguments of a `QueryCommand` as they were given."""
    return [word.removeprefix(_MARK) for word in words]


# One job


def job_of(project: Project, word: str) -> Job:
    """The job with an id or the only one whose id begins so; or, of a path with a slash or ``.``, the job there.

    Raises:
        NoSuchJob, AmbiguousId: there is none, or there are several.
    """
    if not word:
        raise click.UsageError("an empty id names no job", click.get_current_context())
    if word in (".", "..") or word.startswith(("/", "./")):
        return _job_at(word)
    try:
        return project[word]
    except NoSuchJob:
        if "/" in word and os.path.isdir(word):
            return _job_at(word)
        raise


def _job_at(path: str) -> Job:
    if not os.path.isdir(path):
        raise NoSuchJob(f"no job {path}: there is no such directory")
    job = Job(path)
    if not os.path.lexists(job.fn(STATEPOINT_FILE)):
        raise NoSuchJob(f"{path} is no job: there is no {STATEPOINT_FILE} in it")
    return job


# Many jobs


def jobs_of(project: Project, words: Sequence[str], everything: bool = False) -> Sequence[Job]:
    """The jobs that the words mean: an id, several ids, or a query. At least one.

    Words that can be read as ids as well as a query, ``a 1``, are ids if there are such jobs, and refused if the query
    holds for some, too.

    Raises:
        click.UsageError: nothing is said, or what might be anything.
        NoSuchJob, AmbiguousId: no job is meant, or by an abbreviated id several.
        QuerySyntaxError: it cannot be understood.
    """
    context = click.get_current_context()
    words = unmarked(words)
    if everything:
        if words:
            raise click.UsageError("--all and a query, or an id, exclude each other", context)
        found = project.find()
        _say_troubles(project, found)
        return found
    if not words:
        raise click.UsageError("say which jobs: an id, a query, or --all", context)
    if len(words) == 1 and _is_path(words[0]):
        return [job_of(project, words[0])]
    if all(_ABBREVIATED.fullmatch(word) or "/" in word for word in words):
        if len(words) == 1 or all(is_job_id(word) for word in words):
            return _distinct(job_of(project, word) for word in words)
        return _ids_or_query(project, words)
    return _selected(project, query_of(words))


def _is_path(word: str) -> bool:
    return word in (".", "..") or word.startswith(("/", "./", "../"))


def _distinct(jobs: Iterable[Job]) -> list[Job]:
    return list(dict.fromkeys(jobs))


def _ids_or_query(project: Project, words: Sequence[str]) -> Sequence[Job]:
    try:
        jobs = _distinct(job_of(project, word) for word in words)
    except LookupError as error:
        try:
            return _selected(project, query_of(words))
        except NoSuchJob as other:
            raise NoSuchJob(f"{other}; and if these are ids: {error}") from None
    try:
        _selected(project, query_of(words))
    except SigfsError:
        return jobs
    text = " ".join(words)
    raise click.UsageError(
        f"{text!r} may be {len(jobs)} ids or a query: write whole ids, or the key with its prefix, as sp.{text}",
        click.get_current_context(),
    )


def _selected(project: Project, query: Expr) -> Sequence[Job]:
    if query in (EVERYTHING, Exists(Field(Space.ID, ""))):
        what = "an empty query" if query == EVERYTHING else "the query id"
        raise click.UsageError(f"{what} would be all jobs: if that is meant, say --all", click.get_current_context())
    found = project.find(query)
    _say_troubles(project, found)
    if found:
        return found
    unknown = [format_key(field) for field in fields(query) if field.space is not Space.ID and not _has(project, field)]
    why = f": no job has the key {', '.join(sorted(unknown))}" if unknown else ""
    raise NoSuchJob(f"no job of {project.root} is found by {format_text(query)!r}{why}")


def _say_troubles(project: Project, found: Sequence[Job]) -> None:
    """Say where there may be more jobs than were *found*."""
    len(found)  # which is when they are looked for
    if text := unknown_jobs(project.directories.places.troubles):
        say(text)


def _has(project: Project, field: Field) -> bool:
    return bool(project.find(Exists(field)))


# Completion


def _some_records(context: click.Context) -> list[Record]:
    """What the first jobs say; nothing if there are none to be read."""
    try:
        changes = get_project(context.params.get("project_path")).workspace.scan()
        return [change.record for change in islice(changes, _COMPLETED_JOBS) if change.record]
    except (SigfsError, OSError):
        return []


def complete_keys(context: click.Context, incomplete: str, suffix: str = "") -> list[CompletionItem]:
    """Name keys of state points."""
    keys = {Field(Space.SP, key) for record in _some_records(context) for key, _ in flatten(record.statepoint)}
    return [CompletionItem(key + suffix) for key in sorted(map(format_key, keys)) if key.startswith(incomplete)]


def complete_values(context: click.Context, key: str, incomplete: str, prefix: str = "") -> list[CompletionItem]:
    """Name values that a key of the state point has, as far as a shell takes them without quotes."""
    try:
        field, _ = parse_key(key)
    except SigfsError:
        return []
    if field.space is not Space.SP:
        return []
    leaves = (dict(flatten(record.statepoint)) for record in _some_records(context))
    values = [leaf[field.key] for leaf in leaves if field.key in leaf]
    texts = dict.fromkeys(format_value(value) for value in sorted(values, key=order_key))
    return [CompletionItem(prefix + text) for text in texts if _BARE.fullmatch(text) and text.startswith(incomplete)]


def complete_ids(context: click.Context, incomplete: str) -> list[CompletionItem]:
    """Name ids that begin so, with a slash of jobs outside of the workspace; of too many, what they begin with.

    Complexity: one listing of the workspace, or of what is indexed.
    """
    if not (_ABBREVIATED.fullmatch(incomplete or "0") or "/" in incomplete):
        return []
    try:
        project = get_project(context.params.get("project_path"))
        every: Iterable[str] = project.workspace.ids()
        if "/" in incomplete:
            places = project.directories.places
            every = map(places.id_of, places.listing().jobs) if places else ()
        ids = {job_id for job_id in every if job_id.startswith(incomplete)}
    except (SigfsError, OSError):
        return []
    if len(ids) > _COMPLETED_IDS:
        first, last = min(ids), max(ids)
        end = 1 + next((at for at in range(len(first)) if first[at] != last[at]), len(first))
        ids = {job_id[:end] for job_id in ids}
    return [CompletionItem(text) for text in sorted(ids)]


class QueryWord(click.types.StringParamType):
    """A word of a query, which completes as a key where a key is due, and else as a value of the key."""

    name = "query"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Name keys, or values, of the first jobs."""
        words: Sequence[str] = ctx.params.get(param.name or "") or ()
        if len(words) % 2:
            return complete_values(ctx, words[-1], incomplete)
        return complete_keys(ctx, incomplete)


class JobWord(click.types.StringParamType):
    """The id of a job."""

    name = "id"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002
        """Name ids; where a path begins, directories."""
        items = complete_ids(ctx, incomplete)
        return items or ([CompletionItem(incomplete, type="dir")] if incomplete.startswith((".", "/")) else [])


class JobsWord(QueryWord):
    """The id of a job, or a word of a query."""

    name = "jobs"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Name keys and ids."""
        items = super().shell_complete(ctx, param, incomplete)
        words: Sequence[str] = ctx.params.get(param.name or "") or ()
        if not words or is_job_id(words[-1]):
            items += JobWord().shell_complete(ctx, param, incomplete)
        return items


job_argument = click.argument("job_id", metavar="ID", type=JobWord())
jobs_argument = click.argument("words", metavar="ID... | QUERY", nargs=-1, type=JobsWord())
