"""Creating jobs: whole or not at all, whoever else is at work, and whatever goes wrong."""

import contextlib
import errno
import json
import os
import random
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import sigfs
from sigfs.errors import InvalidStatePoint, PendingJob
from sigfs.model import files
from sigfs.model.statepoint import is_job_id, load_json, statepoint_id
from sigfs.model.workspace import STATEPOINT_FILE, Workspace
from tests.support.descriptors import assert_none_left, descriptors

STATEPOINT = {"foo": 42, "bar": True}
ID = statepoint_id(STATEPOINT)
TEXT = b'{"foo": 42, "bar": true}'


@pytest.fixture
def workspace(tmp_path):
    return Workspace(str(tmp_path / "workspace"))


def tree(directory):
    """Every file below *directory* with its content, every directory with None."""
    directory = Path(directory)
    return {
        str(path.relative_to(directory)): None if path.is_dir() else path.read_bytes()
        for path in sorted(directory.rglob("*"))
    }


def whole(job_id, text=TEXT):
    return {str(job_id): None, f"{job_id}/{STATEPOINT_FILE}": text}


def environment():
    return {**os.environ, "PYTHONPATH": str(Path(sigfs.__file__).parent.parent)}


def test_a_new_job_has_a_state_point_file_as_signac_spells_it_and_nothing_else(workspace):
    assert workspace.create(STATEPOINT) == ID
    assert tree(workspace.path) == whole(ID)


def test_creating_a_job_again_changes_nothing(workspace):
    workspace.create(STATEPOINT)
    path = os.path.join(workspace.path, ID)
    (Path(path) / "data").write_text("kept")
    before = os.stat(path), os.stat(os.path.join(path, STATEPOINT_FILE)), os.stat(workspace.path)
    assert workspace.create({"bar": True, "foo": 42}) == ID
    after = os.stat(path), os.stat(os.path.join(path, STATEPOINT_FILE)), os.stat(workspace.path)
    assert [(s.st_ino, s.st_mtime_ns) for s in before] == [(s.st_ino, s.st_mtime_ns) for s in after]


def test_a_job_whose_file_is_spelled_otherwise_is_that_job(workspace):
    os.makedirs(os.path.join(workspace.path, ID))
    spelled = b'{\n  "bar": true,\n  "foo": 42\n}\n'
    (Path(workspace.path) / ID / STATEPOINT_FILE).write_bytes(spelled)
    assert workspace.create(STATEPOINT) == ID
    assert tree(workspace.path) == whole(ID, spelled)


def test_the_workspaces_function_gives_the_id(tmp_path):
    (tmp_path / "workspace.rc").write_text("id_function = xxh3_128\n")
    job_id = Workspace(str(tmp_path)).create(STATEPOINT)
    assert job_id == statepoint_id(STATEPOINT, "xxh3_128") != ID
    assert Workspace(str(tmp_path)).create(STATEPOINT) == job_id


def test_modes_are_those_that_the_umask_leaves(workspace):
    old = os.umask(0o027)
    try:
        workspace.create(STATEPOINT)
    finally:
        os.umask(old)
    path = os.path.join(workspace.path, ID)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o750
    assert stat.S_IMODE(os.stat(os.path.join(path, STATEPOINT_FILE)).st_mode) == 0o640


def test_an_invalid_state_point_touches_nothing(workspace, tmp_path):
    with pytest.raises(InvalidStatePoint):
        workspace.create({"a.b": 1})
    assert os.listdir(tmp_path) == []


def test_a_pending_directory_gets_its_state_point_and_keeps_the_rest(workspace):
    path = os.path.join(workspace.path, ID)
    os.makedirs(path)
    os.chmod(path, 0o700)
    (Path(path) / "data").write_bytes(b"kept")
    (Path(path) / (STATEPOINT_FILE + "~")).write_bytes(b"old")
    inode = os.stat(path).st_ino
    assert workspace.create(STATEPOINT) == ID
    assert os.stat(path).st_ino == inode
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o700
    assert tree(workspace.path) == {
        **whole(ID),
        f"{ID}/data": b"kept",
        f"{ID}/{STATEPOINT_FILE}~": b"old",
    }


@pytest.mark.parametrize("content", [b"", b"{", b"[]"])
def test_a_broken_state_point_file_is_never_overwritten(workspace, content):
    path = Path(workspace.path) / ID
    path.mkdir(parents=True)
    (path / STATEPOINT_FILE).write_bytes(content)
    os.utime(path / STATEPOINT_FILE, (0, 0))  # nobody can be writing it still
    with pytest.raises(PendingJob, match=ID):
        workspace.create(STATEPOINT)
    assert tree(workspace.path) == whole(ID, content)


def test_a_directory_with_another_state_point_than_its_name_says_is_not_taken_for_the_job(workspace):
    path = Path(workspace.path) / ID
    path.mkdir(parents=True)
    (path / STATEPOINT_FILE).write_bytes(b'{"foo": 43}')
    with pytest.raises(PendingJob, match=statepoint_id({"foo": 43})):
        workspace.create(STATEPOINT)
    assert tree(workspace.path) == whole(ID, b'{"foo": 43}')


@pytest.mark.parametrize("kind", ["file", "link", "dangling link", "fifo"])
def test_something_that_is_no_directory_is_left_alone_and_named(workspace, tmp_path, kind):
    os.mkdir(workspace.path)
    (tmp_path / "outside").mkdir()
    path = Path(workspace.path) / ID
    match kind:
        case "file":
            path.write_bytes(b"")
        case "link":
            path.symlink_to(tmp_path / "outside")
        case "dangling link":
            path.symlink_to(tmp_path / "nowhere")
        case _:
            os.mkfifo(path)
    with pytest.raises(FileExistsError, match=ID):
        workspace.create(STATEPOINT)
    assert os.listdir(workspace.path) == [ID]
    assert os.listdir(tmp_path / "outside") == []


@pytest.mark.parametrize("kind", ["link", "fifo", "directory"])
def test_a_state_point_name_taken_by_no_file_is_left_alone(workspace, tmp_path, kind):
    path = Path(workspace.path) / ID
    path.mkdir(parents=True)
    name = path / STATEPOINT_FILE
    match kind:
        case "link":
            name.symlink_to(tmp_path / "outside")
            os.utime(name, (0, 0), follow_symlinks=False)
        case "fifo":
            os.mkfifo(name)
            os.utime(name, (0, 0))
        case _:
            name.mkdir()
            os.utime(name, (0, 0))
    with pytest.raises(PendingJob):
        workspace.create(STATEPOINT)
    assert os.listdir(path) == [STATEPOINT_FILE]
    assert not (tmp_path / "outside").exists()


# --- trouble ---


@pytest.mark.parametrize("pending", [False, True])
@pytest.mark.parametrize("call", ["mkdir", "open", "write", "fsync", "rename", "link"])
def test_no_space_at_any_step_leaves_no_job_or_a_whole_one_and_nothing_else(workspace, monkeypatch, call, pending):
    os.mkdir(workspace.path)
    if pending:
        os.mkdir(os.path.join(workspace.path, ID))
    before = tree(workspace.path)
    opened = descriptors()
    real = getattr(os, call)
    failed = set()
    turn, calls = 0, 0

    def failing(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls == turn:
            failed.add(turn)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*args, **kwargs)

    while len(failed) == turn:  # the call of this turn was reached and failed: now the next one
        turn, calls = turn + 1, 0
        with monkeypatch.context() as patch, contextlib.suppress(OSError, PendingJob):
            patch.setattr(os, call, failing)
            workspace.create(STATEPOINT)
        now = tree(workspace.path)
        assert now in (before, {**before, **whole(ID)}), f"{call} number {turn}"
        assert_none_left(opened)
        if now != before:
            os.unlink(os.path.join(workspace.path, ID, STATEPOINT_FILE))
            if not pending:
                os.rmdir(os.path.join(workspace.path, ID))
    used = {"open": 5, "write": 1, "fsync": 3}.get(call, 1 if (call == "link") == pending else 0)
    assert len(failed) >= used
    assert workspace.create(STATEPOINT) == ID
    assert tree(workspace.path) == whole(ID)


def test_an_interrupt_leaves_nothing_half(workspace, monkeypatch):
    os.mkdir(workspace.path)

    def interrupted(fd):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        workspace.create(STATEPOINT)
    assert tree(workspace.path) == {}


def test_a_file_system_that_cannot_synchronise_directories_will_do(workspace, monkeypatch):
    real = os.fsync

    def files_only(fd):
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        real(fd)

    monkeypatch.setattr(os, "fsync", files_only)
    assert workspace.create(STATEPOINT) == ID
    assert tree(workspace.path) == whole(ID)


def test_the_files_are_synchronised_before_the_name_and_the_name_before_the_return(workspace, monkeypatch):
    os.mkdir(workspace.path)
    log = []
    fsync, rename = os.fsync, os.rename

    def logged_fsync(fd):
        log.append(("fsync", os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))))
        fsync(fd)

    def logged_rename(old, new, **kwargs):
        log.append(("rename", new))
        rename(old, new, **kwargs)

    monkeypatch.setattr(os, "fsync", logged_fsync)
    monkeypatch.setattr(os, "rename", logged_rename)
    workspace.create(STATEPOINT)
    temporary = log[1][1]
    assert temporary.startswith(files.TEMPORARY_PREFIX)
    assert log == [("fsync", STATEPOINT_FILE), ("fsync", temporary), ("rename", ID), ("fsync", "workspace")]


def test_leftovers_are_recognised_by_name_and_age_and_are_no_jobs(workspace):
    workspace.create(STATEPOINT)
    left = os.path.join(workspace.path, files.temporary_name())
    os.mkdir(left)
    assert list(workspace.leftovers()) == []
    assert list(workspace.leftovers(older_than_s=0)) == [os.path.basename(left)]
    os.utime(left, (0, 0))
    assert list(workspace.leftovers()) == [os.path.basename(left)]
    assert list(workspace.ids()) == [ID]
    assert list(workspace.pending()) == []


# --- others at work ---


def test_a_state_point_file_that_is_just_being_written_is_waited_for(workspace):
    path = Path(workspace.path) / ID
    path.mkdir(parents=True)
    (path / STATEPOINT_FILE).write_bytes(TEXT[:5])
    waiting = threading.Event()
    result = []
    real = time.sleep

    def tell(seconds):
        waiting.set()
        real(seconds)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "sleep", tell)
        creator = threading.Thread(target=lambda: result.append(workspace.create(STATEPOINT)))
        creator.start()
        assert waiting.wait(60)
        (path / STATEPOINT_FILE).write_bytes(TEXT)
        creator.join(60)
    assert result == [ID]
    assert tree(workspace.path) == whole(ID)


@pytest.mark.parametrize("step", ["mkdir", "rename", "link"])
def test_another_creator_between_any_two_steps_is_no_conflict(workspace, monkeypatch, step):
    os.mkdir(workspace.path)
    if step == "link":
        os.mkdir(os.path.join(workspace.path, ID))
    real = getattr(os, step)
    done = []

    def overtaken(*args, **kwargs):
        if not done:
            done.append(True)
            path = Path(workspace.path) / ID
            path.mkdir(exist_ok=True)
            (path / STATEPOINT_FILE).write_bytes(TEXT)
        return real(*args, **kwargs)

    monkeypatch.setattr(os, step, overtaken)
    assert workspace.create(STATEPOINT) == ID
    assert done
    assert tree(workspace.path) == whole(ID)


def test_a_pending_directory_that_vanishes_meanwhile_is_made_anew(workspace, monkeypatch):
    path = Path(workspace.path) / ID
    path.mkdir(parents=True)
    real = os.link
    done = []

    def vanished(source, *args, **kwargs):
        if not done:
            done.append(True)
            for name in os.listdir(path):
                os.unlink(path / name)
            path.rmdir()
        return real(source, *args, **kwargs)

    monkeypatch.setattr(os, "link", vanished)
    assert workspace.create(STATEPOINT) == ID
    assert tree(workspace.path) == whole(ID)


CREATOR = """
import sys
from sigfs.model.workspace import Workspace
workspace = Workspace(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for n in range(int(sys.argv[2])):
    workspace.create({"n": n, "text": "x" * 100})
print("done", flush=True)
"""


def start(workspace, count):
    return subprocess.Popen(
        [sys.executable, "-c", CREATOR, workspace.path, str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
        text=True,
    )


def test_several_processes_that_create_the_same_jobs_at_once_all_succeed(workspace):
    creators = [start(workspace, 100) for _ in range(4)]
    try:
        for creator in creators:
            assert creator.stdout.readline() == "ready\n"
        for creator in creators:
            creator.stdin.write("\n")
            creator.stdin.flush()
        for creator in creators:
            assert creator.stdout.readline() == "done\n"
            assert creator.wait(60) == 0
    finally:
        for creator in creators:
            creator.kill()
            creator.communicate()
    assert {change.record.statepoint["n"] for change in workspace.scan()} == set(range(100))
    assert len(os.listdir(workspace.path)) == 100
    assert all(os.listdir(os.path.join(workspace.path, job_id)) == [STATEPOINT_FILE] for job_id in workspace.ids())


def test_a_killed_creator_never_leaves_a_job_without_its_whole_state_point(workspace):
    chance = random.Random(4)
    os.mkdir(workspace.path)
    total = 0
    for _ in range(20):
        creator = start(workspace, 1_000_000)
        try:
            assert creator.stdout.readline() == "ready\n"
            target = total + chance.randrange(1, 6)
            creator.stdin.write("\n")
            creator.stdin.flush()
            deadline = time.monotonic() + 30
            while sum(map(is_job_id, os.listdir(workspace.path))) < target and time.monotonic() < deadline:
                os.sched_yield()
            for _ in range(chance.randrange(2000)):  # to hit any instruction and not only the first after a rename
                pass
        finally:
            creator.send_signal(signal.SIGKILL)
            creator.communicate()
        for name in os.listdir(workspace.path):
            if is_job_id(name):
                text = (Path(workspace.path) / name / STATEPOINT_FILE).read_bytes()
                assert statepoint_id(load_json(text)) == name
                assert json.loads(text)["text"] == "x" * 100
            else:
                assert name.startswith(files.TEMPORARY_PREFIX)
        total = len(list(workspace.ids()))
    assert total >= 20
    assert list(workspace.pending()) == []
    assert {name for name in os.listdir(workspace.path) if not is_job_id(name)} == set(workspace.leftovers(0))
