"""Reading a workspace, and seeing that nothing in it has changed: against signac and against C."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import signac

from sigfs.index.crawl import crawl, revalidate
from sigfs.index.index import Index, without_collector
from sigfs.model.types import Stamped
from sigfs.model.workspace import Workspace
from tests.bench import data
from tests.bench.harness import OURS, Aim, Context, Measure, floor, floor_program, take_turns

TOP = 100_000  # the size that the targets speak of
_INDEX = "signac _build_index"
_CACHE = "signac _update_in_memory_cache"
_C = "C"


def read(workspace: Workspace, documents: bool, threads: int | None = None) -> list[str]:
    """Crawl as ``Index.build`` does, without the collector; keep what was read until the end, give the ids."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(without_collector())
        executor = stack.enter_context(ThreadPoolExecutor(threads)) if threads else None
        batches = list(crawl(workspace, documents=documents, executor=executor))
    return [row[0] for batch in batches for row in batch.rows]


def signac_index(path: str, documents: bool) -> list[str]:
    """Let signac read what it reads for a query, keep it until the end, give the ids."""
    return [job for job, _ in list(signac.Project(path)._build_index(include_job_document=documents))]


def signac_cache(path: str) -> list[str]:
    """Let signac read all state points with its thread pool, give the ids."""
    project = signac.Project(path)
    project._update_in_memory_cache()
    return list(project._sp_cache)


def uncached(path: str) -> None:
    """Remove what signac keeps of a project."""
    with contextlib.suppress(FileNotFoundError):
        os.remove(os.path.join(path, ".signac", "statepoint_cache.json.gz"))


def known(workspace: Workspace, documents: bool) -> Stamped:
    """Give the stamps of an index of this workspace."""
    index = Index.build(workspace, documents=documents)
    with index.reading() as table:
        return table.stamped()


def unchanged(workspace: Workspace, stamped: Stamped, documents: bool) -> list[str]:
    """Revalidate a workspace in which nothing has changed; give the ids."""
    findings = revalidate(workspace, stamped, documents=documents)
    assert not findings.changes, f"{len(findings.changes)} changes were found where there are none"
    return stamped.ids


def _same_but_c(answers: dict[str, object]) -> None:
    found = {name: set(answer) for name, answer in answers.items() if name != _C}  # type: ignore[call-overload]
    sizes = {name: len(ids) for name, ids in found.items()}
    assert all(ids == found[OURS] for ids in found.values()), f"not the same jobs: {sizes}"


def warm(context: Context, jobs: int) -> Iterator[Measure]:
    """Read all with a warm page cache."""
    path = data.project(context.base, jobs)
    uncached(path)
    workspace = Workspace(os.path.join(path, "workspace"))
    program = floor_program(context.base)
    rounds = context.rounds if jobs <= TOP else context.fewer(3)
    read(workspace, documents=True)
    for documents, name in ((False, "crawl, state points"), (True, "crawl, with documents")):
        mode = "read-both" if documents else "read"
        contestants: dict[str, Callable[[], object]] = {
            OURS: lambda documents=documents: read(workspace, documents),  # type: ignore[misc]
            _INDEX: lambda documents=documents: signac_index(path, documents),  # type: ignore[misc]
            _C: lambda mode=mode: floor(program, mode, workspace.path),  # type: ignore[misc]
        }
        peers: tuple[str, ...] = (_INDEX,)
        if not documents:
            contestants[_CACHE] = lambda: signac_cache(path)
            peers = (_INDEX, _CACHE)
        times = take_turns(contestants, rounds, check=_same_but_c)
        faster, slower = (2.5, 2.3) if documents else (3.5, 1.8)
        aims = [Aim("faster", faster, peers), Aim("within", slower, (_C,))] if jobs == TOP else []
        yield Measure(name, jobs, "µs/job", times.scaled("wall", 1e6 / jobs), aims)
        yield Measure(f"{name}, processor", jobs, "µs/job", times.scaled("cpu", 1e6 / jobs), aims)
    for documents, name in ((False, "revalidation, state points"), (True, "revalidation, with documents")):
        stamped = known(workspace, documents)
        mode = "stat-both" if documents else "stat"
        times = take_turns(
            {
                OURS: lambda stamped=stamped, documents=documents: unchanged(workspace, stamped, documents),  # type: ignore[misc]
                "sigfs crawl": lambda documents=documents: read(workspace, documents),  # type: ignore[misc]
                "C fstatat": lambda mode=mode: floor(program, mode, workspace.path),  # type: ignore[misc]
            },
            rounds,
        )
        aims = [Aim("most", 0.3), Aim("within", 2.5, ("C fstatat",))] if jobs == TOP else []
        yield Measure(name, jobs, "s", times.wall, aims)


def cold(context: Context, jobs: int) -> Iterator[Measure]:
    """Read all with nothing in the page cache."""
    rounds = context.fewer(5 if jobs < TOP else 3)
    one, eight = "one thread", "eight threads"
    with _cold_project(context.base, jobs) as (path, forget):
        workspace = Workspace(os.path.join(path, "workspace"))
        times = take_turns(
            {
                OURS: lambda: read(workspace, documents=False),
                one: lambda: read(workspace, documents=False, threads=1),
                eight: lambda: read(workspace, documents=False, threads=8),
                "signac find_jobs": lambda: [job.id for job in signac.Project(path).find_jobs({"seed": {"$gte": 0}})],
                _CACHE: lambda: signac_cache(path),
            },
            rounds,
            check=_same_but_c,
            before=forget,
        )
        aims = [Aim("faster", 7, ("signac find_jobs",)), Aim("faster", 3.5, (one,))] if jobs == TOP else []
        yield Measure("cold crawl, state points", jobs, "s", times.wall, aims)
        samples = {eight: times.wall[eight], one: times.wall[one]}
        aims = [Aim("faster", 3.5, (one,))] if jobs == TOP else []
        yield Measure("cold crawl, eight threads", jobs, "s", samples, aims, growth=False)
        for documents, name in ((False, "state points"), (True, "with documents")):
            stamped = known(workspace, documents)
            again = "sigfs crawl, one thread"
            times = take_turns(
                {
                    OURS: lambda stamped=stamped, documents=documents: unchanged(workspace, stamped, documents),  # type: ignore[misc]
                    again: lambda documents=documents: read(workspace, documents, threads=1),  # type: ignore[misc]
                    "sigfs crawl": lambda documents=documents: read(workspace, documents),  # type: ignore[misc]
                },
                rounds,
                before=forget,
            )
            aims = [Aim("faster", 15, (again,)), Aim("faster", 15, ("sigfs crawl",))] if jobs == TOP else []
            yield Measure(f"cold revalidation, {name}", jobs, "s", times.wall, aims)


@contextlib.contextmanager
def _cold_project(base: str, jobs: int) -> Iterator[tuple[str, Callable[[], None]]]:
    """Give the path of a project, and a function that makes the kernel forget it.

    On a file system of its own in a file, read with direct I/O, where loop devices can be had; else the page cache of
    the whole machine is dropped.
    """
    if os.geteuid() != 0:
        raise RuntimeError("only root can empty the page cache")
    try:
        image = _image(base, jobs)
        device = _attach(image)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"no loop device ({error}): dropping the page cache of the machine instead", file=sys.stderr)
        path = data.project(base, jobs)
        uncached(path)
        yield path, _drop_caches
        return
    place = os.path.join(base, f"cold-{jobs}")
    os.makedirs(place, exist_ok=True)

    def mount() -> None:
        subprocess.run(["mount", "-t", "ext4", "-o", "noatime", device, place], check=True)

    def unmount() -> None:
        subprocess.run(["umount", place], check=True)

    def forget() -> None:
        unmount()
        mount()

    try:
        mount()
        try:
            yield os.path.join(place, "project"), forget
        finally:
            unmount()
    finally:
        subprocess.run(["losetup", "-d", device], check=True)
        with contextlib.suppress(OSError):
            os.rmdir(place)


def _attach(image: str) -> str:
    command = ["losetup", "--direct-io=on", "--find", "--show", image]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _image(base: str, jobs: int) -> str:
    """Give the path of a file with an ext4 file system with the project in it, made unless it is there."""
    path = os.path.join(base, f"cold-{jobs}.ext4")
    if os.path.exists(path):
        return path
    new = path + "~"
    with open(new, "wb") as file:
        file.truncate(64 * 2**20 + jobs * 20_000)
    inodes = 1000 + 4 * jobs
    options = ["-E", "lazy_itable_init=0,lazy_journal_init=0"]
    subprocess.run(["mkfs.ext4", "-q", "-F", "-N", str(inodes), *options, new], check=True)
    device = _attach(new)
    place = os.path.join(base, f"filling-{jobs}")
    try:
        os.makedirs(place, exist_ok=True)
        subprocess.run(["mount", "-t", "ext4", device, place], check=True)
        try:
            data.fill(data.make_project(os.path.join(place, "project")), range(jobs))
        finally:
            subprocess.run(["umount", place], check=True)
    finally:
        subprocess.run(["losetup", "-d", device], check=True)
        with contextlib.suppress(OSError):
            os.rmdir(place)
    os.rename(new, path)
    return path


def _drop_caches() -> None:
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
        file.write("3\n")
