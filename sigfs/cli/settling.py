"""What is to be mounted, and how: the command line above the environment and the configuration files.

Owned here: the options that ``mount`` and ``run`` share, and how a view goes together with a layout and a filter. A
view brings both along, and what is said on its own layer or above it changes them; what is said below does not count.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import click

from sigfs.api.project import Project, get_project
from sigfs.cli.app import say
from sigfs.cli.options import Chosen, field_of, parse_options, understood
from sigfs.cli.params import LayoutText, MountOptionWords, ProfileName, ViewName
from sigfs.cli.paths import DirectoryName
from sigfs.cli.views import both, view_of
from sigfs.errors import InvalidConfig, NoSuchView
from sigfs.model.settings import LAYERS, TABLE, TRANSPORTS, Settings, load
from sigfs.mount import WATCHED_S
from sigfs.query import parse_text
from sigfs.query.expr import EVERYTHING

C = TypeVar("C", bound=Callable[..., Any])

_SHOWN: Final = ("view", "layout", "filter")
_PLACES: Final = ("project", "mountpoint")

_OPTIONS: Final[Sequence[Callable[[Any], Any]]] = (
    click.option(
        "-o",
        "texts",
        metavar="OPTIONS",
        multiple=True,
        type=MountOptionWords(),
        help="Options as in mount(8), comma separated.",
    ),
    click.option("-r", "--read-only", is_flag=True, help="As -o ro."),
    click.option(
        "--layout",
        metavar="LAYOUT",
        type=LayoutText(),
        help="auto: list only keys that differ; full: list all; hive, signac, or a template as 'T_{T}/{{auto}}'.",
    ),
    click.option("--view", "view", metavar="NAME", type=ViewName(), help="Show a view of `sigfs view add`."),
    click.option("--filter", "filter_text", metavar="QUERY", help="Show only the jobs that this holds for."),
    click.option("--transport", type=click.Choice(TRANSPORTS), help="How to talk to the kernel."),
    click.option(
        "--state-dir",
        metavar="DIR",
        type=DirectoryName(),
        help="Keep the index there, not in the project's .sigfs.",
    ),
    click.option("--log-level", type=click.Choice(TABLE["log_level"].kind.choices), help="What is logged, at least."),
    click.option("--log-format", type=click.Choice(TABLE["log_format"].kind.choices), help="json: one object a line."),
    click.option(
        "--profile",
        metavar="NAME",
        type=ProfileName(),
        help="A mount profile, ~/.config/sigfs/mounts/NAME.toml or /etc/sigfs/mounts/NAME.toml.",
    ),
)


def mount_options(command: C) -> C:
    """Give a command the options that say what is mounted and how; it gets them as keywords."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def settle(project: Project, given: Mapping[str, Any]) -> Chosen:
    """Give the options to mount *project* with, by the names of ``MountOptions``.

    Args:
        given: the keywords of ``mount_options``.

    Raises:
        click.BadParameter, QuerySyntaxError: the command line says what cannot be.
        InvalidConfig: the environment or a file does.
        NoSuchView: the project has no such view.
    """
    above = _of_command_line(given)
    settings = load(project.root, given["profile"], os.environ)
    for note in settings.notes:
        say(note)
    chosen: Chosen = {field_of(name): settings[name] for name in settings.chosen() if name not in (*_SHOWN, *_PLACES)}
    chosen |= {name: value for name, value in above.items() if name not in _SHOWN}
    flags = (*settings.words("options"), *above.get("options", ()))
    if flags:
        chosen["options"] = flags
    chosen |= _shown(project, settings, above)
    if chosen.get("coherent"):
        if chosen.get("transport") == "fusepy":
            raise click.BadParameter("coherent needs a transport that can tell the kernel: not fusepy", param_hint="-o")
        chosen.setdefault("entry_timeout_s", WATCHED_S)
        chosen.setdefault("attr_timeout_s", WATCHED_S)
    return chosen


def _of_command_line(given: Mapping[str, Any]) -> Chosen:
    chosen = parse_options(given["texts"])
    if given["read_only"]:
        chosen["read_only"] = True
    plain = ("layout", "transport", "view", "log_level", "log_format")
    chosen |= {name: given[name] for name in plain if given[name] is not None}
    if given["state_dir"] is not None:
        chosen["state_dir"] = os.path.abspath(given["state_dir"])
    if given["filter_text"] is not None:
        chosen["filter"] = parse_text(given["filter_text"])
    return chosen


def _shown(project: Project, settings: Settings, above: Chosen) -> Chosen:
    """Which jobs, and how they are arranged."""
    name = above.get("view", settings.text("view"))
    rank = len(LAYERS) if "view" in above else settings.origin("view").rank
    chosen: Chosen = {each: above[each] for each in ("layout", "filter") if each in above}
    for each in ("layout", "filter"):
        origin = settings.origin(each)
        if each not in chosen and origin.layer != "default" and (not name or origin.rank >= rank):
            chosen[each] = checked(settings, each)
    if name:
        try:
            view = view_of(project, name)
        except NoSuchView as error:
            where = "" if "view" in above else f"{settings.origin('view')}: "
            raise NoSuchView(f"{where}{error}") from None
        chosen["view"] = name
        chosen.setdefault("layout", view.layout)
        chosen["filter"] = both(view.filter, chosen.get("filter", EVERYTHING))
    return chosen


def checked(settings: Settings, name: str) -> Any:
    """Give the value of a setting as ``MountOptions`` takes it.

    Raises:
        InvalidConfig: it cannot be understood; the message names the file and the line, or the variable.
    """
    try:
        return understood(name, settings[name])
    except ValueError as error:
        raise InvalidConfig(f"{settings.origin(name)}: {name}: {error}") from None


def project_and_mountpoint(paths: Sequence[str], profile: str | None) -> tuple[Project | None, str | None]:
    """Find what ``[PROJECT] [MNT]`` and a profile name; None for what neither does.

    Args:
        paths: up to two; one alone is the mount point.
    """
    settings = None if profile is None else load(None, profile)
    named = {name: "" if settings is None else settings.text(name) for name in _PLACES}
    path = paths[0] if len(paths) == 2 else named["project"]
    return get_project(path) if path else None, (paths[-1] if paths else named["mountpoint"]) or None
