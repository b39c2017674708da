"""``restore.sh`` under the smallest shells, on projects that are made to trouble it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from sigfs.api.project import Project
from sigfs.backup.making import Options, back_up
from tests.support.projects import add_job, job_id, make_project
from tests.support.shells import KINDS, Shell

SP, DOC = "signac_statepoint.json", "signac_job_document.json"
STATEPOINTS: list[dict[str, object]] = [
    {"a": a, "it's": '$HOME `ls` \\ " * ? [x] \n -n', "-n": {"é": b}} for a in (1, 2) for b in (True, "x" * 300)
]
EVERY_BYTE = b'{"x": 1}' + bytes(range(256)) * 40
AWKWARD = os.fsdecode(b"-n it's\n$x \xfc*")


@pytest.fixture(params=KINDS)
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Shell:
    return Shell(request.param, tmp_path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = Path(make_project(str(tmp_path / "it's a $project"), *STATEPOINTS))
    first, second, third, _ = sorted((root / "workspace").iterdir())
    (first / DOC).write_bytes(EVERY_BYTE)
    (second / DOC).write_bytes(b"")
    (third / DOC).write_bytes(b'{"percent": "%s %d", "slash": "\\\\n"}\n\n')
    (first / AWKWARD).write_bytes(b"data")
    (root / ".sigfs").mkdir()
    (root / ".sigfs/config").write_text("[views]\n")
    (root / "signac_project_document.json").write_bytes(b'{"it\'s": "\xc3\xa4"}')
    back_up(Project(root), str(tmp_path / "backup"), Options())
    return root


@pytest.fixture
def script(tmp_path: Path) -> Path:
    return tmp_path / "backup" / "restore.sh"


def contents(directory: Path) -> dict[str, bytes]:
    return {
        os.path.relpath(os.path.join(above, name), directory): Path(above, name).read_bytes()
        for above, _, names in os.walk(directory)
        for name in names
    }


def metadata(workspace: Path) -> list[Path]:
    return sorted(path for name in (SP, DOC) for path in workspace.glob(f"*/{name}"))


def test_metadata_that_are_lost_are_put_back_byte_for_byte(shell: Shell, root: Path, script: Path) -> None:
    workspace = root / "workspace"
    before = contents(workspace)
    lost = metadata(workspace)
    assert len(lost) == 7
    for path in lost:
        path.unlink()
    dry = shell.run(script, "-n", "workspace", workspace).stdout
    assert metadata(workspace) == []
    assert all(f"+ {path}\n" in dry for path in lost)
    assert "7 files put back" in shell.run(script, "workspace", workspace).stdout
    assert contents(workspace) == before
    assert (
        "0 files put back, 7 there already" in shell.run("restore.sh", "workspace", workspace, cwd=script.parent).stdout
    )
    shell.run(script, "verify", workspace)


def test_a_workspace_is_made_from_copies_by_id_or_as_in_the_view(
    shell: Shell, root: Path, script: Path, tmp_path: Path
) -> None:
    workspace = root / "workspace"
    before = contents(workspace)
    view = tmp_path / AWKWARD
    shell.run(script, "copies", view, workspace)
    for path in [path for path in view.rglob("*") if path.name in (SP, DOC)]:
        path.unlink()
    again = shell.run(script, "copies", view, workspace).stdout
    assert "0 copied, 7 files put back" in again
    assert "4 copied" in shell.run(script, "workspace", view, tmp_path / "from view").stdout
    assert contents(tmp_path / "from view") == before
    shutil.rmtree(next(workspace.iterdir()))
    shell.run(script, "project", root, tmp_path / "from project")
    made = contents(tmp_path / "from project" / "workspace")
    assert made == {path: data for path, data in before.items() if path in made}
    assert {path for path in before if path.endswith((SP, DOC))} <= made.keys()
    for name in (".signac/config", ".sigfs/config", "signac_project_document.json"):
        assert (tmp_path / "from project" / name).read_bytes() == (root / name).read_bytes()


def test_links_are_those_of_an_export_and_stay_when_made_again(
    shell: Shell, root: Path, script: Path, tmp_path: Path
) -> None:
    view = tmp_path / "view"
    assert "4 links made" in shell.run(script, "links", view).stdout
    links = [path for path in view.rglob("*") if path.is_symlink()]
    assert {path.resolve().name for path in links} == {job_id(statepoint) for statepoint in STATEPOINTS}
    assert not any(os.path.isabs(os.readlink(path)) for path in links)
    assert "0 links made, 4 there already" in shell.run(script, "links", view).stdout


def test_nothing_that_differs_is_overwritten(shell: Shell, root: Path, script: Path, tmp_path: Path) -> None:
    workspace = root / "workspace"
    first, second, third, fourth = sorted(workspace.iterdir())
    (first / DOC).write_text("mine")
    (second / SP).write_bytes((second / SP).read_bytes()[:7])  # a beginning: nothing can be lost
    shutil.rmtree(third)
    third.symlink_to(first)
    fourth.joinpath(SP).unlink()
    fourth.joinpath(SP).symlink_to(first / SP)
    done = shell.run(script, "workspace", workspace, code=1)
    assert f"{first / DOC}: differs, and stays" in done.stderr
    assert f"{third}: is a symbolic link, and stays" in done.stderr
    assert f"{fourth / SP}: is a symbolic link, and stays" in done.stderr
    assert "3 not as they were" in done.stdout
    assert (first / DOC).read_text() == "mine"
    assert (second / SP).read_bytes().endswith(b"}")
    assert f"{first / DOC}: is not as it was" in shell.run(script, "verify", workspace, code=1).stderr
    copies = shell.run(script, "copies", tmp_path / "view", workspace, code=1)
    assert f"{DOC}: differs, and stays" in copies.stderr
    shell.run(script, "--aside", "workspace", workspace, code=1)
    assert (first / DOC).read_bytes() == EVERY_BYTE
    assert (first / f"{DOC}.1~").read_text() == "mine"


def test_a_view_does_not_follow_links_or_replace_anything(
    shell: Shell, root: Path, script: Path, tmp_path: Path
) -> None:
    view, elsewhere = tmp_path / "view", tmp_path / "elsewhere"
    view.mkdir()
    elsewhere.mkdir()
    (view / "-n.é").symlink_to(elsewhere)
    done = shell.run(script, "links", view, code=1)
    assert "leads through a symbolic link" in done.stderr
    assert list(elsewhere.iterdir()) == []
    shell.run(script, "copies", root / "workspace" / "view", code=2)


def test_it_can_be_asked_for_help_and_says_what_it_does_not_understand(
    shell: Shell, root: Path, script: Path, tmp_path: Path
) -> None:
    assert "usage: sh restore.sh" in shell.run(script, "-h").stdout
    for words in ([], ["-x"], ["away"], ["workspace"], ["workspace", ""], ["links", "a", "b", "c"]):
        assert "see sh restore.sh -h" in shell.run(script, *words, code=2).stderr
    assert len(shell.run(script, "list").stdout.splitlines()) == 4
    short = tmp_path / "short.sh"
    short.write_bytes(script.read_bytes()[:-200])
    assert shell.run(short, "-h", code=2).stderr


def test_jobs_outside_of_the_workspace_come_back_where_they_were(shell: Shell, root: Path, tmp_path: Path) -> None:
    project = Project(root)
    (root / "data").mkdir()
    (tmp_path / "outside").mkdir()
    for place in (root / "data" / AWKWARD, tmp_path / "outside" / "job"):
        shutil.move(add_job(str(root), {"d": str(place.parent.name)}), place)
    project.add_index("data")
    project.add_index(str(tmp_path / "outside"))
    backup = tmp_path / "backup of all"
    back_up(Project(root), str(backup), Options())
    (tmp_path / "outside/job" / SP).unlink()
    before = (root / "data" / AWKWARD / SP).read_bytes()
    shutil.rmtree(root / "data")
    done = shell.run(backup / "restore.sh", "project", root)
    assert "6 jobs: 0 copied, 1 made without data, 2 files put back" in done.stdout
    assert (root / "data" / AWKWARD / SP).read_bytes() == before
    assert (tmp_path / "outside/job" / SP).exists()
    assert "6 links made" in shell.run(backup / "restore.sh", "links", tmp_path / "view").stdout
    assert sum((path / SP).exists() for path in (tmp_path / "view").rglob("*") if path.is_symlink()) == 6


def test_removed_jobs_come_back_when_they_are_asked_for(shell: Shell, root: Path, script: Path, tmp_path: Path) -> None:
    gone = root / "workspace" / job_id(STATEPOINTS[0])
    before = (gone / SP).read_bytes()
    shutil.rmtree(gone)
    report = back_up(Project(root), str(script.parent), Options(incremental=True))
    assert report.removed == [gone.name]
    shell.run(script, "workspace", root / "workspace")
    assert not gone.exists()
    shell.run(script, "--removed", "workspace", root / "workspace")
    assert (gone / SP).read_bytes() == before
