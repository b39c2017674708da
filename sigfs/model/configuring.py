"""Changing a configuration file: at once or not at all, by one process at a time, comments kept.

Owned here: how; which keys there are is for others to know.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from configobj import ConfigObj, ConfigObjError

from sigfs.errors import InvalidConfig
from sigfs.model import files
from sigfs.model.config import read_config


@contextmanager
def editing(path: str) -> Iterator[ConfigObj]:
    """Give the configuration file at *path* to change; it need not be there, but its directory.

    Nothing is written if nothing was changed. A symbolic link stays one.

    Raises:
        InvalidConfig: the file cannot be understood, or what was put into it could not be read again.
        OSError: the file cannot be written.
    """
    with replacing(path) as (real, write):
        lines = list(read_config(real).lines) if os.path.lexists(real) else []
        while lines and not lines[-1]:
            lines.pop()
        config = ConfigObj(lines, interpolation=False)
        before = config.dict()
        yield config
        after = config.dict()
        if after == before:
            return
        written = _respelled(lines, before, after) or _rewritten(config, real)
        if ConfigObj(written, interpolation=False).dict() != after:
            raise InvalidConfig(f"{real}: a value cannot be written so that it is read again")
        try:
            data = "".join(f"{line}\n" for line in written).encode()
        except UnicodeEncodeError:
            raise InvalidConfig(f"{real}: a value cannot be written: it is not UTF-8 text") from None
        write(data)


@contextmanager
def replacing(path: str, mode: int = 0o666) -> Iterator[tuple[str, Callable[[bytes], None]]]:
    """Give the path of a file free of links, which need not be there, and a function that gives it another content.

    Nobody else who does it so comes in between. *mode*: of a new file, less the process's umask.
    """
    path = os.path.realpath(path)
    # The directory is locked, not the file, which is another one after each change.
    fd = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def write(data: bytes) -> None:
        kept = stat.S_IMODE(os.stat(path).st_mode) if os.path.lexists(path) else mode
        files.write_atomic(fd, os.path.basename(path), data, kept)

    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield path, write
    finally:
        os.close(fd)


def _rewritten(config: ConfigObj, path: str) -> list[str]:
    try:
        return list(config.write())
    except Exception as error:
        raise InvalidConfig(f"{path}: a value cannot be written: {error}") from error


def _respelled(lines: list[str], before: Mapping[str, object], after: Mapping[str, object]) -> list[str]:
    """Give *lines* with nothing else changed than those of the keys that say something else; [] if that cannot be done.

    Only keys above all sections are dealt with.
    """
    result = list(lines)
    for key in before.keys() | after.keys():
        if before.get(key) == after.get(key):
            continue
        if isinstance(before.get(key), Mapping) or isinstance(after.get(key), Mapping):
            return []
        try:
            line = ConfigObj({key: after[key]}, interpolation=False).write() if key in after else []
        except Exception:  # noqa: BLE001 - as it is written otherwise will show
            return []
        end = next((i for i, each in enumerate(result) if each.lstrip().startswith("[")), len(result))
        pattern = re.compile(rf"""\s*["']?{re.escape(key)}["']?\s*=""")
        found = [i for i, each in enumerate(result[:end]) if pattern.match(each)]
        if len(found) > 1 or len(line) > 1:
            return []
        start = found[0] if found else end
        result[start : start + len(found)] = line
    try:
        return result if ConfigObj(result, interpolation=False).dict() == after else []
    except ConfigObjError:
        return []
