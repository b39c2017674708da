"""The examples of the pages on the Python interface do what they say, in a project that is new."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

import sigfs

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.parametrize("page", ["documents.md", "jobs.md"])
def test_the_examples_of_a_page_do_what_they_say(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sigfs.init_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    result = doctest.testfile(str(DOCS / page), module_relative=False)
    assert result.attempted
    assert not result.failed
