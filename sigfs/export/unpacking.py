"""Jobs that are unpacked from an archive.

Owned here: that an archive is read twice, and nothing is unpacked of one that is hostile, damaged or too large; and
that what is unpacked goes where it belongs, by descriptors, and into nothing that was there before.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Final

from sigfs.errors import DestinationExists
from sigfs.export.finding import Job, Look
from sigfs.export.manifest import RESERVED
from sigfs.export.packed import Data, Entry, entries, refused
from sigfs.export.places import Places
from sigfs.export.staging import Staging, taken
from sigfs.model import trees
from sigfs.model.files import TEMPORARY_PREFIX
from sigfs.model.moving import MARKER
from sigfs.model.reading import STATEPOINT_FILE
from sigfs.model.types import JobId

if TYPE_CHECKING:
    from sigfs.export.report import Imported, Progress

_STATEPOINT_BYTES: Final = 2**24


class Packed:
    """An archive that has been read once.

    Attributes:
        kinds: path -> type, as of st_mode, of what is in it, and of the directories above that.
        last: path -> number of the last entry that is at it, or below.
    """

    def __init__(self, path: str) -> None:
        """Read it.

        Raises:
            NotImportable: it is no archive, is damaged, or hostile: names that are absolute, lead out of it, are there
                twice or lead through what is no directory, devices.
        """
        self.path = path
        self.kinds: dict[str, int] = {"": stat.S_IFDIR}
        self._below: dict[str, list[str]] = {"": []}
        self._with_files: set[str] = set()
        self._statepoints: dict[str, bytes] = {}
        self._links: list[Entry] = []
        self.last: dict[str, int] = {}
        self._bytes = 0
        with entries(path) as found:
            for number, entry in enumerate(found):
                self._add(number, entry)

    def _add(self, number: int, entry: Entry) -> None:
        path, kind = entry.path, stat.S_IFMT(entry.mode)
        if not path and kind != stat.S_IFDIR:
            raise refused(self.path, path, "is no name of a file")
        above, _, name = path.rpartition("/")
        if path:
            self._add_directory(above)
            if path in self.kinds and {self.kinds[path], kind} != {stat.S_IFDIR}:
                raise refused(self.path, path, "is there twice")
        if kind == stat.S_IFDIR:
            self._add_directory(path)
        else:
            if kind == stat.S_IFREG and entry.text and self.kinds.get(entry.text) != kind:
                raise refused(self.path, path, f"is a further name of {entry.text!r}, which is no file before it")
            self.kinds[path] = kind
            self._with_files.add(above)
        if entry.text:
            self._links.append(entry._replace(file=None))
        self._bytes += entry.size
        if name == STATEPOINT_FILE and entry.file is not None:
            if entry.size > _STATEPOINT_BYTES:
                raise refused(self.path, path, f"has {entry.size} bytes, and is to be a state point")
            self._statepoints[above] = entry.file.read()
        self.last[path] = number
        while path:
            path = path.rpartition("/")[0]
            self.last[path] = number

    def _add_directory(self, path: str) -> None:
        if self.kinds.get(path, stat.S_IFDIR) != stat.S_IFDIR:
            raise refused(self.path, path, "is no directory, and something is said to be in it")
        if path not in self._below:
            above, _, name = path.rpartition("/")
            self._add_directory(above)
            self.kinds[path] = stat.S_IFDIR
            self._below[path] = []
            self._below[above].append(name)

    def look(self, path: str) -> Look:
        """See `sigfs.export.finding.Origin`."""
        if path in self._statepoints:
            return Look(self._statepoints[path], [], has_files=True)
        if self.kinds.get(f"{path}/{STATEPOINT_FILE}".lstrip("/"), stat.S_IFDIR) != stat.S_IFDIR:
            raise OSError(errno.EINVAL, "is not a regular file", STATEPOINT_FILE)
        names = [name for name in self._below[path] if name != RESERVED and not name.startswith(TEMPORARY_PREFIX)]
        return Look(None, names, path in self._with_files)

    def require_harmless(self, jobs: Mapping[str, JobId]) -> None:
        """Make sure that no link in a job leads out of it.

        Raises:
            NotImportable: one does, or may: by a step up after one down, which may be a link itself.
        """
        for entry in self._links:
            job = _job_above(entry.path, jobs)
            if job is None:
                continue
            if stat.S_ISLNK(entry.mode):
                steps = [step for step in entry.text.split("/") if step not in ("", ".")]
                up = steps.count("..")
                levels = entry.path.count("/") - (job.count("/") + 1 if job else 0)
                if entry.text.startswith("/") or ".." in steps[up:] or up > levels:
                    raise refused(self.path, entry.path, f"is a link that may lead out of its job, to {entry.text!r}")
            elif _job_above(entry.text, jobs) != job:
                raise refused(
                    self.path, entry.path, f"is a further name of {entry.text!r}, which is not in the same job"
                )

    def unpack(
        self,
        jobs: Mapping[str, Job],
        ids: Mapping[str, JobId],
        there: AbstractSet[JobId],
        workspace_fd: int,
        stage: Staging | None,
        report: Imported,
        progress: Progress | None,
    ) -> None:
        """Unpack jobs, each by itself, and compare those that are there; what comes of it is reported.

        Args:
            jobs: path -> what has been found.
            ids: path -> id of those that are wanted.
            there: jobs that exist.
            stage: where they are made; None if none is.
        Raises:
            NotImportable: the archive is another by now, or damaged.
            OSError: no space and the like.
        """
        if stage is not None:
            self._require_space(workspace_fd)
        with contextlib.ExitStack() as stack:
            makers: dict[str, _Maker] = {}
            done = 0
            for number, entry in enumerate(stack.enter_context(entries(self.path))):
                path = _job_above(entry.path, ids)
                if path is None or (path or ".") in report.failed:
                    continue
                job_id = ids[path]
                try:
                    maker = makers.get(path)
                    if maker is None:
                        kept = stack.enter_context(contextlib.ExitStack())
                        if job_id in there:
                            maker = _Comparing(workspace_fd, job_id, kept)
                        elif stage is not None:
                            maker = _Making(stage, job_id, jobs[path], kept)
                        else:
                            maker = _Maker(kept)
                        makers[path] = maker
                    maker.take(entry._replace(path=entry.path[len(path) :].lstrip("/"), text=_in_job(entry, path)))
                    if number == self.last[path]:
                        maker.finish()
                        (report.unchanged if job_id in there else report.imported)[path or "."] = job_id
                except DestinationExists as error:
                    report.failed[path or "."] = str(error)
                if number == self.last[path] or (path or ".") in report.failed:
                    if path in makers:
                        makers.pop(path).close()
                    done += 1
                    if progress is not None:
                        progress(done, len(ids))

    def _require_space(self, workspace_fd: int) -> None:
        space = os.statvfs(f"/proc/self/fd/{workspace_fd}")
        if self._bytes > space.f_bavail * space.f_frsize:
            raise OSError(errno.ENOSPC, f"there is no space for the {self._bytes} bytes that are in it", self.path)


def _job_above(path: str, jobs: Mapping[str, object]) -> str | None:
    """The job that has the entry *path*."""
    while path not in jobs:
        if not path:
            return None
        path = path.rpartition("/")[0]
    return path


def _in_job(entry: Entry, job: str) -> str:
    """The text of a symbolic link; of a further name the path in the job."""
    return entry.text if stat.S_ISLNK(entry.mode) else entry.text[len(job) :].lstrip("/")


class _Maker:
    """What takes the entries of a job, whose paths are relative to it. This one only counts."""

    def __init__(self, kept: contextlib.ExitStack) -> None:
        self._kept = kept

    def take(self, entry: Entry) -> None:
        """Take the next entry."""

    def finish(self) -> None:
        """There are no more."""

    def close(self) -> None:
        """Let go."""
        self._kept.close()


class _Comparing(_Maker):
    """Compares a job that is there: names, content and links."""

    def __init__(self, workspace_fd: int, job_id: JobId, kept: contextlib.ExitStack) -> None:
        super().__init__(kept)
        self._job_id = job_id
        try:
            self._fd = os.open(job_id, trees.LIST_FLAGS, dir_fd=workspace_fd)
        except OSError:
            raise taken(job_id) from None
        kept.callback(os.close, self._fd)
        self._left = {path: each.identity for path, each in trees.listing(self._fd, MARKER).items()}
        for path in ("", STATEPOINT_FILE):
            self._left.pop(path, None)
        self._directories = {path for path, identity in self._left.items() if stat.S_ISDIR(identity[0])}

    def take(self, entry: Entry) -> None:
        kind = stat.S_IFMT(entry.mode)
        if entry.path in ("", STATEPOINT_FILE) or (kind == stat.S_IFDIR and entry.path in self._directories):
            self._left.pop(entry.path, None)
            return
        identity = self._left.pop(entry.path, (0,))
        if stat.S_IFMT(identity[0]) != kind or not self._is_same(entry, identity[5]):
            raise taken(self._job_id)
        above = entry.path
        while above := above.rpartition("/")[0]:  # which the archive need not name
            self._left.pop(above, None)

    def _is_same(self, entry: Entry, size: int) -> bool:
        if stat.S_ISLNK(entry.mode):
            return os.readlink(entry.path, dir_fd=self._fd) == entry.text
        if not stat.S_ISREG(entry.mode):
            return True
        with trees.opened(entry.path, self._fd) as fd, open(fd, "rb", closefd=False) as there:
            if entry.file is None:
                with trees.opened(entry.text, self._fd) as other_fd:
                    return trees.content(fd, size) == trees.content(other_fd, os.fstat(other_fd).st_size)
            while data := entry.file.read(trees.CHUNK_BYTES):
                if there.read(len(data)) != data:
                    return False
            return not there.read(1)

    def finish(self) -> None:
        if self._left:
            raise taken(self._job_id)


class _Making(_Maker):
    """Makes a job."""

    def __init__(self, stage: Staging, job_id: JobId, job: Job, kept: contextlib.ExitStack) -> None:
        super().__init__(kept)
        self._stage = stage
        self._job_id = job_id
        self._job = job
        self._fd = kept.enter_context(stage.making(job_id, anew=True))
        self._places = kept.enter_context(contextlib.closing(Places(self._fd)))
        self._directories: dict[str, Entry] = {}

    def take(self, entry: Entry) -> None:
        if stat.S_ISDIR(entry.mode):
            self._places.open(entry.path, make=True)
            self._directories[entry.path] = entry
            return
        above, _, name = entry.path.rpartition("/")
        fd = self._places.open(above, make=True)
        if stat.S_ISLNK(entry.mode):
            os.symlink(entry.text, name, dir_fd=fd)
            os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=fd, follow_symlinks=False)
        elif stat.S_ISFIFO(entry.mode):
            os.mkfifo(name, stat.S_IMODE(entry.mode), dir_fd=fd)
        elif entry.file is None:
            os.link(entry.text, name, src_dir_fd=self._fd, dst_dir_fd=fd, follow_symlinks=False)
        else:
            self._write(entry, entry.file, fd, name)

    def _write(self, entry: Entry, file: Data, above_fd: int, name: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, flags, 0o600, dir_fd=above_fd)
        try:
            size = 0
            while data := file.read(trees.CHUNK_BYTES):
                view = memoryview(data)
                while view and data.count(0) != len(data):  # what is nothing but zeros stays a hole
                    view = view[os.pwrite(fd, view, size + len(data) - len(view)) :]
                size += len(data)
            os.ftruncate(fd, size)
            keep(fd, entry)
            os.fsync(fd)
        finally:
            os.close(fd)

    def finish(self) -> None:
        for path in sorted(self._directories, key=lambda path: path.count("/"), reverse=True):
            if path:
                above, _, name = path.rpartition("/")
                fd = os.open(name, trees.LIST_FLAGS, dir_fd=self._places.open(above))
                try:
                    os.fsync(fd)
                    keep(fd, self._directories[path])
                finally:
                    os.close(fd)
        if "" in self._directories:
            keep(self._fd, self._directories[""])
        self._stage.publish(self._fd, self._job_id, self._job.statepoint)


def keep(fd: int, entry: Entry) -> None:
    """Give what is open as *fd* the attributes, permissions and time that the archive says; owners are left alone."""
    for name, value in entry.attributes.items():
        try:
            os.setxattr(fd, name, value)
        except OSError as error:
            message = f"the workspace cannot keep the extended attribute {name} ({error.strerror})"
            raise OSError(error.errno, message, entry.path) from error
    os.fchmod(fd, stat.S_IMODE(entry.mode))
    os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
