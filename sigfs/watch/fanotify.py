"""Events of a whole file system, by fanotify: one mark, whatever the number of jobs. Needs CAP_SYS_ADMIN.

Owned here: the binary layout of events, and the one mark. Everybody's events arrive here, so names are looked at
first: only what is called like a job, in the workspace, or like a metadata file, anywhere, goes further.
"""

from __future__ import annotations

import ctypes
import logging
import os
import struct
import sys
from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

from sigfs.model.statepoint import ID_LENGTH, is_job_id
from sigfs.model.types import JobId
from sigfs.watch import handles
from sigfs.watch.handles import JobHandles
from sigfs.watch.sources import APPEARED, DOCUMENT, FILES, LOOK, VANISHED, NoEvents, Noticed

log = logging.getLogger(__name__)

CLOSE_WRITE: Final = 0x8
MOVED_FROM: Final = 0x40
MOVED_TO: Final = 0x80
CREATE: Final = 0x100
DELETE: Final = 0x200
Q_OVERFLOW: Final = 0x4000
ONDIR: Final = 0x40000000

_EVENTS: Final = CREATE | DELETE | MOVED_FROM | MOVED_TO | CLOSE_WRITE | ONDIR

_CLOEXEC, _NONBLOCK, _UNLIMITED_QUEUE = 0x1, 0x2, 0x10
_REPORT_DFID_NAME: Final = 0x400 | 0x800
_MARK_ADD, _MARK_FLUSH, _MARK_ONLYDIR, _MARK_FILESYSTEM = 0x1, 0x80, 0x8, 0x100

_METADATA: Final = struct.Struct("=IBBHQii")  # event_len, vers, reserved, metadata_len, mask, fd, pid
_INFO: Final = struct.Struct("=BBHQI")  # info_type, pad, len, fsid, handle_bytes; then handle_type, handle, name
_INFO_TYPE_DFID_NAME: Final = 2
_HANDLE_AT: Final = 12  # of struct file_handle in the record: after the header and the fsid
_HANDLE_HEADER: Final = 8  # handle_bytes, handle_type
_METADATA_VERSION: Final = 3
_READ_BYTES: Final = 1 << 18
_OVERFLOW: Final = Q_OVERFLOW.to_bytes(8, sys.byteorder)  # a mask


class Event(NamedTuple):
    """One event, perhaps several of the kernel's merged into one.

    Attributes:
        mask: bits of what happened.
        pid: of the process that did it; 0 if it is not to be seen from here.
        handle: ``struct file_handle`` of the directory that *name* is in; empty if the event has none.
    """

    mask: int
    pid: int
    handle: bytes
    name: bytes


def parse(data: bytes) -> Iterator[Event]:
    """Take apart what was read from a fanotify descriptor with FAN_REPORT_DFID_NAME.

    Raises:
        ValueError: the layout is not the one that is known here.
    """
    at, end = 0, len(data)
    while at < end:
        try:
            length, version, _, header, mask, _, pid = _METADATA.unpack_from(data, at)
        except struct.error as error:
            raise ValueError(f"event cut short: {error}") from error
        if version != _METADATA_VERSION or header < _METADATA.size or length < header or at + length > end:
            raise ValueError(f"unknown layout of event: version {version}, {header} of {length} bytes")
        handle = name = b""
        info, stop = at + header, at + length
        while info + _INFO.size <= stop:
            kind, _, info_length, _, handle_bytes = _INFO.unpack_from(data, info)
            if kind == _INFO_TYPE_DFID_NAME:
                name_at = info + _HANDLE_AT + _HANDLE_HEADER + handle_bytes
                handle = data[info + _HANDLE_AT : name_at]
                name = data[name_at : data.index(b"\0", name_at, info + info_length)]
                break
            if info_length <= 0:
                raise ValueError("unknown layout of event: empty record")
            info += info_length
        yield Event(mask, pid, handle, name)
        at = stop


class Fanotify:
    """Tells of changes by a mark on the file system that the workspace is on."""

    mode: Literal["fanotify"] = "fanotify"

    def __init__(self, workspace: str) -> None:
        """Open a queue without limit. Nothing is marked yet.

        Args:
            workspace: path of the directory; it need not exist.
        Raises:
            NoEvents: not allowed to, or not known to this kernel.
        """
        self._workspace = workspace
        self._base = os.fsencode(os.path.basename(os.path.realpath(workspace)))
        self._handles = JobHandles(workspace)
        self._workspace_handle: bytes | None = None  # None: not attached
        self._words: tuple[bytes, ...] = (b"",)  # one of them is in every event that matters
        self._device = 0  # st_dev of the workspace, if attached
        self._documents = False  # somebody follows documents
        flags = _CLOEXEC | _NONBLOCK | _UNLIMITED_QUEUE | _REPORT_DFID_NAME
        try:
            self._fd = handles.call("fanotify_init", ctypes.c_uint(flags), ctypes.c_uint(os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            raise NoEvents(error.errno, f"fanotify: {error.strerror}") from error

    @property
    def attached(self) -> bool:
        """See ``Source``."""
        return self._workspace_handle is not None

    @property
    def watches(self) -> int:
        """The one mark."""
        return int(self.attached)

    def fileno(self) -> int:
        """See ``Source``."""
        return self._fd

    def in_place(self) -> bool:
        """See ``Source``."""
        try:
            directory = os.open(self._workspace, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return not self.attached
        try:
            # A new directory may have the inode number of an old one, but has another handle.
            here = handles.handle_of(directory)
            return here == self._workspace_handle and os.fstat(directory).st_dev == self._device
        finally:
            os.close(directory)

    def attach(self) -> bool:
        """See ``Source``."""
        try:
            # O_PATH will not do for open_by_handle_at.
            directory = os.open(self._workspace, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise NoEvents(error.errno, f"{self._workspace}: {error.strerror}") from error
        try:
            self.detach()
            handle = handles.handle_of(directory)
            # Whether handles can be opened again shows only here: not in a container, not on every overlay.
            os.close(handles.open_handle(directory, handle))
            self._device = os.fstat(directory).st_dev
            self._mark(_MARK_ADD | _MARK_ONLYDIR | _MARK_FILESYSTEM, _EVENTS, f"/proc/self/fd/{directory}")
        except OSError as error:
            raise NoEvents(error.errno, f"fanotify: {error.strerror}") from error
        finally:
            os.close(directory)
        self._base = os.fsencode(os.path.basename(os.path.realpath(self._workspace)))
        self._workspace_handle = handle
        self._words = (handle, self._base, *FILES, _OVERFLOW)
        return True

    def detach(self) -> None:
        """See ``Source``."""
        if self._workspace_handle is not None:
            self._workspace_handle = None
            self._mark(_MARK_FLUSH | _MARK_FILESYSTEM, 0, None)
        self._handles.clear()

    def read(self, noticed: Noticed) -> None:
        """See ``Source``. About 1.5 us an event, 0.7 where none of many concerns anybody here."""
        while self._fd >= 0:
            try:
                data = os.read(self._fd, _READ_BYTES)
            except BlockingIOError:
                break
            try:
                if any(word in data for word in self._words):
                    for event in parse(data):
                        self._take(event, noticed)
            finally:
                self._handles.release()
            if len(data) < _READ_BYTES // 2:
                break

    def _take(self, event: Event, noticed: Noticed) -> None:
        mask, _, handle, name = event
        if (what := FILES.get(name)) is not None:
            if what == DOCUMENT and not self._documents:
                return
            try:
                # A state point matters for jobs that wait for one, and those have been bound.
                job = self._handles.job_of(handle) if what == DOCUMENT else self._handles.cached(handle)
            except OSError as error:
                log.warning("cannot tell whose document has changed: %s", error.strerror)
                noticed.overflown = True
                return
            if job is not None:
                noticed.touch(job, what)
        elif len(name) == ID_LENGTH and handle == self._workspace_handle:
            text = name.decode("ascii", "replace")
            if is_job_id(text):
                job = JobId(text)
                self._handles.drop(job)
                # Events may have been merged, and then do not tell which came last.
                appeared = APPEARED if mask & (CREATE | MOVED_TO) else LOOK
                noticed.touch(job, appeared | (VANISHED if mask & (DELETE | MOVED_FROM) else LOOK))
        elif mask & Q_OVERFLOW:
            self._handles.clear()
            noticed.overflown = True
        elif name == self._base and mask & ONDIR:
            noticed.moved = True

    def expect(self, job: JobId) -> bool:
        """See ``Source``."""
        return self.attached and self._handles.bind(job)

    def settle(self, job: JobId) -> None:
        """See ``Source``: the binding dies of old age."""

    def follow_all(self) -> bool:
        """See ``Source``: the mark is enough."""
        self._documents = True
        return True

    def follow(self, job: JobId) -> bool:  # noqa: ARG002 - the interface's
        """See ``Source``."""
        return self.attached

    def follows(self, job: JobId) -> bool:  # noqa: ARG002 - the interface's
        """See ``Source``."""
        return True

    def close(self) -> None:
        """See ``Source``."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._workspace_handle = None

    def _mark(self, flags: int, mask: int, path: str | None) -> None:
        handles.call(
            "fanotify_mark",
            ctypes.c_int(self._fd),
            ctypes.c_uint(flags),
            ctypes.c_uint64(mask),
            ctypes.c_int(-100),  # AT_FDCWD
            ctypes.c_char_p(None if path is None else os.fsencode(path)),
        )
