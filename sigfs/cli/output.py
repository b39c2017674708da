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


def print_text(text: str) -> None:
    """Print a line: on a terminal with control characters as escapes, otherwise as it is."""
    shown = printable(text) if sys.stdout.isatty() else text
    try:
        data = os.fsencode(shown)
    except UnicodeEncodeError:  # a lone surrogate
        data = shown.encode("utf-8", "surrogatepass")
    click.echo(data)


def print_rows(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on a terminal; otherwise lines of tab-separated cells below a line of headings.

    A table is as wide as what it shows, as that of ps or findmnt: an id or a path that is cut is of no use.
    """
    lines = [[printable(cell) for cell in cells] for cells in ([column.name for column in columns], *rows)]
    for text in _aligned(lines) if sys.stdout.isatty() else ["\t".join(cells) for cells in lines]:
        click.echo(os.fsencode(text))


def _aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """Pad the cells of each column to its widest, in cells of a terminal.

    >>> _aligned([["id", "k", "v"], ["abc", "", "1"]])
    ['id   k  v', 'abc     1']
    """
    from rich.cells import cell_len

    widths = [max(cell_len(cell) for cell in column) for column in zip(*lines, strict=True)]
    return [
        "  ".join(cell + " " * (width - cell_len(cell)) for cell, width in zip(cells, widths, strict=True)).rstrip()
        for cells in lines
    ]


def printable(cell: str) -> str:
    r"""Write control characters as escapes, so that a cell is one cell and a terminal stays sane.

    >>> printable("a\tb\x1b[31m")
    'a\\tb\\x1b[31m'
    """
    if cell.isprintable():
        return cell
    return "".join(char if char.isprintable() or 0xDC80 <= ord(char) <= 0xDCFF else repr(char)[1:-1] for char in cell)
