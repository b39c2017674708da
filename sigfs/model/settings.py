"""Settings: what can be set, where, and what is set.

Owned here: the one table of settings, of which ``-o``, the environment, the files, ``sigfs config`` and its completion
are made, and the order of the layers. What a layout, a filter or a view means is not known here: they are text.

From the lowest layer to the highest: defaults, the system's file, the user's, the project's, a mount profile, the
environment, the command line. A project's file may be anybody's: it only says how the project is shown.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, TypeAlias

from sigfs.errors import InvalidConfig
from sigfs.model.files import EMPTY_PATH
from sigfs.model.toml import Toml, read_toml

Plain: TypeAlias = str | bool | float | tuple[str, ...]
Layer: TypeAlias = Literal["default", "system", "user", "project", "profile", "environment", "command line"]

LAYERS: Final[tuple[Layer, ...]] = (
    "default", "system", "user", "project", "profile", "environment", "command line",
)  # fmt: skip
SYSTEM_DIRECTORY: Final = "/etc/sigfs"
FILE: Final = "config.toml"
PROFILES: Final = "mounts"
PREFIX: Final = "SIGFS_"
VIEWS: Final = "views"
"""The table of a project's file that has its named views."""

TRANSPORTS: Final = ("kernel", "llfuse", "fusepy")

FLAGS: Final = frozenset({
    "async", "atime", "dev", "diratime", "dirsync", "exec", "lazytime", "noatime", "nodev", "nodiratime", "noexec",
    "nosuid", "nosymfollow", "relatime", "strictatime", "suid", "sync",
})  # fmt: skip
"""Flags of mount(8) that the kernel keeps for every file system."""

MAX_TIMEOUT_S: Final = 1e9
"""What still fits into all transports' arithmetic: 31 years."""


_PROFILE_NAME: Final = re.compile(r"\w[\w.+@-]{0,99}")
_NOT_SETTINGS: Final = ("SIGFS_SP_", "SIGFS_JOB_", "SIGFS_PROJECT", "SIGFS_STATEPOINT", "SIGFS_MNT", "SIGFS_DEMO_")
"""Variables that commands find in their environment."""


# Kinds of values


class Kind(Protocol):
    """How a value is spelled. What cannot be one is a ValueError that goes on after the setting's name."""

    @property
    def choices(self) -> tuple[str, ...]:
        """Words that complete."""

    @property
    def metavar(self) -> str:
        """What it is called in a help text."""

    def parse(self, text: str) -> Plain:
        """Understand text, as of the command line and of the environment."""

    def take(self, value: object) -> Plain:
        """Understand what a TOML file says."""


@dataclass(frozen=True, slots=True)
class Switch:
    """On or off."""

    choices: tuple[str, ...] = ("true", "false")
    metavar: str = "BOOL"

    def parse(self, text: str) -> bool:
        """As people write it."""
        if text.lower() in ("true", "yes", "on", "1"):
            return True
        if text.lower() in ("false", "no", "off", "0"):
            return False
        raise ValueError(f"is true or false, not {text!r}")

    def take(self, value: object) -> bool:
        """As TOML has it."""
        if isinstance(value, bool):
            return value
        raise ValueError(f"is true or false, not {value!r}")


@dataclass(frozen=True, slots=True)
class Seconds:
    """A time."""

    choices: tuple[str, ...] = ()
    metavar: str = "SECONDS"

    def parse(self, text: str) -> float:
        """As a number."""
        try:
            seconds = float(text)
        except ValueError:
            seconds = math.nan
        if 0 <= seconds < MAX_TIMEOUT_S:
            return seconds
        raise ValueError(f"is a number of seconds from 0 to less than {MAX_TIMEOUT_S:,.0f}, not {text!r}")

    def take(self, value: object) -> float:
        """As a number, whole or not."""
        return self.parse(
            str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else repr(value)
        )


@dataclass(frozen=True, slots=True)
class Text:
    """Any text, or one of a few words."""

    choices: tuple[str, ...] = ()
    metavar: str = "TEXT"

    def parse(self, text: str) -> str:
        """As it is."""
        if self.choices and text not in self.choices:
            raise ValueError(f"is one of: {', '.join(self.choices)}{_hint(text, self.choices)}")
        return text

    def take(self, value: object) -> str:
        """As it is."""
        if not isinstance(value, str):
            raise ValueError(f"is text, in quotes, not {value!r}")
        return self.parse(value)


@dataclass(frozen=True, slots=True)
class Directory:
    """A path. In a file it does not depend on the working directory, elsewhere it begins there."""

    choices: tuple[str, ...] = ()
    metavar: str = "DIR"

    def parse(self, text: str) -> str:
        """Make it absolute."""
        return os.path.abspath(_path(text))

    def take(self, value: object) -> str:
        """Find the home directory."""
        return os.path.normpath(os.path.expanduser(_path(value if isinstance(value, str) else "")))


@dataclass(frozen=True, slots=True)
class Flags:
    """Flags of mount(8)."""

    choices: tuple[str, ...] = tuple(sorted(FLAGS))
    metavar: str = "FLAGS"

    def parse(self, text: str) -> tuple[str, ...]:
        """As a list with commas."""
        return self.take([word for word in text.split(",") if word])

    def take(self, value: object) -> tuple[str, ...]:
        """As a list, or one with commas."""
        if isinstance(value, str):
            return self.parse(value)
        if not isinstance(value, list):
            raise ValueError(f"is a list of flags of mount(8), not {value!r}")
        for word in value:
            if not isinstance(word, str) or word not in FLAGS:
                raise ValueError(f"has a flag that is not known: {word!r}{_hint(str(word), FLAGS)}")
        return tuple(dict.fromkeys(value))


def _path(text: str) -> str:
    if not text:
        raise ValueError(f"is a directory: {EMPTY_PATH}")
    if "\0" in text:
        raise ValueError("is a directory: no path contains a NUL")
    return text


# The table


@dataclass(frozen=True, slots=True)
class Setting:
    """Something that can be set.

    Attributes:
        name: as files spell it; ``SIGFS_`` and the name in capitals is the environment's.
        layers: where it can be set.
        help: one line.
    """

    name: str
    kind: Kind
    default: Plain
    help: str
    layers: frozenset[Layer] = frozenset(LAYERS[1:])

    @property
    def variable(self) -> str | None:
        """The variable of the environment, if it can be set there."""
        return PREFIX + self.name.upper() if "environment" in self.layers else None


_PROFILE: Final[frozenset[Layer]] = frozenset({"profile", "command line"})
_OWN: Final[frozenset[Layer]] = frozenset(LAYERS[1:]) - {"project"}

TABLE: Final[Mapping[str, Setting]] = {
    setting.name: setting
    for setting in (
        Setting("project", Directory(), "", "The project, or a directory in it.", _PROFILE),
        Setting("mountpoint", Directory(), "", "Where the project is mounted.", _PROFILE),
        Setting("layout", Text(metavar="LAYOUT"), "auto", "How the tree is arranged: a layout's name or a template."),
        Setting("filter", Text(metavar="QUERY"), "", "Which jobs are shown: those that the query holds for."),
        Setting("view", Text(metavar="NAME"), "", "The named view that is shown."),
        Setting("state_dir", Directory(), "", "Where the index is kept, in place of the project's .sigfs."),
        Setting("read_only", Switch(), False, "Nothing can be changed through the mount.", _OWN),
        Setting("allow_other", Switch(), False, "Other users may use the mount.", _OWN),
        Setting("passthrough", Switch(), True, "The kernel reads and writes files by itself, where it can.", _OWN),
        Setting("coherent", Switch(), False, "Directories in use are watched, and timeouts are 60 s.", _OWN),
        Setting("entry_timeout", Seconds(), 1.0, "How long the kernel may believe names of files.", _OWN),
        Setting("attr_timeout", Seconds(), 1.0, "How long it may believe attributes of files.", _OWN),
        Setting("transport", Text(TRANSPORTS, "NAME"), "kernel", "How to talk to the kernel.", _OWN),
        Setting("options", Flags(), (), "Flags of mount(8); those of all layers count.", _OWN),
        Setting("log_level", Text(("debug", "info", "warning", "error"), "LEVEL"), "info", "What is logged.", _OWN),
        Setting("log_format", Text(("text", "json"), "FORMAT"), "text", "How it is logged.", _OWN),
    )
}


# Values and where they are from


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value is from: a layer, and there the line of a file or a variable."""

    layer: Layer = "default"
    where: str = ""

    def __str__(self) -> str:
        """Name the place, or else the layer."""
        return self.where or self.layer

    @property
    def rank(self) -> int:
        """Of two, the higher one counts."""
        return LAYERS.index(self.layer)


@dataclass(frozen=True, slots=True)
class Value:
    """What a setting is set to."""

    value: Plain
    origin: Origin = Origin()


@dataclass(frozen=True, slots=True)
class Settings(Mapping[str, Plain]):
    """The values of all settings.

    Attributes:
        found: value and origin by name.
        notes: what the user should be told: what was not followed, and why.
    """

    found: Mapping[str, Value]
    notes: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Plain:
        return self.found[name].value

    def __iter__(self) -> Iterator[str]:
        return iter(self.found)

    def __len__(self) -> int:
        return len(self.found)

    def text(self, name: str) -> str:
        """The value of a setting that is text or a directory."""
        return str(self.found[name].value)

    def words(self, name: str) -> tuple[str, ...]:
        """The value of a setting that is a list."""
        value = self.found[name].value
        return value if isinstance(value, tuple) else ()

    def origin(self, name: str) -> Origin:
        """Where the value is from."""
        return self.found[name].origin

    def chosen(self) -> Iterator[str]:
        """The names of those that have been set anywhere."""
        return (name for name, value in self.found.items() if value.origin.layer != "default")


def load(root: str | None, profile: str | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """Read what is set, but for the command line.

    Args:
        root: of the project; None: what projects say is left out.
        profile: name of a mount profile.
        environment: variables that count.

    Raises:
        InvalidConfig: a file or variable says what cannot be; the message names file and line, or the variable.
    """
    notes: list[str] = []
    layers = [
        _values(read_toml(system_file()), "system"),
        _user_values(notes),
        _project_values(root, notes) if root is not None else {},
        _values(_read_profile(profile), "profile") if profile is not None else {},
        _environment_values(environment or {}, notes),
    ]
    found = {name: Value(setting.default) for name, setting in TABLE.items()}
    for layer in layers:
        for name, value in layer.items():
            below = found[name].value
            if isinstance(value.value, tuple) and isinstance(below, tuple):
                value = Value((*below, *value.value), value.origin)  # of contradicting flags the last counts
            found[name] = value
    return Settings(found, tuple(notes))


def spelled(value: Plain) -> str:
    """Spell a value as the command line and the environment take it.

    >>> spelled(True), spelled(1.0), spelled(("noexec", "noatime"))
    ('true', '1', 'noexec,noatime')
    """
    match value:
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}" if float(f"{value:g}") == value else repr(value)
        case tuple():
            return ",".join(value)
    return value


def configured_state_dir(root: str) -> str | None:
    """Where the project's index is kept, by what files say but for profiles; None: at its usual place.

    Raises:
        InvalidConfig: as for ``load``.
    """
    return load(root).text("state_dir") or None


# Files


def system_file() -> str:
    """Name the system's file."""
    return os.path.join(SYSTEM_DIRECTORY, FILE)


def user_file() -> str:
    """Name the user's file."""
    return os.path.join(_user_directory(), FILE)


def project_file(root: str) -> str:
    """Name the file of the project at *root*."""
    return os.path.join(root, ".sigfs", FILE)


def profile_files(name: str) -> list[str]:
    """Name the files that a profile may be in; the first that is there counts: for root the system's.

    Raises:
        InvalidConfig: this cannot be the name of one.
    """
    if not _PROFILE_NAME.fullmatch(name):
        raise InvalidConfig(f"{name!r} is no name for a mount profile: letters, digits and . _ + @ -")
    return [os.path.join(directory, f"{name}.toml") for directory in _profile_directories()]


def profile_names() -> list[str]:
    """The names of the profiles that there are, sorted."""
    found: set[str] = set()
    for directory in _profile_directories():
        try:
            names = os.listdir(directory)
        except OSError:
            continue
        found |= {name.removesuffix(".toml") for name in names if name.endswith(".toml") and name[0] != "."}
    return sorted(found)


def find_profile(name: str) -> str:
    """Name the file of a profile.

    Raises:
        InvalidConfig: there is none.
    """
    paths = profile_files(name)
    for path in paths:
        if os.path.lexists(path):
            return path
    known = profile_names()
    there = f"; there are: {', '.join(known)}" if known else ""
    raise InvalidConfig(f"no mount profile {name!r}: neither {' nor '.join(paths)}{_hint(name, known)}{there}")


def _user_directory() -> str:
    import platformdirs

    return platformdirs.user_config_dir("sigfs", appauthor=False)


def _profile_directories() -> list[str]:
    directories = [os.path.join(_user_directory(), PROFILES), os.path.join(SYSTEM_DIRECTORY, PROFILES)]
    return directories[::-1] if os.geteuid() == 0 else directories


def _user_values(notes: list[str]) -> dict[str, Value]:
    toml = read_toml(user_file())
    if toml is not None and (why := toml.distrust()):
        notes.append(f"{toml.path} is not followed: {why}")
        return {}
    return _values(toml, "user")


def _read_profile(name: str) -> Toml:
    path = find_profile(name)
    toml = read_toml(path)
    if toml is None:
        raise InvalidConfig(f"{path}: No such file or directory")
    if not path.startswith(f"{SYSTEM_DIRECTORY}/") and (why := toml.distrust()):
        raise InvalidConfig(f"{path} is not followed: {why}")
    return toml


def _project_values(root: str, notes: list[str]) -> dict[str, Value]:
    toml = read_toml(project_file(root))
    values = _values(toml, "project", frozenset({VIEWS}))
    found = values.get("state_dir")
    if toml is not None and found is not None:
        path = os.path.realpath(os.path.join(root, str(found.value)))
        is_inside = os.path.commonpath([path, os.path.realpath(root)]) == os.path.realpath(root)
        why = "" if is_inside else toml.distrust()
        if why:
            del values["state_dir"]
            notes.append(f"{found.origin}: state_dir leads out of the project and is not followed: {why}")
        else:
            values["state_dir"] = Value(path, found.origin)
    return values


def _values(toml: Toml | None, layer: Layer, tables: frozenset[str] = frozenset()) -> dict[str, Value]:
    found: dict[str, Value] = {}
    if toml is None:
        return found
    for name, value in toml.values.items():
        if name in tables:
            continue
        setting = TABLE.get(name)
        if setting is None:
            raise toml.error(name, f"no setting {name!r}{_hint(name, _settable(layer))}")
        if layer not in setting.layers:
            raise toml.error(name, f"{name} cannot be set {not_in(setting, layer)}")
        try:
            taken = setting.kind.take(value)
        except ValueError as error:
            raise toml.error(name, f"{name} {error}") from None
        if isinstance(setting.kind, Directory) and layer != "project" and not os.path.isabs(str(taken)):
            raise toml.error(name, f"{name} is a path that begins with / or ~/, not {value!r}")
        found[name] = Value(taken, Origin(layer, toml.place(name)))
    return found


def _settable(layer: Layer) -> list[str]:
    return [name for name, setting in TABLE.items() if layer in setting.layers]


def not_in(setting: Setting, layer: Layer) -> str:
    """Say where a setting cannot, and where it can be set."""
    if setting.layers == _PROFILE:
        return "here, only in a mount profile"
    assert layer == "project"
    return "by a project, which may be anybody's; set it in the user's file or in a mount profile"


# The environment


def _environment_values(environment: Mapping[str, str], notes: list[str]) -> dict[str, Value]:
    variables = {setting.variable: setting for setting in TABLE.values() if setting.variable}
    found: dict[str, Value] = {}
    for variable, text in environment.items():
        if not variable.startswith(PREFIX) or not text or variable.startswith(_NOT_SETTINGS):
            continue
        setting = variables.get(variable)
        if setting is None:
            if hint := _hint(variable, variables):
                notes.append(f"the variable {variable} says nothing{hint}")
            continue
        try:
            found[setting.name] = Value(setting.kind.parse(text), Origin("environment", variable))
        except ValueError as error:
            raise InvalidConfig(f"the variable {variable} {error}") from None
    return found


def _hint(word: str, words: Iterable[Any]) -> str:
    import difflib

    near = difflib.get_close_matches(word, sorted(words), 1, 0.6)
    return f"; did you mean {near[0]}?" if near else ""
