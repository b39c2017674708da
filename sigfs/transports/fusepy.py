"""The transport over fusepy, a ctypes binding of libfuse 2's high-level interface.

Bytes to ``str``, ``Attrs`` to fusepy's dictionaries, exceptions to errno; no meaning of its own. Requests come with
paths and are answered by ``PathOperations``.

One request at a time: the thread in ``serve`` (any thread will do) reads and answers. libfuse's signal handlers are
taken away again.

Limits of the binding: it cannot tell the kernel that something changed and has one cache time for all nodes, so that
no name and no attribute is cached. Two names of one file are two nodes in the kernel, each with its own page cache;
opening a file drops that node's, so they agree at each open, but a mapping or an open file does not see what is
written through the other name. A file removed while open can be read, written, truncated and synced, but fstat(2) and
fchmod(2) of it say ENOENT. Further: no rename flags, no fallocate, no SEEK_HOLE, no copy_file_range below; default ACLs
meet a mode that the umask has already been applied to.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import fuse

from sigfs.transports.base import errno_of
from sigfs.transports.libfuse2 import mount_options, mounting
from sigfs.vfs.paths import PathOperations
from sigfs.vfs.types import Attrs, Caller, FileHandle, FsError, Inode, SetAttr, Time

if not (hasattr(fuse, "FUSE") and hasattr(fuse, "fuse_operations") and hasattr(fuse, "fuse_get_context")):
    raise ImportError(
        f"the module 'fuse' found at {getattr(fuse, '__file__', '?')} is not fusepy (is fuse-python installed?)"
    )

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sigfs.transports.base import MountSpec
    from sigfs.vfs.operations import Operations

log = logging.getLogger(__name__)

UTIME_NOW: Final = (1 << 30) - 1
UTIME_OMIT: Final = (1 << 30) - 2

UNKNOWN_INO: Final = 0xFFFFFFFF
"""What libfuse shows as ``d_ino`` where nobody has looked; 0 would read as a deleted entry."""

ENCODING: Final = "latin-1"
"""fusepy decodes strictly, and UTF-8 is not strictly what names are; this maps bytes to characters one to one."""


def _to_vfs(text: str) -> str:
    return os.fsdecode(text.encode(ENCODING))


def _to_fusepy(text: str) -> str:
    return os.fsencode(text).decode(ENCODING)


class _Notifier:
    """There is no way to the kernel's caches; nothing is cached there either."""

    def invalidate_entry(self, parent: Inode, name: str) -> None:
        """Nothing to do."""

    def invalidate_inode(self, inode: Inode) -> None:
        """Nothing to do."""

    def invalidate_attributes(self, inode: Inode) -> None:
        """Nothing to do."""


class Transport:
    """See ``base.Transport``. ``serve`` leaves no signal handlers and runs in any thread."""

    can_notify = False

    def __init__(self, spec: MountSpec) -> None:
        self.spec = spec
        self.notifier = _Notifier()
        self._handlers = _Handlers()
        self._session: _Session | None = None
        self._requests = 0

    def mount(self) -> None:
        """Make the mount appear; see ``base.Transport``."""
        options = [
            *mount_options(self.spec),
            "use_ino",
            "hard_remove",  # the other way is to rename below what is open, to names that others see
            "entry_timeout=0",
            "negative_timeout=0",
            "attr_timeout=0",
        ]
        with mounting(self.spec.mountpoint):
            self._session = _Session(self._handlers, self.spec.mountpoint, options, self.spec.debug)

    def serve(self, operations: Operations) -> None:
        """Answer requests until the file system is unmounted."""
        assert self._session is not None
        self._handlers.paths = PathOperations(operations)
        self._session.loop()

    def close(self) -> None:
        """Unmount if still mounted and release everything. Not while another thread is in ``serve``."""
        session, self._session = self._session, None
        if session is not None:
            self._requests = session.requests
            session.close()

    def let_go(self) -> None:
        """Do nothing: the one thread that answers holds the connection."""

    def statistics(self) -> dict[str, object]:
        """Give the count of requests, and that there is no passthrough."""
        requests = self._requests if self._session is None else self._session.requests
        return {"requests": requests, "passthrough": False}


class _Session(fuse.FUSE):  # type: ignore[misc]  # fusepy is untyped
    """fusepy's trampolines, with mounting and serving taken apart.

    The base class does both in its constructor, swallows errors in ways of its own and sets SIGINT; of it, only the
    methods that turn C arguments into Python's are used.

    Attributes:
        requests: how many have come.
    """

    def __init__(self, handlers: _Handlers, mountpoint: str, options: list[str], debug: bool) -> None:
        self.operations = handlers
        self.raw_fi = True  # create() needs the flags
        self.encoding = ENCODING
        self.use_ns = True
        self.requests = 0
        self._debug = debug
        self._library = library = fuse._libfuse  # noqa: SLF001 - loading it a second time could find another one
        library.fuse_setup.restype = ctypes.c_void_p
        library.fuse_get_session.restype = ctypes.c_void_p
        library.fuse_session_next_chan.restype = ctypes.c_void_p

        self._table = self._make_table()  # libfuse copies it, but not the closures in it
        words = ["sigfs", mountpoint, "-f", "-s", "-o", ",".join(options)]
        arguments = (ctypes.c_char_p * len(words))(*(os.fsencode(word) for word in words))
        self._mountpoint = ctypes.c_char_p()
        self._fuse = ctypes.c_void_p(
            library.fuse_setup(
                len(words),
                arguments,
                ctypes.byref(self._table),
                ctypes.c_size_t(ctypes.sizeof(self._table)),
                ctypes.byref(self._mountpoint),
                ctypes.byref(ctypes.c_int()),
                None,
            )
        )
        if not self._fuse.value:
            raise RuntimeError("fuse_setup failed")
        # It has taken over those of HUP, INT and TERM that nobody handled; they are the caller's business.
        library.fuse_remove_signal_handlers(ctypes.c_void_p(library.fuse_get_session(self._fuse)))

    def _make_table(self) -> Any:
        table = fuse.fuse_operations()
        for name, prototype, *_ in fuse.fuse_operations._fields_:
            if not hasattr(_Handlers, {"ftruncate": "truncate", "fgetattr": "getattr"}.get(name, name)):
                continue
            if name.startswith("flag_"):
                setattr(table, name, getattr(_Handlers, name))
            else:
                setattr(table, name, prototype(partial(self._answer, name, getattr(self, name))))
        return table

    def _answer(self, name: str, trampoline: Callable[..., int | None], *args: object) -> int:
        """Run one request; what is raised becomes its errno, for nothing may be raised into C."""
        self.requests += 1
        try:
            result = trampoline(*args) or 0
        except BaseException as error:  # noqa: BLE001
            result = -errno_of(error)
        if self._debug:
            log.debug("%s(%r): %s", name, args[0] if args else None, result)
        return result

    def loop(self) -> None:
        """Answer requests until unmounted."""
        self._library.fuse_loop(self._fuse)

    def close(self) -> None:
        """Unmount, lazily, if still mounted; free everything."""
        library = self._library
        session = ctypes.c_void_p(library.fuse_get_session(self._fuse))
        channel = ctypes.c_void_p(library.fuse_session_next_chan(session, None))
        library.fuse_unmount(self._mountpoint, channel)
        library.fuse_destroy(self._fuse)

    def utimens(self, path: bytes, buf: Any) -> None:
        """Take UTIME_NOW and UTIME_OMIT apart from times, which the base class does not."""
        if not buf:
            times: tuple[Time | None, Time | None] = ("now", "now")
        else:
            times = (_time(buf.contents.actime), _time(buf.contents.modtime))
        self.operations("utimens", path.decode(ENCODING), times)


def _time(timespec: Any) -> Time | None:
    match timespec.tv_nsec:
        case n if n == UTIME_NOW:
            return "now"
        case n if n == UTIME_OMIT:
            return None
        case n:
            return int(timespec.tv_sec * 10**9 + n)


def _caller() -> Caller:
    # libfuse 2 negotiates neither DONT_MASK, so that the kernel has applied the umask, nor POSIX_ACL.
    uid, gid, pid = fuse.fuse_get_context()
    return Caller(uid=uid, gid=gid, pid=pid, umask=0, by_acl=False)


def _fields(attrs: Attrs) -> dict[str, int]:
    stat = attrs.stat
    return {
        "st_ino": stat.st_ino,
        "st_mode": stat.st_mode,
        "st_nlink": stat.st_nlink,
        "st_uid": stat.st_uid,
        "st_gid": stat.st_gid,
        "st_rdev": stat.st_rdev,
        "st_size": stat.st_size,
        "st_blksize": stat.st_blksize,
        "st_blocks": stat.st_blocks,
        # In nanoseconds because of use_ns.
        "st_atime": stat.st_atime_ns,
        "st_mtime": stat.st_mtime_ns,
        "st_ctime": stat.st_ctime_ns,
    }


class _Handlers:
    """fusepy's requests, one at a time in the thread that serves. A request without a method here is ENOSYS.

    ``info`` is libfuse's fuse_file_info: its ``fh`` is our handle. ``path`` is None where the file has lost its name.

    Attributes:
        paths: set before the first request.
    """

    paths: PathOperations

    flag_nullpath_ok = 1
    """Requests with a handle may come without a path: that of a file removed while open."""
    flag_utime_omit_ok = 1

    def __call__(self, name: str, *args: object) -> Any:
        return getattr(self, name)(*args)

    # Names

    def readlink(self, path: str) -> str:
        return _to_fusepy(self.paths.readlink(_to_vfs(path), _caller()))

    def mknod(self, path: str, mode: int, rdev: int) -> None:
        self.paths.mknod(_to_vfs(path), mode, rdev, _caller())

    def mkdir(self, path: str, mode: int) -> None:
        self.paths.mkdir(_to_vfs(path), mode, _caller())

    def unlink(self, path: str) -> None:
        self.paths.unlink(_to_vfs(path), _caller())

    def rmdir(self, path: str) -> None:
        self.paths.rmdir(_to_vfs(path), _caller())

    def symlink(self, path: str, target: str) -> None:
        self.paths.symlink(_to_vfs(target), _to_vfs(path), _caller())

    def rename(self, old: str, new: str) -> None:
        self.paths.rename(_to_vfs(old), _to_vfs(new), 0, _caller())

    def link(self, new: str, path: str) -> None:
        self.paths.link(_to_vfs(path), _to_vfs(new), _caller())

    # Attributes

    def getattr(self, path: str | None, info: Any = None) -> dict[str, int]:
        if info is not None:
            return _fields(self.paths.fgetattr(FileHandle(info.fh)))
        return _fields(self.paths.getattr(_named(path), _caller()))

    def _setattr(self, path: str | None, changes: SetAttr) -> None:
        self.paths.setattr(_named(path), changes, _caller())

    def chmod(self, path: str | None, mode: int) -> None:
        self._setattr(path, SetAttr(mode=mode & 0o7777))

    def chown(self, path: str | None, uid: int, gid: int) -> None:
        self._setattr(path, SetAttr(uid=None if uid == -1 else uid, gid=None if gid == -1 else gid))

    def truncate(self, path: str | None, size: int, info: Any = None) -> None:
        if info is not None:
            self.paths.fsetattr(FileHandle(info.fh), SetAttr(size=size), _caller())
        else:
            self._setattr(path, SetAttr(size=size))

    def utimens(self, path: str | None, times: tuple[Time | None, Time | None]) -> None:
        self._setattr(path, SetAttr(atime_ns=times[0], mtime_ns=times[1]))

    def statfs(self, path: str) -> dict[str, int]:
        below = self.paths.statfs(_to_vfs(path), _caller())
        names = ("bsize", "frsize", "blocks", "bfree", "bavail", "files", "ffree", "favail", "namemax")
        return {f"f_{name}": getattr(below, f"f_{name}") for name in names}

    # Extended attributes

    def getxattr(self, path: str, name: str) -> bytes:
        return self.paths.getxattr(_to_vfs(path), _to_vfs(name), _caller())

    def listxattr(self, path: str) -> list[str]:
        return [_to_fusepy(name) for name in self.paths.listxattr(_to_vfs(path), _caller())]

    def setxattr(self, path: str, name: str, value: bytes, flags: int) -> None:
        self.paths.setxattr(_to_vfs(path), _to_vfs(name), value, flags, _caller())

    def removexattr(self, path: str, name: str) -> None:
        self.paths.removexattr(_to_vfs(path), _to_vfs(name), _caller())

    # Open files

    def open(self, path: str, info: Any) -> None:
        info.fh = self.paths.open(_to_vfs(path), info.flags, _caller())
        info.direct_io = self.paths.is_virtual(FileHandle(info.fh))

    def create(self, path: str, mode: int, info: Any) -> None:
        _, info.fh = self.paths.create(_to_vfs(path), mode, info.flags, _caller())

    def read(self, _path: str | None, size: int, offset: int, info: Any) -> bytes:
        return self.paths.read(FileHandle(info.fh), offset, size)

    def write(self, _path: str | None, data: bytes, offset: int, info: Any) -> int:
        return self.paths.write(FileHandle(info.fh), offset, data, _caller())

    def flush(self, _path: str | None, info: Any) -> None:
        self.paths.flush(FileHandle(info.fh))

    def release(self, _path: str | None, info: Any) -> None:
        self.paths.release(FileHandle(info.fh))

    def fsync(self, _path: str | None, datasync: int, info: Any) -> None:
        self.paths.fsync(FileHandle(info.fh), bool(datasync))

    # Open directories; libfuse keeps a listing from its start to the next rewind, so positions are stable (I5)

    def opendir(self, path: str) -> FileHandle:
        return self.paths.opendir(_to_vfs(path), _caller())

    def readdir(self, _path: str | None, handle: int) -> Iterator[tuple[str, dict[str, int], int]]:
        for name in (".", ".."):
            yield name, {"st_ino": UNKNOWN_INO, "st_mode": 0o040000}, 0
        for entry in self.paths.readdir(FileHandle(handle)):
            yield _to_fusepy(entry.name), {"st_ino": entry.ino or UNKNOWN_INO, "st_mode": entry.type}, 0

    def releasedir(self, _path: str | None, handle: int) -> None:
        self.paths.releasedir(FileHandle(handle))

    def fsyncdir(self, _path: str | None, datasync: int, handle: int) -> None:
        self.paths.fsyncdir(FileHandle(handle), bool(datasync))


def _named(path: str | None) -> str:
    if path is None:
        raise FsError(errno.ENOENT)
    return _to_vfs(path)
