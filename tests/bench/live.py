"""How soon a mount shows what happened below it, as root and as an ordinary user.

The server, the process that watches and, for the storm, the process that writes are three. As the user, all of it
runs with the user's rights in a mount namespace where everybody may open /dev/fuse.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from hashlib import md5

from tests.bench import data
from tests.bench.harness import OURS, ROOT, Aim, Context, Measure, python
from tests.support.server import Server
from tests.support.users import ordinary_user

_PATIENCE_S = 30.0
_POLL_S = 0.0003
_STORM = 10_000
_HELD = 17_000  # more events than max_queued_events, by default 16384


def as_root(context: Context, jobs: int) -> Iterator[Measure]:
    if os.geteuid() != 0:
        raise RuntimeError("this part needs root")
    with context.scratch() as base:
        command = python("-m", "tests.bench.live", base, str(jobs), "root", str(int(context.quick)))
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    yield from _measures(done)


def as_user(context: Context, jobs: int) -> Iterator[Measure]:
    if os.geteuid() != 0:
        raise RuntimeError("only root can make a user")
    with ordinary_user() as user:
        command = user.as_user(
            user.python, "-m", "tests.bench.live", user.home, str(jobs), "user", str(int(context.quick))
        )
        done = subprocess.run(command, cwd=user.repository, env=user.environment, stdout=subprocess.PIPE, text=True)
    yield from _measures(done)


def _measures(done: subprocess.CompletedProcess[str]) -> Iterator[Measure]:
    """Give what the process has measured, even if it did not come to its end."""
    for line in done.stdout.splitlines():
        kept = json.loads(line)
        aims = [Aim(**aim) for aim in kept.pop("aims")]
        yield Measure(**kept, aims=aims)
    if done.returncode:
        raise RuntimeError(f"the process that measures ended with status {done.returncode}; see its last words above")


class _Below:
    """A writer beside the mount, that writes documents as signac does: a temporary file, renamed."""

    def __init__(self, workspace: str) -> None:
        self.fd = os.open(workspace, os.O_PATH | os.O_DIRECTORY)

    def job(self, seed: int) -> str:
        text = json.dumps({"seed": seed})
        name = md5(text.encode()).hexdigest()
        os.mkdir(name, dir_fd=self.fd)
        data.write_file(f"{name}/{data.STATEPOINT}", text.encode(), self.fd)
        return name

    def document(self, name: str, said: dict[str, object]) -> None:
        temporary = f"{name}/._{secrets.token_hex(4)}_{data.DOCUMENT}"
        data.write_file(temporary, json.dumps(said).encode(), self.fd)
        os.rename(temporary, f"{name}/{data.DOCUMENT}", src_dir_fd=self.fd, dst_dir_fd=self.fd)


def _waited_ms(path: str, since: float) -> float:
    """Look until *path* is there; a look every third of a millisecond, so as not to measure the looking."""
    while not os.path.exists(path):
        if time.perf_counter() - since > _PATIENCE_S:
            raise TimeoutError(f"{os.path.basename(path)} did not appear within {_PATIENCE_S} s")
        time.sleep(_POLL_S)
    return (time.perf_counter() - since) * 1e3


def _until(what: str, condition: Callable[[], bool], patience_s: float = 120.0) -> float:
    """Give the seconds until *condition* holds."""
    begin = time.perf_counter()
    while not condition():
        if time.perf_counter() - begin > patience_s:
            raise TimeoutError(f"not within {patience_s} s: {what}")
        time.sleep(0.002)
    return time.perf_counter() - begin


def _processor_s(pid: int) -> float:
    """Give the processor time of a process so far."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _count(mountpoint: str) -> int:
    return int(os.getxattr(mountpoint, "user.sigfs.count"))


def _emit(measure: Measure) -> None:
    print(json.dumps(asdict(measure)), flush=True)


def _child(base: str, jobs: int, who: str, quick: bool) -> None:
    """Measure all, and print each measure as one line of JSON."""
    project = os.path.join(base, "project")
    workspace = data.make_project(project)
    ids = data.fill(workspace, range(jobs))
    time.sleep(2.5)  # nothing is racily young
    server = Server("kernel", project)
    try:
        server.start()
        assert server.process is not None
        below = _Below(workspace)
        _latencies(server, below, jobs, who, list(ids), quick)
        _storm(server, below, workspace, jobs, who, quick)
        _overflow(server, below, jobs, who, list(ids), quick)
        server.stop()
    finally:
        server.kill()


def _latencies(server: Server, below: _Below, jobs: int, who: str, ids: list[str], quick: bool) -> None:
    times = 20 if quick else 300 if jobs <= 10_000 else 60
    aims = [Aim("most", 5), Aim("most", 100, statistic="99 %")]
    samples = []
    for number in range(times):
        path = os.path.join(server.mountpoint, "seed", str(-1 - number))
        assert not os.path.exists(path)  # the kernel now knows that it is not there
        below.job(-1 - number)
        samples.append(_waited_ms(path, time.perf_counter()))
    _emit(Measure(f"a new job is in the mount, {who}", jobs, "ms", {OURS: samples}, aims))
    os.path.exists(os.path.join(server.mountpoint, "doc.status", "done"))  # from now on documents matter
    _until("documents to be read", lambda: os.path.exists(os.path.join(server.mountpoint, "doc.status", "done")))
    time.sleep(1)
    samples = []
    for number in range(times):
        name = ids[number * 7919 % len(ids)]
        path = os.path.join(server.mountpoint, "doc.mark", str(number))
        assert not os.path.exists(path)
        below.document(name, {"mark": number, "status": "done"})
        samples.append(_waited_ms(path, time.perf_counter()))
        time.sleep(0.003)
    _emit(Measure(f"a written document is in the mount, {who}", jobs, "ms", {OURS: samples}, aims))


def _storm(server: Server, below: _Below, workspace: str, jobs: int, who: str, quick: bool) -> None:
    """Let another process make 10,000 jobs as fast as it can."""
    assert server.process is not None
    storm = _STORM // 10 if quick else _STORM
    missing, cost_us, lag_s, rates = [], [], [], []
    for turn in range(1 if quick else 3):
        before, spent = _count(server.mountpoint), _processor_s(server.process.pid)
        first = 10_000_000 * (turn + 1)
        command = python("-m", "tests.bench.live", "--storm", workspace, str(first), str(storm))
        written = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        with contextlib.suppress(TimeoutError):
            _until("the storm to be seen", lambda before=before: _count(server.mountpoint) == before + storm, 60)
        lag_s.append(time.monotonic() - written["ended"])
        rates.append(storm / written["took_s"])
        seen = set(os.listdir(os.path.join(server.mountpoint, ".jobs")))
        missing.append(float(len(set(written["ids"]) - seen)))
        cost_us.append((_processor_s(server.process.pid) - spent) / storm * 1e6)
    note = f"{storm} jobs, {sum(rates) / len(rates):.0f} a second"
    worst = Aim("most", 0, statistic="largest")
    _emit(Measure(f"storm of jobs, missing, {who}", jobs, "jobs", {OURS: missing}, [worst], note, growth=False))
    _emit(Measure(f"storm of jobs, server, {who}", jobs, "µs/job", {OURS: cost_us}, [Aim("most", 40)], note))
    _emit(Measure(f"storm of jobs, all seen after the last, {who}", jobs, "s", {OURS: lag_s}, note=note))


def _overflow(server: Server, below: _Below, jobs: int, who: str, ids: list[str], quick: bool) -> None:
    """Hold the server until the event queue has overflowed, and let it go on."""
    assert server.process is not None
    held = 100 if quick else _HELD
    samples = []
    for turn in range(1 if quick else 3):
        before = _count(server.mountpoint)
        first = 100_000_000 * (turn + 1)
        os.kill(server.process.pid, signal.SIGSTOP)
        try:
            for number in range(held):
                below.job(first + number)
            for number in range(50):
                below.document(ids[(turn * 50 + number) * 104729 % len(ids)], {"held": first + number})
        finally:
            os.kill(server.process.pid, signal.SIGCONT)
        begin = time.perf_counter()
        _until("the count to be right", lambda before=before: _count(server.mountpoint) == before + held)
        for number in range(50):
            _waited_ms(os.path.join(server.mountpoint, "doc.held", str(first + number)), time.perf_counter())
        samples.append(time.perf_counter() - begin)
    note = f"{held} jobs and 50 documents while the server was stopped"
    _emit(Measure(f"all is true again after an overflow, {who}", jobs, "s", {OURS: samples}, [Aim("most", 0.5)], note))


def _write_storm(workspace: str, first: int, count: int) -> None:
    below = _Below(workspace)
    begin = time.monotonic()
    ids = [below.job(number) for number in range(first, first + count)]
    ended = time.monotonic()
    print(json.dumps({"ids": ids, "took_s": ended - begin, "ended": ended}))


if __name__ == "__main__":
    if sys.argv[1] == "--storm":
        _write_storm(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    else:
        _child(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4] == "1")
