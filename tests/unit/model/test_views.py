"""Views that a project keeps under a name."""

from __future__ import annotations

from pathlib import Path

import pytest

from sigfs.errors import InvalidConfig, NoSuchView
from sigfs.model.settings import project_file
from sigfs.model.views import NamedView, find_view, read_views, remove_view, view_files, write_view


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
    config = Path(project_file(str(tmp_path)))
    config.parent.mkdir()
    config.write_text("# mine\nother = 1\n\n[section]\n# c\na = 2\n")
    write_view(str(tmp_path), NamedView("x"))
    assert config.read_text().startswith("# mine\nother = 1\n")
    assert "# c\na = 2\n" in config.read_text()
    assert [path.name for path in tmp_path.rglob("*")] == [".sigfs", "config.toml"]


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
    assert not Path(project_file(str(tmp_path))).exists()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("views = 1", "section"),
        ("[views]\nx = 1", "line 2"),
        ("[views.'a b']", "line 1.*no name"),
        ("[views.x]\nlayout = ['a', 'b']", "line 1.*one value"),
        ("[views", "line 1"),
    ],
)
def test_a_file_that_cannot_be_understood_says_where(tmp_path: Path, text: str, why: str) -> None:
    config = Path(project_file(str(tmp_path)))
    config.parent.mkdir()
    config.write_text(text)
    with pytest.raises(InvalidConfig, match=why):
        read_views(str(tmp_path))


def test_a_value_that_the_file_cannot_hold_is_refused_and_nothing_changed(tmp_path: Path) -> None:
    root = str(tmp_path)
    write_view(root, NamedView("x"))
    before = Path(project_file(root)).read_bytes()
    with pytest.raises(InvalidConfig, match="cannot be written"):
        write_view(root, NamedView("y", "auto", "a \udcff"))
    assert Path(project_file(root)).read_bytes() == before


def test_views_of_an_earlier_version_are_shown_replaced_and_removed(tmp_path: Path) -> None:
    root = str(tmp_path)
    old = Path(view_files(root)[0])
    old.parent.mkdir()
    old.write_text("# mine\n[views]\n[[hot]]\nlayout = hive\nfilter = T.$gt 2\n[[cold]]\n")
    assert read_views(root) == {"cold": NamedView("cold"), "hot": NamedView("hot", "hive", "T.$gt 2")}
    with pytest.raises(InvalidConfig, match="already"):
        write_view(root, NamedView("hot"))
    write_view(root, NamedView("hot", "full"), replace=True)
    assert find_view(root, "hot") == NamedView("hot", "full")
    remove_view(root, "hot")
    assert read_views(root) == {"cold": NamedView("cold")}
    assert old.read_text().startswith("# mine\n")
