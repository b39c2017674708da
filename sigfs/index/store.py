"""The store: the index on disk, so that the next process need not read every job.

Owned here: where it is, who may write it, whom it is believed from, and the order of steps in which it is written.
It is always disposable: whatever is wrong with it, the answer is to read the jobs instead.

A store is a directory (0700) of files (0600):

* ``snapshot``: the whole index at one moment, and the name of the journal that begins there. Only ever replaced.
* ``journal-<16 digits>``: what has changed since (`sigfs.index.journal`).
* ``lock``: locked (flock) by the one process that writes; says which, for messages.

Saving makes a new journal, then replaces the snapshot by one that names it, then forgets the old journal, while no
change can happen. A process that dies between any two of these steps leaves an old snapshot with its journal or a new
one with its, and perhaps files that nothing names, which the next writer removes.

What is read may be behind the jobs, and only that: changes are facts, so facts that are missing leave older ones, and
the stamps with them tell that the job must be looked at. Whoever loads an index compares it with the disk before
relying on it.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import xxhash

from sigfs.errors import DamagedStore, InvalidConfig
from sigfs.index import journal as journals
from sigfs.index.index import Index, without_collector
from sigfs.index.journal import Journal
from sigfs.index.place import (
    LOCK,
    NO_LOCKS,
    TRIES,
    Place,
    clear_way,
    distrust,
    find_holder,
    identity,
    lock_store,
    lock_trouble,
    make_place,
    name_holder,
    open_place,
    private_place,
    read_file,
    remove_directories,
    this_process,
    trusted,
    unfit,
)
from sigfs.index.snapshot import dump, parse, read_meta
from sigfs.model import files
from sigfs.model.settings import configured_state_dir
from sigfs.model.types import UNKNOWN, Change, Json
from sigfs.version import __version__

if TYPE_CHECKING:
    from sigfs.index.table import Table
    from sigfs.model.workspace import Workspace

log = logging.getLogger(__name__)

FORMAT: Final = 1
"""Of the snapshot's description and of the files' roles; what columns look like has a version of its own."""

SNAPSHOT: Final = "snapshot"

JOURNAL_BYTES: Final = 1 << 20
"""A journal up to this size is never worth a new snapshot; a longer one is if it is half as large as the snapshot."""

MOST_JOURNAL_BYTES: Final = 4 << 20
"""A journal of this size is always worth one: some 20,000 changes, which the next start would take 1 s to repeat."""

MOST_REPLAYED_BYTES: Final = 4 * MOST_JOURNAL_BYTES
"""A longer journal, which somebody could not make a snapshot of, is not repeated: to look at the jobs is quicker."""

MOST_SNAPSHOT_BYTES: Final = 1 << 32
"""A longer snapshot is none: a sparse file of a terabyte must not take all memory."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    """What `Store.load` has read: whoever writes may go on from there if it is still so.

    Attributes:
        listed: ``Index.listed``, by which the next start need not list the workspace: worth a new snapshot.
        snapshot: device, inode, modification time and size of the file.
        name, end, records: of the journal; name is empty if there was none to go on with.
    """

    index: Index
    generation: int
    listed: int
    snapshot: tuple[int, int, int, int]
    name: str
    end: int
    records: int


@dataclass(frozen=True, slots=True)
class Contents:
    """What a store takes on disk.

    Attributes:
        path: the directory that has a snapshot; None if there is none.
        snapshot_bytes, journal_bytes: sizes of the files; 0 where there is none.
        journal_records: whole records of the journal that was loaded, if one was.
        saved_s: seconds since 1970 at which the snapshot was written; None if there is none.
        holder: who writes it, as "process 42 on host"; None if nobody does.
    """

    path: str | None
    snapshot_bytes: int
    journal_bytes: int
    journal_records: int
    saved_s: float | None
    holder: str | None


class Store:
    """One project's index on disk. Any thread may call any method.

    Attributes:
        reason: why the store is not in the project, why it may not be written, or why what is there was not used.
    """

    def __init__(
        self, root: str, workspace: Workspace, places: Sequence[Place], writes: bool, reason: str, sync: bool
    ) -> None:
        """Read from *places*, and write the first one, if at all. Use `open`."""
        self.reason = reason
        self._root = root
        self._workspace = workspace
        self._places = list(places)
        self._writes = writes  # as far as one knows without trying
        self._sync = sync
        # Held while a snapshot is made. Taken before the index's own locks, so never within Index.apply.
        self._saving = threading.Lock()
        self._dir_fd = -1  # of the first place, from the moment the lock is held
        self._lock_fd = -1
        self._index: Index | None = None  # whose changes are written down
        self._loaded: _Loaded | None = None
        self._compaction: threading.Thread | None = None
        self._closed = False
        self._warned = False
        # Replaced only while no change can happen (Index.frozen); used by Index.apply.
        self._journal: Journal | None = None
        self._limit_bytes = JOURNAL_BYTES

    @classmethod
    def open(
        cls, project_root: str, workspace: Workspace, state_dir: str | None = None, *, sync: bool = False
    ) -> Store:
        """Find the place. Nothing is made, and nothing fails: at worst it is a store that keeps nothing.

        Args:
            state_dir: for stores of any number of projects, in place of the project's own ``.sigfs``; by default what
                configuration files say.
            sync: bring each change to the disk before it counts, for about 0.1 ms each.
        """
        root = os.path.abspath(project_root)
        key = xxhash.xxh3_64_hexdigest(os.fsencode(os.path.realpath(root)))
        if state_dir is None:
            try:
                state_dir = configured_state_dir(root)
            except InvalidConfig as error:
                log.warning("%s", error)
        if state_dir is None:
            wanted = Place(root, (".sigfs", "index"), private=False)
        else:
            wanted = Place(os.path.abspath(state_dir), ("index", key), private=False)
        private = private_place(root)
        whys = {place: unfit(place) for place in (wanted, private)}
        writable = [place for place, why in whys.items() if not why][:1]
        others = [place for place in whys if place not in writable and os.path.isdir(place.path)]
        return cls(root, workspace, [*writable, *others], bool(writable), whys[wanted], sync)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # Who writes

    @property
    def path(self) -> str | None:
        """The directory, which need not be there yet; None if there is no place for one."""
        return self._places[0].path if self._places else None

    @property
    def exists(self) -> bool:
        """Whether there is a snapshot to load, good or bad."""
        return any(os.path.lexists(os.path.join(place.path, SNAPSHOT)) for place in self._places)

    @property
    def writable(self) -> bool:
        """Whether `save` and `attach` would write: there is a place, and nobody else writes it."""
        if self._lock_fd >= 0:
            return True
        if not self._writes:
            return False
        holder = self.holder()
        if holder is not None:
            self.reason = f"{self.path} is in use by {holder}"
        return holder is None

    def holder(self) -> str | None:
        """Who writes this store, as "process 42 on host"; None if nobody does. For messages: it may change at once."""
        if self._lock_fd >= 0:
            return name_holder(this_process())
        try:
            with self._directory(self._places[0]) as dir_fd:
                return find_holder(dir_fd)
        except (OSError, IndexError):
            return None

    def claim(self) -> bool:
        """Become the one process that writes this store, until `close`; makes its directory if it is not there.

        Returns:
            False if that cannot be; `reason` says why.
        """
        with self._saving:
            return self._claim()

    def _claim(self) -> bool:
        if self._lock_fd >= 0:
            return True
        for _ in range(TRIES):
            if not self._writes or self._closed:
                break
            place = self._places[0]
            try:
                dir_fd = make_place(place)
            except OSError as error:
                self._move_on(f"{place.path} cannot be made: {error.strerror}")
                continue
            try:
                why = distrust(os.fstat(dir_fd), frozenset({os.geteuid()})) or lock_trouble(dir_fd)
                if not why or place.private:
                    self._lock_fd = lock_store(dir_fd)
                    self._dir_fd = dir_fd
                    return True
                self._move_on(f"{place.path} {why}")
            except BlockingIOError as error:
                self.reason = f"{place.path} is in use by {error.strerror}"
                os.close(dir_fd)
                return False
            except FileNotFoundError:
                pass  # dropped just now
            except OSError as error:
                what = "has no locks" if error.errno in NO_LOCKS else "cannot be locked"
                self._move_on(f"{place.path} {what}: {error.strerror}")
            os.close(dir_fd)
        return False

    def _move_on(self, why: str) -> None:
        """Give the first place up for the private one, if that is not it."""
        self.reason = why
        place = self._places[0]
        private = private_place(self._root)
        if place.private or unfit(private):
            self._writes = False
        else:
            self._places = [private, *(other for other in self._places if other != private)]

    # Reading

    def load(self) -> Index | None:
        """Read the snapshot and what the journal adds; None if there is nothing that can be used.

        The index says what the jobs were like when somebody last wrote it down: to be compared with the disk.

        Cost: about 1.5 µs a job, 35 to 65 µs a change in the journal, and once 0.5 µs a job for each key whose values
        hardly repeat, if the journal tells of a job that has it.
        """
        for place in self._places:
            try:
                with self._directory(place) as dir_fd, without_collector():
                    index = self._load(dir_fd)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except Exception as error:  # noqa: BLE001 - the store is disposable: whatever ails it, the jobs are read
                self.reason = f"what {place.path} holds cannot be used: {_said(error)}"
                log.info("%s", self.reason)
                continue
            if index is not None:
                return index
        return None

    def _load(self, dir_fd: int) -> Index | None:
        for _ in range(TRIES):
            snapshot, data = read_file(dir_fd, SNAPSHOT, self._trust, MOST_SNAPSHOT_BYTES)
            why = self._foreign(read_meta(data))
            if why:
                raise DamagedStore(why)
            table, meta = parse(data)
            index = Index(table, documents=meta.get("documents") is True)
            listed = meta.get("listed")
            index.listed = listed if isinstance(listed, int) else UNKNOWN
            name = meta.get("journal")
            if not isinstance(name, str) or not journals.is_journal(name):
                raise DamagedStore("the snapshot names no journal")
            try:
                _, data = read_file(dir_fd, name, self._trust, MOST_REPLAYED_BYTES)
                replayed = journals.read(data, name)
            except (OSError, ValueError) as error:
                if isinstance(error, FileNotFoundError) and identity(os.stat(SNAPSHOT, dir_fd=dir_fd)) != snapshot:
                    continue  # a writer has made a new snapshot in between
                log.info("%s: the journal cannot be used: %s", self.path, _said(error))
                name, replayed = "", journals.Replayed([], 0, 0)
            for changes in replayed.batches:
                index.apply(changes)
            self._loaded = _Loaded(
                index, index.generation, index.listed, snapshot, name, replayed.end, replayed.records
            )
            return index
        raise OSError(errno.EAGAIN, "it is replaced all the time")

    def _foreign(self, meta: Mapping[str, Json]) -> str:
        """Say why a snapshot with this description is of no use here; empty if it is."""
        for key, expected in self._description().items():
            if meta.get(key) != expected:
                return f"its {key} is {meta.get(key)!r}, not {expected!r}"
        return ""

    def _description(self) -> dict[str, Json]:
        """What a snapshot of this project says of itself. Paths are relative to the project, which may be moved."""
        from urllib.parse import quote_from_bytes

        workspace = os.path.abspath(self._workspace.path)
        if os.path.commonpath([workspace, self._root]) == self._root:
            workspace = os.path.relpath(workspace, self._root)
        return {
            "format": FORMAT,
            "workspace": quote_from_bytes(os.fsencode(workspace)),
            "id_function": self._workspace.id_function,
        }

    def _trust(self, status: os.stat_result) -> str:
        return distrust(status, trusted(self._workspace))

    @contextlib.contextmanager
    def _directory(self, place: Place) -> Iterator[int]:
        """Open a place to read from it.

        Raises:
            OSError: it is not there, or others than those one trusts may write it.
        """
        if self._dir_fd >= 0 and place == self._places[0]:
            yield self._dir_fd
            return
        fd = open_place(place)
        try:
            why = self._trust(os.fstat(fd))
            if why:
                raise PermissionError(errno.EPERM, why, place.path)
            yield fd
        finally:
            os.close(fd)

    def contents(self) -> Contents:
        """Say what the store takes on disk, and who writes it."""
        sizes = {SNAPSHOT: 0, "journal": 0}
        path = saved_s = None
        for place in self._places:
            with contextlib.suppress(OSError), self._directory(place) as dir_fd:
                status = os.stat(SNAPSHOT, dir_fd=dir_fd, follow_symlinks=False)
                path = place.path
                sizes[SNAPSHOT], saved_s = status.st_size, status.st_mtime
                for name in filter(journals.is_journal, os.listdir(dir_fd)):
                    sizes["journal"] += os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_size
                break
        journal, loaded = self._journal, self._loaded
        records = journal.records if journal else loaded.records if loaded else 0
        return Contents(path, sizes[SNAPSHOT], sizes["journal"], records, saved_s, self.holder())

    # Writing

    def attach(self, index: Index) -> None:
        """Write down what changes in *index* from now on, until `close`. Does nothing where nothing can be written.

        The index that `load` gave goes on with the journal that is there. For any other, and where the journal has
        become long, a snapshot is made, by a thread, also later on.
        """
        if not self.claim():
            log.info("changes of the index are not kept: %s", self.reason)
            return
        with self._saving:
            self._detach()
            with index.frozen() as table:
                self._index = index
                self._journal = self._resume(index, table.generation)
                index.journal = self._append
        if self._journal is None or self._journal.end > self._limit_bytes:
            self._compact()

    def save(self, index: Index) -> bool:
        """Replace what is kept by *index* as it is now. Changes wait meanwhile; readers do not.

        Returns:
            False if nothing can be written here; `reason` says why.
        Raises:
            OSError: it could not be written; what was kept before still is.
        Cost: about 1 s for a million jobs.
        """
        with self._saving:
            if not self._claim():
                return False
            if self._index is not None and self._index is not index:
                self._detach()
            with index.frozen() as table:
                self._replace(index, table)
            self._sweep()
            return True

    def _replace(self, index: Index, table: Table) -> None:
        """Write a journal and a snapshot that names it; changes go there from then on."""
        journal = Journal.create(self._dir_fd, self._sync)
        before = self._snapshot()
        size = 0
        try:
            meta: dict[str, Json] = {
                **self._description(),
                "documents": index.documents,
                "listed": index.listed,
                "journal": journal.name,
                "saved": time.time(),
                "sigfs": __version__,
            }
            data = b"".join(dump(table, meta))
            size = len(data)
            if before is not None:
                clear_way(self._dir_fd, SNAPSHOT)
            files.write_atomic(self._dir_fd, SNAPSHOT, data, 0o600)
        finally:
            # Also after an error that came when the snapshot was in place already.
            after = self._snapshot()
            if after is None or after == before or not size:
                journal.close()
                with contextlib.suppress(OSError):
                    os.unlink(journal.name, dir_fd=self._dir_fd)
            else:
                self._limit_bytes = _limit_bytes(size)
                self._loaded = _Loaded(index, table.generation, index.listed, after, journal.name, journal.end, 0)
                old, self._journal = self._journal, journal if index is self._index else None
                for each in (old, journal):
                    if each is not None and each is not self._journal:
                        each.close()

    def _resume(self, index: Index, generation: int) -> Journal | None:
        """Go on with the journal on disk, if it and its snapshot say what *index* says."""
        loaded = self._loaded
        if loaded is None or loaded.index is not index or loaded.generation != generation or not loaded.name:
            return None
        if loaded.snapshot != self._snapshot() or loaded.listed != index.listed:
            return None
        try:
            journal = Journal.resume(self._dir_fd, loaded.name, loaded.end, loaded.records, self._sync)
        except OSError:
            return None
        if journal is not None:
            self._limit_bytes = _limit_bytes(loaded.snapshot[-1])
            self._sweep(journal.name)
        return journal

    def _snapshot(self) -> tuple[int, int, int, int] | None:
        try:
            return identity(os.stat(SNAPSHOT, dir_fd=self._dir_fd, follow_symlinks=False))
        except OSError:
            return None

    def _sweep(self, journal: str = "") -> None:
        """Remove what those who died have left: temporary files, and journals that the snapshot does not name."""
        named = journal or (self._loaded.name if self._loaded else "")
        for name in os.listdir(self._dir_fd):
            if name.startswith(files.TEMPORARY_PREFIX) or (journals.is_journal(name) and name != named):
                _remove(self._dir_fd, name)

    def _append(self, changes: Sequence[Change]) -> None:
        """Take down changes: called by `Index.apply`, in their order."""
        journal = self._journal
        if journal is None:
            return
        journal.append(changes)
        if journal.end > self._limit_bytes:
            self._compact()

    def _compact(self) -> None:
        """Make a snapshot in a thread, unless one is at it."""
        if not self._closed and (self._compaction is None or not self._compaction.is_alive()):
            compaction = threading.Thread(target=self._compact_now, name="sigfs-index-save", daemon=True)
            compaction.start()  # first: who closes waits for it
            self._compaction = compaction

    def _compact_now(self) -> None:
        index = self._index
        try:
            if index is not None and not self._closed:
                self.save(index)
        except Exception as error:  # noqa: BLE001 - the store is disposable, and nobody waits for this thread
            if not self._warned:
                log.warning("the index cannot be saved in %s: %s", self.path, _said(error))
            self._warned = True
            self._limit_bytes *= 2  # not again with the next change

    def _detach(self) -> None:
        index, self._index = self._index, None
        if index is None:
            return
        with index.frozen():
            journal, self._journal = self._journal, None
            if index.journal == self._append:
                index.journal = None
        if journal is not None:
            journal.close()

    def close(self) -> None:
        """Stop writing, and let others. What was written down stays; nothing is saved, so that this takes no time.

        Only a snapshot that is being made is waited for.
        """
        self._closed = True
        thread = self._compaction
        if thread is not None:
            thread.join()
        with self._saving:
            self._detach()
            for fd in (self._lock_fd, self._dir_fd):
                if fd >= 0:
                    os.close(fd)
            self._lock_fd = self._dir_fd = -1

    def drop(self, dry_run: bool = False) -> list[str]:
        """Remove the store's own files, and its directories if nothing else is in them.

        Args:
            dry_run: remove nothing.
        Returns:
            The paths of the files.
        Raises:
            BlockingIOError: another process writes it; ``strerror`` says which.
            OSError: they cannot be removed.
        """
        found: list[str] = []
        for place in self._places:
            try:
                with self._directory(place) as dir_fd:
                    names = sorted(filter(_is_ours, os.listdir(dir_fd)))
                    found += [os.path.join(place.path, name) for name in names]
                    if not dry_run:
                        _drop(dir_fd, names)
            except (FileNotFoundError, NotADirectoryError):
                continue
            if not dry_run:
                remove_directories(place)
        return found


def _limit_bytes(snapshot_bytes: int) -> int:
    """Up to which length a journal is left as it is."""
    return max(JOURNAL_BYTES, min(snapshot_bytes // 2, MOST_JOURNAL_BYTES))


def _drop(dir_fd: int, names: Sequence[str]) -> None:
    lock_fd = lock_store(dir_fd)
    try:
        for name in names:
            if name != LOCK:
                _remove(dir_fd, name)
        os.unlink(LOCK, dir_fd=dir_fd)
    finally:
        os.close(lock_fd)


def _is_ours(name: str) -> bool:
    return name in {SNAPSHOT, LOCK} or journals.is_journal(name) or name.startswith(files.TEMPORARY_PREFIX)


def _remove(dir_fd: int, name: str) -> None:
    """Remove a file, or an empty directory that has the name of one; leave what cannot be removed."""
    try:
        os.unlink(name, dir_fd=dir_fd)
    except IsADirectoryError:
        with contextlib.suppress(OSError):
            os.rmdir(name, dir_fd=dir_fd)
    except OSError as error:
        log.info("%s cannot be removed: %s", name, error.strerror)


def _said(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__
