"""What every test may use: the outcome of the test at hand, and the ``--driver`` option of the conformance suite."""

from __future__ import annotations

import os
import sys
import tempfile

import pytest

# Tests import ``tests.support``, and servers that they start import ``sigfs``, however pytest was started.
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
if ROOT not in sys.path:
    sys.path.insert(0, ROOT)

from sigfs.model.settings import TABLE  # noqa: E402 - needs the path above
from tests.support import outcome  # noqa: E402
from tests.support.drivers import DRIVERS  # noqa: E402

# What whoever runs the tests has configured must not decide how they end.
os.environ["XDG_CONFIG_HOME"] = os.path.join(tempfile.gettempdir(), "sigfs-nothing-is-configured")
for setting in TABLE.values():
    os.environ.pop(setting.variable or "", None)

# Some machines have it set, and each server that a test starts would compile all of sigfs.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--driver",
        action="append",
        choices=DRIVERS,
        help="run the conformance suite over this driver only (repeatable; all by default)",
    )


_MOUNTED = ("acceptance", "coherence", "conformance")


@pytest.hookimpl(tryfirst=True)  # before xdist looks at the marks
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let those that mount run one after the other, where pytest-xdist runs several at once with ``--dist loadgroup``.

    The suite of the ordinary user has a mount namespace of its own, so it may run beside them.
    """
    if not config.pluginmanager.hasplugin("xdist"):
        return
    for item in items:
        kind = os.path.relpath(item.path, os.path.join(ROOT, "tests")).split(os.sep)[0]
        if kind in _MOUNTED or (kind == "docs" and item.get_closest_marker("fuse")):
            group = "user" if item.path.name == "test_ordinary_user.py" else "mounted"
            item.add_marker(pytest.mark.xdist_group(group))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    report = yield
    outcome.keep(item, report)
    return report
