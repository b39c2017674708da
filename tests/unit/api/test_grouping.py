"""Jobs in groups, and what they have in common."""

from __future__ import annotations

import json
import math

import pytest

from sigfs.api.schema import Schema
from sigfs.errors import QuerySyntaxError


def groups(jobs, key=None, default=None) -> list[tuple[object, list[int]]]:
    return [
        (value, sorted(entry["sp"].get("n") for entry in group.entries()))
        for value, group in jobs.groupby(key, default)
    ]


def test_jobs_are_grouped_by_a_key(twelve):
    assert groups(twelve, "even") == [(False, [1, 3, 5, 7, 9, 11]), (True, [0, 2, 4, 6, 8, 10])]
    assert groups(twelve, "sp.even") == groups(twelve, "even")
    assert groups(twelve.find("n.$lt 3"), "n") == [(0, [0]), (1, [1]), (2, [2])]


def test_jobs_are_grouped_by_nested_keys_and_by_what_is_above_them(twelve):
    assert groups(twelve, "group.third") == [(k, [k, k + 3, k + 6, k + 9]) for k in range(3)]
    assert groups(twelve, "group") == [({"third": k}, [k, k + 3, k + 6, k + 9]) for k in range(3)]


def test_several_keys_make_tuples_in_the_order_given(twelve):
    found = groups(twelve, ("doc.deep.x", "even", "group.third"))
    assert found[0] == ((1, False, 0), [9])
    assert [value for value, _ in found] == sorted(value for value, _ in found)
    assert len(found) == 6


def test_jobs_without_the_key_are_in_no_group_or_have_the_default(twelve):
    assert groups(twelve, "doc.deep.x") == [(1, [1, 5, 9]), (3, [3, 7, 11])]
    assert groups(twelve, "doc.deep.x", -1)[0] == (-1, [0, 2, 4, 6, 8, 10])
    assert groups(twelve, "doc.deep.x", "none")[-1] == ("none", [0, 2, 4, 6, 8, 10])
    assert groups(twelve, ("n", "nope"), 0)[3] == ((3, 0), [3])
    assert groups(twelve, "nope") == []


def test_a_function_of_the_job_groups(twelve):
    assert groups(twelve, lambda job: job.statepoint["n"] // 6) == [(0, [*range(6)]), (1, [*range(6, 12)])]
    with pytest.raises(KeyError, match="nope"):
        list(twelve.groupby(lambda job: job.statepoint["nope"]))


def test_without_a_key_each_job_is_a_group(twelve):
    found = list(twelve.groupby())
    assert [value for value, _ in found] == sorted(job.id for job in twelve)
    assert all(len(group) == 1 and group[0].id == value for value, group in found)


def test_a_group_is_asked_further(twelve):
    (_, group), _ = twelve.groupby("even")
    assert len(group.find("n.$gt 6")) == 3
    assert len(group.find("doc.result 10")) == 1


def test_values_of_all_types_have_an_order_and_true_is_not_one(project):
    values = ["b", None, 1, True, [2, 1], {"x": 1}, 1.0, 0.5, "a", [1, 5], math.inf]
    for n, value in enumerate(values):
        project.open({"n": n, "v": value})
    found = groups(project, "v")
    assert [value for value, _ in found] == [None, True, 0.5, 1, math.inf, "a", "b", [1, 5], [2, 1], {"x": 1}]
    assert {json.dumps(value): members for value, members in found}["1"] == [2, 6]


def test_a_key_with_an_operator_is_none(twelve):
    with pytest.raises(QuerySyntaxError, match="operator"):
        twelve.groupby("n.$gt").__next__()
    with pytest.raises(QuerySyntaxError, match="key"):
        list(twelve.groupby([3]))


# --- schema ---


def test_a_schema_has_keys_types_and_values(twelve):
    twelve.open({"n": 1.5, "list": [1, 2]})
    schema = twelve.detect_schema()
    assert list(schema) == ["list", "even", "group.third", "n"]
    assert schema["n"] == {int: [*range(12)], float: [1.5]}
    assert schema["list"] == {list: [[1, 2]]}
    assert schema["even"] == {bool: [False, True]}
    assert str(schema) == (
        "{\n"
        " 'even': 'bool([False, True], 2)',\n"
        " 'group.third': 'int([0, 1, 2], 3)',\n"
        " 'list': 'list([[1, 2]], 1)',\n"
        " 'n': 'int([0, 1, 2, ..., 10, 11], 12), float([1.5], 1)',\n"
        "}"
    )
    assert json.dumps(schema.to_json())
    assert repr(schema) == "Schema(<len=4>)"
    assert "<pre>" in schema._repr_html_()
    assert "'group': {'third': 'int([0, 1, 2], 3)'}" in schema.format(depth=2)


def test_a_schema_of_some_jobs_leaves_out_what_is_constant_among_them(twelve):
    even = twelve.find(even=True)
    assert "even" in even.detect_schema()
    assert "even" not in even.detect_schema(exclude_const=True)
    assert even.detect_schema() == twelve.detect_schema(subset=even)
    assert twelve.detect_schema(subset=[job.id for job in even]) == even.detect_schema()
    one_more = twelve.open({"even": True})
    assert "even" not in twelve.detect_schema(exclude_const=True, subset=[*even, one_more])
    assert "n" in twelve.detect_schema(exclude_const=True, subset=[even[0], one_more])


def test_schemas_are_compared():
    one, other = Schema({"a": {int: [1]}, "b": {int: [1]}}), Schema({"b": {int: [1, 2]}})
    assert one.difference(other) == {"a", "b"}
    assert one.difference(other, ignore_values=True) == {"a"}
    assert one == Schema({"b": {int: [1]}, "a": {int: [1]}})
    assert one != other


def test_a_schema_rounds_numbers_and_cuts_ranges():
    schema = Schema({"x": {float: [0.123456, 1.0, 2.0, 3.0], bool: [True]}})
    assert (
        schema.format(precision=2, max_num_range=3) == "{\n 'x': 'float([0.12, ..., 2.0, 3.0], 4), bool([True], 1)',\n}"
    )


# --- pandas ---


def test_jobs_become_a_table_of_pandas(twelve):
    pandas = pytest.importorskip("pandas")
    frame = twelve.find("n.$lt 4").to_dataframe(flatten=True)
    assert isinstance(frame, pandas.DataFrame)
    assert {*frame.columns} == {"sp.n", "sp.group.third", "sp.even", "doc.result", "doc.deep.x"}
    assert list(frame.index) == [job.id for job in twelve.find("n.$lt 4")]
    assert frame["sp.n"].sum() == 6
    assert frame["doc.result"].sum() == 40
    assert set(twelve.to_dataframe(usecols=["sp.n"]).columns) == {"sp.n"}
    assert set(twelve.to_dataframe(usecols=lambda name: "group" in name).columns) == {"sp.group"}
    assert set(twelve.to_dataframe("", "d_", flatten=True).columns) >= {"n", "d_result"}
    assert twelve.find("n 99").to_dataframe().empty


def test_without_pandas_it_is_said_how_to_get_it(twelve, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(ImportError, match=r"sigfs\[pandas\]"):
        twelve.to_dataframe()
