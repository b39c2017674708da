"""What open directories list, and which listings the kernel may keep.

Owned here: listings with positions that stay what they are (I5), and the memory of which state of a directory the
kernel's own copy of its listing shows.

The kernel adds to its copy what any open directory reads that it was told to cache, wherever the positions fit. So the
copy is of one state only if all that read it do: directories opened in another state meanwhile are read without a copy.
A reader whose copy is dropped half way asks for the rest by position; so the listing is remembered here as long as the
kernel may have it.
"""

from __future__ import annotations

import itertools
import stat
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from sigfs.vfs.types import DirEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sigfs.vfs.freshness import Stamp
    from sigfs.vfs.types import Inode

NAMES_LIMIT: Final = 1 << 17
"""Names remembered in listings that nobody has open, some 100 bytes each; a listing itself counts as ``_OWN_COST``."""
_OWN_COST: Final = 4

Entry: TypeAlias = "str | tuple[str, int, int]"
"""The name of an entry of a virtual directory; of one on disk, name, S_IFMT part of the mode and st_ino."""


class Listing:
    """What ``readdir`` reads: entries come in as it advances, and keep their positions (I5)."""

    def __init__(self, entries: Iterator[Entry] | list[Entry]) -> None:
        """List *entries*, as far as anybody comes."""
        self._lock = threading.Lock()  # guards the two below; nothing else is locked meanwhile
        self._rest = iter(entries)
        self._read: list[Entry] = []
        if isinstance(entries, list):
            self._rest, self._read = iter(()), entries

    @property
    def count(self) -> int:
        """How many entries have been read so far."""
        return len(self._read)

    def starting(self, position: int) -> Iterator[DirEntry]:
        """Yield the entries from *position* on."""
        read = self._read
        while position < len(read) or self._reads_on(position):
            entry = read[position]
            position += 1
            if isinstance(entry, str):
                yield DirEntry(entry, position, stat.S_IFDIR, 0)
            else:
                yield DirEntry(entry[0], position, entry[1], entry[2])

    def _reads_on(self, position: int) -> bool:
        """Read until there is an entry at *position*; False if there is none."""
        read = self._read
        with self._lock:  # another reader may have come that far meanwhile, or farther
            read += itertools.islice(self._rest, max(0, position + 1 - len(read)))
        return position < len(read)


@dataclass(slots=True, eq=False)
class Kept:
    """A listing that the kernel may have a copy of.

    Attributes:
        stamp: the state of the directory that it shows: another one if anything was made, removed or renamed in it.
        handles: open directories that read it; guarded by the lock of ``Listings``.
        filled_s: monotonic time when the kernel was last told to begin a copy.
        listing: what they read; None until one of them begins. Whoever is second has the first one's.
    """

    stamp: Stamp
    handles: int = 0
    filled_s: float = field(default_factory=time.monotonic)
    _listing: Listing | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def listing(self) -> Listing | None:
        """See above."""
        return self._listing

    @property
    def count(self) -> int:
        """How many names have been read so far."""
        return 0 if self._listing is None else self._listing.count

    def share(self, made: Listing) -> Listing:
        """Have *made* read by all, unless there is one already; gives that which is."""
        with self._lock:
            if self._listing is None:
                self._listing = made
            return self._listing


class Listings:
    """Which listings the kernel may keep. Any thread may call any method; each is atomic.

    ``_lock`` guards everything here; nothing is locked or called meanwhile.
    """

    def __init__(self, limit: int = NAMES_LIMIT) -> None:
        """Remember none. *limit*: as ``NAMES_LIMIT``."""
        self._limit = limit
        self._lock = threading.Lock()
        self._kept: dict[Inode, Kept] = {}  # an entry dies with the node
        # of those that nobody has open; the least recently closed first. From a dict the first is taken in O(n).
        self._cost: OrderedDict[Inode, int] = OrderedDict()
        self._total = 0

    def __len__(self) -> int:
        return len(self._kept)

    def opened(self, inode: Inode, stamp: Stamp, is_fresh: Callable[[Kept], bool]) -> tuple[Kept | None, bool]:
        """Count an opened directory.

        Args:
            stamp: the state that it is in.
            is_fresh: says of the listing of that state whether the kernel's copy is to be read.

        Returns:
            What is to be read and cached, to be given to ``released``, None if nothing is to be cached; and whether the
            kernel may read the copy that it has. If not, it must drop that first.
        """
        with self._lock:
            kept = self._kept.get(inode)
            if kept is not None and kept.stamp == stamp:
                may_keep = kept.listing is not None and is_fresh(kept)
                if not may_keep:
                    kept.filled_s = time.monotonic()
            elif kept is not None and kept.handles:
                return None, False
            else:
                kept = self._kept[inode] = Kept(stamp)
                may_keep = False
            kept.handles += 1
            self._total -= self._cost.pop(inode, 0)
            return kept, may_keep

    def released(self, inode: Inode, kept: Kept) -> None:
        """Count a closed directory."""
        with self._lock:
            kept.handles -= 1
            if kept.handles or self._kept.get(inode) is not kept:
                return
            self._cost[inode] = _OWN_COST + kept.count
            self._total += self._cost[inode]
            while self._total > self._limit:
                other, cost = self._cost.popitem(last=False)
                self._total -= cost
                del self._kept[other]

    def drop(self, inode: Inode) -> None:
        """Forget the directory *inode*, which the kernel has forgotten."""
        with self._lock:
            if inode in self._kept:
                self._forget(inode)

    def _forget(self, inode: Inode) -> None:
        del self._kept[inode]
        self._total -= self._cost.pop(inode, 0)

    def check(self) -> None:
        """Assert that the books agree."""
        with self._lock:
            assert self._total == sum(self._cost.values()) <= self._limit
            assert self._cost.keys() == {inode for inode, kept in self._kept.items() if not kept.handles}
