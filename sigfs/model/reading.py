"""What the two metadata files of a job say, one job at a time or thousands.

Owned here: the names of the files, which bytes make a job, and the two functions that another thread, process or host
may be asked to run. They give bytes, and the caller makes values of them: parsing is cheaper than sending values.

There are two ways to the same answer. The quick one takes a path of two steps at once and only what is plainly a small
file; whatever it is not sure of is looked at by the other one, step by step, which knows what is wrong.
"""

from __future__ import annotations

import errno
import itertools
import os
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from operator import add
from typing import Final, NamedTuple, cast

import orjson
from xxhash import xxh3_64_intdigest

from sigfs.errors import NoSuchJob, PendingJob
from sigfs.model import files
from sigfs.model.statepoint import DIGITS_TO_ZERO, LONG_NUMBER, MAX_DEPTH, load_json
from sigfs.model.types import ABSENT, UNKNOWN, Batch, JobId, Json, Row, Stamp

STATEPOINT_FILE: Final = "signac_statepoint.json"
DOCUMENT_FILE: Final = "signac_job_document.json"

# The process's trouble, not the job's: a job must not count as pending because descriptors have run out.
_OURS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})

_BROKEN: Final = object()
"""What is no JSON."""


_EMPTY: Final = xxh3_64_intdigest(b"")


class RawJob(NamedTuple):
    """The bytes of a job's files.

    Attributes:
        statepoint: content of the state point file.
        document: content of the document file; None if there is none or it was not asked for, empty if it cannot be
            read.
        stamp: what the files were like.
    """

    statepoint: bytes
    document: bytes | None
    stamp: Stamp


class RawJobs(NamedTuple):
    """The bytes of the files of many jobs; parallel sequences.

    Attributes:
        ids: directories that were to be read.
        statepoints: None where there is no such directory any more, empty where the state point cannot be read.
        documents: as in `RawJob`; None instead of the list if documents were not asked for.
        stamps: statepoint, document and content of each `Stamp`.
    """

    ids: Sequence[JobId]
    statepoints: list[bytes | None]
    documents: list[bytes | None] | None
    stamps: tuple[array[int], array[int], array[int]]


def read_job(workspace_fd: int, job_id: JobId, documents: bool) -> RawJob:
    """Read one job, step by step.

    Args:
        job_id: name of its directory, or a path to it, below *workspace_fd*.
    Raises:
        NoSuchJob: no directory of that name.
        PendingJob: no state point file in it, or none that can be read; the message says why.
        OSError: the process is out of descriptors or memory.
    """
    try:
        fd = files.open_below(workspace_fd, job_id)
    except (FileNotFoundError, NotADirectoryError):
        raise NoSuchJob(f"no job {job_id}") from None
    except OSError as error:
        raise pending(job_id, error) from error
    try:
        try:
            statepoint, stamp = files.read_stamped(fd, STATEPOINT_FILE)
        except FileNotFoundError:
            if not _is_at(fd, workspace_fd, job_id):  # on its way out, emptied before it is deleted
                raise NoSuchJob(f"no job {job_id}") from None
            raise PendingJob(f"{job_id}: has no {STATEPOINT_FILE}") from None
        except OSError as error:
            raise pending(job_id, error) from error
        if not documents:
            return RawJob(statepoint, None, Stamp(stamp))
        try:
            document, document_stamp = files.read_stamped(fd, DOCUMENT_FILE)
        except FileNotFoundError:
            if not _is_at(fd, workspace_fd, job_id):
                raise NoSuchJob(f"no job {job_id}") from None
            return RawJob(statepoint, None, Stamp(stamp, ABSENT))
        except OSError as error:
            if error.errno in _OURS:
                raise
            return RawJob(statepoint, b"", Stamp(stamp))
        return RawJob(statepoint, document, Stamp(stamp, document_stamp, xxh3_64_intdigest(document)))
    finally:
        os.close(fd)


def _is_at(fd: int, workspace_fd: int, job_id: JobId) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(job_id, dir_fd=workspace_fd, follow_symlinks=False))
    except FileNotFoundError:
        return False


def pending(job_id: JobId, error: OSError | ValueError) -> PendingJob:
    """The exception that says what *error* means for a job whose state point it keeps from being read.

    Raises:
        OSError: *error* itself, if it is the process's and not the job's.
    """
    if isinstance(error, OSError):
        if error.errno in _OURS:
            raise error
        reason = {
            errno.ELOOP: "is a symbolic link",
            errno.EISDIR: "is a directory",
            errno.ENXIO: "is not a regular file",
            errno.EINVAL: "is not a regular file",
        }.get(error.errno or 0, f"cannot be read ({error.strerror})")
        return PendingJob(f"{job_id}: {STATEPOINT_FILE} {reason}")
    return PendingJob(f"{job_id}: {STATEPOINT_FILE} is not JSON ({error})")


def parse_statepoint(job_id: JobId, content: bytes) -> dict[str, Json] | None:
    """The state point that a file says.

    Raises:
        PendingJob: it says none.
    """
    try:
        value = load_json(content)
    except ValueError as error:
        raise pending(job_id, error) from error
    if value is not None and not isinstance(value, dict):
        raise PendingJob(f"{job_id}: {STATEPOINT_FILE} is neither a mapping nor null")
    return value


def parse_document(content: bytes | None) -> dict[str, Json] | None:
    """The document that a file says, {} if there is no file, None if it says none: a job remains a job."""
    if content is None:
        return {}
    try:
        value = load_json(content)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def read_chunk(path: str, ids: Sequence[JobId], documents: bool, names: Sequence[str] | None = None) -> RawJobs:
    """Read many jobs of the workspace at *path*. No job disturbs another.

    Args:
        names: paths of the jobs' directories below *path*, where these are not their ids.

    Runs anywhere: in a thread, in another process, on another host.

    Raises:
        OSError: the process is out of descriptors or memory, or the workspace cannot be entered.
    Complexity: 6 us of processor time a file with warm caches.
    """
    try:
        fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        ids = names = ()
        fd = -1
    names = ids if names is None else names
    try:
        statepoints, stamps = files.read_many(fd, _paths(names, STATEPOINT_FILE))
        contents = array("Q", bytes(8 * len(ids)))
        bodies, document_stamps = None, array("Q", contents)
        if documents:
            bodies, document_stamps = files.read_many(fd, _paths(names, DOCUMENT_FILE))
            for k, body in enumerate(bodies):
                if body is not None:
                    contents[k] = xxh3_64_intdigest(body)
        raw = RawJobs(ids, statepoints, bodies, (stamps, document_stamps, contents))
        for k, statepoint in enumerate(statepoints):
            if statepoint is None or (bodies is not None and bodies[k] is None and document_stamps[k] != ABSENT):
                _look_again(fd, names[k], raw, k)
        return raw
    finally:
        if fd >= 0:
            os.close(fd)


def _look_again(workspace_fd: int, name: str, raw: RawJobs, k: int) -> None:
    job: RawJob | None
    try:
        job = read_job(workspace_fd, JobId(name), raw.documents is not None)
    except NoSuchJob:
        job = None
    except PendingJob:
        job = RawJob(b"", None, Stamp())
    raw.statepoints[k] = None if job is None else job.statepoint
    if raw.documents is not None:
        raw.documents[k] = None if job is None else job.document
    for column, stamp in zip(raw.stamps, Stamp() if job is None else job.stamp, strict=True):
        column[k] = stamp


def stat_chunk(path: str, ids: Sequence[str], documents: bool) -> tuple[array[int], array[int]]:
    """Stamps of the state point files and of the document files of many jobs, to compare with those of a reading.

    The documents' are UNKNOWN if they are not asked for. Runs anywhere, as `read_chunk`.

    Raises:
        OSError: the workspace cannot be entered.
    Complexity: 3 us of processor time a file with warm caches.
    """
    try:
        fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        absent = array("Q", [ABSENT]) * len(ids)
        return absent, absent
    try:
        statepoints = files.stat_many(fd, _paths(ids, STATEPOINT_FILE))
        if documents:
            return statepoints, files.stat_many(fd, _paths(ids, DOCUMENT_FILE))
        return statepoints, array("Q", [UNKNOWN]) * len(ids)
    finally:
        os.close(fd)


def _paths(directories: Sequence[str], name: str) -> list[bytes]:
    paths = list(map(add, directories, itertools.repeat(f"/{name}")))
    try:
        return list(map(str.encode, paths))  # 0.03 us each, a sixth of what fsencode takes
    except UnicodeEncodeError:
        return list(map(os.fsencode, paths))


def parse(raw: RawJobs) -> Batch:
    """Make values of the bytes of many jobs. A document file that says none has no stamp. Complexity: 1.2 us a file."""
    statepoints = _load_all([content or b"" for content in raw.statepoints])
    documents: list[Json] = [None] * len(raw.ids)
    if raw.documents is not None:
        documents = _load_all([b"{}" if content is None else content for content in raw.documents])
        if set(map(type, documents)) != {dict}:
            _, document_stamps, contents = raw.stamps
            for k, (document, text) in enumerate(zip(documents, raw.documents, strict=True)):
                if not isinstance(document, dict):
                    documents[k] = None
                    if text or contents[k] == _EMPTY:  # no document, whatever was known: to be read again
                        document_stamps[k], contents[k] = UNKNOWN, 0
    stamps = map(tuple.__new__, itertools.repeat(Stamp), zip(*raw.stamps, strict=True))
    # The types are as the checks say, which no static one can follow.
    rows = cast("list[Row]", list(zip(raw.ids, statepoints, documents, stamps, strict=False)))
    if set(map(type, statepoints)) == {dict}:
        return Batch(rows, [])
    jobs = [isinstance(statepoint, dict) or statepoint is None for statepoint in statepoints]
    unreadable = [
        job_id
        for job_id, is_job, content in zip(raw.ids, jobs, raw.statepoints, strict=True)
        if not is_job and content is not None
    ]
    return Batch(list(itertools.compress(rows, jobs)), unreadable)


def _load_all(texts: Sequence[bytes]) -> list[Json]:
    """`load_json` of each; `_BROKEN` for what is no JSON.

    The same checks, at a third less: long numbers are searched for in all texts at once, and a text of so few bytes
    cannot be nested too deep.
    """
    load = orjson.loads
    suspects = _with_long_numbers(texts)
    values: list[Json] = []
    for k, text in enumerate(texts):
        try:
            values.append(load(text) if len(text) <= MAX_DEPTH and k not in suspects else load_json(text))
        except ValueError:
            try:
                values.append(load_json(text))
            except ValueError:
                values.append(_BROKEN)
    return values


def _with_long_numbers(texts: Sequence[bytes]) -> set[int]:
    digits = b"\n".join(texts).translate(DIGITS_TO_ZERO)
    found: set[int] = set()
    ends: list[int] = []
    at = digits.find(LONG_NUMBER)
    while at >= 0:
        if not ends:
            ends = list(itertools.accumulate(len(text) + 1 for text in texts))
        k = bisect_right(ends, at)
        found.add(k)
        at = digits.find(LONG_NUMBER, ends[k])
    return found
