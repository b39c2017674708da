"""Nobody gets more rights through a mount than on the disk: as the user who mounts, and as others with allow_other."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from collections.abc import Callable

import pytest

from tests.support.drivers import Place, umask

MOUNT_OPTIONS = ("allow_other",) if os.geteuid() == 0 else ()

NOBODY = 65534
GROUP = 4321

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be several users")
as_user = pytest.mark.skipif(os.geteuid() == 0, reason="root may do everything; test_ordinary_user runs this")


def write(path: str, data: bytes = b"data", mode: int = 0o644) -> None:
    with open(path, "wb") as file:
        file.write(data)
    os.chmod(path, mode)


# As the ordinary user who has mounted

REFUSED: dict[str, Callable[[Place], object]] = {
    "reading a file without r": lambda here: os.open(here.path("none"), os.O_RDONLY),
    "writing a file without w": lambda here: os.open(here.path("read"), os.O_RDWR),
    "truncating a file without w": lambda here: os.truncate(here.path("read"), 0),
    "listing a directory without r": lambda here: os.listdir(here.path("closed")),
    "searching a directory without x": lambda here: os.stat(here.path("closed", "file")),
    "creating in a directory without w": lambda here: os.open(here.path("fixed", "new"), os.O_CREAT),
    "removing from a directory without w": lambda here: os.unlink(here.path("fixed", "file")),
    "renaming in a directory without w": lambda here: os.rename(here.path("fixed", "file"), here.path("fixed", "new")),
    "giving a file away": lambda here: os.chown(here.path("read"), 0, -1),
    "running what is not executable": lambda here: subprocess.run([here.path("read")]),
}


@as_user
@pytest.mark.parametrize("attempt", REFUSED)
def test_what_the_mode_forbids_its_owner_is_refused(here: Place, attempt: str) -> None:
    write(here.path("none"), mode=0o000)
    write(here.path("read"), mode=0o444)
    for name, mode in (("closed", 0o000), ("fixed", 0o555)):
        os.mkdir(here.path(name))
        write(here.path(name, "file"))
        os.chmod(here.path(name), mode)
    try:
        with pytest.raises(PermissionError):
            REFUSED[attempt](here)
    finally:
        for name in ("closed", "fixed"):
            os.chmod(os.path.join(here.below, name), 0o755)
    assert os.listdir(os.path.join(here.below, "fixed")) == ["file"]
    assert os.path.getsize(os.path.join(here.below, "read")) == 4


@as_user
def test_what_the_user_makes_is_the_users(here: Place) -> None:
    write(here.path("file"))
    os.mkdir(here.path("directory"))
    for name in ("file", "directory"):
        found = os.stat(os.path.join(here.below, name))
        assert (found.st_uid, found.st_gid) == (os.geteuid(), os.getegid())


# As root for others


def become(code: str, *arguments: str, groups: tuple[int, ...] = (), mask: int = 0o022) -> str:
    """Run *code* as the user nobody; gives what it prints, or the name of the errno that it failed with.

    In a child without exec: the interpreter itself may lie where nobody may not go.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        said = "the child failed"
        try:
            os.chdir("/")
            os.umask(mask)
            os.setgroups(groups)
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            said = _outcome(code, arguments)
        finally:
            os.write(writing, said.encode())
            os._exit(0)
    os.close(writing)
    with open(reading, encoding="utf-8") as file:
        said = file.read()
    os.waitpid(child, 0)
    return said


def _outcome(code: str, arguments: tuple[str, ...]) -> str:
    said: list[str] = []
    try:
        exec(code, {"os": os, "args": arguments, "say": said.append})
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    except BaseException as error:  # noqa: BLE001 - anything, so that the test says what it was
        return repr(error)
    return "".join(said)


@pytest.fixture
def ours(here: Place) -> Place:
    """A place that all may write to."""
    os.chmod(here.below, 0o777)
    return here


@as_root
@pytest.mark.parametrize(
    "code",
    [
        "os.close(os.open(args[0], os.O_WRONLY | os.O_CREAT, 0o666))",
        "os.mkdir(args[0])",
        "os.symlink('target', args[0])",
        "os.mkfifo(args[0])",
        "os.mknod(args[0], 0o100666)",
    ],
)
def test_what_another_user_makes_is_that_users(ours: Place, code: str) -> None:
    assert become(code, ours.path("made")) == ""
    found = os.lstat(os.path.join(ours.below, "made"))
    assert (found.st_uid, found.st_gid) == (NOBODY, NOBODY)
    assert os.lstat(ours.path("made")).st_uid == NOBODY


@as_root
def test_the_umask_of_another_user_counts(ours: Place) -> None:
    become("os.close(os.open(args[0], os.O_WRONLY | os.O_CREAT, 0o666))", ours.path("made"), mask=0o077)
    assert stat.S_IMODE(os.lstat(os.path.join(ours.below, "made")).st_mode) == 0o600


@as_root
@pytest.mark.parametrize(
    "code",
    [
        "os.open(args[0] + '/secret', os.O_RDONLY)",
        "os.open(args[0] + '/public', os.O_RDWR)",
        "os.truncate(args[0] + '/public', 0)",
        "os.listdir(args[0] + '/closed')",
        "os.stat(args[0] + '/closed/file')",
        "os.open(args[0] + '/fixed/new', os.O_CREAT)",
        "os.unlink(args[0] + '/fixed/file')",
        "os.rename(args[0] + '/fixed/file', args[0] + '/stolen')",
        "os.setxattr(args[0] + '/public', 'user.x', b'1')",
        "os.utime(args[0] + '/public')",
    ],
)
def test_another_user_is_refused_what_the_mode_forbids(ours: Place, code: str) -> None:
    write(ours.path("secret"), mode=0o600)
    write(ours.path("public"))
    for name, mode in (("closed", 0o700), ("fixed", 0o755)):
        os.mkdir(ours.path(name))
        write(ours.path(name, "file"))
        os.chmod(ours.path(name), mode)
    assert become(code, ours.root) == "EACCES"
    assert os.path.getsize(os.path.join(ours.below, "public")) == 4


@as_root
@pytest.mark.parametrize(
    "code",
    [
        "os.chmod(args[0] + '/file', 0o777)",
        "os.chown(args[0] + '/file', 65534, -1)",
        "os.utime(args[0] + '/file', (1, 1))",
        "os.unlink(args[0] + '/sticky/file')",
        "os.rename(args[0] + '/sticky/file', args[0] + '/sticky/new')",
    ],
)
def test_another_user_is_refused_what_only_the_owner_may(ours: Place, code: str) -> None:
    write(ours.path("file"), mode=0o666)
    os.mkdir(ours.path("sticky"))
    os.chmod(ours.path("sticky"), 0o1777)
    write(ours.path("sticky", "file"))
    assert become(code, ours.root) == "EPERM"
    assert os.lstat(os.path.join(ours.below, "file")).st_uid == 0
    assert os.listdir(os.path.join(ours.below, "sticky")) == ["file"]


@as_root
def test_a_member_of_the_group_reads_what_the_group_may(ours: Place) -> None:
    write(ours.path("file"), b"for members", 0o640)
    os.chown(os.path.join(ours.below, "file"), 0, GROUP)
    reading = "say(os.read(os.open(args[0], os.O_RDONLY), 99).decode())"
    assert become(reading, ours.path("file"), groups=(GROUP,)) == "for members"
    assert become(reading, ours.path("file")) == "EACCES"


@as_root
@pytest.mark.parametrize(
    "code",
    [
        "fd = os.open(args[0], os.O_WRONLY); os.write(fd, b'x'); os.close(fd)",
        "fd = os.open(args[0], os.O_WRONLY | os.O_APPEND); os.write(fd, b'x'); os.close(fd)",
        "os.close(os.open(args[0], os.O_WRONLY | os.O_TRUNC))",
        "os.truncate(args[0], 2)",
    ],
)
def test_a_program_that_another_user_changes_loses_its_set_user_id_bit(ours: Place, code: str) -> None:
    write(ours.path("program"))
    os.chmod(ours.path("program"), 0o6777)
    assert become(code, ours.path("program")) == ""
    assert stat.S_IMODE(os.lstat(os.path.join(ours.below, "program")).st_mode) == 0o777
    assert stat.S_IMODE(os.lstat(ours.path("program")).st_mode) == 0o777


@as_root
def test_a_set_group_id_directory_gives_its_group_to_what_others_make(ours: Place) -> None:
    os.mkdir(ours.path("shared"))
    os.chown(os.path.join(ours.below, "shared"), 0, GROUP)
    os.chmod(os.path.join(ours.below, "shared"), 0o2777)
    os.listdir(ours.path("shared"))
    assert become("os.mkdir(args[0] + '/d'); os.close(os.open(args[0] + '/f', os.O_CREAT))", ours.path("shared")) == ""
    directory, file = (os.lstat(os.path.join(ours.below, "shared", name)) for name in ("d", "f"))
    assert (directory.st_uid, directory.st_gid, directory.st_mode & stat.S_ISGID) == (NOBODY, GROUP, stat.S_ISGID)
    assert (file.st_uid, file.st_gid) == (NOBODY, GROUP)


@as_root
def test_no_set_group_id_program_is_made_for_a_group_that_one_is_no_member_of(ours: Place) -> None:
    os.mkdir(ours.path("shared"))
    os.chown(os.path.join(ours.below, "shared"), 0, GROUP)
    os.chmod(os.path.join(ours.below, "shared"), 0o2777)
    code = "os.close(os.open(args[0] + '/f', os.O_WRONLY | os.O_CREAT, 0o2775))\nos.chmod(args[0] + '/f', 0o2775)"
    assert become(code, ours.path("shared")) == ""
    found = os.lstat(os.path.join(ours.below, "shared", "f"))
    assert found.st_gid == GROUP
    assert not found.st_mode & stat.S_ISGID


@as_root
def test_the_owner_changes_what_is_his(ours: Place) -> None:
    code = (
        "fd = os.open(args[0], os.O_CREAT | os.O_WRONLY, 0o644); os.write(fd, b'1'); os.close(fd)\n"
        "os.chmod(args[0], 0o600)\n"
        "os.utime(args[0], (5, 6))\n"
        "os.setxattr(args[0], 'user.x', b'1')\n"
        "os.chown(args[0], -1, 4321)\n"
        "os.rename(args[0], args[0] + '-new')"
    )
    assert become(code, ours.path("file"), groups=(GROUP,)) == ""
    found = os.lstat(os.path.join(ours.below, "file-new"))
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode), found.st_mtime) == (NOBODY, GROUP, 0o600, 6)


@as_root
def test_root_gives_files_away_through_the_mount(ours: Place) -> None:
    with umask(0):
        write(ours.path("file"))
    os.chown(ours.path("file"), NOBODY, NOBODY)
    assert (
        become(
            "fd = os.open(args[0], os.O_APPEND | os.O_WRONLY); os.write(fd, b'more'); os.close(fd)", ours.path("file")
        )
        == ""
    )
    with open(os.path.join(ours.below, "file"), "rb") as file:
        assert file.read() == b"datamore"
