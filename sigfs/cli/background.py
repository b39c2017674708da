"""Putting a mount into the background: fork, wait for the verdict, report.

Owned here: the pipe between the command and the server it starts. The server writes lines of JSON, each an object
with one key: ``progress`` [done, total] and ``note`` (a message), then ``ready`` (a ``MountReport``) or ``error``
[message, exit code].
The fork comes before any thread exists.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Final, NoReturn

from sigfs.cli.exits import Exit, exit_code, message_of
from sigfs.cli.logs import LogStyle, log_to_file
from sigfs.errors import MountError
from sigfs.mount import MountReport, report_from_json, report_to_json
from sigfs.mount.points import probe
from sigfs.transports.mounts import FS_TYPE, mounted, unmount

log = logging.getLogger(__name__)

ANSWER_S: Final = 30.0
"""How long a mount may take from being ready to its first answer."""

_TAKE_DOWN_S: Final = 10.0


class StartFailed(Exception):
    """The server did not come up."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


Server = Callable[[Callable[[MountReport], None], Callable[[int, int], None], Callable[[str], None]], int]
"""Mounts and serves; calls back with the report when ready, and before with (done, total) and with messages that the
user should see."""


def start(
    server: Server,
    mountpoint: str,
    log_file: str,
    style: LogStyle,
    progress: Callable[[int, int], None],
    note: Callable[[str], None],
) -> MountReport:
    """Run *server* in a process of its own until it says that it is ready and the mount point answers.

    Raises:
        StartFailed: it is not; nothing is left mounted or running.
    """
    return launch(server, mountpoint, log_file, style, progress, note)[1]


def launch(
    server: Server,
    mountpoint: str,
    log_file: str,
    style: LogStyle,
    progress: Callable[[int, int], None],
    note: Callable[[str], None],
) -> tuple[int, MountReport]:
    """As ``start``, and give the server's process as well: a child of this one."""
    readable, writable = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        os.close(readable)
        _become_server(server, writable, log_file, style)
    os.close(writable)
    try:
        report = _verdict(readable, progress, note, log_file)
        answer = probe(mountpoint, ANSWER_S).health
        if answer != "alive":
            raise StartFailed(f"{mountpoint} is mounted but {answer}; the log is {log_file}", Exit.FAILURE)
    except BaseException:
        _take_down(child)
        _clear(mountpoint)
        raise
    return child, report


def _verdict(
    readable: int, progress: Callable[[int, int], None], note: Callable[[str], None], log_file: str
) -> MountReport:
    with open(readable, encoding="ascii") as lines:
        for line in lines:
            match json.loads(line):
                case {"progress": [int(done), int(total)]}:
                    progress(done, total)
                case {"note": str(message)}:
                    note(message)
                case {"ready": str(report)}:
                    return report_from_json(report)
                case {"error": [str(message), int(code)]}:
                    raise StartFailed(message, code)
    raise StartFailed(f"the server ended unexpectedly; the log is {log_file}", Exit.INTERNAL)


def _take_down(child: int) -> None:
    """End the server that this process has started, gently first."""
    for number, patience_s in ((signal.SIGTERM, _TAKE_DOWN_S), (signal.SIGKILL, 1.0)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)
        deadline_s = time.monotonic() + patience_s
        while time.monotonic() < deadline_s:
            try:
                if os.waitpid(child, os.WNOHANG)[0]:
                    return
            except ChildProcessError:
                return
            time.sleep(0.01)


def _clear(mountpoint: str) -> None:
    """Take away the mount of a server that was killed while it started."""
    found = mounted(mountpoint)
    if found is not None and found.type == FS_TYPE and probe(mountpoint).health == "dead":
        with contextlib.suppress(MountError):
            unmount(mountpoint, lazy=True)


def _become_server(server: Server, writable: int, log_file: str, style: LogStyle) -> NoReturn:
    code: int = Exit.INTERNAL
    try:
        _detach(writable)
        without_log = log_to_file(log_file, style)
        with open(writable, "w", encoding="ascii") as channel:

            def tell(key: str, value: object) -> None:
                with contextlib.suppress(OSError, ValueError):  # the command may be gone
                    channel.write(json.dumps({key: value}) + "\n")
                    channel.flush()

            def ready(report: MountReport) -> None:
                tell("ready", report_to_json(report))
                with contextlib.suppress(OSError):
                    channel.close()

            if without_log:
                tell("note", f"there will be no log: {without_log}")
            try:
                code = server(
                    ready, lambda done, total: tell("progress", [done, total]), lambda said: tell("note", said)
                )
                tell("error", ["ended by a signal before it was mounted", int(Exit.INTERRUPTED)])
            except BaseException as error:
                code = exit_code(error)
                log.critical("%s", message_of(error), exc_info=code is Exit.INTERNAL)
                said = (
                    f"internal error: {error!r}; the log is {log_file}" if code is Exit.INTERNAL else message_of(error)
                )
                tell("error", [said, int(code)])
                raise
    finally:
        logging.shutdown()
        os._exit(code)


def _detach(kept: int) -> None:
    """Leave terminal, session, working directory and all inherited descriptors but *kept*."""
    os.setsid()
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) != kept:
            with contextlib.suppress(OSError):
                os.close(int(name))
