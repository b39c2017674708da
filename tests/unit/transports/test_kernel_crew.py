"""Threads that take over from each other are counted as long as they are there."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from sigfs.transports.kernel.crew import Crew, Worker


def test_a_worker_that_is_taken_off_duty_while_all_are_listed_is_among_them() -> None:
    go_on = threading.Event()

    def work(worker: Worker) -> None:
        assert go_on.wait(60)

    crew = Crew("test", work)
    crew.fill(1)
    (worker,) = crew.on_duty
    other = threading.Thread(target=crew._take_off, args=(worker,))

    class Stuck(list[Worker]):
        def __iter__(self) -> Iterator[Worker]:
            if other.ident is None:
                other.start()
                other.join(0.2)  # may have to wait for us
            return super().__iter__()

    crew.stuck = Stuck()
    assert crew.workers() == [worker]
    other.join()
    assert crew.stuck == [worker]
    go_on.set()
    assert crew.join(60)
    assert crew.workers() == []
