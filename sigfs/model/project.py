"""Projects: found, opened as they are, and made.

Owned here: what a project root is. signac 1, signac 2 and sigfs projects are opened alike; opening one writes
nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from typing import Final, TypeAlias

from sigfs.errors import NoSuchProject, ProjectExists
from sigfs.model import files, mounted
from sigfs.model.config import (
    NEW_PROJECT_CONFIG,
    SIGNAC_2_CONFIG,
    find_config,
    read_config,
    schema_of,
    workspace_path,
)
from sigfs.model.statepoint import load_json

PROJECT_DOCUMENT_FILE: Final = "signac_project_document.json"
_NAME_KEY: Final = "signac_project_name"
"""Key of the project document where signac, migrating to schema 2, puts the name that schema 1 had in its rc file."""

Path: TypeAlias = str | os.PathLike[str]


class ProjectFiles:
    """What a project is on disk, without its jobs.

    Attributes:
        root: absolute path of the project's directory.
        config: what its configuration file says, unconverted.
        config_path: that file.
        schema: version of its layout: "1" for signac 1, "2" for signac 2 and sigfs.
        workspace_path: absolute path of the directory of its jobs; need not exist yet.
    """

    def __init__(self, root: Path) -> None:
        """Open the project at *root*, without looking above it.

        Raises:
            NoSuchProject: there is none.
            UnsupportedSchema: it was written by something newer.
            InvalidConfig: its configuration is broken.
        """
        self.root = os.path.abspath(root)
        path = find_config(self.root)
        if path is None:
            raise NoSuchProject(f"no project in {self.root}: make one with `sigfs init`")
        config = read_config(path)
        self.config_path = path
        self.config: Mapping[str, object] = config.values
        self.schema = str(schema_of(config))
        self.workspace_path = workspace_path(self.root, config)
        self._configured_name = config.text("project")

    @property
    def name(self) -> str | None:
        """The project's name: key ``project`` of the configuration, or ``signac_project_name`` of the document."""
        if self._configured_name is not None:
            return self._configured_name
        try:
            with files.opened_directory(self.root) as fd:
                document = load_json(files.read_at(fd, PROJECT_DOCUMENT_FILE))
        except (OSError, ValueError):
            return None
        name = document.get(_NAME_KEY) if isinstance(document, dict) else None
        return name if isinstance(name, str) else None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.root!r})"


def find_root(start: Path = ".") -> str:
    """The root of the project that *start* is in: the nearest directory, going upward, with a project's configuration.

    Of a path into a mounted project, the root of that project, if it can be reached.

    Args:
        start: a directory, or a file in one.
    Raises:
        NoSuchProject: *start* does not exist, or there is no project at it or above.
    """
    try:
        origin = os.path.abspath(start)
        os.stat(origin)
    except (OSError, ValueError) as error:  # ValueError: a NUL in it
        reason = error.strerror if isinstance(error, OSError) else error
        raise NoSuchProject(f"no project at {start!s}: {reason}") from error
    mounted_root = mounted.project_root(origin)
    if mounted_root is not None:
        return mounted_root
    directory = origin
    while find_config(directory) is None:
        above = os.path.dirname(directory)
        if above == directory:
            raise NoSuchProject(f"no project in {origin} or in any directory above it: make one with `sigfs init`")
        directory = above
    return directory


def make_project(path: Path | None = None, name: str | None = None) -> str:
    """Make the directory *path*, by default the working directory, a project that signac 2 opens too.

    Creates ``.signac/config``, ``workspace/`` and, if there is a *name*, the project document; missing directories on
    the way as well. A workspace that is there is kept, with its jobs. As with signac, a project may lie inside another.

    Returns:
        The absolute path of its root.
    Raises:
        ProjectExists: *path* itself is a project's root already.
        OSError: no project was made.
    """
    root = os.path.abspath("." if path is None else path)
    existing = find_config(root)
    if existing is not None:
        raise _project_exists(root, existing)
    made: list[str] = []
    config_directory = os.path.join(root, os.path.dirname(SIGNAC_2_CONFIG))
    try:
        files.make_directories(config_directory, made)
        files.make_directories(os.path.join(root, "workspace"), made)
        if name is not None:
            document = json.dumps({_NAME_KEY: name}).encode("ascii")
            with files.opened_directory(root) as fd, contextlib.suppress(FileExistsError):
                files.write_exclusive(fd, PROJECT_DOCUMENT_FILE, document)
                made.append(os.path.join(root, PROJECT_DOCUMENT_FILE))
        # Last, as it is what makes the directory a project.
        with files.opened_directory(config_directory) as fd:
            files.write_exclusive(fd, os.path.basename(SIGNAC_2_CONFIG), NEW_PROJECT_CONFIG)
    except BaseException as error:
        existing = find_config(root)
        if existing is not None:  # another process has been faster, and its directories are these
            if isinstance(error, FileExistsError):
                raise _project_exists(root, existing) from error
            raise
        for each in reversed(made):
            with contextlib.suppress(OSError):
                os.unlink(each) if each.endswith(PROJECT_DOCUMENT_FILE) else os.rmdir(each)
        raise
    return root


def _project_exists(root: str, config: str) -> ProjectExists:
    return ProjectExists(f"{root} is a project already ({os.path.relpath(config, root)}): use it as it is")
