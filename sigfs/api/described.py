"""The state point of a job, as Python programs read and change it: a managed job migrates with each change."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Mapping
from typing import Any

from sigfs.api.mapping import LiveMapping, plain_copy
from sigfs.api.place import NONE, PlacedJob
from sigfs.errors import JobChanged, PendingJob, SigfsError
from sigfs.model import files, locking
from sigfs.model.document import JsonFile
from sigfs.model.reading import STATEPOINT_FILE
from sigfs.model.statepoint import encode, statepoint_id, validate
from sigfs.model.types import JobId, Json, StatePoint


class DescribedJob(PlacedJob):
    """A handle as far as it says what the job is: see `Job`."""

    __slots__ = ()

    @property
    def statepoint(self) -> Any:
        """The state point: a mapping as which it can be read and changed, nested keys as attributes too; or None.

        Assign a mapping, or None, to change all of it. If the job is managed, each change is a migration: the job gets
        the new id, its directory that name, and this handle follows. At any moment, whoever is killed, it has the old
        state point or the new one. Of any other job just the file changes.

        Raises:
            NoSuchJob: there is no job (any more).
            PendingJob: it has no state point that can be read.
            DestinationExists: there is a job of this state point.
            InvalidStatePoint: that is no state point.
        """
        statepoint = self._read_statepoint()
        return None if statepoint is None else LiveMapping(_StatePointBackend(self))

    @statepoint.setter
    def statepoint(self, statepoint: Mapping[str, object] | None) -> None:
        self._write_statepoint(None if statepoint is None else validate(statepoint))

    sp = statepoint

    @property
    def statepoint_id(self) -> JobId:
        """The id that a job of this state point has in the workspace; by md5 if there is none.

        Raises:
            NoSuchJob, PendingJob: as ``statepoint``.
        """
        workspace, statepoint = self.workspace, self._read_statepoint()
        return statepoint_id(statepoint) if workspace is None else workspace.statepoint_id(statepoint)

    def update_statepoint(self, update: Mapping[str, object], overwrite: bool = False) -> None:
        """Put keys and values into the state point, in one change.

        Raises:
            KeyError: a key has another value already, and that is not to be overwritten.
            NoSuchJob, PendingJob, DestinationExists, InvalidStatePoint: as ``statepoint``.
        """
        statepoint = self._read_statepoint() or {}
        new = validate({**statepoint, **update})
        if not overwrite:
            for key in update:
                if key in statepoint and statepoint_id(statepoint[key]) != statepoint_id(new[key]):
                    raise KeyError(f"{key} has the value {statepoint[key]!r} already: use overwrite=True to change it")
        self._write_statepoint(new)

    def replace_statepoint(self, before: StatePoint | None, after: StatePoint | None) -> None:
        """Assign the state point *after*, if the job has the state point *before* at that moment.

        Raises:
            JobChanged: it has another one, of somebody else's; nothing is changed.
            NoSuchJob, PendingJob, DestinationExists, InvalidStatePoint: as ``statepoint``. A managed job with another
                state point has another id, so that there is no such job.
        """
        self._write_statepoint(None if after is None else validate(after), before)

    @property
    def cached_statepoint(self) -> StatePoint | None:
        """The state point as plain data: quicker where many jobs are read. As signac 2 names it.

        Of a managed job that a question gave, it is what the index has, and the disk is not looked at: it cannot be
        another one, but the job may be gone.

        Raises:
            NoSuchJob, PendingJob: as ``statepoint``, if it has to be read.
        """
        place = self._place
        key, recollection = place.key, place.recollection
        if key is not None and recollection is not None and place.seen is None:
            found = recollection.take(key)
            if found is not None:
                return found[1]
        statepoint = self._read_statepoint()
        return None if statepoint is None else {key: plain_copy(value) for key, value in statepoint.items()}

    def _read_statepoint(self) -> StatePoint | None:
        """The state point, not to be changed; a migration that has been left half done is completed.

        What was read of a managed job and is that of its id can be no other later (I1): as long as the file is the same
        it is not read again.

        Raises:
            NoSuchJob, PendingJob: see ``statepoint``.
        """
        place = self._place
        path, seen = place.path, place.seen
        if seen is None and place.key is not None and place.recollection is not None:
            recalled = place.recollection.take(place.key)
            if recalled is not None:
                seen = place.seen = (path, *recalled)
        if seen is not None and seen[0] == path and files.is_as_before(f"{path}/{STATEPOINT_FILE}", seen[1]):
            return seen[2]
        if not self.is_managed:
            found = self._read_file()
            return None if found is NONE else found  # type: ignore[return-value]  # what _read_file gives
        workspace, job_id = self._context()[0], JobId(os.path.basename(path))
        assert workspace is not None
        with contextlib.suppress(PendingJob):
            record = workspace.read(job_id)
            if statepoint_id(record.statepoint, workspace.id_function) == job_id:
                if record.stamp is not None:
                    place.seen = (path, record.stamp.statepoint, record.statepoint)
                return record.statepoint
        workspace.finish(job_id)
        return workspace.read(job_id).statepoint  # of what is there now: it may have been migrated just then

    def _write_statepoint(self, statepoint: StatePoint | None, before: object = NONE) -> None:
        place = self._place
        with place.lock:
            try:
                if self.is_managed:
                    workspace, job_id = self.workspace, JobId(os.path.basename(place.path))
                    assert workspace is not None
                    new = workspace.migrate(job_id, statepoint)
                    if new != job_id:
                        place.go(os.path.join(os.path.dirname(place.path), new), place.key and new)
                else:
                    self._write_file(statepoint, before)
            except OSError as error:
                if isinstance(error, SigfsError):
                    raise
                message = f"{error.strerror}; the state point is as it was"
                raise OSError(error.errno, message, self.fn(STATEPOINT_FILE)) from error

    def _write_file(self, statepoint: StatePoint | None, before: object = NONE) -> None:
        with self._opened() as fd, contextlib.ExitStack() as stack:
            mode = 0o666
            with contextlib.suppress(FileNotFoundError):
                held = stack.enter_context(locking.locked(fd, STATEPOINT_FILE))
                mode = stat.S_IMODE(os.fstat(held).st_mode)
            if before is not NONE and not _is_same(self._read_file(), before):
                raise JobChanged(f"{self._place.path} has got another state point meanwhile; it is left as it is")
            files.write_atomic(fd, STATEPOINT_FILE, encode(statepoint), mode)
        self._note()


class _StatePointBackend:
    """A state point that is changed as a live mapping: each edit is one change of the job's."""

    __slots__ = ("_job",)

    def __init__(self, job: DescribedJob) -> None:
        self._job = job

    def load(self) -> Mapping[str, Json]:
        return self._job._read_statepoint() or {}  # noqa: SLF001 - of the same module

    @contextlib.contextmanager
    def edit(self) -> Iterator[dict[str, Json]]:
        job = self._job
        if job.is_managed:
            with job._place.lock:  # noqa: SLF001
                data = validate(self.load())
                yield data
                job._write_statepoint(validate(data))  # noqa: SLF001
        else:
            with JsonFile(job._open, STATEPOINT_FILE, on_change=job._note).edit() as data:  # noqa: SLF001
                yield data
                validate(data)


def _is_same(one: object, other: object) -> bool:
    """Whether two state points are the same, as JSON spells them; `NONE` is none."""
    return NONE not in (one, other) and encode(one) == encode(other)  # type: ignore[arg-type]  # state points
