"""What every test may use: the outcome of the test at hand, and the ``--driver`` option of the conformance suite."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from typing import Any

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

# nohup(1) has it ignored, and all that is started inherits this: ends of sessions would end nothing.
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Some machines have it set, and each server that a test starts would compile all of sigfs.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--driver",
        action="append",
        choices=DRIVERS,
        help="run the conformance suite over this driver only (repeatable; all by default)",
    )


_MOUNTED = ("tests/acceptance/", "tests/coherence/", "tests/conformance/", "tests/docs/test_tutorial.py")
_USER = "tests/conformance/test_ordinary_user.py"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Let tests that mount run one after the other, in one of the processes of pytest-xdist: each sees what is mounted.

    The suite of the ordinary user has a mount namespace of its own, so it may run beside them. xdist's own groups do
    not work with each version of pytest.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            if nodeid.startswith(_USER):
                return "user"
            return "mounted" if nodeid.startswith(_MOUNTED) else nodeid

    return Groups(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    report = yield
    outcome.keep(item, report)
    return report
