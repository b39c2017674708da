"""A plain pass-through file system with fusepy: what a mount costs that does nothing else.

``python -m tests.bench.plain_fusepy SOURCE MOUNTPOINT``. Written the way fusepy's own example is: paths, and
descriptors for open files. libfuse's defaults: names and attributes are kept for a second. One thread:
quicker than several.
"""

# ruff: noqa: ARG002 - the arguments are fusepy's

from __future__ import annotations

import os
import sys

import fuse

_ATTRIBUTES = (
    "st_atime", "st_ctime", "st_mtime", "st_gid", "st_uid", "st_mode", "st_nlink", "st_size", "st_blocks", "st_rdev",
)  # fmt: skip
_FILE_SYSTEM = ("f_bavail", "f_bfree", "f_blocks", "f_bsize", "f_favail", "f_ffree", "f_files", "f_frsize", "f_namemax")


class PassThrough(fuse.Operations):
    """One directory, shown as it is."""

    def __init__(self, source: str) -> None:
        self._source = source

    def __call__(self, op: str, path: str, *arguments: object) -> object:
        return super().__call__(op, self._source + path, *arguments)

    def getattr(self, path: str, fh: int | None = None) -> dict[str, object]:
        found = os.lstat(path)
        return {name: getattr(found, name) for name in _ATTRIBUTES}

    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", *os.listdir(path)]

    def create(self, path: str, mode: int, fi: object = None) -> int:
        return os.open(path, os.O_RDWR | os.O_CREAT, mode)

    def open(self, path: str, flags: int) -> int:
        return os.open(path, flags)

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return os.pread(fh, size, offset)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        return os.pwrite(fh, data, offset)

    def release(self, path: str, fh: int) -> None:
        os.close(fh)

    def fsync(self, path: str, datasync: int, fh: int) -> None:
        (os.fdatasync if datasync else os.fsync)(fh)

    def truncate(self, path: str, length: int, fh: int | None = None) -> None:
        os.truncate(path if fh is None else fh, length)

    def link(self, target: str, source: str) -> None:
        os.link(self._source + source, target, follow_symlinks=False)

    def symlink(self, target: str, source: str) -> None:
        os.symlink(source, target)

    def readlink(self, path: str) -> str:
        return os.readlink(path)

    def mkdir(self, path: str, mode: int) -> None:
        os.mkdir(path, mode)

    def mknod(self, path: str, mode: int, device: int) -> None:
        os.mknod(path, mode, device)

    def rmdir(self, path: str) -> None:
        os.rmdir(path)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def rename(self, old: str, new: str) -> None:
        os.rename(old, self._source + new)

    def chmod(self, path: str, mode: int) -> None:
        os.chmod(path, mode)

    def chown(self, path: str, uid: int, gid: int) -> None:
        os.chown(path, uid, gid, follow_symlinks=False)

    def utimens(self, path: str, times: tuple[float, float] | None = None) -> None:
        os.utime(path, times, follow_symlinks=False)

    def statfs(self, path: str) -> dict[str, object]:
        found = os.statvfs(path)
        return {name: getattr(found, name) for name in _FILE_SYSTEM}

    getxattr = listxattr = None  # answered ENOSYS: the kernel does not ask again


def main() -> None:
    source, mountpoint = sys.argv[1:]
    fuse.FUSE(PassThrough(source), mountpoint, foreground=True, nothreads=True, big_writes=True, fsname="plain-fusepy")


if __name__ == "__main__":
    main()
