"""``sigfs view``: named views of a project."""

from __future__ import annotations

import click

from sigfs.api.project import Project, get_project
from sigfs.cli.app import say
from sigfs.cli.choosing import QueryCommand, QueryWord, project_option, query_of
from sigfs.cli.output import Column, print_json, print_rows
from sigfs.cli.params import LayoutText, ViewName
from sigfs.model.settings import project_file
from sigfs.model.views import NamedView, find_view, read_views, remove_view, write_view
from sigfs.mount.views import read_view
from sigfs.query import EVERYTHING, And, Expr, format_text
from sigfs.tree import Layout, View


@click.group(
    "view",
    epilog="""\b
Examples:
  sigfs view add hot 'T.$gt 3'                   the jobs that a query holds for
  sigfs view add tables --layout hive            all jobs, as partitions
  sigfs view add plots --layout 'T_{T:.1f}/{{auto}}' group methyl
  sigfs view list
  sigfs mount --view hot ~/project ~/mnt
  sigfs view remove hot""",
)
def view_command() -> None:
    """Keep views of a project, a query and a layout each, under a name."""


@view_command.command(
    "add",
    cls=QueryCommand,
    epilog="""\b
Examples:
  sigfs view add hot 'T.$gt 3'
  sigfs view add tables --layout hive
  sigfs view add plots --layout 'T_{T:.1f}/{{auto}}' group methyl""",
)
@click.argument("name")
@click.argument("words", metavar="[QUERY]...", nargs=-1, type=QueryWord())
@click.option("--layout", metavar="LAYOUT", type=LayoutText(), default="auto", help="As of sigfs mount; default: auto.")
@click.option("--replace", is_flag=True, help="Replace a view of that name.")
@project_option
def add_command(name: str, words: tuple[str, ...], layout: Layout, replace: bool, project_path: str | None) -> None:
    """Keep a view: the jobs that QUERY holds for (all, if there is none), arranged by a layout."""
    project = get_project(project_path)
    write_view(project.root, NamedView(name, layout, format_text(query_of(words))), replace=replace)
    say(f"kept in {project_file(project.root)}")


@view_command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list of objects.")
@project_option
def list_command(as_json: bool, project_path: str | None) -> None:
    """List the views of a project."""
    views = read_views(get_project(project_path).root).values()
    if as_json:
        print_json([{"name": view.name, "layout": view.layout, "filter": view.filter} for view in views])
        return
    print_rows(
        [Column("name"), Column("layout"), Column("filter")], [[view.name, view.layout, view.filter] for view in views]
    )


@view_command.command("remove")
@click.argument("name", type=ViewName())
@project_option
def remove_command(name: str, project_path: str | None) -> None:
    """Forget a view. Its jobs, and mounts that show it, stay as they are."""
    remove_view(get_project(project_path).root, name)


def view_of(project: Project, name: str) -> View:
    """Read the view *name* of *project*.

    Raises:
        NoSuchView: there is none.
        InvalidConfig: its layout or filter cannot be understood.
    """
    return read_view(project.root, find_view(project.root, name))


def both(one: Expr, other: Expr) -> Expr:
    """Give the query that both hold."""
    terms = tuple(term for each in (one, other) for term in (each.terms if isinstance(each, And) else (each,)))
    return terms[0] if len(terms) == 1 else And(terms) if terms else EVERYTHING
