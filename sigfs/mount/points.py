"""Where a project can be mounted, and whether what is mounted there lives.

Owned here: what a mount point must be. Nothing here waits for a hung file system.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from sigfs.errors import MountPointError
from sigfs.model.types import Json
from sigfs.mount.asking import ask_all
from sigfs.transports.mounts import FS_TYPE, may_mount, mounted, resolve_mountpoint, unmount

PROBE_S: Final = 5.0
"""How long a file system may take to answer before it is called hung."""

_DEAD: Final = (errno.ENOTCONN, errno.ECONNABORTED)

Health: TypeAlias = Literal["alive", "dead", "hung"]


@dataclass(frozen=True, slots=True)
class Probe:
    """What a mount answered. ``status`` is what ``Operations.status`` gives, empty where it did not say."""

    health: Health
    status: Mapping[str, Json] = field(default_factory=dict)


def probe(mountpoint: str, timeout_s: float = PROBE_S, *, status: bool = False) -> Probe:
    """Ask the file system at *mountpoint* whether it is there and, if wanted, how it is.

    The question is asked by a child process, since whoever asks a hung file system hangs with it. Call it
    where no other thread runs.
    """
    return probe_all([mountpoint], timeout_s, status=status)[0]


def probe_all(mountpoints: Sequence[str], timeout_s: float = PROBE_S, *, status: bool = False) -> list[Probe]:
    """Ask several at once, as ``probe``: all together take no longer than one that hangs."""
    questions = [functools.partial(_ask, mountpoint, status=status) for mountpoint in mountpoints]
    return [_heard(answer) for answer in ask_all(questions, timeout_s)]


def _heard(said: bytes) -> Probe:
    health, _, answer = said.partition(b"\n")
    match health:
        case b"":
            return Probe("hung")
        case b"dead":
            return Probe("dead")
    try:
        found = json.loads(answer)
    except ValueError:
        found = {}
    return Probe("alive", found if isinstance(found, dict) else {})


def _ask(mountpoint: str, answer: int, *, status: bool) -> None:
    try:
        # The status is answered from memory, whatever the disk below does.
        said = os.getxattr(mountpoint, "user.sigfs.status")
    except OSError as error:
        if error.errno not in _DEAD:
            _ask_any(mountpoint, answer)
            return
        os.write(answer, b"dead\n")
    else:
        os.write(answer, b"alive\n")
        if status:
            os.write(answer, said)


def _ask_any(mountpoint: str, answer: int) -> None:
    """Ask what need not be of sigfs."""
    try:
        os.statvfs(mountpoint)  # unlike stat, never answered from the kernel's cache
    except OSError as error:
        os.write(answer, b"dead\n" if error.errno in _DEAD else b"alive\n")
        return
    os.write(answer, b"alive\n")


def check_mountpoint(path: str, workspace: str, *, private: bool = False) -> tuple[str, tuple[str, ...]]:
    """See that a project can be mounted at *path*; clear a sigfs mount left there by a crash.

    Args:
        private: the mount is for this process alone, which then needs no right to the directory.

    Returns:
        The absolute path to mount at, and what the user should be told.

    Raises:
        MountPointError: saying what is wrong and what to do.
    """
    mountpoint = resolve_mountpoint(path)
    notes = []
    while (entry := mounted(mountpoint)) is not None and entry.type.startswith("fuse"):
        health = probe(mountpoint).health
        ours = entry.type == FS_TYPE
        if ours and health == "dead":
            unmount(mountpoint, lazy=True)
            notes.append(f"cleared the mount that a server that is gone had left on {path}")
        elif ours:
            state = "mounted already" if health == "alive" else "mounted already, and its server does not answer"
            raise MountPointError(
                f"{path} is {state} (by sigfs, {entry.source}); unmount it with: sigfs umount {path}"
                + ("" if health == "alive" else " --lazy")
            )
        elif health == "alive":
            break
        else:
            raise MountPointError(
                f"{path} is a {health} mount of {entry.type} ({entry.source}); "
                f"unmount it with: fusermount3 -u -z {path}"
            )
    names = check_directory(path)
    below = os.path.realpath(workspace)
    if _is_within(mountpoint, below):
        raise MountPointError(f"{path} is inside the workspace {workspace}; choose a directory outside of it")
    if _is_within(below, mountpoint):
        raise MountPointError(f"{path} contains the workspace {workspace}, which the mount would hide; choose another")
    if names:
        raise MountPointError(f"{path} is not empty, and mounting would hide what it holds; choose an empty directory")
    if not private and not os.access(mountpoint, os.W_OK) and not may_mount():
        raise MountPointError(f"{path} is not writable for you, which mounting needs; choose a directory of your own")
    return mountpoint, tuple(notes)


@contextlib.contextmanager
def claimed(mountpoint: str) -> Iterator[None]:
    """Let nobody else mount a project at the same place during the block.

    Raises:
        MountPointError: somebody has, since that was checked.
    """
    try:
        fd = os.open(mountpoint, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise MountPointError(f"{mountpoint} cannot be used as a mount point: {error.strerror}") from None
    try:
        with contextlib.suppress(OSError):  # a file system that has no locks
            fcntl.flock(fd, fcntl.LOCK_EX)
        found = mounted(mountpoint)
        if found is not None and found.type == FS_TYPE:
            raise MountPointError(f"{mountpoint} is mounted already (by sigfs, {found.source}), just now")
        yield
    finally:
        os.close(fd)


def check_directory(path: str) -> list[str]:
    """See that there is a directory at *path*; give the names in it.

    Raises:
        MountPointError: saying what is wrong and what to do.
    """
    try:
        return os.listdir(resolve_mountpoint(path))
    except FileNotFoundError:
        raise MountPointError(f"{path} does not exist; make it with: mkdir -p {path}") from None
    except NotADirectoryError:
        raise MountPointError(f"{path} is not a directory; a mount point must be an empty one") from None
    except OSError as error:
        raise MountPointError(f"{path} cannot be used as a mount point: {error.strerror}") from None


def _is_within(path: str, directory: str) -> bool:
    return os.path.commonpath([path, directory]) == directory
