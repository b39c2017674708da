"""``sigfs index``: what is kept of the index between two commands. No mount is needed, and none is disturbed."""

from __future__ import annotations

import contextlib
import importlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Final

import click

from sigfs.api.project import Project, get_project
from sigfs.api.refreshing import Directories, Update, bring_up_to_date, build
from sigfs.cli.app import say
from sigfs.cli.choosing import project_option
from sigfs.cli.exits import Exit
from sigfs.cli.output import Column, print_json, print_rows
from sigfs.cli.params import DirectoryPath
from sigfs.errors import NoSuchJob, PendingJob
from sigfs.index import Index
from sigfs.index.store import Store
from sigfs.model.types import JobId, Record
from sigfs.query.expr import Space
from sigfs.query.tokens import format_key

SETTLE_S: Final = 0.5
"""How long ``verify`` gives a mount that writes the store to notice what it has not, before it looks once more."""

_SHOWN_KEYS: Final = 10
"""How many keys ``info`` names in its table; ``--json`` names all."""


@click.group(
    "index",
    epilog="""\b
Examples:
  sigfs index build --documents       read all jobs, and keep what they say
  sigfs index update                  look at what has changed since
  sigfs index info
The index can be dropped at any time: job directories are the truth.""",
)
def index_command() -> None:
    """Keep an index, so that finding and mounting need not read every job."""


_state_dir_option = click.option(
    "--state-dir",
    metavar="DIR",
    type=DirectoryPath(),
    envvar="SIGFS_STATE_DIR",
    help="Keep it there, and not in the project.",
)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_documents_option = click.option("--documents", is_flag=True, help="Read the documents, too.")
_executor_option = click.option(
    "--executor",
    metavar="WHERE",
    help="Who reads: threads:N, processes:N or dask://HOST:PORT; default: this process.",
)


@contextlib.contextmanager
def _opened(project_path: str | None, state_dir: str | None) -> Iterator[tuple[Project, Store]]:
    project = get_project(project_path)
    with Store.open(project.root, project.workspace, state_dir) as store:
        yield project, store


# build


@index_command.command(
    "build",
    epilog="""\b
Examples:
  sigfs index build
  sigfs index build --documents --executor threads:16
  sigfs index build --executor dask://scheduler:8786""",
)
@_documents_option
@_executor_option
@_json_option
@_state_dir_option
@project_option
def build_command(
    documents: bool, executor: str | None, as_json: bool, state_dir: str | None, project_path: str | None
) -> None:
    """Read all jobs, and keep what they say in place of what was kept."""
    with _opened(project_path, state_dir) as (project, store), _executor(executor) as workers:
        begun_s = time.monotonic()
        index, pending = build(project.directories, documents, workers)
        saved = _save(store, index)
        size = store.contents().snapshot_bytes if saved else None
        facts = {
            "jobs": len(index),
            "pending": len(pending),
            "documents": documents,
            "saved": saved,
            "path": store.path,
            "bytes": size,
            "seconds": round(time.monotonic() - begun_s, 3),
        }
        if as_json:
            print_json(facts)
            return
        click.echo(f"read {_count(len(index), 'job')}{' with documents' if documents else ''}")
        _say_pending(len(pending))
        if saved:
            say(f"kept in {store.path}")


# update


@index_command.command(
    "update",
    epilog="""\b
Examples:
  sigfs index update
  sigfs index update --json | jq .added""",
)
@_documents_option
@_executor_option
@_json_option
@_state_dir_option
@project_option
def update_command(
    documents: bool, executor: str | None, as_json: bool, state_dir: str | None, project_path: str | None
) -> None:
    """Look at every job's files, and read those that have changed; build the index if there is none."""
    with _opened(project_path, state_dir) as (project, store), _executor(executor) as workers:
        update = bring_up_to_date(store, project.directories, documents, workers)
        if update is None:
            say("there is no index that could be used; building one")
            index, pending = build(project.directories, documents, workers)
            update = Update(index, len(index), 0, 0, len(pending), True)
        index = update.index
        saved = _save(store, index) if update.differs else False
        facts: dict[str, object] = {name: getattr(update, name) for name in ("added", "changed", "removed", "pending")}
        if as_json:
            print_json({**facts, "jobs": len(index), "saved": saved})
            return
        click.echo(", ".join(f"{count} {name}" for name, count in facts.items() if name != "pending"))
        _say_pending(update.pending)


# verify


@index_command.command(
    "verify",
    epilog="""\b
Examples:
  sigfs index verify                  exit code 1 if there are differences
  sigfs index verify --json | jq '.[].id'""",
)
@_executor_option
@_json_option
@_state_dir_option
@project_option
def verify_command(executor: str | None, as_json: bool, state_dir: str | None, project_path: str | None) -> None:
    """Read all jobs, and list those that are not as the index says.

    A difference that is "outdated" would be noticed by the next command that uses the index, or by update: the job has
    changed since, and its files show it. One that is "wrong" would not.
    """
    with _opened(project_path, state_dir) as (project, store), _executor(executor) as workers:
        differences, jobs = _differences(store, project.directories, workers)
        if as_json:
            print_json([asdict(difference) for difference in differences])
        elif differences:
            rows = [[each.id, each.what, "outdated" if each.noticed else "wrong"] for each in differences]
            print_rows([Column("id"), Column("difference"), Column("index")], rows)
        wrong = sum(not difference.noticed for difference in differences)
        if differences:
            outdated = len(differences) - wrong
            said = [f"{wrong} wrong: sigfs index build"] * bool(wrong) + [f"{outdated} outdated"] * bool(outdated)
            say(f"{_count(len(differences), 'job')} not as the index says ({', '.join(said)})")
            click.get_current_context().exit(Exit.FAILURE)
        say(f"the index says of {_count(jobs, 'job')} what the job directories say")


@dataclass(frozen=True, slots=True)
class Difference:
    """A job of which the index says something else than its directory.

    Attributes:
        what: "not in the index", "not in the workspace", "state point", "document" or both.
        noticed: a comparison of the files' stamps would tell.
    """

    id: str
    what: str
    noticed: bool


def _differences(store: Store, directories: Directories, workers: Executor | None) -> tuple[list[Difference], int]:
    index = store.load()
    if index is None:
        raise click.ClickException(f"there is no index to verify{_because(store)}: make one with sigfs index build")
    documents = index.documents
    built, _ = build(directories, documents, workers)
    said, says = _texts(index, documents), _texts(built, documents)
    suspects = {job_id for job_id in said.keys() | says.keys() if said.get(job_id) != says.get(job_id)}
    if not suspects:
        return [], len(built)
    # Jobs may have changed since the index was read, or since they were: look at both once more.
    if store.holder():
        time.sleep(SETTLE_S)
    index = store.load() or index
    now = {job_id: _text(_read(directories, job_id, documents), documents) for job_id in suspects}
    with index.reading() as table:
        kept = {job_id: table.record(job_id) if job_id in table else None for job_id in suspects}
        known = table.stamped()
    suspects = {job_id for job_id in suspects if _text(kept[job_id], documents) != now[job_id]}
    findings = directories.revalidate(known, documents=documents)
    noticed = {change.id for change in findings.changes} | set(findings.pending)
    differences = []
    for job_id in sorted(suspects):
        ours, theirs = _text(kept[job_id], documents), now[job_id]
        if theirs is None:
            what = "not in the workspace"
        elif ours is None:
            what = "not in the index"
        else:
            what = ", ".join(name for name in theirs if ours[name] != theirs[name])
        differences.append(Difference(directories.places.id_of(job_id), what, job_id in noticed))
    return differences, len(built)


def _texts(index: Index, documents: bool) -> dict[JobId, Mapping[str, str] | None]:
    with index.reading() as table:
        return {record.id: _text(record, documents) for record in table.records()}


def _text(record: Record | None, documents: bool) -> Mapping[str, str] | None:
    if record is None:
        return None
    text = {"state point": Record(record.id, record.statepoint).text()}
    return {**text, "document": Record(record.id, None, record.document).text()} if documents else text


def _read(directories: Directories, job_id: JobId, documents: bool) -> Record | None:
    try:
        return directories.read(job_id, documents)
    except (NoSuchJob, PendingJob):
        return None


# info


@index_command.command(
    "info",
    epilog="""\b
Examples:
  sigfs index info
  sigfs index info --json | jq .keys""",
)
@_json_option
@_state_dir_option
@project_option
def info_command(as_json: bool, state_dir: str | None, project_path: str | None) -> None:
    """Say where the index is kept, what it takes, and what is in it; exit code 1 if there is none."""
    with _opened(project_path, state_dir) as (_, store):
        facts = _facts(store)
        if as_json:
            print_json(facts)
        else:
            _print_facts(facts)
        if facts["jobs"] is None:
            say(f"there is no index{_because(store)}: make one with sigfs index build")
            click.get_current_context().exit(Exit.FAILURE)


def _facts(store: Store) -> dict[str, object]:
    index = store.load()
    unused = store.reason
    contents = store.contents()
    writable = store.writable
    size = contents.snapshot_bytes + contents.journal_bytes
    facts: dict[str, object] = {
        "path": contents.path or store.path,
        "writable": writable,
        "reason": unused or store.reason,
        "holder": contents.holder,
        "bytes": size,
        "snapshot_bytes": contents.snapshot_bytes,
        "journal_bytes": contents.journal_bytes,
        "journal_records": contents.journal_records,
        "age_s": None if contents.saved_s is None else round(max(0.0, time.time() - contents.saved_s), 3),
        "jobs": None,
        "bytes_per_job": None,
        "documents": None,
        "generation": None,
        "keys": {},
    }
    if index is not None:
        with index.reading() as table:
            fields = [field for space in (Space.SP, Space.DOC) for field in table.fields(space)]
            counts = {format_key(field): table.count_values(field, table.jobs) for field in fields}
        facts |= {
            "jobs": len(index),
            "bytes_per_job": round(size / len(index), 1) if len(index) else None,
            "documents": index.documents,
            "generation": index.generation,
            "keys": dict(sorted(counts.items(), key=lambda item: (item[1], item[0]))),
        }
    return facts


def _print_facts(facts: Mapping[str, object]) -> None:
    keys = facts["keys"]
    assert isinstance(keys, dict)
    shown = [f"{key} ({count})" for key, count in list(keys.items())[:_SHOWN_KEYS]]
    more = [f"and {len(keys) - _SHOWN_KEYS} more"] if len(keys) > _SHOWN_KEYS else []
    texts: dict[str, object] = {**facts, "keys": ", ".join(shown + more)}
    for name in ("snapshot_bytes", "reason", "holder"):
        if not facts[name]:
            texts.pop(name)
    rows = [[name.replace("_", " "), _cell(value)] for name, value in texts.items() if value is not None]
    print_rows([Column("what"), Column("value")], rows)


def _cell(value: object) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


# drop


@index_command.command(
    "drop",
    epilog="""\b
Examples:
  sigfs index drop --dry-run
  sigfs index drop""",
)
@click.option("--dry-run", is_flag=True, help="Remove nothing, only print what would be.")
@_state_dir_option
@project_option
def drop_command(dry_run: bool, state_dir: str | None, project_path: str | None) -> None:
    """Remove the index, and nothing else. A mount that writes it must be taken away first."""
    with _opened(project_path, state_dir) as (_, store):
        try:
            removed = store.drop(dry_run)
        except BlockingIOError as error:
            say(f"{store.path} is in use by {error.strerror}; unmount first")
            click.get_current_context().exit(Exit.BUSY)
        if dry_run and (holder := store.holder()):
            say(f"{store.path} is in use by {holder}: it cannot be dropped now")
        for path in removed:
            click.echo(os.fsencode(path))
        if not removed:
            say("there is no index")


# What the commands share


def _save(store: Store, index: Index) -> bool:
    """Keep *index*, or say why not."""
    try:
        saved = store.save(index)
    except OSError as error:
        say(f"the index cannot be saved in {store.path}: {error.strerror or error}")
        return False
    if not saved:
        say(f"nothing is kept: {store.reason}")
    return saved


def _because(store: Store) -> str:
    return f" ({store.reason})" if store.reason else ""


def _say_pending(pending: int) -> None:
    if pending:
        say(f"{_count(pending, 'directory', 'directories')} named like jobs cannot be read as ones")


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or f'{one}s'}"


@contextlib.contextmanager
def _executor(where: str | None) -> Iterator[Executor | None]:
    """Make the executor that an option names.

    Raises:
        click.BadParameter: there is no such, or it cannot be reached.
    """
    if where is None:
        yield None
        return
    kind, _, rest = where.partition(":")
    kinds: dict[str, Callable[[int], Executor]] = {"threads": ThreadPoolExecutor, "processes": ProcessPoolExecutor}
    if kind in kinds and rest.isdigit() and 0 < int(rest) <= 1024:
        with kinds[kind](int(rest)) as pool:
            yield pool
    elif kind == "dask" and rest.startswith("//"):
        try:
            client = importlib.import_module("distributed").Client(f"tcp:{rest}")
        except ImportError:
            raise _bad_executor("dask needs the package distributed") from None
        except OSError as error:  # TimeoutError, too
            raise _bad_executor(f"{where} cannot be reached: {error}") from None
        with client, client.get_executor() as pool:
            yield pool
    else:
        raise _bad_executor(f"{where!r} is none of threads:N, processes:N, dask://HOST:PORT")


def _bad_executor(message: str) -> click.BadParameter:
    return click.BadParameter(message, param_hint="--executor")
