"""Named views of a project: which jobs, and how they are arranged, under a name.

Owned here: the section ``[views]`` of ``.sigfs/config``, the one configuration file that sigfs writes; those of signac
are never touched. What a layout or a filter means is not known here: both are text.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from configobj import ConfigObj

from sigfs.errors import InvalidConfig, NoSuchView
from sigfs.model.config import Config, read_config
from sigfs.model.configuring import editing

DIRECTORY: Final = ".sigfs"
FILE: Final = "config"
DEFAULT_LAYOUT: Final = "auto"

_NAME: Final = re.compile(r"\w[\w.+-]{0,99}")
_SECTION: Final = "views"


@dataclass(frozen=True, slots=True)
class NamedView:
    """One view.

    Attributes:
        layout: a layout's name, or a template.
        filter: a query as text; empty: all jobs.
    """

    name: str
    layout: str = DEFAULT_LAYOUT
    filter: str = ""


def config_path(root: str) -> str:
    """Name the file for the project at *root*."""
    return os.path.join(root, DIRECTORY, FILE)


def read_views(root: str) -> dict[str, NamedView]:
    """Give the views of the project at *root*, by name.

    Raises:
        InvalidConfig: the file cannot be understood; the message names file and line.
    """
    path = config_path(root)
    if not os.path.lexists(path):
        return {}
    config = read_config(path)
    section = config.values.get(_SECTION, {})
    if not isinstance(section, Mapping):
        raise config.error(_SECTION, f"{_SECTION} must be a section, [{_SECTION}]")
    return {name: _view(config, name, section[name]) for name in sorted(section)}


def find_view(root: str, name: str) -> NamedView:
    """Give one view of the project at *root*.

    Raises:
        NoSuchView: there is none of that name; the message names the others.
        InvalidConfig: as for ``read_views``.
    """
    views = read_views(root)
    if name not in views:
        raise _no_such_view(root, name, views)
    return views[name]


def write_view(root: str, view: NamedView, *, replace: bool = False) -> None:
    """Keep *view* in the configuration of the project at *root*; what else is there stays.

    Raises:
        InvalidConfig: the name cannot be one, is taken (and not *replace*), or a value cannot be kept.
        OSError: the file cannot be written.
    """
    if not _NAME.fullmatch(view.name):
        raise InvalidConfig(f"{view.name!r} is no name for a view: letters, digits and . _ + -, beginning with no sign")
    with _editing(root) as config:
        section = config.setdefault(_SECTION, {})
        if view.name in section and not replace:
            raise InvalidConfig(f"{config_path(root)}: there is a view {view.name} already; --replace replaces it")
        section[view.name] = {"layout": view.layout, "filter": view.filter}


def remove_view(root: str, name: str) -> None:
    """Forget a view of the project at *root*.

    Raises:
        NoSuchView: there is none of that name.
        InvalidConfig: the file cannot be understood.
        OSError: the file cannot be written.
    """
    find_view(root, name)
    with _editing(root) as config:
        config.get(_SECTION, {}).pop(name, None)


def _no_such_view(root: str, name: str, views: Mapping[str, NamedView]) -> NoSuchView:
    known = f"there are: {', '.join(views)}" if views else "there is none yet; see sigfs view add"
    return NoSuchView(f"{root} has no view {name!r}; {known}")


def _view(config: Config, name: str, values: object) -> NamedView:
    if not isinstance(values, Mapping):
        raise config.error(name, f"the view {name} must be a section, [[{name}]]")
    found = []
    for key, default in (("layout", DEFAULT_LAYOUT), ("filter", "")):
        value = values.get(key, default)
        if not isinstance(value, str):
            raise config.error(name, f"{key} of the view {name} must be one value (quote a value with a comma)")
        found.append(value)
    if not _NAME.fullmatch(name):
        raise config.error(name, f"{name!r} is no name for a view")
    return NamedView(name, *found)


@contextmanager
def _editing(root: str) -> Iterator[ConfigObj]:
    os.makedirs(os.path.join(root, DIRECTORY), mode=0o777, exist_ok=True)
    with editing(config_path(root)) as config:
        yield config
