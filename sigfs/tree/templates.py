"""Templates: layouts that the user writes as a format string, ``T_{T:.1f}/{job.sp.a.b}/{{auto}}/{job.id}``.

Owned here: reading them, and how values become the components of a path. A template is data: its fields are looked up
among the keys of jobs, and nothing in it can reach an attribute or run code.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from sigfs.errors import BadTemplate, QuerySyntaxError
from sigfs.query.expr import ABSENT, Field, Space
from sigfs.query.path import decode, encode
from sigfs.tree.names import may_be_shortened, shorten
from sigfs.tree.spellings import python_candidates, python_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from sigfs.model.types import Json

NOTHING: Final = "@absent"
"""What a key that a job lacks is spelled; a string that begins so is percent-encoded."""

_TOKEN: Final = re.compile(r"\{\{auto(?::(?P<separator>[^{}]*))?\}\}|\{\{|\}\}|\{(?P<field>[^{}]*)\}|[{}]|/|[^{}/]+")
_FIELD: Final = re.compile(r"(?P<name>[^!:]*)(?:!(?P<conversion>[^:]*))?(?::(?P<spec>.*))?", re.DOTALL)
_SUBKEY: Final = re.compile(r"\[([^\]]*)\]")
_LOSSLESS: Final = re.compile("|s|d|0[0-9]+d?")
_LONG: Final = re.compile(r"\d{4}")  # digits of any script, as format() takes them
_UNSAFE: Final = re.compile("[\x00-\x1f\x7f/%\ud800-\udfff]")
_CONVERSIONS: Final[dict[str, Callable[[Json], object]]] = {"": lambda value: value, "s": str, "r": repr, "a": ascii}


def _unescape(text: str) -> str:
    return decode(f"_{text}")[1:]  # a leading dot is one only at the beginning of a component


@dataclass(frozen=True, slots=True)
class Hole:
    """A format field.

    Attributes:
        spec, conversion: as in ``str.format``, without ``:`` and ``!``.
    """

    field: Field
    spec: str = ""
    conversion: str = ""

    @property
    def word(self) -> str:
        """The field without its braces."""
        name = {Space.SP: self.field.key, Space.DOC: f"job.doc.{self.field.key}", Space.ID: "job.id"}[self.field.space]
        return name + (f"!{self.conversion}" if self.conversion else "") + (f":{self.spec}" if self.spec else "")

    @property
    def is_lossless(self) -> bool:
        """Whether the text says the whole value."""
        return self.conversion in ("", "s") and _LOSSLESS.fullmatch(self.spec) is not None

    def says(self, value: Json, text: str) -> bool:
        """Tell whether *value* is spelled *text*, once its percent signs are read."""
        return value is not ABSENT and _unescape(self.text(value)) == text

    def text(self, value: Json) -> str:
        """Spell *value*; in Python's words where the spec does not fit it."""
        if value is ABSENT:
            return NOTHING
        try:
            text = format(_CONVERSIONS[self.conversion](value), self.spec)
        except (TypeError, ValueError, OverflowError):
            text = str(value)
        return ("%40" + encode(text[1:], _UNSAFE)) if text.startswith("@") else encode(text, _UNSAFE)


@dataclass(frozen=True, slots=True)
class Auto:
    """The keys that no other part names and that differ between jobs.

    Attributes:
        separator: between keys and values in one component; None: each is a component.
    """

    separator: str | None = None


@dataclass(frozen=True, slots=True)
class Component:
    """One component of a template's paths, and as such a ``Spelling``.

    Attributes:
        index: its place in the template.
        parts: what it is made of: text, fields, and at most one ``Auto`` with a separator.
        keys: what that stands for at present.
    """

    index: int
    parts: tuple[str | Hole | Auto, ...]
    keys: tuple[Field, ...] = ()

    @property
    def holes(self) -> tuple[Hole, ...]:
        """Its fields."""
        return tuple(part for part in self.parts if isinstance(part, Hole))

    @property
    def fields(self) -> tuple[Field, ...]:
        """The keys that it reads, in the order in which a call takes their values."""
        return (*dict.fromkeys(hole.field for hole in self.holes), *self.keys)

    @property
    def is_auto(self) -> bool:
        """Whether ``{{auto:...}}`` is part of it."""
        return any(isinstance(part, Auto) for part in self.parts)

    def with_keys(self, keys: tuple[Field, ...]) -> Component:
        """Give the same with *keys* for ``{{auto:...}}``."""
        return replace(self, keys=keys) if self.is_auto else self

    def __call__(self, values: tuple[Json, ...]) -> str:
        """Give the component."""
        by_field = dict(zip(self.fields, values, strict=True))
        text = ""
        for part in self.parts:
            match part:
                case str():
                    text += part
                case Hole(field):
                    text += part.text(by_field[field])
                case Auto(separator):
                    tokens = (
                        token
                        for key in self.keys
                        if by_field[key] is not ABSENT and by_field[key] != {}
                        for token in (key.key, python_text(by_field[key]))
                    )
                    text += encode((separator or "").join(tokens), _UNSAFE)
        if text.startswith("."):
            text = "%2E" + text[1:]
        return shorten(text or '""')

    def fits(self, name: str) -> bool:
        """Tell whether *name* has the text that every name of this component has."""
        return name == '""' or re.fullmatch(self._pattern(".*"), name, re.DOTALL) is not None

    def texts(self, name: str) -> list[str] | None:
        """Give what *name* says for each hole; None if that is not clear."""
        if name == '""' and len(self.parts) == 1:
            return [""]
        shortest = re.fullmatch(self._pattern("(.*?)"), name, re.DOTALL)
        longest = re.fullmatch(self._pattern("(.*)"), name, re.DOTALL)
        if shortest is None or longest is None or shortest.groups() != longest.groups() or may_be_shortened(name):
            return None
        try:
            return [_unescape(text) for text in shortest.groups()]
        except QuerySyntaxError:
            return None

    def _pattern(self, hole: str) -> str:
        return "".join(re.escape(part) if isinstance(part, str) else hole for part in self.parts)

    def candidates(self, name: str) -> list[Json] | None:
        """Give the values that may have *name*, if the component is one plain field with text around it."""
        text = self.inner(name)
        if text is None or may_be_shortened(name):
            return None
        (hole,) = self.holes
        if hole.spec or hole.conversion:
            return None
        return [text] if hole.field.space is Space.ID else python_candidates(text)

    def inner(self, name: str) -> str | None:
        """Give what *name* says for the one field of the component; None if it has not one, or *name* does not fit."""
        if len(self.holes) != 1 or self.is_auto:
            return None
        at = next(at for at, part in enumerate(self.parts) if isinstance(part, Hole))
        before = "".join(part for part in self.parts[:at] if isinstance(part, str))
        after = "".join(part for part in self.parts[at + 1 :] if isinstance(part, str))
        if not (name.startswith(before) and name.endswith(after) and len(name) >= len(before) + len(after)):
            return None
        if name == '""' and not before and not after:
            return ""
        try:
            return _unescape(name[len(before) : len(name) - len(after)])
        except QuerySyntaxError:
            return None


@dataclass(frozen=True, slots=True)
class Template:
    """A template as it was read.

    Attributes:
        text: as the user wrote it.
        components: in the order of the path; ``Auto`` alone stands for any number of them.
    """

    text: str
    components: tuple[Component | Auto, ...]

    @property
    def holes(self) -> tuple[Hole, ...]:
        """All fields."""
        return tuple(hole for each in self.components if isinstance(each, Component) for hole in each.holes)

    @property
    def has_auto(self) -> bool:
        """Whether ``{{auto}}`` is part of it."""
        return any(map(_is_auto, self.components))

    @property
    def reads_documents(self) -> bool:
        """Whether a field is one of documents."""
        return any(hole.field.space is Space.DOC for hole in self.holes)


@lru_cache(64)
def parse_template(text: str) -> Template:
    """Read a template.

    Raises:
        BadTemplate: it cannot be understood; the message says which field, and where.

    >>> [hole.field.key for hole in parse_template("T_{T:.1f}/{job.sp.a.b}/{{auto}}").holes]
    ['T', 'a.b']
    """
    components: list[Component | Auto] = []
    parts: list[str | Hole | Auto] = []
    starts = 1

    def end() -> None:
        if not parts:
            return
        if parts == [Auto()]:
            components.append(Auto())
        elif Auto() in parts:
            raise _bad(text, starts, "{{auto}} stands alone between slashes; {{auto:_}} may have text beside it")
        else:
            first = parts[0]
            if isinstance(first, str) and first.startswith("."):
                raise _bad(text, starts, "a directory's name cannot begin with a dot here")
            components.append(Component(len(components), tuple(parts)))
        parts.clear()

    for found in _TOKEN.finditer(text):
        token, column = found.group(), found.start() + 1
        if token == "/":
            end()
            starts = column + 1
            continue
        part = _part(text, column, found)
        if isinstance(part, Auto) and any(_is_auto(each) for each in (*parts, *components)):
            raise _bad(text, column, "{{auto}} may stand once")
        parts.append(part)
    end()
    if not any(_is_auto(each) or (isinstance(each, Component) and each.holes) for each in components):
        raise _bad(text, 1, "expected a field, as {KEY} or {{auto}}")
    return Template(text, tuple(components))


def _is_auto(part: object) -> bool:
    return isinstance(part, Auto) or (isinstance(part, Component) and part.is_auto)


def _part(text: str, column: int, found: re.Match[str]) -> str | Hole | Auto:
    token, separator = found.group(), found["separator"]
    if token.startswith("{{auto"):
        if separator and separator != "/" and _UNSAFE.search(separator):
            raise _bad(text, column, f"{separator!r} cannot be part of a name")
        return Auto(separator if separator and separator != "/" else None)
    if found["field"] is not None:
        return _hole(text, column, found["field"])
    if token in ("{{", "}}"):
        raise _bad(text, column, "only {{auto}} and {{auto:SEPARATOR}} are written with two braces")
    if token in ("{", "}"):
        raise _bad(text, column, f"a single {token}: fields are written {{KEY}}")
    if _UNSAFE.search(token):
        raise _bad(text, column, f"{token!r} cannot be part of a name")
    return token


def _hole(text: str, column: int, inner: str) -> Hole:
    read = _FIELD.fullmatch(inner)
    assert read is not None  # matches everything
    name, conversion, spec = read["name"], read["conversion"] or "", read["spec"] or ""
    if conversion not in _CONVERSIONS or (read["conversion"] is not None and not conversion):
        raise _bad(text, column, f"{{{inner}}}: the conversion after ! is one of s, r, a")
    if _LONG.search(spec):
        raise _bad(text, column, f"{{{inner}}}: no name is that long")
    if spec:
        _check_spec(text, column, inner, spec)
    return Hole(_field(text, column, inner, name), spec, conversion)


def _check_spec(text: str, column: int, inner: str, spec: str) -> None:
    for value in (1, 1.5, "x"):
        try:
            format(value, spec)
        except (TypeError, ValueError):
            continue
        return
    raise _bad(text, column, f"{{{inner}}}: {spec!r} formats neither numbers nor text")


def _field(text: str, column: int, inner: str, name: str) -> Field:
    dotted = _SUBKEY.sub(r".\1", name)
    words = dotted.split(".")
    if "[" in dotted or "]" in dotted or "" in words:
        raise _bad(text, column, f"{{{inner}}}: expected a key, as {{a}}, {{a.b}}, {{job.doc.a}} or {{job.id}}")
    if any(word.startswith("__") for word in words):
        raise _bad(text, column, f"{{{inner}}}: no such thing; fields are keys of jobs, and job.id")
    if words[0] == "auto":
        raise _bad(text, column, f"{{{inner}}}: auto has two braces, {{{{auto}}}}; a key of that name is job.sp.auto")
    if words[0] != "job":
        return Field(Space.SP, dotted)
    match words[1:]:
        case [] | ["id"]:
            return Field(Space.ID, "")
        case ["sp" | "statepoint", key, *more]:
            return Field(Space.SP, ".".join([key, *more]))
        case ["doc" | "document", key, *more]:
            return Field(Space.DOC, ".".join([key, *more]))
        case _:
            raise _bad(text, column, f"{{{inner}}}: of a job there are job.id, job.sp.KEY and job.doc.KEY")


def _bad(text: str, column: int, message: str) -> BadTemplate:
    return BadTemplate(f"the layout {text!r}, character {column}: {message}")
