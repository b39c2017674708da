"""Changes of the view itself: jobs are made, migrated and removed by mkdir, rename and rmdir of their directories.

Owned here: which change of a name in a virtual directory means what for which job; directories that were made and hold
no job yet; and those that have vanished with their last job, for the process that removed it. ``model.workspace`` keeps
jobs whole, ``tree.inverse`` knows the way from paths to state points.

A directory that leads to no job is kept in memory: everybody sees it, until it is removed, real jobs make it true, or
the project is unmounted. Who removes a tree, removes each directory after what was in it, when without its last job it
has ceased to exist: so for a while, and for that process only, it can still be named and removed.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from sigfs.errors import DestinationExists, InvalidStatePoint, JobNotEmpty, NoSuchJob, NotInvertible, PendingJob
from sigfs.model import changing
from sigfs.model.types import Change
from sigfs.tree import JobNode
from sigfs.vfs import attributes, syscalls
from sigfs.vfs.backing import Descriptor
from sigfs.vfs.credentials import strictly_as, thread_group, umask_of
from sigfs.vfs.nodes import TreeDirectory
from sigfs.vfs.types import ROOT, FsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from sigfs.index import Index, Table
    from sigfs.model.types import JobId, Record, StatePoint
    from sigfs.model.workspace import Workspace
    from sigfs.tree import Tree, VirtualNode
    from sigfs.vfs.backing import Backing
    from sigfs.vfs.inodes import Inodes
    from sigfs.vfs.statepoints import StatePointFiles
    from sigfs.vfs.types import Caller, Inode

log = logging.getLogger(__name__)

PLACES_LIMIT: Final = 4096
"""Directories in memory at most."""

_VANISHED_S: Final = 30.0
"""How long a directory that has vanished can be removed by the process that emptied it."""

_VANISHED_LIMIT: Final = 4096

_RECENT_S: Final = 10.0
"""How long after a change of ours news of the job may still be older than that."""


@dataclass(slots=True)
class _Vanished:
    place: VirtualNode
    group: int
    until_s: float


class Changes:
    """What mkdir, rmdir and rename do in virtual directories. Any thread may call any method.

    Attributes:
        lock: held while a job is changed on disk and the index is told, and while others tell the index, so that older
            news never overwrites newer. Taken before every other lock; nobody who holds it may wait for the watcher.
    """

    def __init__(
        self,
        tree: Tree,
        index: Index,
        workspace: Workspace,
        inodes: Inodes,
        backing: Backing,
        statepoints: StatePointFiles,
        tell: Callable[[Sequence[Change]], None],
        tell_listed: Callable[[Inode], None],
    ) -> None:
        """Wire the parts.

        Args:
            tell: takes changes into the index, and tells the kernel; called with ``lock`` held.
            tell_listed: tells the kernel that a directory lists something else.
        """
        self._tree = tree
        self._index = index
        self._workspace = workspace
        self._inodes = inodes
        self._backing = backing
        self._statepoints = statepoints
        self._tell = tell
        self._tell_listed = tell_listed
        self.lock = threading.Lock()
        self._recent: dict[JobId, float] = {}  # job -> monotonic time of our last change; guarded by lock
        # place -> name in it -> place; changed with lock held
        self._places: dict[VirtualNode, dict[str, VirtualNode]] = {}
        # those of the last that have been made, whether jobs make them exist by now or not
        self._made: dict[VirtualNode, None] = {}
        # (place, name in it); changed with lock held
        self._vanished: dict[tuple[VirtualNode, str], _Vanished] = {}

    def __len__(self) -> int:
        return sum(map(len, self._places.values()))

    # Looking

    def find(self, parent: VirtualNode, name: str, caller: Caller) -> VirtualNode | None:
        """Give the place of a directory that no job makes exist; None if there is none that *caller* may see."""
        if self._places and (place := self._places.get(parent, {}).get(name)) is not None:
            return place
        return self._find_vanished(parent, name, caller)

    def names(self, parent: VirtualNode, table: Table) -> Iterator[str]:
        """List the directories in *parent* that no job makes exist."""
        inside = self._places.get(parent) if self._places else None
        if inside is not None:
            yield from [name for name in tuple(inside) if self._tree.find(parent, name, table) is None]

    def has_vanished(self, parent: VirtualNode, name: str) -> bool:
        """Tell whether some process may still see *name* in *parent*."""
        return bool(self._vanished) and (parent, name) in self._vanished

    def was_made(self, place: VirtualNode) -> bool:
        """Tell whether *place* is a directory that somebody has made in this mount, and not long ago."""
        return place in self._made

    def as_they_are(self, changes: Iterable[Change]) -> list[Change]:
        """Read those of the jobs again that have been changed here of late: with ``lock`` held."""
        if self._recent:
            now_s = time.monotonic()
            self._recent = {job: time_s for job, time_s in self._recent.items() if now_s - time_s < _RECENT_S}
        if not self._recent:
            return list(changes)
        again = (self._again(change) if change.id in self._recent else change for change in changes)
        return [change for change in again if change is not None]

    # Changing

    def mkdir(self, parent: TreeDirectory, name: str, mode: int, caller: Caller) -> None:
        """Make the job that *name* in *parent* stands for, or a directory in memory on the way to one.

        Raises:
            FsError: EEXIST; EPERM if the path says no state point; ENOSPC if there are too many in memory.
            OSError: as the disk below answers to *caller*.
        """
        with self.lock:
            with self._index.reading() as table:
                found = self._tree.find(parent.place, name, table)
                if found is not None and not self._is_gone(found.node):
                    raise FsError(errno.EEXIST)
                if name in self._places.get(parent.place, {}):
                    raise FsError(errno.EEXIST)
                with self._invertible(parent, name):
                    target = self._tree.target(parent.place, name, table)
                    statepoint = self._tree.made(target, table) if target.is_leaf else None
            if statepoint is None:
                self._remember(parent, name, target.node)
            else:
                self._make(parent, name, statepoint, mode, caller)

    def rmdir(self, parent: TreeDirectory, name: str, caller: Caller) -> None:
        """Remove the job that *name* in *parent* leads to, if it holds only metadata; or a directory without jobs.

        Raises:
            FsError: ENOENT; ENOTEMPTY.
            OSError: as the disk below answers to *caller*.
        """
        with self.lock:
            with self._index.reading() as table:
                found = self._tree.find(parent.place, name, table)
            if found is None:
                self._remove_place(parent, name, caller)
            elif isinstance(found.node, JobNode):
                self._remove(parent, name, found.node.id, caller)
            else:
                raise FsError(errno.ENOTEMPTY)

    def rename(
        self,
        old_parent: TreeDirectory,
        old_name: str,
        new_parent: TreeDirectory,
        new_name: str,
        flags: int,
        caller: Caller,
    ) -> None:
        """Migrate the job whose directory is moved.

        Raises:
            FsError: EEXIST if there is a job, or something else, already; EPERM for what is no job's directory, and
                where the new path says no state point.
            OSError: as the disk below answers to *caller*.
        """
        with self.lock:
            with self._index.reading() as table:
                old = self._tree.find(old_parent.place, old_name, table)
                if old is None and self.find(old_parent.place, old_name, caller) is None:
                    raise FsError(errno.ENOENT)
                if old is None or not isinstance(old.node, JobNode) or flags & ~syscalls.RENAME_NOREPLACE:
                    raise FsError(errno.EPERM)
                number = table.number(old.node.id)
                assert number is not None
                record = table.record_of(number)
                there = self._tree.find(new_parent.place, new_name, table)
                if there is not None and there.node == old.node and not flags:
                    return  # two names of one directory
                if there is not None or new_name in self._places.get(new_parent.place, {}):
                    raise FsError(errno.EEXIST)
                with self._invertible(new_parent, new_name):
                    target = self._tree.target(new_parent.place, new_name, table)
                    statepoint = self._tree.moved(target, record, (old_parent.place, old_name), table)
            self._migrate(record, statepoint, (old_parent, old_name), (new_parent, new_name), caller)

    # With the lock held

    def _make(self, parent: TreeDirectory, name: str, statepoint: StatePoint, mode: int, caller: Caller) -> None:
        workspace = self._open_workspace(mode, caller)
        mode = attributes.creation_mode(workspace, mode, caller)
        # Not from *mode*: a program that copies makes a directory that is closed to others until it is filled.
        file_mode = attributes.creation_mode(workspace, 0o666, replace(caller, umask=umask_of(caller)))
        with strictly_as(caller), self._answers(parent, name):
            job = self._workspace.create(
                statepoint, exist_ok=False, mode=mode, file_mode=file_mode, workspace_fd=workspace.fd
            )
        self._statepoints.made(job, statepoint, os.stat(job, dir_fd=workspace.fd), caller)
        self._follow([job])
        self._forget_places(parent, name)

    def _migrate(
        self,
        record: Record,
        statepoint: StatePoint,
        old: tuple[TreeDirectory, str],
        new: tuple[TreeDirectory, str],
        caller: Caller,
    ) -> None:
        job = record.id
        for node in self._inodes.of_job(job):
            with contextlib.suppress(OSError, FsError):
                self._backing.directory(node)  # to be reached by all its paths until the nodes are told
        if self._backing.places.owns(job):
            new_job = job
            above, directory = self._backing.above(job)
            with strictly_as(caller), self._answers(*new):
                changing.restate(above.fd, directory, record.statepoint, statepoint)
        else:
            workspace = self._backing.workspace()
            with strictly_as(caller), self._answers(*new):
                new_job = self._workspace.migrate(job, statepoint, workspace_fd=workspace.fd)
            if new_job == job:
                raise self._refuse(*new, "the job would stay what it is")
        self._inodes.migrated((old[0].inode, old[1]), (new[0].inode, new[1]), job, new_job)
        self._statepoints.migrated(job, new_job, statepoint)
        self._follow([job, new_job])
        self._forget_places(*new)

    def _remove(self, parent: TreeDirectory, name: str, job: JobId, caller: Caller) -> None:
        try:
            above, directory = self._backing.above(job)
            pin = Descriptor(os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=above.fd))
            with strictly_as(caller), self._answers(parent, name):
                changing.remove(above.fd, directory)
        except OSError as error:
            if error.errno == errno.ENOENT:
                self._follow([job])
            raise
        self._inodes.removed(parent.inode, name, os.fstat(pin.fd), pin)
        self._statepoints.removed(job)
        self._follow([job])
        self._remember_vanished(parent, caller)

    def _remove_place(self, parent: TreeDirectory, name: str, caller: Caller) -> None:
        key = (parent.place, name)
        place = self._places.get(parent.place, {}).get(name)
        vanished = None if place is not None else self._find_vanished(*key, caller)
        if place is None and vanished is None:
            raise FsError(errno.ENOENT)
        if self._places.get(place or vanished):  # type: ignore[arg-type]
            raise FsError(errno.ENOTEMPTY)
        if place is not None:
            self._forget_place(*key)
            self._tell_listed(parent.inode)
        self._vanished.pop(key, None)
        self._inodes.detach_directory(parent.inode, name)

    def _follow(self, jobs: Iterable[JobId]) -> None:
        """Have the index say of *jobs* what the disk does."""
        now_s = time.monotonic()
        for job in jobs:
            self._recent[job] = now_s
        again = map(self._again, [Change(job, None) for job in jobs])
        self._tell([change for change in again if change is not None])

    def _again(self, change: Change) -> Change | None:
        """Say of a job what the disk does now; None if it is without its state point and so stays what it was."""
        try:
            jobs = self._backing.places if self._backing.places.owns(change.id) else self._workspace
            return Change(change.id, jobs.read(change.id, documents=True))
        except NoSuchJob:
            return Change(change.id, None)
        except PendingJob:
            return None if change.record is None else change
        except OSError:
            return change

    def _is_gone(self, node: object) -> bool:
        """Whether *node* is a job that the index has and the disk has not: its end is yet to be told."""
        if not isinstance(node, JobNode):
            return False
        return self._backing.job_stat(node.id) is None

    def _open_workspace(self, mode: int, caller: Caller) -> Descriptor:
        try:
            return self._backing.workspace()
        except FileNotFoundError:
            with strictly_as(caller), contextlib.suppress(FileExistsError):
                os.mkdir(self._workspace.path, mode & ~caller.umask)
            return self._backing.workspace()

    # Directories without jobs

    def _remember(self, parent: TreeDirectory, name: str, place: VirtualNode) -> None:
        if len(self) >= PLACES_LIMIT:
            log.warning(
                "refused: %s: there are %d new directories without a job already", self._path(parent, name), len(self)
            )
            raise FsError(errno.ENOSPC)
        self._places.setdefault(parent.place, {})[name] = place
        while len(self._made) >= PLACES_LIMIT:
            del self._made[next(iter(self._made))]
        self._made[place] = None
        self._tell_listed(parent.inode)

    def _forget_place(self, parent: VirtualNode, name: str) -> None:
        inside = self._places.get(parent)
        if inside is not None and inside.pop(name, None) is not None and not inside:
            del self._places[parent]

    def _forget_places(self, parent: TreeDirectory, name: str) -> None:
        """Forget the directories on the way to *name* in *parent*, where there is a job now."""
        self._forget_place(parent.place, name)
        for above, node in self._above(parent):
            self._forget_place(above.place, node.name)

    def _remember_vanished(self, parent: TreeDirectory, caller: Caller) -> None:
        """Remember for *caller*'s process what has ceased to exist on the way to *parent*."""
        now_s = time.monotonic()
        group = thread_group(caller)
        self._vanished = {key: gone for key, gone in self._vanished.items() if gone.until_s > now_s}
        with self._index.reading() as table:
            for above, node in self._above(parent):
                if self._tree.find(above.place, node.name, table) is None and len(self._vanished) < _VANISHED_LIMIT:
                    self._vanished[above.place, node.name] = _Vanished(node.place, group, now_s + _VANISHED_S)

    def _find_vanished(self, parent: VirtualNode, name: str, caller: Caller) -> VirtualNode | None:
        if not self._vanished:
            return None
        gone = self._vanished.get((parent, name))
        if gone is None or gone.until_s < time.monotonic() or gone.group != thread_group(caller):
            return None
        return gone.place

    def _above(self, node: TreeDirectory) -> Iterator[tuple[TreeDirectory, TreeDirectory]]:
        """Yield *node* and the directories above it, nearest first, each after the one that it is in."""
        while node.inode != ROOT:
            above = self._inodes.get(node.parent)
            assert isinstance(above, TreeDirectory)
            yield above, node
            node = above

    # Words

    def _path(self, parent: TreeDirectory, name: str) -> str:
        return "/".join(["", *[node.name for _, node in self._above(parent)][::-1], name])

    def _refuse(self, parent: TreeDirectory, name: str, reason: object) -> FsError:
        log.warning("refused: %s cannot be made or moved to: %s", self._path(parent, name), reason)
        return FsError(errno.EPERM)

    @contextlib.contextmanager
    def _invertible(self, parent: TreeDirectory, name: str) -> Iterator[None]:
        try:
            yield
        except NotInvertible as error:
            raise self._refuse(parent, name, error) from None

    @contextlib.contextmanager
    def _answers(self, parent: TreeDirectory, name: str) -> Iterator[None]:
        """Turn what the model raises into answers."""
        try:
            yield
        except NoSuchJob:
            raise FsError(errno.ENOENT) from None
        except DestinationExists:
            raise FsError(errno.EEXIST) from None
        except JobNotEmpty:
            raise FsError(errno.ENOTEMPTY) from None
        except (InvalidStatePoint, PendingJob) as error:
            raise self._refuse(parent, name, error) from None
