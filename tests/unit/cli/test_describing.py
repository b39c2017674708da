"""schema and diff: what they print."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sigfs.api.difference import differences
from sigfs.api.project import Project, init_project
from tests.support.commands import Run


@pytest.fixture
def project(run: Run, tmp_path: Path) -> Project:
    """Eight jobs with a constant, a key of two types and one that only some have."""
    made = init_project(tmp_path)
    for n in range(8):
        made.open({"n": n, "c": "x", "a": {"b": n % 2 if n < 6 else "many"}, **({"some": None} if n > 5 else {})})
    return made


def test_the_schema_lists_keys_types_and_values(run: Run, project: Project) -> None:
    assert run("schema")[1].splitlines() == [
        "key\ttype\tvalues\trange",
        "c\tstr\t1\tx",
        "some\tNoneType\t1\tnull",
        "a.b\tint\t2\t0, 1",
        "a.b\tstr\t1\tmany",
        "n\tint\t8\t0, 1, 2, ..., 6, 7",
    ]
    assert run("schema", "--max-values", "8")[1].splitlines()[-1] == "n\tint\t8\t0, 1, 2, 3, 4, 5, 6, 7"


def test_the_schema_of_some_jobs(run: Run, project: Project) -> None:
    assert "c\t" not in run("schema", "--exclude-const")[1]
    assert json.loads(run("schema", "n@lt", "2", "--json")[1]) == {
        "c": {"str": ["x"]},
        "a.b": {"int": [0, 1]},
        "n": {"int": [0, 1]},
    }
    assert run("schema", "n", "99")[0] == 4


def test_no_jobs_have_an_empty_schema(run: Run, tmp_path: Path) -> None:
    init_project(tmp_path)
    code, out, err = run("schema")
    assert (code, out) == (0, "key\ttype\tvalues\trange\n")
    assert "no jobs" in err
    assert run("schema", "--json")[1] == "{}\n"


def test_a_difference_is_a_table_of_what_is_not_the_same(run: Run, project: Project) -> None:
    first, second = (project.open({"n": n, "c": "x", "a": {"b": n}}).id for n in (0, 1))
    lines = run("diff", first, second)[1].splitlines()
    assert lines == ["id\ta.b\tn", f"{first}\t0\t0", f"{second}\t1\t1"]
    assert json.loads(run("diff", first[:8], second[:8], "--json")[1]) == {
        first: {"n": 0, "a": {"b": 0}},
        second: {"n": 1, "a": {"b": 1}},
    }
    assert len(run("diff", "a.b", "many")[1].splitlines()) == 3


def test_one_job_differs_from_none(run: Run, project: Project) -> None:
    code, out, err = run("diff", "n", "0")
    assert (code, out) == (0, "")
    assert "single" in err


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ({"a": 1}, {"a": 1.0}, ({"a": 1}, {"a": 1.0})),
        ({"a": True}, {"a": 1}, ({"a": True}, {"a": 1})),
        ({"a": {}}, {"a": {"b": 1}}, ({"a": {}}, {"a": {"b": 1}})),
        ({"a": [1]}, {"a": [1]}, ({}, {})),
        (None, {"a": 1}, ({}, {"a": 1})),
    ],
)
def test_values_are_the_same_if_json_spells_them_alike(
    one: object, other: object, expected: tuple[object, ...]
) -> None:
    found = differences({"one": one, "other": other})  # type: ignore[dict-item]
    assert (found["one"], found["other"]) == expected
