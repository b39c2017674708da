"""What a name would be, were there a job for it: the way from paths back to state points.

Owned here: which state point a new directory of a view stands for (``made``), which one a job gets that is moved to
another place of it (``moved``), and why a path may say too little for that. Pure, as the tree itself: nothing is made
or moved here.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pyroaring import BitMap

from sigfs.errors import InvalidStatePoint, NotInvertible, QuerySyntaxError
from sigfs.index import Index
from sigfs.model.statepoint import validate
from sigfs.model.types import Change, JobId, Record
from sigfs.query.expr import And, Compare, Exists, Field, Op, Space, Value
from sigfs.query.path import key_name, parse_key, parse_operand, value_name
from sigfs.query.values import flatten
from sigfs.tree.facts import branch_of, is_job_id
from sigfs.tree.names import may_be_shortened, shorten
from sigfs.tree.nodes import JobsNode, KeyNode, QueryNode, SpecialNode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from sigfs.index import Selection, Table
    from sigfs.model.types import Json, StatePoint
    from sigfs.query.expr import Expr
    from sigfs.tree.nodes import VirtualNode
    from sigfs.tree.tree import Tree

_NEW: Final = JobId("0" * 32)
"""Stands for the job that would be."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a name in a virtual directory would be, were there a job for it.

    Attributes:
        node: the place; ``Tree.target(target.node, deeper_name, table)`` goes on from here.
        pairs: the state point keys that the whole path gives a value.
        absent: the keys that it says are absent (``KEY@exists/false``).
        open_keys: listed keys that the jobs beside it have, and that the path leaves open.
        is_leaf: no key waits for its value, and none is open: a job may be made here.
    """

    node: VirtualNode
    pairs: tuple[tuple[Field, Json], ...]
    absent: frozenset[Field]
    open_keys: tuple[Field, ...]
    is_leaf: bool


@dataclass(slots=True)
class _Said:
    """What a path settles: values by key, and keys that must not be."""

    values: dict[Field, Json] = field(default_factory=dict)
    absent: set[Field] = field(default_factory=set)

    @property
    def fields(self) -> set[Field]:
        return {*self.values, *self.absent}


def target_of(tree: Tree, node: VirtualNode, name: str, table: Table) -> Target:
    """See ``Tree.target``."""
    place = _place(node, name, table)
    said = _said(place if isinstance(place, QueryNode) else place.parent)
    pairs, absent = tuple(said.values.items()), frozenset(said.absent)
    if isinstance(place, KeyNode):
        return Target(place, pairs, absent, (), is_leaf=False)
    siblings = _siblings(place, table)
    constants = _constants(siblings, said, table)
    everyone = table.select(tree.root_of(place.view).query)
    listed = tree.keys_with(place.view, everyone, _leaves(constants, said), table)
    open_keys = tuple(
        key
        for key in table.fields(Space.SP)
        if key not in said.fields and siblings.intersect(table.having(key)) and (key not in constants or key in listed)
    )
    return Target(place, pairs, absent, tuple(sorted(open_keys)), is_leaf=not open_keys)


def made_at(tree: Tree, target: Target, table: Table) -> StatePoint:
    """See ``Tree.made``."""
    place = _query_node(target)
    if target.open_keys:
        keys = ", ".join(key_name(key) for key in target.open_keys)
        raise NotInvertible(f"the path leaves open what the jobs beside it say: {keys}")
    said = _said(place)
    constants = _constants(_siblings(place, table), said, table)
    statepoint = _changed({}, {**constants, **said.values}, said.absent)
    _check_leaf(tree, place, statepoint, BitMap(), table)
    return statepoint


def moved_to(tree: Tree, target: Target, old: Record, source: tuple[VirtualNode, str], table: Table) -> StatePoint:
    """See ``Tree.moved``."""
    place = _query_node(target)
    said = _said(place)
    had = dict(flatten(old.statepoint))
    # What is equal has the same name: a job at a/1 that says 1.0 goes on saying so.
    values = {
        key: value
        for key, value in said.values.items()
        if key.key not in had or branch_of(had[key.key]) != branch_of(value)
    }
    dropped = {key for key in _settled(*source) if key not in said.values}
    statepoint = _changed(old.statepoint or {}, values, said.absent | dropped)
    number = table.number(old.id)
    itself = BitMap() if number is None else BitMap([number])
    _check_leaf(tree, place, statepoint, itself, table, may_end_above=True)
    return statepoint


# Places


def _query_node(target: Target) -> QueryNode:
    if isinstance(target.node, KeyNode):
        raise NotInvertible(f"the key {key_name(target.node.field)} has no value yet")
    assert isinstance(target.node, QueryNode)
    return target.node


def _place(node: VirtualNode, name: str, table: Table) -> QueryNode | KeyNode:
    match node:
        case QueryNode():
            return _key(node, name, table)
        case KeyNode():
            term = _term(node, name, table)
            return QueryNode((*node.parent.terms, term), node.parent.pinned | {node.field}, node.parent.view)
        case JobsNode():
            raise NotInvertible(".jobs lists ids, which say nothing of state points")
        case SpecialNode():
            raise NotInvertible("the names in .sigfs say nothing of state points")


def _key(node: QueryNode, name: str, table: Table) -> KeyNode:
    if is_job_id(name) and not table.having(Field(Space.SP, name)):
        raise NotInvertible(f"{name} is an id, which says nothing of a state point")
    base, at, operator = name.partition("@")
    if may_be_shortened(base):
        known = [key for key in table.fields(Space.SP) if shorten(key_name(key), at + operator) == name]
        if len(known) != 1:
            raise NotInvertible(f"{name} is too short for a key that is not known")
        field, operator = known[0], f"${operator}" if operator else ""
    else:
        try:
            field, operator = parse_key(name)
        except QuerySyntaxError as error:
            raise NotInvertible(str(error)) from None
    if field.space is not Space.SP:
        raise NotInvertible(f"{name} is no key of the state point")
    if operator not in ("", "$exists"):
        raise NotInvertible(f"{name}: {operator} settles no value")
    return KeyNode(node, field, operator)


def _term(node: KeyNode, name: str, table: Table) -> Expr:
    if node.operator == "" and may_be_shortened(name):
        known = [value for value in table.values(node.field, table.jobs) if shorten(value_name(value)) == name]
        if len(known) != 1:
            raise NotInvertible(f"{name} is too short for a value that is not known")
        return Compare(node.field, Op.IS, Value(known[0]))
    try:
        term = parse_operand(node.field, node.operator, name)
    except QuerySyntaxError as error:
        raise NotInvertible(str(error)) from None
    said = _Said()
    for each in _terms(node):
        _say(said, each)
    _say(said, term)
    if said.fields.isdisjoint({node.field}):
        raise NotInvertible(f"{key_name(node.field, node.operator)}/{name} settles no value of {key_name(node.field)}")
    return term


def _terms(node: QueryNode | KeyNode | JobsNode) -> tuple[Expr, ...]:
    """Give what the path says, without the view's filter."""
    query = node if isinstance(node, QueryNode) else node.parent
    return query.terms[len(query.view.terms) :]


def _said(node: QueryNode) -> _Said:
    said = _Said()
    for term in _terms(node):
        _say(said, term)
    return said


def _say(said: _Said, term: Expr) -> None:
    """Add what *term* settles.

    Raises:
        NotInvertible: it settles no value, or contradicts what was said before.
    """
    match term:
        case Compare(Field(Space.SP) as field, Op.EQ | Op.IS, value):
            if field in said.absent or branch_of(said.values.get(field, value.json)) != branch_of(value.json):
                raise NotInvertible(f"the path says two things of {key_name(field)}")
            said.values.setdefault(field, value.json)
        case Exists(Field(Space.SP) as field, False):
            if field in said.values:
                raise NotInvertible(f"the path says two things of {key_name(field)}")
            said.absent.add(field)
        case _:
            raise NotInvertible("the path asks for more than values of state point keys, which settles no state point")


def _settled(node: VirtualNode, name: str) -> set[Field]:
    """Give the keys that the path of a job, *name* in *node*, settles: none where that goes by ids."""
    if isinstance(node, JobsNode | SpecialNode) or name == ".job":
        return set()
    settled = {term.field for term in _terms(node) if isinstance(term, Compare) and term.op in (Op.EQ, Op.IS)}
    if isinstance(node, KeyNode) and node.operator == "":
        settled.add(node.field)
    return {field for field in settled if field.space is Space.SP}


# State points


def _siblings(place: QueryNode, table: Table) -> Selection:
    """Give the jobs of the nearest directory above that has any."""
    above = len(place.view.terms)
    for count in range(len(place.terms), above - 1, -1):
        jobs = table.select(And(place.terms[:count]))
        if jobs:
            return jobs
    return BitMap()


def _constants(siblings: Selection, said: _Said, table: Table) -> dict[Field, Json]:
    """Give the keys that all *siblings* have with one value, and the path does not name."""
    settled = said.fields
    return {
        key: value
        for key in table.fields(Space.SP)
        if key not in settled and table.is_constant(key, siblings)
        for value in table.values(key, siblings)[:1]
    }


def _leaves(constants: Mapping[Field, Json], said: _Said) -> dict[Field, Json]:
    return {**constants, **said.values}


def _changed(old: StatePoint, values: Mapping[Field, Json], absent: Iterable[Field]) -> StatePoint:
    """Give *old* with these values and without these keys."""
    statepoint: dict[str, Json] = copy.deepcopy(dict(old))
    for key in absent:
        _remove(statepoint, key.key)
    for key in values:
        _remove(statepoint, key.key)
    for key, value in values.items():
        _put(statepoint, key.key, value)
    try:
        return validate(statepoint)
    except InvalidStatePoint as error:
        raise NotInvertible(f"no state point: {error}") from None


def _remove(mapping: dict[str, Any], key: str) -> None:
    """Remove the leaf with this dotted key, and mappings that are empty without it."""
    if key in mapping and not (isinstance(mapping[key], dict) and mapping[key]):
        del mapping[key]
        return
    for head, rest in _splits(key):
        inner = mapping.get(head)
        if isinstance(inner, dict) and inner:
            _remove(inner, rest)
            if not mapping[head]:
                del mapping[head]


def _put(mapping: dict[str, Any], key: str, value: Json) -> None:
    *above, last = key.split(".")
    for name in above:
        inner: Any = mapping.setdefault(name, {})
        if not isinstance(inner, dict):
            raise NotInvertible(f"{name} would have a value beside deeper keys")
        mapping = inner
    if last in mapping:
        raise NotInvertible(f"{key} would have a value beside deeper keys")
    mapping[last] = value


def _splits(key: str) -> Iterator[tuple[str, str]]:
    parts = key.split(".")
    for at in range(1, len(parts)):
        yield ".".join(parts[:at]), ".".join(parts[at:])


def _check_leaf(
    tree: Tree,
    place: QueryNode,
    statepoint: StatePoint,
    itself: Selection,
    table: Table,
    *,
    may_end_above: bool = False,
) -> None:
    """See that *place* would lead to a job with *statepoint*, and nothing above it.

    Args:
        itself: the job that is to have this state point, in *table*; or nobody.
        may_end_above: whether a directory above may be the job already, because further keys of the path would have
            one value in the whole view.
    Raises:
        NotInvertible: it would not.
    """
    index = Index()
    index.apply([Change(_NEW, Record(_NEW, statepoint))])
    with index.reading() as alone:
        pass  # nobody else has this index
    if not alone.select(place.query):
        raise NotInvertible("the view's filter, or the path, would not hold for the job")
    everyone = table.select(tree.root_of(place.view).query) - itself
    leaves = {Field(Space.SP, key): value for key, value in flatten(statepoint)}
    listed = tree.keys_with(place.view, everyone, leaves, table)
    above = len(place.view.terms)
    pinned: set[Field] = set()
    for count in range(above, len(place.terms) + 1):
        if count > above:
            term = place.terms[count - 1]
            assert isinstance(term, Compare | Exists)
            pinned.add(term.field)
        is_last = count == len(place.terms)
        others = table.select(And(place.terms[:count])) - itself
        if is_last and others:
            raise NotInvertible("other jobs are there already")
        is_finished = not others and count > above and not any(key in listed and key not in pinned for key in leaves)
        if is_finished and not is_last and may_end_above:
            return
        if is_finished and not is_last:
            raise NotInvertible("a directory above would be the job already")
        if is_last and not is_finished:
            keys = ", ".join(sorted(key_name(key) for key in leaves if key in listed and key not in pinned))
            raise NotInvertible(f"the path leaves keys open: {keys}" if keys else "the top is no place for a job")
