"""``-o remount``: what can be changed while it is mounted."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

import click

from sigfs.cli import registry
from sigfs.cli.options import parse_options
from sigfs.errors import MountPointError
from sigfs.query import format_text
from sigfs.transports.mounts import CLEARED, FLAGS, FS_TYPE, mounted, remount, resolve_mountpoint

_OF_THE_KERNEL: Final = ("fd", "rootmode", "user_id", "group_id", "max_read", "blksize")
"""What mount(8) takes from the kernel's list of mounts, and hands to its helper."""


def words_of(texts: Sequence[str]) -> list[str]:
    """Give the words of all ``-o``."""
    return [word for text in texts for word in text.split(",") if word]


def known_words(texts: Sequence[str]) -> tuple[str, ...]:
    """Give the words of all ``-o`` that mean something here."""

    def is_known(word: str) -> bool:
        try:
            parse_options([word])
        except click.BadParameter:
            return word == "remount"
        return True

    return tuple(word for word in words_of(texts) if is_known(word))


def remount_command(paths: Sequence[str], words: Sequence[str]) -> None:
    """Change whether a mount is read-only, and the flags that the kernel keeps for every file system.

    Args:
        paths: of the mount point, or of project and mount point.
        words: those of ``-o``, ``remount`` among them. Settings that are as they were do no harm: mount(8) says all
            that fstab has.

    Raises:
        MountPointError: no sigfs mount, or that of another project.
        click.BadParameter: something else is to be changed.
        MountError: refused.
    """
    shown = paths[-1]
    entry = mounted(shown)
    if entry is None or entry.type != FS_TYPE:
        raise MountPointError(f"{shown} is no sigfs mount: there is nothing to remount")
    if len(paths) == 2 and os.path.realpath(paths[0]) != os.path.realpath(entry.source):
        raise MountPointError(f"{entry.source} is mounted on {shown}, not {paths[0]}")
    named = [word for word in words if word != "remount" and word.partition("=")[0] not in _OF_THE_KERNEL]
    _require_unchanged(parse_options(named), entry.mountpoint)
    remount(entry.mountpoint, [word for word in named if word in FLAGS or word in CLEARED])


def _require_unchanged(chosen: dict[str, object], mountpoint: str) -> None:
    running = registry.find_registration(resolve_mountpoint(mountpoint))
    if running is None:
        return
    wanted: dict[str, object] = {name: chosen[name] for name in ("layout", "transport") if name in chosen}
    if "filter" in chosen:
        wanted["filter"] = format_text(chosen["filter"])  # type: ignore[arg-type]
    for name, value in wanted.items():
        if value != getattr(running, name):
            raise click.BadParameter(
                f"a remount changes ro, rw and the kernel's flags; {name} stays {getattr(running, name)!r} "
                "until it is unmounted and mounted anew",
                param_hint="-o",
            )
