"""sigfs: a signac data space as a live parameter tree.

The names here are the package's Python interface; everything else may change between versions.
"""

from sigfs.model.job import Job
from sigfs.model.project import Project, get_project, init_project

__version__ = "0.1.0"
__all__ = ["Job", "Project", "__version__", "get_project", "init_project"]
