"""Changes below, as data: who was created, removed or renamed in a workspace, and whose document was written."""

from sigfs.watch.watcher import WorkspaceWatcher

__all__ = ["WorkspaceWatcher"]
