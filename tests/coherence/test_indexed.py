"""Jobs outside of the workspace are in the mounted tree, wherever they are listed, as long as they are."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sigfs.api.project import Project, get_project
from sigfs.model.indexed import add_indexed, read_indexed, remove_indexed
from sigfs.model.places import Places
from sigfs.model.types import UNKNOWN
from tests.coherence.conftest import ROOT, Mounts
from tests.support.wait import wait_until

pytestmark = pytest.mark.fuse

Wait = Callable[[Path], None]
SP_FILE = "signac_statepoint.json"

ADD = "import sys, sigfs; sigfs.get_project(sys.argv[1]).add_index(sys.argv[2])"


def freeze(project: Project) -> None:
    """Do to a project what its users do, from other processes."""
    subprocess.run(["mv", "workspace", "data"], cwd=project.root, check=True)
    subprocess.run([sys.executable, "-c", ADD, project.root, "data/"], cwd=ROOT, check=True)


def replace(path: Path, value: object) -> None:
    temporary = path.with_name("._tmp")
    temporary.write_text(json.dumps(value))
    os.replace(temporary, path)


def tree(mnt: Path) -> list[str]:
    """Give the paths of all jobs in the tree, by the state point files in it."""
    found = []
    try:
        for directory, _, names in os.walk(mnt, onerror=_raise):
            if SP_FILE in names:
                found.append(os.path.relpath(directory, mnt))
    except FileNotFoundError:
        return []
    return sorted(found)


def _raise(error: OSError) -> None:
    raise error


def read_id(path: Path) -> str:
    return os.fsdecode(os.getxattr(path, "user.sigfs.id"))


FROZEN = [f"b/{b}/a/{a}" for b in "xy" for a in "123"]


@pytest.fixture
def mnt(mounts: Mounts, project: Project, tmp_path: Path) -> Path:
    """The project, mounted."""
    mounts.mount(project, tmp_path / "mnt")
    return tmp_path / "mnt"


def test_jobs_that_are_frozen_while_mounted_stay_in_the_tree_and_keep_path_and_id(
    mnt: Path, project: Project, appears: Wait, disappears: Wait
) -> None:
    job = project.open({"a": 2, "b": "x"})
    Path(job.fn("result")).write_text("42")
    assert tree(mnt) == FROZEN
    freeze(project)
    wait_until(lambda: tree(mnt) == FROZEN)
    frozen = Path(project.root, "data", job.id)
    assert (mnt / "b/x/a/2/result").read_text() == "42"
    assert read_id(mnt / "b/x/a/2") == f"../data/{job.id}"

    replace(frozen / SP_FILE, {"a": 7, "b": "x"})
    appears(mnt / "b/x/a/7/result")
    disappears(mnt / "b/x/a/2")
    assert read_id(mnt / "b/x/a/7") == f"../data/{job.id}"
    assert (frozen / "result").read_text() == "42"

    (frozen / SP_FILE).write_text('{"a": 8, "b": "x"}')  # by hand, in place
    appears(mnt / "b/x/a/8/result")
    disappears(mnt / "b/x/a/7")

    remove_indexed(project.root, "data")
    wait_until(lambda: tree(mnt) == [])


def test_a_project_that_was_frozen_before_is_mounted_with_all_jobs(
    mounts: Mounts, project: Project, tmp_path: Path
) -> None:
    freeze(project)
    mnt = tmp_path / "mnt"
    said = mounts.mount(project, mnt)
    assert "6 jobs" in said
    assert tree(mnt) == FROZEN
    mounts.sigfs("umount", mnt)
    # what changes while nobody looks
    (job,) = [each for each in Path(project.root, "data").iterdir() if _says(each, {"a": 1, "b": "y"})]
    replace(job / SP_FILE, {"a": 9, "b": "y"})
    mounts.mount(project, mnt)
    assert tree(mnt) == sorted({*FROZEN, "b/y/a/9"} - {"b/y/a/1"})
    mounts.sigfs("umount", mnt)
    # and what is listed no more is not shown from what was kept
    remove_indexed(project.root, "data")
    mounts.mount(project, mnt)
    assert tree(mnt) == []


def _says(path: Path, statepoint: object) -> bool:
    return bool(json.loads((path / SP_FILE).read_text()) == statepoint)


def test_the_python_interface_changes_a_frozen_job_which_keeps_path_and_id(
    mnt: Path, project: Project, appears: Wait
) -> None:
    freeze(project)
    wait_until(lambda: tree(mnt) == FROZEN)
    (job,) = get_project(project.root).find({"a": 2, "b": "x"})
    path, name = os.path.abspath(job.path), job.id
    assert name == f"../data/{os.path.basename(path)}"
    job.sp.a = 7
    assert (os.path.abspath(job.path), job.id) == (path, name)
    appears(mnt / "b/x/a/7")
    assert read_id(mnt / "b/x/a/7") == name
    assert get_project(project.root).open_job(id=name).sp.a == 7


def test_an_index_that_python_kept_shows_no_jobs_of_a_directory_listed_no_more(
    mounts: Mounts, project: Project, tmp_path: Path
) -> None:
    managed = project.open({"a": 1, "b": "x"}).id
    outside = Path(project.root, "data", "one")
    outside.mkdir(parents=True)
    replace(outside / SP_FILE, {"a": 10, "b": "x"})
    add_indexed(project.root, "data")
    os.utime(project.workspace.path, (1, 1))
    wait_until(lambda: project.workspace.stamp() != UNKNOWN)
    kept = get_project(project.root)
    assert len(kept) == 7
    kept.index.store_cache()
    remove_indexed(project.root, "data")
    assert "6 jobs" in mounts.mount(project, tmp_path / "mnt")
    assert tree(tmp_path / "mnt") == FROZEN
    assert read_id(tmp_path / "mnt/b/x/a/1") == managed


def test_mkdir_makes_managed_jobs_beside_frozen_ones(mnt: Path, project: Project) -> None:
    freeze(project)
    wait_until(lambda: tree(mnt) == FROZEN)
    (mnt / "b/x/a/9").mkdir()
    managed = Path(project.root, "workspace").glob(f"*/{SP_FILE}")
    assert [json.loads(path.read_text()) for path in managed] == [{"a": 9, "b": "x"}]
    assert tree(mnt) == sorted([*FROZEN, "b/x/a/9"])


def test_mv_in_the_tree_changes_the_state_point_file_and_not_the_place(mnt: Path, project: Project) -> None:
    job = project.open({"a": 2, "b": "x"})
    freeze(project)
    wait_until(lambda: tree(mnt) == FROZEN)
    frozen = Path(project.root, "data", job.id)
    before = os.stat(frozen)
    descriptor = os.open(mnt / "b/x/a/2" / SP_FILE, os.O_RDONLY)
    try:
        os.rename(mnt / "b/x/a/2", mnt / "b/x/a/20")
        assert json.loads((frozen / SP_FILE).read_text()) == {"a": 20, "b": "x"}
        assert os.stat(frozen).st_ino == before.st_ino
        assert tree(mnt) == sorted([*(set(FROZEN) - {"b/x/a/2"}), "b/x/a/20"])
        assert read_id(mnt / "b/x/a/20") == f"../data/{job.id}"
        with pytest.raises(FileExistsError):
            os.rename(mnt / "b/x/a/20", mnt / "b/x/a/1")
    finally:
        os.close(descriptor)


def test_rm_removes_a_frozen_job_with_its_directory(mnt: Path, project: Project) -> None:
    job = project.open({"a": 2, "b": "x"})
    freeze(project)
    wait_until(lambda: tree(mnt) == FROZEN)
    (mnt / "b/x/a/2/result").write_text("x")
    with pytest.raises(OSError, match="not empty"):
        os.rmdir(mnt / "b/x/a/2")
    shutil.rmtree(mnt / "b/x/a/2")
    assert not os.path.exists(os.path.join(project.root, "data", job.id))
    assert tree(mnt) == sorted(set(FROZEN) - {"b/x/a/2"})
    assert len(os.listdir(os.path.join(project.root, "data"))) == 5


def test_files_of_frozen_jobs_are_written_through_the_mount(mnt: Path, project: Project) -> None:
    job = project.open({"a": 2, "b": "x"})
    freeze(project)
    wait_until(lambda: tree(mnt) == FROZEN)
    below = Path(project.root, "data", job.id)
    (mnt / "b/x/a/2/deep").mkdir()
    (mnt / "b/x/a/2/deep/file").write_text("text")
    assert (below / "deep" / "file").read_text() == "text"
    os.rename(mnt / "b/x/a/2/deep/file", mnt / "b/x/a/3/file")
    assert (mnt / "b/x/a/3/file").read_text() == "text"
    # its state point too, in place
    (mnt / "b/x/a/2" / SP_FILE).write_text('{"a": 22, "b": "x"}')
    wait_until(lambda: os.path.lexists(mnt / "b/x/a/22/deep"))


def test_jobs_at_any_depth_are_in_the_tree(mnt: Path, project: Project, appears: Wait, disappears: Wait) -> None:
    runs = Path(project.root, "runs")
    (runs / "2024" / "may" / "first").mkdir(parents=True)
    replace(runs / "2024" / "may" / "first" / SP_FILE, {"a": 10, "b": "x"})
    add_indexed(project.root, "runs", recursive=True)
    appears(mnt / "b/x/a/10")
    assert read_id(mnt / "b/x/a/10") == "../runs/2024/may/first"
    (runs / "2025").mkdir()
    os.rename(runs / "2024" / "may", runs / "2025" / "may")
    wait_until(lambda: read_id(mnt / "b/x/a/10") == "../runs/2025/may/first")
    shutil.rmtree(runs / "2025")
    disappears(mnt / "b/x/a/10")


def test_two_jobs_of_one_state_point_are_both_in_its_directory(mnt: Path, project: Project, appears: Wait) -> None:
    copy = Path(project.root, "data", "copy")
    shutil.copytree(project.open({"a": 1, "b": "x"}).path, copy)
    add_indexed(project.root, "data")
    key = Places(project.workspace.path, read_indexed(project.root)).key_at(str(copy))
    appears(mnt / "b/x/a/1" / key)
    assert sorted(os.listdir(mnt / "b/x/a/1")) == sorted([key, project.open({"a": 1, "b": "x"}).id])


def test_a_job_outside_is_found_by_its_key_and_by_its_id(mnt: Path, project: Project, appears: Wait) -> None:
    one = Path(project.root, "data", "my job")
    one.mkdir(parents=True)
    replace(one / SP_FILE, {"a": 10, "b": "x"})
    add_indexed(project.root, "data")
    appears(mnt / "b/x/a/10")
    (key,) = set(os.listdir(mnt / ".sigfs/jobs")) - {job.id for job in project}
    for name in (key, "..%2Fdata%2Fmy%20job", "..%2Fdata%2Fmy job"):
        for jobs in (mnt / ".jobs", mnt / ".sigfs/jobs"):
            assert os.stat(jobs / name / SP_FILE).st_ino == os.stat(one / SP_FILE).st_ino
            assert read_id(jobs / name) == "../data/my job"
    assert f'"id": "{key}"' in (mnt / ".sigfs/index.jsonl").read_text()
    assert not os.path.lexists(mnt / ".jobs/..%2Fdata%2Fother")
    (indexed,) = json.loads((mnt / ".sigfs/status.json").read_text())["watch"]["indexed"]
    assert indexed["jobs"] == 1
    assert indexed["path"] == os.path.join(project.root, "data")


def test_documents_of_jobs_outside_are_followed_where_a_layout_asks(
    mounts: Mounts, project: Project, tmp_path: Path
) -> None:
    freeze(project)
    mnt = tmp_path / "mnt"
    mounts.mount(project, mnt, "--layout", "{job.doc.status}/{{auto}}")
    job = next(Path(project.root, "data").iterdir())
    replace(job / "signac_job_document.json", {"status": "done"})
    wait_until(lambda: "done" in os.listdir(mnt))
    replace(job / "signac_job_document.json", {"status": "failed"})
    wait_until(lambda: "failed" in os.listdir(mnt) and "done" not in os.listdir(mnt))


def test_mounting_writes_nothing_into_a_project_that_indexes_nothing(mnt: Path, project: Project) -> None:
    assert tree(mnt) == FROZEN
    assert sorted(os.listdir(project.root)) == [".sigfs", ".signac", "workspace"]
    assert Path(project.root, ".signac", "config").read_text() == "schema_version = 2\n"


@pytest.mark.parametrize("where", [".", "workspace", "mnt-inside"])
def test_places_around_and_inside_the_workspace_and_the_mount_show_each_job_once(
    mounts: Mounts, project: Project, where: str
) -> None:
    add_indexed(project.root, ".", recursive=True)
    if where != ".":
        mnt = Path(project.root, where if where != "workspace" else "mnt")
    else:
        mnt = Path(project.root).parent / "mnt"
    if where == "workspace":
        extra = Path(project.workspace.path, "named")
        extra.mkdir()
        replace(extra / SP_FILE, {"a": 10, "b": "x"})
        with pytest.raises(ValueError, match="workspace"):
            add_indexed(project.root, "workspace")
    mounts.mount(project, mnt)
    assert tree(mnt) == FROZEN
    one = Path(project.root, "one")
    one.mkdir()
    replace(one / SP_FILE, {"a": 11, "b": "x"})
    wait_until(lambda: tree(mnt) == sorted([*FROZEN, "b/x/a/11"]))
