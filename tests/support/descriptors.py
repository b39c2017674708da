"""Which descriptors this process has come to hold since a moment, whatever other tests' threads close meanwhile."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TypeAlias

from tests.support.wait import wait_until

Descriptors: TypeAlias = "frozenset[tuple[str, str]]"
"""Numbers, and what they lead to."""


def descriptors() -> Descriptors:
    """Give those that are open."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            found.add((number, os.readlink(f"/proc/self/fd/{number}")))
        except FileNotFoundError:  # that which listed them, or closed a moment ago
            continue
        except OSError:  # ENAMETOOLONG: it leads too deep to be said
            found.add((number, ""))
    return frozenset(found)


def opened_since(before: Descriptors) -> Descriptors:
    """Give those that are open and were not *before*."""
    return descriptors() - before


def assert_none_left(before: Descriptors) -> None:
    """See that all that have been opened since *before* are closed, or about to be by another thread."""
    with suppress(TimeoutError):
        wait_until(lambda: not opened_since(before), 10)
    left = opened_since(before)
    assert not left, f"left open: {sorted(left)}"
