"""A small project under ``Operations``, with a kernel that only keeps a list."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from sigfs.index import Index
from sigfs.model.types import Change, JobId, Record
from sigfs.model.workspace import Workspace
from sigfs.tree import Tree
from sigfs.vfs.operations import Operations
from sigfs.vfs.types import ROOT, Attrs, Caller, FsError, Inode


@dataclass
class RecordingNotifier:
    """Remembers what the kernel would be told, and asserts that nobody tells it while holding a lock (I6)."""

    operations: Operations
    entries: list[tuple[Inode, str]] = field(default_factory=list)
    inodes: list[Inode] = field(default_factory=list)
    attributes: list[Inode] = field(default_factory=list)

    def _assert_no_lock(self) -> None:
        assert not self.operations._inodes._lock.locked()
        assert not self.operations._backing._lock.locked()

    def invalidate_entry(self, parent: Inode, name: str) -> None:
        self._assert_no_lock()
        self.entries.append((parent, name))

    def invalidate_inode(self, inode: Inode) -> None:
        self._assert_no_lock()
        self.inodes.append(inode)

    def invalidate_attributes(self, inode: Inode) -> None:
        self._assert_no_lock()
        self.attributes.append(inode)


class World:
    """A project with the jobs foo=1 and foo=2, its operations, and the references that a kernel would hold."""

    def __init__(self, root: str, **options: object) -> None:
        self.workspace = os.path.join(root, "workspace")
        os.mkdir(self.workspace)
        self.index = Index()
        self.index.apply([self.add(1), self.add(2)])
        self.operations = Operations(Tree(), self.index, Workspace(self.workspace), **options)  # type: ignore[arg-type]
        self.notifier = RecordingNotifier(self.operations)
        self.operations.attach(self.notifier, can_notify=True)
        self.caller = Caller(os.geteuid(), os.getegid(), os.getpid(), umask=0o022)
        self.references: Counter[Inode] = Counter()

    @staticmethod
    def job_id(foo: int) -> JobId:
        return JobId(f"{foo:032x}")

    def below(self, foo: int, *names: str) -> str:
        """The path of something in job foo, on the disk."""
        return os.path.join(self.workspace, self.job_id(foo), *names)

    def add(self, foo: int, **more: object) -> Change:
        """Make the directory of a job; gives the change that the watcher would see."""
        os.mkdir(self.below(foo))
        return Change(self.job_id(foo), Record(self.job_id(foo), {"foo": foo, **more}))

    def remove(self, foo: int) -> Change:
        shutil.rmtree(self.below(foo))
        return Change(self.job_id(foo), None)

    def find(self, path: str) -> Attrs | None:
        """Look up one name after the other; all are referenced."""
        inode, attrs = ROOT, None
        for name in path.split("/"):
            attrs = self.operations.lookup(inode, name, self.caller)
            if attrs is None:
                return None
            inode = self.took(attrs)
        return attrs

    def at(self, path: str) -> Inode:
        attrs = self.find(path)
        assert attrs is not None, f"{path} is not there"
        return attrs.inode

    def job(self, foo: int) -> Inode:
        return self.at(f"foo/{foo}")

    def took(self, attrs: Attrs) -> Inode:
        """Note the reference that came with *attrs*."""
        self.references[attrs.inode] += 1
        return attrs.inode

    def write_file(self, parent: Inode, name: str, data: bytes = b"", mode: int = 0o644) -> Inode:
        attrs, handle = self.operations.create(parent, name, mode, os.O_WRONLY, self.caller)
        self.operations.write(handle, 0, data)
        self.operations.release(handle)
        return self.took(attrs)

    def read_file(self, inode: Inode) -> bytes:
        handle = self.operations.open(inode, os.O_RDONLY, self.caller)
        try:
            return self.operations.read(handle, 0, 1 << 16)
        finally:
            self.operations.release(handle)

    def names(self, inode: Inode) -> list[str]:
        handle = self.operations.opendir(inode)
        try:
            return [entry.name for entry in self.operations.readdir(handle, 0)]
        finally:
            self.operations.releasedir(handle)

    def forget_all(self) -> None:
        for inode, count in self.references.items():
            if count:
                self.operations.forget(inode, count)
        self.references.clear()

    def check(self) -> None:
        self.operations.check()
        for inode, count in self.references.items():
            if count:
                assert self.operations._inodes.get(inode).lookups == count


def errno_of(call: Callable[..., object], *arguments: object) -> int | None:
    """The errno that *call* fails with; None if it does not."""
    try:
        call(*arguments)
    except (OSError, FsError) as error:
        return error.errno
    return None


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    before = os.umask(0)  # as the server has it
    yield
    os.umask(before)


@pytest.fixture
def make_world() -> Iterator[Callable[..., World]]:
    """Makes worlds; each is checked and closed afterwards."""
    worlds: list[World] = []
    directories: list[str] = []

    def make(**options: object) -> World:
        directories.append(tempfile.mkdtemp(prefix="sigfs-test-"))
        worlds.append(World(directories[-1], **options))
        return worlds[-1]

    yield make
    for world in worlds:
        world.check()
        world.operations.close()
    for directory in directories:
        shutil.rmtree(directory)


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world()


@pytest.fixture
def failure() -> Callable[..., int | None]:
    """``failure(call, *arguments)`` gives the errno that the call fails with."""
    return errno_of
