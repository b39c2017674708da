"""Room for descriptors: those that programs may have, and those that the mount needs for its own work.

Owned here: where the one ends and the other begins. A file that is open in the mount is open in this process too, whose
limit (RLIMIT_NOFILE) is not that of the program that opens it. Where the room for programs is used up, opening one more
file fails with ENFILE, and everything else goes on: names are found, directories of the view are listed, and what is
open is read, written and closed.
"""

from __future__ import annotations

import errno
import logging
import os
import resource
from typing import Final

from sigfs.vfs.types import FsError

log = logging.getLogger(__name__)

RESERVE: Final = 128
"""Descriptors kept for the mount itself; but not more than a quarter of all."""


def limit_of_descriptors() -> int:
    """How many descriptors this process may have; a large number if there is no limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 30 if soft == resource.RLIM_INFINITY else soft


class Room:
    """Of this process. Any thread may call any method; nothing is locked.

    The kernel gives out the lowest number that is free. So if that is not below a bound, all below it are in use; and
    as long as no descriptor beyond the bound has been met, one need not ask.
    """

    def __init__(self, limit: int | None = None) -> None:
        """Divide what there is. *limit*: default is that of the process."""
        self._limit = limit_of_descriptors() if limit is None else limit
        self._bound = self._limit - min(RESERVE, self._limit // 4)
        self._is_tight = False
        self._said = False

    def took(self, fd: int) -> bool:
        """Note that *fd* has been opened; whether that is one of those kept for the mount itself."""
        if fd < self._bound:
            return False
        self._is_tight = True
        return True

    def require(self) -> None:
        """See that a program may have one more.

        Raises:
            FsError: ENFILE.
        Complexity: no system call before room has been tight; then two, until half of it is free.
        """
        if not self._is_tight:
            return
        try:
            lowest = os.open("/", os.O_PATH | os.O_CLOEXEC)
            os.close(lowest)
        except OSError:
            lowest = self._limit
        self._is_tight = lowest >= self._bound // 2
        if lowest >= self._bound:
            self._say()
            raise FsError(errno.ENFILE)

    def _say(self) -> None:
        if not self._said:
            self._said = True
            log.warning(
                "no more files of the mount can be opened until some are closed: RLIMIT_NOFILE is %d; "
                "set it higher before it is mounted again, by ulimit -Hn, or LimitNOFILE= of the service",
                self._limit,
            )
