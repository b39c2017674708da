"""Requests that open and close files, and make them.

Owned here: which flags of open(2) reach the disk, and what becomes of a file that takes the place of a state point
file. ``files`` has what is done with a file that is open.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Final

from sigfs.vfs import attributes
from sigfs.vfs.backing import Descriptor
from sigfs.vfs.credentials import as_caller, as_reader
from sigfs.vfs.names import Names
from sigfs.vfs.nodes import DiskDirectory, File, VirtualFile
from sigfs.vfs.types import FsError

if TYPE_CHECKING:
    from sigfs.vfs.locks import LockOwner
    from sigfs.vfs.types import Attrs, Caller, FileHandle, Inode

# What of open(2)'s flags reaches the disk. Not O_CREAT and O_EXCL (decided here), O_DIRECT (our buffers are not
# aligned), O_NOATIME (needs the owner), O_NONBLOCK, O_NOCTTY (regular files only).
_OPEN_FLAGS: Final = os.O_ACCMODE | os.O_APPEND | os.O_TRUNC | os.O_SYNC | os.O_DSYNC

_FMODE_EXEC: Final = 0o40
"""Kernel-internal, in the flags of an open on behalf of execve(2)."""


class Opening(Names):
    """What opens and closes files. Every method may be called from several threads at once."""

    def open(self, inode: Inode, flags: int, caller: Caller, *, wait: bool = True) -> FileHandle:
        """Open a regular file. It stays usable until ``release``, whatever becomes of its names.

        Args:
            flags: of open(2); those that make no sense here are ignored. O_TRUNC truncates.
            wait: whether this may wait until another process gives up its lease of the file.

        Raises:
            BlockingIOError: it would have to wait. Nothing has been done, except that the other has been told.
            FsError: ENFILE if programs have too many files open (see ``room``); EISDIR; ELOOP for a symbolic link and
                ENXIO for a FIFO, socket or device, which the kernel opens itself; ESTALE if no known name leads to the
                file any more, or if another's file has got another owner or mode since the kernel looked.
        """
        self._room.require()
        node = self._inodes.get(inode)
        if isinstance(node, VirtualFile):
            if flags & os.O_ACCMODE != os.O_RDONLY or flags & os.O_TRUNC:
                self._may_change(node)
            return self._opened_virtual(node)
        if not isinstance(node, File):
            raise FsError(errno.EISDIR)
        if node.kind != stat.S_IFREG:
            raise FsError(errno.ELOOP if node.kind == stat.S_IFLNK else errno.ENXIO)
        writes = flags & os.O_ACCMODE != os.O_RDONLY or bool(flags & os.O_TRUNC)
        if writes and self._read_only():
            raise FsError(errno.EROFS)
        if writes and not self._statepoints.is_scratch(node):
            if (job := self._statepoints.job_of(node)) is not None:
                # After ESTALE the kernel looks the name up again, and opens what it finds then.
                self._statepoints.await_opening(job, flags, caller)
                raise FsError(errno.ESTALE)
            self._disk.require_name(node)
        how = flags & _OPEN_FLAGS
        opened = None if writes or wait or not caller.by_acl else self._backing.opened(node, how)
        if opened is None:
            source = self._backing.node(node)
            if flags & os.O_TRUNC:
                self._disk.require_as_told(node, os.fstat(source.fd), caller)
            # Who truncates, unless it is root, takes set-id bits away. To run a program it need not be readable.
            with as_caller(caller) if flags & os.O_TRUNC else as_reader(None if flags & _FMODE_EXEC else caller):
                descriptor = Descriptor(os.open(source.path, how | (0 if wait else os.O_NONBLOCK)))
            opened = descriptor, os.fstat(descriptor.fd)
        if not flags & os.O_TRUNC:
            self._disk.require_as_told(node, opened[1], caller)
        handle = self._opened(node, *opened, flags)
        self._statepoints.opened(node)
        return handle

    def create(
        self, parent: Inode, name: str, mode: int, flags: int, caller: Caller, *, wait: bool = True
    ) -> tuple[Attrs, FileHandle]:
        """Make and open a regular file, and take one reference to it. Without O_EXCL it may exist already.

        Args:
            wait: as for ``open``, if it exists already.

        Raises:
            BlockingIOError: as for ``open``.
            FsError: ESTALE if the file has come to exist since the kernel looked, and the caller is not the one this
                process runs as: the kernel then looks again and checks the caller's right to open it.
        """
        self._room.require()
        directory = self._changeable(parent, name)
        mode = stat.S_IMODE(mode)
        node = self._directory(parent)
        if isinstance(node, DiskDirectory) and self._statepoints.is_kept(node, name):
            return self._create_scratch(node, flags, attributes.creation_mode(directory, mode, caller), caller)
        mode, masked = attributes.creation(directory, mode, caller)
        latest = self._inodes.last
        how = flags & _OPEN_FLAGS | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        try:
            with as_caller(caller), masked:
                descriptor = Descriptor(os.open(name, how, mode, dir_fd=directory.fd))
        except FileExistsError:
            if flags & os.O_EXCL:
                raise
            return self._open_existing(parent, name, flags, caller, wait=wait)
        found = os.fstat(descriptor.fd)
        file = self._disk.file_node(parent, name, found, made_after=latest)
        return self._disk.attrs(file, found), self._opened(file, descriptor, found, flags)

    def tmpfile(self, parent: Inode, mode: int, flags: int, caller: Caller) -> tuple[Attrs, FileHandle]:
        """Make and open a regular file without a name in directory *parent*, and take one reference to it.

        ``link`` gives it a name, unless *flags* has O_EXCL; without one it is gone when nobody has it any more.

        Raises:
            OSError: EOPNOTSUPP where the disk below has no such files.
        """
        self._room.require()
        directory = self._changeable_directory(parent)
        mode, masked = attributes.creation(directory, stat.S_IMODE(mode), caller)
        how = flags & (_OPEN_FLAGS | os.O_EXCL) & ~os.O_TRUNC | os.O_TMPFILE
        with as_caller(caller), masked:
            descriptor = Descriptor(os.open(".", how, mode, dir_fd=directory.fd))
        found = os.fstat(descriptor.fd)
        file = self._inodes.nameless_file(found)
        return self._disk.attrs(file, found), self._opened(file, descriptor, found, flags)

    def flush(self, handle: FileHandle, owner: LockOwner | None = None) -> bool:
        """As ``OpenFiles.flush``.

        Raises:
            FsError: EPERM if what was written in place of the state point file of a job made here is no state point.
        """
        ended = super().flush(handle, owner)
        file = self._file(handle)
        if file.writable and isinstance(file.node, File):
            self._statepoints.judge(file.node)
        return ended

    def release(self, handle: FileHandle) -> bool:
        """As ``OpenFiles.release``."""
        file = self._file(handle)
        try:
            return super().release(handle)
        finally:
            if isinstance(file.node, File):
                self._statepoints.closed(file.node)

    def _create_scratch(self, parent: DiskDirectory, flags: int, mode: int, caller: Caller) -> tuple[Attrs, FileHandle]:
        node = self._statepoints.create(parent, flags, mode, caller)
        try:
            source = self._backing.node(node)
            descriptor = Descriptor(os.open(source.path, flags & _OPEN_FLAGS & ~os.O_TRUNC))
        except BaseException:
            self._inodes.forget(node.inode, 1)
            raise
        return self._scratch_attrs(node), self._opened(node, descriptor, os.fstat(descriptor.fd), flags)

    def _open_existing(
        self, parent: Inode, name: str, flags: int, caller: Caller, *, wait: bool
    ) -> tuple[Attrs, FileHandle]:
        attrs = self.lookup(parent, name, caller) if caller.uid == os.geteuid() else None
        if attrs is None:
            raise FsError(errno.ESTALE)
        try:
            handle = self.open(attrs.inode, flags, caller, wait=wait)
        except BaseException:
            self.forget(attrs.inode)
            raise
        return self.getattr(attrs.inode, handle), handle
