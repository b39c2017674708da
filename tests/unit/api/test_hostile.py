"""Whatever lies in a workspace, questions are answered about the jobs that can be read."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from sigfs.errors import JobsCorrupted


@pytest.fixture
def hostile(project):
    """Give a project of two jobs, and of everything else that can be named like one."""
    workspace = Path(project.workspace.path)
    project.open({"n": 1})
    good = project.open({"n": 2, "x": [1, {"y": None}], "nan": float("nan"), "big": 2**63 - 1, "text": "\ud800"})
    Path(good.fn("signac_job_document.json")).write_text('{"a": NaN, "b": 123456789012345678901234567890}')

    def directory(digit: str) -> Path:
        path = workspace / (digit * 32)
        path.mkdir()
        return path

    (workspace / ("0" * 32)).write_text("a file")
    os.symlink("/", workspace / ("1" * 32))
    os.mkfifo(directory("2") / "signac_statepoint.json")
    (directory("3") / "signac_statepoint.json").mkdir()
    os.symlink("/etc/passwd", directory("4") / "signac_statepoint.json")
    (directory("5") / "signac_statepoint.json").write_text("[" * 100_000)
    (directory("6") / "signac_statepoint.json").write_bytes(b"\xff\xfe")
    directory("7")
    (directory("8") / "signac_statepoint.json").write_text('{"n": 3, "a.b": 1, "$gt": 2}')
    broken = directory("9")
    (broken / "signac_statepoint.json").write_text('{"n": {"deeper": 1}}')
    (broken / "signac_job_document.json").mkdir()
    (workspace / "notes \udcff.txt").write_text("")
    return project


def test_questions_are_answered(hostile):
    assert len(hostile) == len(list(hostile)) == 4
    assert len(hostile.find("n.$lt 3")) == 2
    assert len(hostile.find("doc.b.$exists true")) == 1
    assert len(hostile.find({"doc.a": {"$exists": False}})) == 3
    assert len([*hostile.groupby("n")]) == 4
    assert len([*hostile.groupby("x", default=0)]) == 2
    assert len([*hostile.groupby("nan")]) == 1
    assert "nan" in str(hostile.detect_schema())
    assert json.dumps(hostile.detect_schema().to_json())
    assert "2 more" not in hostile.find()._repr_html_()
    assert hostile.min_len_unique_id() == 1 or hostile.min_len_unique_id() == 2
    assert len(list(hostile.index())) == 4


def test_a_table_of_them_is_made(hostile):
    pytest.importorskip("pandas")
    assert len(hostile.to_dataframe(flatten=True)) == 4


def test_all_that_is_wrong_is_found_and_nothing_of_it_is_overwritten(hostile):
    def all_files() -> set[str]:
        return {name for _, directories, files in os.walk(hostile.root) for name in (*directories, *files)}

    before = all_files()
    with pytest.raises(JobsCorrupted) as caught:
        hostile.check()
    kinds = {finding.id[0]: finding.what for finding in caught.value.findings}
    assert kinds == {
        **dict.fromkeys("23456", "unreadable"),
        "7": "missing",
        "8": "misnamed",
        "9": "misnamed",
    }
    assert all_files() == before
    with pytest.raises(JobsCorrupted) as caught:
        hostile.repair()
    assert {each.id[0] for each in caught.value.done} == {"8", "9"}
    assert {finding.id[0] for finding in caught.value.findings} == set("234567")
    assert len(all_files()) == len(before)
    assert Path(hostile.workspace.path, "4" * 32, "signac_statepoint.json").is_symlink()
