"""Configuration files in signac's INI dialect: which files make a directory a project, and what they say.

Owned here: the names of the files and of their keys, and the messages about what is wrong in them. Read only, but for
the one line that makes a new project.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from configobj import ConfigObj, ConfigObjError

from sigfs.errors import InvalidConfig, UnsupportedSchema

SIGNAC_2_CONFIG: Final = os.path.join(".signac", "config")
SIGNAC_1_CONFIGS: Final = ("signac.rc", ".signacrc")
WORKSPACE_CONFIG: Final = "workspace.rc"

NEWEST_SCHEMA: Final = 2
NEW_PROJECT_CONFIG: Final = b"schema_version = 2\n"
"""Byte for byte what signac 2 writes."""

_PROJECT_KEYS: Final = frozenset({"project", "workspace", "workspace_dir", "indexed", "schema_version"})


@dataclass(frozen=True, slots=True)
class Config:
    """One configuration file as it was read.

    Attributes:
        path: the file; names it in messages.
        values: its keys; values are str, list of str, or dict for a section. Nothing is converted.
        lines: its text, for line numbers.
    """

    path: str
    values: Mapping[str, object]
    lines: tuple[str, ...] = field(default=(), repr=False)

    def text(self, key: str) -> str | None:
        """The value of *key*, None if it is not there or empty.

        Raises:
            InvalidConfig: it is a section or a list (a comma outside quotes makes one).
        """
        value = self.values.get(key)
        if value is None or value == "":
            return None
        if not isinstance(value, str):
            what = "a section" if isinstance(value, Mapping) else "a list (quote a value with a comma)"
            raise self.error(key, f"{key} must be one value, not {what}")
        return value

    def error(self, key: str, message: str) -> InvalidConfig:
        """An exception that names the file and the line of *key*."""
        return InvalidConfig(f"{self.place(key)}: {message}")

    def place(self, key: str) -> str:
        """Name the file and the line of *key*."""
        pattern = re.compile(rf"""\s*\[*\s*["']?{re.escape(key)}["']?\s*[]=]""")
        number = next((i for i, line in enumerate(self.lines, 1) if pattern.match(line)), 0)
        return f"{self.path}, line {number}" if number else self.path


def read_config(path: str) -> Config:
    """Read one configuration file.

    Raises:
        InvalidConfig: it cannot be read or understood; the message names file and line.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise InvalidConfig(f"{path}: {error.strerror}") from error
    try:
        lines = data.decode("utf-8-sig").replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError as error:
        number = data.count(b"\n", 0, error.start) + 1
        raise InvalidConfig(f"{path}, line {number}: not UTF-8 text") from error
    try:
        values = ConfigObj(lines).dict()
    except ConfigObjError as error:
        first = error.errors[0] if getattr(error, "errors", None) else error
        line = getattr(first, "line_number", None)
        message = re.sub(r" at line \d+\.$", "", str(first)).rstrip(".")
        raise InvalidConfig(f"{path}, line {line}: {message}" if line else f"{path}: {message}") from error
    return Config(path, values, tuple(lines))


def find_config(directory: str) -> str | None:
    """The file that makes *directory* a project root, or None.

    Of several the one of the newest signac counts. ``~/.signacrc`` is where signac keeps the user's settings: it makes
    the home directory a project only if it says so by one of a project's keys.
    """
    path = os.path.join(directory, SIGNAC_2_CONFIG)
    if os.path.isfile(path):
        return path
    for name in SIGNAC_1_CONFIGS:
        path = os.path.join(directory, name)
        if os.path.isfile(path) and not (name == ".signacrc" and _is_users_settings(directory, path)):
            return path
    return None


def _is_users_settings(directory: str, path: str) -> bool:
    if os.path.abspath(directory) != os.path.abspath(os.path.expanduser("~")):
        return False
    try:
        return _PROJECT_KEYS.isdisjoint(read_config(path).values)
    except InvalidConfig:
        return True


def schema_of(config: Config) -> int:
    """The layout's version: what ``schema_version`` says, else 2 for ``.signac/config`` and 1 for the older files.

    Raises:
        InvalidConfig: not a number.
        UnsupportedSchema: newer than this version of sigfs knows.
    """
    text = config.text("schema_version")
    if text is None:
        return 2 if config.path.endswith(os.sep + SIGNAC_2_CONFIG) else 1
    if not (text.isascii() and text.isdigit() and len(text) < 1000):
        raise config.error("schema_version", f"schema_version must be a whole number, not {text!r}")
    if int(text) > NEWEST_SCHEMA:
        raise UnsupportedSchema(
            f"{config.path}: this project has schema version {text}; this version of sigfs knows versions up to "
            f"{NEWEST_SCHEMA}. Nothing was changed. Upgrade sigfs (pip install --upgrade sigfs)."
        )
    return int(text)


def workspace_path(root: str, config: Config) -> str:
    """The absolute path of the workspace that *config* of the project at *root* names; ``workspace`` by default.

    The user's home and environment variables are expanded, as signac 1 did; a relative path begins at *root*.

    Raises:
        InvalidConfig: a variable is not set.
    """
    key = "workspace" if config.text("workspace") is not None else "workspace_dir"
    text = config.text(key) or "workspace"
    if "\0" in text:
        raise config.error(key, f"{key} = {text!r}: no path contains a NUL")
    path = os.path.normpath(os.path.join(root, os.path.expanduser(os.path.expandvars(text))))
    unset = re.search(r"\$(\w+|\{[^}]*\})", path, re.ASCII)
    if unset and not os.path.exists(path):
        raise config.error(key, f"{key} = {text}: the environment variable {unset[1].strip('{}')} is not set")
    return path
