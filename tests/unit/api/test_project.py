"""Projects and jobs as a Python program uses them."""

import errno
import os
import stat
import threading

import pytest

import sigfs
from sigfs import Job, Project, get_project, init_project
from sigfs.errors import AmbiguousId, InvalidStatePoint, NoSuchJob, PendingJob, ProjectExists
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
            outcomes.append(init_project(tmp_path / "p").schema)
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
    assert job.workspace is project.workspace
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
