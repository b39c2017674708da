"""From files to a complete index, against one query of signac that has no cache."""

from __future__ import annotations

import os
from collections.abc import Iterator

import signac

from sigfs.index.index import Index
from sigfs.model.workspace import Workspace
from sigfs.query import parse
from tests.bench import data
from tests.bench.crawl import TOP, uncached
from tests.bench.harness import OURS, Aim, Context, Measure, same_ids, take_turns

_SIGNAC = "one signac query"
_QUERIES: tuple[tuple[bool, dict[str, object], str], ...] = (
    (False, {"N": 1000}, "crawl and index, state points"),
    (True, {"doc.status": "done"}, "crawl and index, with documents"),
)


def run(context: Context, jobs: int) -> Iterator[Measure]:
    path = data.project(context.base, jobs)
    uncached(path)
    workspace = Workspace(os.path.join(path, "workspace"))
    for documents, query, name in _QUERIES:

        def ours(documents: bool = documents, query: dict[str, object] = query) -> object:
            return Index.build(workspace, documents=documents).find(parse(query))

        def theirs(query: dict[str, object] = query) -> object:
            return signac.Project(path)._find_job_ids(query)

        rounds = context.rounds if jobs <= TOP else context.fewer(3)
        times = take_turns({OURS: ours, _SIGNAC: theirs}, rounds, check=same_ids)
        aims = [Aim("within", 1, (_SIGNAC,))] if jobs == TOP else []
        most = [Aim("most", 25)] if documents and jobs == TOP else []
        yield Measure(f"{name}, processor", jobs, "µs/job", times.scaled("cpu", 1e6 / jobs), [*most, *aims])
        yield Measure(name, jobs, "µs/job", times.scaled("wall", 1e6 / jobs), aims)
