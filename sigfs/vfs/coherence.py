"""Hearing at once of what others change in the job directories that the kernel holds, and telling it.

Owned here: the watches, one a directory, by inotify; which names in it are known; and the thread that turns events
into notifications. What is watched the kernel may believe for long.

What inotify does not tell: stores into a mapping, before whoever made it has closed and unmapped the file; a change
through another hard link of a file in a directory that is not watched (so a file with several links is not believed for
long); what other hosts change. Access times do not count as changes.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from inotify_simple import INotify, flags, parse_events

from sigfs.vfs.nodes import DiskDirectory, File, TreeDirectory
from sigfs.vfs.types import FsError, Inode
from sigfs.watch.inotify import SHARE_OF_WATCHES, max_user_watches

if TYPE_CHECKING:
    from sigfs.vfs.backing import Backing
    from sigfs.vfs.inodes import Inodes
    from sigfs.vfs.nodes import Node
    from sigfs.vfs.types import Notifier

log = logging.getLogger(__name__)

WATCHES_LIMIT: Final = 65_536
"""Directories watched at most; each takes about 1.4 kB of kernel memory. And not more than one in
``SHARE_OF_WATCHES`` of those that a user may have."""

WORKSPACE: Final = Inode(0)
"""Stands for the node of the workspace directory, which has none."""

_DROPPED_KEPT: Final = 64
"""Watches of forgotten directories that are given back together."""

_PAUSE_S: Final = 0.001
"""In a storm events are gathered for so long: a file that is written to again and again is told once."""

_NAMES_PER_ENTRY: Final = 16
"""Nodes remembered for one name before those that are gone are sorted out."""

_NAMES: Final = 1024
"""Names remembered in one directory before those of nodes that are gone are sorted out."""

Moment: TypeAlias = "tuple[int, int]"
"""Which watch a directory has, or -1, and how many events have come of it: the same only if there was none between."""

_COME_OR_GONE: Final = flags.CREATE | flags.DELETE | flags.MOVED_FROM | flags.MOVED_TO
_GONE: Final = flags.DELETE | flags.MOVED_FROM
_DATA: Final = flags.MODIFY | flags.CLOSE_WRITE
_OWN: Final = flags.ATTRIB | flags.DELETE_SELF | flags.MOVE_SELF | flags.ONLYDIR
_EVENTS: Final = _COME_OR_GONE | _DATA | _OWN
_READ_BYTES: Final = 1 << 18


@dataclass(slots=True, eq=False)
class _Watched:
    """A directory that is watched.

    Attributes:
        nodes: of the paths that lead to it.
        names: what the names in it led to when they were last looked up, by any of those paths.
        names_limit: how many of them there may be before those that are gone are sorted out.
        events: how many have come.
    """

    watch: int
    nodes: set[Inode] = field(default_factory=set)
    names: dict[str, tuple[Inode, ...]] = field(default_factory=dict)
    names_limit: int = _NAMES
    events: int = 0


@dataclass(slots=True)
class _Stale:
    """What the kernel is to be told, each once."""

    entries: dict[tuple[Inode, str], None] = field(default_factory=dict)
    attributes: dict[Inode, None] = field(default_factory=dict)
    inodes: dict[Inode, None] = field(default_factory=dict)
    directories: dict[Inode, None] = field(default_factory=dict)  # that are gone, or are others now


class Coherence:
    """Watches directories. Any thread may call any method.

    ``_lock`` guards the watches; nothing is told while it is held, and only inotify called. ``_names_lock`` guards the
    names; nothing is locked meanwhile. ``named`` and ``dropped`` may be called with the lock of the nodes held.
    """

    def __init__(self, inodes: Inodes, backing: Backing, notifier: Notifier, *, limit: int | None = None) -> None:
        """Open a queue. Nothing is watched yet.

        Args:
            limit: directories to watch at most, beside the workspace.

        Raises:
            OSError: there is no inotify to be had.
        """
        self._inodes = inodes
        self._backing = backing
        self._notifier = notifier
        self._limit = min(WATCHES_LIMIT, max_user_watches() // SHARE_OF_WATCHES) if limit is None else limit
        self._queue = INotify(nonblocking=True)
        self._wakeup = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._lock = threading.Lock()
        self._names_lock = threading.Lock()
        self._by_watch: dict[int, _Watched] = {}
        self._by_node: dict[Inode, _Watched] = {}
        self._dropped: deque[Inode] = deque()  # their watches are yet to be given back
        self._unwatched = 0
        self._is_full = False  # and this has been said
        self._overflows = 0
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    # What is watched

    @property
    def follows(self) -> bool:
        """Whether more than the workspace directory itself may be watched."""
        return self._limit > 0

    def watch_workspace(self, fd: int) -> bool:
        """Watch the workspace directory from now on, and no other as that.

        It is watched for its own attributes, and for jobs that come, go and are replaced.
        """
        with self._lock:
            before = self._by_node.pop(WORKSPACE, None)
            if before is not None:
                del self._by_watch[before.watch]
                self._remove(before.watch)
        return self._watch(WORKSPACE, fd, _OWN | (_COME_OR_GONE if self.follows else 0))

    def watch(self, inode: Inode, fd: int) -> bool:
        """Watch a directory from now on, until the kernel forgets it. What is read afterwards may be believed.

        Args:
            inode: its node.
            fd: of it; O_PATH will do.

        Returns:
            Whether it is watched: False if there are no watches left, or none to be had.

        Cost: about 12 us.
        """
        return inode in self._by_node or self._watch(inode, fd, _EVENTS)

    def watches(self, inode: Inode) -> bool:
        """Tell whether a directory is watched."""
        return inode in self._by_node

    def events(self, inode: Inode) -> Moment:
        """Name the moment in the life of a directory: what was read at another one is not to be believed."""
        watched = self._by_node.get(inode)
        return (-1, 0) if watched is None else (watched.watch, watched.events)

    def is_so_since(self, inode: Inode, moment: Moment | None) -> bool:
        """Tell whether a directory has been watched since *moment*, and no event has come."""
        watched = self._by_node.get(inode)
        return watched is not None and moment == (watched.watch, watched.events)

    def named(self, parent: Inode, name: str, inode: Inode) -> None:
        """Remember that *name* in the directory *parent* leads to *inode*."""
        watched = self._by_node.get(parent)
        if watched is None or not self.follows or inode in watched.names.get(name, ()):
            return
        with self._names_lock:
            known = watched.names.get(name, ())
            if len(known) >= _NAMES_PER_ENTRY:
                known = tuple(each for each in known if self._inodes.has(each))
            watched.names[name] = (*known, inode)
            if len(watched.names) > watched.names_limit:
                left = {each: tuple(filter(self._inodes.has, found)) for each, found in watched.names.items()}
                watched.names = {each: found for each, found in left.items() if found}
                watched.names_limit = 2 * len(watched.names) + _NAMES

    def dropped(self, inode: Inode) -> None:
        """Follow that the kernel has forgotten a directory."""
        if inode in self._by_node:
            self._dropped.append(inode)

    def status(self) -> dict[str, int]:
        """Describe the watches.

        Returns:
            watches (in use), limit, unwatched (how often a directory could not be watched, so that the kernel
            believes what it is told of it for a short time only), overflows (events were lost, and everything told).
        """
        return {
            "watches": len(self._by_watch),
            "limit": self._limit,
            "unwatched": self._unwatched,
            "overflows": self._overflows,
        }

    # Life

    def start(self) -> None:
        """Begin to tell."""
        self._thread = threading.Thread(target=self._run, name="sigfs-coherence", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread and give the watches back; idempotent."""
        if self._closed.is_set():
            return
        self._closed.set()
        os.eventfd_write(self._wakeup, 1)
        if self._thread is not None:
            self._thread.join()
        with self._lock:
            self._by_node.clear()
            self._by_watch.clear()
            self._queue.close()
        os.close(self._wakeup)

    def check(self) -> None:
        """Assert that the maps agree."""
        with self._lock:
            assert all(watch == watched.watch for watch, watched in self._by_watch.items())
            by_node = {inode: watched for watched in self._by_watch.values() for inode in watched.nodes}
            assert by_node == self._by_node
            assert all(watched.nodes for watched in self._by_watch.values())

    def _watch(self, inode: Inode, fd: int, events: int) -> bool:
        with self._lock:
            if len(self._dropped) > _DROPPED_KEPT:
                self._give_back()
            if inode != WORKSPACE and len(self._by_watch) > self._limit:  # that of the workspace does not count
                return self._refuse()
            try:
                watch = self._queue.add_watch(f"/proc/self/fd/{fd}", events)
            except (OSError, ValueError) as error:  # ValueError: closed a moment ago
                log.debug("a directory cannot be watched: %s", error)
                return self._refuse()
            watched = self._by_watch.setdefault(watch, _Watched(watch))
            watched.nodes.add(inode)
            self._by_node[inode] = watched
            return True

    def _refuse(self) -> bool:
        self._unwatched += 1
        if self.follows and not self._is_full:
            self._is_full = True
            log.warning(
                "%d directories are watched, and more cannot be (fs.inotify.max_user_watches): what others change in "
                "further ones is noticed a moment later",
                len(self._by_watch),
            )
        return False

    def _give_back(self) -> None:
        while self._dropped:
            inode = self._dropped.popleft()
            watched = self._by_node.get(inode)
            if watched is not None and not self._inodes.has(inode):
                del self._by_node[inode]
                watched.nodes.discard(inode)
                if not watched.nodes:
                    del self._by_watch[watched.watch]
                    self._remove(watched.watch)

    def _remove(self, watch: int) -> None:
        try:
            self._queue.rm_watch(watch)
        except OSError as error:
            if error.errno != errno.EINVAL:  # it went away together with its directory
                raise

    # The thread

    def _run(self) -> None:
        poller = select.poll()
        poller.register(self._wakeup, select.POLLIN)
        poller.register(self._queue.fileno(), select.POLLIN)
        while not self._closed.is_set():
            poller.poll()
            try:
                self._step()
            except Exception:
                log.exception("unexpected error while following changes below; everything is asked anew")
                self._tell(self._everything())
            self._closed.wait(_PAUSE_S)

    def _step(self) -> None:
        try:
            data = os.read(self._queue.fileno(), _READ_BYTES)
        except BlockingIOError:
            return
        stale = _Stale()
        overflown = False
        with self._lock:
            self._give_back()
            for event in parse_events(data):
                if event.mask & flags.Q_OVERFLOW:
                    overflown = True
                elif (watched := self._by_watch.get(event.wd)) is not None:
                    self._take(watched, event.mask, event.name, stale)
        if overflown:
            self._overflows += 1
            stale = self._everything()
        self._tell(stale)

    def _take(self, watched: _Watched, mask: int, name: str, stale: _Stale) -> None:
        is_workspace = WORKSPACE in watched.nodes
        # At once: of two who look the name up, one is told of the event, and the other's answer comes after it.
        with self._names_lock:
            is_forgotten = mask & _GONE and not is_workspace
            known = watched.names.pop(name, ()) if is_forgotten else watched.names.get(name, ())
            watched.events += 1
        if is_workspace:
            self._take_workspace(known, mask, name, stale)
        elif not name:
            stale.inodes.update(dict.fromkeys(watched.nodes))
        else:
            if mask & _COME_OR_GONE:
                stale.inodes.update(dict.fromkeys(watched.nodes))
                stale.entries.update(dict.fromkeys((node, name) for node in watched.nodes))
                stale.attributes.update(dict.fromkeys(known))  # links, time of change
                if mask & flags.ISDIR:
                    stale.directories.update(dict.fromkeys(known))
            elif mask & _DATA:
                stale.inodes.update(dict.fromkeys(known))
            else:
                stale.attributes.update(dict.fromkeys(known))
        if mask & flags.IGNORED:
            for node in watched.nodes:
                self._by_node.pop(node, None)
            self._by_watch.pop(watched.watch, None)

    def _take_workspace(self, known: tuple[Inode, ...], mask: int, name: str, stale: _Stale) -> None:
        if not name:
            stale.attributes.update(dict.fromkeys(self._inodes.of_kind(TreeDirectory)))
        elif mask & _COME_OR_GONE:
            for inode in known:
                node = self._node(inode)
                if isinstance(node, DiskDirectory):
                    stale.entries[node.parent, node.name] = None
                    stale.directories[inode] = stale.inodes[inode] = None

    def _everything(self) -> _Stale:
        stale = _Stale()
        with self._lock:  # before looking: of a node that comes later the answer is not believed then
            for watched in self._by_watch.values():
                watched.events += 1
        for inode in (*self._inodes.of_kind(DiskDirectory), *self._inodes.of_kind(File)):
            node = self._node(inode)
            if isinstance(node, DiskDirectory):
                stale.directories[inode] = None
                stale.entries[node.parent, node.name] = None
            elif isinstance(node, File):
                stale.entries.update(dict.fromkeys(list(node.locations)))
            stale.inodes[inode] = None
        stale.attributes.update(dict.fromkeys(self._inodes.of_kind(TreeDirectory)))
        return stale

    def _node(self, inode: Inode) -> Node | None:
        try:
            return self._inodes.get(inode)
        except FsError:
            return None

    def _tell(self, stale: _Stale) -> None:
        for inode in stale.directories:
            descriptor = self._backing.discard(inode)
            if descriptor is not None and os.fstat(descriptor.fd).st_nlink == 0:
                node = self._node(inode)
                if isinstance(node, DiskDirectory):  # one that is made in its place may get its number
                    self._inodes.detach(node)
        for entry in stale.entries:
            self._notifier.invalidate_entry(*entry)
        for inode in stale.inodes:
            self._notifier.invalidate_inode(inode)
        for inode in stale.attributes.keys() - stale.inodes.keys():
            self._notifier.invalidate_attributes(inode)
