"""The jobs of an export: an index that is up to date, and the plan that a view of it gives.

Owned here: how little is looked at for that. A managed job keeps its state point as long as its name (I1), so it is
enough to see which names came and went, unless the view follows documents, or jobs are outside of the workspace.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, NamedTuple

from sigfs.api.refreshing import build
from sigfs.export.manifest import Plan
from sigfs.export.plan import plan
from sigfs.index.crawl import new_and_gone
from sigfs.index.store import Store
from sigfs.model.types import UNKNOWN

if TYPE_CHECKING:
    from sigfs.api.project import Project
    from sigfs.tree import Tree


class Planned(NamedTuple):
    """What stands where.

    Attributes:
        pending: how many directories are named like jobs and cannot be read as ones.
        listed: stamp of the workspace that the plan is of; UNKNOWN if the plan may change without it.
    """

    jobs: Plan
    pending: int
    listed: int


def planned(project: Project, tree: Tree, state_dir: str | None = None, *, save: bool = True) -> Planned:
    """Plan the view at the top of *tree*.

    Args:
        save: keep what has been read for the next command.
    Raises:
        BadTemplate: the layout has a name that is taken.
        OSError: the workspace cannot be listed.
    """
    documents = tree.reads_documents(tree.root)
    workspace, places = directories = project.directories
    assert workspace is not None
    with Store.open(project.root, workspace, state_dir) as store:
        index = store.load()
        stamp = workspace.stamp()
        count = 0
        differs = True
        if index is None:
            index, pending = build(directories, documents)
            count = len(pending)
        elif documents or places:
            with index.reading() as table:
                known = table.stamped()
            found = directories.revalidate(known, documents=documents or index.documents)
            index.apply(found.changes)
            index.documents = index.documents or documents
            count, differs = len(found.pending), bool(found.changes)
        elif stamp == index.listed != UNKNOWN:
            differs = False
        else:
            found = new_and_gone(workspace, index.ids(), documents=index.documents)
            index.apply(found.changes)
            count, differs = len(found.pending), bool(found.changes)
        index.listed = UNKNOWN if count else stamp
        if differs and save:
            with contextlib.suppress(OSError):  # then the next command takes longer
                store.save(index)
        with index.reading() as table:
            keys = plan(tree, table)
    if not places:
        return Planned(dict(keys), count, UNKNOWN if documents else index.listed)
    real = os.path.realpath(workspace.path)
    jobs: Plan = {}
    for path, key in keys.items():
        location = places.location(key)
        jobs[path] = key if location is None else os.path.relpath(os.path.realpath(location.path), real)
    return Planned(jobs, count, UNKNOWN)
