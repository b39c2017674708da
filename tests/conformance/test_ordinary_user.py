"""The suite once more as an ordinary user, made for this run, who mounts with fusermount3."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.support.outcome import unavailable
from tests.support.server import require
from tests.support.users import User, ordinary_user

NOT_ON = ("direct",)  # no mount, no rights of its own


@pytest.fixture(scope="module")
def user() -> Iterator[User]:
    """Make a user, and a copy of what is needed where the user may go; both are removed."""
    if os.geteuid() != 0:
        unavailable("only root can make a user")
    for program in ("useradd", "userdel", "setpriv", "unshare", "fusermount3"):
        if shutil.which(program) is None:
            unavailable(f"there is no {program}")
    if not os.path.exists("/dev/fuse"):
        unavailable("there is no /dev/fuse")
    with ordinary_user() as made:
        yield made


@pytest.mark.user
@pytest.mark.timeout(900)
def test_the_suite_passes_as_an_ordinary_user(user: User, driver: str) -> None:
    if driver != "plain":
        require(driver)
    command = user.as_user(
        user.python, "-m", "pytest", "tests/conformance", "--driver", driver, "-qx",
        "-p", "no:cacheprovider", "--basetemp", f"{user.home}/{driver}",
        "--deselect", "tests/conformance/test_ordinary_user.py",
    )  # fmt: skip
    environment = {**user.environment, "CI": os.environ.get("CI", "")}
    done = subprocess.run(command, cwd=user.repository, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert "passed" in done.stdout
