"""The transport over llfuse, a binding of libfuse 2's low-level interface.

Bytes to ``str``, ``Attrs`` to ``EntryAttributes``, exceptions to errno; no meaning of its own.

One request at a time: the thread in ``serve`` (any thread will do) reads and answers; more workers cost more than
they bring (they share one lock) and need signal handlers. The binding's own notification thread, which holds no lock
and serves no request, sends the invalidations (I6). Its state is global, so a process mounts once.

Limits of the binding: ``st_ino`` is the node id and not the number below; no rename flags, no fallocate, no
SEEK_HOLE, no copy_file_range below (the kernel copies through its cache); default ACLs meet a mode that the umask has
already been applied to. Opening a file never drops its cached data, and the kernel compares sizes only: see
``_Handlers.open``.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Concatenate, Final, ParamSpec, TypeVar

import llfuse

from sigfs.transports.base import errno_of
from sigfs.transports.libfuse2 import mount_options, mounting
from sigfs.vfs.types import ROOT, Attrs, Caller, FileHandle, FsError, Inode, SetAttr, Time

if TYPE_CHECKING:
    from sigfs.transports.base import MountSpec
    from sigfs.vfs.operations import Operations

log = logging.getLogger(__name__)

Args = ParamSpec("Args")
Result = TypeVar("Result")

UNKNOWN_INO: Final = 0xFFFFFFFF
"""What libfuse shows as ``d_ino`` where nobody has looked; 0 would read as a deleted entry."""

_NS: Final = 1_000_000_000
DOTS: Final = 2
"""How many entries, "." and "..", come before those of vfs."""


class _Option(str):
    """An option that may hold any character: llfuse would spell it in ASCII."""

    __slots__ = ()

    def encode(self, _encoding: str = "", _errors: str = "") -> bytes:
        return os.fsencode(str(self))


class _Notifier:
    """Queues to llfuse's notification thread; a name or node that the kernel does not hold is no error there."""

    def invalidate_entry(self, parent: Inode, name: str) -> None:
        llfuse.invalidate_entry(parent, os.fsencode(name))

    def invalidate_inode(self, inode: Inode) -> None:
        llfuse.invalidate_inode(inode)

    def invalidate_attributes(self, inode: Inode) -> None:
        llfuse.invalidate_inode(inode, attr_only=True)


class Transport:
    """See ``base.Transport``. ``serve`` installs no signal handlers and runs in any thread."""

    can_notify = True

    def __init__(self, spec: MountSpec) -> None:
        self.spec = spec
        self.notifier = _Notifier()
        self._handlers = _Handlers(spec.debug)
        self._mounted = False

    def mount(self) -> None:
        """Make the mount appear; see ``base.Transport``."""
        options = {_Option(option) for option in mount_options(self.spec)}
        # What llfuse has by default: data of answers moves through a pipe; requests are read plainly.
        options |= {_Option("no_splice_read"), _Option("splice_write"), _Option("splice_move")}
        with mounting(self.spec.mountpoint):
            llfuse.init(self._handlers, self.spec.mountpoint, options)
        self._mounted = True

    def serve(self, operations: Operations) -> None:
        """Answer requests until the file system is unmounted."""
        self._handlers.operations = operations
        try:
            llfuse.main(workers=1, handle_signals=False)
        except OSError as error:
            if error.errno != errno.ECONNABORTED:  # unmounted while a last request was being read
                raise
        # llfuse asks its notification thread to end but does not wait, and frees in close() what the thread uses.
        for thread in threading.enumerate():
            if thread.name.endswith("(_notify_loop)"):
                thread.join(timeout=5)

    def close(self) -> None:
        """Unmount if still mounted and release everything. Not while another thread is in ``serve``."""
        if self._mounted:
            self._mounted = False
            llfuse.close(unmount=True)

    def let_go(self) -> None:
        """Do nothing: the one thread that answers holds the connection."""

    def statistics(self) -> dict[str, object]:
        """Give the count of requests, and that there is no passthrough."""
        return {"requests": self._handlers.requests, "passthrough": False}


def _request(
    method: Callable[Concatenate[_Handlers, Args], Result],
) -> Callable[Concatenate[_Handlers, Args], Result]:
    """Count the request and turn an exception into the one kind that does not end llfuse's loop."""
    name = method.__name__

    @functools.wraps(method)
    def handle(self: _Handlers, /, *args: Args.args, **kwargs: Args.kwargs) -> Result:
        self.requests += 1
        try:
            result = method(self, *args, **kwargs)
        except llfuse.FUSEError as error:
            if self.debug:
                log.debug("%s%r: %s", name, args, error)
            raise
        except Exception as error:  # noqa: BLE001 - llfuse would end its loop
            number = errno_of(error)
            if self.debug:
                log.debug("%s%r: %s", name, args, os.strerror(number))
            raise llfuse.FUSEError(number) from None
        if self.debug:
            log.debug("%s%r -> %r", name, args, result)
        return result

    return handle


def _caller(context: llfuse.RequestContext) -> Caller:
    # libfuse 2 negotiates neither DONT_MASK, so that the kernel has applied the umask, nor POSIX_ACL.
    return Caller(uid=context.uid, gid=context.gid, pid=context.pid, umask=0, by_acl=False)


def _now_where_recent(changes: SetAttr) -> SetAttr:
    """Give *changes* with "now" for times of the last second, that llfuse may have put in its place."""
    now_ns = time.time_ns()

    def meant(time_ns: Time | None) -> Time | None:
        return "now" if isinstance(time_ns, int) and now_ns - _NS < time_ns <= now_ns else time_ns

    return replace(changes, atime_ns=meant(changes.atime_ns), mtime_ns=meant(changes.mtime_ns))


def _entry(attrs: Attrs) -> llfuse.EntryAttributes:
    below = attrs.stat
    entry = llfuse.EntryAttributes()
    entry.st_ino = attrs.inode
    entry.generation = 0
    entry.entry_timeout = attrs.entry_timeout_s
    entry.attr_timeout = attrs.attr_timeout_s
    entry.st_mode = below.st_mode
    entry.st_nlink = below.st_nlink
    entry.st_uid = below.st_uid
    entry.st_gid = below.st_gid
    entry.st_rdev = below.st_rdev
    entry.st_size = below.st_size
    entry.st_blksize = below.st_blksize
    entry.st_blocks = below.st_blocks
    entry.st_atime_ns = below.st_atime_ns
    entry.st_mtime_ns = below.st_mtime_ns
    entry.st_ctime_ns = below.st_ctime_ns
    return entry


def _listed(kind: int) -> llfuse.EntryAttributes:
    entry = llfuse.EntryAttributes()
    entry.st_ino = UNKNOWN_INO
    entry.st_mode = kind
    return entry


class _Handlers(llfuse.Operations):  # type: ignore[misc]  # llfuse is untyped
    """llfuse's requests, one at a time in the thread that serves.

    Attributes:
        operations: set before the first request.
        requests: how many have come.
    """

    operations: Operations

    def __init__(self, debug: bool) -> None:
        super().__init__()
        self.debug = debug
        self.requests = 0
        # Inode -> st_ctime_ns when it was last opened or created; an entry dies with the kernel's inode.
        self._data_as_of: dict[Inode, int] = {}

    def init(self) -> None:
        """Nothing to do: ``serve`` has set ``operations``."""

    def destroy(self) -> None:
        """Nothing to do: ``Operations.close`` lets go of everything."""

    # Names

    @_request
    def lookup(self, parent: Inode, name: bytes, ctx: llfuse.RequestContext) -> llfuse.EntryAttributes:
        if name in {b".", b".."}:  # only ever asked for by NFS export
            raise FsError(errno.ESTALE)
        attrs = self.operations.lookup(parent, os.fsdecode(name), _caller(ctx))
        if attrs is None:
            raise FsError(errno.ENOENT)
        return _entry(attrs)

    def forget(self, inode_list: list[tuple[Inode, int]]) -> None:
        self.requests += 1
        for inode, count in inode_list:
            self._data_as_of.pop(inode, None)
            try:
                self.operations.forget(inode, count)
            except Exception as error:  # noqa: BLE001 - it has no answer, and must not end the loop
                errno_of(error)

    @_request
    def readlink(self, inode: Inode, _ctx: llfuse.RequestContext) -> bytes:
        return os.fsencode(self.operations.readlink(inode))

    @_request
    def mknod(
        self, parent: Inode, name: bytes, mode: int, rdev: int, ctx: llfuse.RequestContext
    ) -> llfuse.EntryAttributes:
        return _entry(self.operations.mknod(parent, os.fsdecode(name), mode, rdev, _caller(ctx)))

    @_request
    def mkdir(self, parent: Inode, name: bytes, mode: int, ctx: llfuse.RequestContext) -> llfuse.EntryAttributes:
        return _entry(self.operations.mkdir(parent, os.fsdecode(name), mode, _caller(ctx)))

    @_request
    def symlink(self, parent: Inode, name: bytes, target: bytes, ctx: llfuse.RequestContext) -> llfuse.EntryAttributes:
        return _entry(self.operations.symlink(parent, os.fsdecode(name), os.fsdecode(target), _caller(ctx)))

    @_request
    def link(
        self, inode: Inode, new_parent: Inode, new_name: bytes, ctx: llfuse.RequestContext
    ) -> llfuse.EntryAttributes:
        return _entry(self.operations.link(inode, new_parent, os.fsdecode(new_name), _caller(ctx)))

    @_request
    def unlink(self, parent: Inode, name: bytes, ctx: llfuse.RequestContext) -> None:
        self.operations.unlink(parent, os.fsdecode(name), _caller(ctx))

    @_request
    def rmdir(self, parent: Inode, name: bytes, ctx: llfuse.RequestContext) -> None:
        self.operations.rmdir(parent, os.fsdecode(name), _caller(ctx))

    @_request
    def rename(
        self, old_parent: Inode, old_name: bytes, new_parent: Inode, new_name: bytes, ctx: llfuse.RequestContext
    ) -> None:
        old, new = os.fsdecode(old_name), os.fsdecode(new_name)
        self.operations.rename(old_parent, old, new_parent, new, caller=_caller(ctx))

    # Attributes

    @_request
    def getattr(self, inode: Inode, _ctx: llfuse.RequestContext) -> llfuse.EntryAttributes:
        return _entry(self.operations.getattr(inode))

    @_request
    def setattr(
        self,
        inode: Inode,
        attr: llfuse.EntryAttributes,
        fields: llfuse.SetattrFields,
        handle: FileHandle | None,
        ctx: llfuse.RequestContext,
    ) -> llfuse.EntryAttributes:
        changes = SetAttr(
            mode=attr.st_mode & 0o7777 if fields.update_mode else None,
            uid=attr.st_uid if fields.update_uid else None,
            gid=attr.st_gid if fields.update_gid else None,
            size=attr.st_size if fields.update_size else None,
            # llfuse has put the time in where the kernel said "now".
            atime_ns=attr.st_atime_ns if fields.update_atime else None,
            mtime_ns=attr.st_mtime_ns if fields.update_mtime else None,
        )
        caller = _caller(ctx)
        try:
            return _entry(self.operations.setattr(inode, changes, handle, caller))
        except PermissionError:
            # Only the owner may set a time, but who may write may set that of the call.
            if (again := _now_where_recent(changes)) == changes:
                raise
            return _entry(self.operations.setattr(inode, again, handle, caller))

    @_request
    def statfs(self, _ctx: llfuse.RequestContext) -> llfuse.StatvfsData:
        below = self.operations.statfs(ROOT)
        data = llfuse.StatvfsData()
        data.f_bsize = below.f_bsize
        data.f_frsize = below.f_frsize
        data.f_blocks = below.f_blocks
        data.f_bfree = below.f_bfree
        data.f_bavail = below.f_bavail
        data.f_files = below.f_files
        data.f_ffree = below.f_ffree
        data.f_favail = below.f_favail
        data.f_namemax = below.f_namemax
        return data

    # Extended attributes

    @_request
    def getxattr(self, inode: Inode, name: bytes, _ctx: llfuse.RequestContext | None = None) -> bytes:
        # Without a context where llfuse itself checks XATTR_CREATE and XATTR_REPLACE.
        return self.operations.getxattr(inode, os.fsdecode(name))

    @_request
    def listxattr(self, inode: Inode, ctx: llfuse.RequestContext) -> list[bytes]:
        return [os.fsencode(name) for name in self.operations.listxattr(inode, _caller(ctx))]

    @_request
    def setxattr(self, inode: Inode, name: bytes, value: bytes, ctx: llfuse.RequestContext) -> None:
        self.operations.setxattr(inode, os.fsdecode(name), value, 0, _caller(ctx))

    @_request
    def removexattr(self, inode: Inode, name: bytes, ctx: llfuse.RequestContext) -> None:
        self.operations.removexattr(inode, os.fsdecode(name), _caller(ctx))

    # Open files

    @_request
    def open(self, inode: Inode, flags: int, ctx: llfuse.RequestContext) -> FileHandle:
        """Open, and have data dropped that the kernel has cached since before the file changed, by whomever.

        llfuse tells the kernel to keep its cache whenever a file is opened. Asked for here but sent by the
        notification thread, so a read in the first instant after the open may still see the old data.
        """
        operations = self.operations
        handle = operations.open(inode, flags, _caller(ctx))
        now = operations.getattr(inode, handle).stat.st_ctime_ns
        if self._data_as_of.get(inode, now) != now:
            llfuse.invalidate_inode(inode)
        self._data_as_of[inode] = now
        return handle

    @_request
    def create(
        self, parent: Inode, name: bytes, mode: int, flags: int, ctx: llfuse.RequestContext
    ) -> tuple[FileHandle, llfuse.EntryAttributes]:
        attrs, handle = self.operations.create(parent, os.fsdecode(name), mode, flags, _caller(ctx))
        self._data_as_of[attrs.inode] = attrs.stat.st_ctime_ns
        return handle, _entry(attrs)

    @_request
    def read(self, handle: FileHandle, offset: int, size: int) -> bytes:
        return self.operations.read(handle, offset, size)

    @_request
    def write(self, handle: FileHandle, offset: int, data: bytes) -> int:
        return self.operations.write(handle, offset, data, kill_suidgid=True)  # the binding does not say who writes

    @_request
    def flush(self, handle: FileHandle) -> None:
        self.operations.flush(handle)

    @_request
    def release(self, handle: FileHandle) -> None:
        self.operations.release(handle)

    @_request
    def fsync(self, handle: FileHandle, datasync: bool) -> None:
        self.operations.fsync(handle, datasync)

    # Open directories

    @_request
    def opendir(self, inode: Inode, ctx: llfuse.RequestContext) -> FileHandle:
        return self.operations.opendir(inode, _caller(ctx))

    def readdir(self, handle: FileHandle, offset: int) -> Iterator[tuple[bytes, llfuse.EntryAttributes, int]]:
        """Give the entries from *offset*: 0 and 1 are before "." and "..", then it is vfs's cookie plus 2."""
        self.requests += 1
        if self.debug:
            log.debug("readdir%r", (handle, offset))
        try:
            for number in range(offset, DOTS):
                yield b"." * (number + 1), _listed(stat.S_IFDIR), number + 1
            for entry in self.operations.readdir(handle, max(offset - DOTS, 0)):
                yield os.fsencode(entry.name), _listed(entry.type), entry.cookie + DOTS
        except Exception as error:  # noqa: BLE001 - as in _request
            raise llfuse.FUSEError(errno_of(error)) from None

    @_request
    def releasedir(self, handle: FileHandle) -> None:
        self.operations.releasedir(handle)

    @_request
    def fsyncdir(self, handle: FileHandle, datasync: bool) -> None:
        self.operations.fsyncdir(handle, datasync)
