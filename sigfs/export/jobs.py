"""The jobs of an export: an index that is up to date, and the plan that a view of it gives.

Owned here: how little is looked at for that. A managed job keeps its state point as long as its name (I1), so it is
enough to see which names came and went, unless the view follows documents, or jobs are outside of the workspace.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, NamedTuple

from sigfs.api.refreshing import build
from sigfs.errors import InvalidStatePoint
from sigfs.export.manifest import Plan
from sigfs.export.plan import Known, listed_keys, plan
from sigfs.index.crawl import new_and_gone
from sigfs.index.store import Store
from sigfs.model.statepoint import statepoint_id
from sigfs.model.types import UNKNOWN, Change

if TYPE_CHECKING:
    from sigfs.api.project import Project
    from sigfs.api.workspace import Workspace
    from sigfs.tree import Tree


class Planned(NamedTuple):
    """What stands where.

    Attributes:
        pending: how many directories are named like jobs and cannot be read as ones.
        listed: stamp of the workspace that the plan is of; UNKNOWN if the plan may change without it.
        keys: those that the view lists.
    """

    jobs: Plan
    pending: int
    listed: int
    keys: list[str]


def planned(
    project: Project, tree: Tree, state_dir: str | None = None, *, save: bool = True, known: Known | None = None
) -> Planned:
    """Plan the view at the top of *tree*.

    Args:
        known: as of `sigfs.export.plan.plan`.
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
                stamped = table.stamped()
            findings = directories.revalidate(stamped, documents=documents or index.documents)
            index.apply(findings.changes)
            index.documents = index.documents or documents
            count, differs = len(findings.pending), bool(findings.changes)
        elif stamp == index.listed != UNKNOWN:
            differs = False
        else:
            findings = new_and_gone(workspace, index.ids(), documents=index.documents)
            index.apply(_finished(change, workspace, index.documents) for change in findings.changes)
            count, differs = len(findings.pending), bool(findings.changes)
        index.listed = UNKNOWN if count else stamp
        if differs and save:
            with contextlib.suppress(OSError):  # then the next command takes longer
                store.save(index)
        with index.reading() as table:
            found = plan(tree, table, None if documents or places else known)
            keys = listed_keys(tree, table)
    if not places:
        return Planned(dict(found), count, UNKNOWN if documents else index.listed, keys)
    real = os.path.realpath(workspace.path)
    jobs: Plan = {}
    for path, key in found.items():
        location = places.location(key)
        jobs[path] = key if location is None else os.path.relpath(os.path.realpath(location.path), real)
    return Planned(jobs, count, UNKNOWN, keys)


def _finished(change: Change, workspace: Workspace, documents: bool) -> Change:
    """Complete the migration of a job that has its name and not yet the state point of that."""
    record = change.record
    with contextlib.suppress(InvalidStatePoint, LookupError, OSError):
        if record is not None and statepoint_id(record.statepoint, workspace.id_function) != change.id:
            workspace.finish(change.id)
            return Change(change.id, workspace.read(change.id, documents))
    return change
