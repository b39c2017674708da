"""References, descriptors and random histories."""

import errno
import os
import random
from concurrent.futures import ThreadPoolExecutor

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from sigfs.vfs.backing import Descriptor
from sigfs.vfs.inodes import LOCATIONS_LIMIT
from sigfs.vfs.types import ROOT, FsError, Inode
from tests.support.descriptors import assert_none_left, descriptors, opened_since

EXPECTED = {
    errno.EEXIST,
    errno.EINVAL,
    errno.EISDIR,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.ENOTEMPTY,
    errno.ENXIO,
    errno.EPERM,
    errno.ESTALE,
}
"""What POSIX has for requests at random."""


def test_a_forgotten_inode_is_stale_and_its_id_is_never_given_again(world, failure):
    seen = set()
    for _ in range(5):
        inode = world.job(1)
        assert inode not in seen
        seen.add(inode)
        world.forget_all()
        assert failure(world.operations.getattr, inode) == errno.ESTALE


def test_the_last_reference_counts(world, failure):
    first = world.at("foo")
    assert world.at("foo") == first
    world.operations.forget(first)
    assert world.operations.getattr(first).inode == first
    world.operations.forget(first)
    assert failure(world.operations.getattr, first) == errno.ESTALE
    world.references.clear()


def test_more_references_than_were_taken_cannot_be_given_back(world, failure):
    inode = world.at("foo")
    assert failure(world.operations.forget, inode, 2) == errno.EINVAL
    assert failure(world.operations.forget, Inode(12345), 1) == errno.ESTALE


def test_parents_may_be_forgotten_before_their_children(world):
    file = world.write_file(world.job(1), "file", b"text")
    for inode, count in sorted(world.references.items()):
        if inode != file:
            world.operations.forget(inode, count)
            world.operations.check()
    assert world.read_file(file) == b"text"
    world.operations.forget(file, world.references[file])
    world.references.clear()
    assert world.operations.statistics()["inodes"] == 1


def test_a_file_with_many_names_keeps_only_the_latest_in_mind(world):
    job = world.job(1)
    file = world.write_file(job, "name", b"text")
    for number in range(3 * LOCATIONS_LIMIT):
        world.took(world.operations.link(file, job, f"name{number}"))
    world.check()
    world.operations.unlink(job, f"name{3 * LOCATIONS_LIMIT - 1}")
    assert world.read_file(file) == b"text"


def test_no_descriptor_is_left_after_close(make_world):
    before = descriptors()
    world = make_world()
    job = world.job(1)
    for number in range(50):
        directory = world.took(world.operations.mkdir(job, f"dir{number}", 0o777, world.caller))
        world.write_file(directory, "file", b"text")
        world.names(directory)
    for number in range(50):
        world.operations.unlink(world.at(f"foo/1/dir{number}"), "file")
        world.operations.rmdir(job, f"dir{number}")
    kept = world.write_file(job, "kept")
    world.operations.open(kept, os.O_RDWR, world.caller)
    world.operations.opendir(job)
    assert opened_since(before)
    world.operations.close()
    assert_none_left(before)


def test_no_descriptor_is_left_for_what_was_forgotten(world):
    world.write_file(world.job(1), "warm")
    world.forget_all()
    before = descriptors()
    for number in range(20):
        directory = world.took(world.operations.mkdir(world.job(1), f"dir{number}", 0o777, world.caller))
        world.write_file(directory, "file")
        world.operations.unlink(directory, "file")
    assert opened_since(before)
    world.forget_all()
    assert_none_left(before)


def test_a_failed_request_leaves_no_descriptor_and_no_reference(world, failure):
    job = world.job(1)
    world.write_file(job, "file")
    inodes, before = world.operations.statistics()["inodes"], descriptors()
    for _ in range(10):
        assert failure(world.operations.mkdir, job, "file", 0o777, world.caller) == errno.EEXIST
        assert failure(world.operations.create, job, "file", 0, os.O_EXCL, world.caller) == errno.EEXIST
        assert failure(world.operations.rmdir, job, "file") == errno.ENOTDIR
        assert failure(world.operations.lookup, job, "x" * 256, world.caller) == errno.ENAMETOOLONG
    assert world.operations.statistics()["inodes"] == inodes
    assert_none_left(before)


def test_a_deep_tree_works_with_very_few_descriptors(world):
    world.operations._backing._limit = 2
    chain = [world.job(1)]
    for _ in range(1200):  # deeper than Python's stack
        chain.append(world.took(world.operations.mkdir(chain[-1], "dir", 0o777, world.caller)))
    file = world.write_file(chain[-1], "file", b"deep")
    world.operations._backing.close()
    before = descriptors()
    assert world.read_file(file) == b"deep"
    assert len(opened_since(before)) <= 3
    world.operations.unlink(chain[-1], "file")
    for parent in reversed(chain[:-1]):
        world.operations.rmdir(parent, "dir")
    world.forget_all()
    assert world.operations.statistics()["inodes"] == 1


def test_a_descriptor_closes_when_its_last_user_is_done():
    descriptor = Descriptor(os.open("/", os.O_PATH))
    fd, twin = descriptor.fd, descriptor
    del descriptor
    assert os.fstat(fd).st_mode
    del twin
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_statistics_count_what_is_held(world):
    file = world.write_file(world.job(1), "file")
    handles = [world.operations.open(file, os.O_RDONLY, world.caller), world.operations.opendir(ROOT)]
    counts = world.operations.statistics()
    assert (counts["open_files"], counts["open_directories"], counts["jobs"]) == (1, 1, 2)
    assert counts["inodes"] == 4  # root, foo, 1, file
    assert [world.operations.inode_of(handle) for handle in handles] == [file, ROOT]
    world.operations.release(handles[0])
    world.operations.releasedir(handles[1])


class ManyHands:
    """Random requests, for several threads at once."""

    def __init__(self, world):
        self.world, self.ops = world, world.operations
        self.jobs = [world.job(1), world.job(2), world.at(f".jobs/{world.job_id(1)}")]
        self.actions = [self.create, self.mkdir, self.unlink, self.rmdir, self.rename, self.listdir, self.stat]

    def create(self, job, name, _):
        attrs, handle = self.ops.create(job, name, 0o644, os.O_RDWR, self.world.caller)
        self.ops.write(handle, 0, b"x")
        self.ops.release(handle)
        self.ops.forget(attrs.inode)

    def mkdir(self, job, name, _):
        self.ops.forget(self.ops.mkdir(job, name, 0o777, self.world.caller).inode)

    def unlink(self, job, name, _):
        self.ops.unlink(job, name)

    def rmdir(self, job, name, _):
        self.ops.rmdir(job, name)

    def rename(self, job, name, pick):
        self.ops.rename(job, name, pick.choice(self.jobs), pick.choice("abcd"))

    def listdir(self, job, *_):
        self.world.names(job)

    def stat(self, job, name, _):
        attrs = self.ops.lookup(job, name, self.world.caller)
        if attrs is not None:
            try:
                self.ops.getattr(attrs.inode)
            finally:
                self.ops.forget(attrs.inode)

    def run(self, seed):
        """Give the errors that nobody expects of requests that get in each other's way."""
        pick, unexpected = random.Random(seed), []
        for _ in range(300):
            try:
                pick.choice(self.actions)(pick.choice(self.jobs), pick.choice("abcd"), pick)
            except (OSError, FsError) as error:
                if error.errno not in EXPECTED:
                    unexpected.append(error)
        return unexpected


def test_many_threads_leave_the_books_in_order(world):
    world.operations._backing._limit = 3
    world.notifier._assert_no_lock = lambda: None  # another thread may hold one
    hands = ManyHands(world)
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(hands.run, range(6))) == [[]] * 6
    world.check()
    world.forget_all()
    assert world.operations.statistics()["inodes"] == 1


class Histories(RuleBasedStateMachine):
    """A kernel that looks up, forgets, changes and opens at random, beside others that change the disk below.

    Every file has contents of its own, so that serving a wrong one shows. What there is to choose from depends on which
    numbers the disk gives out; so choices are numbers, which are the same each time a history is run.
    """

    names = st.sampled_from(["a", "b", "c"])

    def __init__(self, make_world):
        super().__init__()
        self.world = make_world()
        self.ops = self.world.operations
        self.contents = {}
        self.inodes, self.handles = [], []
        self.directories = [self.world.job(1), self.world.job(2), self.world.at(f".jobs/{self.world.job_id(1)}")]
        self.ids = set(self.world.references)
        self.count = 0

    directory = st.integers(0, 5)
    one = st.integers(0, 99)

    def pick(self, number):
        return self.directories[number % len(self.directories)]

    def inode(self, number):
        return self.inodes[number % len(self.inodes)] if self.inodes else self.directories[0]

    def handle(self, number):
        return self.handles[number % len(self.handles)] if self.handles else (None, None)

    def attempt(self, call, *arguments):
        """Call; None where it fails as POSIX has it."""
        try:
            return call(*arguments)
        except (OSError, FsError) as error:
            if error.errno not in EXPECTED:
                raise
            return None

    def new_content(self):
        self.count += 1
        return f"content {self.count}".encode()

    def took(self, attrs, content=None):
        inode = self.world.took(attrs)
        if content is not None:
            assert inode not in self.contents, "a new file is served under an old inode"
            self.contents[inode] = content
        return inode

    @rule(directory=directory, name=names)
    def lookup(self, directory, name):
        attrs = self.attempt(self.ops.lookup, self.pick(directory), name, self.world.caller)
        if attrs is None:
            return
        inode = self.took(attrs)
        if attrs.stat.st_mode & 0o100000:
            content = self.attempt(self.world.read_file, inode)
            assert content is not None
            assert self.contents.setdefault(inode, content) == content
        elif inode not in self.directories:
            self.directories.append(inode)
        self.inodes.append(inode)

    @rule(which=one, count=st.integers(1, 3))
    def forget(self, which, count):
        if not self.inodes:
            return
        inode = self.inodes.pop(which % len(self.inodes))
        held = self.world.references[inode]
        count = min(held, count)
        if count:
            self.ops.forget(inode, count)
            self.world.references[inode] -= count
        if not self.world.references[inode] and inode in self.directories[3:]:
            self.directories.remove(inode)

    @rule(directory=directory, name=names)
    def create(self, directory, name):
        content = self.new_content()
        flags = os.O_RDWR | os.O_EXCL
        made = self.attempt(self.ops.create, self.pick(directory), name, 0o644, flags, self.world.caller)
        if made is None:
            return
        attrs, handle = made
        self.ops.write(handle, 0, content)
        self.ops.release(handle)
        self.inodes.append(self.took(attrs, content))

    @rule(directory=directory, name=names, linked=st.booleans())
    def tmpfile(self, directory, name, linked):
        content = self.new_content()
        made = self.attempt(self.ops.tmpfile, self.pick(directory), 0o644, os.O_RDWR, self.world.caller)
        if made is None:
            return
        attrs, handle = made
        self.ops.write(handle, 0, content)
        inode = self.took(attrs, content)
        if linked and (named := self.attempt(self.ops.link, inode, self.pick(directory), name)) is not None:
            assert self.took(named) == inode
        self.ops.release(handle)
        self.inodes.append(inode)

    @rule(directory=directory, name=names)
    def mkdir(self, directory, name):
        attrs = self.attempt(self.ops.mkdir, self.pick(directory), name, 0o777, self.world.caller)
        if attrs is None:
            return
        inode = self.took(attrs)
        assert inode not in self.directories
        self.directories.append(inode)
        self.inodes.append(inode)

    @rule(directory=directory, name=names)
    def unlink(self, directory, name):
        self.attempt(self.ops.unlink, self.pick(directory), name)

    @rule(directory=directory, name=names)
    def rmdir(self, directory, name):
        self.attempt(self.ops.rmdir, self.pick(directory), name)

    @rule(old=directory, old_name=names, new=directory, new_name=names, flags=st.sampled_from([0, 0, 1, 2]))
    def rename(self, old, old_name, new, new_name, flags):
        self.attempt(self.ops.rename, self.pick(old), old_name, self.pick(new), new_name, flags)

    @rule(which=one, directory=directory, name=names)
    def link(self, which, directory, name):
        inode = self.inode(which)
        attrs = self.attempt(self.ops.link, inode, self.pick(directory), name)
        if attrs is None:
            return
        assert self.took(attrs) == inode
        self.inodes.append(inode)

    @rule(which=one)
    def open(self, which):
        inode = self.inode(which)
        handle = self.attempt(self.ops.open, inode, os.O_RDWR, self.world.caller)
        if handle is None:
            return
        assert self.ops.read(handle, 0, 100) == self.contents[inode]
        self.handles.append((handle, inode))

    @rule(which=one)
    def use(self, which):
        handle, inode = self.handle(which)
        if handle in self.ops._files:
            assert self.ops.read(handle, 0, 100) == self.contents[inode]
            assert self.ops.inode_of(handle) == self.ops.getattr(inode).inode == inode

    @rule(which=one)
    def release(self, which):
        if self.handles:
            self.ops.release(self.handles.pop(which % len(self.handles))[0])

    @rule(which=one)
    def getattr(self, which):
        self.attempt(self.ops.getattr, self.inode(which))

    @rule(directory=directory)
    def listdir(self, directory):
        self.attempt(self.world.names, self.pick(directory))

    @rule(foo=st.integers(1, 2), name=names)
    def unlink_below(self, foo, name):
        self.attempt(os.unlink, self.world.below(foo, name))

    @rule(foo=st.integers(1, 2), name=names, to=st.integers(1, 2), to_name=names)
    def rename_below(self, foo, name, to, to_name):
        self.attempt(os.rename, self.world.below(foo, name), self.world.below(to, to_name))

    @rule()
    def evict(self):
        self.ops._backing.close()

    @invariant()
    def the_books_agree(self):
        self.world.check()

    def teardown(self):
        for handle in list(self.ops._files):
            self.ops.release(handle)
        self.world.forget_all()
        self.world.check()
        assert self.ops.statistics()["inodes"] == 1
        self.ops.close()


def test_random_histories_leave_the_books_in_order(make_world):
    run_state_machine_as_test(
        lambda: Histories(make_world), settings=settings(max_examples=60, stateful_step_count=80, deadline=None)
    )
