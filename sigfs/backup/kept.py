"""What a backup directory has: the metadata of jobs, one file a run.

Owned here: ``metadata/0001.jsonl`` and so on, in the directory of a backup. The first line of each says what it is,
every other one is a record of the sidecar's kind, of a job, or of a file of the project. A file that says
``"full": true`` says all; others add to those before them, from the last full one on. No file is ever changed, so a
backup that is killed leaves all earlier ones as they were.

Bytes are text, with those that are no UTF-8 as surrogates, as Python's ``os.fsdecode`` has them.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from xxhash import xxh3_64_hexdigest

from sigfs.errors import BackupError
from sigfs.model import files
from sigfs.model.reading import DOCUMENT_FILE, STATEPOINT_FILE
from sigfs.model.statepoint import load_json
from sigfs.model.types import Json
from sigfs.version import __version__

DIRECTORY: Final = "metadata"
_FORMAT: Final = {"format": "sigfs-sidecar", "version": 1}
_KEYS: Final = ("full", "made", "project", "workspace", "id_function")
_FILE: Final = re.compile(r"([0-9]{4,9})\.jsonl")


class Seen(NamedTuple):
    """A metadata file as it was when it was read.

    Attributes:
        data: its bytes.
        mtime_ns: when it was written.
        stamp: as in `sigfs.model.types.Stamp`; with the same stamp the file is the same.
    """

    data: bytes
    mtime_ns: int = 0
    stamp: int = 0


@dataclass(slots=True)
class Kept:
    """A job.

    Attributes:
        id: its name; for a job outside of the workspace, as signac has it, its path from there.
        path: from the project's root.
        files: name -> what was read, of the state point file and the document.
        gone: the job had been removed.
    """

    id: str
    path: str
    files: dict[str, Seen] = field(default_factory=dict)
    gone: bool = False

    def is_alike(self, other: Kept) -> bool:
        """Whether both say the same."""
        return (self.path, self.gone, _contents(self)) == (other.path, other.gone, _contents(other))


@dataclass(slots=True)
class Backup:
    """What a backup directory says.

    Attributes:
        project: absolute path of the project's root.
        workspace: path of its workspace, from the root if it is in it.
        made: when the latest file was written; ISO 8601, in UTC. Empty if there is none.
        jobs: id -> job.
        files: path from the root -> bytes, of the files of the project itself.
        number: of the latest file; 0 if there is none.
        damaged: lines that could not be understood, "0001.jsonl, line 3".
    """

    project: str
    workspace: str
    made: str = ""
    id_function: str = "md5"
    jobs: dict[str, Kept] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    number: int = 0
    damaged: list[str] = field(default_factory=list)


def read(directory: str) -> Backup | None:
    """What is in a backup directory; None if nothing is.

    Raises:
        BackupError: something newer has written it, or it is of something else.
        OSError: it cannot be read.
    """
    try:
        names = sorted((int(match[1]), match[0]) for match in map(_FILE.fullmatch, os.listdir(directory)) if match)
    except FileNotFoundError:
        return None
    contents: list[tuple[str, dict[str, Json], list[bytes]]] = []
    for _, name in reversed(names):
        with open(os.path.join(directory, name), "rb") as file:
            head, *lines = file.read().splitlines() or [b""]
        values = _head(os.path.join(directory, name), head)
        contents.append((name, values, lines))
        if values["full"]:
            break
    if not contents:
        return None
    values = contents[0][1]
    made, function = str(values["made"]), str(values["id_function"])
    backup = Backup(str(values["project"]), str(values["workspace"]), made, function, number=names[-1][0])
    for name, _, lines in reversed(contents):
        for k, line in enumerate(lines, 2):
            try:
                _add(backup, json.loads(line))
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                backup.damaged.append(f"{name}, line {k}")
    return backup


def write(directory_fd: int, backup: Backup, jobs: Iterable[Kept], own: Mapping[str, bytes], *, full: bool) -> str:
    """Write the next file.

    Args:
        directory_fd: of what `read` reads.
        jobs, own: what the file is to say, of jobs and of files of the project.
        full: that is all.
    Returns:
        The name of the file. *backup* has its number and date then.
    Raises:
        OSError: nothing is written.
    """
    backup.number += 1
    backup.made = datetime.now(UTC).isoformat(timespec="seconds")
    name = f"{backup.number:04d}.jsonl"
    head = {
        **_FORMAT,
        "kind": "backup",
        "sigfs": __version__,
        "full": full,
        "made": backup.made,
        "project": backup.project,
        "workspace": backup.workspace,
        "id_function": backup.id_function,
    }
    lines = [json.dumps(head)]
    lines += [json.dumps({"file": path, "bytes": _text(data)}) for path, data in sorted(own.items())]
    lines += map(_line, jobs)
    files.write_exclusive(directory_fd, name, ("\n".join(lines) + "\n").encode("ascii"))
    return name


def _head(path: str, line: bytes) -> dict[str, Json]:
    with contextlib.suppress(ValueError, TypeError, KeyError):
        values: dict[str, Json] = json.loads(line)
        if (
            {key: values[key] for key in _FORMAT} == _FORMAT
            and values["kind"] == "backup"
            and values.keys() >= {*_KEYS}
        ):
            return values
    raise BackupError(f"{path}: its first line is not that of a backup of this version: choose another directory")


def _add(backup: Backup, values: dict[str, Json]) -> None:
    if "file" in values:
        backup.files[str(values["file"])] = _bytes(values["bytes"])
        return
    job_id = str(values["id"])
    if values.get("gone") and "bytes" not in values:
        backup.jobs[job_id].gone = True
        return
    texts, seen, stamps = (_mapping(values[key]) for key in ("bytes", "files", "stamps"))
    found = {name: Seen(_bytes(text), seen[name][1], stamps[name]) for name, text in texts.items()}
    if STATEPOINT_FILE not in found:
        raise KeyError(STATEPOINT_FILE)
    backup.jobs[job_id] = Kept(job_id, str(values["path"]), found, bool(values.get("gone")))


def _line(job: Kept) -> str:
    values: dict[str, Json] = {"id": job.id, "path": job.path}
    if job.gone:
        values["gone"] = True
    values["sp"] = _value(job.files[STATEPOINT_FILE].data)
    values["doc"] = _value(job.files[DOCUMENT_FILE].data) if DOCUMENT_FILE in job.files else None
    values["files"] = {
        name: [len(seen.data), seen.mtime_ns, xxh3_64_hexdigest(seen.data)] for name, seen in job.files.items()
    }
    values["bytes"] = {name: _text(seen.data) for name, seen in job.files.items()}
    values["stamps"] = {name: seen.stamp for name, seen in job.files.items()}
    return json.dumps(values)


def _value(data: bytes) -> Json:
    with contextlib.suppress(ValueError):
        return load_json(data)
    return None


def _contents(job: Kept) -> dict[str, bytes]:
    return {name: seen.data for name, seen in job.files.items()}


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _bytes(text: Json) -> bytes:
    if not isinstance(text, str):
        raise TypeError(text)
    return text.encode("utf-8", "surrogateescape")


def _mapping(value: Json) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(value)
    return value
