"""Jobs brought into a workspace, out of directories and archives."""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from sigfs.api.project import Project
from sigfs.errors import DestinationExists, NotImportable
from sigfs.export.exporting import Options, export, export_archive
from sigfs.export.importing import ImportOptions, import_jobs
from sigfs.export.report import Imported
from sigfs.model.files import TEMPORARY_PREFIX
from tests.support.projects import job_id, make_project

STATEPOINTS: list[dict[str, object]] = [{"a": a, "b": b, "c": {"d": None}} for a in (1, 2) for b in (True, "x/y")]
SP = "signac_statepoint.json"


@pytest.fixture
def root(tmp_path: Path) -> str:
    root = make_project(str(tmp_path / "project"), *STATEPOINTS)
    for statepoint in STATEPOINTS:
        path = Path(root, "workspace", job_id(statepoint))
        (path / "deep/empty").mkdir(parents=True)
        (path / "deep/data ü\n").write_bytes(repr(statepoint).encode() + bytes(5000))
        os.link(path / "deep/data ü\n", path / "other name")
        os.symlink("deep/data ü\n", path / "link")
        os.symlink("../link", path / "deep/up")
        os.utime(path / "deep/data ü\n", ns=(10**18, 10**18 + 123456000))
    return root


@pytest.fixture
def new(tmp_path: Path) -> Project:
    return Project(make_project(str(tmp_path / "new")))


def bring(project: Project, origin: object, **options: object) -> Imported:
    return import_jobs(project, str(origin), ImportOptions(**options))  # type: ignore[arg-type]


def data(workspace: str) -> dict[str, object]:
    """All that is in the jobs."""
    found: dict[str, object] = {}
    for above, directories, names in os.walk(workspace):
        for name in [*directories, *names]:
            path = os.path.join(above, name)
            place = os.path.relpath(path, workspace)
            if os.path.islink(path):
                found[place] = os.readlink(path)
            else:
                found[place] = None if os.path.isdir(path) else Path(path).read_bytes()
    return found


def tree(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).mkdir(parents=True)
        (root / path / "data").write_text(path)
    return root


@pytest.mark.parametrize("method", ["symlink", "copy", "hardlink", "move", "tar", "tar.gz", "zip"])
@pytest.mark.parametrize("layout", ["auto", "hive"])
def test_what_has_been_exported_comes_back_with_the_same_ids_and_bytes(
    root: str, new: Project, tmp_path: Path, method: str, layout: str
) -> None:
    before = data(f"{root}/workspace")
    target = tmp_path / "exported"
    if method in ("tar", "tar.gz", "zip"):
        export_archive(Project(root), str(target), method, Options(layout))  # type: ignore[arg-type]
    else:
        export(Project(root), str(target), Options(layout, method=method))  # type: ignore[arg-type]
    report = bring(new, target)
    assert (len(report.imported), report.failed) == (4, {})
    assert data(new.workspace.path) == before
    again = bring(new, target)
    assert (again.imported, again.unchanged, again.failed) == ({}, report.imported, {})
    times = {os.stat(f"{new.workspace.path}/{job_id(sp)}/deep/data ü\n").st_mtime_ns for sp in STATEPOINTS}
    assert times == {10**18 if method == "zip" else 10**18 + 123456000}


def test_jobs_that_are_moved_leave_the_origin_and_links_are_not_moved(root: str, new: Project, tmp_path: Path) -> None:
    before = data(f"{root}/workspace")
    report = bring(new, root, move=True)
    assert sorted(report.imported.values()) == sorted(map(job_id, STATEPOINTS))
    assert data(new.workspace.path) == before
    assert os.listdir(f"{root}/workspace") == []
    export(Project(new.root), str(tmp_path / "links"), Options())
    other = Project(make_project(str(tmp_path / "third")))
    assert len(bring(other, tmp_path / "links", move=True).failed) == 4
    assert data(new.workspace.path) == before


def test_a_job_with_other_data_stays_and_the_others_are_imported(root: str, new: Project) -> None:
    changed, pending = (new.workspace.path + "/" + job_id(sp) for sp in STATEPOINTS[:2])
    shutil.copytree(f"{root}/workspace/{job_id(STATEPOINTS[0])}", changed, symlinks=True)
    Path(changed, "link").unlink()
    os.mkdir(pending)
    before = data(new.workspace.path)
    for options in ({"dry_run": True}, {}):
        report = bring(new, root, **options)
        assert len(report.imported) == 2
        names = sorted(path.rpartition("/")[2] for path in report.failed)
        assert names == sorted(map(os.path.basename, (changed, pending)))
    assert before.items() <= data(new.workspace.path).items()
    assert not [name for name in os.listdir(new.workspace.path) if name.startswith(TEMPORARY_PREFIX)]


def test_a_dry_run_changes_nothing(root: str, new: Project, tmp_path: Path) -> None:
    export_archive(Project(root), str(tmp_path / "packed.tar"), "tar", Options())
    shutil.rmtree(new.workspace.path)
    for origin in (root, tmp_path / "packed.tar"):
        assert len(bring(new, origin, dry_run=True).imported) == 4
    assert not os.path.exists(new.workspace.path)


@pytest.mark.parametrize(
    ("schema", "paths", "expected"),
    [
        ("foo/{foo:int}/{x.y:float}", ["foo/-2/1e3", "foo/1/.5", "foo/x/1"],
         [{"foo": -2, "x": {"y": 1000.0}}, {"foo": 1, "x": {"y": 0.5}}]),
        ("{a}-{b:bool}.d/run", ["x-maybe.d/run", "x-true.d/run", "y-z-0.d/run"],
         [{"a": "x", "b": True}, {"a": "y-z", "b": False}]),
        ("./{a:int}_{a}/", ["1_1", "1_2"], [{"a": 1}]),
    ],
)  # fmt: skip
def test_a_schema_says_state_points(
    new: Project, tmp_path: Path, schema: str, paths: list[str], expected: list[dict[str, object]]
) -> None:
    origin = tree(tmp_path / "runs", *paths)
    report = bring(new, origin, schema=schema)
    assert sorted(report.imported.values()) == sorted(map(job_id, expected))
    assert report.left == [path for path in paths if path not in report.imported]
    first = next(iter(report.imported))
    assert Path(new.workspace.path, report.imported[first], "data").read_text() == first
    assert sorted(job.id for job in new) == sorted(map(job_id, expected))


def test_a_schema_may_be_a_function_or_begin_with_the_origin(new: Project, tmp_path: Path) -> None:
    origin = tree(tmp_path / "runs", "a", "b/c")
    bring(new, origin, schema=lambda path: {"n": path} if path == "b/c" else None)
    bring(new, origin, schema=f"{origin}/{{n}}")
    assert sorted(job.statepoint["n"] for job in new) == ["a", "b", "b/c"]


@pytest.mark.parametrize("schema", ["", "foo", "{a b}", "{a:complex}", "{a:int}/{a:str}", "{a}/{a.b}", "{a..b}"])
def test_a_schema_that_cannot_be_understood_is_refused(new: Project, tmp_path: Path, schema: str) -> None:
    with pytest.raises(NotImportable, match="schema"):
        bring(new, tree(tmp_path / "runs", "a"), schema=schema)


def test_a_schema_that_contradicts_a_state_point_file_is_told(new: Project, root: str, tmp_path: Path) -> None:
    export(Project(root), str(tmp_path / "view"), Options("a_{a}/{b}", method="copy"))
    report = bring(new, tmp_path / "view", schema="a_{a:int}/{b}")
    assert (report.imported, len(report.failed)) == ({}, 4)


@pytest.mark.parametrize(
    ("path", "statepoint"),
    [
        ("foo/42/bar/true", {"foo": 42, "bar": True}),
        ("foo=42/bar=%2242%22", {"foo": 42, "bar": "42"}),
        ("a.b/x%2Fy/c@exists/false", {"a": {"b": "x/y"}}),
        ("foo/1.0/bar/False/job", {"foo": 1.0, "bar": False}),
        (f"foo/1/{job_id({'foo': 1})}", {"foo": 1}),
    ],
)
def test_without_state_point_files_paths_are_read(
    new: Project, tmp_path: Path, path: str, statepoint: dict[str, object]
) -> None:
    report = bring(new, tree(tmp_path / "runs", path, "._sigfs_x/1", ".hidden"))
    assert report.imported == {path: job_id(statepoint)}
    assert json.loads(Path(new.workspace.path, job_id(statepoint), SP).read_text()) == statepoint
    assert report.spelled
    assert report.left == [".hidden"]


def test_paths_that_spell_nothing_certain_are_told(new: Project, tmp_path: Path) -> None:
    unclear = [f"bar/2/{'0' * 32}", "foo@gt/3", f"x/{'y' * 20}~{'0' * 16}"]
    report = bring(new, tree(tmp_path / "runs", "foo/1", *unclear))
    assert sorted(report.failed) == unclear
    assert list(report.imported) == ["foo/1"]


def test_an_export_whose_state_point_files_are_lost_is_read_by_its_paths_if_they_say_all(
    new: Project, root: str, tmp_path: Path
) -> None:
    export(Project(root), str(tmp_path / "full"), Options("full", method="copy"))
    (tmp_path / "full/c.d/null/a/1/b/true" / SP).unlink()
    export(Project(root), str(tmp_path / "auto"), Options(method="copy"))
    (tmp_path / "auto/a/1/b/true" / SP).unlink()
    assert list(bring(new, tmp_path / "auto").failed) == ["a/1/b/true"]
    assert list(bring(new, tmp_path / "full").imported) == ["c.d/null/a/1/b/true"]


def test_two_directories_of_one_state_point_are_both_left(new: Project, tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        path = tree(tmp_path / "runs", name) / name
        (path / SP).write_text(json.dumps({"a": name == "three"}))
    report = bring(new, tmp_path / "runs")
    assert (sorted(report.failed), list(report.imported)) == (["one", "two"], ["three"])


def test_a_broken_state_point_disturbs_no_other(new: Project, tmp_path: Path) -> None:
    origin = tree(tmp_path / "runs", "good", "bad", "link", "null")
    for name, text in (("good", '{"a": 1}'), ("bad", "{"), ("null", "null")):
        (origin / name / SP).write_text(text)
    os.symlink("../good/" + SP, origin / "link" / SP)
    report = bring(new, origin)
    assert report.failed.keys() == {"bad", "link"}
    assert report.imported == {"good": job_id({"a": 1}), "null": "37a6259cc0c1dae299a7866489dff0bd"}


def test_what_is_no_origin_is_refused(root: str, new: Project, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no archive")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "empty").mkdir()
    workspace = f"{root}/workspace"
    for origin in ("", tmp_path / "nothing", tmp_path / "text", tmp_path / "fifo", tmp_path / "empty"):
        with pytest.raises(NotImportable):
            bring(new, origin)
    for origin in (workspace, f"{workspace}/{job_id(STATEPOINTS[0])}"):
        with pytest.raises(NotImportable, match="already"):
            bring(Project(root), origin)
    with pytest.raises(NotImportable, match="no directory"):  # nothing but the workspace itself
        bring(Project(root), root)


def test_projects_have_the_methods_of_signac(root: str, new: Project, tmp_path: Path) -> None:
    for target, path in (("by-key", None), ("by-id", False), ("t.tar", "a_{a}/{{auto}}")):
        exported = Project(root).export_to(tmp_path / target, path)
        assert sorted(exported) == sorted(f"{root}/workspace/{job_id(sp)}" for sp in STATEPOINTS)
        imported = new.import_from(tmp_path / target)
        assert sorted(imported.values()) == sorted(f"{new.workspace.path}/{job_id(sp)}" for sp in STATEPOINTS)
    assert imported.keys() == {f"{tmp_path}/t.tar/{place}" for place in exported.values()}
    Path(new.workspace.path, job_id(STATEPOINTS[0]), "more").write_text("")
    with pytest.raises(DestinationExists):
        new.import_from(tmp_path / "by-key", sync=False)
    moved = Project(root).export_to(tmp_path / "moved", copytree=shutil.move)
    assert all(os.path.isdir(path) for path in moved.values())
    assert os.listdir(f"{root}/workspace") == []
    Project(root).import_from(tmp_path / "moved", copytree=os.replace)
    assert len(Project(root)) == 4
    for wrong in ({"copytree": print}, {"sync": True}):
        with pytest.raises(ValueError, match=r"cop|merged"):
            new.import_from(root, **wrong)  # type: ignore[arg-type]


# Archives


def tar_of(path: Path, *entries: tuple[str, str, object]) -> Path:
    """Kind: f(ile), d(irectory), s(ymbolic link), l(ink), c(haracter device)."""
    types = {
        "d": tarfile.DIRTYPE, "s": tarfile.SYMTYPE, "l": tarfile.LNKTYPE, "c": tarfile.CHRTYPE, "f": tarfile.REGTYPE,
    }  # fmt: skip
    with tarfile.open(path, "w") as tar:
        for kind, name, content in entries:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = types[kind], 0o7755
            text = str(content).encode()
            if kind in "sl":
                entry.linkname = str(content)
            elif kind == "f":
                entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text))
    return path


def zip_of(path: Path, *entries: tuple[str, str, object]) -> Path:
    modes = {"d": stat.S_IFDIR, "s": stat.S_IFLNK, "f": stat.S_IFREG, "c": stat.S_IFCHR}
    with zipfile.ZipFile(path, "w") as packed, warnings.catch_warnings(action="ignore"):  # of names that are there
        for kind, name, content in entries:
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (modes[kind] | 0o7755) << 16
            packed.writestr(entry, str(content))
    return path


JOB = ("f", f"job/{SP}", '{"a": 1}')

HOSTILE: dict[str, list[tuple[str, str, object]]] = {
    "absolute": [("f", "/tmp/evil", "x")],
    "up": [("f", "job/../../evil", "x")],
    "twice": [("f", "job/x", "1"), ("f", "job/./x", "2")],
    "through a link": [("s", "job/out", "in"), ("f", "job/out/x", "1")],
    "through a file": [("f", "job/x", "1"), ("f", "job/x/y", "1")],
    "link to /": [("s", "job/x", "/etc")],
    "link above": [("s", "job/deep/x", "../../other")],
    "link by a link": [("s", "job/d/s", ".."), ("s", "job/d/t", "s/../..")],
    "device": [("c", "job/x", "")],
    "deep": [("f", "job/" + "d/" * 300 + "x", "1")],
    "long": [("f", "job/" + "x" * 300, "1")],
    "directory again a file": [("d", "job/x", ""), ("f", "job/x", "1")],
}


@pytest.mark.parametrize("what", HOSTILE)
@pytest.mark.parametrize("pack", [tar_of, zip_of])
def test_hostile_archives_are_refused_as_a_whole(
    new: Project, tmp_path: Path, what: str, pack: Callable[..., Path]
) -> None:
    archive = pack(tmp_path / "archive", JOB, *HOSTILE[what])
    with pytest.raises(NotImportable, match="nothing is imported"):
        bring(new, archive)
    assert os.listdir(new.workspace.path) == []
    assert sorted(os.listdir(tmp_path)) == ["archive", "new"]


@pytest.mark.parametrize("target", ["/etc/passwd", "../x", "other/x", "job/later", "job/link"])
def test_further_names_of_what_is_no_file_of_the_job_are_refused(new: Project, tmp_path: Path, target: str) -> None:
    entries = [JOB, ("f", "other/x", "1"), ("f", f"other/{SP}", "{}"), ("s", "job/link", "x"), ("l", "job/x", target)]
    archive = tar_of(tmp_path / "archive", *entries, ("f", "job/later", "1"))
    with pytest.raises(NotImportable, match="nothing is imported"):
        bring(new, archive)
    assert os.listdir(new.workspace.path) == []


@pytest.mark.parametrize("pack", [tar_of, zip_of])
def test_entries_in_any_order_without_directories_make_whole_jobs(
    new: Project, tmp_path: Path, pack: Callable[..., Path]
) -> None:
    entries = [("f", "job/deep/er/x", "1"), ("f", f"./x/other/{SP}", "{}"), ("d", "job/deep", ""), JOB]
    archive = pack(tmp_path / "archive", *entries, ("f", "x/other/y", "2"), ("f", "README", ""))
    report = bring(new, archive)
    assert report.imported == {"x/other": job_id({}), "job": job_id({"a": 1})}
    assert report.left == ["."]
    path = Path(new.workspace.path, job_id({"a": 1}))
    assert (path / "deep/er/x").read_text() == "1"
    assert {stat.S_IMODE(os.stat(path / name).st_mode) for name in ("deep", "deep/er/x")} == {0o755}
    assert bring(new, archive).unchanged == report.imported
    (path / "deep/more").mkdir()
    assert list(bring(new, archive).failed) == ["job"]
    (path / "deep/more").rmdir()
    (path / "deep/er/x").write_text("2")
    assert list(bring(new, archive).failed) == ["job"]


def test_a_schema_reads_the_names_of_an_archive(new: Project, tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "archive", ("f", "runs/a_1/x", "1"), ("f", "runs/a_2/x", "2"))
    assert bring(new, archive, schema="runs/a_{a:int}").imported.keys() == {"runs/a_1", "runs/a_2"}
    assert {job.statepoint["a"] for job in new} == {1, 2}


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_archives_that_are_cut_short_are_refused(root: str, new: Project, tmp_path: Path, kind: str) -> None:
    archive = tmp_path / "archive"
    for path in Path(root, "workspace").glob("*/deep/data*"):
        path.write_bytes(os.urandom(5000))
    export_archive(Project(root), str(archive), kind, Options())  # type: ignore[arg-type]
    whole = archive.read_bytes()
    for cut in (whole[: len(whole) // 2], whole[:20]):
        archive.write_bytes(cut)
        with pytest.raises(NotImportable):
            bring(new, archive)
    assert os.listdir(new.workspace.path) == []


@pytest.mark.parametrize("cut", [1024, 1124, 2048])
def test_a_tar_that_is_cut_short_between_files_or_in_a_header_is_refused(
    new: Project, tmp_path: Path, cut: int
) -> None:
    archive = tmp_path / "archive"
    with tarfile.open(archive, "w") as tar:
        for name, data in (("job/signac_statepoint.json", b"{}"), ("job/a", b"1"), ("job/b", b"2")):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    archive.write_bytes(archive.read_bytes()[:cut])
    with pytest.raises(NotImportable):
        bring(new, archive)
    assert os.listdir(new.workspace.path) == []


def test_what_is_larger_than_the_disk_is_refused_before_it_is_unpacked(new: Project, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "archive", "w", format=tarfile.PAX_FORMAT) as tar:
        statepoint, sparse = tarfile.TarInfo(f"job/{SP}"), tarfile.TarInfo("job/data")
        statepoint.size = 2
        tar.addfile(statepoint, io.BytesIO(b"{}"))
        sparse.pax_headers = {"GNU.sparse.map": "0,0", "GNU.sparse.size": str(2**60), "GNU.sparse.name": "job/data"}
        tar.addfile(sparse)
    with pytest.raises(OSError, match="no space"):
        bring(new, tmp_path / "archive")
    assert os.listdir(new.workspace.path) == []


@pytest.mark.parametrize("method", ["symlink", "copy", "tar"])
def test_keys_and_values_may_be_named_like_the_state_point_file(new: Project, tmp_path: Path, method: str) -> None:
    statepoints = [{SP: None}, {"a": SP, "b": 1}, {"a": SP, "b": 2}, {"c": SP}]
    root = make_project(str(tmp_path / "named"), *statepoints)
    target = str(tmp_path / "target")
    if method == "tar":
        export_archive(Project(root), target, "tar", Options("full", method="copy"))
    else:
        export(Project(root), target, Options("full", method=method))  # type: ignore[arg-type]
    report = bring(new, target)
    assert not report.failed
    assert sorted(os.listdir(new.workspace.path)) == sorted(map(job_id, statepoints))
