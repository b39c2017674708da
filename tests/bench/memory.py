"""What an index takes up in memory, each in a process of its own."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import orjson

from sigfs.index.index import Index
from sigfs.query import parse
from sigfs.query.expr import EVERYTHING, Space
from tests.bench import data
from tests.bench.harness import OURS, ROOT, Aim, Context, Measure, python

_SIGNAC = "signac _sp_cache"
_USED = "used"
TOP = 1_000_000


def run(context: Context, jobs: int) -> Iterator[Measure]:
    data.order(context.base, jobs)
    rounds = context.fewer(3)
    for documents, limit in ((False, 500), (True, 800)):
        what = "sp+doc" if documents else "sp"
        contestants = {OURS: what, _USED: f"{what}, used"} | ({} if documents else {_SIGNAC: "signac"})
        samples: dict[str, list[float]] = {name: [] for name in contestants}
        for _ in range(rounds):
            for name, what in contestants.items():
                command = python("-m", "tests.bench.memory", context.base, str(jobs), what)
                done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
                samples[name].append(json.loads(done.stdout) / jobs)
        name = "with documents" if documents else "state points"
        aims = [Aim("most", limit)] if jobs == TOP else []
        used = {OURS: samples.pop(_USED)}
        yield Measure(f"memory, {name}", jobs, "bytes/job", samples, aims)
        yield Measure(f"memory in use, {name}", jobs, "bytes/job", used, aims)


def _resident() -> int:
    """Give this process's resident memory in bytes, after what can be given back has been."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _index(base: str, jobs: int, documents: bool, used: bool) -> object:
    index = Index()
    index.load(data.batches(base, jobs, documents))
    if used:
        _use(index)
    return index


def _use(index: Index) -> None:
    """Ask for each key once: for a value, a range, and in what order its values are."""
    with index.reading() as table:
        fields = [field for space in (Space.SP, Space.DOC) for field in table.fields(space)]
    for field in fields:
        index.find(parse({f"{field.space}.{field.key}": 1}))
        index.find(parse({f"{field.space}.{field.key}": {"$gt": 10, "$lt": 20}}))
        with index.reading() as table:
            table.values(field, table.select(EVERYTHING))
            table._cache.clear()


def _cache(base: str, jobs: int) -> object:
    # signac parses with json, one text at a time
    return {row[0]: json.loads(orjson.dumps(row[1])) for row in data.rows(base, jobs, documents=False)}


def _main(base: str, jobs: int, what: str) -> None:
    make: Callable[[int], object] = (
        (lambda jobs: _cache(base, jobs))
        if what == "signac"
        else (lambda jobs: _index(base, jobs, documents="doc" in what, used="used" in what))
    )
    make(20)  # what is loaded and compiled once is no part of it
    before = _resident()
    kept = make(jobs)
    print(_resident() - before)
    del kept


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
