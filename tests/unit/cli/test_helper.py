"""What mount(8) asks of its helper, without mounting."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from sigfs.api.project import init_project
from sigfs.cli import helper
from sigfs.cli.app import sigfs
from sigfs.cli.exits import Exit
from sigfs.cli.helper import help_mount, own_home
from sigfs.errors import SigfsError


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What the helper has sigfs do; it answers with code 0."""
    found: list[list[str]] = []

    def run(arguments: Sequence[str]) -> int:
        found.append(list(arguments))
        return 0

    monkeypatch.setattr(helper, "run", run)
    monkeypatch.setenv("HOME", os.environ.get("HOME", "/"))
    return found


def test_arguments_are_those_of_mount_and_f_means_fake(asked: list[list[str]]) -> None:
    assert help_mount(["/p", "/m", "-o", "rw,_netdev,nofail,user=ann,x-y,layout=full"]) == 0
    assert help_mount(["/p q", "/m", "-sfnv", "-t", "fuse.sigfs"]) == 0
    assert help_mount(["-r", "-o", "noexec", "-n", "--", "-p", "/m"]) == 0
    assert asked == [
        ["mount", "--quiet", "-o", "rw,_netdev,nofail,x-y,layout=full", "--", "/p", "/m"],
        ["mount", "--fake", "--sloppy", "--", "/p q", "/m"],
        ["mount", "--quiet", "-o", "noexec,ro", "--", "-p", "/m"],
    ]


@pytest.mark.parametrize(
    "arguments",
    [[], ["/p"], ["/p", ""], ["/p", "/m", "/x"], ["/p", "/m", "-x"], ["/p", "/m", "-o"],
     ["/p", "/m", "-o", "drop_privileges"], ["/p", "/m", "-o", "setuid=no such user"]],
)  # fmt: skip
def test_a_call_that_cannot_be_understood_has_mounts_code_for_it(
    asked: list[list[str]], arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert help_mount(arguments) == 1
    assert capsys.readouterr().err.startswith("sigfs: ")
    assert asked == []


@pytest.mark.parametrize(
    ("code", "options", "expected"),
    [
        (Exit.USAGE, "rw", 1),
        (Exit.INTERNAL, "rw", 4),
        (Exit.INTERRUPTED, "rw", 8),
        (Exit.PROJECT, "rw", 32),
        (Exit.PROJECT, "nofail", 0),
        (Exit.MOUNT_POINT, "nofail", 32),
        (Exit.FUSE, "rw", 32),
        (99, "rw", 32),
    ],
)
def test_exit_codes_are_those_of_mount(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: int, options: str, expected: int
) -> None:
    monkeypatch.setattr(helper, "run", lambda _: int(code))
    monkeypatch.setenv("HOME", os.environ.get("HOME", "/"))
    assert help_mount([str(tmp_path / "gone"), "/m", "-o", options]) == expected


def test_a_faked_mount_checks_all_and_mounts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    project = init_project(str(tmp_path / "p")).root
    (tmp_path / "m").mkdir()
    assert help_mount([project, str(tmp_path / "m"), "-f", "-o", "rw,user,layout=full"]) == 0
    assert help_mount([project, str(tmp_path / "m"), "-f", "-o", "rw,frobnicate"]) == 1
    assert help_mount([project, str(tmp_path / "m"), "-f", "-s", "-o", "rw,frobnicate"]) == 0
    assert help_mount([project, str(tmp_path / "none"), "-f"]) == 32
    assert help_mount([str(tmp_path / "none"), str(tmp_path / "m"), "-f"]) == 32
    assert os.listdir(tmp_path / "m") == []
    assert not os.path.ismount(tmp_path / "m")


def test_without_a_home_or_with_anothers_there_is_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    own = os.path.expanduser(f"~{__import__('pwd').getpwuid(os.geteuid()).pw_name}")
    for given in (None, "/proc/no such directory"):
        if given is None:
            monkeypatch.delenv("HOME", raising=False)
        else:
            monkeypatch.setenv("HOME", given)
        own_home()
        assert os.environ["HOME"] in (own, "/")


def test_the_scripts_are_installed_replaced_and_removed_and_those_of_others_stay(tmp_path: Path) -> None:
    def run(*arguments: str) -> str:
        result = CliRunner().invoke(sigfs, ["install-helper", "--prefix", str(tmp_path), *arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.output

    paths = [tmp_path / "sbin" / name for name in ("mount.sigfs", "mount.fuse.sigfs")]
    assert "would install" in run("--dry-run")
    assert not (tmp_path / "sbin").exists()
    assert run().splitlines() == [f"installed {path}" for path in paths]
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o755 for path in paths)
    run()
    done = subprocess.run([paths[0], "/nowhere"], capture_output=True, text=True, env={}, timeout=60)
    assert (done.returncode, done.stderr) == (
        1,
        "sigfs: expected SPEC DIR [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]\n",
    )
    assert "would remove" in run("--remove", "--dry-run")
    assert run("--remove").splitlines() == [f"removed {path}" for path in paths]
    assert os.listdir(tmp_path / "sbin") == []
    paths[1].write_text("#!/bin/sh\n")
    for arguments in ((), ("--remove",)):
        with pytest.raises(SigfsError, match="not been made by sigfs"):
            run(*arguments)
    assert paths[1].read_text() == "#!/bin/sh\n"


def test_without_a_subcommand_a_project_and_a_place_are_mounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As /sbin/mount.fuse calls it: ``sigfs SOURCE DIR -o rw,dev,suid``."""
    monkeypatch.setenv("HOME", str(tmp_path))
    project = init_project(str(tmp_path / "p")).root
    result = CliRunner().invoke(sigfs, [project, str(tmp_path / "none"), "-o", "ro,dev,suid"])
    assert "none does not exist" in str(result.exception)
    for words in (["fnd", "foo", "42"], ["-o", "ro", project], [project], [project, "--json"]):
        result = CliRunner().invoke(sigfs, words)
        assert result.exit_code == 2
        assert "mount point" not in result.output


def test_this_python_is_named_by_an_absolute_path() -> None:
    assert f"exec {sys.executable} -P -m sigfs.cli.helper" in helper.script()
