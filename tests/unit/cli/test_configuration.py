"""sigfs config: what is shown, and that files are changed without harm to what else they say."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from sigfs.api.project import Project, init_project
from sigfs.cli.app import sigfs
from sigfs.model import settings
from sigfs.model.settings import TABLE, project_file, user_file
from tests.support.commands import Run


@pytest.fixture
def project(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project in the working directory, and no configuration of anybody."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(settings, "SYSTEM_DIRECTORY", str(tmp_path / "etc"))
    made = init_project(tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return made


def test_every_setting_is_shown_with_its_origin(
    run: Run, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(user_file()).parent.mkdir(parents=True)
    Path(user_file()).write_text("# mine\nread_only = true\nlayout = 'hive'\n")
    (tmp_path / "project" / ".sigfs").mkdir()
    Path(project_file(project.root)).write_text("layout = 'full'\n")
    monkeypatch.setenv("SIGFS_OPTIONS", "noexec,noatime")
    (tmp_path / "data").mkdir()
    project.add_index(tmp_path / "data")
    code, out, err = run("config", "show", "--origin")
    rows = {line.split("\t")[0]: line.split("\t")[1:] for line in out.splitlines()[1:]}
    assert (code, err) == (0, "")
    assert set(rows) == {*TABLE, "indexed"}
    assert rows["layout"] == ["full", f"{project_file(project.root)}, line 1"]
    assert rows["read_only"] == ["true", f"{user_file()}, line 2"]
    assert rows["options"] == ["noexec,noatime", "SIGFS_OPTIONS"]
    assert rows["entry_timeout"] == ["1", "default"]
    assert rows["indexed"] == [str(tmp_path / "data"), f"{project.config_path}, line 2"]
    shown = {row["name"]: row for row in json.loads(run("config", "show", "--json")[1])}
    assert shown["layout"] == {
        "name": "layout", "value": "full", "layer": "project", "origin": f"{project_file(project.root)}, line 1",
    }  # fmt: skip
    assert shown["options"]["value"] == ["noexec", "noatime"]
    assert run("config", "get", "layout")[:2] == (0, "full\n")
    os.chdir("/")
    assert run("config", "get", "layout")[:2] == (0, "hive\n")
    assert run("config", "get", "layout", "-p", project.root)[:2] == (0, "full\n")
    assert run("config", "get", "layout", "-p", "/")[0] == 3


def test_what_is_set_is_kept_beside_what_else_is_there(run: Run, project: Project, tmp_path: Path) -> None:
    file = Path(project_file(project.root))
    code, out, err = run("config", "set", "layout", "full")
    assert (code, out, err) == (0, "", f"sigfs: kept in {file}\n")
    file.write_text("# mine\nlayout = 'full'  # why\n\n[views.hot]\nfilter = 'a 1'\n")
    assert run("config", "set", "filter", "T.$gt 2", "--project")[0] == 0
    assert run("config", "set", "layout", "hive", "-p", project.root)[0] == 0
    assert run("config", "set", "state_dir", ".sigfs/more")[0] == 0
    lines = file.read_text().splitlines()
    assert lines[0] == "# mine"
    assert {'layout = "hive"  # why', 'filter = "T.$gt 2"', 'state_dir = ".sigfs/more"'} < set(lines)
    assert lines[-2:] == ["[views.hot]", "filter = 'a 1'"]
    assert run("config", "unset", "layout")[0] == 0
    assert run("config", "get", "layout")[1] == "auto\n"
    assert "# mine" in file.read_text()
    assert "layout is not set there" in run("config", "unset", "layout")[2]


def test_files_of_the_user_the_system_and_profiles_are_made(
    run: Run, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    umask = os.umask(0)
    try:
        assert run("config", "set", "read_only", "yes", "--user")[0] == 0
    finally:
        os.umask(umask)
    assert Path(user_file()).read_text() == "read_only = true\n"
    assert Path(user_file()).stat().st_mode & 0o777 == 0o644
    assert run("config", "set", "options", "noexec,noatime", "--system")[0] == 0
    assert run("config", "set", "entry_timeout", "5", "--system")[0] == 0
    assert (tmp_path / "etc" / "config.toml").read_text() == 'options = ["noexec", "noatime"]\nentry_timeout = 5\n'
    assert run("config", "set", "project", ".", "--profile", "alkanes")[0] == 0
    assert run("config", "set", "mountpoint", "../mnt", "--profile", "alkanes")[0] == 0
    os.chdir("/")
    assert run("config", "get", "project", "--profile", "alkanes")[1] == f"{project.root}\n"
    assert run("config", "get", "mountpoint", "--profile", "alkanes")[1] == f"{tmp_path}/mnt\n"
    monkeypatch.setenv("SIGFS_READ_ONLY", "0")
    assert "what counts is SIGFS_READ_ONLY: false" in run("config", "set", "read_only", "true", "--user")[2]


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (["layuot", "full"], 2, "did you mean layout?"),
        (["layout", "nonsense"], 2, "layout: "),
        (["filter", "a.$gtt 1"], 2, "unknown operator"),
        (["view", "hot"], 3, "no view 'hot'"),
        (["entry_timeout", "soon", "--user"], 2, "number of seconds"),
        (["transport", "lfuse", "--user"], 2, "did you mean llfuse?"),
        (["allow_other", "true"], 2, "cannot be set by a project"),
        (["project", "/x", "--user"], 2, "only in a mount profile"),
        (["layout", "full", "--user", "--system"], 2, "expected one of"),
        (["read_only", "true", "--profile", "a/b"], 3, "no name for a mount profile"),
        (["indexed", "none"], 1, "no such directory"),
        (["indexed", "x", "--user"], 2, "a project's own"),
    ],
)
def test_what_cannot_be_is_not_written(
    run: Run, project: Project, tmp_path: Path, words: list[str], code: int, why: str
) -> None:
    before = sorted(tmp_path.rglob("*"))
    done = run("config", "set", *words)
    assert (done[0], why in done[2]) == (code, True), done[2]
    assert [path for path in sorted(tmp_path.rglob("*")) if path.is_file()] == [
        path for path in before if path.is_file()
    ]


def test_a_file_that_is_broken_is_not_written_over(run: Run, project: Project) -> None:
    file = Path(project_file(project.root))
    file.parent.mkdir()
    file.write_text("layout = \n")
    code, _, err = run("config", "set", "filter", "a 1")
    assert (code, f"{file}, line 1" in err) == (3, True)
    assert file.read_text() == "layout = \n"


def test_indexed_directories_are_set_in_the_projects_own_file(run: Run, project: Project, tmp_path: Path) -> None:
    for name in ("data", "runs"):
        (tmp_path / "project" / name).mkdir()
    before = Path(project.config_path).read_text()
    assert run("config", "set", "indexed", "data, runs/**")[2] == f"sigfs: kept in {project.config_path}\n"
    assert run("config", "get", "indexed")[1] == "data,runs/**\n"
    assert [place.path for place in project.indexed] == [f"{project.root}/data", f"{project.root}/runs"]
    assert run("config", "unset", "indexed")[0] == 0
    assert Path(project.config_path).read_text() == before


def test_names_and_values_complete(run: Run, project: Project, tmp_path: Path) -> None:
    from click.shell_completion import ShellComplete

    def completed(*words: str) -> list[str]:
        return [
            item.value for item in ShellComplete(sigfs, {}, "sigfs", "X").get_completions(list(words[:-1]), words[-1])
        ]

    assert completed("config", "get", "la") == ["layout"]
    assert completed("config", "set", "transport", "ll") == ["llfuse"]
    assert completed("config", "set", "layout", "h") == ["hive"]
    assert completed("config", "set", "options", "noexec,nos") == ["noexec,nosuid", "noexec,nosymfollow"]
    assert run("view", "add", "hot", "a 1")[0] == 0
    assert completed("config", "set", "view", "") == ["hot"]
    assert run("config", "set", "read_only", "true", "--profile", "alkanes")[0] == 0
    assert completed("mount", "--profile", "a") == ["alkanes"]
