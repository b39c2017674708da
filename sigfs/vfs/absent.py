"""Names of virtual directories that led nowhere, as the kernel may remember.

Owned here: which names those are. The kernel says when it forgets what exists, but not when it forgets that something
does not; so there are only so many, and the oldest gives way.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sigfs.vfs.types import Inode

ABSENT_LIMIT: Final = 1024
"""Names remembered. After each change of the index the kernel is told of all of them, some 2 us each."""


class Absent:
    """A set of (directory, name). Any thread may call any method; each is atomic.

    How an answer and a change that overtakes it stay in order: the name is added before it is made sure that the index
    has not changed since it was looked at, and the change is made before the names are taken. So either who answers
    finds that the name has been taken, or the kernel is told of it. It takes in an answer before it hears that,
    as it holds its lock of the directory from the question on, and waits for that lock to forget a name.
    """

    def __init__(self, limit: int = ABSENT_LIMIT) -> None:
        """Begin with no name."""
        self._limit = limit
        self._lock = threading.Lock()  # guards _names; nothing is locked or called meanwhile
        self._names: dict[tuple[Inode, str], None] = {}  # oldest first

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, entry: tuple[Inode, str]) -> bool:
        return entry in self._names

    def add(self, entry: tuple[Inode, str]) -> tuple[Inode, str] | None:
        """Add a name; gives one that had to give way for it, of which the kernel is to be told."""
        with self._lock:
            self._names.pop(entry, None)
            self._names[entry] = None
            if len(self._names) <= self._limit:
                return None
            oldest = next(iter(self._names))
            del self._names[oldest]
            return oldest

    def discard(self, entry: tuple[Inode, str]) -> None:
        """Take a name out."""
        with self._lock:
            self._names.pop(entry, None)

    def take(self) -> list[tuple[Inode, str]]:
        """Take all names out."""
        with self._lock:
            taken, self._names = self._names, {}
        return list(taken)
