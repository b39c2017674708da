"""The tutorial does what it says: every command, in order, as it stands, in one shell."""

from __future__ import annotations

import doctest
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sigfs.transports.mounts import mounts
from tests.support.commands import real_command
from tests.support.server import require
from tests.support.wait import wait_until

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tutorial.md"

pytestmark = [pytest.mark.fuse, pytest.mark.timeout(600)]  # half a hundred commands, one after the other


def commands(page: str) -> Iterator[tuple[str, str]]:
    """Give each command of the blocks that are ``sh``, or ``console`` with prompts, and what it is to print."""
    for kind, block in re.findall(r"^```(sh|console)\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        if kind == "sh":
            yield block, ""
        else:
            for command, output in re.findall(r"^\$ (.*(?:\n> .*)*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE):
                yield command.replace("\n> ", "\n"), output


class Shell:
    """A bash that one command after the other is given to."""

    def __init__(self, home: Path) -> None:
        """Start it in *home*, where the command sigfs is this one."""
        programs = home / "bin"
        programs.mkdir(parents=True)
        *command, path = real_command()
        (programs / "sigfs").write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@" {shlex.quote(path)}\n')
        (programs / "python3").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        for program in programs.iterdir():
            program.chmod(0o755)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SIGFS_", "XDG_"))}
        self._home = str(home)
        self._output = home / "output"
        self._bash = subprocess.Popen(
            ["bash"], cwd=home, text=True, bufsize=1, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={**kept, "HOME": str(home), "LC_ALL": "C", "PATH": f"{programs}:{os.environ['PATH']}",
                 "PYTHONPATH": ":".join(filter(None, sys.path))},
        )  # fmt: skip

    def run(self, command: str) -> str:
        """Give what it prints, as Ada would see it."""
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        self._bash.stdin.write(f"{{\n{command}\n}} > {shlex.quote(str(self._output))} 2>&1 < /dev/null; echo\n")
        assert self._bash.stdout.readline() == "\n"
        return self._output.read_text().replace(self._home, "/home/ada")

    def end(self) -> None:
        """End it."""
        self._bash.communicate()


def test_every_command_of_the_tutorial_prints_what_the_page_says(tmp_path: Path) -> None:
    require("kernel")
    home = tmp_path / "home"
    shell = Shell(home)
    compare = doctest.OutputChecker().check_output
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE

    def says(command: str, expected: str) -> bool:
        printed.append(shell.run(command))
        return compare(expected, printed[-1], options)

    try:
        for command, expected in commands(PAGE.read_text(encoding="utf-8")):
            printed: list[str] = []
            if command.startswith("ls "):  # which may look before the mount has heard of a change
                wait_until(lambda command=command, expected=expected: says(command, expected))
            else:
                assert says(command, expected), f"{command}\n{printed[-1]}"
    finally:
        shell.end()
        for mount in mounts():
            if mount.mountpoint.startswith(f"{home}/"):
                subprocess.run(real_command("umount", "--lazy", mount.mountpoint))
