"""What a query means: the reference evaluator.

Owned here: the truth of an expression about one record, in the plainest form. The index answers the same question
faster, and is tested against this.

A field of a record is one of three things: a *leaf* (any value but a mapping with keys), *inner* (a mapping with
keys, which are fields themselves), or absent. Inner fields exist, are of type ``dict`` and differ from every value
(``$ne``, ``$nin``); no other comparison holds for them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final, assert_never

from sigfs.errors import QueryTooCostly
from sigfs.model.types import Json, Record, StatePoint
from sigfs.query.expr import (
    ABSENT,
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
from sigfs.query.values import equal, equality_key, flatten, less, type_name

MATCH_TIMEOUT_S: Final = 0.2
"""How long a regular expression may try one value."""


def holds(expr: Expr, record: Record) -> bool:
    """Tell whether *expr* holds for *record*; a document that was not read counts as empty.

    Never raises for what a record contains. What a callable of ``Where`` raises is passed on.

    Raises:
        QueryTooCostly: a regular expression takes longer than ``MATCH_TIMEOUT_S``.

    Complexity: O(size of the record + nodes of the expression).

    >>> from sigfs.query import parse
    >>> record = Record("0" * 32, {"a": 1, "b": {"c": [1, 2]}})
    >>> holds(parse("a 1.0 b.c [1,2]"), record), holds(parse("a true"), record)
    (True, False)
    """
    return _holds(expr, _Fields(record))


def fields(expr: Expr) -> frozenset[Field]:
    """Give every field that *expr* reads."""
    match expr:
        case And(terms) | Or(terms):
            return frozenset().union(*(fields(term) for term in terms))
        case Not(term):
            return fields(term)
        case Compare() | In() | Exists() | Match() | IsType() | Near() | Where():
            return frozenset((expr.field,))
        case Spelled():
            return frozenset(expr.fields)
        case _:
            assert_never(expr)


def needs_documents(expr: Expr) -> bool:
    """Tell whether *expr* reads documents, which cost a second file for each job."""
    return any(field.space is Space.DOC for field in fields(expr))


def inner_keys(mapping: StatePoint | None, prefix: str = "") -> Iterator[str]:
    """Yield the dotted keys of the mappings with keys below the top: those that ``flatten`` passes through.

    >>> list(inner_keys({"a": {"b": 1, "c": {"d": 2}}, "e": {}}))
    ['a', 'a.c']
    """
    for key, value in (mapping or {}).items():
        if isinstance(value, dict) and value:
            yield f"{prefix}{key}"
            yield from inner_keys(value, f"{prefix}{key}.")


class _Absent:
    """The value of a field that is no leaf: inner, or not there at all."""


_INNER = _Absent()
_MISSING = _Absent()


class _Fields:
    """The fields of one record, flattened when first asked for."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._spaces: dict[Space, dict[str, Json | _Absent]] = {}

    def get(self, field: Field) -> Json | _Absent:
        if field.space is Space.ID:
            return self._record.id
        if field.space not in self._spaces:
            mapping = self._record.statepoint if field.space is Space.SP else self._record.document
            # Leaves last: a leaf named "a.b" hides a mapping at a.b.
            self._spaces[field.space] = {**dict.fromkeys(inner_keys(mapping), _INNER), **dict(flatten(mapping))}
        return self._spaces[field.space].get(field.key, _MISSING)


def _holds(expr: Expr, record: _Fields) -> bool:
    match expr:
        case And(terms):
            return all(_holds(term, record) for term in terms)
        case Or(terms):
            return any(_holds(term, record) for term in terms)
        case Not(term):
            return not _holds(term, record)
        case Exists(field, present):
            return (record.get(field) is not _MISSING) == present
        case Compare() | In() | Match() | IsType() | Near() | Where():
            value = record.get(expr.field)
            if value is _MISSING:
                return False
            if value is _INNER:
                return holds_for_inner(expr)
            return holds_for_leaf(expr, value)
        case Spelled(read, spelling, name):
            found = (record.get(field) for field in read)
            return spelling(tuple(ABSENT if isinstance(value, _Absent) else value for value in found)) == name
        case _:
            assert_never(expr)


def holds_for_inner(expr: Compare | In | Match | IsType | Near | Where) -> bool:
    """Tell whether *expr* holds for a record that has a mapping with keys at its field."""
    match expr:
        case Compare():
            return expr.op is Op.NE
        case In():
            return expr.negated
        case IsType():
            return expr.type == "dict"
        case Match() | Near() | Where():
            return False
        case _:
            assert_never(expr)


def holds_for_leaf(expr: Compare | In | Match | IsType | Near | Where, value: Json) -> bool:
    """Tell whether *expr* holds for a record that has *value*, no mapping with keys, at its field."""
    match expr:
        case Compare(field, op, operand):
            return (
                _compare_id(op, str(value), operand.json) if field.space is Space.ID else _compare(op, value, operand)
            )
        case In(field, operands, negated):
            op = Op.EQ
            if field.space is Space.ID:
                return any(_compare_id(op, str(value), operand.json) for operand in operands) != negated
            return any(_compare(op, value, operand) for operand in operands) != negated
        case Match(_, pattern):
            return isinstance(value, str) and _matches(pattern, value)
        case IsType(_, name):
            return type_name(value) == name
        case Near(_, number, relative, absolute):
            return _is_near(value, number, relative, absolute)
        case Where(_, function):
            return bool(function(value))
        case _:
            assert_never(expr)


def _compare(op: Op, value: Json, operand: Value) -> bool:
    match op:
        case Op.EQ:
            return equal(value, operand.json)
        case Op.NE:
            return not equal(value, operand.json)
        case Op.IS:
            return equality_key(value) == equality_key(operand.json)
        case Op.GT:
            return less(operand.json, value)
        case Op.GTE:
            return less(operand.json, value) or equal(value, operand.json)
        case Op.LT:
            return less(value, operand.json)
        case Op.LTE:
            return less(value, operand.json) or equal(value, operand.json)
        case _:
            assert_never(op)


def _compare_id(op: Op, job_id: str, operand: Json) -> bool:
    """Compare an id: equal means "begins with", ``$is`` the whole id, order that of strings."""
    match op:
        case Op.EQ:
            return isinstance(operand, str) and job_id.startswith(operand)
        case Op.NE:
            return not (isinstance(operand, str) and job_id.startswith(operand))
        case Op.IS | Op.GT | Op.GTE | Op.LT | Op.LTE:
            return _compare(op, job_id, Value(operand))
        case _:
            assert_never(op)


def _matches(pattern: str, value: str) -> bool:
    import regex

    # A backtracking pattern ("(a+)+$") could take for ever, and a query may come from anybody who can name a path.
    try:
        return regex.search(pattern, value, timeout=MATCH_TIMEOUT_S) is not None
    except TimeoutError:
        raise QueryTooCostly(
            f"the pattern {pattern!r} needs more than {MATCH_TIMEOUT_S} s for one value; make it simpler"
        ) from None


def _is_near(value: Json, number: float, relative: float, absolute: float) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isclose(value, number, rel_tol=relative, abs_tol=absolute)
    except OverflowError:  # an integer larger than any float
        return False
