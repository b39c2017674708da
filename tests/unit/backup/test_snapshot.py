"""Snapshots, and what is restored of them."""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from sigfs.api.project import Project
from sigfs.backup.contents import HEAD
from sigfs.backup.restoring import restore
from sigfs.backup.snapshot import snapshot
from sigfs.errors import BackupError, DestinationExists, NotImportable
from sigfs.query import parse_text
from tests.support.projects import add_job, job_id, make_project

SP, DOC = "signac_statepoint.json", "signac_job_document.json"
STATEPOINTS: list[dict[str, object]] = [{"a": a, "it's": "\n"} for a in range(4)]
KINDS = [
    "tar",
    "tar.gz",
    "zip",
    pytest.param("tar.zst", marks=pytest.mark.skipif(not shutil.which("zstd"), reason="no zstd")),
]
AWKWARD = os.fsdecode(b"-n it's\n$x \xfc*")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = Path(make_project(str(tmp_path / "project"), *STATEPOINTS))
    (root / "signac_project_document.json").write_bytes(b'{"x": 1}\n')
    first, second, *_ = sorted((root / "workspace").iterdir())
    (first / DOC).write_bytes(b'{"b":  "\xc3\xa4"}\r\n')
    (second / "deep/er").mkdir(parents=True)
    (second / "deep/er/data").write_bytes(b"data" + bytes(100000) + b"more")
    (second / "link").symlink_to("deep/er/data")
    os.link(second / "deep/er/data", second / "another")
    return root


def everything(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and "index" not in path.parts
    }


@pytest.mark.parametrize("kind", KINDS)
def test_all_that_the_jobs_have_makes_a_project_like_the_first(root: Path, tmp_path: Path, kind: str) -> None:
    file = tmp_path / f"all.{kind}"
    second = sorted((root / "workspace").iterdir())[1]
    if kind != "zip":
        (second / AWKWARD).write_text("data")
        os.utime(second / "deep", ns=(10**18 + 1, 10**18 + 1))
    (second / "deep/er/data").chmod(0o640)
    snapshot(Project(root), str(file), data=True)
    report = restore(str(file), str(tmp_path / "new"))
    assert (report.in_the_way, report.left_out, report.pending) == ([], {}, [])
    assert len(report.jobs) == 4
    assert everything(tmp_path / "new") == everything(root)
    made = tmp_path / "new" / "workspace" / second.name
    assert os.readlink(made / "link") == "deep/er/data"
    assert stat.S_IMODE((made / "another").stat().st_mode) == 0o640
    if kind != "zip":
        assert (made / "another").samefile(made / "deep/er/data")
        assert (made / "deep").stat().st_mtime_ns == 10**18 + 1
    assert {job.id for job in Project(tmp_path / "new")} == {job_id(statepoint) for statepoint in STATEPOINTS}
    again = restore(str(file), str(tmp_path / "new"))
    assert (again.jobs, again.files, again.in_the_way) == ([], [], [])
    with pytest.raises(DestinationExists):
        snapshot(Project(root), str(file))


def test_metadata_alone_are_put_back_into_jobs_that_are_there(root: Path, tmp_path: Path) -> None:
    file = str(tmp_path / "metadata.tar")
    before = everything(root)
    snapshot(Project(root), file)
    first, second, third, fourth = sorted((root / "workspace").iterdir())
    (first / SP).unlink()
    (first / DOC).write_text('{"mine": ')
    shutil.copy(first.parent / second.name / SP, third / SP)
    shutil.rmtree(fourth)
    (second / DOC).write_text('{"mine": 1}')
    dry = restore(file, str(root), dry_run=True)
    assert (first / SP).exists() is False
    report = restore(file, str(root))
    assert (dry.jobs, sorted(dry.files), dry.replaced) == (report.jobs, sorted(report.files), report.replaced)
    assert report.jobs == [f"workspace/{fourth.name}"]
    assert report.replaced == {
        f"workspace/{first.name}/{DOC}": f"{DOC}.1~",
        f"workspace/{third.name}/{SP}": f"{SP}.1~",
    }
    assert (first / f"{DOC}.1~").read_text() == '{"mine": '
    left = {path: data for path, data in everything(root).items() if not path.endswith("~")}
    assert left == before | {f"workspace/{second.name}/{DOC}": b'{"mine": 1}'}


def test_what_differs_stays_or_is_kept_beside(root: Path, tmp_path: Path) -> None:
    file = str(tmp_path / "all.tar")
    snapshot(Project(root), file, data=True)
    first, second, *_ = sorted((root / "workspace").iterdir())
    (first / DOC).write_text('{"mine": 1}')
    (second / "link").unlink()
    (second / "link").write_text("mine")
    (second / "deep/er/data").write_text("mine")
    report = restore(file, str(root))
    assert set(report.in_the_way) >= {f"workspace/{first.name}/{DOC}", f"workspace/{second.name}/link"}
    assert (first / DOC).read_text() == '{"mine": 1}'
    assert (second / "deep/er/data").read_text() == "mine"
    report = restore(file, str(root), aside=True)
    assert (first / DOC).read_bytes() == b'{"b":  "\xc3\xa4"}\r\n'
    assert (first / f"{DOC}.1~").read_text() == '{"mine": 1}'


def test_a_filter_and_jobs_outside_of_the_workspace(root: Path, tmp_path: Path) -> None:
    (root / "data").mkdir()
    shutil.move(add_job(str(root), {"d": 1}), root / "data" / "job")
    Project(root).add_index("data")
    shutil.move(add_job(str(root), {"d": 2}), tmp_path / "far")
    Project(root).add_index(str(tmp_path))
    file = str(tmp_path / "some.tar")
    assert snapshot(Project(root), file, query=parse_text("a 1")).jobs == [f"workspace/{job_id(STATEPOINTS[1])}"]
    report = snapshot(Project(root), str(tmp_path / "all.tar"))
    assert "data/job" in report.jobs
    assert report.left_out == [str(tmp_path / "far")]
    restored = restore(str(tmp_path / "all.tar"), str(tmp_path / "new"))
    assert "data/job" in restored.jobs
    assert json.loads((tmp_path / "new/data/job" / SP).read_text()) == {"d": 1}


def test_a_workspace_elsewhere_does_not_draw_the_new_project_there(root: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.move(root / "workspace", elsewhere)
    Project(root).workspace = elsewhere  # type: ignore[assignment]
    snapshot(Project(root), str(tmp_path / "all.tar"))
    restore(str(tmp_path / "all.tar"), str(tmp_path / "new"))
    assert Project(tmp_path / "new").workspace.path == str(tmp_path / "new/workspace")
    assert len(Project(tmp_path / "new")) == 4


def hostile(path: Path, *members: tuple[str, bytes | str], head: bool = True, **more: object) -> str:
    """Make an archive: bytes are content, text is where a symbolic link leads, or after ``=`` a further name."""
    says = {"format": "sigfs-snapshot", "version": 1, "workspace": "workspace", "id_function": "md5", "outside": []}
    says |= more
    first = [(HEAD, json.dumps(says).encode())] if head else []
    with tarfile.open(path, "w") as archive:
        for name, what in (*first, *members):
            entry = tarfile.TarInfo(name)
            if isinstance(what, str):
                entry.type = tarfile.LNKTYPE if what.startswith("=") else tarfile.SYMTYPE
                entry.linkname = what.removeprefix("=")
            else:
                entry.size = len(what)
            archive.addfile(entry, io.BytesIO(what) if isinstance(what, bytes) else None)
    return str(path)


JOB = f"workspace/{job_id({'a': 1})}"


@pytest.mark.parametrize(
    "members",
    [
        [("/etc/evil", b"")],
        [("../evil", b"")],
        [(f"{JOB}/../../evil", b"")],
        [(f"{JOB}/link", "/etc")],
        [(f"{JOB}/link", "../../..")],
        [(f"{JOB}/link", "x"), (f"{JOB}/link/below", b"")],
        [(f"{JOB}/hard", "=../../evil")],
        [(f"{JOB}/twice", b""), (f"{JOB}/twice", b"")],
    ],
)
def test_a_hostile_archive_is_refused_before_anything_is_done(
    tmp_path: Path, members: list[tuple[str, bytes | str]]
) -> None:
    with pytest.raises((NotImportable, BackupError)):
        restore(hostile(tmp_path / "bad.tar", *members), str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()
    assert sorted(os.listdir(tmp_path)) == ["bad.tar"]


@pytest.mark.parametrize(
    "more",
    [
        {"workspace": "../elsewhere"},
        {"workspace": "/elsewhere"},
        {"workspace": 1},
        {"outside": ["../elsewhere"]},
        {"outside": [".git/hooks"]},
        {"outside": ["data/.hidden"]},
        {"id_function": "none"},
        {"version": 2},
    ],
)
def test_a_snapshot_that_says_strange_things_of_itself_is_refused(tmp_path: Path, more: dict[str, object]) -> None:
    with pytest.raises(BackupError):
        restore(hostile(tmp_path / "bad.tar", **more), str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_what_belongs_nowhere_is_left_out_and_named(tmp_path: Path) -> None:
    archive = hostile(
        tmp_path / "odd.tar",
        (".signac/config", b"schema_version = 2\n"),
        (".bashrc", b"evil"),
        (f"{JOB}/{SP}", b'{"a": 2}'),
        (f"{JOB}/link", "/etc"),
    )
    report = restore(archive, str(tmp_path / "new"), links=True)
    assert report.left_out == {".bashrc": "is no part of a data space"}
    assert report.pending == [JOB]
    assert os.readlink(tmp_path / "new" / JOB / "link") == "/etc"
    with pytest.raises(BackupError, match="sigfs import"):
        restore(hostile(tmp_path / "none.tar", (f"{JOB}/{SP}", b'{"a": 1}'), head=False), str(tmp_path / "new"))


def test_links_in_the_project_are_not_followed(root: Path, tmp_path: Path) -> None:
    file = str(tmp_path / "all.tar")
    snapshot(Project(root), file, data=True)
    second = sorted((root / "workspace").iterdir())[1]
    outside = tmp_path / "outside"
    outside.mkdir()
    shutil.rmtree(second / "deep")
    (second / "deep").symlink_to(outside)
    report = restore(file, str(root))
    assert f"workspace/{second.name}/deep/er/data" in report.in_the_way
    assert os.listdir(outside) == []


def test_any_program_can_unpack_a_snapshot(root: Path, tmp_path: Path) -> None:
    snapshot(Project(root), str(tmp_path / "all.tar.gz"), data=True)
    (tmp_path / "new").mkdir()
    subprocess.run(["tar", "xf", tmp_path / "all.tar.gz"], cwd=tmp_path / "new", check=True)
    assert len(Project(tmp_path / "new")) == 4
    snapshot(Project(root), str(tmp_path / "all.zip"))
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        archive.extractall(tmp_path / "other")
    assert len(Project(tmp_path / "other")) == 4
    packed = tmp_path / "packed.tar"
    subprocess.run(["tar", "cf", packed, "."], cwd=tmp_path / "new", check=True)
    shutil.rmtree(root / "workspace")
    assert len(restore(str(packed), str(root)).jobs) == 4
