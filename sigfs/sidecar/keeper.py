"""A sidecar that follows a mount.

Owned here: the thread that does it. Nobody who serves a request waits for it: it is told keys, and reads the jobs
itself a moment later, those of a moment together. What it has not come to when the process is killed, the next mount
finds: it compares the whole sidecar first, slowly enough not to be noticed.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final

from sigfs.errors import SidecarError
from sigfs.model.types import Change, JobId
from sigfs.sidecar.jobs import Sidecar
from sigfs.sidecar.updating import CHUNK_JOBS, Difference, differences, gone_jobs, known, listed

log = logging.getLogger(__name__)

_GROUP_S: Final = 0.5
"""How long changes are collected before they are written and synchronised together."""

_SHARE: Final = 0.2
"""Part of a processor's time that the comparison at the start takes."""

_AGAIN_S: Final = 30.0
"""How long it waits after the file could not be written."""

_SOON_S: Final = 2.0
"""How long it waits for descriptors or memory."""

_END_S: Final = 10.0
"""How long it may take to write down the rest at the end: the disk may hang."""

_REMEMBERED: Final = 2**16
"""Lines that are remembered so as not to be written twice."""

_CLOSED: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_PASSING: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.ESTALE})
"""What is over soon; nothing is lost until then."""


class Keeper:
    """Writes down what it is told of. Any thread may call any method."""

    def __init__(self, sidecar: Sidecar) -> None:
        """Do nothing yet."""
        self._sidecar = sidecar
        self._lock = threading.Lock()  # guards _told
        self._told: dict[JobId, None] = {}
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._has_given_up = False
        self._thread: threading.Thread | None = None
        self._workspace = (-1, -1)
        self._written: dict[JobId, int] = {}
        self._warned = False

    @property
    def has_begun(self) -> bool:
        """Whether it was started."""
        return self._thread is not None

    def start(self) -> None:
        """Begin. Whatever goes wrong from now on is said once, in the log."""
        self._workspace = self._identity()
        self._thread = threading.Thread(target=self._run, name="sigfs-sidecar", daemon=True)
        self._thread.start()

    def follow(self, changes: Sequence[Change]) -> None:
        """Be told what an index was told."""
        self.tell(change.id for change in changes)

    def tell(self, keys: Iterable[JobId]) -> None:
        """Be told that these jobs may not be what they were. Takes no time."""
        if self._has_given_up or self._stopped.is_set():
            return
        with self._lock:
            self._told.update(dict.fromkeys(keys))
        self._wake.set()

    def stop(self) -> None:
        """Write down what is left to be, and end."""
        self._stopped.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(_END_S)

    # In the thread

    def _run(self) -> None:
        has_caught_up = False
        while not self._stopped.is_set():
            try:
                if has_caught_up:
                    self._wake.wait()
                    self._stopped.wait(_GROUP_S)
                    self._write()
                else:
                    has_caught_up = self._catch_up()
            except FileNotFoundError:
                has_caught_up = False  # somebody has taken it away: it is made anew
                wait_s = _GROUP_S
            except Exception as error:  # noqa: BLE001 - nobody waits for this thread, and the mount must go on
                if isinstance(error, OSError) and error.errno in _PASSING:
                    log.info("the sidecar waits: %s", error)
                    wait_s = _SOON_S
                elif self._gives_up(error):
                    return
                else:
                    wait_s = _AGAIN_S
            else:
                continue
            self._written.clear()
            self._stopped.wait(wait_s)
        try:
            self._write()
        except Exception as error:  # noqa: BLE001 - as above
            self._gives_up(error)

    def _gives_up(self, error: Exception) -> bool:
        """Say what is wrong, once; whether it is for good."""
        if isinstance(error, SidecarError) or (isinstance(error, OSError) and error.errno in _CLOSED):
            log.info("the sidecar is not kept: %s", error)
            self._has_given_up = True
            self._told.clear()
            return True
        if not self._warned:
            self._warned = True
            log.warning("the sidecar cannot be written: %s; sigfs sidecar update brings it up to date", error)
        return False

    def _catch_up(self) -> bool:
        """Have the sidecar say what the jobs do that changed while nobody looked; False if that was interrupted."""
        sidecar = self._sidecar
        sidecar.begin()
        pace = _Pace(self._stopped)
        before = known(sidecar, pace.pause)
        if self._stopped.is_set():
            return False
        found = listed(sidecar)
        keys = iter(found.keys)
        while chunk := list(islice(keys, CHUNK_JOBS)):
            news, _ = differences(sidecar, before, chunk, forget=False)
            self._append([each.line() for each in news])
            if not pace.pause():
                return False
        missing, _ = gone_jobs(sidecar, before.looks, found)
        self._append([Difference(job_id, None, is_new=False).line() for job_id in missing])
        return True

    def _write(self) -> None:
        self._wake.clear()
        with self._lock:
            told, self._told = self._told, {}
        keys = iter(told)
        try:
            while chunk := list(islice(keys, CHUNK_JOBS)):
                self._append(self._news(chunk))
        except BaseException:
            with self._lock:
                self._told = told | self._told
            raise

    def _news(self, keys: Sequence[JobId]) -> list[bytes]:
        news = []
        believe = self._identity() == self._workspace  # or it has been unmounted, and the jobs with it
        for key in keys:
            for line in self._sidecar.lines_of([key], believe_gone=believe):
                if self._written.get(key) != hash(line):
                    while len(self._written) >= _REMEMBERED:
                        del self._written[next(iter(self._written))]
                    self._written[key] = hash(line)
                    news.append(line)
        return news

    def _append(self, lines: list[bytes]) -> None:
        if lines and self._sidecar.file.append(lines):
            self._sidecar.file.compact()

    def _identity(self) -> tuple[int, int]:
        try:
            status = os.stat(self._sidecar.workspace.path)
        except OSError:
            return (-1, -1)
        return status.st_dev, status.st_ino


class _Pace:
    """Keeps a long piece of work from taking more than its share of a processor."""

    def __init__(self, stopped: threading.Event) -> None:
        self._stopped = stopped
        self._since_s = time.thread_time()

    def pause(self) -> bool:
        """Wait as long as is due since the last time; False if there is no time any more."""
        now_s = time.thread_time()
        has_stopped = self._stopped.wait((now_s - self._since_s) * (1 / _SHARE - 1))
        self._since_s = now_s
        return not has_stopped
