"""The types that vfs and the transports exchange, and the seam to the kernel's caches.

Owned here: no behaviour. Every name is ``str`` as ``os.fsdecode`` makes it of the kernel's bytes.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, NewType, Protocol, TypeAlias

Inode = NewType("Inode", int)
"""A node id: what the kernel calls a node by. Never reused within a mount (I4); not the ``st_ino`` shown."""

FileHandle = NewType("FileHandle", int)
"""An open file or directory; never reused within a mount."""

ROOT: Final = Inode(1)


class FsError(Exception):
    """An answer other than success, as the kernel wants it. Raised by vfs only, never below it."""

    def __init__(self, errno: int) -> None:
        super().__init__(errno, os.strerror(errno))
        self.errno = errno


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. ``umask`` is applied by vfs (the transport negotiates DONT_MASK where it can; where the kernel has
    applied it already, the transport passes 0). ``by_acl``: the kernel has checked the rights by ACLs, too (the
    transport negotiates POSIX_ACL), and not by modes alone, whose group bits are a mask where there is an ACL."""

    uid: int
    gid: int
    pid: int
    umask: int = 0
    by_acl: bool = True


class Attrs(NamedTuple):
    """A node and what ``stat`` says of it.

    ``stat`` has every field of ``os.stat_result`` on Linux, virtual directories included; ``stat.st_ino`` is
    what programs see. Timeouts in seconds: how long the kernel may keep the name and the attributes.
    """

    inode: Inode
    stat: os.stat_result
    entry_timeout_s: float
    attr_timeout_s: float


Time: TypeAlias = int | Literal["now"]
"""Nanoseconds since the epoch, or the time of the call."""


ListingCache: TypeAlias = Literal["none", "fill", "keep"]
"""What the kernel may do with the listing of a directory that it opens: ask each time; drop the copy it has and make a
new one as it reads; read the copy it has, if any."""


class DataCache(NamedTuple):
    """What the kernel may still believe of a file that it opens.

    Attributes:
        may_keep: the data that it has cached.
        attributes_hold: the attributes that it was told last.
    """

    may_keep: bool
    attributes_hold: bool


@dataclass(frozen=True, slots=True)
class SetAttr:
    """What ``setattr`` shall change; None leaves a field as it is."""

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int | None = None
    atime_ns: Time | None = None
    mtime_ns: Time | None = None


class DirEntry(NamedTuple):
    """One name of a directory.

    ``cookie`` is the position *after* this entry: passed to ``readdir`` it continues behind it. ``type`` is the
    S_IFMT part of the mode; ``ino`` the ``st_ino`` that ``lookup`` will show (0: not known without a lookup).
    """

    name: str
    cookie: int
    type: int
    ino: int


class Notifier(Protocol):
    """How vfs tells the kernel that what it has cached is no longer so.

    All calls only queue and return at once, from any thread. The transport sends from a thread of its own that
    holds no lock and serves no request (I6); a name or node that the kernel does not hold is no error. A
    transport that cannot notify implements them as doing nothing and offers no cache time for tree nodes.
    """

    def invalidate_entry(self, parent: Inode, name: str) -> None:
        """Forget what *name* in *parent* led to (or that it led nowhere)."""

    def invalidate_inode(self, inode: Inode) -> None:
        """Forget attributes, listing and data of *inode*."""

    def invalidate_attributes(self, inode: Inode) -> None:
        """Forget attributes of *inode*, and keep its data."""
