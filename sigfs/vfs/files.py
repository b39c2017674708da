"""Open files: the calls that move data.

Owned here: file handles and what may be done with one. They take no lock and look up no name, so they may run in any
number of threads; a file that is released while a call is under way stays open until that call is done.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sigfs.vfs import syscalls
from sigfs.vfs.attributes import kill_suidgid
from sigfs.vfs.types import FileHandle, FsError

if TYPE_CHECKING:
    from sigfs.vfs.backing import Descriptor
    from sigfs.vfs.inodes import File, Inodes

_WORTHLESS = (errno.EAGAIN, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)
"""Answers to a read that must not block which mean: ask again without that wish."""


@dataclass(frozen=True, slots=True, eq=False)
class OpenFile:
    """One open file. ``writable``: it was opened for writing."""

    node: File
    descriptor: Descriptor
    writable: bool


class OpenFiles:
    """The open files of a mount, by handle. Every method may be called from several threads at once.

    Each raises ``FsError`` EBADF for a handle that is not open, and ``OSError`` as the disk below answers.
    """

    def __init__(self, inodes: Inodes) -> None:
        """Begin with no open file."""
        self._inodes = inodes
        self._files: dict[FileHandle, OpenFile] = {}  # an entry dies with release
        self._handles = itertools.count(1)  # next() is atomic; shared with directory handles

    def _new_handle(self) -> FileHandle:
        return FileHandle(next(self._handles))

    def _opened(self, node: File, descriptor: Descriptor, flags: int) -> FileHandle:
        handle = self._new_handle()
        self._inodes.opened(node, descriptor)
        self._files[handle] = OpenFile(node, descriptor, flags & os.O_ACCMODE != os.O_RDONLY)
        return handle

    def _file(self, handle: FileHandle) -> OpenFile:
        try:
            return self._files[handle]
        except KeyError:
            raise FsError(errno.EBADF) from None

    def read(self, handle: FileHandle, offset: int, size: int) -> bytes:
        """Read up to *size* bytes at *offset*; fewer only at the end of the file. May block."""
        file = self._file(handle)
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
            kill_suidgid: take the set-id bits away afterwards.

        Returns:
            The number of bytes written; fewer than given if the disk filled up.
        """
        file = self._file(handle)
        count = os.pwrite(file.descriptor.fd, data, offset)
        if kill_suidgid:
            _kill_suidgid(file.descriptor)
        return count

    def flush(self, handle: FileHandle) -> None:
        """Report what close(2) would report, with each close of a descriptor that the caller has."""
        file = self._file(handle)
        os.close(os.dup(file.descriptor.fd))

    def release(self, handle: FileHandle) -> None:
        """Close *handle*: nobody can use it any more."""
        try:
            file = self._files.pop(handle)
        except KeyError:
            raise FsError(errno.EBADF) from None
        self._inodes.closed(file.node, file.descriptor)

    def fsync(self, handle: FileHandle, datasync: bool) -> None:
        """Bring the file to stable storage; *datasync*: without attributes that are not needed to read it."""
        file = self._file(handle)
        (os.fdatasync if datasync else os.fsync)(file.descriptor.fd)

    def fallocate(self, handle: FileHandle, mode: int, offset: int, length: int) -> None:
        """Allocate, punch or zero a range: fallocate(2)."""
        file = self._file(handle)
        syscalls.fallocate(file.descriptor.fd, mode, offset, length)

    def lseek(self, handle: FileHandle, offset: int, whence: int) -> int:
        """Find data or a hole (SEEK_DATA, SEEK_HOLE), or the end; ENXIO if there is none."""
        file = self._file(handle)
        return os.lseek(file.descriptor.fd, offset, whence)

    def copy_file_range(self, h_in: FileHandle, off_in: int, h_out: FileHandle, off_out: int, length: int) -> int:
        """Copy within the disk below; gives the number of bytes copied, 0 at the end of the source."""
        source, target = self._file(h_in), self._file(h_out)
        return os.copy_file_range(source.descriptor.fd, target.descriptor.fd, length, off_in, off_out)

    def passthrough_fd(self, handle: FileHandle) -> int | None:
        """Give a descriptor that the kernel may use in place of requests, valid while *handle* is open.

        None for a file with set-id bits: the kernel would write to it with the server's privileges, which keep them.
        """
        file = self._file(handle)
        mode = os.fstat(file.descriptor.fd).st_mode
        return None if mode & (stat.S_ISUID | stat.S_ISGID) else file.descriptor.fd


_kill_suidgid = kill_suidgid  # the name of a parameter above
