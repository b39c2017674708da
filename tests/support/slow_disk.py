"""A disk that hangs on demand: a pass-through mount whose operations wait as long as a file says so.

``python -m tests.support.slow_disk SOURCE MOUNTPOINT CONTROL``. While the file ``CONTROL/gate`` is there, operations
wait that it names: two words, operations as fusepy calls them, separated by commas (or ``*``), and a text that their
path has to contain (or ``*``). Each that begins to wait leaves a file in ``CONTROL/hung``.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support.server import mount_type, require, unmount
from tests.support.wait import wait_until

ROOT = Path(__file__).parents[2]


def serve(source: str, mountpoint: str, control: Path) -> None:
    """Serve until unmounted."""
    import fuse

    from tests.bench.plain_fusepy import PassThrough

    numbers = itertools.count()

    class Slow(PassThrough):
        def __call__(self, op: str, path: str, *arguments: object) -> object:
            begun = False
            while self._must_wait(op, path):
                if not begun:
                    (control / "hung" / str(next(numbers))).touch()
                    begun = True
                time.sleep(0.005)
            return super().__call__(op, path, *arguments)

        def getattr(self, path: str, fh: int | None = None) -> dict[str, object]:
            # Or libfuse counts, and a file gets another number when the kernel has forgotten it.
            return {**super().getattr(path, fh), "st_ino": os.lstat(path).st_ino}

        @staticmethod
        def _must_wait(op: str, path: str) -> bool:
            try:
                operations, text = (control / "gate").read_text().split()
            except (FileNotFoundError, ValueError):
                return False
            return (operations == "*" or op in operations.split(",")) and (text == "*" or text in path)

    fuse.FUSE(
        Slow(source),
        mountpoint,
        foreground=True,
        nothreads=False,
        fsname="slow",
        entry_timeout=0,
        attr_timeout=0,
        ac_attr_timeout=0,
        use_ino=True,
    )


class SlowDisk:
    """One such mount. Whatever happens, nothing waits for longer than ``LIMIT_S``."""

    LIMIT_S = 60.0

    def __init__(self, base: Path) -> None:
        """Make the directories below *base*; ``mountpoint`` is where the disk is."""
        require("fusepy")
        self._source, self.mountpoint, self._control = base / "source", base / "disk", base / "control"
        for path in (self._source, self.mountpoint, self._control, self._control / "hung"):
            path.mkdir()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Mount."""
        packages = filter(None, [os.environ.get("PYTHONPATH")])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.slow_disk", self._source, self.mountpoint, self._control],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *packages])},
        )
        wait_until(lambda: mount_type(str(self.mountpoint)) is not None, what="the slow disk")

    def stop(self) -> None:
        """Let everything go on, and unmount."""
        self.go_on()
        if mount_type(str(self.mountpoint)) is not None:
            unmount(str(self.mountpoint), lazy=True)
        if self._process is not None:
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(30)

    def hang(self, operations: str = "*", text: str = "*") -> None:
        """Begin to hang."""
        for path in (self._control / "hung").iterdir():
            path.unlink()
        (self._control / "new").write_text(f"{operations} {text}")
        os.rename(self._control / "new", self._control / "gate")

    def go_on(self) -> None:
        """Let all that hangs go on."""
        (self._control / "gate").unlink(missing_ok=True)

    def hung(self) -> int:
        """Tell how many operations have begun to hang since ``hang``."""
        return len(list((self._control / "hung").iterdir()))

    @contextlib.contextmanager
    def hanging(self, operations: str = "*", text: str = "*") -> Iterator[None]:
        """Hang during a block, which must not take longer than ``LIMIT_S``."""
        late = threading.Event()

        def give_up() -> None:
            late.set()
            self.go_on()

        timer = threading.Timer(self.LIMIT_S, give_up)
        self.hang(operations, text)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            self.go_on()
        assert not late.is_set(), "something waited for the disk"


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
