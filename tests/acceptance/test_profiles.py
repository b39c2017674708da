"""A mount as its profile and the project say."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from sigfs.transports.mounts import mounted
from tests.support.commands import real_command
from tests.support.projects import add_job, make_project
from tests.support.server import require

pytestmark = pytest.mark.fuse


def test_a_profile_mounts_what_it_says_where_it_says_and_how(tmp_path: Path) -> None:
    require("kernel")
    project, mnt = make_project(str(tmp_path / "p")), tmp_path / "mnt"
    for number in range(3):
        add_job(project, {"a": number, "constant": 1})
    mnt.mkdir()
    environment = {
        **os.environ, "XDG_CONFIG_HOME": str(tmp_path / "config"), "XDG_RUNTIME_DIR": str(tmp_path),
        "XDG_STATE_HOME": str(tmp_path),
    }  # fmt: skip

    def sigfs(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            real_command(*arguments), cwd=tmp_path, capture_output=True, text=True, env=environment, check=True
        )

    profile = tmp_path / "config" / "sigfs" / "mounts" / "three.toml"
    profile.parent.mkdir(parents=True)
    profile.write_text(f"# mine\nproject = '{project}'\nmountpoint = '{mnt}'\nread_only = true\noptions = ['noexec']\n")
    sigfs("config", "set", "layout", "full", "-p", project)
    sigfs("config", "set", "filter", "a@gt 0", "-p", project)
    sigfs("config", "set", "state_dir", str(tmp_path / "state"), "--profile", "three")
    try:
        sigfs("mount", "--profile", "three")
        assert os.listdir(mnt) == ["constant"]
        assert sorted(os.listdir(mnt / "constant" / "1" / "a")) == ["1", "2"]
        mount = mounted(str(mnt))
        assert mount is not None
        assert {"ro", "noexec"} <= set(mount.options)
        assert os.listdir(tmp_path / "state") == ["index"]
    finally:
        sigfs("umount", str(mnt))
