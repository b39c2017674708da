"""Names that lead nowhere: the kernel may remember them, and hears of it when they might lead somewhere."""

from __future__ import annotations

import os

from sigfs.vfs.absent import Absent
from sigfs.vfs.types import ROOT, Inode


def test_the_kernel_may_keep_that_a_name_of_a_virtual_directory_leads_nowhere_and_is_told_when_it_does(world):
    foo = world.at("foo")
    assert world.find("foo/3") is None
    assert world.operations.absence_timeout_s(foo, "3") >= 3600
    world.operations.apply([world.add(3)])
    assert (foo, "3") in world.notifier.entries
    assert world.operations.absence_timeout_s(foo, "3") == 0
    assert world.find("foo/3") is not None


def test_names_on_disk_of_documents_and_where_nobody_can_be_told_are_not_kept_absent(world):
    job = world.job(1)
    assert world.find("foo/1/nothing") is None
    assert world.operations.absence_timeout_s(job, "nothing") == 0
    place = world.at("doc.x@exists/false")
    assert world.operations.lookup(place, "doc.y", world.caller) is None
    assert world.operations.absence_timeout_s(place, "doc.y") == 0
    world.operations.attach(world.notifier, can_notify=False)
    assert world.find("bar") is None
    assert world.operations.absence_timeout_s(ROOT, "bar") == 0


def test_a_job_whose_directory_is_missing_is_asked_for_again(world):
    os.rename(world.below(1), world.below(9))
    assert world.find("foo/1") is None
    assert world.operations.absence_timeout_s(world.at("foo"), "1") == 0


def test_an_absence_that_a_change_overtakes_is_not_kept(world):
    foo = world.at("foo")
    add = world.operations._views.absent.add

    def overtaken(entry):
        world.operations.apply([world.add(3)])
        return add(entry)

    world.operations._views.absent.add = overtaken
    assert world.operations.lookup(foo, "3", world.caller) is None
    assert world.operations.absence_timeout_s(foo, "3") == 0


def test_the_kernel_is_told_of_the_name_that_gives_way():
    names = Absent(limit=2)
    assert [names.add((ROOT, name)) for name in "abac"] == [None, None, None, (ROOT, "b")]
    assert len(names) == 2
    assert names.take() == [(ROOT, "a"), (ROOT, "c")]
    assert (Inode(1), "a") not in names
