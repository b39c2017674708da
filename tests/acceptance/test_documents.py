"""Views and paths that read documents follow them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.conftest import Mount
from tests.support.projects import add_job, make_project
from tests.support.server import ROOT
from tests.support.wait import wait_until

pytestmark = pytest.mark.fuse


def count(path: str) -> int:
    return int(os.getxattr(path, "user.sigfs.count"))


def test_a_path_and_a_filtered_view_follow_the_documents(tmp_path: Path, mount: Mount) -> None:
    project = make_project(str(tmp_path / "p"))
    jobs = [add_job(project, {"a": i, "b": i % 2}) for i in range(4)]
    everything = mount(project)
    done = mount(project, "--filter=doc.done true")
    assert os.listdir(done) == []
    assert not os.path.exists(f"{everything}/doc.done")
    assert count(everything) == 4

    for job in jobs[1:3]:
        Path(job, "signac_job_document.json").write_text(json.dumps({"done": True}))
    wait_until(lambda: os.path.isdir(f"{everything}/doc.done/true/a/1/b/1"), 30, "the path to resolve")
    wait_until(lambda: count(f"{everything}/doc.done/true") == 2, 30, "both jobs to be counted")
    assert os.getxattr(f"{everything}/doc.done/true", "user.sigfs.query") == b"doc.done/true"
    wait_until(lambda: os.path.isdir(f"{done}/b/1/a/1"), 30, "the view to show the job")

    Path(jobs[1], "signac_job_document.json").write_text(json.dumps({"done": False}))
    wait_until(lambda: not os.path.exists(f"{everything}/doc.done/true/a/1"), 30, "the path to vanish")
    wait_until(lambda: not os.path.exists(f"{done}/a/1"), 30, "the view to lose the job")
    assert os.path.exists(f"{done}/a/2")


EDITOR = """
import os, sys
from sigfs.api.document import Document
from sigfs.model.document import JsonFile
document = Document(JsonFile(lambda: os.open(sys.argv[1], os.O_PATH | os.O_DIRECTORY), "signac_job_document.json"))
for _ in range(int(sys.argv[2])):
    with document.transaction():
        document.n = document.get("n", 0) + 1
"""


def test_no_change_is_lost_of_processes_that_change_one_document_through_a_mount(tmp_path: Path, mount: Mount) -> None:
    project = make_project(str(tmp_path / "p"))
    job = add_job(project, {"a": 1})
    add_job(project, {"a": 2})
    place = f"{mount(project)}/a/1"
    processes = [
        subprocess.Popen([sys.executable, "-c", EDITOR, place, "25"], env={**os.environ, "PYTHONPATH": ROOT})
        for _ in range(4)
    ]
    assert [process.wait() for process in processes] == [0] * 4
    assert json.loads(Path(job, "signac_job_document.json").read_text()) == {"n": 100}
    assert sorted(os.listdir(place)) == ["signac_job_document.json", "signac_statepoint.json"]
