"""The names of older versions work, and say what they are now."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import sigfs
from sigfs.errors import SigfsDeprecationWarning

OLD = [
    ("root_directory()", "project.root", lambda project: project.root),
    ("get_root()", "project.root", lambda project: project.root),
    ("get_id()", "project.name", lambda project: project.name),
    ("id", "project.name", lambda project: project.name),
    ("num_jobs()", r"len\(project\)", len),
    ("workspace()", "workspace.path", lambda project: project.workspace.path),
    ("find_job_ids('n.$lt 3')", "job.id for job", lambda project: [job.id for job in project.find("n.$lt 3")]),
    ("find_job_ids(None, {'result': 10})", "job.id", lambda project: [job.id for job in project.find("n 1")]),
    ("build_job_search_index(None)", "project.index", lambda project: project.index),
]


@pytest.mark.parametrize(("call", "new", "value"), OLD, ids=[call for call, _, _ in OLD])
def test_an_older_name_warns_and_gives_what_the_newer_one_gives(twelve, call, new, value):
    assert twelve is not None
    with pytest.warns(SigfsDeprecationWarning, match=new) as warned:
        assert eval(f"twelve.{call}", {"twelve": twelve}) == value(twelve)
    assert len(warned) == 1


def test_the_warning_names_the_line_of_the_caller_and_is_a_deprecation_warning(twelve):
    with pytest.warns(DeprecationWarning, match="len") as warned:
        twelve.num_jobs()
    assert warned[0].filename == __file__
    with pytest.warns(DeprecationWarning, match="path") as warned:
        twelve.workspace()
    assert warned[0].filename == __file__


def test_what_was_found_by_older_names(twelve):
    with pytest.warns(SigfsDeprecationWarning):
        assert sorted(each["n"] for each in twelve.find_statepoints({"even": True})) == [0, 2, 4, 6, 8, 10]
    with pytest.warns(SigfsDeprecationWarning):
        (document,) = twelve.find_job_documents({"n": 1})
    job = twelve.find("n 1")[0]
    assert document == {"_id": job.id, "statepoint": job.statepoint, "result": 10, "deep": {"x": 1}}
    with pytest.warns(SigfsDeprecationWarning):
        assert twelve.get_statepoint(job.id[:8]) == job.statepoint
    with pytest.warns(SigfsDeprecationWarning, match="doc"):
        assert len(twelve.find_jobs({"even": False}, doc_filter={"result": 10})) == 1
    with pytest.warns(SigfsDeprecationWarning):
        groups = {value: len(group) for value, group in twelve.groupbydoc("deep.x", -1)}
    assert groups == {-1: 6, 1: 3, 3: 3}
    with pytest.warns(SigfsDeprecationWarning):
        keys = dict(twelve.build_job_statepoint_index())
    assert {*keys} == {("n",), ("even",), ("group", "third")}
    assert keys[("n",)][1] == {job.id}


def test_state_points_are_written_and_read_as_signac_1_did(twelve, tmp_path):
    with pytest.warns(SigfsDeprecationWarning):
        twelve.write_statepoints()
    with pytest.warns(SigfsDeprecationWarning):
        twelve.write_statepoints([{"extra": 1}])
    kept = json.loads(Path(twelve.fn("signac_statepoints.json")).read_text())
    assert len(kept) == 13
    with pytest.warns(SigfsDeprecationWarning):
        assert twelve.read_statepoints() == kept
    with pytest.warns(SigfsDeprecationWarning):
        assert twelve.dump_statepoints([{"extra": 1}]).keys() <= kept.keys()
    job = twelve.find("n 1")[0]
    with pytest.warns(SigfsDeprecationWarning):
        assert twelve.get_statepoint(job.id, fn=twelve.fn("signac_statepoints.json")) == job.statepoint


def test_a_linked_view_is_a_mount_now(twelve):
    with pytest.raises(NotImplementedError, match="sigfs mount"):
        twelve.create_linked_view("view")


def test_older_arguments_of_getting_and_making_a_project(tmp_path):
    with pytest.warns(SigfsDeprecationWarning):
        made = sigfs.init_project(root=tmp_path / "p")
    with pytest.warns(SigfsDeprecationWarning):
        assert sigfs.get_project(root=made.root) == made
    assert sigfs.Project.get_project(made.root) == made
    assert sigfs.Project.init_project(tmp_path / "q").root == str(tmp_path / "q")
    with pytest.raises(LookupError):
        sigfs.get_project(os.path.join(made.root, "workspace"), search=False)


def test_state_points_are_changed_by_the_projects_older_methods(project):
    job = project.open({"foo": 42})
    with pytest.warns(SigfsDeprecationWarning):
        project.update_statepoint(job, {"bar": 1})
    assert job.statepoint == {"foo": 42, "bar": 1}
    with pytest.warns(SigfsDeprecationWarning):
        project.reset_statepoint(job, {"foo": 43})
    assert job.id == "fb5599b2a36a3cc7cd97aeaf6febfe97"
    assert project.find(foo=43)[0] == job


def test_the_older_names_of_a_job(project):
    job = project.open({"foo": 42})
    for old in ("ws", "wd"):
        with pytest.warns(SigfsDeprecationWarning, match=r"job\.path"):
            assert getattr(job, old) == os.fspath(job)
    with pytest.warns(SigfsDeprecationWarning, match=r"job\.path") as warned:
        assert job.workspace() == os.fspath(job)
    assert warned[0].filename == __file__
    with pytest.warns(SigfsDeprecationWarning, match=r"job\.id"):
        assert job.get_id() == job.id
    with pytest.warns(SigfsDeprecationWarning, match="statepoint"):
        job.reset_statepoint({"foo": 43})
    assert job.statepoint() == job.cached_statepoint == {"foo": 43}
    assert type(job.cached_statepoint) is dict
