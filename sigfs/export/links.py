"""Links to jobs, brought to what a view shows.

Owned here: which links are added, retargeted and removed, and that nothing else is touched: a link is ours if it is at
a path where we made one, and says what we made it say. Whatever else stands where a link is to go, stays, and is told.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final

from sigfs.export.places import Places, below
from sigfs.model.files import TEMPORARY_PREFIX

_TEMPORARY: Final = f"{TEMPORARY_PREFIX}link"
"""What a link is called until it replaces another. One export at a time is at work, so there is one of it at most."""

# What readlink(2) and open(2) say of something that is no link, or no directory.
_OTHER: Final = frozenset({errno.EINVAL, errno.ENOTDIR, errno.ELOOP})

# What is said of a directory that cannot be removed now or later.
_STAYS: Final = _OTHER | {errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY, errno.EACCES, errno.EPERM}


@dataclass(slots=True)
class Changes:
    """What an export does to a target. Paths are relative to it.

    Attributes:
        added: path -> text of a link that is not there.
        retargeted: path -> text of one of ours that says something else.
        removed: path -> text of one of ours that is not wanted.
        unchanged: how many links are as they should be.
        in_the_way: where something that is not ours stands.
    """

    added: dict[str, str] = field(default_factory=dict)
    retargeted: dict[str, str] = field(default_factory=dict)
    removed: dict[str, str] = field(default_factory=dict)
    unchanged: int = 0
    in_the_way: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.added or self.retargeted or self.removed)


def compare(
    root_fd: int,
    wanted: Mapping[str, str],
    ours: Mapping[str, Iterable[str]],
    directories: AbstractSet[str],
    settled: AbstractSet[str],
) -> Changes:
    """See what differs between what is wanted and what is there.

    Args:
        root_fd: the target; negative if there is none yet.
        wanted: path -> text.
        ours: path -> texts of links that may be ours, the likeliest first.
        directories: those that earlier exports made; whatever is in them of ours may make way.
        settled: directories in which nobody has changed anything: what is in them is known from *ours*.
    Complexity: one system call a link, none in a settled directory.
    """
    changes = Changes()
    with below(root_fd) as places:
        for directory, names in _by_directory({**ours, **wanted}):
            is_settled = directory in settled
            fd = _MISSING if is_settled or root_fd < 0 else _open(places, directory)
            for name in names:
                path = f"{directory}/{name}" if directory else name
                known = ours.get(path, ())
                text = wanted.get(path)
                there = next(iter(known), None) if is_settled else _read(fd, name)
                if there == text:
                    changes.unchanged += text is not None
                elif there is None:
                    _add(changes, path, text, fd, ours)
                elif there in known:
                    if text is None:
                        changes.removed[path] = there
                    else:
                        changes.retargeted[path] = text
                elif text is not None and path in directories:
                    changes.added[path] = text
                elif text is not None:
                    changes.in_the_way.append(path)
    return changes


def apply(
    root_fd: int,
    changes: Changes,
    ours: Mapping[str, Iterable[str]],
    unused: Iterable[str],
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Make *changes*; where something has come in the way meanwhile, that is noted in them.

    Args:
        unused: directories on the way to no job any more: removed where they are empty.
        progress: called now and then with (links done, links to do).
    Raises:
        OSError: no space, read-only and the like; what was done so far is told by nothing but the disk.
    """
    total = len(changes.added) + len(changes.retargeted) + len(changes.removed)
    done = 0
    with below(root_fd) as places:
        for directory, names in _by_directory(changes.removed):
            fd = _open(places, directory)
            for name in names:
                done += 1
                if fd >= 0 and _read(fd, name) == changes.removed[_join(directory, name)]:
                    os.unlink(name, dir_fd=fd)
        for directory in sorted(unused, key=lambda path: path.count("/"), reverse=True):
            remove_directory(places, directory)
        made = {**changes.added, **changes.retargeted}
        for directory, names in _by_directory(made):
            try:
                fd = places.open(directory, make=True)
            except OSError as error:
                if error.errno not in _OTHER:
                    raise
                _give_up(changes, [_join(directory, name) for name in names])
                continue
            for name in names:
                done += 1
                path = _join(directory, name)
                if not _put(fd, name, made[path], ours.get(path, ())):
                    _give_up(changes, [path])
            if progress is not None:
                progress(done, total)


def directories_of(paths: Iterable[str]) -> set[str]:
    """All directories on the way to *paths*, "" among them.

    >>> sorted(directories_of(["a/1/x", "b"]))
    ['', 'a', 'a/1']
    """
    found = {""}
    for directory in {path.rpartition("/")[0] for path in paths}:
        above = directory
        while above not in found:
            found.add(above)
            above = above.rpartition("/")[0]
    return found


def _by_directory(paths: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    """Group paths by the directory they are in, so that one is near the one before."""
    parts = sorted((directory, name) for directory, _, name in (path.rpartition("/") for path in paths))
    for directory, group in groupby(parts, key=lambda part: part[0]):
        yield directory, [name for _, name in group]


def _join(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory else name


_MISSING: Final = -1
_NO_DIRECTORY: Final = -2


def _open(places: Places, directory: str) -> int:
    try:
        return places.open(directory)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return _MISSING
        if error.errno in _OTHER:
            return _NO_DIRECTORY
        raise


def _read(fd: int, name: str) -> str | None:
    """What the link says; None if there is nothing, "" if there is something else."""
    if fd < 0:
        return None
    try:
        return os.readlink(name, dir_fd=fd)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return None
        if error.errno == errno.EINVAL:
            return ""
        raise


def _add(changes: Changes, path: str, text: str | None, fd: int, ours: Mapping[str, Iterable[str]]) -> None:
    """Note what is wanted where nothing is, or no directory for it."""
    if text is None:
        return
    above = path
    while fd == _NO_DIRECTORY and (above := above.rpartition("/")[0]):
        if above in ours:  # a link of ours, which makes way; what is not, is found when it is tried
            break
    if fd == _NO_DIRECTORY and not above:
        changes.in_the_way.append(path)
    else:
        changes.added[path] = text


def _put(fd: int, name: str, text: str, ours: Iterable[str]) -> bool:
    """Have the link *name* say *text*; False if something that is not ours is there."""
    try:
        os.symlink(text, name, dir_fd=fd)
    except FileExistsError:
        there = _read(fd, name)
        if there == text:
            return True
        if not there or there not in ours:
            return False
        with contextlib.suppress(FileNotFoundError):
            os.unlink(_TEMPORARY, dir_fd=fd)
        os.symlink(text, _TEMPORARY, dir_fd=fd)
        os.rename(_TEMPORARY, name, src_dir_fd=fd, dst_dir_fd=fd)
    return True


def remove_directory(places: Places, directory: str) -> None:
    """Remove a directory, unless somebody has something in it, or it is gone, or no directory.

    Raises:
        OSError: it could be removed another time.
    """
    above, _, name = directory.rpartition("/")
    try:
        fd = places.open(directory)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(_TEMPORARY, dir_fd=fd)
        os.rmdir(name, dir_fd=places.open(above))
    except OSError as error:
        if error.errno not in _STAYS:
            raise


def _give_up(changes: Changes, paths: Iterable[str]) -> None:
    for path in paths:
        changes.added.pop(path, None)
        changes.retargeted.pop(path, None)
        changes.in_the_way.append(path)
