"""The key ``indexed`` of a project's configuration: directories outside of the workspace that have jobs, too.

Owned here: how the list is spelled, and what may be in it. ``indexed = data, runs/**`` are the jobs directly in
``data`` and those at any depth below ``runs``; a path that is not absolute begins at the project's root.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Final

from sigfs.errors import InvalidConfig
from sigfs.model.config import Config, find_config, read_config, workspace_path
from sigfs.model.configuring import editing
from sigfs.model.places import Place
from sigfs.model.reading import STATEPOINT_FILE

KEY: Final = "indexed"
_BELOW: Final = "/**"
_UNWRITABLE: Final = ("\n", "\r", "\0", "%(")


def read_indexed(root: str) -> tuple[Place, ...]:
    """The directories that the project at *root* has indexed, in the order of its configuration, each once.

    They need not be there.

    Raises:
        InvalidConfig: the configuration is broken.
    """
    path = find_config(root)
    return () if path is None else indexed_in(root, read_config(path))


def indexed_in(root: str, config: Config) -> tuple[Place, ...]:
    """As `read_indexed`, from a configuration that has been read."""
    value = config.values.get(KEY, [])
    entries = [value] if isinstance(value, str) else value
    if not isinstance(entries, list):
        raise config.error(KEY, f"{KEY} must be a list of directories, not a section")
    places: dict[str, Place] = {}
    for entry in entries:
        if not entry:
            continue
        if "\0" in entry:
            raise config.error(KEY, f"{entry!r}: no path contains a NUL")
        place = _place(root, entry)
        known = places.get(place.path)
        places[place.path] = place if known is None else Place(place.path, place.recursive or known.recursive)
    return tuple(places.values())


def add_indexed(root: str, path: str | os.PathLike[str], recursive: bool = False) -> Place:
    """Have the project at *root* index the jobs in the directory *path*, or at any depth below it, from now on.

    A directory that is listed already is *recursive* afterwards as said here.

    Args:
        path: if it is not absolute, it begins at *root*.

    Raises:
        InvalidConfig: the configuration is broken, or cannot say this path.
        NotADirectoryError, FileNotFoundError: there is no such directory.
        ValueError: it is the workspace, whose jobs are found anyway; or a job, which is not in itself.
        OSError: the configuration cannot be written.
    """
    text = os.fspath(path)
    place = Place(_place(root, text).path, recursive or text.endswith(_BELOW))
    _require_fit(root, place, read_config(config_path(root)))
    with editing(config_path(root)) as config:
        entries = [entry for entry in _entries(config.get(KEY, [])) if _place(root, entry).path != place.path]
        entries.append(_spelled(root, place))
        config[KEY] = entries if len(entries) > 1 else entries[0]
    return place


def remove_indexed(root: str, path: str | os.PathLike[str]) -> None:
    """Have the project at *root* index the directory *path* no more. The jobs in it stay as they are.

    Raises:
        LookupError: it is not in the list; the message says what is.
        InvalidConfig: the configuration is broken.
        OSError: it cannot be written.
    """
    wanted = _place(root, os.fspath(path)).path
    read_config(config_path(root))
    with editing(config_path(root)) as config:
        entries = list(_entries(config.get(KEY, [])))
        left = [entry for entry in entries if _place(root, entry).path != wanted]
        if len(left) == len(entries):
            listed = f"indexed are: {', '.join(entries)}" if entries else "no directory is"
            raise LookupError(f"{os.fspath(path)!r} is not indexed by the project {root}; {listed}")
        if not left:
            del config[KEY]
        else:
            config[KEY] = left if len(left) > 1 else left[0]


def entries_and_place(root: str) -> tuple[tuple[str, ...], str]:
    """The list as it is spelled, and the file with the line that it is in.

    Raises:
        InvalidConfig: the configuration is broken.
    """
    config = read_config(config_path(root))
    indexed_in(root, config)
    return tuple(_entries(config.values.get(KEY, []))), config.place(KEY)


def write_indexed(root: str, entries: Iterable[str]) -> None:
    """Have the project at *root* index these directories, spelled as in the configuration, and no others.

    Raises:
        As for `add_indexed`; then nothing is changed.
    """
    read = read_config(config_path(root))
    places = [_place(root, entry) for entry in entries if entry]
    for place in places:
        _require_fit(root, place, read)
    spelled = list(dict.fromkeys(_spelled(root, place) for place in places))
    with editing(config_path(root)) as config:
        config.pop(KEY, None)
        if spelled:
            config[KEY] = spelled if len(spelled) > 1 else spelled[0]


def _place(root: str, entry: str) -> Place:
    recursive = entry.endswith(_BELOW) or entry == _BELOW[1:]
    directory = entry.removesuffix("**") if recursive else entry
    return Place(os.path.normpath(os.path.join(root, directory)), recursive)


def _spelled(root: str, place: Place) -> str:
    inside = place.path == root or place.path.startswith(os.path.join(root, ""))
    path = os.path.relpath(place.path, root) if inside else place.path
    if any(text in path for text in _UNWRITABLE) or path != path.strip():
        raise InvalidConfig(f"{path!r} cannot be written into the configuration; index a directory above it")
    return path + _BELOW if place.recursive else path


def _entries(value: object) -> Iterator[str]:
    if isinstance(value, str):
        value = [value]
    if isinstance(value, list):
        yield from (entry for entry in value if entry)


def config_path(root: str) -> str:
    """Name the configuration file of the project at *root*.

    Raises:
        InvalidConfig: there is none.
    """
    path = find_config(root)
    if path is None:
        raise InvalidConfig(f"no project in {root}: make one with `sigfs init`")
    return path


def _require_fit(root: str, place: Place, config: Config) -> None:
    if not os.path.isdir(place.path):
        if os.path.lexists(place.path):
            raise NotADirectoryError(f"{place.path} is no directory: give the directory that has the jobs")
        raise FileNotFoundError(f"{place.path}: there is no such directory (paths begin at the project's root, {root})")
    workspace = workspace_path(root, config)
    if os.path.realpath(place.path) == os.path.realpath(workspace) and not place.recursive:
        raise ValueError(f"{place.path} is the project's workspace: its jobs are found as they are")
    if os.path.lexists(os.path.join(place.path, STATEPOINT_FILE)):
        raise ValueError(f"{place.path} is a job itself: index the directory that it is in")
