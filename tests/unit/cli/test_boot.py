"""Units and lines of fstab: their texts, and how they are quoted."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from sigfs.api.project import init_project
from sigfs.cli import boot
from sigfs.cli.app import sigfs

UNITS = Path(__file__).parents[3] / "systemd"


@pytest.fixture
def project(tmp_path: Path) -> str:
    return init_project(str(tmp_path / "50% $of a \\project")).root


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(sigfs, arguments, standalone_mode=False)
    assert result.exception is None, result.exception
    return result


@pytest.mark.parametrize(("name", "user"), [("sigfs@.service", False), ("user/sigfs@.service", True)])
def test_the_units_that_come_along_are_those_that_are_printed(name: str, user: bool) -> None:
    assert (UNITS / name).read_text() == boot.template(user=user)


def test_a_users_unit_has_nothing_that_keeps_fusermount_from_mounting() -> None:
    """For a user's manager all of these imply NoNewPrivileges=."""
    said = boot.template(user=True)
    for word in ("NoNewPrivileges", "SystemCall", "Restrict", "LockPersonality", "Capabilit", "Protect", "Private"):
        assert word not in said


def test_no_option_gives_the_service_a_mount_namespace_of_its_own() -> None:
    settings = [line for line in boot.template(user=False).splitlines() if not line.startswith("#")]
    for word in (
        "Private",
        "Protect",
        "ReadOnly",
        "ReadWrite",
        "Inaccessible",
        "Bind",
        "Root",
        "TemporaryFile",
        "Proc",
    ):
        assert not any(line.startswith(word) for line in settings)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize("user", [False, True])
def test_systemd_finds_nothing_wrong_with_a_unit(user: bool, project: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sigfs", "mount", "--filter", 'a "b" 100% $x ; {"c": 1}', "--", project]
    text = boot.unit_text(
        [boot.quote_for_unit(word) for word in command],
        description="a mount",
        user=user,
        environment={"PYTHONPATH": "/a b%"},
        mounts=(project,),
    )
    path = tmp_path / "test.service"
    path.write_text(text)
    # A user's manager would want a directory for its session.
    where = ["--user"] if user and "XDG_RUNTIME_DIR" in os.environ else []
    done = subprocess.run(
        ["systemd-analyze", *where, "verify", "--man=no", path],
        capture_output=True,
        text=True,
        env={**os.environ, "SYSTEMD_LOG_LEVEL": "warning"},
        timeout=60,
    )
    complaints = [line for line in done.stderr.splitlines() if "test.service" in line]
    assert complaints == []


def test_a_unit_of_a_mount_has_its_arguments(project: str, tmp_path: Path) -> None:
    said = run("mount", "--print-unit", "-o", "ro", "--filter", "a 1", "--layout", "full", project, str(tmp_path / "m"))
    words = [
        *boot.own_command(), "mount", "-o", "ro", "--layout", "full", "--filter", '"a 1"', "--foreground", "--",
        '"' + project.replace("\\", "\\\\").replace("%", "%%").replace("$", "$$") + '"', str(tmp_path / "m"),
    ]  # fmt: skip
    assert f"ExecStart={' '.join(words)}\n" in said.stdout
    needed = project.replace("\\", "\\\\").replace("%", "%%")
    assert f'RequiresMountsFor="{needed}" {tmp_path}\n' in said.stdout
    assert not os.path.lexists(tmp_path / "m")


def test_a_line_of_fstab_has_the_options_as_words(project: str, tmp_path: Path) -> None:
    state = str(tmp_path / "state")
    said = run(
        "mount", "--print-fstab", "-r", "-o", "noexec,entry_timeout=2", "--filter", "a 1", "--state-dir", state,
        project, str(tmp_path / "a mount"),
    )  # fmt: skip
    source, place, kind, options, *numbers = said.stdout.rstrip("\n").split(" ")
    assert source == project.replace("\\", "\\134").replace(" ", "\\040")
    assert place == str(tmp_path / "a\\040mount")
    assert (kind, numbers) == ("fuse.sigfs", ["0", "0"])
    words = options.split(",")
    assert set(words[:5]) == {"noexec", "entry_timeout=2", "ro", "filter=a\\0401", f"state_dir={state}"}
    assert words[5:] == (["nofail"] if os.geteuid() == 0 else ["user", "noauto"])


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [(("--filter", "a@in [1,2]"), "view=NAME"), (("--layout", '{a}"'), "view=NAME"), (("-o", "rp"), "no option")],
)
def test_what_fstab_cannot_say_is_refused_with_the_remedy(project: str, arguments: tuple[str, ...], hint: str) -> None:
    with pytest.raises(click.BadParameter, match=hint):
        CliRunner().invoke(
            sigfs, ["mount", "--print-fstab", *arguments, project, "/m"], standalone_mode=False, catch_exceptions=False
        )
