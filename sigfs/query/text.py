"""The text spelling: ``foo 42 doc.bar true a.$gt 3``, as one string or as the arguments of a command.

Owned here: how text falls into tokens, with the quotes a shell user expects:

* white space separates;
* ``'...'`` is taken as it stands, and keeps white space in one token;
* ``"..."`` is taken as it stands, *with* its quotes, because it is a JSON string;
* ``\\x`` outside of quotes is ``x``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from sigfs.errors import QuerySyntaxError
from sigfs.query.expr import And, Expr
from sigfs.query.mapping import join, parse_mapping
from sigfs.query.pairs import format_pair, parse_lone, parse_pair
from sigfs.query.tokens import format_key, located, parse_json, parse_key


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    column: int  # 1-based, where it begins in the source


def parse_text(text: str) -> Expr:
    """Read a query: pairs of key and value, or one JSON mapping in braces; the empty text is every job.

    A last key without value means that it exists.

    Raises:
        QuerySyntaxError: if it cannot be understood; with the column.

    >>> parse_text("foo 42 a@gt 3") == parse_text('{"foo": 42, "a.$gt": 3}')
    True
    """
    if text.lstrip().startswith("{"):
        return _parse_json_mapping(text)
    return _parse(text, _tokenize(text))


def parse_tokens(tokens: Sequence[str]) -> Expr:
    """Read a query whose tokens a shell has separated already: nothing in them is split or unquoted further.

    Raises:
        QuerySyntaxError: if it cannot be understood; its text is the tokens joined by blanks.
    """
    source = " ".join(tokens)
    if len(tokens) == 1 and source.startswith("{"):
        return _parse_json_mapping(source)
    placed = []
    column = 1
    for token in tokens:
        placed.append(_Token(token, column))
        column += len(token) + 1
    return _parse(source, placed)


def count_tokens(text: str) -> int:
    """Count the tokens of *text*; 0 where its quotes have no end."""
    try:
        return len(_tokenize(text))
    except QuerySyntaxError:
        return 0


def format_text(expr: Expr) -> str:
    """Spell *expr* as text; `parse_text` gives *expr* back.

    Raises:
        ValueError: if *expr* contains ``Where``, which only Python can say.

    >>> format_text(parse_text("a@gt 3 b '[1,2]' c 'x y'"))
    "a.$gt 3 b '[1, 2]' c 'x y'"
    """
    terms = expr.terms if isinstance(expr, And) and len(expr.terms) != 1 else (expr,)
    words = []
    for term in terms:
        field, operator, token = format_pair(term)
        words += [_quote(format_key(field, operator)), _quote(token)]
    return " ".join(words)


def _parse(source: str, tokens: Sequence[_Token]) -> Expr:
    terms: list[Expr] = []
    for i in range(0, len(tokens), 2):
        key = tokens[i]
        with located(source, key.column):
            field, operator = parse_key(key.text)
            if i + 1 == len(tokens):
                terms.append(parse_lone(field, operator))
                break
        value = tokens[i + 1]
        with located(source, value.column):
            terms += parse_pair(field, operator, value.text)
    return join(terms)


def _parse_json_mapping(text: str) -> Expr:
    with located(text, len(text) - len(text.lstrip()) + 1):
        # Text that begins with a brace is a mapping, or no JSON at all.
        return parse_mapping(cast("dict[str, object]", parse_json(text)))


def _tokenize(text: str) -> list[_Token]:
    tokens = []
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        start = at
        parts = []
        while at < len(text) and not text[at].isspace():
            part, at = _read_part(text, at)
            parts.append(part)
        tokens.append(_Token("".join(parts), start + 1))
    return tokens


def _read_part(text: str, at: int) -> tuple[str, int]:
    """Read a quoted part, an escape or one character at index *at*; also give the index after it."""
    match text[at]:
        case "'":
            end = text.find("'", at + 1)
            if end < 0:
                raise QuerySyntaxError("expected a closing ' ; a quote that is meant is written \\'", text, at + 1)
            return text[at + 1 : end], end + 1
        case '"':
            end = at + 1
            while end < len(text) and text[end] != '"':
                end += 2 if text[end] == "\\" else 1
            if end >= len(text):
                raise QuerySyntaxError("expected a closing \"; a quote that is meant is written '\"'", text, at + 1)
            return text[at : end + 1], end + 1
        case "\\":
            if at + 1 == len(text):
                raise QuerySyntaxError(
                    "expected a character after the backslash; one that is meant is written \\\\", text, at + 1
                )
            return text[at + 1], at + 2
        case character:
            return character, at + 1


def _quote(token: str) -> str:
    """Write *token* so that it is read as one token, without quotes if possible."""
    try:
        if [read.text for read in _tokenize(token)] == [token]:
            return token
    except QuerySyntaxError:
        pass
    return "'" + token.replace("'", "'\\''") + "'"
