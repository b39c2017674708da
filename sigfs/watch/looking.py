"""What has to do with the disks of indexed directories: looking at them, reading there, asking for events.

Owned here: that one which does not answer keeps nobody waiting who wants something of another. So all this is done by
another thread, for one place at a time, and waited for as long as that gets on (``Patience``). Nothing here knows what
was found before.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from sigfs.model.places import Listing, Place, Places
from sigfs.model.types import Change, Findings, JobId
from sigfs.watch.directories import DirectoryWatches
from sigfs.watch.patience import PATIENCE_S, NoAnswer, Patience
from sigfs.watch.sources import file_system_type, identity, is_remote

Result = TypeVar("Result")

SILENT: Final = "it does not answer"
"""Why nothing is known of a place: see ``Listing.unreadable``."""

_ROUNDS: Final = 4
"""So many times directories are listed again because some were not watched yet; then it is left to the next time."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look at one place gave.

    Attributes:
        identity: device and inode of the directory; None if it is not there.
        real: where it is.
        listing: of this place alone.
        taken: real paths of its jobs and of those of the places before it.
        told: events will tell of what happens there, as far as it could be watched.
        complete: everything was listed after it was watched.
    """

    identity: tuple[int, int] | None
    real: str
    listing: Listing
    taken: set[str]
    told: bool
    complete: bool


@dataclass(frozen=True, slots=True)
class SeenAgain:
    """What a look at some directories in a place gave.

    Attributes:
        gone: paths and keys of jobs that are there no more.
        changes: what the others say.
        complete: as in ``Seen``.
    """

    listing: Listing
    gone: Mapping[str, JobId]
    changes: Sequence[Change]
    complete: bool


class Looks:
    """Used by one thread. Methods that begin with an underscore run in the thread that has to do with the disk.

    Attributes:
        patience_s: how long one system call may take.
        cost_s: processor time that it all took; whoever wants to know sets it back.
    """

    def __init__(
        self,
        places: Places,
        watches: DirectoryWatches | None,
        revalidate: Callable[[Listing, bool, str | None], Findings],
        read: Callable[[Iterable[JobId], bool], Findings],
        progress: Callable[[int, int], None],
        answered: Callable[[], None],
    ) -> None:
        """Look at nothing yet.

        Args:
            watches: None: nothing can be watched.
            revalidate, read: as of ``PlacesWatcher``.
            progress: called with (0, 0) now and then by all threads; what it raises calls everything off.
            answered: called from any thread when a place that was silent has answered.
        """
        self._places = places
        self._watches = watches
        self._revalidate = revalidate
        self._reads = read
        self._progress = progress
        self._answered = answered
        self._patience: dict[str, Patience] = {}  # by path of the place
        self.patience_s = PATIENCE_S
        self.cost_s = 0.0

    # Each of these gives None if the place does not answer

    def identity(self, place: Place) -> tuple[tuple[int, int] | None] | None:
        """Give what directory is at the path of a place, None if none is, in a tuple."""
        return self._ask(place, lambda: (identity(place.path),))

    def look(self, place: Place, taken: set[str]) -> Seen | None:
        """List a place, after it is watched. *taken*: as in ``Places.look``, but left as it is."""
        return self._ask(place, lambda: self._look(place, taken))

    def compare(
        self, place: Place, listing: Listing, documents: bool, jobs: Mapping[str, JobId]
    ) -> tuple[Findings, set[str]] | None:
        """Compare what was found in a place with what is known of it.

        Args:
            listing: the jobs of this place.
            jobs: path -> key of all that were there before.

        Returns:
            Also the paths of jobs that have lost their state point file, and not more.
        """
        return self._ask(place, lambda: self._compare(place, listing, documents, jobs))

    def read(self, place: Place, keys: Iterable[JobId], documents: bool) -> Findings | None:
        """Read jobs of a place."""
        return self._ask(place, lambda: self._reads(keys, documents))

    def look_again(
        self, place: Place, names: Sequence[str], jobs: Mapping[str, JobId], documents: bool
    ) -> SeenAgain | None:
        """List and read what is at *names* in a place, and below, after it is watched.

        Args:
            jobs: path -> key of those that were there before.
        """
        return self._ask(place, lambda: self._look_again(place, names, jobs, documents))

    def forget(self, places: Sequence[Place]) -> None:
        """Keep patience only with *places*."""
        paths = {place.path for place in places}
        self._patience = {path: patience for path, patience in self._patience.items() if path in paths}

    def _ask(self, place: Place, work: Callable[[], Result]) -> Result | None:
        patience = self._patience.get(place.path)
        if patience is None:
            patience = self._patience[place.path] = Patience(place.path, self._answered)
        patience.patience_s = self.patience_s

        def timed() -> Result:
            try:
                return work()
            finally:
                self.cost_s += time.thread_time()  # of this thread, which does nothing else

        try:
            return patience.call(timed, lambda: self._progress(0, 0))
        except NoAnswer:
            return None

    # In another thread

    def _look(self, place: Place, taken: set[str]) -> Seen:
        path = place.path
        found, real = identity(path), os.path.realpath(path)
        watches = None if is_remote(file_system_type(path)) else self._watches
        complete = watches is None
        for _ in range(_ROUNDS):
            self._progress(0, 0)
            listing, now = Listing(), set(taken)
            self._places.look(place, [""], listing, now)
            if watches is None:
                break
            jobs = (location.path for location, _ in listing.jobs.values())
            new = [each for each in (*listing.directories, *jobs) if each not in watches]
            is_new = [watches.add(each, follow=each == path) for each in new]
            if not any(is_new):
                complete = True
                break
        return Seen(found, real, listing, now, watches is not None, complete)

    def _compare(
        self, place: Place, listing: Listing, documents: bool, jobs: Mapping[str, JobId]
    ) -> tuple[Findings, set[str]]:
        findings = self._revalidate(listing, documents, place.path)
        emptied = set()
        for path, key in jobs.items():
            location = self._places.location(key)
            if key not in listing.jobs and location is not None and location.base == place.path:
                self._progress(0, 0)
                if self._places.is_emptied(key):
                    emptied.add(path)
        return findings, emptied

    def _look_again(self, place: Place, names: Sequence[str], jobs: Mapping[str, JobId], documents: bool) -> SeenAgain:
        watches = self._watches
        complete = watches is None
        for _ in range(_ROUNDS):
            listing = Listing()
            self._places.look(place, names, listing, set())
            if watches is None:
                break
            found = [*listing.directories, *(location.path for location, _ in listing.jobs.values())]
            # Also those that are watched by this path already: it may be another directory by now.
            is_new = [path not in watches for path in found]
            for path in found:
                watches.add(path)
            if not any(is_new):
                complete = True
                break
        gone = {}
        for path, key in jobs.items():
            location = self._places.location(key)
            if key in listing.jobs or location is None or listing.may_have(location):
                continue
            if not self._places.is_emptied(key):
                gone[path] = key
        return SeenAgain(listing, gone, self._reads(listing.jobs, documents).changes, complete)
