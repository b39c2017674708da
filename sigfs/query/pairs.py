"""Pairs of a key and a value token: what the text and the path spelling have in common.

Owned here: how a pair becomes conditions and back. Text adds quotes around the tokens, a path percent signs.
"""

from __future__ import annotations

import json

from sigfs.errors import QuerySyntaxError
from sigfs.query.expr import And, Compare, Exists, Expr, Field, Not, Op, Or, Space, Value
from sigfs.query.mapping import build, condition, format_mapping, is_nested, terms_of
from sigfs.query.tokens import (
    LOGICAL,
    NO_KEY,
    format_raw,
    format_value,
    parse_raw,
    parse_regex,
    parse_value,
)
from sigfs.query.values import has_nan

# The operators whose operand is text, never read as a number or as JSON.
_RAW = ("$regex", "$type")
# The operators of the id whose operand is not text.
_ID_NOT_RAW = ("$in", "$nin", "$exists", "$near")


def parse_pair(field: Field, operator: str, token: str) -> list[Expr]:
    """Give the conditions that the pair states: one, or several where *token* is a mapping.

    Without operator, a value that is or contains NaN is compared with ``$is``: the directory named NaN has to
    select the jobs it stands for.

    Raises:
        QuerySyntaxError: if *token* is not what the operator takes.
    """
    if _is_raw(field, operator):
        return [build(field, operator or "$eq", parse_raw(token))]
    pattern = None if operator in LOGICAL else parse_regex(token)
    if pattern is not None:
        if operator:
            raise QuerySyntaxError(
                f'{operator} takes no regular expression; the string is written in double quotes, as "{token}"'
            )
        return [build(field, "$regex", pattern)]
    value = parse_value(token)
    if not operator and not is_nested(value) and has_nan(value):
        return [build(field, "$is", value)]
    return terms_of(field, operator, value)


def parse_lone(field: Field, operator: str) -> Expr:
    """Give what a key without value means: that it exists.

    Raises:
        QuerySyntaxError: if it has an operator that needs a value.
    """
    if operator not in ("", "$exists"):
        raise QuerySyntaxError(f"expected a value after the operator {operator}")
    return Exists(field)


def format_pair(expr: Expr) -> tuple[Field, str, str]:
    """Spell *expr* as one pair: field, operator ("" if none is written), value token; never an empty token.

    Raises:
        ValueError: if *expr* contains ``Where``, which only Python can say.
    """
    match expr:
        case And(terms) | Or(terms):
            operator = "$and" if isinstance(expr, And) else "$or"
            return NO_KEY, operator, _dump([format_mapping(term) for term in terms])
        case Not(term):
            return NO_KEY, "$not", _dump(format_mapping(term))
        case _:
            field, operator, operand = condition(expr)
            if isinstance(expr, Compare) and _is_plain(expr.op, expr.value):
                operator = ""
            if _is_raw(field, operator):
                return field, operator, format_raw(str(operand))
            return field, operator, format_value(operand)


def _is_raw(field: Field, operator: str) -> bool:
    return operator in _RAW or (field.space is Space.ID and operator not in _ID_NOT_RAW)


def _is_plain(op: Op, value: Value) -> bool:
    """Tell whether `parse_pair` reads the pair without operator as this comparison."""
    return not is_nested(value.json) and op == (Op.IS if has_nan(value.json) else Op.EQ)


def _dump(value: object) -> str:
    # Not sorted: the order of a mapping's entries is the order of the terms.
    return json.dumps(value, ensure_ascii=False)
