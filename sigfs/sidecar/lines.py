"""The format of a sidecar: lines of JSON, in ASCII, that a person and any other program can read.

Owned here: what a line says, and what several lines say together. docs/sidecar.md is the reference.

The first line says what the file is. Each other one is about one job, and a later line of the same job replaces what
an earlier one says, key by key; ``"gone": true`` says that there is no such job, and nothing of before counts any more.
What follows the last end of a line was not written to its end, unless it is a whole record. Unknown keys are kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

import orjson

from sigfs.errors import SidecarError
from sigfs.model.statepoint import DIGITS_TO_ZERO
from sigfs.model.types import Json

FORMAT: Final = "sigfs-sidecar"
VERSION: Final = 1

LONGEST_LINE: Final = 2**27
"""Bytes. A longer line is none: a sparse file of a terabyte must not take all memory."""

SidecarRecord: TypeAlias = dict[str, Json]
"""What is said of a job: ``id``, ``path``, ``sp``, ``doc``, ``files``, ``data``, and what others have added."""

# Integers that orjson would make floats of: see ``sigfs.model.statepoint``. Times in ns have 19 digits, which fit.
_LONG: Final = (b"0" * 20, b"-" + b"0" * 19)


class Line(NamedTuple):
    """A line of a sidecar, but the first.

    Attributes:
        number: from 1, as editors count; the first line is 1.
        start: where it begins, in bytes.
        content: with the end of the line, if it has one.
        record: what it says; None if it is broken.
        why: how it is broken.
    """

    number: int
    start: int
    content: bytes
    record: SidecarRecord | None
    why: str = ""


@dataclass(slots=True)
class Contents:
    """What a sidecar says.

    Attributes:
        header: its first line.
        jobs: the latest of each job, by its id, in the order in which they were first named.
        broken: number of a line that says nothing, and why.
        torn: the last line was not written to its end; it says nothing.
        lines: how many there are.
    """

    header: Mapping[str, Json]
    jobs: dict[str, SidecarRecord] = field(default_factory=dict)
    broken: list[tuple[int, str]] = field(default_factory=list)
    torn: bool = False
    lines: int = 0


def header(id_function: str, workspace: str) -> bytes:
    r"""The first line of a sidecar.

    Args:
        workspace: its path, relative to the project's directory.

    >>> header("md5", "workspace")
    b'{"format": "sigfs-sidecar", "version": 1, "id_function": "md5", "workspace": "workspace"}\n'
    """
    return encode({"format": FORMAT, "version": VERSION, "id_function": id_function, "workspace": workspace})


def encode(record: Mapping[str, Json]) -> bytes:
    r"""Spell a line. Bytes of a path that are no UTF-8 become ``\udcXX``, as os.fsdecode reads them.

    Raises:
        TypeError, ValueError, RecursionError: a value that JSON has no form for, or that is nested too deep.
    """
    return json.dumps(record).encode("ascii") + b"\n"


def parse(content: bytes) -> SidecarRecord:
    """Read a line as the standard library does, mostly faster.

    Raises:
        ValueError: it is no JSON mapping.
    """
    digits = content.translate(DIGITS_TO_ZERO)
    try:
        value = json.loads(content) if any(long in digits for long in _LONG) else orjson.loads(content)
    except (ValueError, RecursionError):
        try:
            value = json.loads(content)
        except RecursionError:
            raise ValueError("nested too deep") from None
    if not isinstance(value, dict):
        raise ValueError("not a JSON mapping")
    return value


def read_header(content: bytes, path: str) -> Mapping[str, Json]:
    """Read the first line of the sidecar at *path*.

    Raises:
        SidecarError: it is none, or that of something newer.
    """
    try:
        found = parse(content)
    except ValueError:
        found = {}
    version = found.get("version")
    if found.get("format") != FORMAT or not isinstance(version, int):
        raise SidecarError(
            f"{path} does not begin as a sidecar does; move it away, and `sigfs sidecar update` makes a new one"
        )
    if version > VERSION:
        raise SidecarError(
            f"{path} is a sidecar of version {version}, and this sigfs knows {VERSION}: use a newer sigfs; nothing is "
            "changed"
        )
    return found


def split(data: Iterable[bytes], number: int, start: int) -> Iterator[Line]:
    """Read lines, each with its end; the last one may have none.

    Args:
        number, start: of the first of them.
    """
    for content in data:
        if content.strip():
            yield _line(content, number, start)
        number += 1
        start += len(content)


def merged(before: SidecarRecord | None, record: SidecarRecord) -> SidecarRecord | None:
    """What is said of a job by all its lines up to the one that says *record*; None if it is gone.

    >>> merged({"id": "a", "data": {}, "sp": {"n": 1}}, {"id": "a", "sp": {"n": 2}})
    {'id': 'a', 'data': {}, 'sp': {'n': 2}}
    """
    if record.get("gone") is True:
        return None
    return record if before is None else {**before, **record}


def collect(lines: Iterable[Line], contents: Contents) -> Contents:
    """Put what the lines say into *contents*."""
    jobs = contents.jobs
    for line in lines:
        contents.lines += 1
        record = line.record
        if record is None:
            if line.content.endswith(b"\n"):
                contents.broken.append((line.number, line.why))
            else:
                contents.torn = True
            continue
        job_id = record.get("id")
        if not isinstance(job_id, str):
            continue  # of a kind that is not known yet
        found = merged(jobs.get(job_id), record)
        if found is None:
            jobs.pop(job_id, None)
        else:
            jobs[job_id] = found
    return contents


def _line(content: bytes, number: int, start: int) -> Line:
    if len(content) > LONGEST_LINE:
        return Line(number, start, content, None, "too long")
    try:
        return Line(number, start, content, parse(content))
    except ValueError as error:
        return Line(number, start, content, None, str(error))
