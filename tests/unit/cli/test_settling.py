"""What is mounted, and how: command line, environment, profile, project and user together."""

from __future__ import annotations

from pathlib import Path

import pytest

from sigfs.api.project import Project, init_project
from sigfs.cli.options import SWITCHES, VALUES, Chosen, parse_options
from sigfs.cli.settling import settle
from sigfs.model import settings
from sigfs.model.settings import TABLE, project_file, user_file
from sigfs.model.views import NamedView, write_view
from sigfs.mount import MountOptions
from sigfs.query import parse_text
from tests.support.commands import Run

NOTHING = {
    "texts": (), "read_only": False, "layout": None, "view": None, "filter_text": None, "transport": None,
    "state_dir": None, "profile": None, "log_level": None, "log_format": None,
}  # fmt: skip


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(settings, "SYSTEM_DIRECTORY", str(tmp_path / "etc"))
    made = init_project(str(tmp_path / "project"))
    for name in ("config/sigfs/mounts", "etc/mounts", "project/.sigfs", "mnt"):
        (tmp_path / name).mkdir(parents=True)
    return made


def settled(project: Project, **given: object) -> Chosen:
    return settle(project, {**NOTHING, **given})


def test_the_command_line_counts_above_all(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    assert settled(project) == {}
    Path(user_file()).write_text("read_only = true\nallow_other = true\noptions = ['noexec']\nentry_timeout = 3\n")
    Path(project_file(project.root)).write_text("layout = 'full'\nfilter = 'a 1'\n")
    monkeypatch.setenv("SIGFS_TRANSPORT", "llfuse")
    assert settled(project) == {
        "read_only": True, "allow_other": True, "options": ("noexec",), "entry_timeout_s": 3.0, "layout": "full",
        "filter": parse_text("a 1"), "transport": "llfuse",
    }  # fmt: skip
    texts = ("rw,noallow_other,noatime,entry_timeout=4", "layout=hive")
    assert settled(project, texts=texts, filter_text="b 2", transport="kernel") == {
        "read_only": False, "allow_other": False, "options": ("noexec", "noatime"), "entry_timeout_s": 4.0,
        "layout": "hive", "filter": parse_text("b 2"), "transport": "kernel",
    }  # fmt: skip


def test_coherent_brings_its_times_unless_others_are_said_anywhere(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGFS_ATTR_TIMEOUT", "7")
    wanted = {"coherent": True, "entry_timeout_s": 60.0, "attr_timeout_s": 7.0}
    assert settled(project, texts=("coherent",)) == wanted


def test_a_view_brings_layout_and_filter_and_is_changed_by_what_is_said_beside_or_above_it(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_view(project.root, NamedView("hot", "hive", "T.$gt 2"))
    hot = parse_text("T.$gt 2")
    monkeypatch.setenv("SIGFS_LAYOUT", "full")
    assert settled(project, view="hot") == {"view": "hot", "layout": "hive", "filter": hot}
    narrowed = settled(project, view="hot", filter_text="a 1", layout="signac")
    assert narrowed == {"view": "hot", "layout": "signac", "filter": parse_text("T.$gt 2 a 1")}
    file = Path(project_file(project.root))
    file.write_text(f"view = 'hot'\nfilter = 'b 2'\n{file.read_text()}")
    assert settled(project) == {"view": "hot", "layout": "full", "filter": parse_text("T.$gt 2 b 2")}
    assert settled(project, texts=("view=",)) == {"layout": "full", "filter": parse_text("b 2")}


def test_what_cannot_be_understood_names_where_it_is_said(
    project: Project, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount = ("mount", project.root, str(tmp_path / "mnt"))
    for text, why in [
        ("layout = 'a_{b!x}'", "config.toml, line 1: layout: the layout"),
        ("filter = 'a.$gtt 1'", "config.toml, line 1: filter: unknown operator"),
        ("view = 'hto'", "config.toml, line 1: "),
    ]:
        Path(project_file(project.root)).write_text(text)
        code, _, err = run(*mount)
        assert (code, why in err) == (3, True), err
    Path(project_file(project.root)).unlink()
    monkeypatch.setenv("SIGFS_FILTER", "a.$gtt 1")
    assert "SIGFS_FILTER: filter: unknown operator" in run(*mount)[2]


def test_a_profile_has_project_and_mount_point_and_arguments_count_above_it(
    project: Project, tmp_path: Path, run: Run
) -> None:
    profile = tmp_path / "config/sigfs/mounts/alkanes.toml"
    profile.write_text(f"project = '{project.root}'\nmountpoint = '{tmp_path}/none'\nlayout = 'full'\n")
    (tmp_path / "etc/mounts/alkanes.toml").write_text(profile.read_text())
    assert f"{tmp_path}/none does not exist" in run("mount", "--profile", "alkanes")[2]
    assert f"{tmp_path}/other does not exist" in run("mount", "--profile", "alkanes", f"{tmp_path}/other")[2]
    assert "no project in /" in run("mount", "--profile", "alkanes", "/", f"{tmp_path}/other")[2]
    assert settled(project, profile="alkanes") == {"layout": "full"}
    for path in (profile, tmp_path / "etc/mounts/alkanes.toml"):
        path.write_text("")
    code, _, err = run("mount", "--profile", "alkanes")
    assert (code, "the profile alkanes has no mountpoint: give MNT" in err) == (2, True)
    assert run("mount")[0] == 2
    assert run("mount", "--profile", "none")[0] == 3


def test_what_is_said_by_o_is_what_the_table_has() -> None:
    for word, (name, on) in SWITCHES.items():
        assert parse_options([word]) == {name: on}
    fields = set(MountOptions.__slots__)
    for name in VALUES - {"log_level", "log_format"}:
        assert {name, f"{name}_s"} & fields, name
    assert {name for name, _ in SWITCHES.values()} | VALUES | {"options", "project", "mountpoint"} == set(TABLE)


def test_the_defaults_are_those_of_the_table() -> None:
    options = MountOptions("p", "m")
    for name, field in [(name, name) for name in ("layout", "transport", "passthrough", "coherent", "options")] + [
        ("entry_timeout", "entry_timeout_s"), ("attr_timeout", "attr_timeout_s"),
    ]:  # fmt: skip
        assert getattr(options, field) == TABLE[name].default


def test_the_index_is_where_a_file_or_a_variable_says(
    project: Project, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = ("index", "info", "-p", project.root)
    Path(user_file()).write_text(f"state_dir = '{tmp_path}/one'")
    assert f"{tmp_path}/one/" in "".join(run(*info)[1:])
    Path(project_file(project.root)).write_text("state_dir = 'two'")
    assert f"{project.root}/two/" in "".join(run(*info)[1:])
    monkeypatch.setenv("SIGFS_STATE_DIR", f"{tmp_path}/three")
    assert f"{tmp_path}/three/" in "".join(run(*info)[1:])
    monkeypatch.delenv("SIGFS_STATE_DIR")
    Path(user_file()).write_text("state_dir = 1")  # which must not keep anybody from asking
    assert run(*info)[0] != 70
    assert run("find", "-p", project.root)[0] == 0
