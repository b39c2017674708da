"""What is open, mapped or run stays usable, whatever becomes of its names, and is protected as on a disk."""

from __future__ import annotations

import errno
import mmap
import os
import shutil
import subprocess
import sys

import pytest

from tests.support.drivers import Place
from tests.support.errors import raises
from tests.support.limits import needs
from tests.support.wait import wait_until


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def same_job(here: Place, *names: str) -> str:
    """Give the path of ``here.path(*names)`` by another way through the view, where there is one."""
    if here.driver == "plain":
        return here.path(*names)
    job, test = here.below.split(os.sep)[-2:]
    return os.path.join(here.top, ".jobs", job, test, *names)


@needs("stat of a removed open file")
def test_descriptors_survive_their_directory(here: Place) -> None:
    os.makedirs(here.path("directory", "below"))
    with open(here.path("directory", "below", "file"), "w+b", 0) as file:
        directory = os.open(here.path("directory", "below"), os.O_RDONLY | os.O_DIRECTORY)
        try:
            file.write(b"alive")
            shutil.rmtree(here.path("directory"))
            assert os.fstat(file.fileno()).st_nlink == 0
            file.write(b"!")
            assert os.pread(file.fileno(), 10, 0) == b"alive!"
            assert os.fstat(directory).st_nlink == 0
            assert os.listdir(directory) == []
            with pytest.raises(FileNotFoundError):
                os.open("file", os.O_RDONLY, dir_fd=directory)
            with pytest.raises(FileNotFoundError):
                os.mkdir("new", dir_fd=directory)
        finally:
            os.close(directory)
    assert os.listdir(here.below) == []


def test_a_descriptor_of_a_directory_leads_to_it_wherever_it_is_moved(here: Place) -> None:
    os.mkdir(here.path("directory"))
    directory = os.open(here.path("directory"), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.rename(here.path("directory"), os.path.join(here.other, "moved"))
        os.close(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=directory))
        os.rename("file", "renamed", src_dir_fd=directory, dst_dir_fd=directory)
        assert os.listdir(directory) == ["renamed"]
    finally:
        os.close(directory)
    assert os.listdir(os.path.join(here.other_below, "moved")) == ["renamed"]


def test_a_directory_that_is_removed_or_moved_by_another_path_is_followed(here: Place) -> None:
    one, two = here.path("directory"), same_job(here, "directory")
    for by, seen in [(one, two), (two, one)]:
        for number in ("1", "2"):
            os.mkdir(by)
            with open(os.path.join(by, number), "w") as file:
                file.write(number)
            assert os.listdir(seen) == [number]
            with open(os.path.join(seen, number)) as file:
                assert file.read() == number
            shutil.rmtree(by)
        os.mkdir(by)
        assert os.listdir(seen) == []
        os.mkdir(os.path.join(by, "below"))
        assert os.listdir(seen) == ["below"]
        os.rename(by, f"{by}.moved")
        assert os.listdir(f"{seen}.moved") == ["below"]
        wait_until(lambda seen=seen: not os.path.exists(seen))  # type: ignore[misc]
        shutil.rmtree(f"{by}.moved")


@needs("stat of a removed open file")
def test_a_descriptor_survives_the_removal_of_its_directory_by_another_path(here: Place) -> None:
    os.mkdir(here.path("directory"))
    directory = os.open(same_job(here, "directory"), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.rmdir(here.path("directory"))
        wait_until(lambda: os.fstat(directory).st_nlink == 0)
        assert os.listdir(directory) == []
    finally:
        os.close(directory)


def test_a_mapping_survives_its_file_s_name_and_descriptor(here: Place) -> None:
    with open(here.path("file"), "w+b", 0) as file:
        file.write(bytes(8192))
        mapping = mmap.mmap(file.fileno(), 0)
    os.unlink(here.path("file"))
    with mapping:
        mapping[5000:5004] = b"page"
        mapping.flush()
        assert mapping[5000:5004] == b"page"


def test_a_mapping_is_shared_between_processes(here: Place) -> None:
    with open(here.path("file"), "w+b", 0) as file:
        file.write(bytes(8192))
        with mmap.mmap(file.fileno(), 0) as mapping:
            script = (
                "import mmap, sys\n"
                "with open(sys.argv[1], 'r+b') as file, mmap.mmap(file.fileno(), 0) as mapping:\n"
                "    assert mapping[:4] == b'from'\n"
                "    mapping[5000:5004] = b'back'\n"
            )
            mapping[:4] = b"from"
            subprocess.run([sys.executable, "-c", script, here.path("file")], check=True)
            assert mapping[5000:5004] == b"back"


@needs("one cache for all names")
def test_two_paths_to_one_file_share_data_mappings_and_locks(here: Place) -> None:
    with open(here.path("file"), "w+b", 0) as file:
        file.write(bytes(4096))
        with (
            open(same_job(here, "file"), "r+b", 0) as other,
            mmap.mmap(file.fileno(), 0) as first,
            mmap.mmap(other.fileno(), 0) as second,
        ):
            first[:4] = b"page"
            assert second[:4] == b"page"
            assert os.pread(other.fileno(), 4, 0) == b"page"
            os.pwrite(other.fileno(), b"PAGE", 0)
            assert first[:4] == b"PAGE"
            assert os.path.samestat(os.fstat(file.fileno()), os.fstat(other.fileno()))
            file.truncate(10)
            assert os.fstat(other.fileno()).st_size == 10


def test_a_program_that_runs_is_not_written_and_one_that_is_written_does_not_run(here: Place) -> None:
    shutil.copy(shutil.which("cat") or "/bin/cat", here.path("program"))
    with subprocess.Popen([here.path("program")], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        running.stdin.write(b"1")
        running.stdin.flush()
        assert running.stdout.read(1) == b"1"  # so it has been started
        with raises(errno.ETXTBSY):
            os.open(here.path("program"), os.O_WRONLY)
        with raises(errno.ETXTBSY):
            os.truncate(here.path("program"), 0)
        running.stdin.close()
    with open(here.path("program"), "r+b"), raises(errno.ETXTBSY):
        subprocess.run([here.path("program")], check=True, stdin=subprocess.DEVNULL)
    subprocess.run([here.path("program")], check=True, stdin=subprocess.DEVNULL)


def test_a_path_longer_than_any_call_takes_is_walked_step_by_step(here: Place) -> None:
    name, depth = "d" * 200, 30
    at = os.open(here.root, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=at)
        below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=at)
        os.close(at)
        at = below
    fd = os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=at)
    os.write(fd, b"deep")
    os.close(fd)
    os.close(at)
    with raises(errno.ENAMETOOLONG):
        os.stat(here.path(*[name] * depth))
    at = os.open(here.below, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(depth):
        below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=at)
        os.close(at)
        at = below
    fd = os.open("file", os.O_RDONLY, dir_fd=at)
    assert os.read(fd, 9) == b"deep"
    os.close(fd)
    os.close(at)
    shutil.rmtree(here.path(name))
    assert os.listdir(here.below) == []


@pytest.mark.parametrize("way", ["../../../n", "link/x", "absolute/x"])
def test_dots_and_links_lead_where_they_lead_in_the_mount_and_no_further(here: Place, way: str) -> None:
    """A link or ".." is the kernel's to follow, in the mount; nothing outside is reached with the server's rights."""
    os.symlink("..", here.path("link"))
    os.symlink(os.path.dirname(here.below), here.path("absolute"))
    assert os.path.realpath(here.path("link")) == os.path.realpath(os.path.dirname(here.root))
    assert os.readlink(here.path("absolute")) == os.path.dirname(here.below)
    with pytest.raises(FileNotFoundError):
        os.stat(here.path(way, "none"))
    # A change through a link to a directory that is replaced by a link in between stays where the name is.
    os.mkdir(here.path("directory"))
    directory = os.open(here.path("directory"), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.rename(here.path("directory"), here.path("moved"))
        os.symlink(here.other_below, here.path("directory"))
        os.close(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=directory))
    finally:
        os.close(directory)
    assert os.listdir(here.other_below) == []
    assert os.listdir(os.path.join(here.below, "moved")) == ["file"]
