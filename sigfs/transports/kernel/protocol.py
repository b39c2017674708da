"""The words of the FUSE protocol, major version 7: numbers, layouts, and how attributes are packed.

Owned here: everything that is a number or a byte layout in ``linux/fuse.h``, and nothing that decides. All fields
are in the machine's byte order and aligned by the protocol itself, so every ``Struct`` begins with ``=``.

Source: include/uapi/linux/fuse.h, protocol versions 7.31 to 7.45.
"""

from __future__ import annotations

import errno
import functools
import os
import sys
from enum import IntEnum, IntFlag
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from sigfs.vfs.types import FsError

if TYPE_CHECKING:
    from sigfs.vfs.types import Attrs, Inode

VERSION: Final = 7
NEWEST_MINOR: Final = 45
"""The newest minor version whose layouts this module knows; the kernel adapts to it."""
OLDEST_MINOR: Final = 31
"""Linux 5.4: before that some layouts are shorter."""

NAME_MAX_BYTES: Final = 1024
"""FUSE_NAME_MAX: a listing with a longer name is refused as a whole, with EIO."""
UNKNOWN_INO: Final = 0xFFFFFFFF
"""Inode number of a listed name that nobody has looked up. Not 0: old C libraries skip such entries."""


class Opcode(IntEnum):
    """What a request asks for."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    SETXATTR = 21
    GETXATTR = 22
    LISTXATTR = 23
    REMOVEXATTR = 24
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    GETLK = 31
    SETLK = 32
    SETLKW = 33
    ACCESS = 34
    CREATE = 35
    INTERRUPT = 36
    BMAP = 37
    DESTROY = 38
    IOCTL = 39
    POLL = 40
    NOTIFY_REPLY = 41
    BATCH_FORGET = 42
    FALLOCATE = 43
    READDIRPLUS = 44
    RENAME2 = 45
    LSEEK = 46
    COPY_FILE_RANGE = 47
    SETUPMAPPING = 48
    REMOVEMAPPING = 49
    SYNCFS = 50
    TMPFILE = 51
    STATX = 52
    COPY_FILE_RANGE_64 = 53


class Notification(IntEnum):
    """What the server may tell the kernel unasked; stands where a reply has its error."""

    INVAL_INODE = 2
    INVAL_ENTRY = 3


class Init(IntFlag):
    """Abilities, offered by the kernel in INIT and taken by the reply. Bits 32 and up travel in ``flags2``."""

    ASYNC_READ = 1 << 0
    POSIX_LOCKS = 1 << 1
    ATOMIC_O_TRUNC = 1 << 3
    BIG_WRITES = 1 << 5
    DONT_MASK = 1 << 6
    FLOCK_LOCKS = 1 << 10
    AUTO_INVAL_DATA = 1 << 12
    DO_READDIRPLUS = 1 << 13
    READDIRPLUS_AUTO = 1 << 14
    WRITEBACK_CACHE = 1 << 16
    PARALLEL_DIROPS = 1 << 18
    POSIX_ACL = 1 << 20
    ABORT_ERROR = 1 << 21
    MAX_PAGES = 1 << 22
    NO_OPENDIR_SUPPORT = 1 << 24
    HANDLE_KILLPRIV_V2 = 1 << 28
    SETXATTR_EXT = 1 << 29
    INIT_EXT = 1 << 30
    HAS_EXPIRE_ONLY = 1 << 35
    PASSTHROUGH = 1 << 37


# fuse_setattr_in.valid: which fields count
FATTR_MODE: Final = 1 << 0
FATTR_UID: Final = 1 << 1
FATTR_GID: Final = 1 << 2
FATTR_SIZE: Final = 1 << 3
FATTR_ATIME: Final = 1 << 4
FATTR_MTIME: Final = 1 << 5
FATTR_FH: Final = 1 << 6
FATTR_ATIME_NOW: Final = 1 << 7  # comes together with FATTR_ATIME
FATTR_MTIME_NOW: Final = 1 << 8
FATTR_KILL_SUIDGID: Final = 1 << 11

GETATTR_FH: Final = 1 << 0
OPEN_KILL_SUIDGID: Final = 1 << 0
WRITE_KILL_SUIDGID: Final = 1 << 2
FSYNC_FDATASYNC: Final = 1 << 0
LK_FLOCK: Final = 1 << 0
"""The lock is one of flock(2); the range means nothing."""
SETXATTR_ACL_KILL_SGID: Final = 1 << 0
FOPEN_KEEP_CACHE: Final = 1 << 1
FOPEN_CACHE_DIR: Final = 1 << 3
FOPEN_PASSTHROUGH: Final = 1 << 7
EXPIRE_ONLY: Final = 1 << 0
"""Flag of INVAL_ENTRY: ask again at the next use, instead of tearing down what is below the name."""
FMODE_EXEC: Final = 0o40
"""Kernel-internal bit in the flags of an OPEN on behalf of execve."""

# What requests begin with; 40 bytes. The length counts header and body.
IN_HEADER: Final = Struct("=IIQQIIIHH")  # length, opcode, unique, nodeid, uid, gid, pid, extensions' length, padding
OUT_HEADER: Final = Struct(
    "=IiQ"
)  # length, error (0 or a negative errno; a notification's code), unique (0: notification)

INIT_IN: Final = Struct("=IIII")  # major, minor, max_readahead (bytes), flags
INIT_IN_FLAGS2: Final = Struct("=I")  # follows INIT_IN if INIT_EXT is among the flags
# major, minor, max_readahead, flags, max_background, congestion_threshold, max_write (bytes), time_gran (ns),
# max_pages, map_alignment, flags2, max_stack_depth; 24 bytes unused
INIT_OUT: Final = Struct("=IIIIHHIIHHII24x")

# fuse_attr: ino, size (bytes), blocks (512 bytes), atime, mtime, ctime (s), the same's nsec, mode, nlink, uid, gid,
# rdev, blksize (bytes), flags
STAT: Final = Struct("=QQQqqqIIIIIIIIII")
ENTRY_HEAD: Final = Struct(
    "=QQQQII"
)  # nodeid, generation, entry_valid (s), attr_valid (s), the same's nsec; STAT follows
ENTRY: Final = Struct(ENTRY_HEAD.format + STAT.format[1:])
ATTR_HEAD: Final = Struct("=QII")  # attr_valid (s), its nsec, padding; STAT follows
ATTR: Final = Struct(ATTR_HEAD.format + STAT.format[1:])
NO_ENTRY: Final = bytes(ENTRY.size)
"""In a READDIRPLUS reply: the kernel lists the name and learns nothing else."""

U32: Final = Struct("=I4x")  # WRITE's, GETXATTR's and LISTXATTR's answer: a size in bytes
U64: Final = Struct("=Q")
FORGET_IN: Final = U64  # lookup count
FORGET_ONE: Final = Struct("=QQ")  # nodeid, lookup count
BATCH_FORGET_IN: Final = Struct("=I4x")  # number of FORGET_ONE that follow
INTERRUPT_IN: Final = U64  # unique of the request meant
GETATTR_IN: Final = Struct("=I4xQ")  # flags, handle
STATX_IN: Final = Struct("=I4xQII")  # GETATTR_*, handle, AT_STATX_* and STATX_* of statx(2)
STATX_OUT: Final = Struct("=QI4x16x")  # attr_valid (s), its nsec; STATX follows
# mask, blksize, attributes, nlink, uid, gid, mode, ino, size, blocks, attributes that are known; atime, btime, ctime,
# mtime, each s and ns; rdev, dev, each major and minor; 112 bytes unused
STATX: Final = Struct("=IIQIIIH2xQQQQqI4xqI4xqI4xqI4xIIII112x")
STATX_BASIC_STATS: Final = 0x7FF
STATX_BTIME: Final = 0x800
# valid, handle, size, lock_owner, atime, mtime, ctime (s), the same's nsec, mode, uid, gid
SETATTR_IN: Final = Struct("=I4xQQQqqqIIII4xII4x")
MKNOD_IN: Final = Struct("=III4x")  # mode, rdev, umask
MKDIR_IN: Final = Struct("=II")  # mode, umask
RENAME_IN: Final = U64  # new parent
RENAME2_IN: Final = Struct("=QI4x")  # new parent, flags of renameat2(2)
LINK_IN: Final = U64  # nodeid of the existing file
OPEN_IN: Final = Struct("=II")  # flags of open(2), OPEN_*
CREATE_IN: Final = Struct("=IIII")  # flags of open(2), mode, umask, OPEN_*
OPEN_OUT: Final = Struct("=QIi")  # handle, FOPEN_*, backing id
RELEASE_IN: Final = Struct("=QIIQ")  # handle, flags of open(2), RELEASE_*, lock owner
READ_IN: Final = Struct("=QQIIQI4x")  # handle, offset (READDIR: cookie), size, READ_*, lock owner, flags of open(2)
WRITE_IN: Final = Struct("=QQIIQI4x")  # handle, offset, size, WRITE_*, lock owner, flags of open(2); data follows
FSYNC_IN: Final = Struct("=QI4x")  # handle, FSYNC_*
SETXATTR_IN: Final = Struct("=II")  # size of the value, flags of setxattr(2); name and value follow
SETXATTR_EXT_IN: Final = Struct("=III4x")  # the same and SETXATTR_*, if Init.SETXATTR_EXT was taken
FLUSH_IN: Final = Struct("=Q4x4xQ")  # handle, lock owner
# handle, lock owner, first byte, last byte (2^63 - 1: to the end), F_RDLCK and so on, pid of who asks, LK_*
LK_IN: Final = Struct("=QQQQIII4x")
LK_OUT: Final = Struct("=QQII")  # first byte, last byte, F_RDLCK and so on (F_UNLCK: nothing is in the way), pid or 0
GETXATTR_IN: Final = Struct("=I4x")  # size of the caller's buffer, 0: wants to know the size
FALLOCATE_IN: Final = Struct("=QQQI4x")  # handle, offset, length, mode of fallocate(2)
LSEEK_IN: Final = Struct("=QqI4x")  # handle, offset, whence
# handle from, offset, nodeid to, handle to, offset, length, flags
COPY_FILE_RANGE_IN: Final = Struct("=QQQQQQQ")
# blocks, bfree, bavail (of frsize), files, ffree, bsize, namelen, frsize; 28 bytes unused
STATFS_OUT: Final = Struct("=QQQQQIII28x")
DIRENT: Final = Struct(
    "=QQII"
)  # ino, cookie after this entry, length of the name, type (mode >> 12); name, padded to 8
INVAL_INODE_OUT: Final = Struct("=Qqq")  # nodeid, offset, length (0, 0: all data; a negative offset: attributes only)
INVAL_ENTRY_OUT: Final = Struct("=QII")  # parent, length of the name, EXPIRE_ONLY; name and a zero byte follow

BACKING_MAP: Final = Struct("=iI8x")  # descriptor, flags
BACKING_OPEN: Final = 1 << 30 | 16 << 16 | 229 << 8 | 1  # _IOW(229, 1, struct fuse_backing_map)
BACKING_CLOSE: Final = 1 << 30 | 4 << 16 | 229 << 8 | 2  # _IOW(229, 2, uint32_t)

_ENCODING: Final = sys.getfilesystemencoding()
_ERRORS: Final = sys.getfilesystemencodeerrors()
_NS: Final = 1_000_000_000
_MASK_32: Final = 0xFFFFFFFF
_MASK_64: Final = 0xFFFFFFFFFFFFFFFF


class Header(NamedTuple):
    """A request's header, in the order of IN_HEADER."""

    length: int
    opcode: int
    unique: int
    node: Inode
    uid: int
    gid: int
    pid: int
    extensions: int
    padding: int


def decode(raw: memoryview | bytes) -> str:
    """Do what ``os.fsdecode`` does, for any buffer and in a third of its time."""
    return str(raw, _ENCODING, _ERRORS)


def name_at(body: memoryview, start: int = 0) -> str:
    """Give the one zero-terminated name that the body ends with, from *start*.

    Raises:
        FsError: EINVAL: there is none.
    """
    if len(body) - start < 2 or body[-1]:
        raise FsError(errno.EINVAL)
    return str(body[start:-1], _ENCODING, _ERRORS)


def two_names_at(body: memoryview, start: int = 0) -> tuple[str, str]:
    """Give the two zero-terminated names that the body ends with, from *start*.

    Raises:
        FsError: EINVAL: there are not two.
    """
    match bytes(body[start:]).split(b"\0"):
        case [first, second, b""] if first and second:
            return decode(first), decode(second)
    raise FsError(errno.EINVAL)


@functools.lru_cache(maxsize=64)
def split_timeout(seconds: float) -> tuple[int, int]:
    """Give whole seconds and nanoseconds of a cache time; there are only a few different ones.

    >>> split_timeout(1.5)
    (1, 500000000)
    """
    seconds = min(max(seconds, 0.0), 1e9)
    whole = int(seconds)
    return whole, int((seconds - whole) * 1e9)


class Owner(NamedTuple):
    """In a user namespace that knows one user, what belongs to others has an owner or group without a number.

    The kernel lets nobody write to that, whatever the mode. So the group is always shown as the user's own, and the
    owner where group or others may write; what the user really may do the disk below decides, as it does not know this
    server for anybody else. What others alone may write is shown as nobody's.
    """

    nobody: int
    nogroup: int
    uid: int
    gid: int

    def shown(self, uid: int, gid: int, mode: int) -> tuple[int, int]:
        """Give the owner and the group to show."""
        return (self.uid if uid == self.nobody and mode & 0o022 else uid), (self.gid if gid == self.nogroup else gid)


def own(owner: Owner | None) -> None:
    """Have all attributes packed for a user namespace of *owner* from now on. One process serves one mount."""
    global _owner  # noqa: PLW0603 - each reply would cost more with another argument all the way
    _owner = owner


_owner: Owner | None = None


def _fields(stat: os.stat_result) -> tuple[int, ...]:
    """Give a node's attributes in the order of STAT. Much of what a reply costs, so: few steps."""
    mode, ino, _, nlink, uid, gid, size, atime, mtime, ctime = cast("list[int]", stat)  # times in whole seconds
    if _owner is not None:
        uid, gid = _owner.shown(uid, gid, mode)
    return (
        ino & _MASK_64,
        size,
        stat.st_blocks,
        atime,
        mtime,
        ctime,
        stat.st_atime_ns - atime * _NS,
        stat.st_mtime_ns - mtime * _NS,
        stat.st_ctime_ns - ctime * _NS,
        mode,
        nlink,
        uid,
        gid,
        stat.st_rdev & _MASK_32,  # the kernel's 32-bit coding: what st_rdev has for all but absurd device numbers
        stat.st_blksize,
        0,
    )


def pack_stat(stat: os.stat_result) -> bytes:
    """Pack a node's attributes."""
    return STAT.pack(*_fields(stat))


def pack_entry(attrs: Attrs) -> bytes:
    """Pack what LOOKUP answers. The generation is 0, as inodes are never reused (I4)."""
    inode, stat, entry_timeout_s, attr_timeout_s = attrs
    entry_s, entry_ns = split_timeout(entry_timeout_s)
    attr_s, attr_ns = split_timeout(attr_timeout_s)
    return ENTRY.pack(inode, 0, entry_s, attr_s, entry_ns, attr_ns, *_fields(stat))


def pack_absence(timeout_s: float) -> bytes:
    """Pack what LOOKUP answers if there is no such name and the kernel may remember that."""
    entry_s, entry_ns = split_timeout(timeout_s)
    return ENTRY_HEAD.pack(0, 0, entry_s, 0, entry_ns, 0) + bytes(STAT.size)


def pack_attr(attrs: Attrs) -> bytes:
    """Pack what GETATTR answers."""
    attr_s, attr_ns = split_timeout(attrs.attr_timeout_s)
    return ATTR.pack(attr_s, attr_ns, 0, *_fields(attrs.stat))


def pack_statx(attrs: Attrs, birth_ns: int | None) -> bytes:
    """Pack what STATX answers. *birth_ns*: since the epoch; None: not known."""
    attr_s, attr_ns = split_timeout(attrs.attr_timeout_s)
    stat = attrs.stat
    birth = 0 if birth_ns is None else birth_ns
    uid, gid = stat.st_uid, stat.st_gid
    if _owner is not None:
        uid, gid = _owner.shown(uid, gid, stat.st_mode)
    return STATX_OUT.pack(attr_s, attr_ns) + STATX.pack(
        STATX_BASIC_STATS if birth_ns is None else STATX_BASIC_STATS | STATX_BTIME,
        stat.st_blksize,
        0,
        stat.st_nlink,
        uid,
        gid,
        stat.st_mode,
        stat.st_ino & _MASK_64,
        stat.st_size,
        stat.st_blocks,
        0,
        *divmod(stat.st_atime_ns, _NS),
        *divmod(birth, _NS),
        *divmod(stat.st_ctime_ns, _NS),
        *divmod(stat.st_mtime_ns, _NS),
        os.major(stat.st_rdev),
        os.minor(stat.st_rdev),
        0,
        0,
    )


def pack_dirent(name: bytes, ino: int, cookie: int, file_type: int) -> bytes:
    """Pack one name of a listing. *file_type* is the S_IFMT part of a mode."""
    padded = name + bytes(-len(name) % 8)
    return DIRENT.pack(ino & _MASK_64 or UNKNOWN_INO, cookie, len(name), file_type >> 12) + padded
