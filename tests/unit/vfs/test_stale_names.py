"""Names that the kernel still believes in while they lead elsewhere: what is written by them is never lost."""

import errno
import os
import stat

import pytest

from sigfs.vfs.types import ROOT, SetAttr
from tests.support.wait import wait_until
from tests.unit.vfs.conftest import World, errno_of


def two_paths(world: World) -> tuple[int, int]:
    """Two view paths of job 1, so two inodes of its directory."""
    return world.job(1), world.at(f".jobs/{world.job_id(1)}")


def test_a_file_that_was_removed_by_another_path_is_not_opened_for_writing(world):
    here, there = two_paths(world)
    world.write_file(here, "f", b"old")
    stale = world.took(world.operations.lookup(there, "f", world.caller))
    world.operations.unlink(here, "f")
    assert errno_of(world.operations.open, stale, os.O_WRONLY | os.O_TRUNC, world.caller) == errno.ESTALE
    assert errno_of(world.operations.setattr, stale, SetAttr(size=0), None, world.caller) == errno.ESTALE
    assert world.read_file(stale) == b"old"


def test_a_file_that_was_replaced_by_another_path_is_not_opened_for_writing(world):
    here, there = two_paths(world)
    world.write_file(here, "f", b"old")
    world.write_file(here, "new", b"new")
    stale = world.took(world.operations.lookup(there, "f", world.caller))
    world.operations.rename(here, "new", here, "f")
    assert errno_of(world.operations.open, stale, os.O_WRONLY | os.O_APPEND, world.caller) == errno.ESTALE


def test_a_file_that_was_replaced_below_is_not_opened_for_writing_though_a_reader_has_it_open(world):
    job = world.job(1)
    stale = world.write_file(job, "f", b"old")
    reader = world.operations.open(stale, os.O_RDONLY, world.caller)
    with open(world.below(1, "new"), "wb") as file:
        file.write(b"new")
    os.rename(world.below(1, "new"), world.below(1, "f"))
    assert errno_of(world.operations.open, stale, os.O_RDWR, world.caller) == errno.ESTALE
    world.operations.release(reader)


def test_the_kernel_is_told_to_look_again_at_the_other_paths_of_a_name_that_is_removed_or_replaced(world):
    here, there = two_paths(world)
    for name in ("f", "g", "moved"):
        world.write_file(here, name)
        world.took(world.operations.lookup(there, name, world.caller))
    world.operations.unlink(here, "f")
    assert world.notifier.entries == [(there, "f")]
    world.operations.rename(here, "moved", here, "g")
    assert set(world.notifier.entries) == {(there, "f"), (there, "g"), (there, "moved")}


def test_the_kernel_is_told_to_look_again_at_the_other_paths_of_a_directory_that_is_removed_or_replaced(world):
    here, there = two_paths(world)
    for name in ("d", "e", "f"):
        world.took(world.operations.mkdir(here, name, 0o755, world.caller))
        world.took(world.operations.lookup(there, name, world.caller))
    world.operations.rmdir(here, "d")
    assert world.notifier.entries == [(there, "d")]
    world.operations.rename(here, "f", here, "e")
    assert set(world.notifier.entries) == {(there, "d"), (there, "e"), (there, "f")}


def test_a_directory_that_was_removed_and_made_again_by_another_path_is_not_taken_for_an_empty_one(world):
    here, there = two_paths(world)
    upper = world.took(world.operations.mkdir(here, "upper", 0o755, world.caller))
    world.took(world.operations.mkdir(upper, "d", 0o755, world.caller))
    other_upper = world.took(world.operations.lookup(there, "upper", world.caller))
    stale = world.took(world.operations.lookup(other_upper, "d", world.caller))
    assert world.operations.lookup(stale, "f", world.caller) is None  # whoever does keeps it open
    world.operations.rmdir(upper, "d")
    made = world.took(world.operations.mkdir(upper, "d", 0o755, world.caller))
    world.write_file(made, "f")
    assert errno_of(world.operations.lookup, stale, "f", world.caller) == errno.ESTALE  # the kernel looks again
    again = world.took(world.operations.lookup(other_upper, "d", world.caller))
    world.took(world.operations.lookup(again, "f", world.caller))


def test_a_workspace_that_is_replaced_is_the_one_that_is_written_to(world):
    world.write_file(world.job(1), "before")
    os.rename(world.workspace, f"{world.workspace}.old")
    os.mkdir(world.workspace)
    world.add(1)
    world.write_file(world.job(1), "after")
    assert os.listdir(world.below(1)) == ["after"]
    assert os.listdir(os.path.join(f"{world.workspace}.old", world.job_id(1))) == ["before"]


def test_a_virtual_directory_has_the_access_control_list_of_the_workspace(world):
    acl = bytes.fromhex("02000000 01000700ffffffff 02000700a10f0000 04000000ffffffff 10000700ffffffff 20000000ffffffff")
    if errno_of(os.setxattr, world.workspace, "system.posix_acl_access", acl) == errno.EOPNOTSUPP:
        pytest.skip("the disk has no access control lists")
    wait_until(lambda: errno_of(world.operations.getxattr, ROOT, "system.posix_acl_access") is None)
    assert world.operations.getxattr(ROOT, "system.posix_acl_access") == acl
    assert stat.S_IMODE(world.operations.getattr(ROOT).stat.st_mode) == 0o770


def test_a_pattern_that_takes_too_long_is_answered_in_time_and_leaves_the_rest_alone(world, caplog):
    world.operations.apply([world.add(3, name="a" * 50 + "b"), world.add(4, name="c")])
    assert errno_of(world.find, "name@regex/(a|aa)+$") == errno.ETIMEDOUT
    assert "make it simpler" in caplog.text
    assert world.find("name@regex/^c") is not None
