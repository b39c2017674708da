"""An index of any directories of jobs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

import sigfs
from sigfs.errors import AmbiguousId, NoSuchJob


def place_job(path: Path, statepoint: object) -> str:
    path.mkdir(parents=True)
    (path / "signac_statepoint.json").write_text(json.dumps(statepoint))
    return str(path)


def test_an_index_is_a_mapping_of_ids_to_jobs(twelve):
    index = sigfs.Index(twelve.workspace)
    assert isinstance(index, Mapping)
    assert len(index) == 12
    assert sorted(index) == sorted(job.id for job in twelve)
    job = next(iter(twelve))
    assert index[job.id].path == job.path
    assert index.get("f" * 32) is None
    assert job in index
    assert job.id in index
    assert "f" * 32 not in index
    assert dict(index.items()).keys() == {*index}
    assert repr(index) == f"Index({twelve.workspace.path!r})"
    assert index


def test_an_id_is_looked_up_by_how_it_begins(twelve):
    index = sigfs.Index(twelve.workspace)
    job = next(iter(twelve))
    digits = twelve.min_len_unique_id()
    assert index.lookup(job.id[:digits]) == index.lookup(job.id) == job.id
    assert index[job.id[:digits]].id == job.id
    with pytest.raises(KeyError, match="begins with"):
        index.lookup("f" * 31)
    with pytest.raises(NoSuchJob):
        _ = index["x"]
    with pytest.raises(LookupError) as caught:
        index.lookup("")
    assert isinstance(caught.value, AmbiguousId)
    assert not isinstance(caught.value, KeyError)


def test_calling_an_index_gives_all_entries(twelve):
    entries = list(sigfs.Index(twelve.workspace)())
    assert sorted(entry["sp"]["n"] for entry in entries) == [*range(12)]
    assert not any("doc" in entry for entry in entries)
    entries = list(sigfs.Index(twelve.workspace).build(include_documents=True)())
    assert sorted(entry["doc"].get("result", 0) for entry in entries) == [0] * 6 + [10, 30, 50, 70, 90, 110]


def test_an_index_knows_what_has_changed_since(twelve):
    index = sigfs.Index(twelve.workspace).build()
    assert len(index.find("n.$lt 3")) == 3
    twelve.open({"n": 1, "x": 1})
    assert len(index.find("n.$lt 3")) == 4


def test_jobs_in_several_directories_are_found_and_called_by_where_they_are(twelve):
    root = Path(twelve.root)
    mine = place_job(root / "data" / "mine", {"n": 100})
    deep = place_job(root / "runs" / "a" / "b", {"n": 200})
    index = sigfs.Index(root / "data", twelve.workspace, root / "runs")
    assert len(index) == 13
    assert {os.fspath(job) for job in index.find("n.$gt 10")} >= {mine}
    assert "../data/mine" in index
    assert os.fspath(index["../data/mine"]) == mine
    assert index.lookup("../data/mine") == "../data/mine"
    assert index.find(n=100)[0] in index
    index = sigfs.Index(root, recursive=True)
    assert {*index} == {job.id for job in twelve} | {"../data/mine", "../runs/a/b"}
    assert os.fspath(index["../runs/a/b"]) == deep
    Path(deep, "signac_statepoint.json").write_text('{"n": 201}')
    assert [os.fspath(job) for job in index.find("n 201")] == [deep]


def test_jobs_that_belong_to_no_project_are_called_by_their_path(tmp_path):
    job = place_job(tmp_path / "a" / "job", {"x": 1})
    index = sigfs.Index(tmp_path / "a")
    assert [*index] == [job]
    assert os.fspath(index[job]) == job
    assert len(index.find(x=1)) == 1
    assert len(index.find(x=2)) == 0


def test_the_jobs_of_many_projects_are_found_below_a_directory(tmp_path):
    for name in ("one", "two"):
        sigfs.init_project(tmp_path / name).open({"a": 1})
    index = sigfs.Index(tmp_path, recursive=True)
    assert len(index.find("a 1")) == 2
    assert {Path(job).parts[-3] for job in index.find("a 1")} == {"one", "two"}


def test_an_index_that_is_kept_is_used_by_the_next(twelve, monkeypatch):
    twelve.index.store_cache()
    assert Path(twelve.root, ".sigfs", "index", "snapshot").exists()
    monkeypatch.setattr("sigfs.api.refreshing.crawl", None)
    assert len(sigfs.get_project(twelve.root)) == 12
    assert len(sigfs.Index(twelve.workspace)) == 12


def test_with_auto_cache_what_was_read_is_kept(twelve):
    assert len(sigfs.Index(twelve.workspace)) == 12
    assert not Path(twelve.root, ".sigfs").exists()
    assert len(sigfs.Index(twelve.workspace, auto_cache=True)) == 12
    assert Path(twelve.root, ".sigfs", "index", "snapshot").exists()


def test_an_index_that_somebody_else_keeps_is_not_kept_twice(twelve):
    from sigfs.index.store import Store

    with Store.open(twelve.root, twelve.workspace) as store:
        assert store.claim()
        with pytest.raises(OSError, match="in use by"):
            twelve.update_cache()
    twelve.update_cache()


def test_a_directory_that_is_not_there_cannot_be_indexed(tmp_path):
    with pytest.raises(FileNotFoundError, match="nope"):
        sigfs.Index(tmp_path / "nope")


def test_a_progress_bar_is_shown_where_a_terminal_waits(twelve, monkeypatch, capsys):
    from sigfs.api import progress

    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(progress.time, "monotonic", iter(range(0, 10**6, 100)).__next__)
    assert len(sigfs.Index(twelve.workspace)) == 12
    assert "reading jobs" in capsys.readouterr().err


def test_the_working_directory_is_indexed_if_nothing_is_named(twelve, monkeypatch):
    monkeypatch.chdir(twelve.workspace.path)
    assert len(sigfs.Index()) == 12
    assert os.getcwd() == twelve.workspace.path
