from __future__ import annotations

from collections.abc import Mapping

import pytest

from sigfs.model.types import JobId, Json, Record
from sigfs.query import (
    Compare,
    Exists,
    Expr,
    Field,
    Near,
    Not,
    Op,
    Space,
    Value,
    fields,
    holds,
    needs_documents,
    parse,
    parse_mapping,
    parse_text,
)
from sigfs.query.evaluate import inner_keys

NAN = float("nan")
JOB = JobId("0300" + "abcdef01" * 3 + "2345")


def answers(query: str | Mapping[str, object], statepoint: Mapping[str, Json] | None, **document: Json) -> bool:
    return holds(parse(query), Record(JOB, statepoint, document))


def values_that_hold(query: str | Mapping[str, object], *values: Json) -> list[Json]:
    return [value for value in values if answers(query, {"a": value})]


ZOO: tuple[Json, ...] = (None, True, False, 0, 1, 1.0, 2, 2.5, "1", "a", "b", "", [], [1], [1, 2], {}, NAN)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("a null", [None]),
        ("a true", [True]),
        ("a false", [False]),
        ("a 0", [0]),
        ("a 1", [1, 1.0]),
        ("a 1.0", [1, 1.0]),
        ("a 25e-1", [2.5]),
        ('a "1"', ["1"]),
        ("a b", ["b"]),
        ('a ""', [""]),
        ("a []", [[]]),
        ("a [1.0]", [[1]]),
        ("a [true]", []),
        ("a {}", [{}]),
        ("a.$eq NaN", []),
        ("a@eq 1", [1, 1.0]),
        ("a.$is 1", [1, 1.0]),
        ("a@gt 1", [2, 2.5]),
        ("a@gte 1", [1, 1.0, 2, 2.5]),
        ("a@lt 1", [0]),
        ("a@lte 1", [0, 1, 1.0]),
        ("a@gt false", [True]),
        ("a@lte true", [True, False]),
        ("a@gt 1000000", []),
        ("a@lt Infinity", [0, 1, 1.0, 2, 2.5]),
        ("a@lt NaN", []),
        ("a@gte NaN", []),
        ("a@gt a", ["b"]),
        ('a@lt "a"', ["1", ""]),
        ("a@gt [1]", [[1, 2]]),
        ("a@lte [1]", [[], [1]]),
        ("a@gte null", [None]),
        ("a@gt null", []),
        ("a@lte {}", [{}]),
        ("a.$in '[1, \"a\", null]'", [None, 1, 1.0, "a"]),
        ("a.$in []", []),
        ("a /[ab]/", ["a", "b"]),
        ("a /1/", ["1"]),
        ("a //", ["1", "a", "b", ""]),
        ("a.$regex ^$", [""]),
        ("a.$type null", [None]),
        ("a.$type bool", [True, False]),
        ("a.$type int", [0, 1, 2]),
        ("a.$type str", ["1", "a", "b", ""]),
        ("a.$type list", [[], [1], [1, 2]]),
        ("a.$type dict", [{}]),
        ("a.$near 1.0000000001", [1, 1.0]),
        ("a.$near '[2.2, 0.2]'", [2, 2.5]),
        ("a.$near [0,0,1]", [0, 1, 1.0]),
    ],
)
def test_a_condition_holds_for_exactly_the_values_it_names(query: str, expected: list[Json]) -> None:
    assert [Value(found) for found in values_that_hold(query, *ZOO)] == [Value(value) for value in expected]


def test_not_equal_holds_for_every_other_value_also_for_nan_itself() -> None:
    assert len(values_that_hold("a@ne 1", *ZOO)) == len(ZOO) - 2
    assert len(values_that_hold("a@ne NaN", *ZOO)) == len(ZOO)
    assert len(values_that_hold("a@nin [1,NaN]", *ZOO)) == len(ZOO) - 2


def test_nan_equals_nothing_but_is_itself() -> None:
    nan_and_others: tuple[Json, ...] = (NAN, 1, "NaN", [NAN], [1])
    assert values_that_hold({"a": NAN}, *nan_and_others) == []
    assert values_that_hold({"a.$in": [NAN]}, *nan_and_others) == []
    assert [Value(v) for v in values_that_hold("a NaN", *nan_and_others)] == [Value(NAN)]
    assert [Value(v) for v in values_that_hold("a [NaN]", *nan_and_others)] == [Value([NAN])]
    assert [Value(v) for v in values_that_hold("a@is NaN", *nan_and_others)] == [Value(NAN)]
    assert values_that_hold('a "NaN"', *nan_and_others) == ["NaN"]


def test_float_type_is_exact() -> None:
    assert [Value(v) for v in values_that_hold("a.$type float", *ZOO)] == [Value(v) for v in (1.0, 2.5, NAN)]


@pytest.mark.parametrize(
    "query",
    [
        *("x 1", "x@ne 1", "x@gt 0", "x@lte 0", "x@in [1]", "x@nin [1]", "x@is null", "x null"),
        *("x //", "x@type null", "x@near 0", "x", "x@exists true", "x@exists 1"),
    ],
)
def test_a_missing_key_matches_nothing_but_not_existing(query: str) -> None:
    assert not answers(query, {"a": 1})
    assert not answers(query, None)
    assert answers("x@exists false", {"a": 1})
    assert answers("x@exists 0", None)
    assert answers({"$not": {"x": 1}}, {"a": 1})


def test_a_null_exists() -> None:
    assert answers("a", {"a": None})
    assert not answers("a@exists false", {"a": None})


def test_a_mapping_with_keys_exists_and_differs_from_every_value() -> None:
    nested = {"a": {"b": {"c": 1}}}
    for query in ("a", "a.b", "a.b.c", "a@ne 1", "a.b@nin [1]", "a@type dict", "a.b.c 1"):
        assert answers(query, nested), query
    for query in ("a.c", "b", "c", "a 1", 'a.$eq {"b":{"c":1}}', "a@in [1]", "a@gt 0", "a //", "a {}", "a.b.c.d"):
        assert not answers(query, nested), query
    assert not answers({"a.$where": lambda _: True}, nested)


def test_an_empty_mapping_is_a_value() -> None:
    assert answers("a {}", {"a": {}})
    assert not answers("a@ne {}", {"a": {}})
    assert list(inner_keys({"a": {}})) == []


def test_lists_are_not_searched_into() -> None:
    assert not answers("a.0 1", {"a": [1]})
    assert not answers("a.b 1", {"a": [{"b": 1}]})
    assert answers('a [{"b":1}]', {"a": [{"b": 1.0}]})


def test_a_literal_dotted_key_is_the_same_field_as_a_nested_one() -> None:
    assert answers("a.b 1", {"a.b": 1})
    assert answers("a.b 2", {"a.b": 1, "a": {"b": 2}})
    assert answers("a.b 1", {"a": {"b": 2}, "a.b": 1})
    assert answers("a.b 1", {"a": {"b": {"c": 2}}, "a.b": 1})
    assert not answers("a", {"a.b": 1})


def test_numbers_compare_exactly_beyond_the_precision_of_a_float() -> None:
    assert not answers("a 9007199254740993", {"a": 9007199254740992.0})
    assert answers("a@gt 9007199254740992.0", {"a": 9007199254740993})


def test_documents_are_searched_with_their_prefix_only() -> None:
    assert answers("doc.x 1", {}, x=1)
    assert not answers("x 1", {}, x=1)
    assert not answers("doc.x 1", {"x": 1})
    assert answers({"$not": {"doc.x": 1}}, {}, x=2)
    assert not answers({"$not": {"doc.x": 1}}, {}, x=1)


def test_a_document_that_was_not_read_counts_as_empty() -> None:
    assert not holds(parse("doc.x"), Record(JOB, {}, None))
    assert holds(parse("doc.x@exists false"), Record(JOB, {}, None))


def test_everything_holds_for_a_job_without_state_point() -> None:
    assert answers("", None)
    assert not answers({"$or": []}, None)
    assert answers({"$and": []}, None)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("id 0300", True),
        ("id 300", False),
        ("id 03", True),
        ('id "0300"', True),
        (f"id {JOB}", True),
        (f"id {JOB}0", False),
        ("_id 0300", True),
        ("id@eq 0300", True),
        ("id@ne 0300", False),
        ("id@ne 04", True),
        ("id@is 0300", False),
        (f"id@is {JOB}", True),
        ('id@in ["04","03"]', True),
        ('id@nin ["04","03"]', False),
        ('id@nin ["04"]', True),
        ("id@gt 02", True),
        ("id@lt 02", False),
        ("id@gte 0300", True),
        ("id@regex 5$", True),
        ("id@regex 4$", False),
        ("id@type str", True),
        ("id@type int", False),
        ("id@near 300", False),
        ("id", True),
        ("id@exists false", False),
    ],
)
def test_an_id_is_compared_as_text_and_equal_means_it_begins_so(query: str, expected: bool) -> None:
    assert answers(query, {"id": "not this one"}) is expected


def test_a_hand_made_id_condition_with_a_number_holds_for_nothing() -> None:
    record = Record(JOB, {})
    assert not holds(Compare(Field(Space.ID, ""), Op.EQ, Value(300)), record)
    assert holds(Compare(Field(Space.ID, ""), Op.NE, Value(300)), record)
    assert not holds(Compare(Field(Space.ID, ""), Op.GT, Value(0)), record)


def test_near_takes_integers_of_any_size() -> None:
    assert not holds(Near(Field(Space.SP, "a"), 1.0), Record(JOB, {"a": 10**400}))
    assert holds(Near(Field(Space.SP, "a"), 1e20), Record(JOB, {"a": 10**20}))


def test_where_is_given_the_value_of_a_leaf() -> None:
    assert values_that_hold({"a.$where": lambda value: value == "b"}, *ZOO) == ["b"]
    assert not answers({"x.$where": lambda _: True}, {"a": 1})


def test_what_a_callable_raises_is_passed_on() -> None:
    with pytest.raises(TypeError):
        answers({"a.$where": lambda value: value < 1}, {"a": "text"})


@pytest.mark.parametrize(
    ("expr", "read", "documents"),
    [
        (parse_text(""), [], False),
        (parse_text("a 1 a@gt 2 b"), [Field(Space.SP, "a"), Field(Space.SP, "b")], False),
        (parse_text("id 03"), [Field(Space.ID, "")], False),
        (
            parse_mapping({"$not": {"$or": [{"a": 1}, {"doc.b": 1}]}}),
            [Field(Space.SP, "a"), Field(Space.DOC, "b")],
            True,
        ),
        (Not(Exists(Field(Space.DOC, "b"))), [Field(Space.DOC, "b")], True),
    ],
)
def test_an_expression_knows_its_fields(expr: Expr, read: list[Field], documents: bool) -> None:
    assert fields(expr) == frozenset(read)
    assert needs_documents(expr) is documents
