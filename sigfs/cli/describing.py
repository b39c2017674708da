"""``sigfs schema`` and ``diff``: what jobs have in common, and what not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import click

from sigfs.api.difference import differences
from sigfs.api.project import get_project
from sigfs.cli.app import say
from sigfs.cli.choosing import (
    QueryCommand,
    QueryWord,
    all_option,
    jobs_argument,
    jobs_of,
    json_option,
    project_option,
)
from sigfs.cli.documents import plain_statepoint
from sigfs.cli.output import Column, print_json, print_rows
from sigfs.model.types import Json
from sigfs.query.expr import Field, Space
from sigfs.query.tokens import format_key, format_value
from sigfs.query.values import flatten

_SHOWN: Final = 5
"""Of more values only the first and the last two are shown."""


@click.command(
    "schema",
    cls=QueryCommand,
    epilog="""\b
Examples:
  sigfs schema                        which keys the jobs have, and which values
  sigfs schema foo 42                 of some of them
  sigfs schema --exclude-const        only what differs
  sigfs schema --json | jq 'keys'""",
)
@click.argument("words", metavar="[ID... | QUERY]", nargs=-1, type=QueryWord())
@click.option("--exclude-const", is_flag=True, help="Leave out what is the same for all of the jobs.")
@click.option("--max-values", metavar="N", type=click.IntRange(3), default=_SHOWN, help="Show so many values at most.")
@json_option
@project_option
def schema_command(
    words: tuple[str, ...], exclude_const: bool, max_values: int, as_json: bool, project_path: str | None
) -> None:
    """List the keys of the state points, with the types, the number and the range of their values."""
    project = get_project(project_path)
    jobs = jobs_of(project, words) if words else project.find()
    schema = project.detect_schema(exclude_const, None if not words else jobs)
    if as_json:
        print_json(schema.to_json())
        return
    rows = [
        [key, kind.__name__, str(len(values)), _range(values, max_values)]
        for key, kinds in schema.items()
        for kind, values in kinds.items()
    ]
    print_rows([Column("key"), Column("type"), Column("values"), Column("range")], rows)
    if not jobs:
        say("the project has no jobs")


def _range(values: Sequence[Json], shown: int) -> str:
    texts = [format_value(value) for value in values[:shown]]
    if len(values) > shown:
        texts = [*texts[: shown - 2], "...", *(format_value(value) for value in values[-2:])]
    return ", ".join(texts)


@click.command(
    "diff",
    cls=QueryCommand,
    epilog="""\b
Examples:
  sigfs diff 0300 fb55                what differs between two jobs
  sigfs diff foo 42                   or several, that a query holds for
  sigfs diff --all --json""",
)
@jobs_argument
@all_option
@json_option
@project_option
def diff_command(words: tuple[str, ...], everything: bool, as_json: bool, project_path: str | None) -> None:
    """List what is not the same in the state points of all of the jobs.

    A job that does not have a key has an empty cell; in JSON it does not have it either.
    """
    jobs = jobs_of(get_project(project_path), words, everything)
    found = differences({job.id: plain_statepoint(job) for job in jobs})
    if as_json:
        print_json(found)
        return
    leaves = {job_id: dict(flatten(mapping)) for job_id, mapping in found.items()}
    keys = sorted({key for mapping in leaves.values() for key in mapping})
    if not keys:
        say("there is no difference" if len(jobs) > 1 else "a single job differs from none")
        return
    columns = [Column("id"), *(Column(format_key(Field(Space.SP, key))) for key in keys)]
    rows = [
        [job_id, *(format_value(mapping[key]) if key in mapping else "" for key in keys)]
        for job_id, mapping in leaves.items()
    ]
    print_rows(columns, rows)
