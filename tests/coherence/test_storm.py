"""Very much at once, made by another process: nothing is lost, in any mode, even where the kernel's queue is too short.

``SIGFS_STORM_JOBS`` sets the number of jobs (3,000 unless it is set).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from sigfs.model.statepoint import statepoint_id
from sigfs.model.types import Change
from sigfs.model.workspace import Workspace
from sigfs.watch import WorkspaceWatcher, watcher
from tests.support.wait import wait_until
from tests.unit.watch.modes import MODES, use_mode
from tests.unit.watch.receiver import SP_FILE, Receiver, create_many, replace_document

JOBS = int(os.environ.get("SIGFS_STORM_JOBS", "3000"))
ROOT = Path(__file__).parents[2]

STORM = """
import os, sys
sys.path[:0] = sys.argv[3].split(os.pathsep)
from tests.coherence.test_storm import storm
storm(sys.argv[1], int(sys.argv[2]))
"""


def storm(path: str, jobs: int) -> None:
    """Run in another process: make jobs with documents and ``meddle`` with them."""
    create_many(path, range(jobs), documents=True)
    meddle(path, jobs)


def meddle(path: str, jobs: int) -> None:
    """Write one document of ten anew, remove one job of ten and rename one of ten."""
    for number in range(0, jobs, 10):
        job, removed, renamed = (os.path.join(path, statepoint_id({"a": number + k})) for k in range(3))
        replace_document(job, {"b": "new"})
        shutil.rmtree(removed)
        with open(os.path.join(renamed, "._tmp"), "w", encoding="utf-8") as file:
            json.dump({"a": jobs + number}, file)
        os.rename(os.path.join(renamed, "._tmp"), os.path.join(renamed, SP_FILE))
        target = os.path.join(path, statepoint_id({"a": jobs + number}))
        os.rename(renamed, target)
        replace_document(target, {"b": "renamed"})


def after_storm(jobs: int) -> dict[object, object]:
    """Give what there is then: documents by state point."""
    found: dict[object, object] = {number: {"b": number} for number in range(jobs)}
    for number in range(0, jobs, 10):
        found[number] = {"b": "new"}
        del found[number + 1], found[number + 2]
        found[jobs + number] = {"b": "renamed"}
    return found


def overflow(path: str) -> None:
    """Cause more events than a queue takes, of which no two are merged."""
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if limit > 100_000:
        pytest.skip(f"the queue takes {limit} events")
    name = os.path.join(path, "0" * 32)
    for _ in range(limit // 2 + 100):
        os.mkdir(name)
        os.rmdir(name)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "workspace").mkdir()
    return Workspace(str(tmp_path / "workspace"))


@pytest.fixture
def receiver(workspace: Workspace) -> Receiver:
    return Receiver(workspace)


Make = Callable[..., WorkspaceWatcher]


@pytest.fixture
def make(workspace: Workspace, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    made = []

    def make_one(mode: str, **options: object) -> WorkspaceWatcher:
        use_mode(mode, monkeypatch, workspace.path)
        made.append(
            WorkspaceWatcher(workspace, receiver, receiver.known, revalidate=receiver.revalidate, **options)  # type: ignore[arg-type]
        )
        return made[-1]

    yield make_one
    for one in made:
        one.stop()


@pytest.mark.parametrize("mode", MODES)
def test_a_storm_is_followed_without_loss(make: Make, workspace: Workspace, receiver: Receiver, mode: str) -> None:
    made = make(mode, documents=True)
    made.start()
    wait_until(lambda: made.status()["last"])
    places = os.pathsep.join([str(ROOT), *sys.path])
    subprocess.run([sys.executable, "-c", STORM, workspace.path, str(JOBS), places], check=True)
    wait_until(lambda: receiver.documents() == after_storm(JOBS), what="all of the storm")
    wait_until(lambda: made.status()["pending"] == 0)
    assert max(map(len, receiver.batches)) <= watcher.BATCH
    assert made.status()["overflows"] == 0


@pytest.mark.parametrize("mode", ["fanotify", "inotify"])
def test_what_happens_while_nobody_reads_is_found(
    make: Make, workspace: Workspace, receiver: Receiver, mode: str
) -> None:
    create_many(workspace.path, range(20), documents=True)
    made = make(mode, documents=True)
    made.start()
    wait_until(lambda: len(receiver.records) == 20)
    wait_until(lambda: made.status()["documents"] == "events")
    entered, go_on = threading.Event(), threading.Event()
    real = made._on_changes

    def slow(changes: Sequence[Change]) -> None:
        entered.set()
        go_on.wait(60)
        real(changes)

    made._on_changes = slow
    create_many(workspace.path, range(50, 51), documents=True)
    entered.wait(60)
    overflow(workspace.path)
    # None of what follows is told by an event.
    meddle(workspace.path, 20)
    create_many(workspace.path, range(100, 110), documents=True)
    go_on.set()
    expected = {**after_storm(20), 50: {"b": 50}, **{number: {"b": number} for number in range(100, 110)}}
    wait_until(lambda: receiver.documents() == expected)
    assert made.status()["overflows"] == (1 if mode == "inotify" else 0)  # the queue of fanotify has no limit
    # And events are told where the jobs are now.
    for number in (0, 20, 100):
        replace_document(os.path.join(workspace.path, statepoint_id({"a": number})), {"b": "last"})
        expected[number] = {"b": "last"}
    wait_until(lambda: receiver.documents() == expected)


def test_a_queue_that_is_too_short_before_the_start_loses_nothing(
    make: Make, workspace: Workspace, receiver: Receiver
) -> None:
    made = make("inotify")
    made.open()
    overflow(workspace.path)
    create_many(workspace.path, range(20))
    made.start()
    wait_until(lambda: receiver.values() == list(range(20)))
    wait_until(lambda: made.status()["overflows"] == 1)
    shutil.rmtree(os.path.join(workspace.path, statepoint_id({"a": 3})))
    wait_until(lambda: 3 not in receiver.values())
