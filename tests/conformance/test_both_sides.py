"""What is done below a mount is seen through it, at the latest when the kernel's caches run out."""

from __future__ import annotations

import os

from tests.support.drivers import Fs, Place
from tests.support.wait import wait_until


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def test_a_file_made_below_appears(here: Place) -> None:
    assert not os.path.exists(here.path("file"))
    with open(os.path.join(here.below, "file"), "wb") as file:
        file.write(b"1")
    wait_until(lambda: os.path.exists(here.path("file")))
    assert read(here.path("file")) == b"1"


def test_a_file_removed_below_disappears(here: Place) -> None:
    with open(here.path("file"), "wb"):
        pass
    assert os.path.exists(here.path("file"))
    os.unlink(os.path.join(here.below, "file"))
    wait_until(lambda: not os.path.exists(here.path("file")))
    assert os.listdir(here.root) == []


def test_a_file_replaced_below_shows_the_new_one(here: Place) -> None:
    with open(here.path("file"), "wb") as file:
        file.write(b"old")
    assert read(here.path("file")) == b"old"
    with open(os.path.join(here.below, "next"), "wb") as file:
        file.write(b"new and longer")
    os.rename(os.path.join(here.below, "next"), os.path.join(here.below, "file"))
    wait_until(lambda: read(here.path("file")) == b"new and longer")
    assert os.stat(here.path("file")).st_size == 14


def test_a_file_grown_below_shows_its_new_size_and_data(here: Place) -> None:
    with open(here.path("file"), "wb") as file:
        file.write(b"1")
    assert read(here.path("file")) == b"1"
    with open(os.path.join(here.below, "file"), "ab") as file:
        file.write(b"2" * 10_000)
    wait_until(lambda: os.stat(here.path("file")).st_size == 10_001)
    assert read(here.path("file")) == b"1" + b"2" * 10_000


def test_a_file_rewritten_below_at_the_same_size_shows_its_new_data(here: Place) -> None:
    with open(here.path("file"), "wb") as file:
        file.write(b"old" * 3000)
    assert read(here.path("file")) == b"old" * 3000
    with open(os.path.join(here.below, "file"), "r+b") as file:
        file.write(b"new" * 3000)
    wait_until(lambda: read(here.path("file")) == b"new" * 3000)
    assert os.stat(here.path("file")).st_size == 9000


def test_a_mode_changed_below_is_seen(here: Place) -> None:
    with open(here.path("file"), "wb"):
        pass
    os.chmod(os.path.join(here.below, "file"), 0o600)
    wait_until(lambda: os.stat(here.path("file")).st_mode & 0o777 == 0o600)
    assert os.stat(os.path.join(here.below, "file")).st_mode & 0o777 == 0o600


def test_a_directory_renamed_below_is_found_under_its_new_name(here: Place) -> None:
    os.mkdir(here.path("old"))
    with open(here.path("old", "file"), "wb") as file:
        file.write(b"1")
    os.rename(os.path.join(here.below, "old"), os.path.join(here.below, "new"))
    wait_until(lambda: os.path.exists(here.path("new", "file")))
    assert read(here.path("new", "file")) == b"1"
    wait_until(lambda: not os.path.exists(here.path("old")))


def test_a_file_in_a_directory_that_replaced_another_below_is_the_new_one(here: Place) -> None:
    for name in ("one", "two"):
        os.mkdir(here.path(name))
        with open(here.path(name, "file"), "wb") as file:
            file.write(name.encode())
    assert read(here.path("one", "file")) == b"one"
    os.rename(os.path.join(here.below, "one"), os.path.join(here.below, "gone"))
    os.rename(os.path.join(here.below, "two"), os.path.join(here.below, "one"))
    wait_until(lambda: read(here.path("one", "file")) == b"two")
    assert read(here.path("gone", "file")) == b"one"


def test_an_open_file_keeps_its_data_when_its_name_is_taken_below(fs: Fs) -> None:
    fs.write_file("file", b"mine")
    fd = fs.open("file")
    os.unlink(os.path.join(fs.place.below, "file"))
    with open(os.path.join(fs.place.below, "file"), "wb") as file:
        file.write(b"theirs")
    assert fs.pread(fd, 10, 0) == b"mine"
    fs.close(fd)
    wait_until(lambda: fs.read_file("file") == b"theirs")
    assert fs.lstat("file").st_size == 6
