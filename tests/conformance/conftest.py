"""The suite runs over every driver: ``fs`` and ``here`` have it as a parameter; what a driver cannot do is expected.

A driver's mount serves all tests of a module, each in a directory of its own. After a test that passed the server must
be alive and have complained of nothing; after one that failed the mount is thrown away. At the end of the module
unmounting must succeed and the server end with status 0.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.support import limits
from tests.support.drivers import DRIVERS, Fs, Place, Reach, make_fs
from tests.support.outcome import has_failed


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "driver" not in metafunc.fixturenames:
        return
    chosen = metafunc.config.getoption("--driver") or DRIVERS
    capabilities = getattr(metafunc.function, "needs", ())
    parameters = []
    for driver in DRIVERS:
        if driver not in chosen or (driver == "direct" and "fs" not in metafunc.fixturenames):
            continue
        if driver in getattr(metafunc.module, "NOT_ON", ()):
            continue
        marks = [] if driver in {"plain", "direct"} else [pytest.mark.fuse]
        why = limits.reason(driver, capabilities)
        if why is not None:
            marks.append(pytest.mark.xfail(reason=why, strict=True))
        parameters.append(pytest.param(driver, marks=marks))
    metafunc.parametrize("driver", parameters, scope="module")


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    """Driver ``direct`` does in this process what a server does, which has a umask of 0."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)


@pytest.fixture(scope="module")
def reach(request: pytest.FixtureRequest, driver: str) -> Iterator[Reach]:
    """One driver, for all tests of a module, with what the module says in MOUNT_OPTIONS and not in NOT_ON."""
    made = Reach(driver, *getattr(request.module, "MOUNT_OPTIONS", ()))
    yield made
    made.finish()


@pytest.fixture
def here(request: pytest.FixtureRequest, reach: Reach) -> Iterator[Place]:
    """A place with paths that the kernel knows: every driver but ``direct`` (unless ``fs`` is asked for, too)."""
    yield reach.place()
    reach.settle(has_failed(request.node))


@pytest.fixture
def fs(reach: Reach, here: Place) -> Fs:
    """The calls that every driver has."""
    return make_fs(reach, here)
