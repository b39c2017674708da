"""A view as links: what is made, brought up to date and left alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sigfs.api.project import Project
from sigfs.errors import ExportError
from sigfs.export import exporting
from sigfs.export.exporting import Options, export
from sigfs.export.report import Report
from sigfs.query import parse_text
from sigfs.tree import Tree
from tests.support.projects import add_job, job_id, make_project
from tests.support.trees import table_of, walk

HOMOGENEOUS = [{"a": a, "b": b} for a in (1, 2) for b in (1, 2)]


@pytest.fixture
def root(tmp_path: Path) -> str:
    return make_project(str(tmp_path / "project"), *HOMOGENEOUS)


@pytest.fixture
def target(tmp_path: Path) -> str:
    return str(tmp_path / "view")


def run(root: str, target: str, **options: object) -> Report:
    return export(Project(root), target, Options(**options))  # type: ignore[arg-type]


def links(target: str) -> dict[str, str]:
    """Path -> the id of the job that the link leads to, by what the disk says."""
    found = {}
    for above, directories, files in os.walk(target):
        for name in [*directories, *files]:
            path = os.path.join(above, name)
            if os.path.islink(path):
                assert not os.path.isabs(os.readlink(path))
                found[os.path.relpath(path, target)] = os.path.basename(os.path.realpath(path, strict=True))
    return found


def all_names(target: str) -> set[str]:
    return {
        os.path.relpath(os.path.join(above, name), target)
        for above, directories, files in os.walk(target)
        for name in [*directories, *files]
        if ".sigfs" not in os.path.join(above, name)
    }


def test_links_stand_where_the_mount_would_show_the_jobs(root: str, target: str) -> None:
    report = run(root, target)
    assert links(target) == {f"a/{sp['a']}/b/{sp['b']}": job_id(sp) for sp in HOMOGENEOUS}
    assert (len(report.added), report.unchanged, report.in_the_way) == (4, 0, [])


@pytest.mark.parametrize("layout", ["auto", "full", "hive", "signac", "x_{a}/{{auto}}", "{job.id}"])
def test_every_layout_is_exported_as_its_tree_is_walked(root: str, target: str, layout: str) -> None:
    run(root, target, layout=layout)
    assert links(target) == {"/".join(path): job for path, job in walk(Tree(layout), table_of(*HOMOGENEOUS))}


def test_only_jobs_that_the_filter_holds_for_are_exported(root: str, target: str) -> None:
    run(root, target, filter=parse_text("a 2"))
    assert links(target) == {"b/1": job_id({"a": 2, "b": 1}), "b/2": job_id({"a": 2, "b": 2})}


def test_an_unchanged_export_reads_no_link_and_no_job(root: str, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sigfs.model.files.RACY_S", -3600.0)  # as if all this had been done long ago
    run(root, target)
    monkeypatch.setattr(exporting, "planned", None)
    monkeypatch.setattr(exporting.links, "compare", None)
    report = run(root, target)
    assert (report.added, report.changed, report.removed, report.unchanged) == ([], [], [], 4)


def test_links_are_added_removed_and_retargeted_and_empty_directories_go(root: str, target: str) -> None:
    run(root, target)
    shutil.rmtree(os.path.join(root, "workspace", job_id({"a": 1, "b": 1})))
    shutil.rmtree(os.path.join(root, "workspace", job_id({"a": 1, "b": 2})))
    new = [{"a": 3, "b": 1}, {"a": 2, "b": 3}]
    for statepoint in new:
        add_job(root, statepoint)
    report = run(root, target)
    rest = [*HOMOGENEOUS[2:], *new]
    assert (len(report.added), len(report.removed), report.unchanged) == (2, 2, 2)
    assert links(target) == {f"a/{sp['a']}/b/{sp['b']}": job_id(sp) for sp in rest}
    assert not os.path.lexists(os.path.join(target, "a/1"))


def test_a_link_is_retargeted_when_another_job_is_at_its_path(root: str, target: str) -> None:
    run(root, target, layout="{a}/{b}")
    old, new = {"a": 1, "b": 1}, {"a": 1, "b": 1, "c": 0}
    shutil.rmtree(os.path.join(root, "workspace", job_id(old)))
    add_job(root, new)
    report = run(root, target, layout="{a}/{b}")
    assert report.changed == ["1/1"]
    assert links(target)["1/1"] == job_id(new)


def test_another_layout_in_the_same_target_replaces_the_first(root: str, target: str) -> None:
    run(root, target)
    run(root, target, layout="hive")
    assert links(target) == {f"a={sp['a']}/b={sp['b']}": job_id(sp) for sp in HOMOGENEOUS}
    assert not os.path.lexists(os.path.join(target, "a"))


def test_a_link_becomes_a_directory_and_back(tmp_path: Path, target: str) -> None:
    root = make_project(str(tmp_path / "project"), {"a": 1}, {"a": 2})
    run(root, target)
    path = add_job(root, {"a": 1, "b": 1})
    run(root, target, layout="auto")
    assert len(links(target)) == 3
    shutil.rmtree(path)
    run(root, target)
    assert links(target) == {"a/1": job_id({"a": 1}), "a/2": job_id({"a": 2})}
    run(root, target, layout="a/{a}/x")
    assert links(target) == {"a/1/x": job_id({"a": 1}), "a/2/x": job_id({"a": 2})}
    run(root, target)
    assert links(target) == {"a/1": job_id({"a": 1}), "a/2": job_id({"a": 2})}


def test_a_removed_link_is_made_again(root: str, target: str) -> None:
    run(root, target)
    os.unlink(os.path.join(target, "a/1/b/1"))
    assert run(root, target).added == ["a/1/b/1"]
    assert len(links(target)) == 4


def test_what_is_not_of_an_export_stays_and_is_told(root: str, target: str) -> None:
    foreign = os.path.join(target, "a/1/b")
    os.makedirs(foreign)
    Path(foreign, "1").write_text("mine")
    Path(foreign, "note").write_text("mine, too")
    os.symlink(os.path.join(root, "workspace", job_id(HOMOGENEOUS[3])), os.path.join(foreign, "best"))
    Path(target, "a/2").write_text("no directory")
    report = run(root, target)
    assert sorted(report.in_the_way) == ["a/1/b/1", "a/2/b/1", "a/2/b/2"]
    assert Path(foreign, "1").read_text() == "mine"
    assert run(root, target).in_the_way, "also when nothing has changed since"
    shutil.rmtree(os.path.join(root, "workspace"))
    os.mkdir(os.path.join(root, "workspace"))
    run(root, target)
    assert all_names(target) == {"a", "a/1", "a/1/b", "a/1/b/1", "a/1/b/note", "a/1/b/best", "a/2"}


def test_a_link_that_somebody_has_replaced_is_theirs(root: str, target: str) -> None:
    run(root, target)
    path = os.path.join(target, "a/1/b/1")
    os.unlink(path)
    os.symlink("/dev/null", path)
    assert run(root, target).in_the_way == ["a/1/b/1"]
    run(root, target, layout="hive")
    assert os.readlink(path) == "/dev/null"


def test_symbolic_links_on_the_way_are_not_followed(root: str, target: str, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    os.mkdir(target)
    os.symlink(outside, os.path.join(target, "a"))
    assert len(run(root, target).in_the_way) == 4
    assert os.listdir(outside) == []
    os.unlink(os.path.join(target, "a"))
    run(root, target)
    os.rename(os.path.join(target, "a"), outside / "a")
    os.symlink(outside / "a", os.path.join(target, "a"))
    run(root, target, layout="hive")
    assert all(os.path.islink(outside / "a" / str(sp["a"]) / "b" / str(sp["b"])) for sp in HOMOGENEOUS)


def test_a_target_that_has_been_a_link_of_ours_is_not_followed_into_the_job(tmp_path: Path, target: str) -> None:
    root = make_project(str(tmp_path / "project"), {"a": 1}, {"a": 2})
    run(root, target)
    report = run(root, target, layout="a/{a}/below/{a}")
    assert report.in_the_way == []
    assert os.listdir(os.path.join(root, "workspace", job_id({"a": 1}))) == ["signac_statepoint.json"]


def test_a_dry_run_says_what_would_be_done_and_changes_nothing(root: str, target: str) -> None:
    report = run(root, target, dry_run=True)
    assert len(report.added) == 4
    assert not os.path.exists(target)
    assert not os.path.exists(os.path.join(root, ".sigfs"))
    run(root, target)
    before = all_names(target)
    shutil.rmtree(os.path.join(root, "workspace", job_id({"a": 1, "b": 1})))
    add_job(root, {"a": 2, "b": 3})
    report = run(root, target, dry_run=True)
    assert (report.added, report.removed) == (["a/2/b/3"], ["a/1/b/1"])
    assert all_names(target) == before


def test_a_target_in_the_workspace_around_it_or_of_another_kind_is_refused(root: str, tmp_path: Path) -> None:
    for path, why in (
        (os.path.join(root, "workspace", "view"), "inside the workspace"),
        (os.path.join(root, "workspace", job_id(HOMOGENEOUS[0])), "inside the workspace"),
        (root, "has the workspace"),
        (os.path.join(root, ".sigfs", "view"), "inside .sigfs"),
        ("", "empty path"),
    ):
        with pytest.raises(ExportError, match=why):
            run(root, path)
    (tmp_path / "file").write_text("x")
    for path in ("file", "file/below"):
        with pytest.raises(ExportError, match="no directory"):
            run(root, str(tmp_path / path))


def test_a_target_through_a_symbolic_link_into_the_workspace_is_refused(root: str, tmp_path: Path) -> None:
    os.symlink(os.path.join(root, "workspace"), tmp_path / "link")
    with pytest.raises(ExportError, match="inside the workspace"):
        run(root, str(tmp_path / "link" / "view"))


def test_the_target_of_another_project_is_refused(root: str, target: str, tmp_path: Path) -> None:
    run(root, target)
    other = make_project(str(tmp_path / "other"), {"z": 1})
    with pytest.raises(ExportError, match="exported from"):
        run(other, target)


def test_links_are_right_after_the_project_has_been_moved(root: str, target: str, tmp_path: Path) -> None:
    run(root, target)
    os.mkdir(tmp_path / "deeper")
    os.rename(root, tmp_path / "deeper" / "project")
    report = run(str(tmp_path / "deeper" / "project"), target)
    assert (len(report.changed), report.in_the_way) == (4, [])
    assert len(links(target)) == 4


def test_a_damaged_manifest_is_told_and_right_links_are_taken_over_without_it(root: str, target: str) -> None:
    run(root, target)
    file = Path(target, ".sigfs", "export.json")
    text = file.read_text()
    for bad in (text[: len(text) // 2], "[]", "{}", text.replace("a/1/b/1", "../../x")):
        file.write_text(bad)
        with pytest.raises(ExportError, match="damaged"):
            run(root, target)
    file.unlink()
    assert run(root, target).unchanged == 4


def test_a_project_without_a_workspace_gives_an_empty_target(tmp_path: Path, target: str) -> None:
    root = make_project(str(tmp_path / "project"))
    os.rmdir(os.path.join(root, "workspace"))
    assert run(root, target).added == []
    assert all_names(target) == set()


def test_hostile_values_become_names_and_lead_nowhere_else(tmp_path: Path, target: str) -> None:
    statepoints = [
        {"a": value} for value in ("..", ".", "/etc/passwd", "", "x\ny", "\ud800", "-rf", ".sigfs", "x" * 999)
    ]
    root = make_project(str(tmp_path / "project"), *statepoints)
    for layout in ("auto", "hive", "signac"):
        run(root, target, layout=layout)
        assert sorted(links(target).values()) == sorted(map(job_id, statepoints))
    assert set(os.listdir(tmp_path)) == {"project", "view"}


def test_a_view_that_follows_documents_is_never_taken_for_unchanged(
    root: str, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sigfs.model.files.RACY_S", -3600.0)
    document = Path(root, "workspace", job_id(HOMOGENEOUS[0]), "signac_job_document.json")
    document.write_text('{"done": true}')
    run(root, target, filter=parse_text("doc.done true"))
    assert len(links(target)) == 1
    document.write_text('{"done": false, "more": 1}')
    run(root, target, filter=parse_text("doc.done true"))
    assert links(target) == {}


def test_jobs_outside_of_the_workspace_are_linked_to_where_they_are(root: str, target: str) -> None:
    os.rename(os.path.join(root, "workspace"), os.path.join(root, "data"))
    Project(root).add_index("data")
    Path(root, "data", "mine").mkdir()
    Path(root, "data", "mine", "signac_statepoint.json").write_text('{"a": 1, "b": 3}')
    run(root, target)
    assert links(target)["a/1/b/3"] == "mine"
    assert len(links(target)) == 5
    Path(root, "data", "mine", "signac_statepoint.json").write_text('{"a": 2, "b": 4}')
    report = run(root, target)
    assert (report.added, report.removed) == (["a/2/b/4"], ["a/1/b/3"])


def test_exports_into_one_target_at_once_wait_for_each_other(root: str, target: str) -> None:
    command = [sys.executable, "-m", "sigfs", "export", "-p", root, target, "--layout"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    layouts = ("auto", "hive", "{job.id}", "auto")
    started = [subprocess.Popen([*command, layout], env=environment, stdout=subprocess.DEVNULL) for layout in layouts]
    assert [process.wait() for process in started] == [0, 0, 0, 0]
    run(root, target)
    assert links(target) == {f"a/{sp['a']}/b/{sp['b']}": job_id(sp) for sp in HOMOGENEOUS}
    assert all_names(target) == {"a", *(f"a/{a}" for a in (1, 2)), *(f"a/{a}/b" for a in (1, 2)), *links(target)}


def test_a_target_in_a_mount_is_refused(root: str, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sigfs.export.target.mount_of", str)
    with pytest.raises(ExportError, match="in a mount of sigfs"):
        run(root, target)
    assert not os.path.exists(target)
