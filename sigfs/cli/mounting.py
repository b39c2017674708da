"""``sigfs mount``, ``umount`` and ``status``."""

from __future__ import annotations

import logging
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

from sigfs.cli import background, registry
from sigfs.cli.app import fail, ignoring_sigpipe, say, show_logs, unreadable_jobs
from sigfs.cli.exits import Exit
from sigfs.cli.options import EMPTY_PATH, SETTINGS, SWITCHES, VFS_FLAGS, parse_options
from sigfs.cli.output import Column, print_json, print_rows
from sigfs.errors import MountBusy, MountError, MountPointError
from sigfs.model.config import find_config
from sigfs.model.project import Project, get_project
from sigfs.mount import MountOptions, MountReport, serve
from sigfs.mount.points import check_mountpoint, probe
from sigfs.query import format_text, parse_text
from sigfs.query.expr import EVERYTHING
from sigfs.transports.base import NAMES
from sigfs.transports.mounts import FS_TYPE, Mount, mounted, mounts, resolve_mountpoint, unmount
from sigfs.tree import LAYOUTS, Layout

log = logging.getLogger(__name__)

EXIT_S: Final = 30.0
"""How long ``umount`` waits for the server to end."""

PATIENCE_S: Final = 2.0
"""How long ``umount`` waits without a word."""

STATUS_S: Final = 2.0
"""How long ``status`` waits for one mount to answer."""

_SHOWN_KEYS: Final = 12


class DirectoryPath(click.Path):
    """A directory that completes as one, and is not touched: whoever touches a hung mount hangs."""

    def __init__(self) -> None:
        """Make the type."""
        super().__init__(file_okay=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Take the path as it is."""
        if not value:
            self.fail(EMPTY_PATH, param, ctx)
        return value


class MountedPath(DirectoryPath):
    """A mount point of sigfs; completes as one."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Name the mounts; leave what is no beginning of one to the shell."""
        found = sorted({mount.mountpoint for mount in mounts() if mount.type == FS_TYPE})
        here = os.getcwd().rstrip("/") + "/"
        spelled = [path.removeprefix(here) if not incomplete.startswith("/") else path for path in found]
        named = [CompletionItem(path) for path in spelled if path.startswith(incomplete)]
        return named or super().shell_complete(ctx, param, incomplete)


class MountOptionWords(click.types.StringParamType):
    """The value of ``-o``, which completes its last word."""

    name = "options"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002
        """Complete the name of an option, or one of the values of a setting that has few."""
        before, comma, word = incomplete.rpartition(",")
        words = [*SWITCHES, *VFS_FLAGS, *(f"{name}=" for name in SETTINGS)]
        words += [f"layout={name}" for name in LAYOUTS] + [f"transport={name}" for name in NAMES]
        return [CompletionItem(before + comma + each) for each in sorted(words) if each.startswith(word)]


# mount


@click.command(
    "mount",
    epilog="""\b
Examples:
  sigfs mount ~/project ~/mnt         show the jobs of a project
  sigfs mount ~/mnt                   the project of the working directory
  sigfs mount -r --filter 'foo 42' ~/project ~/mnt
  sigfs mount -o ro,allow_other,layout=full ~/project ~/mnt
  sigfs mount -d ~/project ~/mnt      in the foreground, each request logged
\b
Options of -o: ro rw allow_other passthrough nopassthrough transport=NAME layout=NAME
  filter=QUERY entry_timeout=S attr_timeout=S and the flags of mount(8) (noexec, noatime, ...)""",
)
@click.argument("paths", metavar="[PROJECT] MNT", nargs=-1, required=True, type=DirectoryPath())
@click.option("-f", "--foreground", is_flag=True, help="Stay in the foreground; Ctrl-C unmounts.")
@click.option("-d", "--debug", is_flag=True, help="As -f, and log each request.")
@click.option(
    "-o",
    "texts",
    metavar="OPTIONS",
    multiple=True,
    type=MountOptionWords(),
    help="Options as in mount(8), comma separated.",
)
@click.option("-r", "--read-only", is_flag=True, help="As -o ro.")
@click.option("--layout", type=click.Choice(LAYOUTS), help="auto: list only keys that differ; full: list all.")
@click.option("--filter", "filter_text", metavar="QUERY", help="Show only the jobs that this holds for.")
@click.option("--transport", type=click.Choice(NAMES), help="How to talk to the kernel.")
def mount_command(
    paths: tuple[str, ...],
    foreground: bool,
    debug: bool,
    texts: tuple[str, ...],
    read_only: bool,
    layout: Layout | None,
    filter_text: str | None,
    transport: str | None,
) -> None:
    """Show the jobs of a project as a tree of directories below MNT, an empty directory.

    Returns when the mount answers, and leaves its server in the background until `sigfs umount MNT`.
    """
    if len(paths) > 2:
        raise click.UsageError("expected [PROJECT] MNT", click.get_current_context())
    chosen = parse_options(texts)
    if read_only:
        chosen["read_only"] = True
    if layout is not None:
        chosen["layout"] = layout
    if transport is not None:
        chosen["transport"] = transport
    if filter_text is not None:
        chosen["filter"] = parse_text(filter_text)
    shown_filter = format_text(chosen.get("filter", EVERYTHING))
    shown = paths[-1]
    project = _project_of(paths)
    mountpoint, notes = check_mountpoint(shown, project.workspace.path)
    for note in notes:
        say(note)
    foreground = foreground or debug
    options = MountOptions(project=project.root, mountpoint=mountpoint, debug=debug, daemon=not foreground, **chosen)
    if foreground:
        # The greeting says that it is mounted, the log need not.
        show_logs("DEBUG" if debug else "INFO", without=() if debug else ("is mounted on",))
        with ignoring_sigpipe():
            code = _run(
                options,
                None,
                lambda report: _greet(report, shown, shown_filter),
                lambda done, total: None,  # noqa: ARG005
                lambda said: None,  # noqa: ARG005 - the log is on the terminal
            )
        click.get_current_context().exit(code)
    log_file = background.log_file_of(mountpoint)
    try:
        with ignoring_sigpipe(), background.progress_bar("reading jobs") as progress:
            report = background.start(
                lambda ready, progress, note: _run(options, log_file, ready, progress, note),
                mountpoint,
                log_file,
                progress,
                say,
            )
    except background.StartFailed as failure:
        say(str(failure))
        click.get_current_context().exit(failure.code)
    _greet(report, shown, shown_filter)


def _project_of(paths: Sequence[str]) -> Project:
    """Open the project to mount: the one that is named, or that of the working directory."""
    if len(paths) == 2:
        return get_project(paths[0])
    path = paths[0]
    if mounted(path) is None and find_config(os.path.abspath(path)) is not None:
        quoted = shlex.quote(path)
        raise click.UsageError(
            f"{path} is a project; give a mount point too: sigfs mount {quoted} MNT", click.get_current_context()
        )
    return get_project(None)


def _run(
    options: MountOptions,
    log_file: str | None,
    ready: Callable[[MountReport], None],
    progress: Callable[[int, int], None],
    note: Callable[[str], None],
) -> int:
    """Serve, listed for ``sigfs status`` meanwhile.

    Args:
        note: told what the user should know beside the log.
    """
    registered: list[str | None] = []

    def on_mounted(report: MountReport) -> None:
        registered.append(registry.register(_registration(options, report, log_file)))
        if registered[-1] is None:
            note("the mount is not listed for sigfs status, and sigfs umount cannot wait for its server")
        unreadable = _unreadable(options, report)
        if unreadable:
            log.warning("%s", unreadable)
            note(unreadable)
        ready(report)

    try:
        return serve(options, on_mounted, progress)
    finally:
        for path in registered:
            registry.unregister(path)


def _unreadable(options: MountOptions, report: MountReport) -> str:
    """Say which directories are no jobs of the view though they are named like jobs; empty if none is.

    Complexity: one listing of the workspace if it has as many jobs as the view, else reads all state points.
    """
    workspace = get_project(options.project).workspace
    if sum(1 for _ in workspace.ids()) == report.jobs:
        return ""
    return unreadable_jobs(workspace)


def _registration(options: MountOptions, report: MountReport, log_file: str | None) -> registry.Registration:
    return registry.Registration(
        pid=os.getpid(),
        started=registry.start_time(os.getpid()) or 0,
        mountpoint=options.mountpoint,
        project=report.project,
        layout=options.layout,
        filter=format_text(options.filter),
        transport=options.transport,
        watching=report.watching,
        read_only=options.read_only,
        log_file=log_file,
    )


def _greet(report: MountReport, mountpoint: str, filter_text: str) -> None:
    """Say what is there now and what to do with it."""
    named = f" ({report.name})" if report.name else ""
    click.echo(os.fsencode(f"{report.project}{named} is mounted on {mountpoint}"))
    jobs = f"{report.jobs} job{'' if report.jobs == 1 else 's'}"
    if report.keys:
        keys = ", ".join(f"{key} ({count})" for key, count in report.keys[:_SHOWN_KEYS])
        more = f" and {len(report.keys) - _SHOWN_KEYS} more" if len(report.keys) > _SHOWN_KEYS else ""
        click.echo(os.fsencode(f"{jobs}; keys with their numbers of values: {keys}{more}"))
    elif filter_text and not report.jobs:
        click.echo(os.fsencode(f"{jobs}: the filter {filter_text!r} holds for none at present"))
    else:
        click.echo(f"{jobs}; make one with: sigfs job foo=42")
    if report.watching == "polling":
        click.echo("changes made by others are looked for once a second: this file system does not report them")
    click.echo("Try:")
    example = os.path.join(mountpoint, *report.example) if report.example else mountpoint
    click.echo(os.fsencode(f"  ls {shlex.quote(example)}"))
    click.echo(os.fsencode(f"  sigfs umount {shlex.quote(mountpoint)}"))
    sys.stdout.flush()


# umount


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
            raise MountError(f"{path} is unmounted, but its server (process {server.pid}) has not ended")
        time.sleep(0.01)


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
                with open(f"/proc/{entry}/comm", encoding="utf-8", errors="replace") as file:
                    name = file.read().strip()
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


# status


@click.command(
    "status",
    epilog="""\b
Examples:
  sigfs status
  sigfs status --json | jq '.[].jobs'
  sigfs status ~/mnt                  exit code 1 unless it is mounted and answers""",
)
@click.argument("path", metavar="[MNT]", required=False, type=MountedPath())
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list of objects.")
def status_command(path: str | None, as_json: bool) -> None:
    """List the sigfs mounts of this machine and whether they answer."""
    found = [mount for mount in mounts() if mount.type == FS_TYPE]
    if path is not None:
        mountpoint = resolve_mountpoint(path)
        found = [mount for mount in found if mount.mountpoint == mountpoint][-1:]
    servers = {server.mountpoint: server for server in registry.registrations()}
    rows = [_status(mount, servers.get(mount.mountpoint)) for mount in found]
    if as_json:
        print_json(rows)
    elif rows:
        _print_status(rows)
    else:
        say(f"{path} is no sigfs mount" if path else "nothing is mounted")
    if path is not None and not any(row["state"] == "alive" for row in rows):
        click.get_current_context().exit(Exit.FAILURE)


def _status(mount: Mount, server: registry.Registration | None) -> dict[str, object]:
    answer = probe(mount.mountpoint, STATUS_S, jobs=True)
    known = asdict(server) if server else dict.fromkeys(registry.Registration.__slots__)
    known.pop("started")
    return {
        **known,
        "mountpoint": mount.mountpoint,
        "project": mount.source,
        "read_only": "ro" in mount.options,
        "state": answer.health,
        "jobs": answer.jobs,
    }


def _print_status(rows: Sequence[dict[str, object]]) -> None:
    columns = ["mountpoint", "project", "state", "jobs", "layout", "filter", "transport", "pid"]
    cells = [["" if row[column] is None else str(row[column]) for column in columns] for row in rows]
    print_rows([Column(column) for column in columns], cells)
