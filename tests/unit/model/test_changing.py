"""Migrating and removing jobs: one of several wins, nothing is lost, and a kill leaves nothing half for good."""

import contextlib
import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import sigfs
from sigfs import Job
from sigfs.errors import DestinationExists, InvalidStatePoint, JobNotEmpty, NoSuchJob, PendingJob
from sigfs.model import changing, files
from sigfs.model.statepoint import is_job_id, load_json, statepoint_id
from sigfs.model.workspace import DOCUMENT_FILE, STATEPOINT_FILE, Workspace

OLD, NEW = {"a": 1, "b": 1}, {"a": 1, "b": 2}
OLD_ID, NEW_ID = statepoint_id(OLD), statepoint_id(NEW)


@pytest.fixture
def workspace(tmp_path):
    made = Workspace(str(tmp_path / "workspace"))
    made.create(OLD)
    return made


def inside(workspace, job_id):
    return Path(workspace.path) / job_id


def content(workspace, job_id):
    return {path.name: path.read_bytes() for path in inside(workspace, job_id).iterdir()}


def _die(*_args):
    os._exit(9)


def names(workspace):
    return sorted(os.listdir(workspace.path))


def test_a_migrated_job_has_its_new_state_point_and_keeps_its_files_its_inode_and_what_is_open(workspace):
    path = inside(workspace, OLD_ID)
    (path / "data").write_text("kept")
    os.chmod(path / STATEPOINT_FILE, 0o640)
    before = path.stat().st_ino
    with open(path / "data", "a") as file:
        assert workspace.migrate(OLD_ID, NEW) == NEW_ID
        file.write(" and more")
    assert names(workspace) == [NEW_ID]
    assert content(workspace, NEW_ID) == {STATEPOINT_FILE: b'{"a": 1, "b": 2}', "data": b"kept and more"}
    assert inside(workspace, NEW_ID).stat().st_ino == before
    assert (inside(workspace, NEW_ID) / STATEPOINT_FILE).stat().st_mode & 0o777 == 0o640


def test_a_job_is_not_migrated_over_another(workspace):
    workspace.create(NEW)
    (inside(workspace, NEW_ID) / "data").write_text("kept")
    before = content(workspace, OLD_ID), content(workspace, NEW_ID)
    with pytest.raises(DestinationExists):
        workspace.migrate(OLD_ID, NEW)
    assert (content(workspace, OLD_ID), content(workspace, NEW_ID)) == before


@pytest.mark.parametrize("kind", ["directory", "file", "link"])
def test_whatever_has_the_new_name_stays(workspace, tmp_path, kind):
    path = inside(workspace, NEW_ID)
    match kind:
        case "directory":
            path.mkdir()
        case "file":
            path.write_text("")
        case _:
            path.symlink_to(tmp_path)
    with pytest.raises(DestinationExists):
        workspace.migrate(OLD_ID, NEW)
    assert names(workspace) == sorted([OLD_ID, NEW_ID])
    assert list(content(workspace, OLD_ID)) == [STATEPOINT_FILE]


def test_a_file_system_that_does_not_know_noreplace_will_do(workspace, monkeypatch):
    def refuse(*args):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(files, "renameat2", refuse)
    workspace.create(NEW)
    with pytest.raises(DestinationExists):
        workspace.migrate(OLD_ID, NEW)
    workspace.remove(NEW_ID)
    assert workspace.migrate(OLD_ID, NEW) == NEW_ID
    assert names(workspace) == [NEW_ID]


def test_migrating_to_what_it_is_changes_nothing(workspace):
    assert workspace.migrate(OLD_ID, {"b": 1, "a": 1}) == OLD_ID
    assert content(workspace, OLD_ID) == {STATEPOINT_FILE: b'{"a": 1, "b": 1}'}


def test_what_cannot_be_migrated_is_said_and_left(workspace):
    with pytest.raises(NoSuchJob):
        workspace.migrate(NEW_ID, OLD)
    with pytest.raises(InvalidStatePoint):
        workspace.migrate(OLD_ID, {"a.b": 1})
    (inside(workspace, OLD_ID) / STATEPOINT_FILE).unlink()
    with pytest.raises(PendingJob):
        workspace.migrate(OLD_ID, NEW)
    assert names(workspace) == [OLD_ID]
    assert content(workspace, OLD_ID) == {}


@pytest.mark.parametrize("call", ["open", "write", "fsync", "rename"])
def test_no_space_at_any_step_leaves_the_old_job_or_the_new_one(workspace, monkeypatch, call):
    real = getattr(os, call)
    turn, calls, failed = 0, 0, 0

    def failing(*args, **kwargs):
        nonlocal calls, failed
        calls += 1
        if calls == turn:
            failed += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*args, **kwargs)

    while failed == turn:
        turn, calls = turn + 1, 0
        with monkeypatch.context() as patch, contextlib.suppress(OSError, PendingJob):
            patch.setattr(os, call, failing)
            workspace.migrate(OLD_ID, NEW)
        (now,) = names(workspace)
        assert content(workspace, now) == {STATEPOINT_FILE: json.dumps(OLD if now == OLD_ID else NEW).encode()}
        if now == NEW_ID:
            workspace.migrate(NEW_ID, OLD)
    assert turn > 1


def test_a_half_done_migration_is_recognised_and_completed(workspace, monkeypatch):
    monkeypatch.setattr(changing, "_replace", _die)
    if (pid := os.fork()) == 0:
        workspace.migrate(OLD_ID, NEW)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    monkeypatch.undo()
    assert names(workspace) == [NEW_ID]
    assert workspace.read(NEW_ID).statepoint == OLD
    assert workspace.finish(NEW_ID)
    assert not workspace.finish(NEW_ID)
    assert content(workspace, NEW_ID) == {STATEPOINT_FILE: b'{"a": 1, "b": 2}'}


@pytest.mark.parametrize("then", ["create", "migrate"])
def test_whoever_wants_a_half_migrated_job_completes_it_first(workspace, monkeypatch, then):
    with monkeypatch.context() as patch:
        patch.setattr(changing, "_replace", _die)
        if (pid := os.fork()) == 0:
            workspace.migrate(OLD_ID, NEW)
        os.waitpid(pid, 0)
    if then == "create":
        assert workspace.create(NEW) == NEW_ID
    else:
        assert workspace.migrate(NEW_ID, OLD) == OLD_ID
    (left,) = names(workspace)
    assert list(content(workspace, left)) == [STATEPOINT_FILE]


def test_what_another_completes_meanwhile_is_complete(workspace, monkeypatch):
    real = changing._replace

    def overtaken(workspace_fd, job_id, temporary):
        real(workspace_fd, job_id, temporary)
        real(workspace_fd, job_id, temporary)

    monkeypatch.setattr(changing, "_replace", overtaken)
    assert workspace.migrate(OLD_ID, NEW) == NEW_ID
    assert content(workspace, NEW_ID) == {STATEPOINT_FILE: b'{"a": 1, "b": 2}'}


def test_a_new_job_that_comes_in_the_place_of_the_one_to_migrate_keeps_its_name(workspace, monkeypatch):
    real = changing.rename_new

    def overtaken(workspace_fd, old, new):
        if old == OLD_ID and not (Path(workspace.path) / "elsewhere").exists():
            inside(workspace, OLD_ID).rename(Path(workspace.path) / "elsewhere")
            workspace.create(OLD)
        real(workspace_fd, old, new)

    monkeypatch.setattr(changing, "rename_new", overtaken)
    with pytest.raises(NoSuchJob):
        workspace.migrate(OLD_ID, NEW)
    assert names(workspace) == sorted([OLD_ID, "elsewhere"])
    assert content(workspace, "elsewhere") == content(workspace, OLD_ID) == {STATEPOINT_FILE: b'{"a": 1, "b": 1}'}


class Overtaking:
    """Does something just before call number *turn* of those of a process to the file system; counted from 0."""

    CALLS = ("open", "read", "write", "fstat", "stat", "rename", "chmod", "fsync", "mkdir", "rmdir", "unlink")

    def __init__(self, monkeypatch, turn, act):
        self.calls, self.turn, self.act = 0, turn, act
        monkeypatch.setattr(os, "fsync", lambda _: None)  # some hundred would take their time
        for call in self.CALLS:
            monkeypatch.setattr(os, call, self.counted(getattr(os, call)))
        monkeypatch.setattr(files, "renameat2", self.counted(files.renameat2))

    def counted(self, real):
        def call(*args, **kwargs):
            self.calls += 1
            if self.calls == self.turn + 1:
                self.act()
            return real(*args, **kwargs)

        return call


OTHER = {"a": 1, "b": 3}


@pytest.mark.parametrize("other", ["migrates", "removes"])
def test_who_is_overtaken_at_any_step_of_a_migration_is_told_that_the_job_is_gone(workspace, monkeypatch, other):
    def act():
        with contextlib.suppress(NoSuchJob):
            if other == "removes":
                workspace.remove(OLD_ID)
            else:
                workspace.migrate(OLD_ID, OTHER)
            won.append(other)

    turn, overtaken = 0, True
    while overtaken:
        won = []
        with monkeypatch.context() as patch:
            overtaking = Overtaking(patch, turn, act)
            with contextlib.suppress(NoSuchJob):
                workspace.migrate(OLD_ID, NEW)
                won.append("migrated")
            overtaken = overtaking.calls > turn
        assert len(won) == 1, (turn, won)
        left = {"migrated": [NEW_ID], "migrates": [statepoint_id(OTHER)], "removes": []}[won[0]]
        assert names(workspace) == left
        for job_id in left:
            assert list(content(workspace, job_id)) == [STATEPOINT_FILE]
            assert statepoint_id(workspace.read(job_id).statepoint) == job_id
            workspace.remove(job_id)
        workspace.create(OLD)
        turn += 1
    assert turn > 10


@pytest.mark.parametrize("act", ["create", "read"])
def test_who_makes_or_reads_a_job_that_is_migrated_just_then_is_not_told_of_another(tmp_path, monkeypatch, act):
    workspace = sigfs.init_project(str(tmp_path / "project")).workspace
    workspace.create(OLD)
    turn, overtaken = 0, True
    while overtaken:
        job = Job(inside(workspace, OLD_ID))
        with monkeypatch.context() as patch:
            overtaking = Overtaking(patch, turn, lambda: workspace.migrate(OLD_ID, NEW))
            if act == "create":
                assert workspace.create(OLD) == OLD_ID
            else:
                with contextlib.suppress(NoSuchJob):
                    assert job.sp() == OLD
            overtaken = overtaking.calls > turn
        if overtaken:
            assert NEW_ID in names(workspace)
            workspace.remove(NEW_ID)
        workspace.create(OLD)
        assert names(workspace) == [OLD_ID]
        turn += 1
    assert turn > 3


def test_finish_leaves_alone_what_it_does_not_know(workspace):
    other = inside(workspace, NEW_ID)
    other.mkdir()
    assert not workspace.finish(NEW_ID)
    (other / STATEPOINT_FILE).write_text("{")
    (other / "._sigfs_1").write_text(json.dumps(NEW))
    assert not workspace.finish(NEW_ID)
    (other / STATEPOINT_FILE).write_text(json.dumps(OLD))
    (other / "._sigfs_1").write_text(json.dumps({"a": 3}))
    assert not workspace.finish(NEW_ID)
    assert not workspace.finish(OLD_ID)
    assert not workspace.finish("f" * 32)


# --- removing ---


def test_a_job_that_holds_only_metadata_is_removed(workspace):
    path = inside(workspace, OLD_ID)
    for name in (DOCUMENT_FILE, STATEPOINT_FILE + "~", "._sigfs_123", ".sigfs-own"):
        (path / name).write_text("{}")
    workspace.remove(OLD_ID)
    assert names(workspace) == []


def test_an_empty_directory_named_like_a_job_is_removed(workspace):
    inside(workspace, NEW_ID).mkdir()
    workspace.remove(NEW_ID)
    assert names(workspace) == [OLD_ID]


@pytest.mark.parametrize("name", ["data", "sub~/", "._directory/"])
def test_a_job_that_holds_more_stays(workspace, name):
    path = inside(workspace, OLD_ID) / name
    path.mkdir() if name.endswith("/") else path.write_text("kept")
    with pytest.raises(JobNotEmpty) as caught:
        workspace.remove(OLD_ID)
    assert caught.value.errno == errno.ENOTEMPTY
    assert path.exists()
    assert (inside(workspace, OLD_ID) / STATEPOINT_FILE).exists()
    assert names(workspace) == [OLD_ID]


def test_removing_what_is_not_there_says_so(workspace):
    with pytest.raises(NoSuchJob):
        workspace.remove(NEW_ID)
    with pytest.raises(NoSuchJob):
        Workspace(workspace.path + "-missing").remove(NEW_ID)


@pytest.mark.parametrize("when", ["after the rename", "after the emptying"])
def test_what_comes_into_a_job_while_it_is_removed_brings_it_back(workspace, monkeypatch, when):
    (inside(workspace, OLD_ID) / DOCUMENT_FILE).write_text('{"x": 1}')
    fd = os.open(inside(workspace, OLD_ID), os.O_PATH)
    real = {"after the rename": os.rename, "after the emptying": os.rmdir}[when]

    def overtaken(*args, **kwargs):
        if when == "after the rename":
            real(*args, **kwargs)
        with contextlib.suppress(FileExistsError):
            os.close(os.open("data", os.O_CREAT | os.O_EXCL | os.O_WRONLY, dir_fd=fd))
        if when == "after the emptying":
            real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename" if when == "after the rename" else "rmdir", overtaken)
        with pytest.raises(JobNotEmpty):
            workspace.remove(OLD_ID)
    os.close(fd)
    assert sorted(content(workspace, OLD_ID)) == ["data", DOCUMENT_FILE, STATEPOINT_FILE]
    assert names(workspace) == [OLD_ID]


def test_what_a_killed_removal_leaves_is_no_job_and_is_reported(workspace, monkeypatch):
    monkeypatch.setattr(changing, "_bury", _die)
    if (pid := os.fork()) == 0:
        workspace.remove(OLD_ID)
    os.waitpid(pid, 0)
    assert list(workspace.ids()) == []
    assert sorted(workspace.leftovers(0)) == names(workspace)


# --- several processes ---

MIGRATOR = """
import sys
from sigfs.errors import DestinationExists, NoSuchJob, PendingJob
from sigfs.model.statepoint import statepoint_id
from sigfs.model.workspace import Workspace
workspace, who, how = Workspace(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
print("ready", flush=True)
sys.stdin.readline()
won = []
for n in range(int(sys.argv[4])):
    # "one": all migrate the same job, each elsewhere; "two": each another job, all to the same state point
    old, new = ({"n": n}, {"n": n, "to": who}) if how == "one" else ({"n": n, "from": who}, {"n": n})
    try:
        workspace.migrate(statepoint_id(old), new)
        won.append(n)
    except (NoSuchJob, DestinationExists, PendingJob):
        pass
print(*won, flush=True)
"""


def start(script, *args):
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, args)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(sigfs.__file__).parent.parent)},
        text=True,
    )


@pytest.mark.parametrize("how", ["one", "two"])
def test_of_several_processes_exactly_one_migrates_and_nothing_is_lost(workspace, how):
    count, who = 100, range(3)
    workspace.remove(OLD_ID)
    for n in range(count):
        for statepoint in [{"n": n}] if how == "one" else [{"n": n, "from": w} for w in who]:
            (inside(workspace, workspace.create(statepoint)) / "data").write_text(json.dumps(statepoint))
    jobs = len(list(workspace.ids()))
    processes = [start(MIGRATOR, workspace.path, w, how, count) for w in who]
    try:
        for process in processes:
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            process.stdin.write("\n")
            process.stdin.flush()
        won = [n for process in processes for n in map(int, process.stdout.readline().split())]
        assert [process.wait(60) for process in processes] == [0] * len(processes)
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert sorted(won) == list(range(count))
    assert len(names(workspace)) == jobs
    for job_id in names(workspace):
        held = content(workspace, job_id)
        assert sorted(held) == ["data", STATEPOINT_FILE]
        assert statepoint_id(load_json(held[STATEPOINT_FILE])) == job_id


RESTLESS = """
import sys
from sigfs.model.workspace import Workspace
workspace = Workspace(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for job_id in list(workspace.ids()):
    workspace.finish(job_id)
n = 0
while True:
    for job_id in list(workspace.ids()):
        n += 1
        record = workspace.read(job_id)
        workspace.migrate(job_id, {**record.statepoint, "n": record.statepoint["n"] + 1})
"""


def test_a_killed_migration_never_loses_a_job_and_is_completed(workspace):
    chance = random.Random(5)
    workspace.remove(OLD_ID)
    keys = range(5)
    for key in keys:
        (inside(workspace, workspace.create({"key": key, "n": 0})) / "data").write_text(str(key))
    half = 0
    for _ in range(25):
        process = start(RESTLESS, workspace.path)
        try:
            assert process.stdout.readline() == "ready\n"
            before = names(workspace)
            process.stdin.write("\n")
            process.stdin.flush()
            deadline = time.monotonic() + 30
            while names(workspace) == before and time.monotonic() < deadline:
                os.sched_yield()
            for _ in range(chance.randrange(5000)):
                pass
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        assert all(map(is_job_id, names(workspace)))
        assert len(names(workspace)) == len(keys)
        for job_id in names(workspace):
            half += workspace.finish(job_id)
            record = workspace.read(job_id)
            assert statepoint_id(record.statepoint) == job_id
            assert (inside(workspace, job_id) / "data").read_text() == str(record.statepoint["key"])
    assert sorted(change.record.statepoint["key"] for change in workspace.scan()) == list(keys)


@pytest.fixture
def outside(tmp_path):
    """A directory with a job that is not called by its state point."""
    path = tmp_path / "data" / "job"
    path.mkdir(parents=True)
    (path / STATEPOINT_FILE).write_text(json.dumps(OLD))
    os.chmod(path / STATEPOINT_FILE, 0o640)
    fd = os.open(path.parent, os.O_PATH)
    yield fd, path
    os.close(fd)


def test_a_job_outside_of_the_workspace_gets_another_state_point_where_it_is(outside):
    fd, path = outside
    changing.restate(fd, "job", OLD, NEW)
    assert json.loads((path / STATEPOINT_FILE).read_text()) == NEW
    assert (path / STATEPOINT_FILE).stat().st_mode & 0o777 == 0o640
    assert os.listdir(path) == [STATEPOINT_FILE]


@pytest.mark.parametrize(
    ("before", "after", "error"),
    [
        (NEW, {"a": 3}, NoSuchJob),
        ({"a": 1, "b": True}, {"a": 3}, NoSuchJob),
        (None, {"a": 3}, NoSuchJob),
        (OLD, OLD, DestinationExists),
        (OLD, {"a": {1, 2}}, InvalidStatePoint),
    ],
)
def test_a_state_point_that_is_not_what_was_thought_or_cannot_be_is_left(outside, before, after, error):
    fd, path = outside
    with pytest.raises(error):
        changing.restate(fd, "job", before, after)
    assert json.loads((path / STATEPOINT_FILE).read_text()) == OLD
    assert os.listdir(path) == [STATEPOINT_FILE]


def test_a_state_point_that_cannot_be_written_stays(outside, monkeypatch):
    fd, path = outside

    def fail(*_args, **_kwargs):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(changing.os, "rename", fail)
    with pytest.raises(OSError, match="Input/output"):
        changing.restate(fd, "job", OLD, NEW)
    assert os.listdir(path) == [STATEPOINT_FILE]
    assert json.loads((path / STATEPOINT_FILE).read_text()) == OLD
