"""``Operations``: what a mounted project does when asked, in POSIX terms and independent of any FUSE binding.

Owned here: which request means what in a virtual directory and what in a job directory. ``inodes`` keeps the nodes,
``invalidation`` says what a change makes of them, ``backing`` keeps the way to the disk, ``files`` the calls on open
files. Called by a transport, from any number of threads;
no lock is held across a system call, a call of the tree, or a notification (I6).

The server that runs this must have a umask of 0: modes are made exact here.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import logging
import os
import stat
import time
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NamedTuple

from sigfs.errors import QueryTooCostly
from sigfs.index.lines import canonical
from sigfs.model.files import READ_FLAGS
from sigfs.model.workspace import STATEPOINT_FILE
from sigfs.query import format_path, format_text
from sigfs.tree import PAGES, SPECIAL, TOP, VIEWS, JobNode, SpecialNode
from sigfs.vfs import attributes, freshness, syscalls
from sigfs.vfs.absent import Absent
from sigfs.vfs.backing import Backing, Descriptor
from sigfs.vfs.changes import Changes
from sigfs.vfs.coherence import WORKSPACE, Coherence
from sigfs.vfs.credentials import as_caller, as_reader
from sigfs.vfs.files import OpenFiles
from sigfs.vfs.inodes import DiskDirectory, File, Inodes, TreeDirectory, VirtualFile, tree_ino
from sigfs.vfs.invalidation import Invalidation
from sigfs.vfs.listings import Listing, Listings
from sigfs.vfs.recent import Recent
from sigfs.vfs.resolved import Resolved
from sigfs.vfs.statepoints import StatePointFiles
from sigfs.vfs.types import ROOT, Attrs, Caller, DirEntry, FsError, Inode, ListingCache
from sigfs.vfs.virtual import Pages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from sigfs.index import Index
    from sigfs.model.types import Change, JobId
    from sigfs.model.workspace import Workspace
    from sigfs.tree import Tree
    from sigfs.vfs.coherence import Moment
    from sigfs.vfs.freshness import Stamp
    from sigfs.vfs.inodes import Directory, Node
    from sigfs.vfs.listings import Entry, Kept
    from sigfs.vfs.locks import LockOwner
    from sigfs.vfs.types import FileHandle, Notifier, SetAttr
    from sigfs.vfs.virtual import Content

log = logging.getLogger(__name__)

# What of open(2)'s flags reaches the disk. Not O_CREAT and O_EXCL (decided here), O_DIRECT (our buffers are not
# aligned), O_NOATIME (needs the owner), O_NONBLOCK, O_NOCTTY (regular files only).
_OPEN_FLAGS: Final = os.O_ACCMODE | os.O_APPEND | os.O_TRUNC | os.O_SYNC | os.O_DSYNC

_FMODE_EXEC: Final = 0o40
"""Kernel-internal, in the flags of an open on behalf of execve(2)."""

_TREE_TIMEOUT_S: Final = 3600.0
"""How long the kernel may keep a name of a virtual directory, about which it is told when that leads elsewhere."""

_TREE_ATTR_TIMEOUT_S: Final = 60.0
"""How long it may keep the attributes of a virtual directory where the workspace directory is watched, whose owner and
permissions they show. Not for ever: that something else is mounted over the workspace, nobody says."""

_FEW_NAMES: Final = 32
"""Up to so many names are as soon looked up one by one as listed with their attributes."""

_OURS: Final = "user.sigfs."
"""What extended attributes of directories begin with that are made up here."""


@dataclass(slots=True, eq=False)
class _OpenDirectory:
    """An open directory.

    Attributes:
        descriptor: of a directory on disk, opened for reading; None for a virtual one.
        kept: the listing that the kernel may cache; None if it may not.
        may_keep: it may read what it has cached.
        listing: what ``readdir`` reads; None before the first call.
    """

    node: Directory
    descriptor: Descriptor | None
    kept: Kept | None
    may_keep: bool
    listing: Listing | None = None


class _Below(NamedTuple):
    """What virtual directories show of the workspace's directory.

    Attributes:
        status: None while it is not there.
        acl: its access ACL, or the errno with which asking for that failed.
        as_of: when that was so, as ``Coherence.events`` says; None if it is not watched.
    """

    status: os.stat_result | None
    acl: bytes | int
    as_of: Moment | None = None


class _NobodyToTell:
    """The notifier before a transport is attached."""

    def invalidate_entry(self, parent: Inode, name: str) -> None:
        """Do nothing."""

    def invalidate_inode(self, inode: Inode) -> None:
        """Do nothing."""

    def invalidate_attributes(self, inode: Inode) -> None:
        """Do nothing."""


class Operations(OpenFiles):
    """One mounted view of one project. Every method may be called from several threads at once.

    A request raises ``FsError``, or the ``OSError`` of the disk below. An inode that the kernel does not hold is
    ESTALE; a directory request on something else is ENOTDIR; every change of a virtual directory or of its entries
    but mkdir, rmdir and rename is EPERM; every change at all is EROFS in a read-only mount. A name is one component:
    never empty, ".", ".." or with "/" or NUL in it (EINVAL).

    ``caller`` is who asks (None: this process): what a server that runs as root changes for somebody else, the disk
    below lets it do as that user only (``credentials``).

    What changes below by other ways than this mount, or inside the mount by another path to the same job, is seen at
    once where the kernel asks, and after ``entry_timeout_s`` or ``attr_timeout_s`` where it has cached an answer. Names
    of virtual directories it may keep for long, if it can be told when ``apply`` makes them untrue.
    """

    def __init__(
        self,
        tree: Tree,
        index: Index,
        workspace: Workspace,
        *,
        read_only: bool = False,
        entry_timeout_s: float = 1.0,
        attr_timeout_s: float = 1.0,
        trusts_times: bool = True,
        keeps_data: bool = False,
    ) -> None:
        """Wire the parts. Nothing is opened yet; the workspace directory need not exist.

        Args:
            entry_timeout_s: how long the kernel may keep a name that also depends on the disk, or on documents.
            attr_timeout_s: how long it may keep attributes; those of a virtual directory show the permissions of the
                workspace directory.
            trusts_times: the disk below and this process have the same clock, so that what changed more than a moment
                ago cannot change again without its times telling.
            keeps_data: as in ``OpenFiles``.
        """
        nodes = Inodes(tree.root, reads_documents=tree.reads_documents(tree.root))
        super().__init__(nodes, read_only=read_only, keeps_data=keeps_data)
        self._tree = tree
        self._index = index
        self._workspace = workspace
        self._refresh_documents: Callable[[], None] = _nothing
        self._watch_status: Callable[[], Mapping[str, object]] = dict
        self._hears_of_jobs: Callable[[], bool] = _never
        self._transport_statistics: Callable[[], Mapping[str, object]] = dict
        self._documents_asked = False
        self._read_only = read_only
        self._this_process = Caller(os.geteuid(), os.getegid(), os.getpid())
        self._entry_timeout_s = entry_timeout_s
        self._attr_timeout_s = attr_timeout_s
        self._notifier: Notifier = _NobodyToTell()
        self._can_notify = False
        self._invalidation = Invalidation(tree, index, self._inodes)
        self._notifications = 0
        self._coherence: Coherence | None = None  # from ``follow`` on
        self._watched_entry_timeout_s = entry_timeout_s
        self._watched_attr_timeout_s = attr_timeout_s
        self._watched_workspace: Descriptor | None = None  # what was watched last as the workspace
        self._absent = Absent()
        self._listings = Listings()
        self._is_changing = False  # the index may know more than the nodes' ``changed_ns``; set with the changes' lock
        self._trusts_times = trusts_times
        self._backing = Backing(workspace, self._inodes)
        self._inodes.on_drop = self._dropped
        self._resolved = Resolved()
        self._statepoints = StatePointFiles(workspace, self._inodes, self._backing)
        self._changes = Changes(
            tree, index, workspace, self._inodes, self._backing, self._statepoints, self._take, self._tell_changed
        )
        self._directories: dict[FileHandle, _OpenDirectory] = {}  # an entry dies with releasedir
        self._below = Recent(self._look_below)
        found = self._below.get().status
        self._pages = Pages(index, time.time_ns() if found is None else found.st_mtime_ns)

    # Life

    def attach(
        self,
        notifier: Notifier,
        can_notify: bool,
        statistics: Callable[[], Mapping[str, object]] = dict,
    ) -> None:
        """Say whom to tell of changes. To be called once, before the first request.

        Args:
            can_notify: whether *notifier* reaches the kernel; if not, tree nodes get no cache time.
            statistics: describes what the transport does, for ``status``.
        """
        self._transport_statistics = statistics
        self._notifier = notifier
        self._can_notify = can_notify
        if can_notify:
            self._invalidation.begin()

    def attach_documents(self, refresh: Callable[[], None]) -> None:
        """Say how to have the documents in the index as they are now, as far as that is possible.

        Args:
            refresh: called with no lock held before a request is answered that depends on documents. It gives what has
                changed to ``apply``.
        """
        self._refresh_documents = refresh

    def attach_status(self, watch: Callable[[], Mapping[str, object]]) -> None:
        """Say how to describe the way in which changes below are noticed, for ``status``."""
        self._watch_status = watch

    def attach_events(self, hears_of_jobs: Callable[[], bool]) -> None:
        """Say how to find out whether ``apply`` is told at once of jobs that come and go. Asked again and again."""
        self._hears_of_jobs = hears_of_jobs

    def follow(self, coherence: Coherence, entry_timeout_s: float, attr_timeout_s: float) -> None:
        """Have the directories on disk that the kernel holds watched from now on, so that it may believe more.

        Args:
            coherence: started and closed by the caller, the latter before ``close``.
            entry_timeout_s, attr_timeout_s: how long the kernel may keep what it would be told of at once.
        """
        self._watched_entry_timeout_s = entry_timeout_s
        self._watched_attr_timeout_s = attr_timeout_s
        self._inodes.on_name = coherence.named
        self._coherence = coherence
        self._below = Recent(self._look_below)  # which has the workspace watched first

    def coherence(self, notifier: Notifier, limit: int | None) -> Coherence:
        """Make what ``follow`` takes. *limit*: directories to watch at most, as for ``Coherence``."""
        return Coherence(self._inodes, self._backing, notifier, limit=limit)

    def apply(self, changes: Sequence[Change], *, known_only: bool = False) -> None:
        """Take *changes* into the index, then tell the kernel what it must not believe any longer.

        Args:
            known_only: as in ``Index.apply``.

        Any thread may call it that holds no lock which a notifier may take; the notifier only queues (I6). It waits
        while a request changes a job.

        Complexity: that of ``Index.apply`` and of ``Invalidation.after``.
        """
        with self._changes.lock:
            self._take(self._changes.as_they_are(changes), known_only=known_only)

    def _take(self, changes: Sequence[Change], *, known_only: bool = False) -> None:
        self._is_changing = True
        try:
            delta = self._pages.apply(changes, known_only=known_only)
            if not delta.jobs or not self._can_notify:
                return
            self._tell(self._absent.take())
            stale = self._invalidation.after(delta)
            for inode in stale.inodes:
                self._tell_changed(inode)
            self._tell(list(stale.entries))
        finally:
            self._is_changing = False

    def close(self) -> None:
        """Close every descriptor, open files and directories included. To be called after the last request."""
        for handle in list(self._files):
            self.release(handle)
        for handle in list(self._directories):
            self.releasedir(handle)
        self._locks.close()
        self._inodes.close()
        self._backing.close()

    def check(self) -> None:
        """Assert that the books agree: counts, handles, and that a node is found where it is kept (I3, I4).

        Only meaningful while no other thread is in a request.
        """
        opens = Counter(file.node.inode for file in self._files.values())
        opens.update(directory.node.inode for directory in self._directories.values())
        self._inodes.check(opens)
        self._listings.check()
        self._locks.check({handle: file.node.inode for handle, file in self._files.items()})
        for file in self._files.values():
            if not isinstance(file.node, File):
                assert self._inodes.get(file.node.inode) is file.node
                continue
            assert file.descriptor in file.node.descriptors
            assert self._inodes.get(file.node.inode) is file.node
            held = os.fstat(file.descriptor.fd)
            assert (held.st_dev, held.st_ino) == (file.node.dev, file.node.ino)

    def statistics(self) -> dict[str, int]:
        """Count what is held at this moment, and since the beginning: what the kernel has been told of the tree, and
        how often all that it holds had to be looked at for that.
        """
        return {
            "inodes": len(self._inodes),
            "open_files": len(self._files),
            "open_directories": len(self._directories),
            "locks": len(self._locks),
            "generation": self._index.generation,
            "jobs": len(self._index),
            "notifications": self._notifications,
            "full_passes": self._invalidation.full_passes,
            "new_directories": len(self._changes),
        }

    def status(self) -> dict[str, object]:
        """Say how the mount is: what ``user.sigfs.status`` of the root and ``.sigfs/status.json`` tell.

        The keys of ``statistics``, with ``jobs`` those of the view; ``project_jobs``, all there are; ``layout``,
        ``filter`` (as text) and ``read_only``; ``watch``, how changes below are noticed, ``coherence``, how those of
        files in use are; ``requests`` and ``passthrough`` of the transport.
        """
        view = self._tree.view
        self._bring_documents(self._inodes.root)
        with _bounded(), self._index.reading() as table:
            jobs, project_jobs = len(self._tree.jobs(self._tree.root, table)), len(table)
        said: dict[str, object] = {**self.statistics(), "jobs": jobs, "project_jobs": project_jobs}
        with contextlib.suppress(ValueError):  # a condition that only Python can say
            said["filter"] = format_text(view.filter)
        coherence = {} if self._coherence is None else self._coherence.status()
        said |= {"layout": view.layout, "read_only": self._read_only}
        said |= {"watch": self._watch_status(), "coherence": coherence}
        return {**said, **self._transport_statistics()}

    # Names

    def lookup(self, parent: Inode, name: str, caller: Caller) -> Attrs | None:
        """Find *name* in directory *parent* and take one kernel reference to it.

        None is an answer, not an error: there is no such name, and no reference was taken.

        Complexity: in a virtual directory that of ``Tree.child``; on disk one system call.
        Source: FUSE protocol, LOOKUP and FORGET; I3.
        """
        _check_name(name)
        node = self._directory(parent)
        if isinstance(node, TreeDirectory):
            return self._lookup_in_tree(node, name, caller)
        if name == STATEPOINT_FILE:
            if self._statepoints.is_hidden(node, name, caller):
                return None
            if (scratch := self._statepoints.awaited(node, name, caller)) is not None:
                return self._scratch_attrs(scratch)
        events = self._events_in(parent)
        try:
            directory = self._backing.directory(node)
            with as_reader(caller):
                found = os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None
        attrs = self._entered(parent, name, found)
        return attrs if events is None else self._believed(attrs, (parent, name), events)

    def absence_timeout_s(self, parent: Inode, name: str) -> float:
        """Tell how long the kernel may believe that there is no *name* in *parent*, as ``lookup`` has just said."""
        return _TREE_TIMEOUT_S if (parent, name) in self._absent else 0.0

    def _name_of(self, node: DiskDirectory | File) -> tuple[Inode, str]:
        """Give a directory that *node* is in, in the words of ``Coherence``, and its name there; -1 if unknown."""
        if isinstance(node, DiskDirectory):
            return (node.parent, node.name) if node.job is None else (WORKSPACE, node.job)
        return next(reversed(list(node.locations)), (Inode(-1), ""))

    def _events_in(self, parent: Inode) -> Moment | None:
        """Ask ``Coherence.events``, before something in a directory is looked at; None: nobody follows."""
        coherence = self._coherence
        return None if coherence is None or not coherence.follows else coherence.events(parent)

    def _believed(self, attrs: Attrs, at: tuple[Inode, str], events: Moment) -> Attrs:
        """Have something on disk watched, and let the kernel believe for long what it would be told of at once.

        Args:
            attrs: the answer.
            at: a directory that it is in, and its name there, as ``_name_of`` gives it.
            events: as ``_events_in`` said before it was looked at.
        """
        coherence, (parent, name) = self._coherence, at
        assert coherence is not None
        node = self._inodes.get(attrs.inode)
        if isinstance(node, DiskDirectory):
            if not coherence.watches(node.inode):
                with contextlib.suppress(OSError, FsError):  # it is gone
                    directory = self._backing.directory(node)
                    if coherence.watch(node.inode, directory.fd):
                        attrs = attrs._replace(stat=os.fstat(directory.fd))
            tells = coherence.watches(node.inode)
        else:  # of another name of the file nobody may be told
            tells = attrs.stat.st_nlink == 1 and coherence.watches(parent)
        coherence.named(parent, name, node.inode)
        if coherence.events(parent) != events:
            return attrs
        if tells:
            attrs = attrs._replace(attr_timeout_s=self._watched_attr_timeout_s)
        if parent != WORKSPACE and coherence.watches(parent):
            attrs = attrs._replace(entry_timeout_s=self._watched_entry_timeout_s)
        return attrs

    def _may_be_kept_absent(self, entry: tuple[Inode, str], generation: int) -> None:
        """Note that a name leads nowhere, which was so in the given generation of the index."""
        oldest = self._absent.add(entry)
        if oldest is not None:
            self._tell([oldest])
        if self._index.generation != generation:
            self._absent.discard(entry)

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
        return self._made(parent, directory, name, latest)

    def mkdir(self, parent: Inode, name: str, mode: int, caller: Caller) -> Attrs:
        """Make a directory, and take one reference to it. In a virtual directory: see ``Changes.mkdir``."""
        _check_name(name)
        node = self._directory(parent)
        if isinstance(node, TreeDirectory):
            return self._mkdir_in_tree(node, name, mode, caller)
        directory = self._changeable(parent, name)
        mode, masked = attributes.creation(directory, mode, caller)
        latest = self._inodes.last
        with as_caller(caller), masked:
            os.mkdir(name, mode, dir_fd=directory.fd)
        return self._made(parent, directory, name, latest)

    def symlink(self, parent: Inode, name: str, target: str, caller: Caller) -> Attrs:
        """Make a symbolic link with any text as its *target*, and take one reference to it."""
        directory = self._changeable(parent, name)
        latest = self._inodes.last
        with as_caller(caller):
            os.symlink(target, name, dir_fd=directory.fd)
        return self._made(parent, directory, name, latest)

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
        return self._disk_attrs(self._inodes.file(new_parent, new_name, found), found)

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
            self._require_view(node, name)
            with _bounded():
                self._changes.rmdir(node, name, caller or self._this_process)
            return
        directory = self._changeable(parent, name)
        removed = _entry(directory, name)
        before = os.fstat(removed.fd)
        with as_caller(caller):
            os.rmdir(name, dir_fd=directory.fd)
        self._inodes.removed(parent, name, _after_removal(removed, before), removed)

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
            self._require_view(source, old_name)
            self._require_view(target, new_name)
            self._absent.discard((new_parent, new_name))  # lest the kernel is told to drop what it moves there
            with _bounded():
                self._changes.rename(source, old_name, target, new_name, flags, caller or self._this_process)
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
        old, new = (old_parent, old_name), (new_parent, new_name)
        self._tell_other_names(self._inodes.known_file(moved), old)
        if replaced is not None:
            found = _after_removal(replaced, before)
            if os.path.samestat(found, moved):
                return  # two names of one file: rename(2) leaves both
            self._tell_other_names(self._inodes.known_file(found), new)
            if flags & syscalls.RENAME_EXCHANGE:
                self._inodes.exchanged(old, new, moved, found)
                return
            self._inodes.removed(*new, found, replaced)
        self._inodes.renamed(old, new, moved)

    def readlink(self, inode: Inode) -> str:
        """Give the target of a symbolic link; EINVAL for anything else."""
        node = self._inodes.get(inode)
        if not isinstance(node, File) or node.kind != stat.S_IFLNK:
            raise FsError(errno.EINVAL)
        link = self._backing.node(node)
        return os.readlink("", dir_fd=link.fd)

    # Attributes

    def getattr(self, inode: Inode, handle: FileHandle | None = None) -> Attrs:
        """Give the attributes of *inode*, also of a file that is unlinked and still open or referenced.

        Raises:
            FsError: ENOENT for a directory that is gone, ESTALE if no known name leads to it any more.
        """
        node = self._inodes.get(inode)
        if isinstance(node, TreeDirectory):
            return self._tree_attrs(node)
        if isinstance(node, VirtualFile):
            return self._page_attrs(node)
        at = self._name_of(node)
        events = self._events_in(at[0])
        if handle is not None and (file := self._files.get(handle)) is not None and file.node is node:
            attrs = self._disk_attrs(node, os.fstat(file.descriptor.fd))
        else:
            attrs = self._disk_attrs(node, self._backing.stat(node))
        return attrs if events is None else self._believed(attrs, at, events)

    def birth_ns(self, inode: Inode, handle: FileHandle | None = None) -> int | None:
        """Give when *inode* was made, in ns since the epoch; None if that is not known. Raises as ``getattr``."""
        node = self._inodes.get(inode)
        if isinstance(node, TreeDirectory | VirtualFile):
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
        assert isinstance(node, DiskDirectory | File)
        file = None if handle is None else self._files.get(handle)
        if changes.size is not None and isinstance(node, File) and (job := self._statepoints.job_of(node)) is not None:
            self._statepoints.resize(job, changes.size, caller)
            changes = replace(changes, size=None)
        if file is not None and file.node is node:
            target = file.descriptor
            attributes.change(target, changes, caller, target.fd if file.writable else None)
        else:
            if changes.size is not None and isinstance(node, File):
                self._require_name(node)
            target = self._backing.node(node)
            writable = None
            if changes.size is not None and isinstance(node, File) and node.kind == stat.S_IFREG and not wait:
                writable = Descriptor(os.open(target.path, os.O_WRONLY | os.O_NONBLOCK))
            attributes.change(target, changes, caller, None if writable is None else writable.fd)
        return self._disk_attrs(node, os.fstat(target.fd))

    def statfs(self, inode: Inode) -> os.statvfs_result:
        """Describe the file system below: that of the workspace for what is virtual."""
        node = self._inodes.get(inode)
        if isinstance(node, DiskDirectory | File):
            target = self._backing.node(node)
        else:
            try:
                target = self._backing.workspace()
            except FileNotFoundError:  # it will be made in the project's directory
                return os.statvfs(os.path.dirname(self._workspace.path))
        return os.statvfs(target.fd)

    def getxattr(self, inode: Inode, name: str) -> bytes:
        """Give the extended attribute *name*; ENODATA if there is none.

        Every directory has ``user.sigfs.count``, the number of its jobs, and ``user.sigfs.query``, what it asks for,
        spelled as a path; a job, and a directory in one, is the query ``id/ID``. A job has ``user.sigfs.id`` and
        ``user.sigfs.statepoint``, the JSON text that is hashed. They are not listed, so that copying programs do not
        try to copy them, and come from the index: nothing is read from the disk.
        """
        node = self._inodes.get(inode)
        if isinstance(node, TreeDirectory):
            return self._tree_attribute(node, name)
        if isinstance(node, VirtualFile):
            return self._workspace_attribute(name)
        if isinstance(node, DiskDirectory) and name.startswith(_OURS):
            return self._job_attribute(node, name)
        target = self._backing.node(node)
        return os.getxattr(target.path, name)

    def listxattr(self, inode: Inode, caller: Caller | None = None) -> list[str]:
        """List the names of the extended attributes: those that *caller* would be shown below."""
        node = self._inodes.get(inode)
        if not isinstance(node, DiskDirectory | File):
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
        assert isinstance(node, DiskDirectory | File)
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
        assert isinstance(node, DiskDirectory | File)
        target = self._backing.node(node)
        with as_caller(caller):
            os.removexattr(target.path, name)

    # Opening

    def open(self, inode: Inode, flags: int, caller: Caller, *, wait: bool = True) -> FileHandle:
        """Open a regular file. It stays usable until ``release``, whatever becomes of its names.

        Args:
            flags: of open(2); those that make no sense here are ignored. O_TRUNC truncates.
            wait: whether this may wait until another process gives up its lease of the file.

        Raises:
            BlockingIOError: it would have to wait. Nothing has been done, except that the other has been told.
            FsError: EISDIR; ELOOP for a symbolic link and ENXIO for a FIFO, socket or device, which the kernel
                opens itself; ESTALE if no known name leads to the file any more.
        """
        node = self._inodes.get(inode)
        if isinstance(node, VirtualFile):
            if flags & os.O_ACCMODE != os.O_RDONLY or flags & os.O_TRUNC:
                self._may_change(node)
            return self._opened_virtual(node)
        if not isinstance(node, File):
            raise FsError(errno.EISDIR)
        if node.kind != stat.S_IFREG:
            raise FsError(errno.ELOOP if node.kind == stat.S_IFLNK else errno.ENXIO)
        if self._read_only and (flags & os.O_ACCMODE != os.O_RDONLY or flags & os.O_TRUNC):
            raise FsError(errno.EROFS)
        writes = flags & os.O_ACCMODE != os.O_RDONLY or bool(flags & os.O_TRUNC)
        if writes and not self._statepoints.is_scratch(node):
            if (job := self._statepoints.job_of(node)) is not None:
                # After ESTALE the kernel looks the name up again, and opens what it finds then.
                self._statepoints.await_opening(job, flags, caller)
                raise FsError(errno.ESTALE)
            self._require_name(node)
        source = self._backing.node(node)
        # Who truncates, unless it is root, takes set-id bits away. To run a program it need not be readable.
        with as_caller(caller) if flags & os.O_TRUNC else as_reader(None if flags & _FMODE_EXEC else caller):
            descriptor = Descriptor(os.open(source.path, flags & _OPEN_FLAGS | (0 if wait else os.O_NONBLOCK)))
        handle = self._opened(node, descriptor, flags)
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
        file = self._file_node(parent, name, found, made_after=latest)
        return self._disk_attrs(file, found), self._opened(file, descriptor, flags)

    def tmpfile(self, parent: Inode, mode: int, flags: int, caller: Caller) -> tuple[Attrs, FileHandle]:
        """Make and open a regular file without a name in directory *parent*, and take one reference to it.

        ``link`` gives it a name, unless *flags* has O_EXCL; without one it is gone when nobody has it any more.

        Raises:
            OSError: EOPNOTSUPP where the disk below has no such files.
        """
        directory = self._changeable_directory(parent)
        mode, masked = attributes.creation(directory, stat.S_IMODE(mode), caller)
        how = flags & (_OPEN_FLAGS | os.O_EXCL) & ~os.O_TRUNC | os.O_TMPFILE
        with as_caller(caller), masked:
            descriptor = Descriptor(os.open(".", how, mode, dir_fd=directory.fd))
        found = os.fstat(descriptor.fd)
        file = self._inodes.nameless_file(found)
        return self._disk_attrs(file, found), self._opened(file, descriptor, flags)

    def inode_of(self, handle: FileHandle) -> Inode:
        """Give the inode of an open file or directory."""
        directory = self._directories.get(handle)
        return self._file(handle).node.inode if directory is None else directory.node.inode

    # Directories

    def opendir(self, inode: Inode, caller: Caller | None = None) -> FileHandle:
        """Open a directory; EACCES and the like are reported here."""
        node = self._directory(inode)
        descriptor = None
        if isinstance(node, DiskDirectory):
            self._statepoints.show(node, caller)
            directory = self._backing.directory(node)
            with as_reader(caller):
                descriptor = Descriptor(os.open(directory.path, os.O_RDONLY | os.O_DIRECTORY))
        stamp = self._listing_stamp(node, descriptor)
        kept, may_keep = (None, False) if stamp is None else self._listings.opened(inode, stamp, self._is_fresh)
        handle = self._new_handle()
        self._inodes.opened(node)
        self._directories[handle] = _OpenDirectory(node, descriptor, kept, may_keep)
        return handle

    def listing_cache(self, handle: FileHandle) -> ListingCache:
        """Tell what the kernel may do with the listing of an open directory."""
        directory = self._open_directory(handle)
        return "none" if directory.kept is None else "keep" if directory.may_keep else "fill"

    def readdir(self, handle: FileHandle, cookie: int) -> Iterator[DirEntry]:
        """List a directory, without "." and "..".

        Args:
            cookie: where to go on: that of the last entry taken. 0 reads the directory anew; any other goes on in
                what was read then, so that a change in between never skips or repeats an entry (I5).

        Returns:
            The entries from there on, made when they are asked for. ``ino`` is 0 in a virtual directory.
        """
        directory = self._open_directory(handle)
        listing, kept = directory.listing, directory.kept
        if kept is not None and cookie and listing is None:  # the kernel has lost what it had
            listing = directory.listing = kept.listing
        if cookie == 0 or listing is None:
            listing = None
            if kept is not None and kept.stamp == self._listing_stamp(directory.node, directory.descriptor):
                listing = kept.listing
                if listing is None:
                    listing = kept.share(self._list(directory))
            listing = directory.listing = self._list(directory) if listing is None else listing
        return listing.starting(cookie)

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

    # What the requests have in common

    def _directory(self, inode: Inode) -> Directory:
        node = self._inodes.get(inode)
        if isinstance(node, File | VirtualFile):
            raise FsError(errno.ENOTDIR)
        return node

    def _open_directory(self, handle: FileHandle) -> _OpenDirectory:
        try:
            return self._directories[handle]
        except KeyError:
            raise FsError(errno.EBADF) from None

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

    def _is_no_matter(self, node: Node) -> bool:
        """Tell whether *node* is a virtual directory that was made here, whose attributes those who copy may set."""
        return isinstance(node, TreeDirectory) and not self._read_only and self._changes.was_made(node.place)

    def _require_writable(self) -> None:
        if self._read_only:
            raise FsError(errno.EROFS)

    def _require_view(self, parent: TreeDirectory, name: str) -> None:
        """See that *name* in *parent* is, or would be, part of a view that may be changed."""
        self._require_writable()
        if isinstance(parent.place, SpecialNode) or (parent.inode == ROOT and name == SPECIAL):
            raise FsError(errno.EPERM)

    def _mkdir_in_tree(self, parent: TreeDirectory, name: str, mode: int, caller: Caller) -> Attrs:
        self._require_view(parent, name)
        self._bring_documents(parent, name)
        self._absent.discard((parent.inode, name))
        with _bounded():
            self._changes.mkdir(parent, name, mode, caller)
        attrs = self._lookup_in_tree(parent, name, caller)
        if attrs is None:  # removed again by others
            raise FsError(errno.ENOENT)
        return attrs

    def _is_kept(self, node: Directory, name: str) -> bool:
        return isinstance(node, DiskDirectory) and self._statepoints.is_kept(node, name)

    def _create_scratch(self, parent: DiskDirectory, flags: int, mode: int, caller: Caller) -> tuple[Attrs, FileHandle]:
        node = self._statepoints.create(parent, flags, mode, caller)
        try:
            source = self._backing.node(node)
            descriptor = Descriptor(os.open(source.path, flags & _OPEN_FLAGS & ~os.O_TRUNC))
        except BaseException:
            self._inodes.forget(node.inode, 1)
            raise
        return self._scratch_attrs(node), self._opened(node, descriptor, flags)

    def _scratch_attrs(self, node: File) -> Attrs:
        return Attrs(node.inode, self._backing.stat(node), 0.0, self._attr_timeout_s)

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
        self._tell([(new_parent, new_name)])
        return True

    def _may_change(self, node: Node) -> None:
        self._require_writable()
        if isinstance(node, TreeDirectory | VirtualFile):
            raise FsError(errno.EPERM)

    def _require_name(self, node: File) -> None:
        """See that what is about to be written is not lost: that a name leads to *node*, or a program has it open.

        The kernel may have come by a name that it still believes in; after ESTALE it asks for the name again.
        """
        if (not node.attached and not node.opens) or (node.locations and self._backing.find(node) is None):
            raise FsError(errno.ESTALE)

    def _tell_other_names(self, node: File | None, name: tuple[Inode, str]) -> None:
        """Have the kernel look again at the names that *node* has beside *name*: other paths to the same job."""
        if node is not None:
            for location in list(node.locations):
                if location != name:
                    self._notifier.invalidate_entry(*location)

    def _changeable(self, parent: Inode, name: str) -> Descriptor:
        """Give directory *parent*, in which the entry *name* may be made, replaced or removed."""
        _check_name(name)
        return self._changeable_directory(parent)

    def _changeable_directory(self, inode: Inode) -> Descriptor:
        node = self._directory(inode)
        self._may_change(node)
        assert isinstance(node, DiskDirectory)
        return self._backing.directory(node)

    def _tree_attribute(self, node: TreeDirectory, name: str) -> bytes:
        match name:
            case "user.sigfs.count":
                self._bring_documents(node)
                with _bounded(), self._index.reading() as table:
                    return str(len(self._tree.jobs(node.place, table))).encode()
            case "user.sigfs.status" if node.inode == ROOT:
                return json.dumps(self.status()).encode()
            case "user.sigfs.query":
                with _bounded(), self._index.reading() as table:
                    return format_path(self._tree.spelled_query(node.place, table)).encode()
            case _:
                return self._workspace_attribute(name)

    def _workspace_attribute(self, name: str) -> bytes:
        """Give an attribute that comes with the permissions shown, which are the workspace's."""
        if name != "system.posix_acl_access":
            raise FsError(errno.ENODATA)
        acl = self._below.get().acl
        if isinstance(acl, int):
            raise FsError(acl)
        return acl

    def _job_attribute(self, node: DiskDirectory, name: str) -> bytes:
        """Give an attribute of a job directory, or of a directory in one."""
        top = node
        while top.job is None:
            above = self._inodes.get(top.parent)
            if not isinstance(above, DiskDirectory):
                raise FsError(errno.ESTALE)
            top = above
        with self._index.reading() as table:
            number = table.number(top.job)
            match name:
                case "user.sigfs.query":
                    return f"id/{top.job}".encode()
                case "user.sigfs.count":
                    return b"0" if number is None else b"1"
                case "user.sigfs.id" if top is node:
                    return top.job.encode()
                case "user.sigfs.statepoint" if top is node and number is not None:
                    return canonical(table.record_of(number).statepoint).encode()
                case _:
                    raise FsError(errno.ENODATA)

    def _look_below(self) -> _Below:
        coherence = self._coherence
        as_of = None if coherence is None else coherence.events(WORKSPACE)
        try:
            workspace, found = self._backing.found_workspace()
        except FileNotFoundError:
            return _Below(None, errno.ENODATA)
        if coherence is not None and workspace is not self._watched_workspace:
            coherence.watch_workspace(workspace.fd)
            as_of = coherence.events(WORKSPACE)
            found = os.fstat(workspace.fd)
            self._watched_workspace = workspace
        try:
            acl: bytes | int = os.getxattr(workspace.path, "system.posix_acl_access")
        except OSError as error:
            acl = error.errno or errno.ENODATA
        return _Below(found, acl, as_of)

    def _tree_attrs(self, node: TreeDirectory) -> Attrs:
        below = self._below.get()
        found = attributes.of_tree_directory(node.st_ino, below.status, self._changed_at(node))
        if not self._can_notify:
            return Attrs(node.inode, found, 0.0, 0.0)
        # Documents are followed no further than somebody asks for them.
        entry_timeout_s = self._entry_timeout_s if node.reads_documents else _TREE_TIMEOUT_S
        attr_timeout_s = self._attr_timeout_s
        if attr_timeout_s and self._coherence is not None and self._coherence.is_so_since(WORKSPACE, below.as_of):
            attr_timeout_s = max(attr_timeout_s, _TREE_ATTR_TIMEOUT_S)
        return Attrs(node.inode, found, entry_timeout_s, attr_timeout_s)

    def _page_attrs(self, node: VirtualFile) -> Attrs:
        # The name leads to another node as soon as there is something else to say; the node never says anything else.
        content = node.content
        found = attributes.of_virtual_file(node.st_ino, self._below.get().status, content.changed_ns, content.size)
        return Attrs(node.inode, found, 0.0, self._attr_timeout_s)

    def _page(self, parent: TreeDirectory, name: str) -> Attrs:
        """Take a reference to a file of ``.sigfs`` as it is now."""
        if name == "status.json":
            content: Content = self._pages.status(self.status)
        else:
            documents = self._index.documents and self._documents_asked
            if documents:
                self._refresh_documents()
            make = self._pages.lines if name == "index.jsonl" else self._pages.schema
            content = make(documents=documents)
        return self._page_attrs(self._inodes.virtual_file(parent, name, content))

    def _disk_attrs(self, node: DiskDirectory | File, found: os.stat_result) -> Attrs:
        if isinstance(node, File):
            node.told = freshness.stamp(found)
        # The name of a job directory is the tree's and follows the index.
        entry_timeout_s = self._entry_timeout_s
        if isinstance(node, DiskDirectory) and node.job is not None:
            if not self._can_notify:
                entry_timeout_s = 0.0
            elif not node.reads_documents and self._hears_of_jobs():
                entry_timeout_s = _TREE_TIMEOUT_S
        return Attrs(node.inode, found, entry_timeout_s, self._attr_timeout_s)

    def _changed_at(self, node: TreeDirectory) -> int:
        """Tell when what *node* lists changed last, as far as that is known: a number that grows with each change."""
        if not node.changed_ns:
            node.changed_ns = self._pages.changed_ns
        return node.changed_ns

    def _tell(self, entries: Sequence[tuple[Inode, str]]) -> None:
        for entry in entries:
            self._notifier.invalidate_entry(*entry)
        self._notifications += len(entries)

    def _tell_changed(self, inode: Inode) -> None:
        """Have the kernel ask for the attributes and the listing of a directory again."""
        with contextlib.suppress(FsError):
            node = self._inodes.get(inode)
            if isinstance(node, TreeDirectory):
                node.changed_ns = max(self._pages.changed_ns, node.changed_ns + 1)
            self._notifier.invalidate_inode(inode)
            self._notifications += 1

    def _lookup_in_tree(self, parent: TreeDirectory, name: str, caller: Caller) -> Attrs | None:
        if name == SPECIAL and parent.inode == ROOT:
            return self._tree_attrs(self._inodes.tree_directory(parent, name, TOP))
        if parent.place == TOP and name in PAGES:
            return self._page(parent, name)
        generation = self._index.generation
        known = self._resolved.answers(generation, parent).get(name)
        reads_documents = known is None and self._bring_documents(parent, name)
        if known is None:
            with _bounded(), self._index.reading() as table:
                generation = table.generation
                found = self._tree.find(parent.place, name, table)
                known = None if found is None else (found.node, found.branch)
            # not what depends on documents, which are to be brought each time, or on the configuration
            if known is not None and not reads_documents and parent.place != VIEWS:
                self._resolved.keep(generation, parent, name, known)
        if known is None:
            place = self._changes.find(parent.place, name, caller)
            if place is not None:
                directory = self._inodes.tree_directory(parent, name, place)
                return self._tree_attrs(directory)._replace(entry_timeout_s=0.0)
            may_keep = self._can_notify and not reads_documents and parent.place != VIEWS
            if may_keep and not self._changes.has_vanished(parent.place, name):
                self._may_be_kept_absent((parent.inode, name), generation)
            return None
        child, branch = known
        if isinstance(child, JobNode):
            events = self._events_in(WORKSPACE)
            disk = self._job_stat(child.id)
            if disk is None:
                return None
            node = self._inodes.disk_directory(
                parent.inode, name, disk, child.id, branch, reads_documents=reads_documents
            )
            attrs = self._disk_attrs(node, disk)
            if events is not None:
                attrs = self._believed(attrs, (WORKSPACE, child.id), events)
        else:
            directory = self._inodes.tree_directory(parent, name, child, branch, reads_documents=reads_documents)
            attrs = self._tree_attrs(directory)
        if parent.place == VIEWS:
            return attrs._replace(entry_timeout_s=0.0)  # nobody tells when the configuration changes
        if self._index.generation != generation:
            # The kernel may have been told of a change before it hears this answer, so it must not keep it (I8).
            return attrs._replace(entry_timeout_s=0.0, attr_timeout_s=0.0)
        return attrs

    def _bring_documents(self, node: TreeDirectory, name: str = "") -> bool:
        """See that the index has the documents as they are now, if what *name* in *node* leads to depends on them."""
        reads_documents = self._tree.reads_documents(node.place, name)
        if reads_documents:
            self._refresh_documents()
            self._documents_asked = True
        return reads_documents

    def _job_stat(self, job: JobId) -> os.stat_result | None:
        try:
            workspace = self._backing.workspace()
            found = os.stat(job, dir_fd=workspace.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None
        return found if stat.S_ISDIR(found.st_mode) else None

    def _entered(self, parent: Inode, name: str, found: os.stat_result, *, made_after: Inode | None = None) -> Attrs:
        """Take a reference to *found*, which is *name* in *parent* on the disk."""
        node: DiskDirectory | File
        if stat.S_ISDIR(found.st_mode):
            node = self._inodes.disk_directory(parent, name, found, made_after=made_after)
        else:
            node = self._file_node(parent, name, found, made_after=made_after)
        return self._disk_attrs(node, found)

    def _file_node(self, parent: Inode, name: str, found: os.stat_result, *, made_after: Inode | None = None) -> File:
        """Take a reference to the file *found*, making sure that a node with its number is really the same file.

        It is if it is open or pinned (so the number cannot have been given away), was known by this name, or if
        another of its names leads to this number. Otherwise the file was removed below by others and its number
        reused, or it was renamed by others: a new node serves both. Not noticed: that others removed it and gave its
        name and number to a new file; the kernel then sees another size or time, as with a rewritten file.

        Args:
            made_after: the file has just been made, when this was the latest node id. Then an older node is of
                another file, whatever its names lead to.
        """
        known = self._inodes.known_file(found)
        if known is not None and not known.descriptors and known.pin is None:
            here = (parent, name)
            if made_after is not None:
                is_same = known.inode > made_after
            else:
                is_same = here in known.locations or self._backing.find(known, besides=here) is not None
            if not is_same:
                self._inodes.detach(known)
        return self._inodes.file(parent, name, found)

    def _made(self, parent: Inode, directory: Descriptor, name: str, made_after: Inode) -> Attrs:
        found = os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
        return self._entered(parent, name, found, made_after=made_after)

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

    def _listing_stamp(self, node: Directory, descriptor: Descriptor | None) -> Stamp | None:
        """Name the state of a directory's listing; None if the kernel must not keep it.

        That is where it would not be told of a change, or the times of a directory on disk might not tell of one.
        """
        if isinstance(node, TreeDirectory):
            is_told = self._can_notify and not self._is_changing and not node.reads_documents and node.place != VIEWS
            return (self._changed_at(node),) if is_told else None
        if descriptor is None or not self._trusts_times:
            return None
        found = os.fstat(descriptor.fd)
        return freshness.stamp(found) if freshness.is_quiet(found) else None

    def _is_fresh(self, kept: Kept) -> bool:
        """Tell whether it pays to have the kernel read its copy of a listing.

        Where it has to look the names up again it is quicker to list them anew, attributes included.
        """
        return (
            kept.count <= _FEW_NAMES
            or len(kept.stamp) == 1  # a virtual directory's
            or time.monotonic() < kept.filled_s + self._entry_timeout_s / 2  # lest they expire while it is read
            or (self._coherence is not None and self._coherence.follows)
        )

    def _dropped(self, inode: Inode) -> Descriptor | None:
        """Follow that a directory's node was dropped, with the lock of the nodes held; give what is to be closed."""
        self._listings.drop(inode)
        if self._coherence is not None:
            self._coherence.dropped(inode)
        return self._backing.discard(inode)

    def _list(self, directory: _OpenDirectory) -> Listing:
        if isinstance(directory.node, TreeDirectory):
            self._bring_documents(directory.node)
            with _bounded(), self._index.reading() as table:
                place = directory.node.place
                more: list[Entry] = list(self._changes.names(place, table))
                if place == TOP:
                    st_ino = directory.node.st_ino
                    more += [(page, stat.S_IFREG, tree_ino(st_ino, page)) for page in PAGES]
                return Listing(itertools.chain(self._tree.names(place, table), more))
        assert directory.descriptor is not None
        # A descriptor of its own: a reading position is shared by all that share a descriptor.
        own = Descriptor(os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=directory.descriptor.fd))
        with os.scandir(own.fd) as found:
            return Listing(iter([(entry.name, _kind(entry), entry.inode()) for entry in found]))


@contextlib.contextmanager
def _bounded() -> Iterator[None]:
    """Answer a query that takes too long with ETIMEDOUT."""
    try:
        yield
    except QueryTooCostly as error:
        log.warning("%s", error)
        raise FsError(errno.ETIMEDOUT) from None


def _nothing() -> None:
    """Bring no documents: nobody follows them."""


def _never() -> bool:
    """Hear of nothing: nobody watches."""
    return False


def _check_name(name: str) -> None:
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise FsError(errno.EINVAL)


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
