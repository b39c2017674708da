"""What an exported tree remembers of itself.

Owned here: ``.sigfs/`` in the target, with the manifest, a journal and a lock. The manifest is what makes a link or a
copy *ours*: nothing else in the target is ever replaced or removed. It is in the target and not in the project, so
that it goes where the tree goes, is gone when the tree is, and is there for a project that cannot be written.

It is written before anything is changed, with what is going to be and what may still be there from before, and once
more when all is done; so a killed export leaves nothing whose origin is not known.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

import orjson

from sigfs.errors import ExportError
from sigfs.model import files, locking
from sigfs.model.types import UNKNOWN
from sigfs.version import __version__

Plan: TypeAlias = dict[str, str]
"""Path in the view, always valid UTF-8 -> path from the workspace to the job that stands there: its id, or for a job
outside of it ``../data/my_job``. No path of a view leads through another."""

RESERVED: Final = ".sigfs"
"""No name of a view; what an export remembers is in a directory of this name."""

_UP: Final = re.compile(r"(?:^|/)(?:\.\.?)?(?:/|$)")

_FILE: Final = "export.json"
_JOURNAL: Final = "export.journal"
_LOCK: Final = "export.lock"
_HEAD: Final = {"format": "sigfs-export", "format_version": 1}
_LOCK_S: Final = 60.0
"""How long another export into the same target is waited for."""


class Copied(NamedTuple):
    """A copy.

    Attributes:
        job: what it is a copy of, as in a plan.
        source: fingerprint of the job's directory when it was copied.
        copy: fingerprint of the copy when it was complete: by that it is known to be ours.
    """

    job: str
    source: str
    copy: str


@dataclass(slots=True)
class Manifest:
    """One export.

    Attributes:
        project: absolute path of the project's root.
        method: "symlink", "copy" and so on.
        layout, filter: of the view, as text.
        workspace: path from the target to the workspace, with which the texts of links are made.
        version: of sigfs, on which names depend.
        keys: those that the view lists, in order.
        listed: stamp of the workspace whose jobs these are; UNKNOWN if it was too young to tell.
        jobs: what stands where.
        before: path -> texts of links of earlier exports that may be there still.
        directories: every directory on the way to a job -> its stamp when the export was complete; "" is the target.
        copies: path -> what may be there of ours, the latest last. Only of methods that copy.
        complete: all of that is so, and nothing was in the way.
    """

    project: str
    method: str
    layout: str
    filter: str
    workspace: str
    version: str = __version__
    keys: list[str] = field(default_factory=list)
    listed: int = UNKNOWN
    jobs: Plan = field(default_factory=dict)
    before: dict[str, list[str]] = field(default_factory=dict)
    directories: dict[str, int] = field(default_factory=dict)
    copies: dict[str, list[Copied]] = field(default_factory=dict)
    complete: bool = False

    def text(self, path: str) -> str:
        """What the link at *path* says."""
        return link_text(self.workspace, path, self.jobs[path])

    def is_alike(self, other: Manifest) -> bool:
        """Whether the other is an export of the same view by the same method, seen from the same place."""
        return all(getattr(self, name) == getattr(other, name) for name in _IDENTITY)


_IDENTITY: Final = ("project", "method", "layout", "filter", "workspace", "version")


def link_text(workspace: str, path: str, job: str) -> str:
    """The text of a link at *path* in a target from which *workspace* leads to the workspace.

    >>> link_text("../project/workspace", "a/1", "x")
    '../../project/workspace/x'
    """
    way = f"{'../' * path.count('/')}{workspace}/{job}"
    return os.path.normpath(way) if job.startswith(".") else way


def job_path(workspace: str, job: str) -> str:
    """Where a job of a plan is.

    Args:
        workspace: real path of the workspace, which need not be there for jobs outside of it.
    """
    return os.path.normpath(os.path.join(workspace, job))


class Memory:
    """``.sigfs/`` of a target. With a lock: one export at a time is in it."""

    def __init__(self, fd: int) -> None:
        """Use the directory open as *fd*."""
        self.fd = fd

    def read(self) -> Manifest | None:
        """The manifest, with what the journal adds; None if there is none.

        Raises:
            ExportError: it is damaged, or of a newer version.
        """
        manifest = read_manifest(self.fd)
        if manifest is not None:
            for path, copied in self._journal():
                manifest.copies.setdefault(path, []).append(copied)
        return manifest

    def write(self, manifest: Manifest) -> None:
        """Replace the manifest, and end the journal, which is in it."""
        values = {name: getattr(manifest, name) for name in Manifest.__slots__}
        text = json.dumps({**_HEAD, **values})
        files.write_atomic(self.fd, _FILE, text.encode("ascii"))
        with contextlib.suppress(FileNotFoundError):
            os.unlink(_JOURNAL, dir_fd=self.fd)

    def add(self, path: str, copied: Copied) -> None:
        """Note in the journal that a copy is about to get its name."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(_JOURNAL, flags, 0o666, dir_fd=self.fd)
        try:
            os.write(fd, json.dumps([path, *copied]).encode("ascii") + b"\n")
            os.fsync(fd)
        finally:
            os.close(fd)

    def _journal(self) -> Iterator[tuple[str, Copied]]:
        with contextlib.suppress(FileNotFoundError):
            for line in files.read_at(self.fd, _JOURNAL).splitlines():
                with contextlib.suppress(ValueError, TypeError):  # the last, if it was being written
                    path, *rest = json.loads(line)
                    if is_inside(path):
                        yield path, Copied(*rest)


def is_inside(path: str) -> bool:
    """Whether *path* cannot lead out of the directory that it is relative to, by its words.

    >>> [is_inside(path) for path in ("a/b", "a/..b", "a/../b", "/a", "..", "a//b", "")]
    [True, True, False, False, False, False, False]
    """
    return not _UP.search(path)


def are_inside(paths: Collection[str]) -> bool:
    """Whether `is_inside` holds for all of *paths*."""
    text = f"/{'/'.join(paths)}/"
    return not paths or not ("//" in text or "/./" in text or "/../" in text)


@contextlib.contextmanager
def opened(target_fd: int, target: str) -> Iterator[Memory]:
    """Give the memory of the target, made if it is not there, and locked.

    Raises:
        ExportError: another export into it is at work; or there is something else of that name.
        OSError: it cannot be written.
    """
    with contextlib.suppress(FileExistsError):
        os.mkdir(RESERVED, dir_fd=target_fd)
    try:
        fd = os.open(RESERVED, files.DIRECTORY_FLAGS, dir_fd=target_fd)
    except NotADirectoryError:
        raise ExportError(f"{os.path.join(target, RESERVED)} is no directory: choose another target") from None
    try:
        flags = os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        os.close(os.open(_LOCK, flags, 0o666, dir_fd=fd))
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(locking.locked(fd, _LOCK, _LOCK_S))
            except TimeoutError:
                raise ExportError(f"another export into {target} is at work: try again when it is done") from None
            yield Memory(fd)
    finally:
        os.close(fd)


def read_manifest(fd: int) -> Manifest | None:
    """The manifest in the directory *fd*, without the journal; None if there is none.

    Raises:
        ExportError: it is damaged, or of a newer version.
    """
    try:
        data = files.read_at(fd, _FILE)
    except FileNotFoundError:
        return None
    try:
        try:
            values = orjson.loads(data)
        except ValueError:  # a path to the workspace that is no UTF-8
            values = json.loads(data)
        if {name: values.pop(name) for name in _HEAD} != _HEAD:
            raise ExportError(f"{_path(fd)} was written by something newer: choose another target")
        manifest = Manifest(**values)
        manifest.copies = {path: [Copied(*each) for each in copies] for path, copies in manifest.copies.items()}
        paths = {*manifest.jobs, *manifest.before, *manifest.copies, *manifest.directories} - {""}
        if are_inside(paths):
            return manifest
    except (ValueError, TypeError, KeyError, AttributeError):
        pass
    raise ExportError(f"{_path(fd)} is damaged: remove it, and links that are right are taken over; or choose another")


def _path(fd: int) -> str:
    return os.path.join(os.readlink(f"/proc/self/fd/{fd}"), _FILE)
