"""A project with a few jobs, and its sidecar."""

from __future__ import annotations

from pathlib import Path

import pytest

from sigfs.api.project import Project, init_project
from sigfs.sidecar import Sidecar


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Make a project with the jobs n = 0 ... 3, of which the last two have documents."""
    made = init_project(tmp_path / "project")
    for n in range(4):
        job = made.open({"n": n})
        if n > 1:
            job.doc.x = n
    return made


@pytest.fixture
def sidecar(project: Project) -> Sidecar:
    return project.sidecar
