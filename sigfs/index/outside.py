"""Jobs outside of the workspace, as the index takes them: read, and compared with what is known of them.

Owned here: which of them are read, and which have gone. Where they are is ``model.places``'; the work is portioned as
that of the workspace is (``crawl``).

Their state point files may change in place, so that these are compared, too, with each look.
"""

from __future__ import annotations

import functools
from array import array
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from sigfs.index.crawl import Progress, differing, drop_known_documents, in_portions
from sigfs.model.places import Listing, Location, Places
from sigfs.model.reading import RawJobs, parse, read_chunk, stat_chunk
from sigfs.model.types import UNKNOWN, Change, Findings, JobId, Record, Stamp, Stamped

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from sigfs.index.table import Table

NOTHING_KNOWN: Final = Stamped([], array("Q"), array("Q"), array("Q"))


def revalidate_places(
    places: Places,
    known: Stamped = NOTHING_KNOWN,
    *,
    listing: Listing | None = None,
    documents: bool = False,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Findings:
    """Find what is not as it is known to be; with nothing known, read all jobs.

    As ``crawl.revalidate``. Gone is every known job that is not found, but not where that cannot be told, nor one that
    has lost its state point file and not its directory, which is pending.

    Args:
        known: of jobs outside of the workspace; see ``split``.
        listing: what was found just now, if it is at hand.
    Complexity: that of ``Places.listing``, and the reading of what has changed; with documents 3 us a job more.
    """
    found = places.listing() if listing is None else listing
    stamps = {
        key: Stamp(*rest)
        for key, *rest in zip(known.ids, known.statepoints, known.documents, known.contents, strict=True)
    }
    suspects: list[JobId] = []
    looks: list[JobId] = []
    for key, (_, stamp) in found.jobs.items():
        before = stamps.get(key)
        if before is None or before.statepoint != stamp or stamp == UNKNOWN:
            suspects.append(key)
        elif documents:
            looks.append(key)
    for base, keys, names in _by_base(places, looks):
        work = functools.partial(stat_chunk, base, documents=True)
        now = array("Q")
        for _, bodies in in_portions(work, names, executor, None):
            now.extend(bodies)
        before_documents = array("Q", [stamps[key].document for key in keys])
        suspects += [keys[k] for k in differing(before_documents, now, 0)]
    contents = {key: stamps[key].content for key in suspects if key in stamps}
    changes, pending = read_places(
        places, suspects, contents, documents=documents, executor=executor, progress=progress
    )
    for key in stamps.keys() - found.jobs.keys():
        location = places.location(key)
        if location is None or not (found.may_have(location) or places.is_emptied(key)):
            changes.append(Change(key, None))
        elif not found.may_have(location):
            pending.append(key)
    unreadable = [location.path for key in pending if (location := places.location(key)) is not None]
    if unreadable:
        places.troubles = dict.fromkeys(unreadable, "its state point cannot be read") | places.troubles
    told = {change.id for change in changes}
    told.update(pending)
    changes += [Change(key, None) for key in suspects if key in stamps and key not in told]  # gone since the listing
    return Findings(sorted(changes, key=lambda change: change.id), pending)


def read_places(
    places: Places,
    keys: Iterable[JobId],
    contents: dict[JobId, int] | None = None,
    *,
    documents: bool = False,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Findings:
    """Read jobs; those that are not there are left out.

    Args:
        contents: hashes of documents that are known, which are not parsed again.
    """
    changes: list[Change] = []
    pending: list[JobId] = []
    for base, some, names in _by_base(places, keys):
        work = functools.partial(_read, base, documents)
        for raw in in_portions(work, list(zip(some, names, strict=True)), executor, progress):
            if contents:
                drop_known_documents(raw, contents)
            batch = parse(raw)
            changes += [Change(row[0], Record(*row)) for row in batch.rows]
            pending += batch.pending
    return Findings(changes, pending)


def known_outside(table: Table, places: Places, base: str | None = None) -> Stamped:
    """What *table* knows of the jobs in the indexed directory *base*, or of those in none of now; O(jobs outside)."""
    stamped = Stamped([], array("Q"), array("Q"), array("Q"))
    now = {place.path for place in places.places}
    for key in places.known_keys():
        location = places.location(key)
        if location is None or (location.base if location.base in now else None) != base:
            continue
        stamp = table.stamp(key)
        if stamp is not None:
            stamped.ids.append(key)
            stamped.statepoints.append(stamp.statepoint)
            stamped.documents.append(stamp.document)
            stamped.contents.append(stamp.content)
    return stamped


def split(known: Stamped, places: Places) -> tuple[Stamped, Stamped]:
    """Part what is known of all jobs into that of the workspace's and that of those outside of it."""
    parts: tuple[list[int], list[int]] = [], []
    for k, key in enumerate(known.ids):
        parts[places.owns(key)].append(k)
    return _those(known, parts[0]), _those(known, parts[1])


class _Base(NamedTuple):
    base: str
    keys: list[JobId]
    names: list[str]


def _by_base(places: Places, keys: Iterable[JobId]) -> list[_Base]:
    found: dict[str, _Base] = {}
    for key in keys:
        location: Location | None = places.location(key)
        if location is not None:
            each = found.setdefault(location.base, _Base(location.base, [], []))
            each.keys.append(key)
            each.names.append(location.name)
    return list(found.values())


def _read(base: str, documents: bool, jobs: Sequence[tuple[JobId, str]]) -> RawJobs:
    return read_chunk(base, [key for key, _ in jobs], documents, [name for _, name in jobs])


def _those(known: Stamped, numbers: list[int]) -> Stamped:
    statepoints, documents, contents = (array("Q", [column[k] for k in numbers]) for column in known[1:])
    return Stamped([known.ids[k] for k in numbers], statepoints, documents, contents)
