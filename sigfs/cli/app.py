"""The command's frame: the group, how errors are said, where logs go.

Owned here: nothing about any single command. Commands are imported when they are used, because starting to
complete a word in a shell must not take the time to import everything.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, NoReturn

import click

from sigfs.cli.exits import Exit, exit_code, message_of
from sigfs.version import __version__

if TYPE_CHECKING:
    from sigfs.model.workspace import Workspace

CONTEXT_SETTINGS: Final = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Commands(click.Group):
    """A group that imports a command's module when the command is asked for, and says what one probably meant."""

    MODULES: ClassVar[dict[str, str]] = {
        "init": "project",
        "job": "project",
        "find": "project",
        "sp": "documents",
        "doc": "documents",
        "open": "running",
        "put": "exchanging",
        "get": "exchanging",
        "mv": "changing",
        "migrate": "changing",
        "rm": "changing",
        "schema": "describing",
        "diff": "describing",
        "check": "checking",
        "repair": "checking",
        "sidecar": "sidecar",
        "verify": "sidecar",
        "freeze": "checking",
        "index": "index",
        "view": "views",
        "config": "configuration",
        "export": "export",
        "import": "importing",
        "backup": "backup",
        "snapshot": "backup",
        "restore": "backup",
        "mount": "mounting",
        "run": "private",
        "umount": "mounted",
        "install-helper": "helper",
        "status": "status",
        "log": "log",
        "doctor": "doctor",
        "demo": "demo",
        "completion": "completion",
        "man": "manual",
    }
    """command -> module of sigfs.cli that has it, as an attribute of the same name, with ``_`` for ``-`` and
    ``_command`` appended."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - the signature is click's
        """Give the commands in the order in which one meets them."""
        return list(self.MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the command."""
        if cmd_name not in self.MODULES:
            return None
        module = importlib.import_module(f"sigfs.cli.{self.MODULES[cmd_name]}")
        command: click.Command = getattr(module, f"{cmd_name.replace('-', '_')}_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """As click does it, without the import of every command."""
        names = self.list_commands(ctx)
        limit = formatter.width - 6 - max(map(len, names))
        with formatter.section("Commands"):
            commands = [click.Command(name, help=self._summary(ctx, name)) for name in names]
            formatter.write_dl([(command.name or "", command.get_short_help_str(limit)) for command in commands])

    def _summary(self, ctx: click.Context, name: str) -> str:
        """The first paragraph of a command's help: that of the docstring, read in the source where there is one."""
        function = name.replace("-", "_")
        with contextlib.suppress(OSError, UnicodeError):
            path = os.path.join(os.path.dirname(__file__), f"{self.MODULES[name]}.py")
            with open(path, encoding="utf-8") as file:
                found = re.search(
                    rf'^def {function}_command\(.*?"""(.*?)(?:\n\n|""")', file.read(), re.DOTALL | re.MULTILINE
                )
            if found is not None:
                return found[1]
        command = self.get_command(ctx, name)
        return "" if command is None else command.help or ""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """As click does it, but name a near match, and mount where no command is named but a project and a place.

        The latter is how /sbin/mount.fuse calls for ``mount -t fuse.sigfs``: ``sigfs PROJECT MNT -o OPTIONS``.
        """
        is_place = len(args) > 1 and "/" in args[0] and not args[1].startswith("-")
        if args[0] not in self.MODULES and (is_place or "-o" in args[2:]):
            importlib.import_module("sigfs.cli.helper").own_home()
            return "mount", self.get_command(ctx, "mount"), args
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
    invoke_without_command=True,
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
@click.pass_context
def sigfs(context: click.Context) -> None:
    """Show a signac data space as a live parameter tree.

    Paths are queries, files are the jobs' own: what is written below MNT/foo/42/ lands in the directory of the
    job whose state point has foo = 42.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        context.exit(Exit.USAGE)


def say(message: str) -> None:
    """Print one line about what is going on, beside the output: on stderr."""
    click.echo(f"sigfs: {message}", err=True)


def unreadable_jobs(workspace: Workspace) -> str:
    """Say how many directories are named like jobs and cannot be read as ones; empty if none is.

    Complexity: reads every state point.
    """
    pending = list(workspace.pending())
    if not pending:
        return ""
    (job_id, why), count = min(pending), len(pending)
    if count == 1:
        return f"1 directory of the workspace is named like a job, but cannot be read as one: {job_id}: {why}"
    return (
        f"{count} directories of the workspace are named like jobs, but cannot be read as ones; "
        f"the first is {job_id}: {why}"
    )


def unknown_jobs(troubles: Mapping[str, str]) -> str:
    """Say which directories outside of the workspace could not be looked at (`Places.troubles`); empty if all could."""
    if not troubles:
        return ""
    path = min(troubles)
    more = f"; and so {len(troubles) - 1} more" if len(troubles) > 1 else ""
    return f"{path}: {troubles[path]}; what jobs are there is not known{more}"


def fail(error: BaseException, *, trace: bool = False) -> Exit:
    """Say *error* on stderr, as everything that ends the command is said; give the exit code."""
    code = exit_code(error)
    if code is Exit.INTERNAL or trace:
        import traceback

        traceback.print_exception(error)
    if code is Exit.INTERNAL:
        say(f"internal error: {type(error).__name__}: {error} (please report it with the lines above)")
    elif code is not Exit.INTERRUPTED:
        say(message_of(error))
    return code


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and exit with a code of ``sigfs.cli.exits``."""
    _open_standard_streams()
    # Who reads the output may have seen enough (``sigfs find | head``): end as every program does then.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.exit(run(arguments))


def _open_standard_streams() -> None:
    """Give those of stdin, stdout and stderr that the caller has closed (``>&-``) to /dev/null.

    Otherwise the next file that is opened would get their number, and a server would close it.
    """
    while (null := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(null, True)
    os.close(null)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115


@contextlib.contextmanager
def ignoring_sigpipe() -> Iterator[None]:
    """Within, a lost reader of messages does not end the process: for what must not stop half done."""
    before = signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGPIPE, before)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command; give the exit code."""
    code: object
    if "_SIGFS_COMPLETE" in os.environ:
        importlib.import_module("sigfs.cli.completion")  # which says how words are completed
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
    except (BrokenPipeError, SystemExit):
        # Where SIGPIPE is ignored; click makes it a SystemExit. Keep the interpreter from complaining at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = Exit.PIPE
    except Exception as error:  # noqa: BLE001 - the last place where an error can be said
        code = fail(error)
    return int(code) if isinstance(code, int) else Exit.OK
