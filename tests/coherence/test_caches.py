"""What others change below is seen in the mount, however much the kernel has cached; and what is cached is cached."""

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from sigfs.api.project import Project
from sigfs.vfs.freshness import QUIET_NS, tells
from sigfs.watch.sources import file_system_type
from tests.support.outcome import unavailable
from tests.support.server import Server
from tests.support.wait import wait_until

pytestmark = pytest.mark.fuse

PAGES = 16
SIZE = PAGES * mmap.PAGESIZE
LONG = "entry_timeout=3600,attr_timeout=3600"
_libc = ctypes.CDLL(None, use_errno=True)


def cached_pages(file: int) -> int:
    """Tell how many pages of the open file the kernel has in memory, without reading any."""
    with mmap.mmap(file, SIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE, flags=mmap.MAP_PRIVATE) as mapping:
        vector = (ctypes.c_ubyte * PAGES)()
        start = ctypes.addressof(anchor := ctypes.c_char.from_buffer(mapping))
        assert _libc.mincore(ctypes.c_void_p(start), ctypes.c_size_t(SIZE), vector) == 0, ctypes.get_errno()
        del anchor
        return sum(each & 1 for each in vector)


def served(request: pytest.FixtureRequest, project: Project, transport: str, *options: str) -> Iterator[Path]:
    server = Server(transport, project.root, *options)
    server.start()
    try:
        yield Path(server.mountpoint)
        server.stop()
    finally:
        server.kill()


@pytest.fixture(params=["passthrough", "nopassthrough"])
def mnt(request: pytest.FixtureRequest, project: Project) -> Iterator[Path]:
    """The project mounted by the kernel transport with default options, the kernel reading files by itself or not."""
    yield from served(request, project, "kernel", request.param)


@pytest.fixture
def cached(request: pytest.FixtureRequest, project: Project) -> Iterator[Path]:
    """The same where the kernel caches data and would for an hour believe what it was told."""
    if not tells(file_system_type(project.workspace.path)):
        unavailable("data is not kept on this file system")
    yield from served(request, project, "kernel", "nopassthrough", LONG)


def make_quiet(path: Path) -> None:
    """Wait until a change of *path* would give it another time than it has."""
    probe = path.with_name("probe")

    def is_quiet() -> bool:
        probe.touch()
        return probe.stat().st_mtime_ns > path.stat().st_ctime_ns + QUIET_NS

    wait_until(is_quiet)
    probe.unlink()


@pytest.fixture
def below(project: Project) -> Path:
    return Path(project.open({"a": 1, "b": "x"}).path)


def rewrite(path: Path, data: bytes) -> None:
    """Write into the file in place, its time of modification and its size as before."""
    before = path.stat()
    with open(path, "r+b") as file:
        file.write(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_data_stays_cached_from_one_open_to_the_next(cached: Path, below: Path) -> None:
    file, seen = below / "data", cached / "b/x/a/1/data"
    file.write_bytes(b"1" * SIZE)
    make_quiet(file)
    for _ in range(2):
        assert seen.read_bytes() == b"1" * SIZE
    with open(seen, "rb") as again:
        assert cached_pages(again.fileno()) == PAGES
    rewrite(file, b"2" * SIZE)
    with open(seen, "rb") as again:
        assert cached_pages(again.fileno()) == 0


def test_who_opens_a_file_reads_what_was_last_written_below_whatever_is_cached(cached: Path, below: Path) -> None:
    file, seen = below / "data", cached / "b/x/a/1/data"
    file.write_bytes(b"." * SIZE)
    make_quiet(file)
    for number in range(400):
        data = b"%8d" % number * (SIZE // 8)
        rewrite(file, data)
        assert seen.read_bytes() == data
        assert seen.read_bytes() == data
        if number % 100 == 0:
            make_quiet(file)
            assert seen.read_bytes() == data
            assert seen.read_bytes() == data


def test_who_opens_a_file_reads_what_was_stored_into_a_mapping_below(cached: Path, below: Path) -> None:
    file, seen = below / "data", cached / "b/x/a/1/data"
    file.write_bytes(b"." * SIZE)
    with open(file, "r+b") as opened, mmap.mmap(opened.fileno(), SIZE) as mapping:
        opened.close()
        for number in range(3):
            mapping[:8] = b"%8d" % number
            make_quiet(file)
            for _ in range(2):
                assert seen.read_bytes()[:8] == b"%8d" % number


def test_who_opens_a_file_reads_what_others_wrote_through_the_mount(cached: Path, below: Path) -> None:
    file, seen = below / "data", cached / "b/x/a/1/data"
    file.write_bytes(b"." * SIZE)
    make_quiet(file)
    assert seen.read_bytes() == seen.read_bytes()
    for number in range(20):
        with open(seen if number % 2 else file, "r+b") as opened:
            opened.write(b"%8d" % number)
        assert seen.read_bytes()[:8] == b"%8d" % number
        assert file.read_bytes()[:8] == b"%8d" % number


@pytest.mark.parametrize("size", [0, 1, SIZE // 2, 2 * SIZE])
def test_who_opens_a_file_finds_it_as_long_as_it_is(cached: Path, below: Path, size: int) -> None:
    file, seen = below / "data", cached / "b/x/a/1/data"
    file.write_bytes(b"." * SIZE)
    assert len(seen.read_bytes()) == seen.stat().st_size == SIZE
    file.write_bytes(b"." * size)
    with open(seen, "rb") as opened:
        assert os.fstat(opened.fileno()).st_size == size
        assert len(opened.read()) == size


def test_a_file_replaced_below_is_found_by_who_opens_it(cached: Path, below: Path) -> None:
    file, seen = below / "data", cached / "b/x/a/1/data"
    file.write_text("old")
    assert seen.read_text() == "old"
    (below / "new").write_text("new")
    os.rename(below / "new", file)
    assert seen.read_text() == "new"


def test_a_change_of_data_is_seen_by_those_that_have_the_file_open(mnt: Path, below: Path) -> None:
    file, seen = below / "data", mnt / "b/x/a/1/data"
    file.write_bytes(b"1" * SIZE)
    with open(seen, "rb", buffering=0) as held, mmap.mmap(held.fileno(), SIZE, prot=mmap.PROT_READ) as mapping:
        assert held.read(SIZE) == mapping[:] == b"1" * SIZE
        with open(file, "r+b") as opened:
            opened.write(b"2" * SIZE)
        wait_until(lambda: os.pread(held.fileno(), SIZE, 0) == mapping[:] == b"2" * SIZE)
        os.truncate(file, 5)
        wait_until(lambda: os.fstat(held.fileno()).st_size == 5)


def test_attributes_changed_below_are_seen(mnt: Path, below: Path) -> None:
    file, seen = below / "data", mnt / "b/x/a/1/data"
    file.write_text("x")
    for mode in (0o600, 0o640):
        seen.stat()
        file.chmod(mode)
        wait_until(lambda mode=mode: seen.stat().st_mode & 0o777 == mode)  # type: ignore[misc]
    seen.parent.stat()
    below.chmod(0o750)
    wait_until(lambda: seen.parent.stat().st_mode & 0o777 == 0o750)


def test_names_made_removed_and_moved_below_are_seen(mnt: Path, below: Path) -> None:
    seen = mnt / "b/x/a/1"
    assert not (seen / "new").exists()
    (below / "new").write_text("1")
    assert (seen / "new").exists()  # that something is missing is not cached there
    os.rename(below / "new", below / "moved")
    assert (seen / "moved").exists()
    wait_until(lambda: not (seen / "new").exists())
    (below / "other").write_text("2")
    os.rename(below / "other", below / "moved")
    wait_until(lambda: (seen / "moved").stat().st_ino == (below / "moved").stat().st_ino)
    (below / "moved").unlink()
    wait_until(lambda: not (seen / "moved").exists())


def test_what_is_listed_is_what_is_there_whenever_a_directory_is_opened(mnt: Path, below: Path) -> None:
    (below / "sub").mkdir()
    make_quiet(below / "sub")
    seen = mnt / "b/x/a/1/sub"
    names: list[str] = []
    for number in range(60):
        for _ in range(2):
            assert sorted(os.listdir(seen)) == sorted(names)
        name = f"file {number:03}"
        (below / "sub" / name).touch()
        names.append(name)
        if number % 20 == 0:
            make_quiet(below / "sub")
        if number % 3 == 0:
            os.rename(below / "sub" / names[0], below / "sub" / "moved")
            names[0] = "moved"
        elif number % 3 == 1:
            (below / "sub" / names.pop(0)).unlink()
    assert sorted(os.listdir(seen)) == sorted(names)


def test_who_reads_a_long_listing_meets_each_name_once_while_others_come_and_go(mnt: Path, below: Path) -> None:
    (below / "sub").mkdir()
    staying = {f"staying {number:04}" for number in range(3000)}
    for name in staying:
        (below / "sub" / name).touch()
    make_quiet(below / "sub")
    seen = mnt / "b/x/a/1/sub"
    assert set(os.listdir(seen)) == staying
    for number in range(6):
        with os.scandir(seen) as entries:
            names = [next(entries).name for _ in range(1200)]
            (below / "sub" / f"come {number}").touch()
            with os.scandir(seen) as others:
                assert staying < {entry.name for entry in others}
            names += [entry.name for entry in entries]
        assert staying <= set(names)
        assert len(names) == len(set(names))
        (below / "sub" / f"come {number}").unlink()
        make_quiet(below / "sub")
        assert set(os.listdir(seen)) == staying


def test_a_name_that_led_nowhere_in_a_virtual_directory_is_found_when_its_job_comes(
    mnt: Path, project: Project
) -> None:
    for number in range(20):
        path = mnt / "b/x/a" / str(100 + number)
        assert not path.exists()
        project.open({"a": 100 + number, "b": "x"})
        wait_until(path.exists)
        wait_until(lambda path=path: path.name in os.listdir(path.parent))  # type: ignore[misc]


def test_a_job_directory_that_is_replaced_below_is_found(mnt: Path, below: Path, project: Project) -> None:
    seen = mnt / "b/x/a/1"
    (below / "old").touch()
    assert (seen / "old").exists()
    shutil.rmtree(below)
    Path(project.open({"a": 1, "b": "x"}).path, "new").touch()
    wait_until((seen / "new").exists)
    wait_until(lambda: not (seen / "old").exists())
    assert seen.stat().st_ino == below.stat().st_ino


def test_a_workspace_whose_permissions_change_shows_them(mnt: Path, project: Project) -> None:
    for mode in (0o700, 0o750):
        (mnt / "b").stat()
        os.chmod(project.workspace.path, mode)
        wait_until(lambda mode=mode: (mnt / "b").stat().st_mode & 0o777 == mode)  # type: ignore[misc]


@pytest.mark.parametrize("transport", ["llfuse", "fusepy"])
def test_the_other_transports_show_changes_too(
    request: pytest.FixtureRequest, project: Project, below: Path, transport: str
) -> None:
    for mnt in served(request, project, transport):
        seen = mnt / "b/x/a/1"
        (below / "data").write_bytes(b"1" * SIZE)
        assert (seen / "data").read_bytes() == b"1" * SIZE
        rewrite(below / "data", b"2" * SIZE)
        wait_until(lambda seen=seen: (seen / "data").read_bytes() == b"2" * SIZE)  # type: ignore[misc]
        (below / "data").write_bytes(b"3")
        wait_until(lambda seen=seen: (seen / "data").read_bytes() == b"3")  # type: ignore[misc]
        os.rename(below / "data", below / "moved")
        wait_until(lambda seen=seen: sorted(os.listdir(seen)) == ["moved", "signac_statepoint.json"])  # type: ignore[misc]
        wait_until(lambda seen=seen: not (seen / "data").exists())  # type: ignore[misc]
        assert not (mnt / "b/x/a/77").exists()
        project.open({"a": 77, "b": "x"})
        wait_until((mnt / "b/x/a/77").exists)
