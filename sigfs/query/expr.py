"""The typed expression that every spelling of a query parses to.

Owned here: the node classes, nothing that computes. All are frozen, hashable and compare by structure;
values compare by their canonical JSON text, so that ``1``, ``1.0``, ``true`` and ``"1"`` are four values.

``Expr`` is a closed union: code that handles it uses ``match`` and ends in ``assert_never``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol, TypeAlias

from sigfs.model.types import Json


class Space(StrEnum):
    """Where a key is looked up."""

    SP = "sp"
    DOC = "doc"
    ID = "id"


@dataclass(frozen=True, slots=True, order=True)
class Field:
    """A dotted key in a space: ``doc.bar`` is ``Field(Space.DOC, "bar")``.

    ``Space.ID`` has the empty key.
    """

    space: Space
    key: str


class Value:
    """A JSON value that can be hashed and compared exactly.

    >>> Value(1) == Value(1.0), Value([1, 2]) == Value([1, 2]), Value({"b": 1, "a": 2}).text
    (False, True, '{"a": 2, "b": 1}')
    """

    __slots__ = ("json", "text")

    json: Json
    text: str

    def __init__(self, value: Json) -> None:
        """Wrap *value*.

        Raises:
            TypeError: if *value* is no JSON value.
        """
        self.json = value
        # of an integer as json.dumps does, in a tenth of its time
        self.text = str(value) if type(value) is int else json.dumps(value, sort_keys=True, ensure_ascii=False)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Value) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Value({self.text})"


class Op(StrEnum):
    """The comparisons; the value is the operator's name in a mapping, and after ``@`` without the ``$``."""

    EQ = "$eq"
    NE = "$ne"
    GT = "$gt"
    GTE = "$gte"
    LT = "$lt"
    LTE = "$lte"
    IS = "$is"  # as $eq, but NaN is NaN: what a directory named NaN selects


@dataclass(frozen=True, slots=True)
class And:
    """Holds if every term holds; ``And(())``, also named ``EVERYTHING``, holds for every job."""

    terms: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """Holds if some term holds; ``Or(())`` holds for no job."""

    terms: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """Holds if the term does not."""

    term: Expr


@dataclass(frozen=True, slots=True)
class Compare:
    """Holds if the job has the field and its value compares so with ``value``."""

    field: Field
    op: Op
    value: Value


@dataclass(frozen=True, slots=True)
class In:
    """Holds if the job has the field and its value is (``negated``: is not) equal to one of ``values``."""

    field: Field
    values: tuple[Value, ...]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Exists:
    """Holds if the job has (``present``) or lacks the field; a mapping that holds deeper keys counts."""

    field: Field
    present: bool = True


@dataclass(frozen=True, slots=True)
class Match:
    """Holds if the value is a string in which the regular expression (of ``regex``, beyond ``re``) is found."""

    field: Field
    pattern: str


@dataclass(frozen=True, slots=True)
class IsType:
    """Holds if the value has this JSON type: null, bool, int, float, str, list or dict."""

    field: Field
    type: str


@dataclass(frozen=True, slots=True)
class Near:
    """Holds if the value is a number as near to ``value`` as ``math.isclose`` with these tolerances says."""

    field: Field
    value: float
    relative: float = 1e-09
    absolute: float = 0.0


@dataclass(frozen=True, slots=True)
class Where:
    """Holds if the callable says so of the value. From Python only: no text, path or file can spell it."""

    field: Field
    function: Callable[[Json], object]


class Absent:
    """The type of ``ABSENT``."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = Absent()
"""Stands for the value of a field that a job does not have, or where it has a mapping with deeper keys."""


class Spelling(Protocol):
    """How values become a name; can be hashed and compared, and gives the same name always."""

    def __call__(self, values: tuple[Json, ...]) -> str:
        """Give the name for the values of some fields, ``ABSENT`` where there is none."""

    def candidates(self, name: str) -> list[Json] | None:
        """Give all values of the one field that can have *name*, and maybe others; None if they cannot be told."""


@dataclass(frozen=True, slots=True)
class Spelled:
    """Holds if the values of *fields* are spelled *name*. From Python only: no text, path or file can say it.

    What a directory of a template selects: no matter which values there are, the same name is the same condition.
    """

    fields: tuple[Field, ...]
    spelling: Spelling
    name: str


Expr: TypeAlias = And | Or | Not | Compare | In | Exists | Match | IsType | Near | Where | Spelled

EVERYTHING = And(())
