"""Views that a project keeps under a name."""

from __future__ import annotations

from pathlib import Path

import pytest

from sigfs.errors import InvalidConfig, NoSuchView
from sigfs.model.views import NamedView, config_path, find_view, read_views, remove_view, write_view


def test_a_view_is_kept_and_forgotten(tmp_path: Path) -> None:
    root = str(tmp_path)
    assert read_views(root) == {}
    hot = NamedView("hot", "auto", 'T.$gt 3 name "a, b" # c')
    odd = NamedView("odd_1", "T_{T:.1f}/{{auto}}/{job.doc.x}", "")
    write_view(root, hot)
    write_view(root, odd)
    assert read_views(root) == {"hot": hot, "odd_1": odd}
    assert find_view(root, "hot") == hot
    remove_view(root, "hot")
    assert read_views(root) == {"odd_1": odd}


def test_only_the_file_of_sigfs_is_written_and_what_else_it_says_stays(tmp_path: Path) -> None:
    config = Path(config_path(str(tmp_path)))
    config.parent.mkdir()
    config.write_text("# mine\nother = 1\n\n[section]\n# c\na = b\n")
    write_view(str(tmp_path), NamedView("x"))
    assert config.read_text().startswith("# mine\nother = 1\n")
    assert "# c\na = b\n" in config.read_text()
    assert [path.name for path in tmp_path.rglob("*")] == [".sigfs", "config"]


def test_a_name_is_not_taken_twice_unless_asked_to(tmp_path: Path) -> None:
    root = str(tmp_path)
    write_view(root, NamedView("x"))
    with pytest.raises(InvalidConfig, match="already"):
        write_view(root, NamedView("x", "full"))
    write_view(root, NamedView("x", "full"), replace=True)
    assert find_view(root, "x").layout == "full"


def test_no_such_view_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(NoSuchView, match="none yet"):
        find_view(str(tmp_path), "x")
    write_view(str(tmp_path), NamedView("y"))
    with pytest.raises(NoSuchView, match="there are: y"):
        remove_view(str(tmp_path), "x")


@pytest.mark.parametrize("name", ["", ".", "..", ".x", "a/b", "a b", "-x", "x" * 101, "a\n"])
def test_a_name_that_is_none_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidConfig, match="no name for a view"):
        write_view(str(tmp_path), NamedView(name))
    assert not Path(config_path(str(tmp_path))).exists()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("views = 1", "section"),
        ("[views]\nx = 1", "line 2"),
        ("[views]\n[[x]]\nlayout = a, b", "line 2.*comma"),
        ("[views", "line 1"),
    ],
)
def test_a_file_that_cannot_be_understood_says_where(tmp_path: Path, text: str, why: str) -> None:
    config = Path(config_path(str(tmp_path)))
    config.parent.mkdir()
    config.write_text(text)
    with pytest.raises(InvalidConfig, match=why):
        read_views(str(tmp_path))


def test_a_value_that_the_file_cannot_hold_is_refused_and_nothing_changed(tmp_path: Path) -> None:
    root = str(tmp_path)
    write_view(root, NamedView("x"))
    before = Path(config_path(root)).read_bytes()
    with pytest.raises(InvalidConfig, match="cannot be written"):
        write_view(root, NamedView("y", "auto", 'a "\'\'\'" """" \'\n'))
    assert Path(config_path(root)).read_bytes() == before
