"""Queries in a running process, against a signac project that has all state points in memory."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Mapping

import signac

from sigfs.index.index import Index
from sigfs.model.workspace import Workspace
from sigfs.query import parse
from tests.bench import data
from tests.bench.crawl import uncached
from tests.bench.harness import OURS, Aim, Context, Measure, same_ids, take_turns

_SIGNAC = "signac, warm"
_AGAIN = "sigfs, asked again"
_AIMS = {1000: 35, 10_000: 65, 100_000: 100}

# Of each kind several with other values, taken in turn.
_QUERIES: Mapping[str, list[Mapping[str, object]]] = {
    "one key": [{"N": 100 * n} for n in range(3, 18)],
    "three keys": [{"N": 100 * n, "flag": n % 2 == 0, "ensemble.name": "NPT"} for n in range(3, 18)],
    "a unique key": [{"seed": n} for n in range(100, 115)],
    "range": [{"T": {"$gte": n / 10, "$lt": n / 10 + 1.05}} for n in range(1, 16)],
    "$in": [{"model": {"$in": pair}} for pair in itertools.combinations(("LJ", "TIP4P", "SPC/E", "WCA", "none"), 2)],
    "$regex": [{"model": {"$regex": text}} for text in ("^T", "J$", "E", "hard", "W.A", "^S", "sph", "4P", "L", "/")],
    "$exists": [{key: {"$exists": True}} for key in ("bar", "model", "opts.c", "ensemble.P", "flag")],
    "of documents": [{"doc.run.host": f"node{n:02}"} for n in range(3, 18)],
    "range of documents": [{"doc.step": {"$lt": n * 1000}} for n in range(3, 18)],
}


def run(context: Context, jobs: int) -> Iterator[Measure]:
    path = data.project(context.base, jobs)
    uncached(path)
    index = Index.build(Workspace(os.path.join(path, "workspace")), documents=True)
    project = signac.Project(path)
    project._update_in_memory_cache()
    rounds = context.rounds if jobs <= 10_000 else context.fewer(5 if jobs <= 100_000 else 1)
    for name, queries in _QUERIES.items():
        for query in queries[: 3 if jobs > 10_000 else None]:
            same_ids({OURS: index.find(parse(query)), _SIGNAC: project._find_job_ids(dict(query))})
            if jobs > 100_000:
                break
        contestants = {
            OURS: _ours(index, queries, afresh=True),
            _AGAIN: _ours(index, queries, afresh=False),
            _SIGNAC: _theirs(project, queries),
        }
        times = take_turns(contestants, rounds, short=True)
        aims = [Aim("faster", _AIMS[jobs], (_SIGNAC,))] if jobs in _AIMS else []
        yield Measure(f"find, {name}", jobs, "µs", times.scaled("wall", 1e6), aims)


def _ours(index: Index, queries: list[Mapping[str, object]], afresh: bool) -> Callable[[], object]:
    """Give a function that asks the next query; *afresh*: as if no answer were kept from a call before."""
    turn = itertools.cycle(queries)

    def call() -> object:
        if afresh:
            index._table._cache.clear()
        return index.find(parse(next(turn)))

    return call


def _theirs(project: signac.Project, queries: list[Mapping[str, object]]) -> Callable[[], object]:
    turn = itertools.cycle(queries)
    return lambda: project._find_job_ids(dict(next(turn)))
