"""``sigfs export`` on the command line."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sigfs.cli.app import sigfs
from sigfs.cli.exits import Exit
from sigfs.model.views import NamedView, write_view
from tests.support.projects import make_project


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = make_project(str(tmp_path / "project"), *({"a": a, "b": b} for a in (1, 2) for b in (1, 2)))
    monkeypatch.chdir(root)
    return Path(root)


def run(*words: str) -> Result:
    return CliRunner().invoke(sigfs, ["export", *words], catch_exceptions=False)


def test_links_are_made_brought_up_to_date_and_counted(root: Path) -> None:
    assert run("view").stdout == "4 added, 0 changed, 0 removed, 0 unchanged\n"
    assert run("view").stdout == "0 added, 0 changed, 0 removed, 4 unchanged\n"
    assert (root / "view/a/1/b/2/signac_statepoint.json").is_file()


def test_a_dry_run_names_what_it_would_do(root: Path) -> None:
    result = run("view", "--dry-run", "--filter", "a 1")
    assert result.stdout == "+ b/1\n+ b/2\n2 added, 0 changed, 0 removed, 0 unchanged\n"
    assert not (root / "view").exists()


def test_a_kept_view_has_its_layout_and_filter(root: Path) -> None:
    write_view(str(root), NamedView("mine", "hive", "a 1"))
    run("--view", "mine", "view")
    assert sorted(os.listdir(root / "view")) == [".sigfs", "a=1"]
    assert run("--view", "mine", "--filter", "b 2", "--layout", "full", "view").exit_code == 0
    assert sorted(os.listdir(root / "view")) == [".sigfs", "a"]


def test_what_is_in_the_way_is_named_and_the_exit_code_says_so(root: Path) -> None:
    (root / "view/a/1/b").mkdir(parents=True)
    (root / "view/a/1/b/1").write_text("mine")
    result = run("view", "--json")
    assert result.exit_code == Exit.FAILURE
    assert json.loads(result.stdout)["in_the_way"] == ["a/1/b/1"]
    assert "! a/1/b/1" in run("view").stdout


@pytest.mark.parametrize("method", ["--copy", "--hardlink"])
def test_copies_are_made_by_either_method(root: Path, method: str) -> None:
    assert run("view", method).stdout.startswith("4 added")
    assert not (root / "view/a/1/b/2").is_symlink()


def test_an_archive_is_one_file(root: Path) -> None:
    assert run("view.tar", "--archive", "tar").exit_code == 0
    assert (root / "view.tar").is_file()
    with pytest.raises(FileExistsError):
        run("view.tar", "--archive", "tar")


def test_unfit_words_are_refused(root: Path) -> None:
    for words in (["view", "--layout", "nonsense"], ["view", "--archive", "rar"], ["--view", "none", "view"]):
        assert CliRunner().invoke(sigfs, ["export", *words]).exit_code != 0
    assert not (root / "view").exists()
