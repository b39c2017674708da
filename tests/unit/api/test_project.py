"""Projects and jobs as a Python program uses them."""

import errno
import os
import pickle
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import sigfs
from sigfs import Job, Project, Workspace, get_project, init_project
from sigfs.errors import AmbiguousId, InvalidConfig, InvalidStatePoint, NoSuchJob, PendingJob, ProjectExists
from sigfs.model.statepoint import statepoint_id
from sigfs.model.workspace import DOCUMENT_FILE, STATEPOINT_FILE


@pytest.fixture
def project(tmp_path):
    return init_project(tmp_path)


def entries(path):
    return sorted(os.path.relpath(os.path.join(d, n), path) for d, ds, fs in os.walk(path) for n in (*ds, *fs))


def test_the_package_offers_its_interface_by_name():
    assert set(sigfs.__all__) >= {"get_project", "init_project", "Project", "Job", "__version__"}
    assert all(hasattr(sigfs, name) for name in sigfs.__all__)


# --- making a project ---


def test_a_new_project_is_the_configuration_of_signac_2_and_a_workspace(tmp_path):
    project = init_project(tmp_path)
    assert entries(tmp_path) == [".signac", ".signac/config", "workspace"]
    assert (tmp_path / ".signac" / "config").read_bytes() == b"schema_version = 2\n"
    assert stat.S_IMODE((tmp_path / ".signac" / "config").stat().st_mode) == 0o666 & ~umask()
    assert (project.root, project.schema, project.name) == (str(tmp_path), "2", None)


def umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_missing_directories_are_made_and_the_working_directory_is_the_default(tmp_path, monkeypatch):
    assert init_project(tmp_path / "a" / "b").root == str(tmp_path / "a" / "b")
    monkeypatch.chdir(tmp_path)
    assert init_project().root == str(tmp_path)


def test_a_name_goes_where_signac_puts_it(tmp_path):
    assert init_project(tmp_path, name="Grün").name == "Grün"
    assert (tmp_path / "signac_project_document.json").read_bytes() == b'{"signac_project_name": "Gr\\u00fcn"}'
    assert (tmp_path / ".signac" / "config").read_bytes() == b"schema_version = 2\n"
    assert get_project(tmp_path).name == "Grün"


@pytest.mark.parametrize("document", ["{", "[]", '{"signac_project_name": 3}', "{}"])
def test_a_project_document_without_usable_name_is_no_trouble(tmp_path, document):
    init_project(tmp_path)
    (tmp_path / "signac_project_document.json").write_text(document)
    assert get_project(tmp_path).name is None


@pytest.mark.parametrize("config", [".signac/config", "signac.rc", ".signacrc"])
def test_a_project_that_is_there_is_not_made_again(tmp_path, config):
    (tmp_path / config).parent.mkdir(exist_ok=True)
    (tmp_path / config).write_text("project = P\n")
    before = entries(tmp_path)
    with pytest.raises(ProjectExists, match=f"{tmp_path}.*{config}.*use it"):
        init_project(tmp_path, exist_ok=False)
    assert entries(tmp_path) == before


def test_a_project_that_is_there_is_opened_unless_another_name_is_asked_for(tmp_path):
    project = init_project(tmp_path, name="mine")
    job = project.open({"a": 1})
    before = entries(tmp_path)
    assert list(init_project(tmp_path)) == list(init_project(tmp_path, name="mine")) == [job]
    with pytest.raises(ProjectExists, match=f"{tmp_path}.*use it"):
        init_project(tmp_path, name="other")
    assert entries(tmp_path) == before


def test_a_project_may_lie_inside_another_as_with_signac(project, tmp_path):
    inner = init_project(tmp_path / "inner")
    job = project.open({"a": 1})
    deepest = init_project(job.path)
    assert get_project(inner.root).root == inner.root
    assert get_project(job.fn("workspace")).root == deepest.root
    assert project.workspace.read(job.id).statepoint == {"a": 1}


def test_a_workspace_that_is_there_keeps_its_jobs(tmp_path):
    (tmp_path / "workspace").mkdir()
    job_id = sigfs.model.workspace.Workspace(str(tmp_path / "workspace")).create({"a": 1})
    assert [job.id for job in init_project(tmp_path)] == [job_id]


@pytest.mark.parametrize("call", ["mkdir", "write", "fsync", "link"])
def test_a_project_that_does_not_fit_is_not_begun(tmp_path, monkeypatch, call):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(OSError, match="No space"):
            init_project(tmp_path / "new" / "project")
    assert entries(tmp_path) == []


def test_a_file_in_the_way_is_an_error_and_stays(tmp_path):
    (tmp_path / ".signac").write_text("mine")
    with pytest.raises(OSError):  # noqa: PT011
        init_project(tmp_path)
    assert entries(tmp_path) == [".signac"]


def test_a_failure_over_a_file_in_the_way_takes_back_what_was_made(tmp_path):
    (tmp_path / "workspace").write_text("mine")
    with pytest.raises(FileExistsError, match="workspace"):
        init_project(tmp_path)
    assert entries(tmp_path) == ["workspace"]


def test_of_several_that_make_a_project_at_once_one_does_and_the_others_are_told(tmp_path):
    outcomes = []
    barrier = threading.Barrier(8)

    def make():
        barrier.wait()
        try:
            outcomes.append(init_project(tmp_path / "p", exist_ok=False).schema)
        except ProjectExists:
            outcomes.append("exists")

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["2", *["exists"] * 7]
    assert entries(tmp_path / "p") == [".signac", ".signac/config", "workspace"]


# --- jobs ---


def test_opening_a_state_point_makes_the_job_once(project):
    job = project.open({"foo": 42, "t": (1, 2)})
    assert job == project.open({"t": [1, 2], "foo": 42})
    assert job.id == statepoint_id({"foo": 42, "t": [1, 2]})
    assert os.path.abspath(job.path) == os.path.join(project.workspace.path, job.id)
    assert job.fn("data.txt") == os.path.join(os.path.abspath(job.path), "data.txt")
    assert job.workspace == project.workspace
    assert len(project) == 1


def test_an_invalid_state_point_makes_no_job(project):
    with pytest.raises(InvalidStatePoint):
        project.open({"a.b": 1})
    assert len(project) == 0


def test_a_job_shows_what_is_on_disk_at_that_moment(project):
    job = project.open({"foo": 42})
    assert job.statepoint == {"foo": 42}
    assert job.document == {}
    with open(job.fn(DOCUMENT_FILE), "w") as file:
        file.write('{"x": 1}')
    assert job.document == {"x": 1}


def test_a_job_that_is_gone_says_so(project):
    job = project.open({"foo": 42})
    os.unlink(job.fn(STATEPOINT_FILE))
    with pytest.raises(PendingJob):
        _ = job.statepoint
    os.rmdir(job.path)
    with pytest.raises(NoSuchJob):
        _ = job.statepoint
    with pytest.raises(NoSuchJob):
        job.document()


def test_a_project_is_a_collection_of_the_jobs_that_can_be_read(project):
    jobs = {project.open({"n": n}) for n in range(3)}
    os.mkdir(os.path.join(project.workspace.path, "a" * 32))
    assert set(project) == jobs
    assert len(project) == 3
    assert all(job in project and job.id in project for job in jobs)
    for other in ("a" * 32, "b" * 32, "", next(iter(jobs)).id[:8], 3, None):
        assert other not in project


def test_a_project_without_jobs_is_true(project):
    assert project


def test_a_job_of_another_project_is_not_in_this_one(project, tmp_path):
    other = init_project(tmp_path / "other")
    job = project.open({"a": 1})
    assert other.open({"a": 1}) not in project
    assert other.open({"a": 1}) != job
    assert job != job.id
    assert isinstance(job, Job)
    assert isinstance(other, Project)


# --- abbreviated ids ---


@pytest.fixture
def known(project):
    for name in ("ab" + "0" * 30, "ab" + "1" * 30, "c" * 32):
        os.mkdir(os.path.join(project.workspace.path, name))
    return project


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [("c", "c" * 32), ("c" * 32, "c" * 32), ("ab0", "ab" + "0" * 30), ("ab" + "1" * 30, "ab" + "1" * 30)],
)
def test_a_prefix_that_only_one_id_has_is_enough(known, prefix, expected):
    assert known.lookup(prefix) == expected
    assert known.job(prefix).id == expected


@pytest.mark.parametrize(
    "prefix", ["d", "d" * 32, "ab2", "C", "C" * 32, "c" * 33, "../", "c/", "ÿ", "*", "\udcff", "\0"]
)
def test_a_prefix_that_no_id_has_is_no_job(known, prefix):
    with pytest.raises(NoSuchJob, match="no job"):
        known.lookup(prefix)


@pytest.mark.parametrize("prefix", ["a", "ab", ""])
def test_a_prefix_that_several_ids_have_is_ambiguous_and_names_some(known, prefix):
    with pytest.raises(AmbiguousId, match=r"ab0000.*ab1111"):
        known.lookup(prefix)


def test_of_many_candidates_a_few_are_named(project):
    for n in range(50):
        os.mkdir(os.path.join(project.workspace.path, f"ab{n:030}"))
    with pytest.raises(AmbiguousId, match="50 jobs") as caught:
        project.lookup("ab")
    assert len(str(caught.value)) < 300


def test_a_foreign_entry_with_a_jobs_name_is_not_looked_up(project, tmp_path):
    os.symlink(tmp_path, os.path.join(project.workspace.path, "e" * 32))
    for prefix in ("e", "e" * 32):
        with pytest.raises(NoSuchJob):
            project.lookup(prefix)


def test_a_project_without_workspace_directory_has_no_jobs_to_look_up(tmp_path):
    (tmp_path / "signac.rc").write_text("project = P\n")
    for prefix in ("", "e", "e" * 32):
        with pytest.raises(NoSuchJob):
            get_project(tmp_path).lookup(prefix)


# --- as a whole ---


def test_a_job_is_opened_by_state_point_or_by_id(project):
    job = project.open_job({"foo": 42})
    assert job.id == "0300c31b9d55c0196b3848d252e46c0f"
    for other in (project.open_job(id=job.id), project.open_job(id="0300"), project["0300"], project.get("0300")):
        assert other == job
    assert project.get("beef") is None
    for wrong in ({}, {"statepoint": {"foo": 42}, "id": job.id}):
        with pytest.raises(ValueError, match="give a state point or an id"):
            project.open_job(**wrong)
    with pytest.raises(KeyError):
        project.open_job(id="beef")
    for n in range(17):
        project.open({"n": n})
    with pytest.raises(LookupError, match="begins with"):
        project.open_job(id="")


def test_the_workspace_is_a_property_that_may_be_assigned(project, tmp_path):
    project.open({"a": 1})
    before = Path(project.config_path).read_text() + "# mine\n"
    Path(project.config_path).write_text(before)
    project.workspace = "elsewhere/jobs"
    assert project.workspace.path == os.path.join(project.root, "elsewhere", "jobs")
    assert len(project) == 0
    project.open({"b": 1})
    again = get_project(project.root)
    assert [job.statepoint for job in again] == [{"b": 1}]
    assert "# mine" in Path(project.config_path).read_text()
    project.workspace = Workspace(tmp_path / "far")
    assert get_project(project.root).workspace == Workspace(tmp_path / "far")
    project.workspace = "workspace"
    assert [job.statepoint for job in project] == [{"a": 1}]


def test_a_project_has_a_document(project):
    project.doc.x = {"y": 1}
    assert project.document == {"x": {"y": 1}}
    project.doc.x.y += 1
    assert get_project(project.root).doc.x.y == 2
    project.document = {"z": 1}
    assert project.doc() == {"z": 1}


def test_projects_of_the_same_directory_are_equal(project, tmp_path):
    os.symlink(project.root, tmp_path / "link")
    assert Project(tmp_path / "link") == project == get_project(project.root)
    assert len({Project(tmp_path / "link"), project}) == 1
    assert init_project(tmp_path / "other") != project
    assert str(project) == os.fspath(project) == project.path == project.root


def test_files_of_a_project(project):
    assert project.fn("x.txt") == os.path.join(project.root, "x.txt")
    assert not project.isfile("x.txt")
    Path(project.fn("x.txt")).write_text("")
    assert project.isfile("x.txt")


def test_how_many_digits_tell_all_jobs_apart(project):
    assert project.min_len_unique_id() == 0
    for name in ("ab" + "0" * 30, "ab" + "1" * 30, "c" * 32):
        os.mkdir(os.path.join(project.workspace.path, name))
    assert project.min_len_unique_id() == 3


def test_jobs_outside_of_the_workspace_are_the_projects_once_they_are_indexed(project):
    inside = project.open({"n": 1})
    os.makedirs(project.fn("data/my_job"))
    Path(project.fn("data/my_job/signac_statepoint.json")).write_text('{"n": 2}')
    assert "../data/my_job" not in project
    with pytest.raises(KeyError):
        _ = project["../data/my_job"]
    project.add_index("data/")
    assert [place.path for place in project.indexed] == [project.fn("data")]
    job = project["../data/my_job"]
    assert os.fspath(job) == project.fn("data/my_job")
    assert "../data/my_job" in project
    assert job in project
    assert len(project) == 2
    assert project.find("n 2")[0] == job
    assert project.is_managed(inside)
    assert project.is_managed(inside.id)
    assert not project.is_managed(job)
    assert not project.is_managed("a" * 32)
    assert [value for value, _ in project.groupby("n")] == [1, 2]
    Path(job.fn("signac_statepoint.json")).write_text('{"n": 3}')
    assert [value for value, _ in get_project(project.root).groupby("n")] == [1, 3]
    project.remove_index("data")
    assert len(project) == 1
    assert "../data/my_job" not in project


def test_a_workspace_is_made_and_opened(tmp_path):
    workspace = Workspace(tmp_path / "w")
    assert Path(workspace.path, "workspace.rc").read_text() == "id_function = md5\n"
    assert str(workspace) == os.fspath(workspace) == workspace.path == str(tmp_path / "w")
    assert workspace.statepoint_id({"foo": 42}) == "0300c31b9d55c0196b3848d252e46c0f"
    job = workspace.open({"foo": 42})
    assert os.fspath(job) == os.path.join(workspace.path, "0300c31b9d55c0196b3848d252e46c0f")
    assert [each.path for each in workspace] == [job.path]
    assert workspace == Workspace(tmp_path / "w")
    with pytest.raises(InvalidConfig, match="md5, not xxh3_128"):
        Workspace(tmp_path / "w", "xxh3_128")
    with pytest.raises(ValueError, match="unknown"):
        Workspace(tmp_path / "v", "sha1")
    fast = Workspace(tmp_path / "fast", "xxh3_128")
    assert fast.statepoint_id({"foo": 42}) != workspace.statepoint_id({"foo": 42})
    assert Workspace(tmp_path / "fast").id_function == "xxh3_128"
    assert pickle.loads(pickle.dumps(fast)) == fast


def test_importing_the_package_imports_nothing_that_is_heavy():
    heavy = "('rich', 'pandas', 'h5py', 'click')"
    code = f"import sys, sigfs; sigfs.get_project; print(*(name for name in {heavy} if name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""
    assert "Index" in dir(sigfs)
    with pytest.raises(AttributeError, match="nope"):
        _ = sigfs.nope


def test_the_id_of_a_job_outside_of_the_workspace_is_looked_up(project):
    Job.init(project.fn("data/a1"), {"foo": 42})
    with pytest.raises(NoSuchJob, match=r"'../data/a1' outside of the workspace.*add_index"):
        project.lookup("../data/a1")
    project.add_index("data")
    assert project.lookup("../data/a1") == project.lookup("../data/a") == "../data/a1"
    with pytest.raises(NoSuchJob, match=f"'../data/b' outside of the workspace.*{project.fn('data')}"):
        project["../data/b"]


def test_an_id_that_is_no_text_is_a_type_error_that_says_so(project):
    for use in (lambda: project[5], lambda: project.open_job(id=5)):
        with pytest.raises(TypeError, match="an id is a str, not int"):
            use()


def test_what_writes_a_broken_state_point_anew_is_said_and_does(project):
    job = project.open({"foo": 42})
    Path(job.fn(STATEPOINT_FILE)).write_text("")
    with pytest.raises(PendingJob, match=r"not JSON.*Job\.init\(PATH, STATEPOINT, force=True\)"):
        project.open({"foo": 42})
    Job.init(job, {"foo": 42}, force=True)
    assert project.open({"foo": 42}).sp == {"foo": 42}
