"""What signac exports is imported here, and what is exported here signac imports."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import signac

from sigfs.api.project import Project
from sigfs.export.exporting import Options, export, export_archive
from sigfs.export.importing import ImportOptions, import_jobs
from tests.support.projects import make_project

SCREENING = Path(__file__).parents[3] / "shared" / "data" / "terminal_group_screening"
STATEPOINTS = [{"a": a, "b": {"c": b}} for a in (1, 2.5, "x") for b in (None, "y z")]


@pytest.fixture
def theirs(tmp_path: Path) -> signac.Project:
    project = signac.init_project(tmp_path / "theirs")
    for statepoint in STATEPOINTS:
        job = project.open_job(statepoint).init()
        job.doc.done = True
        os.makedirs(job.fn("deep"))
        Path(job.fn("deep/data")).write_text(repr(statepoint))
    return project


def data(workspace: str) -> dict[str, bytes]:
    return {
        str(path.relative_to(workspace)): path.read_bytes() for path in Path(workspace).rglob("*") if path.is_file()
    }


@pytest.mark.parametrize("target", ["tree", "t.zip", "t.tar", "t.tar.gz", "t.tar.xz"])
def test_what_signac_exports_is_imported(theirs: signac.Project, tmp_path: Path, target: str) -> None:
    theirs.export_to(str(tmp_path / target))
    new = Project(make_project(str(tmp_path / "new")))
    report = import_jobs(new, str(tmp_path / target), ImportOptions())
    assert (len(report.imported), report.failed, report.left) == (len(STATEPOINTS), {}, [])
    assert data(new.workspace.path) == data(theirs.workspace)


@pytest.mark.parametrize("target", ["tree", "t.zip", "t.tar", "t.tar.gz"])
@pytest.mark.parametrize("layout", ["auto", "signac"])
def test_what_is_exported_signac_imports(theirs: signac.Project, tmp_path: Path, target: str, layout: str) -> None:
    options = Options(layout, method="copy")  # type: ignore[arg-type]
    if target == "tree":
        export(Project(theirs.path), str(tmp_path / target), options)
    else:
        export_archive(Project(theirs.path), str(tmp_path / target), target.removeprefix("t."), options)  # type: ignore[arg-type]
    new = signac.init_project(tmp_path / "new")
    assert len(new.import_from(str(tmp_path / target))) == len(STATEPOINTS)
    assert data(new.workspace) == data(theirs.workspace)


@pytest.mark.parametrize(
    ("schema", "paths"),
    [
        ("foo/{foo:int}/bar_{bar:bool}", ["foo/1/bar_true", "foo/-2/bar_0", "foo/x/bar_1"]),
        ("{a}{b:int}_{c.d:float}", ["x12_.5", "y_3_4"]),
        ("v1.0/{a}.{b}", ["v1.0/x.y", "v1x0/x.y"]),
    ],
)
def test_schemas_mean_what_they_mean_to_signac(tmp_path: Path, schema: str, paths: list[str]) -> None:
    for path in paths:
        (tmp_path / "runs" / path).mkdir(parents=True)
    theirs = signac.init_project(tmp_path / "theirs")
    theirs.import_from(str(tmp_path / "runs"), schema)
    ours = Project(make_project(str(tmp_path / "ours")))
    ours.import_from(tmp_path / "runs", schema)
    assert {job.id for job in ours} == {job.id for job in theirs}


def test_a_published_project_comes_back_whole(tmp_path: Path) -> None:
    if not SCREENING.is_dir():
        pytest.skip("the published project terminal_group_screening is not beside this repository")
    shutil.copytree(SCREENING, tmp_path / "old")
    old = Project(tmp_path / "old")
    new = Project(make_project(str(tmp_path / "new")))
    export_archive(old, str(tmp_path / "t.zip"), "zip", Options("hive"))
    export(old, str(tmp_path / "links"), Options())
    assert len(import_jobs(new, str(tmp_path / "t.zip"), ImportOptions()).imported) == 400
    assert data(new.workspace.path) == data(old.workspace.path)
    report = import_jobs(new, str(tmp_path / "links"), ImportOptions())
    assert (len(report.unchanged), report.failed) == (400, {})
