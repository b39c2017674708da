"""``Operations`` by absolute path inside the mount (``/foo/42/data.txt``).

Owned here: walking a path by lookups from the root, and giving back every reference the walk took. For bindings
that know no inodes (fusepy) and for callers without a kernel (tests). No state of its own, so it may be called from
several threads at once, as ``Operations`` itself.

A path has no "." or ".." and its symbolic links are not followed: whoever asks has done that.
"""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sigfs.vfs.types import ROOT, Attrs, Caller, DirEntry, FileHandle, FsError, Inode, SetAttr

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sigfs.vfs.operations import Operations


def split(path: str) -> list[str]:
    """Give the components of an absolute *path*; none for the root.

    >>> split("/foo/42//data.txt")
    ['foo', '42', 'data.txt']

    Raises:
        FsError: EINVAL for a relative path, or one with "." or ".." in it.
    """
    names = [name for name in path.split("/") if name]
    if not path.startswith("/") or "." in names or ".." in names:
        raise FsError(errno.EINVAL)
    return names


def this_process() -> Caller:
    """Give this process as the one who asks, with a umask of 0."""
    return Caller(uid=os.geteuid(), gid=os.getegid(), pid=os.getpid())


class PathOperations:
    """The requests of ``Operations`` with paths in place of inodes.

    Each call takes references while it walks and forgets them before it returns, also when it fails. A handle keeps
    its node resolvable after that (I3), so an open file or directory needs no path any more.

    ``caller`` is who asks; None is this process. What a method raises is what ``Operations`` raises, plus ENOENT for a
    path that leads nowhere. Attributes are given for their ``stat``; the inode in them is not held for the caller.

    Complexity of what takes a path: one lookup a component.
    """

    def __init__(self, operations: Operations) -> None:
        self.operations = operations

    # Walking

    @contextmanager
    def _walk(self, names: list[str], caller: Caller) -> Iterator[tuple[Inode, Attrs | None]]:
        """Lead to the node at *names*, held until the block ends; its attributes are None for the root."""
        operations = self.operations
        held: list[Inode] = []
        inode, attrs = ROOT, None
        try:
            for name in names:
                attrs = operations.lookup(inode, name, caller)
                if attrs is None:
                    raise FsError(errno.ENOENT)
                inode = attrs.inode
                held.append(inode)
            yield inode, attrs
        finally:
            # Children first: a node is never held by a child whose parent is gone.
            for inode in reversed(held):
                operations.forget(inode)

    @contextmanager
    def _node(self, path: str, caller: Caller | None) -> Iterator[Inode]:
        with self._walk(split(path), caller or this_process()) as (inode, _):
            yield inode

    @contextmanager
    def _parent(self, path: str, caller: Caller | None) -> Iterator[tuple[Inode, str]]:
        """Lead to the directory that *path* is an entry of, and give the entry's name; EBUSY for the root."""
        names = split(path)
        if not names:
            raise FsError(errno.EBUSY)
        with self._walk(names[:-1], caller or this_process()) as (inode, _):
            yield inode, names[-1]

    def _forget(self, attrs: Attrs) -> Attrs:
        self.operations.forget(attrs.inode)
        return attrs

    # By path

    def getattr(self, path: str, caller: Caller | None = None) -> Attrs:
        """Give the attributes of what *path* names."""
        with self._walk(split(path), caller or this_process()) as (inode, attrs):
            return attrs if attrs is not None else self.operations.getattr(inode)

    def setattr(self, path: str, changes: SetAttr, caller: Caller | None = None) -> Attrs:
        """Change attributes; *changes* may truncate."""
        who = caller or this_process()
        with self._node(path, who) as inode:
            return self.operations.setattr(inode, changes, None, who)

    def readlink(self, path: str, caller: Caller | None = None) -> str:
        """Give the target of the symbolic link *path*."""
        with self._node(path, caller) as inode:
            return self.operations.readlink(inode)

    def mknod(self, path: str, mode: int, rdev: int = 0, caller: Caller | None = None) -> Attrs:
        """Make a file, FIFO, socket or device."""
        who = caller or this_process()
        with self._parent(path, who) as (parent, name):
            return self._forget(self.operations.mknod(parent, name, mode, rdev, who))

    def mkdir(self, path: str, mode: int = 0o777, caller: Caller | None = None) -> Attrs:
        """Make a directory."""
        who = caller or this_process()
        with self._parent(path, who) as (parent, name):
            return self._forget(self.operations.mkdir(parent, name, mode, who))

    def unlink(self, path: str, caller: Caller | None = None) -> None:
        """Remove a name that is no directory's."""
        with self._parent(path, caller) as (parent, name):
            self.operations.unlink(parent, name, caller)

    def rmdir(self, path: str, caller: Caller | None = None) -> None:
        """Remove an empty directory."""
        with self._parent(path, caller) as (parent, name):
            self.operations.rmdir(parent, name, caller)

    def symlink(self, target: str, path: str, caller: Caller | None = None) -> Attrs:
        """Make the symbolic link *path* that says *target*."""
        who = caller or this_process()
        with self._parent(path, who) as (parent, name):
            return self._forget(self.operations.symlink(parent, name, target, who))

    def rename(self, old: str, new: str, flags: int = 0, caller: Caller | None = None) -> None:
        """Rename with the flags of renameat2(2)."""
        with (
            self._parent(old, caller) as (old_parent, old_name),
            self._parent(new, caller) as (new_parent, new_name),
        ):
            self.operations.rename(old_parent, old_name, new_parent, new_name, flags, caller)

    def link(self, path: str, new: str, caller: Caller | None = None) -> Attrs:
        """Give the file at *path* the further name *new*."""
        with self._node(path, caller) as inode, self._parent(new, caller) as (new_parent, new_name):
            return self._forget(self.operations.link(inode, new_parent, new_name, caller))

    def open(self, path: str, flags: int, caller: Caller | None = None) -> FileHandle:
        """Open an existing file; ``release`` it when done."""
        who = caller or this_process()
        try:
            with self._node(path, who) as inode:
                return self.operations.open(inode, flags, who)
        except FsError as error:
            if error.errno != errno.ESTALE:
                raise
        with self._node(path, who) as inode:  # as the kernel does: look again
            return self.operations.open(inode, flags, who)

    def create(self, path: str, mode: int, flags: int, caller: Caller | None = None) -> tuple[Attrs, FileHandle]:
        """Create a file and open it; ``release`` it when done."""
        who = caller or this_process()
        with self._parent(path, who) as (parent, name):
            attrs, handle = self.operations.create(parent, name, mode, flags, who)
            return self._forget(attrs), handle

    def opendir(self, path: str, caller: Caller | None = None) -> FileHandle:
        """Open a directory; ``releasedir`` it when done."""
        with self._node(path, caller) as inode:
            return self.operations.opendir(inode, caller or this_process())

    def statfs(self, path: str, caller: Caller | None = None) -> os.statvfs_result:
        """Give the facts of the file system below."""
        with self._node(path, caller) as inode:
            return self.operations.statfs(inode)

    def getxattr(self, path: str, name: str, caller: Caller | None = None) -> bytes:
        """Give an extended attribute."""
        with self._node(path, caller) as inode:
            return self.operations.getxattr(inode, name)

    def listxattr(self, path: str, caller: Caller | None = None) -> list[str]:
        """Give the names of all extended attributes."""
        with self._node(path, caller) as inode:
            return self.operations.listxattr(inode, caller)

    def setxattr(self, path: str, name: str, value: bytes, flags: int = 0, caller: Caller | None = None) -> None:
        """Set an extended attribute; *flags* as in setxattr(2)."""
        with self._node(path, caller) as inode:
            self.operations.setxattr(inode, name, value, flags, caller)

    def removexattr(self, path: str, name: str, caller: Caller | None = None) -> None:
        """Remove an extended attribute."""
        with self._node(path, caller) as inode:
            self.operations.removexattr(inode, name, caller)

    # By handle: what needs no path any more

    def fgetattr(self, handle: FileHandle) -> Attrs:
        """Give the attributes of an open file, whether or not it still has a name."""
        return self.operations.getattr(self.operations.inode_of(handle), handle)

    def fsetattr(self, handle: FileHandle, changes: SetAttr, caller: Caller | None = None) -> Attrs:
        """Change attributes of an open file, whether or not it still has a name."""
        inode = self.operations.inode_of(handle)
        return self.operations.setattr(inode, changes, handle, caller or this_process())

    def is_virtual(self, handle: FileHandle) -> bool:
        """Tell whether an open file is nowhere on the disk."""
        return self.operations.is_virtual(handle)

    def read(self, handle: FileHandle, offset: int, size: int) -> bytes:
        """Read up to *size* bytes; fewer at the end of the file only."""
        return self.operations.read(handle, offset, size)

    def write(self, handle: FileHandle, offset: int, data: bytes | memoryview, caller: Caller | None = None) -> int:
        """Write and give the number of bytes written."""
        return self.operations.write(handle, offset, data, kill_suidgid=caller is not None and caller.uid != 0)

    def flush(self, handle: FileHandle) -> None:
        """Say that one descriptor of the open file was closed."""
        self.operations.flush(handle)

    def release(self, handle: FileHandle) -> None:
        """Close the open file."""
        self.operations.release(handle)

    def fsync(self, handle: FileHandle, datasync: bool = False) -> None:
        """Make what was written durable."""
        self.operations.fsync(handle, datasync)

    def readdir(self, handle: FileHandle, cookie: int = 0) -> Iterator[DirEntry]:
        """Give the entries behind *cookie*; 0 reads the directory anew."""
        return self.operations.readdir(handle, cookie)

    def releasedir(self, handle: FileHandle) -> None:
        """Close the open directory."""
        self.operations.releasedir(handle)

    def fsyncdir(self, handle: FileHandle, datasync: bool = False) -> None:
        """Make the directory's entries durable."""
        self.operations.fsyncdir(handle, datasync)

    def fallocate(self, handle: FileHandle, mode: int, offset: int, length: int) -> None:
        """Allocate or free space, as fallocate(2)."""
        self.operations.fallocate(handle, mode, offset, length)

    def lseek(self, handle: FileHandle, offset: int, whence: int) -> int:
        """Find data or a hole (``SEEK_DATA``, ``SEEK_HOLE``)."""
        return self.operations.lseek(handle, offset, whence)

    def copy_file_range(
        self, source: FileHandle, source_offset: int, target: FileHandle, target_offset: int, length: int
    ) -> int:
        """Copy within the file system; gives the number of bytes copied."""
        return self.operations.copy_file_range(source, source_offset, target, target_offset, length)
