"""Reading and writing files, as POSIX decides."""

from __future__ import annotations

import errno
import os

import pytest

from tests.support.drivers import Fs, umask
from tests.support.errors import raises


def test_a_created_file_is_empty_and_has_one_name(fs: Fs) -> None:
    fs.close(fs.open("new", os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    found = fs.lstat("new")
    assert (found.st_size, found.st_nlink) == (0, 1)
    assert fs.listdir() == ["new"]


def test_what_is_written_is_read_back_and_is_the_same_below(fs: Fs) -> None:
    data = os.urandom(300_000)
    fs.write_file("data", data)
    assert fs.read_file("data") == data
    with open(os.path.join(fs.place.below, "data"), "rb") as file:
        assert file.read() == data


def test_what_lies_below_is_read_through(fs: Fs) -> None:
    data = os.urandom(300_000)
    with open(os.path.join(fs.place.below, "data"), "wb") as file:
        file.write(data)
    assert fs.read_file("data") == data


def test_the_job_shows_its_own_state_point_file(fs: Fs) -> None:
    below = os.path.join(os.path.dirname(fs.place.below), "signac_statepoint.json")
    job = os.path.dirname(fs.place.root)
    with open(below, "rb") as file:
        expected = file.read()
    assert fs.read_file(os.path.join(job, "signac_statepoint.json")) == expected


def test_opening_a_missing_file_says_enoent(fs: Fs) -> None:
    with pytest.raises(FileNotFoundError):
        fs.open("missing")


def test_exclusive_creation_of_an_existing_file_says_eexist(fs: Fs) -> None:
    fs.write_file("there", b"1")
    with pytest.raises(FileExistsError):
        fs.open("there", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    assert fs.read_file("there") == b"1"


def test_opening_with_truncation_empties_the_file(fs: Fs) -> None:
    fs.write_file("file", b"long ago")
    fs.close(fs.open("file", os.O_WRONLY | os.O_TRUNC))
    assert fs.lstat("file").st_size == 0
    assert fs.read_file("file") == b""


def test_creation_of_an_existing_file_without_truncation_keeps_its_data(fs: Fs) -> None:
    fs.write_file("file", b"kept")
    fs.close(fs.open("file", os.O_WRONLY | os.O_CREAT))
    assert fs.read_file("file") == b"kept"


def test_writes_at_offsets_change_only_what_they_cover(fs: Fs) -> None:
    fs.write_file("file", b"0123456789")
    fd = fs.open("file", os.O_RDWR)
    assert fs.pwrite(fd, b"ab", 3) == 2
    assert fs.pread(fd, 4, 2) == b"2ab5"
    fs.close(fd)
    assert fs.read_file("file") == b"012ab56789"


def test_a_read_at_or_behind_the_end_gives_nothing(fs: Fs) -> None:
    fs.write_file("file", b"12345")
    fd = fs.open("file")
    assert fs.pread(fd, 10, 3) == b"45"
    assert fs.pread(fd, 10, 5) == b""
    assert fs.pread(fd, 10, 5000) == b""
    fs.close(fd)


def test_truncation_cuts_and_growing_fills_with_zeros(fs: Fs) -> None:
    fs.write_file("file", b"0123456789")
    fs.truncate("file", 4)
    assert fs.read_file("file") == b"0123"
    fs.truncate("file", 6)
    assert fs.read_file("file") == b"0123\0\0"
    assert fs.lstat("file").st_size == 6


def test_an_open_file_is_truncated_by_its_descriptor(fs: Fs) -> None:
    fs.write_file("file", b"0123456789")
    fd = fs.open("file", os.O_RDWR)
    fs.ftruncate(fd, 2)
    assert fs.fstat(fd).st_size == 2
    fs.pwrite(fd, b"x", 5)
    assert fs.pread(fd, 10, 0) == b"01\0\0\0x"
    fs.close(fd)


def test_a_write_far_behind_the_end_leaves_a_hole_that_reads_as_zeros(fs: Fs) -> None:
    fd = fs.open("sparse", os.O_RDWR | os.O_CREAT)
    fs.pwrite(fd, b"end", 50_000_000)
    assert fs.pread(fd, 10, 20_000_000) == bytes(10)
    fs.close(fd)
    found = fs.lstat("sparse")
    assert found.st_size == 50_000_003
    assert found.st_blocks * 512 < 1_000_000


def test_the_size_and_the_times_change_with_a_write(fs: Fs) -> None:
    fs.write_file("file", b"1")
    fs.utime("file", 1, 1)
    fd = fs.open("file", os.O_WRONLY)
    fs.pwrite(fd, b"more", 1)
    fs.close(fd)
    found = fs.lstat("file")
    assert found.st_size == 5
    assert found.st_mtime_ns > 1


def test_fsync_of_a_file_succeeds_and_the_data_is_below(fs: Fs) -> None:
    fd = fs.open("file", os.O_WRONLY | os.O_CREAT)
    fs.pwrite(fd, b"safe", 0)
    fs.fsync(fd)
    with open(os.path.join(fs.place.below, "file"), "rb") as file:
        assert file.read() == b"safe"
    fs.close(fd)


def test_a_removed_open_file_is_read_and_written_until_closed(fs: Fs) -> None:
    fs.write_file("file", b"alive")
    fd = fs.open("file", os.O_RDWR)
    fs.unlink("file")
    assert fs.listdir() == []
    assert fs.pread(fd, 10, 0) == b"alive"
    assert fs.pwrite(fd, b"!!", 5) == 2
    assert fs.pread(fd, 10, 0) == b"alive!!"
    fs.ftruncate(fd, 2)
    assert fs.pread(fd, 10, 0) == b"al"
    fs.close(fd)


def test_an_open_file_that_was_replaced_keeps_its_own_data(fs: Fs) -> None:
    fs.write_file("file", b"old")
    fs.write_file("next", b"new")
    fd = fs.open("file")
    fs.rename("next", "file")
    assert fs.pread(fd, 10, 0) == b"old"
    assert fs.read_file("file") == b"new"
    fs.close(fd)


def test_an_open_file_survives_being_moved(fs: Fs) -> None:
    fs.write_file("file", b"1")
    fd = fs.open("file", os.O_RDWR)
    fs.mkdir("deeper")
    fs.rename("file", "deeper/file")
    fs.pwrite(fd, b"2", 1)
    fs.close(fd)
    assert fs.read_file("deeper/file") == b"12"


def test_reading_a_directory_as_a_file_says_eisdir(fs: Fs) -> None:
    fs.mkdir("directory")
    with raises(errno.EISDIR):
        fs.close(fs.open("directory", os.O_WRONLY))


def test_the_statistics_of_the_file_system_are_those_below(fs: Fs) -> None:
    seen, below = fs.statvfs(), os.statvfs(fs.place.below)
    for name in ("f_bsize", "f_frsize", "f_blocks", "f_files", "f_namemax"):
        assert getattr(seen, name) == getattr(below, name), name


def test_the_umask_takes_bits_of_a_new_file_and_directory(fs: Fs) -> None:
    if fs.driver == "direct":
        fs.caller = type(fs.caller)(fs.caller.uid, fs.caller.gid, fs.caller.pid, 0o027)
    with umask(0o027):
        fs.close(fs.open("file", os.O_WRONLY | os.O_CREAT, 0o666))
        fs.mkdir("directory", 0o777)
    assert fs.lstat("file").st_mode & 0o777 == 0o640
    assert fs.lstat("directory").st_mode & 0o777 == 0o750
