"""In a job directory everything is as on the disk below; so it is between two jobs."""

import errno
import os
import socket
import stat

import pytest

from sigfs.vfs.backing import Descriptor
from sigfs.vfs.syscalls import RENAME_EXCHANGE, RENAME_NOREPLACE
from sigfs.vfs.types import Caller, SetAttr

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")


def write_below(path, text=""):
    with open(path, "w") as file:
        file.write(text)


def test_what_is_created_is_on_the_disk_with_the_callers_umask(world):
    inode = world.write_file(world.job(1), "file", b"text", mode=0o666)
    with open(world.below(1, "file"), "rb") as file:
        assert file.read() == b"text"
    assert stat.S_IMODE(os.stat(world.below(1, "file")).st_mode) == 0o644
    assert world.find("foo/1/file").inode == inode


def test_creating_what_is_there_opens_it_unless_that_is_ruled_out(world, failure):
    job = world.job(1)
    inode = world.write_file(job, "file", b"text")
    create = world.operations.create
    assert failure(create, job, "file", 0o644, os.O_RDWR | os.O_EXCL, world.caller) == errno.EEXIST
    attrs, handle = create(job, "file", 0o644, os.O_RDWR, world.caller)
    assert world.took(attrs) == inode
    assert world.operations.read(handle, 0, 9) == b"text"
    world.operations.release(handle)
    attrs, handle = create(job, "file", 0o644, os.O_RDWR | os.O_TRUNC, world.caller)
    assert (world.took(attrs), attrs.stat.st_size) == (inode, 0)
    world.operations.release(handle)


def test_creating_what_is_there_for_somebody_else_is_left_to_the_kernel_to_check(world, failure):
    job = world.job(1)
    world.write_file(job, "secret", mode=0o600)
    other = Caller(os.geteuid() + 1, 1, 1)
    assert failure(world.operations.create, job, "secret", 0o644, os.O_RDWR, other) == errno.ESTALE


def test_creating_where_a_symbolic_link_or_a_directory_is_never_opens_it(world, failure):
    job = world.job(1)
    os.symlink("elsewhere", world.below(1, "link"))
    os.mkdir(world.below(1, "dir"))
    assert failure(world.operations.create, job, "link", 0o644, os.O_RDWR, world.caller) == errno.ELOOP
    assert failure(world.operations.create, job, "dir", 0o644, os.O_RDWR, world.caller) == errno.EISDIR
    assert not os.path.exists(world.below(1, "elsewhere"))
    world.check()


def test_directories_are_made_listed_and_removed(world, failure):
    job = world.job(1)
    made = world.operations.mkdir(job, "dir", 0o777, world.caller)
    inode = world.took(made)
    assert stat.S_IMODE(made.stat.st_mode) == 0o755
    world.write_file(inode, "file")
    assert failure(world.operations.rmdir, job, "dir") == errno.ENOTEMPTY
    assert world.names(inode) == ["file"]
    world.operations.unlink(inode, "file")
    world.operations.rmdir(job, "dir")
    assert world.find("foo/1/dir") is None
    assert world.operations.getattr(inode).stat.st_nlink == 0


def test_a_directory_made_anew_under_its_old_name_is_another_one(world):
    job = world.job(1)
    first = world.took(world.operations.mkdir(job, "dir", 0o777, world.caller))
    world.operations.rmdir(job, "dir")
    second = world.took(world.operations.mkdir(job, "dir", 0o777, world.caller))
    assert first != second
    assert world.at("foo/1/dir") == second


def test_listing_gives_type_and_number_of_every_kind(world):
    os.mkdir(world.below(1, "dir"))
    write_below(world.below(1, "file"))
    os.symlink("x", world.below(1, "link"))
    os.mkfifo(world.below(1, "fifo"))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(world.below(1, "sock"))
    handle = world.operations.opendir(world.job(1))
    kinds = {entry.name: (entry.type, entry.ino) for entry in world.operations.readdir(handle, 0)}
    world.operations.fsyncdir(handle, True)
    world.operations.releasedir(handle)
    for name in os.listdir(world.below(1)):
        below = os.lstat(world.below(1, name))
        assert kinds.pop(name) == (stat.S_IFMT(below.st_mode), below.st_ino)
    assert kinds == {}


def test_names_that_are_no_text_pass_unchanged(world):
    name = os.fsdecode(b"\xff\xfe \n'")
    inode = world.write_file(world.job(1), name)
    assert world.names(world.job(1)) == [name]
    assert os.listdir(os.fsencode(world.below(1))) == [b"\xff\xfe \n'"]
    assert world.at(f"foo/1/{name}") == inode


def test_a_symbolic_link_keeps_its_text(world, failure):
    made = world.operations.symlink(world.job(1), "link", "../../x y", world.caller)
    inode = world.took(made)
    assert world.operations.readlink(inode) == os.readlink(world.below(1, "link")) == "../../x y"
    assert failure(world.operations.open, inode, os.O_RDONLY, world.caller) == errno.ELOOP
    assert failure(world.operations.readlink, world.write_file(world.job(1), "file")) == errno.EINVAL


def test_a_fifo_is_made_but_never_opened_here(world, failure):
    inode = world.took(world.operations.mknod(world.job(1), "fifo", stat.S_IFIFO | 0o666, 0, world.caller))
    assert os.lstat(world.below(1, "fifo")).st_mode == stat.S_IFIFO | 0o644
    assert failure(world.operations.open, inode, os.O_RDONLY, world.caller) == errno.ENXIO


def test_a_directory_cannot_be_opened_as_a_file_nor_a_file_as_a_directory(world, failure):
    file = world.write_file(world.job(1), "file")
    assert failure(world.operations.open, world.job(1), os.O_RDONLY, world.caller) == errno.EISDIR
    assert failure(world.operations.opendir, file) == errno.ENOTDIR
    assert failure(world.operations.lookup, file, "x", world.caller) == errno.ENOTDIR
    assert failure(world.operations.mkdir, file, "x", 0o777, world.caller) == errno.ENOTDIR
    assert failure(world.operations.unlink, world.at("foo/1"), "none") == errno.ENOENT


def test_hard_links_share_one_inode_also_between_jobs(world, failure):
    file = world.write_file(world.job(1), "file", b"text")
    made = world.operations.link(file, world.job(2), "twin")
    assert (world.took(made), made.stat.st_nlink) == (file, 2)
    world.operations.unlink(world.job(1), "file")
    assert world.at("foo/2/twin") == file
    assert world.read_file(file) == b"text"
    assert failure(world.operations.link, world.job(1), world.job(2), "dir") == errno.EPERM


def test_hard_links_made_by_others_share_one_inode(world):
    file = world.write_file(world.job(1), "file")
    os.link(world.below(1, "file"), world.below(2, "twin"))
    assert world.at("foo/2/twin") == file


def test_a_symbolic_link_can_be_hard_linked_itself(world):
    link = world.took(world.operations.symlink(world.job(1), "link", "nowhere", world.caller))
    world.took(world.operations.link(link, world.job(1), "twin"))
    assert os.readlink(world.below(1, "twin")) == "nowhere"


def test_a_file_renamed_to_another_job_keeps_its_inode(world):
    file = world.write_file(world.job(1), "file", b"text")
    world.operations.rename(world.job(1), "file", world.job(2), "moved")
    assert world.find("foo/1/file") is None
    assert world.at("foo/2/moved") == file
    assert world.read_file(file) == b"text"


def test_a_directory_renamed_to_another_job_keeps_its_inode_and_what_is_below_works_on(world):
    directory = world.took(world.operations.mkdir(world.job(1), "dir", 0o777, world.caller))
    deeper = world.took(world.operations.mkdir(directory, "deeper", 0o777, world.caller))
    file = world.write_file(deeper, "file", b"text")
    world.operations._backing.close()  # so that everything must be found anew
    world.operations.rename(world.job(1), "dir", world.job(2), "moved")
    assert world.read_file(file) == b"text"
    assert world.names(deeper) == ["file"]
    assert (world.at("foo/2/moved"), world.at("foo/2/moved/deeper")) == (directory, deeper)
    assert world.find("foo/1/dir") is None


def test_a_replaced_file_stays_usable_for_those_that_have_it(world):
    old = world.write_file(world.job(1), "target", b"old")
    new = world.write_file(world.job(1), "source", b"new")
    world.operations.rename(world.job(1), "source", world.job(1), "target")
    assert world.at("foo/1/target") == new
    assert world.operations.getattr(old).stat.st_nlink == 0
    assert (world.read_file(old), world.read_file(new)) == (b"old", b"new")


def test_a_replaced_directory_is_found_no_more(world):
    job = world.job(1)
    old = world.took(world.operations.mkdir(job, "target", 0o777, world.caller))
    new = world.took(world.operations.mkdir(job, "source", 0o777, world.caller))
    world.operations.rename(job, "source", job, "target")
    assert world.at("foo/1/target") == new
    assert world.operations.getattr(old).stat.st_nlink == 0


def test_renaming_one_name_of_a_file_to_another_of_it_leaves_both(world):
    job = world.job(1)
    file = world.write_file(job, "a", b"text")
    world.took(world.operations.link(file, job, "b"))
    world.operations.rename(job, "a", job, "b")
    assert sorted(world.names(job)) == ["a", "b"]
    assert world.at("foo/1/a") == world.at("foo/1/b") == file


def test_renaming_a_directory_to_itself_by_another_view_path_changes_nothing(world):
    directory = world.took(world.operations.mkdir(world.job(1), "dir", 0o777, world.caller))
    twin_job = world.at(f".jobs/{world.job_id(1)}")
    world.operations.rename(world.job(1), "dir", twin_job, "dir")
    assert world.at("foo/1/dir") == directory


def test_rename_without_replacing_and_exchange_do_what_they_say(world, failure):
    one, two = world.job(1), world.job(2)
    file = world.write_file(one, "file", b"text")
    directory = world.took(world.operations.mkdir(two, "dir", 0o777, world.caller))
    inner = world.write_file(directory, "inner", b"inner")
    rename = world.operations.rename
    assert failure(rename, one, "file", two, "dir", RENAME_NOREPLACE) == errno.EEXIST
    assert failure(rename, one, "file", two, "dir", 1 << 7) == errno.EINVAL
    assert failure(rename, one, "file", two, "none", RENAME_EXCHANGE) == errno.ENOENT
    world.operations.rename(one, "file", two, "dir", RENAME_EXCHANGE)
    world.operations._backing.close()
    assert (world.at("foo/1/file"), world.at("foo/2/dir")) == (directory, file)
    assert (world.read_file(file), world.read_file(inner)) == (b"text", b"inner")
    world.check()


def test_two_directories_can_be_exchanged(world):
    one = world.took(world.operations.mkdir(world.job(1), "dir", 0o777, world.caller))
    two = world.took(world.operations.mkdir(world.job(2), "dir", 0o777, world.caller))
    inner = world.write_file(one, "inner", b"inner")
    world.operations.rename(world.job(1), "dir", world.job(2), "dir", RENAME_EXCHANGE)
    world.operations._backing.close()
    assert (world.at("foo/1/dir"), world.at("foo/2/dir")) == (two, one)
    assert world.read_file(inner) == b"inner"


def test_attributes_are_changed_in_the_order_that_keeps_them(world):
    file = world.write_file(world.job(1), "file", b"text")
    changes = SetAttr(mode=0o4711, uid=os.geteuid(), size=2, atime_ns=-1, mtime_ns=1_000_000_001)
    found = world.operations.setattr(file, changes, None, world.caller).stat
    assert (stat.S_IMODE(found.st_mode), found.st_size) == (0o4711, 2)
    below = os.stat(world.below(1, "file"))
    assert (below.st_atime_ns, below.st_mtime_ns) == (-1, 1_000_000_001)


def test_one_time_alone_can_be_set_and_the_time_can_be_now(world):
    file = world.write_file(world.job(1), "file")
    os.utime(world.below(1, "file"), ns=(5, 6))
    world.operations.setattr(file, SetAttr(mtime_ns=7), None, world.caller)
    assert os.stat(world.below(1, "file")).st_atime_ns == 5
    found = world.operations.setattr(file, SetAttr(atime_ns="now"), None, world.caller).stat
    assert found.st_atime_ns > 10**18
    assert found.st_mtime_ns == 7


def test_the_attributes_of_a_directory_and_of_a_link_itself_can_be_changed(world):
    job = world.job(1)
    assert world.operations.setattr(job, SetAttr(mode=0o700), None, world.caller).stat.st_mode == stat.S_IFDIR | 0o700
    link = world.took(world.operations.symlink(job, "link", "nowhere", world.caller))
    world.operations.setattr(link, SetAttr(mtime_ns=5), None, world.caller)
    assert os.lstat(world.below(1, "link")).st_mtime_ns == 5


@needs_root
def test_truncating_takes_set_id_bits_away_unless_root_does_it(world, failure):
    file, other = world.write_file(world.job(1), "file", b"text"), Caller(65534, 65533, 1)
    os.chmod(world.below(1, "file"), 0o6755)
    assert stat.S_IMODE(world.operations.setattr(file, SetAttr(size=0), None, world.caller).stat.st_mode) == 0o6755
    assert stat.S_IMODE(world.operations.setattr(file, SetAttr(size=0), None, other).stat.st_mode) == 0o755
    os.chmod(world.below(1, "file"), 0o6755)
    assert failure(world.operations.open, file, os.O_WRONLY | os.O_TRUNC, other) == errno.ESTALE
    world.operations.getattr(file)
    world.operations.release(world.operations.open(file, os.O_WRONLY | os.O_TRUNC, other))
    assert stat.S_IMODE(world.operations.getattr(file).stat.st_mode) == 0o755


def test_extended_attributes_pass_through(world, failure):
    job = world.job(1)
    for inode in (job, world.write_file(job, "file")):
        world.operations.setxattr(inode, "user.key", b"\x00value", 0)
        assert world.operations.getxattr(inode, "user.key") == b"\x00value"
        assert "user.key" in world.operations.listxattr(inode)
        assert failure(world.operations.setxattr, inode, "user.key", b"", os.XATTR_CREATE) == errno.EEXIST
        world.operations.removexattr(inode, "user.key")
        assert failure(world.operations.getxattr, inode, "user.key") == errno.ENODATA
    assert world.operations.statfs(job).f_blocks > 0


def test_extended_attributes_are_those_of_the_file_that_is_meant(world, failure):
    job = world.job(1)
    inode = world.write_file(job, "file")
    try:
        os.setxattr(world.below(1, "file"), "user.key", b"its own")
    except OSError:
        pytest.skip("this disk has no user attributes")
    assert world.operations.getxattr(inode, "user.key") == b"its own"
    os.rename(world.below(1, "file"), world.below(1, "away"))
    for value in (b"another's", None):
        write_below(world.below(1, "file"))
        if value is not None:
            os.setxattr(world.below(1, "file"), "user.key", value)
        assert failure(world.operations.getxattr, inode, "user.key") == errno.ESTALE
        os.unlink(world.below(1, "file"))
    assert failure(world.operations.getxattr, inode, "user.key") == errno.ESTALE


def test_a_default_acl_takes_the_place_of_the_umask(world):
    # version 2; user::rwx, group::rwx, mask::rwx, other::r-x, as struct posix_acl_xattr_entry
    acl = b"\x02\0\0\0" + b"".join(
        tag.to_bytes(2, "little") + perm.to_bytes(2, "little") + b"\xff" * 4 for tag, perm in ((1, 7), (4, 7), (32, 5))
    )
    try:
        os.setxattr(world.below(1), "system.posix_acl_default", acl)
    except OSError as error:
        pytest.skip(f"no ACLs on the disk below: {error}")
    world.write_file(world.job(1), "file", mode=0o666)
    assert stat.S_IMODE(os.stat(world.below(1, "file")).st_mode) == 0o664


@needs_root
def test_what_root_makes_for_somebody_else_is_theirs(world):
    job, other = world.job(1), Caller(65534, 65533, 1, umask=0)
    attrs, handle = world.operations.create(job, "file", 0o4755, os.O_RDWR, other)
    world.operations.release(handle)
    made = [
        attrs,
        world.operations.mkdir(job, "dir", 0o755, other),
        world.operations.mknod(job, "fifo", stat.S_IFIFO | 0o644, 0, other),
        world.operations.symlink(job, "link", "/etc/passwd", other),
    ]
    for each in made:
        world.took(each)
        assert (each.stat.st_uid, each.stat.st_gid) == (65534, 65533)
    assert stat.S_IMODE(os.stat(world.below(1, "file")).st_mode) == 0o4755
    assert os.stat("/etc/passwd").st_uid == 0


@needs_root
def test_a_set_group_id_directory_hands_its_group_on(world):
    os.chown(world.below(1), 65534, 65532)
    os.chmod(world.below(1), 0o2775)
    attrs = world.operations.mkdir(world.job(1), "dir", 0o755, Caller(65534, 65533, 1))
    world.took(attrs)
    assert (attrs.stat.st_uid, attrs.stat.st_gid) == (65534, 65532)
    assert attrs.stat.st_mode & stat.S_ISGID


@needs_root
def test_root_gives_nothing_away_that_was_put_in_the_place_of_what_it_made(world, monkeypatch):
    job, mkdir = world.job(1), os.mkdir
    mkdir(world.below(1, "precious"))

    def mkdir_and_be_robbed(name, mode, *, dir_fd):
        mkdir(name, mode, dir_fd=dir_fd)
        os.rmdir(world.below(1, name))
        os.rename(world.below(1, "precious"), world.below(1, name))

    monkeypatch.setattr(os, "mkdir", mkdir_and_be_robbed)
    world.took(world.operations.mkdir(job, "dir", 0o755, Caller(65534, 65533, 1)))
    assert os.stat(world.below(1, "dir")).st_uid == 0


def test_a_read_only_mount_reads_everything_and_changes_nothing(make_world, failure):
    world = make_world(read_only=True)
    ops, caller, job = world.operations, world.caller, world.job(1)
    write_below(world.below(1, "file"), "text")
    file = world.at("foo/1/file")
    assert world.read_file(file) == b"text"
    for call, *arguments in (
        (ops.mkdir, job, "x", 0o777, caller),
        (ops.mknod, job, "x", stat.S_IFREG, 0, caller),
        (ops.symlink, job, "x", "y", caller),
        (ops.link, file, job, "x"),
        (ops.unlink, job, "file"),
        (ops.rmdir, job, "file"),
        (ops.rename, job, "file", job, "x"),
        (ops.create, job, "x", 0o644, os.O_RDWR, caller),
        (ops.open, file, os.O_RDWR, caller),
        (ops.open, file, os.O_RDONLY | os.O_TRUNC, caller),
        (ops.setattr, file, SetAttr(mode=0), None, caller),
        (ops.setxattr, file, "user.x", b"", 0),
        (ops.removexattr, file, "user.x"),
        (ops.mkdir, world.at("foo"), "x", 0o777, caller),
    ):
        assert failure(call, *arguments) == errno.EROFS, call
    assert os.listdir(world.below(1)) == ["file"]


def test_the_workspace_may_be_replaced_while_it_is_asked_about_a_job(world, failure, monkeypatch):
    inode, above = world.job(1), world.at("foo")
    world.names(inode)  # so that its number is not given again
    world.remove(1)
    world.add(1)

    def only_ours():
        return Descriptor(os.open(world.workspace, os.O_PATH))

    monkeypatch.setattr(world.operations._backing, "workspace", only_ours)
    assert failure(world.operations.getattr, inode) == errno.ESTALE
    assert failure(world.operations.mkdir, above, "1", 0o777, world.caller) == errno.EEXIST
