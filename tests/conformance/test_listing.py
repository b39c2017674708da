"""Listing directories: complete, each name once, positions that hold while names come and go (I5)."""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.drivers import Fs, Place

COUNT = 2000

_libc = ctypes.CDLL(None, use_errno=True)
_libc.opendir.restype = ctypes.c_void_p
_libc.readdir.restype = ctypes.c_void_p
_libc.telldir.restype = ctypes.c_long
for _name, _more in {"readdir": [], "telldir": [], "seekdir": [ctypes.c_long], "rewinddir": [], "closedir": []}.items():
    getattr(_libc, _name).argtypes = [ctypes.c_void_p, *_more]
_NAME_AT = 19  # offset of d_name in struct dirent: ino_t, off_t, unsigned short, unsigned char


@contextmanager
def opened(path: str) -> Iterator[int]:
    """Open *path* for the C library's readdir."""
    stream = _libc.opendir(os.fsencode(path))
    assert stream, os.strerror(ctypes.get_errno())
    try:
        yield stream
    finally:
        _libc.closedir(stream)


def next_name(stream: int) -> str | None:
    """Read one entry; None at the end."""
    entry = _libc.readdir(stream)
    return None if not entry else os.fsdecode(ctypes.string_at(entry + _NAME_AT))


def rest(stream: int) -> list[str]:
    """Read to the end."""
    names = []
    while (name := next_name(stream)) is not None:
        names.append(name)
    return names


def fill(below: str) -> set[str]:
    names = {f"file-{number:05}-{'x' * 20}" for number in range(COUNT)}
    for name in names:
        with open(os.path.join(below, name), "wb"):
            pass
    return names


def test_a_large_directory_is_listed_completely_and_each_name_once(fs: Fs) -> None:
    names = fill(fs.place.below)
    listed = fs.listdir()
    assert len(listed) == COUNT
    assert set(listed) == names


def test_a_listing_has_dot_and_dotdot(here: Place) -> None:
    with opened(here.root) as stream:
        assert sorted(rest(stream)) == [".", ".."]


def test_names_that_stay_are_listed_once_while_others_come_and_go(here: Place) -> None:
    names = fill(here.below)
    gone = {name for name in names if name.endswith("x") and int(name[5:10]) % 3 == 0}
    with opened(here.root) as stream:
        seen = [next_name(stream) for _ in range(500)]
        for name in gone:
            os.unlink(here.path(name))
        for number in range(500):
            with open(here.path(f"later-{number}"), "wb"):
                pass
        seen += rest(stream)
    assert len(seen) == len(set(seen))
    assert set(seen) >= names - gone


def test_a_position_leads_back_to_the_entry_behind_it(here: Place) -> None:
    fill(here.below)
    with opened(here.root) as stream:
        for _ in range(700):
            next_name(stream)
        position = _libc.telldir(stream)
        expected = rest(stream)
        _libc.seekdir(stream, position)
        assert rest(stream) == expected


def test_a_position_holds_while_names_come_and_go(here: Place) -> None:
    names = fill(here.below)
    with opened(here.root) as stream:
        before = {next_name(stream) for _ in range(700)}
        position = _libc.telldir(stream)
        rest(stream)
        gone = set(sorted(name for name in before if name and name[0] != ".")[:100])
        for name in gone:
            os.unlink(here.path(name))
        with open(here.path("later"), "wb"):
            pass
        _libc.seekdir(stream, position)
        after = rest(stream)
    assert len(after) == len(set(after))
    assert not before & set(after)
    assert before | set(after) >= names


def test_rewinding_shows_what_has_come_and_gone(here: Place) -> None:
    for name in ("a", "b"):
        os.mkdir(here.path(name))
    with opened(here.root) as stream:
        assert set(rest(stream)) == {".", "..", "a", "b"}
        os.rmdir(here.path("a"))
        os.mkdir(here.path("c"))
        _libc.rewinddir(stream)
        assert set(rest(stream)) == {".", "..", "b", "c"}


def test_a_listing_knows_the_type_of_each_entry(here: Place) -> None:
    os.mkdir(here.path("directory"))
    os.symlink("x", here.path("link"))
    os.mkfifo(here.path("fifo"))
    with open(here.path("file"), "wb"):
        pass
    with os.scandir(here.root) as entries:
        for entry in entries:
            kind = {"directory": stat.S_ISDIR, "link": stat.S_ISLNK, "fifo": stat.S_ISFIFO, "file": stat.S_ISREG}
            assert kind[entry.name](entry.stat(follow_symlinks=False).st_mode)
            assert entry.is_dir(follow_symlinks=False) == (entry.name == "directory")
            assert entry.is_symlink() == (entry.name == "link")


def test_a_walk_of_the_mount_meets_the_jobs_files(here: Place) -> None:
    with open(here.path("file"), "wb"):
        pass
    found = [os.path.join(directory, name) for directory, _, files in os.walk(here.top) for name in files]
    assert here.path("file") in found
    assert len(found) == len(set(found))
