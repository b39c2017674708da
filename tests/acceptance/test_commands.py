"""The commands used as one does who works within a mount, in several projects, or where nothing may be written."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.conftest import Mount
from tests.support.commands import real_command
from tests.support.projects import add_job, make_project
from tests.support.wait import wait_until

pytestmark = pytest.mark.fuse


def sigfs(directory: str, *arguments: str) -> str:
    """Run the command in a directory; gives the output."""
    done = subprocess.run(real_command(*arguments), cwd=directory, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_who_works_in_a_mount_says_dot_or_asks_the_project_that_is_mounted(tmp_path: Path, mount: Mount) -> None:
    project = make_project(str(tmp_path / "p"))
    jobs = [add_job(project, {"a": number, "b": number % 2}) for number in range(4)]
    mnt = mount(project)
    here = f"{mnt}/b/1/a/3"
    assert sigfs(here, "sp", ".") == "a=3\nb=1\n"
    assert sorted(sigfs(here, "find").split()) == sorted(map(os.path.basename, jobs))
    sigfs(here, "doc", ".", "set", "status", "done")
    assert json.loads(Path(jobs[3], "signac_job_document.json").read_text()) == {"status": "done"}
    (tmp_path / "file").write_text("text")
    sigfs(here, "put", ".", str(tmp_path / "file"))
    assert Path(jobs[3], "file").read_text() == "text"
    assert sigfs(mnt, "get", "./b/1/a/3", "file", "-") == "text"
    assert sigfs(mnt, "open", "a", "3", "--", "cat", "file") == "text"
    assert sigfs(mnt, "schema", "--json") == sigfs(project, "schema", "--json")


def test_what_commands_change_is_seen_in_a_mount(tmp_path: Path, mount: Mount) -> None:
    project = make_project(str(tmp_path / "p"))
    for number in range(4):
        add_job(project, {"a": number, "b": number % 2})
    mnt = mount(project)
    sigfs(mnt, "migrate", "a", "3", "a=30")
    wait_until(lambda: os.path.isdir(f"{mnt}/b/1/a/30") and not os.path.exists(f"{mnt}/b/1/a/3"))
    sigfs(mnt, "rm", "a", "30", "--yes")
    wait_until(lambda: not os.path.exists(f"{mnt}/b/1/a/30"))
    assert len(sigfs(mnt, "find").split()) == 3
