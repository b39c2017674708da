"""Jobs made, moved and removed by their directories, with a kernel that only keeps a list."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sigfs.index import Index
from sigfs.model.statepoint import statepoint_id
from sigfs.model.types import Change
from sigfs.model.workspace import Workspace
from sigfs.tree import Tree
from sigfs.vfs import changes
from sigfs.vfs.inodes import DiskDirectory, File
from sigfs.vfs.operations import Operations
from sigfs.vfs.types import ROOT, Attrs, Caller, FsError, Inode
from tests.unit.vfs.conftest import RecordingNotifier

STATEPOINT = "signac_statepoint.json"


class View:
    """A project with the jobs a=1 and a=2, each with b=1 and b=2; every reference is kept until the end."""

    def __init__(self, base: Path, **options: bool) -> None:
        self.workspace = Workspace(str(base / "workspace"))
        for a in (1, 2):
            for b in (1, 2):
                self.workspace.create({"a": a, "b": b})
        index = Index()
        index.apply(list(self.workspace.scan()))
        self.operations = Operations(Tree(), index, self.workspace, **options)  # type: ignore[arg-type]
        self.notifier = RecordingNotifier(self.operations)
        self.operations.attach(self.notifier, can_notify=True)
        self.me = Caller(os.geteuid(), os.getegid(), os.getpid(), umask=0o022)
        self.took: list[Inode] = []

    def find(self, path: str, caller: Caller | None = None) -> Attrs | None:
        inode, attrs = ROOT, None
        for name in path.split("/"):
            attrs = self.operations.lookup(inode, name, caller or self.me)
            if attrs is None:
                return None
            inode = attrs.inode
            self.took.append(inode)
        return attrs

    def at(self, path: str, caller: Caller | None = None) -> Inode:
        if not path:
            return ROOT
        attrs = self.find(path, caller)
        assert attrs is not None, path
        return attrs.inode

    def mkdir(self, path: str, mode: int = 0o777) -> Attrs:
        above, _, name = path.rpartition("/")
        attrs = self.operations.mkdir(self.at(above), name, mode, self.me)
        self.took.append(attrs.inode)
        return attrs

    def rmdir(self, path: str, caller: Caller | None = None) -> None:
        above, _, name = path.rpartition("/")
        self.operations.rmdir(self.at(above, caller), name, caller or self.me)

    def rename(self, old: str, new: str, flags: int = 0) -> None:
        (old_above, _, old_name), (new_above, _, new_name) = old.rpartition("/"), new.rpartition("/")
        self.operations.rename(self.at(old_above), old_name, self.at(new_above), new_name, flags, self.me)

    def names(self, path: str) -> list[str]:
        handle = self.operations.opendir(self.at(path), self.me)
        try:
            return [entry.name for entry in self.operations.readdir(handle, 0)]
        finally:
            self.operations.releasedir(handle)

    def statepoints(self) -> list[tuple[object, object]]:
        found = [change.record.statepoint or {} for change in self.workspace.scan() if change.record]
        return sorted((each["a"], each["b"]) for each in found)


ALL = [(1, 1), (1, 2), (2, 1), (2, 2)]


@pytest.fixture
def view(tmp_path: Path) -> Iterator[View]:
    made = View(tmp_path)
    yield made
    made.operations.check()
    for inode in reversed(made.took):
        made.operations.forget(inode)
    made.operations.check()
    assert made.operations.statistics()["inodes"] == 1
    made.operations.close()


@pytest.fixture
def other() -> Iterator[Caller]:
    """Another process."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield Caller(os.geteuid(), os.getegid(), process.pid, umask=0o022)
        process.communicate(b"\n")


def failure(call: object, *arguments: object) -> int | None:
    try:
        call(*arguments)  # type: ignore[operator]
    except (OSError, FsError) as error:
        return error.errno
    return None


def test_a_moved_job_keeps_its_node_and_its_other_paths_are_told(view: View) -> None:
    moved, file = view.at("a/1/b/1"), view.at(f"a/1/b/1/{STATEPOINT}")
    other = view.at("b/1/a/1")
    by_id = (view.at(".jobs"), statepoint_id({"a": 1, "b": 1}))
    view.at("/".join([".jobs", by_id[1]]))
    view.notifier.entries.clear()
    view.rename("a/1/b/1", "a/1/b/9")
    assert view.at("a/1/b/9") == moved
    assert view.at(f"a/1/b/9/{STATEPOINT}") != file  # it is a new file
    assert view.find("a/1/b/1") is None
    assert view.find("b/1/a/1") is None
    assert (view.at("b/1/a"), "1") in view.notifier.entries
    assert by_id in view.notifier.entries
    assert view.operations.getattr(other).stat.st_ino == view.operations.getattr(moved).stat.st_ino
    assert view.statepoints() == [(1, 2), (1, 9), (2, 1), (2, 2)]


def test_news_that_is_older_than_a_change_here_is_read_again(view: View) -> None:
    old = statepoint_id({"a": 1, "b": 1})
    stale = Change(old, view.workspace.read(old))
    view.rename("a/1/b/1", "a/1/b/9")
    view.operations.apply([stale, Change(statepoint_id({"a": 1, "b": 9}), None)])
    assert view.find("a/1/b/1") is None
    assert view.find("a/1/b/9") is not None


def test_two_directories_are_not_exchanged(view: View) -> None:
    assert failure(view.rename, "a/1/b/1", "a/1/b/2", 2) == errno.EPERM
    assert failure(view.rename, "a/1/b/1", "a/1/b/2", 1) == errno.EEXIST
    assert failure(view.rename, "a/1/b/5", "a/1/b/6") == errno.ENOENT
    assert view.statepoints() == ALL


def test_a_directory_without_a_job_is_listed_and_resolved_by_all_and_shown_once(view: View, other: Caller) -> None:
    attrs = view.mkdir("a/3")
    assert stat.S_ISDIR(attrs.stat.st_mode)
    assert view.at("a/3", other) == attrs.inode
    view.mkdir("a/3/b")
    assert view.operations.statistics()["new_directories"] == 2
    assert view.names("a") == ["1", "2", "3"]
    view.mkdir("a/3/b/1")
    assert view.operations.statistics()["new_directories"] == 0
    assert view.names("a") == ["1", "2", "3"]
    assert view.at("a/3") == attrs.inode
    assert view.statepoints() == [*ALL, (3, 1)]


def test_directories_without_jobs_are_bounded(view: View, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "PLACES_LIMIT", 2)
    view.mkdir("a/3")
    view.mkdir("a/4")
    assert failure(view.mkdir, "a/5") == errno.ENOSPC
    view.rmdir("a/3")
    view.mkdir("a/5")


def test_what_vanished_is_there_for_the_process_that_emptied_it_only(
    view: View, other: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    view.at("a/1/b")
    view.rmdir("a/1/b/1")
    assert view.find("a/1/b", other) is not None
    view.rmdir("a/1/b/2")
    assert view.find("a/1", other) is None
    assert view.find("a/1/b") is not None
    assert view.names("a/1") == []
    view.rmdir("a/1/b")
    assert view.find("a/1/b") is None
    monkeypatch.setattr(changes.time, "monotonic", lambda: 1e12)
    assert view.find("a/1") is None
    assert view.statepoints() == [(2, 1), (2, 2)]


def test_a_job_without_its_state_point_file_can_still_be_removed(view: View) -> None:
    os.unlink(os.path.join(view.workspace.path, statepoint_id({"a": 1, "b": 1}), STATEPOINT))
    assert view.find("a/1/b/1") is not None
    view.rmdir("a/1/b/1")
    assert view.find("a/1/b/1") is None
    assert len(list(view.workspace.ids())) == 3


def test_the_state_point_file_is_hidden_from_who_made_the_job_until_he_lists_it(view: View, other: Caller) -> None:
    view.mkdir("a/1/b/3")
    assert view.find(f"a/1/b/3/{STATEPOINT}") is None
    assert view.find(f"a/1/b/3/{STATEPOINT}", other) is not None
    assert view.names("a/1/b/3") == [STATEPOINT]
    assert view.find(f"a/1/b/3/{STATEPOINT}") is not None


def test_an_open_for_writing_gets_a_scratch_file_at_the_second_look(view: View) -> None:
    view.mkdir("a/1/b/3")
    view.names("a/1/b/3")
    path = f"a/1/b/3/{STATEPOINT}"
    real = view.at(path)
    assert failure(view.operations.open, real, os.O_WRONLY | os.O_TRUNC, view.me) == errno.ESTALE
    scratch = view.at(path)
    assert scratch != real
    handle = view.operations.open(scratch, os.O_WRONLY | os.O_TRUNC, view.me)
    assert view.at(path) == real
    view.operations.write(handle, 0, b"no state point")
    assert failure(view.operations.flush, handle) == errno.EPERM
    view.operations.write(handle, 0, b'{"a": 1,"b":1}')
    view.operations.flush(handle)
    view.operations.release(handle)
    assert view.workspace.read(statepoint_id({"a": 1, "b": 3})).statepoint == {"a": 1, "b": 3}
    assert sorted(os.listdir(os.path.join(view.workspace.path, statepoint_id({"a": 1, "b": 3})))) == [STATEPOINT]


def test_what_nobody_opens_is_let_go(view: View, monkeypatch: pytest.MonkeyPatch) -> None:
    view.mkdir("a/1/b/3")
    view.names("a/1/b/3")
    real = view.at(f"a/1/b/3/{STATEPOINT}")
    before = view.operations.statistics()["inodes"]
    assert failure(view.operations.open, real, os.O_WRONLY, view.me) == errno.ESTALE
    monkeypatch.setattr("sigfs.vfs.statepoints._WAITING_S", -1.0)
    assert failure(view.operations.open, real, os.O_WRONLY, view.me) == errno.ESTALE
    assert view.operations.statistics()["inodes"] == before + 1
    handle = view.operations.open(view.at(f"a/1/b/3/{STATEPOINT}"), os.O_WRONLY, view.me)
    view.operations.release(handle)


def test_what_is_let_go_while_somebody_opens_it_is_given_back_once(view: View, monkeypatch: pytest.MonkeyPatch) -> None:
    statepoints = view.operations._statepoints
    view.mkdir("a/1/b/3")
    view.names("a/1/b/3")
    job, real = view.at("a/1/b/3"), view.at(f"a/1/b/3/{STATEPOINT}")
    assert failure(view.operations.open, real, os.O_WRONLY, view.me) == errno.ESTALE
    scratch = view.operations._inodes.get(view.at(f"a/1/b/3/{STATEPOINT}"))
    assert isinstance(scratch, File)
    assert scratch.inode != real
    monkeypatch.setattr("sigfs.vfs.statepoints._WAITING_S", -1.0)
    lock = statepoints._lock

    class Overtaken:
        def __enter__(self) -> None:
            statepoints._lock = lock
            directory = view.operations._inodes.get(job)
            assert isinstance(directory, DiskDirectory)
            statepoints.await_opening(directory, os.O_WRONLY, view.me)
            lock.acquire()

        def __exit__(self, *_: object) -> None:
            lock.release()

    statepoints._lock = Overtaken()  # type: ignore[assignment]
    statepoints.opened(scratch)
    assert scratch.lookups == 1
    handle = view.operations.open(view.at(f"a/1/b/3/{STATEPOINT}"), os.O_WRONLY, view.me)
    view.operations.release(handle)


def test_a_state_point_file_may_have_been_in_a_directory_that_has_just_been_forgotten(
    view: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    view.mkdir("a/1/b/3")
    view.names("a/1/b/3")
    file = view.operations._inodes.get(view.at(f"a/1/b/3/{STATEPOINT}"))
    assert isinstance(file, File)
    monkeypatch.setattr(file, "locations", {(Inode(999_999), STATEPOINT): None, **file.locations})
    found = view.operations._statepoints.job_of(file)
    assert found is not None
    assert found.inode == view.at("a/1/b/3")


def test_a_state_point_file_is_not_made_in_a_job_that_has_just_been_removed(
    view: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    view.mkdir("a/1/b/3")
    statepoints, job = view.operations._statepoints, statepoint_id({"a": 1, "b": 3})
    is_kept = statepoints.is_kept

    def overtaken(node: DiskDirectory, name: str) -> bool:
        kept = is_kept(node, name)
        statepoints.removed(job)  # as another thread does
        return kept

    monkeypatch.setattr(statepoints, "is_kept", overtaken)
    create = view.operations.create
    assert failure(create, view.at("a/1/b/3"), STATEPOINT, 0o644, os.O_WRONLY, view.me) == errno.ESTALE


def test_a_job_that_is_being_removed_stays_until_its_directory_is_gone(view: View) -> None:
    view.mkdir("a/1/b/3")
    job = statepoint_id({"a": 1, "b": 3})
    os.unlink(os.path.join(view.workspace.path, job, STATEPOINT))
    view.operations.apply([Change(job, None)])  # as who hears late of its making finds it: without state point
    assert view.find("a/1/b/3") is not None
    view.rmdir("a/1/b/3")
    assert view.find("a/1/b/3") is None


def test_a_read_only_view_is_not_changed(tmp_path: Path) -> None:
    view = View(tmp_path, read_only=True)
    for call in (lambda: view.mkdir("a/3"), lambda: view.rmdir("a/1/b/1"), lambda: view.rename("a/1/b/1", "a/1/b/9")):
        assert failure(call) == errno.EROFS
    assert view.statepoints() == ALL
    view.operations.close()
