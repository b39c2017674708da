"""``-o``: the comma-separated options of mount(8)."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, Final, TypedDict, TypeVar

import click

from sigfs.cli.app import near_match
from sigfs.errors import QuerySyntaxError
from sigfs.query import Expr, parse_text
from sigfs.transports.base import NAMES
from sigfs.tree import Layout, check_layout

T = TypeVar("T", bound=str)

EMPTY_PATH: Final = "an empty path names nothing; the working directory is ."

VFS_FLAGS: Final = frozenset({
    "async", "atime", "dev", "diratime", "dirsync", "exec", "lazytime", "noatime", "nodev", "nodiratime", "noexec",
    "nosuid", "nosymfollow", "relatime", "strictatime", "suid", "sync",
})  # fmt: skip
"""Generic flags that the kernel keeps for every file system: handed on."""

IGNORED: Final = frozenset({
    "_netdev", "auto", "default_permissions", "defaults", "group", "noauto", "nofail", "nouser", "nousers", "owner",
    "user", "users",
})  # fmt: skip
"""Words for others who read fstab, or what is so anyway; ``x-...`` and ``comment=...`` too."""

REFUSED: Final = {
    "fsname": "it is always the project's path",
    "subtype": "it is always sigfs",
    "auto_unmount": "a mount whose server crashed says so, instead of looking empty; sigfs mount clears it",
    "nonempty": "mounting would hide what the directory holds",
    "allow_root": "there is allow_other",
}

SWITCHES: Final = frozenset({"allow_other", "coherent", "nopassthrough", "passthrough", "ro", "rw"})
SETTINGS: Final = frozenset({"attr_timeout", "entry_timeout", "filter", "layout", "state_dir", "transport", "view"})

MAX_TIMEOUT_S: Final = 1e9
"""What still fits into all transports' arithmetic: 31 years."""


class DirectoryName(click.Path):
    """A path that may be a directory or nothing yet, and is not empty."""

    def __init__(self) -> None:
        """Make the type."""
        super().__init__(file_okay=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See that it says something."""
        if not value:
            self.fail(EMPTY_PATH, param, ctx)
        return super().convert(value, param, ctx)


class Chosen(TypedDict, total=False):
    """What ``-o`` says, in the words of ``MountOptions``."""

    read_only: bool
    allow_other: bool
    passthrough: bool
    coherent: bool
    entry_timeout_s: float
    attr_timeout_s: float
    layout: Layout
    filter: Expr
    view: str
    transport: str
    options: tuple[str, ...]
    state_dir: str


def parse_options(texts: Iterable[str]) -> Chosen:
    """Read the values of all ``-o``; of contradicting ones the last counts.

    Raises:
        click.BadParameter: unknown, refused, or an impossible value.

    >>> parse_options(["ro,noatime", "layout=full,x-systemd.automount"])
    {'read_only': True, 'layout': 'full', 'options': ('noatime',)}
    """
    chosen: Chosen = {}
    generic: list[str] = []
    for word in (word for text in texts for word in text.split(",") if word):
        name, equals, value = word.partition("=")
        if name.startswith("x-") or name == "comment" or (name in IGNORED and not equals):
            continue
        if name in REFUSED:
            raise click.BadParameter(f"{name} cannot be chosen: {REFUSED[name]}", param_hint="-o")
        if name in SETTINGS:
            _set(chosen, name, value)
        elif equals and name in SWITCHES | VFS_FLAGS | IGNORED:
            raise click.BadParameter(f"{name} takes no value", param_hint="-o")
        elif name in SWITCHES:
            _switch(chosen, name)
        elif name in VFS_FLAGS:
            generic.append(name)
        else:
            near = near_match(name, SWITCHES | SETTINGS | VFS_FLAGS | IGNORED)
            hint = f"; did you mean {near}?" if near else ""
            if "filter" in chosen:
                hint += "; a filter that contains a comma goes into --filter"
            raise click.BadParameter(f"no option {name!r}{hint}", param_hint="-o")
    if generic:
        chosen["options"] = tuple(dict.fromkeys(generic))
    return chosen


def _switch(chosen: Chosen, name: str) -> None:
    match name:
        case "ro" | "rw":
            chosen["read_only"] = name == "ro"
        case "passthrough" | "nopassthrough":
            chosen["passthrough"] = name == "passthrough"
        case "allow_other":
            chosen["allow_other"] = True
        case "coherent":
            chosen["coherent"] = True


def _set(chosen: Chosen, name: str, value: str) -> None:
    match name:
        case "entry_timeout":
            chosen["entry_timeout_s"] = _seconds(name, value)
        case "attr_timeout":
            chosen["attr_timeout_s"] = _seconds(name, value)
        case "filter":
            try:
                chosen["filter"] = parse_text(value)
            except QuerySyntaxError as error:
                raise click.BadParameter(
                    f"filter=: {error}; a filter that contains a comma goes into --filter", param_hint="-o"
                ) from None
        case "layout":
            try:
                chosen["layout"] = check_layout(value)
            except ValueError as error:
                raise click.BadParameter(
                    f"layout=: {error}; a template that contains a comma goes into --layout", param_hint="-o"
                ) from None
        case "view":
            chosen["view"] = value
        case "state_dir":
            if not value:
                raise click.BadParameter(f"state_dir=: {EMPTY_PATH}", param_hint="-o")
            chosen["state_dir"] = os.path.abspath(value)
        case "transport":
            chosen["transport"] = _one_of(name, value, NAMES)


def _one_of(name: str, value: str, known: Iterable[T]) -> T:
    for choice in known:
        if choice == value:
            return choice
    raise click.BadParameter(f"{name}= is one of: {', '.join(known)}", param_hint="-o")


def _seconds(name: str, value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < MAX_TIMEOUT_S:
        raise click.BadParameter(
            f"{name}= is a number of seconds from 0 to less than {MAX_TIMEOUT_S:,.0f}, not {value!r}", param_hint="-o"
        )
    return seconds
