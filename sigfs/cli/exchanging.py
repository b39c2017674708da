"""``sigfs put`` and ``get``: files into jobs, and out of them."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import stat
import sys
from collections.abc import Iterator
from typing import Final, NoReturn

import click
from click.shell_completion import CompletionItem

from sigfs.api.job import Job
from sigfs.api.progress import progress_bar
from sigfs.api.project import get_project
from sigfs.cli.choosing import job_argument, job_of, json_option, project_option
from sigfs.cli.output import print_json
from sigfs.errors import NoSuchJob, SigfsError
from sigfs.model import exchange, files
from sigfs.model.reading import DOCUMENT_FILE, STATEPOINT_FILE

_OWN: Final = {
    STATEPOINT_FILE: "the state point is changed with sigfs migrate",
    DOCUMENT_FILE: "the document is changed with sigfs doc",
}
_IS_TAKEN: Final = "there is something of this name already; --force replaces a file"
_READ: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY


class NameWord(click.types.StringParamType):
    """The name of a file in the job that stands before it."""

    name = "name"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002
        """Name what is in the directory so far."""
        above = os.path.dirname(incomplete)
        try:
            job = job_of(get_project(ctx.params.get("project_path")), ctx.params["job_id"])
            with os.scandir(os.path.join(job, above)) as entries:
                found = sorted(os.path.join(above, entry.name) + "/" * entry.is_dir() for entry in entries)
        except (SigfsError, OSError, LookupError):
            return []
        return [CompletionItem(name) for name in found if name.startswith(incomplete)]


# put


@click.command(
    "put",
    epilog="""\b
Examples:
  sigfs put 0300 result.txt *.h5
  sigfs put 0300 -r figures
  sigfs put 0300 result.txt --as results/first.txt
  simulate | sigfs put 0300 - --as out.txt""",
)
@job_argument
@click.argument("paths", metavar="FILE...", nargs=-1, required=True, type=click.Path())
@click.option("--as", "name", metavar="NAME", help="The name that a single file gets in the job; may have directories.")
@click.option("-f", "--force", is_flag=True, help="Replace files that are there.")
@click.option("-r", "--recursive", is_flag=True, help="Directories, too.")
@json_option
@project_option
def put_command(
    job_id: str,
    paths: tuple[str, ...],
    name: str | None,
    force: bool,
    recursive: bool,
    as_json: bool,
    project_path: str | None,
) -> None:
    """Copy files into the directory of a job; - is standard input, and needs --as.

    Each file appears there whole or not at all. Nothing is copied if one of the names is taken.
    """
    context = click.get_current_context()
    if name is not None and len(paths) > 1:
        raise click.UsageError("--as names a single file", context)
    if name is None and "-" in paths:
        raise click.UsageError("standard input needs a name: --as NAME", context)
    names = [os.path.basename(os.path.abspath(path)) if name is None else name for path in paths]
    for each in names:
        _require_name(each)
    if len(set(names)) < len(names):
        raise click.UsageError("two of the files have the same name: give one of them by itself, with --as", context)
    job = job_of(get_project(project_path), job_id)
    with _ended_by_exception(), _directory_of(job) as fd, contextlib.ExitStack() as stack:
        sources = [stack.enter_context(_opened(path, recursive)) for path in paths]
        for each in names if not force else ():
            if _is_taken(fd, each):
                raise _taken(job, each)
        for path, each, source_fd in zip(paths, names, sources, strict=True):
            above, last = os.path.split(os.path.normpath(each))
            with _named(job.fn(each)), _made_below(fd, above) as above_fd, progress_bar(path) as progress:
                exchange.bring(source_fd, above_fd, last, replace=force, progress=progress)
    if as_json:
        print_json([{"id": job.id, "name": each, "path": os.path.join(job, each)} for each in names])


def _require_name(name: str) -> None:
    steps = name.split("/")
    if not name.strip("/") or os.path.isabs(name) or ".." in steps or name.endswith("/"):
        raise click.UsageError(f"{name!r} is no name of a file in the job", click.get_current_context())
    if (own := os.path.normpath(name)) in _OWN:
        raise click.ClickException(f"{own} is the job's own: {_OWN[own]}")


def _taken(job: Job, name: str) -> FileExistsError:
    return FileExistsError(errno.EEXIST, _IS_TAKEN, job.fn(name))


def _is_taken(directory_fd: int, name: str) -> bool:
    above, last = os.path.split(os.path.normpath(name))
    try:
        above_fd = exchange.open_beneath(directory_fd, above or ".", os.O_PATH | os.O_DIRECTORY)
    except FileNotFoundError:
        return False
    try:
        os.stat(last, dir_fd=above_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    finally:
        os.close(above_fd)
    return True


@contextlib.contextmanager
def _made_below(directory_fd: int, path: str) -> Iterator[int]:
    """A descriptor of the directory *path* below another one; what of it is not there is made."""
    fd = os.dup(directory_fd)
    try:
        for step in filter(None, path.split("/")):
            with contextlib.suppress(FileExistsError):
                os.mkdir(step, dir_fd=fd)
            above, fd = fd, exchange.open_beneath(fd, step, os.O_PATH | os.O_DIRECTORY)
            os.close(above)
        yield fd
    finally:
        os.close(fd)


# get


@click.command(
    "get",
    epilog="""\b
Examples:
  sigfs get 0300 result.txt
  sigfs get 0300 result.txt first.txt
  sigfs get 0300 log.txt - | grep error
  sigfs get 0300 -r figures ~/talk/""",
)
@job_argument
@click.argument("name", metavar="NAME", type=NameWord())
@click.argument("destination", metavar="[DEST]", default=".", type=click.Path(allow_dash=True))
@click.option("-f", "--force", is_flag=True, help="Replace a file that is there.")
@click.option("-r", "--recursive", is_flag=True, help="A directory, too.")
@json_option
@project_option
def get_command(
    job_id: str, name: str, destination: str, force: bool, recursive: bool, as_json: bool, project_path: str | None
) -> None:
    """Copy a file out of the directory of a job: to a path, into a directory, or with - to standard output.

    It appears there whole or not at all. Links in the job are followed as long as they lead nowhere else.
    """
    if not destination:
        raise click.UsageError("an empty path names nothing", click.get_current_context())
    job = job_of(get_project(project_path), job_id)
    with _ended_by_exception(), _directory_of(job) as fd:
        with _named(job.fn(name)):
            source_fd = exchange.open_beneath(fd, name, _READ)
        try:
            _require_kind(source_fd, job.fn(name), recursive and destination != "-")
            if destination == "-":
                _print_file(source_fd)
                return
            path = os.path.abspath(destination)
            if os.path.isdir(path):
                path = os.path.join(path, os.path.basename(os.path.normpath(name)))
            elif destination.endswith("/"):
                raise FileNotFoundError(errno.ENOENT, "there is no such directory", destination)
            above, last = os.path.split(path)
            if os.path.lexists(path) and not force:
                raise FileExistsError(errno.EEXIST, _IS_TAKEN, path)
            with _named(path), files.opened_directory(above) as above_fd, progress_bar(name) as progress:
                exchange.bring(source_fd, above_fd, last, replace=force, progress=progress)
        finally:
            os.close(source_fd)
    if as_json:
        print_json({"id": job.id, "name": name, "path": path})


def _print_file(fd: int) -> None:
    sys.stdout.flush()
    while data := os.read(fd, 1 << 20):
        written = 0
        while written < len(data):
            written += os.write(sys.stdout.fileno(), data[written:])


# What both share


@contextlib.contextmanager
def _directory_of(job: Job) -> Iterator[int]:
    try:
        fd = os.open(job, files.DIRECTORY_FLAGS)
    except (FileNotFoundError, NotADirectoryError):
        raise NoSuchJob(f"no job {job.id} (any more)") from None
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def _opened(path: str, recursive: bool) -> Iterator[int]:
    if path == "-":
        yield sys.stdin.fileno()
        return
    fd = os.open(path, _READ | os.O_CLOEXEC)
    try:
        _require_kind(fd, path, recursive)
        yield fd
    finally:
        os.close(fd)


def _require_kind(fd: int, path: str, recursive: bool) -> None:
    mode = os.fstat(fd).st_mode
    if stat.S_ISDIR(mode) and not recursive:
        raise IsADirectoryError(errno.EISDIR, "is a directory: --recursive copies it", path)
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError(errno.EINVAL, "is neither a file nor a directory", path)


@contextlib.contextmanager
def _named(path: str) -> Iterator[None]:
    """Have errors say which file it is about."""
    try:
        yield
    except OSError as error:
        if isinstance(error, SigfsError):
            raise
        raise OSError(error.errno, error.strerror or str(error), path) from None


@contextlib.contextmanager
def _ended_by_exception() -> Iterator[None]:
    """Have SIGTERM and SIGHUP clear up before they end the command."""

    def end(number: int, _: object) -> NoReturn:
        raise click.exceptions.Exit(128 + number)

    numbers = [each for each in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(each) is signal.SIG_DFL]
    for number in numbers:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)
