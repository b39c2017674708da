"""sigfs: a signac data space as a live parameter tree.

The names here are the package's Python interface; everything else may change between versions.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from sigfs.version import __version__

if TYPE_CHECKING:
    from sigfs.api import Index, Job, Project, Workspace, diff_jobs, get_job, get_project, init_project

__all__ = ["Index", "Job", "Project", "Workspace", "__version__", "diff_jobs", "get_job", "get_project", "init_project"]

_API = frozenset(__all__) - {"__version__"}


def __getattr__(name: str) -> object:
    """Import the Python interface when it is first asked for: the command line gets by with less."""
    if name not in _API:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return globals().setdefault(name, getattr(importlib.import_module("sigfs.api"), name))


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
