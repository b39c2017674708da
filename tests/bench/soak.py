"""Serve a great many requests of every kind, and see what has grown: ``python -m tests.bench.soak``.

``--requests 10000000`` says how many; ``--passthrough`` leaves reading and writing to the kernel; ``--names 1000000``
has the kernel look up so many names instead, and forget them. Prints what the server had at several points, each after
the kernel was made to forget what is not in use; the first of them is after a fifth of the requests, when all that is
filled once has been filled. ``--idle 10`` tells what a mount costs that nobody uses for so many seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import json
import mmap
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from tests.bench.harness import ROOT, python
from tests.support.projects import make_project
from tests.support.server import Server
from tests.support.wait import wait_until

POINTS: Final = 5
_JOBS: Final = 40  # a in 0..9, b in 0..3
_PLAIN_MEMORY: Final = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "131072"}
"""For the C library of the server: the buffers of threads that come and go are given back, and not kept for others."""
_MS_REMOUNT: Final = 32
_BLOCK: Final = 8192


@dataclass(frozen=True)
class Point:
    """What the server had at one moment.

    Attributes:
        requests: that it had answered.
        resident_bytes: of its memory.
        inodes, open_files: of which it kept books.
        stuck: threads that wait for the disk.
        seconds, processor_s: since it began; the latter of the server alone.
    """

    requests: int
    resident_bytes: int
    descriptors: int
    threads: int
    inodes: int
    open_files: int
    stuck: int
    seconds: float
    processor_s: float


@contextlib.contextmanager
def mounted(*options: str) -> Iterator[Server]:
    """A mounted project; strict at the end."""
    os.environ.update(_PLAIN_MEMORY)
    base = tempfile.mkdtemp(prefix="sigfs-soak-")
    statepoints = [{"a": a, "b": b} for a in range(_JOBS // 4) for b in range(4)]
    server = Server("kernel", make_project(os.path.join(base, "project"), *statepoints), *options)
    try:
        server.start()
        yield server
        server.stop()
    finally:
        server.kill()
        shutil.rmtree(base)
        for name in _PLAIN_MEMORY:
            del os.environ[name]


def soak(requests: int, *, passthrough: bool = False, clients: int = 1, looks: int = 0) -> list[Point]:
    """Have a mount answer at least so many requests; give what it had at ``POINTS`` points.

    Args:
        looks: how often in each round some files are looked up and opened besides, some 13 requests each time.
    """
    with mounted("passthrough" if passthrough else "nopassthrough", "entry_timeout=0", "attr_timeout=0") as server:
        begun_s = time.monotonic()
        found: list[Point] = []
        processes = [_start(server, number, looks) for number in range(clients)]
        try:
            for point in range(1, POINTS + 1):
                while (done := _requests(server)) < requests * point // POINTS:
                    # as many rounds as may be missing, but no more than a second's worth or so
                    rounds = 1 + min(50, (requests * point // POINTS - done) // ((600 + 13 * looks) * clients))
                    for process in processes:
                        _say(process, str(rounds))
                    for process in processes:
                        _hear(process)
                found.append(_look(server, begun_s))
        finally:
            for process in processes:
                with contextlib.suppress(OSError):
                    _say(process, "0")
                process.communicate(timeout=60)
        assert _children(server) == [], "it has left processes behind"
        return found


def names(count: int) -> list[Point]:
    """Have the kernel look up *count* names of virtual directories, and forget them: before, with them, and after."""
    with mounted() as server:
        begun_s = time.monotonic()
        for number in range(1000):
            os.stat(os.path.join(server.mountpoint, f"a@gt/-0.{number + 1}"))
        found = [_look(server, begun_s)]
        for number in range(count):
            os.stat(os.path.join(server.mountpoint, f"a@lt/{number + 10}.5"))
        found.append(_look(server, begun_s, forgotten=False))
        found.append(_look(server, begun_s))
        return found


def idle(seconds: float) -> float:
    """Give the processor time in s that a mount takes in *seconds* in which nobody wants anything of it."""
    with mounted() as server:
        soaked = _start(server, 0, 0)
        _say(soaked, "5")
        _hear(soaked)
        _say(soaked, "0")
        soaked.communicate(timeout=60)
        time.sleep(1)
        before = _processor_s(server)
        time.sleep(seconds)
        return _processor_s(server) - before


def forget(mountpoint: str) -> None:
    """Have the kernel drop every name of a mount that is not in use: a remount does."""
    if ctypes.CDLL(None, use_errno=True).mount(None, os.fsencode(mountpoint), None, _MS_REMOUNT, None):
        raise OSError(ctypes.get_errno(), "remount")


def _look(server: Server, begun_s: float, *, forgotten: bool = True) -> Point:
    assert server.process is not None
    process = f"/proc/{server.process.pid}"
    if forgotten:
        forget(server.mountpoint)
        with contextlib.suppress(TimeoutError):  # as far as it goes: the books say the rest
            wait_until(lambda: _status(server)["inodes"] <= 4, 20)
    status = _status(server)
    with open(f"{process}/status", encoding="ascii") as file:
        said = {name: value for name, _, value in (line.partition(":") for line in file)}
    with open(f"{process}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return Point(
        requests=status["requests"],
        resident_bytes=int(said["VmRSS"].split()[0]) * 1024,
        descriptors=len(os.listdir(f"{process}/fd")),
        threads=int(said["Threads"]),
        inodes=status["inodes"],
        open_files=status["open_files"],
        stuck=status["stuck"],
        seconds=time.monotonic() - begun_s,
        processor_s=(int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"),
    )


def _processor_s(server: Server) -> float:
    """Give the processor time that the server's threads of now have taken so far: more exact than that of all."""
    assert server.process is not None
    total_ns = 0
    for thread in os.listdir(f"/proc/{server.process.pid}/task"):
        with (
            contextlib.suppress(OSError),
            open(f"/proc/{server.process.pid}/task/{thread}/schedstat", encoding="ascii") as file,
        ):
            total_ns += int(file.read().split()[0])
    return total_ns / 1e9


def _status(server: Server) -> dict[str, int]:
    found: dict[str, int] = json.loads(os.getxattr(server.mountpoint, "user.sigfs.status"))
    return found


def _requests(server: Server) -> int:
    return _status(server)["requests"]


def _children(server: Server) -> list[str]:
    assert server.process is not None
    with open(f"/proc/{server.process.pid}/task/{server.process.pid}/children", encoding="ascii") as file:
        return file.read().split()


# The client, a process of its own


def _start(server: Server, number: int, looks: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        python("-m", "tests.bench.soak", "--client", server.mountpoint, str(number), str(looks)),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def _say(process: subprocess.Popen[bytes], text: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{text}\n".encode())
    process.stdin.flush()


def _hear(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline(), "the client has ended"


def _serve_rounds(top: str, number: int, looks: int) -> None:
    turn = 0
    for line in sys.stdin:
        rounds = int(line)
        if not rounds:
            return
        for _ in range(rounds):
            _round(top, number, turn)
            for _ in range(looks):
                _look_around(top, turn)
            turn += 1
        print(flush=True)


def _round(top: str, number: int, turn: int) -> None:
    """Some 200 requests of every kind that programs make."""
    job = os.path.join(top, "a", str(turn % 10), "b", str(turn % 4))
    _in_views(top, number, turn)
    work = os.path.join(job, f"work{number}")
    os.mkdir(work)
    _in_files(work)
    _in_names(work)
    os.rmdir(work)


def _look_around(top: str, turn: int) -> None:
    """Some 13 requests that cost little."""
    job = os.path.join(top, "a", str(turn % 10), "b", str(turn % 4))
    path = os.path.join(job, "signac_statepoint.json")
    for _ in range(4):
        os.stat(path)
    with contextlib.suppress(FileNotFoundError):
        os.stat(f"{path}.none")
    os.close(os.open(path, os.O_RDONLY))


def _in_views(top: str, number: int, turn: int) -> None:
    for a in range(0, 10, 3):
        with os.scandir(os.path.join(top, "a", str(a), "b")) as entries:
            for entry in entries:
                entry.stat()
    with contextlib.suppress(FileNotFoundError):
        os.stat(os.path.join(top, "a", f"{turn}.25"))
    os.stat(os.path.join(top, f"a@lt/{turn % 50}.5/b"))
    os.statvfs(top)
    os.getxattr(os.path.join(top, "a/1"), "user.sigfs.count")
    os.listxattr(top)
    with open(os.path.join(top, ".sigfs/status.json"), "rb") as file:
        file.read()
    if turn % 8 == 0:  # a job comes, moves and goes
        new = os.path.join(top, "a", "10", "b", f"{number}0{turn % 7}")
        os.makedirs(new)
        os.rename(new, f"{new}1")
        shutil.rmtree(f"{new}1")


def _in_files(work: str) -> None:
    path = os.path.join(work, "file")
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    os.write(fd, bytes(_BLOCK))
    os.pwrite(fd, b"data", _BLOCK)
    os.ftruncate(fd, 2 * _BLOCK)
    os.posix_fallocate(fd, 0, 2 * _BLOCK)
    with contextlib.suppress(OSError):
        os.lseek(fd, 0, os.SEEK_HOLE)
    os.fdatasync(fd)
    os.pread(fd, 100, 0)
    fcntl.lockf(fd, fcntl.LOCK_EX)
    fcntl.lockf(fd, fcntl.LOCK_UN)
    fcntl.flock(fd, fcntl.LOCK_EX)
    with mmap.mmap(fd, _BLOCK) as mapping:
        mapping[:4] = b"page"
        mapping.flush()
    copy = os.open(f"{path}.copy", os.O_RDWR | os.O_CREAT)
    os.copy_file_range(fd, copy, _BLOCK, 0, 0)
    os.close(copy)
    os.close(fd)
    for _ in range(3):
        with open(path, "rb") as file:
            file.read()
    with open(path, "ab") as file:
        file.write(b"more")
    with contextlib.suppress(OSError):
        os.close(os.open(work, os.O_TMPFILE | os.O_RDWR))
    os.truncate(path, 10)
    os.chmod(path, 0o600)
    os.utime(path)
    os.setxattr(path, "user.soak", b"value")
    os.getxattr(path, "user.soak")
    os.listxattr(path)
    os.removexattr(path, "user.soak")
    open_and_gone = os.open(f"{path}.gone", os.O_RDWR | os.O_CREAT)
    os.unlink(f"{path}.gone")
    os.fstat(open_and_gone)
    os.close(open_and_gone)
    os.unlink(f"{path}.copy")
    os.unlink(path)


def _in_names(work: str) -> None:
    for name in range(6):
        os.close(os.open(os.path.join(work, f"n{name}"), os.O_WRONLY | os.O_CREAT))
    os.rename(os.path.join(work, "n0"), os.path.join(work, "m0"))
    os.rename(os.path.join(work, "n1"), os.path.join(work, "n2"))
    os.link(os.path.join(work, "n3"), os.path.join(work, "l3"))
    os.symlink("n3", os.path.join(work, "s3"))
    os.readlink(os.path.join(work, "s3"))
    os.mkfifo(os.path.join(work, "fifo"))
    with socket.socket(socket.AF_UNIX) as made:
        here = os.open(work, os.O_RDONLY | os.O_DIRECTORY)
        made.bind(f"/proc/self/fd/{here}/socket")
        os.fsync(here)
        os.close(here)
    os.mkdir(os.path.join(work, "d"))
    with contextlib.suppress(FileNotFoundError):
        os.stat(os.path.join(work, "none"))
    with os.scandir(work) as entries:
        for entry in entries:
            entry.stat(follow_symlinks=False)
            (os.rmdir if entry.is_dir(follow_symlinks=False) else os.unlink)(entry.path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print what was found as a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=200_000, metavar="N")
    parser.add_argument("--clients", type=int, default=1, metavar="N")
    parser.add_argument("--passthrough", action="store_true")
    parser.add_argument("--names", type=int, metavar="N")
    parser.add_argument("--idle", type=float, metavar="S")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--looks", type=int, default=0, metavar="N", help="in each round, beside everything else")
    parser.add_argument("--client", nargs=3, help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.client:
        _serve_rounds(chosen.client[0], *map(int, chosen.client[1:]))
        return
    if chosen.idle:
        print(f"{idle(chosen.idle) * 1000:.1f} ms of processor time in {chosen.idle:g} s")
        return
    if chosen.names:
        found = names(chosen.names)
    else:
        found = soak(chosen.requests, passthrough=chosen.passthrough, clients=chosen.clients, looks=chosen.looks)
    rows = [asdict(point) for point in found]
    if chosen.json:
        print(json.dumps(rows))
        return
    for row in rows:
        print("  ".join(f"{name} {value:,.1f}" if isinstance(value, float) else f"{name} {value:,}"
                        for name, value in row.items()))  # fmt: skip


if __name__ == "__main__":
    main()
