"""Files that an archive has, written and compared.

Owned here: that nothing is written but under temporary names.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat
from collections.abc import Iterable
from typing import Final

from xxhash import xxh3_64_hexdigest

from sigfs.export.packed import Entry
from sigfs.export.places import Places
from sigfs.export.unpacking import keep
from sigfs.model import files, trees

_TEMPORARY: Final = f"{files.TEMPORARY_PREFIX}restore_"


def is_same(job_fd: int, job: str, fd: int, name: str, entry: Entry) -> bool:
    """Whether a file of a job says what an entry does; rights and times do not count.

    Args:
        job_fd, job: the directory of the job, and its path in the archive.
        fd, name: where the file is.
    """
    status = os.lstat(name, dir_fd=fd)
    if stat.S_IFMT(status.st_mode) != stat.S_IFMT(entry.mode):
        return False
    if stat.S_ISLNK(entry.mode):
        return os.readlink(name, dir_fd=fd) == entry.text
    if not stat.S_ISREG(entry.mode):
        return True
    if entry.file is None:
        above, _, other = entry.text.removeprefix(f"{job}/").rpartition("/")
        with contextlib.closing(Places(job_fd)) as places, contextlib.suppress(OSError):
            return os.path.samestat(status, os.lstat(other, dir_fd=places.open(above)))
        return False
    with trees.opened(name, fd) as there, open(there, "rb", closefd=False) as file:
        while data := entry.file.read(trees.CHUNK_BYTES):
            if file.read(len(data)) != data:
                return False
        return not file.read(1)


def opened(path: str, stack: contextlib.ExitStack) -> int:
    """A descriptor of a directory; negative if it is not there, as may be in a dry run."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return -1
    stack.callback(os.close, fd)
    return fd


def there(fd: int) -> int:
    """The descriptor that `opened` gave.

    Raises:
        FileNotFoundError: there was no directory.
    """
    if fd < 0:
        raise FileNotFoundError
    return fd


def temporary(name: str) -> str:
    """What something is called until it gets its name; short enough, and the same each time."""
    return f"{_TEMPORARY}{xxh3_64_hexdigest(os.fsencode(name))}"


def synchronise(*fds: int) -> None:
    """Bring the file systems to the disk that these are of: thousands of files cost what one does."""
    for fd in fds:
        if ctypes.CDLL(None, use_errno=True).syncfs(fd):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))


def write(directory_fd: int, name: str, entry: Entry, chunks: Iterable[bytes]) -> None:
    """Write a new file; what is nothing but zeros becomes a hole."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(name, flags, 0o600, dir_fd=directory_fd)
    try:
        size = 0
        for data in chunks:
            view = memoryview(data)
            while view and data.count(0) != len(data):
                view = view[os.pwrite(fd, view, size + len(data) - len(view)) :]
            size += len(data)
        os.ftruncate(fd, size)
        keep(fd, entry)
    finally:
        os.close(fd)
