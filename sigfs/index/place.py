"""Where a store may be, whom it is believed from, and who may write it.

Owned here: directories, trust and locks; nothing of what a store says.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

import xxhash

from sigfs.model import files

if TYPE_CHECKING:
    from sigfs.model.workspace import Workspace

LOCK: Final = "lock"

NO_LOCKS: Final = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})
"""What flock(2) says where there are no locks."""

TRIES: Final = 10
"""How often something is tried that another process may only just have been in the way of."""

_LOCK_WAIT_S: Final = 0.01
"""Who only asks whether a store is locked (`holder`) holds a shared lock for a moment."""

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

# File systems of several hosts on which the options say that locks do not reach the others.
_UNSHARED_LOCKS: Final[Mapping[str, frozenset[str]]] = {
    "nfs": frozenset({"nolock", "local_lock=all", "local_lock=flock"}),
    "nfs4": frozenset({"nolock", "local_lock=all", "local_lock=flock"}),
    "cifs": frozenset({"nobrl"}),
    "smb3": frozenset({"nobrl"}),
    "lustre": frozenset({"localflock", "noflock"}),
}


class Place(NamedTuple):
    """Where a store may be: directories *below* a *base*. No link is followed on the way below.

    Attributes:
        private: in a directory of this user and host alone.
    """

    base: str
    below: tuple[str, ...]
    private: bool

    @property
    def path(self) -> str:
        return os.path.join(self.base, *self.below)


def private_place(root: str) -> Place:
    """Where the store of a project is that cannot have one of its own: in this user's cache, for this host alone."""
    key = xxhash.xxh3_64_hexdigest(os.fsencode(os.path.realpath(root)) + b"\0" + os.fsencode(os.uname().nodename))
    import platformdirs

    return Place(platformdirs.user_cache_dir("sigfs", appauthor=False), ("index", key), private=True)


def trusted(workspace: Workspace) -> frozenset[int]:
    """The users whose word about the jobs counts: this one, root, and whoever owns the workspace."""
    owners = {os.geteuid(), 0}
    with contextlib.suppress(OSError):
        owners.add(os.stat(workspace.path).st_uid)
    return frozenset(owners)


def distrust(status: os.stat_result, owners: frozenset[int]) -> str:
    """Say why what *status* is of is not to be believed or written; empty if it is."""
    if status.st_uid not in owners:
        return f"belongs to user {status.st_uid}"
    return "may be written by others" if status.st_mode & 0o022 else ""


def unfit(place: Place) -> str:
    """Say why this user cannot write a store at *place*, as far as one knows without trying; empty if it seems so.

    Root makes none in a directory of somebody else, who could not use it any more.
    """
    for depth in range(1, len(place.below) + 1):
        path = os.path.join(place.base, *place.below[:depth])
        if os.path.islink(path):
            return f"{path} is a symbolic link"
    path, user = place.path, os.geteuid()
    while not os.path.lexists(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    if not os.path.isdir(path):
        return f"{path} is not a directory"
    try:
        status = os.stat(path)
    except OSError as error:  # removed just now, or out of reach
        return f"{path}: {error.strerror}"
    if path == place.path:
        why = distrust(status, frozenset({user}))
        if why:
            return f"{path} {why}"
    elif user == 0 and status.st_uid != 0:
        return f"{path} belongs to user {status.st_uid}"
    return "" if os.access(path, os.W_OK | os.X_OK, effective_ids=True) else f"{path} cannot be written"


def open_place(place: Place) -> int:
    """Open the directory of a store.

    Raises:
        OSError: it is not there, or not a directory.
    """
    fd = os.open(place.base, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    for depth, name in enumerate(place.below, 1):
        flags = _DIRECTORY if depth == len(place.below) else files.DIRECTORY_FLAGS
        try:
            inner = os.open(name, flags, dir_fd=fd)
        finally:
            os.close(fd)
        fd = inner
    return fd


def make_place(place: Place) -> int:
    """Open the directory of a store, made if it is not there.

    Raises:
        OSError: it cannot be made.
    """
    _make_directories(place.base)
    # The process's umask may be another's: what is beside the store is as open as the project, but not to all.
    shared = os.stat(place.base).st_mode & 0o775
    for depth in range(1, len(place.below) + 1):
        path = os.path.join(place.base, *place.below[:depth])
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, shared | 0o700 if depth < len(place.below) and not place.private else 0o700)
    return open_place(place)


def remove_directories(place: Place) -> None:
    """Remove the directories of a place that are empty, the innermost first."""
    for depth in range(len(place.below), 0, -1):
        try:
            os.rmdir(os.path.join(place.base, *place.below[:depth]))
        except OSError:
            return


def _make_directories(path: str) -> None:
    if not os.path.isdir(path):
        _make_directories(os.path.dirname(path))
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)


# Files


def read_file(
    dir_fd: int, name: str, trust: Callable[[os.stat_result], str], most_bytes: int
) -> tuple[tuple[int, int, int, int], bytes]:
    """Read a file whole, if it is one that may be trusted and no longer than that; give its identity too."""
    fd = os.open(name, files.READ_FLAGS, dir_fd=dir_fd)
    with open(fd, "rb", buffering=0) as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", name)
        why = trust(status)
        if why:
            raise PermissionError(errno.EPERM, why, name)
        if status.st_size > most_bytes:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), name)
        return identity(status), file.read(status.st_size)


def identity(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size


def clear_way(dir_fd: int, name: str) -> None:
    """Put aside a directory, and remove a link, in the place of a file that is going to be written."""
    try:
        mode = os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        os.rename(name, files.temporary_name(), src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    elif not stat.S_ISREG(mode):
        os.unlink(name, dir_fd=dir_fd)


# Locks


def lock_store(dir_fd: int) -> int:
    """Lock a store; the lock ends when the descriptor is closed, so also with the process.

    Raises:
        BlockingIOError: another process has it; ``strerror`` names it.
        OSError: there are no locks here.
    """
    holder = ""
    for _ in range(TRIES):
        clear_way(dir_fd, LOCK)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        fd = os.open(LOCK, flags, 0o600, dir_fd=dir_fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever drops a store removes the file that is locked.
            if os.path.samestat(os.fstat(fd), os.stat(LOCK, dir_fd=dir_fd, follow_symlinks=False)):
                with contextlib.suppress(OSError):
                    os.ftruncate(fd, 0)
                    os.pwrite(fd, this_process().encode(), 0)
                return fd
        except (BlockingIOError, FileNotFoundError):
            holder = name_holder(os.pread(fd, 4096, 0).decode("utf-8", "replace"))
            time.sleep(_LOCK_WAIT_S)
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
    raise BlockingIOError(errno.EWOULDBLOCK, holder)


def find_holder(dir_fd: int) -> str | None:
    """Who has locked a store, as "process 42 on host"; None if nobody has.

    Raises:
        OSError: there is no lock, or it cannot be looked at.
    """
    fd = os.open(LOCK, files.READ_FLAGS, dir_fd=dir_fd)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return name_holder(os.pread(fd, 4096, 0).decode("utf-8", "replace"))
    finally:
        os.close(fd)
    return None


def this_process() -> str:
    """What the holder of a lock writes into it."""
    return f"{os.getpid()} {os.uname().nodename}\n"


def name_holder(text: str) -> str:
    match = re.fullmatch(r"(\d{1,10}) (\S{1,255})\n?", text)
    return f"process {match[1]} on {match[2]}" if match else "another process"


def lock_trouble(dir_fd: int) -> str:
    """Say why locks in a directory do not keep other hosts away; empty if they do, or if there are no other hosts."""
    with contextlib.suppress(OSError), open("/proc/self/mountinfo", "rb") as file:
        if has_unshared_locks(os.fsdecode(file.read()), os.fstat(dir_fd).st_dev):
            return "is on a network file system that is mounted without shared locks"
    return ""


def has_unshared_locks(mountinfo: str, device: int) -> bool:
    """Whether the file system *device* is shared with other hosts, but its locks are not.

    Args:
        mountinfo: the text of /proc/self/mountinfo.

    >>> has_unshared_locks("36 35 0:42 / /home rw - nfs server:/home rw,vers=3,nolock", os.makedev(0, 42))
    True
    """
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in mountinfo.split("\n"):
        fields, _, more = line.partition(" - ")
        kind, _, rest = more.partition(" ")
        if number in fields.split(" ")[2:3]:
            return not _UNSHARED_LOCKS.get(kind, frozenset()).isdisjoint(rest.rpartition(" ")[2].split(","))
    return False
