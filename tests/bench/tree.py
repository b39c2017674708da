"""What a directory of the tree costs, before the kernel's part."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

from sigfs.index.index import Index
from sigfs.index.table import Table
from sigfs.model.types import Change, JobId, Record
from sigfs.query.expr import EVERYTHING, Field, Space
from sigfs.tree import JobNode, Tree, VirtualNode
from tests.bench import data
from tests.bench.harness import OURS, Aim, Context, Measure, each, take_turns

TOP = 1_000_000

_PATH_NAME = "path of three keys and values"
_WHOLE = "all names of a key of 1000 values"  # in pages, as the kernel asks for them; not judged as one operation
_PATH = ("flag", "true", "N", "1000", "T", "2.0")


def walk(tree: Tree, table: Table, *path: str) -> VirtualNode:
    """Resolve a path of virtual directories from the root."""
    node: VirtualNode = tree.root
    for name in path:
        child = tree.child(node, name, table)
        assert child is not None, f"nothing at {name} of {path}"
        assert not isinstance(child, JobNode)
        node = child
    return node


def run(context: Context, jobs: int) -> Iterator[Measure]:
    index = Index()
    index.load(data.batches(context.base, jobs, documents=True))
    tree = Tree()
    calls = 50 if context.quick else 400
    with index.reading() as table:
        for name, call in _operations(tree, table):
            samples = {OURS: _first_time(call, table, calls)}
            samples["again"] = take_turns({OURS: call}, context.rounds, short=True).scaled("wall", 1e6)[OURS]
            yield Measure(name, jobs, "µs", samples, _aims(name, jobs))
    first = next(iter(index.ids()))
    for name, act in _after_a_change(tree):
        samples: list[float] = []
        for number in range(calls // 10):
            index.apply([Change(first, Record(first, {"seed": -number}, {}))])
            with index.reading() as table:
                samples += each([lambda act=act, table=table: act(table)])  # type: ignore[misc]
        yield Measure(name, jobs, "µs", {OURS: samples}, _aims(name, jobs))


def _aims(name: str, jobs: int) -> list[Aim]:
    if jobs != TOP or name == _WHOLE:
        return []
    return [Aim("most", 200 if _PATH_NAME in name else 150)]


def _first_time(call: Callable[[], object], table: Table, calls: int) -> list[float]:
    """Time a directory's first visit since the last change; only the order of the view's keys is known by then."""

    def forget() -> None:
        kept = {key: value for key, value in table._cache.items() if isinstance(key, tuple) and key[0] == "listed keys"}
        table._cache.clear()
        table._cache.update(kept)

    call()
    samples = []
    for _ in range(calls):
        forget()
        samples += each([call])
    return samples


def _operations(tree: Tree, table: Table) -> Iterator[tuple[str, Callable[[], object]]]:
    root = tree.root
    listed = list(tree.names(root, table))
    numbers, heat, bars = walk(tree, table, "N"), walk(tree, table, "T"), walk(tree, table, "bar")
    few, below = walk(tree, table, "N", "1000"), walk(tree, table, "N", "1000", "T")
    values = itertools.cycle([str(100 * n) for n in range(3, 18)])
    everything = table.select(EVERYTHING)
    some = table.select(tree.query(walk(tree, table, *_PATH)))
    yield "next key of the root", lambda: list(tree.names(root, table))
    yield "next key below N/1000/", lambda: list(tree.names(few, table))
    yield "lookup of a key", lambda: tree.child(root, listed[0], table)
    yield "lookup of a value, 20 values", lambda: tree.child(numbers, next(values), table)
    yield "lookup of a value, 1000 values", lambda: tree.child(bars, "500", table)
    yield "listing of a key of 20 values", lambda: list(tree.names(numbers, table))
    yield "listing of a key of 40 values", lambda: list(tree.names(heat, table))
    yield "listing of T below N/1000/", lambda: list(tree.names(below, table))
    yield "values of 1000, typed and ordered", lambda: table.values(Field(Space.SP, "bar"), everything)
    yield "opening a key of 1000 values", lambda: tree.names(bars, table)
    yield "first 100 names of a key of 1000 values", lambda: list(itertools.islice(tree.names(bars, table), 100))
    yield _WHOLE, lambda: list(tree.names(bars, table))
    yield "values of a unique key below a path", lambda: table.values(Field(Space.SP, "seed"), some)
    yield _PATH_NAME, lambda: walk(tree, table, *_PATH)


def _after_a_change(tree: Tree) -> Iterator[tuple[str, Callable[[Table], object]]]:
    yield "after a change: next key of the root", lambda table: list(tree.names(tree.root, table))
    yield f"after a change: {_PATH_NAME}", lambda table: walk(tree, table, *_PATH)


def change(context: Context, jobs: int) -> Iterator[Measure]:
    """Apply changes one at a time."""
    index = Index()
    index.load(data.batches(context.base, jobs, documents=True))
    count = 100 if context.quick else 1000
    kept = [(name, index_record.statepoint) for name, index_record in _records(index, count)]
    fresh = [(data.job_id(f"new {number}"), data.statepoint(jobs + number)) for number in range(count)]
    aims = [Aim("most", 50)]

    def applying(changes: list[Change]) -> list[Callable[[], object]]:
        return [lambda change=change: index.apply([change]) for change in changes]  # type: ignore[misc]

    def document(number: int) -> dict[str, object]:
        return {"energy": number / 7, "step": number, "done": True, "status": "done", "run": {"host": "node01"}}

    documents = [
        Change(name, Record(name, statepoint, document(number))) for number, (name, statepoint) in enumerate(kept)
    ]
    yield Measure("change: a document", jobs, "µs", {OURS: each(applying(documents))}, aims)
    added = [Change(name, Record(name, statepoint, {})) for name, statepoint in fresh]
    yield Measure("change: a new job", jobs, "µs", {OURS: each(applying(added))}, aims)
    removed = [Change(name, None) for name, _ in fresh]
    yield Measure("change: a job removed", jobs, "µs", {OURS: each(applying(removed))}, aims)


def _records(index: Index, count: int) -> list[tuple[JobId, Record]]:
    ids = index.ids()
    with index.reading() as table:
        return [(name, table.record(name)) for name in ids[:: max(1, len(ids) // count)][:count]]
