"""Files made without a name (O_TMPFILE), which get one when they are complete, or never."""

from __future__ import annotations

import errno
import os

import pytest

from tests.support.drivers import Place, umask
from tests.support.errors import raises
from tests.support.limits import needs


def link(fd: int, path: str) -> None:
    """Give an open file a name, as programs without special rights do."""
    directory, name = os.path.split(path)
    to = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=to, follow_symlinks=True)
    finally:
        os.close(to)


@needs("unnamed files")
def test_an_unnamed_file_is_in_no_listing_until_it_is_linked(here: Place) -> None:
    with umask(0o027), open(os.open(here.root, os.O_TMPFILE | os.O_RDWR, 0o666), "r+b", 0) as file:
        assert os.fstat(file.fileno()).st_nlink == 0
        assert os.fstat(file.fileno()).st_mode & 0o7777 == 0o640
        file.write(b"complete")
        assert os.listdir(here.root) == os.listdir(here.below) == []
        link(file.fileno(), here.path("name"))
        assert os.fstat(file.fileno()).st_nlink == 1
        assert os.path.samestat(os.fstat(file.fileno()), os.stat(here.path("name")))
        file.write(b"!")
    with open(os.path.join(here.below, "name"), "rb") as below:
        assert below.read() == b"complete!"


@needs("unnamed files")
def test_an_unnamed_file_can_be_linked_into_another_job(here: Place) -> None:
    with open(os.open(here.root, os.O_TMPFILE | os.O_WRONLY, 0o600), "wb", 0) as file:
        file.write(b"there")
        link(file.fileno(), os.path.join(here.other, "name"))
    with open(os.path.join(here.other_below, "name"), "rb") as below:
        assert below.read() == b"there"


@needs("unnamed files")
def test_an_unnamed_file_that_is_opened_exclusively_gets_no_name(here: Place) -> None:
    with (
        open(os.open(here.root, os.O_TMPFILE | os.O_RDWR | os.O_EXCL, 0o600), "r+b", 0) as file,
        pytest.raises(FileNotFoundError),
    ):
        link(file.fileno(), here.path("name"))
    assert os.listdir(here.below) == []


@needs("unnamed files")
def test_a_name_that_exists_is_not_replaced_by_an_unnamed_file(here: Place) -> None:
    with open(here.path("name"), "wb") as kept:
        kept.write(b"kept")
    with (
        open(os.open(here.root, os.O_TMPFILE | os.O_RDWR, 0o600), "r+b", 0) as file,
        pytest.raises(FileExistsError),
    ):
        link(file.fileno(), here.path("name"))
    with open(here.path("name"), "rb") as kept:
        assert kept.read() == b"kept"


@needs("unnamed files")
def test_many_unnamed_files_are_apart_from_each_other_and_leave_nothing(here: Place) -> None:
    for _ in range(3):
        fds = [os.open(here.root, os.O_TMPFILE | os.O_RDWR, 0o600) for _ in range(20)]
        for number, fd in enumerate(fds):
            os.write(fd, b"%d" % number)
        assert [os.pread(fd, 9, 0) for fd in fds] == [b"%d" % number for number in range(20)]
        for fd in fds:
            os.close(fd)
    assert os.listdir(here.below) == []


def test_where_there_are_no_unnamed_files_the_error_says_so_and_programs_take_another_way(here: Place) -> None:
    if here.driver in {"llfuse", "fusepy"}:
        with raises(errno.EOPNOTSUPP):
            os.open(here.root, os.O_TMPFILE | os.O_RDWR, 0o600)
    else:
        os.close(os.open(here.root, os.O_TMPFILE | os.O_RDWR, 0o600))
