"""A project that contains whatever has broken programs like this one before."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.conftest import Mount
from tests.support.projects import add_job, job_id, make_project
from tests.support.strategies import NASTY
from tests.support.wait import wait_until

pytestmark = pytest.mark.fuse

MAY_SAY = "are named like jobs, but cannot be read as ones"  # so spoil() has made them

# Keys in several projects: each key that only one job has makes the tree deeper by two.
GROUPS: dict[str, list[dict[str, object]]] = {
    "strings": [{"text": text} for text in NASTY],
    "keys": [{text: index} for index, text in enumerate(NASTY[: len(NASTY) // 2])],
    "more keys": [{text: index} for index, text in enumerate(NASTY[len(NASTY) // 2 :])],
    "numbers": [
        *({"number": value} for value in (1, 1.0, True, "1", 0, -0.0, False, None, "null", 2**70, 1e300, 0.1, "0.1")),
        *({"number": value} for value in (float("nan"), float("inf"), float("-inf"), "NaN", [float("nan")])),
    ],
    "shapes": [
        *({"list": value} for value in ([], [1], [1.0], [True], ["1"], [1, [2, {"a": None}]], [{}], "[1]", {})),
        *({"deep": value} for value in ({"a": 1}, {"a": {"b": 2}}, {"a": {"b": {"c": "/"}}}, {"a": {}}, 5, None)),
        {"deep.a": 1, "deep": {"a": 2}},
        {"text": "x", "number": 1, "list": [1], "deep": {"a": 1}},
        {},
    ],
}


def spoil(project: str) -> None:
    """Add to the workspace what is no job, or not yet."""
    workspace = Path(project, "workspace")
    (workspace / ("a" * 32)).mkdir()  # no state point
    for name, content in {"b": "", "c": "{", "d": "[1]", "e": '"text"', "f": "\xff\xfe"}.items():
        (workspace / (name * 32)).mkdir()
        (workspace / (name * 32) / "signac_statepoint.json").write_text(content, encoding="latin-1")
    (workspace / ("0" * 31 + "1")).write_text("a file named like a job")
    (workspace / ("0" * 31 + "2")).symlink_to("/etc")
    (workspace / ("0" * 31 + "3")).mkdir()
    os.mkfifo(workspace / ("0" * 31 + "3") / "signac_statepoint.json")
    (workspace / ("0" * 31 + "4")).mkdir()
    (workspace / ("0" * 31 + "4") / "signac_statepoint.json").symlink_to("/etc/passwd")
    (workspace / ("0" * 31 + "5")).mkdir()
    (workspace / ("0" * 31 + "5") / "signac_statepoint.json").mkdir()
    (workspace / ("A" * 32)).mkdir()  # upper case
    (workspace / "notes.txt").write_text("foreign")
    (workspace / "._0123").mkdir()
    (workspace / (job_id({}) + "~")).mkdir()


@pytest.fixture(params=GROUPS)
def group(request: pytest.FixtureRequest) -> list[dict[str, object]]:
    return GROUPS[request.param]


@pytest.fixture
def project(tmp_path: Path, group: list[dict[str, object]]) -> str:
    path = make_project(str(tmp_path / "project"), *group)
    spoil(path)
    return path


def walk(mnt: str) -> list[str]:
    """Give the job directories that ``find`` meets, as bytes-exact paths."""
    found = subprocess.run(
        ["find", mnt, "-type", "f", "-name", "signac_statepoint.json", "-print0"],
        check=True,
        capture_output=True,
        timeout=120,
    )
    assert not found.stderr
    return [os.path.dirname(os.fsdecode(path)) for path in found.stdout.split(b"\0") if path]


@pytest.mark.parametrize("layout", ["auto", "full"])
def test_each_readable_job_is_met_exactly_once_and_nothing_outside_is_reached(
    project: str, group: list[dict[str, object]], mount: Mount, layout: str
) -> None:
    mnt = mount(project, f"layout={layout}")
    paths = walk(mnt)
    met = []
    for path in paths:
        assert os.path.realpath(path) == path, "a name leads out of the mount"
        with open(os.path.join(path, "signac_statepoint.json"), encoding="utf-8") as file:
            met.append(job_id(json.load(file)))
        assert all(len(os.fsencode(name)) <= 255 for name in path.split("/"))
    assert sorted(met) == sorted({job_id(sp) for sp in group})


def test_a_file_written_at_each_path_lands_in_that_job(project: str, mount: Mount) -> None:
    mnt = mount(project)
    for path in walk(mnt):
        with open(os.path.join(path, "signac_statepoint.json"), encoding="utf-8") as file:
            job = job_id(json.load(file))
        with open(os.path.join(path, "job"), "w", encoding="utf-8") as file:
            file.write(job)
        assert Path(project, "workspace", job, "job").read_text() == job


@pytest.mark.parametrize("group", ["numbers"], indirect=True)
def test_a_pending_job_appears_when_its_state_point_can_be_read(project: str, mount: Mount) -> None:
    mnt = mount(project)
    assert not os.path.exists(f"{mnt}/.jobs/{'a' * 32}")
    late: dict[str, object] = {"late": True}
    os.rename(f"{project}/workspace/{'a' * 32}", f"{project}/workspace/{job_id(late)}")
    add_job(project, late)
    wait_until(lambda: os.path.isdir(f"{mnt}/late/true"), 30, "the job to appear")
