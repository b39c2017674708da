"""The workspace: a directory of managed jobs, read and changed.

Owned here: how a job directory is told from everything else, what its two files say, and the one way in which sigfs
creates a job; ``changing`` has those of migrating and removing one. No cache and no thread: every call looks at the
disk, and may be made from any thread at any time.

Every step below the workspace directory goes through a descriptor and follows no symbolic link, so that nothing that
lies in a workspace can lead a reader out of it, or hang it. The workspace directory itself may be a link.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Collection, Iterator
from typing import Final

from sigfs.errors import DestinationExists, NoSuchJob, PendingJob
from sigfs.model import changing, files
from sigfs.model.config import WORKSPACE_CONFIG, read_config
from sigfs.model.reading import DOCUMENT_FILE, STATEPOINT_FILE, parse_document, parse_statepoint, read_job
from sigfs.model.statepoint import (
    DEFAULT_FUNCTION,
    ID_FUNCTIONS,
    encode,
    is_job_id,
    statepoint_id,
    validate,
)
from sigfs.model.types import UNKNOWN, Change, JobId, Record, Stamp, StatePoint

__all__ = ["DOCUMENT_FILE", "STATEPOINT_FILE", "Workspace"]

_PROGRESS_EVERY: Final = 1000
"""Jobs between two calls of a progress function."""

_SETTLE_S: Final = 2.0
"""How long `Workspace.create` waits for another creator to finish a state point file that it finds half written.
signac without thread support writes it in place."""


class Workspace:
    """A directory of managed jobs.

    Attributes:
        path: absolute path; the directory need not exist yet.
        id_function: name of the function that gives state point ids here: "md5" unless ``workspace.rc`` says otherwise.
        on_change: called with the ids of jobs that have been made, migrated, completed or removed here. Must not raise.
    """

    def __init__(self, path: str) -> None:
        """Look at ``workspace.rc``, if there is one; nothing else is touched.

        Raises:
            InvalidConfig: ``workspace.rc`` is broken or names an unknown function.
        """
        self.path = os.path.abspath(path)
        self.id_function = _id_function(os.path.join(self.path, WORKSPACE_CONFIG))
        self.on_change: Callable[[Collection[JobId]], None] | None = None

    def __repr__(self) -> str:
        return f"Workspace({self.path!r})"

    def open_dir(self) -> int:
        """A new O_PATH descriptor of the workspace directory; the caller closes it.

        It stays valid when the directory is renamed or a mount covers it. O_PATH: good for ``dir_fd=`` and fstat, not
        for listing or fsync.

        Raises:
            FileNotFoundError: the directory is not there yet.
        """
        return os.open(self.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def stamp(self) -> int:
        """A hash of what the directory is and when a name in it came or went; UNKNOWN if that is too young to tell.

        As long as it is the same there are the same names.
        """
        try:
            return files.stamp_of(os.stat(self.path))
        except OSError:
            return UNKNOWN

    def ids(self) -> Iterator[JobId]:
        """The names of all directories that are named like jobs, pending ones too, in the order of the disk.

        Files and symbolic links with such names are foreign and left out. A missing workspace has none.

        Raises:
            OSError: the workspace is there but cannot be listed.
        Complexity: one listing, read to its end before the first id is given; 0.9 us of processor time an entry.
        """
        try:
            with os.scandir(self.path) as entries:
                return iter(
                    [JobId(name) for entry in entries if is_job_id(name := entry.name) and _is_directory(entry)]
                )
        except FileNotFoundError:
            return iter(())

    def read(self, job_id: JobId, documents: bool = False) -> Record:
        """What the job's directory says now. That its name is the id of its state point is not checked here.

        Args:
            documents: read the document too; otherwise `Record.document` is None. It is None too where the document
                cannot be read or is not a mapping: a broken document leaves the job a job.
        Returns:
            A record with its stamp.
        Raises:
            NoSuchJob: no directory of that name.
            PendingJob: no state point file in it, or none that can be read; the message says why.
            OSError: the process is out of descriptors or memory.
        """
        try:
            fd = self.open_dir()
        except FileNotFoundError:
            raise _no_such_job(job_id, self.path) from None
        try:
            return self._read(fd, job_id, documents)
        finally:
            os.close(fd)

    def scan(
        self,
        documents: bool = False,
        known: Collection[JobId] = frozenset(),
        progress: Callable[[int, int], None] | None = None,
    ) -> Iterator[Change]:
        """A change for every job that can be read; pending jobs are skipped.

        Args:
            documents: as in `read`.
            known: ids that are not read again, and give no change. Looked up once a job: a set.
            progress: called with (jobs looked at, jobs to look at), now and then and at the end.
        Complexity: one listing; per job opening its directory and reading one file, or two with documents.
        """
        for job_id, record in self._records(documents, known, progress):
            if isinstance(record, Record):
                yield Change(job_id, record)

    def pending(self) -> Iterator[tuple[JobId, str]]:
        """Every directory named like a job that is none (yet), and why.

        Complexity: reads every state point.
        """
        for job_id, record in self._records(documents=False):
            if isinstance(record, PendingJob):
                yield job_id, str(record).removeprefix(f"{job_id}: ")

    def leftovers(self, older_than_s: float = 3600.0) -> Iterator[str]:
        """Names in the workspace of what a killed sigfs process has not finished; whoever makes sure may remove them.

        Args:
            older_than_s: younger ones may belong to a process that is still at work.
        """
        now = time.time()
        try:
            with os.scandir(self.path) as entries:
                found = [entry for entry in entries if entry.name.startswith(files.TEMPORARY_PREFIX)]
        except FileNotFoundError:
            return
        for entry in found:
            with contextlib.suppress(FileNotFoundError):
                if now - entry.stat(follow_symlinks=False).st_mtime >= older_than_s:
                    yield entry.name

    def create(
        self,
        statepoint: StatePoint | None,
        *,
        exist_ok: bool = True,
        mode: int = 0o777,
        file_mode: int = 0o666,
        workspace_fd: int | None = None,
    ) -> JobId:
        """Make the job with this state point, if it is not there, and return its id.

        The job appears whole: a temporary directory with the state point file is renamed to the id. A directory of
        that id without a state point file is given one. Nothing that exists is ever overwritten. Any number of
        processes, signac's too, may create the same job at once; all succeed. After an error there is no
        new job or a whole one, and nothing else; after a kill perhaps a temporary directory (see `leftovers`).

        Args:
            exist_ok: if False, exactly one of all who ask succeeds.
            mode, file_mode: permissions of the directory and of the state point file, less the umask.
            workspace_fd: the workspace, open already, for who may not come by its path. Default: it is opened, and
                made if it is not there.

        Raises:
            InvalidStatePoint: see `sigfs.model.statepoint.validate`.
            DestinationExists: there is a directory of that name, and that is not *exist_ok*.
            PendingJob: the directory has a state point file that cannot be read, or that says something else.
            FileExistsError: something that is no directory has the job's name.
            OSError: permissions, no space and the like.
        """
        clean = None if statepoint is None else validate(statepoint)
        data = encode(clean)
        job_id = statepoint_id(clean, self.id_function)
        if workspace_fd is None:
            os.makedirs(self.path, exist_ok=True)
        with self._opened(job_id, workspace_fd) as fd:
            if exist_ok:
                is_new = self._create(fd, job_id, data, mode, file_mode)
            elif not (is_new := changing.publish(fd, self.path, job_id, data, mode, file_mode, replace_empty=False)):
                raise DestinationExists(errno.EEXIST, "there is a job of this state point", job_id)
        if is_new:
            self._changed(job_id)
        return job_id

    def migrate(self, job_id: JobId, statepoint: StatePoint | None, *, workspace_fd: int | None = None) -> JobId:
        """Change the job's state point and with it its id, which is returned.

        The directory is renamed: files that are open, and working directories, stay valid. Of all who migrate one job,
        or migrate to one state point, exactly one succeeds. A kill leaves the job as it was, perhaps with a temporary
        file in it; or with its new name, and then `finish` completes it.

        Args:
            workspace_fd: as in `create`.

        Raises:
            InvalidStatePoint: see `sigfs.model.statepoint.validate`.
            NoSuchJob: there is no such job (any more).
            PendingJob: it has no state point that can be read, or another one than its id says.
            DestinationExists: there is a job (or whatever) of the new id.
            OSError: permissions, no space and the like; all is as before.
        """
        clean = None if statepoint is None else validate(statepoint)
        data = encode(clean)
        new = statepoint_id(clean, self.id_function)
        with self._opened(job_id, workspace_fd) as fd:
            if new != job_id:
                changing.migrate(fd, job_id, new, data, self.id_function)
        if new != job_id:
            self._changed(new, job_id)
        return new

    def finish(self, job_id: JobId) -> bool:
        """Complete a migration to *job_id* that a killed process has left half done; whether there was one.

        Raises:
            OSError: permissions and the like.
        """
        try:
            with self._opened(job_id) as fd:
                is_done = changing.finish(fd, job_id, self.id_function)
        except NoSuchJob:
            return False
        if is_done:
            self._changed(job_id)
        return is_done

    def remove(self, job_id: JobId, *, workspace_fd: int | None = None) -> None:
        """Remove the job's directory, if it holds nothing but metadata: the state point, the document, and temporary
        and backup files. Nobody sees a part of that. A kill leaves the job, or temporary directories (`leftovers`).

        Args:
            workspace_fd: as in `create`.

        Raises:
            NoSuchJob: there is no such directory (any more).
            JobNotEmpty: there is something else in it.
            OSError: permissions and the like.
        """
        with self._opened(job_id, workspace_fd) as fd:
            changing.remove(fd, job_id)
        self._changed(job_id)

    def _changed(self, *ids: JobId) -> None:
        if self.on_change is not None:
            self.on_change(ids)

    @contextlib.contextmanager
    def _opened(self, job_id: JobId, workspace_fd: int | None = None) -> Iterator[int]:
        """Give a descriptor of the workspace, in which there is to be a job."""
        if workspace_fd is not None:
            yield workspace_fd
            return
        try:
            fd = self.open_dir()
        except FileNotFoundError:
            raise _no_such_job(job_id, self.path) from None
        try:
            yield fd
        finally:
            os.close(fd)

    def _records(
        self,
        documents: bool,
        known: Collection[JobId] = frozenset(),
        progress: Callable[[int, int], None] | None = None,
    ) -> Iterator[tuple[JobId, Record | PendingJob]]:
        wanted = [job_id for job_id in self.ids() if job_id not in known]
        if wanted:
            try:
                fd = self.open_dir()
            except FileNotFoundError:
                return
            try:
                for done, job_id in enumerate(wanted):
                    if progress is not None and done % _PROGRESS_EVERY == 0:
                        progress(done, len(wanted))
                    try:
                        yield job_id, self._read(fd, job_id, documents)
                    except PendingJob as error:
                        yield job_id, error
                    except NoSuchJob:
                        continue  # removed since the listing
            finally:
                os.close(fd)
        if progress is not None:
            progress(len(wanted), len(wanted))

    def _read(self, workspace_fd: int, job_id: JobId, documents: bool) -> Record:
        try:
            raw = read_job(workspace_fd, job_id, documents)
        except NoSuchJob:
            raise _no_such_job(job_id, self.path) from None
        statepoint = parse_statepoint(job_id, raw.statepoint)
        if not documents:
            return Record(job_id, statepoint, None, raw.stamp)
        document = parse_document(raw.document)
        stamp = Stamp(raw.stamp.statepoint) if document is None else raw.stamp
        return Record(job_id, statepoint, document, stamp)

    def _create(self, workspace_fd: int, job_id: JobId, data: bytes, mode: int, file_mode: int) -> bool:
        """Make the job, if it is not there; whether anything was done."""
        deadline = time.monotonic() + _SETTLE_S
        while True:
            # Each turn answers what it finds. Only other processes at work on the same job make for a further one.
            try:
                found = self._read(workspace_fd, job_id, documents=False)
            except NoSuchJob:
                if changing.publish(workspace_fd, self.path, job_id, data, mode, file_mode):
                    return True
            except PendingJob:
                if _adopt(workspace_fd, job_id, data, file_mode):
                    return True
                if time.monotonic() > deadline or not _just_written(workspace_fd, job_id):
                    raise
                time.sleep(0.005)
            else:
                other = statepoint_id(found.statepoint, self.id_function)
                if other == job_id or changing.finish(workspace_fd, job_id, self.id_function):
                    return other != job_id
                with contextlib.suppress(NoSuchJob):  # it was migrated just when it was read
                    if changing.id_of(workspace_fd, job_id, self.id_function) == other:
                        raise PendingJob(f"{job_id}: {STATEPOINT_FILE} in it is that of {other}")


def _adopt(workspace_fd: int, job_id: JobId, data: bytes, mode: int) -> bool:
    """Give a directory without state point file one; False if it has one by now, or if it is gone."""
    try:
        fd = os.open(job_id, files.DIRECTORY_FLAGS, dir_fd=workspace_fd)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        files.write_exclusive(fd, STATEPOINT_FILE, data, mode)
    except (FileExistsError, FileNotFoundError):
        return False
    finally:
        os.close(fd)
    files.fsync_directory(workspace_fd)
    return True


def _just_written(workspace_fd: int, job_id: JobId) -> bool:
    """Whether somebody may still be writing the state point file."""
    name = os.path.join(job_id, STATEPOINT_FILE)
    try:
        status = os.stat(name, dir_fd=workspace_fd, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return True  # just removed or renamed: look again
    return abs(time.time() - status.st_mtime) < _SETTLE_S


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _no_such_job(job_id: str, workspace: str) -> NoSuchJob:
    return NoSuchJob(f"no job {job_id} in {workspace}")


def _id_function(path: str) -> str:
    if not os.path.isfile(path):
        return DEFAULT_FUNCTION
    config = read_config(path)
    name = config.text("id_function") or DEFAULT_FUNCTION
    if name not in ID_FUNCTIONS:
        raise config.error("id_function", f"unknown id_function {name!r}: use one of {', '.join(ID_FUNCTIONS)}")
    return name
