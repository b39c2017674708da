"""``-o``: the comma-separated options of mount(8)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias

import click

from sigfs.cli.app import near_match
from sigfs.model.settings import FLAGS, TABLE, Flags, Plain, Switch
from sigfs.query import parse_text
from sigfs.tree import check_layout

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

SWITCHES: Final[Mapping[str, tuple[str, bool]]] = {
    "ro": ("read_only", True),
    "rw": ("read_only", False),
    **{
        word: (name, on)
        for name, setting in TABLE.items()
        if isinstance(setting.kind, Switch) and name != "read_only"
        for word, on in ((name, True), (f"no{name}", False))
    },
}
"""Words without a value: which setting they turn on or off."""

VALUES: Final = frozenset(
    name for name, setting in TABLE.items() if setting.variable and not isinstance(setting.kind, Switch | Flags)
)
"""Settings that are spelled ``NAME=VALUE``."""

_FIELDS: Final = {"entry_timeout": "entry_timeout_s", "attr_timeout": "attr_timeout_s"}
_LONG: Final = {"filter": "a filter", "layout": "a template"}

Chosen: TypeAlias = dict[str, Any]
"""What has been chosen, by the names of ``MountOptions``, and of ``log_level`` and ``log_format``."""


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
        if name in VALUES:
            take(chosen, name, value)
        elif equals and name in SWITCHES.keys() | FLAGS | IGNORED:
            raise click.BadParameter(f"{name} takes no value", param_hint="-o")
        elif name in SWITCHES:
            setting, chosen_value = SWITCHES[name]
            chosen[setting] = chosen_value
        elif name in FLAGS:
            generic.append(name)
        else:
            near = near_match(name, VALUES | FLAGS | IGNORED | SWITCHES.keys())
            hint = f"; did you mean {near}?" if near else ""
            if "filter" in chosen:
                hint += "; a filter that contains a comma goes into --filter"
            raise click.BadParameter(f"no option {name!r}{hint}", param_hint="-o")
    if generic:
        chosen["options"] = tuple(dict.fromkeys(generic))
    return chosen


def take(chosen: Chosen, name: str, text: str) -> None:
    """Understand a word ``NAME=TEXT`` of ``-o``.

    Raises:
        click.BadParameter: an impossible value.
    """
    try:
        chosen[field_of(name)] = understood(name, TABLE[name].kind.parse(text))
    except ValueError as error:
        more = f"; {_LONG[name]} that contains a comma goes into --{name}" if name in _LONG else ""
        raise click.BadParameter(f"{name}={':' if more else ''} {error}{more}", param_hint="-o") from None


def understood(name: str, value: Plain) -> Any:
    """Give the value of a setting as ``MountOptions`` takes it.

    Raises:
        ValueError: a layout or a query that cannot be understood.
    """
    match name:
        case "layout":
            return check_layout(str(value))
        case "filter":
            return parse_text(str(value))
    return value


def field_of(name: str) -> str:
    """Name the field of ``MountOptions`` that has a setting."""
    return _FIELDS.get(name, name)
