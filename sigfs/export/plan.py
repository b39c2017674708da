"""Where each job of a view stands.

Owned here: one walk of the view's listings, as ``find`` would do it in a mount.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigfs.errors import BadTemplate
from sigfs.export.manifest import RESERVED
from sigfs.tree import JobNode, Tree

if TYPE_CHECKING:
    from sigfs.index import Selection, Table
    from sigfs.model.types import JobId
    from sigfs.tree import VirtualNode


def plan(tree: Tree, table: Table) -> dict[str, JobId]:
    """Say for every job of the view at the top of *tree* where it stands, in the order of the listings.

    Raises:
        BadTemplate: the layout has a name that is taken.
    Complexity: O(jobs x depth); 25 us a job.
    """
    found: dict[str, JobId] = {}

    def walk(node: VirtualNode, above: str, jobs: Selection) -> None:
        for name in tree.names(node, table):
            below = tree.find(node, name, table, jobs)
            assert below is not None, f"{name!r} is listed in {above!r} and leads nowhere"
            if isinstance(below.node, JobNode):
                found[above + name] = below.node.id
            else:
                walk(below.node, f"{above}{name}/", below.jobs)

    walk(tree.root, "", tree.selection(tree.root, table))
    if any(path.partition("/")[0] == RESERVED for path in found):
        raise BadTemplate(f"nothing can be exported as {RESERVED}, where what has been exported is remembered")
    return found
