"""Locks and leases: held among the users of a mount, and where the transport can, those of the disk below."""

from __future__ import annotations

import fcntl
import os
import signal
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from tests.support.drivers import Place
from tests.support.limits import needs
from tests.support.wait import wait_until

CALLS = ["flock", "lockf"]
REFUSED = 9

# PATH MODE CALL HOW [LENGTH START]: takes the lock, says so, and keeps it until standard input ends.
LOCK = """
import fcntl, os, sys
path, mode, call, how = sys.argv[1:5]
with open(path, mode) as file:
    try:
        getattr(fcntl, call)(file, int(how), *map(int, sys.argv[5:]))
    except BlockingIOError:
        sys.exit(9)
    print("locked", flush=True)
    sys.stdin.read()
"""


def command(path: str, call: str, how: int, *region: int, mode: str = "r+b") -> list[str]:
    return [sys.executable, "-c", LOCK, path, mode, call, str(how), *map(str, region)]


def try_lock(path: str, call: str, how: int = fcntl.LOCK_EX, *region: int, mode: str = "r+b") -> bool:
    """Tell whether another process gets the lock at this moment."""
    words = command(path, call, how | fcntl.LOCK_NB, *region, mode=mode)
    done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=60)
    assert done.returncode in (0, REFUSED)
    return done.returncode == 0


def is_locked(process: subprocess.Popen[bytes]) -> bool:
    """Wait until *process* says that it has the lock."""
    assert process.stdout is not None
    return process.stdout.readline() == b"locked\n"


@contextmanager
def locker(path: str, call: str, how: int = fcntl.LOCK_EX, *region: int) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that takes the lock, waiting for it if need be; dead at the end."""
    words = command(path, call, how, *region)
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def both(here: Place) -> dict[str, str]:
    """A file of ten bytes, by its path here and below."""
    with open(here.path("file"), "wb") as file:
        file.write(b"0123456789")
    return {"here": here.path("file"), "below": os.path.join(here.below, "file")}


@needs("locks below")
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(("holder", "other"), [("here", "below"), ("below", "here")])
def test_a_lock_keeps_others_out_until_it_is_unlocked(
    both: dict[str, str], here: Place, call: str, holder: str, other: str
) -> None:
    with open(both[holder], "r+b") as file:
        getattr(fcntl, call)(file, fcntl.LOCK_EX)
        assert not try_lock(both[other], call)
        assert not try_lock(both[other], call, fcntl.LOCK_SH)
        getattr(fcntl, call)(file, fcntl.LOCK_UN)
        assert try_lock(both[other], call)


@pytest.mark.parametrize("call", CALLS)
def test_two_processes_here_exclude_each_other(both: dict[str, str], here: Place, call: str) -> None:
    with open(both["here"], "r+b") as file:
        getattr(fcntl, call)(file, fcntl.LOCK_EX)
        assert not try_lock(both["here"], call)
        with closing(Waiting(both["here"], call, 12)) as waiting:
            waiting.wait_until_asleep()
            getattr(fcntl, call)(file, fcntl.LOCK_UN)
            assert waiting.all_had_it()


@needs("locks below")
@pytest.mark.parametrize("call", CALLS)
def test_a_shared_lock_lets_others_share_and_is_upgraded_when_they_are_gone(
    both: dict[str, str], here: Place, call: str
) -> None:
    lock = getattr(fcntl, call)
    with open(both["here"], "r+b") as file, locker(both["below"], call, fcntl.LOCK_SH) as other:
        assert is_locked(other)
        lock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        with pytest.raises(BlockingIOError):
            lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        other.kill()
        other.wait()
        lock(file, fcntl.LOCK_EX)
        assert not try_lock(both["below"], call, fcntl.LOCK_SH)
        lock(file, fcntl.LOCK_SH)
        assert try_lock(both["below"], call, fcntl.LOCK_SH)


@needs("locks below")
def test_a_range_leaves_the_rest_free_and_can_be_split(both: dict[str, str], here: Place) -> None:
    with open(both["here"], "r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX, 6, 0)
        assert not try_lock(both["below"], "lockf", fcntl.LOCK_EX, 1, 5)
        assert try_lock(both["below"], "lockf", fcntl.LOCK_EX, 0, 6)
        fcntl.lockf(file, fcntl.LOCK_UN, 2, 2)
        assert try_lock(both["below"], "lockf", fcntl.LOCK_EX, 2, 2)
        assert not try_lock(both["below"], "lockf", fcntl.LOCK_EX, 2, 3)
        assert not try_lock(both["here"], "lockf", fcntl.LOCK_EX, 1, 4)


@needs("locks below")
def test_a_reader_s_lock_on_a_file_opened_for_reading_keeps_writers_out(both: dict[str, str], here: Place) -> None:
    with open(both["here"], "rb") as file:
        fcntl.lockf(file, fcntl.LOCK_SH)
        assert not try_lock(both["below"], "lockf")
        assert try_lock(both["below"], "lockf", fcntl.LOCK_SH, mode="rb")
        with pytest.raises(OSError, match="descriptor"):
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    wait_until(lambda: try_lock(both["below"], "lockf"))


@needs("locks below")
def test_asking_for_a_lock_tells_what_is_in_the_way(both: dict[str, str], here: Place) -> None:
    layout = struct.Struct("@hhqqi0q")

    def ask(file: int) -> tuple[int, int, int]:
        answer = fcntl.fcntl(file, fcntl.F_GETLK, layout.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
        kind, _, start, length, _ = layout.unpack(answer)
        return kind, start, length

    with open(both["here"], "r+b") as file, locker(both["below"], "lockf", fcntl.LOCK_SH, 3, 4) as other:
        assert is_locked(other)
        assert ask(file.fileno()) == (fcntl.F_RDLCK, 4, 3)
        other.kill()
        other.wait()
        fcntl.lockf(file, fcntl.LOCK_EX)  # one's own lock is never in the way
        assert ask(file.fileno())[0] == fcntl.F_UNLCK


@needs("locks below")
def test_closing_any_descriptor_of_a_file_gives_up_the_process_s_record_locks(
    both: dict[str, str], here: Place
) -> None:
    with open(both["here"], "r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        assert not try_lock(both["below"], "lockf")
        with open(both["here"], "rb"):
            pass
        assert try_lock(both["below"], "lockf")


@needs("locks below")
def test_flock_belongs_to_the_open_file_and_not_to_the_process(both: dict[str, str], here: Place) -> None:
    with open(both["here"], "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with open(both["here"], "rb") as second, pytest.raises(BlockingIOError):
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert not try_lock(both["below"], "flock")


@needs("locks below")
def test_a_flock_ends_with_its_open_file_though_another_of_the_same_file_stays_open(
    both: dict[str, str], here: Place
) -> None:
    first = os.open(both["here"], os.O_RDWR)
    with open(both["here"], "rb"):
        fcntl.flock(first, fcntl.LOCK_EX)
        assert not try_lock(both["below"], "flock")
        os.close(first)
        wait_until(lambda: try_lock(both["below"], "flock"))


@needs("locks below")
def test_an_open_file_description_lock_ends_with_its_open_file(both: dict[str, str], here: Place) -> None:
    first = os.open(both["here"], os.O_RDWR)
    fcntl.fcntl(first, fcntl.F_OFD_SETLK, struct.pack("@hhqqi0q", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    with open(both["here"], "rb"):
        pass
    assert not try_lock(both["below"], "lockf")
    os.close(first)
    wait_until(lambda: try_lock(both["below"], "lockf"))


@needs("locks below")
@pytest.mark.parametrize("end", ["exit", "kill"])
@pytest.mark.parametrize("call", CALLS)
def test_a_process_that_ends_leaves_no_lock(both: dict[str, str], here: Place, call: str, end: str) -> None:
    with locker(both["here"], call) as holder:
        assert is_locked(holder)
        assert not try_lock(both["below"], call)
        if end == "kill":
            holder.kill()
        else:
            assert holder.stdin is not None
            holder.stdin.close()
        holder.wait()
        wait_until(lambda: try_lock(both["below"], call))


@needs("locks below")
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(("holder", "other"), [("here", "below"), ("below", "here")])
def test_who_waits_for_a_lock_gets_it_when_it_is_given_up_and_holds_up_nobody(
    both: dict[str, str], here: Place, call: str, holder: str, other: str
) -> None:
    with open(both[holder], "r+b") as file:
        getattr(fcntl, call)(file, fcntl.LOCK_EX)
        # More than the server has threads
        with closing(Waiting(both[other], call, 12)) as waiting:
            waiting.wait_until_asleep()
            with open(here.path("another"), "wb") as another:
                another.write(b"x" * 200_000)
                os.fsync(another.fileno())
            assert waiting.locked() == 0
            getattr(fcntl, call)(file, fcntl.LOCK_UN)
            assert waiting.all_had_it()


class Waiting:
    """Processes that wait for a lock, and give it up as soon as they have had it."""

    def __init__(self, path: str, call: str, count: int) -> None:
        words = command(path, call, fcntl.LOCK_EX)
        self._processes = [
            subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) for _ in range(count)
        ]

    def wait_until_asleep(self) -> None:
        for process in self._processes:
            wait_until(lambda process=process: in_lock_call(process))

    def locked(self) -> int:
        return sum(process.poll() is not None for process in self._processes)

    def all_had_it(self) -> bool:
        return all(process.communicate(timeout=60)[0] == b"locked\n" for process in self._processes)

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()


def in_lock_call(process: subprocess.Popen[bytes]) -> bool:
    """Tell whether a process is in fcntl(2) or flock(2); it must not have ended."""
    assert process.poll() is None, "it did not wait"
    with open(f"/proc/{process.pid}/syscall", encoding="ascii") as file:
        number = file.read().split()[0]
    return number in {"x86_64": ("72", "73"), "aarch64": ("25", "32")}[os.uname().machine]


@needs("locks below")
@pytest.mark.parametrize("call", CALLS)
def test_who_is_killed_while_it_waits_for_a_lock_does_not_get_it(both: dict[str, str], here: Place, call: str) -> None:
    with open(both["below"], "r+b") as file:
        getattr(fcntl, call)(file, fcntl.LOCK_EX)
        words = [sys.executable, "-c", LOCK, both["here"], "r+b", call, str(fcntl.LOCK_EX)]
        with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as waiter:
            wait_until(lambda: in_lock_call(waiter))
            waiter.send_signal(signal.SIGKILL)
            assert waiter.wait(60) == -signal.SIGKILL
        getattr(fcntl, call)(file, fcntl.LOCK_UN)
        assert try_lock(both["below"], call)


WRITER = """
import sqlite3, sys
path, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
database = sqlite3.connect(path, timeout=60, isolation_level=None)
for number in range(count):
    database.execute("BEGIN IMMEDIATE")
    last = database.execute("SELECT coalesce(max(number), 0) FROM rows").fetchone()[0]
    database.execute("INSERT INTO rows VALUES (?, ?)", (last + 1, name))
    database.execute("COMMIT")
"""


@needs("locks below")
def test_sqlite_writers_on_both_sides_lose_nothing(both: dict[str, str], here: Place) -> None:
    count = 40
    with closing(sqlite3.connect(here.path("rows.db"))) as database:
        database.execute("CREATE TABLE rows (number INTEGER PRIMARY KEY, name TEXT)")
        database.commit()
    paths = [here.path("rows.db"), os.path.join(here.below, "rows.db")] * 2
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, path, str(number), str(count)])
        for number, path in enumerate(paths)
    ]
    assert [writer.wait(120) for writer in writers] == [0] * len(paths)
    for path in paths[:2]:
        with closing(sqlite3.connect(path)) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            rows = database.execute("SELECT number, name FROM rows ORDER BY number").fetchall()
        assert [number for number, _ in rows] == list(range(1, len(paths) * count + 1))


@needs("leases")
@pytest.mark.parametrize("what", ["open", "truncate"])
def test_a_file_that_another_process_has_a_lease_of_holds_up_nobody_else(
    both: dict[str, str], here: Place, what: str
) -> None:
    act = {"open": "open(sys.argv[1], 'r+b')", "truncate": "os.truncate(sys.argv[1], 3)"}[what]
    told: list[int] = []
    before = signal.signal(signal.SIGIO, lambda *_: told.append(1))
    lease = os.open(both["below"], os.O_RDONLY)
    try:
        os.stat(both["here"])
        fcntl.fcntl(lease, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        with subprocess.Popen([sys.executable, "-c", f"import os, sys; {act}", both["here"]]) as other:
            try:
                wait_until(lambda: told)
                looking = [sys.executable, "-c", "import os, sys; os.mkdir(sys.argv[1])", here.path("new")]
                assert subprocess.run(looking, timeout=30).returncode == 0
                assert other.poll() is None
            finally:
                fcntl.fcntl(lease, fcntl.F_SETLEASE, fcntl.F_UNLCK)
                assert other.wait(60) == 0
    finally:
        os.close(lease)
        signal.signal(signal.SIGIO, before)


CIRCLE = """
import errno, fcntl, sys
path, own, next = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with open(path, "r+b") as file:
    fcntl.lockf(file, int(sys.argv[4]), 1, own)
    print("locked", flush=True)
    sys.stdin.readline()
    try:
        fcntl.lockf(file, fcntl.LOCK_EX, 1, next)
    except OSError as error:
        assert error.errno == errno.EDEADLK
        sys.exit(9)
"""


@pytest.mark.parametrize(("size", "how"), [(2, fcntl.LOCK_EX), (3, fcntl.LOCK_EX), (2, fcntl.LOCK_SH)])
def test_of_processes_that_would_wait_for_each_other_for_ever_one_is_refused(here: Place, size: int, how: int) -> None:
    """In a circle, each wants what the next one has. Two that share a byte and want it for themselves are one, too."""
    with open(here.path("file"), "wb") as file:
        file.write(b"0123456789")
    ranges = [(0, 0)] * 2 if how == fcntl.LOCK_SH else [(number, (number + 1) % size) for number in range(size)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CIRCLE, here.path("file"), str(own), str(wanted), str(how)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for own, wanted in ranges
    ]
    try:
        assert all(is_locked(process) for process in processes)
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(b"go\n")
            process.stdin.flush()
        assert sorted(process.wait(60) for process in processes) == [0] * (size - 1) + [REFUSED]
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def test_who_waits_for_a_lock_whose_holder_waits_for_a_third_is_not_refused(here: Place) -> None:
    with open(here.path("file"), "wb") as file:
        file.write(b"0123456789")
    with (
        locker(here.path("file"), "lockf", fcntl.LOCK_EX, 1, 0) as first,
        locker(here.path("file"), "lockf", fcntl.LOCK_EX, 1, 1) as second,
    ):
        assert is_locked(first)
        assert is_locked(second)
        words = [sys.executable, "-c", CIRCLE, here.path("file"), "2", "0", str(fcntl.LOCK_EX)]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as third:
            assert is_locked(third)
            assert third.stdin is not None
            third.stdin.write(b"go\n")
            third.stdin.flush()
            with locker(here.path("file"), "lockf", fcntl.LOCK_EX, 1, 2) as fourth:
                for process in (second, first):
                    assert process.stdin is not None
                    process.stdin.close()
                assert third.wait(60) == 0
                assert is_locked(fourth)
