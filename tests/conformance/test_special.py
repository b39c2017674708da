"""``.sigfs`` at the root of a mount, and the extended attributes of directories."""

from __future__ import annotations

import errno
import json
import mmap
import os
import stat
import subprocess
from collections.abc import Callable

import pytest

from tests.support.drivers import STATEPOINTS, Fs, Place
from tests.support.limits import needs
from tests.support.projects import job_id

NOT_ON = ("plain",)
IDS = sorted(map(job_id, STATEPOINTS))
FILES = ["index.jsonl", "metrics", "schema.json", "status.json"]


def special(place: Place, *names: str) -> str:
    return os.path.join(place.top, ".sigfs", *names)


def run(*command: str) -> bytes:
    return subprocess.run(command, check=True, capture_output=True, timeout=60).stdout


def refused(call: Callable[[], object]) -> int | None:
    """Give the errno that a call is refused with."""
    try:
        call()
    except OSError as error:
        return error.errno
    return None


def test_it_is_found_and_not_listed(fs: Fs) -> None:
    assert fs.listdir(fs.place.top) == ["n"]
    assert stat.S_ISDIR(fs.lstat(special(fs.place)).st_mode)
    assert fs.listdir(special(fs.place)) == ["find", "jobs", "views", *FILES]
    for path in (os.path.join(fs.place.top, "n", ".sigfs"), special(fs.place, ".sigfs"), special(fs.place, "else")):
        with pytest.raises(FileNotFoundError):
            fs.lstat(path)


def test_find_does_not_meet_it(here: Place) -> None:
    assert b".sigfs" not in run("find", here.top)


def test_the_index_has_one_line_for_each_job(fs: Fs) -> None:
    lines = fs.read_file(special(fs.place, "index.jsonl")).decode("ascii").splitlines()
    assert [json.loads(line) for line in lines] == [
        {"id": each, "sp": statepoint}
        for each, statepoint in sorted((job_id(statepoint), statepoint) for statepoint in STATEPOINTS)
    ]


def test_the_schema_says_what_the_jobs_have(fs: Fs) -> None:
    assert json.loads(fs.read_file(special(fs.place, "schema.json"))) == {
        "jobs": 2,
        "sp": {
            "n": {
                "jobs": 2,
                "distinct": 2,
                "constant": False,
                "types": {"int": {"jobs": 2, "distinct": 2, "min": 0, "max": 1, "values": [0, 1]}},
            }
        },
    }


def test_the_status_is_that_of_the_mount(fs: Fs) -> None:
    told = json.loads(fs.read_file(special(fs.place, "status.json")))
    assert {name: told[name] for name in ("jobs", "project_jobs", "layout", "filter", "read_only")} == {
        "jobs": 2, "project_jobs": 2, "layout": "auto", "filter": "", "read_only": False,
    }  # fmt: skip
    assert told.keys() == json.loads(fs.getxattr(fs.place.top, "user.sigfs.status")).keys()


@pytest.mark.parametrize("name", FILES)
def test_a_file_has_the_size_that_is_shown(fs: Fs, name: str) -> None:
    found = fs.lstat(special(fs.place, name))
    assert stat.S_ISREG(found.st_mode)
    assert found.st_mode & 0o222 == 0
    assert found.st_nlink == 1
    assert found.st_blocks * 512 >= found.st_size == len(fs.read_file(special(fs.place, name))) > 0


def test_copying_programs_copy_the_files(here: Place, tmp_path: os.PathLike[str]) -> None:
    index = special(here, "index.jsonl")
    with open(index, "rb") as file:
        expected = file.read()
    to = os.fspath(tmp_path)
    run("cp", "-a", index, f"{to}/cp")
    run("rsync", "-aHAX", index, f"{to}/rsync")
    run("tar", "-C", special(here), "--xattrs", "--acls", "--sparse", "-cf", f"{to}/tar", "index.jsonl")
    copies = [run("cat", f"{to}/cp"), run("cat", f"{to}/rsync"), run("tar", "-xOf", f"{to}/tar"), run("cat", index)]
    assert copies == [expected] * 4
    assert run("tail", "-n", "1", index) == expected.splitlines(keepends=True)[-1]
    assert run("head", "-c", "10", index) == expected[:10]
    assert run("sh", "-c", f"dd if='{index}' bs=1 skip=30 count=20 2>/dev/null") == expected[30:50]


@needs("mapping of what is virtual")
def test_a_file_can_be_mapped(here: Place) -> None:
    with open(special(here, "index.jsonl"), "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        assert mapped[:] == file.read()


def test_holes_are_none(here: Place) -> None:
    fd = os.open(special(here, "index.jsonl"), os.O_RDONLY)
    try:
        size = os.fstat(fd).st_size
        assert os.lseek(fd, 0, os.SEEK_DATA) == 0
        assert os.lseek(fd, 0, os.SEEK_HOLE) == size
        assert refused(lambda: os.lseek(fd, size, os.SEEK_DATA)) == errno.ENXIO
    finally:
        os.close(fd)


def test_jobs_are_the_jobs(fs: Fs) -> None:
    assert fs.listdir(special(fs.place, "jobs")) == IDS
    fs.write_file("data", b"here")
    place = os.path.basename(fs.place.root)
    assert fs.read_file(special(fs.place, "jobs", job_id(STATEPOINTS[0]), place, "data")) == b"here"
    fs.write_file(special(fs.place, "jobs", job_id(STATEPOINTS[0]), place, "data"), b"there")
    assert fs.read_file("data") == b"there"


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("n 0", ["n"]),
        ("n.$lt 1", ["n"]),
        ('{"n": {"$gte": 0}}', ["n"]),
        ("n", ["0", "1"]),
        ("n@gt", []),
        ("n@gt/-1", ["n"]),
        ("id.$eq 'x'", None),
        ("n 7", None),
        ("n 0 m", None),
        ("n 'unfinished", None),
        ('{"n": ', None),
        ("n.$nothing 3", None),
        ("..hidden 3", None),
        ("n " + "0" * 253, ["n"]),
        ("n " + "x" * 253, None),
    ],
)
def test_find_leads_to_what_a_query_holds_for(fs: Fs, query: str, names: list[str] | None) -> None:
    path = special(fs.place, "find", query)
    if names is None:
        with pytest.raises(FileNotFoundError):
            fs.lstat(path)
    else:
        assert fs.listdir(path) == names
    assert fs.listdir(special(fs.place, "find")) == []


def test_a_path_in_find_leads_to_the_job(fs: Fs) -> None:
    place = os.path.basename(fs.place.root)
    fs.write_file("data", b"here")
    for path in ("n/0", "n 0/n/0", "n@lt/1/n/0", "n.$lt 1/.job"):
        assert fs.read_file(special(fs.place, "find", path, place, "data")) == b"here"


def test_everything_in_it_is_read_only(fs: Fs) -> None:
    index, find = special(fs.place, "index.jsonl"), special(fs.place, "find")
    calls: list[Callable[[], object]] = [
        lambda: fs.open(index, os.O_WRONLY),
        lambda: fs.open(index, os.O_RDWR),
        lambda: fs.truncate(index, 0),
        lambda: fs.chmod(index, 0o666),
        lambda: fs.utime(index, 0, 0),
        lambda: fs.unlink(index),
        lambda: fs.rename(index, special(fs.place, "else")),
        lambda: fs.rename(index, "data"),
        lambda: fs.link(index, "data"),
        lambda: fs.symlink("x", special(fs.place, "link")),
        lambda: fs.mkdir(special(fs.place, "directory")),
        lambda: fs.rmdir(find),
        lambda: fs.setxattr(index, "user.x", b"x"),
        lambda: fs.removexattr(index, "user.x"),
        lambda: fs.write_file(special(fs.place, "file"), b""),
    ]
    answers = {refused(call) for call in calls}
    # To an ordinary user the kernel says already that a file without write permission cannot be written.
    assert answers == ({errno.EPERM} if os.geteuid() == 0 or fs.driver == "direct" else {errno.EPERM, errno.EACCES})
    assert fs.listdir() == []
    assert refused(lambda: fs.listdir(index)) == errno.ENOTDIR


def test_a_job_says_what_it_is(fs: Fs) -> None:
    (job, statepoint), top = (job_id(STATEPOINTS[1]), STATEPOINTS[1]), os.path.dirname(fs.place.other)
    assert fs.getxattr(top, "user.sigfs.id") == job.encode()
    assert fs.getxattr(top, "user.sigfs.statepoint") == json.dumps(statepoint).encode()
    for directory in (top, fs.place.other):
        assert fs.getxattr(directory, "user.sigfs.query") == f"id/{job}".encode()
        assert fs.getxattr(directory, "user.sigfs.count") == b"1"
    assert refused(lambda: fs.getxattr(fs.place.other, "user.sigfs.id")) == errno.ENODATA
    assert refused(lambda: fs.getxattr(top, "user.sigfs.else")) == errno.ENODATA


@pytest.mark.parametrize(
    ("path", "query", "count"),
    [("", "", "2"), ("n", "n@exists/true", "2"), ("n@gt/-1", "n@gt/-1", "2"), (".jobs", "", "2"),
     (".sigfs", "", "2"), (".sigfs/find/n.$gt 0", "n@gt/0", "1"), (".sigfs/jobs", "", "2")],
)  # fmt: skip
def test_a_virtual_directory_says_what_it_asks_for(fs: Fs, path: str, query: str, count: str) -> None:
    directory = os.path.join(fs.place.top, path)
    assert fs.getxattr(directory, "user.sigfs.query").decode() == query
    assert fs.getxattr(directory, "user.sigfs.count").decode() == count


def test_attributes_of_ours_are_not_listed_and_cannot_be_set(fs: Fs) -> None:
    top = os.path.dirname(fs.place.root)
    for directory in (top, fs.place.root):
        fs.setxattr(directory, "user.own", b"mine")
        assert fs.listxattr(directory) == ["user.own"]
        assert refused(lambda at=directory: fs.setxattr(at, "user.sigfs.id", b"x")) == errno.EPERM  # type: ignore[misc]
        assert refused(lambda at=directory: fs.removexattr(at, "user.sigfs.id")) == errno.EPERM  # type: ignore[misc]
        fs.removexattr(directory, "user.own")
    assert fs.listxattr(fs.place.top) == []


def test_copying_programs_copy_a_directory_with_the_attributes_that_are_its_own(
    here: Place, tmp_path: os.PathLike[str]
) -> None:
    job, to = os.path.dirname(here.root), os.fspath(tmp_path)
    os.setxattr(here.root, "user.own", b"mine")
    os.mkdir(f"{to}/tar")
    run("cp", "-a", f"{here.top}/n", f"{to}/cp")
    run("rsync", "-aX", f"{here.top}/n/", f"{to}/rsync")
    run(
        "sh", "-c", f"tar -C '{here.top}' --xattrs --xattrs-include='user.*' -cf - n | tar -C '{to}/tar' --xattrs -xf -"
    )
    for copy in ("cp", "rsync", "tar/n"):
        inside = os.path.join(to, copy, os.path.basename(job))
        assert os.listxattr(inside) == []
        assert os.getxattr(os.path.join(inside, os.path.basename(here.root)), "user.own") == b"mine"
