"""Whole projects exported and imported from Python, by signac's names.

Owned here: what the arguments of signac's methods mean here. The work is that of ``sigfs.export``, the wing above,
which is imported when it is asked for.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from sigfs.errors import DestinationExists, NotImportable
from sigfs.model.project import Path
from sigfs.model.types import StatePoint

if TYPE_CHECKING:
    from sigfs.api.project import Project
    from sigfs.export.report import Method


class Exchange:
    """What a project has to be exported and imported by."""

    def import_from(
        self,
        origin: Path | None = None,
        schema: str | Callable[[str], StatePoint | None] | None = None,
        sync: object = None,
        copytree: Callable[..., Any] | None = None,
    ) -> dict[str, str]:
        """Bring the jobs of a directory tree or an archive into the workspace; see docs/import.md.

        Args:
            origin: default: the working directory.
            schema: as ``'foo/{foo:int}'``, or a function from a path, relative to *origin*, to a state point or None.
            sync: not there; merge by hand what is told.
            copytree: ``os.replace`` or ``shutil.move`` to have the jobs leave *origin*; default: they are copied.
        Returns:
            Path of each job in *origin* -> path in the workspace. Jobs that were there with the same data are among
            them.
        Raises:
            DestinationExists: there are jobs with other data, or ones that cannot be imported; all others have been.
            NotImportable: there is nothing to import, or not so.
        """
        from sigfs.export.importing import ImportOptions, import_jobs

        project = cast("Project", self)
        if sync:
            raise NotImportable("jobs are not merged: import without sync, and see which are there with other data")
        method = _method(copytree)
        if method not in ("copy", "move"):
            raise NotImportable(f"copytree is shutil.copytree or os.replace, not {copytree!r}")
        path = os.path.abspath("." if origin is None else origin)
        report = import_jobs(project, path, ImportOptions(schema, move=method == "move"))
        if report.failed:
            why = "; ".join(f"{name}: {why}" for name, why in report.failed.items())
            raise DestinationExists(f"not imported: {why}")
        return {
            os.path.normpath(os.path.join(path, name)): os.path.join(project.workspace.path, job_id)
            for name, job_id in sorted({**report.unchanged, **report.imported}.items())
        }

    def export_to(
        self,
        target: Path,
        path: str | bool | None = None,
        copytree: Callable[..., Any] | None = None,
    ) -> dict[str, str]:
        """Export all jobs to a directory, or an archive (by its name: zip, tar, tar.gz, tar.zst); see docs/export.md.

        Args:
            path: a layout or a template; False: ids; default: the layout auto.
            copytree: ``os.replace`` or ``shutil.move`` to have the jobs leave the workspace, ``os.symlink`` for links;
                default: they are copied.
        Returns:
            Path of each job -> path in *target*.
        Raises:
            DestinationExists: something is in the way.
            ExportError, BadTemplate, JobChanged: as `sigfs.export.exporting.export`.
        """
        from sigfs.export.exporting import Options, export, export_archive
        from sigfs.export.jobs import planned
        from sigfs.export.manifest import job_path
        from sigfs.export.report import ARCHIVES
        from sigfs.tree import Tree, check_layout

        project = cast("Project", self)
        method = _method(copytree)
        if method is None:
            raise ValueError(f"copytree is shutil.copytree, os.replace or os.symlink, not {copytree!r}")
        where = os.path.abspath(target)
        layout = check_layout("{job.id}" if path is False else "auto" if path in (None, True) else str(path))
        workspace = os.path.realpath(project.workspace.path)
        jobs = planned(project, Tree(layout)).jobs
        kind = next((kind for suffix, kind in ARCHIVES.items() if where.endswith(suffix)), None)
        if kind is not None:
            if copytree is not None:
                raise ValueError("copytree is for directories, not for archives")
            report = export_archive(project, where, kind, Options(layout))
        else:
            report = export(project, where, Options(layout, method=method))
        if report.in_the_way or report.failed:
            raise DestinationExists(f"not exported: {', '.join([*report.in_the_way, *report.failed])}")
        return {job_path(workspace, job): place if kind else os.path.join(where, place) for place, job in jobs.items()}


def _method(copytree: Callable[..., Any] | None) -> Method | None:
    """What somebody wants who has said so to signac."""
    import shutil

    methods: list[tuple[Method, tuple[object, ...]]] = [
        ("copy", (None, shutil.copytree)),
        ("move", (os.replace, os.rename, shutil.move)),
        ("symlink", (os.symlink,)),
    ]
    return next((method for method, functions in methods if copytree in functions), None)
