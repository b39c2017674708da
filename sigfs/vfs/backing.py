"""The way to the disk below: descriptors of directories, each opened from the one above.

Owned here: descriptors and when they are closed. Nothing is reached by a full path (I10): a job directory is opened
from the descriptor of the workspace, or of the indexed directory that it is in, a directory below from its parent's,
symbolic links are not followed, and what was opened is compared with what the node stands for.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from sigfs.model.places import Places
from sigfs.vfs import attributes
from sigfs.vfs.nodes import DiskDirectory, File, is_same
from sigfs.vfs.room import Room, limit_of_descriptors
from sigfs.vfs.types import FsError, Inode

if TYPE_CHECKING:
    from sigfs.model.types import JobId
    from sigfs.model.workspace import Workspace
    from sigfs.vfs.inodes import Inodes

DESCRIPTORS_LIMIT: Final = 4096
"""Directory descriptors kept at most; fewer where the process may not have four times as many files open."""

_DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW
_LISTED: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_ANYTHING: Final = os.O_PATH | os.O_NOFOLLOW
_HARMLESS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY


class Descriptor:
    """A file descriptor that is closed when nobody holds this object any more.

    So a descriptor that is evicted or released while another thread uses it stays open until that thread is done.
    """

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        """Take over *fd*."""
        self.fd = fd

    def __del__(self) -> None:
        try:
            os.close(self.fd)
        except OSError as error:  # it is closed all the same; whoever wrote has been told by flush
            if error.errno == errno.EBADF:
                raise

    @property
    def path(self) -> str:
        """A path that leads to exactly this, for calls that have no form for O_PATH descriptors (xattr, chmod, link).

        It is resolved by the kernel without any name lookup on the disk; a symbolic link is not followed.
        """
        return f"/proc/self/fd/{self.fd}"


class Backing:
    """Descriptors of what nodes stand for.

    ``_lock`` guards the cache and the workspace's descriptor; nothing is locked and no system call made while it is
    held: closing what was removed below may have to wait for the disk.
    """

    def __init__(
        self,
        workspace: Workspace,
        inodes: Inodes,
        limit: int | None = None,
        *,
        places: Places | None = None,
        shared: bool = False,
    ) -> None:
        """Open nothing yet: the workspace directory may not be there.

        Args:
            places: where the jobs outside of the workspace are.
            shared: others than the user of this process may look into the mount. Then such a job's directory shows no
                rights to those who may not search the directories that lead to it.
            limit: directory descriptors to keep; default: a quarter of what the process may have, at most 4096.
        """
        self._workspace = workspace
        self.places = Places() if places is None else places
        self._shared = shared
        self._inodes = inodes
        self._limit = max(1, min(DESCRIPTORS_LIMIT, limit_of_descriptors() // 4)) if limit is None else limit
        self.room = Room()
        self._lock = threading.Lock()
        self._workspace_found: tuple[Descriptor, int, int] | None = None  # with st_ino and st_dev
        self._cache: OrderedDict[Inode, Descriptor] = OrderedDict()  # least recently used first

    @property
    def workspace_path(self) -> str:
        """Where the workspace directory is, if it is there."""
        return self._workspace.path

    def workspace(self) -> Descriptor:
        """Give the directory that the workspace's path leads to now: it may have been replaced or mounted over.

        Raises:
            FileNotFoundError: it is not there (yet).
        """
        return self.found_workspace()[0]

    def found_workspace(self) -> tuple[Descriptor, os.stat_result]:
        """Give what ``workspace`` gives, and its attributes.

        Complexity: one system call.
        """
        known = self._workspace_found
        if known is not None:
            with contextlib.suppress(FileNotFoundError):
                found = os.stat(self._workspace.path)
                if (found.st_ino, found.st_dev) == known[1:]:  # of what is open, so never another's number
                    return known[0], found
        descriptor = Descriptor(self._workspace.open_dir())
        found = os.fstat(descriptor.fd)
        with self._lock:
            self._workspace_found = descriptor, found.st_ino, found.st_dev
        return descriptor, found

    def above(self, job: JobId) -> tuple[Descriptor, str]:
        """Give the directory that the directory of *job* is in, and its name there.

        Raises:
            FileNotFoundError: it is not there (yet).
            OSError: it is not to be reached.
        """
        if self.places.owns(job):
            fd, name = self.places.open_above(job)
            return Descriptor(fd), name
        return self.workspace(), job

    def job_stat(self, job: JobId) -> os.stat_result | None:
        """Give the attributes of the directory of *job*; None if there is none."""
        try:
            above, name = self.above(job)
            found = os.stat(name, dir_fd=above.fd, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return found if stat.S_ISDIR(found.st_mode) else None

    def shown(self, job: JobId, found: os.stat_result) -> os.stat_result:
        """Give what may be shown of the directory of *job*, which is as *found*.

        Raises:
            OSError: the way to it is gone.
        """
        location = self.places.location(job) if self._shared else None
        if location is None:
            return found
        base, directory = os.path.realpath(location.base), os.path.realpath(os.path.dirname(location.path))
        to_workspace = os.path.join(os.path.realpath(os.path.dirname(self._workspace.path)), "")
        # Past those that lead to the workspace, too, a mount leads anyway.
        while len(directory) >= len(base) or not to_workspace.startswith(os.path.join(directory, "")):
            found = attributes.within(found, os.stat(directory))
            if directory == "/":
                break
            directory = os.path.dirname(directory)
        return found

    def directory(self, node: DiskDirectory) -> Descriptor:
        """Give a descriptor (O_PATH) of the directory *node*.

        Raises:
            FsError: ESTALE if its path leads to something else now.
            OSError: ENOENT if it is gone; or what opening it gave.

        Complexity: O(1) if it was used lately, else one system call for each level that was not.
        """
        return node.pin or self._cached(node.inode) or self._open(node)

    def listed(self, node: DiskDirectory) -> tuple[Descriptor, os.stat_result]:
        """Open the directory *node* for reading; nobody else moves the reading position. Gives its attributes, too.

        Raises:
            OSError, FsError: as ``directory``; EACCES.

        Complexity: as ``directory``. What that would open and keep is this.
        """
        known = node.pin or self._cached(node.inode)
        if known is not None:  # by a path, as this asks for no more than the right to read
            descriptor = Descriptor(os.open(known.path, os.O_RDONLY | os.O_DIRECTORY))
            return descriptor, os.fstat(descriptor.fd)
        if node.job is not None:
            above, name = self.above(node.job)
        else:
            parent = self._inodes.get(node.parent)
            if not isinstance(parent, DiskDirectory):
                raise FsError(errno.ESTALE)
            above, name = self.directory(parent), node.name
        return self._open_directory(above, name, node, _LISTED)

    def entry(self, parent: DiskDirectory, name: str) -> Descriptor:
        """Give a descriptor (O_PATH) of whatever *name* is in *parent*; a symbolic link itself.

        Raises:
            OSError: ENOENT if there is no such name.
        """
        directory = self.directory(parent)
        return Descriptor(os.open(name, _ANYTHING, dir_fd=directory.fd))

    def node(self, node: DiskDirectory | File) -> Descriptor:
        """Give a descriptor of *node*, by handle, pin or name; O_PATH unless it is a handle's.

        Raises:
            FsError: ESTALE if no name that is known leads to it any more.
        """
        if isinstance(node, DiskDirectory):
            return self.directory(node)
        held = self._held(node)
        if held is not None:
            return held
        for parent, name in self._locations(node):
            try:
                descriptor = self.entry(parent, name)
            except (OSError, FsError) as error:
                if _is_out_of_room(error):
                    raise
                continue
            if is_same(node, os.fstat(descriptor.fd)):
                return descriptor
        raise FsError(errno.ESTALE)

    def opened(self, node: File, flags: int) -> tuple[Descriptor, os.stat_result] | None:
        """Open *node* by the name that led to it last, and see afterwards whether it is *node*.

        Takes a third of the system calls of opening what ``node`` gives. Only to read: what else may have got that name
        by others is opened, too, without waiting, and closed again.

        Returns:
            A descriptor and the attributes; None if that did not do, which says nothing of other ways.
        """
        try:
            inode, name = list(node.locations)[-1]
            parent = self._inodes.get(inode)
            assert isinstance(parent, DiskDirectory)
            directory = self.directory(parent)
            descriptor = Descriptor(os.open(name, flags | _HARMLESS, dir_fd=directory.fd))
        except (OSError, FsError, IndexError):
            return None
        found = os.fstat(descriptor.fd)
        return (descriptor, found) if is_same(node, found) else None

    def stat(self, node: DiskDirectory | File) -> os.stat_result:
        """Give the attributes of *node*; cheaper than ``node`` and fstat.

        Raises:
            FsError: ESTALE if no name that is known leads to it any more, ENOENT if it is a directory that is gone.
            OSError: ENOENT too.
        """
        if isinstance(node, DiskDirectory):
            directory = self.directory(node)
            found = os.fstat(directory.fd)
            if found.st_nlink == 0 and node.pin is None and not node.opens:
                raise FsError(errno.ESTALE if self._is_replaced(node) else errno.ENOENT)
            return found
        held = self._held(node)
        if held is not None:
            return os.fstat(held.fd)
        at = self.find(node)
        if at is None:
            raise FsError(errno.ESTALE)
        return at

    def xattr(self, node: DiskDirectory | File, name: str) -> bytes:
        """Give the extended attribute *name* of *node*; cheaper than ``node`` and getxattr.

        Raises:
            FsError: ESTALE if no name that is known leads to it any more.
            OSError: ENODATA and so on.
        """
        if isinstance(node, DiskDirectory) or node.pin is not None:
            held = self.node(node)
            return os.getxattr(held.path, name)
        with contextlib.suppress(IndexError):
            held = node.descriptors[-1]
            return os.getxattr(held.fd, name)
        for parent, entry in self._locations(node):
            failure: OSError | None = None
            try:
                directory = self.directory(parent)
                try:
                    value = os.getxattr(f"{directory.path}/{entry}", name, follow_symlinks=False)
                except OSError as error:
                    failure = error
                found = os.stat(entry, dir_fd=directory.fd, follow_symlinks=False)
            except (OSError, FsError) as error:
                if _is_out_of_room(error):
                    raise
                continue
            if is_same(node, found):
                if failure is not None:
                    try:
                        raise failure
                    finally:
                        failure = None  # lest it and this frame keep each other, and the directory open
                return value
        raise FsError(errno.ESTALE)

    def _is_replaced(self, node: DiskDirectory) -> bool:
        """Tell whether in the place of a job directory that is gone there is another, for which the kernel may ask."""
        return node.job is not None and self.job_stat(node.job) is not None

    def find(self, node: File, besides: tuple[Inode, str] | None = None) -> os.stat_result | None:
        """Give the attributes of the file *node* by one of its names; None if none leads to it any more.

        Args:
            besides: a name not to try.
        """
        for parent, name in self._locations(node, besides):
            try:
                directory = self.directory(parent)
                found = os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
            except (OSError, FsError) as error:
                if _is_out_of_room(error):
                    raise
                continue
            if is_same(node, found):
                return found
        return None

    def close(self) -> None:
        """Let go of all descriptors. What is asked for afterwards is opened again."""
        with self._lock:  # what is closed is out of everybody's reach by then
            before, self._cache = self._cache, OrderedDict()
            self._workspace_found = None
        before.clear()

    def discard(self, inode: Inode) -> Descriptor | None:
        """Give and forget the descriptor of a directory, which is opened again when it is asked for."""
        with self._lock:  # taken with the node table's lock held, so nothing may be locked within
            return self._cache.pop(inode, None)

    @staticmethod
    def _held(node: File) -> Descriptor | None:
        try:
            return node.descriptors[-1]
        except IndexError:
            return node.pin

    def _locations(self, node: File, besides: tuple[Inode, str] | None = None) -> list[tuple[DiskDirectory, str]]:
        found: list[tuple[DiskDirectory, str]] = []
        for location in reversed(list(node.locations)):
            if location != besides:
                try:
                    parent = self._inodes.get(location[0])
                except FsError:  # forgotten a moment ago by another thread
                    continue
                if isinstance(parent, DiskDirectory):
                    found.append((parent, location[1]))
        return found

    def _cached(self, inode: Inode) -> Descriptor | None:
        try:  # without the lock: each of the two is atomic, and between them another thread may take it out
            self._cache.move_to_end(inode)
            return self._cache[inode]
        except KeyError:
            return None

    def _open(self, node: DiskDirectory) -> Descriptor:
        """Open *node* from the nearest directory above it that is open."""
        chain = [node]
        found: Descriptor | None = None
        first = ""
        while found is None:
            lowest = chain[-1]
            if lowest.job is not None:
                found, first = self.above(lowest.job)
                break
            parent = self._inodes.get(lowest.parent)
            if not isinstance(parent, DiskDirectory):
                raise FsError(errno.ESTALE)
            found = parent.pin or self._cached(parent.inode)
            if found is None:
                chain.append(parent)
        for step in reversed(chain):
            found = self._open_directory(found, first or step.name, step, _DIRECTORY)[0]
            first = ""
        return found

    def _open_directory(
        self, above: Descriptor, name: str, node: DiskDirectory, flags: int
    ) -> tuple[Descriptor, os.stat_result]:
        try:
            descriptor = Descriptor(os.open(name, flags, dir_fd=above.fd))
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                raise FsError(errno.ESTALE) from error
            raise
        found = os.fstat(descriptor.fd)
        if not is_same(node, found):
            raise FsError(errno.ESTALE)
        evicted: list[Descriptor | None] = []
        with self._lock:
            evicted.append(self._cache.get(node.inode))
            self._cache[node.inode] = descriptor
            limit = self._limit
            if self.room.took(descriptor.fd):  # where files leave little room, two go for each that comes
                limit = max(1, min(limit, len(self._cache) - 2))
            while len(self._cache) > limit:
                evicted.append(self._cache.popitem(last=False)[1])
        return descriptor, found


def _is_out_of_room(error: OSError | FsError) -> bool:
    """Tell whether *error* says nothing of the file: that one is there all the same, and must not seem gone."""
    return error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
