"""The end of a mount whose disk does not answer.

Owned here: that the process ends all the same. What programs have been told is written has been handed to the disk
before they were told; there is nothing left that waiting could save.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

log = logging.getLogger(__name__)

END_S: Final = 15.0
"""How long it may take to end, from when the file system is unmounted: threads that look at the disk are waited for,
and an index that is being written."""


@contextmanager
def in_time(let_go: Callable[[], None]) -> Iterator[None]:
    """End the process if the block takes longer than ``END_S``: with code 0, or 1 while an exception is handled.

    Args:
        let_go: called just before that.
    """
    done = threading.Event()
    code = 0 if sys.exc_info()[0] is None else 1

    def watch() -> None:
        if not done.wait(END_S):
            log.warning("the disk below does not answer: ending without it")
            leave(let_go, code)

    threading.Thread(target=watch, name="sigfs-end", daemon=True).start()
    try:
        yield
    finally:
        done.set()


def leave(let_go: Callable[[], None] = lambda: None, code: int = 0) -> None:
    """End the process at once and with it the mount, whatever other threads wait for."""
    logging.shutdown()
    let_go()
    os._exit(code)
