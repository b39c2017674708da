"""The composition root: puts a mounted project together, serves it, takes it down.

Owned here: which parts are made and in which order, and the process's limits; ``points`` knows what a mount point
must be, ``signals`` how a signal ends the mount, ``stacks`` how one has it say where it is. One mounted project is
one process; ``serve`` runs in its main thread.

Order of a mount: open the watch; read the store, or else the workspace; see which jobs came and went since; mount;
start the watcher; serve. So no change is missed between the reading and the first event, nothing is mounted that
cannot be served, and no job is missing. What else may have changed while nobody looked, the watcher finds first.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import resource
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from sigfs.api.project import Project, get_project
from sigfs.errors import MountError
from sigfs.index import Index
from sigfs.index.crawl import crawl, new_and_gone, revalidate
from sigfs.index.outside import known_outside, read_places, revalidate_places, split
from sigfs.index.store import Store
from sigfs.model.indexed import read_indexed
from sigfs.model.places import Places
from sigfs.model.types import UNKNOWN
from sigfs.mount.ending import in_time
from sigfs.mount.misnamed import Misnamed
from sigfs.mount.notifying import Heartbeat, ServiceManager, answers
from sigfs.mount.points import claimed
from sigfs.mount.reloading import Reloading
from sigfs.mount.signals import Signals, Stopped
from sigfs.mount.stacks import Stacks
from sigfs.mount.views import NamedViews
from sigfs.query.expr import EVERYTHING, Expr, Space
from sigfs.sidecar import Sidecar
from sigfs.sidecar.keeper import Keeper
from sigfs.transports.base import MountSpec, load
from sigfs.transports.mounts import is_read_only, may_mount
from sigfs.tree import JobNode, Tree, VirtualNode
from sigfs.version import __version__
from sigfs.vfs.coherence import Coherence
from sigfs.vfs.freshness import tells
from sigfs.vfs.operations import Operations
from sigfs.vfs.readonly import ReadOnly
from sigfs.vfs.repeating import Repeating
from sigfs.watch import WorkspaceWatcher
from sigfs.watch.outside import PlacesWatcher
from sigfs.watch.sources import file_system_type, is_remote

if TYPE_CHECKING:
    from sigfs.index import Table
    from sigfs.model.places import Listing
    from sigfs.model.types import Findings, JobId
    from sigfs.model.workspace import Workspace
    from sigfs.transports.base import Transport
    from sigfs.tree import Layout
    from sigfs.watch.sources import Mode

log = logging.getLogger(__name__)

UNWATCHED_S: Final = 1.0
"""With ``coherent``: how long the kernel may believe what it is not told of."""

WATCHED_S: Final = 60.0
"""With ``coherent``: how long it may believe the rest, unless something else is asked for. Not for ever, because of the
little that is not told (see ``vfs.coherence``)."""


_FEW_FILES: Final = 1024
_FEWEST_FILES: Final = 64
"""Descriptors: the server itself needs some 30, and a few for each thread."""

_COLLECTIONS: Final = (10_000, 20, 50)
"""How often Python looks for cycles of garbage. Hardly any arise; what a walk brings in, some 20 objects a file, stays
for long, and with Python's own numbers looking through it took a seventh of a walk of 100,000 files."""


@dataclass(frozen=True, slots=True)
class MountOptions:
    """What to mount, and how.

    Attributes:
        project: the project's root, or any directory below it.
        mountpoint: absolute path, as ``check_mountpoint`` gave it.
        layout, filter: how the view is arranged, and which jobs it has.
        view: the name under which the project keeps these, if it does.
        coherent: watch the directories in use, so that the kernel is told at once what others change in them. The
            timeouts are then for what is watched; for the rest they are at most ``UNWATCHED_S``.
        options: further generic mount options by name, as in ``MountSpec``.
        state_dir: where the index is kept, in place of the project's ``.sigfs``.
        single_user: as in ``MountSpec``.
    """

    project: str
    mountpoint: str
    layout: Layout = "auto"
    filter: Expr = EVERYTHING
    view: str | None = None
    transport: str = "kernel"
    read_only: bool = False
    allow_other: bool = False
    passthrough: bool = True
    coherent: bool = False
    entry_timeout_s: float = 1.0
    attr_timeout_s: float = 1.0
    debug: bool = False
    options: tuple[str, ...] = ()
    state_dir: str | None = None
    single_user: bool = False


@dataclass(frozen=True, slots=True)
class MountReport:
    """What has been mounted, for a greeting.

    Attributes:
        keys: each key of the jobs' state points with its number of distinct values, in the order of the view.
        example: names that lead from the mount point to a job, or as far as there are any; empty without jobs.
        pending: how many directories are named like jobs and have no state point that can be read.
        watching: how changes below are noticed.
        silent: indexed directories that do not answer: their jobs are missing until they do.
    """

    project: str
    name: str | None
    jobs: int
    keys: tuple[tuple[str, int], ...]
    example: tuple[str, ...]
    pending: int
    watching: Mode
    silent: tuple[str, ...] = ()


def serve(
    options: MountOptions,
    ready: Callable[[MountReport], None],
    progress: Callable[[int, int], None] | None = None,
    manager: ServiceManager | None = None,
    reread: Callable[[], None] = lambda: None,
) -> int:
    """Mount a project and answer for it until it is unmounted. Runs in the main thread.

    Args:
        options: the mount point must have been checked.
        ready: called once it is mounted, just before the first request is answered: it must not touch the mount.
        progress: called now and then with (jobs read, jobs to read).
        manager: told how it goes but for the progress.
        reread: called when the process is told to reload, before the jobs are compared: it says which options are
            others by now.

    Returns:
        The exit code of the process: 0 after an unmount by whomever, and after SIGTERM and SIGINT.

    Raises:
        SigfsError: the project cannot be read or mounted; nothing is left mounted.
    """
    signals, stacks = Signals(), Stacks()
    _raise_limits()
    signals.block()
    stacks.block()
    signal.signal(signal.SIGIO, signal.SIG_IGN)  # of leases, see ``syscalls.has_no_writer``
    os.umask(0)  # each request brings its caller's
    signals.start()
    stacks.start()
    try:
        _serve(options, ready, progress, signals, manager or ServiceManager(), reread)
    except Stopped:
        log.info("ended before it was mounted")
    finally:
        signals.finish()
        stacks.stop()
    return 0


def _serve(
    options: MountOptions,
    ready: Callable[[MountReport], None],
    progress: Callable[[int, int], None] | None,
    signals: Signals,
    manager: ServiceManager,
    reread: Callable[[], None],
) -> None:
    project = get_project(options.project)
    workspace = project.workspace
    workspace.on_change = None  # the index is told, and the sidecar by that: nobody waits for it
    tree = Tree(options.layout, options.filter)
    tree.views = NamedViews(project.root)
    documents = tree.reads_documents(tree.root)
    places = Places(workspace.path, read_indexed(project.root))
    gc.disable()  # until everything is there that is going to stay
    store = Store.open(project.root, workspace, options.state_dir)
    kept = store.load()
    index = Index() if kept is None else kept
    kind_below = file_system_type(workspace.path)
    read_only = ReadOnly(options.read_only, lambda: is_read_only(options.mountpoint))
    operations = Operations(
        tree,
        index,
        workspace,
        read_only=read_only,
        entry_timeout_s=min(options.entry_timeout_s, UNWATCHED_S) if options.coherent else options.entry_timeout_s,
        attr_timeout_s=min(options.attr_timeout_s, UNWATCHED_S) if options.coherent else options.attr_timeout_s,
        trusts_times=not is_remote(kind_below),
        keeps_data=tells(kind_below),
        places=places,
        shared=options.allow_other,
    )

    def compare(with_documents: bool) -> Findings:
        index.warm()
        with index.reading() as table:
            known = table.stamped()
        if places:
            known, _ = split(known, places)
        found = revalidate(workspace, known, documents=with_documents, progress=watcher.progress)
        index.documents = index.documents or with_documents
        return found

    def on_progress(done: int, total: int) -> None:
        if signals.asked.is_set():
            raise Stopped
        if progress is not None and total:
            progress(done, total)

    def compare_places(listing: Listing, with_documents: bool, base: str | None) -> Findings:
        with index.reading() as table:
            known = known_outside(table, places, base)
        return revalidate_places(places, known, listing=listing, documents=with_documents, progress=outside.progress)

    def managed() -> list[JobId]:
        return [job for job in index.ids() if not places.owns(job)] if places else index.ids()

    watcher = WorkspaceWatcher(
        workspace,
        operations.apply,
        managed,
        documents=documents,
        revalidate=compare,
        finish=lambda job: not read_only.now() and workspace.finish(job),
    )
    outside = PlacesWatcher(
        project.root,
        places,
        operations.apply,
        revalidate=compare_places,
        read=lambda keys, with_documents: read_places(places, keys, documents=with_documents),
        documents=documents,
    )
    misnamed = Misnamed(index, workspace, watcher.look_at)

    def bring_documents() -> None:
        watcher.now()
        outside.now()

    operations.attach_documents(bring_documents)
    about = {
        "version": __version__,
        "project": project.root,
        "mountpoint": options.mountpoint,
        "transport": options.transport,
        "mounted_s": time.time(),
    }
    operations.attach_status(lambda: {**watcher.status(), "indexed": outside.status()}, about)
    operations.attach_events(lambda: watcher.mode != "polling", lambda: outside.told)
    heartbeat = Heartbeat(manager, lambda: _in_short(options, operations), lambda: answers(options.mountpoint))
    keeper = Keeper(Sidecar(project.root, workspace, places))
    keep_sidecar = partial(_keep_sidecar, options, read_only, keeper, operations, index)
    steps = (reread, watcher.compare, outside.compare, keep_sidecar)
    reloading = Reloading(steps, manager.reloading, heartbeat.ready)
    read_only.on_writable = signals.on_reload = reloading.ask
    signals.on_stop = manager.stopping
    transport: Transport | None = None
    notifier: Repeating | None = None
    coherence: Coherence | None = None
    try:
        kind = load(options.transport)
        watcher.open()
        pending, new = _catch_up(index, workspace, places, outside, documents, on_progress, is_new=kept is None)
        gc.freeze()
        gc.set_threshold(*_COLLECTIONS)
        gc.enable()
        transport = kind(_spec(options, project))
        notifier = Repeating(transport.notifier)
        operations.attach(notifier, transport.can_notify, transport.statistics)
        if transport.can_notify and not is_remote(kind_below):
            coherence = _follow(options, operations, notifier)
        elif options.coherent:
            log.warning("coherent has no effect: %s does not report the changes of others", kind_below)
        with claimed(options.mountpoint):
            signals.mount(options.mountpoint, transport, lambda: operations.statistics()["open_files"] > 0)
        store.attach(index)
        keep_sidecar()
        watcher.start()
        outside.start()
        misnamed.start(new)
        log.info("%s is mounted on %s by %s", project.root, options.mountpoint, options.transport)
        with index.reading() as table:
            made = report(project, tree, table, pending, watcher.mode, tuple(outside.silent))
        manager.loading()
        ready(made)
        reloading.start()
        heartbeat.start()
        transport.serve(operations)
        manager.stopping()
        log.info("%s is unmounted", options.mountpoint)
    finally:
        heartbeat.stop()
        with in_time(lambda: None if transport is None else transport.let_go()):
            misnamed.stop()
            outside.stop()
            watcher.stop()
            keeper.stop()
            reloading.stop()
            if coherence is not None:
                coherence.close()
            if notifier is not None:
                notifier.close()
            if transport is not None:
                transport.close()
            operations.close()
            store.close()


def _keep_sidecar(
    options: MountOptions, read_only: ReadOnly, keeper: Keeper, operations: Operations, index: Index
) -> None:
    """Have the project's sidecar follow what becomes of the jobs, if it may be written and does not yet."""
    if keeper.has_begun:
        return
    if read_only.now() or options.state_dir is not None:
        why = "has a --state-dir" if options.state_dir is not None else "is read-only"
        log.info("the sidecar is not kept: the mount %s", why)
        return
    index.follower = keeper.follow
    operations.wrote_documents = keeper.tell
    keeper.start()


def _follow(options: MountOptions, operations: Operations, notifier: Repeating) -> Coherence | None:
    """Have the workspace directory watched, and with ``coherent`` those in use below it."""
    try:
        coherence = operations.coherence(notifier, None if options.coherent else 0)
    except OSError as error:
        log.warning("directories cannot be watched (inotify: %s): changes in them are seen later", error.strerror)
        return None
    coherence.start()
    operations.follow(coherence, options.entry_timeout_s, options.attr_timeout_s)
    return coherence


def _catch_up(
    index: Index,
    workspace: Workspace,
    places: Places,
    outside: PlacesWatcher,
    documents: bool,
    progress: Callable[[int, int], None],
    *,
    is_new: bool,
) -> tuple[int, list[JobId]]:
    """Have all jobs that there are, and if they matter their documents, in *index*; but for indexed directories that
    do not answer.

    Returns:
        How many directories are pending, and the managed jobs that were read now.
    """
    stamp = workspace.stamp()
    if is_new:
        index.documents = documents
        pending = index.load(crawl(workspace, documents=documents, progress=progress))
        new = index.ids()
        count = outside.catch_up(index.apply, progress)
    elif stamp != UNKNOWN and stamp == index.listed and not documents and not places:
        return 0, []
    else:
        count = outside.catch_up(index.apply, progress)  # first: it tells which jobs are none of the workspace's
        with index.reading() as table:
            known = table.stamped()
        known, _ = split(known, places) if places else (known, None)
        if documents:
            found = revalidate(workspace, known, documents=True, progress=progress)
            index.documents = True
        else:
            found = new_and_gone(workspace, known.ids)
        index.apply(found.changes)
        pending = found.pending
        new = [change.id for change in found.changes if change.record is not None]
    index.listed = UNKNOWN if pending or places else stamp
    return len(pending) + count, new


def _in_short(options: MountOptions, operations: Operations) -> str:
    """Say in a line what is served."""
    counts = operations.statistics()
    return f"{options.project} on {options.mountpoint}: {counts['jobs']} jobs, {counts['open_files']} files open"


def _raise_limits() -> None:
    """Allow as many open files as the system lets this process have: each file open in the mount is one here."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < _FEWEST_FILES:
        raise MountError(f"a mount needs {_FEWEST_FILES} file descriptors, and may have {hard}; see ulimit -n")
    if hard != resource.RLIM_INFINITY and hard < _FEW_FILES:
        log.warning("RLIMIT_NOFILE is %d (ulimit -Hn): fewer files than that can be open in the mount at once", hard)


def _spec(options: MountOptions, project: Project) -> MountSpec:
    return MountSpec(
        mountpoint=options.mountpoint,
        source=project.root,
        read_only=options.read_only,
        allow_other=options.allow_other,
        passthrough=options.passthrough,
        debug=options.debug,
        # What only who may mount can have; fusermount3 would complain.
        options=tuple(word for word in options.options if word not in {"dev", "suid"} or may_mount()),
        single_user=options.single_user,
    )


def report(
    project: Project, tree: Tree, table: Table, pending: int, watching: Mode, silent: tuple[str, ...] = ()
) -> MountReport:
    """Say what the view shows."""
    jobs = tree.jobs(tree.root, table)
    present = (key for key in table.fields(Space.SP) if jobs.intersect(table.having(key)))
    counts = [(table.count_values(key, jobs), key) for key in present]
    return MountReport(
        project=project.root,
        name=project.name,
        jobs=len(jobs),
        keys=tuple((key.key, count) for count, key in sorted(counts)),
        example=_example(tree, table),
        pending=pending,
        watching=watching,
        silent=silent,
    )


def _example(tree: Tree, table: Table) -> tuple[str, ...]:
    """Walk from the root to a job, taking the first name each time."""
    path: list[str] = []
    node: VirtualNode = tree.root
    while (name := next(iter(tree.names(node, table)), None)) is not None:
        child = tree.child(node, name, table)
        if child is None:
            break
        path.append(name)
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
    data["example"], data["silent"] = tuple(data["example"]), tuple(data["silent"])
    return MountReport(**data)
