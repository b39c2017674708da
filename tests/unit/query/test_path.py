from __future__ import annotations

import pytest

from sigfs.errors import QuerySyntaxError
from sigfs.model.types import Json
from sigfs.query import EVERYTHING, Expr, Field, Space, format_path, parse_path, parse_text
from sigfs.query.path import key_name, parse_key, parse_operand, value_name

FOO = Field(Space.SP, "foo")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("", ""),
        ("///", ""),
        ("foo/42", "foo 42"),
        ("/foo//42/", "foo 42"),
        ("foo", "foo"),
        ("foo@exists", "foo"),
        ("foo@exists/false", "foo@exists 0"),
        ("a@gt/3/a@lt/5", "a@gt 3 a@lt 5"),
        ("a.$gt/3", "a@gt 3"),
        ("a%2E%24gt/3", "a@gt 3"),
        ("a@%67t/3", "a@gt 3"),
        ("x/a%2Fb", "x a/b"),
        ("x/%61", "x a"),
        ("x/%31", "x 1"),
        ('x/"1"', 'x "1"'),
        ("x/%2Fr%2F", "x /r/"),
        ("x/a@b", "x a@b"),
        ("x/1e-1", "x 0.1"),
        ("x/[1, 2]", "x [1,2]"),
        ("x/%2e", "x ."),
        ("a%40b/1", '"a@b" 1'),
        ('sp."a.$gt"/1', 'sp."a.$gt" 1'),
        ('"a b"@gt/1', '"a b"@gt 1'),
        ("id/0300", "id 0300"),
        ("id%40x/1", '"id@x" 1'),
        ("doc.a@in/[1]", "doc.a@in [1]"),
        ('$or/[{"a":1}]', '$or [{"a":1}]'),
        ('@not/{"a":1}', '$not {"a":1}'),
    ],
)
def test_a_path_says_the_same_as_text(path: str, text: str) -> None:
    assert parse_path(path) == parse_text(text)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("foo 42 doc.bar true a.$gt 3", "foo/42/doc.bar/true/a@gt/3"),
        ("foo", "foo@exists/true"),
        ("sp.job 1", "sp.job/1"),
        ("a /x/", "a@regex/x"),
        ("a ''", 'a/""'),
        ('"a@b" 1', "a%40b/1"),
        ('sp."a.$b"@gt 1', 'sp."a.$b"@gt/1'),
        ("$or []", "@or/[]"),
        ("", ""),
    ],
)
def test_text_has_the_canonical_path(text: str, path: str) -> None:
    assert format_path(parse_text(text)) == path
    assert parse_path(path) == parse_text(text)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (None, "null"),
        (True, "true"),
        (1, "1"),
        (1.0, "1.0"),
        (0.1, "0.1"),
        (1e16, "1e+16"),
        (-0.0, "-0.0"),
        (float("nan"), "NaN"),
        ("NaN", '"NaN"'),
        ("1", '"1"'),
        ("", '""'),
        (".", "%2E"),
        ("..", "%2E."),
        (".jobs", "%2Ejobs"),
        ("../../etc", "%2E.%2F..%2Fetc"),
        ("a/b", "a%2Fb"),
        ("/x/", '"%2Fx%2F"'),
        ("100%", "100%25"),
        ("a@b", "a@b"),
        ("a\0b\n\x7f", "a%00b%0A%7F"),
        ("é 🐍", "é 🐍"),
        ("\ud800", "%ED%A0%80"),
        ("\udc80", "%ED%B2%80"),
        ("x~0123456789abcdef", '"x~0123456789abcdef"'),
        ("x~0123456789abcdeg", "x~0123456789abcdeg"),
        ([1, "a/b", None], '[1, "a%2Fb", null]'),
        ({}, "{}"),
    ],
)
def test_a_value_is_named(value: Json, name: str) -> None:
    assert value_name(value) == name
    assert value_name(value).encode()


@pytest.mark.parametrize(
    ("field", "operator", "name"),
    [
        (FOO, "", "foo"),
        (FOO, "exists", "foo@exists"),
        (FOO, "$exists", "foo@exists"),
        (Field(Space.SP, "a.b"), "", "a.b"),
        (Field(Space.SP, "job"), "", "sp.job"),
        (Field(Space.SP, "id"), "gt", "sp.id@gt"),
        (Field(Space.SP, "doc.a"), "", "sp.doc.a"),
        (Field(Space.SP, "isfile.a"), "", "sp.isfile.a"),
        (Field(Space.SP, "data"), "", "data"),
        (Field(Space.SP, ".job"), "", "%2Ejob"),
        (Field(Space.SP, ""), "", 'sp.""'),
        (Field(Space.SP, "a@b"), "", "a%40b"),
        (Field(Space.SP, "id@x"), "gt", "id%40x@gt"),
        (Field(Space.SP, "a/b%"), "", "a%2Fb%25"),
        (Field(Space.SP, "a.$gt"), "", 'sp."a.$gt"'),
        (Field(Space.SP, "{a}"), "", "sp.{a}"),
        (Field(Space.SP, "x~0123456789abcdef"), "", 'sp."x~0123456789abcdef"'),
        (Field(Space.DOC, "job"), "", "doc.job"),
        (Field(Space.DOC, '"'), "", 'doc."\\""'),
        (Field(Space.ID, ""), "", "id"),
        (Field(Space.SP, ""), "or", "@or"),
    ],
)
def test_a_key_is_named(field: Field, operator: str, name: str) -> None:
    assert key_name(field, operator) == name
    assert parse_key(name) == (field, "$" + operator.removeprefix("$") if operator else "")


def test_a_key_that_cannot_be_named_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown operator"):
        key_name(FOO, "exist")
    with pytest.raises(ValueError, match="no key"):
        key_name(Field(Space.ID, "x"))


@pytest.mark.parametrize(
    ("field", "operator", "name", "text"),
    [
        (FOO, "", "42", "foo 42"),
        (FOO, "$gt", "42", "foo@gt 42"),
        (FOO, "$exists", "false", "foo@exists 0"),
        (FOO, "", "NaN", "foo@is NaN"),
        (FOO, "", '{"$gt": 1, "$lt": 2}', "foo@gt 1 foo@lt 2"),
        (Field(Space.ID, ""), "", "007", "id 007"),
        (Field(Space.SP, ""), "$or", "[]", "$or []"),
    ],
)
def test_a_directory_below_a_key_is_a_condition(field: Field, operator: str, name: str, text: str) -> None:
    assert parse_operand(field, operator, name) == parse_text(text)


@pytest.mark.parametrize(
    ("path", "column", "says"),
    [
        ("foo/%", 5, "hexadecimal"),
        ("foo/%4", 5, "hexadecimal"),
        ("foo/%zz", 5, "hexadecimal"),
        ("foo/%FF", 5, "UTF-8"),
        ("foo/\udcff", 5, "UTF-8"),
        ("a/1/.jobs", 5, "dot"),
        (".job", 1, "dot"),
        ("foo/..", 5, "dot"),
        ("a@", 1, "%40"),
        ("a@b/1", 1, "unknown operator"),
        ("a@gt@lt/1", 1, "unknown operator"),
        ("a.$gt@lt/1", 1, "found two"),
        ("/a/1/b@gt", 6, "expected a value"),
        ("doc/1", 1, "prefix"),
        ("isfile.a/1", 1, "not supported yet"),
        ("a/[1", 3, "JSON"),
        ("a@where/print", 9, "Python"),
        ("@gt/1", 1, "before the operator"),
    ],
)
def test_an_error_says_what_was_expected_and_in_which_component(path: str, column: int, says: str) -> None:
    with pytest.raises(QuerySyntaxError) as caught:
        parse_path(path)
    assert (caught.value.text, caught.value.column) == (path, column)
    assert says in str(caught.value)


def test_an_error_in_a_single_name_says_which_name() -> None:
    with pytest.raises(QuerySyntaxError, match="%zz") as caught:
        parse_operand(FOO, "", "%zz")
    assert (caught.value.text, caught.value.column) == ("%zz", 1)
    with pytest.raises(QuerySyntaxError, match="doc") as caught:
        parse_key("doc")
    assert (caught.value.text, caught.value.column) == ("doc", 1)


def test_every_job_is_the_empty_path() -> None:
    everything: Expr = parse_path("/")
    assert everything == EVERYTHING
    assert format_path(everything) == ""
