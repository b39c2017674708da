"""Which keys and values there are, for programs."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from sigfs.index import Index
from sigfs.index.schema import VALUES_LIMIT, schema
from sigfs.model.types import Change
from tests.support.strategies import added, record, statepoints


def schema_of(*statepoints: dict[str, object]) -> dict[str, object]:
    index = Index()
    index.apply(added(*statepoints))
    with index.reading() as table:
        found = schema(table, documents=False)["sp"]
    assert isinstance(found, dict)
    return found


def test_types_are_told_apart_and_equal_values_are_not() -> None:
    found = schema_of({"a": 1}, {"a": 1.0}, {"a": "1"}, {"a": True}, {"a": None}, {"a": [1]}, {"a": {}}, {"b": 2})
    assert found["a"] == {
        "jobs": 7, "distinct": 6, "constant": False,
        "types": {
            "bool": {"jobs": 1, "distinct": 1, "values": [True]},
            "dict": {"jobs": 1, "distinct": 1},
            "float": {"jobs": 1, "distinct": 1, "min": 1.0, "max": 1.0, "values": [1.0]},
            "int": {"jobs": 1, "distinct": 1, "min": 1, "max": 1, "values": [1]},
            "list": {"jobs": 1, "distinct": 1},
            "null": {"jobs": 1, "distinct": 1, "values": [None]},
            "str": {"jobs": 1, "distinct": 1, "min": "1", "max": "1", "values": ["1"]},
        },
    }  # fmt: skip


def test_keys_are_spelled_as_in_a_query() -> None:
    assert list(schema_of({"b": {"c": 1}, "a": 1, "doc": 2, "id": 3, "": 4})) == [
        "a",
        "b.c",
        'sp.""',
        "sp.doc",
        "sp.id",
    ]


def test_many_values_are_told_by_their_range() -> None:
    key = schema_of(*({"n": n, "same": 0} for n in range(VALUES_LIMIT + 1)))["n"]
    assert key == {
        "jobs": 11, "distinct": 11, "constant": False,
        "types": {"int": {"jobs": 11, "distinct": 11, "min": 0, "max": 10}},
    }  # fmt: skip


def test_what_all_jobs_say_is_constant() -> None:
    found = schema_of({"n": 1, "same": 0, "some": 1}, {"n": 2, "same": 0})
    assert {key: said["constant"] for key, said in found.items()} == {"n": False, "same": True, "some": False}  # type: ignore[index]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(statepoints, statepoints), max_size=6))
def test_any_jobs_have_a_schema_that_can_be_written(jobs: list[tuple[dict[str, object], dict[str, object]]]) -> None:
    index = Index()
    index.apply(Change(each.id, each) for each in (record(sp, doc) for sp, doc in jobs))
    with index.reading() as table:
        said = schema(table, documents=True)
    json.dumps(said)
    for key in [*said["sp"].values(), *said["doc"].values()]:  # type: ignore[attr-defined]
        assert key["jobs"] == sum(each["jobs"] for each in key["types"].values())
        assert 1 <= key["distinct"] <= sum(each["distinct"] for each in key["types"].values())
