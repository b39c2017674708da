"""The one table from exceptions to exit codes. It is shown in docs/cli.md."""

from __future__ import annotations

import os
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
