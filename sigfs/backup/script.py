"""``restore.sh``: what a backup says, as a shell script that brings it back.

Owned here: how bytes are spelled for a shell. What the script does is in ``restore.sh`` beside this module; here it
gets its data, one call a job.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from importlib.resources import files
from typing import Final

from xxhash import xxh3_128_hexdigest

from sigfs.backup.kept import Backup, Kept
from sigfs.model.config import WORKSPACE_CONFIG
from sigfs.model.reading import DOCUMENT_FILE, STATEPOINT_FILE
from sigfs.model.statepoint import is_job_id
from sigfs.version import __version__

_PLAIN: Final = re.compile(rb"[\n\t -~]*")
_ESCAPED: Final = [bytes([c]) if 32 <= c < 127 else b"\\%03o" % c for c in range(256)]
_ESCAPED[ord("%")], _ESCAPED[ord("\\")] = b"%%", b"\\\\"
_BATCH: Final = 50
_BATCH_BYTES: Final = 60000
"""Directories that one call has, and bytes of their names: a program may be given 128 kB on the smallest systems."""


def script(backup: Backup, view: Mapping[str, str]) -> bytes:
    """The whole of ``restore.sh``.

    Args:
        view: path in the view -> id of the job that stands there.
    """
    paths = {job_id: path for path, job_id in view.items()}
    root = os.fsencode(backup.project)
    workspace = os.fsencode(backup.workspace)
    parts = [
        b"#!/bin/sh\n# Brings back the metadata of a signac project: sh restore.sh -h\n"
        b"# Made by sigfs %s of the state of %s.\n" % (__version__.encode(), backup.made.encode()),
        files("sigfs.backup").joinpath("restore.sh").read_bytes(),
        b"\norigin=%s\nproject=%s\nworkspace=%s\n"
        % tuple(map(quoted, (os.path.join(root, workspace), root, workspace))),
        b'main "$@"\nfi\n',
    ]
    for path, data in sorted(backup.files.items()):
        place = f"%/{WORKSPACE_CONFIG}" if path == f"{backup.workspace}/{WORKSPACE_CONFIG}" else f"./{path}"
        parts.append(_call(b"f", os.fsencode(place), _sum(data), content(data)))
    parts += [_call(b"d", *batch) for batch in _directories(view)]
    jobs = sorted(backup.jobs.values(), key=lambda job: (job.gone, paths.get(job.id, ""), job.id))
    parts += [_job(job, paths.get(job.id, "")) for job in jobs]
    parts.append(b"# end of restore.sh\n")
    return b"".join(parts)


def quoted(data: bytes) -> bytes:
    r"""A word of the shell; no NUL can be in it.

    >>> print(quoted(b"it's $a").decode())
    'it'\''s $a'
    """
    return b"'" + data.replace(b"'", rb"'\''") + b"'"


def content(data: bytes) -> bytes:
    r"""What the script's ``content`` prints as *data*: ``=`` and the text itself, or ``%`` and a format of printf.

    >>> content(b"it is"), content("ü%\r\0".encode())
    (b'=it is', b'%\\303\\274%%\\015\\000')
    """
    if _PLAIN.fullmatch(data):
        return b"=" + data
    text = b"".join(map(_ESCAPED.__getitem__, data))
    return b"%" + (rb"\055" + text[1:] if text.startswith(b"-") else text)


def _job(job: Kept, view: str) -> bytes:
    managed = is_job_id(job.id)
    words = [
        (job.id if managed else xxh3_128_hexdigest(os.fsencode(job.id))).encode(),
        os.fsencode(view),
        b"" if managed else os.fsencode(job.path),
    ]
    for name in (STATEPOINT_FILE, DOCUMENT_FILE):
        if name in job.files:
            data = job.files[name].data
            words += [_sum(data), content(data)]
    return _call(b"g" if job.gone else b"j", *words)


def _directories(view: Iterable[str]) -> Iterator[list[bytes]]:
    """Directories that the jobs of the view are in, less those that have another such, few at a time."""
    directories = {os.fsencode(path.rpartition("/")[0]) for path in view}
    above = {each.rpartition(b"/")[0] for each in directories}
    batch: list[bytes] = []
    for each in sorted(directories - above - {b""}):
        batch.append(each)
        if len(batch) == _BATCH or sum(map(len, batch)) > _BATCH_BYTES:
            yield batch
            batch = []
    if batch:
        yield batch


def _call(name: bytes, *words: bytes) -> bytes:
    return b" ".join([name, *map(quoted, words)]) + b"\n"


def _sum(data: bytes) -> bytes:
    return sha256(data).hexdigest().encode()
