"""What a name leads to is remembered as long as it is true."""

from __future__ import annotations

from sigfs.model.types import JobId
from sigfs.tree import JobNode, Tree
from sigfs.vfs import resolved
from sigfs.vfs.nodes import TreeDirectory
from sigfs.vfs.resolved import Resolved
from sigfs.vfs.types import ROOT
from tests.unit.vfs.conftest import World

ANSWER = JobNode(JobId("0" * 32)), None


def directory() -> TreeDirectory:
    """Give one of several nodes of the same place."""
    return TreeDirectory(ROOT, ROOT, "", Tree().root, 1)


def test_an_answer_is_good_for_its_generation_only() -> None:
    known, here = Resolved(), directory()
    known.keep(3, here, "foo", ANSWER)
    assert known.answers(3, here) == {"foo": ANSWER}
    assert known.answers(4, here) == {}
    known.keep(4, here, "bar", ANSWER)
    assert known.answers(4, here) == {"bar": ANSWER}
    known.keep(3, here, "foo", ANSWER)
    assert known.answers(4, here) == {"bar": ANSWER}, "who was slow to read the index pushes out what is newer"


def test_an_answer_outlives_the_node_that_it_was_given_for() -> None:
    known = Resolved()
    known.keep(3, directory(), "foo", ANSWER)
    assert known.answers(3, directory()) == {"foo": ANSWER}


def test_answers_do_not_pile_up() -> None:
    known = Resolved()
    for number in range(3 * resolved._LIMIT):
        known.keep(1, directory(), str(number), ANSWER)
    assert sum(map(len, known._kept[1].values())) <= resolved._LIMIT


def test_a_name_that_was_looked_up_before_leads_elsewhere_after_a_change(world: World) -> None:
    assert world.find("foo/1") is not None
    assert world.find("foo/3") is None
    world.operations.apply([world.remove(1), world.add(3)])
    assert world.find("foo/1") is None
    assert world.find("foo/3") is not None
