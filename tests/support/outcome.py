"""Whether the test at hand has failed: pytest does not raise a test's failure at a fixture's ``yield``."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

_FAILED: pytest.StashKey[bool] = pytest.StashKey()


def keep(item: pytest.Item, report: pytest.TestReport) -> None:
    """Remember *report*; called by the conftest's hook for each phase of *item*."""
    bad = report.failed or hasattr(report, "wasxfail")  # what was expected to fail may have left anything behind
    item.stash[_FAILED] = item.stash.get(_FAILED, False) or bad


def has_failed(item: pytest.Item) -> bool:
    """Tell, in a fixture after its ``yield``, whether the test failed (also as expected)."""
    return item.stash.get(_FAILED, False)


def unavailable(reason: str) -> NoReturn:
    """Skip for want of something that this machine lacks; a failure where CI=true says that it must be there."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI=true, but {reason}", pytrace=False)
    pytest.skip(reason)
