"""What the two bindings of libfuse 2 share: the mount options in its spelling, and words for a mount that failed.

libfuse 2 mounts by itself as root and through ``fusermount`` otherwise, says why it could not on standard error only,
and unmounts lazily. It negotiates version 7.19 of the protocol: no READDIRPLUS, no passthrough, no rename flags, no
SEEK_HOLE, and the kernel applies the umask.
"""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sigfs.errors import FuseUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sigfs.transports.base import MountSpec

SUBTYPE = "sigfs"


def escape(text: str) -> str:
    r"""Spell *text* as the value of one option in a comma-separated list.

    >>> print(escape("/a,b"))
    /a\,b
    """
    return text.replace("\\", "\\\\").replace(",", "\\,")


def mount_options(spec: MountSpec) -> list[str]:
    """Give the ``-o`` options of *spec* that both bindings take, each escaped."""
    options = [f"fsname={escape(spec.source)}", f"subtype={SUBTYPE}", "default_permissions", "big_writes"]
    if spec.read_only:
        options.append("ro")
    if spec.allow_other:
        options.append("allow_other")
    return [*options, *spec.options]


@contextmanager
def mounting(mountpoint: str) -> Iterator[None]:
    """Make of a RuntimeError in the block, which mounts, a ``FuseUnavailable`` that names the remedy.

    What libfuse and fusermount write to standard error meanwhile becomes part of the message; if all went well, it is
    passed on.
    """
    said = os.memfd_create("libfuse-messages")
    kept = os.dup(2)
    try:
        os.dup2(said, 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
    except RuntimeError as error:
        raise FuseUnavailable(f"cannot mount on {mountpoint}: {_reason(_text(said))}") from error
    else:
        message = _text(said)
        if message:
            os.write(2, os.fsencode(message + "\n"))
    finally:
        os.close(kept)
        os.close(said)


def _text(descriptor: int) -> str:
    return os.fsdecode(os.pread(descriptor, 4096, 0)).strip()


def _reason(message: str) -> str:
    if not os.path.exists("/dev/fuse"):
        return "there is no /dev/fuse; load the module with: modprobe fuse"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse may not be opened by this user; as root: chmod 666 /dev/fuse, or join its group"
    if os.geteuid() != 0 and shutil.which("fusermount") is None:
        return "there is no fusermount; install the package fuse3 or fuse"
    return "; ".join(message.splitlines()) or "libfuse gave no reason"
