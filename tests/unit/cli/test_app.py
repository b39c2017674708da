"""The command's frame."""

from __future__ import annotations

import subprocess
import sys

import click
from click.testing import CliRunner

from sigfs.cli.app import Commands, sigfs

HEAVY = ("sigfs.index", "sigfs.query", "sigfs.model", "sigfs.api", "logging")


def test_the_help_lists_commands_as_click_would() -> None:
    context = click.Context(sigfs, info_name="sigfs", max_content_width=100)
    ours, theirs = context.make_formatter(), context.make_formatter()
    sigfs.format_commands(context, ours)
    click.Group.format_commands(sigfs, context, theirs)
    assert ours.getvalue() == theirs.getvalue()
    for name in Commands.MODULES:
        assert name in CliRunner().invoke(sigfs, ["--help"]).stdout


def test_the_help_imports_no_command() -> None:
    code = "import sys; from sigfs.cli.app import run; run(['--help']); print(*sys.modules, file=sys.stderr)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr.split()
    assert "sigfs.cli.app" in modules
    assert not [name for name in modules if name.startswith(HEAVY)]
