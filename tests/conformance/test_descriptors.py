"""What programs do with descriptors and the kernel has a part in: mapping, appending, holes, copying, locking."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import subprocess
import sys

import pytest

from tests.support.drivers import Place
from tests.support.errors import raises
from tests.support.limits import needs

FALLOC_FL_KEEP_SIZE = 1
FALLOC_FL_PUNCH_HOLE = 2


def write(path: str, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def test_what_is_written_to_a_mapping_is_seen_by_read_by_another_mapping_and_below(here: Place) -> None:
    write(here.path("file"), bytes(8192))
    with (
        open(here.path("file"), "r+b") as file,
        open(here.path("file"), "r+b") as again,
        mmap.mmap(file.fileno(), 0) as first,
        mmap.mmap(again.fileno(), 0) as second,
    ):
        first[5000:5004] = b"page"
        assert second[5000:5004] == b"page"
        assert os.pread(again.fileno(), 4, 5000) == b"page"
        first.flush()
        with open(os.path.join(here.below, "file"), "rb") as below:
            assert os.pread(below.fileno(), 4, 5000) == b"page"


def test_what_write_writes_is_seen_by_a_mapping(here: Place) -> None:
    write(here.path("file"), bytes(4096))
    with open(here.path("file"), "r+b", 0) as file, mmap.mmap(file.fileno(), 0) as mapping:
        assert mapping[:3] == bytes(3)
        os.pwrite(file.fileno(), b"new", 0)
        assert mapping[:3] == b"new"


def test_a_private_mapping_never_changes_the_file(here: Place) -> None:
    write(here.path("file"), b"original")
    with open(here.path("file"), "r+b") as file, mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE) as mapping:
        mapping[:3] = b"xyz"
    assert read(here.path("file")) == b"original"


@needs("one cache for all names")
def test_what_is_written_to_a_mapping_is_seen_through_the_file_s_other_name(here: Place) -> None:
    write(here.path("file"), bytes(4096))
    os.link(here.path("file"), here.path("other"))
    with (
        open(here.path("file"), "r+b") as file,
        open(here.path("other"), "rb") as other,
        mmap.mmap(file.fileno(), 0) as first,
        mmap.mmap(other.fileno(), 0, prot=mmap.PROT_READ) as second,
    ):
        assert second[:4] == bytes(4)
        first[:4] = b"page"
        assert second[:4] == b"page"


def test_appends_of_several_processes_are_all_there(here: Place) -> None:
    count, writers = 200, 4
    script = (
        "import os, sys\n"
        "fd = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)\n"
        f"for n in range({count}): os.write(fd, (sys.argv[2] + ' %d\\n' % n).encode())\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", script, here.path("log"), str(number)]) for number in range(writers)
    ]
    assert [process.wait() for process in processes] == [0] * writers
    lines = read(os.path.join(here.below, "log")).decode().splitlines()
    assert sorted(lines) == sorted(f"{number} {n}" for number in range(writers) for n in range(count))


def test_an_append_lands_behind_what_another_descriptor_has_appended(here: Place) -> None:
    first = os.open(here.path("log"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    second = os.open(here.path("log"), os.O_WRONLY | os.O_APPEND)
    os.write(first, b"1")
    os.write(second, b"22")
    os.write(first, b"3")
    os.close(first)
    os.close(second)
    assert read(here.path("log")) == b"1223"


@needs("holes")
def test_seek_finds_holes_and_data(here: Place) -> None:
    fd = os.open(here.path("sparse"), os.O_RDWR | os.O_CREAT)
    try:
        os.pwrite(fd, b"x" * 65536, 1 << 20)
        os.ftruncate(fd, 2 << 20)
        os.fsync(fd)
        assert os.lseek(fd, 0, os.SEEK_HOLE) == 0
        assert os.lseek(fd, 0, os.SEEK_DATA) == 1 << 20
        assert os.lseek(fd, 1 << 20, os.SEEK_HOLE) == (1 << 20) + 65536
        with raises(errno.ENXIO):
            os.lseek(fd, (1 << 20) + 65536, os.SEEK_DATA)
    finally:
        os.close(fd)


def test_seeking_for_holes_in_a_file_without_any_finds_its_end(here: Place) -> None:
    write(here.path("file"), b"12345")
    with open(here.path("file"), "rb") as file:
        assert os.lseek(file.fileno(), 0, os.SEEK_HOLE) == 5
        assert os.lseek(file.fileno(), 0, os.SEEK_DATA) == 0


def _fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    call = ctypes.CDLL(None, use_errno=True).fallocate
    call.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    if call(fd, mode, offset, length):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@needs("fallocate")
def test_fallocate_grows_a_file_and_punches_holes(here: Place) -> None:
    with open(here.path("file"), "w+b", 0) as file:
        _fallocate(file.fileno(), 0, 0, 100_000)
        assert os.fstat(file.fileno()).st_size == 100_000
        file.write(b"x" * 100_000)
        _fallocate(file.fileno(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 8192, 8192)
        assert os.pread(file.fileno(), 4, 8190) == b"xx\0\0"
        assert os.pread(file.fileno(), 4, 16382) == b"\0\0xx"
        assert os.fstat(file.fileno()).st_size == 100_000


def test_posix_fallocate_reserves_or_writes_the_space(here: Place) -> None:
    with open(here.path("file"), "w+b", 0) as file:
        os.posix_fallocate(file.fileno(), 0, 20_000)
        assert os.fstat(file.fileno()).st_size == 20_000
        assert os.pread(file.fileno(), 30_000, 0) == bytes(20_000)


def test_copy_file_range_copies_between_two_jobs(here: Place) -> None:
    data = os.urandom(500_000)
    write(here.path("source"), data)
    with open(here.path("source"), "rb") as source, open(os.path.join(here.other, "target"), "wb") as target:
        left = len(data)
        while left:
            copied = os.copy_file_range(source.fileno(), target.fileno(), left)
            assert copied > 0
            left -= copied
    assert read(os.path.join(here.other_below, "target")) == data


def test_fdatasync_and_the_fsync_of_a_directory_succeed(here: Place) -> None:
    with open(here.path("file"), "wb", 0) as file:
        file.write(b"1")
        os.fdatasync(file.fileno())
    directory = os.open(here.root, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(directory)
    os.close(directory)
    assert read(os.path.join(here.below, "file")) == b"1"


def test_o_directory_refuses_a_file_and_o_nofollow_a_link(here: Place) -> None:
    write(here.path("file"), b"")
    os.symlink("file", here.path("link"))
    with pytest.raises(NotADirectoryError):
        os.open(here.path("file"), os.O_RDONLY | os.O_DIRECTORY)
    with raises(errno.ELOOP):
        os.open(here.path("link"), os.O_RDONLY | os.O_NOFOLLOW)


@needs("stat of a removed open file")
def test_a_removed_open_file_still_has_attributes(here: Place) -> None:
    with open(here.path("file"), "w+b", 0) as file:
        file.write(b"12345")
        number = os.fstat(file.fileno()).st_ino
        os.unlink(here.path("file"))
        found = os.fstat(file.fileno())
        assert (found.st_size, found.st_nlink, found.st_ino) == (5, 0, number)
        os.fchmod(file.fileno(), 0o600)
        file.write(b"6")
        assert os.fstat(file.fileno()).st_size == 6


def test_a_fifo_carries_data_between_processes(here: Place) -> None:
    os.mkfifo(here.path("fifo"))
    with subprocess.Popen(["cat", here.path("fifo")], stdout=subprocess.PIPE) as reader:
        with open(here.path("fifo"), "wb") as writer:
            writer.write(b"through")
        assert reader.stdout is not None
        assert reader.stdout.read() == b"through"


# Locks are the kernel's and hold among the users of one mount.

REFUSED = 9

TRY_LOCK = """
import fcntl, sys
with open(sys.argv[1], "r+b") as file:
    try:
        getattr(fcntl, sys.argv[2])(file, fcntl.LOCK_EX | fcntl.LOCK_NB, *map(int, sys.argv[3:]))
    except OSError:
        sys.exit(9)
"""

HOLD_LOCK = """
import fcntl, sys
with open(sys.argv[1], "r+b") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    print(flush=True)
    sys.stdin.read()
"""


def try_lock(path: str, call: str, *region: int) -> int:
    """Try to lock in another process; 0 or REFUSED."""
    return subprocess.run([sys.executable, "-c", TRY_LOCK, path, call, *map(str, region)]).returncode


@pytest.mark.parametrize("call", ["flock", "lockf"])
def test_a_lock_that_one_process_holds_keeps_another_out(here: Place, call: str) -> None:
    write(here.path("file"), b"1")
    with open(here.path("file"), "r+b") as file:
        getattr(fcntl, call)(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert try_lock(here.path("file"), call) == REFUSED
        getattr(fcntl, call)(file, fcntl.LOCK_UN)
        assert try_lock(here.path("file"), call) == 0


def test_a_lock_on_a_range_leaves_the_rest_free(here: Place) -> None:
    write(here.path("file"), b"0123456789")
    with open(here.path("file"), "r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX, 4, 0)
        assert try_lock(here.path("file"), "lockf", 2, 2) == REFUSED
        assert try_lock(here.path("file"), "lockf", 2, 4) == 0


def test_the_lock_of_a_process_that_ends_is_free(here: Place) -> None:
    write(here.path("file"), b"1")
    command = [sys.executable, "-c", HOLD_LOCK, here.path("file")]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder,
        open(here.path("file"), "r+b") as file,
    ):
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        holder.kill()
        holder.wait()
        # The kernel frees a killed process's lock when its last descriptor is closed, which may be after wait().
        fcntl.flock(file, fcntl.LOCK_EX)
        assert holder.returncode == -9
