"""After many requests of every kind the server has what it had before them."""

from __future__ import annotations

import os

import pytest

from tests.bench import soak
from tests.support.server import require

REQUESTS = int(os.environ.get("SIGFS_SOAK_REQUESTS", "60000"))
GROWTH_BYTES = 6 << 20
"""That is tolerated from the first of the points to the last, among them threads that begin where the machine is slow,
1 MiB each: a leak of 150 bytes a request would be more."""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may have the kernel forget")
def test_many_requests_of_every_kind_leave_nothing_behind() -> None:
    require("kernel")
    points = soak.soak(REQUESTS)
    print(*points, sep="\n")
    first, last = points[0], points[-1]
    assert last.requests >= REQUESTS
    assert [(point.inodes, point.open_files, point.stuck) for point in points] == [(1, 0, 0)] * soak.POINTS
    assert last.descriptors <= first.descriptors + 2
    assert last.threads <= first.threads + 16  # those that read a slow disk come and go
    assert last.resident_bytes <= first.resident_bytes + GROWTH_BYTES + max(0, last.threads - first.threads) * (2 << 20)
