"""How Sphinx makes the documentation: ``sphinx-build -W --keep-going docs build/docs``."""

from __future__ import annotations

import os
import sys
import tomllib
from typing import Final

from sphinx.application import Sphinx
from sphinx.ext.napoleon import Config, GoogleDocstring

ROOT: Final = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

with open(os.path.join(ROOT, "pyproject.toml"), "rb") as file:
    release = version = tomllib.load(file)["project"]["version"]

project = "sigfs"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
default_role = "code"
myst_heading_anchors = 3  # links as [text](page.md#heading), which code hosts understand, too

autodoc_typehints = "signature"
autodoc_type_aliases = {"Expr": "Expr"}
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = f"sigfs {release}"
html_copy_source = False
html_show_copyright = False

_SECTIONS: Final = Config(napoleon_custom_sections=["Complexity", "Source"])


def _read_sections(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Make fields of ``Args:`` and the like.

    The extension napoleon does the same, but takes the words of a property's docstring before a colon for its type.
    """
    what = "method" if what == "property" else what
    lines[:] = GoogleDocstring(lines, _SECTIONS, app, what, name, obj, options).lines()


def setup(app: Sphinx) -> None:
    """Register what is said above."""
    app.connect("autodoc-process-docstring", _read_sections)
