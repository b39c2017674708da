from __future__ import annotations

import pytest

from sigfs.errors import QuerySyntaxError
from sigfs.model.types import Json
from sigfs.query import (
    EVERYTHING,
    And,
    Compare,
    Exists,
    Expr,
    Field,
    In,
    Match,
    Near,
    Op,
    Space,
    Value,
    format_text,
    parse,
    parse_mapping,
    parse_path,
    parse_text,
    parse_tokens,
)


def sp(key: str, value: Json, op: Op = Op.EQ) -> Compare:
    return Compare(Field(Space.SP, key), op, Value(value))


def test_the_spellings_of_a_query_are_one_expression() -> None:
    expected = And((sp("foo", 42), Compare(Field(Space.DOC, "bar"), Op.EQ, Value(True)), sp("a", 3, Op.GT)))
    assert parse_text("foo 42 doc.bar true a.$gt 3") == expected
    assert parse_text("foo 42 doc.bar true a@gt 3") == expected
    assert parse_text('{"foo": 42, "doc.bar": true, "a": {"$gt": 3}}') == expected
    assert parse_tokens(["foo", "42", "doc.bar", "true", "a.$gt", "3"]) == expected
    assert parse_tokens(['{"foo": 42, "doc.bar": true, "a.$gt": 3}']) == expected
    assert parse_mapping({"foo": 42, "doc.bar": True, "a.$gt": 3}) == expected
    assert parse_mapping({"foo": 42}, **{"doc.bar": True, "a.$gt": 3}) == expected
    assert parse_path("foo/42/doc.bar/true/a.$gt/3/") == expected
    assert parse_path("foo/42/doc.bar/true/a@gt/3") == expected


@pytest.mark.parametrize(
    ("token", "value"),
    [
        ("null", None),
        ("true", True),
        ("false", False),
        ("Infinity", float("inf")),
        ("-Infinity", float("-inf")),
        ("42", 42),
        ("+42", 42),
        ("-42", -42),
        ("007", 7),
        ("-0", 0),
        ("-0.0", -0.0),
        ("1.", 1.0),
        (".5", 0.5),
        ("-.5e1", -5.0),
        ("1e3", 1000.0),
        ("1E-1", 0.1),
        ("1e999", float("inf")),
        ("1180591620717411303424", 2**70),
        ("methyl", "methyl"),
        ("True", "True"),
        ("None", "None"),
        ("nan", "nan"),
        ("1_000", "1_000"),
        ("0x10", "0x10"),
        ("١", "١"),
        ("1e", "1e"),
        (".", "."),
        ("-", "-"),
        ("/", "/"),
        ("a/b", "a/b"),
        ("/a", "/a"),
        ("a@b", "a@b"),
        ('"42"', "42"),
        ('"a b"', "a b"),
        (r'"\u00e9\n\""', 'é\n"'),
        ("''", ""),
        ("'a b'", "a b"),
        ("a' 'b", "a b"),
        (r"a\ b", "a b"),
        (r"\'", "'"),
        ("'\\'", "\\"),
        (r"\\", "\\"),
        ("'true'", True),
        ("[]", []),
        ("[1,2.0]", [1, 2.0]),
        ("'[1, null]'", [1, None]),
        ('["a b"]', ["a b"]),
        ("{}", {}),
    ],
)
def test_a_value_is_json_or_else_the_bare_string(token: str, value: Json) -> None:
    assert parse_text(f"a {token}") == sp("a", value)


@pytest.mark.parametrize(
    ("text", "expr"),
    [
        ("", EVERYTHING),
        (" \n\t", EVERYTHING),
        ("foo", Exists(Field(Space.SP, "foo"))),
        ("a 1 foo", And((sp("a", 1), Exists(Field(Space.SP, "foo"))))),
        ("foo@exists", Exists(Field(Space.SP, "foo"))),
        ("foo.$exists 0", Exists(Field(Space.SP, "foo"), False)),
        ("a /b.c/", Match(Field(Space.SP, "a"), "b.c")),
        ("a '/b c/'", Match(Field(Space.SP, "a"), "b c")),
        ("a //", Match(Field(Space.SP, "a"), "")),
        ('a.$regex "x"', Match(Field(Space.SP, "a"), "x")),
        ("a.$regex 42", Match(Field(Space.SP, "a"), "42")),
        ("a.$regex /x/", Match(Field(Space.SP, "a"), "/x/")),
        ('a "/x/"', sp("a", "/x/")),
        ("a.$ne b", sp("a", "b", Op.NE)),
        ("a.b.c 1", sp("a.b.c", 1)),
        ('a {"b":1,"c":{"d":2}}', And((sp("a.b", 1), sp("a.c.d", 2)))),
        ('a {"$gt":1,"$lt":3} b 1', And((sp("a", 1, Op.GT), sp("a", 3, Op.LT), sp("b", 1)))),
        ("a.$in [1,2]", In(Field(Space.SP, "a"), (Value(1), Value(2)))),
        ("a@nin []", In(Field(Space.SP, "a"), (), True)),
        ("a@near 1", Near(Field(Space.SP, "a"), 1.0)),
        ("a@near [1]", Near(Field(Space.SP, "a"), 1.0)),
        ("a@near [1,0.5]", Near(Field(Space.SP, "a"), 1.0, 0.5)),
        ("a@near [1,0.5,2]", Near(Field(Space.SP, "a"), 1.0, 0.5, 2.0)),
        ("id 0300", Compare(Field(Space.ID, ""), Op.EQ, Value("0300"))),
        ("_id 0300", Compare(Field(Space.ID, ""), Op.EQ, Value("0300"))),
        ("id /x/", Compare(Field(Space.ID, ""), Op.EQ, Value("/x/"))),
        ("sp.a 1", sp("a", 1)),
        ("job 1", sp("job", 1)),
        ("sp.id 1", sp("id", 1)),
        ("sp.id.a 1", sp("id.a", 1)),
        ("sp.sp.a 1", sp("sp.a", 1)),
        ("sp.data.a 1", sp("data.a", 1)),
        ("data 1", sp("data", 1)),
        ("ids 1", sp("ids", 1)),
        ("spa.b 1", sp("spa.b", 1)),
        ("a$b 1", sp("a$b", 1)),
        ("'a b' 1", sp("a b", 1)),
        ('"a b" 1', sp("a b", 1)),
        ('"a@b" 1', sp("a@b", 1)),
        ('"sp.a" 1', sp("sp.a", 1)),
        ('sp."a@b"@gt 1', sp("a@b", 1, Op.GT)),
        ('sp."a.$gt".$lt 1', sp("a.$gt", 1, Op.LT)),
        ('doc."" 1', Compare(Field(Space.DOC, ""), Op.EQ, Value(1))),
        ("@or []", parse_mapping({"$or": []})),
        ('$not {"a":1}', parse_mapping({"$not": {"a": 1}})),
        ('$or \'[{"a": 1}, {"b": 2}]\' c 3', parse_mapping({"$or": [{"a": 1}, {"b": 2}], "c": 3})),
    ],
)
def test_text_is_read_as(text: str, expr: Expr) -> None:
    assert parse_text(text) == expr
    assert parse_text(format_text(expr)) == expr


def test_nan_without_operator_is_the_same_value_and_with_eq_equals_nothing() -> None:
    nan = float("nan")
    assert parse_text("a NaN") == sp("a", nan, Op.IS) == parse_text("a.$is NaN")
    assert parse_text("a [NaN]") == sp("a", [nan], Op.IS)
    assert parse_text("a.$eq NaN") == sp("a", nan) == parse_mapping({"a": nan})
    assert format_text(sp("a", nan)) == "a.$eq NaN"
    assert format_text(sp("a", nan, Op.IS)) == "a NaN"
    assert format_text(sp("a", 1, Op.IS)) == "a.$is 1"


@pytest.mark.parametrize(
    ("expr", "text"),
    [
        (sp("a", "42"), 'a "42"'),
        (sp("a", "a b"), "a 'a b'"),
        (sp("a", "it's"), "a 'it'\\''s'"),
        (sp("a", ""), 'a ""'),
        (sp("a", '"'), r'a "\""'),
        (sp("a", "/x/"), 'a "/x/"'),
        (sp("a", "x~0123456789abcdef"), 'a "x~0123456789abcdef"'),
        (sp("a", [1, "b c"]), "a '[1, \"b c\"]'"),
        (sp("a", {"b": 1}), "a.$eq '{\"b\": 1}'"),
        (sp("job", 1), "sp.job 1"),
        (sp("a@b", 1), 'sp."a@b" 1'),
        (sp("a b", 1), "'a b' 1"),
        (sp("", 1, Op.GT), 'sp."".$gt 1'),
        (sp("[x]", 1), "sp.[x] 1"),
        (Match(Field(Space.SP, "a"), "^x"), "a.$regex ^x"),
        (Match(Field(Space.SP, "a"), ""), 'a.$regex ""'),
        (Exists(Field(Space.SP, "a")), "a.$exists true"),
        (And((sp("a", 1),)), "$and '[{\"a\": 1}]'"),
        (EVERYTHING, ""),
    ],
)
def test_the_canonical_text_is_the_shortest_that_is_read_back(expr: Expr, text: str) -> None:
    assert format_text(expr) == text
    assert parse_text(text) == expr


def test_arguments_are_not_split_or_unquoted_further() -> None:
    assert parse_tokens(["a", "b c"]) == sp("a", "b c")
    assert parse_tokens(["a", "'b'"]) == sp("a", "'b'")
    assert parse_tokens(["a", "\\b"]) == sp("a", "\\b")
    assert parse_tokens(["a", "[1, 2]"]) == sp("a", [1, 2])
    assert parse_tokens(["a b", "1"]) == sp("a b", 1)
    assert parse_tokens(["a", ""]) == sp("a", "")
    assert parse_tokens([]) == EVERYTHING


@pytest.mark.parametrize(
    ("text", "column", "says"),
    [
        ("a 'b", 3, "closing '"),
        ('a 1 b "c', 7, 'closing "'),
        ("a b\\", 4, "after the backslash"),
        ("a [1,", 3, "JSON"),
        ('a "x"y', 3, "JSON"),
        ("a@gtt 1", 1, "did you mean $gt?"),
        ("a 1 b.$exist 1", 5, "did you mean $exists?"),
        ("a@b 1", 1, "double quotes"),
        ("a@ 1", 1, "unknown operator"),
        ("a.$b.c 1", 1, 'sp."a.$b.c"'),
        ("$a.b 1", 1, 'sp."$a.b"'),
        ("$gt 1", 1, "expected a key before"),
        ("'' 1", 1, 'sp.""'),
        ("sp. 1", 1, 'sp.""'),
        ("doc 1", 1, "sp.doc"),
        ("id.a 1", 1, "sp.id.a"),
        ("isfile.a 1", 1, "not supported yet"),
        ("x 1 data.a 1", 5, "not supported yet"),
        ("[a] 1", 1, "expected a key"),
        ('"a"b 1', 1, "closing quote"),
        ("a.$gt", 1, "expected a value"),
        ("b 1 a@in", 5, "expected a value"),
        ("a@in 3", 6, "list"),
        ("a@gt /x/", 6, "no regular expression"),
        ("a@exists 2", 10, "true, false, 1 or 0"),
        ("a@exists yes", 10, "true, false, 1 or 0"),
        ("a@exists 1.0", 10, "true, false, 1 or 0"),
        ("a@type string", 8, "did you mean str?"),
        ("a@near x", 8, "number"),
        ("a@near true", 8, "number"),
        ("a@near []", 8, "number"),
        ("a@near [1,-1]", 8, "negative"),
        (f"a@near 1{'0' * 400}", 8, "float can hold"),
        ("a@regex (", 9, "regular expression"),
        ("a /(/", 3, "regular expression"),
        ("a@where print", 9, "Python"),
        ("a.$or []", 1, "takes no key"),
        ("$or 3", 5, "list of mappings"),
        ("$or [1]", 5, "list of mappings"),
        ("$not []", 6, "mapping"),
        ("$not /x/", 6, "mapping"),
        ("id@in [1]", 7, "id as a string"),
        ('{"a": }', 1, "JSON"),
        ("  {", 3, "JSON"),
        ('a {"$where":"print"}', 3, "Python"),
        ('a {"$or":[]}', 3, "outside of keys"),
        ('a {"":1}', 3, "empty key"),
        ("a " + "1" * 5000, 3, "cannot be read"),
        ("a " + "[" * 100_000, 3, "cannot be read"),
        ("a " + '{"a":' * 600 + "1" + "}" * 600, 3, "too deeply"),
    ],
)
def test_an_error_says_what_was_expected_and_where(text: str, column: int, says: str) -> None:
    with pytest.raises(QuerySyntaxError) as caught:
        parse_text(text)
    assert caught.value.column == column
    assert caught.value.text == text
    assert says in str(caught.value)


def test_the_column_of_an_argument_is_that_in_the_joined_command_line() -> None:
    with pytest.raises(QuerySyntaxError) as caught:
        parse_tokens(["a b", "1", "c@x", "2"])
    assert (caught.value.text, caught.value.column) == ("a b 1 c@x 2", 7)


def test_a_syntax_error_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="column 1"):
        parse_text("doc 1")


def test_parse_takes_every_kind_of_query() -> None:
    expr = sp("a", 1)
    assert parse("a 1") == parse({"a": 1}) == parse(expr) == expr
    assert parse(None) == parse("") == parse({}) == EVERYTHING
    with pytest.raises(TypeError, match="int"):
        parse(42)  # type: ignore[arg-type]
