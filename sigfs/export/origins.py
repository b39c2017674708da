"""A directory tree that is imported from.

Owned here: what of it is looked at. Symbolic links are not followed, but for those that lead to a directory with a
state point file, as an export makes them.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from sigfs.errors import ExportError
from sigfs.export.finding import Look
from sigfs.export.manifest import RESERVED, read_manifest
from sigfs.model import files, trees
from sigfs.model.files import DIRECTORY_FLAGS, TEMPORARY_PREFIX
from sigfs.model.reading import STATEPOINT_FILE


class Directory:
    """A directory, whose paths are relative to it.

    Attributes:
        links: paths of symbolic links to jobs that have been come across.
    """

    def __init__(self, path: str, workspace: str) -> None:
        """Open *path*; *workspace*, which may be in it, is passed over."""
        self.links: set[str] = set()
        self._path = path
        self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._passed_over: os.stat_result | None = None
        with contextlib.suppress(OSError):
            self._passed_over = os.stat(workspace)

    def close(self) -> None:
        """Close it."""
        os.close(self._fd)

    def path_of(self, path: str) -> str:
        """Where the directory *path* is."""
        return os.path.join(self._path, path) if path else self._path

    def known(self) -> dict[str, str]:
        """Path -> id of the jobs that an export has put here, by what it remembers."""
        try:
            fd = os.open(RESERVED, DIRECTORY_FLAGS, dir_fd=self._fd)
        except OSError:
            return {}
        try:
            manifest = read_manifest(fd)
        except (OSError, ExportError):  # it would only help
            return {}
        finally:
            os.close(fd)
        return {} if manifest is None else {path: os.path.basename(job) for path, job in manifest.jobs.items()}

    @contextlib.contextmanager
    def opened(self, path: str) -> Iterator[int]:
        """Give a descriptor of the directory *path*, to be listed.

        Raises:
            OSError: it cannot be opened.
        """
        with self._opened(path) as above:
            fd = os.open(".", trees.LIST_FLAGS, dir_fd=above)
        try:
            yield fd
        finally:
            os.close(fd)

    def look(self, path: str) -> Look:
        """See `sigfs.export.finding.Origin`."""
        with self._opened(path) as fd:
            try:
                return Look(files.read_at(fd, STATEPOINT_FILE), [], has_files=True)
            except (FileNotFoundError, IsADirectoryError):  # a key or a value may have the name, too
                pass
            except OSError as error:
                if error.errno == errno.ELOOP and not _leads_to_job(fd, STATEPOINT_FILE):
                    raise OSError(error.errno, "is a symbolic link", STATEPOINT_FILE) from None
                if error.errno != errno.ELOOP:
                    raise
            below = os.open(".", trees.LIST_FLAGS, dir_fd=fd)
            try:
                return self._listed(path, below)
            finally:
                os.close(below)

    def _listed(self, path: str, fd: int) -> Look:
        directories: list[str] = []
        has_files = False
        with os.scandir(fd) as entries:
            for entry in entries:
                name = entry.name
                if name == RESERVED or name.startswith(TEMPORARY_PREFIX):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    if not self._is_passed_over(entry):
                        directories.append(name)
                elif entry.is_symlink() and _leads_to_job(fd, name):
                    self.links.add(f"{path}/{name}" if path else name)
                    directories.append(name)
                else:
                    has_files = True
        return Look(None, directories, has_files)

    def _is_passed_over(self, entry: os.DirEntry[str]) -> bool:
        if self._passed_over is None or entry.inode() != self._passed_over.st_ino:
            return False
        return os.path.samestat(entry.stat(follow_symlinks=False), self._passed_over)

    @contextlib.contextmanager
    def _opened(self, path: str) -> Iterator[int]:
        if path in self.links:
            above, _, name = path.rpartition("/")
            with self._opened(above) as above_fd:
                fd = os.open(name, DIRECTORY_FLAGS & ~os.O_NOFOLLOW, dir_fd=above_fd)
        else:
            fd = files.open_below(self._fd, path or ".")
        try:
            yield fd
        finally:
            os.close(fd)


def _leads_to_job(fd: int, name: str) -> bool:
    try:
        return files.is_there(fd, f"{name}/{STATEPOINT_FILE}")
    except OSError:
        return False
