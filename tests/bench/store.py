"""The store: saving, loading, its size, its journal, and how soon a mount answers that starts from it."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import signac

from sigfs.index.index import Index
from sigfs.index.store import Store
from sigfs.model.types import Change, Record
from sigfs.model.workspace import Workspace
from sigfs.query import parse
from tests.bench import data
from tests.bench.crawl import uncached
from tests.bench.harness import OURS, ROOT, Aim, Context, Measure, Spent, each, python, take_turns
from tests.support.server import Server

_CACHED = "signac find with its cache"
_QUERY = parse({"N": 1000, "T": {"$gt": 2}})
_START_S = {100_000: 0.3, 1_000_000: 2.5}


def run(context: Context, jobs: int) -> Iterator[Measure]:
    """Measure the store alone; there are no job directories."""
    with context.scratch() as path:
        project = os.path.join(path, "project")
        workspace = Workspace(data.make_project(project))
        state = os.path.join(path, "state")
        os.mkdir(state)
        rounds = context.rounds if jobs <= 100_000 else context.fewer(5)
        for documents in (False, True):
            index = Index()
            index.load(data.batches(context.base, jobs, documents))
            what = "with documents" if documents else "state points"
            yield from _whole(project, workspace, state, index, jobs, rounds, what)
        yield from _journal(context, project, workspace, state, index, jobs)


def _whole(
    project: str, workspace: Workspace, state: str, index: Index, jobs: int, rounds: int, what: str
) -> Iterator[Measure]:
    store = Store.open(project, workspace, state)
    assert store.writable, store.reason
    try:
        times = take_turns({OURS: lambda: store.save(index)}, rounds)
        aims = [Aim("most", 1)] if jobs == 1_000_000 else []
        yield Measure(f"save, {what}", jobs, "s", times.wall, aims)
        assert store.path is not None
        size = _size(store.path) / jobs
        # What has to be on disk whatever the number of jobs is no matter of a small project.
        aims = [Aim("most", 85)] if jobs >= 100_000 else []
        yield Measure(f"size of the store, {what}", jobs, "bytes/job", {OURS: [size]}, aims)
    finally:
        store.close()

    def load() -> Index:
        opened = Store.open(project, workspace, state)
        try:
            found = opened.load()
            assert found is not None, "what was saved cannot be loaded"
            return found
        finally:
            opened.close()

    def check(answers: dict[str, object]) -> None:
        loaded = answers[OURS]
        assert isinstance(loaded, Index)
        assert loaded.ids() == index.ids()
        assert loaded.find(_QUERY) == index.find(_QUERY)

    times = take_turns({OURS: load}, rounds, check=check)
    yield Measure(f"load, {what}", jobs, "s", times.wall)
    times = take_turns({OURS: lambda: load().find(_QUERY)}, rounds)
    yield Measure(f"load and one query, {what}", jobs, "s", times.wall)


def _journal(
    context: Context, project: str, workspace: Workspace, state: str, index: Index, jobs: int
) -> Iterator[Measure]:
    """Append facts to the journal of an index that is followed."""
    count = 100 if context.quick else 1000
    with index.reading() as table:
        records = [table.record(name) for name in itertools.islice(table, count)]
    changes = [Change(record.id, record) for record in records]
    for sync, name, limit in ((False, "journal append", 10), (True, "journal append and fsync", 150)):
        with _attached(project, workspace, state, index, sync) as journal:
            samples = {OURS: each([lambda change=change, journal=journal: journal([change]) for change in changes])}  # type: ignore[misc]
        yield Measure(name, jobs, "µs", samples, [Aim("most", limit)])
    different = [
        Change(record.id, Record(record.id, record.statepoint, {"step": number}))
        for number, record in enumerate(records)
    ]
    with _attached(project, workspace, state, index, sync=False):
        samples = {OURS: each([lambda change=change: index.apply([change]) for change in different])}  # type: ignore[misc]
    yield Measure("change of a document, journal included", jobs, "µs", samples, [Aim("most", 60)])


@contextlib.contextmanager
def _attached(
    project: str, workspace: Workspace, state: str, index: Index, sync: bool
) -> Iterator[Callable[[Sequence[Change]], None]]:
    """Let a new store follow an index; give its journal."""
    store = Store.open(project, workspace, state, sync=sync)
    try:
        store.attach(index)
        store.save(index)  # from here on the journal is short
        assert index.journal is not None, store.reason
        yield index.journal
    finally:
        store.close()


def _size(path: str) -> int:
    return sum(os.stat(os.path.join(folder, name)).st_size for folder, _, names in os.walk(path) for name in names)


def start(context: Context, jobs: int) -> Iterator[Measure]:
    """Start a mount from the store, and ask signac one question in a new process with its cache."""
    path = data.project(context.base, jobs)
    workspace = Workspace(os.path.join(path, "workspace"))
    rounds = context.rounds if jobs <= 100_000 else context.fewer(3)
    uncached(path)
    _drop(path)
    try:
        signac.Project(path).update_cache()
        cache = os.path.join(path, ".signac", "statepoint_cache.json.gz")
        aside = cache + ".aside"
        os.rename(cache, aside)
        store = Store.open(path, workspace)
        try:
            store.save(Index.build(workspace))
        finally:
            store.close()
        times = take_turns(
            {
                OURS: lambda: _until_it_answers(path),
                _CACHED: lambda: _cached_find(path, cache, aside),
                "python -c pass": lambda: _run(python("-c", "pass")),
            },
            rounds,
        )
        aims = [Aim("most", _START_S[jobs])] if jobs in _START_S else []
        yield Measure("start from the store until the mount answers", jobs, "s", times.wall, aims)
        if jobs <= 100_000:  # beyond, it is the crawl
            _drop(path)
            first = take_turns({OURS: lambda: _first(path)}, context.fewer(3))
            yield Measure("start without a store until the mount answers", jobs, "s", first.wall)
    finally:
        for name in ("statepoint_cache.json.gz", "statepoint_cache.json.gz.aside"):
            with contextlib.suppress(FileNotFoundError):
                os.remove(os.path.join(path, ".signac", name))
        _drop(path)


def _drop(path: str) -> None:
    shutil.rmtree(os.path.join(path, ".sigfs"), ignore_errors=True)


def _first(path: str) -> Spent:
    _drop(path)
    return _until_it_answers(path)


def _until_it_answers(path: str) -> Spent:
    """Give the time from starting ``sigfs mount`` to its first listing."""
    server = Server("kernel", path)
    device = os.stat(server.mountpoint).st_dev
    answered: list[float] = []
    given_up = threading.Event()

    def watch() -> None:
        while not given_up.is_set():
            with contextlib.suppress(OSError):
                if os.stat(server.mountpoint).st_dev != device and os.listdir(server.mountpoint):
                    answered.append(time.perf_counter())
                    return
            time.sleep(0.001)

    watcher = threading.Thread(target=watch)
    begin = time.perf_counter()
    watcher.start()
    try:
        server.start()
        watcher.join(600)
    finally:
        given_up.set()
        if answered:
            server.stop()
        else:
            server.kill()
    assert answered, "the mount did not answer"
    return Spent(answered[0] - begin, 0.0)


def _cached_find(path: str, cache: str, aside: str) -> Spent:
    os.rename(aside, cache)
    try:
        begin = time.perf_counter()
        _run(python("-c", f"import signac; assert signac.Project({path!r})._find_job_ids({{'N': 1000}})"))
        return Spent(time.perf_counter() - begin, 0.0)
    finally:
        os.rename(cache, aside)


def _run(command: list[str]) -> None:
    subprocess.run(command, cwd=ROOT, check=True, stdout=sys.stderr)
