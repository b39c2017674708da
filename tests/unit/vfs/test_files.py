"""Open files: data, holes, set-id bits, and life after unlink."""

import errno
import os
import stat
import threading

import pytest

from sigfs.vfs.types import FileHandle, FsError, SetAttr


@pytest.fixture
def file(world):
    return world.write_file(world.job(1), "file", b"0123456789")


@pytest.fixture
def opened(world, file):
    handle = world.operations.open(file, os.O_RDWR, world.caller)
    yield handle
    world.operations.release(handle)


def test_data_is_read_and_written_in_place(world, opened):
    assert world.operations.read(opened, 3, 4) == b"3456"
    assert world.operations.read(opened, 8, 100) == b"89"
    assert world.operations.read(opened, 100, 10) == b""
    assert world.operations.write(opened, 2, memoryview(b"ab")) == 2
    assert world.operations.read(opened, 0, 5) == b"01ab4"


def test_a_read_that_may_not_block_gives_the_same_data_or_nothing(world, opened):
    for offset, size in ((0, 10), (3, 4), (8, 100), (100, 10)):
        expected = world.operations.read(opened, offset, size)
        assert world.operations.read_nowait(opened, offset, size) in (expected, None)


def test_a_write_to_a_file_opened_for_appending_goes_to_its_end(world, file):
    handle = world.operations.open(file, os.O_WRONLY | os.O_APPEND, world.caller)
    with open(world.below(1, "file"), "ab") as other:
        other.write(b"other")
    world.operations.write(handle, 0, b"ours")
    world.operations.release(handle)
    assert world.read_file(file) == b"0123456789otherours"


def test_opening_with_truncation_truncates(world, file):
    handle = world.operations.open(file, os.O_WRONLY | os.O_TRUNC | os.O_EXCL | os.O_NOCTTY, world.caller)
    world.operations.release(handle)
    assert world.operations.getattr(file).stat.st_size == 0


def test_reading_by_a_handle_for_writing_only_is_refused(world, file, failure):
    handle = world.operations.open(file, os.O_WRONLY, world.caller)
    assert failure(world.operations.read, handle, 0, 1) == errno.EBADF
    world.operations.release(handle)


def test_a_file_without_a_name_lives_until_it_is_closed_or_gets_one(world):
    directory, ops = world.job(1), world.operations
    attrs, handle = ops.tmpfile(directory, 0o666, os.O_RDWR, world.caller)
    inode = world.took(attrs)
    assert attrs.stat.st_nlink == 0
    ops.write(handle, 0, b"found")
    assert os.listdir(world.below(1, "")) == []
    assert world.took(ops.link(inode, directory, "name", world.caller)) == inode
    ops.release(handle)
    assert world.read_file(inode) == b"found"
    attrs, handle = ops.tmpfile(directory, 0o666, os.O_RDWR | os.O_EXCL, world.caller)
    with pytest.raises(FileNotFoundError):
        ops.link(world.took(attrs), directory, "other", world.caller)
    ops.release(handle)


def test_flush_and_fsync_succeed_on_any_open_file(world, opened):
    world.operations.flush(opened)
    world.operations.fsync(opened, False)
    world.operations.fsync(opened, True)
    assert world.operations.read(opened, 0, 1) == b"0"


def test_a_handle_that_is_not_open_is_refused_everywhere(world, failure):
    ops, none = world.operations, FileHandle(999)
    for call, *arguments in (
        (ops.read, 0, 1),
        (ops.read_nowait, 0, 1),
        (ops.write, 0, b""),
        (ops.flush,),
        (ops.release,),
        (ops.fsync, False),
        (ops.fallocate, 0, 0, 1),
        (ops.lseek, 0, 0),
        (ops.passthrough_fd,),
        (ops.inode_of,),
        (ops.readdir, 0),
        (ops.releasedir,),
        (ops.fsyncdir, False),
    ):
        assert failure(call, none, *arguments) == errno.EBADF, call


def test_holes_are_made_and_found(world, opened, failure):
    ops = world.operations
    ops.fallocate(opened, 0, 0, 1 << 20)
    assert ops.getattr(ops.inode_of(opened), opened).stat.st_size == 1 << 20
    ops.setattr(ops.inode_of(opened), SetAttr(size=0), opened, world.caller)
    ops.setattr(ops.inode_of(opened), SetAttr(size=1 << 20), opened, world.caller)
    ops.write(opened, 1 << 19, b"data")
    assert ops.lseek(opened, 0, os.SEEK_DATA) == 1 << 19
    assert ops.lseek(opened, 1 << 19, os.SEEK_HOLE) > 1 << 19
    assert failure(ops.lseek, opened, 1 << 20, os.SEEK_DATA) == errno.ENXIO
    assert failure(ops.fallocate, opened, 0, -1, 1) == errno.EINVAL


def test_a_range_is_copied_below(world, opened):
    copy = world.write_file(world.job(2), "copy")
    handle = world.operations.open(copy, os.O_RDWR, world.caller)
    assert world.operations.copy_file_range(opened, 2, handle, 1, 5) == 5
    assert world.operations.read(handle, 0, 10) == b"\x0023456"
    world.operations.release(handle)


@pytest.mark.parametrize(
    "change",
    [
        lambda ops, handle: ops.write(handle, 0, b"x", True),
        lambda ops, handle: ops.fallocate(handle, 0, 0, 1 << 16, True),
        lambda ops, handle: ops.copy_file_range(handle, 0, handle, 5, 2, True),
    ],
)
def test_what_changes_data_takes_set_id_bits_away_if_asked(world, opened, change):
    os.chmod(world.below(1, "file"), 0o6755)
    change(world.operations, opened)
    assert stat.S_IMODE(os.stat(world.below(1, "file")).st_mode) == 0o755


def test_the_kernel_may_use_the_descriptor_of_a_file_without_set_id_bits(world, opened):
    fd = world.operations.passthrough_fd(opened)
    assert os.pread(fd, 3, 0) == b"012"
    for mode in (0o4755, 0o2755):
        os.chmod(world.below(1, "file"), mode)
        again = world.operations.open(world.operations.inode_of(opened), os.O_RDONLY, world.caller)
        assert world.operations.passthrough_fd(again) is None
        world.operations.release(again)


@pytest.mark.parametrize("other", ["file", "symbolic link", "fifo", "directory", "nothing"])
def test_what_others_have_put_in_the_place_of_a_file_is_not_opened_for_it(world, file, other):
    path = world.below(1, "file")
    os.rename(path, world.below(1, "elsewhere"))
    with open(world.below(1, "secret"), "w") as secret:
        secret.write("secret")
    match other:
        case "file":
            os.rename(world.below(1, "secret"), path)
        case "symbolic link":
            os.symlink("secret", path)
        case "fifo":
            os.mkfifo(path)
        case "directory":
            os.mkdir(path)
    with pytest.raises(FsError) as found:
        world.operations.open(file, os.O_RDONLY, world.caller, wait=False)
    assert found.value.errno == errno.ESTALE


def test_a_file_is_opened_by_another_of_its_names_when_others_have_taken_the_last(world, file):
    os.link(world.below(1, "file"), world.below(1, "other"))
    assert world.find("foo/1/other").inode == file
    os.unlink(world.below(1, "other"))
    handle = world.operations.open(file, os.O_RDONLY, world.caller, wait=False)
    assert world.operations.read(handle, 0, 3) == b"012"
    world.operations.release(handle)


def test_an_unlinked_file_that_is_open_is_all_there(world, file, failure):
    handle = world.operations.open(file, os.O_RDONLY, world.caller)
    world.operations.unlink(world.job(1), "file")
    ops = world.operations
    assert world.find("foo/1/file") is None
    assert ops.getattr(file).stat.st_nlink == 0  # as fstat(2) asks: without the handle
    assert ops.getattr(file, handle).stat.st_size == 10
    ops.setattr(file, SetAttr(mode=0o600, size=4), handle, world.caller)
    ops.setxattr(file, "user.key", b"value", 0)
    assert ops.getxattr(file, "user.key") == b"value"
    assert world.read_file(file) == b"0123"
    assert failure(ops.link, file, world.job(1), "again") == errno.ENOENT
    ops.release(handle)


def test_an_unlinked_file_that_is_only_referenced_stays_until_it_is_forgotten(world, file, failure):
    world.operations.unlink(world.job(1), "file")
    assert world.operations.getattr(file).stat.st_nlink == 0
    assert world.read_file(file) == b"0123456789"
    world.forget_all()
    assert failure(world.operations.getattr, file) == errno.ESTALE


def test_a_new_file_is_never_served_as_the_unlinked_one(world, file):
    world.operations.unlink(world.job(1), "file")
    for number in range(20):  # the disk below would like to use the number again
        new = world.write_file(world.job(1), f"new{number}", b"new")
        assert new != file
    assert world.read_file(file) == b"0123456789"


def test_an_open_file_stays_usable_after_the_kernel_forgot_it(world, file):
    handle = world.operations.open(file, os.O_RDONLY, world.caller)
    world.forget_all()
    world.check()
    assert world.operations.read(handle, 0, 2) == b"01"
    assert world.operations.getattr(world.operations.inode_of(handle)).stat.st_size == 10
    world.operations.release(handle)
    assert world.operations.statistics()["inodes"] == 1


def test_a_file_released_during_a_read_stays_open_until_the_read_is_done(world, file, monkeypatch):
    handle = world.operations.open(file, os.O_RDONLY, world.caller)
    pread, reading, released = os.pread, threading.Event(), threading.Event()
    results = []

    def slow_pread(fd, size, offset):
        reading.set()
        assert released.wait(60)
        return pread(fd, size, offset)

    monkeypatch.setattr(os, "pread", slow_pread)
    thread = threading.Thread(target=lambda: results.append(world.operations.read(handle, 0, 10)))
    thread.start()
    assert reading.wait(60)
    world.operations.release(handle)
    thief = os.open(os.devnull, os.O_RDONLY)  # would get the number of a descriptor closed too early
    released.set()
    thread.join(60)
    os.close(thief)
    assert results == [b"0123456789"]


def test_a_short_answer_in_the_middle_of_a_file_is_asked_for_again(world, opened, monkeypatch):
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, size, offset: pread(fd, min(size, 3), offset))
    assert world.operations.read(opened, 0, 8) == b"01234567"


def test_an_error_after_a_short_answer_is_reported(world, opened, monkeypatch, failure):
    pread = os.pread

    def bad_disk(fd, size, offset):
        if offset >= 4:
            raise OSError(errno.EIO, "bad block")
        return pread(fd, min(size, 4 - offset), offset)

    monkeypatch.setattr(os, "pread", bad_disk)
    assert failure(world.operations.read, opened, 0, 8) == errno.EIO
