"""Projects on disk, made without the package that is tested."""

from __future__ import annotations

import json
import os
from hashlib import md5


def job_id(statepoint: dict[str, object]) -> str:
    """Compute the id as signac does."""
    return md5(json.dumps(statepoint, sort_keys=True).encode()).hexdigest()


def add_job(project: str, statepoint: dict[str, object]) -> str:
    """Make a job as signac does and give the path of its directory."""
    path = os.path.join(project, "workspace", job_id(statepoint))
    os.makedirs(path, exist_ok=True)
    with open(os.path.join(path, "signac_statepoint.json"), "w", encoding="utf-8") as file:
        json.dump(statepoint, file)
    return path


def make_project(path: str, *statepoints: dict[str, object]) -> str:
    """Make a project as signac 2 does, with one job for each state point, and give its path."""
    os.makedirs(os.path.join(path, ".signac"))
    with open(os.path.join(path, ".signac", "config"), "w", encoding="utf-8") as file:
        file.write("schema_version = 2\n")
    os.makedirs(os.path.join(path, "workspace"))
    for statepoint in statepoints:
        add_job(path, statepoint)
    return path
