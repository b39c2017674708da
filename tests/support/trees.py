"""Walking a tree without a mount, as ``find`` would."""

from __future__ import annotations

from collections.abc import Iterator

from sigfs.index import Index, Snapshot
from sigfs.model.types import JobId
from sigfs.tree import JobNode, Node, Tree
from tests.support.strategies import added


def snapshot_of(*statepoints: dict[str, object] | None) -> Snapshot:
    """Index jobs with these state points."""
    index = Index()
    index.apply(added(*statepoints))
    return index.snapshot()


def walk(
    tree: Tree, snapshot: Snapshot, node: Node | None = None, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], JobId]]:
    """Yield (path, job id) for each job directory that a walk by listings meets."""
    node = node or tree.root
    if isinstance(node, JobNode):
        yield path, node.id
        return
    for name in tree.names(node, snapshot):
        child = tree.child(node, name, snapshot)
        assert child is not None, f"{name!r} is listed in {path} and leads nowhere"
        yield from walk(tree, snapshot, child, (*path, name))


def resolve(tree: Tree, snapshot: Snapshot, path: str) -> Node | None:
    """Look up a path, component by component."""
    node: Node | None = tree.root
    for name in path.strip("/").split("/"):
        if node is None or isinstance(node, JobNode):
            return None
        node = tree.child(node, name, snapshot)
    return node
