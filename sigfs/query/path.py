"""The path spelling: ``foo/42/doc.bar/true/a@gt/3``, and the names of directories it is made of.

Owned here: percent-encoding. A component is the UTF-8 text of a token in which ``/``, ``%``, control bytes,
lone surrogates and a leading ``.`` are written ``%XX``; in keys also ``@``, which introduces an operator. Any other
character may be written so, too. Names that begin with ``.`` belong to the tree and are no query; so do names too
long for a directory, which the tree shortens.
"""

from __future__ import annotations

import re

from sigfs.errors import QuerySyntaxError
from sigfs.model.types import Json
from sigfs.query.expr import And, Expr, Field
from sigfs.query.mapping import join
from sigfs.query.pairs import format_pair, parse_lone, parse_pair
from sigfs.query.tokens import format_key, format_value, located
from sigfs.query.tokens import parse_key as parse_key_token

_UNSAFE = re.compile("[\x00-\x1f\x7f/%\ud800-\udfff]|^\\.")
_UNSAFE_IN_KEY = re.compile("[\x00-\x1f\x7f/%@\ud800-\udfff]|^\\.")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})?")


def parse_path(path: str) -> Expr:
    """Read a query spelled as a path: components are keys and values in turn; empty ones are ignored.

    A last key without value means that it exists.

    Raises:
        QuerySyntaxError: if it cannot be understood, with the column; also if a component begins with a dot.

    >>> from sigfs.query.text import parse_text
    >>> parse_path("foo/42/a@gt/3/") == parse_text("foo 42 a.$gt 3")
    True
    """
    components = [(part.start() + 1, part.group()) for part in re.finditer("[^/]+", path)]
    terms: list[Expr] = []
    for i in range(0, len(components), 2):
        column, name = components[i]
        with located(path, column):
            field, operator = _parse_key(name)
            if i + 1 == len(components):
                terms.append(parse_lone(field, operator))
                break
        column, name = components[i + 1]
        with located(path, column):
            terms += parse_pair(field, operator, decode(name))
    return join(terms)


def format_path(expr: Expr) -> str:
    """Spell *expr* as a path without leading or trailing slash; `parse_path` gives *expr* back.

    Raises:
        ValueError: if *expr* contains ``Where``, which only Python can say.

    >>> format_path(parse_path("b/1e-1/c/x%2Fy/a.$in/[1,2]"))
    'b/0.1/c/x%2Fy/a@in/[1, 2]'
    """
    terms = expr.terms if isinstance(expr, And) and len(expr.terms) != 1 else (expr,)
    names = []
    for term in terms:
        field, operator, token = format_pair(term)
        names += [key_name(field, operator), encode(token)]
    return "/".join(names)


def key_name(field: Field, op: str = "") -> str:
    """Name the directory of *field*, with ``@op`` if *op* is given (with or without ``$``).

    Not shortened: may be longer than a directory's name can be.

    Raises:
        ValueError: if *op* is unknown, or *field* is a part of the id.

    >>> from sigfs.query.expr import Space
    >>> key_name(Field(Space.SP, "foo"), "exists"), key_name(Field(Space.SP, "job")), key_name(Field(Space.DOC, "a@b"))
    ('foo@exists', 'sp.job', 'doc.a%40b')
    """
    operator = "$" + op.removeprefix("$") if op else ""
    name = encode(format_key(field, operator, at=False), _UNSAFE_IN_KEY)
    return f"{name}@{operator[1:]}" if operator else name


def value_name(value: Json) -> str:
    """Name the directory of *value*: different for every two values that JSON writes differently.

    Never empty, ``.`` or ``..``, without ``/`` and NUL, and valid UTF-8. Not shortened: may be longer than a
    directory's name can be.

    >>> [value_name(value) for value in (1, 1.0, "1", "a/b", "..", "")]
    ['1', '1.0', '"1"', 'a%2Fb', '%2E.', '""']
    """
    return encode(format_value(value))


def parse_key(name: str) -> tuple[Field, str]:
    """Read a directory's name as a key.

    Returns:
        The field, and the operator with ``$``, or "" if there is none. The logical operators (``$or`` or ``@or``)
        come with ``Field(Space.SP, "")``.
    Raises:
        QuerySyntaxError: if it cannot be a key.
    """
    with located(name, 1):
        return _parse_key(name)


def parse_operand(field: Field, op: str, name: str) -> Expr:
    """Read the directory's name *name*, below a key that `parse_key` gave as *field* and *op*.

    Returns:
        What the path ``KEY[@op]/name`` says.
    Raises:
        QuerySyntaxError: if it is not what the operator takes.
    """
    with located(name, 1):
        return join(parse_pair(field, op, decode(name)))


def _parse_key(name: str) -> tuple[Field, str]:
    key, at, operator = name.partition("@")
    if at and not operator:
        raise QuerySyntaxError("expected an operator after @; an @ in a key is written %40")
    return parse_key_token(decode(key), "$" + decode(operator) if at else "", at=False)


def encode(token: str, unsafe: re.Pattern[str] = _UNSAFE) -> str:
    """Write the characters of *token* that *unsafe* finds as ``%XX``."""
    return unsafe.sub(
        lambda found: "".join(f"%{byte:02X}" for byte in found.group().encode("utf-8", "surrogatepass")), token
    )


def decode(name: str) -> str:
    """Read what `encode` wrote.

    Raises:
        QuerySyntaxError: a leading dot, ``%`` without two digits, or what is not UTF-8.
    """
    if name.startswith("."):
        raise QuerySyntaxError("a name that begins with a dot is no key or value; a dot that is meant is written %2E")
    try:
        return _ESCAPE.sub(_byte, name.encode()).decode("utf-8", "surrogatepass")
    except UnicodeError:
        raise QuerySyntaxError("expected UTF-8, as it stands or percent-encoded") from None


def _byte(escape: re.Match[bytes]) -> bytes:
    if escape.group(1) is None:
        raise QuerySyntaxError("expected two hexadecimal digits after %; a percent sign is written %25")
    return bytes.fromhex(escape.group(1).decode("ascii"))
