"""A file system to serve (a directory, passed through), and a kernel to serve it to (one end of a socket pair)."""

# ruff: noqa: ARG002  (the fake has the signatures of the real thing)
from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from sigfs.transports.kernel import protocol as p
from sigfs.transports.kernel.device import Device
from sigfs.transports.kernel.negotiation import WANTED, Session
from sigfs.transports.kernel.protocol import Init, Opcode
from sigfs.transports.kernel.server import Server
from sigfs.vfs.locks import RecordLock
from sigfs.vfs.types import ROOT, Attrs, Caller, DataCache, DirEntry, FileHandle, FsError, Inode, ListingCache, SetAttr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class PassThroughOperations:
    """What ``vfs.Operations`` promises, for a plain directory. Nodes are paths; every call is recorded by name."""

    def __init__(self, root: str, *, timeout_s: float = 1.0) -> None:
        self.paths: dict[int, str] = {ROOT: root}
        self.references: dict[int, int] = {}
        self.fds: dict[int, int] = {}
        self.absent: dict[str, float] = {}
        self.listing: ListingCache = "none"
        self.data = DataCache(may_keep=False, attributes_hold=True)
        self.inodes: dict[int, Inode] = {}
        self.calls: list[tuple[object, ...]] = []
        self.timeout_s = timeout_s
        self.nowait = True
        self.leased = False
        self.flush_error: OSError | None = None
        self.locked_by: int | None = None
        self.born_ns: int | None = None
        self.deadlock = False
        self.gate: threading.Event | None = None
        self.entered = threading.Event()
        self._hangs_at: socket.socket | None = None
        self.left = contextlib.ExitStack()
        self._next = ROOT + 1
        self._lock = threading.Lock()

    def _attrs(self, path: str) -> Attrs:
        return Attrs(self._inode(path), os.lstat(path), self.timeout_s, self.timeout_s)

    def _inode(self, path: str) -> Inode:
        with self._lock:
            for inode, known in self.paths.items():
                if known == path:
                    return Inode(inode)
            self._next += 1
            self.paths[self._next] = path
            return Inode(self._next)

    def _referenced(self, path: str) -> Attrs:
        attrs = self._attrs(path)
        self.references[attrs.inode] = self.references.get(attrs.inode, 0) + 1
        return attrs

    def _child(self, parent: Inode, name: str) -> str:
        try:
            return os.path.join(self.paths[parent], name)
        except KeyError:
            raise FsError(errno.ESTALE) from None

    def _handle(self, fd: int, inode: Inode) -> FileHandle:
        with self._lock:
            self._next += 1
            self.fds[self._next] = fd
            self.inodes[self._next] = inode
            return FileHandle(self._next)

    def attach(self, notifier: object, can_notify: bool) -> None:
        self.calls.append(("attach", can_notify))

    def lookup(self, parent: Inode, name: str, caller: Caller) -> Attrs | None:
        self.calls.append(("lookup", parent, name, caller))
        self._hang()
        if name == "explode":
            raise RuntimeError("a bug")
        try:
            return self._referenced(self._child(parent, name))
        except FileNotFoundError:
            return None

    def forget(self, inode: Inode, count: int = 1) -> None:
        self.calls.append(("forget", inode, count))
        self.references[inode] -= count
        if not self.references[inode]:
            del self.references[inode]

    def getattr(self, inode: Inode, handle: FileHandle | None = None) -> Attrs:
        self.calls.append(("getattr", inode, handle))
        return self._attrs(self._child(inode, "").rstrip("/"))

    def _wait_for_lease(self, wait: bool) -> None:
        if self.leased:
            assert not wait
            raise BlockingIOError(errno.EAGAIN, "leased")

    @contextlib.contextmanager
    def hanging(self) -> Iterator[None]:
        """Have LOOKUP, UNLINK and OPENDIR hang in a system call, until the block ends."""
        ends = socket.socketpair()
        self._hangs_at = self.left.enter_context(ends[0])
        try:
            yield
        finally:
            self._hangs_at = None
            ends[1].close()

    def _hang(self) -> None:
        if (hangs_at := self._hangs_at) is not None:
            assert not hangs_at.recv(1)

    def setattr(
        self, inode: Inode, changes: SetAttr, handle: FileHandle | None, caller: Caller, *, wait: bool = True
    ) -> Attrs:
        self._wait_for_lease(wait)
        self.calls.append(("setattr", inode, changes, handle))
        path = self.paths[inode]
        if changes.size is not None:
            os.truncate(path, changes.size)
        if changes.uid is not None or changes.gid is not None:
            os.lchown(path, -1 if changes.uid is None else changes.uid, -1 if changes.gid is None else changes.gid)
        if changes.mode is not None:
            os.chmod(path, stat.S_IMODE(changes.mode))
        if changes.atime_ns is not None or changes.mtime_ns is not None:
            now = os.stat(path)
            times = [
                old if new is None else (int(1e18) if new == "now" else new)
                for new, old in ((changes.atime_ns, now.st_atime_ns), (changes.mtime_ns, now.st_mtime_ns))
            ]
            os.utime(path, ns=(times[0], times[1]), follow_symlinks=False)
        return self._attrs(path)

    def readlink(self, inode: Inode) -> str:
        return os.readlink(self.paths[inode])

    def mknod(self, parent: Inode, name: str, mode: int, rdev: int, caller: Caller) -> Attrs:
        os.mknod(self._child(parent, name), mode & ~caller.umask, rdev)
        return self._referenced(self._child(parent, name))

    def mkdir(self, parent: Inode, name: str, mode: int, caller: Caller) -> Attrs:
        os.mkdir(self._child(parent, name), mode & ~caller.umask)
        return self._referenced(self._child(parent, name))

    def unlink(self, parent: Inode, name: str, caller: Caller) -> None:
        self._hang()
        os.unlink(self._child(parent, name))

    def rmdir(self, parent: Inode, name: str, caller: Caller) -> None:
        os.rmdir(self._child(parent, name))

    def symlink(self, parent: Inode, name: str, target: str, caller: Caller) -> Attrs:
        os.symlink(target, self._child(parent, name))
        return self._referenced(self._child(parent, name))

    def rename(
        self, old_parent: Inode, old_name: str, new_parent: Inode, new_name: str, flags: int, caller: Caller
    ) -> None:
        self.calls.append(("rename", old_name, new_name, flags))
        if flags:
            raise FsError(errno.EINVAL)
        old, new = self._child(old_parent, old_name), self._child(new_parent, new_name)
        os.rename(old, new)
        self.paths = {inode: path for inode, path in self.paths.items() if path != new}
        for inode, path in list(self.paths.items()):
            if path == old or path.startswith(old + "/"):
                self.paths[inode] = new + path[len(old) :]

    def link(self, inode: Inode, new_parent: Inode, new_name: str, caller: Caller) -> Attrs:
        os.link(self.paths[inode], self._child(new_parent, new_name))
        return self._referenced(self._child(new_parent, new_name))

    def open(self, inode: Inode, flags: int, caller: Caller, *, wait: bool = True) -> FileHandle:
        self._wait_for_lease(wait)
        self.calls.append(("open", inode, flags))
        return self._handle(os.open(self.paths[inode], flags), inode)

    def create(
        self, parent: Inode, name: str, mode: int, flags: int, caller: Caller, *, wait: bool = True
    ) -> tuple[Attrs, FileHandle]:
        self._wait_for_lease(wait)
        path = self._child(parent, name)
        fd = os.open(path, flags | os.O_CREAT, mode & ~caller.umask)
        attrs = self._referenced(path)
        return attrs, self._handle(fd, attrs.inode)

    def tmpfile(self, parent: Inode, mode: int, flags: int, caller: Caller) -> tuple[Attrs, FileHandle]:
        return self.create(parent, "made without a name", mode, flags, caller)

    def birth_ns(self, inode: Inode, handle: FileHandle | None = None) -> int | None:
        return self.born_ns

    def read(self, handle: FileHandle, offset: int, size: int) -> bytes:
        self.calls.append(("read", handle, offset, size))
        self.entered.set()
        if self.gate is not None:
            self.gate.wait(60)
        return os.pread(self.fds[handle], size, offset)

    def read_nowait(self, handle: FileHandle, offset: int, size: int) -> bytes | None:
        return os.pread(self.fds[handle], size, offset) if self.nowait else None

    def write(self, handle: FileHandle, offset: int, data: bytes | memoryview, kill_suidgid: bool = False) -> int:
        self.calls.append(("write", handle, offset, len(data), kill_suidgid))
        return os.pwrite(self.fds[handle], data, offset)

    def flush_may_block(self, handle: FileHandle) -> bool:
        return self.flush_error is not None

    def flush(self, handle: FileHandle, owner: int) -> bool:
        self.calls.append(("flush", handle, owner))
        if self.flush_error is not None:
            raise self.flush_error
        ended, self.locked_by = self.locked_by == owner, None if self.locked_by == owner else self.locked_by
        return ended

    def set_lock(self, handle: FileHandle, owner: int, lock: RecordLock) -> bool:
        self.calls.append(("set_lock", handle, owner, lock))
        if self.locked_by not in (None, owner):
            return False
        self.locked_by = None if lock.kind == fcntl.F_UNLCK else owner
        return True

    def may_wait(self, request: int, handle: FileHandle, owner: int, lock: RecordLock) -> bool:
        return not self.deadlock

    def waited(self, request: int) -> None:
        self.calls.append(("waited", request))

    def get_lock(self, handle: FileHandle, owner: int, lock: RecordLock) -> RecordLock | None:
        return None if self.locked_by in (None, owner) else RecordLock(fcntl.F_WRLCK, 0, 9, 123)

    def flock(self, handle: FileHandle, kind: int) -> bool:
        self.calls.append(("flock", handle, kind))
        return True

    def release(self, handle: FileHandle) -> bool:
        self.calls.append(("release", handle))
        os.close(self.fds.pop(handle))
        return False

    def fsync(self, handle: FileHandle, datasync: bool) -> None:
        self.calls.append(("fsync", handle, datasync))
        (os.fdatasync if datasync else os.fsync)(self.fds[handle])

    def opendir(self, inode: Inode, caller: Caller | None = None) -> FileHandle:
        self._hang()
        return self._handle(os.open(self.paths[inode], os.O_RDONLY | os.O_DIRECTORY), inode)

    def absence_timeout_s(self, parent: Inode, name: str) -> float:
        return self.absent.get(name, 0.0)

    def listing_cache(self, handle: FileHandle) -> ListingCache:
        return self.listing

    def data_cache(self, handle: FileHandle, *, has_data: bool = True) -> DataCache:
        return self.data

    def readdir(self, handle: FileHandle, cookie: int, request: int | None = None) -> Iterator[DirEntry]:
        self.calls.append(("readdir", handle, cookie, request))
        directory = self.paths[self.inodes[handle]]
        for number, name in enumerate(sorted(os.listdir(directory)), start=1):
            if number > cookie:
                with contextlib.suppress(FileNotFoundError):
                    status = os.lstat(os.path.join(directory, name))
                    yield DirEntry(name, number, stat.S_IFMT(status.st_mode), status.st_ino)

    def st_ino_of(self, handle: FileHandle) -> int:
        return os.fstat(self.fds[handle]).st_ino

    def looker(self, handle: FileHandle, caller: Caller) -> Callable[[str], Attrs | None]:
        return lambda name: self.lookup(self.inodes[handle], name, caller)

    def releasedir(self, handle: FileHandle) -> None:
        os.close(self.fds.pop(handle))

    def fsyncdir(self, handle: FileHandle, datasync: bool) -> None:
        os.fsync(self.fds[handle])

    def statfs(self, inode: Inode) -> os.statvfs_result:
        return os.statvfs(self.paths[inode])

    def getxattr(self, inode: Inode, name: str) -> bytes:
        return os.getxattr(self.paths[inode], name, follow_symlinks=False)

    def listxattr(self, inode: Inode, caller: Caller | None = None) -> list[str]:
        return os.listxattr(self.paths[inode], follow_symlinks=False)

    def setxattr(self, inode: Inode, name: str, value: bytes, flags: int, caller: Caller) -> None:
        self.calls.append(("setxattr", name, value, flags))
        os.setxattr(self.paths[inode], name, value, flags, follow_symlinks=False)

    def removexattr(self, inode: Inode, name: str, caller: Caller) -> None:
        os.removexattr(self.paths[inode], name, follow_symlinks=False)

    def fallocate(self, handle: FileHandle, mode: int, offset: int, length: int, kill_suidgid: bool) -> None:
        if mode:
            raise FsError(errno.EOPNOTSUPP)
        os.posix_fallocate(self.fds[handle], offset, length)

    def lseek(self, handle: FileHandle, offset: int, whence: int) -> int:
        return os.lseek(self.fds[handle], offset, whence)

    def left_to_read(self, handle: FileHandle, offset: int) -> int:
        return os.fstat(self.fds[handle]).st_size - offset

    def copy_file_range(
        self, h_in: FileHandle, off_in: int, h_out: FileHandle, off_out: int, length: int, kill_suidgid: bool
    ) -> int:
        return os.copy_file_range(self.fds[h_in], self.fds[h_out], length, off_in, off_out)

    def passthrough_fd(self, handle: FileHandle) -> int | None:
        return self.fds[handle]

    def inode_of(self, handle: FileHandle) -> Inode:
        return self.inodes[handle]


@dataclass
class Reply:
    """One answer: ``error`` is a positive errno or 0; ``body`` what follows the header."""

    unique: int
    error: int
    body: bytes


@dataclass
class FakeKernel:
    """The other end of the device: sends requests as bytes, collects replies."""

    sock: socket.socket
    next_unique: int = 2
    replies: dict[int, Reply] = field(default_factory=dict)
    notifications: list[tuple[int, bytes]] = field(default_factory=list)
    again: list[int] = field(default_factory=list)
    """The INTERRUPTs, by their own number, that are to be sent again."""
    _interrupts: set[int] = field(default_factory=set)

    def send(self, opcode: int, node: int = ROOT, body: bytes = b"", *, uid: int = 1000) -> int:
        unique, self.next_unique = self.next_unique, self.next_unique + 2
        header = p.IN_HEADER.pack(p.IN_HEADER.size + len(body), opcode, unique, node, uid, 100, 99, 0, 0)
        if opcode == Opcode.INTERRUPT:
            self._interrupts.add(unique)
        self.sock.send(header + body)
        return unique

    def receive(self) -> Reply:
        while True:
            message = self.sock.recv(1 << 21)
            size, error, unique = p.OUT_HEADER.unpack_from(message)
            assert size == len(message)
            if unique in self._interrupts:
                assert error == -errno.EAGAIN
                self.again.append(unique)
            elif unique:
                break
            else:
                self.notifications.append((error, message[p.OUT_HEADER.size :]))
        return Reply(unique, -error, message[p.OUT_HEADER.size :])

    def ask(self, opcode: int, node: int = ROOT, body: bytes = b"") -> Reply:
        """Send a request and wait for its answer."""
        unique = self.send(opcode, node, body)
        reply = self.receive()
        assert reply.unique == unique
        return reply

    def lookup(self, name: bytes, parent: int = ROOT) -> int:
        reply = self.ask(Opcode.LOOKUP, parent, name + b"\0")
        assert reply.error == 0
        return int(p.ENTRY.unpack_from(reply.body)[0])

    def open(self, node: int, flags: int = os.O_RDWR) -> int:
        reply = self.ask(Opcode.OPEN, node, p.OPEN_IN.pack(flags, 0))
        assert reply.error == 0
        return int(p.OPEN_OUT.unpack(reply.body)[0])

    def sync(self) -> None:
        """Return when all that was sent before has been handled by the loop."""
        assert self.ask(Opcode.DESTROY).error == 0


class DroppingDevice(Device):
    """A device whose kernel takes no reply to requests whose unique number is in ``dropped``."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self.dropped: set[int] = set()

    def reply(self, unique: int, payload: bytes | memoryview = b"") -> bool:
        if unique in self.dropped:
            return False
        return super().reply(unique, payload)


@dataclass
class Served:
    """A server running on a thread, and both its ends."""

    kernel: FakeKernel
    operations: PassThroughOperations
    device: DroppingDevice
    server: Server
    root: Path
    thread: threading.Thread


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """(kernel's end, server's end)."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
    ends[0].settimeout(60)
    with ends[0], ends[1]:
        yield ends


@pytest.fixture
def served(pair: tuple[socket.socket, socket.socket], tmp_path: Path) -> Iterator[Served]:
    """A directory, served to a fake kernel with all abilities but passthrough."""
    root = tmp_path / "root"
    root.mkdir()
    kernel = FakeKernel(pair[0])
    operations = PassThroughOperations(str(root))
    device = DroppingDevice(pair[1].fileno())
    server = Server(device, operations, Session(45, WANTED & ~Init.PASSTHROUGH))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    yield Served(kernel, operations, device, server, root, thread)
    if operations.gate is not None:
        operations.gate.set()
    pair[0].close()
    thread.join(60)
    assert not thread.is_alive()
    assert server.close(30)
    operations.left.close()
