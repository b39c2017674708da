"""Descriptors are kept for the mount itself, and room that was used is given back."""

import errno
import gc
import os

import pytest

from sigfs.vfs.room import Room
from sigfs.vfs.types import FsError
from tests.support.descriptors import assert_none_left, descriptors


def test_a_descriptor_is_refused_as_long_as_none_below_the_bound_is_free(caplog):
    held = [os.open("/", os.O_PATH)]
    try:
        room = Room(limit=(held[0] + 12) * 4 // 3)  # of which a quarter is kept
        while not room.took(held[-1]):
            room.require()
            held.append(os.open("/", os.O_PATH))
        for _ in range(2):
            with pytest.raises(FsError) as caught:
                room.require()
            assert caught.value.errno == errno.ENFILE
        assert len(caplog.records) == 1
        os.close(held.pop())
        os.close(held.pop())
        room.require()
    finally:
        for fd in held:
            os.close(fd)


def test_a_file_is_not_called_gone_because_there_are_no_descriptors(world, monkeypatch, failure):
    job = world.job(1)
    file = world.write_file(job, "file", b"text")
    world.operations._backing.close()
    opened = os.open

    def out_of_descriptors(*arguments, **more):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "open", out_of_descriptors)
    with pytest.raises(OSError, match="Too many open files") as caught:
        world.operations.getattr(file)
    assert caught.value.errno == errno.EMFILE
    monkeypatch.setattr(os, "open", opened)
    assert world.operations.getattr(file).stat.st_size == 4


@pytest.mark.parametrize("ask", ["getattr", "readlink", "getxattr"])
def test_where_there_are_no_descriptors_those_on_the_way_are_closed_at_once(world, monkeypatch, ask):
    os.makedirs(world.below(1, "directory"))
    os.symlink("target", world.below(1, "directory/link"))
    operations = world.operations
    directory = world.took(operations.lookup(world.job(1), "directory", world.caller))
    link = world.took(operations.lookup(directory, "link", world.caller))
    arguments = {"getxattr": (link, "user.none")}.get(ask, (link,))
    operations._backing.close()
    before = descriptors()
    opened = os.open

    def out_of_descriptors(path, *arguments, **more):
        if path == "directory":
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return opened(path, *arguments, **more)

    monkeypatch.setattr(os, "open", out_of_descriptors)
    gc.disable()
    try:
        for _ in range(10):
            with pytest.raises(OSError, match="Too many open files"):
                getattr(operations, ask)(*arguments)
            operations._backing.close()
        assert_none_left(before)
    finally:
        gc.enable()


def test_the_books_give_their_room_back_when_the_kernel_forgets(world):
    job = world.job(1)
    inodes = world.operations._inodes
    for number in range(12_000):
        os.close(os.open(world.below(1, f"file{number}"), os.O_WRONLY | os.O_CREAT))
        world.took(world.operations.lookup(job, f"file{number}", world.caller))
    before = [books.__sizeof__() for books in (inodes._nodes, inodes._files)]
    world.forget_all()
    world.check()
    assert len(inodes) == 1
    after = [books.__sizeof__() for books in (inodes._nodes, inodes._files)]
    assert all(4 * now < then for now, then in zip(after, before, strict=True))
