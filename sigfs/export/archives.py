"""A view as one archive file.

Owned here: what of a job goes into an archive of each format. The archive appears whole or not at all, and replaces
nothing.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import stat
import subprocess
import tarfile
import time
import zipfile
from collections.abc import Iterator, Mapping
from typing import IO, Final, Protocol, cast

from sigfs.errors import DestinationExists, ExportError, JobChanged
from sigfs.export.manifest import job_path
from sigfs.export.report import Archive, Progress
from sigfs.model import files, trees
from sigfs.model.moving import MARKER

_EARLIEST_S: Final = 315532800  # 1980, where the times of zip begin
_XATTR: Final = "SCHILY.xattr."


class Writer(Protocol):
    """What takes the entries of an archive."""

    def add(self, name: str, status: os.stat_result, directory_fd: int, path: str) -> None:
        """Add the entry *path* of the directory *directory_fd*, under *name*."""

    def add_text(self, name: str, data: bytes) -> None:
        """Add a file that is not on the disk."""


def write_archive(
    target: str, workspace: str, jobs: Mapping[str, str], kind: Archive, progress: Progress | None = None
) -> None:
    """Write the jobs into the archive *target*.

    Args:
        jobs: as a plan.
    Raises:
        JobChanged: a file became shorter while it was read.
        DestinationExists, ExportError, OSError: as `new_archive`.
    """
    with new_archive(target, kind) as writer:
        for number, (path, job) in enumerate(sorted(jobs.items())):
            if progress is not None:
                progress(number, len(jobs))
            add_directory(writer, path, job_path(workspace, job))


@contextlib.contextmanager
def new_archive(target: str, kind: Archive) -> Iterator[Writer]:
    """Give what takes the entries of the archive *target*, which is there if the block ends well.

    Raises:
        DestinationExists: there is something of that name.
        ExportError: the format cannot be written here, or cannot hold a name.
        OSError: no space and the like; there is no archive then.
    """
    above, name = os.path.split(target)
    os.makedirs(above, exist_ok=True)
    above_fd = os.open(above, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if files.is_there(above_fd, name):
            raise DestinationExists(f"there is {target} already: remove it, or choose another name")
        temporary = files.temporary_name()
        fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666, dir_fd=above_fd)
        try:
            with open(fd, "r+b") as file:
                with _WRITERS[kind](file) as writer:
                    yield writer
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(temporary, name, src_dir_fd=above_fd, dst_dir_fd=above_fd, follow_symlinks=False)
            except FileExistsError:
                raise DestinationExists(f"there is {target} already: remove it, or choose another name") from None
            except OSError as error:
                if error.errno not in files.NO_LINKS:
                    raise
                files.renameat2(above_fd, temporary, above_fd, name, files.RENAME_NOREPLACE)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=above_fd)
        files.fsync_directory(above_fd)
    finally:
        os.close(above_fd)


def add_directory(writer: Writer, path: str, directory: str) -> None:
    """Add a job's directory, with all that is in it, as *path*.

    Raises:
        JobChanged: something in it is gone while it is read.
    """
    try:
        fd = os.open(directory, trees.LIST_FLAGS)
        try:
            writer.add(path, os.fstat(fd), fd, ".")
            _add_below(writer, path, fd, os.fstat(fd).st_dev)
        finally:
            os.close(fd)
    except FileNotFoundError as error:
        raise JobChanged(f"{path} is being changed ({error.filename} has just gone): export it again") from None


def _add_below(writer: Writer, path: str, fd: int, device: int) -> None:
    for name, status in trees.entries(fd, path, device):
        if name == MARKER or stat.S_ISSOCK(status.st_mode):
            continue
        place = f"{path}/{name}"
        writer.add(place, status, fd, name)
        if stat.S_ISDIR(status.st_mode):
            below = os.open(name, trees.LIST_FLAGS, dir_fd=fd)
            try:
                _add_below(writer, place, below, device)
            finally:
                os.close(below)


class _Tar:
    """With times to the nanosecond, rights, owners by number, hard links of a job and extended attributes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._tar = tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT)  # noqa: SIM115 - see close
        self._linked: dict[tuple[int, int], str] = {}

    def add(self, name: str, status: os.stat_result, directory_fd: int, path: str) -> None:
        entry = tarfile.TarInfo(name)
        entry.mode, entry.uid, entry.gid = stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid
        seconds, nanoseconds = divmod(status.st_mtime_ns, 10**9)
        entry.mtime = seconds
        headers = {"mtime": f"{seconds}.{nanoseconds:09d}"} if nanoseconds and seconds >= 0 else {}
        kind = stat.S_IFMT(status.st_mode)
        entry.type = _TAR_TYPES.get(kind, tarfile.REGTYPE)
        if kind == stat.S_IFLNK:
            entry.linkname = os.readlink(path, dir_fd=directory_fd)
        elif kind in (stat.S_IFCHR, stat.S_IFBLK):
            entry.devmajor, entry.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
        elif kind == stat.S_IFDIR:
            with trees.magic_path(directory_fd, path) as place:
                headers |= _attributes(place)
        entry.pax_headers = headers
        if kind == stat.S_IFREG:
            self._add_file(entry, status, directory_fd, path)
        else:
            self._tar.addfile(entry)

    def add_text(self, name: str, data: bytes) -> None:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mtime = len(data), int(time.time())
        self._tar.addfile(entry, io.BytesIO(data))

    def _add_file(self, entry: tarfile.TarInfo, status: os.stat_result, directory_fd: int, path: str) -> None:
        key = (status.st_dev, status.st_ino)
        if status.st_nlink > 1 and key in self._linked:
            entry.type, entry.linkname = tarfile.LNKTYPE, self._linked[key]
            self._tar.addfile(entry)
            return
        self._linked[key] = entry.name
        with trees.opened(path, directory_fd) as fd, open(fd, "rb", closefd=False) as file:
            entry.size = os.fstat(fd).st_size
            entry.pax_headers = {**entry.pax_headers, **_attributes(fd)}
            try:
                self._tar.addfile(entry, file)
            except OSError as error:
                if error.errno is None:  # tarfile's word for it
                    raise JobChanged(f"{entry.name} is being changed: export it again") from None
                raise

    def close(self) -> None:
        self._tar.close()


class _Zip:
    """With times to two seconds and rights; no owners, extended attributes or hard links, which zip does not have.

    Directories are in it where they are empty, since signac takes each entry that it imports for a file.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._zip = zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED)

    def add(self, name: str, status: os.stat_result, directory_fd: int, path: str) -> None:
        kind = stat.S_IFMT(status.st_mode)
        if kind not in (stat.S_IFDIR, stat.S_IFLNK, stat.S_IFREG):
            raise ExportError(f"zip cannot hold {name}, which is no file, directory or symbolic link: use tar")
        if kind == stat.S_IFDIR and not _is_empty(path, directory_fd):
            return
        entry = zipfile.ZipInfo(
            name + "/" if kind == stat.S_IFDIR else name, time.localtime(max(status.st_mtime, _EARLIEST_S + 86400))[:6]
        )
        entry.external_attr = status.st_mode << 16
        entry.compress_type = zipfile.ZIP_DEFLATED
        try:
            if kind == stat.S_IFREG:
                entry.file_size = status.st_size
                with (
                    trees.opened(path, directory_fd) as fd,
                    open(fd, "rb", closefd=False) as file,
                    self._zip.open(entry, "w", force_zip64=True) as into,
                ):
                    shutil.copyfileobj(file, into, trees.CHUNK_BYTES)
            else:
                is_link = kind == stat.S_IFLNK
                self._zip.writestr(entry, os.fsencode(os.readlink(path, dir_fd=directory_fd)) if is_link else b"")
        except UnicodeEncodeError:
            raise ExportError(f"zip cannot hold the name {name!r}, which is no UTF-8: use tar") from None

    def add_text(self, name: str, data: bytes) -> None:
        entry = zipfile.ZipInfo(name, time.localtime()[:6])
        entry.external_attr = (stat.S_IFREG | 0o644) << 16
        entry.compress_type = zipfile.ZIP_DEFLATED
        self._zip.writestr(entry, data)

    def close(self) -> None:
        self._zip.close()


_TAR_TYPES: Final = {
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE,
    stat.S_IFBLK: tarfile.BLKTYPE,
}


def _is_empty(name: str, directory_fd: int) -> bool:
    fd = os.open(name, trees.LIST_FLAGS, dir_fd=directory_fd)
    try:
        return not os.listdir(fd)
    finally:
        os.close(fd)


def _attributes(path: int | str) -> dict[str, str]:
    found = {}
    with contextlib.suppress(OSError):
        for name in os.listxattr(path):
            if name.startswith("user."):
                found[_XATTR + name] = os.getxattr(path, name).decode("utf-8", "surrogateescape")
    return found


@contextlib.contextmanager
def _plain(file: IO[bytes]) -> Iterator[Writer]:
    with contextlib.closing(_Tar(file)) as writer:  # after a failure, too: it would be done later, without a file
        yield writer


@contextlib.contextmanager
def _gzip(file: IO[bytes]) -> Iterator[Writer]:
    import gzip

    with gzip.GzipFile(fileobj=file, mode="wb", filename="") as packed, _plain(cast("IO[bytes]", packed)) as writer:
        yield writer


@contextlib.contextmanager
def _zstd(file: IO[bytes]) -> Iterator[Writer]:
    program = shutil.which("zstd")
    if program is None:
        raise ExportError("tar.zst needs the program zstd: install it, or use tar.gz")
    with subprocess.Popen([program, "-q", "-c", "-"], stdin=subprocess.PIPE, stdout=file) as process:
        assert process.stdin is not None
        try:
            with _plain(process.stdin) as writer:
                yield writer
            process.stdin.close()
        except BrokenPipeError:
            pass  # it has said why
        except BaseException:
            process.kill()
            raise
        if process.wait():
            raise ExportError(f"zstd has failed with exit code {process.returncode}; there is no archive")


@contextlib.contextmanager
def _zip(file: IO[bytes]) -> Iterator[Writer]:
    with contextlib.closing(_Zip(file)) as writer:
        yield writer


_WRITERS: Final = {"tar": _plain, "tar.gz": _gzip, "tar.zst": _zstd, "zip": _zip}
