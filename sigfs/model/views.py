"""Named views of a project: which jobs, and how they are arranged, under a name.

Owned here: the table ``[views]`` of ``.sigfs/config.toml``; and that of ``.sigfs/config``, in signac's dialect, where
earlier versions have kept them: it is read, and nothing is put there any more. What a layout or a filter means is not
known here: both are text.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from sigfs.errors import InvalidConfig, NoSuchView
from sigfs.model.config import read_config
from sigfs.model.configuring import editing
from sigfs.model.settings import VIEWS, project_file
from sigfs.model.toml import editing_toml, read_toml

DEFAULT_LAYOUT: Final = "auto"

_NAME: Final = re.compile(r"\w[\w.+-]{0,99}")


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


def view_files(root: str) -> tuple[str, str]:
    """Name the files that the views of the project at *root* are in; the second one counts where both have one."""
    return os.path.join(root, ".sigfs", "config"), project_file(root)


def read_views(root: str) -> dict[str, NamedView]:
    """Give the views of the project at *root*, by name.

    Raises:
        InvalidConfig: a file cannot be understood; the message names file and line.
    """
    views = _read_old(root)
    toml = read_toml(project_file(root))
    if toml is not None:
        views |= _views(toml.values.get(VIEWS, {}), lambda name, why: toml.error(name, why, _table_of(name)))
    return dict(sorted(views.items()))


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
    if not replace and view.name in read_views(root):
        raise InvalidConfig(f"{project_file(root)}: there is a view {view.name} already; --replace replaces it")
    os.makedirs(os.path.dirname(project_file(root)), mode=0o777, exist_ok=True)
    with editing_toml(project_file(root)) as document:
        views = document.setdefault(VIEWS, {})
        if not replace and view.name in views:  # since it was read
            raise InvalidConfig(f"{project_file(root)}: there is a view {view.name} already; --replace replaces it")
        views[view.name] = {"layout": view.layout, "filter": view.filter}


def remove_view(root: str, name: str) -> None:
    """Forget a view of the project at *root*.

    Raises:
        NoSuchView: there is none of that name.
        InvalidConfig: the file cannot be understood.
        OSError: the file cannot be written.
    """
    find_view(root, name)
    old, new = view_files(root)
    if os.path.lexists(new):
        with editing_toml(new) as document:
            views = document.get(VIEWS, {})
            views.pop(name, None)
            if not views:  # which would not be written
                document.pop(VIEWS, None)
    if name in _read_old(root):
        with editing(old) as config:
            config.get(VIEWS, {}).pop(name, None)


def _no_such_view(root: str, name: str, views: Mapping[str, NamedView]) -> NoSuchView:
    known = f"there are: {', '.join(views)}" if views else "there is none yet; see sigfs view add"
    return NoSuchView(f"{root} has no view {name!r}; {known}")


def _read_old(root: str) -> dict[str, NamedView]:
    path = view_files(root)[0]
    if not os.path.lexists(path):
        return {}
    config = read_config(path)
    return _views(config.values.get(VIEWS, {}), config.error)


def _views(table: object, error: Callable[[str, str], InvalidConfig]) -> dict[str, NamedView]:
    if not isinstance(table, Mapping):
        raise error(VIEWS, f"{VIEWS} must be a section, [{VIEWS}]")
    return {name: _view(name, table[name], error) for name in table}


def _view(name: str, values: object, error: Callable[[str, str], InvalidConfig]) -> NamedView:
    if not _NAME.fullmatch(name):
        raise error(name, f"{name!r} is no name for a view")
    if not isinstance(values, Mapping):
        raise error(name, f"the view {name} must be a section, with layout and filter")
    found = []
    for key, default in (("layout", DEFAULT_LAYOUT), ("filter", "")):
        value = values.get(key, default)
        if not isinstance(value, str):
            raise error(name, f"{key} of the view {name} must be one value (quote a value with a comma)")
        found.append(value)
    return NamedView(name, *found)


def _table_of(name: str) -> str:
    return "" if name == VIEWS else VIEWS
