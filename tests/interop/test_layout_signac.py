"""The layout ``signac`` beside real ``signac view``, link for link."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import signac
from hypothesis import given, settings
from hypothesis import strategies as st

from sigfs.api.project import Project
from sigfs.export.exporting import Options, export
from sigfs.tree import Tree
from tests.support.trees import table_of, walk

HOMOGENEOUS = [{"n": 100, "seed": seed, "group": group, "x": 0.5 * seed} for seed in (1, 2, 3) for group in ("a", "b")]
HETEROGENEOUS = [
    {"a": 4}, {"a": 4, "b": 2}, {"a": 2, "b": 2}, {"b": 2}, {"a": True}, {"a": 4.0}, {"c": None},
    {"a": {"x": 1, "y": [1, 2.5, "z"]}, "b": False}, {"a": {"x": 2}}, {"d": {"e": {"f": "g"}}, "h": "h"},
]  # fmt: skip


def links(root: Path) -> set[tuple[str, str]]:
    found = set()
    for above, directories, files in os.walk(root):
        for name in [*directories, *files]:
            path = os.path.join(above, name)
            if os.path.islink(path):
                found.add((os.path.relpath(path, root), os.path.basename(os.path.realpath(path))))
    return found


def theirs(where: Path, statepoints: list[dict[str, object]], path: str | None = None) -> set[tuple[str, str]]:
    project = signac.init_project(where / "project")
    for statepoint in statepoints:
        project.open_job(statepoint).init()
    project.create_linked_view(prefix=str(where / "view"), path=path)
    return links(where / "view")


def exported(where: Path) -> set[tuple[str, str]]:
    export(Project(str(where / "project")), str(where / "exported"), Options("signac"))
    return links(where / "exported")


def ours(statepoints: list[dict[str, object]], layout: str = "signac", leaf: str = "") -> set[tuple[str, str]]:
    return {("/".join(path) + leaf, job) for path, job in walk(Tree(layout), table_of(*statepoints))}


@pytest.mark.parametrize(
    "statepoints",
    [HOMOGENEOUS, HETEROGENEOUS, HOMOGENEOUS[:1], HOMOGENEOUS[:2], [], [{"a": "50% b"}, {"a": "~x"}]],
    ids=["homogeneous", "heterogeneous", "one job", "two jobs", "no job", "odd names"],
)
def test_the_layout_is_the_tree_of_signac_view(tmp_path: Path, statepoints: list[dict[str, object]]) -> None:
    expected = theirs(tmp_path, statepoints)
    assert ours(statepoints) == expected
    assert exported(tmp_path) == expected


def test_an_export_is_brought_up_to_date_as_signac_view_is(tmp_path: Path) -> None:
    for count in (2, 3, 6):
        expected = theirs(tmp_path, HOMOGENEOUS[:count])
        assert exported(tmp_path) == expected
    project = signac.get_project(tmp_path / "project")
    project.open_job(HOMOGENEOUS[1]).remove()
    project.create_linked_view(prefix=str(tmp_path / "view"))
    assert exported(tmp_path) == links(tmp_path / "view")


def test_a_job_without_any_of_the_keys_for_which_signac_gives_up_is_at_the_top(tmp_path: Path) -> None:
    statepoints: list[dict[str, object]] = [{"a": {}}, {"a": 1}]
    with pytest.raises(RuntimeError, match="determine path"):
        theirs(tmp_path, statepoints)
    assert {path for path, _ in ours(statepoints)} == {"a/1/job", "job"}


def test_values_that_signac_refuses_or_confuses_have_names_of_their_own(tmp_path: Path) -> None:
    slashed: list[dict[str, object]] = [{"a": "x/y"}, {"a": ".."}]
    with pytest.raises(RuntimeError, match="should not contain"):
        theirs(tmp_path, slashed)
    assert {path for path, _ in ours(slashed)} == {"a/x%2Fy/job", "a/%2E./job"}
    alike: list[dict[str, object]] = [{"a": 1}, {"a": "1"}, {"a": 2}]
    assert len(theirs(tmp_path / "alike", alike)) == 2  # one of three is lost
    met = sorted(path for path, _ in ours(alike))
    assert len(met) == 3
    assert met[0].startswith("a/1/job/")
    assert met[2] == "a/2/job"


# Not 1 beside true: signac calls them equal here, and links one of two jobs by the other's name or not at all.
scalars = st.sampled_from([2, 3, 10, 2.0, 0.5, 1e22, 1e-7, True, False, None, "a", "b c", "1x", "ü"])
values = scalars | st.lists(st.sampled_from([1, "a", 2.5, None]), max_size=2)
keys = st.sampled_from(["a", "b", "c", "d"])
projects = st.lists(
    st.dictionaries(keys, values | st.dictionaries(st.sampled_from("xy"), scalars, min_size=1, max_size=2), max_size=3),
    max_size=6,
    unique_by=repr,
)


@settings(max_examples=60, deadline=None)
@given(projects)
def test_random_projects_look_as_in_signac_view(
    tmp_path_factory: pytest.TempPathFactory, statepoints: list[dict[str, object]]
) -> None:
    where = tmp_path_factory.mktemp("project")
    try:
        expected = theirs(where, statepoints)
    except RuntimeError:  # a job that has none of the keys, which we list at the top
        assert any(path.count("/") == 0 for path, _ in ours(statepoints))
        return
    assert ours(statepoints) == expected
    assert exported(where) == expected


@pytest.mark.parametrize(
    "template",
    ["s_{seed}/{{auto}}", "{seed:03d}/{group}/x_{x:.2f}", "{{auto}}/{group}", "{{auto:_}}", "id/{job.id}"],
)
def test_templates_mean_what_they_mean_in_signac(tmp_path: Path, template: str) -> None:
    assert ours(HOMOGENEOUS, template, "/job") == theirs(tmp_path, HOMOGENEOUS, template)
