"""Events of many directories by their paths, by inotify: names that come and go in them, and files that are written.

Owned here: which watch belongs to which path. A directory that is renamed keeps its watch, and gets its new path when
it is watched by that.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from inotify_simple import INotify, flags, parse_events

from sigfs.watch.inotify import SHARE_OF_WATCHES, max_user_watches

MAX_WATCHES: Final = 65_536
"""Each takes about 1.4 kB of kernel memory. And not more than one in ``SHARE_OF_WATCHES`` of those of a user."""

_COME: Final = flags.CREATE | flags.MOVED_TO | flags.CLOSE_WRITE
_GONE: Final = flags.DELETE | flags.MOVED_FROM
_EVENTS: Final = _COME | _GONE | flags.DELETE_SELF | flags.MOVE_SELF | flags.ONLYDIR
_SELF: Final = flags.DELETE_SELF | flags.MOVE_SELF | flags.UNMOUNT | flags.IGNORED
_READ_BYTES: Final = 1 << 18


@dataclass(slots=True)
class Noticed:
    """What events said, in their order.

    Attributes:
        names: (path of a directory, name in it) -> whether it is a directory that has come or gone; else a file that
            has, or that was written.
        gone: paths of directories that are there no more, or may not be.
        overflown: events were lost.
    """

    names: dict[tuple[str, str], bool] = field(default_factory=dict)
    gone: dict[str, None] = field(default_factory=dict)
    overflown: bool = False


class DirectoryWatches:
    """Watches of directories. Used by one thread, but for ``add``: any thread may call that, and may hang in it.

    ``_lock`` guards the maps; nothing that may wait is done while it is held.

    Attributes:
        refused: directories that could not be watched since ``clear``: there were too many.
    """

    def __init__(self) -> None:
        """Watch nothing yet.

        Raises:
            OSError: there is no inotify to be had.
        """
        self._limit = min(MAX_WATCHES, max_user_watches() // SHARE_OF_WATCHES)
        self._lock = threading.Lock()
        self._queue = INotify(nonblocking=True)
        self._paths: dict[int, str] = {}
        self._watches: dict[str, int] = {}
        self.refused = 0

    def __len__(self) -> int:
        return len(self._paths)

    def __contains__(self, path: object) -> bool:
        return path in self._watches

    def fileno(self) -> int:
        """Give a descriptor that is readable when there are events."""
        fd: int = self._queue.fileno()
        return fd

    def add(self, path: str, *, follow: bool = False) -> bool:
        """Watch the directory at *path* from now on; False if that is not possible, or it is not there. About 12 us.

        Args:
            follow: the path itself may be a symbolic link.
        """
        if len(self._paths) >= self._limit:
            self.refused += 1
            return False
        queue = self._queue
        try:
            watch = queue.add_watch(path, _EVENTS | (0 if follow else flags.DONT_FOLLOW))
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                self.refused += 1
            return False
        with self._lock:
            if queue is not self._queue:  # cleared meanwhile
                return False
            before = self._paths.get(watch)
            if before is not None:
                self._watches.pop(before, None)
            stale = self._watches.get(path)
            if stale is not None and stale != watch:
                self._drop(path)
            self._paths[watch] = path
            self._watches[path] = watch
        return True

    def below(self, paths: Sequence[str]) -> list[str]:
        """List what is watched of some directories and below. O(watches) if there are any."""
        if not paths:
            return []
        prefixes = tuple(f"{path}/" for path in paths)
        with self._lock:
            return [each for each in self._watches if each.startswith(prefixes) or each in paths]

    def keep(self, paths: Iterable[str]) -> None:
        """Give up all other watches. O(watches)."""
        with self._lock:
            for path in self._watches.keys() - set(paths):
                self._drop(path)

    def drop_below(self, path: str) -> None:
        """Give up the watches on *path* and all below. O(watches)."""
        with self._lock:
            for each in [each for each in self._watches if each == path or each.startswith(f"{path}/")]:
                self._drop(each)

    def clear(self) -> None:
        """Watch nothing any more, and forget what has not been read."""
        queue = INotify(nonblocking=True)
        with self._lock:
            self._queue.close()
            self._queue = queue
            self._paths.clear()
            self._watches.clear()
        self.refused = 0

    def read(self) -> Noticed:
        """Give all that the queue holds; never waits."""
        noticed = Noticed()
        while not self._queue.closed:
            try:
                data = os.read(self._queue.fileno(), _READ_BYTES)
            except BlockingIOError:
                break
            with self._lock:
                for event in parse_events(data):
                    if event.mask & flags.Q_OVERFLOW:
                        noticed.overflown = True
                    elif (path := self._paths.get(event.wd)) is not None:
                        self._take(path, event.mask, event.name, noticed)
            if len(data) < _READ_BYTES // 2:
                break
        return noticed

    def close(self) -> None:
        """Give everything back; idempotent."""
        self._queue.close()

    def check(self) -> None:
        """Assert that the maps agree."""
        assert {path: watch for watch, path in self._paths.items()} == self._watches

    def _take(self, path: str, mask: int, name: str, noticed: Noticed) -> None:
        if mask & _SELF:
            noticed.gone[path] = None
            if mask & flags.IGNORED:
                del self._paths[self._watches.pop(path)]
        elif mask & flags.ISDIR:
            noticed.names[path, name] = True
        else:
            noticed.names.setdefault((path, name), False)

    def _drop(self, path: str) -> None:
        watch = self._watches.pop(path)
        del self._paths[watch]
        with contextlib.suppress(OSError):  # EINVAL: went away together with its directory
            self._queue.rm_watch(watch)
