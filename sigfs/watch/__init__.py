"""Changes below, as data: who was created, removed or renamed in a workspace."""

from sigfs.watch.watcher import WorkspaceWatcher

__all__ = ["WorkspaceWatcher"]
