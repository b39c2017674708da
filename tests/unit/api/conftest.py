"""A project with a few jobs."""

from __future__ import annotations

from pathlib import Path

import pytest

import sigfs


@pytest.fixture
def project(tmp_path: Path) -> sigfs.Project:
    return sigfs.init_project(tmp_path / "project")


@pytest.fixture
def twelve(project: sigfs.Project) -> sigfs.Project:
    """Give a project of jobs n = 0 ... 11 with nested keys, and a document each second."""
    for n in range(12):
        job = project.open({"n": n, "group": {"third": n % 3}, "even": n % 2 == 0})
        if n % 2:
            Path(job.fn("signac_job_document.json")).write_text(f'{{"result": {n * 10}, "deep": {{"x": {n % 4}}}}}')
    return project
