"""The command in an empty directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.commands import Run, runner


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command in an empty directory; gives exit code, output and messages."""
    monkeypatch.chdir(tmp_path)
    return runner(capfd)
