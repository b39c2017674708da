"""A mounted project: the server as a process of its own, strict after a pass and merciless after a failure."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence

from sigfs.errors import FuseUnavailable
from sigfs.transports.base import load
from tests.support.outcome import unavailable
from tests.support.wait import wait_until

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SUSPICIOUS = re.compile(r"WARNING|ERROR|CRITICAL|Traceback|Exception|fuse:", re.IGNORECASE)
FS_TYPE = "fuse.sigfs"


def require(transport: str) -> None:
    """Skip (fail with CI=true) where *transport* cannot be used."""
    if not os.path.exists("/dev/fuse"):
        unavailable("there is no /dev/fuse")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        unavailable("/dev/fuse may not be opened by this user")
    if os.geteuid() != 0 and not (shutil.which("fusermount3") or shutil.which("fusermount")):
        unavailable("there is no fusermount3")
    try:
        load(transport)
    except FuseUnavailable as error:
        unavailable(str(error))


def mount_type(path: str) -> str | None:
    """Give the type of what is mounted at *path*; None if nothing is. Asks a dead mount nothing."""
    found = None
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields, _, more = line.partition(" - ")
            place = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields.split(" ")[4])
            if place == path:
                found = more.split(" ")[0]
    return found


class Server:
    """One ``sigfs mount -f`` and the directory it is mounted on.

    Attributes:
        project: path of the project's root.
        mountpoint: an empty directory made for this mount, removed with it.
        may_say: a line of the log that contains this is no complaint.
    """

    def __init__(self, transport: str, project: str, *options: str) -> None:
        """Prepare to mount *project*.

        Args:
            options: for ``-o``; those that begin with ``--`` are arguments of the command.
        """
        require(transport)
        self.transport = transport
        self.project = project
        self.options = options
        self.may_say: str | None = None
        self.mountpoint = os.path.realpath(tempfile.mkdtemp(prefix=f"sigfs-{transport}-"))
        self._log = tempfile.TemporaryFile(prefix="sigfs-log-")  # noqa: SIM115 - closed by _remove
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> Sequence[str]:
        """Give the command that serves in the foreground."""
        arguments = [option for option in self.options if option.startswith("--")]
        options = [option for option in self.options if not option.startswith("--")]
        joined = ",".join((f"transport={self.transport}", *options))
        return [sys.executable, "-m", "sigfs", "mount", "-f", "-o", joined, *arguments, self.project, self.mountpoint]

    def start(self) -> None:
        """Mount; returns when the mount is there and answers.

        Raises:
            RuntimeError: the server ended; the message has its log.
        """
        self.process = subprocess.Popen(
            self.command(),
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([ROOT, *filter(None, [os.environ.get("PYTHONPATH")])]),
                "PYTHONDONTWRITEBYTECODE": "1",
                "COLUMNS": "200",
            },
            start_new_session=True,
        )
        try:
            wait_until(self._is_up, 60, "the mount to appear")
        except BaseException:
            self.kill()
            raise

    def _is_up(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise RuntimeError(f"the server ended with status {self.process.returncode}:\n{self.log()}")
        try:
            return mount_type(self.mountpoint) is not None and os.statvfs(self.mountpoint).f_bsize > 0
        except OSError as error:
            if error.errno == errno.ENOTCONN:  # that of a server before this one, still to be cleared away
                return False
            raise

    def log(self) -> str:
        """Give all that the server has written."""
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size, 0).decode(errors="replace")

    def _assert_no_complaint(self) -> None:
        lines = [line for line in self.log().splitlines() if self.may_say is None or self.may_say not in line]
        assert not SUSPICIOUS.search("\n".join(lines)), self.log()

    def check(self) -> None:
        """Assert that the server lives and has complained of nothing."""
        assert self.process is not None
        assert self.process.poll() is None, f"the server died with {self.process.returncode}:\n{self.log()}"
        self._assert_no_complaint()

    def stop(self) -> None:
        """Unmount as a user would, and assert that all went well; whatever happens, nothing is left."""
        try:
            self.check()
            assert mount_type(self.mountpoint) == FS_TYPE
            unmount(self.mountpoint)
            assert self.process is not None
            assert self.process.wait(60) == 0, self.log()
            assert mount_type(self.mountpoint) is None
            self._assert_no_complaint()
        finally:
            self.kill()

    def kill(self) -> None:
        """Get rid of the mount and the server in whatever state they are."""
        for _ in range(3):  # mounts may have been stacked
            if mount_type(self.mountpoint) is None:
                break
            with contextlib.suppress(subprocess.CalledProcessError):
                unmount(self.mountpoint, lazy=True)
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(30)
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()
        self._log.close()
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(self.mountpoint)  # never a tree: it could be the jobs


def unmount(path: str, lazy: bool = False) -> None:
    """Unmount with the system's commands.

    Raises:
        CalledProcessError: it did not work; ``stderr`` says why.
    """
    if os.geteuid() == 0:
        command = ["umount", *(["-l"] if lazy else []), path]
    else:
        command = [shutil.which("fusermount3") or "fusermount", "-u", *(["-z"] if lazy else []), path]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
