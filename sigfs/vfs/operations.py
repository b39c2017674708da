"""``Operations``: what a mounted project does when asked, in POSIX terms and independent of any FUSE binding.

Owned here: how the parts are put together, attached and closed, and what is counted. The requests are in a row of
classes, one for each kind, each of which extends the one before: ``files`` (calls on open files), ``directories``,
``metadata``, ``names``, ``opening``. What they share is held: ``views`` answers for virtual directories, ``disk`` says
what is found in a job's, ``inodes`` keeps the nodes, ``backing`` the way to the disk. Called by a transport, from any
number of threads; no lock is held across a system call, a call of the tree, or a notification (I6).

The server that runs this must have a umask of 0: modes are made exact here.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from typing import TYPE_CHECKING

from sigfs.query import format_text
from sigfs.vfs.backing import Backing
from sigfs.vfs.coherence import Coherence
from sigfs.vfs.disk import Disk
from sigfs.vfs.inodes import Inodes
from sigfs.vfs.nodes import File
from sigfs.vfs.opening import Opening
from sigfs.vfs.process import Rate, process_status
from sigfs.vfs.readonly import ReadOnly
from sigfs.vfs.statepoints import StatePointFiles
from sigfs.vfs.views import Views

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sigfs.index import Index
    from sigfs.model.places import Places
    from sigfs.model.types import Change
    from sigfs.model.workspace import Workspace
    from sigfs.tree import Tree
    from sigfs.vfs.types import Notifier


class Operations(Opening):
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
        read_only: bool | ReadOnly = False,
        entry_timeout_s: float = 1.0,
        attr_timeout_s: float = 1.0,
        trusts_times: bool = True,
        keeps_data: bool = False,
        places: Places | None = None,
        shared: bool = False,
    ) -> None:
        """Wire the parts. Nothing is opened yet; the workspace directory need not exist.

        Args:
            read_only: whether changes are refused.
            entry_timeout_s: how long the kernel may keep a name that also depends on the disk, or on documents.
            attr_timeout_s: how long it may keep attributes; those of a virtual directory show the permissions of the
                workspace directory.
            trusts_times: the disk below and this process have the same clock, so that what changed more than a moment
                ago cannot change again without its times telling.
            keeps_data: as in ``OpenFiles``.
            places, shared: as in ``Backing``.
        """
        inodes = Inodes(tree.root, reads_documents=tree.reads_documents(tree.root))
        backing = Backing(workspace, inodes, places=places, shared=shared)
        statepoints = StatePointFiles(workspace, inodes, backing)
        disk = Disk(inodes, backing, entry_timeout_s, attr_timeout_s)
        views = Views(tree, index, workspace, disk, statepoints, self.status)
        super().__init__(
            disk,
            views,
            statepoints,
            read_only=read_only if isinstance(read_only, ReadOnly) else ReadOnly(read_only),
            trusts_times=trusts_times,
            keeps_data=keeps_data,
        )
        self._tree = tree
        self._index = index
        self._watch_status: Callable[[], Mapping[str, object]] = dict
        self._about: Mapping[str, object] = {}
        self._rate = Rate()
        self._transport_statistics: Callable[[], Mapping[str, object]] = dict

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
        self._views.attach(notifier, can_notify=can_notify)

    def attach_documents(self, refresh: Callable[[], None]) -> None:
        """Say how to have the documents in the index as they are now, as far as that is possible.

        Args:
            refresh: called with no lock held before a request is answered that depends on documents. It gives what has
                changed to ``apply``.
        """
        self._views.refresh_documents = refresh

    def attach_status(
        self, watch: Callable[[], Mapping[str, object]], about: Mapping[str, object] | None = None
    ) -> None:
        """Say, for ``status``, how to describe the way in which changes below are noticed.

        Args:
            about: further keys that never change.
        """
        self._watch_status = watch
        self._about = about or {}

    def attach_events(
        self, hears_of_jobs: Callable[[], bool], hears_of_places: Callable[[], bool] | None = None
    ) -> None:
        """Say how to find out whether ``apply`` is told at once of jobs that come and go. Asked again and again.

        Args:
            hears_of_places: the same of those outside of the workspace; default: it is not.
        """
        self._views.hears_of_jobs = hears_of_jobs
        if hears_of_places is not None:
            self._views.hears_of_places = hears_of_places

    def follow(self, coherence: Coherence, entry_timeout_s: float, attr_timeout_s: float) -> None:
        """Have the directories on disk that the kernel holds watched from now on, so that it may believe more.

        Args:
            coherence: started and closed by the caller, the latter before ``close``.
            entry_timeout_s, attr_timeout_s: how long the kernel may keep what it would be told of at once.
        """
        self._disk.follow(coherence, entry_timeout_s, attr_timeout_s)
        self._views.follow()

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
        self._views.apply(changes, known_only=known_only)

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
            "notifications": self._views.notifications,
            "full_passes": self._views.full_passes,
            "new_directories": len(self._views.changes),
        }

    def status(self) -> dict[str, object]:
        """Say how the mount is: what ``user.sigfs.status`` of the root, ``.sigfs/status.json`` and ``metrics`` tell.

        The keys of ``statistics``, with ``jobs`` those of the view; ``project_jobs``, all there are; ``layout``,
        ``filter`` (as text) and ``read_only``; ``watch``, how changes below are noticed, ``coherence``, how those of
        files in use are; ``cache``, of names; ``process``; what the transport says, ``requests`` and ``passthrough`` at
        least; ``requests_per_s``, as of ``Rate``; and what was attached. Nothing here waits for the disk.
        """
        view = self._tree.view
        jobs, project_jobs = self._views.count_jobs()
        said: dict[str, object] = {**self.statistics(), "jobs": jobs, "project_jobs": project_jobs}
        with contextlib.suppress(ValueError):  # a condition that only Python can say
            said["filter"] = format_text(view.filter)
        coherence = {} if self._disk.coherence is None else self._disk.coherence.status()
        said |= {"layout": view.layout, "read_only": self._read_only.now()}
        said |= {"watch": self._watch_status(), "coherence": coherence}
        said |= {"cache": self._views.cache_status(), "process": process_status(), **self._transport_statistics()}
        if isinstance(requests := said.get("requests"), int):
            said["requests_per_s"] = self._rate.now(requests)
        return {**self._about, **said}
