"""``sigfs config``: what is set, where, and setting it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from sigfs.api.project import get_project
from sigfs.cli.app import say
from sigfs.cli.choosing import json_option, project_option
from sigfs.cli.options import understood
from sigfs.cli.output import Column, print_json, print_rows, print_text
from sigfs.cli.params import ProfileName, SettingName, SettingValue
from sigfs.cli.paths import DirectoryName
from sigfs.errors import InvalidConfig, NoSuchProject
from sigfs.model import indexed
from sigfs.model.settings import (
    TABLE,
    Directory,
    Layer,
    Origin,
    Plain,
    Setting,
    Value,
    find_profile,
    load,
    not_in,
    profile_files,
    project_file,
    spelled,
    system_file,
    user_file,
)
from sigfs.model.toml import editing_toml, read_toml
from sigfs.model.views import find_view

C = TypeVar("C", bound=Callable[..., Any])

profile_option = click.option(
    "--profile", metavar="NAME", type=ProfileName(), help="With what this mount profile says."
)
_PLACES = (
    click.option(
        "-p",
        "--project",
        "project_path",
        metavar="[DIR]",
        is_flag=False,
        flag_value=".",
        type=DirectoryName(),
        help="In the project, by default that of the working directory.",
    ),
    click.option("--user", is_flag=True, help="In the user's file."),
    click.option("--system", is_flag=True, help="In the system's file."),
    click.option("--profile", metavar="NAME", type=ProfileName(), help="In a mount profile, which is made if need be."),
)


def _place_options(command: C) -> C:
    for option in reversed(_PLACES):
        command = option(command)
    return command


@click.group(
    "config",
    epilog="""\b
Examples:
  sigfs config show --origin               every setting, its value and where that is from
  sigfs config get layout
  sigfs config set layout full             for the project of the working directory
  sigfs config set read_only true --user
  sigfs config set project ~/alkanes --profile alkanes
  sigfs config unset layout""",
)
def config_command() -> None:
    """Show and change settings.

    Of several places the first counts that says something: the command line, a variable SIGFS_..., a mount profile,
    the project's .sigfs/config.toml, ~/.config/sigfs/config.toml, /etc/sigfs/config.toml.
    """


@config_command.command(
    "show",
    epilog="""\b
Examples:
  sigfs config show --origin
  sigfs config show --profile alkanes --json""",
)
@click.option("--origin", is_flag=True, help="Say where each value is from: file and line, or variable.")
@json_option
@profile_option
@project_option
def show_command(origin: bool, as_json: bool, profile: str | None, project_path: str | None) -> None:
    """List all settings with the values that count."""
    values = _values(project_path, profile)
    if as_json:
        print_json([_as_json(name, value) for name, value in values.items()])
        return
    columns = [Column("setting"), Column("value"), *([Column("origin")] if origin else [])]
    rows = [[name, spelled(value.value), *([str(value.origin)] if origin else [])] for name, value in values.items()]
    print_rows(columns, rows)


@config_command.command("get", epilog="\b\nExamples:\n  sigfs config get layout\n  sigfs config get options --json")
@click.argument("name", type=SettingName())
@json_option
@profile_option
@project_option
def get_command(name: str, as_json: bool, profile: str | None, project_path: str | None) -> None:
    """Print the value of a setting that counts."""
    value = _values(project_path, profile)[name]
    if as_json:
        print_json(_as_json(name, value))
    else:
        print_text(spelled(value.value))


@config_command.command(
    "set",
    epilog="""\b
Examples:
  sigfs config set layout full
  sigfs config set filter 'T.$gt 2' -p ~/alkanes
  sigfs config set options noexec,noatime --system
  sigfs config set mountpoint ~/mnt --profile alkanes
  sigfs config set indexed data,runs/**""",
)
@click.argument("name", type=SettingName())
@click.argument("value", type=SettingValue())
@_place_options
def set_command(name: str, value: str, **place: Any) -> None:
    """Set something, by default in the project of the working directory. Comments in the file stay."""
    layer, path, root = _place(name, **place)
    if name == indexed.KEY:
        indexed.write_indexed(_required(root), [entry.strip() for entry in value.split(",")])
        say(f"kept in {path}")
        return
    plain = _checked(TABLE[name], value, root)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with editing_toml(path, 0o666 if layer == "project" else 0o644) as document:
        document[name] = _as_toml(plain)
    say(f"kept in {path}")
    settings = load(root or _root(None), place["profile"], os.environ)
    for note in settings.notes:
        say(note)
    counting = settings.origin(name)
    if counting.rank > Origin(layer).rank:
        say(f"what counts is {counting}: {spelled(settings[name])}")


@config_command.command(
    "unset", epilog="\b\nExamples:\n  sigfs config unset layout\n  sigfs config unset read_only --user"
)
@click.argument("name", type=SettingName())
@_place_options
def unset_command(name: str, **place: Any) -> None:
    """Take a setting out of a file, by default that of the project of the working directory."""
    _, path, root = _place(name, **place)
    if name == indexed.KEY:
        indexed.write_indexed(_required(root), [])
        return
    toml = read_toml(path)
    if toml is None or name not in toml.values:
        raise InvalidConfig(f"{path}: {name} is not set there")
    with editing_toml(path) as document:
        document.pop(name, None)


def _values(project_path: str | None, profile: str | None) -> dict[str, Value]:
    """All settings with what they are set to, of the project that is meant if there is one."""
    settings = load(None, profile, os.environ)
    root = _root(project_path or settings.text("project") or None)
    if root is not None:
        settings = load(root, profile, os.environ)
    for note in settings.notes:
        say(note)
    values = dict(settings.found)
    values[indexed.KEY] = _indexed(root)
    return values


def _root(path: str | None) -> str | None:
    try:
        return get_project(path).root
    except NoSuchProject:
        if path is not None:
            raise
        return None


def _indexed(root: str | None) -> Value:
    entries, where = ((), "") if root is None else indexed.entries_and_place(root)
    return Value(entries, Origin("project", where) if entries else Origin())


def _as_json(name: str, value: Value) -> dict[str, object]:
    return {"name": name, "value": value.value, "layer": value.origin.layer, "origin": value.origin.where or None}


def _place(
    name: str, project_path: str | None, user: bool, system: bool, profile: str | None
) -> tuple[Layer, str, str | None]:
    """The layer and the file that are meant, and the project's root if it is one's."""
    context = click.get_current_context()
    chosen = sum((project_path is not None, user, system, profile is not None))
    if chosen > 1:
        raise click.UsageError("expected one of --project, --user, --system, --profile", context)
    layer: Layer = "user" if user else "system" if system else "profile" if profile is not None else "project"
    setting = TABLE.get(name)
    if setting is None:
        if layer != "project":
            raise click.UsageError(f"{name} is a project's own: it is set there only", context)
    elif layer not in setting.layers:
        where = "--user, --system or --profile NAME" if "user" in setting.layers else "--profile NAME"
        raise click.UsageError(f"{name} cannot be set {not_in(setting, layer)} ({where})", context)
    match layer:
        case "user":
            return layer, user_file(), None
        case "system":
            return layer, system_file(), None
        case "profile":
            return layer, _profile_path(str(profile)), None
    try:
        root = get_project(project_path).root
    except NoSuchProject as error:
        raise NoSuchProject(f"{error}; or say where: --user, --system, --profile NAME") from None
    return layer, project_file(root) if setting is not None else indexed.config_path(root), root


def _profile_path(name: str) -> str:
    try:
        return find_profile(name)
    except InvalidConfig:
        return profile_files(name)[0]


def _checked(setting: Setting, text: str, root: str | None) -> Plain:
    try:
        value = setting.kind.parse(text)
        understood(setting.name, value)
    except ValueError as error:
        raise click.BadParameter(f"{setting.name}: {error}", param_hint="VALUE") from None
    if setting.name == "view" and value and root is not None:
        find_view(root, str(value))
    if isinstance(setting.kind, Directory) and root is not None:
        inside = os.path.relpath(str(value), root)
        return str(value) if inside.startswith("..") else inside
    return value


def _as_toml(value: Plain) -> object:
    match value:
        case tuple():
            return list(value)
        case float():
            return int(value) if value.is_integer() else value
    return value


def _required(root: str | None) -> str:
    assert root is not None
    return root
