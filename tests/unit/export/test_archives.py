"""A view as one archive file."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from sigfs.api.project import Project
from sigfs.errors import DestinationExists, ExportError
from sigfs.export import archives
from sigfs.export.exporting import Options, export_archive
from tests.support.projects import job_id, make_project

KINDS = pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.zst"])
STATEPOINTS = [{"a": 1, "b": "x/y"}, {"a": 2, "b": "x/y"}]


@pytest.fixture
def root(tmp_path: Path) -> str:
    root = make_project(str(tmp_path / "project"), *STATEPOINTS)
    for statepoint in STATEPOINTS:
        path = Path(root, "workspace", job_id(statepoint))
        (path / "empty").mkdir()
        (path / "data ü\n").write_text(f"data of {statepoint}")
        os.chmod(path / "data ü\n", 0o640)
        os.utime(path / "data ü\n", ns=(10**18, 10**18 + 123456789))
        os.symlink("/nowhere", path / "link")
    return root


def unpack(archive: Path, where: Path, kind: str) -> None:
    if kind == "tar.zst":
        plain = archive.with_suffix(".plain")
        subprocess.run(["zstd", "-q", "-d", "-o", plain, archive], check=True)
        archive = plain
    if kind == "zip":
        with zipfile.ZipFile(archive) as packed:
            assert packed.testzip() is None
            packed.extractall(where)
            for entry in packed.infolist():  # which zipfile takes for files
                if entry.external_attr >> 28 == 0o12:
                    (where / entry.filename).unlink()
                    os.symlink(packed.read(entry), where / entry.filename)
        return
    with tarfile.open(archive) as packed:
        packed.extractall(where, filter="fully_trusted")


@KINDS
def test_an_archive_has_every_job_at_its_place_with_all_that_is_in_it(root: str, tmp_path: Path, kind: str) -> None:
    if kind == "tar.zst" and shutil.which("zstd") is None:
        pytest.skip("there is no program zstd")
    archive = tmp_path / "archive"
    report = export_archive(Project(root), str(archive), kind, Options())  # type: ignore[arg-type]
    assert report.added == ["a/1", "a/2"]
    unpack(archive, tmp_path / "out", kind)
    for a, statepoint in enumerate(STATEPOINTS, 1):
        source, copy = Path(root, "workspace", job_id(statepoint)), tmp_path / "out" / "a" / str(a)
        assert sorted(os.listdir(copy)) == sorted(os.listdir(source))
        assert (copy / "data ü\n").read_bytes() == (source / "data ü\n").read_bytes()
        assert os.readlink(copy / "link") == "/nowhere"
        assert (copy / "empty").is_dir()
    if kind != "zip":
        with tarfile.open(tmp_path / "archive.plain" if kind == "tar.zst" else archive) as packed:
            entry = packed.getmember("a/1/data ü\n")
            assert (entry.mode, entry.pax_headers["mtime"]) == (0o640, "1000000000.123456789")
    assert set(os.listdir(tmp_path)) <= {"archive", "archive.plain", "out", "project"}


def test_extended_attributes_hard_links_and_odd_names_are_in_a_tar(root: str, tmp_path: Path) -> None:
    path = Path(root, "workspace", job_id(STATEPOINTS[0]))
    os.setxattr(path / "data ü\n", "user.note", b"\xff\x00x")
    os.link(path / "data ü\n", path / "same")
    Path(os.fsdecode(os.path.join(os.fsencode(path), b"\xff"))).write_text("odd")
    os.mkfifo(path / "fifo")
    archive = tmp_path / "archive"
    export_archive(Project(root), str(archive), "tar", Options())
    with tarfile.open(archive) as packed:
        attribute = packed.getmember("a/1/data ü\n").pax_headers["SCHILY.xattr.user.note"]
        assert attribute.encode("utf-8", "surrogateescape") == b"\xff\x00x"
        assert packed.getmember("a/1/same").linkname == "a/1/data ü\n"
        assert packed.getmember("a/1/fifo").isfifo()
        assert packed.getmember("a/1/" + os.fsdecode(b"\xff")).isfile()
    with pytest.raises(ExportError, match="use tar"):
        export_archive(Project(root), str(tmp_path / "archive.zip"), "zip", Options())
    assert set(os.listdir(tmp_path)) == {"archive", "project"}


@KINDS
def test_nothing_is_replaced_and_nothing_is_left_of_an_archive_that_fails(
    root: str, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "tar.zst" and shutil.which("zstd") is None:
        pytest.skip("there is no program zstd")
    (tmp_path / "archive").write_text("mine")
    with pytest.raises(DestinationExists):
        export_archive(Project(root), str(tmp_path / "archive"), kind, Options())  # type: ignore[arg-type]
    assert (tmp_path / "archive").read_text() == "mine"
    seen = []

    def fail(*where: object) -> None:
        seen.append(where)
        if len(seen) > 1:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(archives, "_add_below", fail)
    with pytest.raises(OSError, match="No space"):
        export_archive(Project(root), str(tmp_path / "other"), kind, Options())  # type: ignore[arg-type]
    assert set(os.listdir(tmp_path)) == {"archive", "project"}


def test_a_compressor_that_fails_is_told(root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / "zstd"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    with pytest.raises(ExportError, match="exit code 3"):
        export_archive(Project(root), str(tmp_path / "archive"), "tar.zst", Options())
    assert set(os.listdir(tmp_path)) == {"bin", "project"}
