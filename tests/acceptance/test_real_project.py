"""The main job on a copy of a published project: 400 jobs, signac 1."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.acceptance.conftest import Mount

pytestmark = pytest.mark.fuse

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "terminal_group_screening"
JOBS = 400


@pytest.fixture
def project(tmp_path: Path) -> str:
    if not DATA.is_dir():
        pytest.skip("the published project terminal_group_screening is not beside this repository")
    copy = tmp_path / "project"
    shutil.copytree(DATA, copy)
    for path in copy.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return str(copy)


def contents(root: str) -> dict[str, tuple[str, int, int]]:
    """Give path below *root* -> (hash of the content, mode, mtime in ns) of all files but those of the index."""
    found = {}
    for directory, directories, files in os.walk(root):
        if ".sigfs" in directories:
            directories.remove(".sigfs")
        for name in files:
            path = os.path.join(directory, name)
            stat = os.stat(path)
            with open(path, "rb") as file:
                digest = hashlib.sha256(file.read()).hexdigest()
            found[os.path.relpath(path, root)] = (digest, stat.st_mode, stat.st_mtime_ns)
    return found


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=170).stdout


def test_programs_that_walk_meet_each_job_once_and_change_nothing(project: str, mount: Mount, tmp_path: Path) -> None:
    before = contents(project)
    mnt = mount(project)
    assert len(run("find", mnt, "-name", "signac_statepoint.json").splitlines()) == JOBS

    run("cp", "-r", mnt, str(tmp_path / "cp"))
    run("rsync", "-a", f"{mnt}/", str(tmp_path / "rsync"))
    run("tar", "-cf", str(tmp_path / "all.tar"), "-C", mnt, ".")
    data_bytes = sum(
        os.path.getsize(os.path.join(project, "workspace", path)) for path in contents(f"{project}/workspace")
    )
    apparent = int(run("du", "-s", "--apparent-size", "-B1", mnt).split()[0])
    assert apparent >= data_bytes
    assert len(run("du", "-a", mnt).splitlines()) == len(run("find", mnt).splitlines())

    def jobs(root: str) -> list[str]:
        paths = Path(root).rglob("signac_statepoint.json")
        return sorted(json.dumps(json.loads(path.read_text()), sort_keys=True) for path in paths)

    below = jobs(f"{project}/workspace")
    assert len(below) == len(set(below)) == JOBS
    assert jobs(str(tmp_path / "cp")) == below
    assert jobs(str(tmp_path / "rsync")) == below
    with tarfile.open(tmp_path / "all.tar") as archive:
        assert sum(name.endswith("/signac_statepoint.json") for name in archive.getnames()) == JOBS
    assert contents(project) == before


def test_every_path_agrees_with_the_state_point_that_it_leads_to(project: str, mount: Mount) -> None:
    mnt = mount(project, "layout=full")
    paths = run("find", mnt, "-name", "signac_statepoint.json").splitlines()
    assert len(paths) == JOBS
    for path in paths:
        names = os.path.relpath(os.path.dirname(path), mnt).split("/")
        pairs = zip(names[::2], names[1::2], strict=True)
        said = {key: int(value) if value.isdigit() else value for key, value in pairs}
        with open(path, encoding="utf-8") as file:
            assert json.load(file) == said


def test_keys_resolve_in_any_order_with_constants_and_comparisons(project: str, mount: Mount) -> None:
    mnt = mount(project)
    pairs = ("chainlength/11", "terminal_group/methyl", "seed/1")
    statepoint = {"n": 100, "seed": 1, "chainlength": 11, "terminal_group": "methyl"}
    real = os.path.join(project, "workspace", hashlib.md5(json.dumps(statepoint, sort_keys=True).encode()).hexdigest())
    for order in itertools.permutations(pairs):
        for place in range(3):
            path = os.path.join(mnt, *order[:place], "n/100", *order[place:])
            assert sorted(os.listdir(path)) == sorted(os.listdir(real))
        assert os.path.samestat(
            os.stat(os.path.join(mnt, *order, "signac_statepoint.json")),
            os.stat(os.path.join(mnt, *pairs, "signac_statepoint.json")),
        )
    assert os.listdir(os.path.join(mnt, "chainlength@gt/8/seed/1/terminal_group/methyl/chainlength")) == [
        "11",
        "14",
        "17",
    ]
    assert os.path.isdir(os.path.join(mnt, "chainlength@gt/8/chainlength/11/seed/1/terminal_group/methyl"))
    assert not os.path.exists(os.path.join(mnt, "chainlength@gt/17"))
    assert not os.path.exists(os.path.join(mnt, "chainlength/12"))


def test_what_is_written_through_the_mount_is_byte_identical_in_the_workspace(project: str, mount: Mount) -> None:
    before = contents(project)
    mnt = mount(project)
    data = os.urandom(3 * 2**20 + 17)
    with open(os.path.join(mnt, "seed/1/chainlength/5/terminal_group/nitro/result.bin"), "wb") as file:
        file.write(data)
    after = contents(project)
    (new,) = after.keys() - before.keys()
    with open(os.path.join(project, new), "rb") as file:
        assert file.read() == data
    statepoint = json.loads(Path(project, os.path.dirname(new), "signac_statepoint.json").read_text())
    assert statepoint == {"n": 100, "seed": 1, "chainlength": 5, "terminal_group": "nitro"}
    del after[new]
    assert after == before
