"""Which job a directory handle of the kernel belongs to.

Owned here: the three system calls that Python does not offer, and a bounded cache of what they said. A handle stays
with its directory when the directory is renamed, so whoever sees a name come or go must ``drop`` it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import Final

from sigfs.model.statepoint import is_job_id
from sigfs.model.types import JobId

MAX_CACHED: Final = 1 << 15
"""Handles that are remembered; some 400 bytes each. Another look at a forgotten one costs about 15 us."""

MAX_FOREIGN: Final = 1 << 12
"""Directories remembered for being no job of this workspace."""

OPEN_TRIES: Final = 8
"""For a directory that is being removed the kernel may say ENOMEM, and ESTALE or the truth a moment later."""

_HEADER: Final = struct.Struct("Ii")  # struct file_handle: handle_bytes, handle_type
_MAX_HANDLE_BYTES: Final = 128
_AT_EMPTY_PATH: Final = 0x1000

_libc = ctypes.CDLL(None, use_errno=True)


def handle_of(dir_fd: int, name: str = "") -> bytes:
    """Give the handle of *name* in directory *dir_fd*, or of that directory itself, as ``struct file_handle``.

    No symbolic link is followed.

    Raises:
        OSError: EOPNOTSUPP where the file system has no handles, ENOENT and the like; ENOSYS.
    """
    buffer = ctypes.create_string_buffer(_HEADER.size + _MAX_HANDLE_BYTES)
    _HEADER.pack_into(buffer, 0, _MAX_HANDLE_BYTES, 0)
    mount = ctypes.c_int()
    call(
        "name_to_handle_at",
        ctypes.c_int(dir_fd),
        ctypes.c_char_p(os.fsencode(name)),
        buffer,
        ctypes.byref(mount),
        ctypes.c_int(0 if name else _AT_EMPTY_PATH),
    )
    (size, _) = _HEADER.unpack_from(buffer)
    return buffer.raw[: _HEADER.size + size]


def open_handle(mount_fd: int, handle: bytes) -> int:
    """Open the file that *handle* belongs to as an O_PATH descriptor.

    Args:
        mount_fd: any descriptor, not O_PATH, on the file system that gave the handle.
    Raises:
        OSError: ESTALE if it is gone, EPERM without CAP_DAC_READ_SEARCH.
    """
    buffer = ctypes.create_string_buffer(handle, len(handle))
    return call("open_by_handle_at", ctypes.c_int(mount_fd), buffer, ctypes.c_int(os.O_PATH | os.O_CLOEXEC))


class JobHandles:
    """Handles of job directories of one workspace. Used by one thread."""

    def __init__(self, workspace: str) -> None:
        """Nothing is opened until ``job_of`` meets a handle that it does not know.

        Args:
            workspace: path of the directory.
        """
        self._workspace = workspace
        self._jobs: dict[bytes, JobId] = {}  # oldest first
        self._handles: dict[JobId, bytes] = {}  # the inverse of _jobs
        self._foreign: dict[bytes, None] = {}  # no job of this workspace when last looked at
        self._fd = -1  # of the workspace, from the first look-up to ``release``
        self._path = ""  # what the kernel calls it

    def __len__(self) -> int:
        return len(self._jobs)

    def bind(self, job: JobId) -> bool:
        """Remember the handle that directory *job* has now; False if there is none to be had."""
        self.drop(job)
        try:
            workspace_fd = os.open(self._workspace, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            self._keep(handle_of(workspace_fd, job), job)
        except OSError:
            return False
        finally:
            os.close(workspace_fd)
        return True

    def cached(self, handle: bytes) -> JobId | None:
        """Name the job that *handle* is known to belong to."""
        return self._jobs.get(handle)

    def job_of(self, handle: bytes) -> JobId | None:
        """Name the job directory that *handle* belongs to; None if it is none of this workspace, or gone.

        Raises:
            OSError: it cannot be told at present (no descriptors, no memory).
        """
        job = self._jobs.get(handle)
        if job is not None or handle in self._foreign:
            return job
        job = self._look_up(handle)
        if job is not None:
            self._keep(handle, job)
            return job
        if len(self._foreign) >= MAX_FOREIGN:
            self._foreign.clear()
        self._foreign[handle] = None
        return None

    def drop(self, job: JobId) -> None:
        """Forget what was known of the name *job*: it has come or gone, perhaps by a rename."""
        handle = self._handles.pop(job, None)
        if handle is not None:
            del self._jobs[handle]
        self._foreign.clear()

    def release(self) -> None:
        """Close what look-ups have opened: to be called soon, since it keeps the file system from being unmounted."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def clear(self) -> None:
        """Forget everything."""
        self.release()
        self._jobs.clear()
        self._handles.clear()
        self._foreign.clear()

    def check(self) -> None:
        """Assert that the two maps agree."""
        assert {job: handle for handle, job in self._jobs.items()} == self._handles
        assert len(self._jobs) == len(self._handles) <= MAX_CACHED

    def _keep(self, handle: bytes, job: JobId) -> None:
        self._foreign.pop(handle, None)
        if (before := self._jobs.pop(handle, None)) is not None:
            del self._handles[before]
        if (old := self._handles.pop(job, None)) is not None:
            del self._jobs[old]
        if len(self._jobs) >= MAX_CACHED:
            oldest = next(iter(self._jobs))
            del self._handles[self._jobs.pop(oldest)]
        self._jobs[handle] = job
        self._handles[job] = handle

    def _look_up(self, handle: bytes) -> JobId | None:
        fd = -1
        try:
            if self._fd < 0:
                self._fd = os.open(self._workspace, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                self._path = os.readlink(f"/proc/self/fd/{self._fd}")
            fd = self._open(handle)
            # Both paths are spelled by the kernel, as seen through one mount.
            directory, _, name = os.readlink(f"/proc/self/fd/{fd}").rpartition("/")
        except OSError as error:
            if error.errno in {errno.ESTALE, errno.ENOENT}:
                return None
            raise
        finally:
            if fd >= 0:
                os.close(fd)
        return JobId(name) if directory == self._path and is_job_id(name) else None

    def _open(self, handle: bytes) -> int:
        for _ in range(OPEN_TRIES - 1):
            try:
                return open_handle(self._fd, handle)
            except OSError as error:
                if error.errno != errno.ENOMEM:
                    raise
        return open_handle(self._fd, handle)


def call(name: str, *arguments: object) -> int:
    """Make a system call through the C library.

    Raises:
        OSError: as the call says; ENOSYS where the library does not have it.
    """
    function = getattr(_libc, name, None)
    result: int = -1
    code = errno.ENOSYS
    if function is not None:
        result = function(*arguments)
        code = ctypes.get_errno()
    if result < 0:
        raise OSError(code, os.strerror(code))
    return result
