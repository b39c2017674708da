"""The jobs of a project, as its sidecar describes them.

Owned here: what a record says of a job's directory, and that a job that is not whole takes away nothing of what is
known of it. Where the state point cannot be read, or is that of another id, nothing is said; where the document cannot
be read, or its file is missing, nothing is said of the document.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from xxhash import xxh3_64_hexdigest

from sigfs.errors import InvalidStatePoint, NoSuchJob, PendingJob
from sigfs.model import files
from sigfs.model.reading import DOCUMENT_FILE, STATEPOINT_FILE, parse_document, parse_statepoint, pending
from sigfs.model.statepoint import statepoint_id
from sigfs.model.types import JobId, Json
from sigfs.sidecar import lines
from sigfs.sidecar.file import SidecarFile
from sigfs.sidecar.lines import SidecarRecord, encode

if TYPE_CHECKING:
    from sigfs.model.places import Places
    from sigfs.model.workspace import Workspace

LARGEST_DOCUMENT_BYTES: Final = 2**24
"""Of a larger document only the fingerprint is kept."""


class Sidecar:
    """A project's sidecar and the jobs that it is about. Any thread may call any method.

    A job is named by its key: the id of a managed one, else as in `sigfs.model.places.Places`.

    Attributes:
        file: where it is kept.
        root: absolute path of the project's directory, where the paths in it begin.
        workspace, places: where the jobs are.
    """

    def __init__(self, root: str, workspace: Workspace, places: Places) -> None:
        """Look at nothing yet."""
        self.file = SidecarFile(root)
        self.root = root
        self.workspace = workspace
        self.places = places
        self._base = os.path.relpath(workspace.path, root)

    def header(self) -> bytes:
        """The first line that the file ought to have."""
        return lines.header(self.workspace.id_function, self._base)

    def begin(self) -> bool:
        """Make the file, if there is none; see `SidecarFile.begin`."""
        return self.file.begin(self.header())

    def path_of(self, key: JobId) -> str:
        """Absolute path of a job's directory."""
        location = self.places.location(key)
        return os.path.join(self.workspace.path, key) if location is None else location.path

    def said_path(self, key: JobId) -> str:
        """The path as records have it: relative to the project's directory."""
        location = self.places.location(key)
        if location is None:
            return key if self._base == "." else f"{self._base}/{key}"
        return os.path.relpath(location.path, self.root)

    def describe(self, key: JobId, *, forget: bool = False) -> SidecarRecord:
        """What the job's directory says now.

        Args:
            forget: a missing document is said to be empty, whatever was known of it.
        Raises:
            NoSuchJob: there is no such directory.
            PendingJob: it has no state point that can be read, or that of another id.
            OSError: the process is out of descriptors or memory.
        Complexity: opens the directory, reads two files; some 60 µs.
        """
        path = self.path_of(key)
        try:
            fd = os.open(path, files.DIRECTORY_FLAGS)
        except (FileNotFoundError, NotADirectoryError):
            raise NoSuchJob(f"no job {path}") from None
        except OSError as error:
            raise pending(JobId(path), error) from error
        try:
            return self._describe(fd, key, path, forget)
        finally:
            os.close(fd)

    def _describe(self, fd: int, key: JobId, path: str, forget: bool) -> SidecarRecord:
        job_id = self.places.id_of(key)
        try:
            content, status = _read(fd, STATEPOINT_FILE)
        except FileNotFoundError:
            if not os.path.lexists(path):
                raise NoSuchJob(f"no job {path}") from None
            raise PendingJob(f"{job_id}: has no {STATEPOINT_FILE}") from None
        except OSError as error:
            raise pending(JobId(job_id), error) from error
        statepoint = parse_statepoint(JobId(job_id), content)
        if not self.places.owns(key):
            with contextlib.suppress(InvalidStatePoint):
                right = statepoint_id(statepoint, self.workspace.id_function)
                if right != key:
                    raise PendingJob(f"{job_id}: {STATEPOINT_FILE} in it is that of {right}")
        said: dict[str, Json] = {STATEPOINT_FILE: [status.st_size, status.st_mtime_ns, xxh3_64_hexdigest(content)]}
        record: SidecarRecord = {"id": job_id, "path": self.said_path(key), "sp": statepoint}
        document: Json = None
        try:
            content, status = _read(fd, DOCUMENT_FILE)
        except FileNotFoundError:
            document = {} if forget else None
        except OSError as error:
            pending(JobId(job_id), error)  # raises what is the process's trouble
        else:
            said[DOCUMENT_FILE] = [status.st_size, settled_mtime_ns(status), xxh3_64_hexdigest(content)]
            if len(content) <= LARGEST_DOCUMENT_BYTES:
                document = parse_document(content)
        if document is not None:
            record["doc"] = document
        record["files"] = said
        return record

    def lines_of(self, keys: Iterable[JobId], *, believe_gone: bool = True) -> Iterator[bytes]:
        """A line for each job that is whole; and for each that is gone, if that is to be believed."""
        for key in keys:
            try:
                yield encode(self.describe(key))
            except NoSuchJob:
                if believe_gone:
                    yield gone(self.places.id_of(key))
            except PendingJob:
                continue


def gone(job_id: str) -> bytes:
    """The line that says that there is no such job."""
    return encode({"id": job_id, "gone": True})


def settled_mtime_ns(status: os.stat_result) -> int | None:
    """The modification time; None if the file may change once more without its time telling."""
    return None if abs(time.time() - status.st_mtime) < files.RACY_S else status.st_mtime_ns


def _read(dir_fd: int, name: str) -> tuple[bytes, os.stat_result]:
    fd = files.open_regular(dir_fd, name)
    try:
        status = os.fstat(fd)
        return files.read_whole(fd, status.st_size, name), status
    finally:
        os.close(fd)
