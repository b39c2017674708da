"""A view exported to a directory.

Owned here: what is done in which order, so that an export that is killed at any moment, or finds no space, has done
nothing that the next one does not know of; and when nothing needs to be looked at.
"""

from __future__ import annotations

import os
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sigfs.errors import ExportError
from sigfs.export import links, manifest
from sigfs.export.jobs import planned
from sigfs.export.manifest import Manifest, Memory, link_text
from sigfs.export.plan import Known
from sigfs.export.report import Archive, Method, Progress, Report
from sigfs.export.settled import begun, count_unchanged, looking, settled_directories, stamps
from sigfs.export.target import check_target, opened_target
from sigfs.model.types import UNKNOWN
from sigfs.query import format_text
from sigfs.query.expr import EVERYTHING, Expr
from sigfs.tree import Tree

if TYPE_CHECKING:
    from sigfs.api.project import Project
    from sigfs.tree import Layout


@dataclass(frozen=True, slots=True)
class Options:
    """What is exported, and how.

    Attributes:
        layout, filter: of the view.
        state_dir: where the index is kept, in place of the project's ``.sigfs``.
        dry_run: change nothing, in the target or elsewhere.
        progress: called now and then with what is done and how much there is to do.
    """

    layout: Layout = "auto"
    filter: Expr = EVERYTHING
    method: Method = "symlink"
    state_dir: str | None = None
    dry_run: bool = False
    progress: Progress | None = None


def export(project: Project, target: str, options: Options) -> Report:
    """Have the directory *target* show a view of *project*.

    What earlier exports to *target* have made is brought up to date. Nothing else in it is touched.

    Raises:
        ExportError: the target or the method is unfit, or what it remembers is damaged.
        OSError: no space, permissions and the like; the next export goes on from there.
    """
    path = check_target(target, project.root, project.workspace.path)
    tree = Tree(options.layout, options.filter)
    new = begun(path, project.files, options.method, options.layout, format_text(options.filter))
    workspace = os.path.realpath(project.workspace.path)
    with looking(path) as (fd, old):
        if (unchanged := count_unchanged(fd, old, new, project.workspace)) is not None:
            return Report(target, unchanged=unchanged)
        known = None
        if old is not None and old.complete and old.is_alike(new) and options.method != "move":
            known = Known(old.jobs, old.directories.keys(), old.keys)
    new.jobs, pending, new.listed, new.keys = planned(
        project, tree, options.state_dir, save=not options.dry_run, known=known
    )
    report = Report(target, pending=pending)
    if options.dry_run:
        with looking(path) as (fd, old):
            _check_same(target, old, new)
            _report(report, _compared(fd, workspace, old, new))
        return report
    fd = opened_target(path, make=True)
    try:
        with manifest.opened(fd, target) as memory:
            old = memory.read()
            _check_same(target, old, new)
            match options.method:
                case "symlink":
                    _link(fd, memory, old, new, report, options.progress)
                case "move":
                    from sigfs.export import moves

                    moves.move(fd, memory, workspace, old, new, report, options.progress)
                case _:
                    from sigfs.export import copies

                    changes, report.failed = copies.update(fd, workspace, memory, old, new, options.progress)
                    _report(report, changes)
    finally:
        os.close(fd)
        if options.method == "move":
            project.note_all()
    return report


def export_archive(project: Project, target: str, kind: Archive, options: Options) -> Report:
    """Write a view of *project* into the archive file *target*.

    Raises:
        ExportError, DestinationExists, JobChanged, OSError: as `sigfs.export.archives.write_archive`.
    """
    path = check_target(target, project.root, project.workspace.path)
    plan = planned(project, Tree(options.layout, options.filter), options.state_dir, save=not options.dry_run)
    if not options.dry_run:
        from sigfs.export import archives

        archives.write_archive(path, os.path.realpath(project.workspace.path), plan.jobs, kind, options.progress)
    return Report(target, added=list(plan.jobs), pending=plan.pending)


def _check_same(target: str, old: Manifest | None, new: Manifest) -> None:
    """Make sure that the target is not that of something else."""
    if old is None or not old.jobs:
        return
    if old.method != new.method:
        raise ExportError(
            f"{target} has what was exported by --{old.method}: export by --{old.method}, or choose another target"
        )
    if old.project != new.project and os.path.isdir(old.project):
        raise ExportError(f"{target} has what was exported from {old.project}: choose another target")


def _ours(old: Manifest | None, but: AbstractSet[str] = frozenset()) -> dict[str, list[str]]:
    """Path -> texts of links that may be ours, less those of the paths *but*."""
    if old is None:
        return {}
    ours = {path: [link_text(old.workspace, path, job)] for path, job in old.jobs.items() if path not in but}
    for path, texts in old.before.items():
        ours[path] = [*ours.get(path, ()), *texts]
    return ours


def _wanted(new: Manifest, but: AbstractSet[str] = frozenset()) -> dict[str, str]:
    return {path: link_text(new.workspace, path, job) for path, job in new.jobs.items() if path not in but}


def _certain(old: Manifest | None, new: Manifest, settled: AbstractSet[str]) -> set[str]:
    """Where what is wanted is what is there, without a look at anything but *settled*."""
    if old is None or old.before or not old.complete or old.workspace != new.workspace:
        return set()
    alike = {path for path, _ in old.jobs.items() & new.jobs.items()}
    return alike if len(settled) == len(old.directories) else {p for p in alike if p.rpartition("/")[0] in settled}


def _compared(target_fd: int, workspace: str, old: Manifest | None, new: Manifest) -> links.Changes:
    if new.method != "symlink":
        from sigfs.export import copies

        return copies.compared(target_fd, workspace, None if new.method == "move" else old, new)
    directories = set() if old is None else old.directories.keys()
    return links.compare(target_fd, _wanted(new), _ours(old), directories, settled_directories(target_fd, old))


def _link(
    target_fd: int, memory: Memory, old: Manifest | None, new: Manifest, report: Report, progress: Progress | None
) -> None:
    before = {} if old is None else old.directories
    settled = settled_directories(target_fd, old)
    certain = _certain(old, new, settled)
    wanted, ours = _wanted(new, certain), _ours(old, certain)
    changes = links.compare(target_fd, wanted, ours, before.keys(), settled)
    changes.unchanged += len(certain)
    used = links.directories_of(new.jobs)
    if changes:
        new.before = {path: texts for path, texts in ours.items() if texts != [wanted.get(path)]}
        new.directories = dict.fromkeys([*before, *used], UNKNOWN)
        memory.write(new)
        links.apply(target_fd, changes, ours, before.keys() - used, progress)
    _report(report, changes)
    for path in changes.in_the_way:
        new.jobs.pop(path, None)
    new.before = {}
    new.directories = stamps(target_fd, used)
    new.complete = not changes.in_the_way
    if changes or old is None or old != new:
        memory.write(new)


def _report(report: Report, changes: links.Changes) -> None:
    report.added, report.changed = list(changes.added), list(changes.retargeted)
    report.removed = [path for path in changes.removed if path not in changes.retargeted]
    report.unchanged, report.in_the_way = changes.unchanged, changes.in_the_way
