"""What the kernel has cached of owners and modes gives nobody more rights than the disk below does.

The mount is root's and open to all. Here one process is several users in turn, since the kernel asks in the name of the
effective user; each test is as true of the plain directory.
"""

from __future__ import annotations

import ctypes
import grp
import os
import pwd
import secrets
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress

import pytest

from tests.support.drivers import Place
from tests.support.limits import needs
from tests.support.outcome import unavailable
from tests.support.users import ALICE, BOB, GROUP, acting_as

MOUNT_OPTIONS = ("allow_other",) if os.geteuid() == 0 else ()

EXCHANGE = 2

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be several users")


def make(path: str, owner: int, mode: int, data: bytes = b"data") -> None:
    with open(path, "wb") as file:
        file.write(data)
    os.chown(path, owner, owner)
    os.chmod(path, mode)


def mode_of(path: str) -> int:
    return stat.S_IMODE(os.lstat(path).st_mode)


@pytest.fixture
def ours(here: Place) -> Place:
    """A place that all may write to."""
    os.chmod(here.below, 0o777)
    return here


# The sticky bit


@pytest.mark.parametrize(
    ("kind", "attempt"),
    [
        ("file", os.unlink),
        ("file", lambda path: os.rename(path, path + "-mine")),
        ("directory", os.rmdir),
        ("directory", lambda path: os.rename(path, path + "-mine")),
    ],
    ids=["unlink", "rename", "rmdir", "rename of a directory"],
)
def test_what_another_user_has_put_in_the_place_of_mine_in_a_sticky_directory_is_not_mine(
    ours: Place, kind: str, attempt: Callable[[str], None]
) -> None:
    sticky = os.path.join(ours.below, "sticky")
    os.mkdir(sticky)
    os.chmod(sticky, 0o1777)

    def put(owner: int) -> None:
        with acting_as(owner):
            if kind == "file":
                os.close(os.open(os.path.join(sticky, "it"), os.O_CREAT | os.O_EXCL))
            else:
                os.mkdir(os.path.join(sticky, "it"))

    put(BOB)
    assert os.lstat(ours.path("sticky", "it")).st_uid == BOB  # and the kernel may believe so for a while
    with acting_as(BOB):
        (os.unlink if kind == "file" else os.rmdir)(os.path.join(sticky, "it"))
    put(ALICE)
    with acting_as(BOB), pytest.raises(OSError):  # noqa: PT011 - EPERM, or what a kernel says that sees another file
        attempt(ours.path("sticky", "it"))
    assert os.listdir(sticky) == ["it"]
    assert os.lstat(os.path.join(sticky, "it")).st_uid == ALICE


@pytest.mark.parametrize("attempt", [os.unlink, lambda path: os.rename(path, path + "-new")], ids=["unlink", "rename"])
def test_the_owner_of_a_file_or_of_the_sticky_directory_may_remove_it(
    ours: Place, attempt: Callable[[str], None]
) -> None:
    sticky = os.path.join(ours.below, "sticky")
    os.mkdir(sticky)
    os.chown(sticky, BOB, BOB)
    os.chmod(sticky, 0o1777)
    make(os.path.join(sticky, "alices"), ALICE, 0o600)
    make(os.path.join(sticky, "another"), ALICE, 0o600)
    with acting_as(ALICE):
        attempt(ours.path("sticky", "alices"))
    with acting_as(BOB):
        attempt(ours.path("sticky", "another"))
    assert not {"alices", "another"} & set(os.listdir(sticky))


# What only an owner may change

_ACL = b"\x02\0\0\0" + b"".join(
    tag.to_bytes(2, "little") + permissions.to_bytes(2, "little") + identity.to_bytes(4, "little")
    for tag, permissions, identity in (
        (1, 6, 0xFFFFFFFF),
        (2, 7, BOB),
        (4, 4, 0xFFFFFFFF),
        (16, 7, 0xFFFFFFFF),
        (32, 4, 0xFFFFFFFF),
    )
)
"""user::rw-, user:BOB:rwx, group::r--, mask::rwx, other::r-- as struct posix_acl_xattr_header and its entries."""


@pytest.mark.parametrize(
    "attempt",
    [
        lambda path: os.chmod(path, 0o4777),
        lambda path: os.chown(path, -1, GROUP),
        lambda path: os.setxattr(path, "system.posix_acl_access", _ACL),
        lambda path: os.utime(path, ns=(5, 6)),
    ],
    ids=["chmod", "chgrp", "setfacl", "utime"],
)
def test_a_file_that_was_given_to_another_user_below_is_no_longer_mine(
    ours: Place, attempt: Callable[[str], None]
) -> None:
    below = os.path.join(ours.below, "file")
    make(below, BOB, 0o644)
    assert os.lstat(ours.path("file")).st_uid == BOB
    os.chown(below, ALICE, ALICE)
    with acting_as(BOB, GROUP), pytest.raises(OSError):  # noqa: PT011 - EPERM; EOPNOTSUPP for ACLs
        attempt(ours.path("file"))
    found = os.lstat(below)
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (ALICE, ALICE, 0o644)


def _given_away(below: str) -> None:
    os.chown(below, ALICE, ALICE)


def _closed(below: str) -> None:
    os.chown(below, ALICE, ALICE)
    os.chmod(below, 0o600)


def _replaced(below: str) -> None:
    """By a new file, which gets the number of the old one from most file systems."""
    os.unlink(below)
    make(below, ALICE, 0o600)


@pytest.mark.parametrize("change", [_given_away, _closed, _replaced])
@pytest.mark.parametrize(
    "attempt",
    [
        lambda path: open(path, "rb"),  # noqa: SIM115
        lambda path: open(path, "r+b"),  # noqa: SIM115
        lambda path: open(path, "wb"),  # noqa: SIM115
        lambda path: os.truncate(path, 0),
    ],
    ids=["read", "write", "replace", "truncate"],
)
def test_a_file_that_others_have_closed_below_is_not_opened_by_the_rights_it_had(
    ours: Place, change: Callable[[str], None], attempt: Callable[[str], None]
) -> None:
    below = os.path.join(ours.below, "file")
    make(below, BOB, 0o600)
    with acting_as(BOB, GROUP):
        assert os.access(ours.path("file"), os.R_OK | os.W_OK, effective_ids=True)
        with open(ours.path("file"), "rb") as file:
            file.read()
    change(below)
    with acting_as(BOB, GROUP), pytest.raises(PermissionError):
        attempt(ours.path("file"))
    with open(below, "rb") as file:
        assert file.read() == b"data"


def test_the_group_of_a_set_group_id_program_must_be_among_its_owners(ours: Place) -> None:
    below = os.path.join(ours.below, "program")
    make(below, BOB, 0o755)
    os.lstat(ours.path("program"))
    os.chown(below, BOB, GROUP)
    with acting_as(BOB):
        os.chmod(ours.path("program"), 0o2755)
    assert mode_of(below) == 0o755
    with acting_as(BOB, GROUP):
        os.chmod(ours.path("program"), 0o2755)
    assert mode_of(below) == 0o2755


def test_a_member_of_the_group_makes_a_set_group_id_program(ours: Place) -> None:
    os.chown(ours.below, 0, GROUP)
    os.chmod(ours.below, 0o2777)
    os.lstat(ours.root)
    before = os.umask(0)
    try:
        for groups, name in (((GROUP,), "member"), ((), "stranger")):
            with acting_as(BOB, *groups):
                os.close(os.open(ours.path(name), os.O_CREAT | os.O_EXCL, 0o2775))
    finally:
        os.umask(before)
    found = os.lstat(os.path.join(ours.below, "member"))
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (BOB, GROUP, 0o2775)
    assert mode_of(os.path.join(ours.below, "stranger")) == 0o775


# Set-id bits of another user's program


def _copy(fd: int, place: Place) -> None:
    source = os.open(place.path("source"), os.O_RDONLY)
    try:
        assert os.copy_file_range(source, fd, 4, 0, 0) == 4
    finally:
        os.close(source)


WRITES: dict[str, Callable[[int, Place], object]] = {
    "write": lambda fd, _: os.write(fd, b"evil"),
    "copy_file_range": _copy,
    "fallocate": lambda fd, _: os.posix_fallocate(fd, 0, 9999),
    "ftruncate": lambda fd, _: os.ftruncate(fd, 1),
}


@pytest.mark.parametrize("how", WRITES)
def test_a_program_that_another_user_changes_loses_its_set_user_id_bit(ours: Place, how: str) -> None:
    below = os.path.join(ours.below, "program")
    make(below, ALICE, 0o4777)
    make(os.path.join(ours.below, "source"), ALICE, 0o644, b"evil")
    with acting_as(BOB):
        fd = os.open(ours.path("program"), os.O_WRONLY)
        try:
            WRITES[how](fd, ours)
            os.fsync(fd)
        finally:
            os.close(fd)
    assert mode_of(below) == 0o777


@pytest.mark.parametrize("how", WRITES)
@pytest.mark.parametrize("way", ["through the mount", "below"])
def test_so_does_one_that_was_open_already_when_the_bit_was_set(ours: Place, how: str, way: str) -> None:
    below = os.path.join(ours.below, "program")
    make(below, ALICE, 0o777)
    make(os.path.join(ours.below, "source"), ALICE, 0o644, b"evil")
    with acting_as(BOB):
        fd = os.open(ours.path("program"), os.O_WRONLY)
    try:
        with acting_as(ALICE):
            os.chmod(below if way == "below" else ours.path("program"), 0o4755)
        assert mode_of(below) == 0o4755
        with acting_as(BOB):
            WRITES[how](fd, ours)
            os.fsync(fd)
    finally:
        os.close(fd)
    assert mode_of(below) == 0o755


@needs("set-id bits for root")
def test_root_may_write_to_a_program_and_keep_its_set_user_id_bit(ours: Place) -> None:
    make(os.path.join(ours.below, "program"), ALICE, 0o4755)
    fd = os.open(ours.path("program"), os.O_WRONLY)
    try:
        os.write(fd, b"new")
    finally:
        os.close(fd)
    assert mode_of(os.path.join(ours.below, "program")) == 0o4755


# What is made for others


def test_what_another_user_puts_in_the_place_of_what_was_just_made_stays_whose_it_is(ours: Place) -> None:
    os.chown(ours.below, ALICE, ALICE)
    shared = os.path.join(ours.below, "shared")
    os.mkdir(shared)
    os.chmod(shared, 0o1777)
    identity = os.lstat(shared).st_ino
    ends = time.monotonic() + 2.0
    swapper, maker = _child(lambda: _swap(ours.below, ends)), _child(lambda: _make(ours.path("x"), ends))
    try:
        assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in (swapper, maker)] == [0, 0]
    finally:
        for child in (swapper, maker):
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
    found = {entry.stat().st_ino: entry.stat().st_uid for entry in os.scandir(ours.below)}
    assert found.pop(identity) == 0
    assert set(found.values()) <= {ALICE}


def _child(work: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgroups(())
            os.setgid(ALICE)
            os.setuid(ALICE)
            work()
            code = 0
        finally:
            os._exit(code)
    return child


def _swap(below: str, ends: float) -> None:
    """Exchange what is being made as "x" with root's directory, and look whether that was given away."""
    os.chdir(below)
    libc = ctypes.CDLL(None)
    while time.monotonic() < ends:
        if libc.renameat2(-100, b"x", -100, b"shared", EXCHANGE) == 0:
            time.sleep(0.002)
            if os.stat("x").st_uid == ALICE:
                return
            libc.renameat2(-100, b"x", -100, b"shared", EXCHANGE)
            os.close(os.open("shared/new", os.O_CREAT, 0o600))  # its times are now
            os.unlink("shared/new")
            os.rmdir("x")


def _make(path: str, ends: float) -> None:
    while time.monotonic() < ends:
        try:
            os.mkdir(path)
        except OSError:
            time.sleep(0.0005)


def test_who_may_write_sets_the_time_of_the_call_and_no_other(ours: Place) -> None:
    make(os.path.join(ours.below, "file"), ALICE, 0o666)
    os.utime(os.path.join(ours.below, "file"), (5, 5))
    with acting_as(BOB):
        os.utime(ours.path("file"))
        assert os.stat(ours.path("file")).st_mtime > 1e9
        with pytest.raises(PermissionError):
            os.utime(ours.path("file"), (7, 7))
    assert os.stat(os.path.join(ours.below, "file")).st_mtime > 1e9


def test_names_of_trusted_attributes_are_shown_to_root_only(ours: Place) -> None:
    make(os.path.join(ours.below, "file"), ALICE, 0o644)
    os.setxattr(os.path.join(ours.below, "file"), "trusted.secret", b"1")
    os.setxattr(os.path.join(ours.below, "file"), "user.public", b"1")
    assert {"trusted.secret", "user.public"} <= set(os.listxattr(ours.path("file")))
    with acting_as(ALICE):
        assert os.listxattr(ours.path("file")) == ["user.public"]


def test_a_program_that_may_be_run_and_not_read_is_run(ours: Place) -> None:
    shutil.copy(shutil.which("true") or "/bin/true", ours.path("program"))
    os.chmod(ours.path("program"), 0o711)
    with acting_as(BOB):
        with pytest.raises(PermissionError):
            os.open(ours.path("program"), os.O_RDONLY)
        child = os.fork()
        if child == 0:
            with suppress(OSError):
                os.execv(ours.path("program"), ["program"])
            os._exit(1)
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def as_user(name: str, *command: str) -> list[str]:
    return ["setpriv", f"--reuid={name}", f"--regid={name}", "--init-groups", *command]


def test_users_made_for_this_with_groups_of_their_own_work_at_once_and_each_owns_what_it_makes(ours: Place) -> None:
    for program in ("useradd", "userdel", "groupadd", "groupdel", "setpriv"):
        if shutil.which(program) is None:
            unavailable(f"there is no {program}")
    tail = secrets.token_hex(3)
    team, names = f"sigfs-t{tail}", [f"sigfs-a{tail}", f"sigfs-b{tail}"]
    with ExitStack() as stack:
        subprocess.run(["groupadd", team], check=True)
        stack.callback(subprocess.run, ["groupdel", team], check=True)
        for name in names:
            subprocess.run(["useradd", "--no-create-home", "--groups", team, name], check=True)
            stack.callback(subprocess.run, ["userdel", name], check=True)
        gid = grp.getgrnam(team).gr_gid
        shared = os.path.join(ours.below, "shared")
        os.mkdir(shared)
        os.chown(shared, 0, gid)
        os.chmod(shared, 0o3770)  # for the team, its group goes to what is made, and each removes only his own
        script = (
            "umask 007\n"
            'cd "$1"\n'
            "for n in 1 2 3 4 5 6 7 8 9 10; do\n"
            '    mkdir "$2-$n"; echo "$2" >"$2-$n/file"; ln -s file "$2-$n/link"; mkfifo "$2-$n/fifo"\n'
            '    ln "$2-$n/file" "$2-$n/hard"; mv "$2-$n/link" "$2-$n/moved"; cp -p "$2-$n/file" "$2-$n/copy"\n'
            '    echo "$2" >>log\n'
            "done\n"
        )
        with open(os.path.join(shared, "log"), "wb"):
            pass
        os.chown(os.path.join(shared, "log"), 0, gid)
        os.chmod(os.path.join(shared, "log"), 0o660)
        work = [
            subprocess.Popen(as_user(name, "sh", "-euc", script, "sh", ours.path("shared"), name), cwd="/")
            for name in names
        ]
        assert [process.wait() for process in work] == [0, 0]
        for name in names:
            uid = pwd.getpwnam(name).pw_uid
            for n in range(1, 11):
                directory = os.path.join(shared, f"{name}-{n}")
                assert mode_of(directory) == 0o2770
                assert sorted(os.listdir(directory)) == ["copy", "fifo", "file", "hard", "moved"]
                for path in (directory, *(os.path.join(directory, each) for each in os.listdir(directory))):
                    found = os.lstat(path)
                    assert (found.st_uid, found.st_gid) == (uid, gid), path
                assert mode_of(os.path.join(directory, "file")) == 0o660
        with open(os.path.join(shared, "log"), encoding="ascii") as file:
            assert sorted(file.read().split()) == sorted(names * 10)
        other = subprocess.run(
            as_user(names[0], "rm", "-rf", ours.path("shared", f"{names[1]}-1")),
            cwd="/",
            capture_output=True,
        )
        assert other.returncode != 0
        assert os.path.isdir(os.path.join(shared, f"{names[1]}-1"))  # what is in it is the team's, itself it is not
        stranger = subprocess.run(
            ["setpriv", "--reuid=4009", "--regid=4009", "--clear-groups", "ls", ours.path("shared")],
            cwd="/",
            capture_output=True,
        )
        assert stranger.returncode != 0
