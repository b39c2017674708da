"""Paths lead back to the state points that lead to them."""

from __future__ import annotations

import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st

from sigfs.errors import InvalidStatePoint, NotInvertible
from sigfs.model.statepoint import is_job_id, statepoint_id, validate
from sigfs.tree import JobNode, Layout, Tree, VirtualNode
from tests.support.strategies import job_id, record, statepoints
from tests.support.trees import resolve, table_of, walk

WHOLE = ("auto", "full", "hive")
TEMPLATES = ("{a}/{b}/{c}", "x_{a}/{{auto}}", "{{auto}}/{b}_{c}", "{a:03d}/y/{{auto}}")
few = st.dictionaries(st.sampled_from(["a", "b", "c"]), st.sampled_from([1, 1.0, 2, True, "x", None]), max_size=3)
usual = st.lists(few, max_size=7)


def _is_possible(statepoint: object) -> bool:
    try:
        return validate(statepoint) is not None
    except InvalidStatePoint:
        return False


@settings(max_examples=300, deadline=None)
@given(usual | st.lists(statepoints.filter(_is_possible), max_size=6), st.sampled_from(WHOLE))
def test_the_path_of_each_job_makes_it_again_where_it_is_no_more(sps: list[dict[str, object]], layout: Layout) -> None:
    tree = Tree(layout)
    by_id = {job_id(sp): sp for sp in sps}
    table = table_of(*by_id.values())
    for path, job in walk(tree, table):
        others = table_of(*(sp for other, sp in by_id.items() if other != job))
        node: VirtualNode = tree.root
        try:
            for name in path:
                target = tree.target(node, name, others)
                node = target.node
        except NotInvertible:
            # a shortened name that nobody else has, an id, or a key spelled like one
            assert any("~" in name or is_job_id(name) for name in path)
            continue
        with contextlib.suppress(NotInvertible):
            found = tree.made(target, others)
            again = table_of(*(sp for other, sp in by_id.items() if other != job), dict(found))
            assert resolve(tree, again, "/".join(path)) == JobNode(statepoint_id(found))
        moved = tree.moved(target, record(by_id[job]), (tree.root, ".job"), others)
        assert statepoint_id(moved) == job


@settings(max_examples=300, deadline=None)
@given(usual, st.sampled_from(WHOLE + TEMPLATES), st.data())
def test_a_moved_job_is_found_where_it_was_moved_to(
    sps: list[dict[str, object]], layout: Layout, data: st.DataObject
) -> None:
    tree = Tree(layout)
    by_id = {job_id(sp): sp for sp in sps}
    table = table_of(*by_id.values())
    for path, job in walk(tree, table):
        names = list(path)
        for at, name in enumerate(path):
            if (at % 2 or layout not in ("auto", "full")) and data.draw(st.booleans()):
                key = f"{name.partition('=')[0]}=" if layout == "hive" else ""
                names[at] = key + data.draw(st.sampled_from(["1", "2", "true", "x", "9", "null", "x_2", "True_1"]))
        node: VirtualNode = tree.root
        source: VirtualNode = tree.root
        for name in path[:-1]:
            child = tree.child(source, name, table)
            assert child is not None
            assert not isinstance(child, JobNode)
            source = child
        with contextlib.suppress(NotInvertible):
            for name in names:
                target = tree.target(node, name, table)
                node = target.node
            found = tree.moved(target, record(by_id[job]), (source, path[-1]), table)
            moved = statepoint_id(found)
            if moved in by_id:
                continue
            after = table_of(*(sp for other, sp in by_id.items() if other != job), dict(found))
            places = [resolve(tree, after, "/".join(names[:count])) for count in range(1, len(names) + 1)]
            assert JobNode(moved) in places
