"""``sigfs view``, and what ``sigfs mount`` makes of layouts and views, without mounting."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from sigfs.api.project import get_project, init_project
from sigfs.cli.app import sigfs
from sigfs.cli.options import parse_options
from sigfs.cli.params import LayoutText, ViewName
from sigfs.cli.views import both, view_of
from sigfs.errors import InvalidConfig, NoSuchView
from sigfs.model.views import NamedView, remove_view, write_view
from sigfs.mount.views import NamedViews
from sigfs.query import EVERYTHING, parse
from sigfs.tree import View


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    init_project(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str) -> str:
    result = CliRunner().invoke(sigfs, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_views_are_added_listed_and_removed(project: Path) -> None:
    run("view", "add", "hot", "T.$gt", "-3", "--layout", "hive")
    run("view", "add", "all", "-p", str(project))
    assert run("view", "list") == "name\tlayout\tfilter\nall\tauto\t\nhot\thive\tT.$gt -3\n"
    assert json.loads(run("view", "list", "--json"))[1] == {"name": "hot", "layout": "hive", "filter": "T.$gt -3"}
    assert view_of(get_project(None), "hot") == View("hive", parse("T.$gt -3"))
    run("view", "remove", "hot")
    assert "hot" not in run("view", "list")
    with pytest.raises(NoSuchView):
        view_of(get_project(None), "hot")


@pytest.mark.parametrize(
    "words", [["x", "T.$gtt 1"], ["x", "--layout", "nonsense"], ["x", "--layout", "{a.__class__}"]]
)
@pytest.mark.usefixtures("project")
def test_what_cannot_be_understood_is_not_kept(words: list[str]) -> None:
    assert CliRunner().invoke(sigfs, ["view", "add", *words]).exit_code != 0
    assert run("view", "list", "--json") == "[]\n"


def test_a_view_that_cannot_be_understood_any_more_says_which(project: Path) -> None:
    write_view(str(project), NamedView("x", "{a"))
    with pytest.raises(InvalidConfig, match=r"the view x: .*single \{"):
        view_of(get_project(None), "x")


def test_a_filter_narrows_a_view() -> None:
    assert both(parse("a 1"), parse("b 2")) == parse("a 1 b 2")
    assert both(EVERYTHING, parse("b 2")) == parse("b 2")
    assert both(EVERYTHING, EVERYTHING) == EVERYTHING


def test_a_template_is_a_layout() -> None:
    assert parse_options(["layout=T_{T:.1f}/{{auto}},ro"]) == {"layout": "T_{T:.1f}/{{auto}}", "read_only": True}
    assert parse_options(["view=hot"]) == {"view": "hot"}
    with pytest.raises(click.BadParameter, match="character 3"):
        parse_options(["layout=a_{b!x}"])
    with pytest.raises(click.BadParameter, match="hive, signac"):
        parse_options(["layout=nonsense"])


def test_layouts_and_views_complete(project: Path) -> None:
    write_view(str(project), NamedView("hot"))
    context = click.Context(sigfs)
    parameter = click.Option(["--x"])
    assert [item.value for item in LayoutText().shell_complete(context, parameter, "h")] == ["hive"]
    assert [item.value for item in ViewName().shell_complete(context, parameter, "h")] == ["hot"]


def test_a_mount_follows_the_views_that_are_kept(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    views = NamedViews(str(project))
    assert views() == {}
    write_view(str(project), NamedView("hot", "hive", "T.$gt 3"))
    write_view(str(project), NamedView("odd", "{a"))
    assert views() == {"hot": View("hive", parse("T.$gt 3"))}
    assert "the view odd" in caplog.text
    remove_view(str(project), "hot")
    assert views() == {}
