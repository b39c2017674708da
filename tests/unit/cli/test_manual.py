"""The manual pages say what the program says of itself, in words that man(1) understands."""

from __future__ import annotations

import re
import shutil
import subprocess

import click
import pytest

from sigfs.cli.app import sigfs
from sigfs.cli.exits import MEANING, Exit
from sigfs.cli.helper import MountExit
from sigfs.cli.manual import commands
from sigfs.model.settings import FLAGS, TABLE
from tests.support.commands import Run

MACROS = {".TH", ".SH", ".SS", ".PP", ".TP", ".nf", ".fi"}
ESCAPED = {"-": "-", "(aq": "'", "(ga": "`", "(ha": "^", "(ti": "~", "e": "\\"}


def plain(page: str) -> str:
    """The page as one reads it."""
    page = re.sub(r"\\f[BIR]|\\&", "", page)
    for escaped, letter in (
        (r"\-", "-"),
        (r"\(aq", "'"),
        (r"\(ga", "`"),
        (r"\(ha", "^"),
        (r"\(ti", "~"),
        (r"\e", "\\"),
    ):
        page = page.replace(escaped, letter)
    return page


@pytest.fixture(params=["sigfs", "mount.sigfs"])
def page(request: pytest.FixtureRequest, run: Run) -> str:
    code, out, err = run("man", request.param)
    assert (code, err) == (0, "")
    return out


def test_every_command_with_its_options_is_in_the_page(run: Run) -> None:
    page = plain(run("man")[1])
    found = list(commands(sigfs.make_context("sigfs", [], resilient_parsing=True)))
    assert len(found) > 20
    for context in found:
        section = page.partition(f".SS {context.command_path} ")[2].partition("\n.S")[0]
        assert re.split(r"(?<=\.)\s", context.command.help)[0].replace("\n", " ") in section, context.command_path
        for option in context.command.params:
            if isinstance(option, click.Option) and not option.hidden:
                assert set(option.opts) <= set(re.split(r"[\s,]+", section)), context.command_path


def test_every_exit_code_and_variable_is_in_the_page(run: Run) -> None:
    page = plain(run("man")[1])
    assert set(MEANING) == set(Exit)
    assert all(f".TP\n{int(code)}\n" in page for code in Exit)
    assert all(f".TP\n{setting.variable}\n" in page for setting in TABLE.values() if setting.variable)


def test_every_option_of_mount_is_in_the_page(run: Run) -> None:
    page = plain(run("man", "mount.sigfs")[1])
    words = set(re.split(r"[\s,=]+", page))
    assert all(f".TP\n{int(code)}\n" in page for code in MountExit)
    names = {name for name, setting in TABLE.items() if setting.variable} - {"read_only", "options"}
    assert {*names, *FLAGS, "ro", "rw", "_netdev", "nofail"} <= words


def test_no_text_is_taken_for_an_order(page: str) -> None:
    lines = page.splitlines()
    assert {line.split()[0] for line in lines if line.startswith((".", "'"))} <= MACROS
    assert not re.search(r"[^\\]-|^-", page.partition("\n")[2], re.MULTILINE)
    assert all(line.count(r"\fB") + line.count(r"\fI") == line.count(r"\fR") for line in lines)


def test_man_has_nothing_to_say_against_the_page(page: str) -> None:
    mandoc = shutil.which("mandoc")
    if mandoc is None:
        pytest.skip("there is no mandoc")
    lint = subprocess.run([mandoc, "-T", "lint", "-W", "warning"], input=page, text=True, capture_output=True)
    assert lint.stdout + lint.stderr == ""
