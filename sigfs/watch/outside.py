"""From events, or comparisons now and then, to changes of jobs outside of the workspace.

Owned here: the thread that looks at indexed directories and at the configuration that lists them. As for the workspace,
events are hints and truth is what is on disk. All reading that leads to a change is done by one thread, so that an
older reading never comes after a newer one.

Watched is every directory that was looked at, a job or not, by one watch each. Where there are more than may be
watched, or others change them whom the kernel does not see, everything is compared again and again, at no more than a
small share of a core. Their state points may change in place, so their files are followed whether documents are or not.

One of them may be on a disk that does not answer (see ``looking``). It is left out, with its jobs as they were, until
it answers; then everything is compared.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from sigfs.errors import InvalidConfig
from sigfs.model.config import find_config
from sigfs.model.indexed import read_indexed
from sigfs.model.places import Listing, Place, Places
from sigfs.model.types import Change, Findings, JobId, Json
from sigfs.model.workspace import DOCUMENT_FILE, STATEPOINT_FILE
from sigfs.watch.comparison import Interrupted
from sigfs.watch.directories import DirectoryWatches, Noticed
from sigfs.watch.looking import SILENT, Looks, Seen
from sigfs.watch.pace import Pace
from sigfs.watch.patience import PATIENCE_S, given_up
from sigfs.watch.sources import file_system_type, is_remote
from sigfs.watch.watcher import BATCH, MAX_AGE_S, MAX_AGE_TOOK, REVALIDATION_S

log = logging.getLogger(__name__)

START_PATIENCE_S: Final = 5.0
"""How long one system call may take in ``catch_up``: what has not answered then is missing from the mount at first."""

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
"""How long the end waits for the thread: the project itself may be on a disk that does not answer."""


class PlacesWatcher:
    """Tells *on_changes* what happens in the indexed directories of a project, from a thread of its own.

    Args:
        root: of the project, whose configuration is followed.
        places: gets what the configuration says, and knows which job is where.
        on_changes: as for ``WorkspaceWatcher``.
        revalidate: compares what was found in one place, with documents or without, with what the receiver knows of the
            jobs there; the path of the place is None for those that are in none any more. It should call ``progress``
            now and then.
        read: reads some jobs of one place, with documents or without; those that are not there are left out.
        documents: whether documents are followed from the start.
    """

    def __init__(
        self,
        root: str,
        places: Places,
        on_changes: Callable[[Sequence[Change]], None],
        *,
        revalidate: Callable[[Listing, bool, str | None], Findings],
        read: Callable[[Iterable[JobId], bool], Findings],
        documents: bool = False,
    ) -> None:
        self._root = root
        self._places = places
        self._on_changes = on_changes
        self._revalidate = revalidate
        self._documents = documents
        self._reason = ""
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._answered = threading.Event()  # a place that was silent is not any more
        self._closed = False
        self._wakeup = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._changed = threading.Condition()  # guards what follows
        self._asked = 0  # comparisons asked for
        self._ended = 0  # of those, told or failed

        # The thread's, read by others for a moment's state only.
        self._watches = self._open_watches()
        self._looks = Looks(places, self._watches, revalidate, read, self.progress, self._has_answered)
        self._progress: Callable[[int, int], None] | None = None  # during ``catch_up``
        self._seen: dict[Place, Seen] = {}  # the last that answered
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

    def catch_up(
        self, apply: Callable[[Sequence[Change]], object], progress: Callable[[int, int], None] | None = None
    ) -> int:
        """Look at everything once, before ``start``, and have *apply* take what was found.

        Args:
            progress: called now and then by any thread with (jobs read, jobs to read), (0, 0) if that is not known;
                what it raises ends this.

        Returns:
            How many directories are pending.
        """
        if not self._places:
            return 0
        self._progress, self._looks.patience_s = progress, START_PATIENCE_S
        try:
            changes, pending = self._compare()
        finally:
            self._progress, self._looks.patience_s = None, PATIENCE_S
        apply(changes)
        return pending

    def start(self) -> None:
        """Start the thread, which begins with a comparison, unless there has just been one."""
        self._thread = threading.Thread(target=self._run, name="sigfs-places", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for it; idempotent. No call of ``on_changes`` begins after this returns.

        Threads that hang in an indexed directory are left behind, and end when that answers.
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
            log.warning("the thread that looks at indexed directories has not ended")

    def progress(self, done: int, total: int) -> None:
        """Let a comparison go on.

        Raises:
            Interrupted: the watcher is being stopped, or nobody waits for this comparison any more.
        """
        if self._stopping.is_set() or given_up():
            raise Interrupted
        if self._progress is not None:
            self._progress(done, total)

    @property
    def silent(self) -> list[str]:
        """Paths of the indexed directories that do not answer."""
        return [place.path for place in self._places.places if self._listing.unreadable.get(place.path) == SILENT]

    def now(self) -> None:
        """Have all documents told, as they are now or were a moment ago; as ``WorkspaceWatcher.now``."""
        self._documents = True
        if not self._places.places:
            return
        begun_s, took_s = self._last_s
        if self._following and (self._told or time.monotonic() - begun_s < max(MAX_AGE_S, MAX_AGE_TOOK * took_s)):
            return
        self.compare()

    def compare(self) -> None:
        """Read the configuration again if it is another, and compare everything; returns when that has been told."""
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
            self._closed = True
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
        if self._answered.is_set():
            self._answered.clear()
            self._full_due_s = 0.0
        self._follow_configuration()
        self._check_bases()
        with self._changed:
            asked = self._asked
        if self._places.places and (asked > self._ended or time.monotonic() >= self._full_due_s):
            self._tell(self._compare()[0])
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
                self._tell(self._compare()[0])

    def _has_answered(self) -> None:
        with self._changed:
            self._answered.set()
            if not self._closed:
                os.eventfd_write(self._wakeup, 1)

    def _check_bases(self) -> None:
        for place in self._places.places:
            path = place.path
            found = self._looks.identity(place)
            if found is None:
                self._note_silent(place)
            elif self._bases.get(path, found[0]) != found[0]:
                log.info("%s is gone, has come, or is another directory now", path)
                self._full_due_s = 0.0
                if self._watches is not None:
                    self._watches.drop_below(path)

    def _note_silent(self, place: Place) -> None:
        """Have the next comparison take note of it, unless one has."""
        if place.path not in self._listing.unreadable:
            self._full_due_s = 0.0

    def _compare(self) -> tuple[list[Change], int]:
        """Look at everything; give what is not as it is known to be, and how many directories are pending."""
        begun_s, self._looks.cost_s = time.monotonic(), 0.0
        documents = self._documents
        listing, complete = self._look()
        findings = self._revalidate(Listing(), documents, None)
        emptied: set[str] = set()
        parts = {place.path: Listing(unreadable=listing.unreadable) for place in self._places.places}
        for key, job in listing.jobs.items():
            parts[job[0].base].jobs[key] = job
        for place in self._places.places:
            part = parts.pop(place.path, None)
            if part is None or listing.unreadable.get(place.path) == SILENT:
                continue
            found = self._looks.compare(place, part, documents, self._jobs)
            if found is None:
                listing.unreadable[place.path] = SILENT
                continue
            findings.changes.extend(found[0].changes)
            findings.pending.extend(found[0].pending)
            emptied |= found[1]
        self._note(listing, emptied)
        self._following = self._following or documents
        now_s = time.monotonic()
        self._last_s = (begun_s, now_s - begun_s)
        interval_s = self._pace.looked(changed=bool(findings.changes), cost_s=self._looks.cost_s)
        if not complete:
            interval_s = RETRY_S
        elif self._told:
            interval_s = REVALIDATION_S
        self._full_due_s = now_s + interval_s
        return findings.changes, len(findings.pending)

    def _look(self) -> tuple[Listing, bool]:
        """List everything that answers, after it is watched; tell whether that was possible."""
        places, watches = self._places.places, self._watches
        self._looks.forget(places)
        refused = 0 if watches is None else watches.refused
        listing, taken = Listing(), set[str]()
        complete = told = True
        for place in places:
            seen = self._looks.look(place, taken)
            if seen is None:
                listing.unreadable[place.path] = SILENT
                if place in self._seen:  # its jobs count for it all the same
                    taken = taken | self._seen[place].taken
                continue
            self._seen[place], taken = seen, seen.taken
            self._bases[place.path] = seen.identity
            listing.add(seen.listing)
            complete, told = complete and seen.complete, told and seen.told
        self._seen = {place: self._seen[place] for place in places if place in self._seen}
        self._bases = {place.path: self._bases[place.path] for place in places if place.path in self._bases}
        self._overlap = _overlap([self._seen[place].real if place in self._seen else place.path for place in places])
        self._places.troubles = listing.troubles
        self._told = told and watches is not None and watches.refused == refused
        if watches is not None and complete:
            jobs = [location.path for location, _ in listing.jobs.values()]
            config = [] if self._config is None else [os.path.dirname(self._config[0])]
            silent = watches.below([path for path, why in listing.unreadable.items() if why == SILENT])
            watches.keep([*listing.directories, *jobs, *config, *silent])
        return listing, complete

    def _note(self, listing: Listing, emptied: set[str]) -> None:
        """Remember what was found; what cannot be listed is as it was, and so are the jobs at the paths *emptied*."""
        kept = self._jobs
        self._jobs = {location.path: key for key, (location, _) in listing.jobs.items()}
        for path in kept.keys() - self._jobs.keys():
            location = self._places.location(kept[path])
            if location is not None and (path in emptied or listing.may_have(location)):
                self._jobs[path] = kept[path]
        counted = (self._places.location(key) for key in self._jobs.values())
        self._counts = Counter(location.base for location in counted if location is not None)
        if listing.unreadable != self._listing.unreadable:
            for path, why in listing.unreadable.items():
                if why != SILENT:  # which has been said
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
        for place, paths in self._by_place(written):
            keys = {self._jobs[path]: path for path in paths}
            findings = self._looks.read(place, keys, self._documents)
            if findings is None:
                self._note_silent(place)
                continue
            changes += findings.changes
            left = keys.keys() - {change.id for change in findings.changes}
            touched.update(dict.fromkeys(keys[key] for key in left))
        for place, paths in self._by_place(touched):
            changes += self._look_at(place, [os.path.relpath(path, place.path) for path in paths])
        self._tell(changes)

    def _by_place(self, paths: Iterable[str]) -> Iterator[tuple[Place, list[str]]]:
        found: dict[Place, list[str]] = {}
        for path in paths:
            place = next((each for each in self._places.places if path.startswith(f"{each.path.rstrip('/')}/")), None)
            if place is not None:
                found.setdefault(place, []).append(path)
        yield from found.items()

    def _look_at(self, place: Place, names: Sequence[str]) -> list[Change]:
        """Look at directories in a place that have come or gone, or become jobs or no jobs."""
        names = [name for name in names if place.recursive or "/" not in name]
        watches = self._watches
        refused = 0 if watches is None else watches.refused
        seen = self._looks.look_again(place, names, self._known_at(place, names), self._documents)
        if seen is None:
            self._note_silent(place)
            return []
        if not seen.complete:
            self._full_due_s = min(self._full_due_s, time.monotonic() + RETRY_S)
        for path in seen.gone:
            del self._jobs[path]
            self._counts[place.path] -= 1
        for key, (location, _) in seen.listing.jobs.items():
            if location.path not in self._jobs:
                self._jobs[location.path] = key
                self._counts[place.path] += 1
        if watches is not None:
            self._told = self._told and watches.refused == refused
            there = {os.path.join(place.path, name) for name in names}
            there -= {location.path for location, _ in seen.listing.jobs.values()} | set(seen.listing.directories)
            for path in there:
                if path in watches:
                    watches.drop_below(path)
        return [*(Change(key, None) for key in seen.gone.values()), *seen.changes]

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


def _overlap(paths: Sequence[str]) -> bool:
    """Whether one of them is, or may be below, another."""
    real = [os.path.join(path, "") for path in paths]
    return any(one.startswith(other) for k, one in enumerate(real) for j, other in enumerate(real) if j != k)
