"""The data model as Python programs meet it: projects, workspaces and jobs.

Stands on ``index``, ``watch``, ``query`` and ``model``; the mount and the command line stand on it.
"""

from sigfs.api.difference import diff_jobs
from sigfs.api.index import Index
from sigfs.api.job import Job, get_job
from sigfs.api.project import Project, get_project, init_project
from sigfs.api.workspace import Workspace

__all__ = ["Index", "Job", "Project", "Workspace", "diff_jobs", "get_job", "get_project", "init_project"]
