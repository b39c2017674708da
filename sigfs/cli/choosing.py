"""Which jobs are meant: by a query.

Owned here: the arguments and options that say so, and how they complete.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice
from typing import Final

import click
from click.shell_completion import CompletionItem

from sigfs.api.project import get_project
from sigfs.cli.options import DirectoryName
from sigfs.errors import SigfsError
from sigfs.model.types import Record
from sigfs.query import Expr, parse_text, parse_tokens
from sigfs.query.expr import Field, Space
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

_NEGATIVE = re.compile(r"-(?:\.?\d|Infinity$)")
_MARK = "\0"  # cannot be in an argument

_BARE = re.compile(r"[\w.,:@%+/-]+", re.ASCII)
"""What any shell takes as it stands, also in the middle of a command."""

_COMPLETED_JOBS: Final = 200
"""How many jobs the completion of keys and values looks at."""


def query_of(words: Sequence[str]) -> Expr:
    """Read a query from the command line: one word is text, several are its tokens."""
    tokens = [word.removeprefix(_MARK) for word in words]
    return parse_text(tokens[0]) if len(tokens) == 1 else parse_tokens(tokens)


class QueryCommand(click.Command):
    """A command whose arguments may be negative numbers; other words with a dash still must be options."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Hide the numbers from the parser; ``query_of`` shows them again."""
        end = args.index("--") if "--" in args else len(args)
        marked = [_MARK + word if _NEGATIVE.match(word) else word for word in args[:end]]
        return super().parse_args(ctx, marked + args[end:])


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


class QueryWord(click.types.StringParamType):
    """A word of a query, which completes as a key where a key is due, and else as a value of the key."""

    name = "query"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Name keys, or values, of the first jobs."""
        words: Sequence[str] = ctx.params.get(param.name or "") or ()
        if len(words) % 2:
            return complete_values(ctx, words[-1], incomplete)
        return complete_keys(ctx, incomplete)
