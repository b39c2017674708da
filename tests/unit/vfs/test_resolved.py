"""What a name leads to is remembered as long as it is true."""

from __future__ import annotations

from sigfs.model.types import JobId
from sigfs.tree import JobNode
from sigfs.vfs import resolved
from sigfs.vfs.resolved import Resolved
from sigfs.vfs.types import ROOT
from tests.unit.vfs.conftest import World

ANSWER = JobNode(JobId("0" * 32)), None


def test_an_answer_is_good_for_its_generation_only() -> None:
    known = Resolved()
    known.keep(3, ROOT, "foo", ANSWER)
    assert known.get(3, ROOT, "foo") == ANSWER
    assert known.get(4, ROOT, "foo") is None
    known.keep(4, ROOT, "bar", ANSWER)
    assert known.get(4, ROOT, "foo") is None
    known.keep(3, ROOT, "foo", ANSWER)
    assert known.get(4, ROOT, "bar") == ANSWER, "who was slow to read the index pushes out what is newer"


def test_answers_do_not_pile_up() -> None:
    known = Resolved()
    for number in range(3 * resolved._LIMIT):
        known.keep(1, ROOT, str(number), ANSWER)
    assert len(known._kept[1]) <= resolved._LIMIT


def test_a_name_that_was_looked_up_before_leads_elsewhere_after_a_change(world: World) -> None:
    assert world.find("foo/1") is not None
    assert world.find("foo/3") is None
    world.operations.apply([world.remove(1), world.add(3)])
    assert world.find("foo/1") is None
    assert world.find("foo/3") is not None
