"""Named views as the tree takes them.

Owned here: reading what the project keeps as text, once for each version of the file.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from sigfs.errors import InvalidConfig, QuerySyntaxError
from sigfs.model.settings import project_file
from sigfs.model.views import NamedView, read_views, view_files
from sigfs.query import parse_text
from sigfs.tree import View, check_layout

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger(__name__)


def read_view(root: str, named: NamedView) -> View:
    """Understand a view of the project at *root*.

    Raises:
        InvalidConfig: its layout or filter cannot be understood.
    """
    try:
        return View(check_layout(named.layout), parse_text(named.filter))
    except (QuerySyntaxError, ValueError) as error:
        raise InvalidConfig(f"{project_file(root)}: the view {named.name}: {error}") from None


class NamedViews:
    """The named views of a project, as they are whenever one asks. Any thread may ask.

    What cannot be understood is left out, with a line in the log.

    Complexity: two system calls; a file is read when it has changed.
    """

    def __init__(self, root: str) -> None:
        """Follow the configuration of the project at *root*."""
        self._root = root
        self._known: tuple[object, Mapping[str, View]] = (None, {})

    def __call__(self) -> Mapping[str, View]:
        """Give the views by name."""
        stamp = tuple(_stamp(path) for path in view_files(self._root))
        known, views = self._known
        if known != stamp:
            views = self._read()
            self._known = (stamp, views)
        return views

    def _read(self) -> Mapping[str, View]:
        views = {}
        try:
            for name, named in read_views(self._root).items():
                try:
                    views[name] = read_view(self._root, named)
                except InvalidConfig as error:
                    log.warning("%s", error)
        except InvalidConfig as error:
            log.warning("%s", error)
        return views


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
