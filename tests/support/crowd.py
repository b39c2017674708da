"""Processes that make, change and query jobs of one project at once: ``python -m tests.support.crowd PROJECT JOBS``.

Two writers create JOBS jobs each, write their documents, migrate them and remove most of them; two readers query as
long as there is a writer. Prints what each has to say.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections import Counter, deque
from typing import Any

import sigfs
from sigfs.errors import NoSuchJob

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
KEPT = 10
"""Jobs that each writer leaves behind."""


def write(path: str, who: int, jobs: int) -> dict[str, Any]:
    """Create, change, migrate and remove jobs."""
    project = sigfs.get_project(path)
    made: deque[Any] = deque()
    for n in range(jobs):
        job = project.open({"who": who, "n": n, "state": "new"})
        job.doc.n = n
        job.sp.state = "old"
        made.append(job)
        if len(made) > KEPT:
            made.popleft().remove()
    return {"left": sorted(job.id for job in made)}


def read(path: str, afresh: bool) -> dict[str, Any]:
    """Query, once at least, until standard input ends; count the rounds, and what went wrong, by kind.

    Args:
        afresh: open the project anew for each round.
    """
    errors: Counter[str] = Counter()
    rounds = seen = 0
    project = sigfs.get_project(path)
    os.set_blocking(0, False)
    more = True
    while more:
        more = sys.stdin.buffer.read(1) is None
        rounds += 1
        if afresh:
            project = sigfs.get_project(path)
        try:
            for job in project.find({"state": "old"}):
                seen += 1
                try:
                    assert job.sp.state in {"old", "new"}
                    assert job.doc.get("n") in {None, job.sp.n}
                except NoSuchJob:  # by now: that is what it is for
                    pass
            list(project.find("doc.n.$gte 0"))
            list(project)
            len(project.find({"n.$lt": 5}, doc={"n.$gt": 2}))
            for _, jobs in project.groupby("who"):
                list(jobs)
            project.detect_schema()
            list(project.index)
        except Exception:  # noqa: BLE001 - counted
            errors[traceback.format_exc()] += 1
    return {"rounds": rounds, "seen": seen, "errors": errors}


def run(path: str, jobs: int, below: str | None = None) -> list[dict[str, Any]]:
    """Let the four run and give what they say, the writers first.

    Args:
        path: the project, or a place in a mount of it.
        below: where one writer and one reader work instead.
    """
    arguments = [
        ("write", path, 0, jobs),
        ("write", below or path, 1, jobs),
        ("read", path, 0),
        ("read", below or path, 1),
    ]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.support.crowd", *map(str, each)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": ROOT},
        )
        for each in arguments
    ]
    return [json.loads(process.communicate()[0]) for process in processes]


def _main(what: str, *arguments: str) -> None:
    if what == "write":
        said = write(arguments[0], int(arguments[1]), int(arguments[2]))
    elif what == "read":
        said = read(arguments[0], bool(int(arguments[1])))
    else:
        for each in run(what, int(arguments[0])):
            print(json.dumps(each, indent=1).replace("\\n", "\n"))
        return
    print(json.dumps(said))


if __name__ == "__main__":
    _main(*sys.argv[1:])
