"""A project mounted on each transport, strict after a pass and merciless after a failure."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.support.outcome import has_failed
from tests.support.server import Server

Mount = Callable[..., str]


@pytest.fixture(params=["kernel", "llfuse", "fusepy"])
def mount(request: pytest.FixtureRequest) -> Iterator[Mount]:
    """Mount a project (path, option, ...) and give the mount point; a module's MAY_SAY is no complaint in the log."""
    servers: list[Server] = []

    def start(project: str, *options: str) -> str:
        server = Server(request.param, project, *options)
        server.may_say = getattr(request.module, "MAY_SAY", None)
        servers.append(server)
        server.start()
        return server.mountpoint

    yield start
    for server in servers:
        if has_failed(request.node):
            server.kill()
        else:
            server.stop()
