"""Settings: layers, files, profiles, and what a project's file may not say."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sigfs.errors import InvalidConfig
from sigfs.model import settings
from sigfs.model.settings import FLAGS, TABLE, Settings, find_profile, load, profile_names
from sigfs.model.toml import MOST_BYTES
from sigfs.transports.base import NAMES


class Files:
    """The files that are read, in one directory."""

    def __init__(self, base: Path) -> None:
        self.system = base / "etc" / "config.toml"
        self.user = base / "config" / "sigfs" / "config.toml"
        self.root = base / "project"
        self.project = self.root / ".sigfs" / "config.toml"

    def profile(self, name: str, text: str, *, of: str = "user") -> Path:
        return self.write(getattr(self, of).parent / "mounts" / f"{name}.toml", text)

    def write(self, path: Path, text: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def load(self, profile: str | None = None, **environment: str) -> Settings:
        return load(str(self.root), profile, environment)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    monkeypatch.setattr(settings, "SYSTEM_DIRECTORY", str(tmp_path / "etc"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return Files(tmp_path)


def test_each_layer_counts_above_those_below_it(files: Files) -> None:
    for path, layer, text, where, value in [
        (files.system, "system", "layout = 'a'", f"{files.system}, line 1", "a"),
        (files.user, "user", "# c\nlayout = 'b'", f"{files.user}, line 2", "b"),
        (files.project, "project", "layout = 'c'", f"{files.project}, line 1", "c"),
    ]:
        files.write(path, text)
        found = files.load()
        assert (found.origin("layout").layer, str(found.origin("layout")), found["layout"]) == (layer, where, value)
    profile = files.profile("x", "layout = 'd'")
    found = files.load("x")
    assert (found["layout"], str(found.origin("layout"))) == ("d", f"{profile}, line 1")
    found = files.load("x", SIGFS_LAYOUT="e", LAYOUT="no", SIGFS_FILTER="")
    assert (found["layout"], str(found.origin("layout"))) == ("e", "SIGFS_LAYOUT")
    assert str(found.origin("filter")) == "default"
    assert list(found.chosen()) == ["layout"]


def test_flags_of_all_layers_count(files: Files) -> None:
    files.write(files.system, "options = ['noexec', 'noatime']")
    files.write(files.user, "options = 'atime'")
    assert files.load(SIGFS_OPTIONS="nosuid,sync")["options"] == ("noexec", "noatime", "atime", "nosuid", "sync")


def test_every_kind_of_value_is_read(files: Files) -> None:
    files.write(files.user, "read_only = true\nentry_timeout = 5\nattr_timeout = 0.5\nstate_dir = '~/x'\n")
    found = files.load(SIGFS_PASSTHROUGH="off", SIGFS_COHERENT="1", SIGFS_TRANSPORT="llfuse")
    assert [found[name] for name in ("read_only", "entry_timeout", "attr_timeout")] == [True, 5.0, 0.5]
    assert found["state_dir"] == os.path.expanduser("~/x")
    assert [found[name] for name in ("passthrough", "coherent", "transport")] == [False, True, "llfuse"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("\nlayuot = 'full'", r"line 2: no setting 'layuot'; did you mean layout\?"),
        ("layout = 1", "line 1: layout is text"),
        ("read_only = 'yes'", "line 1: read_only is true or false"),
        ("entry_timeout = true", "line 1: entry_timeout is a number of seconds"),
        ("attr_timeout = -1", "line 1: attr_timeout is a number"),
        ("transport = 'llfus'", "line 1: transport is one of.*did you mean llfuse"),
        ("options = ['noexe']", "line 1: options has a flag.*did you mean noexec"),
        ("options = 1", "line 1: options is a list"),
        ("state_dir = 'x'", "line 1: state_dir is a path that begins with"),
        ("state_dir = ''", "line 1: state_dir is a directory"),
        ("project = '/x'", "line 1: project cannot be set here, only in a mount profile"),
        ("[views.x]", "line 1: no setting 'views'"),
        ("layout =", "line 1: "),
        ("layout = 'a'\nlayout = 'b'", "line 2: "),
    ],
)
def test_what_cannot_be_names_file_and_line(files: Files, text: str, why: str) -> None:
    files.write(files.user, text)
    with pytest.raises(InvalidConfig, match=rf"config/sigfs/config\.toml, {why}"):
        files.load()


def test_what_cannot_be_in_the_environment_names_the_variable(files: Files) -> None:
    with pytest.raises(InvalidConfig, match=r"the variable SIGFS_TRANSPORT is one of: kernel.*did you mean llfuse"):
        files.load(SIGFS_TRANSPORT="lfuse")
    assert files.load(SIGFS_LAYUOT="full").notes == (
        "the variable SIGFS_LAYUOT says nothing; did you mean SIGFS_LAYOUT?",
    )
    # What `sigfs open` gives its command, whatever the keys of the state point are, is no setting.
    assert files.load(SIGFS_SP_LAYOUT="1", SIGFS_PROJECT="/x", SIGFS_JOB_ID="2", SIGFS_MNT="/m").notes == ()


@pytest.mark.parametrize(
    "text", ["allow_other = true", "read_only = false", "transport = 'llfuse'", "options = 'suid'"]
)
def test_a_project_says_only_how_it_is_shown(files: Files, text: str) -> None:
    files.write(files.project, f"# mine\n{text}\n")
    with pytest.raises(InvalidConfig, match=r"project/\.sigfs/config\.toml, line 2: .* cannot be set by a project"):
        files.load()
    files.write(files.project, "layout = 'full'\nfilter = 'a 1'\nview = 'hot'\nstate_dir = '.sigfs/more'\n[views.hot]")
    found = files.load()
    assert [found[name] for name in ("layout", "filter", "view")] == ["full", "a 1", "hot"]
    assert found["state_dir"] == str(files.root / ".sigfs" / "more")


def test_a_project_of_somebody_else_does_not_say_what_is_written_outside_of_it(
    files: Files, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    files.write(files.project, "state_dir = '../elsewhere'")
    assert files.load()["state_dir"] == str(tmp_path / "elsewhere")
    files.project.chmod(0o666)
    assert files.load()["state_dir"] == ""
    files.project.chmod(0o644)
    owner = 54321 if os.geteuid() == 0 else os.geteuid()
    os.chown(files.project, owner, -1)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    found = files.load()
    assert found["state_dir"] == ""
    assert f"is not followed: it belongs to user {owner}" in found.notes[0]
    (files.root / "link").symlink_to(tmp_path)
    files.project.write_text("state_dir = 'link/x'")
    assert files.load()["state_dir"] == ""
    files.project.write_text("state_dir = 'inside'")
    assert files.load()["state_dir"] == str(files.root / "inside")


def test_a_users_file_that_anybody_may_write_is_not_followed(files: Files) -> None:
    files.write(files.user, "allow_other = true").chmod(0o666)
    found = files.load()
    assert found["allow_other"] is False
    assert found.notes == (f"{files.user} is not followed: anybody may write it",)
    files.profile("x", "allow_other = true").chmod(0o666)
    with pytest.raises(InvalidConfig, match="anybody may write it"):
        files.load("x")


def test_what_is_no_configuration_does_not_hold_anybody_up(files: Files) -> None:
    files.project.parent.mkdir(parents=True)
    os.mkfifo(files.project)
    with pytest.raises(InvalidConfig, match="this is no file"):
        files.load()
    files.project.unlink()
    files.project.write_bytes(b"#" * (MOST_BYTES + 1))
    with pytest.raises(InvalidConfig, match="no configuration"):
        files.load()
    files.project.write_bytes(b"layout = 'a'\n# \xff\n")
    with pytest.raises(InvalidConfig, match="line 2: not UTF-8"):
        files.load()
    files.project.write_bytes(b"x = " + b"[" * 100_000)
    with pytest.raises(InvalidConfig, match="line 1: "):
        files.load()


def test_a_profile_names_what_is_mounted_where(files: Files) -> None:
    files.profile("alkanes", "project = '~/p'\nmountpoint = '/mnt/x'\nread_only = true\n")
    files.profile("other", "project = '/q'", of="system")
    assert profile_names() == ["alkanes", "other"]
    found = files.load("alkanes")
    assert (found["project"], found["mountpoint"]) == (os.path.expanduser("~/p"), "/mnt/x")
    with pytest.raises(InvalidConfig, match=r"no mount profile 'alkane'.*mean alkanes.*there are: alkanes, other"):
        files.load("alkane")
    for name in ("", "a/b", "../x", ".x"):
        with pytest.raises(InvalidConfig, match="no name for a mount profile"):
            files.load(name)


def test_of_two_profiles_of_a_name_the_users_counts_and_for_root_the_systems(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, system = files.profile("x", ""), files.profile("x", "", of="system")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert find_profile("x") == str(own)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert find_profile("x") == str(system)


def test_the_table_is_the_only_place_where_settings_are_listed() -> None:
    assert TABLE["transport"].kind.choices == NAMES
    assert set(TABLE["options"].kind.choices) == FLAGS
    for name, setting in TABLE.items():
        assert setting.name == name
        assert setting.variable in (None, f"SIGFS_{name.upper()}")
        assert setting.help.endswith(".")
