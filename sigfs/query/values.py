"""How JSON values compare: the one place that decides what is equal, what is less, what is of which type.

Used by the evaluator, by the index and for the order of directory entries. The rules: numbers compare across
int and float, exactly; a boolean is never a number; NaN equals nothing; lists and mappings compare element by
element; values of different types are never equal and never ordered by a query. (``order_key`` still gives a
total order, for listings.)
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterator

from sigfs.model.types import Json, StatePoint


def type_name(value: Json) -> str:
    """Name the JSON type of *value*: null, bool, int, float, str, list or dict."""
    match value:
        case None:
            return "null"
        case bool():
            return "bool"
        case int():
            return "int"
        case float():
            return "float"
        case str():
            return "str"
        case list() | tuple():
            return "list"
        case dict():
            return "dict"
        case _:
            raise TypeError(f"{value!r} is no JSON value")


def equality_key(value: Json) -> Hashable:
    """Give a key that two values share exactly if a query calls them equal, NaN being itself here.

    Complexity: O(size of the value).

    >>> equality_key(1) == equality_key(1.0), equality_key(1) == equality_key(True)
    (True, False)
    """
    match value:
        case bool():
            return ("bool", value)
        case int() | float():
            return ("number", "NaN" if value != value else value)
        case None:
            return ("null",)
        case str():
            return ("str", value)
        case list() | tuple():
            return ("list", tuple(equality_key(item) for item in value))
        case dict():
            return ("dict", frozenset((key, equality_key(item)) for key, item in value.items()))
        case _:
            raise TypeError(f"{value!r} is no JSON value")


def has_nan(value: Json) -> bool:
    """Tell whether *value* is or contains NaN, and so equals nothing, not even itself."""
    match value:
        case float():
            return value != value
        case list() | tuple():
            return any(has_nan(item) for item in value)
        case dict():
            return any(has_nan(item) for item in value.values())
        case _:
            return False


def equal(left: Json, right: Json) -> bool:
    """Tell whether a query calls the two values equal."""
    return not has_nan(left) and equality_key(left) == equality_key(right)


def less(left: Json, right: Json) -> bool:
    """Tell whether *left* sorts before *right*; False where the two cannot be ordered.

    Ordered are: numbers, strings, booleans, and lists element by element, each among themselves.
    """
    match left, right:
        case (bool(), bool()) | (str(), str()):
            return bool(left < right)  # type: ignore[operator]
        case (bool(), _) | (_, bool()):
            return False
        case (int() | float(), int() | float()):
            return left < right
        case (list(), list()):
            for a, b in zip(left, right, strict=False):
                if not equal(a, b):
                    return less(a, b)
            return len(left) < len(right)
        case _:
            return False


_TYPE_RANK = {"null": 0, "bool": 1, "int": 2, "float": 2, "str": 3, "list": 4, "dict": 5}


def order_key(value: Json) -> tuple[object, ...]:
    """Give a sort key: by type (null, bool, number, str, list, dict), then by value, NaN after all numbers.

    Total over all JSON values; equal numbers of different types sort int first, so that the first of a group of
    equal values is the one spelled without a point.

    >>> sorted([2.5, "a", True, 10, None, 1.0, 1], key=order_key)
    [None, True, 1, 1.0, 2.5, 10, 'a']
    """
    kind = type_name(value)
    rank = _TYPE_RANK[kind]
    match value:
        case None:
            return (rank,)
        case bool() | str():
            return (rank, value)
        case int() | float():
            if value != value:
                return (rank, 1, 0, 1, "nan")
            return (rank, 0, value, 0 if kind == "int" else 1, str(value))
        case list() | tuple():
            return (rank, tuple(order_key(item) for item in value))
        case _:
            return (rank, json.dumps(value, sort_keys=True))


def flatten(mapping: StatePoint | None, prefix: str = "") -> Iterator[tuple[str, Json]]:
    """Yield the leaves of a nested mapping as (dotted key, value); an empty mapping below the top is a leaf.

    >>> dict(flatten({"a": {"b": 1, "c": {}}, "d": [2]}))
    {'a.b': 1, 'a.c': {}, 'd': [2]}
    """
    for key, value in (mapping or {}).items():
        if isinstance(value, dict) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
