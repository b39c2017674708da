"""Which jobs a directory tree or an archive has.

Owned here: that a directory is a job by its state point file, by a schema, or by what its path spells, and that two
sources that contradict each other are told and not chosen from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeAlias

from sigfs.errors import InvalidValue, NotInvertible, PendingJob
from sigfs.export.spelled import Schema, Spelled, read_spelled
from sigfs.model.reading import STATEPOINT_FILE, parse_statepoint
from sigfs.model.statepoint import ID_FUNCTIONS, statepoint_id, validate
from sigfs.model.types import JobId, StatePoint

SchemaFunction: TypeAlias = Callable[[str], StatePoint | None]


class Look(NamedTuple):
    """What is in a directory.

    Attributes:
        statepoint: content of its state point file; None if there is none.
        directories: names of those in it; empty where there is a state point.
        has_files: whether there is something else.
    """

    statepoint: bytes | None
    directories: list[str]
    has_files: bool


class Origin(Protocol):
    """What is imported from."""

    def look(self, path: str) -> Look:
        """What is in the directory *path*; "" is the origin itself.

        Raises:
            OSError: it, or its state point file, cannot be read.
        """


class Job(NamedTuple):
    """A job that has been found.

    Attributes:
        statepoint: as it is to be.
        has_file: there is a state point file, which says that.
    """

    statepoint: StatePoint | None
    has_file: bool


@dataclass(slots=True)
class Found:
    """What has been found, by path: jobs, why of what cannot be one, and directories with files of no job."""

    jobs: dict[str, Job] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    spelled: bool = False


def find(origin: Origin, schema: Schema | SchemaFunction | None, known: Mapping[str, str]) -> Found:
    """Find the jobs of *origin*. There is no job in a job.

    Args:
        schema: says which directories are jobs; without it those that have a state point file, or if none has,
            those whose paths spell one.
        known: path -> id of jobs that an export has put there.
    Complexity: one listing a directory down to the jobs.
    """
    if schema is not None:
        return _by_schema(origin, schema)
    found = _by_file(origin, known)
    return found if found.jobs or found.failed else _by_path(origin)


def _walk(origin: Origin, found: Found, is_done: Callable[[str, Look], bool]) -> None:
    """Look at all directories, above first, and not below where *is_done* says so; what it does not want is left."""
    paths = [""]
    while paths:
        path = paths.pop()
        try:
            look = origin.look(path)
        except OSError as error:
            found.failed[path] = f"{error.filename or STATEPOINT_FILE}: {error.strerror}"
            continue
        try:
            if is_done(path, look):
                continue
        except (NotInvertible, PendingJob, InvalidValue) as error:
            found.failed[path] = str(error).removeprefix(f"{path}: ")
            continue
        if look.has_files:
            found.left.append(path)
        paths += [f"{path}/{name}" if path else name for name in sorted(look.directories, reverse=True)]


def _by_file(origin: Origin, known: Mapping[str, str]) -> Found:
    found = Found()

    def is_done(path: str, look: Look) -> bool:
        if look.statepoint is not None:
            found.jobs[path] = Job(parse_statepoint(JobId(path), look.statepoint), has_file=True)
            return True
        if path not in known:
            return False
        said = read_spelled(path)
        if not _is_of(said.statepoint, known[path]):
            raise NotInvertible(f"it has no {STATEPOINT_FILE}, and its path does not say all of its state point")
        found.jobs[path] = Job(said.statepoint, has_file=False)
        return True

    _walk(origin, found, is_done)
    return found


def _by_schema(origin: Origin, schema: Schema | SchemaFunction) -> Found:
    found = Found()
    read = schema.read if isinstance(schema, Schema) else schema
    depth = schema.depth if isinstance(schema, Schema) else None

    def is_done(path: str, look: Look) -> bool:
        said = read(path)
        if said is None:
            if look.statepoint is not None or (depth is not None and path and path.count("/") + 1 >= depth):
                found.left.append(path)
                return True
            return False
        said = validate(said)
        if look.statepoint is not None:
            own = parse_statepoint(JobId(path), look.statepoint)
            if statepoint_id(own) != statepoint_id(said):
                raise NotInvertible(f"the schema says {said}, and its {STATEPOINT_FILE} says {own}")
        found.jobs[path] = Job(said, look.statepoint is not None)
        return True

    _walk(origin, found, is_done)
    return found


def _by_path(origin: Origin) -> Found:
    found = Found(spelled=True)

    def is_done(path: str, look: Look) -> bool:
        if not path:
            return False
        if path.rpartition("/")[2].startswith("."):
            found.left.append(path)
            return True
        said = read_spelled(path)
        if said.statepoint is None or not (said.is_leaf or look.has_files or not look.directories):
            return False
        _require_own(said)
        found.jobs[path] = Job(said.statepoint, has_file=False)
        return True

    _walk(origin, found, is_done)
    return found


def _require_own(said: Spelled) -> None:
    if said.id is not None and not _is_of(said.statepoint, said.id):
        raise NotInvertible(f"its path does not say all of the state point of {said.id}")


def _is_of(statepoint: StatePoint | None, job_id: str) -> bool:
    return statepoint is not None and job_id in {statepoint_id(statepoint, function) for function in ID_FUNCTIONS}


def duplicates(ids: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Every path that has the id of another one, with that."""
    first: dict[str, str] = {}
    for path, job_id in sorted(ids.items()):
        other = first.setdefault(job_id, path)
        if other != path:
            yield path, other
            yield other, path
