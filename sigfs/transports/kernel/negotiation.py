"""INIT: agreeing with the kernel on a protocol version and on abilities."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sigfs.errors import FuseUnavailable
from sigfs.transports.kernel.protocol import (
    IN_HEADER,
    INIT_IN,
    INIT_IN_FLAGS2,
    INIT_OUT,
    NEWEST_MINOR,
    OLDEST_MINOR,
    VERSION,
    Init,
    Opcode,
)

if TYPE_CHECKING:
    from sigfs.transports.kernel.device import Device

MAX_WRITE_BYTES: Final = 1 << 20
"""Largest WRITE, and with it largest READ: the most that a kernel allows by default (256 pages of 4 KiB)."""
_MAX_PAGES: Final = 256
BUFFER_BYTES: Final = MAX_WRITE_BYTES + 8192
"""Room for any request: the data of a WRITE and its headers; the kernel refuses to be read with less."""
_MAX_BACKGROUND: Final = 64
"""Asynchronous requests (read-ahead) under way at once; the kernel's 12 would leave the pool idle."""
_STACK_DEPTH: Final = 1
"""File systems stacked below us, for passthrough: none. With 2 a store on overlayfs would do, but then no overlayfs
could be put above this mount."""

WANTED: Final = (
    Init.ASYNC_READ
    | Init.POSIX_LOCKS  # both: locks are held on the disk below
    | Init.FLOCK_LOCKS
    | Init.ATOMIC_O_TRUNC
    | Init.BIG_WRITES
    | Init.DONT_MASK  # vfs applies the umask, which a default ACL of the parent overrides
    | Init.AUTO_INVAL_DATA
    | Init.DO_READDIRPLUS
    | Init.READDIRPLUS_AUTO
    | Init.PARALLEL_DIROPS
    | Init.ABORT_ERROR
    | Init.MAX_PAGES
    | Init.HANDLE_KILLPRIV_V2  # saves a GETXATTR before each write; vfs clears set-user-id bits when told so
    | Init.SETXATTR_EXT
    | Init.POSIX_ACL  # without it, access that only an ACL grants is refused
    | Init.INIT_EXT
    | Init.HAS_EXPIRE_ONLY
)
"""Not wanted: CACHE_SYMLINKS (nothing tells the kernel that a link changed below), WRITEBACK_CACHE (excludes
passthrough, and the kernel's idea of size and times would win over the store's), NO_OPEN_SUPPORT and
NO_OPENDIR_SUPPORT (no handle to answer from)."""


@dataclass(frozen=True, slots=True)
class Session:
    """What was agreed on."""

    minor: int
    flags: Init

    def has(self, flag: Init) -> bool:
        """Tell whether an ability was offered and taken."""
        return flag in self.flags


def negotiate(device: Device, *, passthrough: bool, acls: bool = True) -> Session:
    """Wait for INIT, answer it, and give what was agreed on.

    Args:
        device: a descriptor just connected.
        passthrough: ask for PASSTHROUGH where it is offered. Only for privileged mounts: others may take the flag,
            but not register files.
        acls: have the kernel check ACLs. Not in a user namespace that does not know who is named in them.

    Raises:
        FuseUnavailable: the kernel is older than Linux 5.4 (protocol 7.31), or hung up.
    """
    buffer = bytearray(BUFFER_BYTES)
    while True:
        length = device.receive(buffer)
        if length < IN_HEADER.size + INIT_IN.size:
            raise FuseUnavailable("the kernel ended the connection before INIT")
        _, opcode, unique, *_ = IN_HEADER.unpack_from(buffer)
        if opcode != Opcode.INIT:
            device.fail(unique, errno.EIO)
            continue
        major, minor, readahead, flags = INIT_IN.unpack_from(buffer, IN_HEADER.size)
        if major > VERSION:  # it asks again, with the version that we name
            device.reply(unique, INIT_OUT.pack(VERSION, NEWEST_MINOR, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0))
            continue
        if (major, minor) < (VERSION, OLDEST_MINOR):
            device.fail(unique, errno.EPROTO)
            raise FuseUnavailable(
                f"the kernel speaks FUSE {major}.{minor}; transport kernel needs {VERSION}.{OLDEST_MINOR} "
                "(Linux 5.4) or newer; use -o transport=llfuse or -o transport=fusepy"
            )
        offered = Init(flags)
        if offered & Init.INIT_EXT and length >= IN_HEADER.size + INIT_IN.size + INIT_IN_FLAGS2.size:
            offered |= Init(INIT_IN_FLAGS2.unpack_from(buffer, IN_HEADER.size + INIT_IN.size)[0] << 32)
        wanted = (WANTED if acls else WANTED & ~Init.POSIX_ACL) | (Init.PASSTHROUGH if passthrough else Init(0))
        taken = wanted & offered
        session = Session(min(minor, NEWEST_MINOR), taken)
        if not device.reply(unique, _init_out(session, readahead)):
            raise FuseUnavailable("the kernel ended the connection during INIT")
        return session


def _init_out(session: Session, readahead: int) -> bytes:
    flags = int(session.flags)
    return INIT_OUT.pack(
        VERSION,
        session.minor,
        readahead,
        flags & 0xFFFFFFFF,
        _MAX_BACKGROUND,
        _MAX_BACKGROUND * 3 // 4,
        MAX_WRITE_BYTES,
        1,  # times are exact to the nanosecond
        _MAX_PAGES,
        0,
        flags >> 32,
        _STACK_DEPTH if session.has(Init.PASSTHROUGH) else 0,
    )
