"""Who gets a lock sees what others wrote below while they had it, also where the kernel has a cache of its own."""

from __future__ import annotations

import fcntl
import mmap
import os

import pytest

from tests.conformance.test_locks import CALLS, both, test_sqlite_writers_on_both_sides_lose_nothing
from tests.support.drivers import Place
from tests.support.limits import needs

MOUNT_OPTIONS = ("nopassthrough",)
NOT_ON = ("plain", "direct", "llfuse", "fusepy")

__all__ = ["both", "test_sqlite_writers_on_both_sides_lose_nothing"]


@needs("locks below")
@pytest.mark.parametrize("call", CALLS)
def test_what_was_written_below_before_a_lock_is_read_after_it(both: dict[str, str], here: Place, call: str) -> None:
    lock = getattr(fcntl, call)
    with (
        open(both["here"], "r+b", 0) as file,
        open(both["below"], "r+b", 0) as below,
        mmap.mmap(file.fileno(), 0) as mapping,
    ):
        for number in range(200):
            assert os.pread(file.fileno(), 10, 0) == mapping[:]
            lock(below, fcntl.LOCK_EX)
            os.pwrite(below.fileno(), b"%010d" % number, 0)
            lock(below, fcntl.LOCK_UN)
            lock(file, fcntl.LOCK_SH)
            assert os.pread(file.fileno(), 10, 0) == b"%010d" % number
            assert mapping[:] == b"%010d" % number
            lock(file, fcntl.LOCK_UN)
