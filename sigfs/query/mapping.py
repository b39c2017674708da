"""The mapping spelling: ``{"foo": 42, "doc.bar": True, "a.$gt": 3, "$or": [...]}``, and keywords.

Owned here: what an operator accepts as its operand (`build`, `condition`), for all spellings, and nesting. The
only spelling in which ``$where`` can be said, because only here an operand can be a callable.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import assert_never

from sigfs.errors import QuerySyntaxError
from sigfs.model.types import Json
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
from sigfs.query.tokens import LOGICAL, NO_KEY, did_you_mean, format_key, parse_key, parse_subkey

TYPES = ("null", "bool", "int", "float", "str", "list", "dict")
"""What ``$type`` can name."""


def parse_mapping(
    query: Mapping[str, object] | None = None, /, doc: Mapping[str, object] | None = None, **keywords: object
) -> Expr:
    """Read a query spelled as a mapping, as keywords, or both; all of it must hold.

    Args:
        query: keys as in text (``"a.b"``, ``"doc.a.$gt"``), or nested mappings; values are JSON values.
        doc: the same about the document, without the prefix ``doc.``.
        **keywords: further entries of *query*.
    Raises:
        QuerySyntaxError: if it cannot be understood; the message names the key.

    >>> parse_mapping({"a": {"$gt": 3}}, b=1) == parse_mapping({"a.$gt": 3, "b": 1})
    True
    """
    for part in (query, doc):
        if part is not None and not isinstance(part, Mapping):
            raise QuerySyntaxError(f"expected a mapping of keys to values, found {part!r}")
    terms = _top_terms(query or {}) + _top_terms(keywords) + _nested_terms(Space.DOC, None, doc or {})
    return join(terms)


def format_mapping(expr: Expr) -> dict[str, Json]:
    """Spell *expr* as a mapping that JSON can carry; `parse_mapping` gives *expr* back.

    The values are those of the expression itself: not to be changed.

    Raises:
        ValueError: if *expr* contains ``Where``, which only Python can say.

    >>> format_mapping(parse_mapping({"a": {"b": 1, "c.$gt": 2}}))
    {'a.b': 1, 'a.c.$gt': 2}
    """
    if isinstance(expr, And) and len(expr.terms) != 1:
        entries = [_entry(term) for term in expr.terms]
        mapping = dict(entries)
        if len(mapping) == len(entries):
            return mapping
    return dict([_entry(expr)])


def join(terms: Sequence[Expr]) -> Expr:
    """Make one expression of conditions that stand side by side: a lone one is itself."""
    return terms[0] if len(terms) == 1 else And(tuple(terms)) if terms else EVERYTHING


def terms_of(field: Field, operator: str, operand: object) -> list[Expr]:
    """Give the conditions that one entry of a mapping states: several where *operand* is a nested mapping.

    Args:
        operator: with ``$``; "" for an entry without.
    Raises:
        QuerySyntaxError: if *operand* is not what the operator takes.
    """
    if operator in LOGICAL:
        return [_logical(operator, operand, _top_terms)]
    if not operator and isinstance(operand, Mapping) and operand:
        return _nested_terms(field.space, field.key, operand)
    return [build(field, operator or "$eq", operand)]


def build(field: Field, operator: str, operand: object) -> Expr:
    """Make the condition "*field* *operator* *operand*"; the operator is not a logical one.

    Raises:
        QuerySyntaxError: if *operand* is not what the operator takes.
    """
    operand = _unwrapped(operand)
    match operator:
        case "$in" | "$nin":
            if not isinstance(operand, list | tuple | set | frozenset | range):
                raise _unfit(field, operator, operand, "a list of values, as [1, 2]")
            return In(field, tuple(_value(field, operator, item) for item in operand), operator == "$nin")
        case "$exists":
            if not isinstance(operand, int) or operand not in (0, 1):
                raise _unfit(field, operator, operand, "true, false, 1 or 0")
            return Exists(field, bool(operand))
        case "$regex":
            return _build_match(field, operand)
        case "$type":
            if operand not in TYPES:
                near = did_you_mean(operand, TYPES) if isinstance(operand, str) else ""
                raise _unfit(field, operator, operand, f"one of {' '.join(TYPES)}", near)
            return IsType(field, str(operand))
        case "$near":
            return _build_near(field, operand)
        case "$where":
            if not callable(operand):
                raise _unfit(field, operator, operand, "a callable, and can only be given from Python")
            return Where(field, operand)
        case _:
            return Compare(field, Op(operator), _value(field, operator, operand))


Condition = Compare | In | Exists | Match | IsType | Near | Where | Spelled


def condition(expr: Condition) -> tuple[Field, str, Json]:
    """Take a condition apart into what `build` makes it of.

    Raises:
        ValueError: if it is ``Where`` or ``Spelled``, or compares the id with what is no string.
    """
    operand: Json
    match expr:
        case Compare(field, op, value):
            operator, operand = op.value, value.json
            _check_id_text(field, value)
        case In(field, values, negated):
            operator, operand = ("$nin" if negated else "$in"), [value.json for value in values]
            _check_id_text(field, *values)
        case Exists(field, present):
            operator, operand = "$exists", present
        case Match(field, pattern):
            operator, operand = "$regex", pattern
        case IsType(field, name):
            operator, operand = "$type", name
        case Near(field, number, relative, absolute):
            plain = expr == Near(field, number)
            operator, operand = "$near", number if plain else [number, relative, absolute]
        case Where() | Spelled():
            raise ValueError("$where cannot be spelled: it holds a Python callable")
        case _:
            assert_never(expr)
    return field, operator, operand


def _entry(expr: Expr) -> tuple[str, Json]:
    """Spell *expr* as one entry of a mapping."""
    match expr:
        case And(terms):
            return "$and", [format_mapping(term) for term in terms]
        case Or(terms):
            return "$or", [format_mapping(term) for term in terms]
        case Not(term):
            return "$not", format_mapping(term)
        case _:
            field, operator, operand = condition(expr)
            plain = operator == "$eq" and not is_nested(operand)
            return format_key(field, "" if plain else operator), operand


def is_nested(value: Json) -> bool:
    """Tell whether *value*, given to a key without operator, is read as conditions on deeper keys."""
    return isinstance(value, Mapping) and bool(value)


def _top_terms(mapping: Mapping[str, object]) -> list[Expr]:
    terms: list[Expr] = []
    for key, operand in mapping.items():
        _check_key(key)
        if key in ("sp", "doc") and is_nested(operand):
            terms += _nested_terms(Space(key), None, operand)  # type: ignore[arg-type]
        else:
            terms += terms_of(*parse_key(key), operand)
    return terms


def _nested_terms(space: Space, above: str | None, mapping: Mapping[str, object]) -> list[Expr]:
    """Read a mapping whose keys lie below the key *above*; None: at the top of *space*."""
    terms: list[Expr] = []
    for subkey, operand in mapping.items():
        _check_key(subkey)
        name, operator = parse_subkey(subkey)
        if name is not None:
            if space is Space.ID:
                raise QuerySyntaxError(f"the id has no parts; for the state point key write sp.id.{name}")
            terms += terms_of(Field(space, name if above is None else f"{above}.{name}"), operator, operand)
        elif above is None and operator in LOGICAL:
            terms.append(_logical(operator, operand, lambda inner: _nested_terms(space, None, inner)))
        elif above is None or operator in LOGICAL:
            remedy = f'as {{"{operator}": ...}}' if operator in LOGICAL else "name it"
            raise QuerySyntaxError(f"{operator} cannot stand here: it applies to {_applies_to(operator)}; {remedy}")
        else:
            terms.append(build(Field(space, above), operator, operand))
    return terms


def _applies_to(operator: str) -> str:
    return "whole conditions, and stands outside of keys" if operator in LOGICAL else "a key"


def _logical(operator: str, operand: object, read: Callable[[Mapping[str, object]], list[Expr]]) -> Expr:
    if operator == "$not":
        if not isinstance(operand, Mapping):
            raise _unfit(NO_KEY, operator, operand, 'one mapping, as {"a": 1}')
        return Not(join(read(operand)))
    if not isinstance(operand, list | tuple) or not all(isinstance(item, Mapping) for item in operand):
        raise _unfit(NO_KEY, operator, operand, 'a list of mappings, as [{"a": 1}, {"b": 2}]')
    terms = tuple(join(read(item)) for item in operand)
    return And(terms) if operator == "$and" else Or(terms)


def _build_match(field: Field, pattern: object) -> Match:
    if not isinstance(pattern, str):
        raise _unfit(field, "$regex", pattern, "a regular expression as a string")
    import regex

    try:
        regex.compile(pattern)
    except (regex.error, OverflowError, RecursionError) as error:
        raise QuerySyntaxError(f"no regular expression: {pattern!r}: {error}") from None
    return Match(field, pattern)


def _build_near(field: Field, operand: object) -> Near:
    expected = "a number, or [number, relative tolerance, absolute tolerance]"
    numbers: list[float] = []
    for number in map(_unwrapped, operand if isinstance(operand, list | tuple) else [operand]):
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise _unfit(field, "$near", operand, expected)
        numbers.append(number)
    if not 1 <= len(numbers) <= 3:
        raise _unfit(field, "$near", operand, expected)
    try:
        near = Near(field, *map(float, numbers))
    except OverflowError:
        raise _unfit(field, "$near", operand, expected + " that a float can hold") from None
    if not (near.relative >= 0 and near.absolute >= 0) or math.isnan(near.value):
        raise _unfit(field, "$near", operand, expected + ", none NaN and no tolerance negative")
    return near


def _value(field: Field, operator: str, operand: object) -> Value:
    """Wrap an operand as JSON would carry it: tuples become lists, keys strings."""
    if field.space is Space.ID and not isinstance(operand, str):
        raise _unfit(field, operator, operand, 'the beginning of an id as a string, as "0300"')
    try:
        return Value(json.loads(json.dumps(operand, ensure_ascii=False, default=_plain)))
    except (TypeError, ValueError, RecursionError) as error:
        raise _unfit(field, operator, operand, f"a JSON value: {error}") from None


def _unwrapped(operand: object) -> object:
    """Give the scalars and arrays of numpy as Python's; all else as it is."""
    tolist = None if isinstance(operand, type) else getattr(operand, "tolist", None)
    return tolist() if callable(tolist) and not isinstance(operand, memoryview) else operand


def _plain(value: object) -> Json:
    unwrapped = _unwrapped(value)
    if type(unwrapped) is not type(value):
        return unwrapped
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return list(value)
    raise TypeError(f"{type(value).__name__} is not a type of JSON")


def _check_key(key: object) -> None:
    if not isinstance(key, str):
        raise QuerySyntaxError(f"expected a string as key, found {key!r}")


def _check_id_text(field: Field, *values: Value) -> None:
    if field.space is Space.ID and not all(isinstance(value.json, str) for value in values):
        raise ValueError("an id is compared with strings only")


def _unfit(field: Field, operator: str, operand: object, expected: str, remark: str = "") -> QuerySyntaxError:
    key = "" if operator in LOGICAL else f" of {format_key(field)}"
    return QuerySyntaxError(f"{operator}{key} takes {expected}; {remark}found {operand!r}")
