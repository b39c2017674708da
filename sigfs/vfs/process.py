"""What a server says of itself as a process, and how fast something is counted.

Owned here: figures that cost nothing until somebody asks for them.
"""

from __future__ import annotations

import contextlib
import os
import resource
import threading
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from sigfs.model.types import Json

_INTERVAL_S: Final = 1.0
"""A rate is a mean over at least so long."""


def process_status() -> dict[str, Json]:
    """Describe this process.

    Returns:
        pid; threads; memory_bytes (resident; None where /proc does not say); cpu_s (used so far, in user and system);
        descriptors (open; None as above), descriptors_limit (None: there is none).

    Complexity: O(descriptors), some 0.1 µs each.
    """
    memory_bytes = descriptors = None
    with contextlib.suppress(OSError, ValueError, IndexError):
        with open("/proc/self/statm", "rb") as file:
            memory_bytes = int(file.read().split()[1]) * resource.getpagesize()
        descriptors = len(os.listdir("/proc/self/fd")) - 1  # without that of the listing
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return {
        "pid": os.getpid(),
        "threads": threading.active_count(),
        "memory_bytes": memory_bytes,
        "cpu_s": time.process_time(),
        "descriptors": descriptors,
        "descriptors_limit": None if soft == resource.RLIM_INFINITY else soft,
    }


class Rate:
    """How often a second a count grows: the mean since somebody asked last, which was ``_INTERVAL_S`` ago or longer.

    So whoever asks regularly learns what is so now, however many do, and nothing is done in between.

    >>> rate = Rate(iter([0.0, 2.0, 2.5]).__next__)
    >>> rate.now(10), rate.now(30)
    (5.0, 5.0)
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with a count of 0."""
        self._clock = clock
        self._lock = threading.Lock()  # guards the rest
        self._then_s, self._count = clock(), 0
        self._rate = 0.0

    def now(self, count: int) -> float:
        """Give the rate, in 1/s, of what has grown to *count*."""
        with self._lock:
            took_s = self._clock() - self._then_s
            if took_s >= _INTERVAL_S:
                self._rate = max(0, count - self._count) / took_s
                self._then_s, self._count = self._then_s + took_s, count
            return self._rate
