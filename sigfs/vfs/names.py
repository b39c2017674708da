"""Requests of names: what one leads to, and how names are made, removed and changed.

Owned here: which of them go to the disk below, and what they do there. Of virtual directories ``views`` answers.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from sigfs.model.files import READ_FLAGS
from sigfs.model.workspace import STATEPOINT_FILE
from sigfs.vfs import attributes, syscalls
from sigfs.vfs.backing import Descriptor
from sigfs.vfs.credentials import as_caller, as_reader
from sigfs.vfs.metadata import Metadata
from sigfs.vfs.nodes import DiskDirectory, File, TreeDirectory
from sigfs.vfs.types import Attrs, Caller, FsError
from sigfs.vfs.views import TREE_TIMEOUT_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from sigfs.vfs.nodes import Directory
    from sigfs.vfs.types import FileHandle, Inode


class Names(Metadata):
    """What is done with names. Every method may be called from several threads at once.

    A name is one component: never empty, ".", ".." or with "/" or NUL in it (EINVAL).
    """

    def lookup(self, parent: Inode, name: str, caller: Caller) -> Attrs | None:
        """Find *name* in directory *parent* and take one kernel reference to it.

        None is an answer, not an error: there is no such name, and no reference was taken.

        Complexity: in a virtual directory that of ``Tree.child``; on disk one system call.
        Source: FUSE protocol, LOOKUP and FORGET; I3.
        """
        _check_name(name)
        node = self._directory(parent)
        if isinstance(node, TreeDirectory):
            return self._views.lookup(node, name, caller)
        if name == STATEPOINT_FILE:
            if self._statepoints.is_hidden(node, name, caller):
                return None
            if (scratch := self._statepoints.awaited(node, name, caller)) is not None:
                return self._scratch_attrs(scratch)
        events = self._disk.events_in(parent)
        try:
            directory = self._backing.directory(node)
            with as_reader(caller):
                found = os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None
        attrs = self._disk.entered(parent, name, found)
        return attrs if events is None else self._disk.believed(attrs, (parent, name), events)

    def looker(self, handle: FileHandle, caller: Caller) -> Callable[[str], Attrs | None]:
        """Give what looks up the names that an open directory lists, as ``lookup`` does, for as long as one request
        takes: what is the same for all names is found out once.
        """
        directory = self._open_directory(handle)
        node, inode, descriptor = directory.node, directory.node.inode, directory.descriptor
        if isinstance(node, TreeDirectory):
            return self._views.looker(node, caller)
        if descriptor is None or not caller.by_acl:
            return lambda name: self.lookup(inode, name, caller)
        if self._disk.events_in(inode) is not None:
            return lambda name: self.lookup(inode, name, caller)
        entered = self._disk.entered

        def look_up(name: str) -> Attrs | None:
            if name == STATEPOINT_FILE:
                return self.lookup(inode, name, caller)
            try:
                found = os.stat(name, dir_fd=descriptor.fd, follow_symlinks=False)
            except FileNotFoundError:
                return None
            return entered(inode, name, found)

        return look_up

    def absence_timeout_s(self, parent: Inode, name: str) -> float:
        """Tell how long the kernel may believe that there is no *name* in *parent*, as ``lookup`` has just said."""
        return TREE_TIMEOUT_S if (parent, name) in self._views.absent else 0.0

    def forget(self, inode: Inode, count: int = 1) -> None:
        """Take back *count* references. The last one lets the node go, unless it is open or something is below it."""
        self._inodes.forget(inode, count)

    def mknod(self, parent: Inode, name: str, mode: int, rdev: int, caller: Caller) -> Attrs:
        """Make a file, FIFO, socket or device, and take one reference to it.

        Args:
            mode: type and permissions; the caller's umask is applied here.
        """
        directory = self._changeable(parent, name)
        mode, masked = attributes.creation(directory, mode, caller)
        latest = self._inodes.last
        with as_caller(caller), masked:
            os.mknod(name, mode, rdev, dir_fd=directory.fd)
        return self._disk.made(parent, directory, name, latest)

    def mkdir(self, parent: Inode, name: str, mode: int, caller: Caller) -> Attrs:
        """Make a directory, and take one reference to it. In a virtual directory: see ``Changes.mkdir``."""
        _check_name(name)
        node = self._directory(parent)
        if isinstance(node, TreeDirectory):
            self._require_writable()
            return self._views.mkdir(node, name, mode, caller)
        directory = self._changeable(parent, name)
        mode, masked = attributes.creation(directory, mode, caller)
        latest = self._inodes.last
        with as_caller(caller), masked:
            os.mkdir(name, mode, dir_fd=directory.fd)
        return self._disk.made(parent, directory, name, latest)

    def symlink(self, parent: Inode, name: str, target: str, caller: Caller) -> Attrs:
        """Make a symbolic link with any text as its *target*, and take one reference to it."""
        directory = self._changeable(parent, name)
        latest = self._inodes.last
        with as_caller(caller):
            os.symlink(target, name, dir_fd=directory.fd)
        return self._disk.made(parent, directory, name, latest)

    def link(self, inode: Inode, new_parent: Inode, new_name: str, caller: Caller | None = None) -> Attrs:
        """Give the file *inode* one more name, and take one reference to it.

        Raises:
            FsError: EPERM for a directory; ESTALE if the file cannot be reached any more.
            OSError: EXDEV, EEXIST, EMLINK and so on as the disk below says; ENOENT for an unlinked file.
        """
        directory = self._changeable(new_parent, new_name)
        node = self._inodes.get(inode)
        if not isinstance(node, File):
            raise FsError(errno.EPERM)
        source = self._backing.node(node)
        with as_caller(caller):
            os.link(source.path, new_name, dst_dir_fd=directory.fd, follow_symlinks=True)
        found = os.fstat(source.fd)
        return self._disk.attrs(self._inodes.file(new_parent, new_name, found), found)

    def unlink(self, parent: Inode, name: str, caller: Caller | None = None) -> None:
        """Remove a name of a file. What has the file open, or refers to its inode, keeps it."""
        directory = self._changeable(parent, name)
        removed = _entry(directory, name)
        before = os.fstat(removed.fd)
        with as_caller(caller):
            os.unlink(name, dir_fd=directory.fd)
        found = _after_removal(removed, before)
        self._tell_other_names(self._inodes.known_file(found), (parent, name))
        self._inodes.removed(parent, name, found, removed)

    def rmdir(self, parent: Inode, name: str, caller: Caller | None = None) -> None:
        """Remove an empty directory. In a virtual directory: see ``Changes.rmdir``."""
        _check_name(name)
        node = self._directory(parent)
        if isinstance(node, TreeDirectory):
            self._require_writable()
            self._views.rmdir(node, name, caller or _this_process())
            return
        directory = self._changeable(parent, name)
        removed = _entry(directory, name)
        before = os.fstat(removed.fd)
        with as_caller(caller):
            os.rmdir(name, dir_fd=directory.fd)
        found = _after_removal(removed, before)
        self._tell_other_paths(parent, name, found, removed)
        self._inodes.removed(parent, name, found, removed)

    def rename(
        self,
        old_parent: Inode,
        old_name: str,
        new_parent: Inode,
        new_name: str,
        flags: int = 0,
        caller: Caller | None = None,
    ) -> None:
        """Rename within a job directory or between two. A directory that is moved keeps its inode.

        Between virtual directories: see ``Changes.rename``. In place of the state point file of a job made here
        another one is let go: see ``statepoints``.

        Args:
            flags: RENAME_NOREPLACE or RENAME_EXCHANGE.

        Raises:
            FsError: EINVAL for another flag.
            OSError: as the disk below answers; EXDEV where two jobs are on different disks.
        """
        if flags & ~(syscalls.RENAME_NOREPLACE | syscalls.RENAME_EXCHANGE):
            raise FsError(errno.EINVAL)
        _check_name(old_name)
        _check_name(new_name)
        source, target = self._directory(old_parent), self._directory(new_parent)
        if isinstance(source, TreeDirectory) and isinstance(target, TreeDirectory):
            self._require_writable()
            self._views.rename(source, old_name, target, new_name, flags, caller or _this_process())
            return
        old_directory = self._changeable(old_parent, old_name)
        new_directory = self._changeable(new_parent, new_name)
        keeps = self._is_kept(target, new_name) or (
            flags == syscalls.RENAME_EXCHANGE and self._is_kept(source, old_name)
        )
        if keeps and self._rename_to_kept(old_parent, old_name, new_parent, new_name, flags, caller):
            return
        moved = os.stat(old_name, dir_fd=old_directory.fd, follow_symlinks=False)
        try:
            replaced = _entry(new_directory, new_name)
            before = os.fstat(replaced.fd)
        except FileNotFoundError:
            replaced = None
        with as_caller(caller):
            syscalls.rename(old_name, new_name, old_directory.fd, new_directory.fd, flags)
        self._written(new_parent, new_name)
        old, new = (old_parent, old_name), (new_parent, new_name)
        self._tell_other_names(self._inodes.known_file(moved), old)
        self._tell_other_paths(*old)
        if replaced is not None:
            found = _after_removal(replaced, before)
            if os.path.samestat(found, moved):
                return  # two names of one file: rename(2) leaves both
            self._tell_other_names(self._inodes.known_file(found), new)
            if flags & syscalls.RENAME_EXCHANGE:
                self._tell_other_paths(*new)
                self._inodes.exchanged(old, new, moved, found)
                return
            self._tell_other_paths(*new, found, replaced)
            self._inodes.removed(*new, found, replaced)
        self._inodes.renamed(old, new, moved)

    def _is_kept(self, node: Directory, name: str) -> bool:
        return isinstance(node, DiskDirectory) and self._statepoints.is_kept(node, name)

    def _rename_to_kept(
        self,
        old_parent: Inode,
        old_name: str,
        new_parent: Inode,
        new_name: str,
        flags: int,
        caller: Caller | None,
    ) -> bool:
        """Let go of a file that is to take the place of the state point file of a job made here.

        Returns:
            Whether that is done. Otherwise the file is that job's own: it may be renamed.

        Raises:
            FsError: EPERM if it is no state point.
        """
        job = self._directory(new_parent)
        if flags or not isinstance(job, DiskDirectory) or job.job is None:
            raise FsError(errno.EPERM)
        directory = self._changeable(old_parent, old_name)
        try:
            fd = Descriptor(os.open(old_name, READ_FLAGS, dir_fd=directory.fd))
        except OSError as error:
            if error.errno == errno.ENOENT:
                raise
            raise FsError(errno.EPERM) from error
        found = self._statepoints.id_in(fd.fd)
        if found is None:
            raise FsError(errno.EPERM)
        if found == job.job:
            return False
        self.unlink(old_parent, old_name, caller)
        self._statepoints.let_go(job.job, found)
        self._statepoints.show(job, None)
        # The kernel takes the name for that of the file which is gone.
        self._views.tell([(new_parent, new_name)])
        return True

    def _scratch_attrs(self, node: File) -> Attrs:
        return Attrs(node.inode, self._backing.stat(node), 0.0, self._disk.attr_timeout_s)

    def _tell_other_names(self, node: File | None, name: tuple[Inode, str]) -> None:
        """Have the kernel look again at the names that *node* has beside *name*: other paths to the same job."""
        if node is not None:
            for location in list(node.locations):
                if location != name:
                    self._views.notifier.invalidate_entry(*location)

    def _tell_other_paths(
        self, parent: Inode, name: str, found: os.stat_result | None = None, removed: Descriptor | None = None
    ) -> None:
        """Have the kernel look again at the other paths to the directory that was *name* in *parent*.

        Args:
            found, removed: what it is now, and a descriptor of it, if it was removed: what is asked of its nodes before
                the kernel has looked is asked of whatever has its name then.
        """
        for node in self._inodes.at_other_paths(parent, name):
            if found is not None and removed is not None:
                if node.opens:
                    self._inodes.removed(node.parent, node.name, found, removed)
                    self._views.notifier.invalidate_attributes(node.inode)
                else:
                    self._backing.discard(node.inode)
                    self._inodes.detach(node)  # one that is made in its place may get its number
            self._views.notifier.invalidate_entry(node.parent, node.name)

    def _changeable(self, parent: Inode, name: str) -> Descriptor:
        """Give directory *parent*, in which the entry *name* may be made, replaced or removed."""
        _check_name(name)
        return self._changeable_directory(parent)

    def _changeable_directory(self, inode: Inode) -> Descriptor:
        node = self._directory(inode)
        self._may_change(node)
        assert isinstance(node, DiskDirectory)
        return self._backing.directory(node)


def _check_name(name: str) -> None:
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise FsError(errno.EINVAL)


def _this_process() -> Caller:
    return Caller(os.geteuid(), os.getegid(), os.getpid())


def _entry(directory: Descriptor, name: str) -> Descriptor:
    """Give a descriptor (O_PATH) of what *name* in *directory* is; a symbolic link itself."""
    return Descriptor(os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=directory.fd))


def _after_removal(removed: Descriptor, before: os.stat_result) -> os.stat_result:
    """Give the attributes of what a name was taken from. *before*: those it had.

    A disk that knows what is open by its name only (sshfs, NFS with nobody else who has it open) has nothing to tell of
    what has none any more.
    """
    try:
        return os.fstat(removed.fd)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ESTALE):
            raise
        return os.stat_result((*before[:3], 0, *before[4:10]))
