"""The data model as Python programs meet it: projects, workspaces and jobs.

Stands on ``index``, ``watch``, ``query`` and ``model``; the mount and the command line stand on it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sigfs.api.difference import diff_jobs
    from sigfs.api.index import Index
    from sigfs.api.job import Job, get_job
    from sigfs.api.project import Project, get_project, init_project
    from sigfs.api.workspace import Workspace

__all__ = ["Index", "Job", "Project", "Workspace", "diff_jobs", "get_job", "get_project", "init_project"]

_MODULES: Final = {
    "Index": "index",
    "Job": "job",
    "Project": "project",
    "Workspace": "workspace",
    "diff_jobs": "difference",
    "get_job": "job",
    "get_project": "project",
    "init_project": "project",
}


def __getattr__(name: str) -> object:
    """Import what is asked for: a command needs only some of it."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return globals().setdefault(name, getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name))
