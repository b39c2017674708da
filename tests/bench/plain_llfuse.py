"""A plain pass-through file system with llfuse: what a mount costs that does nothing else.

``python -m tests.bench.plain_llfuse SOURCE MOUNTPOINT``. Written the way llfuse documents it: inode numbers of the
disk, a path for each inode, descriptors for open files; but a directory is read once, when it is opened. Names and
attributes may be kept for a second, as libfuse does by default. There are no extended attributes.
"""

# ruff: noqa: ARG002 - the arguments are llfuse's

from __future__ import annotations

import errno
import functools
import itertools
import os
import stat
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator

import llfuse

_KEPT_S = 1.0


def _says_why(handler: Callable[..., object]) -> Callable[..., object]:
    """Answer with the errno of an OSError."""

    @functools.wraps(handler)
    def handle(*arguments: object, **named: object) -> object:
        try:
            return handler(*arguments, **named)
        except OSError as error:
            raise llfuse.FUSEError(error.errno) from None

    return handle


class PassThrough(llfuse.Operations):
    """One directory, shown as it is."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self._paths: dict[int, bytes] = {llfuse.ROOT_INODE: os.fsencode(source)}
        self._lookups: defaultdict[int, int] = defaultdict(int)
        self._handles = itertools.count(1)
        self._listings: dict[int, list[tuple[int, bytes, os.stat_result]]] = {}

    def _path(self, parent: int, name: bytes) -> bytes:
        return self._paths[parent] + b"/" + name

    def _entry(self, found: os.stat_result, inode: int) -> llfuse.EntryAttributes:
        entry = llfuse.EntryAttributes()
        entry.st_ino = inode
        entry.st_mode, entry.st_nlink, entry.st_uid, entry.st_gid = (
            found.st_mode,
            found.st_nlink,
            found.st_uid,
            found.st_gid,
        )
        entry.st_rdev, entry.st_size, entry.st_blksize, entry.st_blocks = (
            found.st_rdev,
            found.st_size,
            found.st_blksize,
            found.st_blocks,
        )
        entry.st_atime_ns, entry.st_mtime_ns, entry.st_ctime_ns = (
            found.st_atime_ns,
            found.st_mtime_ns,
            found.st_ctime_ns,
        )
        entry.entry_timeout = entry.attr_timeout = _KEPT_S
        return entry

    def _found(self, path: bytes) -> llfuse.EntryAttributes:
        found = os.lstat(path)
        self._paths[found.st_ino] = path
        self._lookups[found.st_ino] += 1
        return self._entry(found, found.st_ino)

    @_says_why
    def lookup(self, parent: int, name: bytes, ctx: object) -> llfuse.EntryAttributes:
        return self._found(self._path(parent, name))

    def forget(self, inodes: list[tuple[int, int]]) -> None:
        for inode, count in inodes:
            self._lookups[inode] -= count
            if self._lookups[inode] <= 0:
                del self._lookups[inode]
                self._paths.pop(inode, None)

    @_says_why
    def getattr(self, inode: int, ctx: object) -> llfuse.EntryAttributes:
        return self._entry(os.lstat(self._paths[inode]), inode)

    @_says_why
    def setattr(
        self, inode: int, attr: llfuse.EntryAttributes, fields: llfuse.SetattrFields, fh: int | None, ctx: object
    ) -> llfuse.EntryAttributes:
        path = self._paths[inode]
        if fields.update_size:
            os.truncate(path if fh is None else fh, attr.st_size)
        if fields.update_mode:
            os.chmod(path, stat.S_IMODE(attr.st_mode))
        if fields.update_uid or fields.update_gid:
            os.chown(
                path,
                attr.st_uid if fields.update_uid else -1,
                attr.st_gid if fields.update_gid else -1,
                follow_symlinks=False,
            )
        if fields.update_atime or fields.update_mtime:
            found = os.lstat(path)
            times = (
                attr.st_atime_ns if fields.update_atime else found.st_atime_ns,
                attr.st_mtime_ns if fields.update_mtime else found.st_mtime_ns,
            )
            os.utime(path, ns=times, follow_symlinks=False)
        return self._entry(os.lstat(path), inode)

    @_says_why
    def readlink(self, inode: int, ctx: object) -> bytes:
        return os.readlink(self._paths[inode])

    @_says_why
    def opendir(self, inode: int, ctx: object) -> int:
        with os.scandir(self._paths[inode]) as listing:
            self._listings[next(self._handles)] = sorted(
                (entry.inode(), entry.name, entry.stat(follow_symlinks=False)) for entry in listing
            )
        return max(self._listings)

    def readdir(self, fh: int, off: int) -> Iterator[tuple[bytes, llfuse.EntryAttributes, int]]:
        for position, (inode, name, found) in enumerate(self._listings[fh][off:], start=off + 1):
            yield name, self._entry(found, inode), position

    @_says_why
    def mkdir(self, parent: int, name: bytes, mode: int, ctx: llfuse.RequestContext) -> llfuse.EntryAttributes:
        path = self._path(parent, name)
        os.mkdir(path, mode & ~ctx.umask)
        return self._found(path)

    @_says_why
    def rmdir(self, parent: int, name: bytes, ctx: object) -> None:
        os.rmdir(self._path(parent, name))

    @_says_why
    def unlink(self, parent: int, name: bytes, ctx: object) -> None:
        os.unlink(self._path(parent, name))

    @_says_why
    def rename(self, parent: int, name: bytes, new_parent: int, new_name: bytes, ctx: object) -> None:
        old, new = self._path(parent, name), self._path(new_parent, new_name)
        found = os.lstat(old)
        os.rename(old, new)
        if found.st_ino in self._paths:
            self._paths[found.st_ino] = new
        if stat.S_ISDIR(found.st_mode):
            for inode, path in self._paths.items():
                if path.startswith(old + b"/"):
                    self._paths[inode] = new + path[len(old) :]

    @_says_why
    def link(self, inode: int, parent: int, name: bytes, ctx: object) -> llfuse.EntryAttributes:
        path = self._path(parent, name)
        os.link(self._paths[inode], path, follow_symlinks=False)
        return self._found(path)

    @_says_why
    def symlink(self, parent: int, name: bytes, target: bytes, ctx: object) -> llfuse.EntryAttributes:
        path = self._path(parent, name)
        os.symlink(target, path)
        return self._found(path)

    @_says_why
    def open(self, inode: int, flags: int, ctx: object) -> int:
        return os.open(self._paths[inode], flags)

    @_says_why
    def create(
        self, parent: int, name: bytes, mode: int, flags: int, ctx: llfuse.RequestContext
    ) -> tuple[int, llfuse.EntryAttributes]:
        path = self._path(parent, name)
        fd = os.open(path, flags | os.O_CREAT, mode & ~ctx.umask)
        return fd, self._found(path)

    @_says_why
    def read(self, fh: int, off: int, size: int) -> bytes:
        return os.pread(fh, size, off)

    @_says_why
    def write(self, fh: int, off: int, buf: bytes) -> int:
        return os.pwrite(fh, buf, off)

    @_says_why
    def release(self, fh: int) -> None:
        os.close(fh)

    def flush(self, fh: int) -> None:
        """Nothing is kept back."""

    @_says_why
    def fsync(self, fh: int, datasync: bool) -> None:
        (os.fdatasync if datasync else os.fsync)(fh)

    def releasedir(self, fh: int) -> None:
        del self._listings[fh]

    @_says_why
    def statfs(self, ctx: object) -> llfuse.StatvfsData:
        found, answer = os.statvfs(self._paths[llfuse.ROOT_INODE]), llfuse.StatvfsData()
        for name in ("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree", "f_favail"):
            setattr(answer, name, getattr(found, name))
        return answer

    def getxattr(self, inode: int, name: bytes, ctx: object) -> bytes:
        raise llfuse.FUSEError(errno.ENOSYS)  # the kernel does not ask again


def main() -> None:
    source, mountpoint = sys.argv[1:]
    os.umask(0)
    llfuse.init(PassThrough(source), mountpoint, {*llfuse.default_options, "fsname=plain-llfuse"})
    try:
        llfuse.main(workers=1)
    finally:
        llfuse.close()


if __name__ == "__main__":
    main()
