"""Modes, owners, times and extended attributes."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess

import pytest

from tests.support.drivers import Fs, Place, umask
from tests.support.errors import raises
from tests.support.limits import needs

UTIME_OMIT = (1 << 30) - 2

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may do this")


def test_chmod_sets_all_twelve_bits(fs: Fs) -> None:
    fs.write_file("file", b"")
    for mode in (0o600, 0o444, 0o755, 0o1777, 0o000):
        fs.chmod("file", mode)
        assert stat.S_IMODE(fs.lstat("file").st_mode) == mode
        assert stat.S_IMODE(os.lstat(os.path.join(fs.place.below, "file")).st_mode) == mode


@as_root
def test_chown_sets_owner_and_group_apart(here: Place) -> None:
    with open(here.path("file"), "wb"):
        pass
    os.chown(here.path("file"), 1234, -1)
    os.chown(here.path("file"), -1, 4321)
    found = os.lstat(os.path.join(here.below, "file"))
    assert (found.st_uid, found.st_gid) == (1234, 4321)
    assert (os.lstat(here.path("file")).st_uid, os.lstat(here.path("file")).st_gid) == (1234, 4321)


@as_root
def test_chown_of_a_link_leaves_its_target(here: Place) -> None:
    with open(here.path("file"), "wb"):
        pass
    os.symlink("file", here.path("link"))
    os.lchown(here.path("link"), 1234, 1234)
    assert os.lstat(here.path("link")).st_uid == 1234
    assert os.lstat(here.path("file")).st_uid == os.geteuid()


def test_times_are_kept_to_the_nanosecond(fs: Fs) -> None:
    fs.write_file("file", b"")
    for atime_ns, mtime_ns in ((1, 1_700_000_000_123_456_789), (1_073_741_822, 1_073_741_823)):
        fs.utime("file", atime_ns, mtime_ns)
        found = fs.lstat("file")
        assert (found.st_atime_ns, found.st_mtime_ns) == (atime_ns, mtime_ns)


def test_a_time_that_is_omitted_stays(here: Place) -> None:
    with open(here.path("file"), "wb"):
        pass
    os.utime(here.path("file"), ns=(1111, 2222))
    subprocess.run(["touch", "-m", "-d", "@5", here.path("file")], check=True)
    found = os.stat(here.path("file"))
    assert (found.st_atime_ns, found.st_mtime_ns) == (1111, 5 * 10**9)
    subprocess.run(["touch", "-a", "-d", "@7", here.path("file")], check=True)
    found = os.stat(here.path("file"))
    assert (found.st_atime_ns, found.st_mtime_ns) == (7 * 10**9, 5 * 10**9)


def test_touch_sets_the_time_of_the_call(here: Place) -> None:
    with open(here.path("file"), "wb"):
        pass
    os.utime(here.path("file"), ns=(1, 1))
    os.utime(here.path("file"))
    with open(os.path.join(here.below, "now"), "wb") as now:
        os.utime(now.fileno())
        reference = os.fstat(now.fileno()).st_mtime
    assert abs(os.stat(here.path("file")).st_mtime - reference) < 60


def test_times_of_a_link_are_its_own(here: Place) -> None:
    os.symlink("nowhere", here.path("link"))
    os.utime(here.path("link"), ns=(5, 6), follow_symlinks=False)
    assert os.lstat(here.path("link")).st_mtime_ns == 6


def test_the_change_time_moves_when_the_mode_does(fs: Fs) -> None:
    fs.write_file("file", b"")
    before = os.lstat(os.path.join(fs.place.below, "file")).st_ctime_ns
    while os.lstat(os.path.join(fs.place.below, "file")).st_ctime_ns == before:
        fs.chmod("file", 0o640)
    assert fs.lstat("file").st_ctime_ns > before


@needs("birth time")
def test_the_time_of_making_is_that_below(here: Place) -> None:
    with open(here.path("file"), "wb"):
        pass
    os.mkdir(here.path("directory"))
    for name in ("file", "directory"):
        born = [
            subprocess.run(["stat", "-c", "%w", path], check=True, capture_output=True, text=True).stdout
            for path in (here.path(name), os.path.join(here.below, name))
        ]
        if born[1] == "-\n":
            pytest.skip("the disk below does not know it")
        assert born[0] == born[1]


def test_the_names_of_a_directory_count_in_its_links(fs: Fs) -> None:
    before = fs.lstat("").st_nlink
    fs.mkdir("directory")
    assert fs.lstat("").st_nlink == os.lstat(fs.place.below).st_nlink >= before


def test_a_set_group_id_directory_gives_its_group_and_its_bit(fs: Fs) -> None:
    fs.mkdir("shared")
    if os.geteuid() == 0:
        os.chown(os.path.join(fs.place.below, "shared"), -1, 4321)
    fs.chmod("shared", 0o2775)
    group = os.lstat(os.path.join(fs.place.below, "shared")).st_gid
    fs.mkdir("shared/directory")
    fs.write_file("shared/file", b"")
    assert fs.lstat("shared/directory").st_mode & stat.S_ISGID
    assert fs.lstat("shared/directory").st_gid == group
    assert fs.lstat("shared/file").st_gid == group


def test_an_extended_attribute_is_set_read_listed_and_removed(fs: Fs) -> None:
    fs.write_file("file", b"")
    fs.setxattr("file", "user.one", b"\0binary\xff")
    fs.setxattr("file", "user.two", b"")
    assert fs.getxattr("file", "user.one") == b"\0binary\xff"
    assert {"user.one", "user.two"} <= set(fs.listxattr("file"))
    assert os.getxattr(os.path.join(fs.place.below, "file"), "user.one") == b"\0binary\xff"
    fs.removexattr("file", "user.one")
    assert "user.one" not in fs.listxattr("file")
    with raises(errno.ENODATA):
        fs.getxattr("file", "user.one")


def test_an_extended_attribute_can_be_of_a_directory(fs: Fs) -> None:
    fs.mkdir("directory")
    fs.setxattr("directory", "user.one", b"1")
    assert fs.getxattr("directory", "user.one") == b"1"


def test_the_flags_of_setxattr_are_kept(fs: Fs) -> None:
    fs.write_file("file", b"")
    with raises(errno.ENODATA):
        fs.setxattr("file", "user.x", b"1", os.XATTR_REPLACE)
    fs.setxattr("file", "user.x", b"1", os.XATTR_CREATE)
    with pytest.raises(FileExistsError):
        fs.setxattr("file", "user.x", b"2", os.XATTR_CREATE)
    fs.setxattr("file", "user.x", b"3", os.XATTR_REPLACE)
    assert fs.getxattr("file", "user.x") == b"3"


def test_a_buffer_that_is_too_small_for_an_attribute_says_erange(here: Place) -> None:
    import ctypes

    with open(here.path("file"), "wb"):
        pass
    os.setxattr(here.path("file"), "user.x", b"12345678")
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(4)
    path = os.fsencode(here.path("file"))
    assert libc.getxattr(path, b"user.x", buffer, 4) == -1
    assert ctypes.get_errno() == errno.ERANGE
    assert libc.getxattr(path, b"user.x", None, 0) == 8
    assert libc.listxattr(path, buffer, 4) == -1
    assert ctypes.get_errno() == errno.ERANGE


@needs("default acl")
def test_a_default_acl_overrules_the_umask(here: Place) -> None:
    if shutil.which("setfacl") is None:
        pytest.skip("there is no setfacl")
    subprocess.run(["setfacl", "-d", "-m", "g::rwx", here.below], check=True)
    with umask(0o077), open(here.path("file"), "wb"):
        pass
    assert os.lstat(os.path.join(here.below, "file")).st_mode & 0o070 == 0o060
