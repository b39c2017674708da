"""``sigfs`` with hostile timing: ``python -m tests.support.hostile SEED ARGUMENTS``.

Threads are held up at random where one may come between two steps of another: before and after each notification and
each answer, when something is left to the pool or to those who wait for locks, around changes of the index, and when
the kernel forgets a node. SIGUSR1 has it write down what all its threads are at.
"""

from __future__ import annotations

import faulthandler
import functools
import random
import runpy
import signal
import sys
import time
from typing import Any

from sigfs.index import Index
from sigfs.transports.kernel.device import Device
from sigfs.transports.kernel.pool import Pool
from sigfs.transports.kernel.waiting import Waiters
from sigfs.vfs.inodes import Inodes

LONGEST_S = 0.02
SHARE = 0.1


def main() -> None:
    """Be ``sigfs``."""
    dice = random.Random(int(sys.argv.pop(1)))

    def hold_up() -> None:
        if dice.random() < SHARE:
            time.sleep(dice.random() * LONGEST_S)

    def surround(owner: type, name: str) -> None:
        original = getattr(owner, name)

        @functools.wraps(original)
        def held_up(*args: Any, **kwargs: Any) -> Any:
            hold_up()
            try:
                return original(*args, **kwargs)
            finally:
                hold_up()

        setattr(owner, name, held_up)

    for owner, name in (
        (Device, "notify"),
        (Device, "reply"),
        (Device, "fail"),
        (Pool, "submit"),
        (Waiters, "submit"),
        (Index, "apply"),
        (Inodes, "forget"),
    ):
        surround(owner, name)
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    sys.argv[0] = "sigfs"
    runpy.run_module("sigfs", run_name="__main__")


if __name__ == "__main__":
    main()
