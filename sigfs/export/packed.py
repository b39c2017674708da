"""What archives say, entry by entry: zip, and tar as it is or packed by gzip, bzip2, xz or zstd.

Owned here: that an entry has a name that stays below where it is unpacked, and is of a kind that may be unpacked.
Which format it is says the file and not its name.
"""

from __future__ import annotations

import contextlib
import lzma
import os
import shutil
import stat
import subprocess
import tarfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from typing import IO, Final, NamedTuple, Self

from sigfs.errors import NotImportable

MAX_DEPTH: Final = 200
"""Steps of a name: a descriptor each, and no job is as deep."""

_NAME_BYTES: Final = 255
_PATH_BYTES: Final = 4096
_HEADER_BYTES: Final = 2**20
"""Longest extended header of tar, which is read as a whole."""

_XATTR: Final = "SCHILY.xattr."
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_DAMAGE: Final = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, UnicodeError)


class Data:
    """The data of an entry."""

    def __init__(self, archive: str, file: IO[bytes]) -> None:
        """Read *file*, in the archive at *archive*."""
        self._archive = archive
        self._file = file

    def read(self, size: int = -1) -> bytes:
        """Read as much, or all that is left.

        Raises:
            NotImportable: it is damaged.
        """
        with _damage(self._archive):
            return self._file.read(size)


class Entry(NamedTuple):
    """One entry.

    Attributes:
        path: without ``.`` and slashes too many; "" is the root.
        mode: type and permissions, as st_mode; those of a further name of a file (*text*) are a regular file's.
        text: of a symbolic link; or the path of the file that it is a further name of.
        file: to be read while the entry is the latest one; None unless it is a file of its own.
    """

    path: str
    mode: int
    size: int = 0
    mtime_ns: int = 0
    text: str = ""
    attributes: dict[str, bytes] = {}  # noqa: RUF012 - never changed
    file: Data | None = None


@contextlib.contextmanager
def entries(path: str) -> Iterator[Iterator[Entry]]:
    """Give the entries of an archive, in their order.

    Raises:
        NotImportable: it is no archive, is damaged, or an entry may not be unpacked, then or while it is read; the
            message names it.
    """
    with contextlib.ExitStack() as stack:
        with _damage(path):
            with open(path, "rb") as file:
                magic = file.read(4)
            found: Iterator[Entry]
            if magic == _ZSTD:
                packed = stack.enter_context(_unzstd(path))
                found = _of_tar(path, stack.enter_context(_Tar.open(fileobj=packed, mode="r|", tarinfo=_Header)))
            elif zipfile.is_zipfile(path):
                found = _of_zip(path, stack.enter_context(zipfile.ZipFile(path)))
            else:
                found = _of_tar(path, stack.enter_context(_Tar.open(path, "r|*", tarinfo=_Header)))
        yield found


def refused(archive: str, name: str, why: str) -> NotImportable:
    """What is said of an archive that is refused for one of its names."""
    remedy = "nothing is imported; if it is to be trusted, unpack it and import the directory"
    return NotImportable(f"{archive}: {name!r} {why}: {remedy}")


def checked_path(archive: str, name: str) -> str:
    """The path of an entry *name*.

    Raises:
        NotImportable: it leads elsewhere, or is too long.
    """
    names = [each for each in name.split("/") if each not in ("", ".")]
    path = "/".join(names)
    if name.startswith("/"):
        raise refused(archive, name, "is an absolute name")
    if ".." in names:
        raise refused(archive, name, "leads out of the archive")
    try:
        long = max((len(os.fsencode(each)) for each in names), default=0) > _NAME_BYTES
        long = long or len(os.fsencode(path)) > _PATH_BYTES
    except UnicodeEncodeError:
        raise refused(archive, name, "cannot be a name of a file") from None
    if long or len(names) > MAX_DEPTH or "\0" in name:
        raise refused(archive, name[:80], "is longer, or deeper, than names of files are")
    return path


class _Header(tarfile.TarInfo):
    """An entry of a tar: one that is there in full, and whose extended headers are not too long to be read."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        if len(buf) < tarfile.BLOCKSIZE:  # tarfile would take this for the end, though that is two empty blocks
            raise tarfile.ReadError("it is cut short")
        entry = super().frombuf(buf, encoding, errors)
        extended = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME)
        if entry.type in (*extended, tarfile.GNUTYPE_LONGLINK) and entry.size > _HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {entry.size} bytes")
        return entry


class _Tar(tarfile.TarFile):
    """A tar that does not remember its entries."""

    def next(self) -> tarfile.TarInfo | None:
        self.members: list[tarfile.TarInfo] = []
        return super().next()


def _of_tar(path: str, tar: tarfile.TarFile) -> Iterator[Entry]:
    with _damage(path):
        while (entry := tar.next()) is not None:
            name = checked_path(path, entry.name)
            permissions = entry.mode & 0o777
            mtime_ns = _mtime_ns(entry)
            if entry.isdir():
                yield Entry(name, stat.S_IFDIR | permissions, 0, mtime_ns, attributes=_attributes(entry))
            elif entry.issym() and entry.linkname:
                yield Entry(name, stat.S_IFLNK | 0o777, 0, mtime_ns, entry.linkname)
            elif entry.islnk():
                yield Entry(name, stat.S_IFREG, 0, mtime_ns, checked_path(path, entry.linkname))
            elif entry.isfifo():
                yield Entry(name, stat.S_IFIFO | permissions, 0, mtime_ns)
            elif entry.isreg():
                file = tar.extractfile(entry)
                assert file is not None
                data = Data(path, file)
                yield Entry(name, stat.S_IFREG | permissions, entry.size, mtime_ns, "", _attributes(entry), data)
            else:
                raise refused(path, entry.name, "is a device, or of a kind that cannot be unpacked")


def _mtime_ns(entry: tarfile.TarInfo) -> int:
    try:  # what tarfile makes a float of
        return int(Decimal(entry.pax_headers.get("mtime", str(entry.mtime))) * 10**9)
    except (InvalidOperation, ValueError, OverflowError):
        return 0


def _attributes(entry: tarfile.TarInfo) -> dict[str, bytes]:
    return {
        name.removeprefix(_XATTR): value.encode("utf-8", "surrogateescape")
        for name, value in entry.pax_headers.items()
        if name.startswith(f"{_XATTR}user.")
    }


def _of_zip(path: str, archive: zipfile.ZipFile) -> Iterator[Entry]:
    with _damage(path):
        for entry in archive.infolist():
            name = checked_path(path, entry.filename)
            mode = entry.external_attr >> 16 & ~0o7000
            if not stat.S_IFMT(mode):
                mode = mode & 0o777 or (0o777 if entry.is_dir() else 0o666)
                mode |= stat.S_IFDIR if entry.is_dir() else stat.S_IFREG
            mtime_ns = _zip_time_ns(entry)
            if stat.S_ISDIR(mode):
                yield Entry(name, mode, 0, mtime_ns)
            elif stat.S_ISLNK(mode):
                if not 0 < entry.file_size <= _PATH_BYTES:
                    raise refused(path, entry.filename, "is a link to a path that is none")
                yield Entry(name, mode, 0, mtime_ns, os.fsdecode(archive.read(entry)))
            elif stat.S_ISREG(mode):
                with archive.open(entry) as file:
                    yield Entry(name, mode, entry.file_size, mtime_ns, file=Data(path, file))
            else:
                raise refused(path, entry.filename, "is a device, or of a kind that cannot be unpacked")


def _zip_time_ns(entry: zipfile.ZipInfo) -> int:
    try:
        return int(time.mktime((*entry.date_time, 0, 0, -1))) * 10**9
    except (OverflowError, ValueError):
        return 0


@contextlib.contextmanager
def _damage(path: str) -> Iterator[None]:
    """Have what libraries say of a bad archive be told as such."""
    try:
        yield
    except _DAMAGE as error:
        raise NotImportable(f"{path} is no archive that can be read, or is damaged: {error}") from error
    except OSError as error:
        if error.errno is not None:  # gzip and bz2 have none for damage
            raise
        raise NotImportable(f"{path} is damaged: {error}") from error
    except RuntimeError as error:  # zipfile's words for passwords and strange packings
        raise NotImportable(f"{path} cannot be read: {error}") from error


@contextlib.contextmanager
def _unzstd(path: str) -> Iterator[IO[bytes]]:
    program = shutil.which("zstd")
    if program is None:
        raise NotImportable(f"{path} needs the program zstd: install it")
    with subprocess.Popen([program, "-q", "-d", "-c", "--", path], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield process.stdout
        finally:
            process.stdout.close()
            process.kill()
