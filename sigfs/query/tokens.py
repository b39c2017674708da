"""The two kinds of token that a query is made of: keys and values.

Owned here: the grammar that the text, path and mapping spellings share, both ways. A token is plain text, already
freed of the quotes of a shell or the percent signs of a path. Nothing here knows where a token stands: errors
carry no column, callers that know it add it (`located`).

A formatter asks the parser whether the short spelling would be read back, and quotes where it would not: so the
two cannot drift apart.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Sequence

from sigfs.errors import QuerySyntaxError
from sigfs.model.types import Json
from sigfs.query.expr import Field, Space

LOGICAL = ("$and", "$or", "$not")
"""Operators that stand alone, without a key."""

OPERATORS = (
    *("$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin"),
    *("$regex", "$exists", "$type", "$near", "$is", "$where"),
    *LOGICAL,
)

NO_KEY = Field(Space.SP, "")
"""Stands for the key of a logical operator, which has none."""

_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?P<point>\.[0-9]*)?|(?P<bare_point>\.[0-9]+))(?P<exponent>[eE][+-]?[0-9]+)?")

_WORDS: dict[str, Json] = {
    "null": None,
    "true": True,
    "false": False,
    "NaN": float("nan"),
    "Infinity": float("inf"),
    "-Infinity": float("-inf"),
}

# What a shortened directory name ends with: no token may, lest two directories share a name.
_SHORTENED = re.compile(r"~[0-9a-f]{16}\Z")

# The opening quote of a key, after the prefix if there is one.
_QUOTED_KEY = re.compile(r'(?:(sp|doc)\.)?(?=")')


@contextlib.contextmanager
def located(text: str, column: int) -> Iterator[None]:
    """Give errors raised within, if they have no place yet, the place *column* (1-based) in *text*."""
    try:
        yield
    except QuerySyntaxError as error:
        if error.column:
            raise
        raise QuerySyntaxError(str(error), text, column) from None
    except RecursionError:
        raise QuerySyntaxError("a query nested too deeply", text, column) from None


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """Say which of *known* is most like *word*, as the middle of an error message; empty if none is."""
    import difflib

    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]}? " if near else ""


def parse_json(token: str) -> Json:
    """Read JSON as the standard library does (NaN and integers of any size included).

    Raises:
        QuerySyntaxError: if *token* is no JSON; it says where.
    """
    try:
        return json.loads(token)
    except json.JSONDecodeError as error:
        if token[:1] in ("[", "{") and error.pos >= len(token):
            raise QuerySyntaxError(
                f"expected JSON because it begins with {token[:1]}, but it has no end: {error.msg}; JSON that contains "
                "white space goes into single quotes, as a.$in '[8, 11]'; a string that begins so is written in "
                f"double quotes, as {quote(token)}"
            ) from None
        raise QuerySyntaxError(
            f"expected JSON because it begins with {token[:1]}, but at character {error.pos + 1} of it: "
            f"{error.msg}; a string that begins so is written in double quotes, as {quote(token)}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise QuerySyntaxError(f"JSON that cannot be read: {error}") from None


def quote(string: str) -> str:
    """Write *string* as JSON, all characters but controls as they are (lone surrogates too)."""
    return json.dumps(string, ensure_ascii=False)


# ---- values


def parse_regex(token: str) -> str | None:
    """Give the pattern if *token* is ``/pattern/``, else None."""
    return token[1:-1] if len(token) >= 2 and token[0] == token[-1] == "/" else None


def parse_value(token: str) -> Json:
    """Read a value token that is no ``/pattern/``.

    Raises:
        QuerySyntaxError: if it begins like JSON and is none.

    >>> [parse_value(token) for token in ("42", "1e-1", "true", "[1, 2]", '"42"', "methyl", "007", "")]
    [42, 0.1, True, [1, 2], '42', 'methyl', 7, '']
    """
    if token in _WORDS:
        return _WORDS[token]
    number = _NUMBER.fullmatch(token)
    if number:
        if any(number.groups()):
            return float(token)
        try:
            return int(token)
        except ValueError as error:  # more digits than sys.get_int_max_str_digits()
            raise QuerySyntaxError(f"a number that cannot be read: {error}") from None
    if token[:1] in ('"', "[", "{"):
        return parse_json(token)
    return token


def format_value(value: Json) -> str:
    """Write the canonical token of *value*: never empty, and `parse_value` gives *value* back.

    >>> [format_value(value) for value in ("methyl", "42", "", "/x/", 42, 0.1, True, {"b": 1, "a": [None]})]
    ['methyl', '"42"', '""', '"/x/"', '42', '0.1', 'true', '{"a": [null], "b": 1}']
    """
    if type(value) is int:  # as json.dumps does, in a tenth of its time
        return str(value)
    if not isinstance(value, str):
        return json.dumps(value, sort_keys=True, ensure_ascii=False)
    return value if _is_bare(value) else quote(value)


def _is_bare(string: str) -> bool:
    if not string or parse_regex(string) is not None or _SHORTENED.search(string):
        return False
    try:
        return parse_value(string) == string
    except QuerySyntaxError:
        return False


def parse_raw(token: str) -> str:
    """Read the operand of an operator that takes text only (``$regex``, ``$type``, all of ``id``).

    It is the token as it stands, unless it begins with ``"``: then it is a JSON string.

    Raises:
        QuerySyntaxError: if it begins with ``"`` and is no JSON string.
    """
    return str(parse_json(token)) if token.startswith('"') else token


def format_raw(string: str) -> str:
    """Write *string* so that `parse_raw` gives it back; never empty."""
    return quote(string) if not string or string.startswith('"') or _SHORTENED.search(string) else string


# ---- keys


def parse_key(token: str, operator: str = "", *, at: bool = True) -> tuple[Field, str]:
    """Read a key token: ``[sp.|doc.]KEY[.$op|@op]``, ``id[.$op]`` or a logical operator.

    Args:
        operator: an operator (with ``$``) that was split off already, as a path does.
        at: whether ``@`` introduces an operator; in a path it is split off before.
    Returns:
        The field (`NO_KEY` for a logical operator), and the operator with ``$``, or "" if there is none.
    Raises:
        QuerySyntaxError: if it cannot be a key.

    >>> parse_key("a.b"), parse_key("doc.a@gt")
    ((Field(space=<Space.SP: 'sp'>, key='a.b'), ''), (Field(space=<Space.DOC: 'doc'>, key='a'), '$gt'))
    """
    quoted = _QUOTED_KEY.match(token)
    name, operator = _split_operator(token, quoted.end() if quoted else -1, operator, at)
    if name is None:
        if operator in LOGICAL:
            return NO_KEY, operator
        raise QuerySyntaxError(
            f"expected a key before the operator {operator}, as a.{operator}"
            if operator
            else 'expected a key; an empty key is written "" with its prefix, as sp.""'
        )
    if quoted:
        return Field(Space(quoted.group(1) or Space.SP), name), operator
    space, key = _split_space(name)
    if space is not Space.ID:
        _check_bare(key)
    return Field(space, key), operator


def parse_subkey(token: str) -> tuple[str | None, str]:
    """Read a key inside a nested mapping: ``[KEY][.$op|@op]``, without prefix; None where only an operator stands.

    Raises:
        QuerySyntaxError: if it cannot be a key.
    """
    quoted = token.startswith('"')
    name, operator = _split_operator(token, 0 if quoted else -1, "", True)
    if name is None and not operator:
        raise QuerySyntaxError('expected a key; an empty key is written ""')
    if name is not None and not quoted:
        _check_bare(name)
    return name, operator


def format_key(field: Field, operator: str = "", *, at: bool = True) -> str:
    """Write the canonical key token of *field*, with ``.$op`` if *at*, else without the operator (see `parse_key`).

    Raises:
        ValueError: if *operator* is unknown, or *field* is a part of the id.

    >>> [format_key(Field(Space.SP, key), "$gt") for key in ("a.b", "job", "doc.a", "a.$lt", "")]
    ['a.b.$gt', 'sp.job.$gt', 'sp.doc.a.$gt', 'sp."a.$lt".$gt', 'sp."".$gt']
    """
    if operator and operator not in OPERATORS:
        raise ValueError(f"unknown operator {operator!r}")
    if operator in LOGICAL:
        return operator if at else ""
    suffix = f".{operator}" if operator and at else ""
    if field.space is Space.ID:
        if field.key:
            raise ValueError(f"the id has no key {field.key!r}")
        return f"id{suffix}"
    prefixed = f"{field.space}.{field.key}"
    # "job" is the name of signac's leaf directories: readable without prefix, but never written so.
    candidates = (field.key, prefixed) if field.space is Space.SP and field.key != "job" else (prefixed,)
    for candidate in candidates if not _SHORTENED.search(field.key) else ():
        with contextlib.suppress(QuerySyntaxError):
            if parse_key(candidate + suffix, "" if at else operator, at=at) == (field, operator):
                return candidate + suffix
    return f"{field.space}.{quote(field.key)}{suffix}"


def _split_operator(token: str, quote_at: int, operator: str, at: bool) -> tuple[str | None, str]:
    """Split a key token into the name, unquoted if a quote opens at *quote_at* (-1: none), and the operator."""
    name: str | None
    if quote_at >= 0:
        try:
            name, end = json.JSONDecoder().raw_decode(token, quote_at)
        except json.JSONDecodeError as error:
            raise QuerySyntaxError(f"expected a key as a JSON string in double quotes: {error.msg}") from None
        rest = token[end:]
        if rest and not rest.startswith((".$", "@") if at else ".$"):
            raise QuerySyntaxError(
                f"expected the end, .$operator or @operator after the closing quote, found {rest!r}; "
                "the quotes of a key enclose all of it but its prefix and operator"
            )
    else:
        cut = token.find("@") if at else -1
        if cut < 0:
            last = token.rfind(".") + 1
            cut = max(last - 1, 0) if token.startswith("$", last) else len(token)
        name, rest = token[:cut] or None, token[cut:]
    if rest and operator:
        raise QuerySyntaxError(f"expected one operator, found two: {rest.lstrip('.@')} and {operator}")
    if rest:
        operator = "$" + rest.lstrip(".")[1:]
    if operator:
        _check_operator(operator, written_at=rest.startswith("@"))
    if name is not None and operator in LOGICAL:
        raise QuerySyntaxError(f'{operator} takes no key: it stands around whole conditions, as {operator} {{"a": 1}}')
    return name, operator


def _check_operator(operator: str, *, written_at: bool) -> None:
    if operator not in OPERATORS:
        remedy = "; a key that contains @ is written in double quotes, in a path with %40" if written_at else ""
        raise QuerySyntaxError(
            f"unknown operator {operator}: {did_you_mean(operator, OPERATORS)}known are {' '.join(OPERATORS)}{remedy}"
        )


def _split_space(name: str) -> tuple[Space, str]:
    head, dot, rest = name.partition(".")
    if head in ("id", "_id"):
        if dot:
            raise QuerySyntaxError(f"the id has no parts; for the state point key write sp.{name}")
        return Space.ID, ""
    if head in ("sp", "doc"):
        if not dot:
            raise QuerySyntaxError(f"{head} is a prefix: expected {head}.KEY; for the state point key write sp.{head}")
        return Space(head), rest
    if head in ("isfile", "data") and dot:
        raise QuerySyntaxError(f"the prefix {head}. is not supported yet; for the state point key write sp.{name}")
    if name[:1] in ("[", "{"):
        raise QuerySyntaxError(f"expected a key, found JSON; if it is a key write sp.{name}")
    return Space.SP, name


def _check_bare(key: str) -> None:
    if not key:
        raise QuerySyntaxError('expected a key after the prefix; an empty key is written "", as sp.""')
    if key.startswith("$") or ".$" in key:
        raise QuerySyntaxError(
            f"an operator comes last, after the whole key; a key that contains $ there is written sp.{quote(key)}"
        )
