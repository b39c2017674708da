"""What a snapshot says of itself, and where in a project its entries belong.

Owned here: that no word of an archive leads out of the directory that it is restored to.
"""

from __future__ import annotations

import json
from typing import Final, NamedTuple

from sigfs.errors import BackupError
from sigfs.export.manifest import is_inside
from sigfs.export.packed import entries
from sigfs.model.statepoint import ID_FUNCTIONS, is_job_id
from sigfs.model.types import Json

HEAD: Final = "sigfs-snapshot.json"
"""The first entry of a snapshot."""

FORMAT: Final = {"format": "sigfs-snapshot", "version": 1}

_HEAD_BYTES: Final = 2**26


class Head(NamedTuple):
    """What a snapshot says of itself.

    Attributes:
        workspace: path of the workspace in it.
        id_function: of the workspace.
        outside: paths of the jobs outside of that.
    """

    workspace: str
    id_function: str
    outside: frozenset[str]

    def job_of(self, path: str) -> str | None:
        """The job that the entry at *path* is, or is in."""
        below = path.removeprefix(f"{self.workspace}/")
        if below != path and is_job_id(name := below.partition("/")[0]):
            return f"{self.workspace}/{name}"
        while path and path not in self.outside:
            path = path.rpartition("/")[0]
        return path or None


def read_head(archive: str) -> Head:
    """What *archive* says of itself.

    Raises:
        BackupError: it is no snapshot, or of something newer.
        NotImportable: it is no archive, or damaged.
    """
    with entries(archive) as found:
        data = next((entry.file.read(_HEAD_BYTES) for entry in found if entry.path == HEAD and entry.file), None)
    if data is None:
        raise BackupError(f"{archive} is no snapshot: to bring directories into a workspace use sigfs import")
    try:
        values: dict[str, Json] = json.loads(data)
        is_ours = {key: values[key] for key in FORMAT} == FORMAT
        workspace, function, outside = (values[key] for key in ("workspace", "id_function", "outside"))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise _damaged(archive) from None
    if not is_ours:
        raise BackupError(f"{archive} was written by something newer; unpack it with tar or unzip")
    if not (isinstance(workspace, str) and isinstance(outside, list) and function in ID_FUNCTIONS):
        raise _damaged(archive)
    if not all(isinstance(path, str) and is_inside(path) for path in (workspace, *outside)):
        raise _damaged(archive)
    if any(f"/{path}".count("/.") for path in outside):  # no job is there, but .git/hooks may be
        raise _damaged(archive)
    return Head(workspace, str(function), frozenset(outside))


def _damaged(archive: str) -> BackupError:
    return BackupError(f"{archive}: {HEAD} in it is damaged; if it is to be trusted, unpack it with tar or unzip")
