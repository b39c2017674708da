"""Virtual directories: what is in them, what is said of them, what changes them, and what the kernel is told of that.

Owned here: ``Views``, which answers every request that is made of a virtual directory, and takes changes into the
index. ``tree`` says what there is, ``changes`` what a new, moved or removed name means, ``virtual`` what the files of
``.sigfs`` hold, ``invalidation`` and ``absent`` what the kernel must not believe any longer.
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
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import unquote_to_bytes

from sigfs.errors import QueryTooCostly
from sigfs.index.lines import canonical
from sigfs.query import format_path
from sigfs.tree import PAGES, SPECIAL, TOP, VIEWS, JobNode, JobsNode, SpecialNode
from sigfs.vfs import attributes
from sigfs.vfs.absent import Absent
from sigfs.vfs.changes import Changes
from sigfs.vfs.coherence import WORKSPACE
from sigfs.vfs.invalidation import Invalidation
from sigfs.vfs.listings import Listing
from sigfs.vfs.nodes import DiskDirectory, TreeDirectory, VirtualFile, tree_ino
from sigfs.vfs.recent import Recent
from sigfs.vfs.resolved import Resolved
from sigfs.vfs.types import ROOT, Attrs, FsError, Inode
from sigfs.vfs.virtual import Pages

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sigfs.index import Index
    from sigfs.model.types import Change, JobId
    from sigfs.model.workspace import Workspace
    from sigfs.tree import Tree
    from sigfs.vfs.backing import Descriptor
    from sigfs.vfs.coherence import Moment
    from sigfs.vfs.disk import Disk
    from sigfs.vfs.freshness import Stamp
    from sigfs.vfs.listings import Entry
    from sigfs.vfs.statepoints import StatePointFiles
    from sigfs.vfs.types import Caller, Notifier
    from sigfs.vfs.virtual import Content

log = logging.getLogger(__name__)

TREE_TIMEOUT_S: Final = 3600.0
"""How long the kernel may keep a name of a virtual directory, about which it is told when that leads elsewhere."""

_TREE_ATTR_TIMEOUT_S: Final = 60.0
"""How long it may keep the attributes of a virtual directory where the workspace directory is watched, whose owner and
permissions they show. Not for ever: that something else is mounted over the workspace, nobody says."""


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


class Views:
    """The virtual directories of a mount. Any thread may call any method; none is called with a lock held.

    Attributes:
        changes: what is made, moved and removed in them.
        absent: the names that the kernel may remember as leading nowhere.
        notifier: told of what changed.
        can_notify: whether that reaches the kernel. If not, names of virtual directories get no cache time.
        hears_of_jobs: asks whether ``apply`` is told at once of jobs that come and go.
        hears_of_places: the same of those outside of the workspace.
        refresh_documents: has the documents in the index as they are now, as far as that is possible.
        notifications: how often the kernel has been told so far.
    """

    def __init__(
        self,
        tree: Tree,
        index: Index,
        workspace: Workspace,
        disk: Disk,
        statepoints: StatePointFiles,
        status: Callable[[], Mapping[str, object]],
    ) -> None:
        """Wire the parts.

        Args:
            status: what ``user.sigfs.status`` and ``.sigfs/status.json`` say.
        """
        self._tree = tree
        self._index = index
        self._disk = disk
        self._places = disk.backing.places
        self._inodes = disk.inodes
        self._status = status
        self.notifier: Notifier = _NobodyToTell()
        self.can_notify = False
        self.hears_of_jobs: Callable[[], bool] = _never
        self.hears_of_places: Callable[[], bool] = _never
        self.refresh_documents: Callable[[], None] = _nothing
        self.notifications = 0
        self.absent = Absent()
        self.changes = Changes(
            tree, index, workspace, disk.inodes, disk.backing, statepoints, self._take, self._tell_changed
        )
        self._documents_asked = False
        self._invalidation = Invalidation(tree, index, disk.inodes)
        self._is_changing = False  # the index may know more than the nodes' ``changed_ns``; set with the changes' lock
        self._resolved = Resolved()
        self._hits = self._misses = 0
        self._watched_workspace: Descriptor | None = None  # what was watched last as the workspace
        self._below = Recent(self._look_below)
        found = self._below.get().status
        self._pages = Pages(index, time.time_ns() if found is None else found.st_mtime_ns)

    def attach(self, notifier: Notifier, *, can_notify: bool) -> None:
        """Say whom to tell of changes, and whether that reaches the kernel."""
        self.notifier = notifier
        self.can_notify = can_notify
        if can_notify:
            self._invalidation.begin()

    def follow(self) -> None:
        """Have the workspace watched, now that the disk is."""
        self._below = Recent(self._look_below)

    def cache_status(self) -> dict[str, int]:
        """Count the names whose meaning is remembered, and how often a lookup of one has met one of these or not."""
        return {"names": len(self._resolved), "hits": self._hits, "misses": self._misses}

    @property
    def full_passes(self) -> int:
        """How often all that the kernel holds had to be looked at after a change."""
        return self._invalidation.full_passes

    # Looking

    def lookup(self, parent: TreeDirectory, name: str, caller: Caller) -> Attrs | None:
        """Find *name* in *parent* and take one kernel reference to it. As ``Operations.lookup``."""
        if name == SPECIAL and parent.inode == ROOT:
            return self.attrs(self._inodes.tree_directory(parent, name, TOP))
        if parent.place == TOP and name in PAGES:
            return self._page(parent, name)
        generation = self._index.generation
        known = self._resolved.answers(generation, parent).get(name)
        reads_documents = known is None and self.bring_documents(parent, name)
        if known is not None:
            self._hits += 1
        else:
            self._misses += 1
            with _BOUNDED, self._index.reading() as table:
                generation = table.generation
                found = self._tree.find(parent.place, name, table)
                if found is None and self._places and isinstance(parent.place, JobsNode):
                    key = self._places.find(os.fsdecode(unquote_to_bytes(os.fsencode(name))))
                    found = None if key is None else self._tree.find(parent.place, key, table)
                known = None if found is None else (found.node, found.branch)
            # not what depends on documents, which are to be brought each time, or on the configuration
            if known is not None and not reads_documents and parent.place != VIEWS:
                self._resolved.keep(generation, parent, name, known)
        if known is None:
            place = self.changes.find(parent.place, name, caller)
            if place is not None:
                directory = self._inodes.tree_directory(parent, name, place)
                return self.attrs(directory)._replace(entry_timeout_s=0.0)
            may_keep = self.can_notify and not reads_documents and parent.place != VIEWS
            if may_keep and not self.changes.has_vanished(parent.place, name):
                self._may_be_kept_absent((parent.inode, name), generation)
            return None
        child, branch = known
        if isinstance(child, JobNode):
            events = self._disk.events_in(WORKSPACE)
            disk = self._disk.job_stat(child.id)
            if disk is None:
                return None
            node = self._inodes.disk_directory(
                parent.inode, name, disk, child.id, branch, reads_documents=reads_documents
            )
            attrs = self._job_attrs(node, child.id, disk)
            if events is not None:
                attrs = self._disk.believed(attrs, (WORKSPACE, child.id), events)
        else:
            directory = self._inodes.tree_directory(parent, name, child, branch, reads_documents=reads_documents)
            attrs = self.attrs(directory)
        if parent.place == VIEWS:
            return attrs._replace(entry_timeout_s=0.0)  # nobody tells when the configuration changes
        if self._index.generation != generation:
            # The kernel may have been told of a change before it hears this answer, so it must not keep it (I8).
            return attrs._replace(entry_timeout_s=0.0, attr_timeout_s=0.0)
        return attrs

    def looker(self, parent: TreeDirectory, caller: Caller) -> Callable[[str], Attrs | None]:
        """Give what looks up names in *parent* as ``lookup`` does, of jobs that are known in few steps."""
        generation = self._index.generation
        answers = self._resolved.answers(generation, parent)
        disk, inode = self._disk, parent.inode
        places = self._places or None
        try:
            workspace = disk.backing.workspace()
        except OSError:
            return lambda name: self.lookup(parent, name, caller)

        def look_up(name: str) -> Attrs | None:
            child, branch = answers.get(name, _UNKNOWN)
            if not isinstance(child, JobNode) or self._index.generation != generation:
                return self.lookup(parent, name, caller)
            if places is not None and places.owns(child.id):
                return self.lookup(parent, name, caller)
            events = disk.events_in(WORKSPACE)
            try:
                found = os.stat(child.id, dir_fd=workspace.fd, follow_symlinks=False)
            except FileNotFoundError:
                return None
            if not stat.S_ISDIR(found.st_mode):
                return None
            node = self._inodes.disk_directory(inode, name, found, child.id, branch)
            attrs = self._job_attrs(node, child.id, found)
            if events is not None:
                attrs = disk.believed(attrs, (WORKSPACE, child.id), events)
            if self._index.generation != generation:  # as in ``lookup``
                return attrs._replace(entry_timeout_s=0.0, attr_timeout_s=0.0)
            return attrs

        return look_up

    def _page(self, parent: TreeDirectory, name: str) -> Attrs:
        """Take a reference to a file of ``.sigfs`` as it is now."""
        if name in ("metrics", "status.json"):
            said, metrics = self._pages.status(self._status)
            content: Content = metrics if name == "metrics" else said
        else:
            documents = self._index.documents and self._documents_asked
            if documents:
                self.refresh_documents()
            make = self._pages.lines if name == "index.jsonl" else self._pages.schema
            content = make(documents=documents)
        return self.page_attrs(self._inodes.virtual_file(parent, name, content))

    def _may_be_kept_absent(self, entry: tuple[Inode, str], generation: int) -> None:
        """Note that a name leads nowhere, which was so in the given generation of the index."""
        oldest = self.absent.add(entry)
        if oldest is not None:
            self.tell([oldest])
        if self._index.generation != generation:
            self.absent.discard(entry)

    def bring_documents(self, node: TreeDirectory, name: str = "") -> bool:
        """See that the index has the documents as they are now, if what *name* in *node* leads to depends on them."""
        reads_documents = self._tree.reads_documents(node.place, name)
        if reads_documents:
            self.refresh_documents()
            self._documents_asked = True
        return reads_documents

    def count_jobs(self) -> tuple[int, int]:
        """Count the jobs of the view, and all there are, as far as is known: the disk is not waited for."""
        with _BOUNDED, self._index.reading() as table:
            return len(self._tree.jobs(self._tree.root, table)), len(table)

    def listing(self, node: TreeDirectory) -> Listing:
        """List a virtual directory."""
        self.bring_documents(node)
        with _BOUNDED, self._index.reading() as table:
            more: list[Entry] = list(self.changes.names(node.place, table))
            if node.place == TOP:
                more += [(page, stat.S_IFREG, tree_ino(node.st_ino, page)) for page in PAGES]
            return Listing(itertools.chain(self._tree.names(node.place, table), more))

    def listing_stamp(self, node: TreeDirectory) -> Stamp | None:
        """Name the state of what it lists; None if the kernel must not keep that: it would not be told of a change."""
        is_told = self.can_notify and not self._is_changing and not node.reads_documents and node.place != VIEWS
        return (node.changed_ns or self._changed_at(node),) if is_told else None

    # What is said of them

    def attrs(self, node: TreeDirectory) -> Attrs:
        """Say what ``stat`` says of a virtual directory."""
        below = self._below.get()
        found = attributes.of_tree_directory(node.st_ino, below.status, self._changed_at(node))
        if not self.can_notify:
            return Attrs(node.inode, found, 0.0, 0.0)
        # Documents are followed no further than somebody asks for them.
        entry_timeout_s = self._disk.entry_timeout_s if node.reads_documents else TREE_TIMEOUT_S
        attr_timeout_s = self._disk.attr_timeout_s
        coherence = self._disk.coherence
        if attr_timeout_s and coherence is not None and coherence.is_so_since(WORKSPACE, below.as_of):
            attr_timeout_s = max(attr_timeout_s, _TREE_ATTR_TIMEOUT_S)
        return Attrs(node.inode, found, entry_timeout_s, attr_timeout_s)

    def page_attrs(self, node: VirtualFile) -> Attrs:
        """Say what ``stat`` says of a file of ``.sigfs``."""
        # The name leads to another node as soon as there is something else to say; the node never says anything else.
        content = node.content
        found = attributes.of_virtual_file(node.st_ino, self._below.get().status, content.changed_ns, content.size)
        return Attrs(node.inode, found, 0.0, self._disk.attr_timeout_s)

    def _job_attrs(self, node: DiskDirectory, job: JobId, found: os.stat_result) -> Attrs:
        # The name of a job directory is the tree's and follows the index.
        hears_of_jobs = self.hears_of_places if self._places.owns(job) else self.hears_of_jobs
        if not self.can_notify:
            entry_timeout_s = 0.0
        elif node.reads_documents or not hears_of_jobs():
            entry_timeout_s = self._disk.entry_timeout_s
        else:
            entry_timeout_s = TREE_TIMEOUT_S
        found = self._disk.backing.shown(job, found)
        return Attrs(node.inode, found, entry_timeout_s, self._disk.attr_timeout_s)

    def _changed_at(self, node: TreeDirectory) -> int:
        """Tell when what *node* lists changed last, as far as that is known: a number that grows with each change."""
        if not node.changed_ns:
            node.changed_ns = self._pages.changed_ns
        return node.changed_ns

    def _look_below(self) -> _Below:
        coherence = self._disk.coherence
        as_of = None if coherence is None else coherence.events(WORKSPACE)
        try:
            workspace, found = self._disk.backing.found_workspace()
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

    def attribute(self, node: TreeDirectory, name: str) -> bytes:
        """Give an extended attribute of a virtual directory."""
        match name:
            case "user.sigfs.count":
                self.bring_documents(node)
                with _BOUNDED, self._index.reading() as table:
                    return str(len(self._tree.jobs(node.place, table))).encode()
            case "user.sigfs.status" if node.inode == ROOT:
                return json.dumps(self._status()).encode()
            case "user.sigfs.query":
                with _BOUNDED, self._index.reading() as table:
                    return format_path(self._tree.spelled_query(node.place, table)).encode()
            case _:
                return self.workspace_attribute(name)

    def workspace_attribute(self, name: str) -> bytes:
        """Give an attribute that comes with the permissions shown, which are the workspace's."""
        if name != "system.posix_acl_access":
            # Programs like ls that hear that there is no such kind here do not ask for each file.
            raise FsError(errno.EOPNOTSUPP if name.startswith("security.") else errno.ENODATA)
        acl = self._below.get().acl
        if isinstance(acl, int):
            raise FsError(acl)
        return acl

    def job_attribute(self, node: DiskDirectory, name: str) -> bytes:
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
                    return os.fsencode(self._places.id_of(top.job))
                case "user.sigfs.statepoint" if top is node and number is not None:
                    return canonical(table.record_of(number).statepoint).encode()
                case _:
                    raise FsError(errno.ENODATA)

    # Changing; EROFS has been answered before

    def mkdir(self, parent: TreeDirectory, name: str, mode: int, caller: Caller) -> Attrs:
        """Make a directory, and take one reference to it. As ``Changes.mkdir``; EPERM in ``.sigfs``."""
        _require_view(parent, name)
        self.bring_documents(parent, name)
        self.absent.discard((parent.inode, name))
        with _BOUNDED:
            self.changes.mkdir(parent, name, mode, caller)
        attrs = self.lookup(parent, name, caller)
        if attrs is None:  # removed again by others
            raise FsError(errno.ENOENT)
        return attrs

    def rmdir(self, parent: TreeDirectory, name: str, caller: Caller) -> None:
        """As ``Changes.rmdir``; EPERM in ``.sigfs``."""
        _require_view(parent, name)
        with _BOUNDED:
            self.changes.rmdir(parent, name, caller)

    def rename(
        self,
        old_parent: TreeDirectory,
        old_name: str,
        new_parent: TreeDirectory,
        new_name: str,
        flags: int,
        caller: Caller,
    ) -> None:
        """As ``Changes.rename``; EPERM in ``.sigfs``."""
        _require_view(old_parent, old_name)
        _require_view(new_parent, new_name)
        self.absent.discard((new_parent.inode, new_name))  # lest the kernel is told to drop what it moves there
        with _BOUNDED:
            self.changes.rename(old_parent, old_name, new_parent, new_name, flags, caller)

    # Following changes

    def apply(self, changes: Sequence[Change], *, known_only: bool = False) -> None:
        """Take *changes* into the index, then tell the kernel what it must not believe any longer.

        Args:
            known_only: as in ``Index.apply``.

        Any thread may call it that holds no lock which a notifier may take; the notifier only queues (I6). It waits
        while a request changes a job.

        Complexity: that of ``Index.apply`` and of ``Invalidation.after``.
        """
        with self.changes.lock:
            self._take(self.changes.as_they_are(changes), known_only=known_only)

    def _take(self, changes: Sequence[Change], *, known_only: bool = False) -> None:
        self._is_changing = True
        try:
            delta = self._pages.apply(changes, known_only=known_only)
            if not delta.jobs or not self.can_notify:
                return
            self.tell(self.absent.take())
            stale = self._invalidation.after(delta)
            for inode in stale.inodes:
                self._tell_changed(inode)
            self.tell(list(stale.entries))
        finally:
            self._is_changing = False

    def tell(self, entries: Sequence[tuple[Inode, str]]) -> None:
        """Have the kernel look up names again: directory, name."""
        for entry in entries:
            self.notifier.invalidate_entry(*entry)
        self.notifications += len(entries)

    def _tell_changed(self, inode: Inode) -> None:
        """Have the kernel ask for the attributes and the listing of a directory again."""
        with contextlib.suppress(FsError):
            node = self._inodes.get(inode)
            if isinstance(node, TreeDirectory):
                node.changed_ns = max(self._pages.changed_ns, node.changed_ns + 1)
            self.notifier.invalidate_inode(inode)
            self.notifications += 1


class _Bounded:
    """Answers a query that takes too long with ETIMEDOUT. No ``contextmanager``: that is three times the calls."""

    __slots__ = ()

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, QueryTooCostly):
            log.warning("%s", error)
            raise FsError(errno.ETIMEDOUT) from None


_BOUNDED: Final = _Bounded()
_UNKNOWN: Final = (None, None)


def _nothing() -> None:
    """Bring no documents: nobody follows them."""


def _never() -> bool:
    """Hear of nothing: nobody watches."""
    return False


def _require_view(parent: TreeDirectory, name: str) -> None:
    """See that *name* in *parent* is, or would be, part of a view that may be changed."""
    if isinstance(parent.place, SpecialNode) or (parent.inode == ROOT and name == SPECIAL):
        raise FsError(errno.EPERM)
