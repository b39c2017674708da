"""A directory of a view with all that its names lead to, for whoever walks a whole view.

Owned here: how to say at once for all values of a key what `Tree.names` and `Tree.find` say for one name after the
other, where that is certain to be the same. Wherever it is not, these two are asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from pyroaring import BitMap

from sigfs.index import is_subset
from sigfs.query.expr import Compare, Expr, Field, Op, Space, Spelled, Value
from sigfs.query.path import value_name
from sigfs.tree.facts import has_python_values
from sigfs.tree.layouts import Hive, Signac, arrangement_of
from sigfs.tree.names import may_be_shortened, shorten
from sigfs.tree.nodes import JobNode, KeyNode, Node, QueryNode
from sigfs.tree.spellings import PYTHON, hive_name

if TYPE_CHECKING:
    from sigfs.index import Selection, Table
    from sigfs.model.types import Json
    from sigfs.tree.nodes import VirtualNode
    from sigfs.tree.tree import Tree

_SCALARS: Final = frozenset({int, float, str, bool, type(None)})


class Entry(NamedTuple):
    """Where a name leads to.

    Attributes:
        name: of a job it may have the name of a directory before it, in which it is the only one: ``4/job``.
        jobs: the selection of *node* if that is virtual.
    """

    name: str
    node: Node
    jobs: Selection


def entries(tree: Tree, node: VirtualNode, table: Table, jobs: Selection) -> Iterator[Entry]:
    """List *node*, whose selection is *jobs*, with what is there.

    Complexity: 5 us a value that one job has, where it is quick.
    """
    quick = _quick(tree, node, table, jobs)
    if quick is not None:
        yield from quick
        return
    for name in tree.names(node, table):
        found = tree.find(node, name, table, jobs)
        assert found is not None, f"{name!r} is listed and leads nowhere"
        yield Entry(name, found.node, found.jobs)


def _quick(tree: Tree, node: VirtualNode, table: Table, jobs: Selection) -> list[Entry] | None:
    match node:
        case KeyNode(parent, Field(Space.SP) as field, "") if not has_python_values(node):
            return _by_value(tree, parent, field, table, jobs, _plain_name)
        case KeyNode(parent, Field(Space.SP) as field, "") if isinstance(arrangement_of(parent.view.layout), Signac):
            return _by_name(tree, parent, field, table, jobs)
        case QueryNode() if isinstance(arrangement_of(node.view.layout), Hive):
            open_keys = [key for key in tree.listed_keys(table, node.view) if key not in node.pinned]
            if not open_keys or not is_subset(jobs, table.having(open_keys[0])):
                return None
            name_of = partial(hive_name, open_keys[0])
            return _by_value(tree, node, open_keys[0], table, jobs, name_of, is_last=len(open_keys) == 1)
        case _:
            return None


def _by_value(
    tree: Tree,
    node: QueryNode,
    field: Field,
    table: Table,
    jobs: Selection,
    name_of: Callable[[Json], str],
    *,
    is_last: bool | None = None,
) -> list[Entry] | None:
    """One entry a class of equal values; None if there are values that are equal and look different, or no scalars.

    Args:
        is_last: whether a lone job ends here; None: if it has no further key.
    """
    numbers: dict[tuple[type, Json], list[int]] = {}
    for number, value in table.values_at(field, jobs).items():
        if type(value) not in _SCALARS or value != value:  # NaN equals nothing
            return None
        numbers.setdefault((type(value), value), []).append(number)
    values = table.values(field, jobs)
    if numbers.keys() != {(type(value), value) for value in values if type(value) in _SCALARS}:
        return None
    names = {name_of(value): value for value in values}
    if len(names) != len(values) or any(map(may_be_shortened, names)):
        return None
    going_on = _going_on(tree, node, field, table, jobs) if is_last is None else BitMap() if is_last else jobs
    found = []
    for name, value in names.items():
        here = numbers[type(value), value]
        found.append(_entry(node, field, Compare(field, Op.EQ, Value(value)), name, "", here, going_on, table))
    return found


def _by_name(tree: Tree, node: QueryNode, field: Field, table: Table, jobs: Selection) -> list[Entry] | None:
    """One entry a name, which values that look alike share, as signac spells them."""
    numbers: dict[str, list[int]] = {}
    for number, value in table.values_at(field, jobs).items():
        if type(value) not in _SCALARS:
            return None
        name = str(value) if type(value) is int else PYTHON((value,))
        numbers.setdefault(name, []).append(number)
    if any(map(may_be_shortened, numbers)):
        return None
    going_on = _going_on(tree, node, field, table, jobs)
    return [
        _entry(node, field, Spelled((field,), PYTHON, name), name, Signac.leaf, here, going_on, table)
        for name, here in numbers.items()
    ]


def _entry(
    node: QueryNode,
    field: Field,
    term: Expr,
    name: str,
    leaf: str,
    numbers: list[int],
    going_on: Selection,
    table: Table,
) -> Entry:
    if len(numbers) == 1 and numbers[0] not in going_on:
        return Entry(f"{name}/{leaf}" if leaf else name, JobNode(table.numbers[numbers[0]]), going_on)
    return Entry(name, QueryNode((*node.terms, term), node.pinned | {field}, node.view), BitMap(numbers))


def _going_on(tree: Tree, node: QueryNode, field: Field, table: Table, jobs: Selection) -> Selection:
    """Those of *jobs* that have a further key, with a value, below the values of *field*."""
    further = [key for key in tree.listed_keys(table, node.view) if key != field and key not in node.pinned]
    return BitMap().union(*(jobs & table.having(key) for key in further))


def _plain_name(value: Json) -> str:
    return str(value) if type(value) is int else shorten(value_name(value))
