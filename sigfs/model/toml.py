"""Configuration files in TOML: how they are read, and who is believed.

Owned here: the messages about what is wrong in such a file, with the line. Which keys there are is for others to know.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from sigfs.errors import InvalidConfig
from sigfs.model.configuring import replacing

if TYPE_CHECKING:
    from tomlkit import TOMLDocument

MOST_BYTES: Final = 1 << 20
"""What a file may have: it may be another's, who could make it as long as the disk."""


@dataclass(frozen=True, slots=True)
class Toml:
    """One file as it was read.

    Attributes:
        path: the file; names it in messages.
        owner: the user it belongs to.
        mode: its permissions.
        values: its keys, as tomllib gives them.
        lines: its text, for line numbers.
    """

    path: str
    owner: int
    mode: int
    values: Mapping[str, Any]
    lines: tuple[str, ...] = field(default=(), repr=False)

    def place(self, key: str, table: str = "") -> str:
        """Name the file and the line of *key* of *table*, or of a table's heading."""
        inside, spelled = "", rf"""["']?{re.escape(key)}["']?"""
        heading = re.compile(r"\s*\[+\s*([^\]]*?)\s*\]")
        for number, line in enumerate(self.lines, 1):
            found = heading.match(line)
            if found:
                inside = re.sub(r"""["'\s]*\.["'\s]*""", ".", found[1].strip("\"' "))
                if f"{inside}.".startswith(f"{table}.{key}.".lstrip(".")):
                    return f"{self.path}, line {number}"
            elif inside == table and re.match(rf"\s*{spelled}\s*[=.]", line):
                return f"{self.path}, line {number}"
        return self.path

    def error(self, key: str, message: str, table: str = "") -> InvalidConfig:
        """An exception that names the file and the line of *key*."""
        return InvalidConfig(f"{self.place(key, table)}: {message}")

    def distrust(self) -> str:
        """Say why what the file says is not to be taken for this user's own word; empty if it is."""
        if self.owner not in (os.geteuid(), 0):
            return f"it belongs to user {self.owner}"
        return "anybody may write it" if self.mode & stat.S_IWOTH else ""


def read_toml(path: str) -> Toml | None:
    """Read a file; None if there is none.

    Raises:
        InvalidConfig: it cannot be read or understood; the message names file and line.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # which does not wait for the writer of a pipe
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InvalidConfig(f"{path}: {error.strerror}") from error
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise InvalidConfig(f"{path}: this is no file")
        with open(fd, "rb", closefd=False) as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise InvalidConfig(f"{path}: {error.strerror}") from error
    finally:
        os.close(fd)
    if len(data) > MOST_BYTES:
        raise InvalidConfig(f"{path}: over {MOST_BYTES} bytes are no configuration")
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
        values = tomllib.loads(text)
    except UnicodeDecodeError as error:
        number = data.count(b"\n", 0, error.start) + 1
        raise InvalidConfig(f"{path}, line {number}: not UTF-8 text") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        found = re.search(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)$", str(error), re.DOTALL)
        line, why = (found[2] or text.count("\n") + 1, found[1]) if found else (1, str(error))
        raise InvalidConfig(f"{path}, line {line}: {why}") from error
    return Toml(path, status.st_uid, status.st_mode, values, tuple(text.split("\n")))


@contextmanager
def editing_toml(path: str, mode: int = 0o666) -> Iterator[TOMLDocument]:
    """Give the file at *path* to change; it need not be there, but its directory. Comments and order stay.

    At once or not at all, by one process at a time. Nothing is written if nothing was changed.

    Args:
        mode: permissions of a new file, less the process's umask.

    Raises:
        InvalidConfig: the file cannot be understood, or what was put into it could not be read again.
        OSError: the file cannot be written.
    """
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    with replacing(path, mode) as (real, write):
        before = read_toml(real)
        document = tomlkit.parse("" if before is None else "\n".join(before.lines))
        yield document
        try:
            text = tomlkit.dumps(document)
            after = tomllib.loads(text)
            data = text.encode()
        except (TOMLKitError, tomllib.TOMLDecodeError, UnicodeEncodeError) as error:
            raise InvalidConfig(f"{path}: a value cannot be written: {error}") from error
        if after != document.unwrap():
            raise InvalidConfig(f"{path}: a value cannot be written so that it is read again")
        if before is None or after != before.values:
            write(data)
