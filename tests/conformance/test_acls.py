"""Access control lists through a mount: who may, what new files get, and what programs keep of them."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Callable

import pytest

from tests.support.drivers import Place, umask
from tests.support.limits import needs
from tests.support.outcome import unavailable
from tests.support.users import ALICE, BOB, GROUP, acting_as

MOUNT_OPTIONS = ("allow_other",) if os.geteuid() == 0 else ()

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be several users")


def setfacl(*arguments: str) -> None:
    if shutil.which("setfacl") is None:
        unavailable("there is no setfacl")
    subprocess.run(["setfacl", *arguments], check=True)


def getfacl(path: str) -> list[str]:
    done = subprocess.run(["getfacl", "-cpn", path], check=True, capture_output=True, text=True)
    return sorted(line for line in done.stdout.splitlines() if line)


def write(path: str, mode: int = 0o600) -> None:
    with open(path, "wb") as file:
        file.write(b"data")
    os.chmod(path, mode)


def mode_of(path: str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def test_an_acl_that_is_set_is_shown_on_both_sides_and_in_the_mode(here: Place) -> None:
    write(here.path("file"))
    setfacl("-m", f"u:{BOB}:rw,g:{GROUP}:r", here.path("file"))
    below = os.path.join(here.below, "file")
    assert getfacl(here.path("file")) == getfacl(below)
    assert f"user:{BOB}:rw-" in getfacl(here.path("file"))
    assert mode_of(here.path("file")) == mode_of(below) == 0o660  # the group's bits are the mask
    setfacl("-b", here.path("file"))
    assert getfacl(below) == ["group::---", "other::---", "user::rw-"]


def test_chmod_changes_the_mask_and_not_the_entries(here: Place) -> None:
    write(here.path("file"))
    setfacl("-m", f"u:{BOB}:rwx", here.path("file"))
    os.chmod(here.path("file"), 0o640)
    found = getfacl(os.path.join(here.below, "file"))
    assert "mask::r--" in found
    assert any(line.startswith(f"user:{BOB}:rwx") for line in found)
    assert getfacl(here.path("file")) == found


@as_root
@needs("access by acl")
def test_an_entry_lets_its_user_and_its_group_in_and_the_mask_keeps_them_out(here: Place) -> None:
    os.chmod(here.below, 0o755)
    write(here.path("file"))
    setfacl("-m", f"u:{BOB}:rw,g:{GROUP}:r", here.path("file"))
    with acting_as(BOB):
        assert os.access(here.path("file"), os.R_OK | os.W_OK, effective_ids=True)
        with open(here.path("file"), "r+b") as file:
            file.write(b"DATA")
    with acting_as(ALICE, GROUP):
        assert os.access(here.path("file"), os.R_OK, effective_ids=True)
        assert not os.access(here.path("file"), os.W_OK, effective_ids=True)
        with open(here.path("file"), "rb") as file:
            assert file.read() == b"DATA"
        with pytest.raises(PermissionError):
            os.open(here.path("file"), os.O_WRONLY)
    with acting_as(ALICE), pytest.raises(PermissionError):
        os.open(here.path("file"), os.O_RDONLY)
    setfacl("-m", "m::-", here.path("file"))
    with acting_as(BOB), pytest.raises(PermissionError):
        os.open(here.path("file"), os.O_RDONLY)


@as_root
@needs("access by acl")
def test_an_entry_of_a_directory_lets_its_user_make_and_remove(here: Place) -> None:
    os.mkdir(here.path("directory"))
    os.chmod(here.below, 0o755)
    setfacl("-m", f"u:{BOB}:rwx", here.path("directory"))
    with acting_as(BOB):
        write(here.path("directory", "file"))
        os.rename(here.path("directory", "file"), here.path("directory", "renamed"))
        assert os.listdir(here.path("directory")) == ["renamed"]
        os.unlink(here.path("directory", "renamed"))
    with acting_as(ALICE), pytest.raises(PermissionError):
        os.mkdir(here.path("directory", "new"))


@needs("default acl")
def test_a_default_acl_is_inherited_by_all_that_is_made_below(here: Place) -> None:
    setfacl("-d", "-m", f"u:{BOB}:rwx,g::r,o::-", here.path())
    with umask(0o077):
        os.mkdir(here.path("directory"))
        for name in ("file", "directory/file"):
            os.close(os.open(here.path(name), os.O_WRONLY | os.O_CREAT, 0o666))
        os.mkfifo(here.path("fifo"))
    for name in ("file", "directory/file", "fifo"):
        found = getfacl(os.path.join(here.below, name))
        assert any(line.startswith(f"user:{BOB}:rwx") for line in found), name
        assert "mask::rw-" in found, name  # the mode that was asked for, and no umask
        assert getfacl(here.path(name)) == found
    assert f"default:user:{BOB}:rwx" in getfacl(here.path("directory"))
    assert getfacl(here.path("directory")) == getfacl(os.path.join(here.below, "directory"))


@needs("default acl", "unnamed files")
def test_an_unnamed_file_inherits_it_too(here: Place) -> None:
    setfacl("-d", "-m", f"u:{BOB}:rw", here.path())
    with umask(0o077):
        fd = os.open(here.root, os.O_TMPFILE | os.O_RDWR, 0o660)
    to = os.open(here.root, os.O_RDONLY | os.O_DIRECTORY)
    os.link(f"/proc/self/fd/{fd}", "name", dst_dir_fd=to, follow_symlinks=True)
    os.close(fd)
    os.close(to)
    assert f"user:{BOB}:rw-" in getfacl(os.path.join(here.below, "name"))


@as_root
def test_who_is_not_in_the_group_loses_the_set_group_id_bit_with_a_new_acl(here: Place) -> None:
    write(here.path("program"), 0o755)
    os.chown(here.path("program"), BOB, GROUP)
    os.chmod(here.path("program"), 0o2755)
    os.chmod(here.below, 0o755)
    with acting_as(BOB):
        setfacl_as_is(here.path("program"))
    assert mode_of(os.path.join(here.below, "program")) == 0o755


def setfacl_as_is(path: str) -> None:
    """Set, without another program, the ACL that says what the mode says."""
    entries = ((1, 7), (4, 5), (32, 5))
    value = b"\x02\0\0\0" + b"".join(
        tag.to_bytes(2, "little") + permissions.to_bytes(2, "little") + b"\xff" * 4 for tag, permissions in entries
    )
    os.setxattr(path, "system.posix_acl_access", value)


@as_root
def test_a_mode_that_shows_the_mask_lets_nobody_in_whom_the_acl_keeps_out(here: Place) -> None:
    write(here.path("file"), 0o660)
    os.mkdir(here.path("directory"))
    os.mkdir(here.path("directory", "below"))
    for name in ("file", "directory"):
        os.chown(here.path(name), ALICE, GROUP)
        os.chmod(here.path(name), 0o770)
        setfacl("-m", f"g::-,u:{BOB}:rwx", here.path(name))
    os.chmod(here.below, 0o755)
    assert mode_of(here.path("file")) == 0o770
    attempts: list[Callable[[], object]] = [
        lambda: os.open(here.path("file"), os.O_RDONLY),
        lambda: os.open(here.path("file"), os.O_WRONLY | os.O_APPEND),
        lambda: os.open(here.path("file"), os.O_WRONLY | os.O_TRUNC),
        lambda: os.truncate(here.path("file"), 0),
        lambda: os.listdir(here.path("directory")),
        lambda: os.open(here.path("directory", "new"), os.O_WRONLY | os.O_CREAT),
        lambda: os.mkdir(here.path("directory", "new")),
        lambda: os.symlink("x", here.path("directory", "new")),
        lambda: os.link(here.path("file"), here.path("directory", "new")),
        lambda: os.rmdir(here.path("directory", "below")),
        lambda: os.rename(here.path("directory", "below"), here.path("directory", "new")),
    ]
    with acting_as(4003, GROUP):
        for attempt in attempts:
            with pytest.raises(PermissionError):
                attempt()
    assert os.listdir(os.path.join(here.below, "directory")) == ["below"]
    assert os.path.getsize(os.path.join(here.below, "file")) == 4
