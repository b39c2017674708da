"""Reading without leaving a directory or hanging; writing whole or not at all."""

import contextlib
import errno
import os
import resource
import signal
import socket
import stat

import pytest

from sigfs.model import files
from tests.support.descriptors import assert_none_left, descriptors


@pytest.fixture
def directory(tmp_path):
    fd = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def errno_of(call, *args):
    with pytest.raises(OSError) as caught:  # noqa: PT011
        call(*args)
    return caught.value.errno


@pytest.mark.parametrize("size", [0, 1, 2**15 - 1, 2**15, 2**15 + 1, 2**17, 300_001])
def test_a_file_of_any_size_is_read_to_its_end(tmp_path, directory, size):
    content = os.urandom(size)
    (tmp_path / "f").write_bytes(content)
    assert files.read_at(directory, "f") == content


def test_a_symbolic_link_is_not_followed(tmp_path, directory):
    (tmp_path / "f").write_bytes(b"secret")
    (tmp_path / "link").symlink_to("f")
    assert errno_of(files.read_at, directory, "link") == errno.ELOOP


def test_a_fifo_neither_hangs_nor_loses_what_is_in_it(tmp_path, directory):
    os.mkfifo(tmp_path / "fifo")
    assert errno_of(files.read_at, directory, "fifo") == errno.EINVAL
    both = os.open(tmp_path / "fifo", os.O_RDWR)
    try:
        os.write(both, b"content")
        assert errno_of(files.read_at, directory, "fifo") == errno.EINVAL
        assert os.read(both, 100) == b"content"
    finally:
        os.close(both)


def test_a_directory_and_a_socket_are_refused(tmp_path, directory, monkeypatch):
    (tmp_path / "d").mkdir()
    monkeypatch.chdir(tmp_path)  # a socket's name has to be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s")
        assert errno_of(files.read_at, directory, "s") == errno.ENXIO
    assert errno_of(files.read_at, directory, "d") == errno.EISDIR


def test_an_endless_device_is_refused():
    fd = os.open("/dev", os.O_PATH | os.O_DIRECTORY)
    try:
        assert errno_of(files.read_at, fd, "zero") == errno.EINVAL
    finally:
        os.close(fd)


def test_a_file_of_a_terabyte_is_refused(tmp_path, directory):
    with open(tmp_path / "huge", "wb") as file:
        try:
            file.truncate(2**40)
        except OSError:
            pytest.skip("the file system has no sparse files of that size")
    assert errno_of(files.read_at, directory, "huge") == errno.EFBIG


def test_no_descriptor_is_left_open_by_reading(tmp_path, directory):
    (tmp_path / "f").write_bytes(b"x" * 100_000)
    before = descriptors()
    for name in ("f", "missing", "."):
        with contextlib.suppress(FileNotFoundError, IsADirectoryError):
            files.read_at(directory, name)
    assert_none_left(before)


@pytest.mark.parametrize("write", [files.write_atomic, files.write_exclusive])
def test_a_written_file_has_its_content_and_the_mode_that_the_umask_leaves(tmp_path, directory, write):
    old = os.umask(0o027)
    try:
        write(directory, "f", b"content")
        write(directory, "g", b"", 0o600)
    finally:
        os.umask(old)
    assert (tmp_path / "f").read_bytes() == b"content"
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "g").stat().st_mode) == 0o600
    assert sorted(os.listdir(tmp_path)) == ["f", "g"]


def test_an_atomic_write_replaces_and_an_open_reader_keeps_the_old_content(tmp_path, directory):
    (tmp_path / "f").write_bytes(b"old")
    with open(tmp_path / "f", "rb") as reader:
        files.write_atomic(directory, "f", b"new")
        assert reader.read() == b"old"
    assert (tmp_path / "f").read_bytes() == b"new"


@pytest.mark.parametrize("kind", ["file", "dangling link", "directory"])
def test_an_exclusive_write_never_replaces_anything(tmp_path, directory, kind):
    match kind:
        case "file":
            (tmp_path / "f").write_bytes(b"old")
        case "dangling link":
            (tmp_path / "f").symlink_to("nowhere")
        case _:
            (tmp_path / "f").mkdir()
    before = os.lstat(tmp_path / "f")
    with pytest.raises(FileExistsError):
        files.write_exclusive(directory, "f", b"new")
    assert os.listdir(tmp_path) == ["f"]
    assert os.lstat(tmp_path / "f").st_ino == before.st_ino


def test_without_hard_links_an_exclusive_write_still_replaces_nothing(tmp_path, directory, monkeypatch):
    def no_links(*args, **kwargs):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", no_links)
    files.write_exclusive(directory, "f", b"first")
    with pytest.raises(FileExistsError):
        files.write_exclusive(directory, "f", b"second")
    assert (tmp_path / "f").read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["f"]


@pytest.mark.parametrize("write", [files.write_new, files.write_atomic, files.write_exclusive])
def test_a_write_that_does_not_fit_leaves_nothing(tmp_path, directory, write):
    (tmp_path / "kept").write_bytes(b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        assert errno_of(write, directory, "f", b"x" * 100_000) == errno.EFBIG
        assert errno_of(files.write_atomic, directory, "kept", b"x" * 100_000) == errno.EFBIG
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert os.listdir(tmp_path) == ["kept"]
    assert (tmp_path / "kept").read_bytes() == b"old"


def test_exchanging_two_names_needs_the_flag_that_python_does_not_offer(tmp_path, directory):
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "b").write_bytes(b"b")
    assert errno_of(files.renameat2, directory, "a", directory, "b", files.RENAME_NOREPLACE) == errno.EEXIST
    files.renameat2(directory, "a", directory, "b", 2)
    assert (tmp_path / "a").read_bytes() == b"b"


@pytest.mark.parametrize(("name", "expected"), [("._x", True), ("x~", True), ("x", False), (".x", False)])
def test_temporary_names_are_those_of_signac_and_of_editors(name, expected):
    assert files.is_temporary(name) is expected
    assert files.is_temporary(files.temporary_name())
