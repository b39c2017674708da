"""The kinds of nodes: what the kernel's node ids stand for.

Four kinds of node. A ``TreeDirectory`` is a place of the view. A ``DiskDirectory`` is a job directory or a directory
below one; like every directory it has one node per *path* (I4). A ``File`` is everything else on the disk and has one
node per (device, inode) below, whatever the number of its paths, so that they share one page cache. A ``VirtualFile``
is nowhere on the disk; it has one node per content.

Owned here: what is known of a node, and by which branch a directory hangs below a virtual one. ``inodes`` has the table
of all nodes, whose lock guards what changes in one.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import xxhash

from sigfs.vfs.types import Inode

if TYPE_CHECKING:
    from sigfs.model.types import JobId
    from sigfs.tree import Branch, VirtualNode
    from sigfs.vfs.backing import Descriptor
    from sigfs.vfs.freshness import Stamp
    from sigfs.vfs.resolved import Answer
    from sigfs.vfs.virtual import Content


@dataclass(slots=True, eq=False)
class _Node:
    """What every node has. The counts are guarded by the table's lock.

    Attributes:
        lookups: references that the kernel holds: entry replies minus forgets (I3).
        opens: open handles.
        children: nodes (of files: names of files) that are resolved through this one.
        attached: whether a lookup may still find this node. A node that was removed, or whose path now leads to
            something else, stays valid for those that hold it.
        pin: keeps a node reachable that no name leads to any more, and its disk inode from being reused.
    """

    inode: Inode
    lookups: int = field(default=0, kw_only=True)
    opens: int = field(default=0, kw_only=True)
    children: int = field(default=0, kw_only=True)
    attached: bool = field(default=True, kw_only=True)
    pin: Descriptor | None = field(default=None, kw_only=True)


@dataclass(slots=True, eq=False)
class TreeDirectory(_Node):
    """A virtual directory.

    Attributes:
        place: what the tree calls it.
        st_ino: the number programs see: a hash of the view path, so that it outlives the node.
        branch: which jobs of the directory above its name depends on, as ``tree.Found`` says.
        reads_documents: whether what its name leads to depends on documents.
        changed_ns: when what it lists was last known to change; a number that only grows. 0: not set yet.
        answers: of ``Resolved``, with their generation.
        below: the directories in it that there are nodes of, attached or not, by branch; several of one branch are in
            a tuple. None while there are none.
        below_any: those that depend on any of the jobs.
    """

    parent: Inode
    name: str
    place: VirtualNode
    st_ino: int
    branch: Branch = field(default=None, kw_only=True)
    reads_documents: bool = field(default=False, kw_only=True)
    changed_ns: int = field(default=0, kw_only=True)
    answers: tuple[int, dict[str, Answer]] | None = field(default=None, kw_only=True, repr=False)
    below: dict[Branch, Directory | tuple[Directory, ...]] | None = field(default=None, kw_only=True, repr=False)
    below_any: dict[Inode, Directory] | None = field(default=None, kw_only=True, repr=False)


@dataclass(slots=True, eq=False)
class DiskDirectory(_Node):
    """A job directory (``job`` is its id; its name on disk) or a directory below one (``job`` is None).

    Attributes:
        branch, reads_documents: of a job directory, as of a ``TreeDirectory``.
    """

    parent: Inode
    name: str
    dev: int
    ino: int
    job: JobId | None
    branch: Branch = field(default=None, kw_only=True)
    reads_documents: bool = field(default=False, kw_only=True)


@dataclass(slots=True, eq=False)
class File(_Node):
    """Anything that is no directory.

    Attributes:
        kind: the S_IFMT part of its mode.
        locations: (directory, name) pairs that led here, latest last.
        descriptors: of the open handles, latest last.
        told: the stamp of the attributes that were given out last; None: none yet.
        data_as_of: the stamp of the data that the kernel has cached, where it is sure to tell; see ``freshness``.
    """

    dev: int
    ino: int
    kind: int
    locations: dict[tuple[Inode, str], None] = field(default_factory=dict)
    descriptors: list[Descriptor] = field(default_factory=list)
    told: Stamp | None = None
    data_as_of: Stamp | None = None


@dataclass(slots=True, eq=False)
class VirtualFile(_Node):
    """A file that is nowhere on the disk.

    What it holds never changes: when it is to be something else, that is another node.

    Attributes:
        st_ino: as in ``TreeDirectory``.
        lockable: an empty file, for the locks that programs take; None before it is first opened.
    """

    parent: Inode
    name: str
    content: Content
    st_ino: int
    lockable: Descriptor | None = field(default=None, kw_only=True)


Directory: TypeAlias = TreeDirectory | DiskDirectory
Node: TypeAlias = TreeDirectory | DiskDirectory | File | VirtualFile


def tree_ino(parent_ino: int, name: str) -> int:
    """Give the ``st_ino`` of a virtual directory: 64 bits with the top one set, which disks do not use.

    >>> tree_ino(0, "foo") >> 63
    1
    """
    return xxhash.xxh3_64_intdigest(parent_ino.to_bytes(8, "little") + os.fsencode(name)) | 1 << 63


def is_same(node: DiskDirectory | File, found: os.stat_result) -> bool:
    """Tell whether *found* on the disk is what *node* stands for."""
    kind = stat.S_IFDIR if isinstance(node, DiskDirectory) else node.kind
    return (found.st_ino, found.st_dev, stat.S_IFMT(found.st_mode)) == (node.ino, node.dev, kind)


def hang(node: Directory, parent: TreeDirectory) -> None:
    """Note that *node* is in *parent*, by its branch."""
    if node.branch is None:
        if parent.below_any is None:
            parent.below_any = {}
        parent.below_any[node.inode] = node
        return
    if parent.below is None:
        parent.below = {}
    beside = parent.below.get(node.branch)
    if beside is None:
        parent.below[node.branch] = node
    else:
        parent.below[node.branch] = (*of_branch(beside), node)


def unhang(node: Directory, parent: TreeDirectory) -> None:
    """Note that *node* is no longer in *parent*."""
    if node.branch is None:
        assert parent.below_any is not None
        del parent.below_any[node.inode]
        if not parent.below_any:
            parent.below_any = None  # with the room for those that were there
        return
    assert parent.below is not None
    left = tuple(other for other in of_branch(parent.below[node.branch]) if other is not node)
    if left:
        parent.below[node.branch] = left
    else:
        del parent.below[node.branch]
        if not parent.below:
            parent.below = None


def of_branch(beside: Directory | tuple[Directory, ...]) -> tuple[Directory, ...]:
    """Give the directories of one branch, as ``TreeDirectory.below`` has them."""
    return beside if isinstance(beside, tuple) else (beside,)
