"""When the kernel may keep what it has cached of a file, and when it is told that attributes do not hold."""

from __future__ import annotations

import fcntl
import mmap
import os
import signal
import time
from collections.abc import Iterator

import pytest

from sigfs.vfs import freshness, syscalls
from sigfs.vfs.types import DataCache

LONG_AGO_NS = 10**18


@pytest.fixture(autouse=True)
def ignoring_leases() -> Iterator[None]:
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGIO, before)


@pytest.fixture
def file(make_world, monkeypatch):  # type: ignore[no-untyped-def]
    """A file of a job, long unchanged as far as the clock says; gives the world and the inode."""
    world = make_world(keeps_data=True)
    inode = world.write_file(world.job(1), "f", b"one")
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() + 10**10)
    return world, inode


def open_once(world, inode, flags=os.O_RDONLY) -> DataCache:
    handle = world.operations.open(inode, flags, world.caller)
    try:
        return world.operations.data_cache(handle)
    finally:
        world.operations.release(handle)


def test_data_is_kept_from_the_second_open_on_while_the_file_is_as_it_was(file):
    world, inode = file
    assert [open_once(world, inode).may_keep for _ in range(3)] == [False, True, True]
    with open(world.below(1, "f"), "r+b") as below:
        below.write(b"two")
    assert [open_once(world, inode).may_keep for _ in range(2)] == [False, True]


def test_data_is_not_kept_before_the_first_who_opened_it_has_closed_it(file):
    world, inode = file
    first = world.operations.open(inode, os.O_RDONLY, world.caller)
    assert not world.operations.data_cache(first).may_keep
    assert not open_once(world, inode).may_keep
    world.operations.release(first)
    assert open_once(world, inode).may_keep


def test_a_rewrite_that_restores_size_and_time_of_modification_is_noticed(file):
    world, inode = file
    open_once(world, inode)
    before = os.stat(world.below(1, "f"))
    with open(world.below(1, "f"), "r+b") as below:
        below.write(b"two")
    os.utime(world.below(1, "f"), ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not open_once(world, inode).may_keep


def test_data_of_a_file_that_changed_a_moment_ago_is_not_kept(make_world):
    world = make_world(keeps_data=True)
    inode = world.write_file(world.job(1), "f", b"one")
    assert [open_once(world, inode).may_keep for _ in range(3)] == [False] * 3


def test_data_is_not_kept_where_stores_into_mappings_leave_no_time(file):
    world, inode = file
    world.operations._keeps_data = False
    assert [open_once(world, inode).may_keep for _ in range(3)] == [False] * 3


@pytest.mark.parametrize("mapped", [False, True], ids=["open", "mapped"])
def test_data_is_not_kept_of_a_file_that_somebody_may_be_writing(file, mapped):
    world, inode = file
    with open(world.below(1, "f"), "r+b") as below:
        mapping = mmap.mmap(below.fileno(), 3) if mapped else None
        if mapped:
            below.close()
        assert [open_once(world, inode).may_keep for _ in range(2)] == [False] * 2
        if mapping is not None:
            mapping.close()
    assert [open_once(world, inode).may_keep for _ in range(2)] == [False, True]


def test_asking_for_writers_leaves_no_lease_behind(file):
    world, _ = file
    fd = os.open(world.below(1, "f"), os.O_RDONLY)
    try:
        assert syscalls.has_no_writer(fd)
        assert fcntl.fcntl(fd, fcntl.F_GETLEASE) == fcntl.F_UNLCK
    finally:
        os.close(fd)


def test_who_opens_a_file_that_others_have_changed_is_not_to_believe_old_attributes(file):
    world, inode = file
    assert open_once(world, inode).attributes_hold is False  # it was written to since it was made
    world.operations.getattr(inode)
    assert open_once(world, inode).attributes_hold
    with open(world.below(1, "f"), "ab") as below:
        below.write(b" more")
    assert not open_once(world, inode).attributes_hold


def test_a_state_is_quiet_once_the_coarsest_clock_has_ticked(tmp_path):
    path = tmp_path / "f"
    path.write_text("x")
    assert not freshness.is_quiet(path.stat())
    os.utime(path, ns=(0, time.time_ns() + LONG_AGO_NS))
    assert not freshness.is_quiet(path.stat())


@pytest.mark.parametrize(("kind", "tells"), [("ext4", True), ("xfs", True), ("tmpfs", False), ("nfs4", False)])
def test_which_file_systems_tell_of_stores_into_mappings(kind, tells):
    assert freshness.tells(kind) is tells
