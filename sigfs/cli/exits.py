"""The one table from exceptions to exit codes. It is shown in docs/cli.md."""

from __future__ import annotations

import os
from collections.abc import Mapping
from enum import IntEnum
from typing import Final

from sigfs.errors import (
    AmbiguousId,
    BadTemplate,
    FuseUnavailable,
    InvalidValue,
    MountBusy,
    MountPointError,
    NoSuchJob,
    ProjectError,
    QuerySyntaxError,
    SigfsError,
)


class Exit(IntEnum):
    """What the command's exit code says."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    PROJECT = 3
    JOB = 4
    MOUNT_POINT = 5
    FUSE = 6
    BUSY = 7
    INTERNAL = 70
    NOT_EXECUTABLE = 126
    NO_COMMAND = 127
    INTERRUPTED = 130
    PIPE = 141


MEANING: Final[Mapping[Exit, str]] = {
    Exit.OK: "done; for `find` also that nothing is found",
    Exit.FAILURE: "failed for a reason without a code of its own, or something that was checked is not as it should be",
    Exit.USAGE: "the command line, a query or a state point cannot be understood",
    Exit.PROJECT: "no project here, or one that cannot be used",
    Exit.JOB: "no such job, or an abbreviated id that several jobs share",
    Exit.MOUNT_POINT: "unfit mount point; `umount`: no sigfs mount",
    Exit.FUSE: "FUSE, or the chosen transport, cannot be used on this machine or by this user",
    Exit.BUSY: "the mount, or the index, is in use",
    Exit.INTERNAL: "a bug; the traceback is on standard error, or in the log of a background mount",
    Exit.NOT_EXECUTABLE: "`open`: the command cannot be run",
    Exit.NO_COMMAND: "`open`: there is no command of this name",
    Exit.INTERRUPTED: "interrupted",
    Exit.PIPE: "whoever read the output had seen enough: killed by SIGPIPE, as every program is",
}
"""What the manual page says of each."""

TABLE: Final[tuple[tuple[type[BaseException], Exit], ...]] = (
    (QuerySyntaxError, Exit.USAGE),
    (BadTemplate, Exit.USAGE),
    (InvalidValue, Exit.USAGE),
    (ProjectError, Exit.PROJECT),
    (NoSuchJob, Exit.JOB),
    (AmbiguousId, Exit.JOB),
    (MountPointError, Exit.MOUNT_POINT),
    (FuseUnavailable, Exit.FUSE),
    (MountBusy, Exit.BUSY),
    (SigfsError, Exit.FAILURE),
    (OSError, Exit.FAILURE),
    (KeyboardInterrupt, Exit.INTERRUPTED),
)
"""Exception class -> code; the first class that fits counts. Anything else is a bug: ``Exit.INTERNAL``."""


def exit_code(error: BaseException) -> Exit:
    """Look *error* up.

    >>> int(exit_code(MountBusy("in use"))), int(exit_code(ZeroDivisionError()))
    (7, 70)
    """
    return next((code for kind, code in TABLE if isinstance(error, kind)), Exit.INTERNAL)


def message_of(error: BaseException) -> str:
    """Say in one line what went wrong, as printed after ``sigfs:``.

    >>> message_of(FileNotFoundError(2, "No such file or directory", "/x"))
    '/x: No such file or directory'
    """
    if isinstance(error, FileNotFoundError) and not error.filename and not isinstance(error, SigfsError):
        try:
            os.getcwd()
        except OSError:
            return 'the working directory is not there any more: go to it anew, cd "$PWD", or to another one'
    if isinstance(error, OSError) and not isinstance(error, SigfsError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__
