"""``sigfs run``: a command with a mount that nobody else sees.

Owned here: which process does what. This one waits for the command and passes signals on; the server is a child of its
own in another session, so that a terminal's signals do not reach it. All three share the namespaces.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import click

from sigfs.api.progress import progress_bar
from sigfs.api.project import Project, get_project
from sigfs.cli import background
from sigfs.cli.app import ignoring_sigpipe, say
from sigfs.cli.exits import Exit
from sigfs.cli.logs import LogStyle, log_file_of
from sigfs.cli.params import DirectoryPath
from sigfs.cli.paths import DirectoryName
from sigfs.cli.processes import Task, run_all
from sigfs.cli.running import OpenCommand
from sigfs.cli.settling import mount_options, project_and_mountpoint, settle
from sigfs.errors import FuseUnavailable, MountError
from sigfs.mount import MountOptions, MountReport, serve
from sigfs.mount.points import check_mountpoint
from sigfs.mount.private import end_with_parent, enter
from sigfs.transports.mounts import unmount

_END_S: Final = 60.0
"""How long the server may take to write everything and end, before it is killed."""

_WAIT_S: Final = 0.005


@click.command(
    "run",
    cls=OpenCommand,
    epilog="""\b
Examples:
  sigfs run ~/project -- ls                     in the mount, which is the working directory
  sigfs run ~/project                           a shell there
  sigfs run ~/project -m ~/mnt -- ./analyse.py ~/mnt
  sigfs run ~/project -r --filter 'foo 42' -- tar czf ~/foo.tar.gz .
  srun sigfs run ~/project --layout full -- sh -c 'simulate < "$SIGFS_MNT/T/1.5/input"'
Needs neither root nor fusermount3, but /dev/fuse and user namespaces. The command finds the mount in SIGFS_MNT and the
project in SIGFS_PROJECT.""",
)
@click.argument("paths", metavar="[PROJECT]", nargs=-1, type=DirectoryPath())
@click.option(
    "-m",
    "--mountpoint",
    metavar="MNT",
    type=DirectoryName(),
    help="Mount there, an empty directory, and leave the working directory as it is; default: a temporary one.",
)
@mount_options
@click.pass_context
def run_command(context: click.Context, /, paths: tuple[str, ...], mountpoint: str | None, **given: Any) -> None:
    """Run a command that sees the jobs of a project as a tree of directories, which nobody else sees.

    The mount ends with the command. The exit code is the command's; 128 and the number of the signal if one ended it.
    Signals are passed on.
    """
    if len(paths) > 1:
        raise click.UsageError("expected [PROJECT] -- COMMAND...", context)
    command: list[str] = context.meta["command"] or [os.environ.get("SHELL") or "/bin/sh"]
    project = get_project(paths[0]) if paths else project_and_mountpoint((), given["profile"])[0] or get_project(None)
    chosen = settle(project, given)
    style = LogStyle(chosen.pop("log_level", "info"), chosen.pop("log_format", "text"))
    with _place(mountpoint, project) as where:
        single_user = enter()
        if single_user and chosen.get("transport", "kernel") != "kernel":
            raise FuseUnavailable(f"transport {chosen['transport']} is for root here: use -o transport=kernel")
        options = MountOptions(project.root, where, single_user=single_user, **chosen)
        code = _run(options, style, command, None if mountpoint is not None else where)
    context.exit(code)


@contextmanager
def _place(mountpoint: str | None, project: Project) -> Iterator[str]:
    """Give a directory to mount at: the one that is named, or a temporary one."""
    if mountpoint is not None:
        where, notes = check_mountpoint(mountpoint, project.workspace.path, private=True)
        for note in notes:
            say(note)
        yield where
        return
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    base = runtime if runtime and os.access(runtime, os.W_OK | os.X_OK) else None
    where = os.path.realpath(tempfile.mkdtemp(prefix="sigfs-", dir=base))
    try:
        yield where
    finally:
        _remove(where)


def _remove(where: str) -> None:
    with contextlib.suppress(OSError):  # the server may have done so
        os.rmdir(where)


def _run(options: MountOptions, style: LogStyle, command: list[str], temporary: str | None) -> int:
    """Mount, run the command, and end the mount.

    Args:
        temporary: where it is mounted, if that is to be the command's working directory and removed at the end.
    """
    log_file = log_file_of(options.project)
    this = os.getpid()

    def server(
        ready: Callable[[MountReport], None], progress: Callable[[int, int], None], note: Callable[[str], None]
    ) -> int:
        del note
        if not end_with_parent(this, signal.SIGTERM):
            return Exit.INTERRUPTED
        try:
            return serve(options, ready, progress)
        finally:
            if temporary is not None:  # nobody else may be left to do so
                _remove(temporary)

    try:
        with ignoring_sigpipe(), progress_bar("reading jobs") as progress:
            pid, report = background.launch(server, options.mountpoint, log_file, style, progress, say)
    except background.StartFailed as failure:
        say(str(failure))
        return failure.code
    try:
        return _run_within(options.mountpoint, report.project, command, temporary)
    finally:
        _finish(pid, log_file)
        with contextlib.suppress(MountError):  # mostly it is gone; a server that was killed leaves it
            unmount(options.mountpoint, lazy=True)


def _run_within(mountpoint: str, project: str, command: list[str], directory: str | None) -> int:
    this = os.getpid()
    environment = {**os.environ, "SIGFS_MNT": mountpoint, "SIGFS_PROJECT": project}
    if directory is not None:
        environment["PWD"] = directory

    def failed(number: int, code: int, error: Exception | None) -> None:
        del number, code
        if isinstance(error, OSError):
            say(f"{command[0]!r} cannot be run: {error.strerror}")

    def prepare() -> None:
        if not end_with_parent(this, signal.SIGTERM):
            os._exit(128 + signal.SIGTERM)

    sys.stdout.flush()
    sys.stderr.flush()
    task = Task(directory or os.getcwd(), environment)
    codes, _ = run_all([lambda: task], command, 1, keep_going=False, failed=failed, prepare=prepare)
    return codes[0]


def _finish(pid: int, log_file: str) -> None:
    """End the server *pid*, and wait until everything is on the disk; what still uses the mount loses it."""
    ending = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ending)
    try:
        os.kill(pid, signal.SIGTERM)  # no error if it has ended: it is waited for below
        deadline_s = time.monotonic() + _END_S
        while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
            if time.monotonic() > deadline_s:
                os.kill(pid, signal.SIGKILL)
                ended = os.waitpid(pid, 0)
                break
            time.sleep(_WAIT_S)
        if ended[1]:
            code = os.waitstatus_to_exitcode(ended[1])
            how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
            say(f"the server of the mount {how}; the log is {log_file}")
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
