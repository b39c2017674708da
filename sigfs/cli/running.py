"""``sigfs open``: run a command in job directories."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Sequence

import click

from sigfs.api.job import Job
from sigfs.api.project import get_project
from sigfs.cli.app import say
from sigfs.cli.choosing import QueryCommand, all_option, jobs_argument, jobs_of, project_option
from sigfs.cli.documents import plain_statepoint
from sigfs.cli.environment import environment_of, variables_of
from sigfs.cli.exits import Exit, message_of
from sigfs.cli.output import print_json
from sigfs.cli.processes import Task, run_all


class OpenCommand(QueryCommand):
    """A command with another one behind ``--``, which is left as it is."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the command behind aside."""
        end = args.index("--") if "--" in args else len(args)
        ctx.meta["command"] = args[end + 1 :]
        return super().parse_args(ctx, args[:end])

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Say that there is one."""
        return [*super().collect_usage_pieces(ctx), "[-- COMMAND...]"]


@click.command(
    "open",
    cls=OpenCommand,
    epilog="""\b
Examples:
  sigfs open 0300                     a shell in the directory of one job
  sigfs open 0300 -- ls -l
  sigfs open foo 42 -- make plots     in one job after the other, up to the first that fails
  sigfs open foo@gt 3 --parallel 8 --keep-going -- ../../run.sh
  sigfs open --all -- sh -c 'test -e out.h5 || echo $SIGFS_JOB_ID'
  sigfs open 0300 -- sh -c 'simulate -T "$SIGFS_SP_T" -n "$SIGFS_SP_RUN_STEPS"'
The command finds in its environment SIGFS_JOB_ID, SIGFS_JOB_PATH, SIGFS_PROJECT, the state point as JSON in
SIGFS_STATEPOINT, and each of its values in SIGFS_SP_..., in capitals: SIGFS_SP_A_B is that of a.b.""",
)
@jobs_argument
@all_option
@click.option("--parallel", metavar="N", type=click.IntRange(1, 1024), default=1, help="Run in N jobs at a time.")
@click.option("--keep-going", is_flag=True, help="Go on with the other jobs if the command fails in one.")
@click.option("--dry-run", is_flag=True, help="Run nothing, only print in which directories it would be run.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print the exit codes as JSON at the end; all other output is on stderr."
)
@project_option
@click.pass_context
def open_command(
    context: click.Context,
    words: tuple[str, ...],
    everything: bool,
    parallel: int,
    keep_going: bool,
    dry_run: bool,
    as_json: bool,
    project_path: str | None,
) -> None:
    """Run a command in the directories of jobs; without a command, a shell in that of one.

    The exit code is that of the first command that failed; 128 and the number of the signal if one ended it. Signals
    are passed on, and no further job is begun after SIGINT, SIGTERM or SIGHUP.
    """
    command: list[str] = context.meta["command"]
    project = get_project(project_path)
    jobs = jobs_of(project, words, everything)
    if dry_run:
        _show(jobs, as_json)
        return
    if not command:
        if len(jobs) > 1:
            raise click.UsageError(f"say what is to be run in {len(jobs)} jobs: ... -- COMMAND", context)
        command = [os.environ.get("SHELL") or "/bin/sh"]
    said: set[str] = set()

    def task_of(job: Job) -> Task:
        variables, missing = variables_of(plain_statepoint(job))
        for each in missing:
            if each not in said:
                said.add(each)
                say(each)
        path = os.fspath(job)
        own = {**variables, "SIGFS_JOB_ID": job.id, "SIGFS_JOB_PATH": path, "SIGFS_PROJECT": project.root, "PWD": path}
        return Task(path, environment_of(own, os.environ))

    def failed(number: int, code: int, error: Exception | None) -> None:
        if code in (Exit.NO_COMMAND, Exit.NOT_EXECUTABLE) and isinstance(error, OSError):
            say(f"{command[0]!r} cannot be run: {error.strerror}")
        elif error is not None:
            say(f"job {jobs[number].id}: {message_of(error)}")
        elif len(jobs) > 1:
            say(f"job {jobs[number].id}: exit code {code}")

    sys.stdout.flush()
    tasks = (functools.partial(task_of, job) for job in jobs)
    stderr = sys.stderr.fileno() if as_json else None
    codes, stopped_by = run_all(tasks, command, parallel, keep_going, failed, stderr)
    if as_json:
        done = [(jobs[number], code) for number, code in sorted(codes.items())]
        print_json([{"id": job.id, "path": os.fspath(job), "exit_code": code} for job, code in done])
    if len(codes) < len(jobs) and len(jobs) > 1:
        say(f"{len(jobs) - len(codes)} of {len(jobs)} jobs have not been begun")
    code = next((code for code in codes.values() if code), 0)
    context.exit(code or (128 + stopped_by if stopped_by else 0))


def _show(jobs: Sequence[Job], as_json: bool) -> None:
    if as_json:
        print_json([{"id": job.id, "path": os.fspath(job)} for job in jobs])
        return
    for job in jobs:
        click.echo(os.fsencode(os.fspath(job)))
