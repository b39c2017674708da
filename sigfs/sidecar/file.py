"""The file of a sidecar, which any number of processes and hosts append to at once.

Owned here: that a line is there whole or counts as not written, whoever is killed or finds no space, and that what was
there before stays. Who writes holds a lock of the file (``sigfs.model.locking``), first takes away what somebody did
not write to its end, and appends in one write. A file that has become long is replaced by one that says the same in
fewer lines: made beside it, with what others have appended meanwhile, and renamed; who waits for the lock of the old
one notices that it has lost its name.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from sigfs.errors import SidecarError
from sigfs.model import files, locking
from sigfs.model.types import Json
from sigfs.sidecar import lines as lines_of
from sigfs.sidecar.lines import LONGEST_LINE, Contents, Line, SidecarRecord, collect, encode, merged, read_header

log = logging.getLogger(__name__)

DIRECTORY: Final = os.path.join(".sigfs", "sidecar")
NAME: Final = "jobs.jsonl"

LEAST_COMPACTED_BYTES: Final = 2**20
"""A shorter file is left as it is."""

_LOCK_S: Final = 30.0
"""How long others are waited for, who hold the lock for milliseconds."""

_LEFT_S: Final = 3600.0
"""Age from which on a temporary file is that of a process that was killed."""

_WRITE_FLAGS: Final = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_BLOCK_BYTES: Final = 2**16
_HEADER_BYTES: Final = 4096
_LENGTH_BITS: Final = 28  # of a line, which is no longer than LONGEST_LINE


class SidecarFile:
    """The file of one project. Nothing is open between two calls; any thread may call any method.

    Attributes:
        path: of the file, which need not be there.
    """

    def __init__(self, root: str) -> None:
        """Name the file of the project at *root*; nothing is touched."""
        self.path = os.path.join(root, DIRECTORY, NAME)
        self._root = root

    @property
    def exists(self) -> bool:
        """Whether there is one."""
        return os.path.lexists(self.path)

    def size(self) -> int:
        """Its length in bytes. Raises FileNotFoundError."""
        return os.lstat(self.path).st_size

    def begin(self, header: bytes) -> bool:
        """Make the file with its first line, if there is none; whether there was none.

        It is as open as the project's directory: for its group if that may write there, and else for its owner alone.

        Raises:
            SidecarError: root does not make one in the project of somebody else.
            OSError: it cannot be made.
        """
        if self.exists:
            return False
        status = os.stat(self._root)
        if os.geteuid() == 0 != status.st_uid:
            raise SidecarError(f"{self._root} belongs to user {status.st_uid}, who has to begin its sidecar")
        shared = status.st_mode & 0o070 if status.st_mode & 0o020 else 0
        directory = self._root
        for name, mode in zip(DIRECTORY.split(os.sep), (status.st_mode & 0o775 | 0o700, 0o700 | shared), strict=True):
            directory = os.path.join(directory, name)
            with contextlib.suppress(FileExistsError):
                os.mkdir(directory, mode)
                os.chmod(directory, mode)  # whatever the umask
        with self._directory() as dir_fd:
            temporary = files.temporary_name()
            files.write_new(dir_fd, temporary, header, 0o600)
            try:
                os.chmod(temporary, 0o600 | shared & 0o060, dir_fd=dir_fd)
                os.link(temporary, NAME, src_dir_fd=dir_fd, dst_dir_fd=dir_fd, follow_symlinks=False)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in files.NO_LINKS:
                    raise
                files.renameat2(dir_fd, temporary, dir_fd, NAME, files.RENAME_NOREPLACE)
            finally:
                with contextlib.suppress(OSError):
                    os.unlink(temporary, dir_fd=dir_fd)
            files.fsync_directory(dir_fd)
        return True

    # Reading

    def read(self) -> Contents:
        """All that it says.

        Raises:
            FileNotFoundError: there is none.
            SidecarError: it is none, or that of something newer.
            OSError: it cannot be read.
        Complexity: about 5 µs a line.
        """
        with self._opened() as fd:
            return collect(self._lines(fd), Contents(self._header(fd)))

    def stream(self) -> Iterator[Line]:
        """All lines but the first, in their order, as they are read. Raises as ``read``."""
        with self._opened() as fd:
            self._header(fd)
            yield from self._lines(fd)

    def _header(self, fd: int) -> Mapping[str, Json]:
        return read_header(_first_line(fd), self.path)

    def _lines(self, fd: int, end: int | None = None) -> Iterator[Line]:
        """The lines up to *end*, but the first."""
        start = len(_first_line(fd)) + 1
        return lines_of.split(_read_lines(fd, start, end), 2, start)

    # Writing

    def append(self, lines: Iterable[bytes], *, sync: bool = True) -> bool:
        """Add lines, all of them or none.

        Args:
            sync: bring them to the disk, for as long as that takes.
        Returns:
            Whether the file has become so long that `compact` may be worth its while.
        Raises:
            FileNotFoundError: there is no file (any more).
            SidecarError: it is none, or that of something newer.
            OSError: ENOSPC and the like; nothing is added.
        """
        data = b"".join(lines)
        with self._directory() as dir_fd, locking.locked(dir_fd, NAME, _LOCK_S) as held:
            status = os.fstat(held)
            self._header(held)
            fd = os.open(NAME, _WRITE_FLAGS, dir_fd=dir_fd)
            try:
                end = _whole_end(fd, status.st_size)
                if end < status.st_size:
                    if _is_record(os.pread(fd, status.st_size - end, end)):
                        end, data = status.st_size, b"\n" + data
                    else:
                        os.ftruncate(fd, end)
                try:
                    _write(fd, data)
                except OSError:
                    with contextlib.suppress(OSError):  # else it is a torn line
                        os.ftruncate(fd, end)
                    raise
                if sync:
                    os.fdatasync(fd)
            finally:
                os.close(fd)
        after = end + len(data)
        return after >= LEAST_COMPACTED_BYTES and after.bit_length() > end.bit_length()

    def compact(self, header: bytes | None = None, *, force: bool = False) -> bool:
        """Replace the file by one that says the same in one line a job, if it becomes half as long by that.

        Others may append meanwhile. Lines that are broken are kept in a file beside it.

        Args:
            header: the first line from now on; default: what it is.
            force: however long it becomes.
        Returns:
            Whether it was replaced: no, if somebody else has just done so.
        Raises:
            As `append`; the file is as it was.
        Cost: 8 µs a line; 300 bytes of memory a job.
        """
        with self._opened() as fd:
            self._header(fd)
            size = _whole_end(fd, os.fstat(fd).st_size)
            places, broken = self._survey(fd, size)
            live = len(_first_line(fd)) + sum(at & (2**_LENGTH_BITS - 1) for ats in places.values() for at in ats[-1:])
            if not (force or 2 * live < size):
                return False
            header = header or _first_line(fd) + b"\n"
            with self._directory() as dir_fd:
                _sweep(dir_fd)
                if broken:
                    self._put_aside(dir_fd, fd, broken)
                return self._replace(dir_fd, fd, size, header, places)

    def _survey(self, fd: int, size: int) -> tuple[dict[str, tuple[int, ...]], list[int]]:
        """Where the lines are that say something of each job, as start and length in one number; and broken ones."""
        places: dict[str, tuple[int, ...]] = {}
        broken: list[int] = []
        for line in self._lines(fd, size):
            at = line.start << _LENGTH_BITS | len(line.content)
            if line.record is None:
                broken.append(at)
                continue
            job_id = line.record.get("id")
            if not isinstance(job_id, str):
                places[f"\0{line.start}"] = (at,)  # of a kind that is not known yet: as it is
            elif line.record.get("gone") is True:
                places.pop(job_id, None)
            else:
                places[job_id] = (*places.get(job_id, ()), at)
        return places, broken

    def _replace(self, dir_fd: int, fd: int, size: int, header: bytes, places: dict[str, tuple[int, ...]]) -> bool:
        temporary = files.temporary_name()
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        new_fd = os.open(temporary, flags, 0o600, dir_fd=dir_fd)
        try:
            with open(os.dup(new_fd), "wb", buffering=2**20) as new:
                new.write(header)
                new.writelines(_content(fd, ats) for ats in places.values())
            os.fsync(new_fd)
            with locking.locked(dir_fd, NAME, _LOCK_S) as held:
                status = os.fstat(fd)
                if not os.path.samestat(os.fstat(held), status):
                    return False
                end = _whole_end(fd, status.st_size)
                os.lseek(new_fd, 0, os.SEEK_END)
                while size < end and (data := os.pread(fd, min(_BLOCK_BYTES, end - size), size)):
                    _write(new_fd, data)
                    size += len(data)
                _make_alike(new_fd, status)
                os.fsync(new_fd)
                os.rename(temporary, NAME, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
            files.fsync_directory(dir_fd)
            return True
        finally:
            os.close(new_fd)
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=dir_fd)

    def _put_aside(self, dir_fd: int, fd: int, broken: list[int]) -> None:
        data = b"".join(_content(fd, (at,)) for at in broken)
        name = f"broken-{time.time_ns()}.txt"
        files.write_exclusive(dir_fd, name, data, 0o600)
        where = os.path.join(os.path.dirname(self.path), name)
        log.warning("%d lines of %s say nothing; they are in %s now", len(broken), self.path, where)

    @contextlib.contextmanager
    def _directory(self) -> Iterator[int]:
        """Open the directory, following no link below the project's.

        Raises:
            OSError: it is not there, or a link.
        """
        with files.opened_directory(self._root) as root_fd:
            fd = files.open_below(root_fd, DIRECTORY)
        try:
            yield fd
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        with self._directory() as dir_fd:
            fd = locking.open_current(dir_fd, NAME)
        try:
            yield fd
        finally:
            os.close(fd)


def _first_line(fd: int) -> bytes:
    return os.pread(fd, _HEADER_BYTES, 0).partition(b"\n")[0]


def _read_lines(fd: int, start: int, end: int | None) -> Iterator[bytes]:
    with open(os.dup(fd), "rb", buffering=2**18) as file:
        file.seek(start)
        while (end is None or start < end) and (line := file.readline(LONGEST_LINE + 1)):
            start += len(line)
            yield line


def _whole_end(fd: int, size: int) -> int:
    """Where the last line of *size* bytes that has an end ends."""
    end = size
    while end > 0:
        start = max(0, end - _BLOCK_BYTES)
        found = os.pread(fd, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _is_record(content: bytes) -> bool:
    try:
        lines_of.parse(content)
    except ValueError:
        return False
    return True


def _content(fd: int, ats: tuple[int, ...]) -> bytes:
    """One line that says what the lines at *ats* say."""
    contents = [os.pread(fd, at & (2**_LENGTH_BITS - 1), at >> _LENGTH_BITS) for at in ats]
    if len(contents) == 1:
        return contents[0] if contents[0].endswith(b"\n") else contents[0] + b"\n"
    record: SidecarRecord | None = None
    for content in contents:
        record = merged(record, lines_of.parse(content))
    return encode(record or {})


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        done = os.write(fd, view)
        if not done:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        view = view[done:]


def _make_alike(fd: int, model: os.stat_result) -> None:
    """Give a new file the owner and permissions of the one that it replaces, as far as that is allowed."""
    status = os.fstat(fd)
    if (status.st_uid, status.st_gid) != (model.st_uid, model.st_gid):
        try:
            os.fchown(fd, model.st_uid, model.st_gid)
        except PermissionError:
            with contextlib.suppress(PermissionError):
                os.fchown(fd, -1, model.st_gid)
    os.fchmod(fd, stat.S_IMODE(model.st_mode) & 0o660)


def _sweep(dir_fd: int) -> None:
    """Remove what processes that were killed have left."""
    for name in os.listdir(f"/proc/self/fd/{dir_fd}"):
        if name.startswith(files.TEMPORARY_PREFIX):
            with contextlib.suppress(OSError):
                if time.time() - os.lstat(name, dir_fd=dir_fd).st_mtime > _LEFT_S:
                    os.unlink(name, dir_fd=dir_fd)
