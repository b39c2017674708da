"""What is special about a project and the file system it is on. As ``diagnosis``; these may hang with the disk."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
import time
from typing import Final

from sigfs.api.project import Project
from sigfs.cli.diagnosis import Finding
from sigfs.index.store import Store
from sigfs.watch.sources import file_system_type, is_remote

MOST_SKEW_S: Final = 1.0


def workspace(project: Project) -> Finding:
    """The workspace can be read."""
    path = project.workspace.path
    try:
        names = os.listdir(path)
    except FileNotFoundError:
        return Finding(
            "workspace", "warning", f"{path} is not there yet, so that the mount is empty", f"mkdir -p {path}"
        )
    except OSError as error:
        return Finding("workspace", "wrong", f"{path}: {error.strerror}", f"sudo chmod u+rx {path}")
    kind = "" if os.access(path, os.W_OK) else "; you may only read it"
    return Finding("workspace", "ok", f"{path} has {len(names)} entries{kind}")


def events(project: Project, kind: str | None = None) -> Finding:
    """The workspace's file system tells of changes.

    Args:
        kind: its type; default: what it is.
    """
    path = project.workspace.path
    kind = file_system_type(path) if kind is None else kind
    if is_remote(kind):
        said = f"{kind} tells of no changes that other hosts make: they are found by looking, within seconds"
        return Finding("file system", "warning", said)
    if kind in ("overlay", "overlayfs"):
        return Finding("file system", "ok", f"{kind} tells of changes; it allows no passthrough")
    return Finding("file system", "ok", f"{kind or 'of unknown type, which'} tells of changes")


def clock(project: Project, state_dir: str | None = None) -> Finding:
    """The clock of the file system is that of this machine. Leaves nothing behind."""
    wanted = [project.workspace.path, os.path.join(state_dir or os.path.join(project.root, ".sigfs"))]
    why = ""
    for number, directory in enumerate(wanted):
        try:
            skew_s = _skew_s(directory, named=number > 0)
        except OSError as error:
            why = f"nothing can be written to {directory} ({error.strerror})"
            continue
        if abs(skew_s) > MOST_SKEW_S:
            which = "ahead of" if skew_s > 0 else "behind"
            said = f"that of the file system is {abs(skew_s):.1f} s {which} that of this machine"
            return Finding("clock", "warning", said, "sudo timedatectl set-ntp true  # here and on the file server")
        return Finding("clock", "ok", f"file system and machine agree to {abs(skew_s):.2f} s")
    return Finding("clock", "none", f"cannot be compared: {why}")


def _skew_s(directory: str, *, named: bool) -> float:
    """Give by how much the clock of a file system is ahead, from a file without a name.

    Args:
        named: where there are no such files, make one with a name and remove it at once.
    """
    before_s = time.time()
    try:
        fd = os.open(directory, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if not named or error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            raise
        fd, path = tempfile.mkstemp(dir=directory, prefix=".clock-")
        os.unlink(path)
    try:
        os.write(fd, b"?")
        found_s = os.fstat(fd).st_mtime
    finally:
        os.close(fd)
    after_s = time.time()
    return found_s - min(max(found_s, before_s), after_s)


def store(project: Project, state_dir: str | None = None) -> Finding:
    """The index on disk can be used and written."""
    with contextlib.closing(Store.open(project.root, project.workspace, state_dir)) as found:
        contents = found.contents()
        holder = f", written by {contents.holder}" if contents.holder else ""
        if contents.path is None:
            said = f"there is none, so that the first mount reads all jobs{holder}"
            return Finding("index", "none", said, f"sigfs index build -p {project.root}")
        size_bytes = contents.snapshot_bytes + contents.journal_bytes
        said = f"{contents.path}, {size_bytes / 1e6:.1f} MB{holder}"
        if not contents.holder and not found.writable:
            return Finding("index", "warning", f"{said}; it cannot be written: {found.reason}")
        return Finding("index", "ok", said)
