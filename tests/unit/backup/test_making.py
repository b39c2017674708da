"""What a backup reads, writes and keeps."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from sigfs.api.project import Project
from sigfs.backup import kept
from sigfs.backup.making import Options, Report, back_up
from sigfs.errors import BackupError, ExportError
from sigfs.query import parse_text
from tests.support.projects import add_job, job_id, make_project

SP, DOC = "signac_statepoint.json", "signac_job_document.json"
STATEPOINTS: list[dict[str, object]] = [{"a": a} for a in range(4)]
MORE = Options(incremental=True)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = Path(make_project(str(tmp_path / "project"), *STATEPOINTS))
    settle(root)
    return root


def settle(root: Path) -> None:
    """Let the files be older than what the clock of a file system might confuse."""
    past = time.time() - 100
    for path in root.glob("workspace/*/*"):
        os.utime(path, (past, past))


def run(root: Path, options: Options = MORE) -> Report:
    return back_up(Project(root), str(root.parent / "backup"), options)


def metadata(root: Path) -> Path:
    return root.parent / "backup" / "metadata"


def says(root: Path) -> kept.Backup:
    backup = kept.read(str(metadata(root)))
    assert backup is not None
    return backup


def test_an_increment_has_what_has_changed_and_nothing_else(root: Path) -> None:
    assert run(root).written == ["metadata/0001.jsonl", "restore.sh"]
    first = (metadata(root) / "0001.jsonl").read_bytes()
    assert run(root).written == []
    new = add_job(str(root), {"a": 9})
    changed, gone = (root / "workspace" / job_id(statepoint) for statepoint in STATEPOINTS[:2])
    (changed / DOC).write_text('{"b": 1}')
    shutil.rmtree(gone)
    report = run(root)
    assert (report.added, report.changed, report.removed) == ([os.path.basename(new)], [changed.name], [gone.name])
    assert report.unchanged == 2
    assert report.written == ["metadata/0002.jsonl", "restore.sh"]
    assert (metadata(root) / "0001.jsonl").read_bytes() == first
    head, *lines = map(json.loads, (metadata(root) / "0002.jsonl").read_text().splitlines())
    assert (head["format"], head["full"]) == ("sigfs-sidecar", False)
    assert {line["id"]: (line["sp"], line["doc"], line.get("gone", False)) for line in lines} == {
        os.path.basename(new): ({"a": 9}, None, False),
        changed.name: (STATEPOINTS[0], {"b": 1}, False),
        gone.name: (STATEPOINTS[1], None, True),
    }
    assert sorted(says(root).jobs) == sorted([os.path.basename(new), *map(job_id, STATEPOINTS)])


def test_a_full_backup_after_others_keeps_what_they_have_of_jobs_that_are_gone(root: Path) -> None:
    run(root)
    shutil.rmtree(root / "workspace" / job_id({"a": 1}))
    assert run(root, Options()).written == ["metadata/0002.jsonl", "restore.sh"]
    (metadata(root) / "0001.jsonl").unlink()
    assert says(root).jobs[job_id({"a": 1})].gone
    assert len(says(root).jobs) == 4
    add_job(str(root), {"a": 1})
    assert run(root).changed == [job_id({"a": 1})]
    assert not says(root).jobs[job_id({"a": 1})].gone


def test_what_was_right_is_not_given_up_for_what_is_damaged(root: Path) -> None:
    one, two, three, _ = (root / "workspace" / job_id(statepoint) for statepoint in STATEPOINTS)
    (three / DOC).write_text('{"b": 1}')
    run(root)
    shutil.copy(two / SP, one / SP)
    (two / SP).write_bytes(b"")
    (three / DOC).write_text('{"b": ')
    report = run(root, Options())
    assert sorted(report.unreadable) == sorted(path.name for path in (one, two, three))
    jobs = says(root).jobs
    assert json.loads(jobs[one.name].files[SP].data) == STATEPOINTS[0]
    assert json.loads(jobs[two.name].files[SP].data) == STATEPOINTS[1]
    assert jobs[three.name].files[DOC].data == b'{"b": 1}'
    assert not any(job.gone for job in jobs.values())
    (three / DOC).write_text('{"b": 2}')
    assert three.name in run(root).changed


def test_a_filter_leaves_the_other_jobs_of_the_backup_alone(root: Path) -> None:
    only = Options(filter=parse_text("a.$lt 2"), incremental=True)
    assert len(run(root, only).added) == 2
    assert len(run(root).added) == 2
    assert run(root, only).removed == []
    assert len(says(root).jobs) == 4


def test_a_dry_run_writes_nothing(root: Path) -> None:
    assert len(run(root, Options(dry_run=True)).added) == 4
    assert not metadata(root).exists()
    assert not (root / ".sigfs").exists()


def test_the_backup_of_another_project_is_not_touched(root: Path) -> None:
    run(root)
    other = Path(make_project(str(root.parent / "other"), {"a": 1}))
    with pytest.raises(BackupError, match="has the backup of"):
        run(other)
    with pytest.raises(ExportError, match="inside the workspace"):
        back_up(Project(root), str(root / "workspace" / "backup"), Options())
    moved = root.rename(root.parent / "moved")
    assert run(moved).unchanged == 4
    assert str(moved) in (root.parent / "backup" / "restore.sh").read_text()


def test_lines_that_are_damaged_are_named_and_all_is_backed_up_anew(root: Path) -> None:
    run(root)
    path = metadata(root) / "0001.jsonl"
    lines = path.read_bytes().splitlines()
    lines[-1] = lines[-1][:-30]
    path.write_bytes(b"\n".join(lines))
    report = run(root)
    assert report.damaged == [f"0001.jsonl, line {len(lines)}"]
    assert report.written[0] == "metadata/0002.jsonl"
    assert run(root).damaged == []
    path = metadata(root) / "0002.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"version": 1', b'"version": 2'))
    with pytest.raises(BackupError, match="is not that of a backup of this version"):
        run(root)
