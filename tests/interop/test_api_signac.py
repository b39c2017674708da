"""The same questions to signac and to sigfs about the same project have the same answers."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import sys
import time
from pathlib import Path

import pytest
import signac

import sigfs

STATEPOINTS = [
    {
        "n": n,
        "T": n / 4,
        "kind": "abc"[n % 3],
        "on": n % 2 == 0,
        "in": {"x": n % 5, "deep": {"y": str(n)}},
        "box": [n, 1],
    }
    for n in range(20)
]


@pytest.fixture
def both(tmp_path):
    theirs = signac.init_project(str(tmp_path / "project"))
    for statepoint in STATEPOINTS:
        job = theirs.open_job(statepoint).init()
        if statepoint["n"] % 2:
            job.doc.update(
                {"energy": statepoint["n"] / 7, "deep": {"z": statepoint["n"]}, "name": f"j{statepoint['n']}"}
            )
    return theirs, sigfs.get_project(theirs.path)


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"kind": "a"},
        {"n": {"$gt": 7}},
        {"in.x": 3},
        {"in": {"x": 3}, "kind": "b"},
        {"doc.energy": {"$lt": 1}},
        {"doc.deep.z": 5},
        {"$or": [{"n": 1}, {"doc.name": "j7"}]},
        {"nope.$exists": True},
        {"doc.energy.$exists": False},
        {"in.deep.y": {"$in": ["1", "2"]}},
        {"kind": {"$regex": "[ab]"}},
    ],
)
def test_queries_find_the_same_jobs(both, query):
    theirs, ours = both
    expected = {job.id for job in theirs.find_jobs(query)}
    assert {job.id for job in ours.find_jobs(query)} == expected
    assert len(ours.find(query)) == len(theirs.find_jobs(query))


@pytest.mark.parametrize("key", ["kind", "sp.n", "doc.name", ["kind", "on"], ["n"], None])
def test_groups_are_the_same_in_the_same_order(both, key):
    theirs, ours = both
    expected = [(value, {job.id for job in group}) for value, group in theirs.groupby(key)]
    assert [(value, {job.id for job in group}) for value, group in ours.groupby(key)] == expected


@pytest.mark.parametrize("key", ["doc.name", ["kind", "nope"]])
def test_groups_with_a_default_are_the_same(both, key):
    theirs, ours = both
    expected = [(value, {job.id for job in group}) for value, group in theirs.groupby(key, default="none")]
    assert [(value, {job.id for job in group}) for value, group in ours.groupby(key, default="none")] == expected


@pytest.mark.parametrize("exclude_const", [False, True])
def test_the_schema_says_the_same(both, exclude_const):
    theirs, ours = both
    theirs.open_job({"n": 0.5, "T": "cold"}).init()
    expected = theirs.detect_schema(exclude_const=exclude_const)
    found = ours.detect_schema(exclude_const=exclude_const)
    plain = {key: {kind: {*values} for kind, values in kinds.items()} for key, kinds in found.items() if key != "box"}
    assert plain == {
        key: {kind: {*values} for kind, values in kinds.items()} for key, kinds in expected.items() if key != "box"
    }
    assert [
        line for line in str(found).splitlines() if "box" not in line and "'T'" not in line and "'n'" not in line
    ] == [line for line in str(expected).splitlines() if "box" not in line and "'T'" not in line and "'n'" not in line]


@pytest.mark.parametrize("flatten", [False, True])
def test_tables_are_the_same(both, flatten):
    testing = pytest.importorskip("pandas.testing")
    theirs, ours = both
    theirs.open_job({"mixed": None, "n": None}).init()
    theirs.open_job({"mixed": "x", "on": None}).init()
    expected = theirs.to_dataframe(flatten=flatten)
    found = ours.to_dataframe(flatten=flatten)
    testing.assert_frame_equal(found[sorted(found)].sort_index(), expected[sorted(expected)].sort_index())


def test_the_shortest_unambiguous_id_is_the_same(both):
    theirs, ours = both
    assert ours.min_len_unique_id() == theirs.min_len_unique_id()


def test_what_sigfs_has_mended_signac_finds_sound(both):
    theirs, ours = both
    theirs.update_cache()
    jobs = sorted(theirs, key=lambda job: job.sp.n)
    Path(jobs[0].fn("signac_statepoint.json")).unlink()
    Path(jobs[1].fn("signac_statepoint.json")).write_text("{")
    Path(jobs[2].path).rename(Path(theirs.workspace, "a" * 32))
    assert len(ours.repair()) == 3
    signac.get_project(theirs.path).check()
    assert len(list(signac.get_project(theirs.path))) == len(STATEPOINTS)


WRITER = """
import os, sys, sigfs
project, base = sigfs.get_project(sys.argv[1]), int(sys.argv[2])
for n in range(base, base + 300):
    job_id = project.workspace.create({"n": n, "writer": base})
    new = project.workspace.migrate(job_id, {"n": n, "writer": base, "moved": True})
    if n % 2:
        project.workspace.remove(new)
"""


def test_no_question_fails_while_others_make_migrate_and_remove_jobs(tmp_path):
    project = sigfs.init_project(tmp_path / "project")
    for n in range(50):
        project.open({"n": -n, "writer": 0})
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, project.root, str(base)], stderr=subprocess.PIPE)
        for base in (1000, 2000)
    ]
    asked = 0
    deadline = time.monotonic() + 120
    while any(writer.poll() is None for writer in writers) and time.monotonic() < deadline:
        assert len(project.find("writer 0")) == 50
        assert len(project.find({"doc.x.$exists": False, "writer": 0})) == 50
        assert len(list(project.find(moved=True).entries())) <= 600
        assert len(project) >= 50
        assert sum(len(group) for _, group in project.groupby("writer")) >= 50
        assert project.detect_schema()["writer"][int][0] == 0
        for job in itertools.islice(project.find("writer.$gt 0"), 5):
            with contextlib.suppress(LookupError):  # removed, or being migrated, since
                assert job.statepoint["writer"] in (1000, 2000)
        asked += 1
    for writer in writers:
        assert writer.communicate()[1] == b""
        assert writer.returncode == 0
    assert asked
    assert len(project.find(moved=True)) == 300
    assert len(project) == 350
    project.check()
    signac.get_project(project.root).check()
