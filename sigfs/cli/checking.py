"""``sigfs check``, ``repair`` and ``freeze``: is a project sound, and jobs that are to stay what they are."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import cast

import click

from sigfs.api.checking import Done, Finding, findings, repair
from sigfs.api.freezing import freeze
from sigfs.api.leftovers import leftovers
from sigfs.api.project import get_project
from sigfs.cli.app import say
from sigfs.cli.choosing import dry_run_option, json_option, project_option
from sigfs.cli.exits import Exit
from sigfs.cli.output import Column, print_json, print_rows
from sigfs.errors import JobsCorrupted, SigfsError

# check


@click.command(
    "check",
    epilog="""\b
Examples:
  sigfs check
  sigfs check --json | jq -r '.[].id'
Exit code 1 if something is wrong.""",
)
@json_option
@project_option
@click.pass_context
def check_command(context: click.Context, as_json: bool, project_path: str | None) -> None:
    """See that every job has a state point and a document that can be read, and the name of its state point.

    What processes that were killed have left beside the jobs is named as well; it is no harm to any job.
    """
    project = get_project(project_path)
    found = findings(project)
    left = leftovers(project)
    if as_json:
        over = [{"id": each.path, "what": "leftover", "message": each.message} for each in left]
        print_json([each.to_json() for each in found] + over)
    elif found or left:
        rows = [[each.id, each.what, each.message] for each in found]
        rows += [[each.path, "leftover", each.message] for each in left]
        print_rows([Column("id"), Column("wrong"), Column("why")], rows)
    if found:
        say(f"{len(found)} of the jobs of {project.root} are not sound; sigfs repair mends what can be")
    if any(each.is_move for each in left):
        say("sigfs repair completes the moves")
    if found:
        context.exit(Exit.FAILURE)
    say(f"all jobs of {project.root} are sound")


# repair


@click.command(
    "repair",
    epilog="""\b
Examples:
  sigfs repair --dry-run
  sigfs repair
Exit code 1 if something could not be mended.""",
)
@dry_run_option
@json_option
@project_option
@click.pass_context
def repair_command(context: click.Context, dry_run: bool, as_json: bool, project_path: str | None) -> None:
    """Mend what sigfs check finds, as far as there is proof of what is right. Nothing is overwritten.

    Migrations and moves that were interrupted are completed, directories get the name of the state point that is in
    them, and state points that are lost, or overwritten with those of other jobs, are restored where they are kept: in
    the sidecar, by signac, or in an index. Documents come from the sidecar. What a damaged file was is kept beside it.
    """
    project = get_project(project_path)
    left: Sequence[Finding] = ()
    try:
        done: Sequence[Done] = repair(project, dry_run)
    except JobsCorrupted as error:
        done, left = cast("Sequence[Done]", error.done), cast("Sequence[Finding]", error.findings)
    if as_json:
        print_json({"done": [each.to_json() for each in done], "left": [each.to_json() for each in left]})
    else:
        rows = [[each.id, each.what, each.message] for each in done]
        rows += [[each.id, "left", each.message] for each in left]
        if rows:
            print_rows([Column("id"), Column("would be" if dry_run else "what"), Column("more")], rows)
    if left:
        say(f"{len(left)} of the jobs of {project.root} {'cannot' if dry_run else 'could not'} be mended")
        context.exit(Exit.FAILURE)
    if not done:
        say("there is nothing to repair")


# freeze


@click.command(
    "freeze",
    epilog="""\b
Examples:
  sigfs freeze data --dry-run
  sigfs freeze data                   mv workspace data, and index data
  sigfs find foo 42                   finds them as before, as ../data/...""",
)
@click.argument("directory", metavar="DIR", type=click.Path(file_okay=False))
@dry_run_option
@json_option
@project_option
def freeze_command(directory: str, dry_run: bool, as_json: bool, project_path: str | None) -> None:
    """Give the workspace another name and index it there: its jobs keep their paths and ids from then on.

    A new and empty workspace takes its place. The jobs are found at any moment, also if the command is interrupted:
    then the same command does the rest.
    """
    if not directory:
        raise click.UsageError("an empty path names nothing", click.get_current_context())
    project = get_project(project_path)
    path = os.path.join(project.root, directory)
    before = project.workspace.path
    try:
        jobs = freeze(project, path, dry_run=dry_run)
    except ValueError as error:
        if isinstance(error, SigfsError):
            raise
        raise click.ClickException(str(error)) from None
    if as_json:
        print_json({"from": before, "path": os.path.normpath(path), "jobs": jobs})
    else:
        be = "would be" if dry_run else "is" if jobs == 1 else "are"
        say(f"{jobs} job{'' if jobs == 1 else 's'} {be} in {os.path.normpath(path)}")
