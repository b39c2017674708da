"""Many processes move, make and remove jobs in a mount and below it at once: none is lost, none is half."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.projects import add_job, job_id, make_project
from tests.support.server import ROOT, Server
from tests.support.wait import wait_until

pytestmark = pytest.mark.fuse

JOBS = [{"a": a, "b": b} for a in range(4) for b in range(5)]
STATEPOINT = "signac_statepoint.json"

WORKERS = {
    # moves jobs about in the mount
    "mover": """
for turn in range(120):
    names = [f"a/{a}/b/{b}" for a in range(4) for b in seen(f"a/{a}/b")]
    with trouble():
        os.rename(chance.choice(names), f"a/{chance.randrange(4)}/b/{chance.randrange(30)}")
""",
    # the same by mv, in a shell loop
    "shell": """
script = "for i in $(seq 40); do for j in a/*/b/*; do mv -T $j ${j%/*}/$((RANDOM % 30)); break; done; done"
subprocess.run(["bash", "-c", script], stderr=subprocess.DEVNULL)
""",
    # makes jobs of its own, copies, and removes them again
    "maker": """
for turn in range(15):
    path = f"a/{100 + number}/b"
    os.makedirs(path, exist_ok=True)
    os.mkdir(f"{path}/{turn}")
    with open(f"{path}/{turn}/data", "w") as file:
        file.write(f"made by {number} in {turn}")
    subprocess.run(["cp", "-r", f"{path}/{turn}", f"{path}/{1000 + turn}"], check=True)
    if turn % 3 == 2:
        subprocess.run(["rm", "-r", f"{path}/{turn}", f"{path}/{turn - 1}"], check=True)
""",
    # looks
    "reader": """
for turn in range(20):
    for path, names, files in os.walk("."):
        for name in files:
            with trouble(), open(os.path.join(path, name)) as file:
                file.read()
""",
    # migrates below, as another mount or a script would
    "below": """
from sigfs.model.workspace import Workspace
workspace = Workspace(below)
for turn in range(80):
    jobs = [change.record.statepoint for change in workspace.scan()]
    chosen = chance.choice([each for each in jobs if each["a"] < 100])
    with trouble():
        workspace.migrate(statepoint_id(chosen), {**chosen, "b": chance.randrange(30)})
""",
    # so does signac
    "signac": """
signac = __import__("signac")
project = signac.get_project(os.path.dirname(below))
for turn in range(40):
    with trouble():
        job = chance.choice([job for job in project if job.sp["a"] < 100])
        job.sp["b"] = chance.randrange(30)
""",
}

PRELUDE = """
import contextlib, os, random, subprocess, sys
from sigfs.model.statepoint import statepoint_id
top, below, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
os.chdir(top)
chance = random.Random(number)
def seen(path):
    try:
        return os.listdir(path)
    except FileNotFoundError:
        return []
@contextlib.contextmanager
def trouble():
    try:
        yield
    except OSError as error:
        # gone, taken, busy with another: whatever the disk would say too
        if error.errno not in (1, 2, 17, 39, 116):
            raise
    except (LookupError, RuntimeError, ValueError):
        pass
    except Exception as error:
        if type(error).__module__.split(".")[0] != "signac":
            raise
"""


def start(worker: str, server: Server, number: int) -> subprocess.Popen[bytes]:
    below = os.path.join(server.project, "workspace")
    return subprocess.Popen(
        [sys.executable, "-c", PRELUDE + WORKERS[worker], server.mountpoint, below, str(number)],
        env={**os.environ, "PYTHONPATH": ROOT, "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def jobs_on_disk(server: Server) -> dict[str, str]:
    """Give the data of each job by its id, asserting that the job is whole."""
    found = {}
    workspace = os.path.join(server.project, "workspace")
    for name in os.listdir(workspace):
        inside = os.listdir(os.path.join(workspace, name))
        assert sorted(inside) == ["data", STATEPOINT], (name, inside)
        with open(os.path.join(workspace, name, STATEPOINT), encoding="utf-8") as file:
            assert job_id(json.load(file)) == name
        with open(os.path.join(workspace, name, "data"), encoding="utf-8") as file:
            found[name] = file.read()
    return found


def jobs_in_mount(server: Server) -> dict[str, str]:
    found = {}
    for path, _, files in os.walk(server.mountpoint):
        if STATEPOINT in files:
            with open(os.path.join(path, STATEPOINT), encoding="utf-8") as file:
                name = job_id(json.load(file))
            assert name not in found, "met twice"
            with open(os.path.join(path, "data"), encoding="utf-8") as file:
                found[name] = file.read()
    return found


@pytest.mark.parametrize(
    ("transport", "workers"),
    [
        ("kernel", ["mover", "mover", "shell", "maker", "maker", "reader"]),
        ("kernel", ["mover", "shell", "maker", "reader", "below", "signac"]),
        ("llfuse", ["mover", "shell", "maker", "reader", "below"]),
        ("fusepy", ["mover", "shell", "maker", "reader", "below"]),
    ],
)
def test_no_job_is_lost_or_half(tmp_path: Path, transport: str, workers: list[str]) -> None:
    if "signac" in workers:
        pytest.importorskip("signac")
    project = make_project(str(tmp_path / "project"))
    for statepoint in JOBS:
        with open(os.path.join(add_job(project, statepoint), "data"), "w", encoding="utf-8") as file:
            file.write(json.dumps(statepoint))
    expected = [json.dumps(statepoint) for statepoint in JOBS]
    server = Server(transport, project)
    server.may_say = "refused: "
    server.start()
    try:
        processes = [start(worker, server, number) for number, worker in enumerate(workers)]
        said = [
            (worker, process.communicate(timeout=120)[0]) for worker, process in zip(workers, processes, strict=True)
        ]
        assert [process.returncode for process in processes] == [0] * len(processes), said
        for number, worker in enumerate(workers):
            if worker == "maker":
                for turn in range(15):
                    copies = 2 if turn % 3 == 0 else 1  # the others' first are removed again
                    expected += [f"made by {number} in {turn}"] * copies
        on_disk = jobs_on_disk(server)
        assert sorted(on_disk.values()) == sorted(expected)
        wait_until(lambda: jobs_in_mount(server) == on_disk)
        server.stop()
    finally:
        server.kill()
