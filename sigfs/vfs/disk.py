"""What is found on the disk below: which node it is, what is said of it, and for how long the kernel may believe that.

Owned here: ``Disk``, with the times that the kernel may keep an answer, and the rule by which a file found below is a
file that is known. ``inodes`` keeps the nodes, ``backing`` the way to the disk, ``coherence`` what is watched.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING

from sigfs.vfs import freshness
from sigfs.vfs.coherence import WORKSPACE
from sigfs.vfs.nodes import DiskDirectory, File
from sigfs.vfs.types import Attrs, FsError, Inode

if TYPE_CHECKING:
    from sigfs.model.types import JobId
    from sigfs.vfs.backing import Backing, Descriptor
    from sigfs.vfs.coherence import Coherence, Moment
    from sigfs.vfs.inodes import Inodes
    from sigfs.vfs.types import Caller


class Disk:
    """Nodes and answers of what is on the disk. Any thread may call any method.

    Attributes:
        inodes, backing: where nodes are kept, and descriptors of them.
        coherence: what watches the directories that the kernel holds; None until ``follow``.
        entry_timeout_s: how long the kernel may keep a name that also depends on the disk, or on documents.
        attr_timeout_s: how long it may keep attributes.
    """

    def __init__(self, inodes: Inodes, backing: Backing, entry_timeout_s: float, attr_timeout_s: float) -> None:
        """Begin with nothing watched."""
        self.inodes = inodes
        self.backing = backing
        self.coherence: Coherence | None = None
        self.entry_timeout_s = entry_timeout_s
        self.attr_timeout_s = attr_timeout_s
        self._watched_entry_timeout_s = entry_timeout_s
        self._watched_attr_timeout_s = attr_timeout_s

    def follow(self, coherence: Coherence, entry_timeout_s: float, attr_timeout_s: float) -> None:
        """Have what the kernel holds watched from now on. As ``Operations.follow``."""
        self._watched_entry_timeout_s = entry_timeout_s
        self._watched_attr_timeout_s = attr_timeout_s
        self.inodes.on_name = coherence.named if coherence.follows else None
        self.coherence = coherence

    # Nodes

    def entered(self, parent: Inode, name: str, found: os.stat_result, *, made_after: Inode | None = None) -> Attrs:
        """Take a reference to *found*, which is *name* in *parent* on the disk.

        Args:
            made_after: as for ``file_node``.
        """
        node: DiskDirectory | File
        if stat.S_ISDIR(found.st_mode):
            node = self.inodes.disk_directory(parent, name, found, made_after=made_after)
        else:
            node = self.file_node(parent, name, found, made_after=made_after)
        return self.attrs(node, found)

    def made(self, parent: Inode, directory: Descriptor, name: str, made_after: Inode) -> Attrs:
        """Take a reference to what has just been made as *name* in *parent*, which is open as *directory*."""
        found = os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
        return self.entered(parent, name, found, made_after=made_after)

    def file_node(self, parent: Inode, name: str, found: os.stat_result, *, made_after: Inode | None = None) -> File:
        """Take a reference to the file *found*, making sure that a node with its number is really the same file.

        It is if it is open or pinned (so the number cannot have been given away), was known by this name, or if
        another of its names leads to this number. Otherwise the file was removed below by others and its number
        reused, or it was renamed by others: a new node serves both. Not noticed: that others removed it and gave its
        name and number to a new file; the kernel then sees another size or time, as with a rewritten file.

        Args:
            made_after: the file has just been made, when this was the latest node id. Then an older node is of
                another file, whatever its names lead to.
        """
        known = self.inodes.known_file(found)
        if known is not None and not known.descriptors and known.pin is None:
            here = (parent, name)
            if made_after is not None:
                is_same = known.inode > made_after
            else:
                is_same = here in known.locations or self.backing.find(known, besides=here) is not None
            if not is_same:
                self.inodes.detach(known)
        return self.inodes.file(parent, name, found)

    def job_stat(self, job: JobId) -> os.stat_result | None:
        """Give the attributes of the directory of *job*; None if there is none."""
        return self.backing.job_stat(job)

    def require_name(self, node: File) -> None:
        """See that what is about to be written is not lost: that a name leads to *node*, or a program has it open.

        The kernel may have come by a name that it still believes in; after ESTALE it asks for the name again.
        """
        if (not node.attached and not node.opens) or (node.locations and self.backing.find(node) is None):
            raise FsError(errno.ESTALE)

    def require_as_told(self, node: File, found: os.stat_result, caller: Caller | None) -> None:
        """See that the owner and mode by which the kernel has checked what *caller* may do are those of the file.

        It may have cached older ones, or those of another file whose number this one got. After ESTALE it looks the
        name up again, and checks by what it finds then.
        """
        if caller is None or node.told is None or caller.uid in (0, os.geteuid()):
            return
        if not freshness.same_rights(node.told, freshness.stamp(found)):
            raise FsError(errno.ESTALE)

    # Answers

    def attrs(self, node: DiskDirectory | File, found: os.stat_result) -> Attrs:
        """Say of *node* that it is as *found*."""
        if isinstance(node, File):
            node.told = freshness.stamp(found)
        elif node.job is not None:
            found = self.backing.shown(node.job, found)
        return Attrs(node.inode, found, self.entry_timeout_s, self.attr_timeout_s)

    def events_in(self, parent: Inode) -> Moment | None:
        """Ask ``Coherence.events``, before something in a directory is looked at; None: nobody follows."""
        coherence = self.coherence
        return None if coherence is None or not coherence.follows else coherence.events(parent)

    def believed(self, attrs: Attrs, at: tuple[Inode, str], events: Moment) -> Attrs:
        """Have something on disk watched, and let the kernel believe for long what it would be told of at once.

        Args:
            attrs: the answer.
            at: a directory that it is in, and its name there, as ``name_of`` gives it.
            events: as ``events_in`` said before it was looked at.
        """
        coherence, (parent, name) = self.coherence, at
        assert coherence is not None
        node = self.inodes.get(attrs.inode)
        if isinstance(node, DiskDirectory):
            if not coherence.watches(node.inode):
                with contextlib.suppress(OSError, FsError):  # it is gone
                    directory = self.backing.directory(node)
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


def name_of(node: DiskDirectory | File) -> tuple[Inode, str]:
    """Give a directory that *node* is in, in the words of ``Coherence``, and its name there; -1 if unknown."""
    if isinstance(node, DiskDirectory):
        return (node.parent, node.name) if node.job is None else (WORKSPACE, node.job)
    return next(reversed(list(node.locations)), (Inode(-1), ""))
