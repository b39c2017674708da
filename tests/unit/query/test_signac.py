"""Where signac answers a filter, sigfs gives the same jobs."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigfs.model.types import JobId, Json, Record
from sigfs.query import Expr, format_path, format_text, holds, parse_mapping, parse_path, parse_text, parse_tokens

signac = pytest.importorskip("signac")

STATEPOINTS: list[dict[str, Json]] = [
    {},
    {"a": 0},
    {"a": 1},
    {"a": 1.0},
    {"a": 2, "b": "x"},
    {"a": 2.5, "b": "xy"},
    {"a": -3, "b": "1", "c": {"d": 1}},
    {"a": 7, "b": "", "c": {"d": 2.0, "e": {"f": "z"}}},
    {"b": "null", "c": {"d": 5}},
    {"b": "a/b", "c": {}},
    {"b": "é", "l": [1, 2]},
    {"l": [1.0, 2.0]},
    {"l": []},
    {"l": [[1], "x"]},
    {"n": None},
    {"n": None, "a": 3},
    {"t": True},
    {"t": False, "a": 5},
]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Any:
    project = signac.init_project(path=str(tmp_path_factory.mktemp("project")))
    for i, statepoint in enumerate(STATEPOINTS):
        job = project.open_job(statepoint).init()
        if i % 3:
            job.doc.x = i
            job.doc.y = {"z": "text" if i % 2 else 0.5}
    return project


@pytest.fixture(scope="module")
def records(project: Any) -> list[Record]:
    return [Record(JobId(job.id), job.statepoint(), job.document()) for job in project]


def ids_by_sigfs(expr: Expr, records: list[Record]) -> set[str]:
    return {record.id for record in records if holds(expr, record)}


def ids_by_signac(project: Any, query: dict[str, Any]) -> set[str]:
    return {job.id for job in project.find_jobs(query)}


FILTERS: list[dict[str, Any]] = [
    {},
    {"a": 1},
    {"a": 1.0},
    {"a": "1"},
    {"b": "1"},
    {"sp.a": 2},
    {"n": None},
    {"missing": None},
    {"t": True, "a.$exists": False},
    {"l": [1, 2]},
    {"l": []},
    {"l": [[1], "x"]},
    {"c": {"d": 1}},
    {"c.d": 2},
    {"c": {"d": {"$gt": 1, "$lt": 5}}},
    {"c": {"e": {"f": "z"}}},
    {"c.$exists": True},
    {"c.$exists": False},
    {"c.d.$exists": True},
    {"c.e.$exists": True},
    {"c.$ne": 1},
    {"c.$nin": [1]},
    {"a.$gt": 1},
    {"a.$gte": 1},
    {"a.$lt": 2.5},
    {"a.$lte": 2.5},
    {"a.$ne": 1},
    {"a.$eq": 1},
    {"a.$in": [1, 7, "x"]},
    {"a.$nin": [1, 7]},
    {"b.$in": ["x", "null"]},
    {"b.$gt": "n"},
    {"b.$regex": "^x"},
    {"b.$regex": "/"},
    {"a.$regex": "1"},
    {"a.$type": "float"},
    {"b.$type": "str"},
    {"l.$type": "list"},
    {"n.$type": "null"},
    {"t.$type": "bool"},
    {"a.$near": 1.0000000000001},
    {"a.$near": [2.4, 0.05]},
    {"a.$near": [2, 0, 0.5]},
    {"doc.x": 4},
    {"doc.x.$gt": 4, "a": {"$exists": True}},
    {"doc.y.z": "text"},
    {"doc": {"y": {"z": 0.5}}},
    {"doc.y.$exists": True},
    {"doc.missing.$exists": False},
    {"$or": [{"a": 1}, {"b": "x"}, {"doc.x": 4}]},
    {"$and": [{"a.$gt": 0}, {"a.$lt": 3}]},
    {"$not": {"a": 1}},
    {"$not": {"a.$gt": 1, "b": "x"}},
    {"$or": [{"$not": {"a.$exists": True}}, {"$and": [{"a": 2}, {"b": "x"}]}], "l.$exists": False},
]


@pytest.mark.parametrize("query", FILTERS, ids=repr)
def test_a_filter_finds_the_jobs_that_signac_finds(query: dict[str, Any], project: Any, records: list[Record]) -> None:
    expr = parse_mapping(query)
    expected = ids_by_signac(project, query)
    assert ids_by_sigfs(expr, records) == expected
    assert ids_by_sigfs(parse_text(format_text(expr)), records) == expected
    assert ids_by_sigfs(parse_path(format_path(expr)), records) == expected


@pytest.mark.parametrize(
    "tokens",
    [
        ["a", "1"],
        ["a", "1.0", "doc.x", "2"],
        ["a"],
        ["b", "/^x/"],
        ["b", "x", "c"],
        ["b", "null"],
        ["n", "null"],
        ["l", "[1, 2]"],
        ["l", "[]"],
        ["a.$gt", "1"],
        ["a.$in", "[1, 7]"],
        ["c.d", "5"],
        ['{"a": {"$gt": 1}, "b": "x"}'],
    ],
    ids=" ".join,
)
def test_arguments_find_the_jobs_that_signac_finds(tokens: list[str], project: Any, records: list[Record]) -> None:
    filterparse = pytest.importorskip("signac.filterparse")
    expected = ids_by_signac(project, filterparse.parse_filter_arg(list(tokens)))
    assert ids_by_sigfs(parse_tokens(tokens), records) == expected


# Only what signac answers: operands of the types that the key has, so that no comparison raises.
numbers = st.sampled_from([-3, 0, 1, 1.0, 2, 2.5, 5, 7, 7.5])
strings = st.sampled_from(["", "x", "xy", "1", "null", "a/b", "é", "nothing"])
number_keys = st.sampled_from(["a", "c.d", "doc.x"])
comparisons = st.sampled_from(["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"])
entries = st.one_of(
    st.tuples(number_keys, numbers),
    st.builds(lambda k, op, v: (f"{k}.{op}", v), number_keys, comparisons, numbers),
    st.builds(lambda op, v: ("a", {op: v}), comparisons, numbers),
    st.builds(lambda k, op, v: (f"{k}.{op}", v), number_keys, st.sampled_from(["$in", "$nin"]), st.lists(numbers)),
    st.tuples(st.just("b"), strings),
    st.builds(lambda op, v: (f"b.{op}", v), comparisons, strings),
    st.tuples(st.just("b.$regex"), st.sampled_from(["x", "^x$", "", "[0-9]"])),
    st.builds(lambda k, v: (f"{k}.$exists", v), st.sampled_from(["a", "b", "c", "c.e", "l", "doc.y"]), st.booleans()),
)
filters: st.SearchStrategy[dict[str, Any]] = st.recursive(
    st.lists(entries, min_size=1, max_size=3).map(dict),
    lambda inner: st.one_of(
        st.builds(lambda items: {"$or": items}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda items: {"$and": items}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda item, entry: {"$not": item, entry[0]: entry[1]}, inner, entries),
    ),
    max_leaves=4,
)


@settings(max_examples=200, deadline=None)
@given(query=filters)
def test_any_filter_that_signac_answers_finds_the_same_jobs(
    query: dict[str, Any], project: Any, records: list[Record]
) -> None:
    # signac reads documents only if it meets a doc. key outside of $not, and else takes all for empty.
    with_documents = {"$and": [query, {"$or": [{"doc.x.$exists": True}, {"doc.x.$exists": False}]}]}
    assert ids_by_sigfs(parse_mapping(query), records) == ids_by_signac(project, with_documents)


def test_not_reads_documents_unlike_in_signac(project: Any, records: list[Record]) -> None:
    query = {"$not": {"doc.x": 4}}
    assert len(ids_by_signac(project, query)) == len(records)
    assert ids_by_sigfs(parse_mapping(query), records) == {record.id for record in records} - ids_by_signac(
        project, {"doc.x": 4}
    )


def test_a_boolean_is_never_a_number_unlike_in_signac(project: Any, records: list[Record]) -> None:
    # Declared deviation: in signac, true is found by 1.
    assert ids_by_signac(project, {"t": 1}) == {signac.job.calc_id({"t": True})}
    assert ids_by_sigfs(parse_mapping({"t": 1}), records) == set()
    assert ids_by_sigfs(parse_mapping({"t": True}), records) == {signac.job.calc_id({"t": True})}
