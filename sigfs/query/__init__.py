"""Queries: several spellings, one typed expression, one meaning.

Owned here: the expression (`expr`), how values compare (`values`), the spellings (`text`, `mapping`, `path`) and the
reference evaluator (`evaluate`). Pure: no file is opened, and no text can run code.
"""

from __future__ import annotations

from collections.abc import Mapping

from sigfs.query.evaluate import fields, holds, needs_documents
from sigfs.query.expr import (
    EVERYTHING,
    And,
    Compare,
    Exists,
    Expr,
    Field,
    In,
    IsType,
    Match,
    Near,
    Not,
    Op,
    Or,
    Space,
    Spelled,
    Value,
    Where,
)
from sigfs.query.mapping import format_mapping, parse_mapping
from sigfs.query.path import format_path, parse_path
from sigfs.query.text import format_text, parse_text, parse_tokens

__all__ = [
    "EVERYTHING",
    "And",
    "Compare",
    "Exists",
    "Expr",
    "Field",
    "In",
    "IsType",
    "Match",
    "Near",
    "Not",
    "Op",
    "Or",
    "Space",
    "Spelled",
    "Value",
    "Where",
    "fields",
    "format_mapping",
    "format_path",
    "format_text",
    "holds",
    "needs_documents",
    "parse",
    "parse_mapping",
    "parse_path",
    "parse_text",
    "parse_tokens",
]


def parse(query: str | Mapping[str, object] | Expr | None) -> Expr:
    """Read a query in any spelling: text, a mapping, an expression (returned as it is); None is every job.

    Raises:
        QuerySyntaxError: if it cannot be understood.
        TypeError: if it is none of these.

    >>> parse("foo 42") == parse({"foo": 42}), parse(None) == EVERYTHING
    (True, True)
    """
    match query:
        case None:
            return EVERYTHING
        case str():
            return parse_text(query)
        case And() | Or() | Not() | Compare() | In() | Exists() | Match() | IsType() | Near() | Where() | Spelled():
            return query
        case Mapping():
            return parse_mapping(query)
        case _:
            raise TypeError(f"a query is text, a mapping or an expression, not {type(query).__name__}")
