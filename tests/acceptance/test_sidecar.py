"""The sidecar on a copy of a published project, and beside a mount that is killed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from sigfs.api.project import Project, init_project
from sigfs.sidecar.updating import disagreements, update
from tests.acceptance.test_real_project import JOBS, project  # noqa: F401 - a fixture
from tests.support.outcome import has_failed
from tests.support.server import Server
from tests.support.wait import wait_until

DOCUMENT, STATEPOINT = "signac_job_document.json", "signac_statepoint.json"


def meanings(root: str, name: str) -> dict[str, object]:
    """What the files of this name say, by the directory of the job."""
    return {path.parent.name: json.loads(path.read_bytes()) for path in Path(root, "workspace").glob(f"*/{name}")}


def test_all_state_points_of_a_project_come_back(project: str) -> None:  # noqa: F811
    opened = Project(project)
    opened.update_cache()
    assert len(update(opened.sidecar).added) == JOBS
    before, documents = meanings(project, STATEPOINT), meanings(project, DOCUMENT)
    assert len(before) == JOBS
    for path in Path(project, "workspace").glob(f"*/{STATEPOINT}"):
        path.unlink()
    shutil.rmtree(Path(project, ".sigfs", "index"))
    for cache in (*Path(project).glob(".signac_sp_cache*"), *Path(project, ".signac").glob("statepoint_cache*")):
        cache.unlink()
    done = Project(project).repair()
    assert {each.message for each in done} == {"from the sidecar"}
    assert (meanings(project, STATEPOINT), meanings(project, DOCUMENT)) == (before, documents)
    Project(project).check()
    assert list(disagreements(opened.sidecar, opened.sidecar.file.read().jobs)) == []


def test_with_nothing_left_but_the_jobs_it_is_made_anew(project: str) -> None:  # noqa: F811
    opened = Project(project)
    update(opened.sidecar)
    before = opened.sidecar.file.read().jobs
    shutil.rmtree(Path(project, ".sigfs"))
    update(opened.sidecar)
    assert opened.sidecar.file.read().jobs == before
    assert len(before) == JOBS


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
def test_the_recipe_of_the_documentation_restores_state_points(project: str) -> None:  # noqa: F811
    opened = Project(project)
    update(opened.sidecar)
    before = meanings(project, STATEPOINT)
    removed = sorted(before)[::2]
    for name in removed:
        os.unlink(os.path.join(project, "workspace", name, STATEPOINT))
    page = Path(__file__).resolve().parents[2] / "docs" / "sidecar.md"
    recipes = [block.partition("```")[0] for block in page.read_text(encoding="utf-8").split("```sh\n")[1:]]
    for recipe in recipes:
        subprocess.run(["sh", "-eu", "-c", recipe], cwd=project, check=True, timeout=120)
    assert meanings(project, STATEPOINT) == before
    opened.check()


@pytest.mark.fuse
def test_it_follows_a_mount_and_what_a_killed_one_has_missed(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    made = init_project(tmp_path / "project")
    for n in range(3):
        made.open({"n": n, "m": 0})
    sidecar = made.sidecar

    def said() -> dict[str, object]:
        if not sidecar.file.exists:
            return {}
        return {
            json.dumps(record["sp"], sort_keys=True): record.get("doc") for record in sidecar.file.read().jobs.values()
        }

    def follows() -> bool:
        return sidecar.file.exists and not list(disagreements(sidecar, sidecar.file.read().jobs))

    servers = [Server("kernel", made.root)]
    try:
        servers[0].start()
        mnt = Path(servers[0].mountpoint)
        wait_until(lambda: len(said()) == 3)
        os.mkdir(mnt / "n" / "7")
        os.rename(mnt / "n" / "1", mnt / "n" / "8")
        os.rmdir(mnt / "n" / "2")
        (mnt / "n" / "0" / DOCUMENT).write_text('{"by": "mount"}')
        (mnt / "n" / "7" / "new").write_text('{"by": "editor"}')
        os.rename(mnt / "n" / "7" / "new", mnt / "n" / "7" / DOCUMENT)
        wait_until(
            lambda: (
                said()
                == {'{"m": 0, "n": 0}': {"by": "mount"}, '{"m": 0, "n": 7}': {"by": "editor"}, '{"m": 0, "n": 8}': None}
            )
        )
        assert follows()
        servers[0].kill()
        made.workspace.on_change = None  # as another program, which tells nobody
        made.open({"n": 9, "m": 0})
        shutil.rmtree(os.path.join(made.workspace.path, made.workspace.statepoint_id({"n": 8, "m": 0})))
        assert not follows()
        servers.append(Server("kernel", made.root))
        servers[1].start()
        wait_until(follows)
        assert len(said()) == 3
    finally:
        for server in servers[1:]:
            server.kill() if has_failed(request.node) else server.stop()
        servers[0].kill()
