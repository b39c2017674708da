"""``sigfs umount``, and who keeps a mount busy."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import click

from sigfs.cli import registry
from sigfs.cli.app import fail, ignoring_sigpipe, say
from sigfs.cli.exits import Exit
from sigfs.cli.params import MountedPath
from sigfs.errors import MountBusy, MountError, MountPointError
from sigfs.transports.mounts import FS_TYPE, mounted, mounts, parse_mountinfo, resolve_mountpoint, unmount

EXIT_S: Final = 30.0
"""How long ``umount`` waits for the server to end."""

PATIENCE_S: Final = 2.0
"""How long ``umount`` waits without a word."""


@click.command(
    "umount",
    epilog="""\b
Examples:
  sigfs umount ~/mnt
  sigfs umount --lazy ~/mnt           even if it is in use
  sigfs umount --all                  all of yours""",
)
@click.argument("paths", metavar="[MNT]...", nargs=-1, type=MountedPath())
@click.option("-l", "--lazy", is_flag=True, help="Take it away now; its server ends with its last user.")
@click.option("-a", "--all", "everything", is_flag=True, help="All sigfs mounts.")
def umount_command(paths: tuple[str, ...], lazy: bool, everything: bool) -> None:
    """Unmount, and wait until the server has written everything and ended."""
    if bool(paths) == everything:
        raise click.UsageError("expected MNT, or --all", click.get_current_context())
    wanted = [mount.mountpoint for mount in reversed(mounts()) if mount.type == FS_TYPE] if everything else list(paths)
    resolved = [(path, resolve_mountpoint(path)) for path in wanted]
    os.chdir("/")  # lest the working directory of this very process keeps a mount busy
    code = Exit.OK
    with ignoring_sigpipe():
        for path, mountpoint in resolved:
            try:
                _umount(path, mountpoint, lazy)
            except MountError as error:
                code = fail(error)
    click.get_current_context().exit(code)


def _umount(path: str, mountpoint: str, lazy: bool) -> None:
    mount = mounted(mountpoint)
    if mount is None or mount.type != FS_TYPE:
        what = f"{mount.type} is mounted there" if mount else "nothing is mounted there"
        raise MountPointError(f"{path} is no sigfs mount: {what}")
    server = registry.find_registration(mountpoint)
    try:
        unmount(mountpoint, lazy)
    except MountBusy:
        raise MountBusy(_busy(path, mountpoint)) from None
    if server is None or lazy:
        return
    begun_s = time.monotonic()
    told = False
    while server.alive:
        if not told and time.monotonic() - begun_s > PATIENCE_S:
            say(f"waiting for process {server.pid}, which serves {path}, to end")
            told = True
        if time.monotonic() - begun_s > EXIT_S:
            why = "".join(f"; {each}" for each in _elsewhere(mount.device))
            raise MountError(f"{path} is unmounted, but its server (process {server.pid}) has not ended{why}")
        time.sleep(0.01)


def _elsewhere(device: int) -> Iterator[str]:
    """Say where what has the number *device* is still mounted: at another place, or in another mount namespace."""
    known: set[str] = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            namespace = os.readlink(f"/proc/{pid}/ns/mnt")
            if namespace in known:
                continue
            known.add(namespace)
            with open(f"/proc/{pid}/mountinfo", "rb") as file:
                mounted_there = parse_mountinfo(os.fsdecode(file.read()))
            name = _name(pid)
        except OSError:
            continue
        for mount in mounted_there:
            if mount.device == device:
                yield f"it is still mounted at {mount.mountpoint} in the mount namespace of process {pid} ({name})"


def _name(pid: str) -> str:
    with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
        return file.read().strip()


def _busy(path: str, mountpoint: str) -> str:
    found = list(find_holders(mountpoint))
    lines = [f"  {holder.pid} {holder.name} ({', '.join(holder.uses)})" for holder in found]
    if not lines:
        lines = [
            "  nobody that can be seen: it may have ended, or be in another mount namespace"
            if os.geteuid() == 0
            else "  a process that you may not look into; try again as root"
        ]
    return "\n".join(
        [
            f"{path} is in use by:",
            *lines,
            f"end them, or take it away all the same: sigfs umount --lazy {shlex.quote(path)}",
        ]
    )


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that keeps a mount busy, and how: ``working directory``, ``open: PATH``, ..."""

    pid: int
    name: str
    uses: tuple[str, ...]


def find_holders(mountpoint: str) -> Iterator[Holder]:
    """Find the processes that use a mount, from what /proc says as text: the mount itself is not touched."""
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        uses = _uses(f"/proc/{entry}", mountpoint)
        if uses:
            try:
                name = _name(entry)
            except OSError:
                continue
            yield Holder(int(entry), name, tuple(uses))


def _uses(process: str, mountpoint: str) -> list[str]:
    def below(target: str) -> bool:
        return target == mountpoint or target.startswith(mountpoint.rstrip("/") + "/")

    uses = []
    for link, what in (("cwd", "working directory"), ("root", "root directory"), ("exe", "program")):
        if below(_readlink(f"{process}/{link}")):
            uses.append(what)
    try:
        descriptors = os.listdir(f"{process}/fd")
    except OSError:
        descriptors = []
    opened = dict.fromkeys(_readlink(f"{process}/fd/{descriptor}") for descriptor in descriptors)
    uses += [f"open: {target}" for target in opened if below(target)]
    if not uses:
        try:
            with open(f"{process}/maps", encoding="utf-8", errors="surrogateescape") as lines:
                if any(below(line.rstrip("\n").split(None, 5)[-1]) for line in lines if mountpoint in line):
                    uses.append("mapped file")
        except OSError:
            pass
    return uses


def _readlink(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
