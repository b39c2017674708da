"""Walking a tree without a mount, as ``find`` would."""

from __future__ import annotations

from collections.abc import Iterator

from sigfs.index import Index, Table
from sigfs.model.types import JobId
from sigfs.tree import JobNode, Node, Tree
from tests.support.strategies import added


def table_of(*statepoints: dict[str, object] | None) -> Table:
    """Index jobs with these state points. Nobody changes the index any more, so the table may be read without lock."""
    index = Index()
    index.apply(added(*statepoints))
    with index.reading() as table:
        return table


def walk(
    tree: Tree, table: Table, node: Node | None = None, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], JobId]]:
    """Yield (path, job id) for each job directory that a walk by listings meets."""
    node = node or tree.root
    if isinstance(node, JobNode):
        yield path, node.id
        return
    for name in tree.names(node, table):
        child = tree.child(node, name, table)
        assert child is not None, f"{name!r} is listed in {path} and leads nowhere"
        yield from walk(tree, table, child, (*path, name))


def resolve(tree: Tree, table: Table, path: str) -> Node | None:
    """Look up a path, component by component."""
    node: Node | None = tree.root
    for name in path.strip("/").split("/"):
        if node is None or isinstance(node, JobNode):
            return None
        node = tree.child(node, name, table)
    return node
