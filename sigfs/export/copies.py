"""Copies of jobs, brought to what a view shows.

Owned here: which copies are made and which make way. A copy is ours if it is as it was when it was complete. It is
replaced or removed for a later copy of the same job only: the copy of a job that is gone from the project may be all
that is left of it, so it stays, as does a copy that somebody has changed.

A copy is made under a temporary name beside its place, where the next export goes on with it, and gets its name when it
is complete and compared with the job.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

import xxhash

from sigfs.errors import ExportError, JobChanged
from sigfs.export.links import Changes, directories_of, remove_directory
from sigfs.export.manifest import Copied, Manifest, Memory, job_path
from sigfs.export.places import Places, below
from sigfs.model import changing, copying, files, trees
from sigfs.model.files import TEMPORARY_PREFIX
from sigfs.model.moving import MARKER
from sigfs.model.reading import STATEPOINT_FILE
from sigfs.model.types import UNKNOWN

_OTHER: Final = frozenset({errno.ENOTDIR, errno.ELOOP})
_ROUNDS: Final = 3
"""How often a job that is being changed is copied before it is left out."""


class Copies:
    """What an export by a method that copies has to do with a target.

    Attributes:
        ours: path -> what may be there of ours.
    """

    def __init__(self, root_fd: int, workspace: str, method: str, ours: Mapping[str, Sequence[Copied]]) -> None:
        """Use the target open as *root_fd*, negative if there is none, for the jobs of *workspace*."""
        self._root_fd = root_fd
        self._workspace = workspace
        self._method = method
        self._ours = ours

    def compare(self, wanted: Mapping[str, str], directories: AbstractSet[str]) -> Changes:
        """See what differs; the texts of the changes are jobs, as in a plan.

        A copy that makes way for another is among the removed.

        Args:
            directories: those that earlier exports made; what is in them of ours may make way.
        Complexity: one system call a file of the jobs that have been copied before.
        """
        changes = Changes()
        standing = set(wanted.values())
        with below(self._root_fd) as places:
            known = {path: self._fingerprint(places, path) for path in sorted(self._ours)}
            copied = {path: self._known(path, there) for path, there in known.items()}
            for path, copy in copied.items():
                if copy is not None and copy.job in standing and wanted.get(path) != copy.job:
                    changes.removed[path] = copy.job
            for path, job in sorted(wanted.items()):
                if path in changes.removed:
                    changes.retargeted[path] = job
                    continue
                if _has_above(path, changes.removed):
                    changes.added[path] = job
                    continue
                there = known[path] if path in known else self._fingerprint(places, path)
                own = copied.get(path)
                if there is None or (own is None and path in directories):
                    changes.added[path] = job
                elif own is None or own.job != job:
                    changes.in_the_way.append(path)
                elif self._source_fingerprint(job) == own.source:
                    changes.unchanged += 1
                else:
                    changes.retargeted[path] = job
        return changes

    def apply(
        self, memory: Memory, changes: Changes, unused: AbstractSet[str], progress: Callable[[int, int], None] | None
    ) -> tuple[dict[str, Copied], dict[str, str]]:
        """Make *changes*; where something has come in the way meanwhile, that is noted in them.

        Copies that are to stand elsewhere are held until they do, and then made up to date.

        Args:
            unused: directories on the way to no job any more: removed where they are empty.
        Returns:
            The copies that have been made, and path -> why of those that could not be because of their jobs.
        Raises:
            OSError: no space, read-only and the like.
        """
        made: dict[str, Copied] = {}
        failed: dict[str, str] = {}
        with below(self._root_fd) as places:
            for path, job in sorted(changes.removed.items()):
                with contextlib.suppress(_InTheWay, FileNotFoundError):
                    above, name = _opened(places, path)
                    if self._take(above, path, name):
                        trees.remove_at(memory.fd, _held(job))
                        os.rename(_grave(name), _held(job), src_dir_fd=above, dst_dir_fd=memory.fd)
            for directory in sorted(unused, key=lambda path: path.count("/"), reverse=True):
                remove_directory(places, directory)
            todo = sorted({**changes.added, **changes.retargeted}.items())
            for number, (path, job) in enumerate(todo):
                if progress is not None:
                    progress(number, len(todo))
                try:
                    made[path] = self._copy(places, memory, path, job)
                    continue
                except _InTheWay:
                    changes.in_the_way.append(path)
                except (JobChanged, FileNotFoundError) as error:
                    failed[path] = str(error)
                except PermissionError as error:
                    if self._method == "hardlink" and error.errno == errno.EPERM:
                        raise
                    failed[path] = f"{error.filename or job}: {error.strerror}"
                changes.added.pop(path, None)
                changes.retargeted.pop(path, None)
        return made, failed

    def sweep(self, planned: AbstractSet[str], wanted: AbstractSet[str]) -> None:
        """Put right what an export that was killed has left.

        Args:
            planned: where it was about to make copies; what it has begun at those of them that are *wanted* stays.
        """
        with below(self._root_fd) as places:
            for path in sorted({*self._ours, *planned}):
                with contextlib.suppress(OSError, _InTheWay):
                    above, name = _opened(places, path)
                    if path in self._ours or path not in wanted:
                        trees.remove_at(above, _temporary(name))
                    if path in self._ours:
                        self._settle(above, path, name)

    def _copy(self, places: Places, memory: Memory, path: str, job: str) -> Copied:
        above, _, name = path.rpartition("/")
        try:
            above_fd = places.open(above, make=True)
        except OSError as error:
            if error.errno in _OTHER:
                raise _InTheWay from None
            raise
        temporary = _temporary(name)
        with contextlib.suppress(OSError):  # nothing is held, or something has been begun here
            os.rename(_held(job), temporary, src_dir_fd=memory.fd, dst_dir_fd=above_fd)
        with contextlib.suppress(FileExistsError):
            os.mkdir(temporary, 0o700, dir_fd=above_fd)
        copy_fd = trees.open_own(above_fd, temporary)
        try:
            with self._source(job) as source_fd:
                source = self._copy_tree(source_fd, copy_fd)
            copied = Copied(job, source, trees.fingerprint(self._listing(copy_fd)))
        finally:
            os.close(copy_fd)
        memory.add(path, copied)
        if self._take(above_fd, path, name):
            self._bury(above_fd, name)
        try:
            changing.rename_new(above_fd, temporary, name)
        except FileExistsError:
            raise _InTheWay from None
        files.fsync_directory(above_fd)
        trees.remove_at(memory.fd, _held(job))
        return copied

    def _copy_tree(self, source_fd: int, copy_fd: int) -> str:
        """Copy a job; give the fingerprint of what has been copied.

        Raises:
            JobChanged: somebody writes into it again and again.
        """
        for _ in range(_ROUNDS):
            if self._method == "hardlink":
                seen = copying.link(source_fd, copy_fd, MARKER)
            else:
                seen = copying.copy(source_fd, copy_fd, STATEPOINT_FILE, MARKER)
            source = trees.fingerprint(self._own(seen))
            if source == trees.fingerprint(self._listing(source_fd)):
                return source
        raise JobChanged("the job is being changed")

    def _take(self, above_fd: int, path: str, name: str) -> bool:
        """Give what is at a place another name; False if nothing is there, or an empty directory, which goes.

        Raises:
            _InTheWay: it is not ours, and has its name.
        """
        self._settle(above_fd, path, name)
        with contextlib.suppress(OSError):
            os.rmdir(name, dir_fd=above_fd)
        try:
            changing.rename_new(above_fd, name, _grave(name))
        except FileNotFoundError:
            return False
        if self._known(path, self._fingerprint_at(above_fd, _grave(name))) is None:
            changing.rename_new(above_fd, _grave(name), name)
            raise _InTheWay
        return True

    def _settle(self, above_fd: int, path: str, name: str) -> None:
        """Finish what a killed export was about to do with what was at a place."""
        trees.remove_at(above_fd, _gone(name))
        try:
            changing.rename_new(above_fd, _grave(name), name)
        except FileNotFoundError:
            return
        except FileExistsError:
            if self._known(path, self._fingerprint_at(above_fd, _grave(name))) is None:
                raise _InTheWay from None
            self._bury(above_fd, name)

    def _bury(self, above_fd: int, name: str) -> None:
        os.rename(_grave(name), _gone(name), src_dir_fd=above_fd, dst_dir_fd=above_fd)
        trees.remove(above_fd, _gone(name), STATEPOINT_FILE)

    def _known(self, path: str, there: str | None) -> Copied | None:
        return next((each for each in reversed(self._ours.get(path, ())) if each.copy == there), None)

    def _listing(self, fd: int) -> trees.Listing:
        return self._own(trees.listing(fd, MARKER))

    def _own(self, listing: trees.Listing) -> trees.Listing:
        """What tells whether somebody has changed it: of files that are linked, which they are."""
        if self._method != "hardlink":
            return listing
        return {
            path: seen._replace(
                ctime_ns=0, identity=seen.identity if stat.S_ISDIR(mode) else (stat.S_IFMT(mode), inode)
            )
            for path, seen in listing.items()
            for mode, _, _, inode, *_ in [seen.identity]
        }

    @contextlib.contextmanager
    def _source(self, job: str) -> Iterator[int]:
        fd = os.open(job_path(self._workspace, job), trees.LIST_FLAGS)
        try:
            yield fd
        finally:
            os.close(fd)

    def _source_fingerprint(self, job: str) -> str | None:
        try:
            with self._source(job) as fd:
                return trees.fingerprint(self._listing(fd))
        except FileNotFoundError:
            return None

    def _fingerprint(self, places: Places, path: str) -> str | None:
        """Of the directory at *path*; None if nothing is there, words if it is no directory of ours."""
        if self._root_fd < 0:
            return None
        try:
            above, name = _opened(places, path)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in _OTHER:
                return "not ours"
            raise
        return self._fingerprint_at(above, name)

    def _fingerprint_at(self, above: int, name: str) -> str | None:
        try:
            fd = os.open(name, trees.LIST_FLAGS, dir_fd=above)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in {*_OTHER, errno.EACCES}:
                return "not ours"
            raise
        try:
            return trees.fingerprint(self._listing(fd))
        finally:
            os.close(fd)


class _InTheWay(Exception):
    """Something that is not ours stands where a copy is to stand."""


def _opened(places: Places, path: str) -> tuple[int, str]:
    above, _, name = path.rpartition("/")
    return places.open(above), name


def _has_above(path: str, paths: Container[str]) -> bool:
    while path := path.rpartition("/")[0]:
        if path in paths:
            return True
    return False


def _temporary(name: str) -> str:
    """What a copy is called until it is complete."""
    return f"{TEMPORARY_PREFIX}copy_{_hash(name)}"


def _grave(name: str) -> str:
    """What something is called until it is known to be ours."""
    return f"{TEMPORARY_PREFIX}old_{_hash(name)}"


def _gone(name: str) -> str:
    """What a copy of ours is called that is being removed."""
    return f"{TEMPORARY_PREFIX}gone_{_hash(name)}"


def _held(job: str) -> str:
    """What the copy of a job is called, in the memory, that is to stand elsewhere."""
    return f"held_{_hash(job)}"


def _hash(text: str) -> str:
    return xxhash.xxh3_64_hexdigest(os.fsencode(text))


def compared(root_fd: int, workspace: str, old: Manifest | None, new: Manifest) -> Changes:
    """See what `update` would do."""
    ours, before = _before(old)
    return Copies(root_fd, workspace, new.method, ours).compare(new.jobs, before)


def update(
    root_fd: int,
    workspace: str,
    memory: Memory,
    old: Manifest | None,
    new: Manifest,
    progress: Callable[[int, int], None] | None,
) -> tuple[Changes, dict[str, str]]:
    """Bring the copies in a target up to date, and what it remembers.

    Returns:
        What has been done, and path -> why of jobs that could not be copied.
    Raises:
        ExportError: blocks cannot be shared and are to be, or files cannot be linked.
        OSError: no space, permissions and the like; the next export goes on from there.
    """
    ours, before = _before(old)
    used = directories_of(new.jobs)
    copies = Copies(root_fd, workspace, new.method, ours)
    if new.method == "reflink":
        _require_clones(root_fd, workspace, new.jobs)
    if new.method == "hardlink":
        _require_same_device(root_fd, workspace, new.jobs)
    if old is not None and not old.complete:
        copies.sweep(old.jobs.keys(), new.jobs.keys())
    changes = copies.compare(new.jobs, before)
    if changes:
        wanted, new.copies = new.jobs, dict(ours)
        new.directories = dict.fromkeys([*before, *used], UNKNOWN)
        memory.write(new)
        try:
            made, failed = copies.apply(memory, changes, before - used, progress)
        except OSError as error:
            if new.method == "hardlink" and error.errno in (errno.EXDEV, errno.EPERM):
                raise ExportError(f"files of jobs cannot be linked ({error.strerror}): use --copy") from None
            raise
        new.copies = {path: each for path, each in ours.items() if path not in changes.removed}
        new.copies.update({path: [copied] for path, copied in made.items()})
        new.jobs = {path: job for path, job in wanted.items() if path in new.copies}
    else:
        new.copies, failed = dict(ours), {}
    new.directories = dict.fromkeys(used | directories_of(new.copies), UNKNOWN)
    new.complete = not (changes.in_the_way or failed)
    if old != new:
        memory.write(new)
    return changes, failed


def _before(old: Manifest | None) -> tuple[dict[str, list[Copied]], AbstractSet[str]]:
    return ({}, set()) if old is None else (old.copies, old.directories.keys())


def _require_same_device(root_fd: int, workspace: str, jobs: Mapping[str, str]) -> None:
    device = os.fstat(root_fd).st_dev
    for place in {os.path.dirname(job_path(workspace, job)) for job in jobs.values()}:
        if os.stat(place).st_dev != device:
            raise ExportError(f"files of jobs in {place} cannot be linked on another file system: use --copy")


def _require_clones(root_fd: int, workspace: str, jobs: Mapping[str, str]) -> None:
    """Make sure that files of jobs can share their blocks with copies in the target.

    Raises:
        ExportError: the file systems cannot do that.
    """
    job = next(iter(jobs.values()), None)
    if job is None:
        return
    try:
        source = os.open(os.path.join(job_path(workspace, job), STATEPOINT_FILE), files.READ_FLAGS)
        try:
            target = os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, dir_fd=root_fd)
            try:
                copying.clone(source, target)
            finally:
                os.close(target)
        finally:
            os.close(source)
    except OSError as error:
        why = f"the file system cannot share blocks between jobs and copies ({error.strerror})"
        raise ExportError(f"{why}: use --copy") from None
