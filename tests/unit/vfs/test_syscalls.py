"""The system calls that the os module lacks."""

import errno
import os

import pytest

from sigfs.vfs import syscalls


@pytest.fixture
def directory(tmp_path):
    fd = os.open(tmp_path, os.O_RDONLY)
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    yield fd
    os.close(fd)


def test_rename_replaces_exchanges_or_refuses(directory, tmp_path):
    with pytest.raises(FileExistsError):
        syscalls.rename("a", "b", directory, directory, syscalls.RENAME_NOREPLACE)
    syscalls.rename("a", "b", directory, directory, syscalls.RENAME_EXCHANGE)
    assert (tmp_path / "a").read_text() == "b"
    syscalls.rename("a", "b", directory, directory, 0)
    assert os.listdir(tmp_path) == ["b"]


def test_an_error_carries_its_number_and_the_name(directory):
    with pytest.raises(FileNotFoundError) as caught:
        syscalls.rename("none", "b", directory, directory, syscalls.RENAME_EXCHANGE)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOENT, "none")


def test_times_are_set_to_the_nanosecond_left_alone_or_now(tmp_path, directory):
    path = str(tmp_path / "a")
    syscalls.set_times(path, -1_000_000_001, 3)
    assert (os.stat(path).st_atime_ns, os.stat(path).st_mtime_ns) == (-1_000_000_001, 3)
    syscalls.set_times(path, None, "now")
    assert os.stat(path).st_atime_ns == -1_000_000_001
    assert os.stat(path).st_mtime_ns > 10**18


def test_the_time_of_making_stays_and_the_type_of_the_file_system_is_known(tmp_path, directory):
    born = syscalls.birth_ns(directory)
    if born is not None:
        assert 10**18 < born <= os.fstat(directory).st_ctime_ns
    assert syscalls.file_system_type(directory) > 0
    with pytest.raises(OSError, match="Bad file descriptor"):
        syscalls.file_system_type(-1)


def test_space_is_allocated_or_the_error_reported(tmp_path, directory):
    with open(tmp_path / "a", "r+") as file:
        syscalls.fallocate(file.fileno(), 0, 0, 5000)
        assert os.fstat(file.fileno()).st_size == 5000
    with pytest.raises(OSError, match="Bad file descriptor"):
        syscalls.fallocate(file.fileno() if not file.closed else -1, 0, 0, 1)
