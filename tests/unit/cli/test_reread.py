"""What a mount says of its configuration when it is told to reload."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from sigfs.api.project import init_project
from sigfs.cli.mounting import _reread, mount_command
from sigfs.cli.settling import settle


def test_what_is_configured_anew_is_named_and_what_cannot_be_read_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    profile = tmp_path / "config" / "sigfs" / "mounts" / "test.toml"
    profile.parent.mkdir(parents=True)
    project = init_project(str(tmp_path / "project"))
    profile.write_text('layout = "full"\n')
    given = mount_command.make_context("mount", ["-r", "-o", "noexec", "--profile", "test"]).params
    chosen = settle(project, given)
    reread = _reread(project.root, given, dict(chosen))
    with caplog.at_level(logging.INFO, "sigfs"):
        reread()
        assert not caplog.records
        profile.write_text('layout = "hive"\nentry_timeout = 5\n')
        reread()
        assert "in force when it is mounted again: entry_timeout_s, layout" in caplog.text
        caplog.clear()
        profile.write_text("layout = \n")
        reread()
        assert "test.toml" in caplog.text
        assert "stays as it is" in caplog.text
