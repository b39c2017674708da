"""Where each job of a view stands.

Owned here: one walk of the view's listings, as ``find`` would do it in a mount, and what of it need not be done again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sigfs.errors import BadTemplate
from sigfs.export.manifest import RESERVED
from sigfs.index import Selection
from sigfs.query.expr import EVERYTHING
from sigfs.tree import Facts, JobNode, Tree, renames
from sigfs.tree.entries import entries

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    from sigfs.index import Table
    from sigfs.model.types import JobId
    from sigfs.tree import VirtualNode


class Known(NamedTuple):
    """A plan of before, of the same view.

    Attributes:
        jobs: the plan.
        directories: all that are on the way to its jobs.
        keys: what `listed_keys` gave.
    """

    jobs: Mapping[str, str]
    directories: AbstractSet[str]
    keys: list[str]


def plan(tree: Tree, table: Table, known: Known | None = None) -> dict[str, JobId]:
    """Say for every job of the view at the top of *tree* where it stands.

    Args:
        known: with it, directories whose jobs are those of before are not walked, where that is certain to be right.
            Jobs must be managed ones: these say what they said before (I1).
    Raises:
        BadTemplate: the layout has a name that is taken.
    Complexity: O(jobs x depth), 5 us a job, 30 where a template names it; with *known* less where few jobs have come.
    """
    found: dict[str, JobId] = {}
    skipped: set[str] = set()
    new = None if known is None else _only_new(tree, table, known)

    def walk(node: VirtualNode, above: str, jobs: Selection) -> None:
        for below in entries(tree, node, table, jobs):
            path = above + below.name
            if isinstance(below.node, JobNode):
                found[path] = below.node.id
            elif new is not None and known is not None and path in known.directories and not below.jobs.intersect(new):
                skipped.add(path)
            else:
                walk(below.node, f"{path}/", below.jobs)

    walk(tree.root, "", tree.selection(tree.root, table))
    if skipped and known is not None:
        found |= _below(skipped, known.jobs)  # type: ignore[arg-type]
    if any(path.partition("/")[0] == RESERVED for path in found):
        raise BadTemplate(f"nothing can be exported as {RESERVED}, where what has been exported is remembered")
    return found


def listed_keys(tree: Tree, table: Table) -> list[str]:
    """The keys that the view lists: part of what the names in it depend on."""
    return [key.key for key in tree.listed_keys(table, tree.view)]


def _only_new(tree: Tree, table: Table, known: Known) -> Selection | None:
    """The jobs that have come since, if all else that the names depend on is as it was; else None.

    What a directory lists then depends on its jobs alone (see `Tree.listed_keys`), and what a path means on the path.
    """
    if tree.view.layout not in ("auto", "full") or tree.view.filter != EVERYTHING:
        return None
    if listed_keys(tree, table) != known.keys:
        return None
    before = set(known.jobs.values())
    come = [job for job in table if job not in before]
    if len(before) + len(come) != len(table) or renames([], [Facts(table.record(job)) for job in come], table):
        return None
    return Selection([number for job in come if (number := table.number(job)) is not None])


def _below(directories: AbstractSet[str], jobs: Mapping[str, str]) -> dict[str, str]:
    """Those of *jobs* whose paths lead through one of *directories*."""
    is_below: dict[str, bool] = {"": False}

    def look(directory: str) -> bool:
        known = is_below.get(directory)
        if known is None:
            known = is_below[directory] = directory in directories or look(directory.rpartition("/")[0])
        return known

    return {path: job for path, job in jobs.items() if look(path.rpartition("/")[0])}
