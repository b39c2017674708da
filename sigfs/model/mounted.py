"""Mounted projects, as a program sees them that works inside of one.

Owned here: which paths lead into a mounted project, and which directory below is meant. The kernel's list of mounts and
extended attributes are asked, and nothing else.
"""

from __future__ import annotations

import os
import re
from typing import Final, NamedTuple

from sigfs.errors import NoSuchProject, SigfsError
from sigfs.model.config import find_config, read_config, workspace_path
from sigfs.model.reading import STATEPOINT_FILE

FS_TYPE: Final = "fuse.sigfs"
"""What a mounted project is called in /proc/self/mountinfo."""

_ID: Final = "user.sigfs.id"
_OCTAL: Final = re.compile(r"\\([0-7]{3})")
_TRIES: Final = 5
"""How often a job that is migrated meanwhile is looked for again."""


class Mount(NamedTuple):
    """One line of /proc/self/mountinfo. ``device`` is the ``st_dev`` of what is mounted, ``type`` e.g. fuse.sigfs.

    ``super_options``: those of ``options`` that are the same wherever the file system is mounted.
    """

    mountpoint: str
    device: int
    type: str
    source: str
    options: frozenset[str]
    super_options: frozenset[str] = frozenset()


def parse_mountinfo(text: str) -> list[Mount]:
    """Read the format of /proc/PID/mountinfo, in its order: a later mount hides an earlier one at the same place.

    >>> parse_mountinfo(r"36 35 0:42 / /mnt/a\\040b rw,nosuid shared:1 - fuse.sigfs /data ro,user_id=0")[0].mountpoint
    '/mnt/a b'
    """
    found = []
    for line in text.split("\n"):  # not splitlines: names may contain other line separators
        fields, _, more = line.partition(" - ")
        words, extra = fields.split(" "), more.split(" ")
        if len(words) < 6 or len(extra) < 3:
            continue
        major, minor = words[2].split(":")
        found.append(
            Mount(
                mountpoint=_unescape(words[4]),
                device=os.makedev(int(major), int(minor)),
                type=extra[0],
                source=_unescape(extra[1]),
                options=frozenset(words[5].split(",")) | frozenset(extra[2].split(",")),
                super_options=frozenset(extra[2].split(",")),
            )
        )
    return found


def _unescape(word: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), word)


def mounts() -> list[Mount]:
    """List all that is mounted in this process's namespace."""
    with open("/proc/self/mountinfo", "rb") as file:
        return parse_mountinfo(os.fsdecode(file.read()))


def mount_of(path: str) -> Mount | None:
    """The mounted project that *path* leads into; None if it leads elsewhere, or nowhere.

    Complexity: one stat, and for some file systems (those without a disk of their own) a look at the list of mounts.
    """
    try:
        device = os.stat(path).st_dev
        if os.major(device):
            return None
        return next((mount for mount in mounts() if mount.device == device and mount.type == FS_TYPE), None)
    except (OSError, ValueError):
        return None


def below(path: str) -> str | None:
    """The directory or file of a job that is meant by *path*, an absolute path into a mounted project.

    Returns:
        Its absolute path in the project. None if *path* leads to no job of a mounted project, or if the project cannot
        be reached from here: it is on another host, in another mount namespace, or closed to this user.
    """
    mount = mount_of(path)
    if mount is None:
        return None
    try:
        workspace = _workspace(mount.source)
        for _ in range(_TRIES):
            top, rest = os.path.realpath(path), ""
            while (job_id := _id_of(top)) is None:
                rest = os.path.join(os.path.basename(top), rest).rstrip("/")
                top = os.path.dirname(top)
                if os.stat(top).st_dev != mount.device:
                    return None
            directory = os.path.normpath(os.path.join(workspace, job_id))
            if _is_same(top, directory):
                found = os.path.join(directory, rest).rstrip("/")
                os.lstat(found)
                return found
    except (OSError, SigfsError):
        pass
    return None


def project_root(path: str) -> str | None:
    """The root of the project that is mounted where *path* leads; None if that is no mounted project, or out of reach.

    A project within a job of the mounted one is nearer, and its root is a path in the mount.
    """
    mount = mount_of(path)
    if mount is None:
        return None
    directory = os.path.realpath(path)
    try:
        while os.stat(directory).st_dev == mount.device:
            if find_config(directory) is not None:
                return directory
            directory = os.path.dirname(directory)
        return mount.source if find_config(mount.source) is not None else None
    except (OSError, SigfsError):
        return None


def _workspace(root: str) -> str:
    config = find_config(root)
    if config is None:
        raise NoSuchProject(f"no project in {root}")
    return workspace_path(root, read_config(config))


def _id_of(directory: str) -> str | None:
    try:
        return os.fsdecode(os.getxattr(directory, _ID))
    except OSError:
        return None


def _is_same(one: str, other: str) -> bool:
    """Whether two directories show one job: by its state point file, as file systems number them as they like."""
    first, second = _look(os.path.join(one, STATEPOINT_FILE)), _look(os.path.join(other, STATEPOINT_FILE))
    return first == second and os.path.isdir(other)


def _look(path: str) -> tuple[int, int] | None:
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    return status.st_size, status.st_mtime_ns
