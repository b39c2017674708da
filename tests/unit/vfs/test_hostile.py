"""Others change the disk below at the worst moment; nothing outside is touched and nothing wrong is served (I10)."""

import errno
import os
import shutil

import pytest

from sigfs.vfs.types import SetAttr


@pytest.fixture
def outside(tmp_path):
    """A directory and a file that no path of a job leads to."""
    directory = tmp_path / "outside"
    directory.mkdir(mode=0o755)
    (directory / "file").write_text("secret")
    (directory / "dir").mkdir()
    before = sorted(os.listdir(directory))
    yield str(directory)
    assert sorted(os.listdir(directory)) == before
    assert (directory / "file").read_text() == "secret"


def rewritten(path):
    with open(path, "w") as file:
        file.write("impostor")


def test_a_directory_swapped_for_a_symbolic_link_is_not_followed(world, outside, failure):
    ops, caller = world.operations, world.caller
    directory = world.took(ops.mkdir(world.job(1), "dir", 0o777, caller))
    file = world.write_file(directory, "file", b"ours")
    shutil.rmtree(world.below(1, "dir"))
    os.symlink(outside, world.below(1, "dir"))
    ops._backing.close()
    for call, *arguments in (
        (ops.getattr, directory),
        (ops.lookup, directory, "file", caller),
        (ops.getattr, file),
        (ops.open, file, os.O_RDWR | os.O_TRUNC, caller),
        (ops.setattr, file, SetAttr(size=0, mode=0o777), None, caller),
        (ops.setxattr, file, "user.x", b"", 0),
        (ops.create, directory, "new", 0o644, os.O_RDWR, caller),
        (ops.mkdir, directory, "new", 0o777, caller),
        (ops.unlink, directory, "file"),
        (ops.rmdir, directory, "dir"),
        (ops.rename, directory, "file", world.job(2), "stolen"),
        (ops.opendir, directory),
    ):
        assert failure(call, *arguments) == errno.ESTALE, call
    assert ops.readlink(world.at("foo/1/dir")) == outside


def test_a_file_swapped_for_a_symbolic_link_is_not_followed(world, outside, failure):
    ops = world.operations
    file = world.write_file(world.job(1), "file", b"ours")
    os.unlink(world.below(1, "file"))
    os.symlink(os.path.join(outside, "file"), world.below(1, "file"))
    assert failure(ops.open, file, os.O_RDWR | os.O_TRUNC, world.caller) == errno.ESTALE
    assert failure(ops.setattr, file, SetAttr(size=0), None, world.caller) == errno.ESTALE
    assert failure(ops.getattr, file) == errno.ESTALE
    assert world.at("foo/1/file") != file


def test_a_file_replaced_by_others_is_not_served_as_the_old_one(world, failure):
    file = world.write_file(world.job(1), "file", b"ours")
    rewritten(world.below(1, "new"))
    os.rename(world.below(1, "new"), world.below(1, "file"))
    assert failure(world.operations.open, file, os.O_RDWR | os.O_TRUNC, world.caller) == errno.ESTALE
    assert failure(world.operations.setattr, file, SetAttr(size=0), None, world.caller) == errno.ESTALE
    new = world.at("foo/1/file")
    assert new != file
    assert world.read_file(new) == b"impostor"


def test_a_directory_replaced_by_others_is_not_served_as_the_old_one(world, failure):
    directory = world.took(world.operations.mkdir(world.job(1), "dir", 0o777, world.caller))
    os.mkdir(world.below(1, "new"))
    os.rename(world.below(1, "new"), world.below(1, "dir"))
    assert failure(world.operations.getattr, directory) in (errno.ESTALE, errno.ENOENT)
    assert world.at("foo/1/dir") != directory


def test_a_directory_removed_by_others_is_gone(world, failure):
    directory = world.took(world.operations.mkdir(world.job(1), "dir", 0o777, world.caller))
    assert world.names(directory) == []
    os.rmdir(world.below(1, "dir"))
    assert failure(world.operations.getattr, directory) == errno.ENOENT
    assert failure(world.operations.mkdir, directory, "x", 0o777, world.caller) == errno.ENOENT
    assert world.operations.lookup(directory, "x", world.caller) is None


def test_an_open_file_replaced_by_others_stays_what_it_was(world):
    file = world.write_file(world.job(1), "file", b"ours")
    handle = world.operations.open(file, os.O_RDONLY, world.caller)
    rewritten(world.below(1, "new"))
    os.rename(world.below(1, "new"), world.below(1, "file"))
    assert world.operations.getattr(file).stat.st_size == 4
    assert world.read_file(file) == b"ours"
    assert world.at("foo/1/file") != file
    world.operations.release(handle)


def test_a_file_renamed_by_others_is_found_again_by_name(world):
    world.write_file(world.job(1), "file", b"ours")
    os.rename(world.below(1, "file"), world.below(1, "elsewhere"))
    assert world.find("foo/1/file") is None
    assert world.read_file(world.at("foo/1/elsewhere")) == b"ours"


def pretend_reuse(world, inode, path):
    """Make the table believe that the file at *path* has the number of the file that *inode* stood for."""
    table, below = world.operations._inodes, os.stat(path)
    node = table.get(inode)
    del table._files[node.dev, node.ino]
    node.dev, node.ino = below.st_dev, below.st_ino
    table._files[node.dev, node.ino] = node


def test_a_number_that_the_disk_gave_to_another_file_makes_a_new_node(world, failure):
    old = world.write_file(world.job(1), "old", b"ours")
    os.unlink(world.below(1, "old"))
    rewritten(world.below(2, "new"))
    pretend_reuse(world, old, world.below(2, "new"))
    new = world.at("foo/2/new")
    assert new != old
    assert failure(world.operations.getattr, old) == errno.ESTALE
    assert world.read_file(new) == b"impostor"


def test_a_number_that_the_disk_gave_to_another_kind_makes_a_new_node(world, failure):
    old = world.write_file(world.job(1), "name", b"ours")
    os.unlink(world.below(1, "name"))
    os.mkfifo(world.below(1, "name"))
    below = os.lstat(world.below(1, "name"))
    pretend_reuse(world, old, world.below(1, "name"))
    assert failure(world.operations.open, old, os.O_RDONLY, world.caller) == errno.ESTALE
    assert (world.find("foo/1/name").stat.st_ino, world.at("foo/1/name") == old) == (below.st_ino, False)


def test_a_file_created_under_the_name_and_with_the_number_of_a_removed_one_is_new(world, monkeypatch):
    old = world.write_file(world.job(1), "file", b"ours")
    os.unlink(world.below(1, "file"))
    real = world.operations._disk.file_node

    def with_the_old_number(parent, name, found, *, made_after):
        pretend_reuse(world, old, world.below(1, "file"))
        return real(parent, name, found, made_after=made_after)

    monkeypatch.setattr(world.operations._disk, "file_node", with_the_old_number)
    assert world.write_file(world.job(1), "file", b"new") != old


def test_a_file_that_another_thread_found_before_its_creation_was_booked_is_one_file(world, monkeypatch):
    real, twin_job, found_by_other = world.operations._disk.file_node, world.at(f".jobs/{world.job_id(1)}"), []

    def overtaken(parent, name, found, *, made_after):
        attrs = real(twin_job, name, found)
        world.references[attrs.inode] += 1
        found_by_other.append(attrs.inode)
        return real(parent, name, found, made_after=made_after)

    monkeypatch.setattr(world.operations._disk, "file_node", overtaken)
    assert [world.write_file(world.job(1), "file", b"new")] == found_by_other


def test_a_fifo_in_the_place_of_a_file_does_not_hang_anybody(world, failure):
    file = world.write_file(world.job(1), "file")
    os.unlink(world.below(1, "file"))
    os.mkfifo(world.below(1, "file"))
    assert failure(world.operations.open, file, os.O_RDONLY, world.caller) == errno.ESTALE
    assert failure(world.operations.create, world.job(1), "file", 0o644, os.O_WRONLY, world.caller) == errno.ENXIO


def test_directories_moved_about_by_others_never_make_a_circle(world):
    ops, job = world.operations, world.job(1)
    outer = world.took(ops.mkdir(job, "outer", 0o777, world.caller))
    inner = world.took(ops.mkdir(outer, "inner", 0o777, world.caller))
    assert world.names(inner) == []
    os.rename(world.below(1, "outer", "inner"), world.below(1, "inner"))
    # By the books inner is still below outer; its descriptor is open, so it can be reached.
    assert ops.getattr(inner).stat.st_ino == os.stat(world.below(1, "inner")).st_ino
    ops.rename(job, "outer", inner, "outer")
    world.check()
    assert os.path.isdir(world.below(1, "inner", "outer"))
    assert world.find("foo/1/inner/outer") is not None
