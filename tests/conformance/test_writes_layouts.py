"""Every layout whose paths spell state points is written by its paths; the others refuse."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.support.projects import add_job, job_id, make_project
from tests.support.server import Server

pytestmark = pytest.mark.fuse

JOBS = [{"a": a, "b": b} for a in (1, 2) for b in (1, 2)]
LAYOUTS = {
    "auto": ("a/{a}/b/{b}", "a/{a}"),
    "full": ("a/{a}/b/{b}", "a/{a}"),
    "hive": ("a={a}/b={b}", "a={a}"),
    "a_{a}/{b}": ("a_{a}/{b}", "a_{a}"),
    "{b}/{{auto}}": ("{b}/a/{a}", "{b}/a/{a}"),
}


def found(project: str) -> dict[tuple[object, object], str]:
    workspace, jobs = os.path.join(project, "workspace"), {}
    for name in os.listdir(workspace):
        statepoint = json.loads(Path(workspace, name, "signac_statepoint.json").read_text())
        assert job_id(statepoint) == name
        jobs[statepoint["a"], statepoint["b"]] = Path(workspace, name, "data").read_text()
    return jobs


@pytest.mark.parametrize("layout", LAYOUTS)
def test_jobs_are_moved_made_copied_and_removed_by_their_paths(tmp_path: Path, layout: str) -> None:
    project = make_project(str(tmp_path / "project"))
    for statepoint in JOBS:
        Path(add_job(project, statepoint), "data").write_text(f"{statepoint['a']} {statepoint['b']}")
    path, above = LAYOUTS[layout]
    server = Server("kernel", project, f"--layout={layout}")
    server.start()
    try:

        def run(*command: str) -> None:
            subprocess.run(command, cwd=server.mountpoint, check=True, capture_output=True, timeout=60)

        def at(a: int, b: int) -> str:
            return path.format(a=a, b=b)

        run("mkdir", "-p", os.path.dirname(at(1, 9)))
        run("mv", "-T", at(1, 1), at(1, 9))
        assert found(project) == {(1, 9): "1 1", (1, 2): "1 2", (2, 1): "2 1", (2, 2): "2 2"}
        run("mkdir", "-p", os.path.dirname(at(3, 2)))
        run("cp", "-r", at(1, 2), at(3, 2))
        assert found(project)[3, 2] == "1 2"
        run("rm", "-r", at(3, 2))
        run("rm", "-r", above.format(a=2, b=1))
        left = found(project)
        assert (3, 2) not in left
        assert (2, 1) not in left
        run("mkdir", "-p", at(4, 2))
        Path(server.mountpoint, at(4, 2), "data").write_text("made")
        assert found(project) == {**left, (4, 2): "made"}
        server.stop()
    finally:
        server.kill()


@pytest.mark.parametrize("layout", ["signac", "{a}", "{job.doc.x}/{a}/{b}"])
def test_a_layout_that_does_not_spell_state_points_refuses(tmp_path: Path, layout: str) -> None:
    project = make_project(str(tmp_path / "project"))
    for statepoint in JOBS:
        Path(add_job(project, statepoint), "data").write_text("data")
    before = found(project)
    server = Server("kernel", project, f"--layout={layout}")
    server.may_say = "refused: "
    server.start()
    try:
        done = subprocess.run(
            ["mkdir", "-p", "7/8/9"], cwd=server.mountpoint, capture_output=True, text=True, timeout=60
        )
        assert "not permitted" in done.stderr
        assert found(project) == before
        server.stop()
    finally:
        server.kill()
