"""Measure the index side by side with its peers: ``python -m tests.bench.index``.

Each part runs in a process of its own, at each size; one that fails is reported and the others go on. What a part has
measured is kept in the directory that ``--keep`` names, so that tables can be written from several runs.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.bench import harness
from tests.bench.harness import ROOT, Context, Measure, Part

PAGE = os.path.join(ROOT, "docs", "performance.md")
PLOTS = os.path.join(ROOT, "docs", "plots")


@dataclass(frozen=True)
class Entry:
    """A part: where its function is, the largest project that it makes sense for, and the one size of those without."""

    function: str
    largest: int = 1_000_000
    only: int | None = None

    def sizes(self, asked: Sequence[int]) -> list[int]:
        return [self.only] if self.only is not None else [size for size in asked if size <= self.largest]

    def load(self) -> Part:
        module, _, name = self.function.partition(":")
        part: Part = getattr(importlib.import_module(f"tests.bench.{module}"), name)
        return part


PARTS = {
    "crawl": Entry("crawl:warm"),
    "cold": Entry("crawl:cold", largest=100_000),
    "build": Entry("build:run"),
    "store": Entry("store:run"),
    "start": Entry("store:start"),
    "find": Entry("find:run"),
    "tree": Entry("tree:run"),
    "change": Entry("tree:change"),
    "memory": Entry("memory:run"),
    "root": Entry("live:as_root", largest=100_000),
    "user": Entry("live:as_user", largest=100_000),
    "crash": Entry("crash:run", only=1000),
}


def main() -> int:
    """Run what is asked for; 1 if some part failed."""
    arguments = _arguments()
    if arguments.part is not None:
        context = Context(arguments.keep, arguments.rounds, arguments.quick)
        return _run_here(context, arguments.part, arguments.sizes[0], arguments.results)
    names = arguments.only or list(PARTS)
    base = os.path.abspath(arguments.keep) if arguments.keep else tempfile.mkdtemp(prefix="sigfs-bench-")
    results = os.path.join(base, "quick" if arguments.quick else "results")
    os.makedirs(results, exist_ok=True)
    try:
        print(harness.machine(base))
        for size in arguments.sizes:
            for name in names:
                if size in PARTS[name].sizes(arguments.sizes) or (PARTS[name].only and size == arguments.sizes[0]):
                    _run(base, results, name, PARTS[name].only or size, arguments)
        failed = _report(results, names)
        if arguments.write:
            _write(base, results)
        return 1 if failed else 0
    finally:
        if not arguments.keep:
            shutil.rmtree(base)


def _arguments() -> argparse.Namespace:
    def integers(text: str) -> list[int]:
        return sorted(int(word) for word in text.split(","))

    def words(text: str) -> list[str]:
        unknown = set(text.split(",")) - set(PARTS)
        if unknown:
            raise argparse.ArgumentTypeError(f"no part {', '.join(unknown)}; there are: {', '.join(PARTS)}")
        return text.split(",")

    parser = argparse.ArgumentParser(prog="python -m tests.bench.index", description=__doc__)
    parser.add_argument("--sizes", type=integers, default=[1000, 10_000, 100_000, 1_000_000], help="numbers of jobs")
    parser.add_argument("--only", type=words, metavar="NAME,...", help=f"of: {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each contestant; fewer where a turn is long")
    parser.add_argument("--quick", action="store_true", help="only see that it runs: few turns, few samples")
    parser.add_argument("--keep", metavar="DIR", help="keep projects and results here, and use those that are there")
    parser.add_argument("--resume", action="store_true", help="leave out what has results in DIR")
    parser.add_argument("--write", action="store_true", help="put tables and plots of all results into the docs")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--results", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.resume and not arguments.keep:
        parser.error("--resume needs --keep")
    if arguments.quick and arguments.write:
        parser.error("figures of a --quick run are good for nothing but to see that it runs: no --write")
    if arguments.quick:
        arguments.rounds = min(arguments.rounds, 2)
    return arguments


def _result(results: str, name: str, size: int) -> str:
    return os.path.join(results, f"{name}-{size}.json")


def _run(base: str, results: str, name: str, size: int, arguments: argparse.Namespace) -> None:
    path = _result(results, name, size)
    if arguments.resume and os.path.exists(path) and harness.load(path)[2]:
        return
    begin = time.monotonic()
    command = harness.python("-m", "tests.bench.index", "--part", name, "--sizes", str(size), "--keep", base)
    command += ["--results", path, "--rounds", str(arguments.rounds), *(["--quick"] if arguments.quick else [])]
    harness.save(path, [], "it ended without a word", done=False)
    subprocess.run(command, cwd=ROOT)
    _, failure, done = harness.load(path)
    said = "done" if done else f"FAILED, {failure}"
    print(f"{name} at {size}: {said} ({time.monotonic() - begin:.0f} s)", flush=True)


def _run_here(context: Context, name: str, size: int, path: str) -> int:
    """Run one part in this process, keeping each measure as it comes in the file *path*."""
    measures: list[Measure] = []
    try:
        for measure in PARTS[name].load()(context, size):
            measures.append(measure)
            harness.save(path, measures, "it did not come to its end", done=False)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is said, and the other parts go on
        traceback.print_exc()
        harness.save(path, measures, _shortly(error), done=False)
        return 1
    harness.save(path, measures, None, done=True)
    return 0


def _shortly(error: Exception) -> str:
    """Give the first and the last line of what an error says; all of it has been printed."""
    lines = f"{type(error).__name__}: {error}".strip().splitlines()
    return lines[0] if len(lines) == 1 else f"{lines[0]} ... {lines[-1]}"


def _results(results: str, names: Sequence[str]) -> Iterator[tuple[str, list[Measure], list[str]]]:
    """Give, for each part with results at any size, its measures and what failed."""
    for name in names:
        measures, failures = [], []
        files = [file for file in os.listdir(results) if _is_of(file, name)]
        sizes = [int(file[len(name) + 1 : -5]) for file in files]
        for size in sorted(sizes):
            found, failure, _ = harness.load(_result(results, name, size))
            measures += found
            if failure:
                failures.append(f"{name} at {size}: {failure}")
        if measures or failures:
            yield name, measures, failures


def _is_of(file: str, name: str) -> bool:
    return file.startswith(f"{name}-") and file.endswith(".json")


def _report(results: str, names: Sequence[str]) -> list[str]:
    """Print everything; give what failed."""
    failed = []
    for name, measures, failures in _results(results, names):
        print(f"\n== {name}")
        judged = harness.judgements(measures)
        if judged:
            print(harness.plain(harness.JUDGED, judged))
            print()
        print(harness.plain(*harness.growth(measures)))
        for note in dict.fromkeys(f"{measure.name}: {measure.note}" for measure in measures if measure.note):
            print(f"  {note}")
        failed += failures
    for failure in failed:
        print(f"\nFAILED {failure}")
    return failed


def _write(base: str, results: str) -> None:
    """Put tables and plots into the docs; parts without results stay as they are."""
    from tests.bench import plots

    with open(PAGE, encoding="utf-8") as file:
        page = file.read()
    page = harness.replace_between(page, "machine", harness.machine(base) + ".")
    for name, measures, failures in _results(results, list(PARTS)):
        blocks = []
        judged = harness.judgements(measures)
        if judged:
            blocks.append(harness.markdown(harness.JUDGED, judged))
        drawn = plots.draw(measures, PLOTS, name)
        if drawn is not None:
            blocks.append(f"![Growth of each measure with the number of jobs](plots/{drawn})")
        if any(measure.growth for measure in measures):
            table = harness.markdown(*harness.growth(measure for measure in measures if measure.growth))
            blocks.append(f"<details><summary>Medians at all sizes</summary>\n\n{table}\n\n</details>")
        notes = dict.fromkeys(f"* {measure.name}: {measure.note}" for measure in measures if measure.note)
        if notes:
            blocks.append("\n".join(notes))
        if failures:
            blocks.append("Part of this could not be measured: it failed.")
        page = harness.replace_between(page, name, "\n\n".join(blocks))
    with open(PAGE, "w", encoding="utf-8") as file:
        file.write(page)


if __name__ == "__main__":
    sys.exit(main())
