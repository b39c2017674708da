"""A progress bar, where somebody may be waiting."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def progress_bar(text: str, after_s: float = 1.0) -> Iterator[Callable[[int, int], None]]:
    """Give a function that shows (done, total) on a terminal's stderr if it takes longer than *after_s*."""
    if not (sys.stderr and sys.stderr.isatty()):
        yield lambda done, total: None  # noqa: ARG005 - nobody looks
        return
    begun_s = time.monotonic()
    with contextlib.ExitStack() as stack:
        update: list[Callable[[int, int], None]] = []

        def show(done: int, total: int) -> None:
            if not update and time.monotonic() - begun_s > after_s:
                from rich.console import Console
                from rich.progress import Progress

                bar = stack.enter_context(Progress(console=Console(stderr=True), transient=True))
                task = bar.add_task(text, total=total)
                update.append(lambda done, total: bar.update(task, completed=done, total=total))
            for each in update:
                each(done, total)

        yield show
