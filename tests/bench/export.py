"""``sigfs export`` beside ``signac view``, as commands, on one project: first, unchanged, one job added.

``python -m tests.bench.export [DIR]`` prints for each the best and the median of the rounds, in seconds of the clock
and of the processor. DIR is on the file system that is meant; a directory of temporary files by default.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from resource import RUSAGE_CHILDREN, getrusage

from tests.support.projects import add_job, make_project

JOBS = 10_000
ROUNDS = 3
SETTLED_S = 2.1
"""Stamps of directories that are younger are not relied on."""

OURS = [sys.executable, "-m", "sigfs", "export"]
COMMANDS = {
    "signac view": [sys.executable, "-m", "signac", "view", "-p"],
    "sigfs export --layout signac": [*OURS, "--layout", "signac"],
    "sigfs export": OURS,
}


def run(command: list[str], project: str) -> tuple[float, float]:
    """Give the seconds of the clock and of the processor that *command* takes."""
    before, begun_s = getrusage(RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, cwd=project, check=True, capture_output=True)
    wall_s, after = time.perf_counter() - begun_s, getrusage(RUSAGE_CHILDREN)
    return wall_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(base: str) -> None:
    """Measure in a directory below *base*, and print."""
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # as installed, signac is compiled, too
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory(dir=base) as scratch:
        project = make_project(
            os.path.join(scratch, "project"), *({"a": n % 10, "b": n // 10 % 10, "seed": n} for n in range(JOBS))
        )
        for command in COMMANDS.values():  # once, so that all is compiled
            run([*command, os.path.join(scratch, "warm")], project)
            shutil.rmtree(os.path.join(scratch, "warm"))
        seed = JOBS
        for _ in range(ROUNDS):
            for number, (name, command) in enumerate(COMMANDS.items()):
                target = os.path.join(scratch, f"view-{number}")
                shutil.rmtree(target, ignore_errors=True)
                shutil.rmtree(os.path.join(project, ".sigfs"), ignore_errors=True)
                time.sleep(SETTLED_S)
                for what in ("first", "unchanged", "one job added"):
                    if what == "one job added":
                        seed += 1
                        add_job(project, {"a": seed % 10, "b": 3, "seed": seed})
                        time.sleep(SETTLED_S)
                    found.setdefault((name, what), []).append(run([*command, target], project))
    for (name, what), times in found.items():
        for clock, values in zip(("clock", "processor"), zip(*times, strict=True), strict=True):
            print(f"{name:30}{what:15}{clock:10}{min(values):7.3f} s best {statistics.median(values):7.3f} s median")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else tempfile.gettempdir())
