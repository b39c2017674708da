"""The file systems that are compared: one store on an ext4 of its own, and everything mounted over it at once.

Owned here: the store, who takes part, and that nothing is left mounted. All is done as root; servers and clients run as
the user that ``Stage`` is given.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import md5

from tests.bench.harness import ROOT, python
from tests.support.server import mount_type

_STORE_GB = 6
_PATIENCE_S = 60.0
_WORK = "work"  # the key of the one job in which is written
_FILES = ("log.txt", "result.dat")  # beside the state point: three files in each job
_MS_NOSUID, _MS_NODEV, _MS_REMOUNT = 2, 4, 32
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class User:
    """By whose rights servers and clients run."""

    uid: int = 0
    gid: int = 0

    def popen(self) -> dict[str, object]:
        """Give what ``subprocess.Popen`` is to be told."""
        if self.uid == os.geteuid():
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


def job_id(key: str, value: object) -> str:
    """Give the id of the job with this one key, as signac makes it."""
    return md5(f'{{"{key}": {value}}}'.encode()).hexdigest()


@dataclass
class Mounted:
    """One way to the store.

    Attributes:
        root: where it is mounted; for the disk the workspace itself.
        is_view: whether jobs are found by their state points.
        server: the process behind it; None: there is none.
    """

    name: str
    root: str
    is_view: bool = False
    server: subprocess.Popen[bytes] | None = None

    @property
    def jobs(self) -> str:
        """The directory with an entry for each job."""
        return os.path.join(self.root, "seed") if self.is_view else self.root

    def job(self, number: int) -> str:
        return os.path.join(self.jobs, str(number) if self.is_view else job_id("seed", number))

    @property
    def ours(self) -> str:
        """A directory, within one job, in which only this contestant writes."""
        job = f"{_WORK}/1" if self.is_view else job_id(_WORK, 1)
        return os.path.join(self.root, job, self.name.replace(" ", "-"))

    @property
    def flat(self) -> str:
        """A directory on the disk with as many files as there are jobs."""
        return os.path.join(os.path.dirname(self.ours), "flat")

    def forget_names(self) -> None:
        """Have the kernel drop what it knows of names here, and only here."""
        flags, place = _MS_REMOUNT | _MS_NOSUID | _MS_NODEV, self.root
        if self.server is None:
            flags = _MS_REMOUNT
            while not os.path.ismount(place):
                place = os.path.dirname(place)
        if _libc.mount(None, os.fsencode(place), None, ctypes.c_ulong(flags), None) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), place)

    def processor_s(self) -> float:
        """Give what the server has used of processors so far."""
        if self.server is None:
            return 0.0
        with open(f"/proc/{self.server.pid}/stat", encoding="ascii") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass
class Stage:
    """The store with all that is mounted over it.

    Attributes:
        base: a directory that the user can read.
        workspace: the store's directory of jobs.
    """

    base: str
    user: User
    jobs: int
    mounted: dict[str, Mounted]

    @property
    def project(self) -> str:
        return os.path.join(self.base, "store", "project")

    @property
    def workspace(self) -> str:
        return os.path.join(self.project, "workspace")

    def below(self, path: str, of: Mounted) -> str:
        """Give where on the disk *path* of a contestant's own directory is."""
        return os.path.join(self.workspace, job_id(_WORK, 1), os.path.relpath(path, os.path.dirname(of.ours)))


def contestants(stage: Stage) -> dict[str, list[str]]:
    """Give, by name, the command that serves until unmounted; SOURCE and MOUNTPOINT are left out."""

    def sigfs(transport: str) -> list[str]:
        return python("-m", "sigfs", "mount", "-f", "-o", f"transport={transport}")

    return {
        "sigfs": sigfs("kernel"),
        "bindfs": ["bindfs", "-f", *([] if stage.user.uid == 0 else ["--no-allow-other"])],
        "llfuse": python("-m", "tests.bench.plain_llfuse"),
        "fusepy": python("-m", "tests.bench.plain_fusepy"),
        "sigfs llfuse": sigfs("llfuse"),
        "sigfs fusepy": sigfs("fusepy"),
    }


@contextlib.contextmanager
def stage(base: str, user: User, jobs: int, only: Sequence[str] = ()) -> Iterator[Stage]:
    """Make the store and mount everything; all of it is gone afterwards.

    Args:
        base: an empty directory, readable for the user, on a disk with room for the store.
        only: who takes part, beside sigfs and the disk; default: everybody who can.
    """
    with contextlib.ExitStack() as stack:
        made = Stage(base, user, jobs, {})
        _make_store(made, stack)
        for name, command in contestants(made).items():
            if only and name not in only and name != "sigfs":
                continue
            if shutil.which(command[0]) is None:
                print(f"{name} takes no part: there is no {command[0]}", flush=True)
                continue
            is_view = name.startswith("sigfs")
            mountpoint = os.path.join(base, "mnt-" + name.replace(" ", "-"))
            os.mkdir(mountpoint)
            os.chown(mountpoint, user.uid, user.gid)
            found = Mounted(name, mountpoint, is_view)
            source = made.project if is_view else made.workspace
            _serve(found, [*command, source, mountpoint], made, stack)
            made.mounted[name] = found
        made.mounted["disk"] = Mounted("disk", made.workspace)
        for contestant in made.mounted.values():
            _run(["mkdir", contestant.ours], user)
        yield made


def _make_store(made: Stage, stack: contextlib.ExitStack) -> None:
    image, place = os.path.join(made.base, "image"), os.path.join(made.base, "store")
    with open(image, "wb") as file:
        file.truncate(_STORE_GB << 30)
    subprocess.run(
        ["mkfs.ext4", "-q", "-F", "-i", "4096", "-E", "lazy_itable_init=0,lazy_journal_init=0", image], check=True
    )
    os.mkdir(place)
    done = subprocess.run(
        ["losetup", "--find", "--show", "--direct-io=on", image], check=True, capture_output=True, text=True
    )
    loop = done.stdout.strip()
    stack.callback(subprocess.run, ["losetup", "-d", loop], check=True)
    subprocess.run(["mount", "-t", "ext4", loop, place], check=True)
    stack.callback(_unmount, place)
    os.mkdir(made.project)
    os.makedirs(os.path.join(made.project, ".signac"))
    with open(os.path.join(made.project, ".signac", "config"), "w", encoding="ascii") as file:
        file.write("schema_version = 2\n")
    os.mkdir(made.workspace)
    for key, value in ((_WORK, 1), *(("seed", number) for number in range(made.jobs))):
        job = os.path.join(made.workspace, job_id(key, value))
        os.mkdir(job)
        for name, content in (
            ("signac_statepoint.json", f'{{"{key}": {value}}}'),
            (_FILES[0], f"{value}\n" * 20),
            (_FILES[1], f"{value:08}" * 512),
        ):
            with open(os.path.join(job, name), "w", encoding="ascii") as file:
                file.write(content)
    flat = os.path.join(made.workspace, job_id(_WORK, 1), "flat")
    os.mkdir(flat)
    for number in range(made.jobs):
        with open(os.path.join(flat, f"{number:05}"), "wb") as file:
            file.write(b"%d\n" % number)
    subprocess.run(["chown", "-R", f"{made.user.uid}:{made.user.gid}", made.project], check=True)
    os.sync()


def _serve(found: Mounted, command: list[str], made: Stage, stack: contextlib.ExitStack) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([ROOT, *filter(None, [os.environ.get("PYTHONPATH")])])}
    with open(os.path.join(made.base, f"log-{os.path.basename(found.root)}"), "wb") as log:
        found.server = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, **made.user.popen()
        )  # type: ignore[call-overload]
    stack.callback(_end, found)
    deadline = time.monotonic() + _PATIENCE_S
    look = ["stat", "-f", found.root]
    while (
        mount_type(found.root) is None
        or subprocess.run(
            look,
            capture_output=True,
            **made.user.popen(),  # type: ignore[call-overload]
        ).returncode
    ):
        if found.server.poll() is not None or time.monotonic() > deadline:
            with open(log.name, encoding="utf-8", errors="replace") as text:
                raise RuntimeError(f"{found.name} does not serve: {text.read()[-2000:]}")
        time.sleep(0.02)


def _end(found: Mounted) -> None:
    assert found.server is not None
    _unmount(found.root)
    try:
        found.server.wait(30)
    except subprocess.TimeoutExpired:
        found.server.kill()
        found.server.wait()


def _unmount(place: str) -> None:
    if mount_type(place) is not None and subprocess.run(["umount", place], capture_output=True).returncode:
        subprocess.run(["umount", "-l", place], check=True)


def _run(command: list[str], user: User) -> None:
    subprocess.run(command, check=True, **user.popen())  # type: ignore[call-overload]
