"""Jobs as Python programs meet them: what they are called, what they say, what becomes of them."""

from __future__ import annotations

import copy
import json
import multiprocessing
import os
import pickle
import stat
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from sigfs import Job, Workspace, get_job, init_project
from sigfs.api.project import Project
from sigfs.errors import DestinationExists, InvalidStatePoint, NoSuchJob, PendingJob
from sigfs.model.statepoint import statepoint_id
from tests.support.elsewhere import another_file_system
from tests.support.outcome import unavailable
from tests.support.users import acting_as

SP = "signac_statepoint.json"
DOC = "signac_job_document.json"
ID_42, ID_43 = "0300c31b9d55c0196b3848d252e46c0f", "fb5599b2a36a3cc7cd97aeaf6febfe97"
NULL_ID = statepoint_id(None)
HOSTILE = ["with space", "new\nline", "-rf", "ünï", os.fsdecode(b"\xff\xfe"), "a" * 255, "*", "%2F", "._x", "x~"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(tmp_path)
    return init_project("project")


def file_of(job: Job) -> object:
    return json.loads(Path(job.fn(SP)).read_text())


# Names


def test_a_managed_job_is_called_by_its_state_point(project: Project) -> None:
    job = project.open({"foo": 42})
    assert (job.id, job.statepoint_id, str(job)) == (ID_42, ID_42, ID_42)
    assert job.path == f"project/workspace/{ID_42}"
    assert job.is_managed
    assert job.project is project
    assert job.workspace == project.workspace
    assert repr(job) == f"Job({os.path.abspath(job.path)!r})"
    assert os.fspath(job) == os.path.abspath(job.path)


def test_an_attached_job_is_called_by_where_it_is(project: Project) -> None:
    job = Job.init("project/data/my_job", {"foo": 42})
    assert (job.id, job.path, job.statepoint_id) == ("../data/my_job", "project/data/my_job", ID_42)
    assert not job.is_managed
    assert job.project is not None
    assert job.project.root == project.root


def test_a_detached_job_is_called_by_its_absolute_path(tmp_path: Path) -> None:
    job = Job.init(tmp_path / "x", {"foo": 42})
    assert job.id == str(tmp_path / "x")
    assert (job.project, job.workspace, job.statepoint_id) == (None, None, ID_42)


def test_a_path_is_relative_to_the_working_directory_of_the_moment(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = project.open({"foo": 42})
    monkeypatch.chdir(project.workspace.path)
    assert job.path == ID_42
    monkeypatch.chdir(ID_42)
    assert job.path == "."


def test_a_job_is_found_where_the_working_directory_is_gone(project: Project) -> None:
    job = project.open({"foo": 42})
    os.mkdir("gone")
    os.chdir("gone")
    os.rmdir("../gone")
    assert job.path == job.fn("")[:-1]
    assert job.sp.foo == 42


def test_only_directories_are_jobs(project: Project) -> None:
    Path("file").touch()
    for path in ("none", "file", "none/below"):
        with pytest.raises(NoSuchJob, match=path):
            Job(path)


def test_a_project_in_a_job_is_not_the_jobs(project: Project) -> None:
    job = project.open({"foo": 42})
    init_project(job.path)
    again = Job(job.path)
    assert again.project is not None
    assert (again.project.root, again.id) == (project.root, ID_42)


def test_a_workspace_without_a_project_has_managed_jobs(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "ws", "xxh3_128")
    job = workspace.open({"foo": 42})
    assert job.id == statepoint_id({"foo": 42}, "xxh3_128") == job.statepoint_id
    job.sp.foo = 43
    assert os.listdir(tmp_path / "ws") != []
    assert job.id == statepoint_id({"foo": 43}, "xxh3_128")
    assert Job(job.path) == job


# Making


def test_init_makes_a_job_once(project: Project) -> None:
    job = Job.init("project/data/a", {"foo": 42})
    Path(job.fn("x")).touch()
    assert Job.init("project/data/a", {"foo": 42}) == job
    assert Job.init("project/data/a") == job
    assert job.init() is job
    assert sorted(os.listdir(job.path)) == [SP, "x"]


def test_init_without_a_state_point_makes_a_job_that_has_none(project: Project) -> None:
    job = Job.init("project/data/a")
    assert job.sp is None
    assert job.statepoint_id == NULL_ID
    assert file_of(job) is None
    job.sp = {"foo": 42}
    assert job.sp == {"foo": 42}
    job.sp = None
    assert job.sp is None


def test_init_refuses_another_state_point(project: Project) -> None:
    job = Job.init("project/data/a", {"foo": 42})
    for other in ({"foo": 43}, {"foo": 42.0}, {"foo": "42"}, {}):
        with pytest.raises(ValueError, match=r"another state point.*42.*force"):
            Job.init("project/data/a", other)
        assert file_of(job) == {"foo": 42}
    Job.init("project/data/a", {"foo": 43}, force=True)
    assert file_of(job) == {"foo": 43}


def test_init_takes_a_directory_with_files_as_it_is(project: Project) -> None:
    os.makedirs("project/data/a")
    Path("project/data/a/x").write_text("precious")
    assert Job("project/data/a").sp is None
    job = Job.init("project/data/a", {"foo": 42})
    assert (job.sp.foo, Path(job.fn("x")).read_text()) == (42, "precious")


def test_init_replaces_what_cannot_be_read_only_with_force(project: Project) -> None:
    job = Job.init("project/data/a", {"foo": 42})
    Path(job.fn(SP)).write_text("{")
    for open_it in (lambda: Job.init("project/data/a", {"foo": 42}), lambda: job.sp, job.init):
        with pytest.raises(PendingJob):
            open_it()
    assert Job.init("project/data/a", {"foo": 42}, force=True).sp == {"foo": 42}


def test_init_in_the_workspace_takes_the_right_name_only(project: Project) -> None:
    with pytest.raises(ValueError, match=ID_42):
        Job.init("project/workspace/a", {"foo": 42})
    with pytest.raises(ValueError, match=ID_42):
        Job.init(f"project/workspace/{ID_43}", {"foo": 42})
    assert os.listdir("project/workspace") == []
    assert Job.init(f"project/workspace/{ID_42}", {"foo": 42}) == project.open({"foo": 42})
    assert Job.init(f"project/workspace/{NULL_ID}").sp is None


@pytest.mark.parametrize("statepoint", [{"a.b": 1}, {1: 2}, [1], "x", {"a": object()}])
def test_init_makes_nothing_of_what_is_no_state_point(project: Project, statepoint: object) -> None:
    with pytest.raises(InvalidStatePoint):
        Job.init("project/data/a", statepoint)
    assert not os.path.exists("project/data")


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_taken_as_they_are(project: Project, name: str) -> None:
    job = Job.init(os.path.join("project", name), {"foo": 42})
    assert (job.id, Job(job.path)) == (f"../{name}", job)
    if len(name) < 250:
        job.path = os.path.join("project", "data", f"{name}2")
        assert job.id == f"../data/{name}2"
    job.remove()
    assert not os.path.exists(os.path.join("project", name))


def test_many_may_init_one_job(project: Project) -> None:
    results: list[object] = []

    def init(k: int) -> None:
        try:
            results.append(Job.init("project/data/a", {"foo": k % 2}).sp())
        except ValueError as error:
            results.append(error)

    threads = [threading.Thread(target=init, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    won = file_of(Job("project/data/a"))
    assert [result for result in results if not isinstance(result, ValueError)] == [won] * 4
    assert sorted(os.listdir("project/data/a")) == [SP]
    assert os.listdir("project/data") == ["a"]


# State points


def test_changing_the_state_point_of_a_managed_job_migrates_it(project: Project) -> None:
    job = project.open({"foo": 42})
    Path(job.fn("x")).write_text("precious")
    nested = job.sp
    job.sp.foo = 43
    assert (job.id, job.path) == (ID_43, f"project/workspace/{ID_43}")
    assert Path(job.fn("x")).read_text() == "precious"
    assert file_of(job) == {"foo": 43}
    nested["bar"] = {"a": [1]}
    nested.bar.a.append(2)
    assert job.sp == {"foo": 43, "bar": {"a": [1, 2]}}
    assert job.id == statepoint_id(job.sp()) == job.statepoint_id
    job.statepoint = {"foo": 42}
    assert os.listdir("project/workspace") == [ID_42]
    del job.sp.foo
    assert job.id == statepoint_id({})
    job.sp = None
    assert job.id == NULL_ID
    job.sp = {"foo": 42}
    assert job.id == ID_42


def test_a_state_point_that_is_taken_changes_nothing(project: Project) -> None:
    job, other = project.open({"foo": 42}), project.open({"foo": 43})
    with pytest.raises(DestinationExists):
        job.sp.foo = 43
    with pytest.raises(DestinationExists):
        job.update_statepoint({"foo": 43}, overwrite=True)
    assert (job.id, other.id, job.sp.foo, other.sp.foo) == (ID_42, ID_43, 42, 43)


def test_what_is_no_state_point_changes_nothing(project: Project) -> None:
    job, unmanaged = project.open({"foo": 42}), Job.init("project/data/a", {"foo": 42})
    for each in (job, unmanaged):
        for bad in ({"a.b": 1}, {"x": object()}, [1], "text"):
            with pytest.raises(InvalidStatePoint):
                each.sp = bad
        with pytest.raises(ValueError, match=r"no form|point"):
            each.sp.x = object()
        with pytest.raises(ValueError, match=r"\."):
            each.sp["a.b"] = 1
        assert file_of(each) == {"foo": 42}


def test_the_state_point_of_any_other_job_changes_in_its_file(project: Project) -> None:
    job = Job.init("project/data/a", {"foo": 42})
    os.chmod(job.fn(SP), 0o640)
    job.sp.foo = 43
    job.sp.a = {"b": 1}
    job.sp.a.b = 2
    assert (job.id, file_of(job)) == ("../data/a", {"foo": 43, "a": {"b": 2}})
    job.sp = {"foo": 42}
    assert file_of(job) == {"foo": 42}
    assert stat.S_IMODE(os.stat(job.fn(SP)).st_mode) == 0o640
    assert os.listdir(job.path) == [SP]


def test_update_statepoint_overwrites_only_if_told(project: Project) -> None:
    job = project.open({"foo": 42})
    job.update_statepoint({"bar": 1, "foo": 42})
    with pytest.raises(KeyError, match="bar"):
        job.update_statepoint({"bar": 2, "new": 1})
    with pytest.raises(KeyError, match="bar"):
        job.update_statepoint({"bar": True})
    assert job.sp == {"foo": 42, "bar": 1}
    job.update_statepoint({"bar": 2}, overwrite=True)
    assert job.id == statepoint_id({"foo": 42, "bar": 2})


def test_who_meets_a_half_migration_completes_it(project: Project) -> None:
    for turn in range(3):
        directory = os.path.join(project.workspace.path, project.open({"turn": turn}).id)
        new = os.path.join(project.workspace.path, statepoint_id({"turn": -turn - 1}))
        Path(directory, "._sigfs_x").write_text(json.dumps({"turn": -turn - 1}))
        os.rename(directory, new)
        job = Job(new)
        if turn == 0:
            assert job.sp() == {"turn": -1}
        elif turn == 1:
            job.sp.more = 1
            assert job.sp() == {"turn": -2, "more": 1}
        else:
            assert job.statepoint_id == os.path.basename(new)
        assert os.listdir(job.path) == [SP]


def test_of_many_who_migrate_one_job_one_succeeds(project: Project) -> None:
    for turn in range(5):
        job = project.open({"turn": turn})
        handles = [Job(job.path) for _ in range(4)]
        done: list[int] = []

        threads = [threading.Thread(target=migrate, args=(handle, k, done)) for k, handle in enumerate(handles)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(done) == 1
        assert handles[done[0]].sp() == {"turn": turn, "to": done[0]}
        assert len(project) == turn + 1


def migrate(job: Job, k: int, done: list[int]) -> None:
    try:
        job.sp.to = k
        done.append(k)
    except NoSuchJob:
        pass


def test_a_job_that_is_gone_says_so_when_it_is_used(project: Project) -> None:
    job, other = project.open({"foo": 42}), project.open({"foo": 1})
    again = Job(job.path)
    job.sp.foo = 43
    for use in (
        lambda: again.sp,
        again.doc,
        lambda: again.doc.update(a=1),
        lambda: again.update_statepoint({"a": 1}),
        lambda: setattr(again, "sp", {}),
        lambda: setattr(again, "path", "elsewhere"),
        again.init,
        again.set_permissions,
        again.open,
    ):
        with pytest.raises(NoSuchJob):
            use()
    again.remove()
    again.clear()
    assert again.id == ID_42
    assert not again.isfile("x")
    assert sorted(os.listdir("project/workspace")) == sorted([ID_43, other.id])


# Documents


def test_the_document_is_live(project: Project) -> None:
    job = project.open({"foo": 42})
    doc = job.document
    assert doc == {}
    assert not job.isfile(DOC)
    job.doc.a = {"b": [1]}
    job.sp.foo = 43
    doc.a.b.append(2)
    assert json.loads(Path(job.fn(DOC)).read_text()) == {"a": {"b": [1, 2]}}
    job.doc = {"x": 1}
    assert doc() == {"x": 1}
    with job.doc.transaction() as same:
        same.x += 1
    assert job.document.x == 2


# Moves


def test_a_path_is_assigned(project: Project, tmp_path: Path) -> None:
    job = project.open({"foo": 42})
    Path(job.fn("x")).write_text("precious")
    job.path = "project/data/my_job"
    assert (job.id, job.path) == ("../data/my_job", "project/data/my_job")
    job.path = tmp_path / "out"
    assert (job.id, job.project) == (str(tmp_path / "out"), None)
    job.path = f"project/workspace/{ID_42}"
    assert (job.id, job.is_managed) == (ID_42, True)
    assert Path(job.fn("x")).read_text() == "precious"
    job.path = f"./project/../project/workspace/{ID_42}/"
    assert job.id == ID_42
    assert os.listdir("project/data") == []


def test_an_id_is_assigned(project: Project, tmp_path: Path) -> None:
    job = project.open({"foo": 42})
    job.id = "../data/my_job"
    assert job.path == "project/data/my_job"
    job.id = str(tmp_path / "out")
    assert job.path == "out"
    with pytest.raises(ValueError, match="absolute"):
        job.id = "../data/x"
    job.path = "project/x"
    with pytest.raises(ValueError, match=ID_42):
        job.id = ID_43
    with pytest.raises(ValueError, match=ID_42):
        job.id = "my_job"
    job.id = ID_42
    assert job.is_managed
    assert os.listdir("project") != ["x"]


def test_a_job_does_not_get_where_it_must_not(project: Project) -> None:
    job, other = project.open({"foo": 42}), project.open({"foo": 43})
    os.mkdir("empty")
    os.mkdir("linked")
    os.symlink("linked", "link")
    for path in ("empty", "link", other.path, "project/workspace", "project"):
        with pytest.raises((DestinationExists, ValueError)):
            job.path = path
    for path in (f"project/workspace/{ID_43}x", "project/workspace/name", f"{job.path}/below", f"{job.path}/a/b"):
        with pytest.raises(ValueError, match=r"workspace|inside"):
            job.path = path
    assert job.id == ID_42
    assert os.listdir("empty") == os.listdir("linked") == []
    assert sorted(os.listdir(".")) == ["empty", "link", "linked", "project"]
    assert os.listdir(job.path) == [SP]


def test_a_directory_without_a_state_point_does_not_get_into_the_workspace(project: Project) -> None:
    os.mkdir("plain")
    with pytest.raises(PendingJob):
        Job("plain").path = f"project/workspace/{NULL_ID}"
    assert os.listdir("plain") == []


def test_a_job_goes_to_another_project(project: Project, tmp_path: Path) -> None:
    job, other = project.open({"foo": 42}), init_project("other")
    os.rmdir(other.workspace.path)
    job.move(other)
    assert (job.path, job.id, job.project) == (f"other/workspace/{ID_42}", ID_42, other)
    again = project.open({"foo": 42})
    with pytest.raises(DestinationExists):
        again.move(other)
    assert again.path == f"project/workspace/{ID_42}"
    with another_file_system(tmp_path) as far:
        elsewhere = init_project(far / "p")
        again.move(elsewhere)
        assert [each.id for each in elsewhere] == [ID_42]
        assert len(project) == 0
        again.sp.foo = 44
        assert again.project is elsewhere


def test_the_working_directory_goes_with_the_job(project: Project, tmp_path: Path) -> None:
    job = project.open({"foo": 42})
    os.mkdir(job.fn("below"))
    with another_file_system(tmp_path) as far:
        start = os.getcwd()
        try:
            os.chdir(job.fn("below"))
            job.sp.foo = 43
            assert os.getcwd() == job.fn("below")
            job.path = tmp_path / "x"
            assert os.getcwd() == str(tmp_path / "x" / "below")
            job.path = far / "y"
            assert os.getcwd() == str(far / "y" / "below")
            assert job.path == ".."
        finally:
            os.chdir(start)


def test_a_link_to_a_job_is_that_job(project: Project) -> None:
    job = project.open({"foo": 42})
    os.symlink(job.path, "link")
    linked = Job("link")
    assert linked == job
    assert (linked.id, linked.is_managed) == (ID_42, True)
    linked.path = "project/moved"
    assert os.path.islink("link")
    assert linked.sp.foo == 42
    os.symlink("project", "alias")
    again = Job("alias/moved")
    assert again == linked
    assert hash(again) == hash(linked)
    again.id = ID_42
    assert again.is_managed


def test_links_in_jobs_are_links(project: Project) -> None:
    job = project.open({"foo": 42})
    os.mkdir("outside")
    Path("outside/x").write_text("precious")
    os.chmod("outside/x", 0o600)
    os.symlink(os.path.abspath("outside"), job.fn("link"))
    os.symlink(os.path.abspath("outside/x"), job.fn("link to file"))
    job.set_permissions(0o755)
    assert stat.S_IMODE(os.stat("outside/x").st_mode) == 0o600
    job.clear()
    assert sorted(os.listdir(job.path)) == [SP]
    os.symlink(os.path.abspath("outside"), job.fn("link"))
    job.remove()
    assert Path("outside/x").read_text() == "precious"


def test_a_state_point_file_that_is_a_link_is_not_followed(project: Project) -> None:
    job = Job.init("project/data/a", {"foo": 42})
    os.rename(job.fn(SP), "elsewhere")
    os.symlink(os.path.abspath("elsewhere"), job.fn(SP))
    with pytest.raises(PendingJob):
        _ = job.sp
    with pytest.raises(OSError, match="link"):
        job.sp = {"foo": 43}
    assert json.loads(Path("elsewhere").read_text()) == {"foo": 42}


# Files


def test_files_are_found_by_absolute_paths(project: Project) -> None:
    job = project.open({"foo": 42})
    assert job.fn("x") == os.path.join(project.workspace.path, ID_42, "x")
    assert not job.isfile("x")
    Path(job.fn("x")).touch()
    os.mkdir(job.fn("d"))
    assert job.isfile("x")
    assert not job.isfile("d")


def test_remove_takes_everything_and_init_makes_it_again(project: Project) -> None:
    job, other = project.open({"foo": 42}), project.open({"foo": 43})
    Path(job.fn("x")).touch()
    job.doc.a = 1
    job.remove()
    assert os.listdir("project/workspace") == [other.id]
    job.remove()
    assert job.init() is job
    assert (job.sp.foo, job.doc()) == (42, {})
    unmanaged = Job.init("project/data/a", {"foo": 42})
    unmanaged.remove()
    unmanaged.init()
    assert unmanaged.sp.foo == 42


def test_what_is_no_job_is_neither_removed_nor_cleared(project: Project) -> None:
    Path("project/x").write_text("precious")
    for use in (Job("project").remove, Job("project").clear, Job("project").reset, Job(".").remove):
        with pytest.raises(PendingJob, match=SP):
            use()
    assert Path("project/x").read_text() == "precious"


def test_a_job_with_a_broken_state_point_can_be_removed_from_the_workspace(project: Project) -> None:
    job = project.open({"foo": 42})
    Path(job.fn(SP)).write_text("{")
    job.remove()
    assert os.listdir("project/workspace") == []


def test_clear_leaves_the_state_point_and_an_empty_document(project: Project) -> None:
    job = project.open({"foo": 42})
    os.makedirs(job.fn("a/b"))
    for name in ("x", "a/b/y", "z~"):
        Path(job.fn(name)).touch()
    job.doc.a = 1
    job.clear()
    assert sorted(os.listdir(job.path)) == [DOC, SP]
    assert job.doc() == {}
    job.reset()
    assert job.sp.foo == 42


# As a block, and as a value


def test_a_block_works_in_the_job_and_comes_back(project: Project) -> None:
    start = os.getcwd()
    job, other = project.open({"foo": 42}), project.open({"foo": 43})
    with job as same:
        assert same is job
        assert os.getcwd() == job.fn("")[:-1]
        with other, job:
            assert os.getcwd() == job.fn("")[:-1]
        assert os.getcwd() == job.fn("")[:-1]
        job.sp.foo = 44
        assert job.path == "."
    assert os.getcwd() == start
    with pytest.raises(ZeroDivisionError), job:
        raise ZeroDivisionError
    assert os.getcwd() == start
    job.open()
    job.close()
    job.close()
    assert os.getcwd() == start
    gone = project.open({"foo": 45})
    os.rename(gone.path, "elsewhere")
    with pytest.raises(NoSuchJob), gone:
        pass
    assert os.getcwd() == start


def test_a_block_comes_back_to_a_directory_that_has_been_renamed(project: Project) -> None:
    job = project.open({"foo": 42})
    os.mkdir("work")
    os.chdir("work")
    with job:
        os.rename("../../../work", "../../../renamed")
    assert os.path.basename(os.getcwd()) == "renamed"
    os.chdir("..")


def test_handles_of_one_directory_are_equal(project: Project) -> None:
    job = project.open({"foo": 42})
    same = Job(job.path)
    assert job == same
    assert len({job, same}) == 1
    assert job != project.open({"foo": 43})
    assert job != ID_42
    job.path = "project/data/x"
    assert job != same
    assert job == Job("project/data/x")
    assert hash(job) == hash(Job("project/data/x"))


def test_copies_follow_and_deep_copies_do_not(project: Project) -> None:
    job = project.open({"foo": 42})
    shallow, deep, plain = copy.copy(job), copy.deepcopy(job), copy.deepcopy(job.sp)
    plain["foo"] = 1
    assert job.id == ID_42
    job.sp.foo = 43
    assert shallow.id == ID_43
    assert deep.id == ID_42
    assert deep.project is not None


def state_point_of(job: Job) -> object:
    return job.id, job.sp(), job.project is not None


def test_jobs_go_to_other_processes(project: Project) -> None:
    managed, attached = project.open({"foo": 42}), Job.init("project/data/a", {"foo": 43})
    for job in (managed, attached):
        assert pickle.loads(pickle.dumps(job)) == job
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(state_point_of, [managed, attached]) == [
            (ID_42, {"foo": 42}, True),
            ("../data/a", {"foo": 43}, True),
        ]


def test_jobs_of_a_workspace_elsewhere_stay_the_projects(project: Project, tmp_path: Path) -> None:
    config = Path(project.config_path)
    config.write_text(config.read_text() + f"workspace = {tmp_path / 'ws'}\n")
    elsewhere = Project(project.root)
    job = elsewhere.open({"foo": 42})
    assert job.path == f"ws/{ID_42}"
    assert pickle.loads(pickle.dumps(job)).project.root == project.root
    assert copy.deepcopy(job).id == ID_42
    job.sp.foo = 43
    assert job.id == ID_43
    job.id = "../data/x"
    assert job.path == "data/x"


def test_the_data_model_does_without_h5py(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    job = project.open({"foo": 42})
    with pytest.raises(ImportError, match=r"sigfs\[h5\]"):
        _ = job.data


@pytest.mark.user
def test_who_has_no_right_changes_nothing() -> None:
    if os.geteuid() != 0:
        unavailable("only root can be another user")
    with tempfile.TemporaryDirectory() as base, another_file_system(Path(base)) as far:
        os.chmod(base, 0o777)
        os.chmod(far, 0o777)
        job = Job.init(os.path.join(base, "job"), {"foo": 42})
        os.mkdir(job.fn("below"))
        Path(job.fn("below/x")).write_text("precious")
        uses = (
            lambda: setattr(job, "path", far / "new"),
            job.remove,
            job.clear,
            job.set_permissions,
            lambda: setattr(job, "sp", {"foo": 43}),
            lambda: job.sp.update(foo=43),
            lambda: job.doc.update(a=1),
            lambda: Job.init(job.fn("new"), {"foo": 1}),
        )
        with acting_as(12345):
            for use in uses:
                with pytest.raises(PermissionError, match="job"):
                    use()
        assert os.listdir(far) == []
        assert sorted(os.listdir(job)) == ["below", SP]
        assert (Path(job.fn("below/x")).read_text(), job.sp.foo) == ("precious", 42)
        assert stat.S_IMODE(os.stat(job.fn("below/x")).st_mode) == 0o644


# What is around a job


@pytest.mark.parametrize("statepoint", [None, {"foo": 42}])
def test_a_workspace_is_not_made_a_job_that_would_be_removed_with_all_jobs(
    project: Project, statepoint: dict[str, int] | None
) -> None:
    project.open({"foo": 42})
    Workspace("other").open({"foo": 42})
    for path in ("project/workspace", "other"):
        before = sorted(os.listdir(path))
        for force in (False, True):
            with pytest.raises(ValueError, match=r"is a workspace.*open"):
                Job.init(path, statepoint, force=force)
        assert sorted(os.listdir(path)) == before


def test_the_job_that_a_directory_is_in_is_found(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    job = project.open({"foo": 42})
    os.makedirs(job.fn("a/b"))
    assert get_job(job) == get_job(job.fn("a/b")) == get_job(job.fn("a/missing")) == job
    monkeypatch.chdir(job.fn("a/b"))
    assert get_job() == job
    with pytest.raises(NoSuchJob, match="project or in any directory above"):
        get_job(project.root)
