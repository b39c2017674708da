"""``sigfs import``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Final

import click

from sigfs.cli.app import say
from sigfs.cli.choosing import dry_run_option, json_option, project_option
from sigfs.cli.exits import Exit
from sigfs.cli.output import print_json, printable
from sigfs.export.report import Imported

_SHOWN: Final = 3


@click.command(
    "import",
    epilog="""\b
Examples:
  sigfs import view                     what sigfs export, or signac export, has made
  sigfs import data.tar.gz
  sigfs import --schema 'foo/{foo:int}/{x.y:float}' runs
  sigfs import --dry-run --schema 'T_{T:float}/seed_{seed:int}' ~/old
  sigfs import --move view""",
)
@click.argument("origin", type=click.Path())
@click.option(
    "--schema", metavar="SCHEMA", help="How paths say state points: 'foo/{foo:int}'; types: str, int, float, bool."
)
@click.option("--copy/--move", "copy", default=True, help="Copy the jobs (default), or have them leave ORIGIN.")
@dry_run_option
@json_option
@project_option
def import_command(
    origin: str, schema: str | None, copy: bool, dry_run: bool, as_json: bool, project_path: str | None
) -> None:
    """Bring the jobs of a directory tree or an archive (zip, tar, tar.gz, tar.zst) into the workspace.

    A directory is a job if it has a state point file, or if SCHEMA says so; if there are no state point files, paths
    are read as views spell them: foo/42/bar/true or foo=42/bar=true. A job that is there with other data is left as it
    is and named, and the exit code is 1; the others are imported.
    """
    from sigfs.api.progress import progress_bar
    from sigfs.api.project import get_project
    from sigfs.export.importing import ImportOptions, import_jobs

    project = get_project(project_path)
    with progress_bar("importing") as progress:
        report = import_jobs(project, origin, ImportOptions(schema, not copy, dry_run, progress))
    if as_json:
        print_json(asdict(report))
    else:
        _print(report, dry_run)
    if report.spelled:
        say("there is no state point file in it: state points are what the paths spell")
    for path, why in report.failed.items():
        say(f"{printable(path)}: {why}")
    if report.left:
        shown = ", ".join(map(printable, report.left[:_SHOWN])) + (", ..." if len(report.left) > _SHOWN else "")
        say(f"files of {len(report.left)} director{'y' if len(report.left) == 1 else 'ies'} belong to no job: {shown}")
    if report.failed:
        click.get_current_context().exit(Exit.FAILURE)


def _print(report: Imported, dry_run: bool) -> None:
    if dry_run:
        for path, job_id in report.imported.items():
            click.echo(f"+ {printable(path)} {job_id}")
    click.echo(f"{len(report.imported)} imported, {len(report.unchanged)} unchanged, {len(report.failed)} refused")
