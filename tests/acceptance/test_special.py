"""A person looks into ``.sigfs`` with the programs at hand, and finds what signac says."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import signac

from tests.acceptance.conftest import Mount
from tests.support.wait import wait_until

pytestmark = pytest.mark.fuse


def run(command: str, **variables: str) -> str:
    environment = {**os.environ, **variables}
    return subprocess.run(
        ["sh", "-ec", command], env=environment, check=True, capture_output=True, text=True, timeout=60
    ).stdout


@pytest.fixture
def project(tmp_path: Path) -> signac.Project:
    made = signac.init_project(str(tmp_path / "project"))
    for number in range(12):
        job = made.open_job({"number": number, "half": number / 2, "box": {"kind": "ab"[number % 2]}, "name": "métal"})
        job.init()
        job.document["done"] = number > 3
        Path(job.fn("result.txt")).write_text(f"{number}\n")
    return made


def test_the_index_is_what_signac_has(project: signac.Project, mount: Mount) -> None:
    top = mount(project.path)
    expected = {job.id: (job.statepoint(), job.document()) for job in project}
    assert os.path.isdir(f"{top}/doc.done/true")  # from here on documents are followed
    lines = [json.loads(line) for line in Path(top, ".sigfs/index.jsonl").read_text().splitlines()]
    assert {line["id"]: (line["sp"], line["doc"]) for line in lines} == expected
    assert [line["id"] for line in lines] == sorted(expected)
    next(iter(project)).document["done"] = "again"
    wait_until(lambda: "again" in Path(top, ".sigfs/index.jsonl").read_text(), what="the new document")


def test_the_schema_is_what_signac_detects(project: signac.Project, mount: Mount) -> None:
    top = mount(project.path)
    schema = json.loads(Path(top, ".sigfs/schema.json").read_text())["sp"]
    detected = project.detect_schema()
    assert {".".join(key.split(".")) for key in schema} == {str(key) for key in detected}
    for key, types in detected.items():
        assert {kind.__name__: len(values) for kind, values in types.items()} == {
            name: said["distinct"] for name, said in schema[key]["types"].items()
        }


def test_the_programs_at_hand_work_in_it(project: signac.Project, mount: Mount, tmp_path: Path) -> None:
    top = mount(project.path)
    assert run('find "$T/.sigfs/find/number@lt/2" -name result.txt -exec cat {} + | sort', T=top) == "0\n1\n"
    assert run('cat "$T/.sigfs/find/number@gte/10/box.kind/b/.job/result.txt"', T=top) == "11\n"
    run('cp -r "$T/.sigfs/find/box.kind a" "$D/copy"', T=top, D=str(tmp_path))
    copied = run('find "$D/copy" -name result.txt -exec cat {} +', D=str(tmp_path)).split()
    assert sorted(copied, key=int) == ["0", "2", "4", "6", "8", "10"]
    if run("command -v jq || true"):
        ids = run("jq -r 'select(.sp.number > 9) | .id' \"$T/.sigfs/index.jsonl\"", T=top).split()
        assert ids == sorted(job.id for job in project.find_jobs({"number.$gt": 9}))
    assert ".sigfs" not in run('ls -a "$T"; find "$T"', T=top).splitlines()
    sizes = run('cd "$T/.sigfs"; stat -c %s *.json*; cat index.jsonl | wc -c', T=top).split()
    assert sizes[0] == sizes[-1]


def test_a_job_says_its_state_point(project: signac.Project, mount: Mount) -> None:
    top = mount(project.path)
    for job in project:
        path = f"{top}/.jobs/{job.id}"
        assert os.getxattr(path, "user.sigfs.id").decode() == job.id
        assert json.loads(os.getxattr(path, "user.sigfs.statepoint")) == job.statepoint()
