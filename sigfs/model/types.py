"""The words that every layer shares: what a job is called, what it says, how it changes.

Owned here: plain immutable data. No file is opened and no value is interpreted.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, NewType, TypeAlias

JobId = NewType("JobId", str)
"""32 lower-case hexadecimal digits: the name of a managed job's directory."""

# A value as the standard library's json reads it: None, bool, int of any size, float (NaN and the infinities
# too), str (lone surrogates too), list, dict with str keys. Not expressible as a finite recursive type that
# mypy would accept from json.loads, hence object.
Json: TypeAlias = object
StatePoint: TypeAlias = Mapping[str, Json]

UNKNOWN: Final = 0
"""In a stamp: not looked at, or so young that the file may change once more without its time stamps telling."""

ABSENT: Final = 1
"""In a stamp: there is no such file."""


class Stamp(NamedTuple):
    """Fingerprints of a job's two metadata files, 64 bits each: with equal stamps, other than UNKNOWN, the files
    are as they were.

    Attributes:
        statepoint: hash of mtime_ns, ctime_ns, size and inode of the state point file, taken no later than its content.
        document: the same of the document file; ABSENT if there is none.
        content: hash of the document file's bytes; 0 if there is none. The state point's is the job's id (I1).
    """

    statepoint: int = UNKNOWN
    document: int = UNKNOWN
    content: int = 0


@dataclass(frozen=True, slots=True)
class Record:
    """What one job's directory said when it was read.

    Attributes:
        statepoint: the state point; None for a job whose state point is ``null``.
        document: the document; None where it was not asked for or cannot be read. A job without a document
            file has the empty document, as in signac.
        stamp: what the files were like; None if nobody looked. No part of what the record says.
    """

    id: JobId
    statepoint: StatePoint | None
    document: StatePoint | None = None
    stamp: Stamp | None = field(default=None, compare=False)

    def text(self) -> str:
        """Spell all that is said, so that records that say the same have the same text; ``==`` confuses 1 and true."""
        return json.dumps([self.id, self.statepoint, self.document], sort_keys=True)


@dataclass(frozen=True, slots=True)
class Change:
    """One job as it is now: its record, or None if the job is gone.

    A change states a fact and not a difference, so applying it twice is harmless.
    """

    id: JobId
    record: Record | None


Row: TypeAlias = tuple[JobId, StatePoint | None, StatePoint | None, Stamp]
"""The fields of a `Record`, for work in bulk: a tuple costs a fifth of a record."""


class Batch(NamedTuple):
    """Some jobs of a workspace as they were read.

    Attributes:
        rows: the jobs that could be read, by ascending id.
        pending: directories named like jobs that have no state point (yet).
    """

    rows: list[Row]
    pending: list[JobId]


class Findings(NamedTuple):
    """What a comparison of a workspace with what is known of it brought to light.

    Attributes:
        changes: jobs that are new, gone, or whose files are not as they were.
        pending: directories named like jobs that have no state point (yet).
    """

    changes: list[Change]
    pending: list[JobId]


class Stamped(NamedTuple):
    """What is known of the files of many jobs; parallel sequences, by ascending id, of the fields of `Stamp`."""

    ids: list[JobId]
    statepoints: array[int]
    documents: array[int]
    contents: array[int]
