"""Jobs outside of the workspace: attached to a project, not managed by it.

Owned here: which directories below an indexed one are jobs, and by what key they are known where a job is known by 32
hexadecimal digits. No thread, and nothing is watched.

A job here is a directory with a state point file. It is called by where it is: its id is its path relative to the
workspace, ``../data/my_job``, and its key a hash of that. Nothing but the path makes a key, so what was once found out
about one never becomes untrue, and all that is kept here, which place a key is of, only ever grows.

Left out are names that begin with a dot and those of temporary files; what is below a job; the workspace and, where
jobs are looked for at any depth, other projects and other file systems; and everything in a mounted project. A
directory that is indexed by several ways counts for the first. Symbolic links are followed to an indexed directory, not
below it.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from xxhash import xxh3_128_hexdigest

from sigfs.errors import NoSuchJob
from sigfs.model import files
from sigfs.model.config import SIGNAC_1_CONFIGS, SIGNAC_2_CONFIG, find_config
from sigfs.model.reading import STATEPOINT_FILE, parse_document, parse_statepoint, read_job
from sigfs.model.statepoint import is_job_id
from sigfs.model.types import ABSENT, UNKNOWN, JobId, Record, Stamp

_MARKS_PROJECT: Final = frozenset({SIGNAC_2_CONFIG.split(os.sep, 1)[0], *SIGNAC_1_CONFIGS})
_GONE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_MOUNTED: Final = "fuse.sigfs"


class Place(NamedTuple):
    """An indexed directory.

    Attributes:
        path: absolute, without ``..``; what it leads to need not be there.
        recursive: jobs at any depth below it count, not only those directly in it.
    """

    path: str
    recursive: bool = False


class Location(NamedTuple):
    """Where a job outside of the workspace is.

    Attributes:
        base: path of the indexed directory.
        name: path from there; no component of it is a symbolic link if it is a job.
    """

    base: str
    name: str

    @property
    def path(self) -> str:
        """Absolute path of the job's directory."""
        return os.path.join(self.base, self.name)


@dataclass(slots=True)
class Listing:
    """What was found in indexed directories.

    Attributes:
        jobs: key -> where it is, and the stamp of its state point file.
        directories: those that were looked at and are no jobs, the indexed ones too.
        unreadable: absolute paths of directories that are there and cannot be listed, and why: nothing is known of
            the jobs below.
        missing: paths of indexed directories that are not there.
    """

    jobs: dict[JobId, tuple[Location, int]] = field(default_factory=dict)
    directories: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    @property
    def troubles(self) -> dict[str, str]:
        """Absolute paths of what could not be looked at, and why."""
        return self.unreadable | dict.fromkeys(self.missing, "No such file or directory")

    def add(self, other: Listing) -> None:
        """Add what was found in another place."""
        self.jobs |= other.jobs
        self.directories += other.directories
        self.unreadable |= other.unreadable
        self.missing += other.missing

    def may_have(self, location: Location) -> bool:
        """Whether a job that is not among ``jobs`` may be there all the same."""
        path = location.path
        return any(path == each or path.startswith(f"{each}/") for each in self.unreadable)


class Places:
    """The indexed directories of a project. Any thread may call any method.

    Attributes:
        workspace: absolute path of the workspace, which ids are relative to; None: they are absolute paths.
        places: what is indexed; to be replaced as a whole.
        troubles: absolute paths that the latest ``listing`` could not look at, or whoever read the jobs that it found,
            and why; jobs there are not known.
        into_projects: the jobs of other projects count as well, where jobs are looked for at any depth.
    """

    def __init__(
        self, workspace: str | None = None, places: Sequence[Place] = (), *, into_projects: bool = False
    ) -> None:
        """Look at nothing yet."""
        self.into_projects = into_projects
        self.workspace = workspace
        self.places = tuple(places)
        self.troubles: dict[str, str] = {}
        self._locations: dict[JobId, Location] = {}

    # What has been found so far

    def __bool__(self) -> bool:
        """Whether there is, or was, anything outside of the workspace."""
        return bool(self.places or self._locations)

    def location(self, key: JobId) -> Location | None:
        """Where the job of this key is, or was; None if it is none of a directory that is, or was, indexed. O(1)."""
        return self._locations.get(key)

    def owns(self, key: JobId) -> bool:
        """Whether *key* belongs to a job, of now or before, outside of the workspace."""
        return key in self._locations

    def known_keys(self) -> list[JobId]:
        """The keys of all jobs, of now or before, outside of the workspace."""
        return list(self._locations)

    def id_of(self, key: JobId) -> str:
        """The id of a job, by its key: that of a managed job is the key itself."""
        location = self._locations.get(key)
        return key if location is None else self.id_at(location.path)

    def id_at(self, path: str) -> str:
        """The id of a job outside of the workspace at an absolute path."""
        return path if self.workspace is None else os.path.relpath(path, self.workspace)

    def key_at(self, path: str) -> JobId:
        """The key of a job outside of the workspace at an absolute path."""
        return _hash(self.id_at(path))

    def find(self, job_id: str) -> JobId | None:
        """The key of the job with the id *job_id*, ``../data/my_job``, if it has been found."""
        path = os.path.normpath(os.path.join(self.workspace or "/", job_id))
        key = self.key_at(path)
        return key if key in self._locations else None

    def named(self, job_id: str) -> dict[str, JobId]:
        """The jobs there that *job_id* names, a whole id or one with its last step abbreviated: their ids and keys.

        Complexity: a look at the job, if the id is whole and one directory is indexed, not at any depth; else that of
        ``listing``.
        """
        path = os.path.normpath(os.path.join(self.workspace or "/", job_id))
        above, name = os.path.split(path)
        key, found = self.key_at(path), Listing()
        if self.places == (Place(above),):
            self.look(self.places[0], [name], found, set())
        if key not in found.jobs:
            found = self.listing()
        if key in found.jobs:
            return {self.id_of(key): key}
        if job_id.endswith("/"):
            return {}
        ids = {self.id_of(each): each for each in found.jobs if self._locations[each].path.startswith(path)}
        return {text: each for text, each in ids.items() if os.path.dirname(self._locations[each].path) == above}

    def read(self, key: JobId, documents: bool = False) -> Record:
        """What the job's directory says now, as `Workspace.read`.

        Raises:
            NoSuchJob: no directory there, or no state point file in it.
            PendingJob: the file cannot be read.
            OSError: the process is out of descriptors or memory.
        """
        location = self._locations[key]
        try:
            fd = os.open(location.base, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            raise NoSuchJob(f"no job {self.id_of(key)}") from None
        try:
            raw = read_job(fd, JobId(location.name), documents)
        finally:
            os.close(fd)
        statepoint = parse_statepoint(key, raw.statepoint)
        document = parse_document(raw.document) if documents else None
        return Record(key, statepoint, document, raw.stamp if document is not None else Stamp(raw.stamp.statepoint))

    def open_above(self, key: JobId) -> tuple[int, str]:
        """A new O_PATH descriptor of the directory that the job's is in, and its name there; the caller closes it.

        Raises:
            OSError: it is not there.
        """
        location = self._locations[key]
        above, _, name = location.name.rpartition("/")
        fd = os.open(location.base, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        if not above:
            return fd, name
        try:
            return files.open_below(fd, above), name
        finally:
            os.close(fd)

    def is_emptied(self, key: JobId) -> bool:
        """Whether the job has lost its state point file, but not its directory; as who removes a job may do first.

        False if the directory is not indexed any more.
        """
        location = self._locations[key]
        if not any(path == location.base and (deep or "/" not in location.name) for path, deep in self.places):
            return False
        try:
            fd = os.open(location.base, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            os.close(files.open_below(fd, location.name))
            os.stat(f"{location.name}/{STATEPOINT_FILE}", dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError as error:
            return bool(error.filename == f"{location.name}/{STATEPOINT_FILE}")
        except OSError:
            return False
        finally:
            os.close(fd)
        return False

    # Looking

    def listing(self) -> Listing:
        """Look for the jobs in all places.

        Raises:
            Nothing: what cannot be listed is said in the result.
        Complexity: a listing of every indexed directory, or with ``recursive`` of every directory below that is no job;
            5 us of processor time for a directory in one.
        """
        found = Listing()
        taken: set[str] = set()
        for place in self.places:
            self.look(place, [""], found, taken)
        self.troubles = found.troubles
        return found

    def look(self, place: Place, names: Iterable[str], found: Listing, taken: set[str]) -> None:
        """Look at some directories in *place*, and where jobs are looked for at any depth, below them.

        Args:
            names: paths from the place, whose parents have been looked at before; "" for the place itself.
            found: gets what is found.
            taken: real paths of jobs that count elsewhere; gets those of these.
        """
        try:
            base_fd = os.open(place.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in _GONE:
                found.missing.append(place.path)
            else:
                found.unreadable[place.path] = error.strerror or str(error)
            return
        try:
            _Walk(self, place, base_fd, found, taken).run(names)
        finally:
            os.close(base_fd)

    def own(self, key: JobId, location: Location) -> None:
        """Note where the job of a key is."""
        self._locations[key] = location


class _Walk:
    """One look at a place."""

    def __init__(self, places: Places, place: Place, base_fd: int, found: Listing, taken: set[str]) -> None:
        self._places = places
        self._place = place
        self._base_fd = base_fd
        self._found = found
        self._taken = taken
        self._real = os.readlink(f"/proc/self/fd/{base_fd}")
        self._workspace = "" if places.workspace is None else os.path.realpath(places.workspace)
        self._mounts = _mounts_below(self._real)

    def run(self, names: Iterable[str]) -> None:
        if self._is_inside_mounted():
            self._found.unreadable[self._place.path] = "it is in a mounted project"
            return
        todo: list[str] = []
        by_parent: dict[str, list[str]] = {}
        for name in names:
            above, _, last = name.rpartition("/")
            if last:
                by_parent.setdefault(above, []).append(last)
            else:
                todo.append("")
        for above, lasts in by_parent.items():
            there = [last for last in lasts if self._is_directory(f"{above}/{last}" if above else last)]
            todo += self._below(above, there)
        while todo:
            directory = todo.pop()
            try:
                names = self._list(directory)
            except OSError as error:
                if error.errno not in _GONE or not directory:
                    path = os.path.join(self._place.path, directory)
                    self._found.unreadable[path] = error.strerror or str(error)
                continue
            self._found.directories.append(os.path.join(self._place.path, directory) if directory else self._place.path)
            todo += self._below(directory, names)

    def _below(self, directory: str, names: list[str]) -> list[str]:
        """Take in what *names* in *directory* are; give those that are to be looked into."""
        others = self._sort(directory, names)
        if self._place.recursive:
            return others
        self._found.directories += (os.path.join(self._place.path, each) for each in others)
        return []

    def _is_inside_mounted(self) -> bool:
        return any(
            kind == _MOUNTED and (self._real == point or self._real.startswith(f"{point}/"))
            for point, kind in _mounts().items()
        )

    def _list(self, directory: str) -> list[str]:
        """Names of the directories in *directory* that come into question."""
        fd = os.open(
            directory or ".",
            os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | (os.O_NOFOLLOW if directory else 0),
            dir_fd=self._base_fd,
        )
        try:
            with os.scandir(fd) as entries:
                found = [(entry.name, _is_directory(entry)) for entry in entries]
        finally:
            os.close(fd)
        into_projects = not directory or self._places.into_projects
        if not into_projects and not _MARKS_PROJECT.isdisjoint(name for name, _ in found):
            path = os.path.join(self._real, directory)
            if find_config(path) is not None:
                return []
        names = [name for name, is_directory in found if is_directory and not (name[0] == "." or name[-1] == "~")]
        if os.path.join(self._real, directory).rstrip("/") == self._workspace:
            names = [name for name in names if not is_job_id(name)]
        return sorted(names)

    def _sort(self, directory: str, names: list[str]) -> list[str]:
        """Note those of the directories that are jobs; give the paths of the others that may be looked into."""
        prefix = f"{directory}/" if directory else ""
        real = os.path.join(self._real, prefix)
        if self._mounts or self._workspace.startswith(real):
            names = [name for name in names if self._may_touch(real + name)]
        paths = [prefix + name for name in names]
        stamps = files.stat_many(self._base_fd, [os.fsencode(f"{path}/{STATEPOINT_FILE}") for path in paths])
        id_prefix = self._places.id_at(os.path.join(self._place.path, directory)) if directory else ""
        id_prefix = id_prefix or self._places.id_at(self._place.path)
        others = []
        for name, path, stamp in zip(names, paths, stamps, strict=True):
            if stamp == UNKNOWN and (why := self._trouble(path)):
                self._found.unreadable[os.path.join(self._place.path, path)] = why
            elif stamp == ABSENT:
                if real + name not in self._mounts or not self._place.recursive:
                    others.append(path)
            elif (where := real + name) not in self._taken:
                self._taken.add(where)
                location = Location(self._place.path, path)
                key = self._key(id_prefix, name, location)
                self._places.own(key, location)
                self._found.jobs[key] = (location, stamp)
        return others

    def _key(self, id_prefix: str, name: str, location: Location) -> JobId:
        if id_prefix == "." or id_prefix.endswith(".."):  # the name may be a part of the way to the workspace
            return self._places.key_at(location.path)
        return _hash(f"{id_prefix}/{name}" if id_prefix != "/" else f"/{name}")

    def _is_directory(self, path: str) -> bool:
        name = path.rpartition("/")[2]
        real = os.path.join(self._real, path)
        if name[0] == "." or name[-1] == "~" or self._mounts.get(real) == _MOUNTED:
            return False
        if is_job_id(name) and os.path.dirname(real) == self._workspace:
            return False
        try:
            status = os.stat(path, dir_fd=self._base_fd, follow_symlinks=False)
        except OSError as error:
            return error.errno not in _GONE
        return stat.S_ISDIR(status.st_mode)

    def _may_touch(self, real: str) -> bool:
        """Whether a directory may be looked at: not the workspace, nor what is mounted, which might not answer."""
        return real != self._workspace and self._mounts.get(real) != _MOUNTED

    def _trouble(self, path: str) -> str:
        """Why it cannot be told whether a directory is a job."""
        try:
            os.stat(f"{path}/{STATEPOINT_FILE}", dir_fd=self._base_fd, follow_symlinks=False)
        except OSError as error:
            return error.strerror or str(error)
        return ""


def _hash(job_id: str) -> JobId:
    return JobId(xxh3_128_hexdigest(os.fsencode(job_id)))


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _mounts() -> dict[str, str]:
    """Where something is mounted, and of which type it is."""
    try:
        with open("/proc/self/mountinfo", "rb") as file:
            text = os.fsdecode(file.read())
    except OSError:
        return {}
    found = {}
    for line in text.split("\n")[:-1]:
        fields, _, more = line.partition(" - ")
        point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields.split(" ")[4])
        found[point] = more.partition(" ")[0]
    return found


def _mounts_below(real: str) -> dict[str, str]:
    inside = real.rstrip("/") + "/"
    return {point: kind for point, kind in _mounts().items() if point.startswith(inside)}
