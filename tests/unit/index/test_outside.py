"""Jobs outside of the workspace: read and compared like those in it."""

import json
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from sigfs.index import Index, outside
from sigfs.index.crawl import revalidate
from sigfs.index.outside import revalidate_places, split
from sigfs.model import files
from sigfs.model.places import Place, Places
from sigfs.model.types import Change
from sigfs.model.workspace import Workspace

STATEPOINT_FILE = "signac_statepoint.json"
DOCUMENT_FILE = "signac_job_document.json"


@pytest.fixture(autouse=True)
def _settled(monkeypatch):
    """Every file counts as old enough for its stamp to be relied on."""
    monkeypatch.setattr(files, "RACY_S", -3600.0)


@pytest.fixture
def places(tmp_path):
    (tmp_path / "workspace").mkdir()
    (tmp_path / "data").mkdir()
    return Places(str(tmp_path / "workspace"), [Place(str(tmp_path / "data"), recursive=True)])


def add(directory, statepoint, document=None):
    os.makedirs(directory, exist_ok=True)
    for name, content in ((STATEPOINT_FILE, statepoint), (DOCUMENT_FILE, document)):
        if content is not None:
            with open(os.path.join(directory, name), "w", encoding="utf-8") as file:
                json.dump(content, file)


def known(index):
    with index.reading() as table:
        return table.stamped()


def said(places, findings):
    return {
        os.path.basename(places.id_of(change.id)): None
        if change.record is None
        else (change.record.statepoint, change.record.document)
        for change in findings.changes
    }


def test_with_nothing_known_every_job_is_read(places, tmp_path):
    add(tmp_path / "data" / "one", {"a": 1}, {"x": 1})
    add(tmp_path / "data" / "deep" / "two", {"a": 2})
    assert said(places, revalidate_places(places)) == {"one": ({"a": 1}, None), "two": ({"a": 2}, None)}
    assert said(places, revalidate_places(places, documents=True)) == {
        "one": ({"a": 1}, {"x": 1}),
        "two": ({"a": 2}, {}),
    }


def test_only_what_differs_is_told(places, tmp_path):
    for name in ("same", "sp", "doc", "gone"):
        add(tmp_path / "data" / name, {"a": name}, {"x": 1})
    index = Index(documents=True)
    index.apply(revalidate_places(places, documents=True).changes)
    assert revalidate_places(places, known(index), documents=True) == ([], [])
    add(tmp_path / "data" / "sp", {"a": "changed"})
    add(tmp_path / "data" / "doc", None, {"x": 22})
    os.rename(tmp_path / "data" / "gone", tmp_path / "gone")
    add(tmp_path / "data" / "new", {"a": "new"})
    assert said(places, revalidate_places(places, known(index))) == {
        "sp": ({"a": "changed"}, None),
        "gone": None,
        "new": ({"a": "new"}, None),
    }
    found = revalidate_places(places, known(index), documents=True)
    assert said(places, found)["doc"] == ({"a": "doc"}, {"x": 22})
    assert said(places, found)["sp"] == ({"a": "changed"}, None)  # of the document nothing is new
    index.apply(found.changes)
    assert revalidate_places(places, known(index), documents=True) == ([], [])


def test_a_job_with_a_broken_state_point_is_pending_and_keeps_what_is_known(places, tmp_path):
    add(tmp_path / "data" / "one", {"a": 1})
    index = Index()
    index.apply(revalidate_places(places).changes)
    (tmp_path / "data" / "one" / STATEPOINT_FILE).write_text("{")
    assert revalidate_places(places, known(index)) == ([], index.ids())


def test_jobs_of_a_directory_that_cannot_be_read_are_not_gone(places, tmp_path, monkeypatch):
    add(tmp_path / "data" / "one", {"a": 1})
    index = Index()
    index.apply(revalidate_places(places).changes)
    listing = places.listing()
    listing.jobs.clear()
    listing.unreadable[str(tmp_path / "data")] = "Input/output error"
    assert revalidate_places(places, known(index), listing=listing) == ([], [])
    listing.unreadable.clear()
    assert revalidate_places(places, known(index), listing=listing).changes == [Change(index.ids()[0], None)]


def test_jobs_of_a_place_that_is_listed_no_more_are_gone(places, tmp_path):
    add(tmp_path / "data" / "one", {"a": 1})
    index = Index()
    index.apply(revalidate_places(places).changes)
    places.places = ()
    assert said(places, revalidate_places(places, known(index))) == {"one": None}


def test_any_executor_reads_them(places, tmp_path):
    for number in range(50):
        add(tmp_path / "data" / f"{number}", {"a": number})
    with ThreadPoolExecutor(2) as pool:
        assert revalidate_places(places, executor=pool) == revalidate_places(places)


def test_a_job_that_goes_between_the_listing_and_the_reading_is_gone(places, tmp_path, monkeypatch):
    add(tmp_path / "data" / "one", {"a": 1})
    index = Index()
    index.apply(revalidate_places(places).changes)
    add(tmp_path / "data" / "one", {"a": 22})
    listing = places.listing()
    os.rename(tmp_path / "data" / "one", tmp_path / "one")
    assert said(places, revalidate_places(places, known(index), listing=listing)) == {"one": None}


def test_what_is_known_is_parted_between_the_workspace_and_the_places(places, tmp_path):
    workspace = Workspace(str(tmp_path / "workspace"))
    inside = workspace.create({"a": 1})
    add(tmp_path / "data" / "one", {"a": 1})
    index = Index.build(workspace)
    index.apply(revalidate_places(places).changes)
    managed, rest = split(known(index), places)
    assert managed.ids == [inside]
    assert rest.ids == [places.key_at(str(tmp_path / "data" / "one"))]
    assert revalidate(workspace, managed) == revalidate_places(places, rest) == outside.Findings([], [])
