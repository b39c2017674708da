"""Where the server may have few descriptors, programs can open few files, and all else goes on."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.errors import raises
from tests.support.outcome import has_failed
from tests.support.projects import job_id, make_project
from tests.support.server import Server
from tests.support.wait import wait_until

pytestmark = pytest.mark.fuse

LIMIT = 200
JOBS = 60


class PoorServer(Server):
    """A server that may have few files open."""

    def __init__(self, transport: str, project: str, limit: int) -> None:
        super().__init__(transport, project, "attr_timeout=0", "entry_timeout=0")
        self.limit = limit
        self.may_say = "RLIMIT_NOFILE"

    def command(self) -> Sequence[str]:
        return ["prlimit", f"--nofile={self.limit}:{self.limit}", *super().command()]


@pytest.fixture(params=["kernel", "llfuse", "fusepy"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[PoorServer]:
    project = make_project(str(tmp_path / "project"), *({"a": a} for a in range(JOBS)))
    made = PoorServer(request.param, project, LIMIT)
    try:
        made.start()
        yield made
        if not has_failed(request.node):
            made.stop()
    finally:
        made.kill()


def test_who_opens_too_many_files_is_told_and_nobody_else_is_disturbed(server: PoorServer) -> None:
    top = Path(server.mountpoint)
    held: list[int] = []
    try:
        with raises(errno.ENFILE):
            while len(held) < LIMIT:
                held.append(os.open(top / "a/0" / f"file{len(held)}", os.O_RDWR | os.O_CREAT))
        assert len(held) > LIMIT // 4
        if server.transport == "kernel":  # with which locks are those of the disk below
            with raises(errno.ENOLCK):
                for fd in held:
                    fcntl.lockf(fd, fcntl.LOCK_EX)
        below = Path(server.project, "workspace", job_id({"a": 0}))
        assert len(os.listdir(below)) == len(held) + 1  # what could not be opened was not made
        assert sorted(os.listdir(top / "a"), key=int) == [str(a) for a in range(JOBS)]
        for a in range(JOBS):
            assert (top / "a" / str(a) / "signac_statepoint.json").stat().st_size > 0
        for number, fd in enumerate(held):
            assert os.write(fd, b"data") == 4
            assert (top / "a/0" / f"file{number}").stat().st_size == 4
        (top / "a/1/directory").mkdir()
        os.rename(top / "a/0/file0", top / "a/1/moved")
        assert server.log().count("can be opened until some are closed") == 1
        for fd in held[:3]:
            os.close(fd)
        del held[:3]
        wait_until(lambda: is_readable(top / "a/1/moved"), what="a descriptor")  # closed by the kernel a moment later
    finally:
        for fd in held:
            os.close(fd)
    wait_until(lambda: is_readable(top / "a/1/moved"))
    assert len(os.listdir(top / "a/0")) == len(held) + 3


def is_readable(path: Path) -> bool:
    try:
        return path.read_bytes() == b"data"
    except OSError as error:
        if error.errno != errno.ENFILE:
            raise
        return False


def test_too_low_a_limit_is_refused_in_plain_words(tmp_path: Path) -> None:
    project = make_project(str(tmp_path / "project"), {"a": 1})
    server = PoorServer("kernel", project, 40)
    try:
        done = subprocess.run(server.command(), capture_output=True, text=True, timeout=60)
    finally:
        server.kill()
    assert done.returncode == 1
    assert "ulimit -n" in done.stderr
    assert "Traceback" not in done.stderr
