"""The files of ``.sigfs``: what they hold, spelled when it is read.

Owned here: contents that never change. A content belongs to one moment; who looks the name up later may get another
one, and with it another node, so that everything the kernel keeps of a node stays true, and a file that is open goes
on saying what it said. ``Pages`` gives the contents of this moment; small ones are text, and ``Lines`` holds one line a
job for any number of jobs at the price of some hundred kilobytes: it spells the part that is read, from the index as it
is now and from what changed since.
"""

from __future__ import annotations

import errno
import json
import logging
import threading
import time
from array import array
from bisect import bisect_right
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, Protocol

from sortedcontainers import SortedDict

from sigfs.index.lines import Length, length, line, lines_after, total_length
from sigfs.index.schema import schema
from sigfs.vfs.metrics import exposition
from sigfs.vfs.types import FsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from sigfs.index import Delta, Index, Table
    from sigfs.model.types import Change, Json, Record

log = logging.getLogger(__name__)

_CHUNK_JOBS: Final = 1024
"""Jobs spelled at a time: 5 to 10 ms, in which no change can be taken in."""

_CHUNKS_KEPT: Final = 8
"""Of each open content; the kernel has a cache of its own."""

_GRACE_S: Final = 2.0
"""How long a content that nobody has opened stays true to its moment: between a lookup and the open that follows."""

_STATUS_S: Final = 1.0
"""How old a status may be while no job changes, so that it is not another one with each look."""


class Content(Protocol):
    """What a file holds. Any thread may call any method.

    Attributes:
        size: in bytes.
        changed_ns: when it came to be what it is.
    """

    size: int
    changed_ns: int

    def opened(self) -> None:
        """Begin to use it.

        Raises:
            FsError: ESTALE if that comes too late; the kernel then looks for the name again.
        """

    def closed(self) -> None:
        """End a use."""

    def read(self, offset: int, size: int) -> bytes:
        """Give up to *size* bytes at *offset*; fewer only at the end."""

    def read_nowait(self, offset: int, size: int) -> bytes | None:
        """As ``read`` if that costs nothing, else None."""


def _json(value: Json) -> str:
    return json.dumps(value, indent=2) + "\n"


class Text:
    """A content that is there as it stands."""

    def __init__(self, text: str, changed_ns: int) -> None:
        """Hold *text*."""
        self._data = text.encode()
        self.size = len(self._data)
        self.changed_ns = changed_ns

    def opened(self) -> None:
        """Nothing to do."""

    def closed(self) -> None:
        """Nothing to do."""

    def read(self, offset: int, size: int) -> bytes:
        """Give a part."""
        return self._data[offset : offset + size]

    read_nowait = read


class Lines:
    """One line for each job of one moment, by ascending id.

    Parts of it are spelled when they are read, in whichever order; reading it from the start costs some 7 µs a job, a
    place far behind what has been read so far as much as reading up to there. ``Pages.lock`` guards everything.
    """

    def __init__(self, pages: Pages, size: int, changed_ns: int, *, documents: bool) -> None:
        self.size = size
        self.changed_ns = changed_ns
        self._pages = pages
        self._documents = documents
        self._opens = 0
        self._needed_s = time.monotonic() + _GRACE_S
        self._is_lost = False
        self._before: SortedDict = SortedDict()  # id -> what the job said then; None: it was not there
        # By number of the chunk: where it ends, and its last id (None: it is the last chunk)
        self._ends = array("Q")
        self._last_ids: list[str | None] = []
        self._chunks: OrderedDict[int, bytes] = OrderedDict()  # least recently used first

    def opened(self) -> None:
        """Keep to the moment from now on."""
        with self._pages.lock:
            if self._is_lost:
                raise FsError(errno.ESTALE)
            self._opens += 1

    def closed(self) -> None:
        """Keep to it no longer than others want."""
        with self._pages.lock:
            self._opens -= 1

    def read(self, offset: int, size: int) -> bytes:
        """Give a part, spelling what leads there if need be."""
        size = min(size, self.size - offset)
        parts = []
        while size > 0:
            with self._pages.lock:
                part = self._part(offset, size, spell=True)
            if part is None:  # only so far: others may want the lock
                continue
            if not part:
                break
            parts.append(part)
            offset += len(part)
            size -= len(part)
        return b"".join(parts)

    def read_nowait(self, offset: int, size: int) -> bytes | None:
        """Give a part that has been spelled lately."""
        size = min(size, self.size - offset)
        parts = []
        with self._pages.lock:
            while size > 0:
                part = self._part(offset, size, spell=False)
                if part is None:
                    return None
                if not part:
                    break
                parts.append(part)
                offset += len(part)
                size -= len(part)
        return b"".join(parts)

    # With the lock held

    @property
    def is_open(self) -> bool:
        """Whether somebody uses it."""
        return self._opens > 0

    def follow(self, delta: Delta) -> bool:
        """Note what *delta* made different; tell whether this content is still needed."""
        if not self._opens and time.monotonic() > self._needed_s:
            self._is_lost = True
            return False
        for before, after in delta.jobs:
            self._before.setdefault((before or after).id, before)  # type: ignore[union-attr]
        return True

    def _part(self, offset: int, size: int, *, spell: bool) -> bytes | None:
        """Give some of the bytes at *offset*, b"" behind the end; None if another chunk has to be spelled before.

        Args:
            spell: spell one chunk, the one that is wanted or the next one on the way there.
        """
        ends = self._ends
        number = bisect_right(ends, offset)
        if number == len(ends):
            if self._last_ids and self._last_ids[-1] is None:
                return b""
            if spell:
                self._spell_next()
            return None
        chunk = self._chunks.get(number)
        if chunk is None:
            if not spell:
                return None
            chunk = self._spell(number)
        self._chunks.move_to_end(number)
        start = offset - (ends[number - 1] if number else 0)
        return chunk[start : start + size]

    def _after(self, number: int) -> str:
        """Give the id behind which a chunk begins."""
        last = self._last_ids[number - 1] if number else ""
        assert last is not None
        return last

    def _spell_next(self) -> None:
        number = len(self._ends)
        after = self._after(number)
        with self._pages.index.reading() as table:
            found = [*lines_after(table, after, _CHUNK_JOBS, documents=self._documents)]
        last = found[-1][0] if len(found) == _CHUNK_JOBS else None
        chunk = self._as_it_was(found, after, last)
        start = self._ends[-1] if number else 0
        self._ends.append(start + len(chunk))
        self._last_ids.append(last)
        self._keep(number, chunk)
        if last is None and self._ends[-1] != self.size:
            log.error("index.jsonl has %d bytes and not %d", self._ends[-1], self.size)

    def _spell(self, number: int) -> bytes:
        """Spell a chunk again."""
        after, last = self._after(number), self._last_ids[number]
        with self._pages.index.reading() as table:
            found = [*self._lines_between(table, after, last)]
        return self._keep(number, self._as_it_was(found, after, last))

    def _lines_between(self, table: Table, after: str, last: str | None) -> Iterator[tuple[str, str]]:
        while some := [*lines_after(table, after, _CHUNK_JOBS, documents=self._documents)]:
            for job_id, text in some:
                if last is not None and job_id > last:
                    return
                yield job_id, text
            after = some[-1][0]

    def _as_it_was(self, found: Sequence[tuple[str, str]], after: str, last: str | None) -> bytes:
        changed = [*self._before.irange(after, last, (False, True))]
        if changed:
            lines = dict(found)
            for job_id in changed:
                before: Record | None = self._before[job_id]
                if before is None:
                    lines.pop(job_id, None)
                else:
                    lines[job_id] = line(job_id, before.statepoint, before.document if self._documents else None)
            return "".join(text for _, text in sorted(lines.items())).encode()
        return "".join(text for _, text in found).encode()

    def _keep(self, number: int, chunk: bytes) -> bytes:
        self._chunks[number] = chunk
        while len(self._chunks) > _CHUNKS_KEPT:
            self._chunks.popitem(last=False)
        return chunk


class Pages:
    """The contents of this moment, and the way of changes into the index, so that no content misses one.

    ``lock`` guards the contents and how the index is followed. It is taken before the index's own locks, and nothing
    else is locked and no notification sent while it is held (I6).

    Attributes:
        changed_ns: when the jobs came to say what they say; the clock's, but always later than before.
    """

    def __init__(self, index: Index, changed_ns: int) -> None:
        """Have nothing spelled."""
        self.index = index
        self.changed_ns = changed_ns
        self.lock = threading.Lock()
        self._length: Length | None = None  # of the lines; of _generation
        self._generation = -1
        self._lines: dict[bool, Lines] = {}  # of _generation; with documents or without
        self._followed: list[Lines] = []  # those that may be read in spite of changes
        self._schemas: dict[bool, Text] = {}  # of _generation
        self._status: tuple[float, int, Text, Text] | None = None  # when made, of which generation; see ``status``

    def apply(self, changes: Sequence[Change], *, known_only: bool) -> Delta:
        """Take *changes* into the index. Cost: that of ``Index.apply``, and some 10 µs a change if lines were read."""
        with self.lock:
            delta = self.index.apply(changes, known_only=known_only)
            if delta.jobs:
                self._followed = [lines for lines in self._followed if lines.follow(delta)]
                if self._length is not None:
                    self._length = _changed(self._length, delta)
                self._begin(delta.generation)
                self.changed_ns = max(time.time_ns(), self.changed_ns + 1)
            return delta

    def lines(self, *, documents: bool) -> Lines:
        """Give the jobs as they are now.

        Complexity: O(1), but the first time O(values), see ``index.lines.total_length``.
        """
        with self.lock, self.index.reading() as table:
            self._see(table)
            if self._length is None:
                self._length = total_length(table)
            lines = self._lines.get(documents)
            if lines is None:
                lines = Lines(self, self._length.of(documents=documents), self.changed_ns, documents=documents)
                self._lines[documents] = lines
                self._followed.append(lines)
            return lines

    def schema(self, *, documents: bool) -> Text:
        """Give which keys and values there are; computed once after each change if somebody asks."""
        with self.lock, self.index.reading() as table:
            self._see(table)
            text = self._schemas.get(documents)
            if text is None:
                text = self._schemas[documents] = Text(_json(schema(table, documents=documents)), self.changed_ns)
            return text

    def status(self, status: Callable[[], Mapping[str, Json]]) -> tuple[Text, Text]:
        """Give what *status* says, as JSON and as metrics, as it is now or was a moment ago."""
        known, generation = self._status, self.index.generation
        if known is not None and known[1] == generation and time.monotonic() < known[0] + _STATUS_S:
            return known[2:]
        said, now_ns = status(), time.time_ns()
        texts = Text(_json(said), now_ns), Text(exposition([said]), now_ns)
        self._status = (time.monotonic(), generation, *texts)
        return texts

    def _see(self, table: Table) -> None:
        """Begin anew if the index has changed by another way, as while it is filled."""
        if self._generation != table.generation:
            self._length = None
            self._followed = [lines for lines in self._followed if lines.is_open]
            assert not self._followed, "the index was changed behind an open index.jsonl"
            self._begin(table.generation)

    def _begin(self, generation: int) -> None:
        self._generation = generation
        self._lines.clear()
        self._schemas.clear()


def _changed(known: Length, delta: Delta) -> Length:
    statepoints, documents = known
    for before, after in delta.jobs:
        for record, sign in ((before, -1), (after, 1)):
            if record is not None:
                of = length(record)
                statepoints += sign * of.statepoints
                documents += sign * of.documents
    return Length(statepoints, documents)
