"""The ways on which the conformance suite reaches a job's directory, and one interface to all of them.

``plain`` is the job's directory itself, which tests the tests; ``direct`` is the object that serves, without a kernel;
the others are mounts, named by their transport.
"""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sigfs.transports.base import NAMES as TRANSPORTS
from sigfs.vfs.types import Caller, FsError, SetAttr
from tests.support.projects import job_id, make_project
from tests.support.server import Server

DRIVERS = ("plain", "direct", *TRANSPORTS)
STATEPOINTS: list[dict[str, object]] = [{"n": 0}, {"n": 1}]


class Place:
    """Where one test works: a new directory in each of two jobs, as seen through the driver and below it.

    Attributes:
        root: the directory in the first job, through the driver.
        below: the same directory in the workspace.
        other: the directory in the second job, through the driver.
        other_below: the same directory in the workspace.
        top: what is mounted; the workspace for ``plain``.
    """

    def __init__(self, driver: str, top: str, roots: tuple[str, str], belows: tuple[str, str]) -> None:
        self.driver = driver
        self.top = top
        self.root, self.other = roots
        self.below, self.other_below = belows

    def path(self, *names: str) -> str:
        """Give a path under ``root``."""
        return os.path.join(self.root, *names)


class Fs:
    """A place by calls in the words of ``os``; paths are relative to the place's root. This one asks the kernel."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.driver = place.driver

    def _at(self, path: str) -> str:
        return os.path.join(self.place.root, path)

    def open(self, path: str, flags: int = os.O_RDONLY, mode: int = 0o666) -> int:
        return os.open(self._at(path), flags, mode)

    def close(self, fd: int) -> None:
        os.close(fd)

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        return os.pread(fd, size, offset)

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        return os.pwrite(fd, data, offset)

    def fstat(self, fd: int) -> os.stat_result:
        return os.fstat(fd)

    def ftruncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def fsync(self, fd: int) -> None:
        os.fsync(fd)

    def lstat(self, path: str) -> os.stat_result:
        return os.lstat(self._at(path))

    def truncate(self, path: str, size: int) -> None:
        os.truncate(self._at(path), size)

    def chmod(self, path: str, mode: int) -> None:
        os.chmod(self._at(path), mode)

    def utime(self, path: str, atime_ns: int, mtime_ns: int) -> None:
        os.utime(self._at(path), ns=(atime_ns, mtime_ns))

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        os.mkdir(self._at(path), mode)

    def mkfifo(self, path: str) -> None:
        os.mkfifo(self._at(path))

    def rmdir(self, path: str) -> None:
        os.rmdir(self._at(path))

    def unlink(self, path: str) -> None:
        os.unlink(self._at(path))

    def rename(self, old: str, new: str) -> None:
        os.rename(self._at(old), self._at(new))

    def link(self, old: str, new: str) -> None:
        os.link(self._at(old), self._at(new))

    def symlink(self, target: str, path: str) -> None:
        os.symlink(target, self._at(path))

    def readlink(self, path: str) -> str:
        return os.readlink(self._at(path))

    def listdir(self, path: str = "") -> list[str]:
        return os.listdir(self._at(path))

    def statvfs(self, path: str = "") -> os.statvfs_result:
        return os.statvfs(self._at(path))

    def setxattr(self, path: str, name: str, value: bytes, flags: int = 0) -> None:
        os.setxattr(self._at(path), name, value, flags)

    def getxattr(self, path: str, name: str) -> bytes:
        return os.getxattr(self._at(path), name)

    def listxattr(self, path: str) -> list[str]:
        return os.listxattr(self._at(path))

    def removexattr(self, path: str, name: str) -> None:
        os.removexattr(self._at(path), name)

    # Said once

    def write_file(self, path: str, data: bytes) -> None:
        """Make *path* a file that holds *data*."""
        fd = self.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            assert self.pwrite(fd, data, 0) == len(data)
        finally:
            self.close(fd)

    def read_file(self, path: str) -> bytes:
        """Give what the file *path* holds."""
        fd = self.open(path)
        try:
            return self.pread(fd, self.fstat(fd).st_size + 1, 0)
        finally:
            self.close(fd)


def _plain_errors(method: Callable[..., Any]) -> Callable[..., Any]:
    """Raise the OSError that the kernel would make of an FsError."""

    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return method(*args, **kwargs)
        except FsError as error:
            raise OSError(error.errno, os.strerror(error.errno)) from error

    return call


class DirectFs(Fs):
    """A place through ``PathOperations``; does what the kernel would do before it asks a file system."""

    def __init__(self, place: Place, paths: Any) -> None:
        super().__init__(place)
        self.paths = paths
        self.caller = Caller(os.geteuid(), os.getegid(), os.getpid(), 0o022)

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name.startswith("_") or not callable(found):
            return found
        return _plain_errors(found)

    def _exists(self, path: str) -> bool:
        try:
            self.paths.getattr(self._at(path), self.caller)
        except FsError as error:
            if error.errno == errno.ENOENT:
                return False
            raise
        return True

    def open(self, path: str, flags: int = os.O_RDONLY, mode: int = 0o666) -> int:
        if flags & os.O_CREAT and not self._exists(path):
            return self.paths.create(self._at(path), stat.S_IFREG | mode, flags, self.caller)[1]
        if flags & os.O_CREAT and flags & os.O_EXCL:
            raise FsError(errno.EEXIST)
        handle = self.paths.open(self._at(path), flags & ~(os.O_CREAT | os.O_EXCL | os.O_TRUNC), self.caller)
        if flags & os.O_TRUNC:
            self.paths.fsetattr(handle, SetAttr(size=0), self.caller)
        return handle

    def close(self, fd: int) -> None:
        self.paths.flush(fd)
        self.paths.release(fd)

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        return self.paths.read(fd, offset, size)

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        return self.paths.write(fd, offset, data)

    def fstat(self, fd: int) -> os.stat_result:
        return self.paths.fgetattr(fd).stat

    def ftruncate(self, fd: int, size: int) -> None:
        self.paths.fsetattr(fd, SetAttr(size=size), self.caller)

    def fsync(self, fd: int) -> None:
        self.paths.fsync(fd)

    def lstat(self, path: str) -> os.stat_result:
        return self.paths.getattr(self._at(path), self.caller).stat

    def truncate(self, path: str, size: int) -> None:
        self.paths.setattr(self._at(path), SetAttr(size=size), self.caller)

    def chmod(self, path: str, mode: int) -> None:
        self.paths.setattr(self._at(path), SetAttr(mode=mode), self.caller)

    def utime(self, path: str, atime_ns: int, mtime_ns: int) -> None:
        self.paths.setattr(self._at(path), SetAttr(atime_ns=atime_ns, mtime_ns=mtime_ns), self.caller)

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        if self._exists(path):
            raise FsError(errno.EEXIST)
        self.paths.mkdir(self._at(path), mode, self.caller)

    def mkfifo(self, path: str) -> None:
        self.paths.mknod(self._at(path), stat.S_IFIFO | 0o666, 0, self.caller)

    def rmdir(self, path: str) -> None:
        self.paths.rmdir(self._at(path), self.caller)

    def unlink(self, path: str) -> None:
        self.paths.unlink(self._at(path), self.caller)

    def rename(self, old: str, new: str) -> None:
        self.paths.rename(self._at(old), self._at(new), 0, self.caller)

    def link(self, old: str, new: str) -> None:
        self.paths.link(self._at(old), self._at(new), self.caller)

    def symlink(self, target: str, path: str) -> None:
        self.paths.symlink(target, self._at(path), self.caller)

    def readlink(self, path: str) -> str:
        return self.paths.readlink(self._at(path), self.caller)

    def listdir(self, path: str = "") -> list[str]:
        handle = self.paths.opendir(self._at(path), self.caller)
        try:
            return [entry.name for entry in self.paths.readdir(handle)]
        finally:
            self.paths.releasedir(handle)

    def statvfs(self, path: str = "") -> os.statvfs_result:
        return self.paths.statfs(self._at(path), self.caller)

    def setxattr(self, path: str, name: str, value: bytes, flags: int = 0) -> None:
        self.paths.setxattr(self._at(path), name, value, flags, self.caller)

    def getxattr(self, path: str, name: str) -> bytes:
        return self.paths.getxattr(self._at(path), name, self.caller)

    def listxattr(self, path: str) -> list[str]:
        return self.paths.listxattr(self._at(path), self.caller)

    def removexattr(self, path: str, name: str) -> None:
        self.paths.removexattr(self._at(path), name, self.caller)


class Reach:
    """One driver at one project; gives each test a new place. A mount that a test has spoilt is replaced.

    Attributes:
        project: a project with the jobs ``STATEPOINTS``, made for this object and removed with it.
    """

    def __init__(self, driver: str, *options: str) -> None:
        """Make the project; *options* are those of ``-o``."""
        self.driver = driver
        self._options = options
        self._base = os.path.realpath(tempfile.mkdtemp(prefix="sigfs-conformance-"))
        if "allow_other" in options:
            os.chmod(self._base, 0o755)  # so that the plain directory is as open as a mount
        self.project = make_project(os.path.join(self._base, "project"), *STATEPOINTS)
        self.server: Server | None = None
        self.operations: Any = None
        self._numbers = itertools.count()

    def _start(self) -> str:
        """Make the driver ready and give the path of its top."""
        if self.driver == "plain":
            return os.path.join(self.project, "workspace")
        if self.driver == "direct":
            if self.operations is None:
                self.operations = _operations(self.project, read_only="ro" in self._options)
            return "/"
        if self.server is None:
            server = Server(self.driver, self.project, *self._options)
            server.start()
            self.server = server
        return self.server.mountpoint

    def place(self) -> Place:
        """Give a new place."""
        top = self._start()
        name = f"test-{next(self._numbers)}"
        ids = [job_id(statepoint) for statepoint in STATEPOINTS]
        belows = [os.path.join(self.project, "workspace", each, name) for each in ids]
        for below in belows:
            os.mkdir(below)
        jobs = ids if self.driver == "plain" else [f"n/{statepoint['n']}" for statepoint in STATEPOINTS]
        roots = [os.path.join(top, job, name) for job in jobs]
        return Place(self.driver, top, (roots[0], roots[1]), (belows[0], belows[1]))

    def settle(self, failed: bool) -> None:
        """After a test: what passed must have left all in order; what failed costs the mount."""
        try:
            if not failed and self.server is not None:
                self.server.check()
            if not failed and self.operations is not None:
                self.operations.check()
                statistics = self.operations.statistics()
                left = {name: statistics[name] for name in ("open_files", "open_directories")}
                assert left == {"open_files": 0, "open_directories": 0}
                assert statistics["inodes"] == 1, "a reference was leaked"
        except AssertionError:
            failed = True
            raise
        finally:
            if failed:
                self._abandon()

    def _abandon(self) -> None:
        server, self.server = self.server, None
        if server is not None:
            server.kill()
        operations, self.operations = self.operations, None
        if operations is not None:
            operations.close()

    def finish(self) -> None:
        """Unmount strictly; remove all."""
        server, self.server = self.server, None
        try:
            if server is not None:
                server.stop()
        finally:
            self._abandon()
            shutil.rmtree(self._base)


def _operations(project: str, read_only: bool) -> Any:
    from sigfs.index import Index
    from sigfs.model.workspace import Workspace
    from sigfs.tree import Tree
    from sigfs.vfs.operations import Operations

    workspace = Workspace(os.path.join(project, "workspace"))
    index = Index()
    index.apply(list(workspace.scan()))
    return Operations(Tree(), index, workspace, read_only=read_only)


def make_fs(reach: Reach, place: Place) -> Fs:
    """Give the calls that work on *place*."""
    if reach.operations is not None:
        from sigfs.vfs.paths import PathOperations

        return DirectFs(place, PathOperations(reach.operations))
    return Fs(place)


@contextmanager
def umask(mask: int) -> Iterator[None]:
    """Set this process's umask for the block."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)
