"""What arguments and options complete to, and what they refuse."""

from __future__ import annotations

import os
from typing import Any

import click
from click.shell_completion import CompletionItem

from sigfs.api.project import get_project
from sigfs.cli.app import near_match
from sigfs.cli.options import SWITCHES, VALUES
from sigfs.errors import SigfsError
from sigfs.model.files import EMPTY_PATH
from sigfs.model.indexed import KEY
from sigfs.model.settings import FLAGS, TABLE, Directory, Flags, profile_names
from sigfs.model.views import read_views
from sigfs.transports.mounts import FS_TYPE, mounts
from sigfs.tree import LAYOUTS, Layout, check_layout


class DirectoryPath(click.Path):
    """A directory that completes as one, and is not touched: whoever touches a hung mount hangs."""

    def __init__(self) -> None:
        """Make the type."""
        super().__init__(file_okay=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Take the path as it is."""
        if not value:
            self.fail(EMPTY_PATH, param, ctx)
        return value


class MountedPath(DirectoryPath):
    """A mount point of sigfs; completes as one."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Name the mounts; leave what is no beginning of one to the shell."""
        found = sorted({mount.mountpoint for mount in mounts() if mount.type == FS_TYPE})
        here = os.getcwd().rstrip("/") + "/"
        spelled = [path.removeprefix(here) if not incomplete.startswith("/") else path for path in found]
        named = [CompletionItem(path) for path in spelled if path.startswith(incomplete)]
        return named or super().shell_complete(ctx, param, incomplete)


class LayoutText(click.types.StringParamType):
    """The name of a layout, or a template."""

    name = "layout"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Layout:
        """See that it can be understood."""
        try:
            return check_layout(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002
        """Name those that have a name."""
        return [CompletionItem(name) for name in LAYOUTS if name.startswith(incomplete)]


class ViewName(click.types.StringParamType):
    """The name of a view, which completes as one of the project's."""

    name = "view"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002
        """Name the views of the project that is named, or that of the working directory."""
        paths = ctx.params.get("paths") or ()
        try:
            views = read_views(get_project(ctx.params.get("project_path") or (paths[0] if paths else None)).root)
        except (SigfsError, OSError):
            return []
        return [CompletionItem(name) for name in views if name.startswith(incomplete)]


class ProfileName(click.types.StringParamType):
    """The name of a mount profile, which completes."""

    name = "profile"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002
        """Name those that there are."""
        return [CompletionItem(name) for name in profile_names() if name.startswith(incomplete)]


class SettingName(click.types.StringParamType):
    """The name of a setting, which completes."""

    name = "setting"
    NAMES = (*TABLE, KEY)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """See that there is such a setting."""
        if value not in self.NAMES:
            near = near_match(value, self.NAMES)
            self.fail(f"no setting {value!r}{f'; did you mean {near}?' if near else ''}", param, ctx)
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002
        """Name them."""
        return [CompletionItem(name) for name in self.NAMES if name.startswith(incomplete)]


class SettingValue(click.types.StringParamType):
    """The value of the setting that is named before it."""

    name = "value"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Complete it as ``mount`` would."""
        name = ctx.params.get("name")
        setting = TABLE.get(name or "")
        if name == "view":
            return ViewName().shell_complete(ctx, param, incomplete)
        if setting is None or isinstance(setting.kind, Directory):
            return [CompletionItem(incomplete, type="dir")]
        before, comma, word = incomplete.rpartition(",") if isinstance(setting.kind, Flags) else ("", "", incomplete)
        words = LAYOUTS if name == "layout" else setting.kind.choices
        return [CompletionItem(before + comma + each) for each in words if each.startswith(word)]


class MountOptionWords(click.types.StringParamType):
    """The value of ``-o``, which completes its last word."""

    name = "options"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002
        """Complete the name of an option, or one of the values of a setting that has few."""
        before, comma, word = incomplete.rpartition(",")
        words = [*SWITCHES, *FLAGS, *(f"{name}=" for name in VALUES), *(f"layout={name}" for name in LAYOUTS)]
        words += [f"{name}={choice}" for name in VALUES for choice in TABLE[name].kind.choices]
        return [CompletionItem(before + comma + each) for each in sorted(words) if each.startswith(word)]
