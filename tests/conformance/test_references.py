"""Every reference that the kernel has taken is given back when the kernel forgets (I3)."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support.drivers import STATEPOINTS
from tests.support.outcome import has_failed
from tests.support.projects import make_project
from tests.support.server import Server
from tests.support.wait import wait_until

NOT_ON = ("plain", "direct")
MS_REMOUNT = 32

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make the kernel forget")


class CountingServer(Server):
    """A server that can be asked what it holds."""

    def command(self) -> list[str]:
        return [sys.executable, "-m", "tests.support.counting", self.transport, self.project, self.mountpoint]

    def statistics(self) -> dict[str, int]:
        assert self.process is not None
        assert self.process.stdin is not None
        lines = len(self.log().splitlines())
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()
        wait_until(lambda: len(self.log().splitlines()) > lines and self.log().endswith("\n"))
        found: dict[str, int] = json.loads(self.log().splitlines()[-1])
        return found

    def make_the_kernel_forget(self) -> None:
        """Have the kernel drop every name of this mount that is not in use: a remount does."""
        if ctypes.CDLL(None, use_errno=True).mount(None, os.fsencode(self.mountpoint), None, MS_REMOUNT, None):
            raise OSError(ctypes.get_errno(), "remount")


@pytest.fixture
def server(request: pytest.FixtureRequest, driver: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = CountingServer(driver, make_project(str(tmp_path_factory.mktemp("base") / "project"), *STATEPOINTS))
    made.start()
    try:
        yield made
        if not has_failed(request.node):
            made.stop()
    finally:
        made.kill()


def _is_clean(server: CountingServer) -> bool:
    server.make_the_kernel_forget()
    held = server.statistics()
    return (held["inodes"], held["open_files"], held["open_directories"]) == (1, 0, 0)


WORK = """
set -e
cd "$0/n/0"
mkdir -p a/b/c; for n in 1 2 3 4 5 6 7 8 9; do echo $n > a/b/$n; ln a/b/$n a/$n; done
ln -s b a/link; mkfifo a/fifo
ls -lR . > /dev/null; find . -type f | xargs cat > /dev/null
mv a/b/1 a/b/c/1; mv a/b a/moved; mv a ../1/a; cp -a ../1/a a; rm -r ../1/a
ls missing 2> /dev/null || true; mkdir a 2> /dev/null || true; rmdir a 2> /dev/null || true
(exec 3<> a/moved/2; rm a/moved/2; echo x >&3)
rm -r a; ls -lR "$0" > /dev/null
"""


def test_after_much_work_only_the_root_is_held_once_the_kernel_forgets(server: CountingServer) -> None:
    subprocess.run(["bash", "-c", WORK, server.mountpoint], check=True)
    wait_until(lambda: _is_clean(server), what="all references to be given back")
    assert os.listdir(os.path.join(server.mountpoint, "n")) == ["0", "1"]


def test_what_is_open_stays_held_and_resolvable_until_closed(server: CountingServer) -> None:
    with open(os.path.join(server.mountpoint, "n/0/file"), "w+b", 0) as file:
        server.make_the_kernel_forget()
        assert server.statistics()["open_files"] == 1
        file.write(b"held")
        file.seek(0)
        assert file.read() == b"held"
    wait_until(lambda: _is_clean(server), what="all references to be given back")
    assert server.statistics()["jobs"] == 2
