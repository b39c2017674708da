"""Paths as arguments."""

from __future__ import annotations

from typing import Any

import click

from sigfs.model.files import EMPTY_PATH


class DirectoryName(click.Path):
    """A path that may be a directory or nothing yet, and is not empty."""

    def __init__(self) -> None:
        """Make the type."""
        super().__init__(file_okay=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See that it says something."""
        if not value:
            self.fail(EMPTY_PATH, param, ctx)
        return super().convert(value, param, ctx)
