"""The exception tree of sigfs.

Owned here: every exception that a caller of the package may want to catch. Each is also a builtin
exception, so that code that knows nothing of sigfs handles it sensibly, and each message names the
object and the remedy. Nothing below ``vfs`` knows an errno; nothing above ``vfs`` raises ``FsError``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Finding(Protocol):
    """Something about a job."""

    @property
    def id(self) -> str:
        """The name of its directory."""


class SigfsError(Exception):
    """Base of all errors that sigfs raises on purpose."""

    def __str__(self) -> str:
        # KeyError (a base of some subclasses) would show the repr of its message, Exception the arguments of OSError.
        return OSError.__str__(self) if isinstance(self, OSError) else Exception.__str__(self)


class ProjectError(SigfsError):
    """A project cannot be used as it is."""


class NoSuchProject(ProjectError, LookupError):
    """No project at the given path, or at any directory above it."""


class ProjectExists(ProjectError, FileExistsError):
    """A project cannot be made because one is there already."""


class UnsupportedSchema(ProjectError, ValueError):
    """The project was written by a version newer than this one knows."""


class InvalidConfig(ProjectError, ValueError):
    """A configuration file cannot be read or holds an impossible value."""


class NoSuchView(ProjectError, LookupError):
    """The project has no view of this name."""


class NoSuchJob(SigfsError, KeyError):
    """No job has this id (or begins with this abbreviation)."""


class DestinationExists(SigfsError, FileExistsError):
    """A job cannot get this state point, or be made, because there is one that has it already."""


class JobNotEmpty(SigfsError, OSError):
    """A job cannot be removed because its directory holds more than metadata. Its errno is ENOTEMPTY."""


class InvalidDocument(SigfsError, ValueError):
    """A document file holds no JSON mapping, or a document cannot be written as one. The message names the file."""


class JobChanged(SigfsError, RuntimeError):
    """A job is being changed by somebody else at the same time; it stays where it is, with what they have written."""


class DocumentChanged(SigfsError, RuntimeError):
    """A program that takes no lock has changed a document while it was being edited; nothing of the edit is written."""


class AmbiguousId(SigfsError, LookupError):
    """Several jobs begin with this abbreviated id."""


class PendingJob(SigfsError, LookupError):
    """The directory is named like a job but has no readable state point (yet)."""


class InvalidValue(SigfsError, ValueError):
    """A value cannot be kept in a state point or document: it has no form in JSON, or has a key that signac refuses."""


class JobsCorrupted(SigfsError, RuntimeError):
    """Jobs of a project are not sound.

    Attributes:
        findings: what is wrong, a `sigfs.api.checking.Finding` each.
        job_ids: the ids of the jobs.
        done: what a repair has done to others, a `sigfs.api.checking.Done` each.
    """

    def __init__(self, message: str, findings: Sequence[Finding] = (), done: Sequence[Finding] = ()) -> None:
        super().__init__(message)
        self.findings = tuple(findings)
        self.job_ids = [finding.id for finding in self.findings]
        self.done = tuple(done)

    def __reduce__(self) -> tuple[type[JobsCorrupted], tuple[str, Sequence[Finding], Sequence[Finding]]]:
        return type(self), (str(self), self.findings, self.done)


class InvalidStatePoint(InvalidValue):
    """A value cannot be a state point: not a JSON mapping, or a key that signac refuses."""


class QuerySyntaxError(SigfsError, ValueError):
    """A query cannot be understood.

    Attributes:
        text: the query as given; empty where it was not text.
        column: 1-based position in ``text`` where the trouble begins; 0 where it was not text.
    """

    def __init__(self, message: str, text: str = "", column: int = 0) -> None:
        super().__init__(f"{message} (column {column}: {text!r})" if column else message)
        self.text = text
        self.column = column


class QueryTooCostly(SigfsError, TimeoutError):
    """A regular expression needs longer than a query may take."""


class BadTemplate(SigfsError, ValueError):
    """A layout that is written as a template cannot be understood."""


class NotInvertible(SigfsError, ValueError):
    """A path of a view does not say which state point a job there would have; the message says why."""


class DamagedStore(SigfsError, ValueError):
    """What is kept of an index cannot be used; it is built anew from the job directories."""


class SidecarError(SigfsError, ValueError):
    """A sidecar cannot be used as it is; nothing is changed."""


class ExportError(SigfsError, ValueError):
    """A view cannot be exported so, or not there."""


class NotImportable(SigfsError, ValueError):
    """Nothing can be imported from an origin, or not so; or jobs that were to be imported stay where they are."""


class BackupError(SigfsError, ValueError):
    """A backup or a snapshot cannot be made there, or cannot be used."""


class MountError(SigfsError, OSError):
    """A file system cannot be mounted or unmounted."""


class MountPointError(MountError):
    """The mount point itself is unfit: missing, not empty, inside the workspace, in use."""


class FuseUnavailable(MountError):
    """FUSE or the chosen transport cannot be used on this machine or by this user."""


class MountBusy(MountError):
    """A mount cannot be taken away because processes use it."""


class SigfsDeprecationWarning(DeprecationWarning):
    """An older name is used; the message has the newer one."""
