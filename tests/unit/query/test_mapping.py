from __future__ import annotations

from collections import OrderedDict, UserDict, UserList

import pytest

from sigfs.errors import QuerySyntaxError
from sigfs.query import (
    EVERYTHING,
    And,
    Compare,
    Exists,
    Field,
    In,
    Not,
    Op,
    Or,
    Space,
    Value,
    Where,
    format_mapping,
    format_path,
    format_text,
    parse_mapping,
    parse_text,
)

A = Compare(Field(Space.SP, "a"), Op.EQ, Value(1))
B = Compare(Field(Space.SP, "b"), Op.EQ, Value(2))


@pytest.mark.parametrize(
    ("mapping", "text"),
    [
        ({}, ""),
        ({"a": 1}, "a 1"),
        ({"a": 1, "b": 2}, "a 1 b 2"),
        ({"a": {"b": 1}}, "a.b 1"),
        ({"a": {"b": {"c": 1}, "d.e": 2}}, "a.b.c 1 a.d.e 2"),
        ({"a": {}}, "a {}"),
        ({"a": {"b": {}}}, "a.b {}"),
        ({"a": {"$gt": 3, "$lt": 5}}, "a@gt 3 a@lt 5"),
        ({"a": {"b": {"$in": [1, 2]}}}, "a.b@in [1,2]"),
        ({"a": {"b.$gt": 3, "c@lt": 4}}, "a.b@gt 3 a.c@lt 4"),
        ({"a@gt": 3}, "a@gt 3"),
        ({"a": [1, 2]}, "a [1,2]"),
        ({"a": (1, 2)}, "a [1,2]"),
        ({"a": "true"}, 'a "true"'),
        ({"a": "/x/"}, 'a "/x/"'),
        ({"a": {"$exists": 0}}, "a@exists false"),
        ({"a": {"$regex": "x"}}, "a /x/"),
        ({"doc": {"a": {"b": 1}}}, "doc.a.b 1"),
        ({"sp": {"a": 1, "doc": 2}}, "a 1 sp.doc 2"),
        ({"sp.doc": {"a": 1}}, "sp.doc.a 1"),
        ({"a": {"doc.b": 1}}, "a.doc.b 1"),
        ({"data": {"b": 1}}, "sp.data.b 1"),
        ({"a": {'"x.$y"': 1}}, 'sp."a.x.$y" 1'),
        ({"id": "0300"}, "id 0300"),
        ({"id": {"$in": ["03"]}}, 'id@in ["03"]'),
        ({"id": {"$gt": "03", "$lt": "04"}}, "id@gt 03 id@lt 04"),
        ({"$or": [{"a": 1}, {"b": 2, "c": 3}]}, '$or [{"a":1},{"b":2,"c":3}]'),
        ({"$not": {"doc.a": 1}, "b": 2}, '$not {"doc.a":1} b 2'),
        ({"$and": [{}, {"a": 1}]}, '$and [{},{"a":1}]'),
        ({"a": UserDict({"b": UserList([1])})}, "a.b [1]"),
        ({"a": [UserDict(b=1)]}, 'a [{"b":1}]'),
    ],
)
def test_a_mapping_says_the_same_as_text(mapping: dict[str, object], text: str) -> None:
    assert parse_mapping(mapping) == parse_text(text)


def test_keywords_and_a_document_filter_are_joined() -> None:
    expected = parse_text("a 1 b 2 doc.c 3")
    assert parse_mapping({"a": 1}, b=2, doc={"c": 3}) == expected
    assert parse_mapping(a=1, b=2, doc={"c": 3}) == expected
    assert parse_mapping(a=1, b=2, **{"doc.c": 3}) == expected
    assert parse_mapping() == parse_mapping(None, None) == EVERYTHING
    assert parse_mapping(query=1, field=2) == parse_text("query 1 field 2")


def test_a_document_filter_needs_no_prefix_and_takes_logical_operators() -> None:
    assert parse_mapping(doc={"$or": [{"a": 1}, {"b": {"c@gt": 2}}]}) == parse_text(
        '$or [{"doc.a":1},{"doc.b.c@gt":2}]'
    )
    assert parse_mapping(doc={"$not": {"sp.a": 1}}) == parse_text('$not {"doc.sp.a":1}')
    assert parse_mapping({"doc": {"$not": {"a": 1}}}) == parse_text('$not {"doc.a":1}')


def test_eq_with_a_mapping_is_one_comparison_and_not_conditions_on_deeper_keys() -> None:
    expr = Compare(Field(Space.SP, "a"), Op.EQ, Value({"b": 1}))
    assert parse_mapping({"a.$eq": {"b": 1}}) == parse_mapping({"a": {"$eq": {"b": 1}}}) == expr
    assert format_mapping(expr) == {"a.$eq": {"b": 1}}


@pytest.mark.parametrize(
    ("expr", "mapping"),
    [
        (EVERYTHING, {}),
        (A, {"a": 1}),
        (And((A, B)), {"a": 1, "b": 2}),
        (And((A, A)), {"$and": [{"a": 1}, {"a": 1}]}),
        (And((A,)), {"$and": [{"a": 1}]}),
        (And((A, And((A, B)))), {"a": 1, "$and": [{"a": 1}, {"b": 2}]}),
        (Or((A, B)), {"$or": [{"a": 1}, {"b": 2}]}),
        (Not(Or(())), {"$not": {"$or": []}}),
        (And((Exists(A.field, False), A)), {"a.$exists": False, "a": 1}),
        (Compare(Field(Space.DOC, "x.y"), Op.LTE, Value(2)), {"doc.x.y.$lte": 2}),
    ],
)
def test_a_mapping_is_formatted_as(expr: And | Or, mapping: dict[str, object]) -> None:
    assert format_mapping(expr) == mapping
    assert parse_mapping(mapping) == expr


def test_the_order_of_the_entries_is_kept() -> None:
    assert parse_mapping(OrderedDict([("b", 2), ("a", 1)])) == And((B, A))
    assert list(format_mapping(And((B, A)))) == ["b", "a"]


def test_where_takes_a_callable_and_cannot_be_formatted() -> None:
    expr = parse_mapping({"a": {"$where": callable}})
    assert expr == Where(A.field, callable) == parse_mapping({"a.$where": callable})
    for spell in (format_text, format_path, format_mapping):
        with pytest.raises(ValueError, match="callable"):
            spell(Not(expr))


def test_a_set_is_a_list_of_choices() -> None:
    assert parse_mapping({"a.$in": {1}}) == In(A.field, (Value(1),))


@pytest.mark.parametrize(
    ("mapping", "says"),
    [
        ({"a.$where": "lambda x: True"}, "callable"),
        ({"a": {"$where": "lambda x: True"}}, "callable"),
        ({1: 2}, "string as key"),
        ({"a": {1: 2}}, "string as key"),
        ({"": 1}, "expected a key"),
        ({"a": object()}, "not a type of JSON"),
        ({"a": b"bytes"}, "not a type of JSON"),
        ({"a.$in": "abc"}, "list"),
        ({"a.$regex": 1}, "string"),
        ({"a.$type": int}, "one of null"),
        ({"a.$exists": "true"}, "true, false"),
        ({"a.$near": "1"}, "number"),
        ({"$or": {"a": 1}}, "list of mappings"),
        ({"$and": [1]}, "list of mappings"),
        ({"$not": [{"a": 1}]}, "mapping"),
        ({"a": {"$not": {"$gt": 1}}}, "outside of keys"),
        ({"$gt": 3}, "before the operator"),
        ({"doc": {"$gt": 3}}, "applies to a key"),
        ({"doc": 3}, "prefix"),
        ({"sp": {}}, "prefix"),
        ({"id": 300}, "as a string"),
        ({"id": {"a": 1}}, "no parts"),
        ({"a.$foo": 1}, "unknown operator"),
        ({"a": {"$gt.b": 1}}, "operator comes last"),
    ],
)
def test_an_error_says_what_was_expected(mapping: dict[str, object], says: str) -> None:
    with pytest.raises(QuerySyntaxError, match=says) as caught:
        parse_mapping(mapping)
    assert caught.value.column == 0


def test_a_query_that_is_no_mapping_is_refused() -> None:
    with pytest.raises(QuerySyntaxError, match="expected a mapping"):
        parse_mapping([("a", 1)])  # type: ignore[arg-type]
    with pytest.raises(QuerySyntaxError, match="expected a mapping"):
        parse_mapping({}, doc=5)  # type: ignore[arg-type]


def test_values_with_circles_are_refused() -> None:
    circle: list[object] = []
    circle.append(circle)
    with pytest.raises(QuerySyntaxError, match="JSON value"):
        parse_mapping({"a": circle})


def test_the_scalars_and_arrays_of_numpy_are_values():
    np = pytest.importorskip("numpy")
    for ours, plain in [
        ({"a": np.int64(3)}, {"a": 3}),
        ({"a.$lt": np.float32(0.5)}, {"a.$lt": 0.5}),
        ({"a": [np.bool_(True), np.int8(1)]}, {"a": [True, 1]}),
        ({"a": np.arange(3)}, {"a": [0, 1, 2]}),
        ({"a.$in": np.arange(3)}, {"a.$in": [0, 1, 2]}),
        ({"a.$nin": list(np.arange(3))}, {"a.$nin": [0, 1, 2]}),
        ({"a.$near": [np.float32(0.5), np.int64(1)]}, {"a.$near": [0.5, 1]}),
        ({"a.$exists": np.bool_(False)}, {"a.$exists": False}),
    ]:
        assert parse_mapping(ours) == parse_mapping(plain)
    with pytest.raises(QuerySyntaxError, match="not a type of JSON"):
        parse_mapping({"a": np.int64})


def test_a_range_is_a_list_of_values():
    assert parse_mapping({"a.$in": range(2)}) == parse_mapping({"a.$in": [0, 1]})
