"""``KEY=VALUE``: how state points and changes of them are written as arguments.

A key is spelled as in a query, and so is a value. What only a query can mean is refused, with the spelling of what may
have been meant instead.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence

import click

from sigfs.errors import InvalidStatePoint, QuerySyntaxError
from sigfs.model.statepoint import load_json
from sigfs.model.types import Json
from sigfs.query.expr import Space
from sigfs.query.tokens import parse_key, parse_value


def statepoint_of(words: Sequence[str]) -> Json:
    """Read a state point: assignments, or one JSON mapping, or ``-`` for one on standard input.

    Raises:
        click.UsageError: a word is none of these.
        InvalidStatePoint: no state point is meant by it.
    """
    if list(words) == ["-"]:
        return json_mapping(sys.stdin.buffer.read(), "standard input")
    if len(words) == 1 and words[0].lstrip().startswith("{"):
        return json_mapping(words[0].encode("utf-8", "surrogateescape"), "the argument")
    statepoint: dict[str, Json] = {}
    for word in words:
        keys, value = assignment_of(word)
        put(statepoint, keys, value)
    return statepoint


def assignment_of(word: str) -> tuple[list[str], Json]:
    """Read ``KEY=VALUE``: the steps of the key, and the value.

    Raises:
        click.UsageError, InvalidStatePoint: as `statepoint_of`.
    """
    key, equals, token = word.partition("=")
    if not equals or not all(key.split(".")):
        raise click.UsageError(f"expected KEY=VALUE, a JSON mapping or -, found {word!r}", click.get_current_context())
    try:
        value = parse_value(token)
    except QuerySyntaxError as error:
        raise InvalidStatePoint(f"{key}: {error}") from None
    keys = keys_of(key, _as_argument(key, value))
    if any(part.startswith("$") for part in keys) or _has_operator(value):
        raise InvalidStatePoint(
            f"{word}: operators are for queries; if it is meant as it stands: {_as_argument(key, value)}"
        )
    return keys, value


def keys_of(key: str, remedy: str) -> list[str]:
    """Read the key of a state point: its steps.

    Args:
        remedy: the command that takes the key as it stands.
    Raises:
        InvalidStatePoint: no state point has such a key.
    """
    try:
        field, operator = parse_key(key)
    except QuerySyntaxError as error:
        raise InvalidStatePoint(f"{key}: {error}") from None
    if field.space is Space.ID:
        raise InvalidStatePoint(f"{key}: the id follows from the state point; a key of that name is written sp.{key}")
    if field.space is Space.DOC:
        raise InvalidStatePoint(
            f"{key} is a key of the document, which no state point has; if it is meant as it stands: {remedy}"
        )
    if operator:
        raise InvalidStatePoint(f"{key}: operators are for queries; if it is meant as it stands: {remedy}")
    return field.key.split(".")


def json_mapping(data: bytes, where: str) -> Json:
    """Read a JSON mapping.

    Raises:
        InvalidStatePoint: it is none.
    """
    try:
        value = load_json(data)
    except ValueError as error:
        raise InvalidStatePoint(f"{where} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidStatePoint(f"{where} is no JSON mapping; a state point is one")
    return value


def put(statepoint: dict[str, Json], keys: Sequence[str], value: Json) -> None:
    """Set a value that has none yet.

    Raises:
        InvalidStatePoint: it has one, or something above it is no mapping.
    """
    inner = statepoint
    for key in keys[:-1]:
        deeper = inner.setdefault(key, {})
        if not isinstance(deeper, dict):
            raise InvalidStatePoint(f"{'.'.join(keys)} cannot be set: {key} has a value already")
        inner = deeper
    if keys[-1] in inner:
        raise InvalidStatePoint(f"{'.'.join(keys)} is set twice")
    inner[keys[-1]] = value


def _has_operator(value: Json) -> bool:
    """Tell whether a mapping within *value* has a key like ``$gt``."""
    if isinstance(value, dict):
        return any(key.startswith("$") or _has_operator(inner) for key, inner in value.items())
    return isinstance(value, list) and any(_has_operator(inner) for inner in value)


def _as_argument(key: str, value: Json) -> str:
    """Spell the command that sets *key* as it stands."""
    for part in reversed(key.split(".")):
        value = {part: value}
    return f"sigfs job {shlex.quote(json.dumps(value))}"
