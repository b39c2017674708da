"""Jobs outside of the workspace: whatever happens to them, or to the list of their directories, is told."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sigfs.index import Index
from sigfs.index.outside import known_outside, read_places, revalidate_places
from sigfs.model.indexed import add_indexed, read_indexed, remove_indexed
from sigfs.model.places import Listing, Place, Places
from sigfs.model.project import make_project
from sigfs.model.types import Findings, JobId
from sigfs.query import parse
from sigfs.watch import directories, looking, outside
from sigfs.watch.outside import PlacesWatcher
from tests.support.descriptors import assert_none_left, descriptors
from tests.support.wait import wait_until

SP_FILE = "signac_statepoint.json"
DOC_FILE = "signac_job_document.json"


class Watched:
    """A project whose indexed directories are watched, and an index that follows."""

    def __init__(self, root: str) -> None:
        self.root = Path(root)
        self.places = Places(str(self.root / "workspace"))
        self.index = Index()
        self.watcher = PlacesWatcher(
            root, self.places, self.index.apply, revalidate=self._revalidate, read=self._read
        )  # fmt: skip

    def _revalidate(self, listing: Listing, documents: bool, base: str | None) -> Findings:
        with self.index.reading() as table:
            known = known_outside(table, self.places, base)
        return revalidate_places(
            self.places, known, listing=listing, documents=documents, progress=self.watcher.progress
        )

    def _read(self, keys: Iterable[JobId], documents: bool) -> Findings:
        return read_places(self.places, keys, documents=documents)

    def said(self) -> dict[str, object]:
        with self.index.reading() as table:
            return {self.places.id_of(record.id).removeprefix("../"): record.statepoint for record in table.records()}

    def documents(self) -> dict[str, object]:
        with self.index.reading() as table:
            return {self.places.id_of(record.id).removeprefix("../"): record.document for record in table.records()}

    def wait_for(self, expected: dict[str, object]) -> None:
        try:
            wait_until(lambda: self.said() == expected)
        except TimeoutError:
            assert self.said() == expected

    def add(self, name: str, statepoint: object) -> None:
        os.makedirs(self.root / name, exist_ok=True)
        replace(self.root / name / SP_FILE, statepoint)


def replace(path: Path, value: object) -> None:
    temporary = path.with_name("._tmp")
    temporary.write_text(json.dumps(value))
    os.replace(temporary, path)


@pytest.fixture(params=["events", "few watches", "no events"])
def watched(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    """A project with a directory ``data``, indexed, and ``runs``, indexed at any depth."""
    monkeypatch.setattr(outside, "CHECK_S", 0.02)
    if request.param == "few watches":
        monkeypatch.setattr(directories, "MAX_WATCHES", 3)
    elif request.param == "no events":
        monkeypatch.setattr(looking, "is_remote", lambda _: True)
    for name in ("data", "runs"):
        (tmp_path / name).mkdir()
    root = make_project(tmp_path)
    add_indexed(root, "data")
    add_indexed(root, "runs", recursive=True)
    made = Watched(root)
    made.watcher.start()
    yield made
    made.watcher.stop()


def test_a_job_that_is_made_moved_changed_or_removed_is_told(watched: Watched) -> None:
    watched.add("data/one", {"a": 1})
    watched.wait_for({"data/one": {"a": 1}})
    watched.add("data/one", {"a": 2})
    watched.wait_for({"data/one": {"a": 2}})
    os.rename(watched.root / "data" / "one", watched.root / "data" / "two")
    watched.wait_for({"data/two": {"a": 2}})
    (watched.root / "data" / "two" / SP_FILE).write_text('{"a": 3}')
    watched.wait_for({"data/two": {"a": 3}})
    shutil.rmtree(watched.root / "data" / "two")
    watched.wait_for({})


def test_a_job_in_any_depth_is_told(watched: Watched) -> None:
    watched.add("runs/a/b/one", {"a": 1})
    watched.add("runs/a/two", {"a": 2})
    watched.wait_for({"runs/a/b/one": {"a": 1}, "runs/a/two": {"a": 2}})
    os.rename(watched.root / "runs" / "a", watched.root / "runs" / "c")
    watched.wait_for({"runs/c/b/one": {"a": 1}, "runs/c/two": {"a": 2}})
    watched.add("runs/c/b/one", {"a": 11})
    watched.wait_for({"runs/c/b/one": {"a": 11}, "runs/c/two": {"a": 2}})
    watched.add("runs/c/b/three", {"a": 3})
    watched.wait_for({"runs/c/b/one": {"a": 11}, "runs/c/b/three": {"a": 3}, "runs/c/two": {"a": 2}})
    os.rename(watched.root / "runs" / "c", watched.root / "away")
    watched.wait_for({})
    os.rename(watched.root / "away", watched.root / "runs" / "back")
    watched.wait_for({"runs/back/b/one": {"a": 11}, "runs/back/b/three": {"a": 3}, "runs/back/two": {"a": 2}})


def test_a_directory_becomes_a_job_with_its_state_point_file(watched: Watched) -> None:
    watched.add("runs/dir/inner", {"a": "inner"})
    watched.wait_for({"runs/dir/inner": {"a": "inner"}})
    watched.add("runs/dir", {"a": "outer"})
    watched.wait_for({"runs/dir": {"a": "outer"}})
    (watched.root / "data" / "foreign").mkdir()
    watched.add("data/foreign", {"a": 1})
    watched.wait_for({"runs/dir": {"a": "outer"}, "data/foreign": {"a": 1}})


def test_a_job_without_its_state_point_file_stays_until_its_directory_is_gone(watched: Watched) -> None:
    for name in ("one", "two"):
        watched.add(f"data/{name}", {"a": name})
    watched.wait_for({"data/one": {"a": "one"}, "data/two": {"a": "two"}})
    os.unlink(watched.root / "data" / "one" / SP_FILE)
    watched.add("data/two", {"a": 2})
    watched.wait_for({"data/one": {"a": "one"}, "data/two": {"a": 2}})
    watched.watcher.now()
    assert watched.said() == {"data/one": {"a": "one"}, "data/two": {"a": 2}}
    os.rmdir(watched.root / "data" / "one")
    watched.wait_for({"data/two": {"a": 2}})


def test_a_broken_state_point_leaves_what_is_known_until_it_is_whole(watched: Watched) -> None:
    watched.add("data/one", {"a": 1})
    watched.wait_for({"data/one": {"a": 1}})
    (watched.root / "data" / "one" / SP_FILE).write_text('{"a": ')
    watched.add("data/two", {"a": 2})
    watched.wait_for({"data/one": {"a": 1}, "data/two": {"a": 2}})
    (watched.root / "data" / "one" / SP_FILE).write_text('{"a": 3}')
    watched.wait_for({"data/one": {"a": 3}, "data/two": {"a": 2}})


def test_an_indexed_directory_may_vanish_return_and_be_replaced(watched: Watched) -> None:
    data = watched.root / "data"
    watched.add("data/one", {"a": 1})
    watched.wait_for({"data/one": {"a": 1}})
    os.rename(data, watched.root / "away")
    watched.wait_for({})
    os.rename(watched.root / "away", data)
    watched.wait_for({"data/one": {"a": 1}})
    watched.add("other/one", {"a": 2})
    os.rename(data, watched.root / "away")
    os.rename(watched.root / "other", data)
    watched.wait_for({"data/one": {"a": 2}})
    watched.add("data/one", {"a": 3})
    watched.wait_for({"data/one": {"a": 3}})


def test_directories_are_indexed_and_no_more_as_the_configuration_says(watched: Watched) -> None:
    watched.add("more/one", {"a": 1})
    watched.add("data/two", {"a": 2})
    watched.wait_for({"data/two": {"a": 2}})
    add_indexed(str(watched.root), "more")
    watched.wait_for({"more/one": {"a": 1}, "data/two": {"a": 2}})
    for name in ("data", "runs", "more"):
        remove_indexed(str(watched.root), name)
    watched.wait_for({})
    add_indexed(str(watched.root), "data")
    watched.wait_for({"data/two": {"a": 2}})


def test_a_configuration_that_cannot_be_read_changes_nothing(watched: Watched) -> None:
    watched.add("data/one", {"a": 1})
    watched.wait_for({"data/one": {"a": 1}})
    config = watched.root / ".signac" / "config"
    text = config.read_text()
    config.write_text(text + "[indexed\n")
    watched.add("data/two", {"a": 2})
    watched.wait_for({"data/one": {"a": 1}, "data/two": {"a": 2}})
    config.write_text(text.replace("data, ", ""))
    watched.wait_for({})


def test_overlapping_directories_give_each_job_once(watched: Watched) -> None:
    add_indexed(str(watched.root), ".", recursive=True)
    watched.add("data/one", {"a": 1})
    watched.add("data/deep/two", {"a": 2})
    watched.wait_for({"data/one": {"a": 1}, "data/deep/two": {"a": 2}})
    watched.add("data/one", {"a": 11})
    os.rename(watched.root / "data" / "deep", watched.root / "runs" / "deep")
    watched.wait_for({"data/one": {"a": 11}, "runs/deep/two": {"a": 2}})
    assert len(watched.index) == 2


def test_a_storm_of_jobs_is_told_to_the_last(watched: Watched) -> None:
    for number in range(300):
        watched.add(f"data/{number}", {"a": number})
        if number % 3 == 0:
            shutil.rmtree(watched.root / "data" / f"{number}")
    watched.wait_for({f"data/{number}": {"a": number} for number in range(300) if number % 3})


def test_documents_are_read_when_somebody_asks_and_followed(watched: Watched) -> None:
    watched.add("data/one", {"a": 1})
    watched.wait_for({"data/one": {"a": 1}})
    replace(watched.root / "data" / "one" / DOC_FILE, {"x": 1})
    assert watched.documents() == {"data/one": None}
    watched.watcher.now()
    assert watched.documents() == {"data/one": {"x": 1}}
    replace(watched.root / "data" / "one" / DOC_FILE, {"x": 2})
    wait_until(lambda: watched.watcher.now() or watched.documents() == {"data/one": {"x": 2}})


def test_the_status_says_what_is_indexed_and_what_is_the_matter(watched: Watched) -> None:
    watched.add("data/one", {"a": 1})
    watched.wait_for({"data/one": {"a": 1}})
    shutil.rmtree(watched.root / "runs")

    def facts() -> list[tuple[object, ...]]:
        return [(each["path"], each["recursive"], each["jobs"], each["trouble"]) for each in watched.watcher.status()]

    data, runs = str(watched.root / "data"), str(watched.root / "runs")
    wait_until(lambda: facts() == [(data, False, 1, ""), (runs, True, 0, "missing")])


def test_nothing_is_left_open_by_a_watcher_that_was_stopped(tmp_path: Path) -> None:
    before = descriptors()
    watched = Watched(make_project(tmp_path))
    watched.watcher.start()
    watched.watcher.now()
    watched.watcher.stop()
    watched.watcher.stop()
    watched.watcher.now()
    assert_none_left(before)


class Silence:
    """An indexed directory that does not answer between ``begin`` and ``end``."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked, self._answer = threading.Event(), threading.Event()
        self.end()
        self._path = str(path)
        monkeypatch.setattr(outside, "START_PATIENCE_S", 0.1)
        look, same = Places.look, looking.identity

        def hang(places: Places, place: Place, *arguments: Any) -> None:
            self._wait(place.path)
            look(places, place, *arguments)

        monkeypatch.setattr(Places, "look", hang)
        monkeypatch.setattr(looking, "identity", lambda path: self._wait(path) or same(path))

    def _wait(self, path: str) -> None:
        if path == self._path and not self._answer.is_set():
            self.asked.set()
            self._answer.wait()

    def end(self) -> None:
        self._answer.set()

    def begin(self) -> None:
        self._answer.clear()


@pytest.fixture
def silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Silence]:
    made = Silence(tmp_path / "data", monkeypatch)
    yield made
    made.end()


def test_the_end_does_not_wait_for_a_directory_that_does_not_answer(tmp_path: Path, silence: Silence) -> None:
    (tmp_path / "data").mkdir()
    root = make_project(tmp_path)
    add_indexed(root, "data")
    before = descriptors()
    watched = Watched(root)
    watched.add("data/one", {"a": 1})
    silence.begin()
    watched.watcher.start()
    try:
        assert silence.asked.wait(30)
        watched.watcher.stop()
    finally:
        silence.end()
    assert watched.said() == {}
    assert_none_left(before)


def test_a_directory_that_does_not_answer_holds_up_no_other(watched: Watched, silence: Silence) -> None:
    watched.watcher._looks.patience_s = 0.1
    watched.add("data/one", {"a": 1})
    watched.wait_for({"data/one": {"a": 1}})
    silence.begin()
    wait_until(lambda: watched.watcher.silent == [str(watched.root / "data")])
    watched.add("data/two", {"a": 2})
    watched.add("runs/three", {"a": 3})
    watched.wait_for({"data/one": {"a": 1}, "runs/three": {"a": 3}})
    (watched.root / "runs/three" / DOC_FILE).write_text('{"x": 1}')
    wait_until(lambda: watched.watcher.now() or watched.documents()["runs/three"] == {"x": 1})
    assert watched.watcher.status()[0]["trouble"] == f"{watched.root}/data: {looking.SILENT}"
    silence.end()
    watched.wait_for({"data/one": {"a": 1}, "data/two": {"a": 2}, "runs/three": {"a": 3}})
    wait_until(lambda: watched.watcher.silent == [])


def test_a_start_waits_for_no_directory_that_does_not_answer(tmp_path: Path, silence: Silence) -> None:
    root = make_project(tmp_path)
    for name in ("data", "runs"):
        (tmp_path / name).mkdir()
        add_indexed(root, name)
    watched = Watched(root)
    watched.places.places = read_indexed(root)
    watched.add("data/one", {"a": 1})
    watched.add("runs/two", {"a": 2})
    silence.begin()
    try:
        assert watched.watcher.catch_up(watched.index.apply) == 0
        assert watched.said() == {"runs/two": {"a": 2}}
        assert watched.watcher.silent == [str(tmp_path / "data")]
        watched.watcher.start()
        silence.end()
        watched.wait_for({"data/one": {"a": 1}, "runs/two": {"a": 2}})
    finally:
        watched.watcher.stop()


def test_a_start_that_is_called_off_does_not_wait_either(tmp_path: Path, silence: Silence) -> None:
    class CalledOffError(Exception):
        pass

    def call_off(done: int, total: int) -> None:
        if silence.asked.is_set():
            raise CalledOffError

    (tmp_path / "data").mkdir()
    root = make_project(tmp_path)
    add_indexed(root, "data")
    watched = Watched(root)
    watched.places.places = read_indexed(root)
    silence.begin()
    with pytest.raises(CalledOffError):
        watched.watcher.catch_up(watched.index.apply, call_off)
    watched.watcher.stop()


def test_queries_meet_the_jobs_by_key(watched: Watched) -> None:
    watched.add("data/one", {"a": 1})
    watched.wait_for({"data/one": {"a": 1}})
    key = watched.places.key_at(str(watched.root / "data" / "one"))
    assert watched.index.find(parse("a 1")) == watched.index.find(parse(f"id {key}")) == [key]


def test_a_queue_that_was_too_short_is_made_up_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    (tmp_path / "data").mkdir()
    watched = Watched(make_project(tmp_path))
    request.addfinalizer(watched.watcher.stop)
    add_indexed(str(tmp_path), "data")
    read: Callable[[directories.DirectoryWatches], directories.Noticed] = directories.DirectoryWatches.read
    lost = []

    def lossy(watches: directories.DirectoryWatches) -> directories.Noticed:
        found = read(watches)
        if found.names and len(watched.index) and not lost:
            lost.append(found)
            return directories.Noticed(overflown=True)
        return found

    monkeypatch.setattr(directories.DirectoryWatches, "read", lossy)
    watched.watcher.start()
    watched.add("data/one", {"a": 1})
    watched.wait_for({"data/one": {"a": 1}})
    watched.add("data/two", {"a": 2})
    watched.wait_for({"data/one": {"a": 1}, "data/two": {"a": 2}})
    watched.add("data/two", {"a": 3})
    watched.wait_for({"data/one": {"a": 1}, "data/two": {"a": 3}})
    assert lost
