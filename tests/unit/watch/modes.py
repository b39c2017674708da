"""Making a watcher use one mode, and the privileges that takes."""

from __future__ import annotations

import pytest

from sigfs.watch import watcher
from sigfs.watch.fanotify import Fanotify
from sigfs.watch.inotify import Inotify
from sigfs.watch.sources import NoEvents

MODES = ("fanotify", "inotify", "polling")
_SOURCES = {"fanotify": (Fanotify,), "inotify": (Inotify,), "polling": ()}


def require_fanotify(path: str) -> None:
    """Skip the test, saying why, where a file system cannot be marked."""
    try:
        source = Fanotify(path)
    except NoEvents as error:
        pytest.skip(f"{error.strerror}")
    try:
        source.attach()
    except NoEvents as error:
        pytest.skip(f"{error.strerror}")
    finally:
        source.close()


def use_mode(mode: str, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """Let watchers use *mode* only."""
    if mode == "fanotify":
        require_fanotify(path)
    monkeypatch.setattr(watcher, "SOURCES", _SOURCES[mode])
