"""Which mounts there are and who serves them: one small file each, in the user's runtime directory.

Owned here: those files. They are hints for people: what is mounted is what the kernel says, and a server is alive
if the process of that number began when the file says so. The file of a server that is gone is removed by
whoever comes across it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import logging
import os
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

import platformdirs

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Registration:
    """One mount.

    Attributes:
        started: when the process began, in the kernel's clock ticks since boot: tells a reused pid.
        log_file: where the server logs; None in the foreground, or where no file could be made.
    """

    pid: int
    started: int
    mountpoint: str
    project: str
    layout: str
    filter: str
    transport: str
    read_only: bool
    log_file: str | None

    @property
    def alive(self) -> bool:
        """Whether the server still runs."""
        return start_time(self.pid) == self.started


def start_time(pid: int) -> int | None:
    """Give the start time of a process in clock ticks since boot; None if there is none, or it is a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name in parentheses may hold anything, parentheses and blanks included.
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def directories() -> list[str]:
    """Name all directories where a server of this user may have written its file, whatever its environment was.

    A server takes the first that is possible.
    """
    user = os.geteuid()
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    # The last is for where there is no login session (cron, containers). The home directory may be shared by
    # hosts: see _boot.
    found = [
        *(["/run/sigfs"] if user == 0 else []),
        f"/run/user/{user}/sigfs",
        *([os.path.join(runtime, "sigfs")] if runtime else []),
        os.path.join(platformdirs.user_state_dir("sigfs", appauthor=False), "run"),
    ]
    return list(dict.fromkeys(found))


@functools.cache
def _boot() -> str:
    """Give what tells this run of this machine from all others; begins the name of each file."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()[:13]


def register(registration: Registration) -> str | None:
    """Write the file of a mount; give its path, or None, with a line in the log, where that is impossible."""
    why: list[str] = []
    candidates = directories()
    for where in candidates:
        if where != candidates[-1] and not os.path.isdir(os.path.dirname(where)):
            continue
        try:
            return _write(registration, where)
        except OSError as error:
            why.append(str(error))
    log.warning("the mount is not listed for sigfs status: %s", "; ".join(why))
    return None


def _write(registration: Registration, where: str) -> str:
    os.makedirs(where, mode=0o700, exist_ok=True)
    if not _is_ours(where):
        raise PermissionError(f"{where} belongs to somebody else")
    path = os.path.join(where, f"{_boot()}-{registration.pid}.json")
    descriptor, temporary = tempfile.mkstemp(dir=where, prefix=".")
    with open(descriptor, "w", encoding="ascii") as file:
        json.dump(dataclasses.asdict(registration), file)
    os.rename(temporary, path)
    return path


def unregister(path: str | None) -> None:
    """Remove the file of a mount."""
    if path is not None:
        with contextlib.suppress(OSError):
            os.unlink(path)


def registrations() -> Iterator[Registration]:
    """List the mounts whose servers run; the files of others are removed."""
    for where in directories():
        yield from _registrations_in(where)


def _registrations_in(where: str) -> Iterator[Registration]:
    try:
        names = sorted(os.listdir(where))
        if not _is_ours(where):
            return
    except OSError:
        return
    for name in names:
        if not name.startswith(_boot()) or not name.endswith(".json"):
            continue
        path = os.path.join(where, name)
        try:
            with open(path, "rb") as file:
                registration = Registration(**json.load(file))
        except (OSError, ValueError, TypeError):
            continue
        if registration.alive:
            yield registration
        else:
            unregister(path)


def find_registration(mountpoint: str) -> Registration | None:
    """Give the running server of a mount point."""
    return next((found for found in registrations() if found.mountpoint == mountpoint), None)


def _is_ours(path: str) -> bool:
    """Tell whether nobody else can have put files there: in a shared /tmp the name might be taken."""
    status = os.lstat(path)
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022
