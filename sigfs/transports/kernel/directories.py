"""Listings: packing READDIR and READDIRPLUS, with "." and "..", which ``Operations`` leaves out.

Positions, as the kernel sees them: 0 the start, 1 after ".", 2 after "..", and then the cookies of ``Operations``,
moved by 2.
"""

from __future__ import annotations

import stat
import sys
from typing import TYPE_CHECKING, Final

from sigfs.transports.base import errno_of
from sigfs.transports.kernel.protocol import DIRENT, ENTRY, NO_ENTRY, UNKNOWN_INO, pack_dirent, pack_entry

if TYPE_CHECKING:
    from sigfs.vfs.operations import Operations
    from sigfs.vfs.types import Caller, FileHandle, Inode


_ENCODING: Final = sys.getfilesystemencoding()
_ERRORS: Final = sys.getfilesystemencodeerrors()
_DOTS: Final = 2
_HEADER_BYTES: Final = {False: DIRENT.size, True: ENTRY.size + DIRENT.size}


def list_directory(
    operations: Operations,
    handle: FileHandle,
    cookie: int,
    size: int,
    caller: Caller | None = None,
    *,
    look_up: bool = True,
    request: int | None = None,
) -> tuple[bytes, list[Inode]]:
    """Pack entries from position *cookie* on, as many as fit into *size* bytes.

    Args:
        operations: where from.
        handle: of ``opendir``.
        cookie: the kernel's position.
        size: the kernel's buffer, in bytes.
        caller: given for READDIRPLUS: each name is looked up, which takes a reference, and its attributes come with
            it. A name that is gone by then is still listed, without attributes.
        look_up: False: with READDIRPLUS, all names are listed without attributes.
        request: its number; see ``Operations.readdir``.

    Returns:
        The reply, and the nodes to which it gives references.
    """
    packed: list[bytes] = []
    references: list[Inode] = []
    plus = caller is not None
    fixed = _HEADER_BYTES[plus]
    free = size
    for position, dot in enumerate((b".", b".."), start=1):
        if cookie < position and free >= fixed + 8:
            ino = operations.st_ino_of(handle) if position == 1 else UNKNOWN_INO
            packed.append((NO_ENTRY if plus else b"") + pack_dirent(dot, ino, position, stat.S_IFDIR))
            free -= fixed + 8
    find = operations.looker(handle, caller) if caller is not None and look_up else None
    try:
        for name, next_cookie, kind, ino in operations.readdir(handle, max(cookie - _DOTS, 0), request):
            raw = name.encode(_ENCODING, _ERRORS)
            free -= fixed + (len(raw) + 7 & ~7)
            if free < 0:
                break
            if find is not None:
                try:
                    attrs = find(name)
                except Exception as error:  # noqa: BLE001  it is listed all the same; asking for it tells the error
                    errno_of(error)
                    attrs = None
                if attrs is None:
                    packed.append(NO_ENTRY)
                else:
                    references.append(attrs.inode)
                    packed.append(pack_entry(attrs))
            elif plus:
                packed.append(NO_ENTRY)
            packed.append(pack_dirent(raw, ino, next_cookie + _DOTS, kind))
    except BaseException:
        for reference in references:
            operations.forget(reference)
        raise
    return b"".join(packed), references
