"""Room in files: all modes of fallocate, limits on size, direct IO, and writers that are killed."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import resource
import signal
import subprocess
import sys

import pytest

from tests.support.drivers import Place
from tests.support.errors import raises
from tests.support.limits import needs
from tests.support.wait import wait_until

KEEP_SIZE, PUNCH_HOLE, COLLAPSE, ZERO, INSERT = 1, 2, 8, 16, 32
BLOCK = 4096


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    call = ctypes.CDLL(None, use_errno=True).fallocate
    call.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    if call(fd, mode, offset, length):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def blocks(fd: int, count: int) -> bytes:
    """Give the first byte of each block."""
    return b"".join(os.pread(fd, 1, number * BLOCK) for number in range(count))


def write_blocks(path: str, letters: bytes) -> None:
    with open(path, "wb") as file:
        file.write(b"".join(bytes([letter]) * BLOCK for letter in letters))


@needs("fallocate")
def test_space_behind_the_end_is_allocated_without_a_new_size(here: Place) -> None:
    with open(here.path("file"), "w+b", 0) as file:
        fallocate(file.fileno(), KEEP_SIZE, 0, 100 * BLOCK)
        assert os.fstat(file.fileno()).st_size == 0
        assert os.stat(os.path.join(here.below, "file")).st_blocks * 512 >= 100 * BLOCK


@needs("fallocate")
@pytest.mark.parametrize("size_kept", [True, False])
def test_a_range_is_zeroed_and_the_size_grows_unless_it_is_kept(here: Place, size_kept: bool) -> None:
    write_blocks(here.path("file"), b"abc")
    with open(here.path("file"), "r+b", 0) as file:
        fallocate(file.fileno(), ZERO | (KEEP_SIZE if size_kept else 0), 2 * BLOCK, 4 * BLOCK)
        assert os.fstat(file.fileno()).st_size == (3 if size_kept else 6) * BLOCK
        assert blocks(file.fileno(), 3) == b"ab\0"


@needs("fallocate")
def test_a_hole_is_seen_by_a_mapping(here: Place) -> None:
    write_blocks(here.path("file"), b"abc")
    with open(here.path("file"), "r+b", 0) as file, mmap.mmap(file.fileno(), 0) as mapping:
        assert mapping[BLOCK : BLOCK + 1] == b"b"
        fallocate(file.fileno(), PUNCH_HOLE | KEEP_SIZE, BLOCK, BLOCK)
        assert mapping[BLOCK - 1 : BLOCK + 1] == b"a\0"
        assert mapping[2 * BLOCK - 1 : 2 * BLOCK + 1] == b"\0c"


@needs("fallocate", "collapse and insert")
def test_ranges_are_taken_out_and_put_in(here: Place) -> None:
    write_blocks(here.path("file"), b"abcd")
    with open(here.path("file"), "r+b", 0) as file:
        fallocate(file.fileno(), COLLAPSE, BLOCK, BLOCK)
        assert blocks(file.fileno(), 4) == b"acd"
        fallocate(file.fileno(), INSERT, 2 * BLOCK, BLOCK)
        assert blocks(file.fileno(), 4) == b"ac\0d"


def test_modes_that_make_no_sense_are_refused(here: Place) -> None:
    write_blocks(here.path("file"), b"abcd")
    with open(here.path("file"), "r+b", 0) as file:
        with raises(errno.EOPNOTSUPP):
            fallocate(file.fileno(), PUNCH_HOLE, 0, BLOCK)  # without KEEP_SIZE
        with raises(errno.EINVAL):
            fallocate(file.fileno(), 0, 0, 0)
    with open(here.path("file"), "rb", 0) as file, raises(errno.EBADF):
        fallocate(file.fileno(), 0, 0, BLOCK)


def test_direct_io_reads_and_writes_what_others_see(here: Place) -> None:
    with mmap.mmap(-1, 4 * BLOCK) as buffer:
        buffer[:] = b"d" * 4 * BLOCK
        try:
            fd = os.open(here.path("file"), os.O_RDWR | os.O_CREAT | os.O_DIRECT)
        except OSError:
            pytest.skip("the disk below has no direct IO")
        try:
            assert os.writev(fd, [buffer]) == 4 * BLOCK
            with open(os.path.join(here.below, "file"), "rb") as below:
                assert below.read() == b"d" * 4 * BLOCK
            with open(here.path("file"), "r+b", 0) as cached:
                assert os.pread(cached.fileno(), 1, BLOCK) == b"d"
                os.pwrite(cached.fileno(), b"cached", BLOCK)
                os.fsync(cached.fileno())
            assert os.preadv(fd, [buffer], 0) == 4 * BLOCK
            assert buffer[BLOCK - 1 : BLOCK + 7] == b"dcachedd"
        finally:
            os.close(fd)


def test_no_file_grows_beyond_the_limit_of_its_writer(here: Place) -> None:
    limit = 100_000
    script = f"""
import errno, os, resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
assert os.write(fd, bytes(2 * {limit})) == {limit}
for attempt in (
    lambda: os.write(fd, b"1"),
    lambda: os.pwrite(fd, b"1", 10 * {limit}),
    lambda: os.ftruncate(fd, {limit} + 1),
    lambda: os.truncate(sys.argv[1], {limit} + 1),
):
    try:
        attempt()
    except OSError as error:
        assert error.errno == errno.EFBIG, error
    else:
        raise AssertionError("the limit was passed")
"""
    done = subprocess.run([sys.executable, "-c", script, here.path("file")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert os.path.getsize(os.path.join(here.below, "file")) == limit
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != limit


def test_a_writer_that_is_killed_leaves_whole_writes_and_a_usable_file(here: Place) -> None:
    script = (
        "import os, sys\n"
        "fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)\n"
        "number = 0\n"
        "while True:\n"
        "    os.write(fd, bytes([number % 256]) * 200_000)\n"
        "    number += 1\n"
    )
    path = os.path.join(here.below, "file")
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", script, here.path("file")]) as writer:
            wait_until(lambda: os.path.exists(path) and os.path.getsize(path) > 3_000_000, what="some writes")
            writer.send_signal(signal.SIGKILL)
        with open(here.path("file"), "rb") as file:
            data = file.read()
        for number, start in enumerate(range(0, len(data), 200_000)):
            part = data[start : start + 200_000]
            assert part == bytes([number % 256]) * len(part)
        os.unlink(here.path("file"))
    with open(here.path("file"), "wb") as file:
        file.write(b"usable")
    with open(path, "rb") as file:
        assert file.read() == b"usable"
