"""The works that are timed, the same for all: calls in a loop in C, and the programs that people run.

Owned here: what is done, and what is made ready before. What a work makes stays until the store is gone. It is given
the contestant whose turn it is and gives seconds and how often something was done; whatever it needs is remade before
and not timed.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from tests.bench.fs_mounts import Mounted, Stage
from tests.bench.harness import Aim

MIB = 1 << 20
_SMALL = 2000  # names that a loop of calls makes or opens
_RECENTLY_DELETED_S = 6.0  # ext4: five seconds
_NUMBERS = itertools.count(1)
_MANY_JOBS = 1000  # that are copied


@dataclass(frozen=True)
class Done:
    """What one turn gave: seconds, and how often (1: a program)."""

    wall_s: float
    count: int


@dataclass(frozen=True)
class Work:
    """One row.

    Attributes:
        run: makes ready, does it once.
        unit: of one sample: "µs" a call, "ms" a mebibyte, "s" a program.
        aims: of sigfs as root.
        removes: whether files are removed in great number.
    """

    name: str
    unit: str
    run: Callable[[Bench, Mounted], Done]
    aims: tuple[Aim, ...]
    removes: bool = False


class Bench:
    """What a work has at hand."""

    def __init__(self, stage: Stage, client: str, *, quick: bool = False, at_once: int = 1) -> None:
        """Take over what is mounted.

        Args:
            client: path of the program with the loops.
            at_once: how many processes share the calls of a loop.
        """
        self.stage = stage
        self.quick = quick
        self.at_once = at_once
        self._client = client
        self.small = 100 if quick else _SMALL
        self.many_jobs = min(stage.jobs, 50 if quick else _MANY_JOBS)
        self.file_mib = 8 if quick else 128

    def calls(self, mode: str, paths: Sequence[str], repeats: int = 1) -> Done:
        """Do one thing to each path, in C."""
        at_once = self.at_once
        inputs = ["".join(path + "\n" for path in paths[turn::at_once]) for turn in range(at_once)]
        commands = [[self._client, mode, str(repeats)]] * at_once
        return self._together(commands, inputs)

    def data(self, mode: str, block: int, order: str, count: int, how: str, path: str) -> Done:
        """Read or write one file, in C; several at once have a file each, if they write."""
        paths = [path if mode == "read" or turn == 0 else f"{path}-{turn}" for turn in range(self.at_once)]
        each = count // self.at_once if order == "random" or mode == "write" else count
        commands = [[self._client, mode, str(block), order, str(each), how, path] for path in paths]
        return self._together(commands, [""] * len(commands))

    def _together(self, commands: Sequence[Sequence[str]], inputs: Sequence[str]) -> Done:
        pipe, popen = subprocess.PIPE, self.stage.user.popen()
        running = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, **popen) for command in commands]  # type: ignore[call-overload]
        for process, text in zip(running, inputs, strict=True):
            process.stdin.write(text)
            process.stdin.flush()
        for process in running:  # they begin when there is nothing more to come
            process.stdin.close()
        said = [process.stdout.read().split() for process in running]
        for process, command in zip(running, commands, strict=True):
            process.stdout.close()
            if process.wait():
                raise RuntimeError(f"{' '.join(command[:6])} ended with status {process.returncode}")
        first, last = min(int(begin) for _, begin, _ in said), max(int(end) for _, _, end in said)
        return Done((last - first) * 1e-9, sum(int(count) for count, _, _ in said))

    def program(self, command: Sequence[str], cwd: str, given: Iterable[str] = ()) -> Done:
        """Run a program to its end, what it says thrown away."""
        with tempfile.TemporaryFile("w+") as file:
            file.writelines(line + "\n" for line in given)
            file.seek(0)
            begin = time.perf_counter()
            done = subprocess.run(
                ["env", "-C", cwd, *command], stdin=file, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                env={**os.environ, "LC_ALL": "C"}, **self.stage.user.popen(),
            )  # type: ignore[call-overload]  # fmt: skip
            wall_s = time.perf_counter() - begin
        if done.returncode:
            raise RuntimeError(f"{' '.join(command[:4])} ended with status {done.returncode}: {done.stderr[-500:]}")
        return Done(wall_s, 1)

    # Making ready: done on the disk, without the contestants' knowing

    def file(self, of: Mounted) -> str:
        """Give a contestant's own large file, whose data is in memory below."""
        path = os.path.join(of.ours, "large")
        below = self.stage.below(path, of)
        if not os.path.exists(below):
            with open(below, "wb") as file:
                file.writelines(os.urandom(MIB) for _ in range(self.file_mib))
                os.fsync(file.fileno())
            os.chown(below, self.stage.user.uid, self.stage.user.gid)
        with open(below, "rb") as file:
            while file.read(MIB):
                pass
        return path

    def nothing_in_memory(self, of: Mounted) -> str:
        path = self.file(of)
        fd = os.open(self.stage.below(path, of), os.O_RDONLY)
        try:
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)
        return path

    def empty(self, of: Mounted, name: str) -> str:
        """Give a new empty directory on the disk, known to nobody."""
        path = os.path.join(of.ours, f"{name}-{next(_NUMBERS)}")
        below = self.stage.below(path, of)
        os.mkdir(below)
        os.chown(below, self.stage.user.uid, self.stage.user.gid)
        return path

    def settle(self) -> None:
        """Wait until ext4 gives inodes of removed files away again: till then each creation looks through them all."""
        if not self.quick:
            time.sleep(_RECENTLY_DELETED_S)

    def names(self, directory: str) -> list[str]:
        return [os.path.join(directory, f"name-{number:05}") for number in range(self.small)]

    def with_names(self, of: Mounted, kind: str) -> list[str]:
        """Give the paths of new empty files or directories."""
        directory = self.empty(of, kind)
        paths = self.names(directory)
        for path in paths:
            below = self.stage.below(path, of)
            if kind == "files":
                with open(below, "wb"):
                    pass
            else:
                os.mkdir(below)
            os.chown(below, self.stage.user.uid, self.stage.user.gid)
        return paths

    def archive(self) -> str:
        """Give a tar file of jobs."""
        path = os.path.join(self.stage.base, "jobs.tar")
        if not os.path.exists(path):
            of = self.stage.mounted["disk"]
            jobs = [os.path.relpath(of.job(number), of.root) for number in range(self.many_jobs)]
            subprocess.run(["tar", "-C", of.root, "-cf", path, *jobs], check=True)
            os.chmod(path, 0o644)
        return path

    def repository(self, of: Mounted) -> str:
        """Give a git repository of a thousand jobs' files, its index up to date."""
        path = os.path.join(of.ours, "repository")
        if not os.path.exists(self.stage.below(path, of)):
            for command in (
                ["mkdir", path],
                ["tar", "-C", path, "-xf", self.archive()],
                ["git", "-C", path, "init", "-q"],
                ["git", "-C", path, "add", "."],
                ["git", "-C", path, "-c", "user.name=x", "-c", "user.email=x@x", "commit", "-qm", "jobs"],
            ):
                self.program(command, "/")
        self.program(["git", "-C", path, "status"], "/")
        return path


# What is aimed at

_DATA = (Aim("faster", 0.9, ("disk",)), Aim("faster", 2, ("bindfs",)))
_WARM = (Aim("faster", 1, ("bindfs",)),)
_WARM_STAT = (Aim("faster", 0.9, ("disk",)), *_WARM)
_PLAIN = (Aim("faster", 1, ("llfuse",)), Aim("faster", 1.5, ("fusepy",)))
_CACHE_WINS = (Aim("faster", 1, ("bindfs",)), *_PLAIN)
_ELSEWHERE = (Aim("faster", 0.8, ("bindfs",)), *_PLAIN)
AS_USER = (Aim("faster", 0.8, ("bindfs",)),)


def _read(order: str, block: int, how: str, *, ready: bool = True) -> Callable[[Bench, Mounted], Done]:
    def run(bench: Bench, of: Mounted) -> Done:
        path = bench.file(of) if ready else bench.nothing_in_memory(of)
        count = bench.file_mib * MIB // block
        count = min(count, 8192) if order == "random" else count
        in_memory = how == "keep" or (ready and of.server is None)  # what is below the disk is the disk
        if in_memory:
            bench.data("read", MIB, "sequential", bench.file_mib, "keep", path)
        done = bench.data("read", block, order, count, "keep" if in_memory else "drop", path)
        return Done(done.wall_s, done.count if block < MIB and order != "mapped" else done.count * block // MIB)

    return run


def _write(block: int, mib: int, how: str) -> Callable[[Bench, Mounted], Done]:
    def run(bench: Bench, of: Mounted) -> Done:
        directory = bench.empty(of, "written")
        size = 8 if bench.quick else mib
        done = bench.data("write", block, "sequential", size * MIB // block, how, os.path.join(directory, "file"))
        of.forget_names()
        shutil.rmtree(bench.stage.below(directory, of))
        return done

    return run


def _stat(*, virtual: bool, warm: bool) -> Callable[[Bench, Mounted], Done]:
    def run(bench: Bench, of: Mounted) -> Done:
        count = bench.stage.jobs if not warm else min(bench.stage.jobs, 1000)
        paths = [of.job(n) if virtual else os.path.join(of.flat, f"{n:05}") for n in range(count)]
        if not warm:
            of.forget_names()
            return bench.calls("stat", paths)
        bench.calls("stat", paths)
        return bench.calls("stat", paths, 20)

    return run


def _open(bench: Bench, of: Mounted) -> Done:
    paths = [os.path.join(of.flat, f"{number:05}") for number in range(min(bench.small, bench.stage.jobs))]
    of.forget_names()
    return bench.calls("open", paths)


def _made(mode: str) -> Callable[[Bench, Mounted], Done]:
    def run(bench: Bench, of: Mounted) -> Done:
        directory = bench.empty(of, mode)
        return bench.calls(mode, bench.names(directory))

    return run


def _changed(mode: str, kind: str) -> Callable[[Bench, Mounted], Done]:
    def run(bench: Bench, of: Mounted) -> Done:
        paths = bench.with_names(of, kind)
        return bench.calls(mode, paths)

    return run


def _listed(*, virtual: bool, warm: bool) -> Callable[[Bench, Mounted], Done]:
    def run(bench: Bench, of: Mounted) -> Done:
        command, place = ["ls", "-l", of.jobs if virtual else of.flat], "/"
        of.forget_names()
        done = bench.program(command, place)
        return bench.program(command, place) if warm else done

    return run


def _found(*, warm: bool) -> Callable[[Bench, Mounted], Done]:
    def run(bench: Bench, of: Mounted) -> Done:
        work = os.path.dirname(of.ours)
        command = ["find", of.jobs, "(", "-path", work, "-prune", ")", "-o", "-print"]
        of.forget_names()
        done = bench.program(command, "/")
        return bench.program(command, "/") if warm else done

    return run


def _relative(bench: Bench, of: Mounted) -> list[str]:
    return [os.path.relpath(of.job(number), of.jobs) for number in range(bench.many_jobs)]


def _copied(bench: Bench, of: Mounted) -> Done:
    to = bench.empty(of, "copy")
    of.forget_names()
    return bench.program(["cp", "-r", "-t", to, *_relative(bench, of)], of.jobs)


def _tarred(bench: Bench, of: Mounted) -> Done:
    of.forget_names()
    return bench.program(["sh", "-c", "tar -cf - -T - | cat"], of.jobs, _relative(bench, of))


def _synced(bench: Bench, of: Mounted) -> Done:
    to = bench.empty(of, "rsync")
    of.forget_names()
    return bench.program(["rsync", "-ar", "--files-from=-", of.jobs + "/", to], "/", _relative(bench, of))


def _unpacked(bench: Bench, of: Mounted) -> Done:
    to = bench.empty(of, "untar")
    return bench.program(["tar", "-C", to, "-xf", bench.archive()], "/")


def _removed(bench: Bench, of: Mounted) -> Done:
    directory = bench.empty(of, "removed")
    below = bench.stage.below(directory, of)
    subprocess.run(["tar", "-C", below, "-xf", bench.archive()], check=True)
    subprocess.run(["chown", "-R", f"{bench.stage.user.uid}:{bench.stage.user.gid}", below], check=True)
    return bench.program(["rm", "-r", directory], "/")


def _status(bench: Bench, of: Mounted) -> Done:
    path = bench.repository(of)
    of.forget_names()
    return bench.program(["git", "-C", path, "status"], "/")


PARTS: dict[str, tuple[Work, ...]] = {
    "data": (
        Work("sequential read, from disk", "µs/MiB", _read("sequential", MIB, "drop", ready=False), _DATA),
        Work("sequential read, in memory below", "µs/MiB", _read("sequential", MIB, "drop"), _DATA),
        Work("sequential read, cached", "µs/MiB", _read("sequential", MIB, "keep"), _DATA),
        Work("random 4 KiB read, in memory below", "µs", _read("random", 4096, "drop"), _DATA),
        Work("random 4 KiB read, cached", "µs", _read("random", 4096, "keep"), _DATA),
        Work("mmap read, in memory below", "µs/MiB", _read("mapped", MIB, "drop"), _DATA),
        Work("mmap read, cached", "µs/MiB", _read("mapped", MIB, "keep"), _DATA),
        Work("sequential write, cached", "µs/MiB", _write(MIB, 64, "keep"), _DATA),
        Work("sequential write and fsync", "µs/MiB", _write(MIB, 64, "sync"), _DATA),
        Work("4 KiB writes", "µs", _write(4096, 16, "keep"), _DATA),
    ),
    "names": (
        Work("stat, warm", "µs", _stat(virtual=False, warm=True), _WARM_STAT),
        Work("stat of jobs, warm", "µs", _stat(virtual=True, warm=True), _WARM_STAT),
        Work("stat, cold", "µs", _stat(virtual=False, warm=False), _ELSEWHERE),
        Work("stat of jobs, cold", "µs", _stat(virtual=True, warm=False), _ELSEWHERE),
        Work("open, read, close", "µs", _open, _ELSEWHERE),
        Work("create", "µs", _made("create"), _ELSEWHERE),
        Work("unlink", "µs", _changed("unlink", "files"), _ELSEWHERE, removes=True),
        Work("mkdir", "µs", _made("mkdir"), _ELSEWHERE),
        Work("rmdir", "µs", _changed("rmdir", "directories"), _ELSEWHERE, removes=True),
        Work("rename", "µs", _changed("rename", "files"), _ELSEWHERE),
    ),
    "walks": (
        Work("ls -l of 10,000 jobs, cold", "s", _listed(virtual=True, warm=False), _CACHE_WINS),
        Work("ls -l of 10,000 jobs, warm", "s", _listed(virtual=True, warm=True), _WARM),
        Work("ls -l of 10,000 files, cold", "s", _listed(virtual=False, warm=False), _CACHE_WINS),
        Work("ls -l of 10,000 files, warm", "s", _listed(virtual=False, warm=True), _WARM),
        Work("find, 10,000 jobs of 3 files, cold", "s", _found(warm=False), _CACHE_WINS),
        Work("find, 10,000 jobs of 3 files, warm", "s", _found(warm=True), _WARM),
    ),
    "programs": (
        Work("cp -r of 1,000 jobs", "s", _copied, _ELSEWHERE),
        Work("tar of 1,000 jobs", "s", _tarred, _ELSEWHERE),
        Work("rsync of 1,000 jobs", "s", _synced, _ELSEWHERE),
        Work("untar of 1,000 jobs", "s", _unpacked, _ELSEWHERE),
        Work("rm -r of 1,000 jobs", "s", _removed, _ELSEWHERE, removes=True),
        Work("git status of 3,000 files", "s", _status, _CACHE_WINS),
    ),
}

AT_ONCE = tuple(
    work
    for part in ("data", "names")
    for work in PARTS[part]
    if work.name not in ("sequential read, from disk", "mmap read, in memory below", "sequential write and fsync")
)
"""What eight processes do at once. Left out is what the one disk or one cache decides."""


def samples(done: Done, unit: str) -> float:
    """Give a sample in its unit."""
    return done.wall_s if unit == "s" else done.wall_s / done.count * 1e6


def everything(parts: Iterable[str]) -> Iterator[tuple[str, Work]]:
    for part in parts:
        for work in PARTS[part]:
            yield part, work
