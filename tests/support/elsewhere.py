"""A directory in another file system than the one a test works in."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.support.outcome import unavailable


@contextlib.contextmanager
def another_file_system(beside: Path, size_bytes: int | None = None) -> Iterator[Path]:
    """Give an empty directory in another file system than *beside*.

    One in /dev/shm; or, if it is to have a size or that does not do, a tmpfs that root mounts below *beside*.
    """
    shared = "/dev/shm"
    if not size_bytes and os.access(shared, os.W_OK) and os.stat(shared).st_dev != os.stat(beside).st_dev:
        where = tempfile.mkdtemp(prefix="elsewhere-", dir=shared)
        try:
            yield Path(where)
        finally:
            shutil.rmtree(where)
    else:
        with mounted(beside, size_bytes) as path:
            yield path


@contextlib.contextmanager
def mounted(above: Path, size_bytes: int | None = None) -> Iterator[Path]:
    """Give an empty directory in *above* with a file system of its own."""
    where = tempfile.mkdtemp(prefix="elsewhere-", dir=above)
    options = "mode=755" + (f",size={size_bytes}" if size_bytes else "")
    try:
        if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", where], capture_output=True).returncode:
            unavailable("only root can mount another file system")
        try:
            yield Path(where)
        finally:
            subprocess.run(["umount", where], check=True)
    finally:
        os.rmdir(where)
