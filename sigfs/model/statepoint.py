"""State points: which values can be one, how they are read, and the id that they give.

Owned here: the text that is hashed. It is spelled by the standard library alone, because signac's is, and because
every byte of it counts; the faster reader takes part only where it gives exactly what ``json.loads`` gives.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Final

import orjson
import xxhash

from sigfs.errors import InvalidStatePoint, InvalidValue
from sigfs.model.types import JobId, Json, StatePoint

ID_LENGTH: Final = 32
ID_DIGITS: Final = "0123456789abcdef"
MAX_DEPTH: Final = 200
"""Levels of nesting that are read and written. signac 2.4 itself gives up between 150 and 200; a fixed bound below
the interpreter's recursion limit lets every layer above walk a value recursively without guarding against it."""

DEFAULT_FUNCTION: Final = "md5"


def _md5(text: bytes) -> str:
    return hashlib.md5(text, usedforsecurity=False).hexdigest()


ID_FUNCTIONS: Final[Mapping[str, Callable[[bytes], str]]] = {
    DEFAULT_FUNCTION: _md5,
    "xxh3_128": xxhash.xxh3_128_hexdigest,
}
"""Name in ``workspace.rc`` -> function from the text to 32 lower-case hexadecimal digits."""

_canonical = json.JSONEncoder(sort_keys=True).encode
_plain = json.JSONEncoder().encode

# Integers beyond 64 bits have at least 19 digits. orjson silently makes floats of them, so a run of that many digits
# (every digit mapped to "0" first: two passes in C, about 0.4 us for a usual state point) goes to the standard library.
DIGITS_TO_ZERO: Final = bytes.maketrans(b"123456789", b"000000000")
LONG_NUMBER: Final = b"0" * 19


def is_job_id(name: str) -> bool:
    """Whether *name* is spelled like a job id: 32 lower-case hexadecimal digits.

    >>> is_job_id("0300c31b9d55c0196b3848d252e46c0f"), is_job_id("0300C31B9D55C0196B3848D252E46C0F")
    (True, False)
    """
    return len(name) == ID_LENGTH and not name.strip(ID_DIGITS)


def statepoint_id(statepoint: Json, function: str = DEFAULT_FUNCTION) -> JobId:
    """The id of *statepoint*: its JSON text with sorted keys, hashed.

    Works for everything that ``json.dumps`` can write, also for what `validate` would not let be created.

    Raises:
        InvalidStatePoint: *statepoint* cannot be written as JSON.
        ValueError: there is no such *function*.
    Source: signac's ``calc_id``.

    >>> statepoint_id({"foo": 42})
    '0300c31b9d55c0196b3848d252e46c0f'
    """
    digest = ID_FUNCTIONS.get(function)
    if digest is None:
        raise ValueError(f"unknown id function {function!r}: use one of {', '.join(ID_FUNCTIONS)}")
    try:
        text = _canonical(statepoint)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidStatePoint(f"not a JSON value: {error}") from error
    return JobId(digest(text.encode("ascii")))


def encode(statepoint: StatePoint | None) -> bytes:
    """The content of a state point file, spelled as signac 2 does: keys in the order given, ASCII, no final newline.

    Raises:
        InvalidStatePoint: *statepoint* cannot be written as JSON.
    """
    try:
        return _plain(statepoint).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidStatePoint(f"not a JSON value: {error}") from error


def validate(statepoint: object) -> dict[str, Json]:
    """Return *statepoint* as plain JSON data, a deep copy, if a job may be created with it.

    Tuples become lists, mappings dicts, subclasses of str, int and float their base; anything with a ``tolist``
    method (the scalars and arrays of numpy) is taken as what that gives. NaN and the infinities are valid,
    as in signac.

    Raises:
        InvalidStatePoint: not a mapping; a key that is no str, is empty or contains "." (which signac refuses, as
            queries spell nested keys with it); a value that JSON has no form for; over `MAX_DEPTH` levels. The
            message begins with the path of keys to the culprit.

    >>> validate({"box": (1, 2.5)})
    {'box': [1, 2.5]}
    """
    if not isinstance(statepoint, Mapping):
        raise InvalidStatePoint(f"a state point is a mapping of keys to JSON values, not {_article(statepoint)}")
    try:
        return _mapping(statepoint, (), MAX_DEPTH)
    except InvalidValue as error:
        raise InvalidStatePoint(str(error)) from None
    except RecursionError:
        raise InvalidStatePoint("nested too deep for the stack that is left") from None


def plain(value: object, path: tuple[str, ...] = ()) -> Json:
    """Return *value* as plain JSON data, a deep copy, made of it as `validate` makes that of a state point.

    Args:
        path: the keys that lead to where *value* is to be put. They count for its depth and begin error messages.
    Raises:
        InvalidValue: as `validate`.

    >>> plain((1, 2.5)), plain({"box": (1,)}, ("a",))
    ([1, 2.5], {'box': [1]})
    """
    try:
        return _value(value, path, max(0, MAX_DEPTH - len(path)))
    except RecursionError:
        raise _invalid(path, "nested too deep for the stack that is left") from None


def load_json(data: bytes) -> Json:
    """Exactly what ``json.loads(data)`` gives, mostly faster; any failure is a ValueError.

    NaN, infinities, integers of any size up to Python's limit of digits, lone surrogates, a byte order mark and UTF-16
    are read as the standard library reads them.

    Raises:
        ValueError: not JSON, an integer of more digits than Python converts, or over `MAX_DEPTH` levels of nesting.
    """
    if LONG_NUMBER in data.translate(DIGITS_TO_ZERO):
        value = _load_slowly(data)
    else:
        try:
            value = orjson.loads(data)
        except (ValueError, RecursionError):
            value = _load_slowly(data)
    # Counting brackets, also those inside strings, bounds the depth from above at the price of two passes in C.
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH and _too_deep(value):
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    return value


def _load_slowly(data: bytes) -> Json:
    try:
        value: Json = json.loads(data)
    except RecursionError:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels") from None
    return value


def _too_deep(value: Json) -> bool:
    # Level by level and not recursively: the interpreter's stack is what must not be relied on.
    level = [value]
    for _ in range(MAX_DEPTH):
        below: list[Json] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
        if not below:
            return False
        level = below
    return any(isinstance(item, (dict, list)) for item in level)


def _mapping(value: Mapping[object, object], path: tuple[str, ...], depth: int) -> dict[str, Json]:
    if depth == 0:
        raise _invalid(path, f"nested deeper than {MAX_DEPTH} levels, or contains itself")
    result: dict[str, Json] = {}
    for key, item in value.items():
        if not isinstance(key, str):
            raise _invalid(path, f"key {key!r} is {_article(key)}; a key must be a string")
        key = str.__str__(key)
        if not key:
            raise _invalid(path, "a key must not be empty")
        if "." in key:
            raise _invalid(path, f'key {key!r} contains "."; use a nested mapping instead')
        result[key] = _value(item, (*path, key), depth - 1)
    return result


def _value(value: object, path: tuple[str, ...], depth: int) -> Json:
    # Subclasses (IntEnum, str enumerations, numpy's float64) become what json writes them as.
    match value:
        case None | bool():
            return value
        case str():
            return str.__str__(value)
        case int():
            return _integer(int.__int__(value), path)
        case float():
            return float.__float__(value)
        case Mapping():
            return _mapping(value, path, depth)
        case list() | tuple():
            if depth == 0:
                raise _invalid(path, f"nested deeper than {MAX_DEPTH} levels, or contains itself")
            return [_value(item, (*path, str(i)), depth - 1) for i, item in enumerate(value)]
    tolist = getattr(value, "tolist", None)
    simple = tolist() if callable(tolist) and not isinstance(value, (type, memoryview)) else value
    if type(simple) is type(value):  # also numpy's extended precision, whose tolist gives itself
        raise _invalid(path, f"{_article(value)} has no form in JSON")
    return _value(simple, path, depth)


def _integer(value: int, path: tuple[str, ...]) -> int:
    try:
        str(value)
    except ValueError as error:  # more digits than Python converts: it could be written by nobody, nor read again
        raise _invalid(path, str(error)) from error
    return value


def _invalid(path: tuple[str, ...], message: str) -> InvalidValue:
    return InvalidValue(f"{'.'.join(path)}: {message}" if path else message)


def _article(value: object) -> str:
    name = type(value).__name__
    return "None" if value is None else f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"
