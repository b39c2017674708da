"""Whatever comes in between: nobody waits for somebody who waits for him.

A notification waits inside the kernel for requests in the same directory and on the same file; a request waits for
those before it. Here jobs come and go below and through the mount, while processes make, move, remove, list, read, map
and lock, and the server is held up wherever that may hurt (``tests.support.hostile``). If nobody gets on for
``STILL_S`` that is a deadlock. ``SIGFS_DEADLOCK_STEPS`` sets how much each process does (150 unless it is set),
``SIGFS_DEADLOCK_SEED`` the seed.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import multiprocessing
import multiprocessing.connection
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.outcome import has_failed
from tests.support.projects import add_job, job_id, make_project
from tests.support.server import Server

STEPS = int(os.environ.get("SIGFS_DEADLOCK_STEPS", "150"))
SEED = int(os.environ.get("SIGFS_DEADLOCK_SEED", str(random.SystemRandom().randrange(1 << 32))))
STILL_S = 30.0
CLIENTS = 6
ALWAYS = [{"a": a, "b": b} for a in range(3) for b in range(3)]


class HostileServer(Server):
    """A server whose threads are held up at random."""

    def command(self) -> Sequence[str]:
        command = list(super().command())
        at = command.index("sigfs")
        return [*command[:at], "tests.support.hostile", str(SEED), *command[at + 1 :]]


def below(project: str, dice: random.Random) -> None:
    """Have a job come or go below."""
    statepoint = {"a": dice.randrange(6), "b": dice.randrange(6), **({"c": 1} if dice.random() < 0.2 else {})}
    if statepoint in ALWAYS:
        return
    if dice.random() < 0.5:
        add_job(project, statepoint)
    else:
        shutil.rmtree(os.path.join(project, "workspace", job_id(statepoint)), ignore_errors=True)


def through(top: str, dice: random.Random) -> None:
    """Do one thing in the mount. What it comes to is no matter here."""
    job = os.path.join(top, "a", str(dice.randrange(6)), "b", str(dice.randrange(6)))
    always = os.path.join(top, "a", str(dice.randrange(3)), "b", str(dice.randrange(3)))
    name, other = (os.path.join(always, f"{kind}{dice.randrange(3)}") for kind in ("x", "y"))
    actions: list[Callable[[], object]] = [
        lambda: os.listdir(top),
        lambda: [entry.stat() for entry in os.scandir(os.path.dirname(job))],
        lambda: list(os.walk(os.path.join(top, "a"))),
        lambda: os.stat(job),
        lambda: os.stat(os.path.join(job, "signac_statepoint.json")),
        lambda: os.makedirs(job),  # a new job, in a virtual directory about which the kernel is told of it
        lambda: shutil.rmtree(job) if job != always and dice.random() < 0.5 else None,
        lambda: os.rename(job, os.path.join(top, "a", "7", "b", str(dice.randrange(4)))),
        lambda: os.mkdir(name),
        lambda: os.rmdir(name),
        lambda: write(name),
        lambda: write(other),
        lambda: os.link(name, other),
        lambda: os.rename(name, other),
        lambda: os.rename(always + "/shared", name),
        lambda: os.unlink(other),
        lambda: Path(name).read_bytes(),
        lambda: map_and_lock(os.path.join(always, "shared")),
    ]
    with contextlib.suppress(OSError):
        dice.choice(actions)()


def write(path: str) -> None:
    with open(path, "ab") as file:
        file.write(b"data" * 2000)
        file.flush()
        os.fsync(file.fileno())


def map_and_lock(path: str) -> None:
    """Read through a mapping and through read(2) under a lock, before which the kernel is told to forget the data."""
    with open(path, "a+b") as file:
        file.write(b"data")
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        with mmap.mmap(file.fileno(), 0) as mapped:
            mapped[0:1] = b"d"
            assert len(mapped[:])
        file.seek(0)
        file.read()
        fcntl.lockf(file, fcntl.LOCK_EX)


def work(number: int, project: str, top: str, steps: Any) -> None:
    """Be one of the processes; 0 works below."""
    dice = random.Random(SEED + number)
    for _ in range(STEPS):
        below(project, dice) if number == 0 else through(top, dice)
        steps[number] += 1


@pytest.fixture(params=["passthrough", "nopassthrough"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[HostileServer]:
    made = HostileServer("kernel", make_project(str(tmp_path / "project"), *ALWAYS), request.param)
    made.may_say = "cannot be"  # what is refused of writes to the view is said in the log
    made.start()
    try:
        yield made
        if not has_failed(request.node):
            made.stop()
    finally:
        made.kill()


def test_hostile_timing_brings_nothing_to_a_stand(server: HostileServer) -> None:
    print(f"SIGFS_DEADLOCK_SEED={SEED}")
    context = multiprocessing.get_context("spawn")
    steps = context.Array("L", CLIENTS, lock=False)
    processes = [
        context.Process(target=work, args=(number, server.project, server.mountpoint, steps), daemon=True)
        for number in range(CLIENTS)
    ]
    for process in processes:
        process.start()
    last, since_s = list(steps), time.monotonic()
    while any(process.is_alive() for process in processes):
        multiprocessing.connection.wait([process.sentinel for process in processes if process.is_alive()], 0.2)
        if list(steps) != last:
            last, since_s = list(steps), time.monotonic()
        elif time.monotonic() - since_s > STILL_S:
            pytest.fail(f"nobody gets on, at {last}:\n{stacks(server, [process.pid for process in processes])}")
    assert [process.exitcode for process in processes] == [0] * CLIENTS
    assert list(steps) == [STEPS] * CLIENTS


def stacks(server: HostileServer, clients: Sequence[int | None]) -> str:
    """Say what everybody is at."""
    assert server.process is not None
    server.process.send_signal(signal.SIGUSR1)
    time.sleep(1.0)
    text = server.log()
    for pid in clients:
        with contextlib.suppress(OSError):
            text += f"client {pid}:\n{Path(f'/proc/{pid}/stack').read_text()}\n"
    return text
