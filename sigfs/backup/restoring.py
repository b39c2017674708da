"""A snapshot brought back, into a project that is there or as a new one.

Owned here: what of an archive may go where, and what may make way for it. All is written under temporary names first
and brought to the disk at once; then it gets its names. What is there stays, unless it is proved wrong: a state point
that is not that of its job, a document that is no mapping. That gets another name.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from sigfs.api.project import Project
from sigfs.backup.contents import HEAD, Head, read_head
from sigfs.backup.placing import is_same, opened, synchronise, temporary, there, write
from sigfs.errors import BackupError, NotImportable, PendingJob
from sigfs.export.packed import Data, Entry, entries
from sigfs.export.places import Places
from sigfs.export.unpacking import Packed, keep
from sigfs.model import changing, files, trees, views
from sigfs.model.config import SIGNAC_1_CONFIGS, SIGNAC_2_CONFIG, WORKSPACE_CONFIG, find_config
from sigfs.model.configuring import editing
from sigfs.model.project import PROJECT_DOCUMENT_FILE, ProjectFiles
from sigfs.model.reading import DOCUMENT_FILE, STATEPOINT_FILE, parse_document, parse_statepoint
from sigfs.model.statepoint import is_job_id, statepoint_id
from sigfs.model.types import JobId
from sigfs.model.workspace import Workspace


@dataclass(slots=True)
class Restored:
    """What has been done, or with ``dry_run`` would be. Paths are those of the archive.

    Attributes:
        project: the directory.
        jobs: those that were not there.
        files: put into jobs that were there, and the project's own.
        unchanged: how many files are there as they are in the archive.
        replaced: path -> what is now called so that had its place.
        in_the_way: what differs, and stays.
        left_out: path -> why of what is in the archive and goes nowhere.
        pending: jobs whose state point in the archive is missing, or that of another; they are as they were.
    """

    project: str
    jobs: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    unchanged: int = 0
    replaced: dict[str, str] = field(default_factory=dict)
    in_the_way: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    pending: list[str] = field(default_factory=list)


class _Late(NamedTuple):
    """What gets its name when all is on the disk.

    Attributes:
        job: that it is in; "" for the project.
        above: path of the directory in the job.
        replaces: what has the name makes way.
    """

    job: str
    above: str
    temporary: str
    name: str
    replaces: bool = False


def restore(archive: str, target: str, *, aside: bool = False, links: bool = False, dry_run: bool = False) -> Restored:
    """Bring back what a snapshot has that the project at *target* has not; make the project if there is none.

    Args:
        aside: what differs gets another name, and what the archive has its place.
        links: symbolic links may lead out of their jobs.
    Raises:
        BackupError: the archive is no snapshot, or of something newer.
        NotImportable: it is damaged, or hostile; nothing has been done.
        OSError: no space and the like; new jobs are there whole or not at all, and the next run goes on.
    """
    head = read_head(archive)
    packed = Packed(archive)
    root = os.path.abspath(target)
    report = Restored(root)
    jobs = sorted({job for path in packed.kinds if (job := head.job_of(path)) is not None})
    if not links:
        try:
            packed.require_harmless({job: JobId(os.path.basename(job)) for job in jobs})
        except NotImportable as error:
            raise BackupError(f"{error}; or restore it with --links") from None
    is_new = find_config(root) is None
    workspace = os.path.join(root, head.workspace) if is_new else ProjectFiles(root).workspace_path
    function = head.id_function if is_new else Workspace(workspace).id_function
    if not dry_run:
        os.makedirs(workspace, exist_ok=True)
    with contextlib.ExitStack() as stack:
        restoring = _Restoring(root, workspace, head, function, report, aside, dry_run, stack)
        with entries(archive) as found:
            for number, entry in enumerate(found):
                restoring.take(entry)
                job = head.job_of(entry.path)
                if job is not None and packed.last[job] == number:
                    restoring.end(job)
        if not dry_run:
            restoring.publish()
    if is_new and not dry_run and find_config(root) is not None:
        _use_workspace(root, workspace, head)
    if not (is_new or dry_run):
        Project(root).note_all()
    return report


def _use_workspace(root: str, workspace: str, head: Head) -> None:
    """Have the configuration of a new project name the workspace that its jobs are in now."""
    project = ProjectFiles(root)
    if os.path.realpath(project.workspace_path) != os.path.realpath(workspace):
        with editing(project.config_path) as config:
            config.pop("workspace_dir", None)
            config["workspace"] = head.workspace


class _Job:
    """A job that entries go into: its directory, or one that is to become it."""

    def __init__(self, fd: int, *, is_new: bool) -> None:
        self.fd = fd
        self.is_new = is_new
        self.has_statepoint = False
        self.places = Places(fd)
        self.directories: dict[str, Entry] = {}

    def finish(self) -> None:
        """Give the directories of a new job what the archive says of them."""
        for path in sorted(self.directories, key=lambda path: path.count("/") if path else -1, reverse=True):
            above, _, name = path.rpartition("/")
            fd = os.open(name or ".", trees.LIST_FLAGS, dir_fd=self.places.open(above))
            try:
                keep(fd, self.directories[path])
            finally:
                os.close(fd)

    def close(self) -> None:
        """Close it."""
        self.places.close()
        if self.fd >= 0:
            os.close(self.fd)


class _Restoring:
    """One restoring."""

    def __init__(
        self,
        root: str,
        workspace: str,
        head: Head,
        function: str,
        report: Restored,
        aside: bool,
        dry_run: bool,
        stack: contextlib.ExitStack,
    ) -> None:
        self._head = head
        self._function = function
        self._report = report
        self._aside = aside
        self._dry_run = dry_run
        self._jobs: dict[str, _Job] = {}
        self._new: list[str] = []
        self._late: list[_Late] = []
        self._refused: set[str] = set()
        self._root_fd = opened(root, stack)
        self._workspace_fd = opened(workspace, stack)
        self._places = Places(self._root_fd)
        stack.callback(self._clean)

    def take(self, entry: Entry) -> None:
        """Take the next entry of the archive."""
        path = entry.path
        job = self._head.job_of(path)
        if job is None:
            self._take_own(entry)
        elif job not in self._refused:
            try:
                self._take_in_job(entry, job, path[len(job) + 1 :])
            except (NotADirectoryError, FileExistsError):
                self._report.in_the_way.append(path)

    def end(self, job: str) -> None:
        """There is no more of a job."""
        made = self._jobs.pop(job, None)
        if made is None:
            return
        if made.is_new and not self._dry_run:
            made.finish()
        if made.is_new and not made.has_statepoint:
            self._report.pending.append(job)
        made.close()

    def publish(self) -> None:
        """Bring all to the disk, and give it its names."""
        synchronise(self._root_fd, self._workspace_fd)
        while self._new:
            above_fd, name = self._above(self._new[-1])
            try:
                changing.rename_new(above_fd, temporary(name), name)
            except FileExistsError:
                self._report.in_the_way.append(self._new[-1])
                self._report.jobs.remove(self._new[-1])
                trees.remove_at(above_fd, temporary(name))
            self._new.pop()
        while self._late:
            self._publish_file(self._late[-1])
            self._late.pop()
        synchronise(self._root_fd, self._workspace_fd)

    def _publish_file(self, late: _Late) -> None:
        path = "/".join(filter(None, (late.job, late.above, late.name)))
        with self._directory(late) as fd:
            if late.replaces and files.is_there(fd, late.name):
                number = 1
                while files.is_there(fd, old := f"{late.name}.{number}~"):
                    number += 1
                changing.rename_new(fd, late.name, old)
                self._report.replaced[path] = old
            try:
                changing.rename_new(fd, late.temporary, late.name)
                self._report.files.append(path)
            except FileExistsError:
                os.unlink(late.temporary, dir_fd=fd)
                self._report.in_the_way.append(path)

    @contextlib.contextmanager
    def _directory(self, late: _Late) -> Iterator[int]:
        if not late.job:
            yield self._own_directory(late.above)
            return
        above_fd, name = self._above(late.job)
        fd = os.open(name, files.DIRECTORY_FLAGS, dir_fd=above_fd)
        places = Places(fd)
        try:
            yield places.open(late.above)
        finally:
            places.close()
            os.close(fd)

    def _clean(self) -> None:
        """Remove what has not got its name."""
        for job in self._jobs.values():
            job.close()
        with contextlib.suppress(OSError):
            for path in self._new:
                above_fd, name = self._above(path)
                trees.remove_at(above_fd, temporary(name))
        for late in self._late:
            with contextlib.suppress(OSError), self._directory(late) as fd:
                os.unlink(late.temporary, dir_fd=fd)
        self._places.close()

    def _above(self, job: str) -> tuple[int, str]:
        """Descriptor of the directory that a job is in, and its name there."""
        above, _, name = job.rpartition("/")
        if above == self._head.workspace and is_job_id(name):
            return there(self._workspace_fd), name
        return self._own_directory(above), name

    def _own_directory(self, above: str) -> int:
        if above == self._head.workspace:
            return there(self._workspace_fd)
        there(self._root_fd)
        return self._places.open(above, make=not self._dry_run)

    # The project's own files

    def _take_own(self, entry: Entry) -> None:
        path = entry.path
        if stat.S_ISDIR(entry.mode) or path == HEAD:
            return
        if path not in self._own_files() or entry.file is None or entry.size > files.MAX_FILE_BYTES:
            self._report.left_out[path] = "is no part of a data space"
            return
        above, _, name = path.rpartition("/")
        data = entry.file.read(entry.size)
        try:
            fd = self._own_directory(above)
            self._put(_Late("", above, temporary(name), name), fd, data, entry, lambda _: False)
        except FileNotFoundError:  # in a dry run
            self._report.files.append(path)
        except NotADirectoryError:
            self._report.in_the_way.append(path)

    def _own_files(self) -> set[str]:
        own = {SIGNAC_2_CONFIG, *SIGNAC_1_CONFIGS, PROJECT_DOCUMENT_FILE, f"{self._head.workspace}/{WORKSPACE_CONFIG}"}
        return own | {os.path.relpath(path, "/") for path in views.view_files("/")}

    # Jobs

    def _take_in_job(self, entry: Entry, path: str, below: str) -> None:
        job = self._jobs.get(path) or self._begin(path)
        if job is None:
            return
        above, _, name = below.rpartition("/")
        kind = stat.S_IFMT(entry.mode)
        if not below or kind == stat.S_IFDIR:
            if below and not self._dry_run:
                job.places.open(below, make=True)
            if job.is_new:
                job.directories[below] = entry
            return
        if self._dry_run and job.is_new:
            job.has_statepoint = job.has_statepoint or below == STATEPOINT_FILE
            return
        try:
            fd = job.places.open(above, make=not self._dry_run)
        except FileNotFoundError:  # in a dry run
            self._report.files.append(entry.path)
            return
        late = _Late(path, above, name if job.is_new else temporary(name), name)
        if below in (STATEPOINT_FILE, DOCUMENT_FILE) and entry.file is not None:
            data = entry.file.read(files.MAX_FILE_BYTES)
            is_right = self._says(path, below, data)
            job.has_statepoint = job.has_statepoint or (below == STATEPOINT_FILE and is_right)
            if job.is_new:
                write(fd, name, entry, [data])
            else:
                self._put(late, fd, data, entry, lambda old: is_right and not self._says(path, below, old))
        elif job.is_new or not files.is_there(fd, name):
            if self._make(job, late, fd, entry) and not job.is_new:
                self._late_or_dry(late, entry)
        elif is_same(job.fd, path, fd, name, entry):
            self._report.unchanged += 1
        else:
            self._report.in_the_way.append(entry.path)

    def _begin(self, path: str) -> _Job | None:
        try:
            above_fd, name = self._above(path)
        except FileNotFoundError:  # in a dry run
            above_fd, name = -1, ""
        except NotADirectoryError:
            self._report.left_out[path] = "the way there leads through something that is no directory"
            self._refused.add(path)
            return None
        try:
            fd = -1 if above_fd < 0 else os.open(name, trees.LIST_FLAGS, dir_fd=above_fd)
            is_new = above_fd < 0
        except FileNotFoundError:
            fd, is_new = -1, True
        except OSError:
            self._report.in_the_way.append(path)
            self._refused.add(path)
            return None
        if is_new:
            self._report.jobs.append(path)
            if not self._dry_run:
                trees.remove_at(above_fd, temporary(name))
                os.mkdir(temporary(name), dir_fd=above_fd)
                self._new.append(path)
                fd = os.open(temporary(name), trees.LIST_FLAGS, dir_fd=above_fd)
        job = self._jobs[path] = _Job(fd, is_new=is_new)
        return job

    def _says(self, job: str, name: str, data: bytes) -> bool:
        """Whether a state point file is one of that job, or a document one at all."""
        if name == DOCUMENT_FILE:
            return parse_document(data) is not None
        job_id = JobId(os.path.basename(job))
        try:
            value = parse_statepoint(job_id, data)
        except PendingJob:
            return False
        return not job.startswith(f"{self._head.workspace}/") or statepoint_id(value, self._function) == job_id

    def _put(self, late: _Late, fd: int, data: bytes, entry: Entry, is_wrong: Callable[[bytes], bool]) -> None:
        """Put a small file in its place, if what is there, if anything, is the same or wrong."""
        try:
            old = files.read_at(fd, late.name)
        except FileNotFoundError:
            old = None
        except OSError:
            self._report.in_the_way.append(entry.path)
            return
        if old == data:
            self._report.unchanged += 1
        elif old is None or self._aside or is_wrong(old):
            if not self._dry_run:
                trees.remove_at(fd, late.temporary)
                write(fd, late.temporary, entry, [data])
            self._late_or_dry(late._replace(replaces=old is not None), entry)
        else:
            self._report.in_the_way.append(entry.path)

    def _late_or_dry(self, late: _Late, entry: Entry) -> None:
        if not self._dry_run:
            self._late.append(late)
            return
        self._report.files.append(entry.path)
        if late.replaces:
            self._report.replaced[entry.path] = f"{late.name}.1~"

    def _make(self, job: _Job, late: _Late, fd: int, entry: Entry) -> bool:
        """Make what is not there; whether that can be done."""
        name = late.temporary
        if self._dry_run:
            return True
        if not job.is_new:  # what a run that was killed has left
            trees.remove_at(fd, name)
        if stat.S_ISLNK(entry.mode):
            os.symlink(entry.text, name, dir_fd=fd)
            os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=fd, follow_symlinks=False)
        elif stat.S_ISFIFO(entry.mode):
            os.mkfifo(name, stat.S_IMODE(entry.mode), dir_fd=fd)
        elif entry.file is not None:
            write(fd, name, entry, _chunks(entry.file))
        else:
            return self._link(job, late, entry)
        return True

    def _link(self, job: _Job, late: _Late, entry: Entry) -> bool:
        inside = entry.text.removeprefix(f"{late.job}/")
        above, _, name = inside.rpartition("/")
        try:
            if inside == entry.text:
                raise FileNotFoundError
            with contextlib.closing(Places(job.fd)) as places:
                source_fd, target_fd = places.open(above), job.places.open(late.above)
                if not job.is_new and not files.is_there(source_fd, name):
                    name = temporary(name)  # of this run, too
                os.link(name, late.temporary, src_dir_fd=source_fd, dst_dir_fd=target_fd, follow_symlinks=False)
        except OSError:
            self._report.left_out[entry.path] = f"is a further name of {entry.text}, which is not there"
            return False
        return True


def _chunks(file: Data) -> Iterator[bytes]:
    while data := file.read(trees.CHUNK_BYTES):
        yield data
