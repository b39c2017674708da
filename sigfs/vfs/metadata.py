"""Requests of what belongs to a node itself, whatever its names: attributes, and extended attributes.

Owned here: which of them may be asked for and changed, on the disk and of what is virtual. ``attributes`` has the rules
about modes, owners and times.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from sigfs.vfs import attributes, syscalls
from sigfs.vfs.backing import Descriptor
from sigfs.vfs.credentials import as_caller
from sigfs.vfs.directories import OpenDirectories
from sigfs.vfs.disk import name_of
from sigfs.vfs.nodes import DiskDirectory, File, TreeDirectory, VirtualFile
from sigfs.vfs.recent import Recent
from sigfs.vfs.types import FsError

if TYPE_CHECKING:
    from sigfs.vfs.nodes import Node
    from sigfs.vfs.types import Attrs, Caller, FileHandle, Inode, SetAttr

_OURS: Final = "user.sigfs."
"""What extended attributes of directories begin with that are made up here."""


_PATIENCE_S: Final = 0.5
"""How long to wait for the disk to say how much room it has, before it is told what it last said."""


class Metadata(OpenDirectories):
    """What is said of nodes. Every method may be called from several threads at once."""

    _room_below: Recent[os.statvfs_result] | None = None  # of the workspace; None before somebody asks

    def getattr(self, inode: Inode, handle: FileHandle | None = None) -> Attrs:
        """Give the attributes of *inode*, also of a file that is unlinked and still open or referenced.

        Raises:
            FsError: ENOENT for a directory that is gone, ESTALE if no known name leads to it any more.
        """
        node = self._inodes.get(inode)
        if isinstance(node, TreeDirectory):
            return self._views.attrs(node)
        if isinstance(node, VirtualFile):
            return self._views.page_attrs(node)
        at = name_of(node)
        events = self._disk.events_in(at[0])
        if handle is not None and (file := self._files.get(handle)) is not None and file.node is node:
            attrs = self._disk.attrs(node, os.fstat(file.descriptor.fd))
        else:
            attrs = self._disk.attrs(node, self._backing.stat(node))
        return attrs if events is None else self._disk.believed(attrs, at, events)

    def birth_ns(self, inode: Inode, handle: FileHandle | None = None) -> int | None:
        """Give when *inode* was made, in ns since the epoch; None if that is not known. Raises as ``getattr``."""
        node = self._inodes.get(inode)
        if isinstance(node, (TreeDirectory, VirtualFile)):
            return None
        file = None if handle is None else self._files.get(handle)
        target = file.descriptor if file is not None and file.node is node else self._backing.node(node)
        return syscalls.birth_ns(target.fd)

    def setattr(
        self,
        inode: Inode,
        changes: SetAttr,
        handle: FileHandle | None,
        caller: Caller,
        *,
        wait: bool = True,
    ) -> Attrs:
        """Change attributes; ``changes.size`` truncates or extends, through *handle* if that may write.

        Not atomic: if a later part fails, earlier parts (size, owner, mode, times) have been made.

        A virtual directory has none of its own. To one that was made in this mount programs that copy trees may give
        what they like, without effect.

        Args:
            wait: whether this may wait until another process gives up its lease of a file whose size is to change.

        Raises:
            BlockingIOError: it would have to wait. Nothing has been done.
        """
        node = self._inodes.get(inode)
        if self._is_no_matter(node):
            return self.getattr(inode)
        self._may_change(node)
        assert isinstance(node, (DiskDirectory, File))
        file = None if handle is None else self._files.get(handle)
        if changes.size is not None and isinstance(node, File) and (job := self._statepoints.job_of(node)) is not None:
            self._statepoints.resize(job, changes.size, caller)
            changes = replace(changes, size=None)
        if file is not None and file.node is node:
            target = file.descriptor
            attributes.change(target, changes, caller, target.fd if file.writable else None, is_handle=True)
        else:
            if changes.size is not None and isinstance(node, File):
                self._disk.require_name(node)
            target = self._backing.node(node)
            if changes.size is not None and isinstance(node, File):
                self._disk.require_as_told(node, os.fstat(target.fd), caller)
            writable = None
            if changes.size is not None and isinstance(node, File) and node.kind == stat.S_IFREG and not wait:
                writable = Descriptor(os.open(target.path, os.O_WRONLY | os.O_NONBLOCK))
            attributes.change(target, changes, caller, None if writable is None else writable.fd)
        return self._disk.attrs(node, os.fstat(target.fd))

    def statfs(self, inode: Inode) -> os.statvfs_result:
        """Describe the file system below: that of the workspace for what is virtual, as it last was if that hangs."""
        node = self._inodes.get(inode)
        if isinstance(node, (DiskDirectory, File)):
            return os.statvfs(self._backing.node(node).fd)
        if self._room_below is None:
            self._room_below = Recent(self._read_room_below, 0.0, _PATIENCE_S)
        return self._room_below.get()

    def _read_room_below(self) -> os.statvfs_result:
        try:
            target = self._backing.workspace()
        except FileNotFoundError:  # it will be made in the project's directory
            return os.statvfs(os.path.dirname(self._backing.workspace_path))
        return os.statvfs(target.fd)

    def readlink(self, inode: Inode) -> str:
        """Give the target of a symbolic link; EINVAL for anything else."""
        node = self._inodes.get(inode)
        if not isinstance(node, File) or node.kind != stat.S_IFLNK:
            raise FsError(errno.EINVAL)
        link = self._backing.node(node)
        return os.readlink("", dir_fd=link.fd)

    def getxattr(self, inode: Inode, name: str) -> bytes:
        """Give the extended attribute *name*; ENODATA if there is none.

        Every directory has ``user.sigfs.count``, the number of its jobs, and ``user.sigfs.query``, what it asks for,
        spelled as a path; a job, and a directory in one, is the query ``id/ID``. A job has ``user.sigfs.id`` and
        ``user.sigfs.statepoint``, the JSON text that is hashed. They are not listed, so that copying programs do not
        try to copy them, and come from the index: nothing is read from the disk.
        """
        node = self._inodes.get(inode)
        if isinstance(node, TreeDirectory):
            return self._views.attribute(node, name)
        if isinstance(node, VirtualFile):
            return self._views.workspace_attribute(name)
        if isinstance(node, DiskDirectory) and name.startswith(_OURS):
            return self._views.job_attribute(node, name)
        return self._backing.xattr(node, name)

    def listxattr(self, inode: Inode, caller: Caller | None = None) -> list[str]:
        """List the names of the extended attributes: those that *caller* would be shown below."""
        node = self._inodes.get(inode)
        if not isinstance(node, (DiskDirectory, File)):
            return []
        target = self._backing.node(node)
        names = os.listxattr(target.path)
        if any(name.startswith("trusted.") for name in names):  # shown to who has CAP_SYS_ADMIN
            with as_caller(caller):
                names = os.listxattr(target.path)
        return names if isinstance(node, File) else [name for name in names if not name.startswith(_OURS)]

    def setxattr(self, inode: Inode, name: str, value: bytes, flags: int, caller: Caller | None = None) -> None:
        """Set an extended attribute. *flags*: XATTR_CREATE or XATTR_REPLACE."""
        node = self._inodes.get(inode)
        if self._is_no_matter(node) and name.startswith("system.posix_acl_"):
            return
        self._may_change(node)
        if isinstance(node, DiskDirectory) and name.startswith(_OURS):
            raise FsError(errno.EPERM)
        assert isinstance(node, (DiskDirectory, File))
        target = self._backing.node(node)
        with as_caller(caller):
            os.setxattr(target.path, name, value, flags)

    def removexattr(self, inode: Inode, name: str, caller: Caller | None = None) -> None:
        """Remove an extended attribute; ENODATA if there is none."""
        node = self._inodes.get(inode)
        if self._is_no_matter(node) and name.startswith("system.posix_acl_"):
            return
        self._may_change(node)
        if isinstance(node, DiskDirectory) and name.startswith(_OURS):
            raise FsError(errno.EPERM)
        assert isinstance(node, (DiskDirectory, File))
        target = self._backing.node(node)
        with as_caller(caller):
            os.removexattr(target.path, name)

    def _is_no_matter(self, node: Node) -> bool:
        """Tell whether *node* is a virtual directory that was made here, whose attributes those who copy may set."""
        return isinstance(node, TreeDirectory) and not self._read_only() and self._views.changes.was_made(node.place)

    def _require_writable(self) -> None:
        if self._read_only():
            raise FsError(errno.EROFS)

    def _may_change(self, node: Node) -> None:
        self._require_writable()
        if isinstance(node, (TreeDirectory, VirtualFile)):
            raise FsError(errno.EPERM)
