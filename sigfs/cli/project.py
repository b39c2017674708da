"""``sigfs init``, ``job`` and ``find``: what needs a project and no mount."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from typing import TypeAlias

import click

from sigfs.api.project import Project, get_project, init_project
from sigfs.cli.app import say, unknown_jobs, unreadable_jobs
from sigfs.cli.assignments import statepoint_of
from sigfs.cli.choosing import QueryCommand, QueryWord, project_option, query_of
from sigfs.cli.output import Column, print_json, print_rows
from sigfs.cli.paths import DirectoryName
from sigfs.errors import SidecarError
from sigfs.model.statepoint import statepoint_id, validate
from sigfs.model.types import Json, Record
from sigfs.query import Expr, needs_documents
from sigfs.query.evaluate import fields
from sigfs.query.expr import Exists, Field, Space
from sigfs.query.tokens import format_key, format_value, parse_key
from sigfs.query.values import flatten

# init


@click.command(
    "init",
    epilog="""\b
Examples:
  sigfs init                          make the working directory a project
  sigfs init data --name "Phase diagram"
The project can be opened by signac 2 as well.""",
)
@click.argument("directory", metavar="[DIR]", default=".", type=DirectoryName())
@click.option("--name", help="A name for the project, kept in its document.")
def init_command(directory: str, name: str | None) -> None:
    """Make a directory a project."""
    project = init_project(directory, name, exist_ok=False)
    with contextlib.suppress(OSError, SidecarError):  # nobody needs it now
        project.sidecar.begin()
    click.echo(f"made the project {project.root}")
    say("make a job with: sigfs job foo=42   and show the jobs with: sigfs mount MNT")


# job


@click.command(
    "job",
    epilog="""\b
Examples:
  sigfs job foo=42 bar=true           {"foo": 42, "bar": true}
  sigfs job a.b=1 name='"42"'         {"a": {"b": 1}, "name": "42"}
  sigfs job '{"foo": 42, "x.y": [1, 2]}'
  generate | sigfs job -              one JSON mapping on standard input
  cp result.txt $(sigfs job foo=42 --path)/
A value is what a query says: 42, 0.1, true, null, [1, 2], "text" in quotes, anything else is text.""",
)
@click.argument("words", metavar="KEY=VALUE... | JSON | -", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="Print id, path and state point as JSON.")
@click.option("--path", "as_path", is_flag=True, help="Print the job's directory instead of its id.")
@click.option("--dry-run", is_flag=True, help="Make nothing, only print what the id would be.")
@project_option
def job_command(words: tuple[str, ...], as_json: bool, as_path: bool, dry_run: bool, project_path: str | None) -> None:
    """Make the job with a state point, if it is not there, and print its id."""
    project = get_project(project_path)
    statepoint = validate(statepoint_of(words))
    workspace = project.workspace
    job_id = statepoint_id(statepoint, workspace.id_function) if dry_run else workspace.create(statepoint)
    path = os.path.join(workspace.path, job_id)
    if as_json:
        print_json({"id": job_id, "path": path, "sp": statepoint})
    else:
        click.echo(os.fsencode(path) if as_path else job_id)


# find


@click.command(
    "find",
    cls=QueryCommand,
    epilog="""\b
Examples:
  sigfs find                          all jobs
  sigfs find foo 42 doc.bar true      several conditions
  sigfs find 'a.$gt 3 name /^me/'     the same language as one argument
  sigfs find a@gt 3                   @gt needs no quotes
  sigfs find foo 42 --sp a,b.c --doc status
  sigfs find foo 42 --path | xargs -d '\\n' du -s
Nothing found is no error: the exit code is 0.""",
)
@click.argument("words", metavar="[QUERY]...", nargs=-1, type=QueryWord())
@click.option(
    "--sp",
    "sp_keys",
    metavar="KEYS",
    is_flag=False,
    flag_value="",
    help="Add these keys of the state point, comma separated; empty: all.",
)
@click.option(
    "--doc",
    "doc_keys",
    metavar="KEYS",
    is_flag=False,
    flag_value="",
    help="Add these keys of the document; empty: all.",
)
@click.option("--path", "as_path", is_flag=True, help="Print job directories instead of ids.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list of objects.")
@project_option
def find_command(
    words: tuple[str, ...],
    sp_keys: str | None,
    doc_keys: str | None,
    as_path: bool,
    as_json: bool,
    project_path: str | None,
) -> None:
    """List the jobs that a query holds for, by id, sorted.

    With --sp or --doc the output is a table on a terminal, and otherwise tab-separated with a line of headings.
    """
    query = query_of(words)
    project = get_project(project_path)
    documents = doc_keys is not None or needs_documents(query)
    asked = [*fields(query), *_asked(Space.SP, sp_keys), *_asked(Space.DOC, doc_keys)]
    keys = list(dict.fromkeys(field for field in asked if field.space is not Space.ID))
    found, unknown, count = _found(project, query, keys, documents)
    _say_what_is_missing(project, unknown, count)
    if as_json:
        print_json([_as_json(project, record, sp_keys, doc_keys, as_path) for record in found])
        return
    columns = [
        *_columns(Space.SP, sp_keys, (record.statepoint for record in found)),
        *_columns(Space.DOC, doc_keys, (record.document for record in found)),
    ]
    names = [_path_of(project, record) if as_path else project.directories.places.id_of(record.id) for record in found]
    if sp_keys is None and doc_keys is None:
        for name in names:
            click.echo(os.fsencode(name))
        return
    leaves = [(dict(flatten(record.statepoint)), dict(flatten(record.document))) for record in found]
    rows = [
        [name, *(_cell(sp if field.space is Space.SP else doc, field.key) for field in columns)]
        for name, (sp, doc) in zip(names, leaves, strict=True)
    ]
    headings = [Column("path" if as_path else "id"), *(Column(_heading(field)) for field in columns)]
    print_rows(headings, rows)


Found: TypeAlias = tuple[list[Record], list[Field], int]
"""The records for which a query holds; the keys that no job has; how many jobs of the workspace there are."""


def _found(project: Project, query: Expr, keys: Sequence[Field], documents: bool) -> Found:
    """Ask the index, which is the one that is kept and of what has changed since, or of all jobs."""
    places = project.directories.places
    with project.index.current(documents).reading() as table:
        unknown = [field for field in keys if not table.select(Exists(field))]
        found = [table.record(key) for key in table.ids(table.select(query))]
        if places:
            found.sort(key=lambda record: places.id_of(record.id))
        managed = sum(not places.owns(key) for key in table) if places else len(table)
    return found, unknown, managed


def _say_what_is_missing(project: Project, unknown: Sequence[Field], count: int) -> None:
    """Say which directories are no jobs, and which keys no job has: what a list of jobs does not show.

    Args:
        count: how many jobs have been read.
    """
    if sum(1 for _ in project.workspace.ids()) != count and (unreadable := unreadable_jobs(project.workspace)):
        say(unreadable)
    if text := unknown_jobs(project.directories.places.troubles):
        say(text)
    for field in unknown if count else ():
        key, equals, value = field.key.partition("=")
        meant = f"; did you mean: {format_key(Field(field.space, key))} {value}?" if equals and key else ""
        say(f"no job has the key {format_key(field)!r}{meant}")


def _path_of(project: Project, record: Record) -> str:
    return project.directories.path_of(record.id)


def _keys(keys: str) -> list[str]:
    return [key.strip() for key in keys.split(",") if key.strip()]


def _asked(space: Space, keys: str | None) -> list[Field]:
    return [_field(space, key) for key in _keys(keys or "")]


def _columns(space: Space, keys: str | None, mappings: Iterable[object]) -> list[Field]:
    if keys is None:
        return []
    wanted = _keys(keys)
    if wanted:
        return [_field(space, key) for key in wanted]
    present = {key for mapping in mappings if isinstance(mapping, dict) for key, _ in flatten(mapping)}
    return [Field(space, key) for key in sorted(present)]


def _field(space: Space, key: str) -> Field:
    """Read a key with or without the prefix that the option implies."""
    return Field(space, key.removeprefix(f"{space}.")) if not key.startswith('"') else parse_key(f"{space}.{key}")[0]


def _heading(field: Field) -> str:
    return field.key if field.space is Space.SP else f"doc.{field.key}"


def _at(leaves: dict[str, Json], key: str) -> Json:
    """Give the value at a dotted key: a leaf, or the mapping of all leaves below it.

    Raises:
        KeyError: neither.
    """
    if key in leaves:
        return leaves[key]
    below = {name.removeprefix(f"{key}."): value for name, value in leaves.items() if name.startswith(f"{key}.")}
    if not below:
        raise KeyError(key)
    return below


def _cell(leaves: dict[str, Json], key: str) -> str:
    try:
        return format_value(_at(leaves, key))
    except KeyError:
        return ""


def _as_json(
    project: Project, record: Record, sp_keys: str | None, doc_keys: str | None, as_path: bool
) -> dict[str, Json]:
    shown: dict[str, Json] = {"id": project.directories.places.id_of(record.id)}
    if as_path:
        shown["path"] = _path_of(project, record)
    for name, keys, mapping in (("sp", sp_keys, record.statepoint), ("doc", doc_keys, record.document)):
        if keys is None:
            continue
        wanted = [_field(Space(name), key).key for key in _keys(keys)]
        if not wanted:
            shown[name] = mapping
            continue
        leaves = dict(flatten(mapping))
        some: dict[str, Json] = {}
        for key in wanted:
            try:
                some[key] = _at(leaves, key)
            except KeyError:
                continue
        shown[name] = some
    return shown
