"""Where log messages go, and in which form: to standard error, or to the file of a background mount.

Owned here: the forms, the names of the files, their bound, and that nobody who logs ever waits for the disk that they
are on: a home directory may hang, or be full, while a project elsewhere is served.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import logging
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TextIO

import platformdirs
import xxhash

from sigfs.cli.exits import message_of
from sigfs.cli.registry import registrations

log = logging.getLogger(__name__)

KEPT_S: Final = 30 * 86400.0
"""How long the log of a mount point that is not used any more is kept."""

LOG_BYTES: Final = 1 << 20
"""A file this long becomes that of before, ``.1``, and another one is begun: so two of them at most."""

_WAITING: Final = 10_000
"""Messages that may wait for the disk. Further ones are lost, and counted."""

_FLUSH_S: Final = 2.0
"""How long the end of the process waits for the disk to take the last ones."""


@dataclass(frozen=True, slots=True)
class LogStyle:
    """What is logged, and how: the settings ``log_level`` and ``log_format``."""

    level: str = "info"
    format: str = "text"

    def formatter(self, text: str) -> logging.Formatter:
        """Make what spells a record; as text by the format *text*."""
        return JsonLines() if self.format == "json" else logging.Formatter(text)


class JsonLines(logging.Formatter):
    """One JSON object a line: ts (ISO 8601, UTC), level, logger, message, and exception where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Spell *record*."""
        said = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return json.dumps(said)


def log_to_stderr(style: LogStyle, without: Sequence[str] = ()) -> None:
    """Send log messages to stderr, but those that contain one of the words *without*."""
    handler = logging.StreamHandler()
    handler.addFilter(lambda record: not any(words in record.msg for words in without))
    handler.setFormatter(style.formatter("sigfs: %(levelname)s: %(message)s"))
    root = logging.getLogger("sigfs")
    root.addHandler(handler)
    root.setLevel(style.level.upper())
    if style.format == "json":
        threading.excepthook = _log_thread_error
    with contextlib.suppress(OSError, ValueError):  # no real file, as in a test
        faulthandler.enable(sys.stderr)


def log_directory() -> str:
    """Name the directory where logs are."""
    return platformdirs.user_log_dir("sigfs", appauthor=False)


def log_file_of(mountpoint: str) -> str:
    """Name the log file of a background mount."""
    name = os.path.basename(mountpoint) or "root"
    digest = xxhash.xxh3_64_hexdigest(os.fsencode(mountpoint))[:8]
    return os.path.join(log_directory(), f"{name}-{digest}.log")


def log_to_file(log_file: str, style: LogStyle) -> str:
    """Send log messages to a file; say why where that is impossible."""
    trouble = ""
    root = logging.getLogger()
    root.setLevel(style.level.upper())
    try:
        os.makedirs(os.path.dirname(log_file), mode=0o700, exist_ok=True)
        prune_logs(os.path.dirname(log_file))
        handler: logging.Handler = Unhurried(BoundedFile(log_file).write)
        _crashes_to(log_file)
    except OSError as error:
        handler = logging.NullHandler()
        trouble = message_of(error)
    handler.setFormatter(style.formatter("%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"))
    root.addHandler(handler)
    threading.excepthook = _log_thread_error
    return trouble


class BoundedFile:
    """A file of lines that stays bounded. For one thread.

    No ``logging.Handler``: ``logging.shutdown`` would wait for it, however long the disk hangs.
    """

    def __init__(self, path: str) -> None:
        """Open it.

        Raises:
            OSError: that cannot be done.
        """
        self._path = path
        self._fd = -1
        self._open()

    def write(self, text: str) -> None:
        """Add a line. What cannot be written, as on a full disk, is lost."""
        data = text.encode("utf-8", "backslashreplace") + b"\n"
        with contextlib.suppress(OSError):
            if self._size and self._size + len(data) > LOG_BYTES:
                os.replace(self._path, f"{self._path}.1")
                self.close()
            if self._fd < 0:
                self._open()
            self._size += os.write(self._fd, data)

    def close(self) -> None:
        """Close it; idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> None:
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._fd).st_size


class Unhurried(logging.Handler):
    """Has records written by a thread of its own, so that who logs never waits.

    What comes while ``_WAITING`` wait already is lost, and how much that was is written as soon as it goes on.
    """

    def __init__(self, write: Callable[[str], None], limit: int = _WAITING) -> None:
        """Begin.

        Args:
            write: writes a line; called by that thread.
        """
        super().__init__()
        self._write = write
        self._waiting: queue.Queue[str | None] = queue.Queue(limit)
        self._lost = 0  # guarded by the handler's own lock
        self._thread = threading.Thread(target=self._run, name="sigfs-log", daemon=True)
        # A signal must not be taken by this thread, whenever the others come to block it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self._thread.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def emit(self, record: logging.LogRecord) -> None:
        """Spell *record* now, and have it written."""
        try:
            text = self.format(record)
        except Exception:  # noqa: BLE001 - as every handler
            self.handleError(record)
            return
        try:
            if self._lost:
                self._waiting.put_nowait(self.format(_lost_record(self._lost)))
                self._lost = 0
            self._waiting.put_nowait(text)
        except queue.Full:
            self._lost += 1

    def flush(self) -> None:
        """Wait until all is written, at most for ``_FLUSH_S``."""
        deadline_s = time.monotonic() + _FLUSH_S
        while self._waiting.unfinished_tasks and self._thread.is_alive() and time.monotonic() < deadline_s:
            time.sleep(0.005)

    def close(self) -> None:
        """Write the rest, as far as the disk takes it."""
        self.flush()
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait(None)
        self._thread.join(_FLUSH_S)
        super().close()

    def _run(self) -> None:
        while (text := self._waiting.get()) is not None:
            self._write(text)
            self._waiting.task_done()


def _lost_record(count: int) -> logging.LogRecord:
    return log.makeRecord(
        log.name, logging.WARNING, __file__, 0, "%d messages are lost: the disk did not take them", (count,), None
    )


_crashes: TextIO | None = None


def _crashes_to(log_file: str) -> None:
    """Have Python write to the log where it was when it crashes (SIGSEGV and the like)."""
    global _crashes  # noqa: PLW0603 - has to stay open
    _crashes = open(log_file, "a", encoding="utf-8")  # noqa: SIM115
    faulthandler.enable(_crashes)


def prune_logs(directory: str) -> None:
    """Remove the logs of mount points where nobody has mounted for ``KEPT_S``."""
    in_use = {server.log_file for server in registrations()}
    with os.scandir(directory) as entries:
        for entry in entries:
            path = entry.path.removesuffix(".1")
            if path.endswith(".log") and path not in in_use:
                with contextlib.suppress(OSError):
                    if time.time() - entry.stat(follow_symlinks=False).st_mtime > KEPT_S:
                        os.unlink(entry.path)


def _log_thread_error(error: threading.ExceptHookArgs) -> None:
    if error.exc_value is not None:
        log.critical("unexpected error in a thread", exc_info=error.exc_value)
