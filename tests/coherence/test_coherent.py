"""``-o coherent``: what others change below is seen at once, though the kernel would believe for an hour what it has.

A change is waited for by asking again and again; with timeouts of an hour only a notification can end the waiting.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sigfs.api.project import Project
from sigfs.watch.sources import file_system_type, is_remote
from tests.coherence.conftest import Mounts
from tests.support.outcome import unavailable
from tests.support.server import Server
from tests.support.wait import wait_until

pytestmark = pytest.mark.fuse

SIZE = 16 * mmap.PAGESIZE
MS_REMOUNT = 32
LONG = "entry_timeout=3600,attr_timeout=3600"
WAYS = [("kernel", "passthrough"), ("kernel", "nopassthrough"), ("llfuse", "rw")]

MEDDLE = """
import os, sys
place, rounds = sys.argv[1], int(sys.argv[2])
for number in range(rounds):
    with open(f"{place}/data", "r+b") as file:
        file.write(b"%8d" % number)
    with open(f"{place}/new", "wb") as file:
        file.write(b"%8d" % number)
    os.rename(f"{place}/new", f"{place}/replaced")
    with open(f"{place}/file {number % 7}", "wb") as file:
        file.write(b"%8d" % number)
    os.chmod(f"{place}/data", 0o600 + number % 8)
    if number % 3 == 0:
        os.unlink(f"{place}/file {number % 7}")
    os.mkdir(f"{place}/sub")
    with open(f"{place}/sub/x", "wb"):
        pass
    os.unlink(f"{place}/sub/x")
    os.rmdir(f"{place}/sub")
"""


@pytest.fixture(params=WAYS, ids="-".join)
def mnt(request: pytest.FixtureRequest, project: Project) -> Iterator[Path]:
    if is_remote(file_system_type(project.workspace.path)):
        unavailable("this file system does not report changes")
    transport, option = request.param
    server = Server(transport, project.root, "coherent", LONG, option)
    server.start()
    try:
        yield Path(server.mountpoint)
        server.stop()
    finally:
        server.kill()


@pytest.fixture
def below(project: Project) -> Path:
    return Path(project.open({"a": 1, "b": "x"}).path)


@pytest.fixture
def seen(mnt: Path) -> Path:
    return mnt / "b/x/a/1"


def make_the_kernel_forget(mountpoint: Path) -> None:
    """Have the kernel drop every name that is not in use: a remount does."""
    if ctypes.CDLL(None, use_errno=True).mount(None, os.fsencode(mountpoint), None, MS_REMOUNT, None):
        raise OSError(ctypes.get_errno(), "remount")


def soon(condition: Callable[[], object]) -> None:
    wait_until(condition)


def test_a_file_that_is_written_to_is_seen_by_all_that_look_at_it_have_it_open_or_mapped(
    seen: Path, below: Path
) -> None:
    (below / "data").write_bytes(b"0" * SIZE)
    with open(seen / "data", "rb", buffering=0) as held:
        with mmap.mmap(held.fileno(), SIZE, prot=mmap.PROT_READ) as mapping:
            for byte in (b"1", b"2", b"3"):
                assert len((seen / "data").read_bytes()) == SIZE
                assert len(mapping[:]) == SIZE
                with open(below / "data", "r+b") as file:
                    file.write(byte * SIZE)
                soon(lambda byte=byte: (seen / "data").read_bytes() == byte * SIZE)  # type: ignore[misc]
                soon(lambda byte=byte: os.pread(held.fileno(), SIZE, 0) == byte * SIZE)  # type: ignore[misc]
                soon(lambda byte=byte: mapping[:] == byte * SIZE)  # type: ignore[misc]
        for size in (SIZE // 2, 0, 2 * SIZE):
            os.truncate(below / "data", size)
            soon(lambda size=size: os.fstat(held.fileno()).st_size == size)  # type: ignore[misc]
            soon(lambda size=size: (seen / "data").stat().st_size == size)  # type: ignore[misc]


def test_names_that_come_go_move_and_are_replaced_are_seen(seen: Path, below: Path) -> None:
    for number in range(5):
        assert not (seen / "new").exists()
        (below / "new").write_text(str(number))
        soon((seen / "new").exists)
        soon(lambda: "new" in os.listdir(seen))
        os.rename(below / "new", below / "moved")
        soon(lambda: not (seen / "new").exists())
        soon(lambda number=number: (seen / "moved").read_text() == str(number))  # type: ignore[misc]
        soon(lambda: (seen / "moved").stat().st_ino == (seen / "moved").stat().st_ino)
        (below / "other").write_text("other")
        os.rename(below / "other", below / "moved")
        soon(lambda: (seen / "moved").read_text() == "other")
        (below / "moved").unlink()
        soon(lambda: not (seen / "moved").exists())
        soon(lambda: "moved" not in os.listdir(seen))


def test_attributes_are_seen(seen: Path, below: Path) -> None:
    (below / "data").write_text("x")
    for mode in (0o600, 0o640, 0o604):
        (seen / "data").stat()
        seen.stat()
        (below / "data").chmod(mode)
        soon(lambda mode=mode: (seen / "data").stat().st_mode & 0o777 == mode)  # type: ignore[misc]
        os.utime(below / "data", ns=(1, mode))
        soon(lambda mode=mode: (seen / "data").stat().st_mtime_ns == mode)  # type: ignore[misc]
        below.chmod(mode | 0o100)
        soon(lambda mode=mode: seen.stat().st_mode & 0o777 == mode | 0o100)  # type: ignore[misc]
    os.link(below / "data", below / "twin")
    soon(lambda: (seen / "data").stat().st_nlink == 2)
    (below / "twin").unlink()
    soon(lambda: (seen / "data").stat().st_nlink == 1)


def test_directories_within_a_job_are_followed_too(seen: Path, below: Path) -> None:
    (below / "sub/deep").mkdir(parents=True)
    (below / "sub/deep/data").write_text("1")
    assert (seen / "sub/deep/data").read_text() == "1"
    (below / "sub/deep/data").write_text("2")
    soon(lambda: (seen / "sub/deep/data").read_text() == "2")
    os.rename(below / "sub", below / "moved")
    soon(lambda: not (seen / "sub").exists())
    assert (seen / "moved/deep/data").read_text() == "2"
    (below / "moved/deep/data").write_text("3")
    soon(lambda: (seen / "moved/deep/data").read_text() == "3")
    shutil.rmtree(below / "moved")
    soon(lambda: not (seen / "moved").exists())
    (below / "moved").mkdir()
    (below / "moved/new").touch()
    soon((seen / "moved/new").exists)
    soon(lambda: not (seen / "moved/deep").exists())


def test_a_change_is_seen_on_all_paths_to_a_job(mnt: Path, seen: Path, below: Path) -> None:
    other = mnt / ".jobs" / below.name
    (below / "data").write_text("1")
    assert (seen / "data").read_text() == (other / "data").read_text() == "1"
    (below / "data").write_text("2")
    (below / "new").touch()
    for path in (seen, other):
        soon(lambda path=path: (path / "data").read_text() == "2")  # type: ignore[misc]
        soon((path / "new").exists)


def test_a_job_that_is_replaced_is_seen(seen: Path, below: Path, project: Project) -> None:
    for number in range(3):
        (below / f"old {number}").touch()
        soon((seen / f"old {number}").exists)
        shutil.rmtree(below)
        Path(project.open({"a": 1, "b": "x"}).path, f"new {number}").touch()
        soon((seen / f"new {number}").exists)
        soon(lambda number=number: not (seen / f"old {number}").exists())  # type: ignore[misc]
        soon(lambda: seen.stat().st_ino == below.stat().st_ino or seen.stat().st_mtime_ns == below.stat().st_mtime_ns)


def test_a_name_that_is_moved_within_the_mount_is_followed_where_it_is_then(seen: Path, below: Path) -> None:
    (seen / "data").write_text("1")
    os.rename(seen / "data", seen / "moved")
    assert (seen / "moved").read_text() == "1"
    (below / "moved").write_text("2")
    soon(lambda: (seen / "moved").read_text() == "2")
    os.mkdir(seen / "sub")
    (seen / "sub/data").write_text("1")
    os.rename(seen / "sub", seen / "dir")
    (below / "dir/data").write_text("2")
    soon(lambda: (seen / "dir/data").read_text() == "2")
    (below / "dir/data").unlink()
    soon(lambda: not (seen / "dir/data").exists())


def state(place: Path) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    for name in os.listdir(place):
        status = os.stat(place / name)
        found[name] = (status.st_size, status.st_mode, status.st_mtime_ns, (place / name).read_bytes())
    return found


def test_after_a_storm_everything_is_as_below_and_nobody_hangs(seen: Path, below: Path) -> None:
    (below / "data").write_bytes(b"." * SIZE)
    stop, failures = threading.Event(), []

    def look() -> None:
        try:
            while not stop.is_set():
                for name in os.listdir(seen):
                    try:
                        os.stat(seen / name)
                        if not os.path.isdir(seen / name):
                            (seen / name).read_bytes()
                        (seen / f"mine {threading.get_ident()}").write_text("x")
                        os.unlink(seen / f"mine {threading.get_ident()}")
                    except FileNotFoundError:
                        pass
                    except IsADirectoryError:  # the directory was gone when it was asked whether it is one
                        assert name == "sub"
                    except OSError as error:
                        if error.errno != 116:  # the name was replaced between two looks at it
                            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a failure
            failures.append(error)

    lookers = [threading.Thread(target=look) for _ in range(3)]
    for looker in lookers:
        looker.start()
    meddlers = [subprocess.Popen([sys.executable, "-c", MEDDLE, str(below), "600"])]
    for meddler in meddlers:
        assert meddler.wait(120) == 0
    stop.set()
    for looker in lookers:
        looker.join(60)
        assert not looker.is_alive()
    assert failures == []
    soon(lambda: state(seen) == state(below))


def test_where_watches_run_out_changes_are_seen_a_moment_later_and_the_status_says_so(
    mounts: Mounts, project: Project, tmp_path: Path, below: Path
) -> None:
    mounts.may_warn = True
    place = tmp_path / "mnt"
    place.mkdir()
    mounts._places.append(str(place))
    shim = "import sys, sigfs.vfs.coherence as c; c.WATCHES_LIMIT = 2;from sigfs.cli import main; main()"
    command = [sys.executable, "-c", shim, "mount", "-o", f"coherent,{LONG}", project.root, str(place)]
    result = subprocess.run(command, env=mounts.environment(), capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    mounts._servers[mounts.pid(place)] = str(place)
    jobs = [project.open({"a": a, "b": "x"}) for a in (1, 2, 3)]
    for job in jobs:
        assert (place / "b/x/a" / str(job.statepoint["a"]) / "signac_statepoint.json").stat().st_mode & 0o777 != 0o751
    coherence = mounts.status(place)["coherence"]
    assert isinstance(coherence, dict)
    assert coherence["limit"] == 2
    assert coherence["watches"] == 3  # that of the workspace does not count
    assert coherence["unwatched"] >= 1
    for job in jobs:
        os.chmod(job.fn("signac_statepoint.json"), 0o751)
    for job in jobs:
        path = place / "b/x/a" / str(job.statepoint["a"]) / "signac_statepoint.json"
        soon(lambda path=path: path.stat().st_mode & 0o777 == 0o751)  # type: ignore[misc]
    assert "fs.inotify.max_user_watches" in mounts.log()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make the kernel forget")
def test_what_the_kernel_forgets_is_watched_no_more(mounts: Mounts, project: Project, tmp_path: Path) -> None:
    place = tmp_path / "mnt"
    mounts.mount(project, place, "-o", "coherent")

    def watches() -> int:
        coherence = mounts.status(place)["coherence"]
        assert isinstance(coherence, dict)
        return coherence["watches"]

    assert len(list((place / ".jobs").iterdir())) == 6
    for job in os.listdir(place / ".jobs"):
        assert os.listdir(place / ".jobs" / job)
    assert watches() == 7

    def forgotten() -> bool:
        make_the_kernel_forget(place)
        os.utime(project.workspace.path)  # an event, upon which watches are given back
        return watches() == 1

    wait_until(forgotten)


def test_coherent_is_refused_where_nobody_can_be_told(mounts: Mounts, project: Project, tmp_path: Path) -> None:
    result = mounts.sigfs("mount", "-o", "coherent,transport=fusepy", project.root, tmp_path)
    assert result.returncode == 2
    assert "fusepy" in result.stderr
