"""Jobs that are made whole before anybody sees them.

Owned here: a directory in the workspace, that of one import at a time, in which jobs are made until they are complete
and get their names. What a killed import has left in it is gone on with, or removed, by the next one.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from typing import Final

from sigfs.errors import DestinationExists, JobChanged, NotImportable
from sigfs.model import changing, copying, files, locking, trees
from sigfs.model.moving import MARKER
from sigfs.model.reading import STATEPOINT_FILE
from sigfs.model.statepoint import encode
from sigfs.model.types import JobId, StatePoint

_NAME: Final = f"{files.TEMPORARY_PREFIX}import"
_LOCK: Final = "lock"
_LOCK_S: Final = 60.0
"""How long another import into the same workspace is waited for."""

_ROUNDS: Final = 3
"""How often what is being changed is copied before it is left out."""


class Staging:
    """Where jobs are made. One import at a time has it."""

    def __init__(self, workspace_fd: int, fd: int) -> None:
        """Use the directory *fd*, which is in the workspace *workspace_fd*."""
        self._workspace_fd = workspace_fd
        self._fd = fd

    @contextlib.contextmanager
    def making(self, job_id: JobId, *, anew: bool) -> Iterator[int]:
        """Give a directory for a job, which `publish` is to be called for; after an error it is removed.

        Args:
            anew: empty; else with what a killed import has made.
        """
        if anew:
            trees.remove_at(self._fd, job_id)
        with contextlib.suppress(FileExistsError):
            os.mkdir(job_id, dir_fd=self._fd)
        try:
            fd = trees.open_own(self._fd, job_id)
            try:
                yield fd
            finally:
                os.close(fd)
        except BaseException:
            trees.remove(self._fd, job_id)
            raise

    def publish(self, fd: int, job_id: JobId, statepoint: StatePoint | None, *, on_disk: bool = False) -> None:
        """Give the complete directory *fd* its name in the workspace, which is on the disk when the import ends.

        Args:
            statepoint: what its state point file is to say, if it has none.
            on_disk: what is in it is.
        Raises:
            DestinationExists: there is something of that name.
            OSError: no space and the like.
        """
        mode = stat.S_IMODE(os.fstat(fd).st_mode)
        with contextlib.suppress(PermissionError):
            os.fchmod(fd, mode | 0o700)  # to be moved from one directory to another, it is written as well
        if not files.is_there(fd, STATEPOINT_FILE):
            files.write_new(fd, STATEPOINT_FILE, encode(statepoint))
            on_disk = False
        if not on_disk:
            os.fsync(fd)
        changing.rename_new(self._fd, job_id, job_id, self._workspace_fd)
        with contextlib.suppress(PermissionError):
            os.fchmod(fd, mode)

    def copy(self, source_fd: int, job_id: JobId, statepoint: StatePoint | None) -> None:
        """Make the job a copy of the directory *source_fd*.

        Raises:
            JobChanged: somebody writes into that again and again.
            NotImportable: there is a device in it.
            DestinationExists, OSError: as `publish`.
        """
        _require_no_devices(source_fd)
        with self.making(job_id, anew=False) as fd:
            for _ in range(_ROUNDS):
                seen = copying.copy(source_fd, fd, STATEPOINT_FILE, MARKER)
                if trees.fingerprint(seen) == trees.fingerprint(trees.listing(source_fd, MARKER)):
                    break
            else:
                raise JobChanged("it is being changed")
            self.publish(fd, job_id, statepoint, on_disk=True)


@contextlib.contextmanager
def staging(workspace_fd: int) -> Iterator[Staging]:
    """Give the staging directory of a workspace, which is gone afterwards.

    Raises:
        NotImportable: another import is at work.
        OSError: it cannot be made.
    """
    with contextlib.ExitStack() as stack:
        while True:
            with contextlib.suppress(FileExistsError):
                os.mkdir(_NAME, 0o700, dir_fd=workspace_fd)
            try:
                fd = os.open(_NAME, trees.LIST_FLAGS, dir_fd=workspace_fd)
                stack.callback(os.close, fd)
                flags = os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
                os.close(os.open(_LOCK, flags, 0o600, dir_fd=fd))
                stack.enter_context(locking.locked(fd, _LOCK, _LOCK_S))
                break
            except FileNotFoundError:  # the import before this one has just removed it
                continue
            except TimeoutError:
                raise NotImportable(
                    "another import into this workspace is at work: try again when it is done"
                ) from None
        try:
            yield Staging(workspace_fd, fd)
            files.fsync_directory(workspace_fd)
        finally:
            with contextlib.suppress(OSError):
                trees.remove_at(workspace_fd, _NAME)


def _require_no_devices(tree_fd: int) -> None:
    for path, seen in trees.listing(tree_fd).items():
        if stat.S_ISBLK(seen.identity[0]) or stat.S_ISCHR(seen.identity[0]):
            raise NotImportable(f"there is a device in it, {path}")


def is_same(source_fd: int, workspace_fd: int, job_id: JobId) -> bool:
    """Whether a job has the data of the directory *source_fd*: names, content, links; times and rights do not count.

    The state point file does not count either: both have the same id.
    """
    try:
        fd = os.open(job_id, trees.LIST_FLAGS, dir_fd=workspace_fd)
    except OSError:
        return False
    try:
        if os.path.samestat(os.fstat(fd), os.fstat(source_fd)):
            return True
        shape = _shape(source_fd)
        return shape == _shape(fd) and all(
            kind != stat.S_IFREG or _content(source_fd, path) == _content(fd, path) for path, (kind, _) in shape.items()
        )
    finally:
        os.close(fd)


def _shape(tree_fd: int) -> dict[str, tuple[int, str]]:
    """Path -> type, and size or text of a link."""
    found: dict[str, tuple[int, str]] = {}
    for path, seen in trees.listing(tree_fd, MARKER).items():
        mode, size = seen.identity[0], seen.identity[5]
        kind = stat.S_IFMT(mode)
        if path not in ("", STATEPOINT_FILE):
            text = os.readlink(path, dir_fd=tree_fd) if kind == stat.S_IFLNK else str(size)
            found[path] = kind, text
    return found


def _content(tree_fd: int, path: str) -> int:
    with trees.opened(path, tree_fd) as fd:
        return trees.content(fd, os.fstat(fd).st_size)


def exists(workspace_fd: int, job_id: JobId) -> bool:
    """Whether there is something of that name; of a workspace that is not there yet (negative) nothing is."""
    return workspace_fd >= 0 and files.is_there(workspace_fd, job_id)


def taken(job_id: JobId) -> DestinationExists:
    """What is said of a job whose name is taken by other data."""
    return DestinationExists(f"there is a job {job_id} with other data: it stays as it is")
