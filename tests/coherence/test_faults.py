"""What goes wrong with a mount, or around it, has an outcome: no process hangs or stays behind, and no byte is lost.

``docs/administration.md`` lists them, and which test is whose.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import sigfs
from sigfs.api.project import Project
from tests.coherence.conftest import ROOT, Mounts, gone, is_mounted
from tests.support.outcome import unavailable
from tests.support.server import unmount
from tests.support.wait import wait_until

pytestmark = pytest.mark.fuse

Wait = Callable[[Path], None]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "mnt"


def below(project: Project, a: int, b: str, name: str) -> Path:
    return Path(project.open({"a": a, "b": b}).fn(name))


@pytest.mark.parametrize("passthrough", ["passthrough", "nopassthrough"])
def test_a_server_that_is_killed_takes_nothing_with_it_that_was_written(
    mounts: Mounts, project: Project, place: Path, passthrough: str
) -> None:
    mounts.mount(project, place, "-o", passthrough)
    job = place / "b/x/a/1"
    (job / "closed").write_bytes(b"closed")
    still_open = os.open(job / "open", os.O_RDWR | os.O_CREAT)
    mapped = os.open(job / "mapped", os.O_RDWR | os.O_CREAT)
    try:
        os.write(still_open, b"written, and neither closed nor synchronised")
        os.ftruncate(mapped, 4096)
        with mmap.mmap(mapped, 4096) as mapping:
            mapping[:6] = b"synced"
            mapping.flush()
            mounts.kill(place)
        with pytest.raises(OSError, match="connect") as caught:
            os.listdir(place)
        assert caught.value.errno == errno.ENOTCONN
        for descriptor in (still_open, mapped):  # those that are open end, or go on where the kernel does the work
            with contextlib.suppress(OSError):
                os.pread(descriptor, 1, 0)
    finally:
        for descriptor in (still_open, mapped):
            with contextlib.suppress(OSError):
                os.close(descriptor)
    assert below(project, 1, "x", "closed").read_bytes() == b"closed"
    assert below(project, 1, "x", "open").read_bytes() == b"written, and neither closed nor synchronised"
    assert below(project, 1, "x", "mapped").read_bytes()[:6] == b"synced"
    assert "cleared the mount" in mounts.mount(project, place)
    assert (job / "open").read_bytes() == b"written, and neither closed nor synchronised"


@pytest.mark.parametrize("moment", ["sigfs.index.store.Store.load", "sigfs.transports.kernel.Transport.serve"])
def test_a_server_that_is_killed_while_it_starts_leaves_nothing(
    mounts: Mounts, project: Project, place: Path, moment: str
) -> None:
    place.mkdir()
    module, kind, method = moment.rsplit(".", 2)
    shim = (
        f"import os, signal, {module} as module\n"
        f"module.{kind}.{method} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "from sigfs.cli import main; main()"
    )
    command = [sys.executable, "-c", shim, "mount", project.root, str(place)]
    done = subprocess.run(command, env=mounts.environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "the log is" in done.stderr
    assert not is_mounted(place)
    place.rmdir()
    mounts.mount(project, place)
    assert os.listdir(place) == ["b"]


def test_a_mount_outlives_the_session_in_which_it_was_made(mounts: Mounts, project: Project, place: Path) -> None:
    place.mkdir()
    mounts._places.append(str(place))
    child, terminal = pty.fork()
    if child == 0:  # the leader of a session, which has a terminal
        command = f"{sys.executable} -m sigfs mount {project.root} {place} && exec sleep 600"
        os.execve("/bin/sh", ["sh", "-c", command], mounts.environment())
    try:
        wait_until(lambda: is_mounted(place) and mounts.status(place)["state"] == "alive")
    finally:
        os.close(terminal)  # it is hung up
        os.waitpid(child, 0)
    pid = mounts.pid(place)
    assert os.getsid(pid) != child
    assert not gone(pid)
    assert os.listdir(place) == ["b"]


def test_jobs_go_with_the_workspace_and_return_with_it(
    mounts: Mounts, project: Project, place: Path, appears: Wait, disappears: Wait
) -> None:
    mounts.mount(project, place)
    workspace = Path(project.workspace.path)
    job = place / "b/x/a/1"
    with open(job / "data", "w+b", buffering=0) as file:
        file.write(b"before")
        workspace.rename(workspace.with_name("elsewhere"))
        disappears(job)
        wait_until(lambda: os.listdir(place) == [])
        file.write(b", meanwhile")
        assert os.pread(file.fileno(), 100, 0) == b"before, meanwhile"
        workspace.with_name("elsewhere").rename(workspace)
        appears(job)
        wait_until(lambda: os.listdir(place) == ["b"])
        file.write(b" and after")
    assert (job / "data").read_bytes() == b"before, meanwhile and after"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a disk")
def test_a_mount_goes_on_where_its_index_has_no_room(
    mounts: Mounts, project: Project, place: Path, tmp_path: Path
) -> None:
    mounts.may_warn = True
    full = tmp_path / "full"
    full.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k,nr_inodes=8", "none", full]).returncode != 0:
        unavailable("no tmpfs can be mounted")
    try:
        (full / "filler").write_bytes(bytes(4096))
        with contextlib.suppress(OSError), open(full / "filler", "ab", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        mounts.mount(project, place, "--state-dir", str(full))
        project.open({"a": 9, "b": "x"})
        wait_until((place / "b/x/a/9").is_dir)
        (place / "b/x/a/9/data").write_text("data")
        assert below(project, 9, "x", "data").read_text() == "data"
        assert mounts.sigfs("umount", place).returncode == 0
    finally:
        unmount(str(full))


CHANGE = """
import os, sys, sigfs
top, number, times = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
shared = os.path.join(top, "b/x/a/1")
for turn in range(times):
    with sigfs.Job(shared).doc.transaction() as doc:
        doc[f"by{number}"] = doc.get(f"by{number}", 0) + 1
        doc.n = doc.get("n", 0) + 1
    with open(os.path.join(shared, "log"), "ab", buffering=0) as file:
        file.write(b"%d %d\\n" % (number, turn))
    made = os.path.join(top, "b/x/a", str(1000 * number + turn))
    os.makedirs(made)
    with open(os.path.join(made, "file"), "w") as file:
        file.write(made)
    os.rename(made, made + "0")
"""


def test_two_mounts_of_one_project_that_write_the_same_jobs_lose_nothing(
    mounts: Mounts, project: Project, place: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    mounts.mount(project, place)
    mounts.mount(project, other)
    times = 6
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", CHANGE, str(top), str(number), str(times)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        for number, top in enumerate((place, other, place, other), 1)
    ]
    assert [writer.wait() for writer in writers] == [0] * 4
    job = project.open({"a": 1, "b": "x"})
    assert job.doc == {"n": 4 * times, **{f"by{number}": times for number in range(1, 5)}}
    lines = below(project, 1, "x", "log").read_text().splitlines()
    assert sorted(lines) == sorted(f"{number} {turn}" for number in range(1, 5) for turn in range(times))
    made = {10 * (1000 * number + turn) for number in range(1, 5) for turn in range(times)}
    for top in (place, other):
        wait_until(lambda top=top: {int(a) for a in os.listdir(top / "b/x/a")} == made | {1, 2, 3})  # type: ignore[misc]
        assert mounts.sigfs("umount", top).returncode == 0
    found = sigfs.get_project(project.root)
    assert {job.sp.a for job in found.find({"b": "x"})} == made | {1, 2, 3}
    assert all(os.path.isfile(job.fn("file")) for job in found.find({"a.$gt": 9}))
    found.check()
    verified = mounts.sigfs("index", "verify", "-p", project.root)
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_only_one_of_two_that_mount_at_one_place_at_once_does(mounts: Mounts, project: Project, place: Path) -> None:
    mounts.may_warn = True
    place.mkdir()
    mounts._places.append(str(place))
    command = [sys.executable, "-m", "sigfs", "mount", project.root, str(place)]
    both = [
        subprocess.Popen(
            command, env=mounts.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    said = [each.communicate(timeout=120)[1] for each in both]
    assert sorted(each.returncode for each in both) == [0, 5], said
    assert os.listdir(place) == ["b"]
    assert mounts.sigfs("umount", place).returncode == 0
    assert not is_mounted(place)
