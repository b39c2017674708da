"""Waiting for a condition, with a deadline and without a fixed pause."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


def wait_until(condition: Callable[[], Result], timeout_s: float = 60.0, what: str = "") -> Result:
    """Ask *condition* until it gives something true, and give that.

    Raises:
        TimeoutError: it did not within *timeout_s*.
    """
    deadline = time.monotonic() + timeout_s
    pause_s = 0.001
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout_s} s: {what or condition}")
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, 0.1)
