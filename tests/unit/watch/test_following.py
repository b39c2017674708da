"""Documents are followed in every mode, once somebody has asked."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from sigfs.model.statepoint import statepoint_id
from sigfs.model.types import Change, Findings
from sigfs.model.workspace import Workspace
from sigfs.watch import WorkspaceWatcher, inotify, pace, sources, watcher
from tests.support.descriptors import assert_none_left, descriptors
from tests.support.wait import wait_until
from tests.unit.watch.modes import MODES, use_mode
from tests.unit.watch.receiver import DOC_FILE, SP_FILE, Receiver, create_many, replace_document, write_later


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
    """Make watchers that compare as an index would; they are stopped in the end."""
    monkeypatch.setattr(watcher, "POLL_S", 0.02)
    monkeypatch.setattr(watcher, "IDENTITY_S", 0.05)
    monkeypatch.setattr(watcher, "RETRY_S", 0.02)
    monkeypatch.setattr(pace, "FAST_S", 0.01)
    monkeypatch.setattr(pace, "SLOW_S", 0.05)
    monkeypatch.setattr(pace, "REST", 1.0)
    made = []

    def make_one(mode: str, **options: object) -> WorkspaceWatcher:
        use_mode(mode, monkeypatch, workspace.path)
        options = {"revalidate": receiver.revalidate, **options}
        made.append(WorkspaceWatcher(workspace, receiver, receiver.known, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make_one
    for one in made:
        one.stop()


@pytest.fixture(params=MODES)
def watching(request: pytest.FixtureRequest, make: Make) -> WorkspaceWatcher:
    """A started watcher, in each mode."""
    made = make(request.param)
    made.start()
    assert made.mode == request.param
    return made


def path_of(workspace: Workspace, a: object) -> str:
    return os.path.join(workspace.path, statepoint_id({"a": a}))


def told(watching: WorkspaceWatcher) -> Callable[[], bool]:
    return lambda: bool(watching.status()["last"])


def test_documents_are_not_read_before_somebody_asks(
    watching: WorkspaceWatcher, workspace: Workspace, receiver: Receiver
) -> None:
    create_many(workspace.path, range(3), documents=True)
    wait_until(lambda: receiver.values() == [0, 1, 2])
    assert set(receiver.documents().values()) == {None}
    assert watching.status()["documents"] == "no"
    watching.follow_documents()
    assert receiver.documents() == {0: {"b": 0}, 1: {"b": 1}, 2: {"b": 2}}
    assert watching.status()["documents"] == ("polling" if watching.mode == "polling" else "events")
    assert len(receiver.threads) == 1, "one thread reads and tells"


def test_documents_are_followed_however_they_are_written(
    watching: WorkspaceWatcher, workspace: Workspace, receiver: Receiver
) -> None:
    create_many(workspace.path, range(3), documents=True)
    wait_until(lambda: len(receiver.records) == 3)
    watching.now()
    job = path_of(workspace, 1)
    replace_document(job, {"b": "replaced"})
    wait_until(lambda: receiver.documents()[1] == {"b": "replaced"})
    Path(job, DOC_FILE).write_text('{"b": "in place"}')
    wait_until(lambda: receiver.documents()[1] == {"b": "in place"})
    Path(job, DOC_FILE).write_text('{"b": 1')
    with open(os.path.join(job, DOC_FILE), "a", encoding="utf-8") as file:
        file.write("7}")
    wait_until(lambda: receiver.documents()[1] == {"b": 17})
    os.unlink(os.path.join(job, DOC_FILE))
    wait_until(lambda: receiver.documents()[1] == {})
    replace_document(job, {"b": "back"})
    wait_until(lambda: receiver.documents() == {0: {"b": 0}, 1: {"b": "back"}, 2: {"b": 2}})


def test_new_jobs_are_followed_too(watching: WorkspaceWatcher, workspace: Workspace, receiver: Receiver) -> None:
    watching.now()
    create_many(workspace.path, range(3), documents=True)
    wait_until(lambda: receiver.documents() == {0: {"b": 0}, 1: {"b": 1}, 2: {"b": 2}})
    finish = write_later(workspace, {"a": 3})
    wait_until(lambda: watching.status()["pending"] == 1)
    finish()
    wait_until(lambda: 3 in receiver.documents())
    for a in (0, 3):
        replace_document(path_of(workspace, a), {"b": "new"})
    wait_until(lambda: receiver.documents() == {0: {"b": "new"}, 1: {"b": 1}, 2: {"b": 2}, 3: {"b": "new"}})


def test_a_renamed_job_is_followed_under_its_new_name(
    watching: WorkspaceWatcher, workspace: Workspace, receiver: Receiver
) -> None:
    create_many(workspace.path, range(2), documents=True)
    wait_until(lambda: len(receiver.records) == 2)
    watching.now()
    old, new = path_of(workspace, 0), path_of(workspace, 10)
    Path(old, SP_FILE).write_text('{"a": 10}')
    os.rename(old, new)
    replace_document(new, {"b": "new"})
    wait_until(lambda: receiver.documents() == {1: {"b": 1}, 10: {"b": "new"}})
    create_many(workspace.path, range(1), documents=True)
    wait_until(lambda: 0 in receiver.documents())
    replace_document(old, {"b": "other"})
    replace_document(new, {"b": "newer"})
    wait_until(lambda: receiver.documents() == {0: {"b": "other"}, 1: {"b": 1}, 10: {"b": "newer"}})
    shutil.rmtree(new)
    wait_until(lambda: 10 not in receiver.documents())


def test_what_signac_does_is_followed(watching: WorkspaceWatcher, receiver: Receiver, tmp_path: Path) -> None:
    signac = pytest.importorskip("signac")
    project = signac.init_project(str(tmp_path))
    jobs = [project.open_job({"a": number}).init() for number in range(5)]
    wait_until(lambda: len(receiver.records) == 5)
    watching.now()
    for job in jobs:
        job.document["b"] = job.statepoint["a"]
    wait_until(lambda: receiver.documents() == {number: {"b": number} for number in range(5)})
    jobs[0].update_statepoint({"a": 10}, overwrite=True)
    jobs[0].document["b"] = 10
    jobs[1].clear()
    jobs[2].reset()
    jobs[2].document.c = 1
    jobs[3].remove()
    jobs[4].document.clear()
    wait_until(lambda: receiver.documents() == {10: {"b": 10}, 1: {}, 2: {"c": 1}, 4: {}})
    jobs[3].init()
    jobs[3].document.d = 1
    jobs[0].document.d = 2
    wait_until(lambda: receiver.documents() == {10: {"b": 10, "d": 2}, 1: {}, 2: {"c": 1}, 3: {"d": 1}, 4: {}})


def test_a_replaced_workspace_is_followed_again(
    watching: WorkspaceWatcher, workspace: Workspace, receiver: Receiver, tmp_path: Path
) -> None:
    create_many(workspace.path, range(2), documents=True)
    wait_until(lambda: len(receiver.records) == 2)
    watching.now()
    (tmp_path / "other").mkdir()
    create_many(str(tmp_path / "other"), range(1, 3), documents=True)
    replace_document(str(tmp_path / "other" / statepoint_id({"a": 1})), {"b": "other"})
    os.rename(workspace.path, tmp_path / "before")
    os.rename(tmp_path / "other", workspace.path)
    wait_until(lambda: receiver.documents() == {1: {"b": "other"}, 2: {"b": 2}})
    replace_document(path_of(workspace, 2), {"b": "new"})
    replace_document(str(tmp_path / "before" / statepoint_id({"a": 1})), {"b": "nobody's"})
    wait_until(lambda: receiver.documents() == {1: {"b": "other"}, 2: {"b": "new"}})
    shutil.rmtree(workspace.path)
    wait_until(lambda: not receiver.records)
    os.mkdir(workspace.path)
    create_many(workspace.path, range(1), documents=True)
    wait_until(lambda: receiver.documents() == {0: {"b": 0}})
    replace_document(path_of(workspace, 0), {"b": "last"})
    wait_until(lambda: receiver.documents() == {0: {"b": "last"}})


def test_asking_again_costs_nothing_where_events_tell(
    watching: WorkspaceWatcher, workspace: Workspace, receiver: Receiver
) -> None:
    create_many(workspace.path, range(2), documents=True)
    watching.now()
    if watching.mode == "polling":
        pytest.skip("asks again when the answer is too old")
    asked = len(receiver.revalidations)
    for _ in range(100):
        watching.now()
        watching.follow_documents()
        watching.refresh_documents(0.0)
    assert len(receiver.revalidations) == asked


def test_in_polling_mode_an_answer_is_as_young_as_was_asked(
    make: Make, workspace: Workspace, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "MAX_AGE_TOOK", 0.0)
    monkeypatch.setattr(pace, "FAST_S", 1000.0)
    monkeypatch.setattr(pace, "SLOW_S", 1000.0)
    create_many(workspace.path, range(2), documents=True)
    watching = make("polling")
    watching.start()
    watching.now()
    assert receiver.documents() == {0: {"b": 0}, 1: {"b": 1}}
    for number in range(5):
        replace_document(path_of(workspace, 0), {"b": number})
        watching.refresh_documents(0.0)
        assert receiver.documents()[0] == {"b": number}
    asked = len(receiver.revalidations)
    for _ in range(5):
        watching.refresh_documents(3600.0)
    assert len(receiver.revalidations) == asked


def test_many_may_ask_at_once(watching: WorkspaceWatcher, workspace: Workspace, receiver: Receiver) -> None:
    create_many(workspace.path, range(20), documents=True)
    wait_until(lambda: len(receiver.records) == 20)
    seen = []

    def ask() -> None:
        watching.follow_documents()
        seen.append(all(receiver.documents().values()) or receiver.documents()[0] == {"b": 0})

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert seen == [True] * 8


def test_asking_in_the_watchers_own_threads_before_the_start_and_after_the_stop_returns(
    make: Make, workspace: Workspace, receiver: Receiver
) -> None:
    create_many(workspace.path, range(2), documents=True)

    def revalidate(with_documents: bool) -> Findings:
        made.follow_documents()
        return receiver.revalidate(with_documents)

    def on_changes(changes: Sequence[Change]) -> None:
        made.follow_documents()
        made.refresh_documents(0.0)
        receiver(changes)

    made = make("inotify", revalidate=revalidate)
    made._on_changes = on_changes
    made.follow_documents()
    made.start()
    wait_until(lambda: receiver.documents() == {0: {"b": 0}, 1: {"b": 1}})
    made.stop()
    made.follow_documents()
    made.now()


def test_a_stop_frees_whoever_waits(make: Make, workspace: Workspace, receiver: Receiver) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def revalidate(with_documents: bool) -> Findings:
        begun.set()
        while not go_on.wait(0.001):
            made.progress(0, 1)
        return Findings([], [])

    made = make("inotify", revalidate=revalidate)
    made.start()
    waiting = threading.Thread(target=made.follow_documents)
    waiting.start()
    begun.wait(60)
    made.stop()
    waiting.join(60)
    assert not waiting.is_alive()


def test_events_are_followed_while_everything_is_compared(make: Make, workspace: Workspace, receiver: Receiver) -> None:
    create_many(workspace.path, range(2))
    compared, go_on = threading.Event(), threading.Event()

    def revalidate(with_documents: bool) -> Findings:
        findings = receiver.revalidate(with_documents)
        compared.set()
        go_on.wait(60)
        return findings

    made = make("inotify", revalidate=revalidate)
    made.start()
    compared.wait(60)
    shutil.rmtree(path_of(workspace, 0))
    create_many(workspace.path, range(5, 6))
    wait_until(lambda: receiver.values() == [5])
    go_on.set()
    wait_until(told(made))
    assert receiver.values() == [1, 5], "what was found of job 0 is older than its removal"


def test_a_comparison_that_fails_is_made_again(make: Make, workspace: Workspace, receiver: Receiver) -> None:
    create_many(workspace.path, range(2), documents=True)
    trouble: list[Exception] = [OSError(5, "Input/output error"), RuntimeError("bug")]

    def revalidate(with_documents: bool) -> Findings:
        if trouble:
            raise trouble.pop()
        return receiver.revalidate(with_documents)

    made = make("inotify", revalidate=revalidate)
    made.start()
    made.follow_documents()
    wait_until(lambda: receiver.documents() == {0: {"b": 0}, 1: {"b": 1}})
    wait_until(lambda: made.status()["documents"] == "events")


def test_changes_are_told_in_calls_of_bounded_size(
    make: Make, workspace: Workspace, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "BATCH", 7)
    create_many(workspace.path, range(50), documents=True)
    made = make("inotify")
    made.start()
    wait_until(lambda: len(receiver.records) == 50)
    made.now()
    assert receiver.documents() == {number: {"b": number} for number in range(50)}
    create_many(workspace.path, range(50, 100), documents=True)
    wait_until(lambda: receiver.documents() == {number: {"b": number} for number in range(100)})
    assert max(map(len, receiver.batches)) <= 7


def test_documents_beyond_the_watches_that_may_be_used_are_polled(
    make: Make, workspace: Workspace, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inotify, "MAX_DOCUMENT_WATCHES", 3)
    create_many(workspace.path, range(5), documents=True)
    made = make("inotify")
    made.start()
    made.now()
    assert made.status()["documents"] == "polling"
    assert made.status()["watches"] == 1 + 3
    for number in range(5):
        replace_document(path_of(workspace, number), {"b": "new"})
    wait_until(lambda: set(map(str, receiver.documents().values())) == {"{'b': 'new'}"})
    create_many(workspace.path, range(5, 6), documents=True)
    wait_until(lambda: receiver.documents().get(5) == {"b": 5})


def test_documents_are_polled_when_the_kernel_has_no_more_watches(
    make: Make, workspace: Workspace, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = inotify.INotify.add_watch
    given: list[str] = []

    def add_watch(self: object, path: str, mask: int) -> int:
        if len(given) >= 3:
            raise OSError(28, "No space left on device")
        given.append(path)
        return real(self, path, mask)

    create_many(workspace.path, range(5), documents=True)
    monkeypatch.setattr(inotify.INotify, "add_watch", add_watch)
    made = make("inotify")
    made.start()
    made.now()
    assert made.status()["documents"] == "polling"
    for number in range(5):
        replace_document(path_of(workspace, number), {"b": "new"})
    wait_until(lambda: set(map(str, receiver.documents().values())) == {"{'b': 'new'}"})
    create_many(workspace.path, range(5, 6), documents=True)
    wait_until(lambda: receiver.documents().get(5) == {"b": 5})


def test_the_watches_of_inotify_are_where_the_jobs_are(make: Make, workspace: Workspace, receiver: Receiver) -> None:
    create_many(workspace.path, range(10), documents=True)
    made = make("inotify")
    made.start()
    made.now()
    for number in range(5):
        shutil.rmtree(path_of(workspace, number))
    for number in range(5, 8):
        Path(path_of(workspace, number), SP_FILE).write_text(json.dumps({"a": number + 100}))
        os.rename(path_of(workspace, number), path_of(workspace, number + 100))
    wait_until(lambda: receiver.values() == [8, 9, 105, 106, 107])
    source = made._source
    assert isinstance(source, inotify.Inotify)
    wait_until(lambda: source.watches == 1 + 5)
    source.check()
    assert set(source._followed) == receiver.known()


def test_each_better_mode_that_cannot_be_is_explained(
    workspace: Workspace, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: object, path: str) -> None:
        raise sources.NoEvents(1, "fanotify: Operation not permitted")

    monkeypatch.setattr(watcher.Fanotify, "__init__", refuse)
    made = WorkspaceWatcher(workspace, receiver, receiver.known)
    made.open()
    try:
        assert made.mode == "inotify"
        assert made.status()["reason"] == "fanotify: Operation not permitted"
        assert made.status()["file_system"]
    finally:
        made.stop()


def test_a_file_system_that_others_write_to_is_polled(
    workspace: Workspace, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "file_system_type", lambda _: "nfs4")
    made = WorkspaceWatcher(workspace, receiver, receiver.known)
    made.start()
    try:
        assert made.mode == "polling"
        assert "nfs4" in str(made.status()["reason"])
        workspace.create({"a": 1})
        wait_until(lambda: receiver.values() == [1])
    finally:
        made.stop()


def test_everything_is_compared_now_and_then_whatever_events_say(
    make: Make, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "REVALIDATION_S", 0.01)
    make("inotify").start()
    wait_until(lambda: len(receiver.revalidations) > 3)


def test_a_source_that_fails_later_is_given_up(
    make: Make, workspace: Workspace, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_many(workspace.path, range(2), documents=True)
    made = make("inotify")
    made.start()
    made.now()

    def refuse(self: object, path: str, mask: int) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(inotify.INotify, "add_watch", refuse)
    shutil.rmtree(workspace.path)
    os.mkdir(workspace.path)
    create_many(workspace.path, range(1, 3), documents=True)
    wait_until(lambda: receiver.documents() == {1: {"b": 1}, 2: {"b": 2}})
    wait_until(lambda: made.mode == "polling")
    replace_document(path_of(workspace, 1), {"b": "new"})
    wait_until(lambda: receiver.documents() == {1: {"b": "new"}, 2: {"b": 2}})


def test_threads_and_descriptors_end_with_the_watcher(make: Make, workspace: Workspace) -> None:
    before, threads = descriptors(), set(threading.enumerate())
    for mode in ("inotify", "polling"):
        made = make(mode)
        made.start()
        create_many(workspace.path, range(3), documents=True)
        made.now()
        made.stop()
        shutil.rmtree(workspace.path)
        os.mkdir(workspace.path)
    assert not set(threading.enumerate()) - threads
    assert_none_left(before)


def test_a_workspace_made_anew_is_watched_at_once_though_it_may_have_the_old_inode_number(
    watching: WorkspaceWatcher, workspace: Workspace, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        shutil.rmtree(workspace.path)
        os.mkdir(workspace.path)
        create_many(workspace.path, range(number, number + 2))
        wait_until(lambda number=number: receiver.values() == [number, number + 1])  # type: ignore[misc]
