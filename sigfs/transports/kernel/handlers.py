"""One method for each request: unpack, call ``Operations``, pack the answer.

Every handler either answers, or leaves that to a task it submits to the pool, or raises; whoever calls it answers
with the errno of what was raised. An answer that gives the kernel something (a reference to a node, an open handle)
and that the kernel does not take is undone (I3).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from typing import TYPE_CHECKING, Any, Final

from sigfs.transports.base import errno_of
from sigfs.transports.kernel import protocol as p
from sigfs.transports.kernel.crew import is_dying
from sigfs.transports.kernel.directories import list_directory
from sigfs.transports.kernel.negotiation import Session
from sigfs.transports.kernel.passthrough import CACHED
from sigfs.transports.kernel.protocol import Header, Init, Notification, Opcode
from sigfs.vfs.locks import RecordLock
from sigfs.vfs.types import Attrs, Caller, FileHandle, FsError, Inode, SetAttr, Time

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from sigfs.transports.kernel.device import Device
    from sigfs.transports.kernel.server import Server
    from sigfs.vfs.locks import LockOwner
    from sigfs.vfs.operations import Operations

    Handler: TypeAlias = Callable[[Header, memoryview], None]

_SMALL_WRITE_BYTES: Final = 64 * 1024
"""Up to here a write is done at once: it ends in the page cache, and the pool costs more (about 40 µs)."""
_NS: Final = 1_000_000_000
_CALLERS_MAX: Final = 1024
_LISTING_FLAGS: Final = {
    "none": 0,
    "fill": p.FOPEN_CACHE_DIR,
    "keep": p.FOPEN_CACHE_DIR | p.FOPEN_KEEP_CACHE,
}
_LOCK_KINDS: Final = (fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK)


class Handlers:
    """The requests, by opcode, in ``by_opcode``. Called by the thread that reads the device: mostly one, but by several
    while the disk is slow."""

    def __init__(self, device: Device, operations: Operations, session: Session, server: Server) -> None:
        self._device = device
        self._operations = operations
        self._server = server
        self._pool = server.pool
        self._waiters = server.waiters
        self._passthrough = server.passthrough
        self._callers: dict[tuple[int, int, int, int], Caller] = {}
        self._setxattr_in = p.SETXATTR_EXT_IN if session.has(Init.SETXATTR_EXT) else p.SETXATTR_IN
        self._masked = not session.has(Init.DONT_MASK)  # the kernel has applied the umask to modes already
        self.by_opcode: dict[int, Handler] = {
            int(opcode): getattr(self, opcode.name.lower()) for opcode in Opcode if hasattr(self, opcode.name.lower())
        }
        """A request is handled by the method named like it. Those that have none are answered ENOSYS, after which the
        kernel does without and does not ask again: ACCESS (it checks permissions by itself), BMAP, IOCTL, POLL,
        SYNCFS."""

    # -- names ---------------------------------------------------------------------------------------------------

    def lookup(self, request: Header, body: memoryview) -> None:
        name = p.name_at(body)
        attrs = self._operations.lookup(request.node, name, self._caller(request))
        if attrs is not None:
            self._reply_entry(request.unique, attrs)
        elif (timeout_s := self._operations.absence_timeout_s(request.node, name)) > 0:
            self._device.reply(request.unique, p.pack_absence(timeout_s))
        else:
            self._device.fail(request.unique, errno.ENOENT)

    def forget(self, request: Header, body: memoryview) -> None:
        self._operations.forget(request.node, p.FORGET_IN.unpack_from(body)[0])

    def batch_forget(self, request: Header, body: memoryview) -> None:
        del request
        (count,) = p.BATCH_FORGET_IN.unpack_from(body)
        start = p.BATCH_FORGET_IN.size
        for inode, references in p.FORGET_ONE.iter_unpack(body[start : start + count * p.FORGET_ONE.size]):
            try:
                self._operations.forget(inode, references)
            except Exception as error:  # noqa: BLE001  one bad node must not keep the others referenced
                errno_of(error)

    def readlink(self, request: Header, body: memoryview) -> None:
        del body
        self._device.reply(request.unique, os.fsencode(self._operations.readlink(request.node)))

    def symlink(self, request: Header, body: memoryview) -> None:
        name, target = p.two_names_at(body)
        self._reply_entry(request.unique, self._operations.symlink(request.node, name, target, self._caller(request)))

    def mknod(self, request: Header, body: memoryview) -> None:
        mode, rdev, umask = p.MKNOD_IN.unpack_from(body)
        name = p.name_at(body, p.MKNOD_IN.size)
        caller = self._caller(request, umask)
        self._reply_entry(request.unique, self._operations.mknod(request.node, name, mode, rdev, caller))

    def mkdir(self, request: Header, body: memoryview) -> None:
        mode, umask = p.MKDIR_IN.unpack_from(body)
        name = p.name_at(body, p.MKDIR_IN.size)
        caller = self._caller(request, umask)
        self._reply_entry(request.unique, self._operations.mkdir(request.node, name, mode, caller))

    def link(self, request: Header, body: memoryview) -> None:
        inode = Inode(p.LINK_IN.unpack_from(body)[0])
        name = p.name_at(body, p.LINK_IN.size)
        self._reply_entry(request.unique, self._operations.link(inode, request.node, name, self._caller(request)))

    def unlink(self, request: Header, body: memoryview) -> None:
        self._operations.unlink(request.node, p.name_at(body), self._caller(request))
        self._device.reply(request.unique)

    def rmdir(self, request: Header, body: memoryview) -> None:
        self._operations.rmdir(request.node, p.name_at(body), self._caller(request))
        self._device.reply(request.unique)

    def rename(self, request: Header, body: memoryview) -> None:
        (parent,) = p.RENAME_IN.unpack_from(body)
        old, new = p.two_names_at(body, p.RENAME_IN.size)
        self._operations.rename(request.node, old, parent, new, 0, self._caller(request))
        self._device.reply(request.unique)

    def rename2(self, request: Header, body: memoryview) -> None:
        parent, flags = p.RENAME2_IN.unpack_from(body)
        old, new = p.two_names_at(body, p.RENAME2_IN.size)
        self._operations.rename(request.node, old, parent, new, flags, self._caller(request))
        self._device.reply(request.unique)

    # -- attributes ----------------------------------------------------------------------------------------------

    def getattr(self, request: Header, body: memoryview) -> None:
        flags, handle = p.GETATTR_IN.unpack_from(body)
        attrs = self._operations.getattr(request.node, handle if flags & p.GETATTR_FH else None)
        self._device.reply(request.unique, p.pack_attr(attrs))

    def statx(self, request: Header, body: memoryview) -> None:
        flags, handle, _, _ = p.STATX_IN.unpack_from(body)
        known = handle if flags & p.GETATTR_FH else None
        attrs = self._operations.getattr(request.node, known)
        birth_ns = self._operations.birth_ns(request.node, known)
        self._device.reply(request.unique, p.pack_statx(attrs, birth_ns))

    def setattr(self, request: Header, body: memoryview) -> None:
        fields = p.SETATTR_IN.unpack_from(body)
        valid, handle, size, _, atime, mtime, _, atime_ns, mtime_ns, _, mode, uid, gid = fields
        changes = SetAttr(
            mode=mode if valid & p.FATTR_MODE else None,
            uid=uid if valid & p.FATTR_UID else None,
            gid=gid if valid & p.FATTR_GID else None,
            size=size if valid & p.FATTR_SIZE else None,
            atime_ns=_time(valid & p.FATTR_ATIME, valid & p.FATTR_ATIME_NOW, atime * _NS + atime_ns),
            mtime_ns=_time(valid & p.FATTR_MTIME, valid & p.FATTR_MTIME_NOW, mtime * _NS + mtime_ns),
        )
        known, caller = handle if valid & p.FATTR_FH else None, self._caller(request)

        def change() -> None:
            attrs = self._operations.setattr(request.node, changes, known, caller, wait=changes.size is None)
            self._device.reply(request.unique, p.pack_attr(attrs))

        if changes.size is None:
            change()
        else:
            self._when_not_leased(request, change)

    def statfs(self, request: Header, body: memoryview) -> None:
        del body

        def answer() -> bytes:
            vfs = self._operations.statfs(request.node)
            return p.STATFS_OUT.pack(
                vfs.f_blocks,
                vfs.f_bfree,
                vfs.f_bavail,
                vfs.f_files,
                vfs.f_ffree,
                vfs.f_bsize,
                vfs.f_namemax,
                vfs.f_frsize,
            )

        self._later(request, answer)

    def getxattr(self, request: Header, body: memoryview) -> None:
        (size,) = p.GETXATTR_IN.unpack_from(body)
        value = self._operations.getxattr(request.node, p.name_at(body, p.GETXATTR_IN.size))
        self._reply_xattr(request.unique, size, value)

    def listxattr(self, request: Header, body: memoryview) -> None:
        (size,) = p.GETXATTR_IN.unpack_from(body)
        names = self._operations.listxattr(request.node, self._caller(request))
        self._reply_xattr(request.unique, size, b"".join(os.fsencode(name) + b"\0" for name in names))

    def setxattr(self, request: Header, body: memoryview) -> None:
        layout = self._setxattr_in
        size, flags, *more = layout.unpack_from(body)
        raw, found, _ = bytes(body[layout.size :]).partition(b"\0")
        start = layout.size + len(raw) + 1
        if not raw or not found or len(body) < start + size:
            raise FsError(errno.EINVAL)
        value, caller = bytes(body[start : start + size]), self._caller(request)
        self._operations.setxattr(request.node, p.decode(raw), value, flags, caller)
        if more and more[0] & p.SETXATTR_ACL_KILL_SGID:
            mode = self._operations.getattr(request.node).stat.st_mode
            if mode & stat.S_ISGID:
                changes = SetAttr(mode=stat.S_IMODE(mode) & ~stat.S_ISGID)
                self._operations.setattr(request.node, changes, None, caller)
        self._device.reply(request.unique)

    def removexattr(self, request: Header, body: memoryview) -> None:
        self._operations.removexattr(request.node, p.name_at(body), self._caller(request))
        self._device.reply(request.unique)

    # -- files ---------------------------------------------------------------------------------------------------

    def open(self, request: Header, body: memoryview) -> None:
        flags, _ = p.OPEN_IN.unpack_from(body)
        caller = self._caller(request)
        self._when_not_leased(request, lambda: self._open(request, flags, caller), flags)

    def _open(self, request: Header, flags: int, caller: Caller) -> None:
        try:
            handle = self._operations.open(request.node, flags & ~p.FMODE_EXEC, caller, wait=False)
        except FsError as error:
            if error.errno == errno.ESTALE:  # the kernel tries again, not always by the name
                self._forget_attributes(request.node)
            raise
        try:
            answer = self._open_out(request.node, handle)
        except BaseException:
            self._operations.release(handle)
            raise
        if not self._device.reply(request.unique, answer):
            self._close(request.node, handle)

    def create(self, request: Header, body: memoryview) -> None:
        flags, mode, umask, _ = p.CREATE_IN.unpack_from(body)
        name = p.name_at(body, p.CREATE_IN.size)
        caller = self._caller(request, umask)
        self._when_not_leased(request, lambda: self._create(request, name, mode, flags, caller), flags)

    def _create(self, request: Header, name: str, mode: int, flags: int, caller: Caller) -> None:
        how = flags & ~p.FMODE_EXEC
        self._reply_created(request, *self._operations.create(request.node, name, mode, how, caller, wait=False))

    def tmpfile(self, request: Header, body: memoryview) -> None:
        flags, mode, umask, _ = p.CREATE_IN.unpack_from(body)
        caller = self._caller(request, umask)
        self._reply_created(request, *self._operations.tmpfile(request.node, mode, flags, caller))

    def _reply_created(self, request: Header, attrs: Attrs, handle: FileHandle) -> None:
        try:
            answer = p.pack_entry(attrs) + self._open_out(attrs.inode, handle)
        except BaseException:
            self._operations.release(handle)
            self._operations.forget(attrs.inode)
            raise
        if not self._device.reply(request.unique, answer):
            self._close(attrs.inode, handle)
            self._operations.forget(attrs.inode)

    def release(self, request: Header, body: memoryview) -> None:
        try:
            self._close(request.node, p.RELEASE_IN.unpack_from(body)[0])
        finally:  # the caller of close(2) is not told
            self._device.reply(request.unique)

    def flush(self, request: Header, body: memoryview) -> None:
        handle, owner = p.FLUSH_IN.unpack_from(body)

        def flush() -> None:
            if self._operations.flush(handle, owner):
                self._waiters.hurry()

        if self._operations.flush_may_block(handle):
            self._later(request, flush)
        else:
            flush()
            self._device.reply(request.unique)

    def getlk(self, request: Header, body: memoryview) -> None:
        handle, owner, start, end, kind, pid, _ = p.LK_IN.unpack_from(body)
        found = self._operations.get_lock(handle, owner, RecordLock(kind, start, end, pid))
        if found is None:
            found = RecordLock(fcntl.F_UNLCK, start, end)
        self._device.reply(request.unique, p.LK_OUT.pack(found.start, found.end, found.kind, found.pid))

    def setlk(self, request: Header, body: memoryview) -> None:
        self._lock(request, p.LK_IN.unpack_from(body), wait=False)

    def setlkw(self, request: Header, body: memoryview) -> None:
        self._lock(request, p.LK_IN.unpack_from(body), wait=True)

    def _lock(self, request: Header, wanted: tuple[Any, ...], *, wait: bool) -> None:
        """Lock, convert or unlock: at once if nothing is in the way, else it is refused or waited for.

        Who gets a lock wants to see what others, also below, wrote while they had it. Where the kernel has a cache of
        its own of the file, it is told to forget that before the answer: by the waiters' thread, as this may wait
        for reads that the loop and the pool are to answer (I6).
        """
        handle, owner, start, end, kind, pid, flags = wanted
        if kind not in _LOCK_KINDS:
            raise FsError(errno.EINVAL)
        refresh = kind != fcntl.F_UNLCK and self._passthrough.is_cached(request.node)
        operations = self._operations

        def attempt() -> int | None:
            lock = RecordLock(kind, start, end, pid)
            try:
                if self._set_lock(handle, owner, lock, flags):
                    return 0
                if not wait:
                    return errno.EAGAIN
                is_flock = flags & p.LK_FLOCK
                return None if is_flock or operations.may_wait(request.unique, handle, owner, lock) else errno.EDEADLK
            except Exception as error:  # noqa: BLE001  the table of errors is errno_of's
                return errno_of(error)

        def answer(result: int) -> None:
            if wait:
                operations.waited(request.unique)
            if result:
                self._device.fail(request.unique, result)
                return
            if refresh:
                with contextlib.suppress(OSError):
                    self._device.notify(Notification.INVAL_INODE, p.INVAL_INODE_OUT.pack(request.node, 0, 0))
            if not self._device.reply(request.unique):
                with contextlib.suppress(FsError, OSError):
                    self._set_lock(handle, owner, RecordLock(fcntl.F_UNLCK, start, end), flags)

        result = None if refresh else attempt()
        if result is None:
            self._waiters.submit(request.unique, attempt, answer, request.pid)
        else:
            answer(result)

    def _set_lock(self, handle: FileHandle, owner: LockOwner, lock: RecordLock, flags: int) -> bool:
        if flags & p.LK_FLOCK:
            done = self._operations.flock(handle, lock.kind)
        else:
            done = self._operations.set_lock(handle, owner, lock)
        if done and lock.kind != fcntl.F_WRLCK:  # unlocked, or others may share what was exclusive
            self._waiters.hurry()
        return done

    def read(self, request: Header, body: memoryview) -> None:
        handle, offset, size, _, _, _ = p.READ_IN.unpack_from(body)
        data = self._operations.read_nowait(handle, offset, size)
        if data is not None:
            self._device.reply(request.unique, data)
        else:
            self._later(request, lambda: self._operations.read(handle, offset, size))

    def write(self, request: Header, body: memoryview) -> None:
        handle, offset, size, write_flags, _, _ = p.WRITE_IN.unpack_from(body)
        data = body[p.WRITE_IN.size : p.WRITE_IN.size + size]
        if len(data) != size:
            raise FsError(errno.EINVAL)
        kill = bool(write_flags & p.WRITE_KILL_SUIDGID)
        if size <= _SMALL_WRITE_BYTES:
            self._device.reply(request.unique, p.U32.pack(self._operations.write(handle, offset, data, kill)))
        else:
            copy = bytes(data)
            self._later(request, lambda: p.U32.pack(self._operations.write(handle, offset, copy, kill)))

    def fsync(self, request: Header, body: memoryview) -> None:
        handle, flags = p.FSYNC_IN.unpack_from(body)
        self._later(request, lambda: self._operations.fsync(handle, bool(flags & p.FSYNC_FDATASYNC)))

    def fallocate(self, request: Header, body: memoryview) -> None:
        handle, offset, length, mode = p.FALLOCATE_IN.unpack_from(body)
        kill = request.uid != 0
        self._later(request, lambda: self._operations.fallocate(handle, mode, offset, length, kill))

    def lseek(self, request: Header, body: memoryview) -> None:
        handle, offset, whence = p.LSEEK_IN.unpack_from(body)
        self._device.reply(request.unique, p.U64.pack(self._operations.lseek(handle, offset, whence)))

    def copy_file_range(self, request: Header, body: memoryview) -> None:
        source, source_offset, _, target, target_offset, length, flags = p.COPY_FILE_RANGE_IN.unpack_from(body)
        if flags:
            self._device.fail(request.unique, errno.EINVAL)
            return
        if request.opcode == Opcode.COPY_FILE_RANGE:  # its answer has 32 bits
            length, answer = min(length, 0x7FFFF000), p.U32
        else:
            length, answer = min(length, (1 << 63) - 1), p.U64
        kill = request.uid != 0

        def copy() -> bytes:
            return answer.pack(
                self._operations.copy_file_range(source, source_offset, target, target_offset, length, kill)
            )

        # programs ask for as much as there may be
        if min(length, self._operations.left_to_read(source, source_offset)) <= _SMALL_WRITE_BYTES:
            self._device.reply(request.unique, copy())
        else:
            self._later(request, copy)

    copy_file_range_64 = copy_file_range

    # -- directories ---------------------------------------------------------------------------------------------

    def opendir(self, request: Header, body: memoryview) -> None:
        del body
        handle = self._operations.opendir(request.node, self._caller(request))
        flags = _LISTING_FLAGS[self._operations.listing_cache(handle)]
        if not self._device.reply(request.unique, p.OPEN_OUT.pack(handle, flags, 0)):
            self._operations.releasedir(handle)

    def readdir(self, request: Header, body: memoryview) -> None:
        handle, cookie, size, *_ = p.READ_IN.unpack_from(body)
        listing, _ = list_directory(self._operations, handle, cookie, size)
        self._device.reply(request.unique, listing)

    def readdirplus(self, request: Header, body: memoryview | bytes) -> None:
        handle, cookie, size, *_ = p.READ_IN.unpack_from(body)
        # While the disk does not answer, names will do; asking for one of them waits for nobody else's job.
        caller = self._caller(request)
        look_up = not self._server.is_stuck
        listing, references = list_directory(
            self._operations, handle, cookie, size, caller, look_up=look_up, request=request.unique
        )
        if not self._device.reply(request.unique, listing):
            for inode in references:
                self._operations.forget(inode)

    def list_names(self, request: Header, body: bytes) -> None:
        """Answer READDIRPLUS, at which another thread is stuck, with names only; its own answer is not taken then."""
        try:
            self.readdirplus(request, body)
        except Exception as error:  # noqa: BLE001  the table of errors is errno_of's
            self._device.fail(request.unique, errno_of(error))

    def releasedir(self, request: Header, body: memoryview) -> None:
        try:
            self._operations.releasedir(p.RELEASE_IN.unpack_from(body)[0])
        finally:
            self._device.reply(request.unique)

    def fsyncdir(self, request: Header, body: memoryview) -> None:
        handle, flags = p.FSYNC_IN.unpack_from(body)
        self._later(request, lambda: self._operations.fsyncdir(handle, bool(flags & p.FSYNC_FDATASYNC)))

    # -- the connection ------------------------------------------------------------------------------------------

    def interrupt(self, request: Header, body: memoryview) -> None:
        """Answer the request that is meant, if it waits for a lock or a lease, or if who asked has been killed.

        Everything else goes on: programs do not expect that a signal makes stat(2) or read(2) of a file fail. Who was
        killed cannot end before the answer to what it asked, which is given here in place of what may hang below. That
        ends in its own time; its answer is not taken then, and what it would have given is undone.

        The kernel says once that there is a signal; if that has killed nobody, the next may. So it is asked to say it
        again, also of a request that nobody here knows of yet.
        """
        (unique,) = p.INTERRUPT_IN.unpack_from(body)
        if self._waiters.interrupt(unique):
            return
        pid = self._server.asked_by(unique)
        if pid is not None and is_dying(pid):
            self._pool.cancel(unique)
            self._device.fail(unique, errno.EINTR)
        else:
            self._server.defer(request.unique)

    def destroy(self, request: Header, body: memoryview) -> None:
        del body
        self._device.reply(request.unique)

    def notify_reply(self, request: Header, body: memoryview) -> None:
        """Take a message that wants no answer."""

    # -- shared --------------------------------------------------------------------------------------------------

    def _caller(self, request: Header, umask: int = 0) -> Caller:
        key = (request.uid, request.gid, request.pid, 0 if self._masked else umask & 0o777)
        caller = self._callers.get(key)
        if caller is None:
            if len(self._callers) >= _CALLERS_MAX:
                self._callers.clear()
            caller = self._callers[key] = Caller(*key)
        return caller

    def _reply_entry(self, unique: int, attrs: Attrs) -> None:
        if not self._device.reply(unique, p.pack_entry(attrs)):
            self._operations.forget(attrs.inode)

    def _reply_xattr(self, unique: int, size: int, value: bytes) -> None:
        if size == 0:
            self._device.reply(unique, p.U32.pack(len(value)))
        elif len(value) > size:
            self._device.fail(unique, errno.ERANGE)
        else:
            self._device.reply(unique, value)

    def _open_out(self, inode: Inode, handle: FileHandle) -> bytes:
        cache = self._operations.data_cache(handle, has_data=not self._passthrough.enabled)
        backing = self._passthrough.opened(inode, lambda: self._operations.passthrough_fd(handle))
        if not cache.attributes_hold:  # who opens a file sees it as it is, its size too
            self._forget_attributes(inode)
        if backing != CACHED:
            return p.OPEN_OUT.pack(handle, p.FOPEN_PASSTHROUGH, backing)
        return p.OPEN_OUT.pack(handle, p.FOPEN_KEEP_CACHE if cache.may_keep else 0, CACHED)

    def _forget_attributes(self, inode: Inode) -> None:
        with contextlib.suppress(OSError):  # attributes alone may be taken back from here: that waits for nobody
            self._device.notify(Notification.INVAL_INODE, p.INVAL_INODE_OUT.pack(inode, -1, 0))

    def _close(self, inode: Inode, handle: FileHandle) -> None:
        self._passthrough.released(inode)
        if self._operations.release(handle):
            self._waiters.hurry()

    def _when_not_leased(self, request: Header, work: Callable[[], None], flags: int = 0) -> None:
        """Have *work* done, which opens or truncates a file and answers: at once, or when no other process has a lease.

        Asking for it has the kernel below tell the other process. That it has given up its lease nothing tells us, so
        that is tried again and again; meanwhile the request can be interrupted, and no thread is occupied.

        Args:
            work: raises BlockingIOError while there is a lease.
            flags: of open(2); O_NONBLOCK: the caller does not want to wait.
        """

        def attempt() -> int | None:
            try:
                work()
            except BlockingIOError:
                return None
            except Exception as error:  # noqa: BLE001  the table of errors is errno_of's
                return errno_of(error)
            return 0

        def answer(result: int) -> None:
            if result:
                self._device.fail(request.unique, result)

        try:
            work()
        except BlockingIOError:
            if flags & os.O_NONBLOCK:
                raise
            self._waiters.submit(request.unique, attempt, answer, request.pid)

    def _later(self, request: Header, work: Callable[[], bytes | None]) -> None:
        """Have the pool do *work* and answer with what it gives (None: success without data)."""

        def answer() -> None:
            try:
                result = work()
            except Exception as error:  # noqa: BLE001  the table of errors is errno_of's
                self._device.fail(request.unique, errno_of(error))
            else:
                self._device.reply(request.unique, result or b"")

        self._pool.submit(request.unique, answer, request.pid)


def _time(given: int, now: int, time_ns: int) -> Time | None:
    if now:
        return "now"
    return time_ns if given else None
