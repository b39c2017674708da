"""A migration that a killed process has left half done is completed by the next mount."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from sigfs.model.statepoint import statepoint_id
from tests.support.projects import add_job, make_project
from tests.support.server import Server
from tests.support.wait import wait_until

pytestmark = pytest.mark.fuse


@pytest.mark.parametrize("is_first", [True, False])
def test_it_is_completed(tmp_path: Path, is_first: bool) -> None:
    project = make_project(str(tmp_path / "project"), {"a": 1}, {"a": 2})
    if not is_first:
        before = Server("kernel", project)
        before.start()
        before.stop()
    job = add_job(project, {"a": 3})
    with open(os.path.join(job, "._sigfs_0"), "w", encoding="utf-8") as file:
        json.dump({"a": 4}, file)
    below = os.path.join(os.path.dirname(job), statepoint_id({"a": 4}))
    os.rename(job, below)
    server = Server("kernel", project)
    server.start()
    try:
        wait_until(lambda: os.path.isdir(os.path.join(server.mountpoint, "a", "4")))
        assert os.listdir(below) == ["signac_statepoint.json"]
        assert sorted(os.listdir(os.path.join(server.mountpoint, "a"))) == ["1", "2", "4"]
        server.stop()
    finally:
        server.kill()


def test_a_read_only_mount_leaves_it_alone(tmp_path: Path) -> None:
    project = make_project(str(tmp_path / "project"), {"a": 1}, {"a": 2})
    job = add_job(project, {"a": 3})
    with open(os.path.join(job, "._sigfs_0"), "w", encoding="utf-8") as file:
        json.dump({"a": 4}, file)
    below = os.path.join(os.path.dirname(job), statepoint_id({"a": 4}))
    os.rename(job, below)
    server = Server("kernel", project, "ro")
    server.start()
    try:
        wait_until(lambda: os.path.isdir(os.path.join(server.mountpoint, "a", "3")))
        server.stop()
        assert sorted(os.listdir(below)) == ["._sigfs_0", "signac_statepoint.json"]
    finally:
        server.kill()
