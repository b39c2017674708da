"""Projects made by the real signac open here, and projects made here open there."""

import contextlib
import hashlib
import json
import math
import multiprocessing
import os
from pathlib import Path

import pytest

import sigfs
from sigfs.errors import ProjectExists
from sigfs.model.statepoint import encode, statepoint_id, validate
from sigfs.model.workspace import DOCUMENT_FILE, STATEPOINT_FILE

signac = pytest.importorskip("signac")

SCREENING = Path(__file__).parents[3] / "shared" / "data" / "terminal_group_screening"

STATEPOINTS = [
    {},
    {"foo": 42},
    {"foo": 42, "bar": True},
    {"a": 1},
    {"a": 1.0},
    {"a": True},
    {"a": "1"},
    {"a": None},
    {"T": 0.1, "p": 1e22, "q": 1e-7, "z": -0.0, "d": 5e-324, "m": 1.7976931348623157e308},
    {"a": math.inf, "b": -math.inf},
    {"a": math.nan},
    {"n": 2**70, "m": -(2**70), "u": 2**64, "i": 2**63},
    {"n": 10**400},
    {"ü": "日本\U0001f600", "s": "\ud800", "\udcff": 1},
    {"quote": "\"'\\\n\t\x00\x7f", "slash": "a/b", "dots": "..", "empty": "", "long": "x" * 300},
    {"list": [], "nested": [1, [2.5, [None, {"x": []}]]], "dict": {}},
    {"b": {"d": {"e": 1}, "c": 2}, "a": [{"z": 1, "y": 2}]},
    {"a b": 1, "@": 2, "$gt": 3, "%": 4, "_data": 5, "job": 6, "/": 7},
    {"deep": json.loads("[" * 60 + "]" * 60)},
]


def named(statepoint):
    return repr(statepoint)[:40]


def same(left, right):
    return json.dumps(left) == json.dumps(right)  # tells types apart, and holds for NaN


def tree(directory):
    """What a change of any kind would change: names, kinds, contents, modes and times."""
    result = {}
    for path in sorted(Path(directory).rglob("*")):
        status = path.lstat()
        content = hashlib.md5(path.read_bytes()).hexdigest() if path.is_file() else None
        result[str(path.relative_to(directory))] = (status.st_mode, status.st_mtime_ns, status.st_ctime_ns, content)
    return result


@pytest.mark.parametrize("statepoint", STATEPOINTS, ids=named)
def test_a_job_made_by_signac_reads_equally_here(tmp_path, statepoint):
    theirs = signac.init_project(str(tmp_path)).open_job(statepoint).init()
    theirs.document.update({"energy": -1.5, "nan": math.nan, "big": 2**70, "text": "ü", "nested": {"a": [1, 2]}})
    before = tree(tmp_path)
    (ours,) = sigfs.get_project(tmp_path)
    assert ours.id == theirs.id == statepoint_id(statepoint)
    assert os.path.abspath(ours.path) == theirs.path
    assert same(ours.statepoint(), statepoint)
    assert same(ours.document(), theirs.document())
    (change,) = ours.workspace.scan(documents=True)
    assert same([change.record.statepoint, change.record.document], [statepoint, theirs.document()])
    assert tree(tmp_path) == before


@pytest.mark.parametrize("statepoint", STATEPOINTS, ids=named)
def test_a_job_made_here_is_byte_for_byte_what_signac_makes(tmp_path, statepoint):
    theirs = signac.init_project(str(tmp_path / "theirs")).open_job(statepoint).init()
    ours = sigfs.init_project(tmp_path / "ours").open(statepoint)
    assert ours.id == theirs.id
    with open(theirs.fn(STATEPOINT_FILE), "rb") as expected, open(ours.fn(STATEPOINT_FILE), "rb") as got:
        assert got.read() == expected.read() == encode(validate(statepoint))
    assert os.listdir(ours.path) == os.listdir(theirs.path)


def test_signac_opens_a_project_made_here_and_finds_nothing_to_complain_of(tmp_path):
    project = sigfs.init_project(tmp_path / "ours")
    ids = {project.open(statepoint).id for statepoint in STATEPOINTS}
    left = Path(project.workspace.path) / "._sigfs_0123456789abcdef"
    left.mkdir()  # as a killed process leaves it
    theirs = signac.get_project(project.root)
    theirs.check()
    assert {job.id for job in theirs} == ids
    assert len(theirs) == len(STATEPOINTS)
    for statepoint in STATEPOINTS:
        assert same(theirs.open_job(id=statepoint_id(statepoint)).statepoint(), statepoint)
        assert theirs.open_job(statepoint).init().id in ids
    assert len(list(project)) == len(STATEPOINTS)


def test_a_new_project_is_byte_for_byte_what_signac_makes(tmp_path):
    signac.init_project(str(tmp_path / "theirs"))
    sigfs.init_project(tmp_path / "ours")

    def content(directory):
        return {
            str(path.relative_to(directory)): (path.stat().st_mode, path.read_bytes() if path.is_file() else None)
            for path in directory.rglob("*")
        }

    assert content(tmp_path / "ours") == content(tmp_path / "theirs")


def test_signac_finds_a_project_made_here_from_below_and_does_not_make_it_again(tmp_path):
    project = sigfs.init_project(tmp_path, name="named")
    job = project.open({"foo": 42})
    assert signac.get_project(job.path).path == project.root
    assert signac.init_project(str(tmp_path)).path == project.root
    assert signac.get_project(str(tmp_path)).document["signac_project_name"] == "named"
    assert sigfs.init_project(str(tmp_path)) == project
    assert sigfs.init_project(tmp_path, name="named").name == "named"
    with pytest.raises(ProjectExists):
        sigfs.init_project(tmp_path, name="other")


@pytest.mark.parametrize("value", [{"a": (1, 2)}, {"a": [({"b": ()},)]}], ids=named)
def test_what_signac_turns_into_lists_becomes_lists_here(tmp_path, value):
    theirs = signac.init_project(str(tmp_path)).open_job(value).init()
    assert sigfs.get_project(tmp_path).open(value).id == theirs.id
    theirs._project.check()


@pytest.mark.parametrize(
    "value", [{"a.b": 1}, {"a": {"b.c": 1}}, {1: 2}, {"a": b"x"}, {"a": {1}}, {"a": range(3)}], ids=named
)
def test_what_signac_refuses_is_refused_here(tmp_path, value):
    theirs = signac.init_project(str(tmp_path))
    with pytest.raises(Exception):  # noqa: B017, PT011
        theirs.open_job(value).init()
    with pytest.raises(sigfs.errors.InvalidStatePoint):
        sigfs.init_project(tmp_path / "ours").open(value)


def test_a_job_that_signac_migrates_is_read_under_its_new_id(tmp_path):
    theirs = signac.init_project(str(tmp_path)).open_job({"foo": 42}).init()
    project = sigfs.get_project(tmp_path)
    assert [job.id for job in project] == [statepoint_id({"foo": 42})]
    theirs.statepoint.foo = 43
    assert [(job.id, job.statepoint) for job in project] == [(statepoint_id({"foo": 43}), {"foo": 43})]


def test_a_directory_that_signac_has_just_made_is_completed(tmp_path):
    theirs = signac.init_project(str(tmp_path)).open_job({"foo": 42})
    os.makedirs(theirs.path)
    assert sigfs.get_project(tmp_path).open({"foo": 42}).id == theirs.id
    theirs.init()
    theirs._project.check()


# --- signac 1 ---


@pytest.mark.parametrize("name", ["signac.rc", ".signacrc"])
@pytest.mark.parametrize("workspace", [None, "workspace", "data/jobs", "$SIGFS_TEST_SCRATCH/jobs"])
def test_a_project_of_signac_1_is_opened_as_it_is(tmp_path, monkeypatch, name, workspace):
    monkeypatch.setenv("SIGFS_TEST_SCRATCH", str(tmp_path / "scratch"))
    root = tmp_path / "project"
    root.mkdir()
    (root / name).write_text("project = Legacy\n" + (f"workspace_dir = {workspace}\n" if workspace else ""))
    directory = Path(os.path.join(root, os.path.expandvars(workspace or "workspace")))
    for statepoint in STATEPOINTS:
        job = directory / statepoint_id(statepoint)
        job.mkdir(parents=True)
        (job / STATEPOINT_FILE).write_text(json.dumps(statepoint, indent=2))  # as signac 0.9 spelled it
    (directory / statepoint_id({"foo": 42}) / DOCUMENT_FILE).write_text('{"x": 1}')
    before = tree(tmp_path)
    project = sigfs.get_project(root)
    assert (project.root, project.name, project.schema) == (str(root), "Legacy", "1")
    assert {job.id for job in project} == {statepoint_id(statepoint) for statepoint in STATEPOINTS}
    assert all(statepoint_id(job.statepoint()) == job.id for job in project)
    assert project.job("0300").document == {"x": 1}
    assert tree(tmp_path) == before
    assert project.open({"foo": 42}) == project.job("0300")
    assert tree(tmp_path) == before


def test_a_project_of_signac_1_with_jobs_added_here_is_migrated_by_signac_as_ever(tmp_path):
    from signac.migration import apply_migrations

    (tmp_path / "signac.rc").write_text("project = Legacy\nworkspace_dir = jobs\n")
    (tmp_path / "jobs").mkdir()
    job = sigfs.get_project(tmp_path).open({"foo": 42})
    apply_migrations(str(tmp_path))
    signac.get_project(str(tmp_path)).check()
    migrated = sigfs.get_project(tmp_path)
    assert [each.id for each in migrated] == [job.id]
    assert (migrated.schema, migrated.name) == ("2", "Legacy")


# --- at once ---


def create_with_signac(root, barrier):
    project = signac.get_project(root)
    barrier.wait()
    for n in range(100):
        project.open_job({"n": n}).init()


def create_with_sigfs(root, barrier):
    project = sigfs.get_project(root)
    barrier.wait()
    for n in range(100):
        project.open({"n": n})


def test_signac_and_sigfs_may_create_the_same_jobs_at_once(tmp_path):
    project = sigfs.init_project(tmp_path)
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(4)
    creators = [
        context.Process(target=target, args=(project.root, barrier))
        for target in (create_with_signac, create_with_sigfs) * 2
    ]
    try:
        for creator in creators:
            creator.start()
        for creator in creators:
            creator.join(60)
        assert [creator.exitcode for creator in creators] == [0, 0, 0, 0]
    finally:
        for creator in creators:
            creator.kill()
            creator.join()
    signac.get_project(project.root).check()
    assert {job.statepoint["n"] for job in project} == set(range(100))
    assert len(os.listdir(project.workspace.path)) == 100
    assert all(os.listdir(job.path) == [STATEPOINT_FILE] for job in project)


def _migrate_by_sigfs(root, count):
    workspace = sigfs.get_project(root).workspace
    for n in range(count):
        with contextlib.suppress(LookupError, FileExistsError):
            workspace.migrate(statepoint_id({"n": n}), {"n": n, "by": "sigfs"})


def _migrate_by_signac(root, count):
    project = signac.get_project(root)
    for n in range(count):
        with contextlib.suppress(Exception):  # it has several words for a job that is gone
            project.open_job(id=statepoint_id({"n": n})).sp["by"] = "signac"


def test_signac_and_sigfs_migrate_the_same_jobs_at_once_and_every_job_is_kept(tmp_path):
    project = signac.init_project(tmp_path)
    for n in range(200):
        with open(project.open_job({"n": n}).init().fn("data"), "w", encoding="utf-8") as file:
            file.write(str(n))
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=work, args=(str(tmp_path), 200)) for work in (_migrate_by_sigfs, _migrate_by_signac)
    ]
    try:
        for process in processes:
            process.start()
        for process in processes:
            process.join(60)
        assert [process.exitcode for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
            process.join()
    found = signac.get_project(tmp_path)
    found.check()
    assert len(found) == 200
    for job in found:
        with open(job.fn("data"), encoding="utf-8") as file:
            assert file.read() == str(job.statepoint["n"])


# --- a real one ---


@pytest.mark.skipif(not SCREENING.is_dir(), reason=f"the screening data set is not at {SCREENING}")
def test_the_screening_data_set_is_read_as_it_is():
    before = tree(SCREENING)
    project = sigfs.get_project(SCREENING / "workspace")
    assert (project.root, project.name, project.schema) == (str(SCREENING), "TerminalGroupScreening", "1")
    records = [change.record for change in project.workspace.scan(documents=True)]
    assert len(records) == len(project) == 400
    assert all(statepoint_id(record.statepoint) == record.id for record in records)
    assert all(record.document for record in records)
    assert list(project.workspace.pending()) == []
    known = json.loads((SCREENING / "signac_statepoints.json").read_bytes())
    assert known == {record.id: record.statepoint for record in records}
    assert tree(SCREENING) == before
