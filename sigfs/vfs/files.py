"""Open files: the calls that move data.

Owned here: file handles and what may be done with one. They take no lock and look up no name, so they may run in any
number of threads; a file that is released while a call is under way stays open until that call is done.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import stat
import threading
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sigfs.model.reading import DOCUMENT_FILE
from sigfs.vfs import freshness, syscalls
from sigfs.vfs.backing import Descriptor
from sigfs.vfs.credentials import as_ordinary_writer
from sigfs.vfs.locks import Locks
from sigfs.vfs.nodes import DiskDirectory, File, VirtualFile
from sigfs.vfs.room import Room
from sigfs.vfs.types import DataCache, FileHandle, FsError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sigfs.model.types import JobId
    from sigfs.vfs.freshness import Stamp
    from sigfs.vfs.inodes import Inodes
    from sigfs.vfs.locks import LockOwner, RecordLock
    from sigfs.vfs.readonly import ReadOnly
    from sigfs.vfs.types import Inode
    from sigfs.vfs.virtual import Content

_WORTHLESS = (errno.EAGAIN, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)
"""Answers to a read that must not block which mean: ask again without that wish."""

_SILENT: Final = frozenset({
    0xEF53,  # ext2, ext3, ext4
    0x58465342,  # xfs
    0x9123683E,  # btrfs
    0xF2F52010,  # f2fs
    0xCA451A4E,  # bcachefs
    0x2FC12FC1,  # zfs
    0x01021994,  # tmpfs
})  # fmt: skip
"""linux/magic.h: file systems of this machine on which close(2) writes nothing and reports nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class OpenFile:
    """One open file.

    Attributes:
        found: what the disk said of it when it was opened; None of a file that is nowhere on the disk.
        writable: it was opened for writing.
        content: of a file that is nowhere on the disk; its ``descriptor`` serves for locks only.
    """

    node: File | VirtualFile
    descriptor: Descriptor
    found: os.stat_result | None
    writable: bool
    content: Content | None = None


class OpenFiles:
    """The open files of a mount, by handle. Every method may be called from several threads at once.

    Each raises ``FsError`` EBADF for a handle that is not open, and ``OSError`` as the disk below answers.

    Attributes:
        wrote_documents: told of jobs whose document has just been written by way of this mount. Must not raise or wait.
    """

    wrote_documents: Callable[[Sequence[JobId]], None] | None = None

    def __init__(
        self, inodes: Inodes, *, read_only: ReadOnly, room: Room | None = None, keeps_data: bool = False
    ) -> None:
        """Begin with no open file.

        Args:
            read_only: whether all changes are refused; asked before each.
            room: for descriptors.
            keeps_data: whether the kernel may keep data between two opens: see ``freshness.tells``.
        """
        self._inodes = inodes
        self._room = Room() if room is None else room
        self._keeps_data = keeps_data
        self._locks = Locks(read_only=read_only, room=self._room)
        self._files: dict[FileHandle, OpenFile] = {}  # an entry dies with release
        self._cached_as_of: dict[FileHandle, Stamp] = {}  # see ``data_cache``; an entry dies with release
        self._handles = itertools.count(1)  # next() is atomic; shared with directory handles
        self._first_open = threading.Lock()
        self._flushes: dict[int, bool] = {}  # by st_dev: whether closing a file there can take time or fail

    def _new_handle(self) -> FileHandle:
        return FileHandle(next(self._handles))

    def _opened(self, node: File, descriptor: Descriptor, found: os.stat_result, flags: int) -> FileHandle:
        handle = self._new_handle()
        self._room.took(descriptor.fd)
        self._inodes.opened(node, descriptor)
        self._files[handle] = OpenFile(node, descriptor, found, flags & os.O_ACCMODE != os.O_RDONLY)
        return handle

    def _opened_virtual(self, node: VirtualFile) -> FileHandle:
        """Open what *node* holds; ESTALE if that is not known any more."""
        with self._first_open:  # of two first openers one's descriptor would be closed below the other
            if node.lockable is None:
                node.lockable = Descriptor(os.memfd_create(node.name))
            descriptor = Descriptor(os.open(node.lockable.path, os.O_RDONLY))
        node.content.opened()
        self._room.took(descriptor.fd)
        handle = self._new_handle()
        self._inodes.opened(node, descriptor)
        self._files[handle] = OpenFile(node, descriptor, None, False, node.content)
        return handle

    def is_virtual(self, handle: FileHandle) -> bool:
        """Tell whether an open file is nowhere on the disk: only its node's cache goes with it."""
        return self._file(handle).content is not None

    def _file(self, handle: FileHandle) -> OpenFile:
        try:
            return self._files[handle]
        except KeyError:
            raise FsError(errno.EBADF) from None

    def read(self, handle: FileHandle, offset: int, size: int) -> bytes:
        """Read up to *size* bytes at *offset*; fewer only at the end of the file. May block."""
        file = self._file(handle)
        if file.content is not None:
            return file.content.read(offset, size)
        data = os.pread(file.descriptor.fd, size, offset)
        # A short answer is the end of the file, or a part before a bad one. The kernel takes it for the end, so
        # make sure: the next call says which.
        while 0 < len(data) < size:
            more = os.pread(file.descriptor.fd, size - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    def read_nowait(self, handle: FileHandle, offset: int, size: int) -> bytes | None:
        """Read as ``read`` if the data is in memory; None if it is not, or the disk below cannot tell."""
        file = self._file(handle)
        if file.content is not None:
            return file.content.read_nowait(offset, size)
        buffer = bytearray(size)
        try:
            count = os.preadv(file.descriptor.fd, [buffer], offset, os.RWF_NOWAIT)
        except OSError as error:
            if error.errno in _WORTHLESS:
                return None
            raise
        if count < size and offset + count < os.fstat(file.descriptor.fd).st_size:
            return None  # the rest is not in memory
        return bytes(memoryview(buffer)[:count])

    def write(self, handle: FileHandle, offset: int, data: bytes | memoryview, kill_suidgid: bool = False) -> int:
        """Write *data* at *offset*, or at the end of a file opened with O_APPEND.

        Args:
            kill_suidgid: the writer is not root: set-id bits go, quotas count.

        Returns:
            The number of bytes written; fewer than given if the disk filled up.
        """
        file = self._file(handle)
        with _writer(kill_suidgid):
            return os.pwrite(file.descriptor.fd, data, offset)

    def flush(self, handle: FileHandle, owner: LockOwner | None = None) -> bool:
        """Report what close(2) would report, with each close of a descriptor that the caller has. May block.

        Args:
            owner: who closes, which ends all record locks that it has on the file, also if an error is reported.

        Returns:
            Whether locks may have ended.

        Raises:
            OSError: EDQUOT, ENOSPC, EIO and so on: what was written before has not arrived.
        """
        file = self._file(handle)
        try:
            if self._flush_says(file):
                os.close(os.dup(file.descriptor.fd))
        finally:
            unlocked = owner is not None and self._locks.drop_owner(file.node.inode, owner)
        return unlocked

    def flush_may_block(self, handle: FileHandle) -> bool:
        """Tell whether ``flush`` may have to wait for the disk: only for what was opened for writing, and only where
        closing a file does anything.
        """
        return self._flush_says(self._file(handle))

    def _flush_says(self, file: OpenFile) -> bool:
        if not file.writable or isinstance(file.node, VirtualFile):
            return False
        device = file.node.dev
        known = self._flushes.get(device)
        if known is None:
            known = self._flushes[device] = syscalls.file_system_type(file.descriptor.fd) not in _SILENT
        return known

    def release(self, handle: FileHandle) -> bool:
        """Close *handle*: nobody can use it any more. Tells whether locks may have ended."""
        try:
            file = self._files.pop(handle)
        except KeyError:
            raise FsError(errno.EBADF) from None
        if isinstance(file.node, File):
            file.node.data_as_of = self._cached_as_of.pop(handle, file.node.data_as_of)
        try:
            return self._locks.released(handle, file.descriptor)
        finally:
            if file.content is not None:
                file.content.closed()
            self._inodes.closed(file.node, file.descriptor)
            if file.writable and self.wrote_documents is not None and isinstance(file.node, File):
                for parent, name in list(file.node.locations):
                    self._written(parent, name)

    def _written(self, parent: Inode, name: str) -> None:
        """Note that the file *name* in directory *parent* may have got another content."""
        if name == DOCUMENT_FILE and self.wrote_documents is not None:
            with contextlib.suppress(FsError):  # forgotten a moment ago by another thread
                directory = self._inodes.get(parent)
                if isinstance(directory, DiskDirectory) and directory.job is not None:
                    self.wrote_documents([directory.job])

    def data_cache(self, handle: FileHandle, *, has_data: bool = True) -> DataCache:
        """Tell, when a file has just been opened, what of it the kernel may still believe.

        Args:
            has_data: False if the kernel caches no data of it, as far as the transport knows: what it caches all the
                same it has to drop at the next open. Spares asking whether anybody writes the file, some 15 µs.

        Data that it may not believe it has to drop when it takes the answer. It has done so for certain when *handle*
        is released, and only from then on what it has cached is known to be as of now, or newer.
        """
        file = self._file(handle)
        node = file.node
        found = file.found
        if found is None or isinstance(node, VirtualFile):
            return DataCache(may_keep=True, attributes_hold=True)
        stamp = freshness.stamp(found)
        may_keep = node.data_as_of == stamp
        if may_keep or (has_data and self._keeps_data and freshness.will_tell(file.descriptor.fd, found)):
            self._cached_as_of[handle] = stamp
        return DataCache(may_keep, attributes_hold=node.told == stamp)

    def set_lock(self, handle: FileHandle, owner: LockOwner, lock: RecordLock) -> bool:
        """Lock, convert or unlock (F_UNLCK) a range of a file for *owner*, as fcntl(2) does with F_SETLK. Never waits.

        The lock is held on the disk below. It ends with ``flush`` by the same owner, through any handle of the file,
        and with the release of all handles through which that owner has locked.

        Returns:
            Whether it was done: False if somebody else, here or below, holds a lock that is in the way.
        """
        file = self._file(handle)
        try:
            return self._locks.set(file.node.inode, handle, file.descriptor, owner, lock)
        finally:
            if handle not in self._files:  # released meanwhile, as who wanted the lock was killed: nobody will end it
                self._locks.released(handle, file.descriptor)

    def may_wait(self, request: int, handle: FileHandle, owner: LockOwner, lock: RecordLock) -> bool:
        """Note that *request* (a number of the transport's) waits for *lock*, until ``waited``.

        False if that would be a deadlock; only of locks in this mount.
        """
        return self._locks.may_wait(request, self._file(handle).node.inode, owner, lock)

    def waited(self, request: int) -> None:
        """Note that *request* waits no longer, if it did."""
        self._locks.waited(request)

    def get_lock(self, handle: FileHandle, owner: LockOwner, lock: RecordLock) -> RecordLock | None:
        """Give one lock that is in the way of *lock* for *owner*, as F_GETLK does; None if it could be had."""
        file = self._file(handle)
        return self._locks.get(file.node.inode, file.descriptor, owner, lock)

    def flock(self, handle: FileHandle, kind: int) -> bool:
        """Lock, convert or unlock an open file, as flock(2) does with LOCK_NB. It ends with ``release``.

        Args:
            kind: F_RDLCK (shared), F_WRLCK (exclusive) or F_UNLCK.

        Returns:
            Whether it was done: False if somebody else, here or below, holds a lock that is in the way.
        """
        file = self._file(handle)
        try:
            return self._locks.flock(handle, file.descriptor, kind)
        finally:
            if handle not in self._files:  # as in ``set_lock``
                self._locks.flock(handle, file.descriptor, fcntl.F_UNLCK)

    def fsync(self, handle: FileHandle, datasync: bool) -> None:
        """Bring the file to stable storage; *datasync*: without attributes that are not needed to read it."""
        file = self._file(handle)
        (os.fdatasync if datasync else os.fsync)(file.descriptor.fd)

    def fallocate(self, handle: FileHandle, mode: int, offset: int, length: int, kill_suidgid: bool = False) -> None:
        """Allocate, punch or zero a range: fallocate(2); *kill_suidgid* as with ``write``."""
        file = self._file(handle)
        with _writer(kill_suidgid):
            syscalls.fallocate(file.descriptor.fd, mode, offset, length)

    def lseek(self, handle: FileHandle, offset: int, whence: int) -> int:
        """Find data or a hole (SEEK_DATA, SEEK_HOLE), or the end; ENXIO if there is none."""
        file = self._file(handle)
        if file.content is not None:  # data, and the hole that is behind the end of every file
            if not 0 <= offset < file.content.size:
                raise FsError(errno.ENXIO)
            return offset if whence == os.SEEK_DATA else file.content.size
        return os.lseek(file.descriptor.fd, offset, whence)

    def left_to_read(self, handle: FileHandle, offset: int) -> int:
        """Tell how many bytes there are from *offset* to the end of the file, as far as that is known."""
        file = self._file(handle)
        size = os.fstat(file.descriptor.fd).st_size if file.content is None else file.content.size
        return max(0, size - offset)

    def copy_file_range(
        self,
        h_in: FileHandle,
        off_in: int,
        h_out: FileHandle,
        off_out: int,
        length: int,
        kill_suidgid: bool = False,
    ) -> int:
        """Copy within the disk below; gives the number of bytes copied, 0 at the end of the source.

        Args:
            kill_suidgid: as with ``write``.
        """
        source, target = self._file(h_in), self._file(h_out)
        if source.content is not None:
            raise FsError(errno.EOPNOTSUPP)  # the kernel then reads and writes
        with _writer(kill_suidgid):
            return os.copy_file_range(source.descriptor.fd, target.descriptor.fd, length, off_in, off_out)

    def passthrough_fd(self, handle: FileHandle) -> int | None:
        """Give, when a file has just been opened, a descriptor that the kernel may use in place of requests.

        It is valid while *handle* is open. None for a file with set-id bits: root may keep them when it writes, and the
        kernel registers a descriptor for all who open the file. To be registered within ``as_ordinary_writer``: the
        bits may be set later.
        """
        file = self._file(handle)
        if file.found is None or file.found.st_mode & (stat.S_ISUID | stat.S_ISGID):
            return None
        return file.descriptor.fd


def _writer(kill_suidgid: bool) -> AbstractContextManager[None]:
    return as_ordinary_writer() if kill_suidgid else nullcontext()
