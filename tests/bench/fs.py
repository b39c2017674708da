"""Measure the file system side by side with its peers: ``python -m tests.bench.fs``, as root.

Compared are sigfs, bindfs, a plain pass-through with llfuse and one with fusepy, and the disk below, all mounted at
once over one ext4 and taking turns; and sigfs with its three transports. Each part runs in a process of its own; one
that fails is reported and the others go on. What a part has measured is kept in the directory that ``--keep`` names.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.bench import fs_work, harness
from tests.bench.fs_mounts import Stage, User, stage
from tests.bench.fs_work import AS_USER, AT_ONCE, Bench, Work
from tests.bench.harness import OURS, ROOT, Aim, Measure
from tests.support.users import ordinary_user

PAGE = os.path.join(ROOT, "docs", "performance.md")
_PROCESSES = 8


@dataclass(frozen=True)
class Part:
    """What runs in one process: some works, as root or as an ordinary user, alone or several at once."""

    works: tuple[Work, ...]
    as_user: bool = False
    at_once: int = 1
    against: tuple[str, ...] = ("bindfs", "llfuse", "fusepy")
    jobs: int | None = None  # default: as asked


PARTS = {
    **{name: Part(works) for name, works in fs_work.PARTS.items()},
    **{f"user-{name}": Part(works, as_user=True, against=("bindfs",)) for name, works in fs_work.PARTS.items()},
    # where names are never kept each of them takes so long that few are asked for
    "transports": Part(
        (*fs_work.PARTS["data"][1:5], *fs_work.PARTS["names"][4:]), against=("sigfs llfuse", "sigfs fusepy"), jobs=1000
    ),
    "at-once": Part(AT_ONCE, at_once=_PROCESSES, against=("bindfs",)),
}


def main() -> int:
    """Run what is asked for; 1 if some part failed."""
    arguments = _arguments()
    if arguments.part is not None:
        return _run_here(arguments)
    if os.geteuid() != 0:
        sys.exit("this needs root: a disk of its own, and a user who is made for it")
    base = os.path.abspath(arguments.keep) if arguments.keep else tempfile.mkdtemp(prefix="sigfs-bench-")
    results = os.path.join(base, "quick" if arguments.quick else "results")
    os.makedirs(results, exist_ok=True)
    try:
        print(harness.machine(base))
        for name in arguments.only or PARTS:
            _run(results, name, arguments)
        failed = _report(results, arguments.only or list(PARTS))
        if arguments.write:
            _write(results)
        return 1 if failed else 0
    finally:
        if not arguments.keep:
            shutil.rmtree(base)


def _arguments() -> argparse.Namespace:
    def words(text: str) -> list[str]:
        return text.split(",")

    parser = argparse.ArgumentParser(prog="python -m tests.bench.fs", description=__doc__)
    parser.add_argument("--only", type=words, metavar="PART,...", help=f"of: {', '.join(PARTS)}")
    parser.add_argument("--work", metavar="TEXT", help="only works whose name has this in it")
    parser.add_argument("--against", type=words, help="only these, beside sigfs and the disk")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each contestant")
    parser.add_argument("--jobs", type=int, default=10_000, help="jobs in the project")
    parser.add_argument("--quick", action="store_true", help="only see that it runs: few turns, few jobs")
    parser.add_argument("--keep", metavar="DIR", help="keep results here, and use those that are there")
    parser.add_argument("--resume", action="store_true", help="leave out what has results in DIR")
    parser.add_argument("--write", action="store_true", help="put tables of all results into the docs")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--results", help=argparse.SUPPRESS)
    parser.add_argument("--uid", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--gid", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only and set(arguments.only) - set(PARTS):
        parser.error(f"parts are: {', '.join(PARTS)}")
    if arguments.resume and not arguments.keep:
        parser.error("--resume needs --keep")
    if arguments.quick and arguments.write:
        parser.error("figures of a --quick run are good for nothing but to see that it runs: no --write")
    if arguments.quick:
        arguments.rounds, arguments.jobs = min(arguments.rounds, 2), min(arguments.jobs, 100)
    return arguments


def _result(results: str, name: str) -> str:
    return os.path.join(results, f"{name}.json")


def _run(results: str, name: str, arguments: argparse.Namespace) -> None:
    path = _result(results, name)
    if arguments.resume and os.path.exists(path) and harness.load(path)[2]:
        return
    begin = time.monotonic()
    harness.save(path, [], "it ended without a word", done=False)
    options = ["--part", name, "--results", path, "--rounds", str(arguments.rounds), "--jobs", str(arguments.jobs)]
    options += ["--quick"] if arguments.quick else []
    options += ["--work", arguments.work] if arguments.work else []
    options += ["--against", ",".join(arguments.against)] if arguments.against else []
    with contextlib.ExitStack() as stack:
        if PARTS[name].as_user:
            _run_as_user(stack, path, options)
        else:
            # a mount namespace of its own, so that nobody else looks into what is mounted, or keeps it busy
            unshared = ["unshare", "--mount", "--propagation", "slave"]
            subprocess.run([*unshared, *harness.python("-m", "tests.bench.fs", *options)], cwd=ROOT)
    _, failure, done = harness.load(path)
    print(f"{name}: {'done' if done else f'FAILED, {failure}'} ({time.monotonic() - begin:.0f} s)", flush=True)


def _run_as_user(stack: contextlib.ExitStack, path: str, options: list[str]) -> None:
    """Run a part in a mount namespace where an ordinary user may mount, and may read Python and this repository."""
    user = stack.enter_context(ordinary_user())
    command = user.in_namespace(
        user.python, "-m", "tests.bench.fs", *options, "--uid", str(user.uid), "--gid", str(user.gid)
    )
    subprocess.run(command, cwd=user.repository, env=user.environment)


def _run_here(arguments: argparse.Namespace) -> int:
    """Run one part in this process, keeping each measure as it comes."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # nothing may be left mounted
    part = PARTS[arguments.part]
    measures: list[Measure] = []
    try:
        with tempfile.TemporaryDirectory(prefix="sigfs-fs-", dir=(arguments.uid and "/tmp") or None) as base:
            os.chmod(base, 0o755)
            client = os.path.join(base, "client")
            source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fs_client.c")
            subprocess.run(["gcc", "-O2", "-o", client, source], check=True)
            against = arguments.against or part.against
            with stage(base, User(arguments.uid, arguments.gid), part.jobs or arguments.jobs, against) as made:
                for measure in _measure(made, client, part, arguments):
                    measures.append(measure)
                    harness.save(arguments.results, measures, "it did not come to its end", done=False)
                    print(_shortly(measure), flush=True)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is said, and the other parts go on
        traceback.print_exc()
        harness.save(arguments.results, measures, f"{type(error).__name__}: {error}".splitlines()[0], done=False)
        return 1
    harness.save(arguments.results, measures, None, done=True)
    return 0


def _measure(made: Stage, client: str, part: Part, arguments: argparse.Namespace) -> Iterator[Measure]:
    """Do each work in turns, the order of which moves on from round to round; a first round is not counted."""
    bench = Bench(made, client, quick=arguments.quick)
    together = Bench(made, client, quick=arguments.quick, at_once=part.at_once)
    for work in part.works:
        if arguments.work and arguments.work not in work.name:
            continue
        samples: dict[str, list[float]] = {}
        spent: dict[str, float] = {}
        turns = [(who.name, who, bench) for who in made.mounted.values()]
        if part.at_once > 1:
            turns = [
                (name if several is together else f"{name}, alone", who, several)
                for name, who, _ in turns
                if who.server is not None
                for several in (together, bench)
            ]
        for number in range(-1, arguments.rounds):
            start = number % len(turns)
            for name, who, how in turns[start:] + turns[:start]:
                before = who.processor_s()
                done = work.run(how, who)
                if number >= 0:
                    samples.setdefault(name, []).append(fs_work.samples(done, work.unit))
                    spent[name] = spent.get(name, 0.0) + who.processor_s() - before
        if work.removes:
            bench.settle()
        samples = {name: samples[name] for name, _, _ in turns}
        note = ", ".join(f"{name} {value / arguments.rounds:.3f}" for name, value in spent.items() if value)
        yield Measure(work.name, made.jobs, work.unit, samples, _aims(work, part, samples), note)


def _aims(work: Work, part: Part, samples: dict[str, list[float]]) -> list[Aim]:
    if part.at_once > 1:
        return [Aim("faster", 1, (f"{OURS}, alone",))]
    return [aim for aim in (AS_USER if part.as_user else work.aims) if set(aim.peers) <= set(samples)]


def _shortly(measure: Measure) -> str:
    medians = ", ".join(f"{name} {measure.median(name):.4g}" for name in measure.samples)
    verdicts = [harness.judge(measure, aim) for aim in measure.aims]
    judged = "; ".join(f"{aim.peers[0]} {v.ratio}: {v.result}" for aim, v in zip(measure.aims, verdicts, strict=True))
    return f"{measure.name} ({measure.unit}): {medians} | {judged} | server, s a turn: {measure.note}"


def _results(results: str, names: Sequence[str]) -> Iterator[tuple[str, list[Measure], str | None]]:
    for name in names:
        if os.path.exists(_result(results, name)):
            measures, failure, _ = harness.load(_result(results, name))
            yield name, measures, failure


def _tables(measures: Sequence[Measure]) -> Iterator[tuple[tuple[str, ...], list[tuple[str, ...]]]]:
    """Give what is aimed at, and the medians of everybody."""
    head, rows = harness.JUDGED, harness.judgements(measures)
    yield head[:1] + head[2:], [row[:1] + row[2:] for row in rows]
    names = list(dict.fromkeys(name for measure in measures for name in measure.samples))
    yield (
        ("measure", "unit", *names),
        [
            (m.name, m.unit, *(harness._number(m.median(name)) if name in m.samples else "" for name in names))
            for m in measures
        ],
    )


def _report(results: str, names: Sequence[str]) -> list[str]:
    """Print everything; give what failed."""
    failed = []
    for name, measures, failure in _results(results, names):
        print(f"\n== {name}")
        for table in _tables(measures):
            print(harness.plain(*table) + "\n")
        if failure:
            failed.append(f"{name}: {failure}")
    for failure in failed:
        print(f"\nFAILED {failure}")
    return failed


def _write(results: str) -> None:
    """Put tables into the docs; parts without results stay as they are."""
    with open(PAGE, encoding="utf-8") as file:
        page = file.read()
    for name, measures, failure in _results(results, list(PARTS)):
        judged, medians = (harness.markdown(*table) for table in _tables(measures))
        blocks = [judged, f"<details><summary>Medians of all</summary>\n\n{medians}\n\n</details>"]
        if failure:
            blocks.append("Part of this could not be measured: it failed.")
        page = harness.replace_between(page, f"fs-{name}", "\n\n".join(blocks))
    with open(PAGE, "w", encoding="utf-8") as file:
        file.write(page)


if __name__ == "__main__":
    sys.exit(main())
