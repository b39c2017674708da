"""A view as copies, hard links and moved jobs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from sigfs.api.project import Project
from sigfs.errors import ExportError
from sigfs.export.exporting import Options, export
from sigfs.export.report import Report
from sigfs.model import copying
from tests.support.projects import add_job, job_id, make_project

STATEPOINTS = [{"a": a} for a in (1, 2, 3)]

COPYING = pytest.mark.parametrize("method", ["copy", "hardlink"])


@pytest.fixture
def root(tmp_path: Path) -> str:
    root = make_project(str(tmp_path / "project"), *STATEPOINTS)
    for statepoint in STATEPOINTS:
        path = job(root, statepoint)
        (path / "data.txt").write_text(f"data of {statepoint}")
        (path / "deep" / "er").mkdir(parents=True)
        (path / "deep" / "er" / "file").write_bytes(b"\0" * 5000)
        os.symlink("data.txt", path / "link")
    return root


@pytest.fixture
def target(tmp_path: Path) -> str:
    return str(tmp_path / "out")


def job(root: str, statepoint: dict[str, object]) -> Path:
    return Path(root, "workspace", job_id(statepoint))


def run(root: str, target: str, method: str, **options: object) -> Report:
    return export(Project(root), target, Options(method=method, **options))  # type: ignore[arg-type]


def contents(directory: str | Path) -> dict[str, bytes | str | None]:
    """Path below *directory* -> bytes of a file, text of a link, None for a directory; less what exports remember."""
    found: dict[str, bytes | str | None] = {}
    for path in sorted(Path(directory).rglob("*")):
        name = str(path.relative_to(directory))
        if not name.startswith(".sigfs"):
            is_file = path.is_file() and not path.is_symlink()
            found[name] = path.read_bytes() if is_file else os.readlink(path) if path.is_symlink() else None
    return found


@COPYING
def test_jobs_are_copied_with_all_that_is_in_them(root: str, target: str, method: str) -> None:
    source = job(root, {"a": 1})
    os.chmod(source / "data.txt", 0o640)
    os.setxattr(source / "data.txt", "user.note", b"kept")
    os.utime(source / "data.txt", ns=(10**18, 10**18 + 7))
    os.utime(source / "deep", ns=(10**18, 10**18 + 8))
    report = run(root, target, method)
    assert sorted(report.added) == ["a/1", "a/2", "a/3"]
    for statepoint in STATEPOINTS:
        assert contents(Path(target, "a", str(statepoint["a"]))) == contents(job(root, statepoint))
    copy = Path(target, "a", "1")
    status = (copy / "data.txt").stat()
    assert (status.st_mode & 0o777, status.st_mtime_ns) == (0o640, 10**18 + 7)
    assert (copy / "deep").stat().st_mtime_ns == 10**18 + 8
    assert os.getxattr(copy / "data.txt", "user.note") == b"kept"
    assert ((copy / "data.txt").stat().st_ino == (source / "data.txt").stat().st_ino) == (method == "hardlink")
    assert run(root, target, method).unchanged == 3


@COPYING
def test_what_has_changed_in_a_job_is_copied_again(root: str, target: str, method: str) -> None:
    run(root, target, method)
    source = job(root, {"a": 1})
    (source / "new").write_text("new")
    (source / "data.txt").unlink()
    report = run(root, target, method)
    assert (report.changed, report.unchanged, report.in_the_way) == (["a/1"], 2, [])
    assert contents(Path(target, "a/1")) == contents(source)
    assert not [name for name in os.listdir(Path(target, "a")) if name.startswith(".")]


@COPYING
def test_a_copy_that_somebody_has_changed_stays(root: str, target: str, method: str) -> None:
    run(root, target, method)
    Path(target, "a/1/mine").write_text("precious")
    (job(root, {"a": 1}) / "new").write_text("new")
    assert run(root, target, method).in_the_way == ["a/1"]
    assert Path(target, "a/1/mine").read_text() == "precious"
    assert not Path(target, "a/1/new").exists()
    assert run(root, target, method, layout="hive").in_the_way == []
    assert Path(target, "a/1/mine").read_text() == "precious"


@COPYING
def test_copies_go_where_another_view_shows_their_jobs(
    root: str, target: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(root, target, method)
    before = {a: Path(target, f"a/{a}").stat().st_ino for a in (1, 2, 3)}
    if method == "copy":
        monkeypatch.setattr(copying, "_copy_data", None)
    for layout, path in (("hive", "a=%d"), ("a/{a}/below/{a}", "a/%d/below/%d"), ("auto", "a/%d")):
        report = run(root, target, method, layout=layout)
        assert (len(report.added), len(report.removed), report.in_the_way) == (3, 3, [])
        for a, inode in before.items():
            place = Path(target, path.replace("%d", str(a)))
            assert place.stat().st_ino == inode
            assert contents(place) == contents(job(root, {"a": a}))
    assert sorted(os.listdir(target)) == [".sigfs", "a"]


@COPYING
def test_two_jobs_that_change_places_are_both_copied(tmp_path: Path, target: str, method: str) -> None:
    root = make_project(str(tmp_path / "project"), {"a": 1}, {"a": 2})
    for a in (1, 2):
        (job(root, {"a": a}) / "signac_job_document.json").write_text(f'{{"rank": {a}}}')
    run(root, target, method, layout="{job.doc.rank}")
    for a in (1, 2):
        (job(root, {"a": a}) / "signac_job_document.json").write_text(f'{{"rank": {3 - a}}}')
    report = run(root, target, method, layout="{job.doc.rank}")
    assert sorted(report.changed) == ["1", "2"]
    for a in (1, 2):
        assert contents(Path(target, str(3 - a))) == contents(job(root, {"a": a}))


@COPYING
def test_the_copy_of_a_job_that_is_gone_stays(root: str, target: str, method: str) -> None:
    run(root, target, method)
    shutil.rmtree(job(root, {"a": 1}))
    report = run(root, target, method)
    assert (report.removed, report.unchanged) == ([], 2)
    assert Path(target, "a/1/data.txt").exists()


@COPYING
def test_what_is_in_the_way_of_a_copy_stays(root: str, target: str, method: str, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    Path(target, "a").mkdir(parents=True)
    Path(target, "a/1").write_text("mine")
    os.symlink(outside, Path(target, "a/2"))
    assert sorted(run(root, target, method).in_the_way) == ["a/1", "a/2"]
    assert Path(target, "a/1").read_text() == "mine"
    assert not os.listdir(outside)
    shutil.rmtree(Path(target, "a"))
    os.symlink(outside, Path(target, "a"))
    assert len(run(root, target, method).in_the_way) == 3
    assert not os.listdir(outside)


@pytest.mark.parametrize("method", ["copy", "hardlink", "move"])
def test_a_dry_run_copies_nothing(root: str, target: str, method: str) -> None:
    assert len(run(root, target, method, dry_run=True).added) == 3
    assert not os.path.exists(target)


def test_a_target_has_one_method(root: str, target: str) -> None:
    run(root, target, "copy")
    with pytest.raises(ExportError, match="--copy"):
        run(root, target, "symlink")


def test_without_reflinks_nothing_is_copied_and_the_remedy_is_told(
    root: str, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source_fd: int, target_fd: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(copying, "clone", refuse)
    with pytest.raises(ExportError, match="use --copy"):
        run(root, target, "reflink")
    assert contents(target) == {}


def test_jobs_are_moved_out_of_the_workspace(root: str, target: str) -> None:
    before = {sp["a"]: contents(job(root, sp)) for sp in STATEPOINTS}
    assert sorted(run(root, target, "move").added) == ["a/1", "a/2", "a/3"]
    assert os.listdir(os.path.join(root, "workspace")) == []
    assert {a: contents(Path(target, f"a/{a}")) for a in (1, 2, 3)} == before


def test_a_job_that_cannot_be_moved_as_something_is_in_the_way_is_moved_there_later(root: str, target: str) -> None:
    Path(target, "a").mkdir(parents=True)
    Path(target, "a/1").write_text("mine")
    report = run(root, target, "move")
    assert (report.in_the_way, sorted(report.added)) == (["a/1"], ["a/2", "a/3"])
    assert Path(target, "a/1").read_text() == "mine"
    assert job(root, {"a": 1}).is_dir()
    Path(target, "a/1").unlink()
    assert run(root, target, "move").added == ["a/1"]  # where it would have gone, though it is alone now
    add_job(root, {"z": 1})
    run(root, target, "move")
    assert Path(target, "z/1").is_dir()


def test_a_move_follows_no_symbolic_link_in_the_target(root: str, target: str, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    os.mkdir(target)
    os.symlink(outside, os.path.join(target, "a"))
    assert len(run(root, target, "move").in_the_way) == 3
    assert not os.listdir(outside)
    assert len(os.listdir(os.path.join(root, "workspace"))) == 3


@COPYING
def test_jobs_outside_of_a_workspace_that_is_gone_are_copied(root: str, target: str, method: str) -> None:
    before = {sp["a"]: contents(job(root, sp)) for sp in STATEPOINTS}
    os.rename(os.path.join(root, "workspace"), os.path.join(root, "data"))
    Project(root).add_index("data")
    assert len(run(root, target, method).added) == 3
    assert {a: contents(Path(target, f"a/{a}")) for a in (1, 2, 3)} == before


def test_a_job_that_cannot_be_read_disturbs_no_other(root: str, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = copying.copy

    def copy(source_fd: int, *rest: object) -> object:
        if os.path.samestat(os.fstat(source_fd), job(root, {"a": 2}).stat()):
            raise PermissionError(13, "Permission denied", "data.txt")
        return whole(source_fd, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(copying, "copy", copy)
    report = run(root, target, "copy")
    assert (sorted(report.added), list(report.failed)) == (["a/1", "a/3"], ["a/2"])
    monkeypatch.setattr(copying, "copy", whole)
    assert run(root, target, "copy").added == ["a/2"]
