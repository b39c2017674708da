"""Fingerprints of the data of jobs: are the files what they were?

Owned here: which files are data, what is noted of them, and how they are compared. No symbolic link is followed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, Literal, NamedTuple, TypeAlias

import xxhash

from sigfs.model import files
from sigfs.model.reading import DOCUMENT_FILE, STATEPOINT_FILE
from sigfs.model.types import JobId, Json
from sigfs.sidecar.jobs import Sidecar, settled_mtime_ns
from sigfs.sidecar.lines import SidecarRecord, encode

_CHUNK_BYTES: Final = 2**20
_GROUP: Final = 4096
"""Files that are on their way to the threads at once."""

_WORKERS: Final = min(16, 2 + (os.cpu_count() or 1) * 2)

_TYPES: Final = {
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "link",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}

Data: TypeAlias = dict[str, Json]
"""Path in the job's directory -> [size, mtime in ns or null, xxh3 in hexadecimal] of a file, else {"type": ...}."""

Progress = Callable[[int, int], None]
"""Is told (bytes done, bytes in all)."""

_Outcome: TypeAlias = "tuple[os.stat_result, str] | OSError"


class DataFinding(NamedTuple):
    """A data file that is not what the sidecar says.

    Attributes:
        path: in the job's directory.
        what: "unreadable": it cannot be told.
    """

    id: str
    path: str
    what: Literal["changed", "missing", "added", "unreadable"]
    why: str


class _File(NamedTuple):
    """A regular file that is to be read."""

    key: JobId
    path: str
    size: int


@dataclass(slots=True)
class Verified:
    """What a comparison of data files has found.

    Attributes:
        jobs: how many were compared.
        files: how many files, links and directories of theirs are what they were.
        size_bytes: how much was read.
        findings: those that are not.
        unhashed: ids of jobs of whose data the sidecar says nothing.
    """

    jobs: int = 0
    files: int = 0
    size_bytes: int = 0
    findings: list[DataFinding] = field(default_factory=list)
    unhashed: list[str] = field(default_factory=list)


def scan(directory: str) -> dict[str, os.stat_result | dict[str, Json]]:
    """What is in a job's directory beside its metadata, by path: the status of regular files, else what is noted.

    Raises:
        OSError: it cannot be listed.
    """
    found: dict[str, os.stat_result | dict[str, Json]] = {}

    def fail(error: OSError) -> None:
        raise error

    for above, directories, names, fd in os.fwalk(directory, onerror=fail):
        below = "" if above == directory else os.path.relpath(above, directory)
        if not below:
            names = [name for name in names if name not in (STATEPOINT_FILE, DOCUMENT_FILE)]
        directories[:] = [name for name in directories if not name.startswith(files.TEMPORARY_PREFIX)]
        for name in sorted([*directories, *names]):
            if name.startswith(files.TEMPORARY_PREFIX):
                continue
            try:
                status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                said = status if stat.S_ISREG(status.st_mode) else _noted(fd, name, status)
            except FileNotFoundError:
                continue
            found[os.path.join(below, name)] = said
    return found


def _noted(fd: int, name: str, status: os.stat_result) -> dict[str, Json]:
    kind = _TYPES.get(stat.S_IFMT(status.st_mode), "unknown")
    if kind == "link":
        return {"type": kind, "target": os.readlink(name, dir_fd=fd)}
    return {"type": kind, "mode": stat.S_IMODE(status.st_mode)}


def hash_data(
    sidecar: Sidecar, keys: Sequence[JobId], jobs: Mapping[str, SidecarRecord], progress: Progress | None = None
) -> Iterator[tuple[str, Data | None, str]]:
    """Fingerprints of the data of jobs; those of files whose size and time are as a sidecar that says *jobs* has them
    are taken from there.

    Returns:
        For each job whose data are not as it says: id, data, and ""; or id, None and why they cannot be read.
    Raises:
        OSError: the process is out of descriptors.
    """
    known = {key: _data(jobs.get(sidecar.places.id_of(key))) for key in keys}
    results: dict[JobId, Data] = {}
    failed: dict[JobId, str] = {}
    wanted: list[_File] = []
    for key in keys:
        before = known[key] or {}
        try:
            found = scan(sidecar.path_of(key))
        except FileNotFoundError:
            continue
        except OSError as error:
            failed[key] = f"{error.filename or ''}: {error.strerror}"
            continue
        now: Data = {}
        for path, said in found.items():
            noted = before.get(path)
            if isinstance(said, dict):
                now[path] = said
            elif isinstance(noted, list) and noted[:2] == [said.st_size, said.st_mtime_ns]:
                now[path] = noted
            else:
                now[path] = None  # keeps its place until it has been read
                wanted.append(_File(key, path, said.st_size))
        results[key] = now
    for file, outcome in _hashed(sidecar, wanted, progress):
        if isinstance(outcome, FileNotFoundError):
            results[file.key].pop(file.path, None)
        elif isinstance(outcome, OSError):
            failed[file.key] = f"{file.path}: {outcome.strerror}"
        else:
            status, digest = outcome
            results[file.key][file.path] = [status.st_size, settled_mtime_ns(status), digest]
    for key, now in results.items():
        before_or_none = known[key]
        if key not in failed and (before_or_none is None or encode(now) != encode(before_or_none)):
            yield sidecar.places.id_of(key), now, ""
    for key, why in failed.items():
        yield sidecar.places.id_of(key), None, why


def verify(
    sidecar: Sidecar, keys: Iterable[JobId], jobs: Mapping[str, SidecarRecord], progress: Progress | None = None
) -> Verified:
    """Read the data of jobs again and compare them with what a sidecar that says *jobs* has of them."""
    result = Verified()
    wanted: list[_File] = []
    noted: dict[tuple[JobId, str], str] = {}
    for key in keys:
        job_id = sidecar.places.id_of(key)
        before = _data(jobs.get(job_id))
        if before is None:
            result.unhashed.append(job_id)
            continue
        result.jobs += 1
        try:
            found = scan(sidecar.path_of(key))
        except FileNotFoundError:
            result.findings.append(DataFinding(job_id, ".", "missing", "there is no such job (any more)"))
            continue
        except OSError as error:
            result.findings.append(DataFinding(job_id, ".", "unreadable", str(error.strerror)))
            continue
        for path, said in before.items():
            now = found.pop(path, None)
            if now is None:
                result.findings.append(DataFinding(job_id, path, "missing", "there is nothing of this name"))
            elif why := _other(said, now):
                result.findings.append(DataFinding(job_id, path, "changed", why))
            elif isinstance(said, list) and isinstance(now, os.stat_result):
                noted[key, path] = str(said[2])
                wanted.append(_File(key, path, now.st_size))
            else:
                result.files += 1
        result.findings += [DataFinding(job_id, path, "added", "the sidecar does not have it") for path in found]
    for file, outcome in _hashed(sidecar, wanted, progress):
        job_id = sidecar.places.id_of(file.key)
        if isinstance(outcome, FileNotFoundError):
            result.findings.append(DataFinding(job_id, file.path, "missing", "it has just been removed"))
        elif isinstance(outcome, OSError):
            result.findings.append(DataFinding(job_id, file.path, "unreadable", str(outcome.strerror)))
        else:
            result.size_bytes += outcome[0].st_size
            if outcome[1] == noted[file.key, file.path]:
                result.files += 1
            else:
                result.findings.append(DataFinding(job_id, file.path, "changed", "has another content"))
    result.findings.sort()
    return result


def _data(record: SidecarRecord | None) -> Data | None:
    data = None if record is None else record.get("data")
    return data if isinstance(data, dict) else None


def _other(said: Json, now: os.stat_result | dict[str, Json]) -> str:
    """Say how something is plainly not what it was; empty if it may be. Modes and times do not matter."""
    if isinstance(now, os.stat_result):
        match said:
            case [int() as size, _, str()]:
                return "" if size == now.st_size else f"has {now.st_size} bytes, and had {size}"
            case {"type": str() as kind}:
                return f"is a file, and was a {kind}"
        return "the sidecar does not say what it was"
    kind = str(now["type"])
    if not isinstance(said, dict):
        return f"is a {kind}, and was a file"
    if said.get("type") != kind:
        return f"is a {kind}, and was a {said.get('type')}"
    if said.get("target") != now.get("target"):
        return f"leads to {now.get('target')}, and led to {said.get('target')}"
    return ""


def _hashed(sidecar: Sidecar, wanted: Sequence[_File], progress: Progress | None) -> Iterator[tuple[_File, _Outcome]]:
    """Read files, several at once; give what they are like, and their fingerprints."""
    from concurrent.futures import ThreadPoolExecutor

    total, done = sum(file.size for file in wanted), 0

    def read(file: _File) -> _Outcome:
        try:
            return hash_file(sidecar.path_of(file.key), file.path)
        except OSError as error:
            return error

    rest = iter(wanted)
    with ThreadPoolExecutor(_WORKERS) as pool:
        while group := list(islice(rest, _GROUP)):
            for file, outcome in zip(group, pool.map(read, group), strict=True):
                done += file.size
                if progress is not None:
                    progress(done, total)
                yield file, outcome


def hash_file(directory: str, path: str) -> tuple[os.stat_result, str]:
    """What a regular file in a job's directory is like, and the XXH3 (64 bits) of its content.

    Raises:
        OSError: it cannot be read, is no regular file, or there is a link on the way.
    """
    above, name = os.path.split(path)
    with files.opened_directory(directory) as job_fd:
        fd = files.open_below(job_fd, above) if above else os.dup(job_fd)
    try:
        file_fd = files.open_regular(fd, name)
    finally:
        os.close(fd)
    try:
        status = os.fstat(file_fd)
        digest = xxhash.xxh3_64()
        while data := os.read(file_fd, _CHUNK_BYTES):
            digest.update(data)
        return status, digest.hexdigest()
    finally:
        os.close(file_fd)
