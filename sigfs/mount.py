"""The composition root: puts a mounted project together, serves it, takes it down.

Owned here: which parts are made and in which order, the process's signals and limits, what a mount point must
be, and how a mount is found and unmounted from outside. One mounted project is one process; ``serve`` runs in
its main thread.

Order of a mount: open the watch, scan, build, mount, start the watcher, serve. So no change is missed between
the scan and the first event, and nothing is mounted that cannot be served.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import resource
import select
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from sigfs.errors import MountBusy, MountError, MountPointError
from sigfs.index import Index
from sigfs.model.project import Project, get_project
from sigfs.query import needs_documents
from sigfs.query.expr import EVERYTHING, Expr, Space
from sigfs.transports.base import MountSpec, load
from sigfs.transports.unmount import Mount, mounts, unmount
from sigfs.tree import JobNode, Tree, VirtualNode
from sigfs.vfs.operations import Operations
from sigfs.watch import WorkspaceWatcher

if TYPE_CHECKING:
    from sigfs.index import Snapshot
    from sigfs.model.types import Change
    from sigfs.transports.base import Transport
    from sigfs.tree import Layout

log = logging.getLogger(__name__)

_WAKE: Final = signal.SIGUSR2
"""Sent to the thread that waits for signals to end it; from outside it means nothing."""

FS_TYPE: Final = "fuse.sigfs"
"""What a mounted project is called in /proc/self/mountinfo."""

PROBE_S: Final = 5.0
"""How long a file system may take to answer before it is called hung."""

GRACE_S: Final = 5.0
"""How long a mount that was told to end keeps serving programs that still hold its files."""

_MNT_DETACH: Final = 2
_UMOUNT_NOFOLLOW: Final = 8


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


# Mount points


def find_mount(mountpoint: str) -> Mount | None:
    """Give what is mounted at this path, as it stands in mountinfo, on top. Touches no file system but /proc."""
    return next((mount for mount in reversed(mounts()) if mount.mountpoint == mountpoint), None)


def resolve_mountpoint(path: str) -> str:
    """Make *path* absolute and free of links, touching what is mounted there only if it is a link itself."""
    directory, name = os.path.split(os.path.abspath(path))
    candidate = os.path.join(os.path.realpath(directory), name) if name else "/"
    return candidate if find_mount(candidate) is not None else os.path.realpath(candidate)


Health = Literal["alive", "dead", "hung"]


@dataclass(frozen=True, slots=True)
class Probe:
    """What a mount answered. ``jobs`` is None where it did not say."""

    health: Health
    jobs: int | None = None


def probe(mountpoint: str, timeout_s: float = PROBE_S, *, jobs: bool = False) -> Probe:
    """Ask the file system at *mountpoint* whether it is there and, if wanted, how many jobs it shows.

    The question is asked by a child process, since whoever asks a hung file system hangs with it. Call it
    where no other thread runs.
    """
    deadline_s = time.monotonic() + timeout_s
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            _ask(mountpoint, writable, jobs)
        finally:
            os._exit(0)
    os.close(writable)
    words: list[str] = []
    try:
        while len(words) < 2:
            answered, _, _ = select.select([readable], [], [], max(0.0, deadline_s - time.monotonic()))
            said = os.read(readable, 64) if answered else b""
            if not said:
                break
            words += said.decode().split()
    finally:
        os.close(readable)
        os.kill(child, signal.SIGKILL)
        _reap(child)
    match words:
        case []:
            return Probe("hung")
        case ["dead", *_]:
            return Probe("dead")
        case ["alive", count]:
            return Probe("alive", int(count))
        case _:
            return Probe("alive")


def _ask(mountpoint: str, answer: int, jobs: bool) -> None:
    try:
        os.statvfs(mountpoint)  # unlike stat, never answered from the kernel's cache
    except OSError as error:
        os.write(answer, b"dead " if error.errno in (errno.ENOTCONN, errno.ECONNABORTED) else b"alive ")
        return
    os.write(answer, b"alive ")
    if jobs:
        with contextlib.suppress(OSError):  # a view without jobs has no .jobs
            os.write(answer, str(len(os.listdir(os.path.join(mountpoint, ".jobs")))).encode())


def _reap(child: int) -> None:
    """Collect a killed child; leave one that the kernel does not let go to the end of this process."""
    deadline_s = time.monotonic() + 1
    while os.waitpid(child, os.WNOHANG)[0] == 0 and time.monotonic() < deadline_s:
        time.sleep(0.001)


def check_mountpoint(path: str, workspace: str) -> tuple[str, tuple[str, ...]]:
    """See that a project can be mounted at *path*; clear a sigfs mount left there by a crash.

    Returns:
        The absolute path to mount at, and what the user should be told.

    Raises:
        MountPointError: saying what is wrong and what to do.
    """
    mountpoint = resolve_mountpoint(path)
    notes = []
    while (entry := find_mount(mountpoint)) is not None and entry.type.startswith("fuse"):
        health = probe(mountpoint).health
        ours = entry.type == FS_TYPE
        if ours and health == "dead":
            unmount(mountpoint, lazy=True)
            notes.append(f"cleared the mount that a server that is gone had left on {path}")
        elif ours:
            state = "mounted already" if health == "alive" else "mounted already, and its server does not answer"
            raise MountPointError(
                f"{path} is {state} (by sigfs, {entry.source}); unmount it with: sigfs umount {path}"
                + ("" if health == "alive" else " --lazy")
            )
        elif health == "alive":
            break
        else:
            raise MountPointError(
                f"{path} is a {health} mount of {entry.type} ({entry.source}); "
                f"unmount it with: fusermount3 -u -z {path}"
            )
    try:
        names = os.listdir(mountpoint)
    except FileNotFoundError:
        raise MountPointError(f"{path} does not exist; make it with: mkdir -p {path}") from None
    except NotADirectoryError:
        raise MountPointError(f"{path} is not a directory; a mount point must be an empty one") from None
    except OSError as error:
        raise MountPointError(f"{path} cannot be used as a mount point: {error.strerror}") from None
    below = os.path.realpath(workspace)
    if _is_within(mountpoint, below):
        raise MountPointError(f"{path} is inside the workspace {workspace}; choose a directory outside of it")
    if _is_within(below, mountpoint):
        raise MountPointError(f"{path} contains the workspace {workspace}, which the mount would hide; choose another")
    if names:
        raise MountPointError(f"{path} is not empty, and mounting would hide what it holds; choose an empty directory")
    if not os.access(mountpoint, os.W_OK):
        raise MountPointError(f"{path} is not writable for you, which mounting needs; choose a directory of your own")
    return mountpoint, tuple(notes)


def _is_within(path: str, directory: str) -> bool:
    return os.path.commonpath([path, directory]) == directory


# Serving


class _Stopped(Exception):
    """A signal came before there was anything to unmount."""


class _Signals:
    """Ends the mount when SIGTERM or SIGINT comes.

    The signals are blocked in all threads and taken by one that waits for them, so that no handler ever
    interrupts a request, whatever binding runs the main thread. Life: ``block`` before any thread exists,
    ``start``, ``mounted`` as soon as there is something to unmount, ``finish``.
    """

    def __init__(self) -> None:
        self.asked = threading.Event()  # a signal has come
        self._finished = threading.Event()  # serving is over
        self._lock = threading.Lock()  # guards _mountpoint against mounting and unmounting at once
        self._mountpoint: str | None = None  # None: not mounted yet
        self._waited: frozenset[signal.Signals] = frozenset({signal.SIGTERM, signal.SIGINT, _WAKE})
        self._before: set[signal.Signals | int] = set()

    def block(self, *, daemon: bool) -> None:
        """Block the signals here and so in all threads to come.

        Args:
            daemon: no terminal is there to hang up; otherwise its end unmounts too.
        """
        if daemon:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        else:
            self._waited |= {signal.SIGHUP}
        self._before = set(signal.pthread_sigmask(signal.SIG_BLOCK, self._waited))

    def start(self) -> None:
        """Begin to wait for the signals."""
        self._thread = threading.Thread(target=self._run, name="sigfs-signals", daemon=True)
        self._thread.start()

    def mount(self, mountpoint: str, transport: Transport) -> None:
        """Mount, unless a signal has come.

        Raises:
            _Stopped: a signal has come.
        """
        with self._lock:
            if self.asked.is_set():
                raise _Stopped
            transport.mount()
            self._mountpoint = mountpoint

    def finish(self) -> None:
        """Say that serving is over; give the signals back."""
        self._finished.set()
        if self._thread.is_alive():
            signal.pthread_kill(self._thread.ident or 0, _WAKE)
            self._thread.join()
        while signal.sigtimedwait(self._waited, 0) is not None:
            pass  # a signal that asked for what is done already
        signal.pthread_sigmask(signal.SIG_SETMASK, self._before)

    def _run(self) -> None:
        number: signal.Signals | int = _WAKE
        while number == _WAKE:
            number = signal.sigwait(self._waited)
            if self._finished.is_set():
                return
        log.info("%s: unmounting", signal.Signals(number).name)
        with self._lock:
            self.asked.set()
            mountpoint = self._mountpoint
        if mountpoint is not None:
            self._end(mountpoint)

    def _end(self, mountpoint: str) -> None:
        entry = find_mount(mountpoint)
        try:
            unmount(mountpoint)
        except MountBusy:
            log.warning("%s is in use: it disappears now and ends in %g s", mountpoint, GRACE_S)
            self._end_gently(mountpoint, entry)
        except MountError as error:
            log.warning("%s", error)
            if find_mount(mountpoint) is not None:
                self._end_gently(mountpoint, entry)
        if not self._finished.wait(GRACE_S):
            _leave()

    def _end_gently(self, mountpoint: str, entry: Mount | None) -> None:
        """Take the mount out of the tree, go on serving who still holds files of it, then end for all."""
        try:
            unmount(mountpoint, lazy=True)
        except MountError as error:
            log.error("%s", error)
        deadline_s = time.monotonic() + GRACE_S
        while not self._finished.is_set() and (left_s := deadline_s - time.monotonic()) > 0:
            if signal.sigtimedwait(self._waited, min(left_s, 0.1)) is not None and not self._finished.is_set():
                break  # asked again
        if not self._finished.is_set() and not (entry is not None and _abort(entry.device)):
            _leave()


def _leave() -> None:
    """End the process at once and with it the mount, whatever the transport waits for. Nothing unwritten is lost:
    each write has been handed to the file below before it was answered."""
    log.info("leaving those who still hold files of the mount")
    logging.shutdown()
    os._exit(0)


def _abort(device: int) -> bool:
    """End the kernel's side of a FUSE connection, so that whoever waits for it gets an error.

    False where that is not possible: the control file system is not mounted, or not permitted.
    """
    try:
        with open(f"/sys/fs/fuse/connections/{os.minor(device)}/abort", "w", encoding="ascii") as control:
            control.write("1")
    except OSError as error:
        log.debug("no abort: %s", error)
        return False
    return True


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
    signals = _Signals()
    signals.block(daemon=options.daemon)
    _raise_limits()
    os.umask(0)  # each request brings its caller's
    signals.start()
    try:
        _serve(options, ready, progress, signals)
    except _Stopped:
        log.info("ended before it was mounted")
    finally:
        signals.finish()
    return 0


def _serve(
    options: MountOptions,
    ready: Callable[[MountReport], None],
    progress: Callable[[int, int], None] | None,
    signals: _Signals,
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
        signals.mount(options.mountpoint, transport)
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
    project: Project, documents: bool, signals: _Signals, progress: Callable[[int, int], None] | None
) -> list[Change]:
    changes = []
    for change in project.workspace.scan(documents=documents, progress=progress):
        if signals.asked.is_set():
            raise _Stopped
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
