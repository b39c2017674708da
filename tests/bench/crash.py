"""A process that keeps a store is killed, again and again, at any moment; what it had acknowledged must be there."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

from sigfs.index.index import Index
from sigfs.index.store import Store
from sigfs.model.types import Change, Record
from sigfs.model.workspace import Workspace
from tests.bench import data
from tests.bench.harness import OURS, ROOT, Aim, Context, Measure, python

_MODES = ("journal", "snapshot", "compaction")
_FIRST = 1000  # jobs in the store to begin with


def history(number: int) -> list[Change]:
    """Give the changes of one step; they follow from its number alone."""
    if number % 5 == 0:  # a new job
        statepoint = {"seed": 1_000_000 + number, "new": True}
        name = data.job_id(data._encode(statepoint))
        return [Change(name, Record(name, statepoint, {}))]
    if number % 5 == 1 and number > 10:  # the one that came ten steps ago goes
        return [Change(history(number - 11)[0].id, None)]
    statepoint = data.statepoint(number % _FIRST)
    name = data.job_id(data._encode(statepoint))
    return [Change(name, Record(name, statepoint, {"step": number, "text": "x" * (number % 300)}))]


def beginning() -> Index:
    """Give the index that everything starts from."""
    index = Index()
    changes = []
    for number in range(_FIRST):
        statepoint = data.statepoint(number)
        name = data.job_id(data._encode(statepoint))
        changes.append(Change(name, Record(name, statepoint, {})))
    index.apply(changes)
    return index


def run(context: Context, jobs: int) -> Iterator[Measure]:
    """Kill and look, 200 times in all."""
    assert jobs
    times = 4 if context.quick else 67
    dice = random.Random(20)
    for mode in _MODES:
        lost: list[float] = []
        inconsistent: list[float] = []
        acknowledged = 0
        with context.scratch() as path:
            for _ in range(times):
                found, gone, whole = _once(path, mode, dice.uniform(0.0, 0.25))
                acknowledged += found
                lost.append(gone)
                inconsistent.append(0 if whole else 1)
        note = f"{times} times, {acknowledged} changes acknowledged"
        for what, samples in (("inconsistent stores", inconsistent), ("acknowledged changes lost", lost)):
            aims = [Aim("most", 0, statistic="largest")]
            yield Measure(f"kill -9 during {mode}: {what}", _FIRST, "", {OURS: samples}, aims, note, growth=False)


def _once(path: str, mode: str, after_s: float) -> tuple[int, int, bool]:
    """Kill once; give the changes acknowledged, those of them that are lost, and whether the store is consistent."""
    project, state = os.path.join(path, "project"), os.path.join(path, "state")
    for folder in (project, state):
        shutil.rmtree(folder, ignore_errors=True)
    os.mkdir(state)
    data.make_project(project)
    child = subprocess.Popen(
        python("-m", "tests.bench.crash", project, state, mode), cwd=ROOT, stdout=subprocess.PIPE, bufsize=0
    )
    assert child.stdout is not None
    try:
        said = child.stdout.read(8)  # the first is said when all is set up
        time.sleep(after_s)
    finally:
        child.send_signal(signal.SIGKILL)
        rest = child.stdout.read()
        child.wait()
        child.stdout.close()
    said += rest
    assert child.returncode == -signal.SIGKILL, f"it ended by itself with {child.returncode}"
    whole = said[: len(said) // 8 * 8]
    acknowledged = int.from_bytes(whole[-8:], "little")
    return acknowledged, *_verdict(project, state, acknowledged)


def _verdict(project: str, state: str, acknowledged: int) -> tuple[int, bool]:
    store = Store.open(project, Workspace(os.path.join(project, "workspace")), state)
    try:
        index = store.load()
    finally:
        store.close()
    if index is None:
        return acknowledged, False
    index.check()
    ours = _texts(index)
    expected = beginning()
    for number in range(1, acknowledged + 1):
        expected.apply(history(number))
    if ours == _texts(expected):
        return 0, True
    expected.apply(history(acknowledged + 1))  # it may have been written and not yet acknowledged
    if ours == _texts(expected):
        return 0, True
    expected = beginning()
    for number in range(1, acknowledged + 1):
        if ours == _texts(expected):
            return acknowledged + 1 - number, True
        expected.apply(history(number))
    return 0, False


def _texts(index: Index) -> set[str]:
    with index.reading() as table:
        return {record.text() for record in table.records()}


def _main(project: str, state: str, mode: str) -> None:
    """Apply the history and acknowledge each step; save meanwhile as *mode* says. Ends by being killed."""
    index = beginning()
    store = Store.open(project, Workspace(os.path.join(project, "workspace")), state)
    store.attach(index)
    store.save(index)
    if mode == "compaction":
        store._limit_bytes = 20_000
    number = 0
    os.write(1, number.to_bytes(8, "little"))
    if mode == "snapshot":
        threading.Thread(target=_save_again_and_again, args=(store, index), daemon=True).start()
    while True:
        number += 1
        index.apply(history(number))
        os.write(1, number.to_bytes(8, "little"))


def _save_again_and_again(store: Store, index: Index) -> None:
    while True:
        store.save(index)


if __name__ == "__main__":
    _main(*sys.argv[1:])
