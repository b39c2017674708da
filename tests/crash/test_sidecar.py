"""Who writes a sidecar may be killed at any call, at any moment, or have any call fail: no line that was there before,
and none that was written to its end, is lost, and the next one goes on."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sigfs.api.project import Project, init_project
from sigfs.sidecar import SidecarFile
from sigfs.sidecar.lines import encode, header
from sigfs.sidecar.updating import disagreements, update
from tests.support.stepping import ROOT, Step, every_call, fail_at_each_call, kill_at_each_call

pytestmark = pytest.mark.timeout(900)

KILLS = 200
STOPS = pytest.mark.parametrize("code", [None, errno.ENOSPC, errno.EACCES])


def line(job_id: str, n: int) -> bytes:
    return encode({"id": job_id, "n": n})


def file_of(path: str) -> SidecarFile:
    return SidecarFile(path)


def prepare(path: str) -> None:
    file_of(path).begin(header("md5", "workspace"))
    file_of(path).append([line("a", n) for n in range(3)] + [line("b", 0)])


def append(path: str) -> None:
    file_of(path).append([line("a", 3), line("c", 0)])


def look_appended(path: str) -> None:
    found = {key: record["n"] for key, record in file_of(path).read().jobs.items()}
    assert found in ({"a": 2, "b": 0}, {"a": 3, "b": 0, "c": 0})
    append(path)
    assert list(file_of(path).read().jobs) == ["a", "b", "c"]
    assert (file_of(path).read().torn, file_of(path).read().broken) == (False, [])


def compact(path: str) -> None:
    file_of(path).compact(force=True)


def look_compacted(path: str) -> None:
    found = {key: record["n"] for key, record in file_of(path).read().jobs.items()}
    assert found == {"a": 2, "b": 0}
    compact(path)
    assert file_of(path).read().lines == 2


def jobs(path: str) -> None:
    project = init_project(os.path.join(path, "project"))
    for n in range(2):
        project.open({"n": n}).doc.x = n


def bring_up_to_date(path: str) -> None:
    update(Project(os.path.join(path, "project")).sidecar)


def look_up_to_date(path: str) -> None:
    sidecar = Project(os.path.join(path, "project")).sidecar
    if sidecar.file.exists:
        assert sidecar.file.read().broken == []
    bring_up_to_date(path)
    contents = sidecar.file.read()
    assert (list(disagreements(sidecar, contents.jobs)), contents.torn, len(contents.jobs)) == ([], False, 2)


@STOPS
@pytest.mark.parametrize(
    ("before", "act", "look", "calls"),
    [
        (prepare, append, look_appended, ["write", "fdatasync"]),
        (prepare, compact, look_compacted, ["openat", "write", "fsync", "renameat"]),
        (jobs, bring_up_to_date, look_up_to_date, ["mkdir", "linkat", "write"]),
    ],
    ids=["append", "compact", "update"],
)
def test_it_is_whole_afterwards(
    tmp_path: Path, before: Step, act: Step, look: Step, calls: list[str], code: int | None
) -> None:
    steps = (before, act, look, tmp_path)
    every_call(kill_at_each_call(*steps) if code is None else fail_at_each_call(code, *steps), *calls)


def repair_all(path: str) -> None:
    Project(os.path.join(path, "project")).repair()


def damage(path: str) -> None:
    jobs(path)
    bring_up_to_date(path)
    for job in list(Project(os.path.join(path, "project"))):
        os.unlink(job.fn("signac_statepoint.json"))
        Path(job.fn("signac_job_document.json")).write_text("{")


def look_repaired(path: str) -> None:
    project = Project(os.path.join(path, "project"))
    try:
        project.check()
    except RuntimeError:
        repair_all(path)
    project.check()
    assert sorted((job.sp.n, job.doc.x) for job in project) == [(0, 0), (1, 1)]
    for job in project:
        assert Path(job.fn("signac_job_document.json.damaged")).read_text() == "{"


def test_a_repair_that_is_killed_is_completed_by_the_next(tmp_path: Path) -> None:
    every_call(kill_at_each_call(damage, repair_all, look_repaired, tmp_path), "renameat2", "linkat", "write")


def writer(root: str, name: str, told: int) -> None:
    """Append lines for ever, make the file shorter now and then, and tell after each that it is written."""
    file = SidecarFile(root)
    n = max([int(str(record["n"])) for record in file.read().jobs.values() if record["id"] == name], default=0)
    while True:
        n += 1
        file.append([line(f"{name}{n % 5}", n), line(name, n)], sync=n % 50 == 0)
        os.write(told, n.to_bytes(8, "little"))
        if n % 7 == 0:
            file.compact(force=True)


def kill_many(root: str) -> None:
    """Let two write at once, kill one of them after each few lines, and look; this process has no threads."""
    file = SidecarFile(root)
    file.begin(header("md5", "workspace"))
    file.append([line("precious", 0)])
    chance = random.Random(7)
    last = {"x": 0, "y": 0}
    children: dict[str, tuple[int, int]] = {}
    for _ in range(KILLS):
        for name in last.keys() - children.keys():
            out, told = os.pipe()
            child = os.fork()
            if child == 0:
                try:
                    writer(root, name, told)
                finally:
                    os._exit(1)
            os.close(told)
            children[name] = child, out
        name = chance.choice(sorted(children))
        for _ in range(chance.randrange(1, 12)):
            last[name] = read_number(children[name][1])
            assert last[name], f"{name} has ended by itself"
        for _ in range(chance.randrange(2000)):
            pass  # somewhere within the next call
        child, out = children.pop(name)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        while number := read_number(out):
            last[name] = number
        os.close(out)
        contents = file.read()
        assert contents.broken == []
        assert contents.jobs["precious"]["n"] == 0
        for each, number in last.items():
            assert number == 0 or int(str(contents.jobs[each]["n"])) >= number, (each, number)
    for child, _ in children.values():
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    file.append([line("end", 1)])
    file.compact(force=True)
    contents = file.read()
    assert (contents.torn, contents.broken, contents.lines) == (False, [], 14)


def read_number(fd: int) -> int:
    return int.from_bytes(os.read(fd, 8), "little")


def test_of_two_that_write_at_once_any_may_be_killed_at_any_moment(tmp_path: Path) -> None:
    program = f"from tests.crash.test_sidecar import kill_many; kill_many({os.fspath(tmp_path)!r})"
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-4000:]
