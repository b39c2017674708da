"""The state point files of jobs that were made by a mkdir in this mount.

Owned here: that such a file says what the job's path says. Whoever makes a job by its path gets its state point file
with it. Who copies another job there copies that one's state point file too, and must neither fail nor turn the new job
into something else. So what is written in its place goes to a scratch file without a name, and is judged at the end: a
state point is let go, the job's own or another's; anything else is an error of the program that wrote it.

A program that has made a directory takes it to be empty, and may insist that nothing is in the way of what it creates
there. So to the process that made the job the file does not exist until it creates it, or lists the directory.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sigfs.model import files
from sigfs.model.reading import STATEPOINT_FILE
from sigfs.model.statepoint import load_json, statepoint_id
from sigfs.vfs.backing import Descriptor
from sigfs.vfs.credentials import as_caller, thread_group
from sigfs.vfs.nodes import DiskDirectory, File
from sigfs.vfs.types import FsError

if TYPE_CHECKING:
    from sigfs.model.types import JobId, StatePoint
    from sigfs.model.workspace import Workspace
    from sigfs.vfs.backing import Backing
    from sigfs.vfs.inodes import Inodes
    from sigfs.vfs.types import Caller, Inode

log = logging.getLogger(__name__)

_JOBS_LIMIT: Final = 2**16
"""Jobs made here that are remembered; the oldest are the first that become jobs like any other."""

_WAITING_S: Final = 10.0
"""How long a scratch file waits to be opened by who wanted to."""

_LARGEST_BYTES: Final = 2**24
"""What is larger is no state point."""


@dataclass(slots=True)
class _Made:
    """A job made here. ``hidden_from``: the process to which its state point file does not exist yet."""

    dev: int
    ino: int
    statepoint: StatePoint
    hidden_from: int | None


@dataclass(slots=True)
class _Scratch:
    """A file in place of a state point file.

    Attributes:
        descriptor: open for reading and writing.
        group: the process that writes it.
        waits: to be opened by that.
    """

    node: File
    job: JobId
    descriptor: Descriptor
    group: int
    waits: bool
    since_s: float


class StatePointFiles:
    """What is to be known of them. Any thread may call any method; ``_lock`` guards what is kept."""

    def __init__(self, workspace: Workspace, inodes: Inodes, backing: Backing) -> None:
        self._workspace = workspace
        self._inodes = inodes
        self._backing = backing
        self._lock = threading.Lock()
        self._made: dict[JobId, _Made] = {}
        self._scratches: dict[Inode, _Scratch] = {}

    # Which jobs

    def made(self, job: JobId, statepoint: StatePoint, found: os.stat_result, caller: Caller) -> None:
        """Note that *caller* has made *job*, whose directory is *found*."""
        with self._lock:
            while len(self._made) >= _JOBS_LIMIT:
                del self._made[next(iter(self._made))]
            self._made[job] = _Made(found.st_dev, found.st_ino, statepoint, thread_group(caller))

    def migrated(self, old: JobId, new: JobId, statepoint: StatePoint) -> None:
        """Note that *old* is *new* now."""
        with self._lock:
            made = self._made.pop(old, None)
            if made is not None:
                made.statepoint = statepoint
                self._made[new] = made

    def removed(self, job: JobId) -> None:
        """Note that *job* is gone."""
        with self._lock:
            self._made.pop(job, None)

    def is_kept(self, node: DiskDirectory, name: str) -> bool:
        """Tell whether *name* in *node* is the state point file of a job made here."""
        return name == STATEPOINT_FILE and self._made_at(node) is not None

    def is_hidden(self, node: DiskDirectory, name: str, caller: Caller) -> bool:
        """Tell whether the file does not exist yet for *caller*."""
        if name != STATEPOINT_FILE or (made := self._made_at(node)) is None or made.hidden_from is None:
            return False
        return made.hidden_from == thread_group(caller)

    def show(self, node: DiskDirectory, caller: Caller | None) -> None:
        """Let the file exist for everybody, if it is *caller* to whom it does not."""
        made = self._made_at(node)
        if (
            made is not None
            and made.hidden_from is not None
            and (caller is None or made.hidden_from == thread_group(caller))
        ):
            made.hidden_from = None

    def job_of(self, node: File) -> DiskDirectory | None:
        """Give the directory of which *node* is the state point file, if that is of a job made here."""
        if self._made:
            for parent, name in list(node.locations):
                if name == STATEPOINT_FILE:
                    with contextlib.suppress(FsError):  # forgotten a moment ago by another thread
                        directory = self._inodes.get(parent)
                        if isinstance(directory, DiskDirectory) and self._made_at(directory) is not None:
                            return directory
        return None

    def _made_at(self, node: DiskDirectory) -> _Made | None:
        if not self._made or node.job is None:
            return None
        made = self._made.get(node.job)
        return made if made is not None and (made.dev, made.ino) == (node.dev, node.ino) else None

    # Scratch files

    def create(self, parent: DiskDirectory, flags: int, mode: int, caller: Caller) -> File:
        """Give a new scratch file in place of the file in *parent*; the reference to it is the caller's.

        Raises:
            FileExistsError: there is the file, and that was not to be.
            FsError: ESTALE if the job is no longer one that was made here.
            OSError: as the disk below answers to *caller*.
        """
        made = self._made_at(parent)
        if made is None:  # removed a moment ago
            raise FsError(errno.ESTALE)
        directory = self._backing.directory(parent)
        try:
            os.stat(STATEPOINT_FILE, dir_fd=directory.fd, follow_symlinks=False)
        except FileNotFoundError:  # removed, to be written anew
            workspace = self._backing.workspace()
            with as_caller(caller):
                self._workspace.create(made.statepoint, file_mode=mode | 0o600, workspace_fd=workspace.fd)
            is_new = True
        else:
            is_new = self.is_hidden(parent, STATEPOINT_FILE, caller)
            if not is_new and flags & os.O_EXCL:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), STATEPOINT_FILE)
        made.hidden_from = None
        return self._scratch(parent, is_new or bool(flags & os.O_TRUNC), mode, caller, waits=False)

    def await_opening(self, parent: DiskDirectory, flags: int, caller: Caller) -> None:
        """Have a lookup by *caller*'s process find a scratch file in place of the file in *parent*, to be opened."""
        with self._lock:
            late_s = time.monotonic() - _WAITING_S
            late = [each for each in self._scratches.values() if each.waits and each.since_s < late_s]
            for each in late:
                del self._scratches[each.node.inode]
                each.waits = False
        for each in late:
            self._inodes.forget(each.node.inode, 1)
        self._scratch(parent, bool(flags & os.O_TRUNC), 0o600, caller, waits=True)

    def awaited(self, parent: DiskDirectory, name: str, caller: Caller) -> File | None:
        """Give the scratch file that ``await_opening`` made for *caller*'s process, with a reference to it."""
        if not self._scratches or name != STATEPOINT_FILE:
            return None
        group = thread_group(caller)
        with self._lock:
            for each in self._scratches.values():
                if each.waits and (each.group, each.job) == (group, parent.job):
                    self._inodes.refer(each.node.inode)
                    return each.node
        return None

    def resize(self, parent: DiskDirectory, size: int, caller: Caller) -> None:
        """Change the size of the scratch file that *caller*'s process has open in place of the file in *parent*.

        Raises:
            FsError: EPERM if it has none: the file says what the job's path says.
        """
        group = thread_group(caller)
        for each in list(self._scratches.values()):
            if (each.group, each.job) == (group, parent.job) and not each.waits:
                os.ftruncate(each.descriptor.fd, size)
                return
        raise FsError(errno.EPERM)

    def opened(self, node: File) -> bool:
        """Tell whether *node*, which has just been opened, is a scratch file; it waits no longer."""
        each = self._scratches.get(node.inode) if self._scratches else None
        if each is None:
            return False
        with self._lock:
            waited, each.waits = each.waits, False
        if waited:
            self._inodes.forget(node.inode, 1)
        return True

    def is_scratch(self, node: File) -> bool:
        """Tell whether *node* is a scratch file."""
        return bool(self._scratches) and node.inode in self._scratches

    def judge(self, node: File) -> None:
        """See that what has been written to a scratch file is no loss.

        Raises:
            FsError: EPERM if it is no state point.
        """
        each = self._scratches.get(node.inode) if self._scratches else None
        if each is not None and self.id_in(each.descriptor.fd) is None:
            raise FsError(errno.EPERM)

    def closed(self, node: File) -> None:
        """Let a scratch file go that nobody has open any more."""
        if not self._scratches or node.opens:
            return
        with self._lock:
            each = self._scratches.get(node.inode)
            if each is None or each.waits:
                return
            del self._scratches[node.inode]
        self.let_go(each.job, self.id_in(each.descriptor.fd))

    def let_go(self, job: JobId, other: JobId | None) -> None:
        """Say that a file that gives the id *other* has not become the state point file of *job*."""
        if other is None:
            log.warning("refused: what was written to %s of job %s is no state point", STATEPOINT_FILE, job)
        elif other != job:
            log.info("job %s keeps the state point that its path says; a copy of that of %s is let go", job, other)

    def id_in(self, fd: int) -> JobId | None:
        """Give the id of the state point in an open file; None if there is none."""
        size = os.fstat(fd).st_size
        if size > _LARGEST_BYTES:
            return None
        try:
            statepoint = load_json(os.pread(fd, size, 0))
        except (ValueError, OSError):
            return None
        return statepoint_id(statepoint, self._workspace.id_function) if isinstance(statepoint, dict) else None

    def _scratch(self, parent: DiskDirectory, is_empty: bool, mode: int, caller: Caller, *, waits: bool) -> File:
        directory = self._backing.directory(parent)
        assert parent.job is not None
        with as_caller(caller):
            descriptor = Descriptor(_nameless(directory.fd, mode | 0o600))
        if not is_empty:
            os.pwrite(descriptor.fd, files.read_at(directory.fd, STATEPOINT_FILE), 0)
        found = os.fstat(descriptor.fd)
        known = self._inodes.known_file(found)
        if known is not None:
            self._inodes.detach(known)  # of a file that is gone
        node = self._inodes.file(parent.inode, STATEPOINT_FILE, found)
        self._inodes.removed(parent.inode, STATEPOINT_FILE, found, descriptor)
        with self._lock:
            self._scratches[node.inode] = _Scratch(
                node, parent.job, descriptor, thread_group(caller), waits, time.monotonic()
            )
        return node


def _nameless(directory_fd: int, mode: int) -> int:
    """Give a new file without a name in a directory, open for reading and writing."""
    try:
        return os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, mode, dir_fd=directory_fd)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT):
            raise
    name = files.temporary_name()
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(name, flags, mode, dir_fd=directory_fd)
    os.unlink(name, dir_fd=directory_fd)
    return fd
