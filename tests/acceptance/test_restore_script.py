"""A published project whose state points are all lost, and nothing but a shell."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from sigfs.api.project import Project
from sigfs.backup.making import Options, back_up
from tests.acceptance.test_real_project import DATA, JOBS
from tests.support.shells import KINDS, Shell

SP = "signac_statepoint.json"


@pytest.mark.parametrize("kind", KINDS)
def test_all_state_points_come_back_without_python(tmp_path: Path, kind: str) -> None:
    if not DATA.is_dir():
        pytest.skip("the published project terminal_group_screening is not beside this repository")
    root = tmp_path / "project"
    shutil.copytree(DATA, root)
    for path in root.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    before = {path: path.read_bytes() for path in (root / "workspace").glob("*/*") if path.is_file()}
    back_up(Project(root), str(tmp_path / "backup"), Options(state_dir=str(tmp_path / "state")))
    lost = list((root / "workspace").glob(f"*/{SP}"))
    assert len(lost) == JOBS
    for path in lost:
        path.unlink()
    shell = Shell(kind, tmp_path)
    shell.run(tmp_path / "backup" / "restore.sh", "workspace", root / "workspace")
    assert {path: path.read_bytes() for path in (root / "workspace").glob("*/*") if path.is_file()} == before
    for path in lost:
        text = json.dumps(json.loads(path.read_bytes()), sort_keys=True)
        assert hashlib.md5(text.encode()).hexdigest() == path.parent.name
