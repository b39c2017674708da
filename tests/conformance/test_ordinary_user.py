"""The suite once more as an ordinary user, made for this run, who mounts with fusermount3."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support.outcome import unavailable
from tests.support.server import ROOT, require

# What the user's mount namespace has beside the machine's: Python, which may be installed where the user may not go,
# and a /dev/fuse that all may open. $1 is the fixture's directory, $2 to $5 are the arguments, then the command.
PREPARE = """
mount --bind "$2" "$1/python"
mount --bind "$3" "$1/packages"
mount -t tmpfs -o mode=755 none "$1/dev"
mknod -m 666 "$1/dev/fuse" c "$4" "$5"
mount --bind "$1/dev/fuse" /dev/fuse
shift 5
exec "$@"
"""


NOT_ON = ("direct",)  # no mount, no rights of its own


@dataclass(frozen=True)
class User:
    uid: int
    gid: int
    home: str
    base: str  # a directory that the user can read, with a copy of this repository


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
    with contextlib.ExitStack() as stack:
        base = tempfile.mkdtemp(prefix="sigfs-user-")
        stack.callback(shutil.rmtree, base, ignore_errors=True)
        os.chmod(base, 0o755)
        name = f"sigfs-{secrets.token_hex(4)}"
        subprocess.run(["useradd", "--no-create-home", "--home-dir", f"{base}/home", name], check=True)
        stack.callback(subprocess.run, ["userdel", name], check=True)
        entry = pwd.getpwnam(name)
        project = os.path.join(base, "project")
        ignored = shutil.ignore_patterns("__pycache__", ".*_cache")
        for package in ("sigfs", "tests"):
            shutil.copytree(os.path.join(ROOT, package), os.path.join(project, package), ignore=ignored)
        shutil.copy(os.path.join(ROOT, "pyproject.toml"), project)
        subprocess.run(["chmod", "-R", "a+rX", project], check=True)
        for directory in ("home", "home/run"):  # the second as XDG_RUNTIME_DIR
            os.mkdir(os.path.join(base, directory), 0o700)
            os.chown(os.path.join(base, directory), entry.pw_uid, entry.pw_gid)
        for directory in ("python", "packages", "dev"):
            os.mkdir(os.path.join(base, directory))
        yield User(entry.pw_uid, entry.pw_gid, f"{base}/home", base)


@pytest.mark.user
@pytest.mark.timeout(900)
def test_the_suite_passes_as_an_ordinary_user(user: User, driver: str) -> None:
    if driver != "plain":
        require(driver)
    interpreter = os.path.relpath(os.path.realpath(sys.executable), os.path.realpath(sys.base_prefix))
    command = [
        "setpriv", f"--reuid={user.uid}", f"--regid={user.gid}", "--clear-groups",
        f"{user.base}/python/{interpreter}", "-m", "pytest", "tests/conformance", "--driver", driver, "-qx",
        "-p", "no:cacheprovider", "--basetemp", f"{user.home}/{driver}",
        "--deselect", "tests/conformance/test_ordinary_user.py",
    ]  # fmt: skip
    device = os.stat("/dev/fuse").st_rdev
    command = [
        "unshare", "--mount", "--propagation", "slave", "sh", "-ec", PREPARE, "sh", user.base,
        os.path.realpath(sys.base_prefix), sysconfig.get_path("purelib"),
        str(os.major(device)), str(os.minor(device)), *command,
    ]  # fmt: skip
    environment = {
        "HOME": user.home,
        "TMPDIR": user.home,
        "XDG_RUNTIME_DIR": f"{user.home}/run",
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{user.base}/packages",
        "PYTHONDONTWRITEBYTECODE": "1",
        "LANG": "C.UTF-8",
        "CI": os.environ.get("CI", ""),
    }
    done = subprocess.run(command, cwd=f"{user.base}/project", env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert "passed" in done.stdout
