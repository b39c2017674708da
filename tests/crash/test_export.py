"""Who exports a view may be killed at any call, or have any call fail: nothing of others is touched, and the next
export completes."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from sigfs.api.project import Project
from sigfs.export.exporting import Options, export
from sigfs.export.report import Report
from tests.support.projects import add_job, job_id, make_project
from tests.support.stepping import every_call, fail_at_each_call, kill_at_each_call

STOPS = pytest.mark.parametrize("code", [None, errno.ENOSPC, errno.EROFS])
OLD = [{"a": 1, "b": 1}, {"a": 1, "b": 2}, {"a": 2, "b": 1}]
NEW = [{"a": 2, "b": 1, "d": 0}, {"a": 3, "b": 1, "c": 1}, {"a": 3, "b": 2}]


def exported(path: str) -> dict[str, str]:
    view = os.path.join(path, "view")
    found = {}
    for above, directories, files in os.walk(view):
        for name in [*directories, *files]:
            link = os.path.join(above, name)
            if os.path.islink(link):
                found[os.path.relpath(link, view)] = os.path.basename(os.readlink(link))
    return found


def run(path: str) -> None:
    report = export(Project(os.path.join(path, "project")), os.path.join(path, "view"), Options("{a}/{b}"))
    assert report.in_the_way == []


def prepare(path: str) -> None:
    root = make_project(os.path.join(path, "project"), *OLD)
    run(path)
    Path(path, "view", "1", "note").write_text("mine")
    os.symlink("/etc", os.path.join(path, "view", "link"))
    shutil.rmtree(os.path.join(root, "workspace"))
    for statepoint in NEW:
        add_job(root, statepoint)


def look(path: str) -> None:
    run(path)
    assert exported(path) == {"link": "etc"} | {f"{sp['a']}/{sp['b']}": job_id(sp) for sp in NEW}
    assert Path(path, "view", "1", "note").read_text() == "mine"
    assert os.listdir(os.path.join(path, "view", "1")) == ["note"]
    assert sorted(os.listdir(os.path.join(path, "view"))) == [".sigfs", "1", "2", "3", "link"]
    assert all(len(os.listdir(os.path.join(path, "project", "workspace", job_id(sp)))) == 1 for sp in NEW)


@STOPS
def test_links_are_brought_up_to_date_by_the_next_export(tmp_path: Path, code: int | None) -> None:
    stop = (prepare, run, look, tmp_path)
    calls = kill_at_each_call(*stop) if code is None else fail_at_each_call(code, *stop)
    every_call(calls, "symlinkat", "unlinkat", "mkdirat", "renameat")


COPIED = [{"a": 1}, {"a": 2}]


def run_by(method: str, path: str, layout: str = "auto") -> Report:
    options = Options(layout, method=method)  # type: ignore[arg-type]
    return export(Project(os.path.join(path, "project")), os.path.join(path, "view"), options)


def jobs_with_data(path: str) -> str:
    root = make_project(os.path.join(path, "project"), *COPIED)
    for statepoint in COPIED:
        os.mkdir(os.path.join(root, "workspace", job_id(statepoint), "deep"))
        Path(root, "workspace", job_id(statepoint), "deep", "data").write_text(f"data of {statepoint}")
    return root


def copied_before(path: str) -> None:
    root = jobs_with_data(path)
    run_by("copy", path)
    Path(root, "workspace", job_id({"a": 2}), "deep", "data").write_text("newer data")


def copy(path: str) -> None:
    run_by("copy", path, "hive")


def look_copied(path: str) -> None:
    copy(path)
    view = Path(path, "view")
    assert (view / "a=1/deep/data").read_text() == "data of {'a': 1}"
    assert (view / "a=2/deep/data").read_text() == "newer data"
    left = sorted(str(each.relative_to(view)) for each in view.rglob("*") if each.is_dir())
    assert left == [".sigfs", "a=1", "a=1/deep", "a=2", "a=2/deep"]
    assert run_by("copy", path, "hive").unchanged == 2


@STOPS
def test_copies_are_made_and_brought_up_to_date_by_the_next_export(tmp_path: Path, code: int | None) -> None:
    stop = (copied_before, copy, look_copied, tmp_path)
    calls = kill_at_each_call(*stop) if code is None else fail_at_each_call(code, *stop)
    every_call(calls, "mkdirat", "unlinkat", "renameat", "write")


def move(path: str) -> None:
    run_by("move", path)


def look_moved(path: str) -> None:
    move(path)
    for a in (1, 2):
        assert Path(path, "view", "a", str(a), "deep", "data").read_text() == f"data of {{'a': {a}}}"
    assert os.listdir(os.path.join(path, "project", "workspace")) == []


@STOPS
def test_jobs_are_all_moved_by_the_next_export(tmp_path: Path, code: int | None) -> None:
    stop = (jobs_with_data, move, look_moved, tmp_path)
    calls = kill_at_each_call(*stop) if code is None else fail_at_each_call(code, *stop)
    every_call(calls, "mkdirat", "renameat2", "write")
