"""The directories of ``.sigfs``: what the kernel may keep of them, and what may be changed there."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from sigfs.query import parse
from sigfs.tree import View
from tests.unit.vfs.conftest import World

Failure = Callable[..., "int | None"]


def test_named_views_are_those_of_the_moment(world: World) -> None:
    views: dict[str, View] = {}
    world.operations._tree.views = lambda: views
    inside = world.at(".sigfs/views")
    assert (world.names(inside), world.find(".sigfs/views/two")) == ([], None)
    assert world.operations.absence_timeout_s(inside, "two") == 0
    views["two"] = View("full", parse("foo 2"))
    found = world.find(".sigfs/views/two")
    assert found is not None
    assert found.entry_timeout_s == 0
    assert (world.names(inside), world.names(found.inode)) == (["two"], ["foo"])
    assert world.operations.getxattr(found.inode, "user.sigfs.query") == b"foo/2"
    views["two"] = View("full", parse("foo 1"))
    other = world.find(".sigfs/views/two")
    assert other is not None
    assert other.inode != found.inode
    assert world.names(world.at(".sigfs/views/two/foo")) == ["1"]
    world.operations.check()


def test_the_listing_of_views_is_not_kept(world: World) -> None:
    for path, kept in ((".sigfs/views", "none"), (".sigfs/jobs", "fill"), (".sigfs/find/foo@gt/0", "fill")):
        handle = world.operations.opendir(world.at(path))
        assert world.operations.listing_cache(handle) == kept, path
        world.operations.releasedir(handle)


def test_a_view_without_jobs_is_empty_and_a_query_without_jobs_is_not_there(world: World) -> None:
    world.operations._tree.views = lambda: {"none": View(filter=parse("foo 7"))}
    assert world.names(world.at(".sigfs/views/none")) == []
    assert world.find(".sigfs/find/foo.$in [7]") is None


@pytest.mark.parametrize("name", [".sigfs", ".foo 1", "foo 'x", '{"foo"', "foo.$no 1", "nothing 1", "nothing"])
def test_names_that_say_nothing_are_not_there(world: World, name: str) -> None:
    assert world.find(f".sigfs/find/{name}") is None


def test_its_own_names_cannot_be_changed(world: World, failure: Failure) -> None:
    operations, caller = world.operations, world.caller
    top, find, root = world.at(".sigfs"), world.at(".sigfs/find"), 1
    refused = [
        failure(operations.mkdir, top, "new", 0o755, caller),
        failure(operations.mkdir, find, "foo 9", 0o755, caller),
        failure(operations.rmdir, top, "find", caller),
        failure(operations.rmdir, root, ".sigfs", caller),
        failure(operations.rename, root, ".sigfs", root, "new", 0, caller),
        failure(operations.rename, root, "foo", root, ".sigfs", 0, caller),
        failure(operations.rename, top, "index.jsonl", top, "new", 0, caller),
        failure(operations.rename, find, "foo 1", find, "foo 9", 0, caller),
        failure(operations.unlink, top, "index.jsonl", caller),
        failure(operations.create, top, "new", 0o644, 0, caller),
    ]
    assert refused == [errno.EPERM] * len(refused)


def test_the_root_of_a_view_that_is_below_has_no_sigfs(world: World) -> None:
    world.operations._tree.views = lambda: {"all": View()}
    assert world.find(".sigfs/views/all/foo") is not None
    assert world.find(".sigfs/views/all/.sigfs") is None


def test_a_key_of_that_name_is_told_apart(world: World) -> None:
    change = world.add(3)
    assert change.record is not None
    assert isinstance(change.record.statepoint, dict)
    change.record.statepoint[".sigfs"] = 1
    world.operations.apply([change])
    assert "%2Esigfs" in world.names(1) or world.find("%2Esigfs/1") is not None
    assert world.names(world.at(".sigfs"))[:3] == ["find", "jobs", "views"]
