"""``-o debug``: a device that logs what goes through it."""

from __future__ import annotations

import errno
import logging
from typing import TYPE_CHECKING, Final

from sigfs.transports.kernel import protocol as p
from sigfs.transports.kernel.device import Device
from sigfs.transports.kernel.protocol import Header, Notification, Opcode

if TYPE_CHECKING:
    from struct import Struct

log = logging.getLogger("sigfs.transports.kernel")

_SHOWN_BYTES: Final = 80
_ARGUMENTS: Final[dict[int, Struct]] = {
    Opcode.FORGET: p.FORGET_IN,
    Opcode.GETATTR: p.GETATTR_IN,
    Opcode.SETATTR: p.SETATTR_IN,
    Opcode.MKNOD: p.MKNOD_IN,
    Opcode.MKDIR: p.MKDIR_IN,
    Opcode.RENAME: p.RENAME_IN,
    Opcode.LINK: p.LINK_IN,
    Opcode.OPEN: p.OPEN_IN,
    Opcode.READ: p.READ_IN,
    Opcode.WRITE: p.WRITE_IN,
    Opcode.RELEASE: p.RELEASE_IN,
    Opcode.FSYNC: p.FSYNC_IN,
    Opcode.SETXATTR: p.SETXATTR_IN,
    Opcode.GETXATTR: p.GETXATTR_IN,
    Opcode.LISTXATTR: p.GETXATTR_IN,
    Opcode.FLUSH: p.FLUSH_IN,
    Opcode.GETLK: p.LK_IN,
    Opcode.SETLK: p.LK_IN,
    Opcode.SETLKW: p.LK_IN,
    Opcode.OPENDIR: p.OPEN_IN,
    Opcode.READDIR: p.READ_IN,
    Opcode.RELEASEDIR: p.RELEASE_IN,
    Opcode.FSYNCDIR: p.FSYNC_IN,
    Opcode.CREATE: p.CREATE_IN,
    Opcode.INTERRUPT: p.INTERRUPT_IN,
    Opcode.BATCH_FORGET: p.BATCH_FORGET_IN,
    Opcode.FALLOCATE: p.FALLOCATE_IN,
    Opcode.READDIRPLUS: p.READ_IN,
    Opcode.RENAME2: p.RENAME2_IN,
    Opcode.LSEEK: p.LSEEK_IN,
    Opcode.COPY_FILE_RANGE: p.COPY_FILE_RANGE_IN,
    Opcode.COPY_FILE_RANGE_64: p.COPY_FILE_RANGE_IN,
}
"""What the body begins with; names and data follow."""


class TracingDevice(Device):
    """A device that logs each message at DEBUG level."""

    def receive(self, buffer: bytearray) -> int:
        length = super().receive(buffer)
        if length >= p.IN_HEADER.size:
            log.debug("%s", describe(memoryview(buffer)[:length]))
        return length

    def reply(self, unique: int, payload: bytes | memoryview = b"") -> bool:
        taken = super().reply(unique, payload)
        log.debug("%d: ok, %d bytes%s", unique, len(payload), "" if taken else ", not taken")
        return taken

    def fail(self, unique: int, number: int) -> bool:
        taken = super().fail(unique, number)
        log.debug("%d: %s%s", unique, errno.errorcode.get(number, number), "" if taken else ", not taken")
        return taken

    def notify(self, code: Notification, payload: bytes) -> None:
        log.debug("notify %s %r", code.name, payload[:_SHOWN_BYTES])
        super().notify(code, payload)


def describe(message: memoryview) -> str:
    """Put a request into words: its unique number, what it asks, of which node, for whom, with which arguments.

    >>> describe(memoryview(p.IN_HEADER.pack(45, Opcode.LOOKUP, 7, 1, 1000, 100, 99, 0, 0) + b"name" + bytes(1)))
    "7: LOOKUP node 1 uid 1000 gid 100 pid 99 b'name\\\\x00'"
    """
    header = Header._make(p.IN_HEADER.unpack_from(message))
    body = message[p.IN_HEADER.size :]
    words = [f"{header.unique}: {_name(header.opcode)} node {header.node}"]
    words.append(f"uid {header.uid} gid {header.gid} pid {header.pid}")
    layout = _ARGUMENTS.get(header.opcode)
    if layout is not None and len(body) >= layout.size:
        words.append(str(layout.unpack_from(body)))
        body = body[layout.size :]
    if len(body):
        words.append(repr(bytes(body[:_SHOWN_BYTES])))
    return " ".join(words)


def _name(opcode: int) -> str:
    try:
        return Opcode(opcode).name
    except ValueError:
        return f"opcode {opcode}"
