"""The journal: what the index was told since its snapshot was written.

Owned here: the format of one file, ``journal-<16 hexadecimal digits>``. It is only ever appended to, by one process,
so that whatever a crash leaves is a whole beginning of it and perhaps a torn record, which ends it.

A header (24 bytes: magic, version, 0, the number in the name) is followed by records: u32 length and u64 xxh3_64 of
the payload, seeded with the number in the name, then the payload; all little-endian. A payload is the JSON text of a
list, with an item for each change: ``[id]`` for a job that is gone, else ``[id, state point, document, stamp]``, the
stamp being null or a list of its three numbers. Text that begins with a space was spelled by the standard library and
is read by it: it may hold NaN, the infinities, integers over 64 bits and lone surrogates. Nothing in it can run code.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import re
import struct
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import orjson
import xxhash

from sigfs.model.files import fsync_directory
from sigfs.model.statepoint import is_job_id
from sigfs.model.types import UNKNOWN, Change, JobId, Json, Record, Stamp

log = logging.getLogger(__name__)

VERSION: Final = 1

_NAME: Final = re.compile(r"journal-([0-9a-f]{16})")
_MAGIC: Final = b"sigfsJNL"
_HEADER: Final = struct.Struct("<8sIIQ")
_FRAME: Final = struct.Struct("<IQ")
HEADER_BYTES: Final = _HEADER.size

_RECORD_CHANGES: Final = 1024
"""Most changes in one record: what thousands of jobs need is not spelled in one piece of memory."""


class Replayed(NamedTuple):
    """What a journal says.

    Attributes:
        batches: to be applied one after the other; none names a job twice.
        records: how many whole records there are.
        end: where the last of them ends, in bytes; what follows was not written to its end.
    """

    batches: list[list[Change]]
    records: int
    end: int


def is_journal(name: str) -> bool:
    """Whether *name* is spelled like the name of a journal."""
    return _NAME.fullmatch(name) is not None


def new_name() -> str:
    """A name that no journal had before."""
    return f"journal-{os.urandom(8).hex()}"


def encode(changes: Sequence[Change]) -> bytes:
    """Spell *changes* as the payload of a record.

    Raises:
        TypeError, ValueError, RecursionError: a value that JSON has no form for, or that is nested too deep.

    >>> encode([Change(JobId("0" * 32), None)])
    b'[["00000000000000000000000000000000"]]'
    """
    rows: list[tuple[Json, ...]] = []
    nulls = 0
    for change in changes:
        record = change.record
        if record is None:
            rows.append((change.id,))
            continue
        statepoint, document, stamp = record.statepoint, record.document, record.stamp
        nulls += (statepoint is None) + (document is None) + (stamp is None)
        rows.append((change.id, statepoint, document, None if stamp is None else tuple(stamp)))
    try:
        text = orjson.dumps(rows)
        # orjson spells NaN and the infinities as null: more of these than were put in are a loss.
        if text.count(b"null") == nulls:
            return text
    except TypeError:
        pass
    return b" " + json.dumps(rows).encode("ascii")


def decode(payload: bytes) -> list[Change]:
    """Read the payload of a record.

    Raises:
        ValueError: it is none.
    """
    try:
        rows = json.loads(payload) if payload[:1] == b" " else orjson.loads(payload)
        if isinstance(rows, list):
            return [_change(row) for row in rows]
    except (TypeError, RecursionError) as error:
        raise ValueError(f"not a record of a journal: {error}") from error
    raise ValueError("not a record of a journal: no list")


def read(data: bytes, name: str) -> Replayed:
    """Read the content of the journal *name*, up to the first record that is not whole.

    Raises:
        ValueError: it does not begin as the journal of that name.
    Complexity: O(bytes).
    """
    number = _number(name)
    if data[:HEADER_BYTES] != _header(number):
        raise ValueError(f"{name} is not a journal of that name and of version {VERSION}")
    batches: list[list[Change]] = []
    batch: dict[JobId, Change] = {}
    records, end = 0, HEADER_BYTES
    for changes, after in _records(data, number, HEADER_BYTES):
        for change in changes:
            if change.id in batch and not _is_complete(change):
                batches.append(list(batch.values()))
                batch = {}
            batch[change.id] = change
        records, end = records + 1, after
    if batch:
        batches.append(list(batch.values()))
    return Replayed(batches, records, end)


class Journal:
    """A journal that is written.

    Not for several threads at once: the index serializes its changes.

    Attributes:
        name: of the file.
        end: where the last whole record ends, in bytes.
        records: how many there are.
        broken: nothing is appended any more: the file could not be brought back to its last whole record.
    """

    def __init__(self, fd: int, name: str, end: int, records: int, sync: bool) -> None:
        """Take over an open file that ends at *end*."""
        self.name = name
        self.end = end
        self.records = records
        self.broken = False
        self._fd = fd
        self._seed = _number(name)
        self._sync = sync
        self._warned = False

    @classmethod
    def create(cls, dir_fd: int, sync: bool = False) -> Journal:
        """Make a new journal in a directory and bring it to the disk.

        Args:
            sync: bring each record to the disk before `append` returns.
        Raises:
            OSError: there is no new file.
        """
        name = new_name()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, flags, 0o600, dir_fd=dir_fd)
        try:
            header = _header(_number(name))
            if os.write(fd, header) != len(header):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
            os.fsync(fd)
            fsync_directory(dir_fd)
        except BaseException:
            os.close(fd)
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=dir_fd)
            raise
        return cls(fd, name, HEADER_BYTES, 0, sync)

    @classmethod
    def resume(cls, dir_fd: int, name: str, end: int, records: int, sync: bool = False) -> Journal | None:
        """Go on with a journal that was read to *end*; what follows is cut off if it is no record.

        Returns:
            None if there are further records: somebody has written since.
        Raises:
            OSError: it cannot be opened or cut.
        """
        fd = os.open(name, os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
        try:
            size = os.fstat(fd).st_size
            tail = os.pread(fd, max(0, size - end), end)
            if size < end or any(True for _ in _records(tail, _number(name), 0)):
                os.close(fd)
                return None
            if size > end:
                os.ftruncate(fd, end)
        except BaseException:
            os.close(fd)
            raise
        return cls(fd, name, end, records, sync)

    def append(self, changes: Sequence[Change]) -> None:
        """Add *changes*, in one write for each thousand of them. Never raises.

        What cannot be written is left out, and said once: changes are facts, so what follows is still true, and the
        next start notices what is missing.
        """
        try:
            for first in range(0, len(changes), _RECORD_CHANGES):
                payload = encode(changes[first : first + _RECORD_CHANGES])
                self._write(_FRAME.pack(len(payload), xxhash.xxh3_64_intdigest(payload, self._seed)) + payload)
        except Exception as error:  # noqa: BLE001 - whatever a journal says must not disturb the index
            self._warn(error)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def _write(self, data: bytes) -> None:
        if self.broken:
            return
        try:
            if os.write(self._fd, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if self._sync:
                os.fdatasync(self._fd)
        except OSError:
            try:
                os.ftruncate(self._fd, self.end)
            except OSError:
                self.broken = True
            raise
        self.end += len(data)
        self.records += 1

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            self._warned = True
            log.warning("%s takes no more changes; the next start will look for them: %s", self.name, error)


def _is_complete(change: Change) -> bool:
    """Whether *change* says all of a job, so that what was said before does not matter."""
    record = change.record
    if record is None:
        return True
    # A stamp that does not know the document leaves what is known of it (Table.restamp).
    return record.document is not None and record.stamp is not None and record.stamp.document != UNKNOWN


def _records(data: bytes, seed: int, start: int) -> Iterator[tuple[list[Change], int]]:
    """Give the changes of each whole record in turn, and where it ends."""
    while start + _FRAME.size <= len(data):
        length, digest = _FRAME.unpack_from(data, start)
        start += _FRAME.size
        payload = data[start : start + length]
        start += length
        if len(payload) < length or xxhash.xxh3_64_intdigest(payload, seed) != digest:
            return
        try:
            yield decode(payload), start
        except ValueError:
            return


def _change(row: list[Json]) -> Change:
    match row:
        case [str() as name] if is_job_id(name):
            return Change(JobId(name), None)
        case [str() as name, dict() | None as statepoint, dict() | None as document, stamp] if is_job_id(name):
            return Change(JobId(name), Record(JobId(name), statepoint, document, _stamp(stamp)))
    raise ValueError("not a change")


def _stamp(numbers: Json) -> Stamp | None:
    match numbers:
        case None:
            return None
        case [int() as statepoint, int() as document, int() as content] if not (
            statepoint < 0 or document < 0 or content < 0 or max(numbers) >> 64
        ):
            return Stamp(statepoint, document, content)
    raise ValueError("not a stamp")


def _number(name: str) -> int:
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"{name!r} is no name of a journal")
    return int(match[1], 16)


def _header(number: int) -> bytes:
    return _HEADER.pack(_MAGIC, VERSION, 0, number)
