"""Several users: root in the name of others, and an ordinary user, made for one run.

Such a user may mount with fusermount3 in a mount namespace that has, beside the machine's, Python, which may be
installed where the user may not go, and a /dev/fuse that all may open.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from tests.support.server import ROOT

ALICE, BOB, GROUP = 4001, 4002, 4321
"""Numbers that the machine knows nobody by."""

# $1 is the user's directory, $2 to $5 Python, its packages and the numbers of /dev/fuse, then the command.
# What is mounted already is no business of the user's, and would stay busy here when it is unmounted elsewhere.
_PREPARE = """
umount --all --lazy --no-canonicalize --types fuse,fuse.sigfs
mount --bind "$2" "$1/python"
mount --bind "$3" "$1/packages"
mount -t tmpfs -o mode=755 none "$1/dev"
mknod -m 666 "$1/dev/fuse" c "$4" "$5"
mount --bind "$1/dev/fuse" /dev/fuse
shift 5
exec "$@"
"""


@contextmanager
def acting_as(uid: int, *groups: int) -> Iterator[None]:
    """Have this process, which is root's, be the user *uid* with a group of that number, and in *groups*."""
    before = os.getgroups()
    os.setgroups(groups)
    os.setegid(uid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(before)


@dataclass(frozen=True)
class User:
    """An ordinary user of the machine. *base*: a directory that the user can read, with a copy of this repository."""

    uid: int
    gid: int
    base: str

    @property
    def home(self) -> str:
        return f"{self.base}/home"

    @property
    def repository(self) -> str:
        return f"{self.base}/repository"

    @property
    def python(self) -> str:
        """This interpreter, where ``in_namespace`` puts it."""
        return (
            f"{self.base}/python/{os.path.relpath(os.path.realpath(sys.executable), os.path.realpath(sys.base_prefix))}"
        )

    @property
    def environment(self) -> dict[str, str]:
        return {
            "HOME": self.home,
            "TMPDIR": self.home,
            "XDG_RUNTIME_DIR": f"{self.home}/run",
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{self.base}/packages",
            "PYTHONDONTWRITEBYTECODE": "1",
            "LANG": "C.UTF-8",
        }

    def in_namespace(self, *command: str) -> list[str]:
        """Give a command that runs *command*, as root, where the user may mount. To be run in ``repository``."""
        device = os.stat("/dev/fuse").st_rdev
        return [
            "unshare", "--mount", "--propagation", "slave", "sh", "-ec", _PREPARE, "sh", self.base,
            os.path.realpath(sys.base_prefix), sysconfig.get_path("purelib"),
            str(os.major(device)), str(os.minor(device)), *command,
        ]  # fmt: skip

    def as_user(self, *command: str) -> list[str]:
        """Give a command that runs *command* with the user's rights, where the user may mount."""
        return self.in_namespace("setpriv", f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups", *command)


@contextmanager
def ordinary_user() -> Iterator[User]:
    """Make a user, and a copy of what is needed where the user may go; both are removed. For root only."""
    with ExitStack() as stack:
        base = tempfile.mkdtemp(prefix="sigfs-user-")
        stack.callback(shutil.rmtree, base, ignore_errors=True)
        os.chmod(base, 0o755)
        name = f"sigfs-{secrets.token_hex(4)}"
        subprocess.run(["useradd", "--no-create-home", "--home-dir", f"{base}/home", name], check=True)
        stack.callback(subprocess.run, ["userdel", name], check=True)
        entry = pwd.getpwnam(name)
        user = User(entry.pw_uid, entry.pw_gid, base)
        ignored = shutil.ignore_patterns("__pycache__", ".*_cache")
        for package in ("sigfs", "tests"):
            shutil.copytree(os.path.join(ROOT, package), os.path.join(user.repository, package), ignore=ignored)
        shutil.copy(os.path.join(ROOT, "pyproject.toml"), user.repository)
        # the user may not write there, and each server would compile all of it
        subprocess.run([sys.executable, "-m", "compileall", "-q", user.repository], check=True)
        subprocess.run(["chmod", "-R", "a+rX", user.repository], check=True)
        for directory in (user.home, f"{user.home}/run"):  # the second as XDG_RUNTIME_DIR
            os.mkdir(directory, 0o700)
            os.chown(directory, user.uid, user.gid)
        for directory in ("python", "packages", "dev"):
            os.mkdir(os.path.join(base, directory))
        yield user
