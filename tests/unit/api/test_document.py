"""Documents: each call one change, several calls one transaction."""

# ruff: noqa: PT012 - the block is what is tested

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from sigfs.api.document import Document
from sigfs.errors import DocumentChanged, InvalidDocument, InvalidValue, NoSuchJob
from sigfs.model import files
from sigfs.model.document import JsonFile

NAME = "document.json"


def of(directory: Path) -> Document:
    return Document(JsonFile(lambda: os.open(directory, files.DIRECTORY_FLAGS), NAME))


@pytest.fixture
def document(tmp_path: Path) -> Document:
    return of(tmp_path)


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the file said each time that it was replaced."""
    states = []
    real = files.fsync_directory

    def note(fd: int) -> None:
        states.append((tmp_path / NAME).read_text())
        real(fd)

    monkeypatch.setattr(files, "fsync_directory", note)
    return states


def test_a_document_is_read_and_written_by_items_and_attributes(document: Document, tmp_path: Path) -> None:
    assert document == {}
    assert not (tmp_path / NAME).exists()
    document.a = {"b": [1]}
    document.a.b.append(2)
    document["a"]["c"] = None
    assert json.loads((tmp_path / NAME).read_text()) == {"a": {"b": [1, 2], "c": None}}
    assert of(tmp_path).a.b == [1, 2]


def test_a_transaction_is_written_once_and_whatever_handle_takes_part(
    document: Document, tmp_path: Path, written: list[str]
) -> None:
    document.n = 0
    written.clear()
    with document.transaction() as same:
        assert same is document
        document.n += 1
        of(tmp_path).n += 1
        with of(tmp_path).transaction() as inner:
            inner.n += 1
        document.log = []
        document.log += [document.n]
        assert document == {"n": 3, "log": [3]}
    assert written == ['{"n": 3, "log": [3]}']


def test_a_transaction_that_raises_writes_nothing(document: Document, written: list[str]) -> None:
    document.n = 0
    written.clear()
    with pytest.raises(KeyboardInterrupt), document.transaction():
        document.n = 1
        document.clear()
        raise KeyboardInterrupt
    with pytest.raises(InvalidValue), document.transaction():
        document.n = 1
        document.bad = object()
    with pytest.raises(KeyError), document.transaction():
        document.n = 1
        del document["nope"]
    assert document == {"n": 0}
    assert written == []


def test_an_inner_transaction_that_raises_is_taken_back_alone(document: Document) -> None:
    with document.transaction():
        document.outer = 1
        with pytest.raises(ZeroDivisionError), document.transaction():
            document.outer = 2
            document.inner = 1
            raise ZeroDivisionError
        document.after = True
    assert document == {"outer": 1, "after": True}


def test_many_changes_in_a_transaction_cost_as_many_steps_and_no_copies(document: Document) -> None:
    with document.transaction():
        document.values_of = []
        for n in range(3000):
            document.values_of.append(n)
            document[f"key{n}"] = n
    assert document.values_of == list(range(3000))


def test_a_transaction_waits_only_as_long_as_it_may(document: Document) -> None:
    seen: list[type[BaseException]] = []

    def other() -> None:
        try:
            with document.transaction(timeout_s=0.01):
                pass
        except TimeoutError as error:
            seen.append(type(error))

    with document.transaction():
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert seen == [TimeoutError]


def test_a_change_in_one_call_is_made_again_after_one_by_who_takes_no_lock_and_a_transaction_is_not(
    document: Document, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document.log = []
    real, disturbed = files.write_new, []

    def disturb(fd: int, name: str, data: bytes, mode: int = 0o666) -> None:
        if not disturbed:
            disturbed.append(name)
            (tmp_path / "theirs").write_text('{"log": ["theirs"]}')
            os.rename(tmp_path / "theirs", tmp_path / NAME)
        real(fd, name, data, mode)

    monkeypatch.setattr(files, "write_new", disturb)
    document.log.append("ours")
    assert document == {"log": ["theirs", "ours"]}
    disturbed.clear()
    with pytest.raises(DocumentChanged), document.transaction():
        document.log.append("lost")
    assert document == {"log": ["theirs"]}


def test_a_document_that_is_broken_is_shown_as_what_is_wrong_and_is_not_overwritten(
    document: Document, tmp_path: Path
) -> None:
    (tmp_path / NAME).write_text("{broken")
    assert "is not JSON" in repr(document)
    for action in (
        document,
        document.clear,
        lambda: document.update(a=1),
        lambda: document.reset({}),
        lambda: document.a,
    ):
        with pytest.raises(InvalidDocument, match=NAME):
            action()
    assert (tmp_path / NAME).read_text() == "{broken"


def test_a_document_whose_job_is_gone_says_so(tmp_path: Path) -> None:
    def gone() -> int:
        raise NoSuchJob("no such job")

    document = Document(JsonFile(gone, NAME))
    box = document
    for action in (document, document.clear, lambda: box["a"], lambda: box.a, lambda: box.a.b, lambda: len(document)):
        with pytest.raises(NoSuchJob):
            action()
    with pytest.raises(NoSuchJob):
        document.a = 1
    with pytest.raises(NoSuchJob):
        del document.a
    assert repr(document) == "<Document: no such job>"
