"""``sigfs sp`` and ``doc``: what a job is, and what is noted about it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import click
from click.shell_completion import CompletionItem

from sigfs.api.document import Document
from sigfs.api.job import Job
from sigfs.api.mapping import LiveMapping
from sigfs.api.project import get_project
from sigfs.cli.choosing import (
    QueryCommand,
    job_argument,
    job_of,
    json_option,
    project_option,
    unmarked,
)
from sigfs.cli.output import print_json, print_text
from sigfs.errors import InvalidValue, QuerySyntaxError, SigfsError
from sigfs.model.types import Json
from sigfs.query.expr import Field, Space
from sigfs.query.tokens import format_key, format_value, parse_key, parse_value
from sigfs.query.values import flatten

Keys: TypeAlias = list[str]
"""The steps of a nested key."""

# sp


class KeyWord(click.types.StringParamType):
    """A key of the state point of the job that stands before it."""

    name = "key"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002
        """Name the keys that the job has."""
        try:
            job = job_of(get_project(ctx.params.get("project_path")), ctx.params["job_id"])
            keys = [format_key(Field(Space.SP, key)) for key, _ in flatten(plain_statepoint(job))]
        except (SigfsError, OSError, LookupError):
            return []
        return [CompletionItem(key) for key in keys if key.startswith(incomplete)]


@click.command(
    "sp",
    epilog="""\b
Examples:
  sigfs sp 0300                       the job whose id begins with 0300
  sigfs sp 0300 foo                   one value
  sigfs sp 0300 --json | jq .foo
  sigfs sp .                          of the job in whose directory one is
  sigfs job $(sigfs sp 0300) n=2      the same state point, and one key more""",
)
@job_argument
@click.argument("key", required=False, type=KeyWord())
@json_option
@project_option
def sp_command(job_id: str, key: str | None, as_json: bool, project_path: str | None) -> None:
    """Print the state point of a job, as KEY=VALUE, or the value of one KEY.

    What is printed can be given to sigfs job. A value by itself is printed as it is: text without quotes.
    """
    job = job_of(get_project(project_path), job_id)
    statepoint = plain_statepoint(job)
    if key is None:
        _print_mapping(statepoint, Space.SP, as_json)
    else:
        _print_value(_value_at(statepoint or {}, _keys_of(Space.SP, key), f"the state point of {job.id}"), as_json)


def plain_statepoint(job: Job) -> dict[str, Any] | None:
    """The state point of a job, a dict of the caller's own; None if it has none (null)."""
    statepoint = job.statepoint
    return None if statepoint is None else statepoint()


# doc

_ACTIONS: Final = ("get", "set", "del")


class ActionWord(click.types.StringParamType):
    """``get``, ``set`` or ``del``, and what belongs to it."""

    name = "action"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Name the actions; after one, the keys of the document."""
        words: Sequence[str] = ctx.params.get(param.name or "") or ()
        if not words:
            return [CompletionItem(word) for word in _ACTIONS if word.startswith(incomplete)]
        if words[0] == "set" and not len(words) % 2:
            return []
        try:
            job = job_of(get_project(ctx.params.get("project_path")), ctx.params["job_id"])
            keys = [key for key, _ in flatten(job.document())]
        except (SigfsError, OSError, LookupError):
            return []
        return [CompletionItem(key) for key in keys if key.startswith(incomplete)]


@click.command(
    "doc",
    cls=QueryCommand,
    epilog="""\b
Examples:
  sigfs doc 0300                      all of it
  sigfs doc 0300 get status           one value; exit code 1 if there is none
  sigfs doc 0300 set status done      make or change it; several pairs are one change
  sigfs doc 0300 set run.steps 1e6 seed 7
  sigfs doc 0300 set note --text "$NOTE"
  sigfs doc 0300 del status run.steps
  sigfs doc . set done true           of the job in whose directory one is
A value is what a query says: 42, 1e-1, true, null, [1, 2], "42" in quotes, anything else is text.
With --text it is text in any case.""",
)
@job_argument
@click.argument("words", metavar="[get KEY | set KEY VALUE... | del KEY...]", nargs=-1, type=ActionWord())
@click.option("--text", "as_text", is_flag=True, help="set: the values are text as they stand.")
@json_option
@project_option
def doc_command(job_id: str, words: tuple[str, ...], as_text: bool, as_json: bool, project_path: str | None) -> None:
    """Print the document of a job, or one value of it; or change it.

    Whoever else changes the document at the same time, no change is lost. A dot in a key leads into a nested mapping.
    """
    action, *rest = unmarked(words) or [""]
    wrong = click.UsageError(
        "expected get KEY, set KEY VALUE... or del KEY... after the id", click.get_current_context()
    )
    if action not in ("", *_ACTIONS) or (as_text and action != "set"):
        raise wrong
    if bool(rest) != bool(action) or (action == "get" and len(rest) > 1) or (action == "set" and len(rest) % 2):
        raise wrong
    names = rest[::2] if action == "set" else rest
    keys = [_keys_of(Space.DOC, name) for name in names]
    values: list[Json] = [text if as_text else _value_of(text) for text in rest[1::2]] if action == "set" else []
    job = job_of(get_project(project_path), job_id)
    document: Document = job.document
    what = f"the document of {job.id}"
    match action:
        case "":
            _print_mapping(document(), Space.DOC, as_json)
        case "get":
            _print_value(_value_at(document(), keys[0], what), as_json)
        case _:
            with document.transaction():
                for each, value in zip(keys, values, strict=False):
                    _set(document, each, value)
                for each in keys if action == "del" else ():
                    _delete(document, each, what)
            if as_json:
                print_json(document())


def _set(document: Document, keys: Keys, value: Json) -> None:
    node: Any = document
    for number, key in enumerate(keys[:-1], start=1):
        node = node.setdefault(key, {})
        if not isinstance(node, LiveMapping):
            above = ".".join(keys[:number])
            raise InvalidValue(f"{'.'.join(keys)} cannot be set: {above} is a value and no mapping; del {above} first")
    node[keys[-1]] = value


def _delete(document: Document, keys: Keys, what: str) -> None:
    node: Any = document
    for key in keys[:-1]:
        node = node.get(key)
        if not isinstance(node, LiveMapping):
            raise _no_key(keys, what)
    if keys[-1] not in node:
        raise _no_key(keys, what)
    del node[keys[-1]]


# What both share


def _keys_of(space: Space, key: str) -> Keys:
    """Read a key with or without its prefix.

    Raises:
        QuerySyntaxError: it is none.
    """
    field, operator = parse_key(f"{space}.{key.removeprefix(f'{space}.')}")
    if operator:
        raise QuerySyntaxError(f"{key}: operators are for queries")
    steps = field.key.split(".")
    if not all(steps):
        raise QuerySyntaxError(f"{key!r} is no key: there is nothing before, between or after its dots")
    return steps


def _value_of(token: str) -> Json:
    try:
        return parse_value(token)
    except QuerySyntaxError as error:
        raise InvalidValue(f"{error}; or give --text") from None


def _value_at(mapping: Mapping[str, Any], keys: Keys, what: str) -> Any:
    value: Any = mapping
    for key in keys:
        if not isinstance(value, dict) or key not in value:
            raise _no_key(keys, what)
        value = value[key]
    return value


def _no_key(keys: Keys, what: str) -> click.ClickException:
    return click.ClickException(f"{what} has no key {'.'.join(keys)!r}")


def _print_value(value: Any, as_json: bool) -> None:
    if as_json:
        print_json(value)
    else:
        print_text(value if isinstance(value, str) else format_value(value))


def _print_mapping(mapping: Mapping[str, Any] | None, space: Space, as_json: bool) -> None:
    if as_json:
        print_json(mapping)
        return
    for key, value in flatten(mapping):
        name = format_key(Field(space, key)).removeprefix("doc.")
        text = format_value(value)
        print_text(f"{name}={text if text.isprintable() else json.dumps(value)}")
