"""The composition root: puts a mounted project together, serves it, takes it down.

Owned here: which parts are made and in which order, and the process's limits; ``points`` knows what a mount point
must be, ``signals`` how a signal ends the mount. One mounted project is one process; ``serve`` runs in its main
thread.

Order of a mount: open the watch, scan, build, mount, start the watcher, serve. So no change is missed between
the scan and the first event, and nothing is mounted that cannot be served.
"""

from __future__ import annotations

import json
import logging
import os
import resource
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sigfs.index import Index
from sigfs.model.project import Project, get_project
from sigfs.mount.signals import Signals, Stopped
from sigfs.query import needs_documents
from sigfs.query.expr import EVERYTHING, Expr, Space
from sigfs.transports.base import MountSpec, load
from sigfs.tree import JobNode, Tree, VirtualNode
from sigfs.vfs.operations import Operations
from sigfs.watch import WorkspaceWatcher

if TYPE_CHECKING:
    from sigfs.index import Snapshot
    from sigfs.model.types import Change
    from sigfs.transports.base import Transport
    from sigfs.tree import Layout

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MountOptions:
    """What to mount, and how.

    Attributes:
        project: the project's root, or any directory below it.
        mountpoint: absolute path, as ``check_mountpoint`` gave it.
        filter: which jobs the view has.
        options: further generic mount options by name, as in ``MountSpec``.
        daemon: the process has no terminal: SIGHUP means nothing to it.
    """

    project: str
    mountpoint: str
    layout: Layout = "auto"
    filter: Expr = EVERYTHING
    transport: str = "kernel"
    read_only: bool = False
    allow_other: bool = False
    passthrough: bool = True
    entry_timeout_s: float = 1.0
    attr_timeout_s: float = 1.0
    debug: bool = False
    options: tuple[str, ...] = ()
    daemon: bool = False


@dataclass(frozen=True, slots=True)
class MountReport:
    """What has been mounted, for a greeting.

    Attributes:
        keys: each key of the jobs' state points with its number of distinct values, in the order of the view.
        example: names that lead from the mount point to a job, or as far as there are any; empty without jobs.
        watching: how changes below are noticed.
    """

    project: str
    name: str | None
    jobs: int
    keys: tuple[tuple[str, int], ...]
    example: tuple[str, ...]
    watching: Literal["inotify", "polling"]


def serve(
    options: MountOptions,
    ready: Callable[[MountReport], None],
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Mount a project and answer for it until it is unmounted. Runs in the main thread.

    Args:
        options: the mount point must have been checked.
        ready: called once it is mounted, just before the first request is answered: it must not touch the mount.
        progress: called now and then with (jobs read, jobs to read).

    Returns:
        The exit code of the process: 0 after an unmount by whomever, and after SIGTERM and SIGINT.

    Raises:
        SigfsError: the project cannot be read or mounted; nothing is left mounted.
    """
    signals = Signals()
    signals.block(daemon=options.daemon)
    _raise_limits()
    os.umask(0)  # each request brings its caller's
    signals.start()
    try:
        _serve(options, ready, progress, signals)
    except Stopped:
        log.info("ended before it was mounted")
    finally:
        signals.finish()
    return 0


def _serve(
    options: MountOptions,
    ready: Callable[[MountReport], None],
    progress: Callable[[int, int], None] | None,
    signals: Signals,
) -> None:
    project = get_project(options.project)
    workspace = project.workspace
    tree = Tree(options.layout, options.filter)
    documents = needs_documents(options.filter)
    index = Index()
    operations = Operations(
        tree,
        index,
        workspace,
        read_only=options.read_only,
        entry_timeout_s=options.entry_timeout_s,
        attr_timeout_s=options.attr_timeout_s,
    )
    watcher = WorkspaceWatcher(workspace, operations.apply, index.snapshot, documents=documents)
    transport: Transport | None = None
    try:
        kind = load(options.transport)
        watcher.open()
        index.apply(_scan(project, documents, signals, progress))
        transport = kind(_spec(options, project))
        operations.attach(transport.notifier, transport.can_notify)
        signals.mount(options.mountpoint, transport, lambda: operations.statistics()["open_files"] > 0)
        watcher.start()
        log.info("%s is mounted on %s by %s", project.root, options.mountpoint, options.transport)
        ready(report(project, tree, index.snapshot(), watcher.mode))
        transport.serve(operations)
        log.info("%s is unmounted", options.mountpoint)
    finally:
        watcher.stop()
        if transport is not None:
            transport.close()
        operations.close()


def _raise_limits() -> None:
    """Allow as many open files as the system lets this process have: each file open in the mount is one here."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _spec(options: MountOptions, project: Project) -> MountSpec:
    return MountSpec(
        mountpoint=options.mountpoint,
        source=project.root,
        read_only=options.read_only,
        allow_other=options.allow_other,
        passthrough=options.passthrough,
        debug=options.debug,
        options=options.options,
    )


def _scan(
    project: Project, documents: bool, signals: Signals, progress: Callable[[int, int], None] | None
) -> list[Change]:
    changes = []
    for change in project.workspace.scan(documents=documents, progress=progress):
        if signals.asked.is_set():
            raise Stopped
        changes.append(change)
    return changes


def report(project: Project, tree: Tree, snapshot: Snapshot, watching: Literal["inotify", "polling"]) -> MountReport:
    """Say what the view shows."""
    jobs = tree.jobs(tree.root, snapshot)
    present = (key for key in snapshot.fields(Space.SP) if jobs.intersect(snapshot.having(key)))
    counts = [(snapshot.count_values(key, jobs), key) for key in present]
    return MountReport(
        project=project.root,
        name=project.name,
        jobs=len(jobs),
        keys=tuple((key.key, count) for count, key in sorted(counts)),
        example=_example(tree, snapshot),
        watching=watching,
    )


def _example(tree: Tree, snapshot: Snapshot) -> tuple[str, ...]:
    """Walk from the root to a job, taking the first name each time."""
    path: list[str] = []
    node: VirtualNode = tree.root
    while names := tree.names(node, snapshot):
        child = tree.child(node, names[0], snapshot)
        if child is None:
            break
        path.append(names[0])
        if isinstance(child, JobNode):
            break
        node = child
    return tuple(path)


def report_to_json(made: MountReport) -> str:
    """Write a report as one line."""
    return json.dumps({name: getattr(made, name) for name in MountReport.__slots__})


def report_from_json(text: str) -> MountReport:
    """Read a report back."""
    data = json.loads(text)
    data["keys"] = tuple((key, count) for key, count in data["keys"])
    data["example"] = tuple(data["example"])
    return MountReport(**data)
