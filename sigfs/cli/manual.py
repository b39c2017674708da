"""``sigfs man``: the pages sigfs(1) and mount.sigfs(8), in the language of man(7).

Owned here: how help texts and tables become a page. What the pages say is what the commands, the settings and the
exit codes say of themselves, so that they cannot grow old.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

import click

from sigfs.cli.app import sigfs
from sigfs.cli.exits import MEANING
from sigfs.cli.options import IGNORED, REFUSED, SWITCHES, VALUES
from sigfs.model.settings import FLAGS, TABLE
from sigfs.version import __version__

_ESCAPED: Final = str.maketrans({
    "\\": r"\e", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti",
})  # fmt: skip
"""What troff would take for an order, or set as another character than the one to be typed."""

_MOUNT_CODES: Final = {
    0: "mounted; or `nofail`, and there is no project",
    1: "an option cannot be understood",
    2: "the system: no such namespace, or no way to become the user",
    4: "an error of sigfs itself",
    8: "interrupted",
    32: "not mounted",
}


@click.command(
    "man",
    epilog="""\b
Examples:
  sigfs man | man -l -
  mkdir -p ~/.local/share/man/man1; sigfs man > ~/.local/share/man/man1/sigfs.1
  sigfs man mount.sigfs > /usr/local/share/man/man8/mount.sigfs.8""",
)
@click.argument("page", type=click.Choice(["sigfs", "mount.sigfs"]), default="sigfs")
def man_command(page: str) -> None:
    """Print a manual page: sigfs(1), with every command, or mount.sigfs(8)."""
    before = ""
    for line in PAGES[page]():
        if line != ".PP" or not before.startswith((".SH", ".SS")):  # which begin a paragraph themselves
            click.echo(line)
        before = line


def _sigfs() -> Iterator[str]:
    yield from _head("sigfs", 1, "show a signac data space as a live parameter tree", "User Commands")
    yield ".SH SYNOPSIS"
    yield r"\fBsigfs\fR \fICOMMAND\fR [\fIARGUMENT\fR]..."
    yield ".SH DESCRIPTION"
    yield from _prose(sigfs.help or "")
    yield from _prose(sigfs.epilog or "")
    yield ".SH COMMANDS"
    for context in commands(sigfs.make_context("sigfs", [], resilient_parsing=True)):
        yield from _command(context)
    yield ".SH EXIT STATUS"
    yield from _list((str(int(code)), meaning) for code, meaning in MEANING.items())
    yield ".SH ENVIRONMENT"
    yield from _list((setting.variable, setting.help) for setting in TABLE.values() if setting.variable)
    yield ".SH FILES"
    yield from _list(
        [
            ("signac.rc, .signac/config", "what makes a directory a project"),
            (".sigfs/", "of a project: its index, the sidecar, and config.toml with its settings and views"),
            ("~/.config/sigfs/config.toml, /etc/sigfs/config.toml", "settings"),
            ("~/.config/sigfs/mounts/NAME.toml, /etc/sigfs/mounts/NAME.toml", "mount profiles"),
        ]
    )
    yield ".SH SEE ALSO"
    yield r"\fBmount.sigfs\fR(8), \fBmount\fR(8), \fBfusermount3\fR(1), \fBfuse\fR(4)"


def _mount() -> Iterator[str]:
    yield from _head("mount.sigfs", 8, "mount a signac project by mount(8) and fstab(5)", "System Administration")
    yield ".SH SYNOPSIS"
    yield r"\fBmount \-t fuse.sigfs\fR [\fB\-o\fR \fIOPTIONS\fR] \fIPROJECT\fR \fIMNT\fR"
    yield ".SH DESCRIPTION"
    yield from _prose("""
Shows the jobs of PROJECT, the directory of a signac project, as a tree of directories below MNT. It is what `sigfs
mount` does, called as mount(8) calls its helpers; `sigfs install-helper` puts it where mount(8) looks.

It takes the flags of every helper: -f (fake: everything but the mount), -s (pass over what is not known), -n, -v,
-N NAMESPACE, -t TYPE.""")
    yield ".SH OPTIONS"
    for name, setting in TABLE.items():
        words = [word for word, (switched, _) in SWITCHES.items() if switched == name]
        if name in VALUES:
            words = [f"{name}={setting.kind.metavar}"]
        if words:
            choices = f" One of: {', '.join(setting.kind.choices)}." if name in VALUES and setting.kind.choices else ""
            yield from _list([(", ".join(words), setting.help + choices)])
    yield from _list(
        [
            ("setuid=USER", "Root mounts it as this user."),
            ("remount", "With ro, rw or a flag: change a mount that is there."),
            (", ".join(sorted(FLAGS)), "as for every file system: see mount(8)"),
            (", ".join(sorted(IGNORED)) + ", x-*, comment=*", "meant for others, and ignored"),
        ]
    )
    yield from _prose("These cannot be chosen:")
    yield from _list(sorted(REFUSED.items()))
    yield ".SH EXIT STATUS"
    yield from _list((str(code), meaning) for code, meaning in _MOUNT_CODES.items())
    yield ".SH EXAMPLES"
    yield from _prose("A line of /etc/fstab:")
    yield from _verbatim(["/home/ada/alkanes  /srv/alkanes  fuse.sigfs  ro,allow_other,_netdev,nofail  0  0"])
    yield ".SH SEE ALSO"
    yield r"\fBsigfs\fR(1), \fBmount\fR(8), \fBfstab\fR(5), \fBsystemd.mount\fR(5)"


PAGES: Final[Mapping[str, Callable[[], Iterator[str]]]] = {"sigfs": _sigfs, "mount.sigfs": _mount}


def _head(name: str, section: int, about: str, manual: str) -> Iterator[str]:
    yield f'.TH {name.upper()} {section} "{time.strftime("%Y-%m-%d")}" "sigfs {__version__}" "{manual}"'
    yield ".SH NAME"
    yield rf"{_escape(name)} \- {_escape(about)}"


def commands(group: click.Context) -> Iterator[click.Context]:
    """Give every command and its subcommands, in the order of the help text."""
    assert isinstance(group.command, click.Group)
    for name in group.command.list_commands(group):
        command = group.command.get_command(group, name)
        assert command is not None
        context = click.Context(command, group, name)
        yield context
        if isinstance(command, click.Group):
            yield from commands(context)


def _command(context: click.Context) -> Iterator[str]:
    command = context.command
    yield f".SS {_escape(' '.join([context.command_path, *command.collect_usage_pieces(context)]))}"
    yield from _prose(command.help or "")
    records = [param.get_help_record(context) for param in command.params]
    yield from _list(record for record in records if record is not None and record[1])
    yield from _prose(command.epilog or "")


def _prose(text: str) -> Iterator[str]:
    """Set paragraphs as click does: those that begin with a line ``\\b`` stay as they stand."""
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        lines = [line.rstrip() for line in paragraph.splitlines()]
        if lines and lines[0].strip() == "\b":
            yield from _verbatim("" if line.strip() == "\b" else line for line in lines[1:])
        elif paragraph:
            yield ".PP"
            yield _bold(" ".join(line.strip() for line in lines))


def _verbatim(lines: Iterable[str]) -> Iterator[str]:
    yield from (".PP", ".nf", *(_escape(line) for line in lines), ".fi")


def _list(entries: Iterable[tuple[str | None, str]]) -> Iterator[str]:
    for term, meaning in entries:
        yield from (".TP", rf"\fB{_escape(term or '')}\fR", _bold(" ".join(meaning.split())))


def _bold(text: str) -> str:
    """What is in backticks is to be typed."""
    return "".join(rf"\fB{_escape(part)}\fR" if at % 2 else _escape(part) for at, part in enumerate(text.split("`")))


def _escape(text: str) -> str:
    escaped = text.translate(_ESCAPED)
    return rf"\&{escaped}" if escaped.startswith(".") else escaped
