"""State points that paths spell: by a schema of the user's, or as views are written.

Owned here: both ways from a path, relative to what is imported, to a state point. Pure.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from sigfs.errors import InvalidStatePoint, NotImportable, NotInvertible, QuerySyntaxError
from sigfs.model.statepoint import is_job_id, validate
from sigfs.model.types import Json, StatePoint
from sigfs.query.expr import ABSENT, Absent, Compare, Exists, Field, Op, Space
from sigfs.query.path import parse_key, parse_operand
from sigfs.tree.names import may_be_shortened
from sigfs.tree.spellings import parse_hive_name, python_candidates

LEAF: Final = "job"
"""What `signac view` calls the link to a job."""

_FIELD: Final = re.compile(r"\{([^{}]*)\}")
_KEY_AND_TYPE: Final = re.compile(r"(?P<key>[.\w]+)(?::(?P<type>[a-z]+))?")

_BOOLEANS: Final = {"true": True, "1": True, "false": False, "0": False}
_TYPES: Final[dict[str, Callable[[str], Json]]] = {
    "str": str,
    "int": int,
    "float": float,
    "bool": lambda text: _BOOLEANS[text.lower()],
}
# What signac reads, and, for paths that it does not, whatever a value may look like.
_SIGNAC: Final = {
    "str": r"\w+",
    "int": r"[+-]?[0-9]+",
    "float": r"[+-]?(?:[0-9]*\.)?[0-9]+",
    "bool": r"(?i:true|false)|[01]",
}
_WIDE: Final = {
    **_SIGNAC,
    "str": r"[^/]+",
    "float": r"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|(?i:inf|infinity|nan))",
}


class Schema:
    """A path with fields, ``foo/{foo:int}/{x.y:float}``, as signac spells one.

    A field is a key, nested ones with dots, and a type: str (the default), int, float or bool. Everything else is what
    it is. A field that is there twice has the same text twice.

    Attributes:
        depth: how many steps the path has.

    >>> Schema("foo/{foo:int}/{x.y:float}").read("foo/42/1.5"), Schema("{a}").read("b/c")
    ({'foo': 42, 'x': {'y': 1.5}}, None)
    """

    def __init__(self, text: str) -> None:
        """Read the schema.

        Raises:
            NotImportable: it cannot be understood, or has no fields.
        """
        self.text = os.path.normpath(text) if text else ""
        self._types: dict[str, str] = {}
        for word in _FIELD.findall(self.text):
            found = _KEY_AND_TYPE.fullmatch(word)
            if found is None or not all(found["key"].split(".")):
                raise self._error(f"{{{word}}} is no field: write {{KEY}} or {{KEY:TYPE}}, nested keys with dots")
            key, kind = found["key"], found["type"] or self._types.get(found["key"], "str")
            if kind not in _TYPES:
                raise self._error(f"there is no type {kind!r}: use one of {', '.join(_TYPES)}")
            if self._types.setdefault(key, kind) != kind:
                raise self._error(f"{key} has two types")
        if not self._types:
            raise self._error("there are no fields in it, as in foo/{foo:int}")
        try:
            _nested((key, "") for key in self._types)
        except NotInvertible as error:
            raise self._error(str(error)) from None
        self.depth = self.text.count("/") + 1
        self._patterns = [self._pattern(words) for words in (_SIGNAC, _WIDE)]

    def _error(self, why: str) -> NotImportable:
        return NotImportable(f"schema {self.text!r}: {why}")

    def _pattern(self, words: dict[str, str]) -> re.Pattern[str]:
        names: dict[str, str] = {}
        pattern = ""
        end = 0
        for field in _FIELD.finditer(self.text):
            key = field[1].partition(":")[0]
            pattern += re.escape(self.text[end : field.start()])
            if key in names:
                pattern += f"(?P={names[key]})"
            else:
                names[key] = f"field{len(names)}"
                pattern += f"(?P<{names[key]}>{words[self._types[key]]})"
            end = field.end()
        return re.compile(pattern + re.escape(self.text[end:]))

    def read(self, path: str) -> dict[str, Json] | None:
        """The state point that *path* says; None if it does not fit."""
        for pattern in self._patterns:
            if found := pattern.fullmatch(path):
                texts = zip(self._types, found.groups(), strict=True)
                return _nested((key, _TYPES[self._types[key]](text)) for key, text in texts)
        return None


class Spelled(NamedTuple):
    """What a path says.

    Attributes:
        statepoint: None if it ends with a key, and its value is to come.
        id: that of the job, if its last step is one.
        is_leaf: nothing can come below but what is in the job.
    """

    statepoint: StatePoint | None
    id: str | None = None
    is_leaf: bool = False


def read_spelled(path: str) -> Spelled:
    """Read a path of a view: keys and values in turn, or ``key=value``; or of ``signac view``, which ends with `LEAF`.

    Raises:
        NotInvertible: it is none, or does not say what the values are.

    >>> [read_spelled(path).statepoint for path in ("foo/42/bar=true", "foo", "a/True/job")]
    [{'foo': 42, 'bar': True}, None, {'a': True}]
    """
    names = path.split("/")
    job_id = names.pop() if is_job_id(names[-1]) and len(names) > 1 else None
    is_python = job_id is None and len(names) > 1 and len(names) % 2 == 1 and names[-1] == LEAF
    if is_python:
        names.pop()
    pairs: list[tuple[str, Json]] = []
    rest = iter(names)
    for name in rest:
        if may_be_shortened(name):
            raise NotInvertible(f"{name} is too short for what it stands for")
        hive = parse_hive_name(name)
        if hive is not None:
            field, value = hive
        else:
            text = next(rest, None)
            if text is None:
                if job_id is not None:
                    raise NotInvertible(f"{name} has no value")
                return Spelled(None)
            field, value = _pair(name, text, is_python)
        if not isinstance(value, Absent):
            pairs.append((field.key, value))
    return Spelled(_nested(pairs), job_id, is_python or job_id is not None)


def _pair(key: str, name: str, is_python: bool) -> tuple[Field, Json | Absent]:
    if may_be_shortened(name):
        raise NotInvertible(f"{name} is too short for what it stands for")
    try:
        field, operator = parse_key(key)
        if field.space is not Space.SP:
            raise NotInvertible(f"{key} is no key of a state point")
        if is_python and not operator:
            return field, _python(name)
        term = parse_operand(field, operator, name)
    except QuerySyntaxError as error:
        raise NotInvertible(str(error)) from None
    match term:
        case Compare(_, Op.EQ | Op.IS, value):
            return field, value.json
        case Exists(_, False):
            return field, ABSENT
        case _:
            raise NotInvertible(f"{key}/{name} settles no value")


def _python(name: str) -> Json:
    candidates = python_candidates(name)
    if candidates is None:
        raise NotInvertible(f"{name} does not say which value is meant")
    return next((value for value in candidates if not isinstance(value, str)), candidates[0])


def _nested(pairs: Iterable[tuple[str, Json]]) -> dict[str, Json]:
    """Make a state point of dotted keys and values."""
    statepoint: dict[str, Json] = {}
    for key, value in pairs:
        *above, last = key.split(".")
        inner = statepoint
        for name in above:
            deeper = inner.setdefault(name, {})
            if not isinstance(deeper, dict):
                raise NotInvertible(f"{name} would have a value beside deeper keys")
            inner = deeper
        if last in inner:
            raise NotInvertible(f"{key} would have two values, or one beside deeper keys")
        inner[last] = value
    try:
        return validate(statepoint)
    except InvalidStatePoint as error:
        raise NotInvertible(f"no state point: {error}") from None
