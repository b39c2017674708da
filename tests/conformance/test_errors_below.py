"""What goes wrong on the disk below is told as it is, and nothing that was written before is lost."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import pytest

from tests.support.drivers import STATEPOINTS
from tests.support.errors import raises
from tests.support.outcome import has_failed, unavailable
from tests.support.projects import add_job, job_id, make_project
from tests.support.server import Server, require, unmount
from tests.support.wait import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a disk")

small = pytest.mark.parametrize("project", ["small"], indirect=True)
failing = pytest.mark.parametrize("project", ["failing"], indirect=True)

DISK_BYTES = 4 << 20

# A store whose files fail as their names say: EIO-write, EDQUOT-fsync, ...
STORE = """
import errno, os, sys
import fuse

def fails(call):
    def check(path):
        number, _, calls = os.path.basename(path).partition("-")
        if call in calls.split("-"):
            raise fuse.FuseOSError(getattr(errno, number))
    return check

class Store(fuse.Operations):
    def __init__(self, root):
        self.root = root
    def at(self, path):
        return os.path.join(self.root, path.lstrip("/"))
    def getattr(self, path, fh=None):
        found = os.lstat(self.at(path))
        return {name: getattr(found, name) for name in dir(found) if name.startswith("st_")}
    def statfs(self, path):
        found = os.statvfs(self.root)
        return {name: getattr(found, name) for name in ("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail")}
    def readdir(self, path, fh):
        return [".", "..", *os.listdir(self.at(path))]
    def mkdir(self, path, mode):
        fails("mkdir")(path)
        os.mkdir(self.at(path), mode)
    def rmdir(self, path):
        os.rmdir(self.at(path))
    def unlink(self, path):
        fails("unlink")(path)
        os.unlink(self.at(path))
    def rename(self, old, new):
        fails("rename")(old)
        os.rename(self.at(old), self.at(new))
    def create(self, path, mode):
        return os.open(self.at(path), os.O_RDWR | os.O_CREAT, mode)
    def open(self, path, flags):
        return os.open(self.at(path), flags & ~os.O_NONBLOCK)
    def truncate(self, path, size, fh=None):
        fails("truncate")(path)
        os.truncate(self.at(path), size)
    def read(self, path, size, offset, fh):
        fails("read")(path)
        return os.pread(fh, size, offset)
    def write(self, path, data, offset, fh):
        fails("write")(path)
        return os.pwrite(fh, data, offset)
    def flush(self, path, fh):
        fails("close")(path)
    def fsync(self, path, datasync, fh):
        fails("fsync")(path)
    def release(self, path, fh):
        os.close(fh)

fuse.FUSE(Store(sys.argv[1]), sys.argv[2], foreground=True, fsname="failing")
"""


@pytest.fixture(
    params=[(name, *options) for name in ("kernel", "llfuse", "fusepy") for options in ((), ("nopassthrough",))
            if name == "kernel" or not options],
    ids="-".join,
)  # fmt: skip
def mounted(request: pytest.FixtureRequest, project: str) -> Iterator[str]:
    """A job's directory in a mount of *project*."""
    transport, *options = request.param
    server = Server(transport, project, *options)
    try:
        server.start()
        yield os.path.join(server.mountpoint, "n", "0")
        if has_failed(request.node):
            server.kill()
        else:
            server.stop()
    except BaseException:
        server.kill()
        raise


@pytest.fixture
def project(request: pytest.FixtureRequest) -> Iterator[str]:
    """A project whose workspace is on a small disk, or on one that fails."""
    base = os.path.realpath(tempfile.mkdtemp(prefix="sigfs-below-"))
    path = make_project(os.path.join(base, "project"))
    workspace = os.path.join(path, "workspace")
    store = None
    try:
        if request.param == "small":
            command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},nr_inodes=200", "none", workspace]
            if subprocess.run(command, capture_output=True).returncode != 0:
                unavailable("no tmpfs can be mounted")
        else:
            require("fusepy")
            os.mkdir(os.path.join(base, "store"))
            store = subprocess.Popen([sys.executable, "-c", STORE, os.path.join(base, "store"), workspace])
            wait_until(lambda: os.path.ismount(workspace), what="the store to appear")
        for statepoint in STATEPOINTS:
            add_job(path, statepoint)
        yield path
    finally:
        if os.path.ismount(workspace):
            unmount(workspace)
        if store is not None:
            store.wait(60)
        shutil.rmtree(base)


@small
def test_a_full_disk_is_told_and_what_was_written_before_is_kept(mounted: str) -> None:
    with open(os.path.join(mounted, "kept"), "wb") as file:
        file.write(b"kept" * 1000)
    with open(os.path.join(mounted, "large"), "w+b", 0) as file:
        with raises(errno.ENOSPC):
            while True:
                file.write(bytes(100_000))
        written = os.fstat(file.fileno()).st_size
        assert 0 < written <= DISK_BYTES
        with raises(errno.ENOSPC):
            os.posix_fallocate(file.fileno(), 0, 2 * DISK_BYTES)
    with open(os.path.join(mounted, "large"), "rb") as file:
        assert len(file.read()) >= written
    os.unlink(os.path.join(mounted, "large"))
    with open(os.path.join(mounted, "kept"), "ab") as file:
        file.write(b"!")
    with open(os.path.join(mounted, "kept"), "rb") as file:
        assert file.read() == b"kept" * 1000 + b"!"


@small
def test_no_more_inodes_is_told_and_ends_when_some_are_free(mounted: str) -> None:
    calls = {
        "open": lambda path: os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)),
        "mkdir": os.mkdir,
        "symlink": lambda path: os.symlink("x" * 200, path),
        "mkfifo": os.mkfifo,
    }
    for kind, make in calls.items():
        made: list[str] = []
        with raises(errno.ENOSPC):
            for number in range(300):
                name = os.path.join(mounted, f"{kind}-{number}")
                make(name)
                made.append(name)
        assert len(os.listdir(mounted)) == len(made) + 1
        for name in made:
            (os.rmdir if kind == "mkdir" else os.unlink)(name)
        make(made[0])
        (os.rmdir if kind == "mkdir" else os.unlink)(made[0])


@small
def test_a_mapping_of_a_hole_on_a_full_disk_kills_who_writes_to_it_and_nobody_else(mounted: str) -> None:
    with open(os.path.join(mounted, "large"), "wb", 0) as file, raises(errno.ENOSPC):
        while True:
            file.write(bytes(4096))
    script = (
        "import mmap, sys\n"
        "with open(sys.argv[1], 'w+b') as file:\n"
        "    file.truncate(1 << 20)\n"
        "    with mmap.mmap(file.fileno(), 0) as mapping:\n"
        "        mapping[:] = b'1' * len(mapping)\n"
        "        mapping.flush()\n"
    )
    done = subprocess.run([sys.executable, "-c", script, os.path.join(mounted, "hole")], capture_output=True)
    assert done.returncode != 0  # SIGBUS, or msync's ENOSPC or EIO where the kernel writes later
    os.unlink(os.path.join(mounted, "large"))
    assert os.path.getsize(os.path.join(mounted, "hole")) == 1 << 20


@failing
def test_an_error_of_the_disk_is_that_of_the_call(mounted: str) -> None:
    for number in ("EIO", "ENOSPC", "EDQUOT"):
        _expect(mounted, number)


def _expect(mounted: str, number: str) -> None:
    expected = getattr(errno, number)

    def path(*calls: str) -> str:
        return os.path.join(mounted, "-".join((number, *calls)))

    with raises(expected):
        os.mkdir(path("mkdir"))
    fd = os.open(path("write"), os.O_RDWR | os.O_CREAT)
    with raises(expected):
        os.write(fd, b"1")
    os.close(fd)
    fd = os.open(path("fsync"), os.O_RDWR | os.O_CREAT)
    assert os.write(fd, b"1") == 1
    with raises(expected):
        os.fsync(fd)
    os.close(fd)
    fd = os.open(path("close"), os.O_RDWR | os.O_CREAT)
    assert os.write(fd, b"1") == 1
    with raises(expected):
        os.close(fd)
    with open(path("truncate"), "wb"):
        pass
    with raises(expected):
        os.truncate(path("truncate"), 1)
    with open(path("unlink"), "wb"):
        pass
    with raises(expected):
        os.unlink(path("unlink"))
    with open(path("rename"), "wb"):
        pass
    with raises(expected):
        os.rename(path("rename"), path("renamed"))
    assert os.path.exists(path("rename"))


@failing
def test_data_that_cannot_be_read_is_an_error_and_never_zeros(mounted: str, project: str) -> None:
    with open(os.path.join(project, "workspace", job_id(STATEPOINTS[0]), "EIO-read"), "wb") as file:
        file.write(b"data" * 10_000)
    with open(os.path.join(mounted, "EIO-read"), "rb", 0) as file:
        with raises(errno.EIO):
            file.read(100)
        with raises(errno.EIO):
            os.pread(file.fileno(), 100, 30_000)
    os.rename(os.path.join(mounted, "EIO-read"), os.path.join(mounted, "good"))
    with open(os.path.join(mounted, "good"), "rb") as file:
        assert file.read() == b"data" * 10_000
