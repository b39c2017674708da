"""From events, or comparisons now and then, to changes of jobs outside of the workspace.

Owned here: the thread that looks at indexed directories and at the configuration that lists them. As for the workspace,
events are hints and truth is what is on disk. All reading that leads to a change is done by one thread, so that an
older reading never comes after a newer one.

Watched is every directory that was looked at, a job or not, by one watch each. Where there are more than may be
watched, or others change them whom the kernel does not see, everything is compared again and again, at no more than a
small share of a core. Their state points may change in place, so their files are followed whether documents are or not.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from sigfs.errors import InvalidConfig
from sigfs.model.config import find_config
from sigfs.model.indexed import read_indexed
from sigfs.model.places import Listing, Place, Places
from sigfs.model.types import Change, Findings, JobId, Json
from sigfs.model.workspace import DOCUMENT_FILE, STATEPOINT_FILE
from sigfs.watch.comparison import Interrupted
from sigfs.watch.directories import DirectoryWatches, Noticed
from sigfs.watch.pace import Pace
from sigfs.watch.sources import file_system_type, identity, is_remote
from sigfs.watch.watcher import BATCH, MAX_AGE_S, MAX_AGE_TOOK, REVALIDATION_S

log = logging.getLogger(__name__)

CHECK_S: Final = 1.0
"""How often it is checked whether another directory, or none, is at the path of an indexed one, and the configuration
another file."""

IDLE_S: Final = 5.0
"""The same where nothing is indexed and an event tells when the configuration is written."""

RETRY_S: Final = 1.0
"""After a failure: how long until everything is compared again."""

STORM_S: Final = 0.002
"""Events are gathered for so long before the next are read."""

END_S: Final = 5.0
"""How long the end waits for what is being looked at: an indexed directory may be on a disk that does not answer."""

_ROUNDS: Final = 4
"""So many times directories are listed again because some were not watched yet; then it is left to the next time."""


class PlacesWatcher:
    """Tells *on_changes* what happens in the indexed directories of a project, from a thread of its own.

    Args:
        root: of the project, whose configuration is followed.
        places: gets what the configuration says, and knows which job is where.
        on_changes: as for ``WorkspaceWatcher``.
        revalidate: compares what was found, with documents or without, with what the receiver knows of jobs outside
            of the workspace; called from the watcher's thread. It should call ``progress`` now and then.
        read: reads some jobs, with documents or without; those that are not there are left out.
        documents: whether documents are followed from the start.
    """

    def __init__(
        self,
        root: str,
        places: Places,
        on_changes: Callable[[Sequence[Change]], None],
        *,
        revalidate: Callable[[Listing, bool], Findings],
        read: Callable[[Iterable[JobId], bool], Findings],
        documents: bool = False,
    ) -> None:
        self._root = root
        self._places = places
        self._on_changes = on_changes
        self._revalidate = revalidate
        self._read = read
        self._documents = documents
        self._reason = ""
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._wakeup = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._changed = threading.Condition()  # guards what follows
        self._asked = 0  # comparisons asked for
        self._ended = 0  # of those, told or failed

        # The thread's, read by others for a moment's state only.
        self._watches = self._open_watches()
        self._jobs: dict[str, JobId] = {}  # path -> key, of the directories that are jobs
        self._counts: Counter[str] = Counter()  # jobs of each place
        self._listing = Listing()  # the last of everything
        self._bases: dict[str, tuple[int, int] | None] = {}
        self._config: tuple[str, int, int, int] | None = None  # the configuration's path, and what it was like
        self._hears_of_configuration = False
        self._overlap = False  # a directory belongs to several places
        self._told = False  # events tell of everything
        self._following = False  # documents have been read since they are followed
        self._last_s = (0.0, 0.0)  # of the last comparison: when it began, monotonic, and how long it took
        self._full_due_s = 0.0  # monotonic time of the next comparison
        self._pace = Pace()

    # From any thread

    def start(self) -> None:
        """Start the thread, which begins with a comparison."""
        self._thread = threading.Thread(target=self._run, name="sigfs-places", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for it; idempotent. No call of ``on_changes`` begins after this returns.

        A thread that hangs in an indexed directory is left behind, and ends when that answers.
        """
        with self._changed:
            if self._stopping.is_set():
                return
            self._stopping.set()
            self._changed.notify_all()
            os.eventfd_write(self._wakeup, 1)
        if self._thread is None:
            self._close()
            return
        self._thread.join(END_S)
        if self._thread.is_alive():
            log.warning("an indexed directory does not answer: one of %s", ", ".join(self._bases))

    def progress(self, done: int, total: int) -> None:  # noqa: ARG002 - the signature of a progress function
        """Let a comparison go on.

        Raises:
            Interrupted: the watcher is being stopped.
        """
        if self._stopping.is_set():
            raise Interrupted

    def now(self) -> None:
        """Have all documents told, as they are now or were a moment ago; as ``WorkspaceWatcher.now``."""
        self._documents = True
        if not self._places.places:
            return
        begun_s, took_s = self._last_s
        if self._following and (self._told or time.monotonic() - begun_s < max(MAX_AGE_S, MAX_AGE_TOOK * took_s)):
            return
        if self._thread is None or self._thread is threading.current_thread():
            return
        with self._changed:
            if self._stopping.is_set():
                return
            self._asked += 1
            number = self._asked
            os.eventfd_write(self._wakeup, 1)
            self._changed.wait_for(lambda: self._ended >= number or self._stopping.is_set())

    @property
    def told(self) -> bool:
        """Whether events tell of all that happens in the indexed directories."""
        return self._told or not self._places.places

    def status(self) -> list[dict[str, Json]]:
        """Describe each indexed directory.

        Returns:
            path, recursive; jobs; trouble ("missing", or why something below cannot be listed; "" if nothing is the
            matter); told (changes are told by events); interval_s (between two comparisons).
        """
        said: list[dict[str, Json]] = []
        for path, recursive in self._places.places:
            trouble = "missing" if path in self._listing.missing else ""
            for where, why in list(self._listing.unreadable.items()):
                if where == path or where.startswith(f"{path}/"):
                    trouble = f"{where}: {why}"
                    break
            said.append({
                "path": path,
                "recursive": recursive,
                "jobs": self._counts[path],
                "trouble": trouble,
                "told": self._told,
                "interval_s": REVALIDATION_S if self._told else self._pace.interval_s,
            })  # fmt: skip
        return said

    # Below: the thread's

    def _open_watches(self) -> DirectoryWatches | None:
        try:
            return DirectoryWatches()
        except OSError as error:
            log.warning("indexed directories cannot be watched (inotify: %s)", error)
            return None

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._step()
            except Interrupted:
                break
            except Exception:
                log.exception("watching indexed directories: unexpected error; comparing again")
                self._full_due_s = time.monotonic() + RETRY_S
                self._end_asked(self._asked)
        self._close()

    def _close(self) -> None:
        with self._changed:  # nobody wakes the thread up any more
            if self._watches is not None:
                self._watches.close()
            os.close(self._wakeup)

    def _step(self) -> None:
        noticed = self._wait()
        if self._stopping.is_set():
            return
        if noticed.overflown:
            log.info("the queue of events was too short: comparing indexed directories")
            if self._watches is not None:
                self._watches.clear()
            self._config, self._hears_of_configuration = None, False
            self._full_due_s = 0.0
        self._follow_configuration()
        self._check_bases()
        with self._changed:
            asked = self._asked
        if self._places.places and (asked > self._ended or time.monotonic() >= self._full_due_s):
            self._compare()
        self._end_asked(asked)
        self._take(noticed)

    def _wait(self) -> Noticed:
        poller = select.poll()
        poller.register(self._wakeup, select.POLLIN)
        if self._watches is not None:
            poller.register(self._watches.fileno(), select.POLLIN)
        due_s = IDLE_S if self._hears_of_configuration else CHECK_S
        if self._places.places:
            due_s = min(CHECK_S, max(0.0, self._full_due_s - time.monotonic()))
        for descriptor, _ in poller.poll(due_s * 1000):
            if descriptor == self._wakeup:
                os.eventfd_read(self._wakeup)
            elif not self._stopping.is_set():
                self._stopping.wait(STORM_S)
        return Noticed() if self._watches is None else self._watches.read()

    def _follow_configuration(self) -> None:
        """Read which directories are indexed, if the file is another than it was."""
        try:
            path = find_config(self._root)
            status = None if path is None else os.stat(path)
        except OSError:
            path = status = None
        stamp = None
        if path is not None and status is not None:
            stamp = (path, status.st_ino, status.st_mtime_ns, status.st_size)
        if stamp == self._config:
            return
        self._config = stamp
        if path is None:  # in between two versions of it
            return
        directory = os.path.dirname(path)
        if self._watches is not None:
            is_watched = self._watches.add(directory, follow=True)
            self._hears_of_configuration = is_watched and not is_remote(file_system_type(directory))
        try:
            places = read_indexed(self._root)
        except InvalidConfig as error:
            log.warning("%s; the indexed directories stay what they were", error)
            return
        if places != self._places.places:
            log.info("indexed directories: %s", ", ".join(place.path for place in places) or "none")
            self._places.places = places
            self._full_due_s = 0.0
            if not places:
                self._compare()

    def _check_bases(self) -> None:
        for path, found in self._bases.items():
            if identity(path) != found:
                log.info("%s is gone, has come, or is another directory now", path)
                self._full_due_s = 0.0
                if self._watches is not None:
                    self._watches.drop_below(path)

    def _compare(self) -> None:
        """Look at everything, and tell what is not as it is known to be."""
        begun_s, cpu_s = time.monotonic(), time.thread_time()
        documents = self._documents
        listing, complete = self._look()
        findings = self._revalidate(listing, documents)
        self._note(listing)
        self._tell(findings.changes)
        self._following = self._following or documents
        now_s = time.monotonic()
        self._last_s = (begun_s, now_s - begun_s)
        interval_s = self._pace.looked(changed=bool(findings.changes), cost_s=time.thread_time() - cpu_s)
        if not complete:
            interval_s = RETRY_S
        elif self._told:
            interval_s = REVALIDATION_S
        self._full_due_s = now_s + interval_s

    def _look(self) -> tuple[Listing, bool]:
        """List everything, after it is watched; tell whether that was possible."""
        watches = self._watches
        self._bases = {place.path: identity(place.path) for place in self._places.places}
        remote = {place.path for place in self._places.places if is_remote(file_system_type(place.path))}
        self._overlap = _overlap(self._places.places)
        listing = Listing()
        for _ in range(_ROUNDS):
            self.progress(0, 0)
            listing = self._places.listing()
            if watches is None:
                self._told = False
                return listing, True
            jobs = [location.path for location, _ in listing.jobs.values() if location.base not in remote]
            wanted = [*listing.directories, *jobs]
            new = [path for path in wanted if path not in watches]
            if remote:
                new = [path for path in new if not any(path == base or path.startswith(f"{base}/") for base in remote)]
            refused = watches.refused
            is_new = [watches.add(path, follow=path in self._bases) for path in new]
            self._told = not remote and watches.refused == refused
            if not any(is_new):
                watches.keep([*wanted, *([] if self._config is None else [os.path.dirname(self._config[0])])])
                return listing, True
        return listing, False

    def _note(self, listing: Listing) -> None:
        """Remember what was found; what cannot be listed is as it was."""
        kept = self._jobs
        self._jobs = {location.path: key for key, (location, _) in listing.jobs.items()}
        for path in kept.keys() - self._jobs.keys():
            location = self._places.location(kept[path])
            if location is not None and (listing.may_have(location) or self._places.is_emptied(kept[path])):
                self._jobs[path] = kept[path]
        counted = (self._places.location(key) for key in self._jobs.values())
        self._counts = Counter(location.base for location in counted if location is not None)
        if listing.unreadable and listing.unreadable != self._listing.unreadable:
            for path, why in listing.unreadable.items():
                log.warning("cannot look into %s: %s", path, why)
        self._listing = listing

    def _take(self, noticed: Noticed) -> None:
        """Look at what events tell of."""
        for path in noticed.gone:
            if path in self._bases and self._watches is not None:
                self._full_due_s = 0.0
                self._watches.drop_below(path)
        files = {STATEPOINT_FILE, DOCUMENT_FILE} if self._documents else {STATEPOINT_FILE}
        written: dict[str, None] = {}  # jobs
        touched: dict[str, None] = {}  # other directories
        for (directory, name), is_directory in noticed.names.items():
            if is_directory:
                if directory not in self._jobs and not name.startswith("."):
                    touched[os.path.join(directory, name)] = None
            elif name in files:
                (written if directory in self._jobs else touched)[directory] = None
        if (written or touched) and self._overlap:
            self._full_due_s = min(self._full_due_s, self._last_s[0] + self._last_s[1] * MAX_AGE_TOOK)
            return
        changes: list[Change] = []
        keys = {self._jobs[path]: path for path in written}
        if keys:
            findings = self._read(keys, self._documents)
            changes += findings.changes
            left = keys.keys() - {change.id for change in findings.changes}
            touched.update(dict.fromkeys(keys[key] for key in left))
        if touched:
            changes += self._look_at(touched)
        self._tell(changes)

    def _look_at(self, paths: Iterable[str]) -> list[Change]:
        """Look at directories that have come or gone, or become jobs or no jobs."""
        by_place: dict[Place, list[str]] = {}
        for path in paths:
            place = next((each for each in self._places.places if path.startswith(f"{each.path.rstrip('/')}/")), None)
            if place is not None:
                by_place.setdefault(place, []).append(os.path.relpath(path, place.path))
        changes: list[Change] = []
        for place, names in by_place.items():
            names = [name for name in names if place.recursive or "/" not in name]
            listing = self._look_in(place, names)
            before = self._known_at(place, names)
            gone = {path: key for path, key in before.items() if key not in listing.jobs}
            for path, key in gone.items():
                location = self._places.location(key)
                if location is not None and not (listing.may_have(location) or self._places.is_emptied(key)):
                    del self._jobs[path]
                    self._counts[place.path] -= 1
                    changes.append(Change(key, None))
            for key, (location, _) in listing.jobs.items():
                if location.path not in self._jobs:
                    self._jobs[location.path] = key
                    self._counts[place.path] += 1
            there = {os.path.join(place.path, name) for name in names}
            there -= {location.path for location, _ in listing.jobs.values()} | set(listing.directories)
            if self._watches is not None:
                for path in there:
                    if path in self._watches:
                        self._watches.drop_below(path)
            changes += self._read(listing.jobs, self._documents).changes
        return changes

    def _look_in(self, place: Place, names: Sequence[str]) -> Listing:
        """List what is at *names* in *place* and below, after it is watched."""
        listing = Listing()
        for _ in range(_ROUNDS):
            listing = Listing()
            self._places.look(place, names, listing, set())
            if self._watches is None:
                break
            found = [*listing.directories, *(location.path for location, _ in listing.jobs.values())]
            refused = self._watches.refused
            # Also those that are watched by this path already: it may be another directory by now.
            is_new = [path not in self._watches for path in found]
            for path in found:
                self._watches.add(path)
            self._told = self._told and self._watches.refused == refused
            if not any(is_new):
                return listing
        self._full_due_s = min(self._full_due_s, time.monotonic() + RETRY_S)
        return listing

    def _known_at(self, place: Place, names: Iterable[str]) -> dict[str, JobId]:
        """Give the jobs that are known at *names* or below."""
        found: dict[str, JobId] = {}
        directories: list[str] = []
        for name in names:
            path = os.path.join(place.path, name)
            if path in self._jobs:
                found[path] = self._jobs[path]
            elif place.recursive:
                directories.append(f"{path}/")
        if directories:
            prefixes = tuple(directories)
            found.update((path, key) for path, key in self._jobs.items() if path.startswith(prefixes))
        return found

    def _end_asked(self, number: int) -> None:
        with self._changed:
            if number > self._ended:
                self._ended = number
                self._changed.notify_all()

    def _tell(self, changes: Sequence[Change]) -> None:
        for start in range(0, len(changes), BATCH):
            self.progress(0, 0)
            self._on_changes(changes[start : start + BATCH])


def _overlap(places: Sequence[Place]) -> bool:
    """Whether one place is, or may be below, another."""
    real = [os.path.join(os.path.realpath(place.path), "") for place in places]
    return any(one.startswith(other) for k, one in enumerate(real) for j, other in enumerate(real) if j != k)
