"""What every transport shares: its contract, the exception-to-errno table, mounting's inputs, unmounting.

A transport turns bytes into ``str`` (``os.fsdecode``), calls ``vfs.Operations``, packs the answer. It has no ``if``
about jobs, views or rights.
"""

from __future__ import annotations

import errno
import importlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from sigfs.errors import FuseUnavailable, SigfsError
from sigfs.model.settings import TRANSPORTS
from sigfs.vfs.types import FsError, Notifier

if TYPE_CHECKING:
    from sigfs.vfs.operations import Operations

log = logging.getLogger(__name__)

NAMES = TRANSPORTS


@dataclass(frozen=True, slots=True)
class MountSpec:
    """How to mount, in mount(8)'s words.

    Attributes:
        mountpoint: absolute path of an existing directory.
        source: what ``df`` and ``findmnt`` show as the device: the project's path.
        read_only: mount with ``ro``.
        allow_other: let other users in; needs root or ``user_allow_other``.
        passthrough: use FUSE_PASSTHROUGH where the kernel offers and permits it.
        debug: log each request and its answer at DEBUG level.
        options: further generic mount options by name (``nosuid``, ``nodev``, ``noexec``, ``noatime``, ...),
            already known to be valid.
        single_user: this process is in a user namespace in which only its own user and group have numbers. It mounts
            by itself; what belongs to others is shown so that what it may do can be done (see ``protocol.Owner``).
    """

    mountpoint: str
    source: str
    read_only: bool = False
    allow_other: bool = False
    passthrough: bool = True
    debug: bool = False
    options: tuple[str, ...] = ()
    single_user: bool = False


class Transport(Protocol):
    """One way to the kernel. Life: construct, ``mount``, ``serve`` (until unmounted), ``close``.

    ``serve`` returns when the file system has been unmounted by whomever, and never because of a bad request.
    ``close`` is idempotent, runs in any state, and leaves no dead mount behind. Signals are the caller's
    business; to stop, it unmounts (``unmount`` below) from another thread.
    """

    notifier: Notifier
    can_notify: bool
    """Whether ``notifier`` reaches the kernel; False makes vfs give tree nodes no cache time."""

    def __init__(self, spec: MountSpec) -> None: ...

    def mount(self) -> None:
        """Make the mount appear.

        Raises:
            FuseUnavailable: no /dev/fuse, no fusermount3, not permitted, binding not installed; the message
                names the remedy.
        """

    def serve(self, operations: Operations) -> None:
        """Answer requests until the file system is unmounted."""

    def close(self) -> None:
        """Unmount if still mounted (lazily if busy) and release everything."""

    def let_go(self) -> None:
        """See that the connection ends with this process, also if a thread of it hangs below and cannot be ended. To be
        called just before that, from any thread."""

    def statistics(self) -> dict[str, object]:
        """Facts for ``sigfs status``: at least ``requests`` (count) and ``passthrough`` (bool)."""


def load(name: str) -> type[Transport]:
    """Import the transport *name*.

    Raises:
        FuseUnavailable: its binding is not installed or does not load; the message says how to get it.
    """
    if name not in NAMES:
        raise FuseUnavailable(f"no transport named {name!r}; there are: {', '.join(NAMES)}")
    try:
        module = importlib.import_module(f"sigfs.transports.{name}")
    except (ImportError, OSError, AttributeError) as error:
        remedy = (
            f"in a clone of sigfs install it with: pip install '.[{name}]' (needs libfuse2), or use -o transport=kernel"
        )
        raise FuseUnavailable(f"transport {name} cannot be loaded ({error}); {remedy}") from error
    transport: type[Transport] = module.Transport
    return transport


def errno_of(error: BaseException) -> int:
    """Give the errno to answer with: the one exception-to-errno table.

    An ``FsError`` or ``OSError`` carries its own, but EMFILE is ENFILE: the one who asks has not too many files open,
    all together have. Any other exception is a bug: logged with its traceback, EIO.
    """
    if isinstance(error, FsError):
        return error.errno
    if isinstance(error, OSError) and not isinstance(error, SigfsError) and error.errno:
        return errno.ENFILE if error.errno == errno.EMFILE else error.errno
    log.error("unexpected error in a request", exc_info=error)
    return errno.EIO
