"""What an export or an import is asked for and what it tells: words that are needed before anything else is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

Progress: TypeAlias = Callable[[int, int], None]
"""Called now and then with what is done and how much there is to do."""

Archive: TypeAlias = Literal["zip", "tar", "tar.gz", "tar.zst"]
ARCHIVES: Final[Mapping[str, Archive]] = {
    ".tar.gz": "tar.gz",
    ".tar.zst": "tar.zst",
    ".tgz": "tar.gz",
    ".tar": "tar",
    ".zip": "zip",
}
"""The kind of archive that the end of a name asks for."""

Method: TypeAlias = Literal["symlink", "hardlink", "reflink", "copy", "move"]


@dataclass(slots=True)
class Report:
    """What has been done, or with ``dry_run`` would be. Paths are relative to the target.

    Attributes:
        unchanged: how many jobs stand where they stood.
        in_the_way: where something that is not ours stands, which stays.
        failed: path -> why of jobs that could not be copied or moved.
        pending: directories named like jobs that cannot be read as ones, which are nowhere.
    """

    target: str
    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    unchanged: int = 0
    in_the_way: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    pending: int = 0


@dataclass(slots=True)
class Imported:
    """What has been imported, or with ``dry_run`` would be. Paths are relative to the origin, "." is itself.

    Attributes:
        imported: path -> id of jobs that are new in the workspace.
        unchanged: path -> id of jobs that are in the workspace with the same data.
        failed: path -> why of jobs that could not be imported.
        left: directories with files that belong to no job.
        spelled: whether there are no state point files, so that the paths have been read.
    """

    origin: str
    imported: dict[str, str] = field(default_factory=dict)
    unchanged: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    spelled: bool = False
