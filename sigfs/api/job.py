"""Jobs, as Python programs meet them."""

from __future__ import annotations

import os
from dataclasses import dataclass

from sigfs.errors import NoSuchJob
from sigfs.model import files
from sigfs.model.statepoint import load_json
from sigfs.model.types import JobId, Json
from sigfs.model.workspace import DOCUMENT_FILE, Workspace


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """A handle of one job. It holds nothing that can grow old: every property looks at the disk.

    Handles of the same directory are equal.
    """

    workspace: Workspace
    id: JobId

    @property
    def path(self) -> str:
        """Absolute path of the job's directory."""
        return os.path.join(self.workspace.path, self.id)

    @property
    def statepoint(self) -> dict[str, Json] | None:
        """The state point, a dict of the caller's own; None for a job whose state point is ``null``.

        Raises:
            NoSuchJob: the directory is gone.
            PendingJob: it has no readable state point (yet).
        """
        statepoint = self.workspace.read(self.id).statepoint
        return None if statepoint is None else dict(statepoint)

    @property
    def document(self) -> dict[str, Json]:
        """The document as it is now, a dict of the caller's own: changing it changes no file. {} if there is none.

        Raises:
            NoSuchJob: the directory is gone.
            OSError: the file is there but cannot be read.
            ValueError: it is not a JSON mapping; the message names it.
        """
        try:
            fd = os.open(self.path, files.DIRECTORY_FLAGS)
        except (FileNotFoundError, NotADirectoryError):
            raise NoSuchJob(f"no job {self.id} in {self.workspace.path}") from None
        try:
            document = load_json(files.read_at(fd, DOCUMENT_FILE))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise ValueError(f"{self.fn(DOCUMENT_FILE)}: not JSON ({error})") from error
        finally:
            os.close(fd)
        if not isinstance(document, dict):
            raise ValueError(f"{self.fn(DOCUMENT_FILE)}: not a mapping")
        return document

    def fn(self, name: str) -> str:
        """The path of the file *name* in the job's directory."""
        return os.path.join(self.path, name)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Job):
            return NotImplemented
        return (self.id, self.workspace.path) == (other.id, other.workspace.path)

    def __hash__(self) -> int:
        return hash((self.id, self.workspace.path))

    def __repr__(self) -> str:
        return f"Job({self.path!r})"
