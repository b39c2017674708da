"""The helper that mount(8) runs for the types ``sigfs`` and ``fuse.sigfs``: ``python -m sigfs.cli.helper``.

Owned here: how mount(8) calls it (``SPEC DIR [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]``, with any environment, or
none), which exit codes it expects, and the scripts that it finds.
"""

from __future__ import annotations

import ctypes
import getopt
import importlib
import os
import pwd
import shlex
import sys
from collections.abc import Sequence
from enum import IntEnum
from typing import Final

import click

from sigfs.cli.app import run, say
from sigfs.cli.boot import own_path
from sigfs.cli.exits import Exit
from sigfs.errors import SigfsError
from sigfs.model.files import opened_directory, write_atomic
from sigfs.transports.mounts import libc

NAMES: Final = ("mount.sigfs", "mount.fuse.sigfs")
"""For ``mount -t sigfs`` and ``mount -t fuse.sigfs``; the latter also for ``mount -o remount``, which goes by what the
kernel calls the type."""

MARK: Final = "# The helper of mount(8) for sigfs"

_CLONE_NEWNS: Final = 0x20000


class MountExit(IntEnum):
    """What mount(8) and its helpers exit with."""

    OK = 0
    USAGE = 1
    SYSTEM = 2
    BUG = 4
    INTERRUPTED = 8
    FAILURE = 32


CODES: Final = {
    Exit.OK: MountExit.OK,
    Exit.USAGE: MountExit.USAGE,
    Exit.INTERNAL: MountExit.BUG,
    Exit.INTERRUPTED: MountExit.INTERRUPTED,
}
"""Exit code of ``sigfs mount`` -> that of mount(8); any other is ``FAILURE``."""


def help_mount(arguments: Sequence[str]) -> int:
    """Do what mount(8) asks for; give the exit code."""
    try:
        options, places = getopt.gnu_getopt(list(arguments), "sfnvrwN:o:t:")
    except getopt.GetoptError as error:
        return _refuse(str(error))
    if len(places) != 2 or not all(places):
        return _refuse("expected SPEC DIR [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]")
    flags = {name for name, _ in options}
    words = [word for name, value in options if name == "-o" for word in value.split(",") if word]
    words += [word for flag, word in (("-r", "ro"), ("-w", "rw")) if flag in flags]
    user = next((word[7:] for word in words if word.startswith("setuid=")), "")
    if "drop_privileges" in words:
        return _refuse("drop_privileges is not possible: use setuid=USER, or the option user in fstab")
    try:
        for name, value in options:
            if name == "-N":
                enter_namespace(value)
        if user:
            become(user)
        own_home()
    except KeyError:
        return _refuse(f"setuid={user}: there is no such user")
    except OSError as error:
        say(f"{user or 'namespace'}: {error.strerror}")
        return MountExit.SYSTEM
    said = ",".join(word for word in words if not word.startswith(("setuid=", "user=", "uhelper=", "helper=")))
    spoken = [name for flag, name in (("-f", "--fake"), ("-s", "--sloppy")) if flag in flags]
    quiet = [] if "-v" in flags else ["--quiet"]
    code = run(["mount", *spoken, *quiet, *(["-o", said] if said else []), "--", *places])
    if code == Exit.PROJECT and "nofail" in words and not os.path.lexists(places[0]):
        return MountExit.OK
    return CODES.get(Exit(code), MountExit.FAILURE) if code in set(Exit) else MountExit.FAILURE


def _refuse(why: str) -> int:
    say(why)
    return MountExit.USAGE


def enter_namespace(name: str) -> None:
    """Go over to another mount namespace, by its file or the number of a process in it.

    All that mounting needs is imported before: it may not be found there.
    """
    for module in ("sigfs.cli.mounting", "sigfs.transports.kernel"):
        importlib.import_module(module)
    path = f"/proc/{name}/ns/mnt" if name.isdecimal() else name
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc().setns(fd, _CLONE_NEWNS) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
    finally:
        os.close(fd)


def become(user: str) -> None:
    """Be another user from now on, with the groups that belong to it.

    Raises:
        KeyError: there is none of that name.
    """
    found = pwd.getpwnam(user)
    os.initgroups(found.pw_name, found.pw_gid)
    os.setgid(found.pw_gid)
    os.setuid(found.pw_uid)
    for name in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        os.environ.pop(name, None)
    os.environ.update(USER=found.pw_name, LOGNAME=found.pw_name)


def own_home() -> None:
    """See that HOME is a directory of this user's own: at boot there is none, and mount(8) changes the user only."""
    home = os.environ.get("HOME", "")
    try:
        if home and os.stat(home).st_uid == os.geteuid():
            return
        os.environ["HOME"] = pwd.getpwuid(os.geteuid()).pw_dir
    except (OSError, KeyError):
        os.environ["HOME"] = "/"


# The scripts


def script() -> str:
    """Give the text of a script that runs this module by this very Python."""
    path = own_path()
    return (
        "#!/bin/sh\n"
        f"{MARK}: made by `sigfs install-helper`, removed by `sigfs install-helper --remove`\n"
        + (f"export PYTHONPATH={shlex.quote(path)}${{PYTHONPATH:+:$PYTHONPATH}}\n" if path else "")
        + f'exec {shlex.quote(sys.executable)} -P -m sigfs.cli.helper "$@"\n'
    )


@click.command(
    "install-helper",
    epilog="""\b
Examples:
  sudo sigfs install-helper           then: mount -t sigfs PROJECT MNT, and lines in /etc/fstab
  sigfs install-helper --dry-run
  sudo sigfs install-helper --remove""",
)
@click.option(
    "--prefix",
    metavar="DIR",
    default="/",
    type=click.Path(file_okay=False),
    help="Put them into DIR/sbin; mount(8) looks into /sbin.",
)
@click.option("--remove", is_flag=True, help="Remove them.")
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would be done.")
def install_helper_command(prefix: str, remove: bool, dry_run: bool) -> None:
    """Have mount(8) know the types sigfs and fuse.sigfs, so that /etc/fstab can name them.

    Two small scripts that run this very Python: mount.sigfs and mount.fuse.sigfs.
    """
    directory = os.path.join(os.path.abspath(prefix), "sbin")
    would = "would " if dry_run else ""
    for path in (os.path.join(directory, name) for name in NAMES):
        there = _is_ours(path)
        if there is False:
            raise SigfsError(f"{path} has not been made by sigfs, and stays; move it away if it is to be replaced")
        if remove and there is None:
            say(f"there is no {path}")
        elif remove:
            if not dry_run:
                os.unlink(path)
            click.echo(os.fsencode(f"{would}remove {path}" if dry_run else f"removed {path}"))
        else:
            if not dry_run:
                os.makedirs(directory, exist_ok=True)
                with opened_directory(directory) as fd:
                    write_atomic(fd, os.path.basename(path), os.fsencode(script()), 0o777)
            click.echo(os.fsencode(f"{would}install {path}" if dry_run else f"installed {path}"))


def _is_ours(path: str) -> bool | None:
    """Tell whether the file at *path* is a script of ours; None if there is none."""
    try:
        with open(path, "rb") as file:
            return MARK.encode() in file.read(4096)
    except FileNotFoundError:
        return None


if __name__ == "__main__":
    sys.exit(help_mount(sys.argv[1:]))
