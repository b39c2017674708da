"""Is a project sound, and what can be done if it is not.

Owned here: what is wrong with a job directory, by which proof it is mended, and that nothing is overwritten. A state
point is only ever restored where its id is the name of the directory: nothing that is kept of it need be believed. A
document is restored only where its file is missing or says none.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import json
import logging
import os
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

from sigfs.api.leftovers import finish, leftovers
from sigfs.api.legacy import STATEPOINTS_FILE
from sigfs.errors import DestinationExists, InvalidStatePoint, JobsCorrupted, NoSuchJob, PendingJob, SidecarError
from sigfs.index.store import Store
from sigfs.model import changing, files
from sigfs.model.reading import DOCUMENT_FILE, STATEPOINT_FILE, parse_document
from sigfs.model.statepoint import encode, load_json, statepoint_id
from sigfs.model.types import ABSENT, JobId, Json, StatePoint
from sigfs.sidecar.updating import with_documents

if TYPE_CHECKING:
    from sigfs.api.project import Project
    from sigfs.api.workspace import Workspace

log = logging.getLogger(__name__)

DAMAGED: Final = ".damaged"
"""What is appended to the name of a file that says nothing, or what another job's does, when there is a good one."""

_SIGNAC_CACHES: Final = (os.path.join(".signac", "statepoint_cache.json.gz"), ".signac_sp_cache.json.gz")
_SIDECAR: Final = "the sidecar"
_SHOWN: Final = 5

_ASIDE: Final = 1000
"""How many damaged files of one name are kept in a job."""

_IS_NO_FILE: Final = frozenset({errno.ELOOP, errno.EISDIR, errno.EINVAL, errno.ENXIO})

_SETTLE_S: Final = 0.05
"""After so long those are looked at again with which something was wrong: somebody may just have been at work."""

What = Literal["missing", "unreadable", "misnamed", "document"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong with a job.

    Attributes:
        id: the name of its directory; of a job outside of the workspace its id.
        what: "missing": no state point file; "unreadable": one that says none, or a directory outside of the
            workspace that cannot be looked at; "misnamed": that of another id;
            "document": the document cannot be read, or is missing, and the sidecar has one.
        message: why, and after a repair, why it could not be mended.
    """

    id: str
    what: What
    message: str

    def to_json(self) -> dict[str, str]:
        """The fields by their names."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Done:
    """What has been done to a job.

    Attributes:
        id: the name of its directory before.
        to: the name of its directory now, if that is another one.
        what: "completed": a migration or move that somebody was killed at; "renamed": the directory, to the id of its
            state point; "restored": its state point or document.
        message: more about it.
    """

    id: str
    what: Literal["completed", "renamed", "restored"]
    message: str
    to: str = ""

    def to_json(self) -> dict[str, str]:
        """The fields by their names."""
        return asdict(self)


def findings(project: Project) -> list[Finding]:
    """What is wrong with the jobs of a project, by their ids.

    Complexity: reads every state point and document.
    """
    documents = _known_documents(project)
    found = [finding for key in _keys(project) if (finding := _look(project, key, documents)) is not None]
    places = project.directories.places
    closed = [
        Finding(places.id_at(path), "unreadable", f"cannot be looked at: {why}")
        for path, why in places.troubles.items()
    ]
    if not found:
        return sorted(closed, key=lambda finding: finding.id)
    time.sleep(_SETTLE_S)
    again = (_look(project, project.index.key_of(finding.id) or JobId(finding.id), documents) for finding in found)
    return sorted([*closed, *(finding for finding in again if finding is not None)], key=lambda finding: finding.id)


def check(project: Project) -> None:
    """See `Project.check`."""
    found = findings(project)
    if found:
        are = "is" if len(found) == 1 else "are"
        raise _corrupted(project, found, f"{are} not sound; `sigfs repair` mends what can be")


def repair(project: Project, dry_run: bool) -> list[Done]:
    """See `Project.repair`."""
    done = _finished_moves(project, dry_run)
    left: list[Finding] = []
    mender = _Mender(project, dry_run)
    documents = _known_documents(project)
    todo = findings(project)
    while todo:
        finding = todo.pop(0)
        try:
            result = mender.mend(finding)
        except (OSError, LookupError) as error:
            result = replace(finding, message=f"{finding.message}; it cannot be mended: {error}")
        if isinstance(result, Done):
            done.append(result)
            if not dry_run:
                more = _look(project, JobId(result.to or result.id), documents) if finding.what != "document" else None
                if more is not None and more.what == "document":
                    todo.insert(0, more)
                project.note(*(os.path.join(project.workspace.path, name) for name in {result.id, result.to} - {""}))
            log.info("%s: %s %s", result.id, result.what, result.message)
        else:
            left.append(result)
    if left:
        raise _corrupted(project, left, "could not be mended", done)
    return done


def _corrupted(project: Project, found: list[Finding], what: str, done: list[Done] | None = None) -> JobsCorrupted:
    shown = "; ".join(f"{each.id}: {each.message}" for each in found[:_SHOWN])
    more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    count = f"{len(found)} job{'' if len(found) == 1 else 's'}"
    return JobsCorrupted(f"{count} of {project.root} {what}: {shown}{more}", found, done or [])


def _keys(project: Project) -> Iterator[JobId]:
    yield from project.workspace.ids()
    places = project.directories.places
    if places:
        yield from places.listing().jobs


def _finished_moves(project: Project, dry_run: bool) -> list[Done]:
    """Complete moves that somebody was killed at after the copy was whole."""
    done: list[Done] = []
    for each in leftovers(project):
        try:
            if each.is_move and (dry_run or finish(each)):
                done.append(Done(os.path.basename(each.path), "completed", "the move to here"))
        except OSError as error:
            log.warning("%s: the move to there cannot be completed: %s", each.path, error)
    return done


def _known_documents(project: Project) -> set[str]:
    """Ids of jobs of which the sidecar has a document."""
    sidecar = project.sidecar
    try:
        return with_documents(sidecar)
    except FileNotFoundError:
        return set()
    except (OSError, SidecarError) as error:
        log.warning("the sidecar is of no use: %s", error)
        return set()


def _look(project: Project, key: JobId, documents: set[str]) -> Finding | None:
    directories = project.directories
    is_managed = not directories.places.owns(key)
    job_id = directories.places.id_of(key)
    try:
        record = directories.read(key, documents=True)
    except NoSuchJob:
        return None
    except PendingJob as error:
        reason = str(error).removeprefix(f"{os.path.basename(directories.path_of(key))}: ")
        there = os.path.lexists(os.path.join(directories.path_of(key), STATEPOINT_FILE))
        return Finding(job_id, "unreadable" if there else "missing", reason)
    if is_managed and record.statepoint is not None:
        try:
            right = statepoint_id(record.statepoint, project.workspace.id_function)
        except InvalidStatePoint:
            right = key
        if right != key:
            return Finding(job_id, "misnamed", f"{STATEPOINT_FILE} in it is that of {right}")
    if record.document is None:
        return Finding(job_id, "document", f"{DOCUMENT_FILE} cannot be read, or is no JSON mapping")
    if job_id in documents and record.stamp is not None and record.stamp.document == ABSENT:
        return Finding(
            job_id,
            "document",
            f"{DOCUMENT_FILE} is missing, and the sidecar has it (sigfs sidecar update forgets it)",
        )
    return None


class _Mender:
    def __init__(self, project: Project, dry_run: bool) -> None:
        self._project = project
        self._dry_run = dry_run
        self._kept: list[Mapping[str, Json]] | None = None
        self._known: Mapping[str, Mapping[str, Json]] | None = None

    def mend(self, finding: Finding) -> Done | Finding:
        """Mend it, or say why not.

        Raises:
            OSError, LookupError: why not.
        """
        workspace = self._project.workspace
        if finding.what == "document":
            return self._restore_document(finding)
        if "/" in finding.id:
            return replace(finding, message=f"{finding.message}; nothing is kept of it that it could be restored from")
        if finding.what == "misnamed":
            return self._rename(finding, workspace)
        with files.opened_directory(os.path.join(workspace.path, finding.id)) as fd:
            own = self._own_statepoint(finding.id, fd)
            if own is None:
                return replace(finding, message=f"{finding.message}; its state point is kept nowhere")
            if not self._dry_run:
                _restore(fd, own[0])
            return Done(finding.id, "restored", f"from {own[1]}")

    def _own_statepoint(self, job_id: str, fd: int) -> tuple[StatePoint, str] | None:
        """The state point that the id of a job proves to be its own, and where it is from."""
        function = self._project.workspace.id_function
        return next((each for each in self._candidates(job_id, fd) if _is_of(each[0], job_id, function)), None)

    def _restore_document(self, finding: Finding) -> Done | Finding:
        document = self._record(finding.id).get("doc")
        if not isinstance(document, dict) or not document:
            return replace(finding, message=f"{finding.message}; nothing is kept of it that it could be restored from")
        path = os.path.normpath(os.path.join(self._project.workspace.path, finding.id))
        with files.opened_directory(path) as fd:
            if not _says_no_document(fd):
                return replace(finding, message=f"{finding.message}; it is another one by now")
            if not self._dry_run:
                aside = _put_aside(fd, DOCUMENT_FILE)
                if aside and not _says_no_document(fd, aside):  # written since
                    changing.rename_new(fd, aside, DOCUMENT_FILE)
                    return replace(finding, message=f"{finding.message}; it is another one by now")
                files.write_exclusive(fd, DOCUMENT_FILE, encode(document))
        return Done(finding.id, "restored", f"its document, from {_SIDECAR}")

    def _rename(self, finding: Finding, workspace: Workspace) -> Done | Finding:
        job_id = JobId(finding.id)
        right = statepoint_id(workspace.read(job_id).statepoint, workspace.id_function)
        with files.opened_directory(workspace.path) as fd:
            if changing.is_half_done(fd, job_id, workspace.id_function):
                if not self._dry_run:
                    workspace.finish(job_id)
                return Done(finding.id, "completed", f"the migration from {right}")
            with files.opened_directory(os.path.join(workspace.path, job_id)) as job_fd:
                own = self._own_statepoint(job_id, job_fd)
                if own is not None and self._is_overwritten(job_id, right, job_fd):
                    if not self._dry_run:
                        _restore(job_fd, own[0])
                    return Done(finding.id, "restored", f"from {own[1]}; {STATEPOINT_FILE} was that of {right}")
            if self._dry_run:
                if os.path.lexists(os.path.join(workspace.path, right)):
                    return replace(finding, message=f"{finding.message}, and that job is there as well")
            else:
                try:
                    changing.rename_new(fd, job_id, right)
                except DestinationExists:
                    return replace(finding, message=f"{finding.message}, and that job is there as well")
        return Done(finding.id, "renamed", f"to {right}", right)

    def _is_overwritten(self, job_id: JobId, right: JobId, fd: int) -> bool:
        """Whether in the directory of a job that is known there is the state point of another, and not that one's
        directory has the wrong name: this is there as well, or the job was here, and the file is not that one's."""
        if os.path.lexists(os.path.join(self._project.workspace.path, right)):
            return True
        if not self._record(job_id):
            return False
        said = self._record(right).get("files")
        status = os.stat(STATEPOINT_FILE, dir_fd=fd, follow_symlinks=False)
        before = said.get(STATEPOINT_FILE) if isinstance(said, dict) else None
        return not (isinstance(before, list) and before[:2] == [status.st_size, status.st_mtime_ns])

    def _record(self, job_id: str) -> Mapping[str, Json]:
        """What the sidecar says of a job; nothing if it has none."""
        if self._known is None:
            try:
                self._known = self._project.sidecar.file.read().jobs
            except (OSError, SidecarError):  # told by whoever looked for what is wrong
                self._known = {}
        return self._known.get(job_id, {})

    def _candidates(self, job_id: str, fd: int) -> Iterator[tuple[StatePoint, str]]:
        """What may be the state point of a job, and where it is from: the nearest first."""
        for name in changing.names_in(fd):
            if files.is_temporary(name):
                with contextlib.suppress(OSError, ValueError):
                    statepoint = load_json(files.read_at(fd, name))
                    if isinstance(statepoint, dict):
                        yield statepoint, name
        statepoint = self._record(job_id).get("sp")
        if isinstance(statepoint, dict):
            yield statepoint, _SIDECAR
        for name, kept in self._caches():
            statepoint = kept.get(job_id)
            if isinstance(statepoint, dict):
                yield statepoint, name

    def _caches(self) -> Iterator[tuple[str, Mapping[str, Json]]]:
        if self._kept is None:
            self._kept = [_read_cache(self._project.fn(name)) for name in (*_SIGNAC_CACHES, STATEPOINTS_FILE)]
            self._kept.append(_stored(self._project))
        yield from zip((*_SIGNAC_CACHES, STATEPOINTS_FILE, "the index"), self._kept, strict=True)


def _is_of(statepoint: StatePoint, job_id: str, function: str) -> bool:
    try:
        return statepoint_id(statepoint, function) == job_id
    except InvalidStatePoint:
        return False


def _restore(fd: int, statepoint: StatePoint) -> None:
    """Write the state point file; what has its name, and cannot be read, is kept under another."""
    _put_aside(fd, STATEPOINT_FILE)
    files.write_exclusive(fd, STATEPOINT_FILE, encode(statepoint))


def _put_aside(fd: int, name: str) -> str:
    """Give a file another name, in which it is kept; give that, or nothing if there is no such file."""
    for number in range(1, _ASIDE):
        aside = f"{name}{DAMAGED}{number if number > 1 else ''}"
        try:
            changing.rename_new(fd, name, aside)
        except FileNotFoundError:
            return ""
        except DestinationExists:
            continue
        return aside
    raise FileExistsError(errno.EEXIST, "there are too many damaged ones already", name)


def _says_no_document(fd: int, name: str = DOCUMENT_FILE) -> bool:
    """Whether the document file, called *name*, is missing, or plainly says no document.

    Raises:
        OSError: that cannot be told, as it may not be read.
    """
    try:
        return parse_document(files.read_at(fd, name)) is None
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno not in _IS_NO_FILE:
            raise
        return True


def _read_cache(path: str) -> Mapping[str, Json]:
    """State points by ids, as signac keeps them; nothing where there is no such file, or it cannot be understood."""
    try:
        with open(path, "rb") as file:
            data = file.read()
        found = json.loads(gzip.decompress(data) if path.endswith(".gz") else data)
    except FileNotFoundError:
        return {}
    except (OSError, EOFError, ValueError, RecursionError, zlib.error) as error:
        log.warning("%s is of no use for a repair: %s", path, error)
        return {}
    return found if isinstance(found, dict) else {}


def _stored(project: Project) -> Mapping[str, Json]:
    """State points by ids, as the index keeps them on disk."""
    with Store.open(project.root, project.workspace) as store:
        index = store.load() if store.exists else None
    if index is None:
        return {}
    with index.reading() as table:
        return {record.id: record.statepoint for record in table.records()}
