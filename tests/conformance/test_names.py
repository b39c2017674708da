"""Directories, names and what they lead to, as POSIX decides."""

from __future__ import annotations

import ctypes
import errno
import os
import stat

import pytest

from tests.support.drivers import Fs, Place
from tests.support.errors import raises
from tests.support.limits import needs

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2


def test_a_new_directory_is_empty_and_listed(fs: Fs) -> None:
    fs.mkdir("directory")
    assert stat.S_ISDIR(fs.lstat("directory").st_mode)
    assert fs.listdir() == ["directory"]
    assert fs.listdir("directory") == []


def test_making_what_exists_says_eexist(fs: Fs) -> None:
    fs.mkdir("directory")
    fs.write_file("file", b"")
    for name in ("directory", "file"):
        with pytest.raises(FileExistsError):
            fs.mkdir(name)


def test_making_a_directory_where_there_is_no_parent_says_enoent(fs: Fs) -> None:
    with pytest.raises(FileNotFoundError):
        fs.mkdir("missing/directory")


def test_a_file_in_place_of_a_directory_says_enotdir(fs: Fs) -> None:
    fs.write_file("file", b"")
    for call in (lambda: fs.mkdir("file/x"), lambda: fs.lstat("file/x"), lambda: fs.rmdir("file")):
        with pytest.raises(NotADirectoryError):
            call()


def test_removing_a_directory_that_is_not_empty_says_enotempty(fs: Fs) -> None:
    fs.mkdir("directory")
    fs.write_file("directory/file", b"")
    with raises(errno.ENOTEMPTY):
        fs.rmdir("directory")
    fs.unlink("directory/file")
    fs.rmdir("directory")
    assert fs.listdir() == []


def test_removing_what_is_missing_says_enoent(fs: Fs) -> None:
    for call in (fs.rmdir, fs.unlink):
        with pytest.raises(FileNotFoundError):
            call("missing")


def test_unlinking_a_directory_says_eisdir(fs: Fs) -> None:
    fs.mkdir("directory")
    with pytest.raises(IsADirectoryError):
        fs.unlink("directory")


def test_renaming_moves_a_file_within_and_between_directories(fs: Fs) -> None:
    fs.mkdir("one")
    fs.mkdir("two")
    fs.write_file("one/a", b"data")
    fs.rename("one/a", "one/b")
    fs.rename("one/b", "two/c")
    assert fs.listdir("one") == []
    assert fs.read_file("two/c") == b"data"


def test_renaming_over_a_file_replaces_it(fs: Fs) -> None:
    fs.write_file("old", b"old")
    fs.write_file("new", b"new")
    fs.rename("new", "old")
    assert fs.read_file("old") == b"new"
    assert fs.listdir() == ["old"]


def test_renaming_moves_a_directory_with_all_that_is_in_it(fs: Fs) -> None:
    fs.mkdir("one")
    fs.mkdir("one/in")
    fs.mkdir("two")
    fs.write_file("one/in/file", b"1")
    fs.rename("one", "two/moved")
    assert fs.read_file("two/moved/in/file") == b"1"
    with pytest.raises(FileNotFoundError):
        fs.lstat("one")


def test_renaming_a_directory_replaces_an_empty_one_only(fs: Fs) -> None:
    for name in ("one", "empty", "full"):
        fs.mkdir(name)
    fs.write_file("full/file", b"")
    with raises(errno.ENOTEMPTY):
        fs.rename("one", "full")
    fs.rename("one", "empty")
    assert sorted(fs.listdir()) == ["empty", "full"]


def test_a_file_and_a_directory_do_not_replace_each_other(fs: Fs) -> None:
    fs.mkdir("directory")
    fs.write_file("file", b"")
    with pytest.raises(IsADirectoryError):
        fs.rename("file", "directory")
    with pytest.raises(NotADirectoryError):
        fs.rename("directory", "file")


def test_a_directory_is_not_moved_into_itself(fs: Fs) -> None:
    fs.mkdir("directory")
    with raises(errno.EINVAL):
        fs.rename("directory", "directory/inside")


def test_renaming_to_the_same_name_changes_nothing(fs: Fs) -> None:
    fs.write_file("file", b"1")
    fs.rename("file", "file")
    assert fs.read_file("file") == b"1"


def test_renaming_what_is_missing_says_enoent(fs: Fs) -> None:
    with pytest.raises(FileNotFoundError):
        fs.rename("missing", "elsewhere")


def test_renaming_moves_a_file_to_another_job(fs: Fs) -> None:
    fs.write_file("file", b"data")
    fs.rename("file", os.path.join(fs.place.other, "moved"))
    assert fs.listdir() == []
    with open(os.path.join(fs.place.other_below, "moved"), "rb") as file:
        assert file.read() == b"data"


def test_renaming_moves_a_directory_to_another_job(fs: Fs) -> None:
    fs.mkdir("directory")
    fs.write_file("directory/file", b"data")
    fs.rename("directory", os.path.join(fs.place.other, "moved"))
    assert fs.read_file(os.path.join(fs.place.other, "moved/file")) == b"data"
    assert os.listdir(os.path.join(fs.place.other_below, "moved")) == ["file"]


def _renameat2(old: str, new: str, flags: int) -> None:
    if ctypes.CDLL(None, use_errno=True).renameat2(-100, os.fsencode(old), -100, os.fsencode(new), flags):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@needs("rename flags")
def test_renaming_without_replacement_keeps_what_is_there(here: Place) -> None:
    for name in ("one", "two"):
        with open(here.path(name), "w", encoding="ascii") as file:
            file.write(name)
    with pytest.raises(FileExistsError):
        _renameat2(here.path("one"), here.path("two"), RENAME_NOREPLACE)
    _renameat2(here.path("one"), here.path("three"), RENAME_NOREPLACE)
    assert sorted(os.listdir(here.root)) == ["three", "two"]


@needs("rename flags")
def test_exchange_swaps_two_names(here: Place) -> None:
    os.mkdir(here.path("directory"))
    with open(here.path("file"), "w", encoding="ascii") as file:
        file.write("data")
    _renameat2(here.path("file"), here.path("directory"), RENAME_EXCHANGE)
    assert os.path.isdir(here.path("file"))
    with open(here.path("directory"), encoding="ascii") as file:
        assert file.read() == "data"


def test_a_symbolic_link_says_its_target_and_is_followed(here: Place) -> None:
    os.symlink("target", here.path("link"))
    assert os.readlink(here.path("link")) == "target"
    assert stat.S_ISLNK(os.lstat(here.path("link")).st_mode)
    with pytest.raises(FileNotFoundError):
        os.stat(here.path("link"))
    with open(here.path("link"), "w", encoding="ascii") as file:
        file.write("data")
    assert os.path.getsize(here.path("target")) == 4


def test_a_symbolic_link_may_say_anything(fs: Fs) -> None:
    for number, target in enumerate(["/abs/olute", "../..", "x" * 4000, "line\nbreak", "\udcff"]):
        fs.symlink(target, f"link{number}")
        assert fs.readlink(f"link{number}") == target
        assert os.readlink(os.path.join(fs.place.below, f"link{number}")) == target


def test_reading_a_file_as_a_link_says_einval(fs: Fs) -> None:
    fs.write_file("file", b"")
    with raises(errno.EINVAL):
        fs.readlink("file")


def test_a_hard_link_is_the_same_file(fs: Fs) -> None:
    fs.write_file("one", b"first")
    fs.link("one", "two")
    one, two = fs.lstat("one"), fs.lstat("two")
    assert (one.st_ino, one.st_nlink) == (two.st_ino, 2)
    fs.write_file("two", b"second")
    assert fs.read_file("one") == b"second"
    fs.unlink("one")
    assert fs.lstat("two").st_nlink == 1
    assert fs.read_file("two") == b"second"


def test_a_hard_link_to_another_job_is_the_same_file(fs: Fs) -> None:
    elsewhere = os.path.join(fs.place.other, "name")
    fs.write_file("one", b"1")
    fs.link("one", elsewhere)
    assert fs.lstat(elsewhere).st_ino == fs.lstat("one").st_ino
    fs.write_file(elsewhere, b"changed")
    assert fs.read_file("one") == b"changed"


def test_a_link_over_an_existing_name_says_eexist(fs: Fs) -> None:
    fs.write_file("one", b"1")
    fs.write_file("two", b"2")
    with pytest.raises(FileExistsError):
        fs.link("one", "two")
    assert fs.read_file("two") == b"2"


def test_a_directory_gets_no_hard_link(fs: Fs) -> None:
    fs.mkdir("directory")
    with pytest.raises(PermissionError):
        fs.link("directory", "again")


@needs("inode number below")
def test_the_inode_number_is_that_below(fs: Fs) -> None:
    fs.write_file("file", b"1")
    assert fs.lstat("file").st_ino == os.lstat(os.path.join(fs.place.below, "file")).st_ino


def test_a_fifo_is_a_fifo(fs: Fs) -> None:
    fs.mkfifo("fifo")
    assert stat.S_ISFIFO(fs.lstat("fifo").st_mode)
    assert stat.S_ISFIFO(os.lstat(os.path.join(fs.place.below, "fifo")).st_mode)


NAMES = [
    "with space",
    "line\nbreak",
    "ü\u0308\N{SNOWMAN}",
    "bytes\udcff\udc80",
    "-rf",
    "*",
    "a'\"\\b",
    "%2F",
    "x" * 255,
    "é" * 127,
]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_any_name_is_stored_as_it_is(fs: Fs, name: str) -> None:
    fs.write_file(name, b"1")
    assert fs.listdir() == [name]
    assert os.listdir(fs.place.below) == [name]
    assert fs.read_file(name) == b"1"
    fs.rename(name, "plain")
    fs.rename("plain", name)
    fs.unlink(name)
    assert os.listdir(fs.place.below) == []


def test_a_name_of_more_than_255_bytes_says_enametoolong(fs: Fs) -> None:
    for name in ("x" * 256, "é" * 128):
        for call in (fs.mkdir, fs.lstat, lambda name: fs.open(name, os.O_WRONLY | os.O_CREAT)):
            with raises(errno.ENAMETOOLONG):
                call(name)


def test_a_deep_path_works(fs: Fs) -> None:
    path = ""
    for depth in range(60):
        path += f"directory-number-{depth}/"
        fs.mkdir(path)
    fs.write_file(path + "file", b"deep")
    assert fs.read_file(path + "file") == b"deep"


def test_names_differ_by_case(fs: Fs) -> None:
    fs.write_file("Name", b"1")
    fs.write_file("name", b"2")
    assert sorted(fs.listdir()) == ["Name", "name"]
    assert fs.read_file("Name") == b"1"


def test_a_missing_name_appears_when_it_is_made(fs: Fs) -> None:
    for _ in range(3):
        with pytest.raises(FileNotFoundError):
            fs.lstat("file")
        fs.write_file("file", b"1")
        assert fs.lstat("file").st_size == 1
        fs.unlink("file")


def test_the_working_directory_has_a_name_and_survives_being_moved(here: Place) -> None:
    os.mkdir(here.path("old"))
    before = os.getcwd()
    os.chdir(here.path("old"))
    try:
        assert os.getcwd() == here.path("old")
        os.rename(here.path("old"), here.path("new"))
        assert os.getcwd() == here.path("new")
        with open("file", "w", encoding="ascii") as file:
            file.write("1")
    finally:
        os.chdir(before)
    assert os.listdir(os.path.join(here.below, "new")) == ["file"]
