"""Directories of a target, opened one step after the other.

Owned here: that nothing is reached through a symbolic link in the target, whoever puts one there meanwhile.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Final

from sigfs.model.files import DIRECTORY_FLAGS

_MODE: Final = 0o777


class Places:
    """The directories below *root_fd*: those on the way to the one used last are kept open."""

    def __init__(self, root_fd: int) -> None:
        """Use the directory open as *root_fd*, which stays the caller's."""
        self._root_fd = root_fd
        self._open: list[tuple[str, int]] = []

    def close(self) -> None:
        """Close what is open."""
        self._keep(0)

    def open(self, path: str, *, make: bool = False) -> int:
        """A descriptor of a directory, good until the next call; "" is the root.

        Args:
            path: as `sigfs.export.plan.is_inside` allows.
            make: make what is not there.
        Raises:
            FileNotFoundError: it is not there.
            NotADirectoryError: something on the way is no directory; a symbolic link is none.
        Complexity: two system calls a step that is not on the way to the last.
        """
        names = path.split("/") if path else []
        same = 0
        while same < min(len(names), len(self._open)) and names[same] == self._open[same][0]:
            same += 1
        self._keep(same)
        for name in names[same:]:
            above = self._open[-1][1] if self._open else self._root_fd
            try:
                fd = os.open(name, DIRECTORY_FLAGS, dir_fd=above)
            except FileNotFoundError:
                if not make:
                    raise
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, _MODE, dir_fd=above)
                fd = os.open(name, DIRECTORY_FLAGS, dir_fd=above)
            self._open.append((name, fd))
        return self._open[-1][1] if self._open else self._root_fd

    def _keep(self, count: int) -> None:
        while len(self._open) > count:
            os.close(self._open.pop()[1])


@contextlib.contextmanager
def below(root_fd: int) -> Iterator[Places]:
    """Give the directories below *root_fd*, closed in the end."""
    places = Places(root_fd)
    try:
        yield places
    finally:
        places.close()
