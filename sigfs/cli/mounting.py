"""``sigfs mount``."""

from __future__ import annotations

import logging
import os
import shlex
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

import click

from sigfs.api.progress import progress_bar
from sigfs.api.project import Project, get_project
from sigfs.cli import background, registry
from sigfs.cli.app import ignoring_sigpipe, say, unreadable_jobs
from sigfs.cli.boot import print_for_boot
from sigfs.cli.exits import message_of
from sigfs.cli.logs import LogStyle, log_file_of, log_to_stderr
from sigfs.cli.managed import service_manager
from sigfs.cli.params import DirectoryPath
from sigfs.cli.remounting import known_words, remount_command, words_of
from sigfs.cli.settling import mount_options, project_and_mountpoint, settle
from sigfs.errors import SigfsError
from sigfs.model.config import find_config
from sigfs.mount import MountOptions, MountReport, serve
from sigfs.mount.notifying import ServiceManager
from sigfs.mount.points import check_directory, check_mountpoint
from sigfs.query import format_text
from sigfs.query.expr import EVERYTHING
from sigfs.transports.mounts import mounted, resolve_mountpoint

log = logging.getLogger(__name__)

_SHOWN_KEYS: Final = 12


@click.command(
    "mount",
    epilog="""\b
Examples:
  sigfs mount ~/project ~/mnt         show the jobs of a project
  sigfs mount ~/mnt                   the project of the working directory
  sigfs mount -r --filter 'foo 42' ~/project ~/mnt
  sigfs mount -o ro,allow_other,layout=full ~/project ~/mnt
  sigfs mount --layout 'T_{T:.1f}/{{auto}}' ~/project ~/mnt
  sigfs mount --view hot ~/project ~/mnt
  sigfs mount --profile alkanes       what ~/.config/sigfs/mounts/alkanes.toml says
  sigfs mount -d ~/project ~/mnt      in the foreground, each request logged
  sigfs mount -f --log-format json ~/project ~/mnt
  sigfs mount -o remount,ro ~/mnt     make it read-only while it is mounted
  sigfs mount --print-unit -r ~/project ~/mnt > ~/.config/systemd/user/mnt.service
  sigfs mount --print-fstab -r ~/project ~/mnt | sudo tee -a /etc/fstab
\b
Options of -o: ro rw allow_other passthrough nopassthrough coherent transport=NAME layout=NAME view=NAME
  filter=QUERY entry_timeout=S attr_timeout=S state_dir=DIR log_level=NAME log_format=NAME
  and the flags of mount(8) (noexec, noatime, ..., remount)""",
)
@click.argument("paths", metavar="[PROJECT] MNT", nargs=-1, type=DirectoryPath())
@click.option("-f", "--foreground", is_flag=True, help="Stay in the foreground; Ctrl-C unmounts.")
@click.option("-d", "--debug", is_flag=True, help="As -f, and log each request.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing if all goes well.")
@click.option("--print-unit", is_flag=True, help="Only print a unit that has systemd mount it: root's, or a user's.")
@click.option("--print-fstab", is_flag=True, help="Only print the line of /etc/fstab that has mount(8) mount it.")
@click.option("--fake", is_flag=True, hidden=True)  # mount -f: all but mounting
@click.option("--sloppy", is_flag=True, hidden=True)  # mount -s: an unknown option is no error
@mount_options
def mount_command(
    paths: tuple[str, ...],
    foreground: bool,
    debug: bool,
    quiet: bool,
    print_unit: bool,
    print_fstab: bool,
    fake: bool,
    sloppy: bool,
    **given: Any,
) -> None:
    """Show the jobs of a project as a tree of directories below MNT, an empty directory.

    Returns when the mount answers, and leaves its server in the background until `sigfs umount MNT`. What is not said
    here is taken from the environment and from configuration files: see `sigfs config show`.
    """
    context = click.get_current_context()
    if len(paths) > 2:
        raise click.UsageError("expected [PROJECT] MNT", context)
    if sloppy:
        given["texts"] = known_words(given["texts"])
    if "remount" in (words := words_of(given["texts"])) and paths:
        remount_command(paths, [*words, *(["ro"] if given["read_only"] else [])])
        return
    project, shown = project_and_mountpoint(paths, given["profile"])
    if shown is None:
        profile = given["profile"]
        why = "expected [PROJECT] MNT" if profile is None else f"the profile {profile} has no mountpoint: give MNT"
        raise click.UsageError(why, context)
    if project is None:
        project = _project_around(shown)
    chosen = settle(project, given)
    reread = _reread(project.root, given, dict(chosen))
    if print_unit or print_fstab:
        print_for_boot(context, project, resolve_mountpoint(shown), unit=print_unit)
        return
    level, form = chosen.pop("log_level", "info"), chosen.pop("log_format", "text")
    shown_filter = format_text(chosen.get("filter", EVERYTHING))
    if fake:
        check_directory(shown)
        return
    mountpoint, notes = check_mountpoint(shown, project.workspace.path)
    for note in notes:
        say(note)
    foreground = foreground or debug
    style = LogStyle("debug" if debug else level, form)
    options = MountOptions(project=project.root, mountpoint=mountpoint, debug=debug, **chosen)
    manager = service_manager(os.environ)
    if foreground:
        # The greeting says that it is mounted, the log need not.
        log_to_stderr(style, without=() if debug else ("is mounted on",))
        with ignoring_sigpipe():
            code = _run(
                options,
                None,
                lambda report: None if quiet else _greet(report, shown, shown_filter),
                manager.progress,
                lambda said: None,  # noqa: ARG005 - the log is on the terminal
                manager,
                reread,
            )
        click.get_current_context().exit(code)
    log_file = log_file_of(mountpoint)
    try:
        with ignoring_sigpipe(), progress_bar("reading jobs") as progress:
            report = background.start(
                lambda ready, progress, note: _run(options, log_file, ready, progress, note, None, reread),
                mountpoint,
                log_file,
                style,
                progress,
                say,
            )
    except background.StartFailed as failure:
        say(str(failure))
        click.get_current_context().exit(failure.code)
    if not quiet:
        _greet(report, shown, shown_filter)


def _project_around(path: str) -> Project:
    """Open the project of the working directory, unless *path* is a project and not where one is to be mounted."""
    if mounted(path) is None and find_config(os.path.abspath(path)) is not None:
        quoted = shlex.quote(path)
        raise click.UsageError(
            f"{path} is a project; give a mount point too: sigfs mount {quoted} MNT", click.get_current_context()
        )
    return get_project(None)


def _reread(root: str, given: Mapping[str, Any], chosen: Mapping[str, Any]) -> Callable[[], None]:
    """Give what reads the configuration again, and says in the log what is not any more what was *chosen*."""

    def read() -> None:
        try:
            now = settle(get_project(root), given)
        except (SigfsError, click.ClickException, OSError) as error:
            log.error("what is configured cannot be used, and all stays as it is: %s", message_of(error))
            return
        others = sorted(name for name in now.keys() | chosen.keys() if now.get(name) != chosen.get(name))
        if others:
            log.warning("configured anew, and in force when it is mounted again: %s", ", ".join(others))

    return read


def _run(
    options: MountOptions,
    log_file: str | None,
    ready: Callable[[MountReport], None],
    progress: Callable[[int, int], None],
    note: Callable[[str], None],
    manager: ServiceManager | None,
    reread: Callable[[], None],
) -> int:
    """Serve, listed for ``sigfs status`` meanwhile.

    Args:
        note: told what the user should know beside the log.
        manager: told how it goes, if this process is the one that it started.
        reread: called when the configuration is to be read again.
    """
    registered: list[str | None] = []

    def on_mounted(report: MountReport) -> None:
        registered.append(registry.register(_registration(options, report, log_file)))
        if registered[-1] is None:
            note("the mount is not listed for sigfs status, and sigfs umount cannot wait for its server")
        for path in report.silent:
            note(f"{path} does not answer: its jobs are missing until it does")
        unreadable = _unreadable(options, report)
        if unreadable:
            log.warning("%s", unreadable)
            note(unreadable)
        ready(report)

    try:
        return serve(options, on_mounted, progress, manager, reread)
    finally:
        for path in registered:
            registry.unregister(path)


def _unreadable(options: MountOptions, report: MountReport) -> str:
    """Say which directories are no jobs though they are named like jobs; empty if none is.

    Complexity: reads all state points if there are any.
    """
    return unreadable_jobs(get_project(options.project).workspace) if report.pending else ""


def _registration(options: MountOptions, report: MountReport, log_file: str | None) -> registry.Registration:
    return registry.Registration(
        pid=os.getpid(),
        started=registry.start_time(os.getpid()) or 0,
        mountpoint=options.mountpoint,
        project=report.project,
        layout=options.layout,
        filter=format_text(options.filter),
        transport=options.transport,
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
        click.echo("changes made by others are looked for now and then: this file system does not report them")
    click.echo("Try:")
    example = os.path.join(mountpoint, *report.example) if report.example else mountpoint
    click.echo(os.fsencode(f"  ls {shlex.quote(example)}"))
    click.echo(os.fsencode(f"  sigfs umount {shlex.quote(mountpoint)}"))
    sys.stdout.flush()
