"""Measuring side by side, and saying what came out.

Owned here: how contestants take turns, what is kept of it (`Measure`), how it is judged (`Aim`) and spelled. Nothing
asserts a time.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Literal, NamedTuple, TypeAlias

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
OURS = "sigfs"

_SHORTEST_S = 0.002  # a sample of something short is the mean over at least this long
_PACKAGES = ("signac", "orjson", "pyroaring", "sortedcontainers", "xxhash")

Clock: TypeAlias = Literal["wall", "cpu"]


@dataclass(frozen=True)
class Aim:
    """What is aimed at.

    Attributes:
        kind: "faster": the quickest peer takes at least *limit* times as long; "within": at most *limit* times as
            long as the peer; "most": at most *limit* in the measure's unit.
        statistic: of the samples of sigfs; peers count by their median.
    """

    kind: Literal["faster", "within", "most"]
    limit: float
    peers: tuple[str, ...] = ()
    statistic: Literal["median", "99 %", "largest"] = "median"


@dataclass
class Measure:
    """The samples of one measure at one size.

    Attributes:
        name: what is measured, the same at each size.
        jobs: size of the project.
        unit: of the samples: "µs/job", "s", "bytes/job", ...
        samples: by contestant; the first is what is judged.
        note: anything else worth saying about it, in a few words.
        growth: whether it is drawn over the number of jobs.
    """

    name: str
    jobs: int
    unit: str
    samples: dict[str, list[float]]
    aims: list[Aim] = field(default_factory=list)
    note: str = ""
    growth: bool = True

    def median(self, contestant: str) -> float:
        return statistics.median(self.samples[contestant])

    @property
    def ours(self) -> str:
        return next(iter(self.samples))


@dataclass(frozen=True)
class Context:
    """What every part is given.

    Attributes:
        base: a directory for projects, images and results.
        rounds: how often each contestant takes its turn, where a turn is short.
        quick: only to see that it runs.
    """

    base: str
    rounds: int = 7
    quick: bool = False

    def fewer(self, at_most: int) -> int:
        """Give the number of rounds where a turn is long."""
        return min(self.rounds, at_most)

    @contextlib.contextmanager
    def scratch(self) -> Iterator[str]:
        """Give a directory that is removed again."""
        with tempfile.TemporaryDirectory(dir=self.base, prefix="scratch-") as path:
            yield path


Part: TypeAlias = Callable[[Context, int], Iterable[Measure]]


class Spent(NamedTuple):
    """Seconds that something took; returned by a contestant that measures itself."""

    wall: float
    cpu: float


class Times(NamedTuple):
    """Samples in seconds by contestant."""

    wall: dict[str, list[float]]
    cpu: dict[str, list[float]]

    def scaled(self, clock: Clock, factor: float) -> dict[str, list[float]]:
        return {name: [value * factor for value in values] for name, values in getattr(self, clock).items()}


def take_turns(
    contestants: Mapping[str, Callable[[], object]],
    rounds: int,
    check: Callable[[dict[str, object]], None] | None = None,
    before: Callable[[], None] | None = None,
    short: bool = False,
) -> Times:
    """Run A B C A B C ... and time each.

    The garbage collector is on for all, and what was there before a turn is none of its business. Giving back what a
    turn made is not timed.

    Args:
        check: given what each returned in the first round; raises where they disagree.
        before: called before each turn, not timed.
        short: take the mean over many calls as one sample.
    """
    times = Times({name: [] for name in contestants}, {name: [] for name in contestants})
    repeats = dict.fromkeys(contestants, 1)
    for number in range(rounds):
        returned = {}
        for name, contestant in contestants.items():
            if before is not None:
                before()
            spent, result = _turn(contestant, repeats[name])
            if short and number == 0:
                while spent.wall < _SHORTEST_S:
                    repeats[name] = max(repeats[name] * 2, int(repeats[name] * _SHORTEST_S / max(spent.wall, 1e-7)))
                    spent, result = _turn(contestant, repeats[name])
            times.wall[name].append(spent.wall / repeats[name])
            times.cpu[name].append(spent.cpu / repeats[name])
            returned[name] = result if number == 0 and check is not None else None
            del result
        if number == 0 and check is not None:
            check(returned)
    return times


def _turn(contestant: Callable[[], object], repeats: int) -> tuple[Spent, object]:
    gc.collect()
    gc.freeze()
    result: object = None
    try:
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(repeats):
            result = contestant()
        spent = Spent(time.perf_counter() - wall, time.process_time() - cpu)
    finally:
        gc.unfreeze()
    return (result, result) if isinstance(result, Spent) else (spent, result)


def each(calls: Iterable[Callable[[], object]], unit_s: float = 1e-6) -> list[float]:
    """Time each call once; for what cannot be repeated."""
    gc.freeze()
    try:
        samples = []
        for call in calls:
            begin = time.perf_counter()
            call()
            samples.append((time.perf_counter() - begin) / unit_s)
    finally:
        gc.unfreeze()
    return samples


def floor_program(base: str) -> str:
    """Compile the C loops; give the path of the program."""
    program = os.path.join(base, "floor")
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "floor.c")
    if not os.path.exists(program) or os.stat(program).st_mtime < os.stat(source).st_mtime:
        subprocess.run(["gcc", "-O2", "-o", program + "~", source], check=True)
        os.replace(program + "~", program)
    return program


def floor(program: str, mode: str, workspace: str) -> Spent:
    """Run one of the C loops."""
    done = subprocess.run([program, mode, workspace], check=True, capture_output=True, text=True)
    jobs, wall_us, cpu_us = done.stdout.split()
    return Spent(float(wall_us) * int(jobs) * 1e-6, float(cpu_us) * int(jobs) * 1e-6)


def same_ids(answers: Mapping[str, object]) -> None:
    """Assert that all contestants found the same jobs."""
    found = {name: sorted(answer) for name, answer in answers.items()}  # type: ignore[call-overload]
    first = next(iter(found))
    for name, ids in found.items():
        assert ids == found[first], f"{name} finds {len(ids)} jobs, {first} {len(found[first])}"


def machine(base: str) -> str:
    """Describe the machine without naming it."""
    with open("/proc/meminfo", encoding="ascii") as file:
        memory_gb = int(file.readline().split()[1]) / 1e6
    packages = []
    for name in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            packages.append(f"{name} {version(name)}")
    kind = subprocess.run(["stat", "-f", "-c", "%T", base], capture_output=True, text=True).stdout.strip()
    return (
        f"{os.cpu_count()} processors, {memory_gb:.0f} GB, {kind.replace('ext2/ext3', 'ext4')}, "
        f"Linux {platform.release().partition('-')[0]}, Python {platform.python_version()}, {', '.join(packages)}"
    )


# What came out


class Verdict(NamedTuple):
    target: str
    ratio: str
    result: str


def judge(measure: Measure, aim: Aim) -> Verdict:
    """Say what is aimed at, and whether it is met."""
    value = _statistic(measure.samples[measure.ours], aim.statistic)
    which = "" if aim.statistic == "median" else f"{aim.statistic} "
    if aim.kind == "most":
        target = f"{which}≤ {_number(aim.limit)} {measure.unit}"
        return Verdict(target, "", _result(value, aim.limit, value <= aim.limit))
    peer = min(aim.peers, key=measure.median)
    if aim.kind == "faster":
        ratio = measure.median(peer) / value
        target, met = f"≥ {_number(aim.limit)} ×", ratio >= aim.limit
    else:
        ratio = value / measure.median(peer)
        target, met = f"≤ {_number(aim.limit)} ×", ratio <= aim.limit
    return Verdict(target, f"{_number(ratio)} ×", _result(ratio, aim.limit, met))


def _statistic(samples: list[float], statistic: str) -> float:
    if statistic == "largest":
        return max(samples)
    if statistic == "99 %":
        ordered = sorted(samples)
        return ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return statistics.median(samples)


def _result(value: float, limit: float, met: bool) -> str:
    if met:
        return "met"
    if not limit or not value:
        return f"missed: {_number(value)}"
    factor = max(value / limit, limit / value)
    return f"missed by a factor of {_number(factor)}" if factor > 2 else f"missed by {_number((factor - 1) * 100)} %"


def _number(value: float) -> str:
    if value == 0 or value != value:
        return "0" if value == 0 else "–"
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.3g}"


def _size(jobs: int) -> str:
    return f"{jobs // 1_000_000}M" if jobs >= 1_000_000 else f"{jobs // 1000}k" if jobs >= 1000 else str(jobs)


def judgements(measures: Iterable[Measure]) -> list[tuple[str, ...]]:
    """Give the table of what is aimed at: measure, jobs, n, median, against, ratio, target, result."""
    table = []
    for measure in measures:
        ours = f"{_number(measure.median(measure.ours))} {measure.unit}"
        for aim in measure.aims:
            peers = "; ".join(f"{peer} {_number(measure.median(peer))}" for peer in aim.peers)
            verdict = judge(measure, aim)
            if aim.statistic != "median":
                ours = f"{_number(_statistic(measure.samples[measure.ours], aim.statistic))} {measure.unit}"
            n = str(len(measure.samples[measure.ours]))
            table.append(
                (measure.name, _size(measure.jobs), n, ours, peers, verdict.ratio, verdict.target, verdict.result)
            )
    return table


JUDGED = ("measure", "jobs", "n", "sigfs, median", "peer, median", "ratio", "target", "result")


def growth(measures: Iterable[Measure]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Give the medians of all contestants over the sizes: the head of a table and its rows."""
    measures = list(measures)
    sizes = sorted({measure.jobs for measure in measures})
    table: dict[tuple[str, str, str], dict[int, str]] = {}
    for measure in measures:
        for contestant in measure.samples:
            row = table.setdefault((measure.name, contestant, measure.unit), {})
            row[measure.jobs] = _number(measure.median(contestant))
    rows = [(*name, *(row.get(size, "") for size in sizes)) for name, row in table.items()]
    return ("measure", "of", "unit", *map(_size, sizes)), rows


def markdown(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Spell a table."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def plain(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Spell a table for a terminal."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def replace_between(text: str, name: str, content: str) -> str:
    """Put *content* between the two comments that name a place in a page.

    Raises:
        ValueError: there is no such place.
    """
    begin, end = f"<!-- measured: {name} -->", f"<!-- end: {name} -->"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"there is no place for {name}")
    return pattern.sub(lambda _: f"{begin}\n{content.strip()}\n{end}", text)


def save(path: str, measures: list[Measure], failure: str | None, done: bool) -> None:
    """Keep what has been measured."""
    with open(path + "~", "w", encoding="utf-8") as file:
        json.dump({"done": done, "failure": failure, "measures": [asdict(measure) for measure in measures]}, file)
    os.replace(path + "~", path)


def load(path: str) -> tuple[list[Measure], str | None, bool]:
    """Read back what `save` has kept: measures, what failed, whether it went to its end."""
    with open(path, encoding="utf-8") as file:
        data = json.load(file)
    measures = []
    for kept in data["measures"]:
        aims = [Aim(**{**aim, "peers": tuple(aim["peers"])}) for aim in kept.pop("aims")]
        measures.append(Measure(**kept, aims=aims))
    return measures, data["failure"], data["done"]


def python(*arguments: str) -> list[str]:
    """Give the command line of a Python that can import this repository from its root."""
    return [sys.executable, *arguments]
