"""Questions that may hang, asked by children: whoever asks a hung file system hangs with it.

Owned here: the children, and that nobody waits for them longer than was said. A thread would not do: a process ends no
sooner than the last of its threads comes back from the kernel.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeAlias

Question: TypeAlias = Callable[[int], None]
"""Finds something out and writes it to a descriptor."""

_REAP_S: Final = 1.0


def ask_all(questions: Sequence[Question], timeout_s: float) -> list[bytes]:
    """Ask all at once; give what each has written until it was done, or until *timeout_s* after the beginning.

    To be called where no other thread runs, since it forks.
    """
    deadline_s = time.monotonic() + timeout_s
    asked: dict[int, int] = {}  # where an answer is read -> the child
    said: dict[int, bytes] = {}
    try:
        for question in questions:
            readable, writable = os.pipe()
            child = os.fork()
            if child == 0:
                try:
                    _let_go_of_output()
                    question(writable)
                finally:
                    os._exit(0)
            os.close(writable)
            asked[readable], said[readable] = child, b""
        waited = set(asked)
        while waited and (ready := select.select(waited, [], [], max(0.0, deadline_s - time.monotonic()))[0]):
            for readable in ready:
                more = os.read(readable, 65536)
                said[readable] += more
                if not more:
                    waited.discard(readable)
    finally:
        for readable, child in asked.items():
            os.close(readable)
            os.kill(child, signal.SIGKILL)
        _reap(asked.values())
    return list(said.values())


def _let_go_of_output() -> None:
    """Whoever reads what the command prints must not wait for a child that hangs."""
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)


def _reap(children: Iterable[int]) -> None:
    """Collect killed children; leave those that the kernel does not let go to the end of this process."""
    deadline_s = time.monotonic() + _REAP_S
    for child in children:
        while os.waitpid(child, os.WNOHANG)[0] == 0 and time.monotonic() < deadline_s:
            time.sleep(0.001)
