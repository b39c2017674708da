"""How results are printed: tables for people, tabs and JSON for programs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import click


@dataclass(frozen=True, slots=True)
class Column:
    """A heading."""

    name: str


def print_json(value: object) -> None:
    """Print *value* as JSON, in ASCII, as the standard library spells it."""
    click.echo(json.dumps(value, indent=2))


def print_rows(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on a terminal; otherwise lines of tab-separated cells below a line of headings."""
    if not sys.stdout.isatty():
        for cells in ([column.name for column in columns], *rows):
            click.echo(os.fsencode("\t".join(printable(cell) for cell in cells)))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(Text(printable(column.name)), overflow="fold")
    for cells in rows:
        table.add_row(*(Text(printable(cell)) for cell in cells))
    Console().print(table)


def printable(cell: str) -> str:
    r"""Write control characters as escapes, so that a cell is one cell and a terminal stays sane.

    >>> printable("a\tb\x1b[31m")
    'a\\tb\\x1b[31m'
    """
    if cell.isprintable():
        return cell
    return "".join(char if char.isprintable() or 0xDC80 <= ord(char) <= 0xDCFF else repr(char)[1:-1] for char in cell)
