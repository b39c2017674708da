"""The words that every layer shares: what a job is called, what it says, how it changes.

Owned here: plain immutable data. No file is opened and no value is interpreted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NewType, TypeAlias

JobId = NewType("JobId", str)
"""32 lower-case hexadecimal digits: the name of a managed job's directory."""

# A value as the standard library's json reads it: None, bool, int of any size, float (NaN and the infinities
# too), str (lone surrogates too), list, dict with str keys. Not expressible as a finite recursive type that
# mypy would accept from json.loads, hence object.
Json: TypeAlias = object
StatePoint: TypeAlias = Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class Record:
    """What one job's directory said when it was read.

    Attributes:
        statepoint: the state point; None for a job whose state point is ``null``.
        document: the document; None where it was not asked for or cannot be read. A job without a document
            file has the empty document, as in signac.
    """

    id: JobId
    statepoint: StatePoint | None
    document: StatePoint | None = None

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
