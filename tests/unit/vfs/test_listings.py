"""Which listings the kernel may keep, and what it reads where it has lost its copy."""

from __future__ import annotations

import os
import time

import pytest

from sigfs.vfs.listings import Listing, Listings
from sigfs.vfs.types import ROOT, Inode


def opened(listings: Listings, inode: int, *stamp: int, names: int = 0):  # type: ignore[no-untyped-def]
    kept, may_keep = listings.opened(Inode(inode), stamp, lambda _: True)
    if kept is not None:
        list(kept.share(Listing(iter(map(str, range(names))))).starting(0))
    return kept, may_keep


def test_a_listing_is_filled_once_and_kept_while_its_directory_is_in_the_same_state():
    listings = Listings()
    first, may_keep = opened(listings, 7, 1)
    assert not may_keep
    listings.released(Inode(7), first)
    second, may_keep = opened(listings, 7, 1)
    assert second is first
    assert may_keep
    listings.released(Inode(7), second)
    third, may_keep = opened(listings, 7, 2)
    assert third is not first
    assert not may_keep
    listings.released(Inode(7), third)
    listings.check()


def test_nothing_is_cached_of_a_new_state_while_readers_of_an_old_one_may_add_to_the_copy():
    listings = Listings()
    old, _ = opened(listings, 7, 1)
    assert opened(listings, 7, 2) == (None, False)
    listings.released(Inode(7), old)
    new, may_keep = opened(listings, 7, 2)
    assert new is not None
    assert not may_keep
    listings.check()


def test_no_copy_is_kept_whose_listing_is_not_remembered():
    listings = Listings(limit=100)
    for inode in range(30):
        kept, _ = opened(listings, inode, 1, names=10)
        listings.released(Inode(inode), kept)
        listings.check()
    assert 0 < len(listings) < 30
    assert not opened(listings, 0, 1)[1]
    assert opened(listings, 29, 1)[1]


def test_a_directory_that_the_kernel_has_forgotten_is_not_remembered():
    listings = Listings()
    kept, _ = opened(listings, 7, 1)
    listings.released(Inode(7), kept)
    listings.drop(Inode(7))
    listings.check()
    assert len(listings) == 0


def read(world, handle, cookie=0):
    return [entry.name for entry in world.operations.readdir(handle, cookie)]


def test_the_listing_of_a_virtual_directory_is_kept_until_a_job_changes_it(world):
    foo = world.at("foo")
    for expected in ("fill", "keep", "keep"):
        handle = world.operations.opendir(foo)
        assert world.operations.listing_cache(handle) == expected
        assert read(world, handle) == ["1", "2"]
        world.operations.releasedir(handle)
    world.operations.apply([world.add(3)])
    handle = world.operations.opendir(foo)
    assert world.operations.listing_cache(handle) == "fill"
    assert read(world, handle) == ["1", "2", "3"]
    world.operations.releasedir(handle)


def test_who_lists_while_the_kernel_is_yet_to_be_told_of_a_change_sees_it(world, monkeypatch):
    foo = world.at("foo")
    assert "9" not in world.names(foo)
    seen: list[list[str]] = []
    after = world.operations._views._invalidation.after

    def meanwhile(delta):
        seen.append(world.names(foo))
        return after(delta)

    monkeypatch.setattr(world.operations._views._invalidation, "after", meanwhile)
    world.operations.apply([world.add(9)])
    assert "9" in seen[0]
    assert world.names(foo) == seen[0]


def test_a_reader_whose_copy_is_dropped_half_way_goes_on_in_what_it_read(world):
    foo = world.at("foo")
    world.names(foo)
    handle = world.operations.opendir(foo)
    assert world.operations.listing_cache(handle) == "keep"
    world.operations.apply([world.add(0)])
    assert read(world, handle, cookie=1) == ["2"]
    assert read(world, handle) == ["0", "1", "2"]
    world.operations.releasedir(handle)


def test_all_who_read_a_directory_in_one_state_read_one_listing(world):
    foo = world.at("foo")
    first, second = world.operations.opendir(foo), world.operations.opendir(foo)
    assert read(world, first) == read(world, second) == ["1", "2"]
    directories = world.operations._directories
    assert directories[first].listing is directories[second].listing is directories[first].kept.listing
    for handle in (first, second):
        world.operations.releasedir(handle)


def test_a_long_listing_on_disk_is_listed_anew_with_attributes_once_names_have_to_be_looked_up_again(world):
    job = world.job(1)
    for number in range(100):
        os.mkdir(world.below(1, str(number)))
    world.age_ns = 10**10

    def cache() -> str:
        handle = world.operations.opendir(job)
        try:
            assert len(read(world, handle)) == 100
            return world.operations.listing_cache(handle)
        finally:
            world.operations.releasedir(handle)

    assert [cache(), cache()] == ["fill", "keep"]
    world.operations._disk.entry_timeout_s = 0
    assert [cache(), cache()] == ["fill", "fill"]


def test_no_listing_is_kept_that_the_kernel_is_not_told_of(world):
    handle = world.operations.opendir(world.at("doc.x@exists/false"))
    assert world.operations.listing_cache(handle) == "none"  # documents are read when somebody asks
    world.operations.attach(world.notifier, can_notify=False)
    other = world.operations.opendir(ROOT)
    assert world.operations.listing_cache(other) == "none"
    for each in (handle, other):
        world.operations.releasedir(each)


def test_the_listing_of_a_directory_on_disk_is_kept_while_its_times_are_those_it_had(world):
    job = world.job(1)
    world.write_file(job, "f")
    os.utime(world.below(1))

    def cache() -> str:
        handle = world.operations.opendir(job)
        try:
            read(world, handle)
            return world.operations.listing_cache(handle)
        finally:
            world.operations.releasedir(handle)

    assert cache() == "none"  # it has changed a moment ago, and might again in the same tick of the clock
    world.age_ns = 10**10
    assert [cache(), cache()] == ["fill", "keep"]
    os.unlink(world.below(1, "f"))
    assert cache() == "fill"


def test_the_time_of_a_virtual_directory_is_that_of_its_own_last_change(make_world):
    world = make_world()
    change = world.add(3, bar=1)
    world.operations.apply([change])
    bar, foo = world.at("bar"), world.at("foo@gt/2")
    times = {inode: world.operations.getattr(inode).stat.st_mtime_ns for inode in (bar, foo)}
    world.operations.apply([world.add(0)])
    assert world.operations.getattr(foo).stat.st_mtime_ns == times[foo]
    assert world.operations.getattr(ROOT).stat.st_mtime_ns > times[foo]


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Let a test say by how much the clock is ahead of the disk's: ``world.age_ns``."""
    if "world" not in request.fixturenames:
        return
    world = request.getfixturevalue("world")
    world.age_ns = 0
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() + world.age_ns)


def test_a_reader_whom_another_overtakes_lists_the_same():
    listing = Listing(map(str, range(5)))
    lock = listing._lock

    class Overtaken:
        def __enter__(self) -> None:
            listing._lock = lock
            assert len(list(listing.starting(0))) == 5
            lock.acquire()

        def __exit__(self, *_: object) -> None:
            lock.release()

    listing._lock = Overtaken()  # type: ignore[assignment]
    assert [entry.name for entry in listing.starting(0)] == ["0", "1", "2", "3", "4"]


def test_names_are_looked_up_as_by_their_directory_and_referenced(world):
    job = world.job(1)
    world.write_file(job, "file", b"text")
    os.mkdir(world.below(1, "dir"))
    os.symlink("gone", world.below(1, "link"))
    for inode in (job, world.at("foo"), ROOT):
        handle = world.operations.opendir(inode, world.caller)
        find = world.operations.looker(handle, world.caller)
        for entry in (*world.operations.readdir(handle, 0), None):
            name = "there is none" if entry is None else entry.name
            found, expected = find(name), world.operations.lookup(inode, name, world.caller)
            assert found == expected
            if found is not None:
                assert world.took(found) == world.took(expected)
        world.operations.releasedir(handle)
    world.check()


def test_names_that_are_looked_up_while_the_index_changes_are_those_of_the_latest_state(world):
    places = world.at("foo")
    world.job(1)  # known from now on
    handle = world.operations.opendir(places, world.caller)
    find = world.operations.looker(handle, world.caller)
    world.operations.apply([world.remove(1), world.add(3)])
    assert find("1") is None
    world.took(find("3"))
    attrs = find("2")
    world.took(attrs)
    assert attrs.entry_timeout_s > 0
    world.operations.releasedir(handle)
    world.check()


def test_a_directory_is_listed_while_another_thread_reads_it_through_the_same_handle(world):
    job = world.job(1)
    world.write_file(job, "file")
    handle = world.operations.opendir(job, world.caller)
    with world.operations._directories[handle].reading:
        assert [entry.name for entry in world.operations.readdir(handle, 0)] == ["file"]
    assert [entry.name for entry in world.operations.readdir(handle, 0)] == ["file"]
    world.operations.releasedir(handle)


@pytest.mark.parametrize("is_known", [False, True])
def test_an_open_directory_is_that_which_was_opened(world, is_known):
    """Whether or not there was a descriptor of it before."""
    directory = world.operations.mkdir(world.job(1), "dir", 0o755, world.caller)
    world.took(directory)
    world.write_file(directory.inode, "file")
    if not is_known:
        world.operations._backing.close()
    handle = world.operations.opendir(directory.inode, world.caller)
    os.rename(world.below(1, "dir"), world.below(1, "away"))
    os.mkdir(world.below(1, "dir"))
    assert [entry.name for entry in world.operations.readdir(handle, 0)] == ["file"]
    assert world.operations.st_ino_of(handle) == os.stat(world.below(1, "away")).st_ino
    world.operations.releasedir(handle)


def test_two_answers_to_one_request_are_of_one_listing_and_so_is_what_follows(world):
    foo = world.at("foo")
    handle = world.operations.opendir(foo)

    def begin(request: int) -> list[str]:
        return [entry.name for entry in world.operations.readdir(handle, 0, request)]

    assert begin(10) == ["1", "2"]
    world.operations.apply([world.add(0)])
    assert begin(10) == ["1", "2"]  # by another thread, when the first is stuck, or the other way round
    assert read(world, handle, cookie=1) == ["2"]
    assert begin(12) == ["0", "1", "2"]
    begin(10)  # too late: its answer is not taken
    assert read(world, handle, cookie=1) == ["1", "2"]
    world.operations.releasedir(handle)


def test_of_two_threads_that_begin_for_one_request_the_second_goes_on_with_what_the_first_has_found(world, monkeypatch):
    foo = world.at("foo")
    handle = world.operations.opendir(foo)
    make = world.operations._list
    other: list[str] = []

    def slowly(directory):
        made = make(directory)
        monkeypatch.undo()
        world.operations.apply([world.add(0)])
        other.extend(entry.name for entry in world.operations.readdir(handle, 0, 10))
        return made

    monkeypatch.setattr(world.operations, "_list", slowly)
    assert [entry.name for entry in world.operations.readdir(handle, 0, 10)] == other == ["0", "1", "2"]
    assert read(world, handle, cookie=1) == ["1", "2"]
    world.operations.releasedir(handle)
