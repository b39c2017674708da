"""Virtual directories: what they show, what they refuse, and what the kernel is told when jobs change."""

import errno
import os
import stat

import pytest

from sigfs.vfs.syscalls import RENAME_EXCHANGE
from sigfs.vfs.types import ROOT, SetAttr
from tests.support.wait import wait_until


def test_a_path_of_keys_and_values_leads_to_the_job_directory(world):
    attrs = world.find("foo/1")
    below = os.stat(world.below(1))
    assert (attrs.stat.st_ino, attrs.stat.st_dev) == (below.st_ino, below.st_dev)


def test_a_name_that_means_nothing_is_none_and_takes_no_reference(world):
    assert world.find("foo/3") is None
    assert world.find("nonsense") is None
    world.check()


def test_virtual_directories_have_the_owner_and_the_permissions_of_the_workspace(world):
    os.chmod(world.workspace, 0o750)
    wait_until(lambda: world.operations.getattr(ROOT).stat.st_mode == stat.S_IFDIR | 0o750)
    shown = world.operations.getattr(ROOT).stat
    below = os.stat(world.workspace)
    assert (shown.st_uid, shown.st_gid) == (below.st_uid, below.st_gid)


def test_every_field_of_a_virtual_directory_s_attributes_is_there(world):
    shown = world.operations.getattr(ROOT).stat
    assert (shown.st_nlink, shown.st_size, shown.st_blocks, shown.st_rdev) == (1, 0, 0, 0)
    assert shown.st_blksize > 0
    assert shown.st_mtime == shown.st_mtime_ns / 10**9 > 0
    assert shown.st_atime_ns == shown.st_ctime_ns == shown.st_mtime_ns


def test_the_number_shown_of_a_virtual_directory_survives_that_it_is_forgotten(world):
    first = world.find("foo")
    world.forget_all()
    second = world.find("foo")
    assert first.stat.st_ino == second.stat.st_ino >= 1 << 63
    assert first.inode != second.inode
    assert first.stat.st_ino != world.operations.getattr(ROOT).stat.st_ino


def test_listing_a_virtual_directory_names_directories_with_positions(world):
    handle = world.operations.opendir(world.at("foo"))
    entries = list(world.operations.readdir(handle, 0))
    assert [(e.name, e.cookie, e.type) for e in entries] == [("1", 1, stat.S_IFDIR), ("2", 2, stat.S_IFDIR)]
    assert list(world.operations.readdir(handle, 1)) == entries[1:]
    world.operations.releasedir(handle)


def test_an_open_listing_neither_skips_nor_repeats_when_jobs_change(world):
    handle = world.operations.opendir(world.at("foo"))
    first = next(world.operations.readdir(handle, 0))
    world.operations.apply([world.remove(1), world.add(0), world.add(3)])
    assert [e.name for e in world.operations.readdir(handle, first.cookie)] == ["2"]
    assert [e.name for e in world.operations.readdir(handle, 0)] == ["0", "2", "3"]
    world.operations.releasedir(handle)


def test_a_listing_is_taken_at_once_and_made_as_it_is_read(world):
    world.operations.apply([world.add(n) for n in range(3, 60)])
    foo = world.at("foo")
    names = world.operations._tree.names
    made = []

    def names_made_one_by_one(*args):
        return (made.append(name) or name for name in names(*args))

    handle = world.operations.opendir(foo)
    world.operations._tree.names = names_made_one_by_one
    entries = world.operations.readdir(handle, 0)
    first = [next(entries), next(entries)]
    assert made == ["1", "2"]
    world.operations.apply([world.remove(1), world.remove(30)])
    rest = list(world.operations.readdir(handle, first[-1].cookie))
    assert [e.name for e in (*first, *rest)] == [str(n) for n in range(1, 60)]
    assert list(world.operations.readdir(handle, 57)) == rest[-2:]
    world.operations.releasedir(handle)


def test_documents_are_brought_where_a_name_or_a_directory_depends_on_them(world):
    asked = []
    world.operations.attach_documents(lambda: asked.append(1))
    world.find("foo/1")
    world.names(world.at("foo"))
    assert asked == []
    missing = world.at("doc.x@exists/false")
    assert len(asked) == 2
    world.names(missing)
    assert len(asked) == 3
    world.operations.getxattr(missing, "user.sigfs.count")
    assert len(asked) == 4


def test_one_job_at_two_paths_is_two_directories_but_its_file_is_one(world):
    file = world.write_file(world.job(1), "data")
    twin = world.at(f".jobs/{world.job_id(1)}")
    assert twin != world.job(1)
    assert world.at(f".jobs/{world.job_id(1)}/data") == file


def test_a_change_of_a_virtual_directory_that_says_nothing_of_jobs_is_refused(world, failure):
    ops, caller, virtual, job = world.operations, world.caller, world.at("foo"), world.job(1)
    file = world.write_file(job, "file")
    assert failure(ops.mknod, virtual, "9", stat.S_IFREG | 0o644, 0, caller) == errno.EPERM
    assert failure(ops.create, virtual, "9", 0o644, os.O_RDWR, caller) == errno.EPERM
    assert failure(ops.symlink, virtual, "9", "target", caller) == errno.EPERM
    assert failure(ops.link, file, virtual, "9") == errno.EPERM
    assert failure(ops.unlink, virtual, "1") == errno.EPERM
    assert failure(ops.rename, ROOT, "foo", ROOT, "bar") == errno.EPERM
    assert failure(ops.rename, virtual, "1", virtual, "2", RENAME_EXCHANGE) == errno.EPERM
    assert failure(ops.rename, virtual, "1", job, "in") == errno.EPERM
    assert failure(ops.rename, job, "file", virtual, "out") == errno.EPERM
    assert failure(ops.rename, job, "file", virtual, "1", RENAME_EXCHANGE) == errno.EPERM
    assert failure(ops.setattr, virtual, SetAttr(mode=0o777), None, caller) == errno.EPERM
    assert failure(ops.setxattr, virtual, "user.x", b"", 0) == errno.EPERM
    assert failure(ops.removexattr, virtual, "user.x") == errno.EPERM
    assert os.listdir(world.below(1)) == ["file"]


def test_virtual_directories_have_no_extended_attributes(world, failure):
    assert world.operations.listxattr(ROOT) == []
    assert failure(world.operations.getxattr, ROOT, "user.x") == errno.ENODATA
    assert failure(world.operations.getxattr, ROOT, "security.selinux") == errno.EOPNOTSUPP


def test_a_virtual_directory_cannot_be_opened_as_a_file(world, failure):
    assert failure(world.operations.open, ROOT, os.O_RDONLY, world.caller) == errno.EISDIR
    assert failure(world.operations.readlink, ROOT) == errno.EINVAL


def test_statfs_describes_the_disk_of_the_workspace(world):
    assert world.operations.statfs(ROOT).f_blocks == os.statvfs(world.workspace).f_blocks


def test_a_project_without_a_workspace_directory_is_an_empty_tree(world):
    world.operations.apply([world.remove(1), world.remove(2)])
    os.rmdir(world.workspace)
    assert world.names(ROOT) == []
    assert stat.S_ISDIR(world.operations.getattr(ROOT).stat.st_mode)
    assert world.operations.statfs(ROOT).f_blocks > 0


def test_a_workspace_directory_that_is_removed_and_made_again_is_found(world):
    old = world.job(1)
    changes = [world.remove(1), world.remove(2)]
    world.operations.apply(changes)
    os.rmdir(world.workspace)
    os.mkdir(world.workspace)
    world.operations.apply([world.add(1), world.add(2)])
    assert world.job(1) != old


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\0b"])
def test_what_is_no_name_is_refused(world, failure, name):
    for parent in (ROOT, world.job(1)):
        assert failure(world.operations.lookup, parent, name, world.caller) == errno.EINVAL
    assert failure(world.operations.mkdir, world.job(1), name, 0o777, world.caller) == errno.EINVAL


def test_a_job_whose_directory_is_gone_is_not_found(world, failure):
    inode = world.job(1)
    change = world.remove(1)
    assert world.find("foo/1") is None
    assert failure(world.operations.getattr, inode) == errno.ENOENT
    world.operations.apply([change])
    assert world.find("foo/1") is None


def test_a_job_id_that_is_a_symbolic_link_or_a_file_is_not_found(world):
    world.remove(1)
    os.symlink("/etc", world.below(1))
    world.remove(2)
    os.close(os.open(world.below(2), os.O_CREAT))
    assert world.find("foo/1") is None
    assert world.find("foo/2") is None


def test_the_kernel_is_told_what_a_new_job_changes(world):
    foo, job = world.at("foo"), world.job(1)
    world.operations.apply([world.add(3)])
    assert set(world.notifier.inodes) == {ROOT, foo}
    assert world.notifier.entries == []
    assert world.job(1) == job


def test_the_kernel_is_told_that_a_job_is_gone(world):
    foo, job = world.at("foo"), world.job(1)
    world.operations.apply([world.add(3), world.remove(1)])
    assert (foo, "1") in world.notifier.entries
    assert (foo, "2") not in world.notifier.entries
    assert job in world.notifier.inodes


def test_a_leaf_that_becomes_a_virtual_directory_gets_a_new_inode_and_the_old_one_stays_valid(world):
    foo, leaf = world.at("foo"), world.job(1)
    change = world.add(3)
    twin = type(change.record)(change.id, {"foo": 1, "bar": 1})
    world.operations.apply([type(change)(change.id, twin)])
    assert (foo, "1") in world.notifier.entries
    now = world.job(1)
    assert now != leaf
    assert world.operations.getattr(now).stat.st_ino >= 1 << 63
    assert world.operations.getattr(leaf).stat.st_ino == os.stat(world.below(1)).st_ino


def test_a_virtual_directory_whose_jobs_are_gone_is_empty_for_those_that_are_in_it(world):
    foo = world.at("foo")
    world.operations.apply([world.remove(1), world.remove(2)])
    assert world.find("foo") is None
    assert world.names(foo) == []
    assert world.operations.lookup(foo, "1", world.caller) is None
    assert stat.S_ISDIR(world.operations.getattr(foo).stat.st_mode)


def test_a_change_that_changes_nothing_is_not_told(world):
    change = world.add(3)
    world.operations.apply([change])
    world.notifier.inodes.clear()
    world.operations.apply([change])
    assert world.notifier.inodes == []


def test_the_time_of_virtual_directories_moves_with_the_index(world):
    before = world.operations.getattr(ROOT).stat.st_mtime_ns
    world.operations.apply([world.add(3)])
    assert world.operations.getattr(ROOT).stat.st_mtime_ns > before


def test_what_the_kernel_has_forgotten_is_not_told(world):
    world.job(1)
    world.forget_all()
    world.operations.apply([world.remove(1)])
    assert world.notifier.entries == []
    assert world.notifier.inodes == [ROOT]


def test_tree_nodes_are_cached_only_if_the_kernel_can_be_told(make_world):
    world = make_world(entry_timeout_s=5.0, attr_timeout_s=7.0)
    file = world.write_file(world.job(1), "f")
    assert world.find("foo").entry_timeout_s >= 3600
    assert world.find("foo").attr_timeout_s == 7.0
    assert world.find("doc.x@exists/false")[2:] == (5.0, 7.0)  # nobody says when a document changes
    assert world.find("foo/1")[2:] == (5.0, 7.0)
    world.operations.attach(world.notifier, can_notify=False)
    assert world.find("foo")[2:] == (0.0, 0.0)
    assert world.find("foo/1")[2:] == (0.0, 7.0)
    assert world.find("foo/1/f")[2:] == (5.0, 7.0)
    assert world.operations.getattr(file)[2:] == (5.0, 7.0)


def test_an_answer_that_a_change_overtakes_is_not_to_be_kept(world):
    tree_directory = world.operations._inodes.tree_directory

    def tree_directory_after_a_change(*args, **options):
        world.operations.apply([world.add(3)])
        return tree_directory(*args, **options)

    world.operations._inodes.tree_directory = tree_directory_after_a_change
    assert world.find("foo")[2:] == (0.0, 0.0)
