"""``sigfs log``: what the server of a mount has logged."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import time
from collections.abc import Iterator
from typing import Final, TextIO

import click

from sigfs.cli import registry
from sigfs.cli.app import say
from sigfs.cli.logs import log_directory, log_file_of
from sigfs.cli.output import print_text
from sigfs.cli.params import MountedPath
from sigfs.errors import SigfsError
from sigfs.transports.mounts import resolve_mountpoint

_LINES: Final = 100
_LOOK_S: Final = 0.2
"""How often ``--follow`` looks."""


class NoLog(SigfsError):
    """There is no log to show; the message says where it is instead."""


@click.command(
    "log",
    epilog="""\b
Examples:
  sigfs log ~/mnt
  sigfs log -f ~/mnt                  go on, until the server ends
  less $(sigfs log --path ~/mnt)""",
)
@click.argument("path", metavar="[MNT]", required=False, type=MountedPath())
@click.option("-n", "--lines", type=click.IntRange(min=0), default=_LINES, help=f"The last so many lines ({_LINES}).")
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written, until the server ends.")
@click.option("--path", "only_path", is_flag=True, help="Print the path of the log file.")
def log_command(path: str | None, lines: int, follow: bool, only_path: bool) -> None:
    """Print the log of the mount at MNT, by default of the only one.

    Of a mount that has ended it is the log of the last one there.
    """
    log_file, server = _find(path, follow, lines)
    if only_path:
        click.echo(os.fsencode(log_file))
        return
    if server is None:
        what = f"{path} is not mounted" if path else "nothing is mounted"
        say(f"{what} by you; this is the log of the last mount: {log_file}")
    try:
        file = _open(log_file)
    except FileNotFoundError:
        raise NoLog(f"nothing has been logged yet to {log_file}") from None
    with file:
        *whole, begun = file.read().split("\n")
        goes_on = follow and server is not None
        if begun and not goes_on:
            whole.append(begun)
        for line in _with_older(log_file, whole, lines):
            print_text(line)
        if server is None or not goes_on:
            return
        sys.stdout.flush()
        with contextlib.suppress(KeyboardInterrupt):  # the way to end it
            for line in new_lines(log_file, file, begun, server):
                print_text(line)
                sys.stdout.flush()
            say(f"the server (process {server.pid}) has ended")


def _find(path: str | None, follow: bool, lines: int) -> tuple[str, registry.Registration | None]:
    """Find the log file, and the server if it runs.

    Raises:
        NoLog: there is no such file.
    """
    servers = list(registry.registrations())
    if path is None:
        if len(servers) > 1:
            places = "\n".join(f"  sigfs log {shlex.quote(each.mountpoint)}" for each in servers)
            raise NoLog(f"there are several mounts; of which one is the log wanted?\n{places}")
        if servers:
            return _log_of(servers[0], follow, lines), servers[0]
        return _latest(), None
    mountpoint = resolve_mountpoint(path)
    for server in servers:
        if server.mountpoint == mountpoint:
            return _log_of(server, follow, lines), server
    log_file = log_file_of(mountpoint)
    if not os.path.exists(log_file):
        raise NoLog(f"{path} is not mounted by you, and there is no log of a mount there (that would be {log_file})")
    return log_file, None


def _log_of(server: registry.Registration, follow: bool, lines: int) -> str:
    if server.log_file is not None:
        return server.log_file
    target = ""
    with contextlib.suppress(OSError):
        target = os.readlink(f"/proc/{server.pid}/fd/2")
    if target.startswith("/") and os.path.isfile(target):
        return target
    journal = journal_command(server.pid)
    if journal:
        more = " -f" if follow else ""
        raise NoLog(f"{server.mountpoint} is served by systemd; its log is shown by: {journal} -n {lines}{more}")
    raise NoLog(
        f"{server.mountpoint} is served in the foreground (process {server.pid}): "
        f"its log is on its standard error, {target or 'wherever that is'}"
    )


def journal_command(pid: int, proc: str = "/proc") -> str:
    """Give the command that shows what the journal has of a process; empty if it is no service of systemd.

    Args:
        proc: where /proc is.
    """
    try:
        with open(f"{proc}/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            paths = [line.rstrip("\n").split(":", 2)[-1] for line in file]
    except OSError:
        return ""
    for path in paths:
        units = [name for name in path.split("/") if name.endswith((".service", ".scope"))]
        if units and units[-1].endswith(".service") and not units[-1].startswith("user@"):
            user = "--user " if any(name.startswith("user@") for name in units) else ""
            return f"journalctl {user}-u {shlex.quote(units[-1])}"
    return ""


def _latest() -> str:
    """Give the log that was written to last."""
    try:
        with os.scandir(log_directory()) as entries:
            found = [(entry.stat().st_mtime, entry.path) for entry in entries if entry.name.endswith(".log")]
    except OSError:
        found = []
    if not found:
        raise NoLog(f"nothing is mounted by you, and there is no log in {log_directory()}")
    return max(found)[1]


def _with_older(path: str, lines: list[str], count: int) -> list[str]:
    """Give the last *count* lines; those before *lines*, which are all of the file, are in the file before it."""
    if len(lines) < count:
        with contextlib.suppress(FileNotFoundError), _open(f"{path}.1") as file:
            lines = file.read().splitlines() + lines
    return lines[-count:] if count else []


def new_lines(path: str, file: TextIO, begun: str, server: registry.Registration) -> Iterator[str]:
    """Give the lines that are written from now on, over the change from one file to the next, until the server ends.

    Args:
        file: what is at *path*, read so far.
        begun: the line whose end has not been read.
    """
    with contextlib.ExitStack() as following:
        while True:
            alive = server.alive  # both asked before reading, so that nothing is missed
            is_replaced = _is_replaced(path, file.fileno())
            *whole, begun = (begun + file.read()).split("\n")
            yield from whole
            if is_replaced:
                file = following.enter_context(_open(path))
            elif not alive:
                break
            elif not whole:
                time.sleep(_LOOK_S)
    if begun:
        yield begun


def _is_replaced(path: str, fd: int) -> bool:
    try:
        return os.stat(path).st_ino != os.fstat(fd).st_ino
    except FileNotFoundError:  # about to be
        return False


def _open(path: str) -> TextIO:
    return open(path, encoding="utf-8", errors="surrogateescape", newline="\n")
