"""The watcher against a real directory: whatever happens below is told, late or not, in any mode."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from sigfs.model.statepoint import statepoint_id
from sigfs.model.types import Change, JobId
from sigfs.model.workspace import Workspace
from sigfs.watch import WorkspaceWatcher, inotify, watcher
from tests.support.descriptors import assert_none_left, descriptors
from tests.support.wait import wait_until
from tests.unit.watch.modes import use_mode
from tests.unit.watch.receiver import SP_FILE, Receiver, create_many, write_later


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "workspace").mkdir()
    return Workspace(str(tmp_path / "workspace"))


@pytest.fixture
def receiver(workspace: Workspace) -> Receiver:
    return Receiver(workspace)


@pytest.fixture(params=["fanotify", "inotify", "polling"])
def watching(
    request: pytest.FixtureRequest, workspace: Workspace, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> Iterator[WorkspaceWatcher]:
    """A started watcher, in each mode."""
    use_mode(request.param, monkeypatch, workspace.path)
    monkeypatch.setattr(watcher, "POLL_S", 0.02)
    monkeypatch.setattr(watcher, "IDENTITY_S", 0.05)
    monkeypatch.setattr(watcher, "RETRY_S", 0.02)
    made = WorkspaceWatcher(workspace, receiver, receiver.known)
    made.start()
    assert made.mode == request.param
    yield made
    made.stop()


def test_a_job_created_below_is_told(watching: WorkspaceWatcher, workspace: Workspace, receiver: Receiver) -> None:
    job = workspace.create({"a": 1})
    wait_until(lambda: job in receiver.records)
    assert receiver.records[job].statepoint == {"a": 1}


def test_a_removed_job_is_told(watching: WorkspaceWatcher, workspace: Workspace, receiver: Receiver) -> None:
    job = workspace.create({"a": 1})
    wait_until(lambda: job in receiver.records)
    shutil.rmtree(os.path.join(workspace.path, job))
    wait_until(lambda: not receiver.records)


def test_what_is_there_before_the_start_is_told(workspace: Workspace, receiver: Receiver) -> None:
    job = workspace.create({"a": 1})
    made = WorkspaceWatcher(workspace, receiver, receiver.known)
    made.start()
    try:
        wait_until(lambda: job in receiver.records)
    finally:
        made.stop()


def test_a_job_removed_between_opening_and_start_is_told(workspace: Workspace, receiver: Receiver) -> None:
    job = workspace.create({"a": 1})
    made = WorkspaceWatcher(workspace, receiver, receiver.known)
    made.open()
    receiver.records = {job: workspace.read(job)}
    shutil.rmtree(os.path.join(workspace.path, job))
    made.start()
    try:
        wait_until(lambda: not receiver.records)
    finally:
        made.stop()


def test_a_state_point_that_comes_late_is_awaited(
    watching: WorkspaceWatcher, workspace: Workspace, receiver: Receiver
) -> None:
    finish = write_later(workspace, {"a": 1})
    other = workspace.create({"a": 2})
    wait_until(lambda: other in receiver.records)
    assert receiver.values() == [2]
    finish()
    wait_until(lambda: receiver.values() == [1, 2])


def test_a_directory_that_is_moved_before_its_state_point_is_written_is_looked_at_again(
    watching: WorkspaceWatcher, workspace: Workspace, receiver: Receiver
) -> None:
    job = workspace.create({"a": 1})
    wait_until(lambda: job in receiver.records)
    new = statepoint_id({"a": 2})
    os.rename(os.path.join(workspace.path, job), os.path.join(workspace.path, new))
    wait_until(lambda: set(receiver.records) == {new})
    with open(os.path.join(workspace.path, new, SP_FILE), "w", encoding="utf-8") as file:
        json.dump({"a": 2}, file)
    wait_until(lambda: receiver.values() == [2])
    wait_until(lambda: len(watching._pending) == 0)
    os.rename(os.path.join(workspace.path, new), os.path.join(workspace.path, job))
    wait_until(lambda: set(receiver.records) == {job})
    shutil.rmtree(os.path.join(workspace.path, job))
    wait_until(lambda: not receiver.records and len(watching._pending) == 0)


def test_a_pending_directory_that_is_made_anew_is_awaited_too(
    watching: WorkspaceWatcher, workspace: Workspace, receiver: Receiver
) -> None:
    write_later(workspace, {"a": 1})
    wait_until(lambda: len(watching._pending) == 1)
    os.rmdir(os.path.join(workspace.path, statepoint_id({"a": 1})))
    finish = write_later(workspace, {"a": 1})
    workspace.create({"a": 2})
    wait_until(lambda: receiver.values() == [2])
    finish()
    wait_until(lambda: receiver.values() == [1, 2])


def test_a_state_point_that_becomes_readable_is_told(
    watching: WorkspaceWatcher, workspace: Workspace, receiver: Receiver
) -> None:
    path = os.path.join(workspace.path, statepoint_id({"a": 1}))
    os.mkdir(path)
    with open(os.path.join(path, SP_FILE), "w", encoding="utf-8") as file:
        file.write('{"a"')
        file.flush()
        wait_until(lambda: len(watching._pending) == 1)
        file.write(": 1}")
    wait_until(lambda: receiver.values() == [1])


def test_a_renamed_job_is_told_in_one_batch(workspace: Workspace, receiver: Receiver) -> None:
    old = workspace.create({"a": 1})
    made = WorkspaceWatcher(workspace, receiver, receiver.known)
    made.start()
    try:
        wait_until(lambda: receiver.values() == [1])
        new = statepoint_id({"a": 2})
        with open(os.path.join(workspace.path, old, SP_FILE), "w", encoding="utf-8") as file:
            json.dump({"a": 2}, file)
        os.rename(os.path.join(workspace.path, old), os.path.join(workspace.path, new))
        wait_until(lambda: receiver.values() == [2])
        assert [(change.id, change.record is None) for change in receiver.batches[-1]] == [(old, True), (new, False)]
    finally:
        made.stop()


def test_a_pending_directory_renamed_to_its_final_name_is_told(
    watching: WorkspaceWatcher, workspace: Workspace, receiver: Receiver
) -> None:
    finish = write_later(workspace, {"a": 1})
    wait_until(lambda: len(watching._pending) == 1)
    finish_path = os.path.join(workspace.path, statepoint_id({"a": 1}))
    target = os.path.join(workspace.path, statepoint_id({"a": 2}))
    os.rename(finish_path, target)
    with open(os.path.join(target, SP_FILE), "w", encoding="utf-8") as file:
        json.dump({"a": 2}, file)
    wait_until(lambda: receiver.values() == [2])
    wait_until(lambda: len(watching._pending) == 0)
    assert callable(finish)


def test_a_storm_of_jobs_made_by_others_is_told_completely(
    watching: WorkspaceWatcher, workspace: Workspace, receiver: Receiver
) -> None:
    context = multiprocessing.get_context("spawn")
    makers = [
        context.Process(target=create_many, args=(workspace.path, range(start, start + 1000))) for start in (0, 1000)
    ]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    wait_until(lambda: len(receiver.records) == 2000)
    assert receiver.values() == list(range(2000))
    wait_until(lambda: len(watching._pending) == 0)


def test_a_storm_of_removals_is_told_completely(
    watching: WorkspaceWatcher, workspace: Workspace, receiver: Receiver
) -> None:
    create_many(workspace.path, range(500))
    wait_until(lambda: len(receiver.records) == 500)
    for name in os.listdir(workspace.path):
        shutil.rmtree(os.path.join(workspace.path, name))
    wait_until(lambda: not receiver.records)


def test_a_missing_workspace_is_noticed_when_it_appears(
    watching: WorkspaceWatcher, workspace: Workspace, receiver: Receiver
) -> None:
    workspace.create({"a": 1})
    wait_until(lambda: receiver.values() == [1])
    shutil.rmtree(workspace.path)
    wait_until(lambda: not receiver.records)
    os.mkdir(workspace.path)
    workspace.create({"a": 2})
    wait_until(lambda: receiver.values() == [2])
    workspace.create({"a": 3})
    wait_until(lambda: receiver.values() == [2, 3])


def test_a_workspace_swapped_for_another_is_noticed(
    watching: WorkspaceWatcher, workspace: Workspace, receiver: Receiver, tmp_path: Path
) -> None:
    workspace.create({"a": 1})
    wait_until(lambda: receiver.values() == [1])
    (tmp_path / "other").mkdir()
    Workspace(str(tmp_path / "other")).create({"a": 2})
    os.rename(workspace.path, tmp_path / "before")
    os.rename(tmp_path / "other", workspace.path)
    wait_until(lambda: receiver.values() == [2])
    Workspace(str(tmp_path / "before")).create({"a": 4})
    workspace.create({"a": 3})
    wait_until(lambda: receiver.values() == [2, 3])


def test_a_workspace_that_is_replaced_while_it_is_being_attached_to_is_noticed(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = inotify.Inotify(workspace.path)
    try:
        real = source._queue.add_watch

        def add_watch(path: str, mask: int) -> int:
            watch: int = real(path, mask)
            os.rename(workspace.path, tmp_path / "before")
            os.mkdir(workspace.path)
            return watch

        monkeypatch.setattr(source._queue, "add_watch", add_watch)
        assert source.attach()
        assert not source.in_place()
    finally:
        source.close()


def test_a_workspace_below_a_renamed_directory_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher, "IDENTITY_S", 0.05)
    monkeypatch.setattr(watcher, "POLL_S", 0.05)
    (tmp_path / "p" / "workspace").mkdir(parents=True)
    workspace = Workspace(str(tmp_path / "p" / "workspace"))
    receiver = Receiver(workspace)
    workspace.create({"a": 1})
    made = WorkspaceWatcher(workspace, receiver, receiver.known)
    made.start()
    try:
        wait_until(lambda: receiver.values() == [1])
        os.rename(tmp_path / "p", tmp_path / "q")
        wait_until(lambda: not receiver.records)
        os.rename(tmp_path / "q", tmp_path / "p")
        wait_until(lambda: receiver.values() == [1])
    finally:
        made.stop()


def test_an_unreadable_workspace_is_not_an_empty_one(
    watching: WorkspaceWatcher, workspace: Workspace, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.create({"a": 1})
    wait_until(lambda: receiver.values() == [1])
    asked = []

    def refuse(self: Workspace) -> Iterator[JobId]:
        asked.append(1)
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Workspace, "ids", refuse)
        watching.reconcile()
        wait_until(lambda: len(asked) > 1)
        assert receiver.values() == [1]
    workspace.create({"a": 2})
    wait_until(lambda: receiver.values() == [1, 2])


def test_an_error_in_the_receiver_loses_nothing(
    watching: WorkspaceWatcher, workspace: Workspace, receiver: Receiver
) -> None:
    receiver.trouble = [ZeroDivisionError(), ZeroDivisionError()]
    workspace.create({"a": 1})
    wait_until(lambda: receiver.values() == [1])
    assert not receiver.trouble
    assert len(receiver.threads) == 1


def test_files_and_foreign_directories_are_ignored(
    watching: WorkspaceWatcher, workspace: Workspace, receiver: Receiver
) -> None:
    for name in ("notes", "A" * 32, "0" * 31, ".tmp"):
        os.mkdir(os.path.join(workspace.path, name))
    with open(os.path.join(workspace.path, "f" * 32), "w", encoding="utf-8"):
        pass
    os.symlink(workspace.path, os.path.join(workspace.path, "e" * 32))
    job = workspace.create({"a": 1})
    wait_until(lambda: job in receiver.records)
    assert {change.id for batch in receiver.batches for change in batch if change.record} == {job}
    assert len(watching._pending) == 0


def test_a_known_job_without_its_state_point_file_stays(
    watching: WorkspaceWatcher, workspace: Workspace, receiver: Receiver
) -> None:
    job = workspace.create({"a": 1})
    wait_until(lambda: job in receiver.records)
    before = workspace.create({"a": 0})
    wait_until(lambda: before in receiver.records)  # no event of the job is yet to be read
    os.unlink(os.path.join(workspace.path, job, SP_FILE))
    watching.reconcile()
    other = workspace.create({"a": 2})
    wait_until(lambda: other in receiver.records)
    assert receiver.values() == [0, 1, 2]


def test_many_pending_directories_share_a_bounded_number_of_watches(
    workspace: Workspace, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_mode("inotify", monkeypatch, workspace.path)
    monkeypatch.setattr(inotify, "MAX_PENDING_WATCHES", 3)
    made = WorkspaceWatcher(workspace, receiver, receiver.known)
    made.start()
    try:
        finishing = [write_later(workspace, {"a": number}) for number in range(10)]
        wait_until(lambda: len(made._pending) == 10)
        assert made.status()["watches"] == 1 + 3
        for finish in finishing:
            finish()
        wait_until(lambda: receiver.values() == list(range(10)))
        wait_until(lambda: made.status()["watches"] == 1)
    finally:
        made.stop()


@pytest.mark.parametrize("code", [28, 24, 1])
def test_without_watches_it_polls(
    workspace: Workspace, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(self: object, path: str, mask: int) -> int:
        raise OSError(code, os.strerror(code))

    use_mode("inotify", monkeypatch, workspace.path)
    monkeypatch.setattr(inotify.INotify, "add_watch", refuse)
    made = WorkspaceWatcher(workspace, receiver, receiver.known)
    made.start()
    try:
        assert made.mode == "polling"
        workspace.create({"a": 1})
        wait_until(lambda: receiver.values() == [1])
    finally:
        made.stop()


def test_documents_are_read_where_asked_for(workspace: Workspace, receiver: Receiver) -> None:
    job = workspace.create({"a": 1})
    with open(os.path.join(workspace.path, job, "signac_job_document.json"), "w", encoding="utf-8") as file:
        file.write('{"b": 2}')
    made = WorkspaceWatcher(workspace, receiver, receiver.known, documents=True)
    made.start()
    try:
        wait_until(lambda: job in receiver.records)
        assert receiver.records[job].document == {"b": 2}
        with open(os.path.join(workspace.path, job, "signac_job_document.json"), "w", encoding="utf-8") as file:
            file.write('{"b": 3}')
        made.reconcile()
        wait_until(lambda: receiver.records[job].document == {"b": 3})
    finally:
        made.stop()


def test_jobs_that_signac_makes_moves_and_removes_are_told(
    watching: WorkspaceWatcher, receiver: Receiver, tmp_path: Path
) -> None:
    signac = pytest.importorskip("signac")
    project = signac.init_project(str(tmp_path))
    jobs = [project.open_job({"a": number}).init() for number in range(5)]
    wait_until(lambda: receiver.values() == [0, 1, 2, 3, 4])
    jobs[0].update_statepoint({"a": 10}, overwrite=True)
    jobs[1].statepoint = {"a": 11}
    wait_until(lambda: receiver.values() == [2, 3, 4, 10, 11])
    jobs[2].remove()
    wait_until(lambda: receiver.values() == [3, 4, 10, 11])
    assert receiver.records[JobId(jobs[0].id)].statepoint == {"a": 10}


def test_stopping_twice_and_before_the_start_is_fine(workspace: Workspace, receiver: Receiver) -> None:
    made = WorkspaceWatcher(workspace, receiver, receiver.known)
    made.stop()
    made = WorkspaceWatcher(workspace, receiver, receiver.known)
    made.start()
    made.stop()
    made.stop()
    workspace.create({"a": 1})
    assert not receiver.batches
    with pytest.raises(RuntimeError):
        made.start()


def test_nothing_is_left_open(workspace: Workspace, receiver: Receiver) -> None:
    before = descriptors()
    made = WorkspaceWatcher(workspace, receiver, receiver.known)
    made.start()
    write_later(workspace, {"a": 1})
    wait_until(lambda: len(made._pending) == 1)
    made.stop()
    assert_none_left(before)


def half_migrate(workspace: Workspace, old: dict[str, object], new: dict[str, object]) -> tuple[JobId, JobId]:
    """Leave a job as a process that was killed between the steps of a migration does."""
    old_id, new_id = workspace.create(old), statepoint_id(new)
    with open(os.path.join(workspace.path, old_id, "._sigfs_0"), "w", encoding="utf-8") as file:
        json.dump(new, file)
    os.rename(os.path.join(workspace.path, old_id), os.path.join(workspace.path, new_id))
    return old_id, new_id


@pytest.mark.parametrize("when", ["before", "while watching"])
def test_a_migration_that_was_left_half_done_is_completed(
    workspace: Workspace, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    monkeypatch.setattr(watcher, "FINISH_S", 0.05)
    made = WorkspaceWatcher(workspace, receiver, receiver.known, finish=workspace.finish)
    if when == "before":
        old, new = half_migrate(workspace, {"a": 1}, {"a": 2})
        receiver([Change(new, workspace.read(new))])
        made.start()
        made.look_at(new)
    else:
        made.start()
        old, new = half_migrate(workspace, {"a": 1}, {"a": 2})
    try:
        wait_until(lambda: receiver.values() == [2])
        assert receiver.known() == {new}
        assert os.listdir(os.path.join(workspace.path, new)) == [SP_FILE]
        assert old not in receiver.known()
    finally:
        made.stop()


def test_the_status_says_when_something_was_last_noticed(
    watching: WorkspaceWatcher, workspace: Workspace, receiver: Receiver
) -> None:
    wait_until(lambda: watching.status()["last"])
    job = workspace.create({"a": 1})
    wait_until(lambda: job in receiver.records)
    wait_until(lambda: watching.status()["noticed_s"])
    wait_until(lambda: watching.status()["queue"] == 0 and watching.status()["busy_s"] == 0.0)
    status = watching.status()
    assert status["noticed_s"] == pytest.approx(os.stat(workspace.path).st_mtime, abs=60)
    assert (status["events"] > 0) == (watching.mode != "polling")


def test_the_status_says_for_how_long_the_watcher_has_hung(workspace: Workspace, receiver: Receiver) -> None:
    hangs, goes_on = threading.Event(), threading.Event()

    def hang(changes: Sequence[Change]) -> None:
        hangs.set()
        goes_on.wait(60)
        receiver(changes)

    made = WorkspaceWatcher(workspace, hang, receiver.known)
    made.start()
    try:
        wait_until(lambda: made.status()["last"])
        workspace.create({"a": 1})
        assert hangs.wait(60)
        before_s = made.status()["busy_s"]
        wait_until(lambda: made.status()["busy_s"] > before_s)
        goes_on.set()
        wait_until(lambda: made.status()["busy_s"] == 0.0)
    finally:
        goes_on.set()
        made.stop()
