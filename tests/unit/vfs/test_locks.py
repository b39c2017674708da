"""Locks: whose they are, and when they end. That they exclude those below, the conformance suite shows."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import threading

import pytest

from sigfs.vfs import files, syscalls
from sigfs.vfs.locks import NOTED_LIMIT, TO_THE_END, LockOwner, RecordLock
from sigfs.vfs.types import FsError, SetAttr
from tests.support.descriptors import assert_none_left, descriptors

ME, OTHER = LockOwner(1), LockOwner(2)
READ = RecordLock(fcntl.F_RDLCK, 0, TO_THE_END)
WRITE = RecordLock(fcntl.F_WRLCK, 0, TO_THE_END)
UNLOCK = RecordLock(fcntl.F_UNLCK, 0, TO_THE_END)


@pytest.fixture
def opener(world):
    """Opens the file foo=1/file; what is still open in the end is released."""
    inode = world.write_file(world.job(1), "file", b"0123456789")
    handles = []

    def open_file(flags=os.O_RDWR):
        handles.append(world.operations.open(inode, flags, world.caller))
        return handles[-1]

    yield open_file
    for handle in set(handles) & set(world.operations._files):
        world.operations.release(handle)
    assert world.operations.statistics()["locks"] == 0


def test_owners_exclude_each_other_also_through_one_handle(world, opener):
    ops, handle = world.operations, opener()
    assert ops.set_lock(handle, ME, WRITE)
    assert ops.set_lock(handle, ME, WRITE)
    assert not ops.set_lock(handle, OTHER, READ)
    assert ops.set_lock(handle, ME, READ)
    assert ops.set_lock(handle, OTHER, READ)
    world.check()


def test_what_is_in_the_way_is_told_with_its_range(world, opener):
    ops, handle = world.operations, opener()
    assert ops.set_lock(handle, ME, RecordLock(fcntl.F_WRLCK, 2, 5))
    assert ops.get_lock(handle, OTHER, READ) == RecordLock(fcntl.F_WRLCK, 2, 5, 0)
    assert ops.get_lock(handle, ME, WRITE) is None
    assert ops.get_lock(handle, OTHER, RecordLock(fcntl.F_RDLCK, 6, TO_THE_END)) is None
    assert ops.set_lock(handle, ME, RecordLock(fcntl.F_WRLCK, 6, TO_THE_END))
    assert ops.get_lock(handle, OTHER, READ) == RecordLock(fcntl.F_WRLCK, 2, TO_THE_END, 0)


def test_no_lock_takes_a_descriptor_that_is_kept_for_the_mount_itself(world, opener, monkeypatch):
    ops, handle = world.operations, opener()
    assert ops.set_lock(handle, ME, READ)
    monkeypatch.setattr(ops._room, "_bound", 0)
    monkeypatch.setattr(ops._room, "_is_tight", True)
    with pytest.raises(FsError) as caught:
        ops.set_lock(handle, OTHER, READ)
    assert caught.value.errno == errno.ENOLCK
    assert ops.set_lock(handle, ME, WRITE)
    assert ops.set_lock(handle, ME, UNLOCK)


def test_an_owner_s_flush_through_any_handle_ends_its_locks_and_no_others(world, opener):
    ops, first, second = world.operations, opener(), opener(os.O_RDONLY)
    before = descriptors()
    assert ops.set_lock(first, ME, READ)
    assert ops.set_lock(first, OTHER, READ)
    assert ops.flush(second, ME)
    assert not ops.flush(second, ME)
    assert ops.get_lock(first, ME, WRITE) == RecordLock(fcntl.F_RDLCK, 0, TO_THE_END, 0)
    assert ops.flush(first, OTHER)
    assert_none_left(before)
    world.check()


def test_unlocking_all_leaves_no_descriptor_and_unlocking_a_part_keeps_the_rest(world, opener):
    ops, handle = world.operations, opener()
    before = descriptors()
    assert ops.set_lock(handle, ME, UNLOCK)
    assert ops.set_lock(handle, ME, WRITE)
    assert ops.set_lock(handle, ME, RecordLock(fcntl.F_UNLCK, 0, 3))
    assert ops.get_lock(handle, OTHER, READ) == RecordLock(fcntl.F_WRLCK, 4, TO_THE_END, 0)
    assert ops.set_lock(handle, ME, UNLOCK)
    assert_none_left(before)


def test_locks_end_with_the_release_of_the_last_handle_they_were_made_through(world, opener):
    ops, first, second, third = world.operations, opener(), opener(os.O_RDONLY), opener()
    assert ops.set_lock(first, ME, RecordLock(fcntl.F_WRLCK, 0, 0))
    assert ops.set_lock(second, ME, RecordLock(fcntl.F_RDLCK, 5, 5))
    assert ops.release(first)
    assert ops.get_lock(third, OTHER, WRITE) is not None
    assert ops.release(second)
    assert ops.get_lock(third, OTHER, WRITE) is None
    assert not ops.release(third)


def test_a_lock_through_a_reading_handle_can_become_a_writing_one_through_another(world, opener):
    ops, reading, writing = world.operations, opener(os.O_RDONLY), opener(os.O_WRONLY)
    assert ops.set_lock(reading, ME, READ)
    assert ops.set_lock(writing, ME, WRITE)
    assert not ops.set_lock(reading, OTHER, READ)


def test_flock_belongs_to_the_handle_and_ends_with_it_also_if_another_refers_to_its_description(world, opener):
    ops, first, second = world.operations, opener(), opener()
    kept = os.dup(ops._files[first].descriptor.fd)  # as the kernel does for passthrough
    assert ops.flock(first, fcntl.F_WRLCK)
    assert not ops.flock(second, fcntl.F_RDLCK)
    assert ops.release(first)
    assert ops.flock(second, fcntl.F_WRLCK)
    assert ops.flock(second, fcntl.F_UNLCK)
    assert not ops.release(second)
    os.close(kept)


def test_closing_everything_ends_all_locks(make_world):
    world = make_world()
    before = descriptors()
    inode = world.write_file(world.job(1), "file", b"1")
    handle = world.operations.open(inode, os.O_RDWR, world.caller)
    assert world.operations.set_lock(handle, ME, WRITE)
    assert world.operations.statistics()["locks"] == 1
    world.operations.close()
    assert world.operations.statistics()["locks"] == 0
    world.forget_all()
    assert_none_left(before)


def test_what_the_disk_says_at_close_is_reported_and_the_locks_end_all_the_same(world, opener, monkeypatch, failure):
    ops, handle = world.operations, opener()
    assert ops.set_lock(handle, ME, WRITE)
    with monkeypatch.context() as patch:
        patch.setattr(files, "_SILENT", frozenset())
        patch.setattr(files.os, "dup", lambda _: 1_000_000)  # closing this fails
        assert failure(ops.flush, handle, ME) == errno.EBADF
    assert ops.get_lock(handle, OTHER, WRITE) is None


def test_a_wait_that_closes_a_circle_is_not_allowed(world, opener):
    ops, handle, third = world.operations, opener(), LockOwner(3)

    def byte(number):
        return RecordLock(fcntl.F_WRLCK, number, number)

    for number, owner in enumerate((ME, OTHER, third)):
        assert ops.set_lock(handle, owner, byte(number))
    assert ops.may_wait(1, handle, ME, byte(1))
    assert ops.may_wait(2, handle, OTHER, byte(2))
    assert not ops.may_wait(3, handle, third, byte(0))
    assert ops.may_wait(3, handle, third, byte(7))
    ops.waited(3)
    ops.waited(2)
    assert ops.may_wait(3, handle, third, byte(0))  # OTHER waits for nobody now
    assert ops.may_wait(3, handle, third, byte(0))
    assert not ops.may_wait(4, handle, OTHER, RecordLock(fcntl.F_RDLCK, 0, TO_THE_END))
    # What has been given up is in nobody's way: ME keeps byte 0, of which third had been waiting.
    ops.set_lock(handle, ME, RecordLock(fcntl.F_UNLCK, 0, 0))
    assert ops.may_wait(4, handle, OTHER, byte(0))
    for request in range(1, 5):
        ops.waited(request)


def test_ranges_that_are_unlocked_or_converted_in_the_middle_are_noted_apart(world, opener):
    ops, handle = world.operations, opener()
    ops.set_lock(handle, ME, RecordLock(fcntl.F_WRLCK, 0, 99))
    ops.set_lock(handle, ME, RecordLock(fcntl.F_UNLCK, 40, 49))
    ops.set_lock(handle, ME, RecordLock(fcntl.F_RDLCK, 60, 69))
    ops.set_lock(handle, OTHER, RecordLock(fcntl.F_WRLCK, 45, 45))
    assert ops.may_wait(1, handle, ME, RecordLock(fcntl.F_WRLCK, 45, 45))
    for start, end, kind, allowed in (
        (40, 49, fcntl.F_WRLCK, True),
        (39, 39, fcntl.F_RDLCK, False),
        (50, 50, fcntl.F_RDLCK, False),
        (60, 69, fcntl.F_RDLCK, True),
        (60, 60, fcntl.F_WRLCK, False),
        (100, TO_THE_END, fcntl.F_WRLCK, True),
    ):
        assert ops.may_wait(2, handle, OTHER, RecordLock(kind, start, end)) == allowed, (start, end)
        ops.waited(2)
    ops.waited(1)


def test_who_locks_very_many_ranges_is_left_out_of_the_search(world, opener):
    ops, handle = world.operations, opener()
    for number in range(NOTED_LIMIT + 1):
        assert ops.set_lock(handle, ME, RecordLock(fcntl.F_WRLCK, 2 * number, 2 * number))
    ops.set_lock(handle, OTHER, RecordLock(fcntl.F_WRLCK, 1000, 1000))
    assert ops.may_wait(1, handle, ME, RecordLock(fcntl.F_WRLCK, 1000, 1000))
    assert ops.may_wait(2, handle, OTHER, RecordLock(fcntl.F_WRLCK, 0, 0))
    ops.waited(1)
    ops.waited(2)


def test_only_the_flush_of_what_was_opened_for_writing_may_block(world, opener, monkeypatch):
    monkeypatch.setattr(files, "_SILENT", frozenset())
    assert world.operations.flush_may_block(opener(os.O_RDWR))
    assert world.operations.flush_may_block(opener(os.O_WRONLY))
    assert not world.operations.flush_may_block(opener(os.O_RDONLY))


def test_no_flush_blocks_where_closing_a_file_does_nothing(world, opener, monkeypatch):
    with open(world.below(1, "file"), "rb") as below:
        here = syscalls.file_system_type(below.fileno())
    monkeypatch.setattr(files, "_SILENT", frozenset({here}))
    assert not world.operations.flush_may_block(opener(os.O_RDWR))
    monkeypatch.setattr(files.os, "dup", lambda _: pytest.fail("it closed something"))
    world.operations.flush(opener(os.O_RDWR), ME)


@pytest.mark.parametrize("kind", [fcntl.F_RDLCK, fcntl.F_WRLCK])
def test_a_leased_file_is_not_waited_for_unless_wanted(world, kind):
    inode = world.write_file(world.job(1), "file", b"12345")
    lease = os.open(world.below(1, "file"), os.O_RDONLY)
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    try:
        fcntl.fcntl(lease, fcntl.F_SETLEASE, kind)
        with pytest.raises(BlockingIOError):
            world.operations.open(inode, os.O_RDWR, world.caller, wait=False)
        with pytest.raises(BlockingIOError):
            world.operations.setattr(inode, SetAttr(size=1), None, world.caller, wait=False)
        fcntl.fcntl(lease, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        attrs = world.operations.setattr(inode, SetAttr(size=1), None, world.caller, wait=False)
        assert attrs.stat.st_size == 1
    finally:
        os.close(lease)
        signal.signal(signal.SIGIO, before)
    world.operations.release(world.operations.open(inode, os.O_RDWR, world.caller, wait=False))


@pytest.mark.parametrize("how", ["record", "flock"])
def test_a_lock_that_comes_after_the_release_of_its_handle_is_given_up(world, opener, monkeypatch, how):
    ops, first, second = world.operations, opener(), opener()
    kept = os.dup(ops._files[first].descriptor.fd)  # as the kernel does for passthrough
    fcntl_below, flock_below = fcntl.fcntl, fcntl.flock

    def release_once():
        if first in ops._files:  # the kernel does so as soon as who waits for the lock has been killed
            ops.release(first)

    def overtaken(below):
        def call(fd, *arguments):
            release_once()
            return below(fd, *arguments)

        return call

    monkeypatch.setattr(fcntl, "fcntl", overtaken(fcntl_below))
    monkeypatch.setattr(fcntl, "flock", overtaken(flock_below))
    if how == "record":
        ops.set_lock(first, ME, WRITE)
    else:
        ops.flock(first, fcntl.F_WRLCK)
    assert first not in ops._files
    assert ops.statistics()["locks"] == 0
    world.check()
    assert ops.set_lock(second, OTHER, WRITE) if how == "record" else ops.flock(second, fcntl.F_WRLCK)
    os.close(kept)


def test_who_gives_up_waiting_does_not_disturb_the_search_for_deadlocks(world, opener):
    ops, handle, threads = world.operations, opener(), []

    class Wishes(dict):
        def values(self):
            for wish in super().values():
                if not threads:
                    threads.append(threading.Thread(target=ops.waited, args=(7,)))
                    threads[0].start()
                    threads[0].join(0.2)  # has to wait for us
                yield wish

    ops.set_lock(handle, OTHER, WRITE)
    for request in (7, 8):
        assert ops.may_wait(request, handle, LockOwner(request), WRITE)
    ops._locks._wishes = Wishes(ops._locks._wishes)
    assert ops.may_wait(9, handle, ME, WRITE)
    threads[0].join()
    for request in (8, 9):
        ops.waited(request)
    assert not ops._locks._wishes
