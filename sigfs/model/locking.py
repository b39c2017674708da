"""Locks of files that are replaced.

Owned here: how all who change one file by writing it anew wait for each other: threads, processes, and hosts where the
file system has locks across hosts. The file itself is locked, by ``flock``, and not its directory: network file
systems and FUSE hand on locks of regular files only. As a file that is replaced takes its lock with it, who has got a
lock looks whether the file still has its name.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from typing import Final

from sigfs.model import files

LOCK_FILE: Final = f"{files.TEMPORARY_PREFIX}lock"
"""Made in the directory while a file in it is locked, where the file system has no locks."""

STALE_S: Final = 30.0
"""Age of a lock file from which on whoever made it counts as dead. Who was only slow finds out before it writes."""

_UNABLE: Final = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP})
_LONGEST_PAUSE_S: Final = 0.05
_AFTER_STALE_S: Final = (0.0, 0.001, 0.01, 0.1, 1.0)


@contextlib.contextmanager
def locked(dir_fd: int, name: str, timeout_s: float | None = None) -> Iterator[int]:
    """Give a descriptor, for reading, of the regular file *name* in directory *dir_fd*, locked until the end.

    For a process that forks meanwhile the lock ends with the block of the one that comes first to its end.

    Args:
        timeout_s: how long to wait for others; for ever if None.
    Raises:
        FileNotFoundError: there is no such file.
        TimeoutError: others have had it for too long.
        OSError: as `files.open_regular`.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        fd = open_current(dir_fd, name)
        with contextlib.ExitStack() as stack:
            stack.callback(os.close, fd)
            try:
                fd = _flock(stack, dir_fd, name, fd, deadline)
            except OSError as error:
                if error.errno not in _UNABLE:
                    raise
                stack.enter_context(_lock_file(dir_fd, name, deadline))
            if has_name(fd, dir_fd, name):
                yield fd
                return


def open_current(dir_fd: int, name: str) -> int:
    """As `files.open_regular`, also while others replace the file again and again on another host, or below a mount:
    what the kernel remembers of the name is not there any more (ESTALE), and it asks anew the next time."""
    for pause_s in _AFTER_STALE_S:
        try:
            return files.open_regular(dir_fd, name)
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
            time.sleep(pause_s)
    return files.open_regular(dir_fd, name)


def has_name(fd: int, dir_fd: int, name: str) -> bool:
    """Whether the open file *fd* is the one that has the name now. A network file system is asked, not remembered."""
    try:
        found = open_current(dir_fd, name)
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ELOOP, errno.EISDIR, errno.EINVAL, errno.ENXIO}:
            return False
        raise
    try:
        return os.path.samestat(os.fstat(found), os.fstat(fd))
    finally:
        os.close(found)


def _flock(stack: contextlib.ExitStack, dir_fd: int, name: str, fd: int, deadline: float | None) -> int:
    """Lock *fd*, or another descriptor of the file, which is given."""
    try:
        _wait(fd, name, deadline)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
        # NFS: only who may write can lock out others.
        fd = os.open(name, files.READ_FLAGS | os.O_RDWR, dir_fd=dir_fd)
        stack.callback(os.close, fd)
        _wait(fd, name, deadline)
    # Not by closing alone: a child that was forked meanwhile has the same open file.
    stack.callback(fcntl.flock, fd, fcntl.LOCK_UN)
    return fd


def _wait(fd: int, name: str, deadline: float | None) -> None:
    if deadline is None:
        fcntl.flock(fd, fcntl.LOCK_EX)
        return
    pauses = _pauses(name, deadline)
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            next(pauses)
        else:
            return


@contextlib.contextmanager
def _lock_file(dir_fd: int, name: str, deadline: float | None) -> Iterator[None]:
    pauses = _pauses(name, deadline)
    while True:
        try:
            fd = os.open(LOCK_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=dir_fd)
            break
        except FileExistsError:
            with contextlib.suppress(FileNotFoundError):
                if time.time() - os.stat(LOCK_FILE, dir_fd=dir_fd, follow_symlinks=False).st_mtime > STALE_S:
                    # Under a name of its own first: of all who find it stale one takes it away.
                    away = files.temporary_name()
                    os.rename(LOCK_FILE, away, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
                    os.unlink(away, dir_fd=dir_fd)
                    continue
            next(pauses)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(fd), os.stat(LOCK_FILE, dir_fd=dir_fd, follow_symlinks=False)):
                os.unlink(LOCK_FILE, dir_fd=dir_fd)
        os.close(fd)


def _pauses(name: str, deadline: float | None) -> Iterator[None]:
    """Sleep, longer and longer, once for each ``next``.

    Raises:
        TimeoutError: it is too late for another.
    """
    pause_s = 0.001
    while True:
        if deadline is not None and time.monotonic() + pause_s > deadline:
            raise TimeoutError(errno.ETIMEDOUT, "others are changing it and have not come to an end", name)
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        yield
