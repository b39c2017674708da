"""Every spelling of every expression is read back as that expression; names of values are injective."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from sigfs.errors import QuerySyntaxError
from sigfs.model.types import JobId, Json, Record
from sigfs.query import (
    And,
    Compare,
    Exists,
    Expr,
    Field,
    In,
    IsType,
    Match,
    Near,
    Not,
    Op,
    Or,
    Space,
    Value,
    format_mapping,
    format_path,
    format_text,
    holds,
    parse,
    parse_mapping,
    parse_path,
    parse_text,
    parse_tokens,
)
from sigfs.query.path import key_name, parse_key, parse_operand, value_name
from sigfs.query.tokens import LOGICAL, OPERATORS
from sigfs.query.values import equality_key, flatten

T = TypeVar("T")
RECORD_ID = JobId("0" * 32)

SYNTAX = "\"'\\/%@$.~{}[]:, \t\n\r\0\x7f\x85\u00a0\u2028!&|<>*?-+_=aex019é\u0301🐍\ud800\udcff\ufeff"

FRAGMENTS = (
    *("a", "b", "", ".", "..", "$", "@", "%", "/", "//", " ", '"', "'", "\\", "\0", "~0123456789abcdef"),
    *("a.b", "a.$gt", "a@gt", "$or", "@or", "$gt", "@", "%2F", "%", "/x/", '"x"', '"x', "[1]", "[", "{}", '{"a": 1}'),
    *("sp", "doc", "id", "_id", "job", "jobs", "isfile", "data", "sp.", "doc.", "id.", "_id.", "isfile.", "data."),
    *("sp.a", "doc.a", "sp.sp.a", 'sp."a"', "id.$in", ".job", ".jobs", ".sigfs", "-", "--help"),
    *("42", "007", "-0", "+5", "1.0", "1.", ".5", "1e-1", "1e999", "١", "1_000", " 1", "0x10"),
    *("true", "false", "null", "NaN", "Infinity", "-Infinity", "True", "None", "nan", "inf"),
    *("\ud83d\ude00", "\udc80", "x\ny", "x" * 300),
)

texts = st.one_of(
    st.sampled_from(FRAGMENTS),
    st.lists(st.sampled_from(FRAGMENTS), min_size=2, max_size=3).map("".join),
    st.text(alphabet=SYNTAX, max_size=8),
    st.text(alphabet=st.characters(codec=None), max_size=6),
)
numbers = st.one_of(st.integers(), st.sampled_from([0, 1, -1, 2**53, 2**70, -(2**70)]), st.floats())
leaves: st.SearchStrategy[Json] = st.one_of(st.none(), st.booleans(), numbers, texts)
values: st.SearchStrategy[Json] = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
keyed_fields = st.builds(Field, st.sampled_from([Space.SP, Space.DOC]), texts)
ID = Field(Space.ID, "")


def is_valid_regex(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError, Warning):
        return False
    return True


patterns = st.one_of(
    st.sampled_from(["", "^a", r"\d+", r"a\.b", "a/b", '"', "'", "a b", "~0123456789abcdef", "@", "%41"]),
    texts.filter(is_valid_regex),
)
finite = st.floats(allow_nan=False)
tolerances = st.floats(min_value=0, allow_nan=False)


def conditions(fields: st.SearchStrategy[Field], operands: st.SearchStrategy[Json]) -> st.SearchStrategy[Expr]:
    wrapped = operands.map(Value)
    return st.one_of(
        st.builds(Compare, fields, st.sampled_from(Op), wrapped),
        st.builds(In, fields, st.lists(wrapped, max_size=3).map(tuple), st.booleans()),
        st.builds(Exists, fields, st.booleans()),
        st.builds(Match, fields, patterns),
        st.builds(IsType, fields, st.sampled_from(["null", "bool", "int", "float", "str", "list", "dict"])),
        st.builds(Near, fields, finite) | st.builds(Near, fields, finite, tolerances, tolerances),
    )


expressions: st.SearchStrategy[Expr] = st.recursive(
    conditions(keyed_fields, values) | conditions(st.just(ID), texts),
    lambda inner: st.one_of(
        st.builds(And, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Or, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Not, inner),
    ),
    max_leaves=5,
)

thorough = settings(max_examples=400, deadline=None)

A = Compare(Field(Space.SP, "a"), Op.EQ, Value(1))
TRICKY: list[Expr] = [
    And(()),
    Or(()),
    And((A,)),
    And((And(()),)),
    And((A, And(()))),
    And((A, A)),
    And((Or((A,)), Or((A,)))),
    Not(And(())),
    Not(And((A,))),
    Not(Not(A)),
    Or((And((A, A)), And(()), And((A,)))),
]


@pytest.mark.parametrize("expr", TRICKY, ids=repr)
def test_each_form_of_and_or_not_is_read_back_as_it_is(expr: Expr) -> None:
    assert parse_text(format_text(expr)) == expr
    assert parse_path(format_path(expr)) == expr
    assert parse_mapping(format_mapping(expr)) == expr


@thorough
@given(expressions)
def test_text_is_read_back(expr: Expr) -> None:
    assert parse_text(format_text(expr)) == expr
    assert parse(format_text(expr)) == expr


@thorough
@given(expressions)
def test_a_path_is_read_back_and_could_be_made_of_directories(expr: Expr) -> None:
    path = format_path(expr)
    assert parse_path(path) == expr
    assert parse_path(f"/{path}//") == expr
    for name in path.split("/") if path else []:
        assert name not in ("", ".", "..")
        assert not name.startswith(".")
        assert "\0" not in name
        assert os.fsdecode(name.encode()) == name


@thorough
@given(expressions)
def test_a_mapping_is_read_back_also_after_it_was_written_as_json(expr: Expr) -> None:
    mapping = format_mapping(expr)
    assert parse_mapping(mapping) == expr
    text = json.dumps(mapping, ensure_ascii=False)
    assert parse_mapping(json.loads(text)) == expr
    assert parse_text(text) == expr


@thorough
@given(expressions)
def test_spelling_what_was_read_gives_the_same_spelling_again(expr: Expr) -> None:
    assert format_text(parse_path(format_path(expr))) == format_text(expr)
    assert format_path(parse_text(format_text(expr))) == format_path(expr)


@thorough
@given(texts | st.lists(texts).map(" ".join))
def test_any_text_is_a_query_that_is_read_back_or_a_syntax_error_that_says_where(text: str) -> None:
    read = attempt(parse_text, text)
    if isinstance(read, QuerySyntaxError):
        assert 1 <= read.column <= len(text)
        assert read.text == text
    else:
        assert parse_text(format_text(read)) == read


@thorough
@given(st.lists(texts, min_size=1, max_size=4))
def test_any_arguments_are_a_query_that_is_read_back_or_a_syntax_error_that_says_where(tokens: list[str]) -> None:
    read = attempt(parse_tokens, tokens)
    if isinstance(read, QuerySyntaxError):
        assert 1 <= read.column <= len(" ".join(tokens)) + 1
    else:
        assert parse_text(format_text(read)) == read


@thorough
@given(texts | st.lists(texts).map("/".join))
def test_any_path_is_a_query_that_is_read_back_or_a_syntax_error_that_says_where(path: str) -> None:
    read = attempt(parse_path, path)
    if isinstance(read, QuerySyntaxError):
        assert 1 <= read.column <= len(path)
        assert read.text == path
    else:
        assert parse_path(format_path(read)) == read


@thorough
@given(st.dictionaries(texts, values, max_size=3))
def test_any_mapping_is_a_query_that_is_read_back_or_a_syntax_error(mapping: dict[str, Json]) -> None:
    read = attempt(parse_mapping, mapping)
    if isinstance(read, QuerySyntaxError):
        assert read.column == 0
        assert str(read)
    else:
        assert parse_mapping(format_mapping(read)) == read


@thorough
@given(keyed_fields | st.just(ID), st.sampled_from(["", *(op for op in OPERATORS if op not in LOGICAL)]))
@example(Field(Space.SP, ""), "")
@example(Field(Space.SP, "isfile"), "$gt")
@example(Field(Space.SP, "sp.a@gt"), "$lt")
def test_the_name_of_a_key_is_a_file_name_and_is_read_back(field: Field, operator: str) -> None:
    name = key_name(field, operator.removeprefix("$"))
    assert parse_key(name) == (field, operator)
    assert name == key_name(field, operator)
    assert is_safe_name(name)


@thorough
@given(texts)
def test_no_key_without_operator_has_the_name_of_another_thing(key: str) -> None:
    name = key_name(Field(Space.SP, key))
    assert name not in ("job", "id", "_id")
    assert "@" not in name
    assert not re.search(r"~[0-9a-f]{16}\Z", name)


@thorough
@given(values)
def test_the_name_of_a_value_is_a_file_name_and_selects_exactly_the_equal_values(value: Json) -> None:
    name = value_name(value)
    assert is_safe_name(name)
    assert not re.search(r"~[0-9a-f]{16}\Z", name)
    if isinstance(value, dict) and value:
        return  # no leaf: never the name of a directory
    expr = parse_operand(Field(Space.SP, "k"), "", name)
    assert holds(expr, Record(RECORD_ID, {"k": value}))


@thorough
@given(values, values)
@example(1, 1.0)
@example(1, True)
@example(0.0, -0.0)
@example(float("nan"), "NaN")
@example([1], "[1]")
@example("\ud800", "%ED%A0%80")
def test_two_values_share_a_name_only_if_json_writes_them_alike(one: Json, other: Json) -> None:
    assert (value_name(one) == value_name(other)) == (Value(one) == Value(other))
    assume(not any(isinstance(value, dict) and value for value in (one, other)))
    selects = holds(parse_operand(Field(Space.SP, "k"), "", value_name(one)), Record(RECORD_ID, {"k": other}))
    assert selects == (equality_key(one) == equality_key(other))


@thorough
@given(st.dictionaries(texts, values, max_size=3))
def test_the_names_of_a_jobs_own_keys_and_values_lead_to_it(statepoint: dict[str, Json]) -> None:
    record = Record(RECORD_ID, statepoint)
    leaves = dict(flatten(statepoint))
    path = "/".join(f"{key_name(Field(Space.SP, key))}/{value_name(value)}" for key, value in leaves.items())
    assert holds(parse_path(path), record)


records = st.builds(
    Record,
    st.text(alphabet="0123456789abcdef", min_size=32, max_size=32).map(JobId),
    st.none() | st.dictionaries(st.sampled_from(["a", "b", "a.b", "c"]) | texts, values, max_size=4),
    st.none() | st.dictionaries(st.sampled_from(["a", "b"]), values, max_size=2),
)
near_fields = st.builds(Field, st.sampled_from([Space.SP, Space.DOC]), st.sampled_from(["a", "b", "a.b", "c", "a."]))


@thorough
@given(conditions(near_fields, values) | conditions(st.just(ID), texts), records)
def test_the_evaluator_answers_every_condition_about_every_record(expr: Expr, record: Record) -> None:
    answer = holds(expr, record)
    assert isinstance(answer, bool)
    assert holds(Not(expr), record) is not answer
    assert holds(parse_text(format_text(expr)), record) is answer


def attempt(parse_any: Callable[[T], Expr], query: T) -> Expr | QuerySyntaxError:
    try:
        return parse_any(query)
    except QuerySyntaxError as error:
        return error


def is_safe_name(name: str) -> bool:
    return (
        name not in ("", ".", "..")
        and not name.startswith(".")
        and not re.search("[/\x00-\x1f\x7f\ud800-\udfff]", name)
        and os.fsdecode(name.encode()) == name
    )
