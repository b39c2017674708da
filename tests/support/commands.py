"""The command as users start it, and within the process of a test."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from sigfs.cli import app

_PROGRAM = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin with it ignored
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and those of nohup with this
sys.path[:0] = sys.argv.pop().split(":")
from sigfs.cli import main
main()
"""

Run = Callable[..., tuple[int, str, str]]
"""Runs the command with arguments; gives exit code, output and messages."""


def runner(capfd: pytest.CaptureFixture[str]) -> Run:
    """Run the command in this process."""

    def call(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = app.run(arguments)
        out, err = capfd.readouterr()
        return code, out, err

    return call


def real_command(*arguments: str) -> list[str]:
    """The words that start the command in a process of its own."""
    return [sys.executable, "-c", _PROGRAM, *arguments, ":".join(filter(None, sys.path))]


def completed(*words: str) -> list[str]:
    """What the last of *words* completes to."""
    from click.shell_completion import ShellComplete

    complete = ShellComplete(app.sigfs, {}, "sigfs", "_SIGFS_COMPLETE")
    return [item.value or item.type for item in complete.get_completions(list(words[:-1]), words[-1])]
