"""Projects of any size, always the same ones.

Owned here: what job number i says. Seven jobs of ten are of a simulation (N, T, ensemble, flag), two of a model with
nested options, one of a heterogeneous rest with values of every type at one key; each has a key of its own value
(seed); six of ten have a document. 15 keys, 21 with documents, inner ones counted. Keys have up to 1000 values.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from hashlib import md5
from itertools import islice

import orjson

from sigfs.model.types import ABSENT, Batch, JobId, Row, Stamp

STATEPOINT = "signac_statepoint.json"
DOCUMENT = "signac_job_document.json"

_BATCH = 2000
_SETTLED_S = 2.5  # stamps of files younger than this are not relied on

_MIXED = (1, 1.0, True, "1", None, 0, 0.0, False, "true", "", 2, 2.5, "two", [1, 2], [])
_MODELS = ("LJ", "TIP4P", "SPC/E", "WCA", "hard sphere")
_ENSEMBLES = ("NVT", "NPT", "NVE")
_STATES = ("done", "failed", "running", "waiting")
_encode = json.JSONEncoder(sort_keys=True).encode


def _mix(number: int) -> int:
    """Scatter a number over 64 bits (splitmix64)."""
    z = (number + 1) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
    z = (z ^ z >> 27) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
    return z ^ z >> 31


def statepoint(number: int) -> dict[str, object]:
    """Give the state point of a job."""
    h = _mix(number)
    kind, h = h % 10, h // 10
    if kind < 7:
        ensemble = {"name": _ENSEMBLES[h % 3], "P": 0.5 * (h // 3 % 10)}
        n, t = 100 * (1 + h // 30 % 20), round(0.1 * (1 + h // 600 % 40), 1)
        return {"N": n, "T": t, "ensemble": ensemble, "seed": number, "flag": bool(h // 24000 & 1)}
    if kind < 9:
        options = {"a": {"b": h % 8}, "c": "xyz"[h // 8 % 3]}
        n, t = 100 * (1 + h // 24 % 20), round(0.1 * (1 + h // 480 % 40), 1)
        return {"N": n, "T": t, "model": _MODELS[h // 19200 % 5], "seed": number, "opts": options}
    mixed: dict[str, object] = {"foo": _MIXED[h % 15], "box": [h // 15 % 4, 2.0, 3], "seed": number}
    mixed["bar"] = h // 60 % 1000
    if h // 60000 % 3 == 0:
        mixed["opts"] = {}
    elif h // 60000 % 3 == 1:
        mixed["ensemble"] = "none"
    return mixed


def document(number: int) -> dict[str, object] | None:
    """Give the document of a job; None: it has none."""
    h = _mix(~number)
    if h % 10 >= 6:
        return None
    h //= 10
    said: dict[str, object] = {
        "energy": -(h % 10_000_000) / 1000,
        "step": h // 64 % 5_000_000,
        "done": bool(h >> 40 & 1),
    }
    said["status"] = _STATES[h >> 41 & 3]
    said["run"] = {"host": f"node{h % 64:02}"}
    return said


def job_id(text: str) -> JobId:
    """Compute the id of a state point from its text with sorted keys."""
    return JobId(md5(text.encode()).hexdigest())


def make_project(path: str) -> str:
    """Make an empty project as signac 2 does; give the path of its workspace."""
    workspace = os.path.join(path, "workspace")
    os.makedirs(os.path.join(path, ".signac"))
    os.mkdir(workspace)
    with open(os.path.join(path, ".signac", "config"), "w", encoding="utf-8") as file:
        file.write("schema_version = 2\n")
    return workspace


def write_file(path: str, data: bytes, workspace_fd: int) -> None:
    """Write a new file in the workspace."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666, dir_fd=workspace_fd)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)


def add_job(number: int, workspace_fd: int, documents: bool = True) -> JobId:
    """Make the directory and the files of a job as signac without threads does: the directory first."""
    text = _encode(statepoint(number))
    name = job_id(text)
    os.mkdir(name, dir_fd=workspace_fd)
    write_file(f"{name}/{STATEPOINT}", text.encode(), workspace_fd)
    if documents and (said := document(number)) is not None:
        write_file(f"{name}/{DOCUMENT}", _encode(said).encode(), workspace_fd)
    return name


def fill(workspace: str, numbers: range, documents: bool = True) -> list[JobId]:
    """Make jobs. About 100 µs a job on ext4."""
    fd = os.open(workspace, os.O_PATH | os.O_DIRECTORY)
    try:
        return [add_job(number, fd, documents) for number in numbers]
    finally:
        os.close(fd)


def project(base: str, jobs: int) -> str:
    """Give the path of the project with so many jobs below *base*, made unless it is there.

    Nobody may leave anything in it. Its files are old enough for their stamps to be relied on.
    """
    path = os.path.join(base, "projects", str(jobs))
    whole = path + ".complete"
    if not os.path.exists(whole):
        if os.path.exists(path):
            shutil.rmtree(path)
        fill(make_project(path), range(jobs))
        with open(whole, "w", encoding="utf-8"):
            pass
    age_s = time.time() - os.stat(whole).st_mtime
    if 0 <= age_s < _SETTLED_S:
        time.sleep(_SETTLED_S - age_s)
    return path


def order(base: str, jobs: int) -> str:
    """Give the path of a file with the ids of the first jobs and their numbers, sorted, made unless it is there."""
    path = os.path.join(base, f"order-{jobs}")
    if not os.path.exists(path):
        lines = sorted(f"{job_id(_encode(statepoint(number)))} {number}\n" for number in range(jobs))
        with open(path + "~", "w", encoding="ascii") as file:
            file.writelines(lines)
        os.replace(path + "~", path)
    return path


def rows(base: str, jobs: int, documents: bool) -> Iterator[Row]:
    """Give the rows that a crawl of such a project would give, without a project; each parsed from its own text."""
    with open(order(base, jobs), encoding="ascii") as file:
        for line in file:
            name, _, rest = line.partition(" ")
            number = int(rest)
            said = document(number) if documents else None
            if not documents:
                stamp = Stamp(_mix(number) | 2)
            elif said is None:
                stamp = Stamp(_mix(number) | 2, ABSENT)
            else:
                stamp = Stamp(_mix(number) | 2, _mix(-number) | 2, _mix(number << 32))
            parsed = orjson.loads(orjson.dumps(said)) if said is not None else {} if documents else None
            yield JobId(name), orjson.loads(orjson.dumps(statepoint(number))), parsed, stamp


def batches(base: str, jobs: int, documents: bool) -> Iterator[Batch]:
    """Give `rows` as a crawl does."""
    source = rows(base, jobs, documents)
    while chunk := list(islice(source, _BATCH)):
        yield Batch(chunk, [])
