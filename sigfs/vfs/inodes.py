"""The node table: what the kernel's node ids stand for.

Owned here: node ids and what they are attached to, lookup counts, and how long a node lives. No system call is made
here, so the table's lock is only ever held for a few dictionary operations.

A node lives while the kernel references it, while it is open, and while another node hangs off it: a path below is
resolved through the nodes above.
"""

from __future__ import annotations

import errno
import stat
import threading
from typing import TYPE_CHECKING, Final

from sigfs.vfs.nodes import (
    DiskDirectory,
    File,
    TreeDirectory,
    VirtualFile,
    hang,
    is_same,
    of_branch,
    tree_ino,
    unhang,
)
from sigfs.vfs.types import ROOT, FsError, Inode

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable

    from sigfs.model.types import JobId
    from sigfs.tree import Branch, VirtualNode
    from sigfs.vfs.backing import Descriptor
    from sigfs.vfs.nodes import Directory, Node
    from sigfs.vfs.virtual import Content

_SMALL: Final = 10_000
"""Nodes for which the table's own room is not worth a thought."""

LOCATIONS_LIMIT: Final = 8
"""Names remembered per file; further ones push out the oldest. A name is a hint, checked at each use."""


class Inodes:
    """The table. Any thread may call any method; each is atomic.

    ``_lock`` guards everything here and the counts and names within the nodes. While it is held only ``on_drop`` may
    lock something else, and no system call is made; what is no longer needed is closed afterwards: for a file that was
    removed, that is when the disk below gives its blocks back.
    """

    def __init__(self, root: VirtualNode, *, reads_documents: bool = False) -> None:
        """Begin with the root, which needs no reference to live.

        Args:
            reads_documents: as in ``TreeDirectory``.
        """
        # Told of each directory that is dropped, with the lock held; gives what is to be closed.
        self.on_drop: Callable[[Inode], Descriptor | None] = lambda _: None
        self._to_close: list[Descriptor | None] = []
        # Told, lock held, of each name that comes to lead to something on disk: directory, name, node. Of a job
        # directory it is told the job's id as the name, and 0 for the workspace.
        self.on_name: Callable[[Inode, str, Inode], None] | None = None
        self._lock = threading.Lock()
        self._most = 0  # nodes there have been since the maps were last made
        self._last = ROOT  # ids are counted up and never given again (I4)
        top = TreeDirectory(ROOT, ROOT, "", root, tree_ino(0, "/"), reads_documents=reads_documents)
        self._nodes: dict[Inode, Node] = {ROOT: top}
        # (parent, name) -> the directory that a lookup finds there; attached nodes only, without the root
        self._directories: dict[tuple[Inode, str], Directory] = {}
        # (st_dev, st_ino) -> the file; attached nodes only
        self._files: dict[tuple[int, int], File] = {}
        # (parent, name) -> the file that a lookup finds there; attached nodes only
        self._virtual: dict[tuple[Inode, str], VirtualFile] = {}
        self._documents = int(reads_documents)  # nodes that depend on documents
        # job -> its directories, attached or not
        self._jobs: dict[JobId, DiskDirectory | tuple[DiskDirectory, ...]] = {}

    def __len__(self) -> int:
        return len(self._nodes)

    # Finding

    def get(self, inode: Inode) -> Node:
        """Give the node *inode*.

        Raises:
            FsError: ESTALE if there is none: it was forgotten, or never given out.
        """
        try:
            return self._nodes[inode]
        except KeyError:
            raise FsError(errno.ESTALE) from None

    def has(self, inode: Inode) -> bool:
        """Tell whether there is a node *inode*. Takes no lock."""
        return inode in self._nodes

    def of_kind(self, kind: type[Node]) -> list[Inode]:
        """List all nodes of a kind. Complexity: O(nodes)."""
        with self._lock:
            return [inode for inode, node in self._nodes.items() if isinstance(node, kind)]

    def known_file(self, found: os.stat_result) -> File | None:
        """Give the file node that has the number of *found*. It may be another file: see ``file``."""
        return self._files.get((found.st_dev, found.st_ino))

    @property
    def reads_documents(self) -> bool:
        """Whether what some node stands for depends on documents."""
        return self._documents > 0

    @property
    def root(self) -> TreeDirectory:
        """The view's top directory."""
        root = self._nodes[ROOT]
        assert isinstance(root, TreeDirectory)
        return root

    def below(self, node: TreeDirectory, branches: Iterable[Branch] | None = None) -> list[Directory]:
        """List the nodes of directories in *node*, attached or not: all, or those that some branches concern.

        Complexity: O(those listed + branches).
        """
        with self._lock:
            found = list((node.below_any or {}).values())
            if node.below:
                groups = node.below.values() if branches is None else map(node.below.get, branches)
                for group in groups:
                    if isinstance(group, tuple):
                        found += group
                    elif group is not None:
                        found.append(group)
            return found

    def of_job(self, job: JobId) -> tuple[DiskDirectory, ...]:
        """Give the nodes of the directory of *job*, one for each of its paths that is held, attached or not."""
        found = self._jobs.get(job, ())
        return found if isinstance(found, tuple) else (found,)

    def at_other_paths(self, parent: Inode, name: str) -> list[DiskDirectory]:
        """List the nodes of what lookups found by the path of *name* in *parent* from the job's other directories.

        Complexity: O(depth in the job x held paths of the job).
        """
        names = [name]
        with self._lock:
            above = self._nodes.get(parent)
            while isinstance(above, DiskDirectory) and above.job is None:
                names.append(above.name)
                above = self._nodes.get(above.parent)
            if not isinstance(above, DiskDirectory) or above.job is None:
                return []
            found = []
            for other in self.of_job(above.job):
                node: Directory | None = other if other is not above else None
                for step in reversed(names):
                    node = self._directories.get((node.inode, step)) if node is not None else None
                if isinstance(node, DiskDirectory):
                    found.append(node)
            return found

    @property
    def last(self) -> Inode:
        """The latest node id: what is made from now on gets a higher one."""
        return self._last

    # Taking references

    def tree_directory(
        self,
        parent: TreeDirectory,
        name: str,
        place: VirtualNode,
        branch: Branch = None,
        *,
        reads_documents: bool = False,
    ) -> TreeDirectory:
        """Give the node of a virtual directory, with one more reference.

        If *name* led to something else before, that node is detached and a new one made.

        Args:
            branch, reads_documents: as in ``TreeDirectory``.
        """
        key = (parent.inode, name)
        with self._lock:
            node = self._directories.get(key)
            if not isinstance(node, TreeDirectory) or node.place != place:
                self._detach_directory(node)
                st_ino = tree_ino(parent.st_ino, name)
                node = TreeDirectory(self._next(), *key, place, st_ino, branch=branch, reads_documents=reads_documents)
                self._attach_directory(node)
            self._move_branch(node, branch)
            node.lookups += 1
            return node

    def disk_directory(
        self,
        parent: Inode,
        name: str,
        found: os.stat_result,
        job: JobId | None = None,
        branch: Branch = None,
        *,
        reads_documents: bool = False,
        made_after: Inode | None = None,
    ) -> DiskDirectory:
        """Give the node of a directory on disk, with one more reference.

        Args:
            found: what is on the disk; decides whether a node known at this path is the same directory.
            job: the job whose directory it is; None for a directory below.
            branch, reads_documents: as in ``DiskDirectory``.
            made_after: the directory has just been made, when this was the latest node id: an older node stands for
                one that is gone.
        """
        key = (parent, name)
        with self._lock:
            node = self._directories.get(key)
            if (
                not isinstance(node, DiskDirectory)
                or node.job != job
                or not is_same(node, found)
                or (made_after is not None and node.inode <= made_after)
            ):
                self._detach_directory(node)
                node = DiskDirectory(
                    self._next(),
                    *key,
                    found.st_dev,
                    found.st_ino,
                    job,
                    branch=branch,
                    reads_documents=reads_documents,
                )
                self._attach_directory(node)
            self._move_branch(node, branch)
            node.lookups += 1
            return node

    def file(self, parent: Inode, name: str, found: os.stat_result) -> File:
        """Give the node of a file, with one more reference, and remember that *name* in *parent* leads to it.

        The caller has made sure that a node with this number is the same file (and detached it otherwise).
        """
        key, kind = (found.st_dev, found.st_ino), stat.S_IFMT(found.st_mode)
        with self._lock:
            node = self._files.get(key)
            if node is None or node.kind != kind:
                if node is not None:
                    self._detach_file(node)
                node = File(self._next(), *key, kind)
                self._add_location(node, (parent, name))  # ESTALE rather than a node that hangs in the air
                self._nodes[node.inode] = self._files[key] = node
            else:
                self._add_location(node, (parent, name))
            node.pin = None  # a name leads to it again
            node.lookups += 1
            return node

    def nameless_file(self, found: os.stat_result) -> File:
        """Give a new node, with one reference, of the file *found*, which was just made without a name and is open.

        A node that has this number is of a file that is gone.
        """
        key = (found.st_dev, found.st_ino)
        with self._lock:
            gone = self._files.get(key)
            if gone is not None:
                self._detach_file(gone)
            node = File(self._next(), *key, stat.S_IFMT(found.st_mode), lookups=1)
            self._nodes[node.inode] = self._files[key] = node
            return node

    def virtual_file(self, parent: TreeDirectory, name: str, content: Content) -> VirtualFile:
        """Give the node of a file that holds *content*, with one more reference.

        If *name* led to another content before, that node is detached and a new one made.
        """
        key = (parent.inode, name)
        with self._lock:
            node = self._virtual.get(key)
            if node is None or node.content is not content:
                self.get(parent.inode)
                if node is not None:
                    node.attached = False
                node = VirtualFile(self._next(), *key, content, tree_ino(parent.st_ino, name))
                self._nodes[node.inode] = self._virtual[key] = node
                parent.children += 1
            node.lookups += 1
            return node

    def opened(self, node: Node, descriptor: Descriptor | None = None) -> None:
        """Count an open handle, and for a file remember its descriptor."""
        with self._lock:
            node.opens += 1
            if isinstance(node, File) and descriptor is not None:
                node.descriptors.append(descriptor)

    # Giving them back

    def forget(self, inode: Inode, count: int) -> None:
        """Take back *count* references.

        Raises:
            FsError: ESTALE if there is no such node, EINVAL if it has fewer references.
        """
        with self._lock:
            node = self.get(inode)
            if node.lookups < count:
                raise FsError(errno.EINVAL)
            node.lookups -= count
            self._most = max(self._most, len(self._nodes))
            self._drop_unused(node)
            if self._most > _SMALL and len(self._nodes) * 8 < self._most:
                self._give_room_back()
        self._to_close.clear()

    def closed(self, node: Node, descriptor: Descriptor | None = None) -> None:
        """Count a handle less."""
        with self._lock:
            node.opens -= 1
            if isinstance(node, File) and descriptor is not None:
                node.descriptors.remove(descriptor)
            self._drop_unused(node)
        self._to_close.clear()

    # Following what happens to names

    def detach(self, node: Directory | File) -> None:
        """Let no lookup find *node* any more: what has its number now, or may get it, is something else."""
        with self._lock:
            if isinstance(node, File):
                self._detach_file(node)
            else:
                self._detach_directory(node)

    def removed(self, parent: Inode, name: str, found: os.stat_result, pin: Descriptor) -> None:
        """Follow that *name* was removed from *parent*, or replaced.

        Args:
            found: the state of what was removed, afterwards.
            pin: a descriptor of it. The node keeps it until it is dropped, so that a removed file stays usable
                for those that have it, and its disk inode is not given to a new file in the meantime.
        """
        with self._lock:
            if stat.S_ISDIR(found.st_mode):
                directory = self._directories.get((parent, name))
                if isinstance(directory, DiskDirectory) and is_same(directory, found):
                    directory.pin = pin
                    self._detach_directory(directory)
                return
            node = self._files.get((found.st_dev, found.st_ino))
            if node is None:
                return
            node.pin = pin
            if found.st_nlink == 0:
                self._detach_file(node)
            else:
                self._remove_location(node, (parent, name))

    def renamed(self, old: tuple[Inode, str], new: tuple[Inode, str], found: os.stat_result) -> None:
        """Follow that *found* is now *new* and no longer *old*. A directory keeps its node and all below it."""
        with self._lock:
            if not stat.S_ISDIR(found.st_mode):
                self._move_file(old, new, found)
                return
            directory = self._directories.get(old)
            self._detach_directory(self._directories.get(new))
            self._detach_directory(directory)
            if isinstance(directory, DiskDirectory) and is_same(directory, found):
                self._move_directory(directory, new)

    def migrated(self, old: tuple[Inode, str], new: tuple[Inode, str], job: JobId, new_job: JobId) -> None:
        """Follow that *job* is *new_job* now, and its directory at *new* and no longer at *old*.

        All nodes of the directory stay what they are, and so does what is below them. Other names that no longer lead
        to them are found by whoever tells the kernel of them.
        """
        with self._lock:
            for node in self.of_job(job):
                self._forget_job(node)
                node.job = new_job
                self._remember_job(node)
            node_there = self._directories.get(old)
            self._detach_directory(self._directories.get(new))
            if isinstance(node_there, DiskDirectory) and node_there.job == new_job:
                self._detach_directory(node_there)
                self._move_directory(node_there, new)

    def detach_directory(self, parent: Inode, name: str) -> None:
        """Let no lookup find the directory *name* in *parent* any more."""
        with self._lock:
            self._detach_directory(self._directories.get((parent, name)))

    def refer(self, inode: Inode) -> None:
        """Take one more reference to a node."""
        with self._lock:
            self.get(inode).lookups += 1

    def exchanged(
        self, old: tuple[Inode, str], new: tuple[Inode, str], at_old: os.stat_result, at_new: os.stat_result
    ) -> None:
        """Follow that two names changed places. *at_old*, *at_new*: what they led to before."""
        with self._lock:
            moves = ((old, new, at_old), (new, old, at_new))
            directories = [self._directories.pop(source, None) for source, _, _ in moves]
            for (source, target, found), directory in zip(moves, directories, strict=True):
                if directory is not None:
                    directory.attached = False
                    self._move_directory(directory, target)
                if not stat.S_ISDIR(found.st_mode):
                    self._move_file(source, target, found)

    # With the lock held

    def _next(self) -> Inode:
        self._last = last = Inode(self._last + 1)
        return last

    def _attach_directory(self, node: Directory) -> None:
        parent = self.get(node.parent)  # ESTALE rather than a node that hangs in the air
        parent.children += 1
        self._nodes[node.inode] = node
        self._directories[node.parent, node.name] = node
        self._documents += node.reads_documents
        self._tell_name(node)
        if isinstance(parent, TreeDirectory):
            hang(node, parent)
        if isinstance(node, DiskDirectory):
            self._remember_job(node)

    def _remember_job(self, node: DiskDirectory) -> None:
        if node.job is not None:
            others = self._jobs.get(node.job)
            if others is None:
                self._jobs[node.job] = node
            else:
                self._jobs[node.job] = (*(others if isinstance(others, tuple) else (others,)), node)

    def _forget_job(self, node: DiskDirectory) -> None:
        if node.job is not None:
            left = tuple(other for other in self.of_job(node.job) if other is not node)
            if left:
                self._jobs[node.job] = left
            else:
                del self._jobs[node.job]

    def _tell_name(self, node: Directory) -> None:
        if self.on_name is not None and isinstance(node, DiskDirectory):
            at, name = (node.parent, node.name) if node.job is None else (Inode(0), node.job)
            self.on_name(at, name, node.inode)

    def _move_branch(self, node: Directory, branch: Branch) -> None:
        """Let *node* hang by *branch*: a shortened name may mean the same by another way."""
        if node.branch != branch:
            parent = self._nodes[node.parent]
            assert isinstance(parent, TreeDirectory)
            unhang(node, parent)
            node.branch = branch
            hang(node, parent)

    def _detach_directory(self, node: Directory | None) -> None:
        if node is not None and node.attached:
            node.attached = False
            if self._directories.get((node.parent, node.name)) is node:
                del self._directories[node.parent, node.name]

    def _move_directory(self, node: Directory, new: tuple[Inode, str]) -> None:
        """Attach *node*, which is detached, at another path."""
        parent = self._nodes.get(new[0])
        if parent is None or self._is_below(new[0], node):
            # The latter only if others have moved directories about below, so that our paths are out of date.
            return
        old_parent = self._nodes[node.parent]
        if isinstance(old_parent, TreeDirectory):
            unhang(node, old_parent)
            node.branch = None  # until it is looked up
        node.attached = True
        self._directories[new] = node
        node.parent, node.name = new
        if isinstance(parent, TreeDirectory):
            hang(node, parent)
        self._tell_name(node)
        parent.children += 1
        old_parent.children -= 1
        self._drop_unused(old_parent)

    def _move_file(self, old: tuple[Inode, str], new: tuple[Inode, str], found: os.stat_result) -> None:
        node = self._files.get((found.st_dev, found.st_ino))
        if node is not None and new[0] in self._nodes:
            self._add_location(node, new)
            self._remove_location(node, old)

    def _is_below(self, inode: Inode, directory: Directory) -> bool:
        while inode != ROOT:
            if inode == directory.inode:
                return True
            above = self._nodes[inode]
            assert not isinstance(above, File | VirtualFile)
            inode = above.parent
        return False

    def _detach_file(self, node: File) -> None:
        if node.attached:
            node.attached = False
            del self._files[node.dev, node.ino]
            for location in list(node.locations):
                self._remove_location(node, location)

    def _add_location(self, node: File, location: tuple[Inode, str]) -> None:
        if location in node.locations:
            if len(node.locations) > 1:  # latest last
                del node.locations[location]
                node.locations[location] = None
            return
        self.get(location[0]).children += 1
        node.locations[location] = None
        if self.on_name is not None:
            self.on_name(*location, node.inode)
        if len(node.locations) > LOCATIONS_LIMIT:
            self._remove_location(node, next(iter(node.locations)))

    def _remove_location(self, node: File, location: tuple[Inode, str]) -> None:
        if location in node.locations:
            del node.locations[location]
            parent = self._nodes[location[0]]
            parent.children -= 1
            self._drop_unused(parent)

    def _drop_unused(self, node: Node) -> None:
        """Drop *node* if nothing needs it, and what was needed for its sake alone."""
        todo = [node]
        while todo:
            node = todo.pop()
            if node.lookups or node.opens or node.children or node.inode == ROOT or node.inode not in self._nodes:
                continue
            del self._nodes[node.inode]
            if isinstance(node, File):
                if node.attached:
                    del self._files[node.dev, node.ino]
                above = [parent for parent, _ in node.locations]
                node.locations.clear()
            elif isinstance(node, VirtualFile):
                if node.attached:
                    del self._virtual[node.parent, node.name]
                above = [node.parent]
                self._to_close.append(node.lockable)
                node.lockable = None
            else:
                self._detach_directory(node)
                above = [node.parent]
                self._documents -= node.reads_documents
                parent_node = self._nodes[node.parent]
                if isinstance(parent_node, TreeDirectory):
                    unhang(node, parent_node)
                if isinstance(node, DiskDirectory):
                    self._forget_job(node)
                self._to_close.append(self.on_drop(node.inode))
            node.attached = False
            if node.pin is not None:
                self._to_close.append(node.pin)
                node.pin = None
            for parent in above:
                self._nodes[parent].children -= 1
                todo.append(self._nodes[parent])

    def _give_room_back(self) -> None:
        """Make the maps anew: Python lets them keep the room they once had, some 200 bytes a node."""
        self._most = len(self._nodes)
        self._nodes = dict(self._nodes)
        self._directories = dict(self._directories)
        self._files = dict(self._files)
        self._virtual = dict(self._virtual)
        self._jobs = dict(self._jobs)

    # Checking

    def close(self) -> None:
        """Let go of all pins."""
        with self._lock:
            for node in self._nodes.values():
                node.pin = None

    def check(self, opens: dict[Inode, int]) -> None:
        """Assert I3 and I4 of the table's own books.

        Args:
            opens: how many handles are open per node.
        """
        with self._lock:
            children: dict[Inode, int] = {}
            for inode, node in self._nodes.items():
                assert node.inode == inode <= self._last
                assert node.lookups >= 0
                assert node.opens == opens.get(inode, 0), f"node {inode} counts {node.opens} handles"
                used = node.lookups or node.opens or node.children or inode == ROOT
                assert used, f"node {inode} is kept for nothing"
                if isinstance(node, File):
                    assert node.attached == (self._files.get((node.dev, node.ino)) is node)
                    assert node.attached or not node.locations
                    assert len(node.locations) <= LOCATIONS_LIMIT
                    assert len(node.descriptors) <= node.opens
                    above = [parent for parent, _ in node.locations]
                elif isinstance(node, VirtualFile):
                    assert node.attached == (self._virtual.get((node.parent, node.name)) is node)
                    above = [node.parent]
                elif inode != ROOT:
                    assert node.attached == (self._directories.get((node.parent, node.name)) is node)
                    assert not self._is_below(node.parent, node)
                    above = [node.parent]
                else:
                    above = []
                for parent in above:
                    assert not isinstance(self._nodes[parent], File | VirtualFile)
                    children[parent] = children.get(parent, 0) + 1
            for inode, node in self._nodes.items():
                assert node.children == children.get(inode, 0), f"node {inode} counts {node.children} children"
            assert opens.keys() <= self._nodes.keys(), "a handle is open on a node that was dropped"
            hung = {
                node.inode
                for parent in self._nodes.values()
                if isinstance(parent, TreeDirectory)
                for group in (*(parent.below or {}).values(), tuple((parent.below_any or {}).values()))
                for node in of_branch(group)
                if node.parent == parent.inode
            }
            directories = [n for n in self._nodes.values() if not isinstance(n, File | VirtualFile) and n.inode != ROOT]
            assert hung == {n.inode for n in directories if isinstance(self._nodes[n.parent], TreeDirectory)}
            jobs = [n for n in directories if isinstance(n, DiskDirectory) and n.job is not None]
            assert all(n in self.of_job(n.job) for n in jobs if n.job is not None)
            assert sum(len(self.of_job(job)) for job in self._jobs) == len(jobs)
            assert self._documents == sum(node.reads_documents for node in (self.root, *directories))
            attached = sum(node.attached for node in self._nodes.values()) - 1  # the root is in no other map
            assert attached == len(self._directories) + len(self._files) + len(self._virtual)
