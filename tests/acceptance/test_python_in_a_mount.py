"""The Python interface with the working directory, or paths, in a mounted project."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sigfs import Index, Job, get_job, get_project
from sigfs.errors import DestinationExists, NoSuchJob
from sigfs.model import mounted
from sigfs.model.statepoint import statepoint_id
from tests.acceptance.conftest import Mount
from tests.support.outcome import unavailable
from tests.support.projects import add_job, make_project
from tests.support.server import ROOT
from tests.support.wait import wait_until

pytestmark = pytest.mark.fuse

SP = "signac_statepoint.json"


def make(tmp_path: Path) -> str:
    project = make_project(str(tmp_path / "p"), *({"foo": k, "bar": k % 2} for k in (41, 42, 44)))
    Path(add_job(project, {"foo": 42, "bar": 0}), "below").mkdir()
    return project


def path_below(project: str, statepoint: dict[str, object]) -> str:
    return os.path.join(project, "workspace", statepoint_id(statepoint))


def test_paths_into_a_mount_mean_the_directories_below(
    tmp_path: Path, mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make(tmp_path)
    mnt = mount(project)
    below = path_below(project, {"foo": 42, "bar": 0})
    ways = [
        f"{mnt}/bar/0/foo/42",
        f"{mnt}/foo/42/bar/0",
        f"{mnt}/.jobs/{os.path.basename(below)}",
        f"{mnt}/.sigfs/jobs/{os.path.basename(below)}",
        f"{mnt}/bar/0/.jobs/{os.path.basename(below)}",
        f"{mnt}/foo/42/.job",
    ]
    for way in ways:
        assert mounted.below(way) == below
        assert mounted.below(f"{way}/below") == f"{below}/below"
        assert mounted.below(f"{way}/{SP}") == f"{below}/{SP}"
        job = Job(way)
        assert job == Job(below)
        assert job.is_managed
    (tmp_path / "link").symlink_to(f"{mnt}/bar/0/foo/42")
    assert Job(tmp_path / "link") == Job(below)
    for other in (mnt, f"{mnt}/bar", f"{mnt}/bar/0", f"{mnt}/none", project, below, "/proc/self"):
        assert mounted.below(other) is None
    for virtual in (mnt, f"{mnt}/bar/0", f"{mnt}/foo/42"):
        with pytest.raises(NoSuchJob, match="view"):
            Job(virtual)
        with pytest.raises(ValueError, match=r"in a view .* open or assign its state point"):
            Job.init(f"{virtual}/new", {"foo": 1})
    assert Job.init(f"{mnt}/foo/42/bar/0/below/new", {"foo": 1}) == Job(f"{below}/below/new")
    assert get_job(f"{mnt}/foo/42/bar/0/below") == Job(below)
    monkeypatch.chdir(f"{mnt}/bar/0/foo/42/below")
    assert Job("..") == Job(below)
    assert os.path.realpath(Job("..").path) == below
    for place in (mnt, f"{mnt}/bar/0", ".", below):
        assert get_project(place).root == project


def test_jobs_change_through_a_mount_as_below(tmp_path: Path, mount: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    project = make(tmp_path)
    mnt = mount(project)
    monkeypatch.chdir(f"{mnt}/bar/0")  # not in the job: by some transports a directory is found by its path alone
    with Job("foo/42") as job:
        Path("x").write_text("precious")
        job.doc.done = True
        job.sp.foo = 43
        assert Path("x").read_text() == "precious"
    assert job.id == statepoint_id({"foo": 43, "bar": 0})
    wait_until(lambda: os.path.exists(f"{mnt}/bar/0/foo/43/x"), 30, "the job to appear")
    wait_until(lambda: not os.path.exists(f"{mnt}/bar/0/foo/42"), 30, "the job to vanish")
    with pytest.raises(DestinationExists):
        job.sp.foo = 44
    job.id = "../data/out"
    wait_until(lambda: not os.path.exists(f"{mnt}/foo/43"), 30, "the job to vanish")
    with pytest.raises(ValueError, match="view"):
        job.path = f"{mnt}/bar/0/foo/45"
    job.id = job.statepoint_id
    wait_until(lambda: os.path.exists(f"{mnt}/bar/0/foo/43/x"), 30, "the job to come back")
    Job(f"{mnt}/bar/1/foo/41").remove()
    wait_until(lambda: not os.path.exists(f"{mnt}/foo/41"), 30, "the job to vanish")
    assert not os.path.exists(path_below(project, {"foo": 41, "bar": 1}))
    job.path = f"{mnt}/bar/0/foo/44/within"
    assert job.fn("x") == f"{path_below(project, {'foo': 44, 'bar': 0})}/within/x"


def test_a_project_in_a_job_of_a_mount_is_nearer(tmp_path: Path, mount: Mount) -> None:
    project = make(tmp_path)
    mnt = mount(project)
    make_project(path_below(project, {"foo": 42, "bar": 0}) + "/inner", {"a": 1})
    assert get_project(f"{mnt}/bar/0/foo/42/inner/workspace").root == os.path.realpath(f"{mnt}/bar/0/foo/42/inner")


OUT_OF_REACH = """
import os, sys
from sigfs import Index, Job, get_project
from sigfs.errors import NoSuchProject
from sigfs.model import mounted
from tests.support.projects import make_project
mnt, project = sys.argv[1:]
place = f"{mnt}/bar/0/foo/42"
for _ in range(2):
    assert mounted.below(place) is None
    job = Job(place)
    assert job.path == os.path.relpath(place)
    assert job.sp == {"foo": 42, "bar": 0}, job.sp
    job.doc.x = 1
    assert job.doc == {"x": 1}
    if os.listdir(project) == []:
        try:
            get_project(mnt)
        except NoSuchProject:
            pass
        else:
            raise AssertionError
        make_project(project, {"foo": 42, "bar": 0})  # another one of the same path
"""


def test_a_project_that_is_out_of_reach_is_used_through_the_mount(tmp_path: Path, mount: Mount) -> None:
    if os.geteuid() != 0:
        unavailable("only root can hide a directory from one process")
    project = make(tmp_path)
    mnt = mount(project)
    command = [
        "unshare", "--mount", "sh", "-ec", 'mount -t tmpfs none "$2"; exec "$3" -c "$4" "$1" "$2"', "sh",
        mnt, project, sys.executable, OUT_OF_REACH,
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": ROOT})
    assert done.returncode == 0, done.stderr
    assert Job(f"{mnt}/bar/0/foo/42").doc == {"x": 1}


def test_questions_asked_from_within_a_mount_are_about_the_project(
    tmp_path: Path, mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make(tmp_path)
    mnt = mount(root)
    monkeypatch.chdir(f"{mnt}/bar/0")
    project = get_project()
    assert project.root == root
    assert len(project) == 3
    assert {os.fspath(job) for job in project.find("bar 0 foo 42")} == {path_below(root, {"foo": 42, "bar": 0})}
    assert [(value, len(group)) for value, group in project.groupby("bar")] == [(0, 2), (1, 1)]
    assert list(project.detect_schema()) == ["bar", "foo"]
    assert project.find(foo=44)[0] == Job("foo/44")
    assert Job("foo/44") in project
    made = project.open({"foo": 1, "bar": 0})
    wait_until(lambda: os.path.isdir(f"{mnt}/bar/0/foo/1"), what="the job in the mount")
    assert Job(f"{mnt}/bar/0/foo/1") == made
    os.rename(f"{mnt}/bar/0/foo/1", f"{mnt}/bar/0/foo/2")
    assert len(project.find(foo=1)) == 0
    assert len(project.find(foo=2)) == 1
    os.mkdir(f"{mnt}/bar/0/foo/3")
    assert project.find(foo=3)[0] in project
    with pytest.raises(OSError, match="in use by"):
        project.update_cache()
    with pytest.raises(ValueError, match="mounted"):
        Index(mnt)
    project.check()
