"""The kernel is told once more, a moment later."""

from __future__ import annotations

from sigfs.vfs.repeating import Repeating
from sigfs.vfs.types import ROOT, Inode
from tests.support.wait import wait_until


class Told:
    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    def invalidate_entry(self, parent: Inode, name: str) -> None:
        self.calls.append((parent, name))

    def invalidate_inode(self, inode: Inode) -> None:
        self.calls.append((inode, "all"))

    def invalidate_attributes(self, inode: Inode) -> None:
        self.calls.append((inode, "attributes"))


def test_what_is_told_is_told_once_more_and_then_no_data_is_dropped():
    told = Told()
    repeating = Repeating(told, after_s=0.001)
    try:
        repeating.invalidate_entry(ROOT, "a")
        repeating.invalidate_inode(Inode(7))
        wait_until(lambda: told.calls.count((ROOT, "a")) == 2 and (Inode(7), "attributes") in told.calls)
        assert told.calls.count((Inode(7), "all")) == 1
        repeating.invalidate_attributes(Inode(8))
        wait_until(lambda: told.calls.count((Inode(8), "attributes")) == 2)
    finally:
        repeating.close()


def test_a_name_that_is_told_many_times_at_once_is_repeated_once_and_nothing_after_the_end():
    told = Told()
    repeating = Repeating(told, after_s=60)
    for _ in range(100):
        repeating.invalidate_entry(ROOT, "a")
    assert len(repeating._told) <= 1
    repeating.close()
    assert told.calls == [(ROOT, "a")] * 100
