"""Projects side by side with signac's, in one run, each turn one after the other.

    python -m tests.bench.api [--jobs 10000] [--rounds 7] [--json]

One project is made, which both read: 5 keys, one nested, and a document of two keys in every second job. Each figure is
the median of the rounds. "First": a new project object each time, and nothing kept on disk by either; "again": the same
object asked once more.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import signac

import sigfs

State = tuple[Any, Any]


def make(root: str, jobs: int) -> None:
    """Make a project of *jobs* jobs."""
    project = sigfs.init_project(root)
    for n in range(jobs):
        job = project.open({"n": n, "T": (n % 40) / 4, "kind": "abc"[n % 3], "on": n % 2 == 0, "in": {"x": n % 7}})
        if n % 2:
            with open(job.fn("signac_job_document.json"), "w", encoding="utf-8") as file:
                json.dump({"energy": n / 7, "done": n % 4 == 1}, file)


SETTLE_S = 3.0
"""So old a change has to be that it is believed to have been the last."""

Action = Callable[[Any], Any]


def actions(ids: list[str]) -> dict[str, tuple[bool, Action, Action]]:
    """What is measured: name -> (on a new object each time, with signac, with sigfs)."""
    some = ids[:: max(1, len(ids) // 1000)]

    def same(action: Action) -> tuple[Action, Action]:
        return action, action

    return {
        "len, first": (True, *same(len)),
        "len, again": (False, *same(len)),
        "find T 5, first": (True, *same(lambda p: len(p.find_jobs({"T": 5})))),
        "find T 5, again": (False, *same(lambda p: len(p.find_jobs({"T": 5})))),
        "find two keys and a range, again": (
            False,
            *same(lambda p: len(p.find_jobs({"kind": "a", "in.x": 3, "n.$gt": 1000}))),
        ),
        "find T 5, first, with what each keeps": (True, *same(lambda p: len(p.find_jobs({"T": 5})))),
        "find doc.done, first": (True, *same(lambda p: len(p.find_jobs({"doc.done": True})))),
        "find doc.done, again": (False, *same(lambda p: len(p.find_jobs({"doc.done": True})))),
        "1000 jobs by id": (False, *same(lambda p: [p.open_job(id=job_id) for job_id in some])),
        "1000 jobs that are there, by state point": (
            False,
            lambda p: [
                p.open_job(
                    {"n": n, "T": (n % 40) / 4, "kind": "abc"[n % 3], "on": n % 2 == 0, "in": {"x": n % 7}}
                ).init()
                for n in range(1000)
            ],
            lambda p: [
                p.open_job({"n": n, "T": (n % 40) / 4, "kind": "abc"[n % 3], "on": n % 2 == 0, "in": {"x": n % 7}})
                for n in range(1000)
            ],
        ),
        "iterate, ids": (False, *same(lambda p: [job.id for job in p])),
        "iterate, state point of all": (False, *same(lambda p: sum(job.statepoint["n"] for job in p))),
        "iterate, cached_statepoint of all": (False, *same(lambda p: sum(job.cached_statepoint["n"] for job in p))),
        "iterate, entries of all": (
            False,
            lambda p: sum(job.cached_statepoint["n"] for job in p),
            lambda p: sum(entry["sp"]["n"] for entry in p.find().entries()),
        ),
        "groupby kind, again": (False, *same(lambda p: [len(list(group)) for _, group in p.groupby("kind")])),
        "groupby doc.done, again": (False, *same(lambda p: [len(list(group)) for _, group in p.groupby("doc.done")])),
        "detect_schema, again": (False, *same(lambda p: str(p.detect_schema()))),
        "to_dataframe, again": (False, *same(lambda p: p.to_dataframe())),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--dir", help="where the project is made; default: the directory of temporary files")
    parser.add_argument("--only", help="measure what has this in its name")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    root = os.path.join(tempfile.mkdtemp(dir=options.dir), "project")
    try:
        make(root, options.jobs)
        time.sleep(SETTLE_S)
        rows = measure(root, options.rounds, options.only)
    finally:
        shutil.rmtree(os.path.dirname(root))
    if options.json:
        print(json.dumps(rows))
        return
    versions = f"signac {signac.__version__}, sigfs {sigfs.__version__}"
    print(f"{options.jobs} jobs, median of {options.rounds} rounds, {versions}")
    print("| | signac | sigfs | ratio |\n|---|---|---|---|")
    for row in rows:
        print(f"| {row['what']} | {row['signac_ms']:.1f} ms | {row['sigfs_ms']:.1f} ms | {row['ratio']:.2f} |")


def keep(root: str, kept: bool) -> None:
    """Have both keep what they can on disk, or neither."""
    for project in (signac.get_project(root), sigfs.get_project(root)):
        if kept:
            project.update_cache()
    if not kept:
        for name in (".signac/statepoint_cache.json.gz", ".sigfs"):
            path = os.path.join(root, name)
            shutil.rmtree(path) if os.path.isdir(path) else os.path.exists(path) and os.unlink(path)


def measure(root: str, rounds: int, only: str | None) -> list[dict[str, Any]]:
    """Give a row for each action; ratio is signac's time by that of sigfs."""
    opened = {"signac": signac.get_project(root), "sigfs": sigfs.get_project(root)}
    openers = {"signac": signac.get_project, "sigfs": sigfs.get_project}
    ids = sorted(job.id for job in opened["signac"])
    rows = []
    for what, (anew, *both) in actions(ids).items():
        kept = what.endswith("keeps")
        keep(root, kept)
        if only and only not in what:
            continue
        times: dict[str, list[float]] = {"signac": [], "sigfs": []}
        try:
            for turn in range(rounds + 1):
                for name, action in zip(times, both, strict=True):
                    project = openers[name](root) if anew else opened[name]
                    begun_s = time.perf_counter()
                    action(project)
                    if turn:  # the first is for the caches
                        times[name].append(time.perf_counter() - begun_s)
        except ImportError as error:
            print(f"{what}: {error}")
            continue
        ms = {name: statistics.median(each) * 1000 for name, each in times.items()}
        rows.append(
            {"what": what, "signac_ms": ms["signac"], "sigfs_ms": ms["sigfs"], "ratio": ms["signac"] / ms["sigfs"]}
        )
    return rows


if __name__ == "__main__":
    main()
