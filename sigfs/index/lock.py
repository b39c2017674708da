"""The lock between those who read the index and the one who changes it.

Owned here: ``SharedLock``. Reads take microseconds and may overlap; a change waits for them to end.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_PATIENCE_S: Final = 0.05
"""How long a waiting change keeps new readers out before it lets them by for as long: a slow query holds up
changes, but not every other query."""

_MOST_PATIENCE_S: Final = 1.0
"""To how much that grows with each turn: slow queries without end must not keep a change away for ever."""


class SharedLock:
    """Any number of readers, or one writer. Not re-entrant.

    >>> lock = SharedLock()
    >>> with lock.shared():
    ...     pass
    >>> with lock.exclusive():
    ...     pass
    """

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())  # guards the fields below
        self._readers = 0
        self._writing = False
        self._closed = False  # a writer waits and new readers let it go first

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Read: hold off changes. About 1.5 µs."""
        changed = self._changed
        with changed:
            while self._writing or self._closed:
                changed.wait()
            self._readers += 1
        try:
            yield
        finally:
            with changed:
                self._readers -= 1
                if not self._readers:
                    changed.notify_all()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Change: wait until nobody reads, and let nobody begin to. The caller sees to it that there is one writer."""
        changed = self._changed
        with changed:
            patience_s = _PATIENCE_S
            try:
                self._closed = True
                while self._readers:
                    if not changed.wait(patience_s if self._closed else _PATIENCE_S) and self._readers:
                        if self._closed:
                            patience_s = min(2 * patience_s, _MOST_PATIENCE_S)
                        self._closed = not self._closed
                        changed.notify_all()
                self._writing = True
            finally:  # also where a signal has interrupted the waiting
                self._closed = False
                changed.notify_all()
        try:
            yield
        finally:
            with changed:
                self._writing = False
                changed.notify_all()
