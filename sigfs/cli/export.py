"""``sigfs export``."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

from sigfs.cli.app import say
from sigfs.cli.exits import Exit
from sigfs.cli.output import print_json, printable
from sigfs.export.report import Archive, Method, Report
from sigfs.export.settled import begun, count_unchanged, looking
from sigfs.export.target import check_target
from sigfs.model.project import ProjectFiles, find_root
from sigfs.model.workspace import Workspace

# An export that has nothing to do takes less than the import of what it would do it with: that is done when needed.

_DIRECTORY: Final = click.Path(file_okay=False)


class _Later(click.types.StringParamType):
    """A type of ``sigfs.cli.params`` that is imported when there is a value."""

    name = "text"

    def __init__(self, name: str) -> None:
        self._name = name

    def _type(self) -> click.types.StringParamType:
        from sigfs.cli import params

        made: click.types.StringParamType = getattr(params, self._name)()
        return made

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return self._type().convert(value, param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return self._type().shell_complete(ctx, param, incomplete)


@click.command(
    "export",
    epilog="""\b
Examples:
  sigfs export view                   links to all jobs, as sigfs mount would show them
  sigfs export view                   again: links are added, retargeted and removed
  sigfs export --layout signac view   the links of signac view
  sigfs export --filter 'foo.$gt 3' --dry-run view""",
)
@click.argument("target", type=click.Path())
@click.option("--filter", "filter_text", metavar="QUERY", default="", help="Only the jobs that QUERY holds for.")
@click.option("--layout", metavar="LAYOUT", type=_Later("LayoutText"), help="As of sigfs mount; default: auto.")
@click.option("--view", "view_name", metavar="NAME", type=_Later("ViewName"), help="A view that the project keeps.")
@click.option("--symlink", "method", flag_value="symlink", default=True, help="Links to the jobs (default).")
@click.option("--copy", "method", flag_value="copy", help="Copies, compared with the jobs.")
@click.option("--reflink", "method", flag_value="reflink", help="Copies that share their blocks with the jobs.")
@click.option("--hardlink", "method", flag_value="hardlink", help="Directories with the very files of the jobs.")
@click.option("--move", "method", flag_value="move", help="The jobs themselves: they leave the project.")
@click.option(
    "--archive", type=click.Choice(["zip", "tar", "tar.gz", "tar.zst"]), help="One archive file, TARGET, of copies."
)
@click.option("--dry-run", is_flag=True, help="Say what would be done, and change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print what has been done as JSON.")
@click.option("--state-dir", metavar="DIR", type=_DIRECTORY, envvar="SIGFS_STATE_DIR", help="Where the index is kept.")
@click.option(
    "-p", "--project", "project_path", metavar="DIR", type=_DIRECTORY, help="The project; default: found upward."
)
def export_command(
    target: str,
    filter_text: str,
    layout: str | None,
    view_name: str | None,
    method: Method,
    archive: Archive | None,
    dry_run: bool,
    as_json: bool,
    state_dir: str | None,
    project_path: str | None,
) -> None:
    """Make a directory show the jobs as a mount does, without a mount.

    What is in TARGET and does not come from an export stays as it is; where it is in the way, the exit code is 1.
    """
    report = None
    if view_name is None and archive is None:
        report = _unchanged(project_path, target, method, layout, filter_text)
    if report is None:
        report = _export(project_path, target, archive or method, layout, filter_text, view_name, dry_run, state_dir)
    if as_json:
        print_json(asdict(report))
    else:
        _print(report, dry_run)
    if report.pending:
        say(f"{report.pending} directories of the workspace cannot be read as jobs: see sigfs index verify")
    for path, why in report.failed.items():
        say(f"{printable(path)}: {why}")
    if report.in_the_way:
        say(f"{len(report.in_the_way)} could not be exported: what is in the way is not, or not as, an export left it")
    if report.in_the_way or report.failed:
        click.get_current_context().exit(Exit.FAILURE)


def _unchanged(
    project_path: str | None, target: str, method: Method, layout: str | None, filter_text: str
) -> Report | None:
    """The report of an export that has nothing to do; None if it may have."""
    files = ProjectFiles(find_root(project_path or "."))
    path = check_target(target, files.root, files.workspace_path)
    new = begun(path, files, method, layout or "auto", filter_text)
    with looking(path) as (fd, old):
        count = count_unchanged(fd, old, new, Workspace(files.workspace_path))
    return None if count is None else Report(target, unchanged=count)


def _export(
    project_path: str | None,
    target: str,
    method: Method | Archive,
    layout: str | None,
    filter_text: str,
    view_name: str | None,
    dry_run: bool,
    state_dir: str | None,
) -> Report:
    from sigfs.api.progress import progress_bar
    from sigfs.api.project import get_project
    from sigfs.export.exporting import Options, export, export_archive
    from sigfs.query import parse_text

    project = get_project(project_path)
    query = parse_text(filter_text)
    if view_name is not None:
        from sigfs.cli.views import both, view_of

        view = view_of(project, view_name)
        query, layout = both(view.filter, query), layout or view.layout
    with progress_bar("exporting") as progress:
        options = Options(layout or "auto", query, state_dir=state_dir, dry_run=dry_run, progress=progress)
        match method:
            case "zip" | "tar" | "tar.gz" | "tar.zst":
                return export_archive(project, target, method, options)
            case _:
                return export(project, target, replace(options, method=method))


def _print(report: Report, dry_run: bool) -> None:
    if dry_run:
        for sign, paths in (("+", report.added), ("~", report.changed), ("-", report.removed)):
            for path in paths:
                click.echo(f"{sign} {printable(path)}")
    for path in report.in_the_way:
        click.echo(f"! {printable(path)}")
    counts = {"added": len(report.added), "changed": len(report.changed), "removed": len(report.removed)}
    click.echo(", ".join(f"{count} {what}" for what, count in {**counts, "unchanged": report.unchanged}.items()))
