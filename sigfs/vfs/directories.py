"""Open directories: what they list.

Owned here: handles of directories, and whether the kernel may keep what one lists. ``listings`` has the listings.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from sigfs.vfs import freshness
from sigfs.vfs.backing import Descriptor
from sigfs.vfs.credentials import as_reader
from sigfs.vfs.files import OpenFiles
from sigfs.vfs.listings import Listing, Listings
from sigfs.vfs.nodes import DiskDirectory, File, TreeDirectory, VirtualFile
from sigfs.vfs.types import FsError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sigfs.vfs.disk import Disk
    from sigfs.vfs.freshness import Stamp
    from sigfs.vfs.listings import Entry, Kept
    from sigfs.vfs.nodes import Directory
    from sigfs.vfs.readonly import ReadOnly
    from sigfs.vfs.statepoints import StatePointFiles
    from sigfs.vfs.types import Caller, DirEntry, FileHandle, Inode, ListingCache
    from sigfs.vfs.views import Views

_FEW_NAMES: Final = 32
"""Up to so many names are as soon looked up one by one as listed with their attributes."""


@dataclass(slots=True, eq=False)
class _OpenDirectory:
    """An open directory.

    Attributes:
        descriptor: of a directory on disk, opened for reading; None for a virtual one.
        reading: held by who reads with it: a reading position is one for all.
        kept: the listing that the kernel may cache; None if it may not.
        may_keep: it may read what it has cached.
        listing: what ``readdir`` reads; None before the first call.
        begun_by: the latest requests for which that was read anew; changed with ``lock`` held, as ``listing``.
    """

    node: Directory
    descriptor: Descriptor | None
    kept: Kept | None
    may_keep: bool
    listing: Listing | None = None
    reading: threading.Lock = field(default_factory=threading.Lock)
    begun_by: deque[int] = field(default_factory=lambda: deque(maxlen=4))
    lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, made: Listing, request: int | None) -> Listing:
        """Have *made* read from now on, unless another thread has begun with one for the same request; gives that."""
        with self.lock:
            if self.listing is None or request is None or request not in self.begun_by:
                self.listing = made
                if request is not None:
                    self.begun_by.append(request)
            return self.listing


class OpenDirectories(OpenFiles):
    """The open directories of a mount, by handle, beside its open files. Raises as those do."""

    def __init__(
        self,
        disk: Disk,
        views: Views,
        statepoints: StatePointFiles,
        *,
        read_only: ReadOnly,
        trusts_times: bool = True,
        keeps_data: bool = False,
    ) -> None:
        """Begin with nothing open.

        Args:
            trusts_times: the disk below and this process have the same clock, so that what changed more than a moment
                ago cannot change again without its times telling.
            keeps_data: as in ``OpenFiles``.
        """
        super().__init__(disk.inodes, room=disk.backing.room, read_only=read_only, keeps_data=keeps_data)
        self._disk = disk
        self._backing = disk.backing
        self._views = views
        self._statepoints = statepoints
        self._read_only = read_only
        self._trusts_times = trusts_times
        self._listings = Listings()
        self._directories: dict[FileHandle, _OpenDirectory] = {}  # an entry dies with releasedir
        self._inodes.on_drop = self._dropped

    def opendir(self, inode: Inode, caller: Caller | None = None) -> FileHandle:
        """Open a directory; EACCES and the like are reported here."""
        node = self._directory(inode)
        descriptor = None
        if isinstance(node, DiskDirectory):
            self._room.require()
            self._statepoints.show(node, caller)
            if caller is not None and not caller.by_acl:
                self._backing.directory(node)  # the way there is the server's
            with as_reader(caller):
                descriptor, found = self._backing.listed(node)
            self._room.took(descriptor.fd)
            stamp = self._stamp_of(found)
        else:
            stamp = self._views.listing_stamp(node)
        kept, may_keep = (None, False) if stamp is None else self._listings.opened(inode, stamp, self._is_fresh)
        handle = self._new_handle()
        self._inodes.opened(node)
        self._directories[handle] = _OpenDirectory(node, descriptor, kept, may_keep)
        return handle

    def listing_cache(self, handle: FileHandle) -> ListingCache:
        """Tell what the kernel may do with the listing of an open directory."""
        directory = self._open_directory(handle)
        return "none" if directory.kept is None else "keep" if directory.may_keep else "fill"

    def readdir(self, handle: FileHandle, cookie: int, request: int | None = None) -> Iterator[DirEntry]:
        """List a directory, without "." and "..".

        Args:
            cookie: where to go on: that of the last entry taken. 0 reads the directory anew; any other goes on in
                what was read then, so that a change in between never skips or repeats an entry (I5).
            request: the transport's number of the request. Where two threads answer the same one, it reads the
                directory anew once: whichever answer is taken, it goes on in the same listing.

        Returns:
            The entries from there on, made when they are asked for. ``ino`` is 0 in a virtual directory.
        """
        directory = self._open_directory(handle)
        listing = directory.listing
        if listing is None or (cookie == 0 and request not in directory.begun_by):
            listing = directory.begin(self._begin(directory, cookie), request)
        return listing.starting(cookie)

    def _begin(self, directory: _OpenDirectory, cookie: int) -> Listing:
        kept = directory.kept
        if kept is not None and cookie and kept.listing is not None:  # the kernel has lost what it had
            return kept.listing
        if kept is not None and kept.stamp == self._listing_stamp(directory.node, directory.descriptor):
            return kept.listing or kept.share(self._list(directory))
        return self._list(directory)

    def st_ino_of(self, handle: FileHandle) -> int:
        """Give the number that ``stat`` shows of an open directory."""
        node = self._open_directory(handle).node
        return node.st_ino if isinstance(node, TreeDirectory) else node.ino

    def releasedir(self, handle: FileHandle) -> None:
        """Close the directory *handle*."""
        try:
            directory = self._directories.pop(handle)
        except KeyError:
            raise FsError(errno.EBADF) from None
        if directory.kept is not None:
            self._listings.released(directory.node.inode, directory.kept)
        self._inodes.closed(directory.node)

    def fsyncdir(self, handle: FileHandle, datasync: bool) -> None:
        """Bring a directory's names to stable storage; nothing to do for a virtual one."""
        directory = self._open_directory(handle)
        if directory.descriptor is not None:
            (os.fdatasync if datasync else os.fsync)(directory.descriptor.fd)

    def inode_of(self, handle: FileHandle) -> Inode:
        """Give the inode of an open file or directory."""
        directory = self._directories.get(handle)
        return self._file(handle).node.inode if directory is None else directory.node.inode

    def _directory(self, inode: Inode) -> Directory:
        node = self._inodes.get(inode)
        if isinstance(node, (File, VirtualFile)):
            raise FsError(errno.ENOTDIR)
        return node

    def _open_directory(self, handle: FileHandle) -> _OpenDirectory:
        try:
            return self._directories[handle]
        except KeyError:
            raise FsError(errno.EBADF) from None

    def _listing_stamp(self, node: Directory, descriptor: Descriptor | None) -> Stamp | None:
        """Name the state of a directory's listing; None if the kernel must not keep it.

        That is where it would not be told of a change, or the times of a directory on disk might not tell of one.
        """
        if isinstance(node, TreeDirectory):
            return self._views.listing_stamp(node)
        return None if descriptor is None else self._stamp_of(os.fstat(descriptor.fd))

    def _stamp_of(self, found: os.stat_result) -> Stamp | None:
        return freshness.stamp(found) if self._trusts_times and freshness.is_quiet(found) else None

    def _is_fresh(self, kept: Kept) -> bool:
        """Tell whether it pays to have the kernel read its copy of a listing.

        Where it has to look the names up again it is quicker to list them anew, attributes included.
        """
        coherence = self._disk.coherence
        return (
            kept.count <= _FEW_NAMES
            or len(kept.stamp) == 1  # a virtual directory's
            or time.monotonic() < kept.filled_s + self._disk.entry_timeout_s / 2  # lest they expire while it is read
            or (coherence is not None and coherence.follows)
        )

    def _dropped(self, inode: Inode) -> Descriptor | None:
        """Follow that a directory's node was dropped, with the lock of the nodes held; give what is to be closed."""
        self._listings.drop(inode)
        if self._disk.coherence is not None:
            self._disk.coherence.dropped(inode)
        return self._backing.discard(inode)

    def _list(self, directory: _OpenDirectory) -> Listing:
        if isinstance(directory.node, TreeDirectory):
            return self._views.listing(directory.node)
        assert directory.descriptor is not None
        if directory.reading.acquire(blocking=False):
            try:
                return Listing(_entries(directory.descriptor.fd))
            finally:
                directory.reading.release()
        own = Descriptor(os.open(directory.descriptor.path, os.O_RDONLY | os.O_DIRECTORY))
        return Listing(_entries(own.fd))


def _entries(fd: int) -> list[Entry]:
    """List the directory *fd* from where it stands, its beginning, to which it is put back."""
    with os.scandir(fd) as found:
        return [(entry.name, _kind(entry), entry.inode()) for entry in found]


def _kind(entry: os.DirEntry[str]) -> int:
    """Give the S_IFMT part of an entry's mode; without a system call for the usual kinds."""
    try:
        if entry.is_dir(follow_symlinks=False):
            return stat.S_IFDIR
        if entry.is_file(follow_symlinks=False):
            return stat.S_IFREG
        if entry.is_symlink():
            return stat.S_IFLNK
        return stat.S_IFMT(entry.stat(follow_symlinks=False).st_mode)
    except FileNotFoundError:  # removed a moment ago
        return 0
