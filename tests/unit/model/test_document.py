"""JSON files that are changed by many: no change is lost, nothing is seen in part, and what cannot be is said."""

# ruff: noqa: PT012 - the block is what is tested

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sigfs.errors import DocumentChanged, InvalidDocument, NoSuchJob
from sigfs.model import files, locking
from sigfs.model.document import JsonFile
from tests.support.errors import raises
from tests.support.stepping import ROOT, every_call, fail_at_each_call, kill_at_each_call
from tests.support.wait import wait_until

NAME = "document.json"
OLD, NEW = {"n": 0, "text": "old"}, {"n": 1, "text": "old"}


def handle(directory: Path | str) -> JsonFile:
    def open_directory() -> int:
        try:
            return os.open(directory, files.DIRECTORY_FLAGS)
        except FileNotFoundError:
            raise NoSuchJob(f"no job {directory}") from None

    return JsonFile(open_directory, NAME)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "job").mkdir()
    return tmp_path / "job" / NAME


@pytest.fixture
def document(file: Path) -> JsonFile:
    file.write_text(json.dumps(OLD))
    return handle(file.parent)


def test_no_file_is_an_empty_mapping_and_reading_makes_none(file: Path) -> None:
    assert handle(file.parent).load() == {}
    assert not file.exists()


def test_an_edit_is_written_as_signac_spells_it(file: Path) -> None:
    with handle(file.parent).edit() as data:
        data["ü"] = {"z": [1, 2.5, None, True, float("nan")], "a": 2**70}
    assert file.read_bytes() == b'{"\\u00fc": {"z": [1, 2.5, null, true, NaN], "a": 1180591620717411303424}}'
    assert os.listdir(file.parent) == [NAME]


def test_a_file_that_nothing_is_changed_in_is_left_as_it_is(document: JsonFile, file: Path) -> None:
    file.write_text('{\n  "n": 1\n}\n')
    before = file.stat()
    with document.edit() as data:
        data["n"] = 2
        data["n"] = 1
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_that_one_becomes_true_is_a_change(document: JsonFile, file: Path) -> None:
    with document.edit() as data:
        data["n"] = False
    assert file.read_text() == '{"n": false, "text": "old"}'


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_nothing_is_written_if_the_block_raises_and_the_lock_is_given_back(
    document: JsonFile, file: Path, error: type[BaseException]
) -> None:
    before = file.stat()
    with pytest.raises(error), document.edit() as data:
        data["n"] = 5
        raise error
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert os.listdir(file.parent) == [NAME]
    with open(file) as opened:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert document.load() == OLD


# --- edits within edits ---


def test_who_reads_in_an_edit_sees_what_is_not_written_yet_and_others_do_not(document: JsonFile, file: Path) -> None:
    seen = []
    with document.edit() as data:
        data["n"] = 5
        assert document.load()["n"] == handle(file.parent).load()["n"] == 5
        other = threading.Thread(target=lambda: seen.append(document.load()))
        other.start()
        other.join()
    assert seen == [OLD]


def test_an_edit_within_an_edit_is_part_of_it_through_whatever_handle(document: JsonFile, file: Path) -> None:
    link = file.parent.parent / "other"
    os.rename(file.parent, link)
    os.symlink(link, file.parent)
    through_link = JsonFile(lambda: os.open(file.parent, os.O_PATH | os.O_DIRECTORY), NAME)
    document = handle(link)
    with document.edit() as outer:
        outer["n"] = 1
        with through_link.edit() as inner, document.edit() as innermost:
            inner["n"] += 1
            innermost["n"] += 1
    assert document.load()["n"] == 3


def test_an_inner_edit_that_raises_is_taken_back_if_it_has_a_savepoint(document: JsonFile) -> None:
    with document.edit() as outer:
        outer["n"] = 1
        with pytest.raises(ZeroDivisionError), document.edit(savepoint=True) as inner:
            inner["more"] = inner.pop("text")
            raise ZeroDivisionError
        assert outer == {"n": 1, "text": "old"}
    assert document.load() == NEW


def test_edits_of_two_files_at_once_are_two(document: JsonFile, file: Path, tmp_path: Path) -> None:
    (tmp_path / "job2").mkdir()
    other = handle(tmp_path / "job2")
    with document.edit() as one, other.edit() as two:
        one["n"], two["n"] = 1, 2
        assert (document.load()["n"], other.load()["n"]) == (1, 2)
    assert (document.load()["n"], other.load()["n"]) == (1, 2)


def test_a_child_that_is_forked_in_an_edit_has_no_part_in_it(document: JsonFile) -> None:
    with document.edit() as data:
        data["n"] = 5
        if (child := os.fork()) == 0:
            status = 1
            try:
                assert document.load() == OLD
                try:
                    with document.edit(0.01):
                        pass
                except TimeoutError:
                    status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
    assert document.load()["n"] == 5


# --- many at once ---

EDITOR = """
import fcntl, os, sys
from sigfs.model import locking
from tests.unit.model.test_document import handle, no_locks
if sys.argv[3] == "lock file":
    fcntl.flock = no_locks
document = handle(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for n in range(int(sys.argv[2])):
    with document.edit() as data:
        data["n"] = data.get("n", 0) + 1
"""


def no_locks(fd: int, operation: int) -> None:
    """Be ``flock`` on a file system without locks."""
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": ROOT},
        text=True,
    )


def let_go(processes: list[subprocess.Popen[str]]) -> None:
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()


@pytest.mark.parametrize(("how", "each"), [("flock", 100), ("lock file", 40)])
def test_increments_of_four_processes_all_count_and_readers_see_whole_states(file: Path, how: str, each: int) -> None:
    processes = [start(EDITOR, file.parent, each, how) for _ in range(4)]
    reader = handle(file.parent)
    try:
        let_go(processes)
        last = 0
        while any(process.poll() is None for process in processes):
            now = reader.load().get("n", 0)
            assert now >= last
            last = now
    finally:
        for process in processes:
            process.kill() if sys.exc_info()[0] else None
            process.communicate()
    assert [process.returncode for process in processes] == [0] * 4
    assert reader.load() == {"n": 4 * each}
    assert os.listdir(file.parent) == [NAME]


def test_increments_of_threads_all_count(document: JsonFile) -> None:
    def work() -> None:
        for _ in range(25):
            with document.edit() as data:
                data["n"] += 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert document.load()["n"] == 200


HOLDER = """
import sys
from tests.unit.model.test_document import handle
with handle(sys.argv[1]).edit() as data:
    data["held"] = True
    print("ready", flush=True)
    sys.stdin.readline()
"""


def test_who_may_wait_only_so_long_is_told_of_which_file(document: JsonFile, file: Path) -> None:
    holder = start(HOLDER, file.parent)
    try:
        assert holder.stdout.readline() == "ready\n"
        with pytest.raises(TimeoutError, match=str(file)), document.edit(0.02):
            pytest.fail("two hold it")
        assert document.load() == OLD
    finally:
        holder.communicate("\n")
    with document.edit(0.02) as data:
        assert data == {**OLD, "held": True}


def test_a_killed_holder_holds_up_nobody_and_has_written_nothing(document: JsonFile, file: Path) -> None:
    holder = start(HOLDER, file.parent)
    assert holder.stdout.readline() == "ready\n"
    holder.kill()
    holder.communicate()
    with document.edit(30) as data:
        assert data == OLD


WAITER = """
import signal, sys
from tests.unit.model.test_document import handle
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin with it ignored
print("ready", flush=True)
try:
    with handle(sys.argv[1]).edit():
        pass
except KeyboardInterrupt:
    sys.exit(42)
"""


def waits(pid: int) -> bool:
    lines = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    return any(line[1] == "->" and line[5] == str(pid) for line in lines)


def test_who_waits_can_be_interrupted(document: JsonFile, file: Path) -> None:
    with document.edit():
        waiter = start(WAITER, file.parent)
        assert waiter.stdout.readline() == "ready\n"
        wait_until(lambda: waits(waiter.pid), what="the process to wait")
        waiter.send_signal(signal.SIGINT)
        waiter.communicate()
    assert waiter.returncode == 42


# --- locks that are not as on a local disk ---


def test_a_file_that_may_only_be_locked_for_writing_is_opened_so(
    document: JsonFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fcntl.flock

    def flock(fd: int, operation: int) -> None:
        if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        real(fd, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with document.edit() as data:
        data["n"] = 1
    assert document.load() == NEW


def test_a_lock_file_that_is_held_keeps_others_out_and_a_stale_one_does_not(
    document: JsonFile, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", no_locks)
    lock = file.parent / locking.LOCK_FILE
    with document.edit():
        assert files.is_temporary(locking.LOCK_FILE)
        assert lock.exists()
    assert not lock.exists()
    lock.touch()
    with pytest.raises(TimeoutError, match=str(file)), document.edit(0.02):
        pytest.fail("two hold it")
    assert lock.exists()
    os.utime(lock, (lock.stat().st_mtime - locking.STALE_S - 1,) * 2)
    with document.edit(0.02) as data:
        data["n"] = 1
    assert os.listdir(file.parent) == [NAME]


def test_whose_lock_file_was_taken_for_stale_overwrites_nothing(
    document: JsonFile, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", no_locks)
    lock = file.parent / locking.LOCK_FILE

    def other() -> None:
        with handle(file.parent).edit(30) as data:
            data["by"] = "other"

    with pytest.raises(DocumentChanged), document.edit() as data:
        data["by"] = "slow"
        os.utime(lock, (lock.stat().st_mtime - locking.STALE_S - 1,) * 2)
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert document.load() == {**OLD, "by": "other"}
    assert os.listdir(file.parent) == [NAME]


# --- programs that take no lock ---


@pytest.mark.parametrize("how", ["replaced", "written in place", "removed"])
def test_what_others_wrote_without_a_lock_is_not_overwritten(document: JsonFile, file: Path, how: str) -> None:
    with pytest.raises(DocumentChanged, match=str(file)), document.edit() as data:
        data["n"] = 5
        if how == "replaced":
            (file.parent / "new").write_text('{"theirs": 1}')
            os.rename(file.parent / "new", file)
        elif how == "written in place":
            file.write_text('{"theirs": 1}')
        else:
            file.unlink()
    assert os.listdir(file.parent) == ([] if how == "removed" else [NAME])
    assert document.load() == ({} if how == "removed" else {"theirs": 1})


def test_an_edit_follows_a_directory_that_is_renamed_and_touches_none_that_takes_its_name(
    document: JsonFile, file: Path, tmp_path: Path
) -> None:
    with document.edit() as data:
        os.rename(file.parent, tmp_path / "elsewhere")
        file.parent.mkdir()
        file.write_text('{"another": "job"}')
        data["n"] = 1
        assert document.load()["n"] == 1
    assert file.read_text() == '{"another": "job"}'
    assert handle(tmp_path / "elsewhere").load() == NEW


@pytest.mark.parametrize("existed", [True, False])
def test_an_edit_in_a_directory_that_is_removed_says_so(file: Path, existed: bool) -> None:
    if existed:
        file.write_text(json.dumps(OLD))
    document = handle(file.parent)
    with pytest.raises(NoSuchJob, match="removed"), document.edit() as data:
        shutil.rmtree(file.parent)
        data["n"] = 1
    with pytest.raises(NoSuchJob):
        document.load()
    with pytest.raises(NoSuchJob), document.edit():
        pytest.fail("there is nothing to edit")


def test_a_directory_that_is_removed_while_it_is_read_is_no_empty_document(
    document: JsonFile, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = files.open_regular

    def open_regular(dir_fd: int, name: str) -> int:
        shutil.rmtree(file.parent, ignore_errors=True)
        return real(dir_fd, name)

    monkeypatch.setattr(files, "open_regular", open_regular)
    with pytest.raises(NoSuchJob):
        document.load()


def test_a_name_that_is_stale_for_a_moment_is_tried_again(document: JsonFile, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = files.open_regular, 0

    def open_regular(dir_fd: int, name: str) -> int:
        nonlocal calls
        calls += name == NAME
        if name == NAME and calls % 3:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return real(dir_fd, name)

    monkeypatch.setattr(files, "open_regular", open_regular)
    assert document.load() == OLD
    with document.edit() as data:
        data["n"] = 1
    assert document.load() == NEW


# --- what cannot be ---


def make(file: Path, what: str) -> None:
    match what:
        case "symbolic link":
            target = file.parent / "target"
            target.write_text("{}")
            file.symlink_to(target)
        case "fifo":
            os.mkfifo(file)
        case "directory":
            file.mkdir()
        case _:
            file.write_text(what)


@pytest.mark.parametrize(
    ("what", "error", "message"),
    [
        ("symbolic link", OSError, "is a symbolic link, which is not followed"),
        ("fifo", OSError, "is no regular file"),
        ("directory", OSError, "is a directory"),
        ("", InvalidDocument, "is empty"),
        ('{"n": ', InvalidDocument, "is not JSON"),
        ("\x00\x00", InvalidDocument, "is not JSON"),
        ("[1]", InvalidDocument, "is JSON but no mapping"),
        ("null", InvalidDocument, "is JSON but no mapping"),
    ],
)
def test_what_is_no_document_is_named_and_left_alone(
    file: Path, what: str, error: type[Exception], message: str
) -> None:
    make(file, what)
    before = os.lstat(file)
    document = handle(file.parent)
    with pytest.raises(error, match=message) as caught:
        document.load()
    assert str(file) in str(caught.value)
    with pytest.raises(error, match=message) as caught, document.edit(1) as data:
        data["n"] = 1
    assert str(file) in str(caught.value)
    assert os.path.samestat(os.lstat(file), before)
    assert before.st_mtime_ns == os.lstat(file).st_mtime_ns


@pytest.mark.parametrize("value", [object(), {1, 2}, 10**5000], ids=["object", "set", "digits"])
def test_what_json_cannot_say_is_not_written(document: JsonFile, file: Path, value: object) -> None:
    with pytest.raises(InvalidDocument, match=str(file)), document.edit() as data:
        data["n"] = value
    assert file.read_text() == json.dumps(OLD)


def test_a_document_that_could_not_be_read_again_is_not_written(
    document: JsonFile, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 1000)
    with pytest.raises(InvalidDocument, match="over 1000 bytes"), document.edit() as data:
        data["n"] = "x" * 1000
    assert document.load() == OLD
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 2)
    with raises(errno.EFBIG):
        document.load()


def test_a_large_document_is_whole(document: JsonFile) -> None:
    large = {str(n): "x" * 1000 for n in range(5000)}
    with document.edit() as data:
        data.update(large)
    assert document.load() == OLD | large


# --- the file's owner, permissions, attributes ---


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o666])
def test_permissions_and_extended_attributes_are_kept(document: JsonFile, file: Path, mode: int) -> None:
    file.chmod(mode)
    try:
        os.setxattr(file, "user.note", b"kept")
    except OSError:
        pytest.skip("no extended attributes here")
    with document.edit() as data:
        data["n"] = 1
    assert stat.S_IMODE(file.stat().st_mode) == mode
    assert os.getxattr(file, "user.note") == b"kept"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_leaves_the_file_to_its_owner(document: JsonFile, file: Path) -> None:
    os.chown(file, 4321, 8765)
    file.chmod(0o640)
    with document.edit() as data:
        data["n"] = 1
    assert (file.stat().st_uid, file.stat().st_gid, stat.S_IMODE(file.stat().st_mode)) == (4321, 8765, 0o640)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize(("mode", "kept"), [(0o660, 0o600), (0o664, 0o644), (0o666, 0o666)])
def test_a_group_that_cannot_be_kept_leaves_no_rights_to_another(
    document: JsonFile, file: Path, monkeypatch: pytest.MonkeyPatch, mode: int, kept: int
) -> None:
    os.chown(file, 4321, 8765)
    file.chmod(mode)

    def refuse(*_arguments: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "fchown", refuse)
    with document.edit() as data:
        data["n"] = 1
    assert stat.S_IMODE(file.stat().st_mode) == kept
    assert document.load() == NEW


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
@pytest.mark.parametrize(
    ("directory", "owner", "expected"),
    [
        ("writable by the group", (4321, 777, 0o640), (12345, 777, 0o640)),
        ("writable by the group", (4321, 888, 0o664), (12345, 777, 0o644)),
        ("writable by the group", (4321, 888, 0o660), PermissionError),
        ("not writable", (4321, 888, 0o644), PermissionError),
        ("not writable", (12345, 777, 0o666), PermissionError),
        ("sticky", (4321, 888, 0o666), PermissionError),
    ],
)
def test_a_file_of_somebody_else_is_replaced_only_where_the_directory_allows_it(
    document: JsonFile,
    file: Path,
    directory: str,
    owner: tuple[int, int, int],
    expected: tuple[int, int, int] | type[OSError],
) -> None:
    os.chown(file, owner[0], owner[1])
    file.chmod(owner[2])
    os.chown(file.parent, 0, 777)
    file.parent.chmod({"writable by the group": 0o2775, "not writable": 0o755, "sticky": 0o1777}[directory])
    before = file.stat()
    fd = os.open(file.parent, files.DIRECTORY_FLAGS)  # the user may not come here from above
    theirs = JsonFile(lambda: os.dup(fd), NAME)
    if (child := os.fork()) == 0:
        status = 1
        try:
            os.setgroups([777])
            os.setresgid(12345, 12345, 12345)
            os.setresuid(12345, 12345, 12345)
            with theirs.edit() as data:
                data["n"] = 1
            status = 0
        except PermissionError as error:
            status = 2 if error.filename == str(file) else 3
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.close(fd)
    assert os.listdir(file.parent) == [NAME]
    now = file.stat()
    if isinstance(expected, tuple):
        assert status == 0
        assert (now.st_uid, now.st_gid, stat.S_IMODE(now.st_mode)) == expected
        assert document.load() == NEW
    else:
        assert status == 2
        assert (now.st_ino, now.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_change_that_may_not_last_is_told_from_one_that_was_not_made(
    document: JsonFile, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(files, "fsync_directory", broken)
    with pytest.raises(OSError, match="it is changed, but perhaps not for good"), document.edit() as data:
        data["n"] = 1
    assert document.load() == NEW
    assert os.listdir(file.parent) == [NAME]


def test_another_name_of_the_file_keeps_what_it_said(document: JsonFile, file: Path, tmp_path: Path) -> None:
    os.link(file, tmp_path / "backup")
    with document.edit() as data:
        data["n"] = 1
    assert (tmp_path / "backup").read_text() == json.dumps(OLD)


# --- a process that is stopped at any call ---


def prepare(directory: str) -> None:
    Path(directory, NAME).write_text(json.dumps(OLD))


def prepare_none(directory: str) -> None:
    """Leave the directory empty."""


def act(directory: str) -> None:
    with handle(directory).edit() as data:
        data.update(NEW)


def look(directory: str) -> None:
    document = handle(directory)
    assert document.load() in (OLD, NEW, {}), document.load()
    # ... and nobody is held up.
    with document.edit(1) as data:
        data["after"] = True
    assert document.load()["after"] is True


def look_old_or_new(directory: str) -> None:
    assert handle(directory).load() in (OLD, NEW)
    look(directory)


def test_a_document_is_old_or_new_wherever_its_editor_is_killed(tmp_path: Path) -> None:
    calls = kill_at_each_call(prepare, act, look_old_or_new, tmp_path)
    every_call(calls, "openat", "write", "fsync", "renameat")


def test_a_new_document_is_empty_or_whole_wherever_its_editor_is_killed(tmp_path: Path) -> None:
    kill_at_each_call(prepare_none, act, look, tmp_path)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EIO, errno.EDQUOT])
def test_whatever_call_fails_leaves_the_document_old_or_new_and_nothing_beside_it(tmp_path: Path, code: int) -> None:
    fail_at_each_call(code, prepare, act, look_old_or_new, tmp_path)


def test_a_full_disk_leaves_no_unfinished_file(document: JsonFile, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=f"No space left on device: '{file}'"), document.edit() as data:
        data["n"] = 1
    assert os.listdir(file.parent) == [NAME]
    assert file.read_text() == json.dumps(OLD)
