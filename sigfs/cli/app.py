"""The command's frame: the group, how errors are said, where logs go.

Owned here: nothing about any single command. Commands are imported when they are used, because starting to
complete a word in a shell must not take the time to import everything.
"""

from __future__ import annotations

import importlib
import logging
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import Any, ClassVar, Final, NoReturn

import click

from sigfs import __version__
from sigfs.cli.exits import Exit, exit_code, message_of

CONTEXT_SETTINGS: Final = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Commands(click.Group):
    """A group that imports a command's module when the command is asked for, and says what one probably meant."""

    MODULES: ClassVar[dict[str, str]] = {
        "init": "project",
        "job": "project",
        "find": "project",
        "mount": "mounting",
        "umount": "mounting",
        "status": "mounting",
        "demo": "demo",
        "completion": "completion",
    }
    """command -> module of sigfs.cli that has it, as an attribute of the same name with ``_command`` appended."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - the signature is click's
        """Give the commands in the order in which one meets them."""
        return list(self.MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the command."""
        if cmd_name not in self.MODULES:
            return None
        module = importlib.import_module(f"sigfs.cli.{self.MODULES[cmd_name]}")
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """As click does it, but name a near match."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = near_match(args[0], self.MODULES)
            if near is None or "Did you mean" in error.message:
                raise
            raise click.UsageError(f"{error.message.rstrip('.')}; did you mean {near!r}?", ctx) from None


def near_match(word: str, words: Sequence[str] | dict[str, str] | frozenset[str]) -> str | None:
    """Give the one of *words* that *word* was probably meant to be."""
    import difflib

    return next(iter(difflib.get_close_matches(word, sorted(words), 1, 0.6)), None)


@click.group(
    cls=Commands,
    context_settings=CONTEXT_SETTINGS,
    epilog="""\b
Examples:
  sigfs demo                          see it work in a scratch directory
  sigfs mount PROJECT MNT             show the jobs of a project as a tree
  sigfs find foo 42 doc.bar true      list the jobs that a query holds for
  sigfs umount MNT
Documentation of a command: sigfs COMMAND --help""",
)
@click.version_option(__version__, "--version", prog_name="sigfs", message="%(prog)s %(version)s")
def sigfs() -> None:
    """Show a signac data space as a live parameter tree.

    Paths are queries, files are the jobs' own: what is written below MNT/foo/42/ lands in the directory of the
    job whose state point has foo = 42.
    """


def say(message: str) -> None:
    """Print one line about what is going on, beside the output: on stderr."""
    click.echo(f"sigfs: {message}", err=True)


def show_logs(level: str) -> None:
    """Send log messages of this level and above to stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("sigfs: %(levelname)s: %(message)s"))
    root = logging.getLogger("sigfs")
    root.addHandler(handler)
    root.setLevel(level)


def fail(error: BaseException, *, trace: bool = False) -> Exit:
    """Say *error* on stderr, as everything that ends the command is said; give the exit code."""
    code = exit_code(error)
    if code is Exit.INTERNAL or trace:
        traceback.print_exception(error)
    if code is Exit.INTERNAL:
        say(f"internal error: {type(error).__name__}: {error} (please report it with the lines above)")
    elif code is not Exit.INTERRUPTED:
        say(message_of(error))
    return code


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and exit with a code of ``sigfs.cli.exits``."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command; give the exit code."""
    code: object
    try:
        code = sigfs.main(arguments, prog_name="sigfs", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        say(error.format_message())
        if context is not None:
            click.echo(f"Try '{context.command_path} --help'.", err=True)
        code = Exit.USAGE if isinstance(error, click.UsageError) else Exit.FAILURE
    except (click.Abort, KeyboardInterrupt):
        code = Exit.INTERRUPTED
    except BrokenPipeError:
        # The reader has seen enough (``sigfs find | head``); keep the interpreter from complaining at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 128 + signal.SIGPIPE
    except Exception as error:  # noqa: BLE001 - the last place where an error can be said
        code = fail(error)
    return int(code) if isinstance(code, int) else Exit.OK
