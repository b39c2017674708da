"""How values become names in the layouts whose names are not those of the path language.

Owned here: Python's spelling, as signac writes it, and Hive's. A name is never empty, ``.`` or ``..``, has no ``/``,
control byte or lone surrogate in it, and fits into 255 bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sigfs.errors import QuerySyntaxError
from sigfs.query.expr import ABSENT, Absent, Field, Space, Spelled
from sigfs.query.path import decode, encode
from sigfs.query.tokens import format_value, parse_value
from sigfs.tree.names import may_be_shortened, shorten

if TYPE_CHECKING:
    from sigfs.model.types import Json

NO_PARTITION: Final = "__HIVE_DEFAULT_PARTITION__"
"""What Hive's readers take for a missing value."""

_IMPOSSIBLE: Final = re.compile("[\x00-\x1f\x7f/\ud800-\udfff]")
_WHOLE: Final = {"": '""', ".": "%2E", "..": "%2E."}
# What Hive escapes in keys and values; a leading dot, which would hide the directory, besides.
_HIVE_UNSAFE: Final = re.compile("[\x00-\x1f\x7f\"#%'*/:=?\\\\{\\[\\]^\ud800-\udfff]|^\\.")
_CONSTANTS: Final[dict[str, Json]] = {
    "True": True,
    "False": False,
    "None": None,
    "nan": float("nan"),
    "inf": float("inf"),
    "-inf": float("-inf"),
}
_INTEGER: Final = re.compile("-?[0-9]{1,4000}")
_FLOAT: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?(e[-+][0-9]+)?")


def plain_name(text: str) -> str:
    """Give *text* as it is where it can be a name; else what cannot is percent-encoded.

    >>> [plain_name(text) for text in ("a b", "50%", "a/b", "..", "")]
    ['a b', '50%', 'a%2Fb', '%2E.', '""']
    """
    return shorten(_WHOLE.get(text) or encode(text, _IMPOSSIBLE))


def python_text(value: Json) -> str:
    """Spell *value* as signac does: ``str`` of it, lists as tuples.

    >>> [python_text(value) for value in (True, None, 1.0, [1, "a"])]
    ['True', 'None', '1.0', "(1, 'a')"]
    """
    return str(_with_tuples(value))


def _with_tuples(value: Json) -> Json:
    return tuple(_with_tuples(item) for item in value) if isinstance(value, list) else value


def python_candidates(text: str) -> list[Json] | None:
    """Give the values that ``python_text`` may spell *text*; None if they cannot be told from it."""
    if text[:1] in ("(", "[", "{"):
        return None
    found: list[Json] = [text]
    if text in _CONSTANTS:
        found.append(_CONSTANTS[text])
    if _INTEGER.fullmatch(text):
        found.append(int(text))
    if _FLOAT.fullmatch(text):
        found.append(float(text))
    return found


@dataclass(frozen=True, slots=True)
class PythonSpelling:
    """The value of one key as signac spells it."""

    def __call__(self, values: tuple[Json, ...]) -> str:
        """Give the name; that of no value is empty, which no name is."""
        return "" if values[0] is ABSENT else plain_name(python_text(values[0]))

    def candidates(self, name: str) -> list[Json] | None:
        """Give the values that may have *name*."""
        if may_be_shortened(name):
            return None
        found = python_candidates(name)
        if found is not None:
            found += [text for text, spelled in _WHOLE.items() if spelled == name]
            try:
                found.append(decode(name))
            except QuerySyntaxError:
                return None
        return found


PYTHON: Final = PythonSpelling()


@dataclass(frozen=True, slots=True)
class Lacking:
    """Whether there is a value at a key.

    Attributes:
        or_empty: an empty mapping is none, as in signac.
    """

    or_empty: bool

    def __call__(self, values: tuple[Json, ...]) -> str:
        """Give one of two words."""
        value = values[0]
        return "lacks" if value is ABSENT or (self.or_empty and value == {}) else "has"

    def candidates(self, name: str) -> list[Json] | None:
        """Give the values that count as none."""
        return [{}] if name == "lacks" else None


def lacks(field: Field, *, or_empty: bool = False) -> Spelled:
    """Give the condition that a job has no value at *field*, be it that it has a mapping with deeper keys there."""
    return Spelled((field,), Lacking(or_empty), "lacks")


def hive_name(field: Field, value: Json | Absent) -> str:
    """Name the partition in which *field* has *value*.

    >>> [hive_name(Field(Space.SP, key), value) for key, value in (("a", 1.5), ("a=b", "x/y"), ("a", "42"))]
    ['a=1.5', 'a%3Db=x%2Fy', 'a=%2242%22']
    """
    text = NO_PARTITION if isinstance(value, Absent) else _hive_text(value)
    return shorten(f"{encode(field.key, _HIVE_UNSAFE)}={text}")


def _hive_text(value: Json) -> str:
    text = format_value(value)
    return encode(f'"{text}"' if text == NO_PARTITION else text, _HIVE_UNSAFE)


def parse_hive_name(name: str) -> tuple[Field, Json | Absent] | None:
    """Read what ``hive_name`` wrote, unless that was shortened, and other spellings of a value; None if it is none.

    >>> parse_hive_name("a=1.50"), parse_hive_name("a"), parse_hive_name("a=__HIVE_DEFAULT_PARTITION__")
    ((Field(space=<Space.SP: 'sp'>, key='a'), 1.5), None, (Field(space=<Space.SP: 'sp'>, key='a'), ABSENT))
    """
    key, equals, text = name.partition("=")
    if not equals:
        return None
    try:
        field = Field(Space.SP, decode(key))
        return field, ABSENT if text == NO_PARTITION else parse_value(decode(text) if text else "")
    except QuerySyntaxError:
        return None
