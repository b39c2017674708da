"""Layouts as programs see them through a mount."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sigfs.api.project import get_project, init_project
from sigfs.model.views import NamedView, write_view
from tests.acceptance.conftest import Mount
from tests.support.wait import wait_until

pytestmark = pytest.mark.fuse


@pytest.fixture
def project(tmp_path: Path) -> str:
    root = str(tmp_path / "project")
    init_project(root)
    for seed in (1, 2):
        for name in ("a", "b/c"):
            get_project(root).workspace.create({"seed": seed, "name": name, "T": seed + 0.25})
    return root


def job_directories(mnt: str) -> set[str]:
    found = set()
    for above, _, files in os.walk(mnt):
        if "signac_statepoint.json" in files:
            found.add(os.path.relpath(above, mnt))
    return found


@pytest.mark.parametrize(
    ("layout", "path"),
    [
        ("hive", "T={T}/name={name}/seed={seed}"),
        ("signac", "T/{T}/name/{name}/seed/{seed}/job"),
        ("s_{seed:03d}/{job.sp.name}", "s_{seed:03d}/{name}"),
        ("{seed}/{{auto:-}}", "{seed}/T-{T}-name-{name}"),
    ],
)
def test_a_walk_through_a_mount_finds_the_paths_of_its_layout(
    project: str, mount: Mount, layout: str, path: str
) -> None:
    mnt = mount(project, f"--layout={layout}")
    expected = {path.format(T=seed + 0.25, seed=seed, name=name) for seed in (1, 2) for name in ("a", "b%2Fc")}
    assert job_directories(mnt) == expected


def test_a_view_over_documents_follows_them(project: str, mount: Mount) -> None:
    mnt = mount(project, "--layout={job.doc.status}/{job.id}")
    assert os.listdir(mnt) == ["@absent"]
    job = min(os.listdir(f"{mnt}/@absent"))
    with open(f"{mnt}/@absent/{job}/signac_job_document.json", "w", encoding="ascii") as file:
        file.write('{"status": "done"}')
    wait_until(lambda: os.path.isdir(f"{mnt}/done/{job}"))
    wait_until(lambda: not os.path.exists(f"{mnt}/@absent/{job}"))


def test_a_named_view_is_shown_and_hangs_in_every_mount(project: str, mount: Mount) -> None:
    write_view(project, NamedView("first", "hive", "seed 1"))
    mnt = mount(project, "--view=first")
    paths = {f"T=1.25/seed=1/name={name}" for name in ("a", "b%2Fc")}
    assert job_directories(mnt) == paths
    assert job_directories(f"{mnt}/.sigfs/views/first") == paths
