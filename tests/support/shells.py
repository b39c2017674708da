"""The smallest shells there are, with nothing to call but what they are promised."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from tests.support.outcome import unavailable

KINDS: Final = ("dash", "busybox")

# All of the coreutils that restore.sh may use.
PROGRAMS: Final = ("cat", "cp", "head", "ln", "mkdir", "mv", "rm", "sha256sum", "tail", "tr", "wc")


class Shell:
    """dash with the coreutils, or busybox with its own."""

    def __init__(self, kind: str, directory: Path) -> None:
        """Make a directory of programs in *directory*, the whole PATH of what is run."""
        program = shutil.which(kind)
        if program is None:
            unavailable(f"there is no {kind}")
        self._path = directory / f"programs-{kind}"
        self._path.mkdir()
        for name in PROGRAMS:
            found = program if kind == "busybox" else shutil.which(name)
            assert found is not None, f"there is no {name}"
            os.symlink(found, self._path / name)
        self._command = [program, "sh"] if kind == "busybox" else [program]

    def run(
        self, *words: str | os.PathLike[str], code: int | None = 0, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a script; *code* is what it has to end with."""
        done = subprocess.run(
            [*self._command, *words],
            cwd=cwd,
            env={"PATH": str(self._path)},
            capture_output=True,
            text=True,
            errors="surrogateescape",
        )
        assert code is None or done.returncode == code, done.stdout[-2000:] + done.stderr[-4000:]
        return done
