"""``sigfs backup``, ``sigfs snapshot`` and ``sigfs restore``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from sigfs.cli.app import say
from sigfs.cli.exits import Exit
from sigfs.cli.output import print_json, printable
from sigfs.cli.params import LayoutText

if TYPE_CHECKING:
    from sigfs.backup.making import Report

# What a command works with is imported when it works: sigfs --help imports all commands.

_DIRECTORY = click.Path(file_okay=False)


@click.command(
    "backup",
    epilog="""\b
Examples:
  sigfs backup ~/backup                   all metadata, and a script that brings it back
  sigfs backup --incremental ~/backup     again: what has changed since
  sh ~/backup/restore.sh -h               what the script can do, without sigfs
  sh ~/backup/restore.sh -n workspace study/workspace""",
)
@click.argument("directory", type=_DIRECTORY)
@click.option("-f", "--filter", "filter_text", metavar="QUERY", default="", help="Only the jobs that QUERY holds for.")
@click.option("--layout", metavar="LAYOUT", type=LayoutText(), help="Of the view that the script makes; default: auto.")
@click.option("--incremental", is_flag=True, help="Read and write only what has changed since the last backup.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print what has been done as JSON.")
@click.option("--state-dir", metavar="DIR", type=_DIRECTORY, help="Where the index is kept.")
@click.option(
    "-p", "--project", "project_path", metavar="DIR", type=_DIRECTORY, help="The project; default: found upward."
)
def backup_command(
    directory: str,
    filter_text: str,
    layout: str | None,
    incremental: bool,
    dry_run: bool,
    as_json: bool,
    state_dir: str | None,
    project_path: str | None,
) -> None:
    """Keep the metadata of all jobs in DIRECTORY, with a shell script that brings it back.

    DIRECTORY gets state points and documents as JSON lines in metadata/, and restore.sh, which needs nothing but a
    POSIX shell and coreutils. What it has from before stays, also of jobs that are gone since. The data of the jobs is
    not in it.
    """
    from sigfs.api.project import get_project
    from sigfs.backup.making import Options, back_up
    from sigfs.query import parse_text

    options = Options(layout or "auto", parse_text(filter_text), incremental, state_dir, dry_run)
    report = back_up(get_project(project_path), directory, options)
    if as_json:
        print_json(asdict(report))
    else:
        _print(report, dry_run)
    for line in report.damaged:
        say(f"{directory}/metadata/{line}: cannot be understood; all has been backed up anew")
    for job_id, why in report.unreadable.items():
        say(f"{printable(job_id)}: {printable(why)}; what an earlier backup has of it stays")
    _say_pending(report.pending)
    if report.unreadable:
        click.get_current_context().exit(Exit.FAILURE)


def _print(report: Report, dry_run: bool) -> None:
    if dry_run:
        for sign, ids in (("+", report.added), ("~", report.changed), ("-", report.removed)):
            for job_id in ids:
                click.echo(f"{sign} {printable(job_id)}")
    counts = {"added": len(report.added), "changed": len(report.changed), "removed": len(report.removed)}
    click.echo(", ".join(f"{count} {what}" for what, count in {**counts, "unchanged": report.unchanged}.items()))


def _say_pending(count: int) -> None:
    if count:
        say(f"{count} directories of the workspace cannot be read as jobs: see sigfs check")


@click.command(
    "snapshot",
    epilog="""\b
Examples:
  sigfs snapshot study.tar.gz                     state points, documents and configuration
  sigfs snapshot --data study.tar                 all that the jobs have, too
  sigfs snapshot --filter 'foo.$gt 3' some.zip
  sigfs restore study.tar.gz study-2              make a project of it""",
)
@click.argument("file", type=click.Path())
@click.option("--data", is_flag=True, help="All that the jobs have, not their state points and documents alone.")
@click.option("-f", "--filter", "filter_text", metavar="QUERY", default="", help="Only the jobs that QUERY holds for.")
@click.option("--dry-run", is_flag=True, help="Name the jobs that would be in it, and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print what is in it as JSON.")
@click.option("--state-dir", metavar="DIR", type=_DIRECTORY, help="Where the index is kept.")
@click.option(
    "-p", "--project", "project_path", metavar="DIR", type=_DIRECTORY, help="The project; default: found upward."
)
def snapshot_command(
    file: str,
    data: bool,
    filter_text: str,
    dry_run: bool,
    as_json: bool,
    state_dir: str | None,
    project_path: str | None,
) -> None:
    """Write the data space into FILE, an archive: .tar, .tar.gz, .tar.zst or .zip.

    What is in it has the names that it has in the project, so that any program can unpack it. FILE must not be there.
    """
    from sigfs.api.progress import progress_bar
    from sigfs.api.project import get_project
    from sigfs.backup.snapshot import snapshot
    from sigfs.query import parse_text

    project = get_project(project_path)
    with progress_bar("writing") as progress:
        report = snapshot(
            project,
            file,
            data=data,
            query=parse_text(filter_text),
            state_dir=state_dir,
            dry_run=dry_run,
            progress=progress,
        )
    if as_json:
        print_json(asdict(report))
    else:
        if dry_run:
            for path in report.jobs:
                click.echo(f"+ {printable(path)}")
        click.echo(f"{len(report.jobs)} jobs, {len(report.files)} files of the project")
    for path in report.left_out:
        say(f"{printable(path)}: is outside of the project's directory, and left out")
    _say_pending(report.pending)
    if report.left_out:
        click.get_current_context().exit(Exit.FAILURE)


@click.command(
    "restore",
    epilog="""\b
Examples:
  sigfs restore study.tar.gz study-2          make a project of a snapshot
  sigfs restore --dry-run study.tar.gz        what this project would get from it
  sigfs restore study.tar.gz                  put back what is missing from it""",
)
@click.argument("file", type=click.Path(dir_okay=False))
@click.argument("project", type=_DIRECTORY, required=False)
@click.option("--aside", is_flag=True, help="Give what differs another name, NAME.1~, and put back what was.")
@click.option("--links", is_flag=True, help="Make symbolic links, too, that may lead out of their jobs.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print what has been done as JSON.")
def restore_command(file: str, project: str | None, aside: bool, links: bool, dry_run: bool, as_json: bool) -> None:
    """Bring back what the snapshot FILE has and PROJECT has not: jobs, files of jobs, configuration.

    PROJECT is a project, by default that of the working directory, or becomes one. What is there stays, unless it is
    proved wrong (a state point of another job, a document that is no JSON mapping): then it is kept beside, as NAME.1~.
    """
    from sigfs.api.project import get_project
    from sigfs.backup.restoring import restore

    report = restore(file, project or get_project(None).root, aside=aside, links=links, dry_run=dry_run)
    if as_json:
        print_json(asdict(report))
    else:
        if dry_run:
            for path in [*report.jobs, *report.files]:
                click.echo(f"+ {printable(path)}")
        for path, old in report.replaced.items():
            click.echo(f"~ {printable(path)}: what was there is now {printable(old)}")
        for path in report.in_the_way:
            click.echo(f"! {printable(path)}")
        click.echo(f"{len(report.jobs)} jobs, {len(report.files)} files restored, {report.unchanged} files unchanged")
    for path, why in report.left_out.items():
        say(f"{printable(path)}: {printable(why)}: left out")
    for path in report.pending:
        say(f"{printable(path)}: has no state point, or that of another, in the snapshot: it is restored so")
    if report.in_the_way:
        say(f"{len(report.in_the_way)} things are there and differ: they stay; see --aside")
    if report.in_the_way or report.left_out or report.pending:
        click.get_current_context().exit(Exit.FAILURE)
