"""A mount as others start it at boot: as a unit of systemd and as a line of fstab(5).

Owned here: their texts. Nothing here mounts or asks whether one could.
"""

from __future__ import annotations

import os
import re
import site
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import click

from sigfs.api.project import Project
from sigfs.cli.options import parse_options
from sigfs.watch.sources import file_system_type, is_remote

HARDENING: Final = """\
# Mounting takes no program with set-user-id bit here. Nothing below gives the service a mount namespace of its own:
# what it mounts has to be seen by all. That rules out PrivateTmp=, PrivateDevices=, PrivateNetwork=, ReadOnlyPaths=
# and the like, and every Protect...= but those for the clock and the host name.
NoNewPrivileges=yes
CapabilityBoundingSet=CAP_SYS_ADMIN CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID CAP_LEASE
CapabilityBoundingSet=CAP_LINUX_IMMUTABLE CAP_MKNOD CAP_SETFCAP CAP_SETGID CAP_SETUID CAP_SYS_PTRACE CAP_SYS_RESOURCE
LockPersonality=yes
RestrictAddressFamilies=AF_UNIX
RestrictRealtime=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service @mount fanotify_init fanotify_mark open_by_handle_at
SystemCallErrorNumber=EPERM
LimitNOFILE=1048576
"""
"""What a system service is kept from. Not a user's: there each of these would imply NoNewPrivileges=, and with that
fusermount3 cannot mount."""

NEEDS: Final = "After=local-fs.target remote-fs.target nss-user-lookup.target\n"

_PLAIN: Final = re.compile(r"[A-Za-z0-9_./:,=@+-]+")
_SPELLED: Final = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "%": "%%", "$": "$$"}


def own_command() -> tuple[str, ...]:
    """Give the words that run this very sigfs, whatever PATH is: absolute paths."""
    script = os.path.join(os.path.dirname(sys.executable), "sigfs")
    if not own_path() and os.access(script, os.X_OK):
        return (script,)
    return (sys.executable, "-P", "-m", "sigfs")


def own_path() -> str:
    """Give what PYTHONPATH has to be for ``own_command``; empty where sigfs is installed in this Python."""
    here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    installed = {os.path.realpath(path) for path in (*site.getsitepackages(), site.getusersitepackages())}
    return "" if os.path.realpath(here) in installed else here


def quote_for_unit(word: str, *, command: bool = True) -> str:
    r"""Spell a word so that systemd.syntax(7) reads it back, and expands nothing in it.

    Args:
        command: of ExecStart=, where ``$`` means something.

    >>> print(quote_for_unit("/a b/100%"), quote_for_unit("$HOME"), quote_for_unit("plain"), quote_for_unit(";"))
    "/a b/100%%" "$$HOME" plain ";"
    """
    if _PLAIN.fullmatch(word):
        return word
    spelled = []
    for byte in os.fsencode(word):
        character = chr(byte)
        if character == "$" and not command:
            spelled.append("$")
        elif character in _SPELLED:
            spelled.append(_SPELLED[character])
        else:
            spelled.append(f"\\x{byte:02x}" if byte < 32 or byte == 127 else character)
    return '"' + "".join(spelled).encode("latin-1").decode("utf-8", "surrogateescape") + '"'


def unit_text(
    command: Sequence[str],
    *,
    description: str,
    user: bool,
    environment: Mapping[str, str] | None = None,
    mounts: Iterable[str] = (),
) -> str:
    """Give the text of a service.

    Args:
        command: the words of ExecStart=, quoted for it.
        description: a line, with ``%`` doubled where it stands for itself.
        user: for ``systemctl --user``.
        environment: further variables.
        mounts: paths whose file systems have to be mounted before.
    """
    needed = " ".join(quote_for_unit(path, command=False) for path in mounts)
    variables = "".join(
        f"Environment={quote_for_unit(f'{name}={value}', command=False)}\n"
        for name, value in (environment or {}).items()
    )
    return (
        "[Unit]\n"
        f"Description={description}\n"
        "Documentation=man:sigfs(1)\n"
        + ("" if user else NEEDS)
        + (f"RequiresMountsFor={needed}\n" if needed else "")
        + "\n[Service]\n"
        "Type=notify\n"
        f"{variables}"
        f"ExecStart={' '.join(command)}\n"
        "ExecReload=/bin/kill -HUP $MAINPID\n"
        "KillMode=mixed\n"
        "# A mount that a killed server has left is cleared by the next start. An argument that cannot be understood\n"
        "# (exit code 2) is not tried again.\n"
        "Restart=on-failure\n"
        "RestartSec=5\n"
        "RestartPreventExitStatus=2\n"
        "# The server asks for more time while it reads jobs, and says that it lives when the mount has answered it.\n"
        "TimeoutStartSec=120\n"
        "WatchdogSec=60\n"
        + ("" if user else HARDENING)
        + f"\n[Install]\nWantedBy={'default' if user else 'multi-user'}.target\n"
    )


def template(*, user: bool) -> str:
    """Give the text of ``sigfs@.service``, whose instances are mount profiles."""
    return unit_text(
        ("sigfs", "mount", "--profile", "%i", "--foreground"),
        description="sigfs mount of the profile %i",
        user=user,
    )


def quote_for_fstab(field: str) -> str:
    r"""Spell a field as fstab(5) reads it.

    >>> print(quote_for_fstab("/a b\\c"), quote_for_fstab("#x"))
    /a\040b\134c \043x
    """
    spelled = re.sub(r"[\s\\]", lambda found: "".join(f"\\{byte:03o}" for byte in os.fsencode(found[0])), field)
    return "\\043" + spelled[1:] if spelled.startswith("#") else spelled


def fstab_line(project: str, mountpoint: str, words: Sequence[str], *, user: bool, remote: bool) -> str:
    """Give the line that has mount(8) mount *project*.

    Args:
        words: each a word of ``-o``.
        user: whoever is not root shall mount it.
        remote: the project is on a network file system.

    Raises:
        click.BadParameter: a word has a comma or a quotation mark, which mount(8) takes for its own.
    """
    for word in words:
        if "," in word or '"' in word:
            name = word.partition("=")[0]
            raise click.BadParameter(
                f"{word!r} cannot be said in fstab, because of its comma or quotation mark; "
                f"keep it in a view (sigfs view add NAME) and say view=NAME",
                param_hint=f"--{name}",
            )
    parse_options(words)
    said = [*words, *(["user", "noauto"] if user else ["nofail"]), *(["_netdev"] if remote else [])]
    fields = (project, mountpoint, "fuse.sigfs", ",".join(said), "0", "0")
    return " ".join(quote_for_fstab(field) for field in fields)


def options_of(context: click.Context, without: Iterable[str]) -> list[tuple[str, str | None]]:
    """Give the options that the command line has, by their long names, with their values; None for a flag.

    Args:
        without: the names of parameters to leave out.
    """
    found: list[tuple[str, str | None]] = []
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if not isinstance(parameter, click.Option) or name in without or source is not _COMMAND_LINE:
            continue
        value = context.params[name]
        option = max(parameter.opts, key=len)
        if parameter.is_flag:
            found.append((option, None))
        else:
            values = value if parameter.multiple else [value]
            found += [(option, os.path.abspath(each) if name == "state_dir" else str(each)) for each in values]
    return found


def as_arguments(options: Iterable[tuple[str, str | None]]) -> list[str]:
    """Spell what ``options_of`` gives as arguments.

    >>> as_arguments([("-o", "ro"), ("--read-only", None), ("--layout", "full")])
    ['-o', 'ro', '--read-only', '--layout', 'full']
    """
    return [word for option, value in options for word in ((option,) if value is None else (option, value))]


def as_words(options: Iterable[tuple[str, str | None]]) -> list[str]:
    """Spell what ``options_of`` gives as words of ``-o``.

    >>> as_words([("-o", "ro,noexec"), ("--read-only", None), ("--state-dir", "/s")])
    ['ro', 'noexec', 'state_dir=/s']
    """
    words = []
    for option, value in options:
        name = option.removeprefix("--").replace("-", "_")
        if value is None:
            words.append({"read_only": "ro"}.get(name, name))
        elif option == "-o":
            words += [word for word in value.split(",") if word]
        else:
            words.append(f"{name}={value}")
    return list(dict.fromkeys(words))


def print_for_boot(context: click.Context, project: Project, mountpoint: str, *, unit: bool) -> None:
    """Print what mounts the same as the command line of *context*: a unit, or a line of fstab.

    Raises:
        click.BadParameter, click.UsageError: fstab cannot say it.
    """
    is_user = os.geteuid() != 0
    options = options_of(context, _NOT_SAID)
    if not unit:
        if any(option == "--profile" for option, _ in options):
            raise click.UsageError(
                f"a profile needs no line in fstab: systemctl enable --now sigfs@{context.params['profile']}", context
            )
        remote = is_remote(file_system_type(project.workspace.path))
        line = fstab_line(project.root, mountpoint, as_words(options), user=is_user, remote=remote)
        click.echo(os.fsencode(line))
        return
    places = [project.root, mountpoint] if context.params["paths"] or not context.params["profile"] else []
    words = [*own_command(), "mount", *as_arguments(options), "--foreground", *(["--", *places] if places else [])]
    text = unit_text(
        [quote_for_unit(word) for word in words],
        description=" ".join(f"{project.root} shown on {mountpoint} by sigfs".split()).replace("%", "%%"),
        user=is_user,
        environment={"PYTHONPATH": own_path()} if own_path() else {},
        mounts=(project.root, os.path.dirname(mountpoint)),
    )
    click.echo(os.fsencode(text), nl=False)


_COMMAND_LINE: Final = click.core.ParameterSource.COMMANDLINE
_NOT_SAID: Final = ("foreground", "debug", "quiet", "print_unit", "print_fstab", "fake", "sloppy")
