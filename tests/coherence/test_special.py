"""What changes below is seen in ``.sigfs``, at once after it is noticed, and never in what is open."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from sigfs.api.project import Project
from tests.coherence.conftest import Mounts
from tests.support.wait import wait_until

pytestmark = pytest.mark.fuse

Wait = Callable[[Path], None]


@pytest.fixture(params=["kernel", "llfuse", "fusepy"])
def special(request: pytest.FixtureRequest, mounts: Mounts, project: Project, tmp_path: Path) -> Path:
    """The directory in a mount of the jobs with ``a 1``."""
    mounts.mount(project, tmp_path / "mnt", "-o", f"transport={request.param}", "--filter", "a 1")
    return tmp_path / "mnt" / ".sigfs"


def statepoints(special: Path) -> list[dict[str, object]]:
    return [json.loads(line)["sp"] for line in (special / "index.jsonl").read_text().splitlines()]


def names(path: Path) -> list[str]:
    return sorted(os.listdir(path)) if path.exists() else []


def test_it_is_about_the_whole_project_whatever_the_filter(special: Path) -> None:
    assert names(special.parent) == ["b"]
    assert len(names(special / "jobs")) == len(statepoints(special)) == 6
    assert names(special / "find/a") == ["1", "2", "3"]
    status = json.loads((special / "status.json").read_text())
    assert (status["jobs"], status["project_jobs"], status["filter"]) == (2, 6, "a 1")
    assert json.loads((special / "schema.json").read_text())["sp"]["a"]["distinct"] == 3


def test_a_new_job_is_in_all_of_it(special: Path, project: Project, appears: Wait) -> None:
    assert not (special / "find/a.$gt 3").exists()
    assert names(special / "find/b x/a") == ["1", "2", "3"]
    job = project.open({"a": 4, "b": "x"})
    appears(special / "find/a.$gt 3")
    assert names(special / "find/b x/a") == ["1", "2", "3", "4"]
    assert (special / "find/b/x/a/4/signac_statepoint.json").exists()
    assert job.id in names(special / "jobs")
    assert {"a": 4, "b": "x"} in statepoints(special)
    assert json.loads((special / "schema.json").read_text())["jobs"] == 7
    assert json.loads((special / "status.json").read_text())["project_jobs"] == 7


def test_a_job_that_is_gone_is_in_none_of_it(special: Path, project: Project, disappears: Wait) -> None:
    job = project.open({"a": 3, "b": "x"})
    assert (special / "find/a 3 b x/a/3/b/x").exists()
    shutil.rmtree(job.path)
    disappears(special / "find/a 3 b x")
    assert names(special / "find/b x/a") == ["1", "2"]
    assert job.id not in names(special / "jobs")
    assert {"a": 3, "b": "x"} not in statepoints(special)


def test_jobs_are_made_moved_and_removed_in_a_view_below(special: Path, project: Project) -> None:
    place = special / "find/b/x/a"
    (place / "9").mkdir()
    assert {"a": 9, "b": "x"} in statepoints(special)
    (place / "9/data").write_text("kept")
    (place / "9").rename(place / "10")
    assert Path(project.open({"a": 10, "b": "x"}).fn("data")).read_text() == "kept"
    assert {"a": 9, "b": "x"} not in statepoints(special)
    shutil.rmtree(place / "10")
    assert not (place / "10").exists()
    assert len(statepoints(special)) == 6


def test_an_open_file_says_what_was_so(special: Path, project: Project) -> None:
    before = (special / "index.jsonl").read_bytes()
    with open(special / "index.jsonl", "rb", buffering=0) as file:
        said = file.read(100)
        for a in range(10, 60):
            project.open({"a": a, "b": "z"})
        shutil.rmtree(project.open({"a": 2, "b": "x"}).path)
        wait_until(lambda: len(statepoints(special)) == 55)
        while part := file.read(100):
            said += part
    assert said == before


def test_readers_see_whole_moments_while_jobs_come_and_go(special: Path, project: Project) -> None:
    wrong: list[object] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            with open(special / "index.jsonl", "rb", buffering=0) as file:
                text = b"".join(iter(lambda: file.read(4096), b""))
            ids = [json.loads(line)["id"] for line in text.splitlines()]
            if ids != sorted(set(ids)) or not text.endswith(b"\n"):
                wrong.append(text)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    jobs = [project.open({"a": a, "b": "z" * (a % 50)}) for a in range(100, 250)]
    for job in jobs[::2]:
        shutil.rmtree(job.path)
    wait_until(lambda: len(statepoints(special)) == 6 + 75)
    done.set()
    for reader in readers:
        reader.join()
    assert not wrong


def test_named_views_follow_the_configuration(special: Path, project: Project, appears: Wait, mounts: Mounts) -> None:
    views = special / "views"
    assert names(views) == []
    assert not (views / "xs").exists()
    mounts.sigfs("view", "add", "-p", project.root, "xs", "--layout", "full", "b", "x")
    assert names(views) == ["xs"]
    assert names(views / "xs/b/x/a") == ["1", "2", "3"]
    project.open({"a": 4, "b": "x"})
    appears(views / "xs/b/x/a/4")
    assert names(views / "xs/b/x/a") == ["1", "2", "3", "4"]
    mounts.sigfs("view", "add", "-p", project.root, "--replace", "xs", "b", "y")
    assert names(views / "xs/a") == ["1", "2", "3"]
    mounts.sigfs("view", "remove", "-p", project.root, "xs")
    assert names(views) == []
    assert not (views / "xs").exists()
