"""Mounts made by the real command ``sigfs mount``, in the background as a user makes them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sigfs.api.project import Project, init_project
from sigfs.transports.mounts import mounted as mount_at
from tests.support import outcome
from tests.support.server import require
from tests.support.wait import wait_until

ROOT = Path(__file__).parents[2]
SUSPICIOUS = re.compile(r"WARNING|ERROR|CRITICAL|Traceback")
COMMAND_S = 120.0


class Mounts:
    """The command line and what has been mounted with it."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._servers: dict[int, str] = {}  # pid of a background server -> its mount point
        self._foreground: list[subprocess.Popen[str]] = []
        self._places: list[str] = []
        self.may_warn = False  # the test expects warnings in the log

    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "HOME": str(self._home),
            "XDG_STATE_HOME": str(self._home / "state"),
            "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
        }

    def sigfs(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "sigfs", *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            env=self.environment(),
        )

    def mount(self, project: Project, place: Path, *options: str) -> str:
        """Mount in the background; gives what the command said."""
        if str(place) not in self._places:
            place.mkdir()
            self._places.append(str(place))
        result = self.sigfs("mount", *options, project.root, place)
        assert result.returncode == 0, result.stderr
        self._servers[self.pid(place)] = str(place)
        return result.stdout + result.stderr

    def pid(self, place: Path) -> int:
        """Give the process number of a background server."""
        pid = self.status(place)["pid"]
        assert isinstance(pid, int)
        return pid

    def status(self, place: Path) -> dict[str, object]:
        (row,) = json.loads(self.sigfs("status", "--json", place).stdout)
        assert isinstance(row, dict)
        return row

    def start(self, project: Project, place: Path, *options: str) -> subprocess.Popen[str]:
        """Mount in the foreground; gives the process once it has greeted."""
        place.mkdir()
        self._places.append(str(place))
        process = subprocess.Popen(
            [sys.executable, "-m", "sigfs", "mount", "-f", *options, project.root, str(place)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment(),
        )
        self._foreground.append(process)
        wait_until(lambda: is_mounted(place) or process.poll() is not None)
        assert process.poll() is None, process.communicate()
        return process

    def kill(self, place: Path) -> None:
        """Kill the server of *place*, so that its mount is dead."""
        pid = self.pid(place)
        assert self._servers.pop(pid) == str(place)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: gone(pid))

    def log(self) -> str:
        """Give all that background servers have logged."""
        return "".join(path.read_text() for path in sorted(self._home.glob("state/sigfs/log/*.log*")))

    def finish(self) -> None:
        """Unmount what still is mounted, strictly."""
        for place in dict.fromkeys(self._places):
            if is_mounted(place):
                result = self.sigfs("umount", place)
                assert result.returncode == 0, result.stderr
        for pid in self._servers:
            wait_until(lambda pid=pid: gone(pid))  # type: ignore[misc]
        for process in self._foreground:
            assert process.wait(COMMAND_S) == 0
        assert not any(is_mounted(place) for place in self._places)

    def clear(self) -> None:
        """Get rid of everything in whatever state it is."""
        for place in dict.fromkeys(self._places):
            for _ in range(3):
                if is_mounted(place):
                    subprocess.run(["umount", "-l", place], capture_output=True, timeout=COMMAND_S)
        for process in self._foreground:
            process.kill()
            process.communicate()
        for pid, place in self._servers.items():
            if not gone(pid) and place.encode() in command_line(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def gone(pid: int) -> bool:
    """Tell whether a process has ended; one that nobody has collected yet counts."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def is_mounted(place: str | Path) -> bool:
    return mount_at(str(place)) is not None


@pytest.fixture
def mounts(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Mounts]:
    """Mounting, strict after a pass and merciless after a failure."""
    require("kernel")
    made = Mounts(tmp_path / "home")
    try:
        yield made
        if not outcome.has_failed(request.node):
            made.finish()
            assert made.may_warn or not SUSPICIOUS.search(made.log()), made.log()
    finally:
        made.clear()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project of six jobs: a in 1, 2, 3 and b in x, y."""
    made = init_project(str(tmp_path / "project"))
    for a in (1, 2, 3):
        for b in ("x", "y"):
            made.open({"a": a, "b": b})
    return made


@pytest.fixture
def appears() -> Callable[[Path], None]:
    """Wait until a path is there."""

    def wait(path: Path) -> None:
        wait_until(lambda: os.path.lexists(path), what=f"{path} to appear")

    return wait


@pytest.fixture
def disappears() -> Callable[[Path], None]:
    """Wait until a path is gone."""

    def wait(path: Path) -> None:
        wait_until(lambda: not os.path.lexists(path), what=f"{path} to disappear")

    return wait
