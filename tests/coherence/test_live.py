"""What other processes do below is seen in the mounted tree."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sigfs.api.project import Project
from sigfs.model.statepoint import statepoint_id
from tests.coherence.conftest import Mounts
from tests.support.wait import wait_until

pytestmark = pytest.mark.fuse

Wait = Callable[[Path], None]

CREATE_MANY = """
import json, os, sys
sys.path[:0] = sys.argv[3].split(os.pathsep)
from sigfs.model.workspace import Workspace
workspace = Workspace(sys.argv[1])
for number in range(int(sys.argv[2])):
    workspace.create({"a": 100 + number, "b": "x"})
"""


@pytest.fixture
def mnt(mounts: Mounts, project: Project, tmp_path: Path) -> Path:
    """The project, mounted."""
    mounts.mount(project, tmp_path / "mnt")
    return tmp_path / "mnt"


def values(mnt: Path, *path: str) -> list[str]:
    try:
        return os.listdir(os.path.join(mnt, *path))
    except FileNotFoundError:
        return []


def test_a_job_made_by_the_command_appears(mounts: Mounts, mnt: Path, project: Project, appears: Wait) -> None:
    assert not os.path.lexists(mnt / "b/x/a/4")  # the kernel may remember the absence
    job = mounts.sigfs("job", "-p", project.root, "a=4", "b=x").stdout.strip()
    appears(mnt / "b/x/a/4")
    assert json.loads((mnt / "b/x/a/4/signac_statepoint.json").read_text()) == {"a": 4, "b": "x"}
    wait_until(lambda: "4" in values(mnt, "b", "x", "a"))
    assert os.path.samestat(
        os.stat(mnt / "b/x/a/4/signac_statepoint.json"),
        os.stat(mnt / ".jobs" / job / "signac_statepoint.json"),
    )


def test_a_removed_job_disappears(mnt: Path, project: Project, disappears: Wait) -> None:
    assert os.path.lexists(mnt / "b/x/a/2/signac_statepoint.json")
    shutil.rmtree(project.open({"a": 2, "b": "x"}).path)
    disappears(mnt / "b/x/a/2")
    wait_until(lambda: values(mnt, "b", "x", "a") == ["1", "3"])
    assert values(mnt, "b", "y", "a") == ["1", "2", "3"]


def test_a_job_renamed_below_moves(mnt: Path, project: Project, appears: Wait, disappears: Wait) -> None:
    job = project.open({"a": 2, "b": "x"})
    Path(job.fn("data")).write_text("kept")
    assert (mnt / "b/x/a/2/data").read_text() == "kept"
    new = {"a": 2, "b": "z"}
    Path(job.fn("signac_statepoint.json")).write_text(json.dumps(new))
    os.rename(job.path, os.path.join(project.workspace.path, statepoint_id(new)))
    appears(mnt / "b/z/a/2")
    disappears(mnt / "b/x/a/2")
    assert (mnt / "b/z/a/2/data").read_text() == "kept"


def test_what_signac_makes_migrates_and_removes_is_followed(
    mnt: Path, project: Project, appears: Wait, disappears: Wait
) -> None:
    signac = pytest.importorskip("signac")
    theirs = signac.get_project(project.root)
    job = theirs.open_job({"a": 9, "b": "x"}).init()
    Path(job.fn("data")).write_text("theirs")
    appears(mnt / "b/x/a/9")
    job.update_statepoint({"b": "y"}, overwrite=True)
    appears(mnt / "b/y/a/9")
    disappears(mnt / "b/x/a/9")
    assert (mnt / "b/y/a/9/data").read_text() == "theirs"
    job.sp.a = 10
    appears(mnt / "b/y/a/10")
    job.remove()
    disappears(mnt / "b/y/a/10")


def test_a_job_without_state_point_appears_when_it_comes(mnt: Path, project: Project, appears: Wait) -> None:
    new = {"a": 5, "b": "x"}
    path = Path(project.workspace.path, statepoint_id(new))
    path.mkdir()
    project.open({"a": 6, "b": "x"})
    appears(mnt / "b/x/a/6")
    assert not os.path.lexists(mnt / "b/x/a/5")
    (path / "signac_statepoint.json").write_text(json.dumps(new))
    appears(mnt / "b/x/a/5")


def test_a_storm_of_new_jobs_is_seen_completely(mnt: Path, project: Project) -> None:
    arguments = [project.workspace.path, "2000", os.pathsep.join(filter(None, sys.path))]
    subprocess.run([sys.executable, "-c", CREATE_MANY, *arguments], check=True, timeout=120)
    wait_until(lambda: len(values(mnt, "b", "x", "a")) == 2003, 60)
    wait_until(lambda: len(values(mnt, ".jobs")) == 2006, 60)


def test_a_new_key_changes_the_tree(mnt: Path, project: Project, appears: Wait) -> None:
    assert values(mnt) == ["b"]
    project.open({"c": 1})
    appears(mnt / "c/1")
    wait_until(lambda: values(mnt) != ["b"])
    assert (mnt / "b/x/a/1/signac_statepoint.json").is_file()


def test_two_mounts_of_one_project_show_the_same(
    mounts: Mounts, mnt: Path, project: Project, tmp_path: Path, appears: Wait
) -> None:
    other = tmp_path / "other"
    mounts.mount(project, other, "--filter", "b x")
    (mnt / "b/x/a/1/note").write_text("from one")
    wait_until((other / "a/1/note").exists)
    assert (other / "a/1/note").read_text() == "from one"
    (other / "a/1/note").write_text("from the other")
    wait_until(lambda: (mnt / "b/x/a/1/note").read_text() == "from the other")
    project.open({"a": 8, "b": "x"})
    project.open({"a": 8, "b": "y"})
    appears(mnt / "b/y/a/8")
    appears(other / "a/8")
    assert not os.path.lexists(other / "b/y")


def test_a_filter_on_documents_follows_them(
    mounts: Mounts, project: Project, tmp_path: Path, appears: Wait, disappears: Wait
) -> None:
    place = tmp_path / "mnt"
    said = mounts.mount(project, place, "--filter", "doc.status done")
    assert "holds for none" in said
    document = Path(project.open({"a": 1, "b": "x"}).fn("signac_job_document.json"))
    document.write_text('{"status": "done"}')
    appears(place / "a/1/b/x")
    document.write_text('{"status": "open"}')
    disappears(place / "a/1/b/x")


def test_a_workspace_that_does_not_exist_yet_is_followed(
    mounts: Mounts, project: Project, tmp_path: Path, appears: Wait
) -> None:
    shutil.rmtree(project.workspace.path)
    place = tmp_path / "mnt"
    said = mounts.mount(project, place)
    assert "0 jobs" in said
    assert os.listdir(place) == []
    project.open({"a": 1})
    appears(place / "a/1")
