"""A plan that is brought up to date, beside one that is made anew; and what is exported, imported again."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigfs.api.project import Project
from sigfs.export.exporting import Options, export, export_archive
from sigfs.export.importing import ImportOptions, import_jobs
from sigfs.export.links import directories_of
from sigfs.export.plan import Known, listed_keys, plan
from sigfs.index import Index, Selection, Table
from sigfs.tree import Tree, VirtualNode
from sigfs.tree.entries import Entry, entries
from tests.support.projects import make_project
from tests.support.strategies import added, job_id, statepoints
from tests.support.trees import walk

few = st.dictionaries(
    st.sampled_from("abc"), st.sampled_from([1, 1.0, True, "1", 2, "x", None, {"d": 1}, {}, [1], 0.0, -0.0]), max_size=3
)


def known_of(tree: Tree, table: Table) -> Known:
    jobs = plan(tree, table)
    return Known(jobs, directories_of(jobs), listed_keys(tree, table))


@pytest.mark.parametrize("layout", ["auto", "full", "hive", "signac"])
@settings(max_examples=100, deadline=None)
@given(
    st.lists(few | statepoints, min_size=1, max_size=12, unique_by=repr),
    st.lists(few | statepoints, max_size=3, unique_by=repr),
)
def test_a_plan_that_is_brought_up_to_date_is_that_of_a_whole_walk(
    layout: str, before: list[dict[str, object]], come: list[dict[str, object]]
) -> None:
    tree = Tree(layout)
    index = Index()
    index.apply(added(*before))
    with index.reading() as table:
        known = known_of(tree, table)
    index.apply(added(*come))
    with index.reading() as table:
        walked = {"/".join(path): job for path, job in walk(tree, table)}
        assert plan(tree, table, known) == plan(tree, table) == walked


def test_directories_without_new_jobs_are_not_walked(monkeypatch: pytest.MonkeyPatch) -> None:
    tree = Tree()
    index = Index()
    index.apply(added(*({"a": a, "b": b} for a in range(5) for b in range(10))))
    with index.reading() as table:
        known = known_of(tree, table)
    index.apply(added({"a": 3, "b": 5, "c": 1}, {"a": 3, "b": 6, "c": 1}))
    with index.reading() as table:  # c is a key more
        assert plan(tree, table, known) == plan(tree, table)
        known = known_of(tree, table)
    index.apply(added({"a": 3, "b": 7, "c": 1}))
    asked = []

    def look(tree: Tree, node: VirtualNode, table: Table, jobs: Selection) -> Iterator[Entry]:
        found = list(entries(tree, node, table, jobs))
        asked.extend(found)
        return iter(found)

    monkeypatch.setattr("sigfs.export.plan.entries", look)
    with index.reading() as table:
        found = plan(tree, table, known)
        few_asked = len(asked)
        assert found == plan(tree, table)
    assert 0 < few_asked < (len(asked) - few_asked) / 3


def test_another_spelling_of_a_value_that_comes_gives_the_others_its_name() -> None:
    tree = Tree()
    index = Index()
    index.apply(added(*({"a": a, "k": k} for a in (0, 3) for k in (1.0, 2))))
    with index.reading() as table:
        known = known_of(tree, table)
    index.apply(added({"a": 3, "k": 1}))
    with index.reading() as table:
        assert plan(tree, table, known) == plan(tree, table)
        assert "a/0/k/1" in plan(tree, table)


METHODS = ["symlink", "copy", "hardlink", "move", "tar", "zip"]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(few | statepoints, min_size=1, max_size=5, unique_by=job_id),
    st.sampled_from(METHODS),
    st.sampled_from(["auto", "full", "hive", "signac", "{job.id}"]),
)
def test_what_is_exported_is_imported_with_the_same_ids_and_bytes(
    jobs: list[dict[str, object]], method: str, layout: str
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        old, new = Project(make_project(f"{directory}/old", *jobs)), Project(make_project(f"{directory}/new"))
        for number, statepoint in enumerate(jobs):
            Path(old.workspace.path, job_id(statepoint), "data").write_text(str(number))
        before = contents(old.workspace.path)
        options = Options(layout, method="copy" if method in ("tar", "zip") else method)  # type: ignore[arg-type]
        if method in ("tar", "zip"):
            export_archive(old, f"{directory}/target", method, options)  # type: ignore[arg-type]
        else:
            export(old, f"{directory}/target", options)
        report = import_jobs(new, f"{directory}/target", ImportOptions())
        assert not report.failed
        assert contents(new.workspace.path) == before
        report = import_jobs(new, f"{directory}/target", ImportOptions())
        assert (len(report.unchanged), report.imported, report.failed) == (len(jobs), {}, {})


def contents(workspace: str) -> dict[str, bytes]:
    return {
        str(path.relative_to(workspace)): path.read_bytes() for path in Path(workspace).rglob("*") if path.is_file()
    }
