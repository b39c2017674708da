"""What a name would be, were there a job for it: the way from paths back to state points.

Owned here: which state point a new directory of a view stands for (``made``), which one a job gets that is moved to
another place of it (``moved``), and why a path may say too little for that. Pure, as the tree itself: nothing is made
or moved here.
"""

from __future__ import annotations

import copy
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from pyroaring import BitMap

from sigfs.errors import InvalidStatePoint, NotInvertible, QuerySyntaxError
from sigfs.index import Index
from sigfs.model.statepoint import validate
from sigfs.model.types import Change, JobId, Record
from sigfs.query.expr import ABSENT, And, Compare, Exists, Field, Op, Space, Spelled, Value
from sigfs.query.path import key_name, parse_key, parse_operand, value_name
from sigfs.query.values import flatten, has_nan
from sigfs.tree.facts import branch_of, has_python_values, is_job_id
from sigfs.tree.layouts import Hive, Signac, Templated, arrangement_of
from sigfs.tree.names import may_be_shortened, shorten
from sigfs.tree.nodes import JobsNode, KeyNode, QueryNode, SpecialNode
from sigfs.tree.spellings import (
    PYTHON,
    Lacking,
    PythonSpelling,
    lacks,
    parse_hive_name,
    plain_name,
    python_candidates,
)
from sigfs.tree.templates import NOTHING, Component

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from sigfs.index import Selection, Table
    from sigfs.model.types import Json, StatePoint
    from sigfs.query.expr import Expr
    from sigfs.tree.nodes import VirtualNode
    from sigfs.tree.tree import Tree

_SIGNAC: Final = "the layout signac spells 1 and the text 1 alike; auto, full, hive and templates can be written"
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
    """What a path settles: values by key, and keys that must not be; and why some names settle nothing."""

    values: dict[Field, Json] = field(default_factory=dict)
    absent: set[Field] = field(default_factory=set)
    unread: list[str] = field(default_factory=list)

    @property
    def fields(self) -> set[Field]:
        return {*self.values, *self.absent}

    def add(self, key: Field, value: Json) -> None:
        """Say that *key* has *value*, or ``ABSENT``."""
        if (value is ABSENT and key in self.values) or (
            value is not ABSENT and (key in self.absent or branch_of(self.values.get(key, value)) != branch_of(value))
        ):
            raise NotInvertible(f"the path says two things of {key_name(key)}")
        if value is ABSENT:
            self.absent.add(key)
        else:
            self.values.setdefault(key, value)


def target_of(tree: Tree, node: VirtualNode, name: str, table: Table) -> Target:
    """See ``Tree.target``."""
    place = _place(tree, node, name, table)
    said = _said(place if isinstance(place, QueryNode) else place.parent, table)
    pairs, absent = tuple(said.values.items()), frozenset(said.absent)
    if isinstance(place, KeyNode):
        return Target(place, pairs, absent, (), is_leaf=False)
    siblings = _siblings(place, table)
    constants = _constants(siblings, said, table)
    everyone = table.select(tree.root_of(place.view).query)
    listed = tree.keys_with(place.view, everyone, {**constants, **said.values}, table)
    open_keys = {
        key
        for key in table.fields(Space.SP)
        if key not in said.fields and siblings.intersect(table.having(key)) and (key not in constants or key in listed)
    }
    arrangement = arrangement_of(place.view.layout)
    if isinstance(arrangement, Hive):
        open_keys.update(key for key in tree.listed_keys(table, place.view) if key not in said.fields)
    is_ending = not isinstance(arrangement, Templated) or arrangement.is_ending(place)
    return Target(place, pairs, absent, tuple(sorted(open_keys)), is_leaf=not open_keys and is_ending)


def made_at(tree: Tree, target: Target, table: Table) -> StatePoint:
    """See ``Tree.made``."""
    place = _query_node(target)
    said = _said(place, table)
    if said.unread:
        raise NotInvertible(said.unread[0])
    if not target.is_leaf:
        keys = ", ".join(key_name(key) for key in target.open_keys)
        raise NotInvertible(
            f"the path leaves open what the jobs beside it say: {keys}" if keys else "the path ends before the template"
        )
    constants = _constants(_siblings(place, table), said, table)
    statepoint = _changed({}, {**constants, **said.values}, said.absent)
    _check_leaf(tree, place, Record(_NEW, statepoint), BitMap(), table)
    return statepoint


def moved_to(tree: Tree, target: Target, old: Record, source: tuple[VirtualNode, str], table: Table) -> StatePoint:
    """See ``Tree.moved``."""
    place = _query_node(target)
    said = _said(place, table)
    had = dict(flatten(old.statepoint))
    # What is equal has the same name: a job at a/1 that says 1.0 goes on saying so.
    values = {
        key: value
        for key, value in said.values.items()
        if key.key not in had or branch_of(had[key.key]) != branch_of(value)
    }
    dropped = {key for key in _settled(tree, *source, table) if key not in said.values}
    statepoint = _changed(old.statepoint or {}, values, said.absent | dropped)
    number = table.number(old.id)
    itself = BitMap() if number is None else BitMap([number])
    try:
        _check_leaf(tree, place, Record(_NEW, statepoint, old.document), itself, table, may_end_above=True)
    except NotInvertible as error:
        raise NotInvertible("; ".join([*said.unread, str(error)])) from None
    return statepoint


# Places


def _query_node(target: Target) -> QueryNode:
    if isinstance(target.node, KeyNode):
        raise NotInvertible(f"the key {key_name(target.node.field)} has no value yet")
    assert isinstance(target.node, QueryNode)
    return target.node


def _place(tree: Tree, node: VirtualNode, name: str, table: Table) -> QueryNode | KeyNode:
    match node:
        case QueryNode():
            return _arranged(tree, node, name, table) or _key(node, name, table)
        case KeyNode():
            if has_python_values(node):
                if isinstance(arrangement_of(node.parent.view.layout), Signac):
                    raise NotInvertible(_SIGNAC)
                term: Expr = Spelled((node.field,), PYTHON, name)
                _say(_said(node.parent, table), term, table)
            else:
                term = _term(node, name, table)
            return _below(node.parent, term, node.field)
        case JobsNode():
            raise NotInvertible(".jobs lists ids, which say nothing of state points")
        case SpecialNode():
            raise NotInvertible("the names in .sigfs say nothing of state points")


def _below(node: QueryNode, term: Expr, *pinned: Field) -> QueryNode:
    return QueryNode((*node.terms, term), node.pinned.union(pinned), node.view)


def _arranged(tree: Tree, node: QueryNode, name: str, table: Table) -> QueryNode | None:
    """Give what *name* is in a layout that has names of its own; None where it is none of them."""
    arrangement = arrangement_of(node.view.layout)
    match arrangement:
        case Signac():
            raise NotInvertible(_SIGNAC)
        case Hive():
            if may_be_shortened(name):
                raise NotInvertible(f"{name} is too short for its value")
            read = parse_hive_name(name)
            if read is None:
                return None
            field, value = read
            if value is ABSENT:
                return _below(node, lacks(field), field)
            return _below(node, Compare(field, Op.IS if has_nan(value) else Op.EQ, Value(value)), field)
        case Templated():
            keys = [key for key in tree.listed_keys(table, node.view) if key not in node.pinned]
            component, lacking = arrangement.following(node)
            if lacking and (component is None or name in {plain_name(key.key) for key in keys}):
                return None
            component = None if component is None else component.with_keys(tuple(keys))
            if component is None or not component.fits(name):
                if lacking:
                    return None
                raise NotInvertible(f"{name}: the template {arrangement.template.text!r} has no such name here")
            for key in keys if lacking else ():
                node = _below(node, lacks(key, or_empty=True), key)
            return _below(node, Spelled(component.fields, component, name))
        case _:
            return None


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
    said = _said(node.parent, table)
    _say(said, term, table)
    if node.field not in said.fields:
        raise NotInvertible(f"{key_name(node.field, node.operator)}/{name} settles no value of {key_name(node.field)}")
    return term


def _terms(node: QueryNode | KeyNode | JobsNode) -> tuple[Expr, ...]:
    """Give what the path says, without the view's filter."""
    query = node if isinstance(node, QueryNode) else node.parent
    return query.terms[len(query.view.terms) :]


def _said(node: QueryNode, table: Table) -> _Said:
    said = _Said()
    for term in _terms(node):
        _say(said, term, table)
    return said


def _say(said: _Said, term: Expr, table: Table) -> None:
    """Add what *term* settles.

    Raises:
        NotInvertible: it settles no value, or contradicts what was said before.
    """
    match term:
        case Compare(Field(Space.SP) as field, Op.EQ | Op.IS, value):
            said.add(field, value.json)
        case Exists(Field(Space.SP) as field, False):
            said.add(field, ABSENT)
        case Spelled((field,), Lacking()):
            said.add(field, ABSENT)
        case Spelled((Field(Space.SP) as field,), PythonSpelling(), name):
            said.add(field, _read(field, name, table, lambda value: PYTHON((value,)) == name))
        case Spelled(_, Component() as component, name):
            try:
                found = _read_component(component, name, table)
            except NotInvertible as error:
                said.unread.append(str(error))
                return
            for each, one in found:
                said.add(each, one)
        case _:
            raise NotInvertible("the path asks for more than values of state point keys, which settles no state point")


def _read_component(component: Component, name: str, table: Table) -> list[tuple[Field, Json]]:
    """Give the values that *name* says.

    Raises:
        NotInvertible: it does not say them all, or not clearly.
    """
    for hole in component.holes:
        if hole.field.space is not Space.SP:
            raise NotInvertible(f"{hole.word} is no key of the state point")
        if not hole.is_lossless:
            raise NotInvertible(f"{{{hole.word}}} does not say the value of {hole.field.key} in full")
    if component.is_auto:
        raise NotInvertible("{{auto:...}} does not say where a key or a value ends")
    texts = component.texts(name)
    if texts is None:
        raise NotInvertible(f"{name} can be read in more than one way")
    return [
        (hole.field, ABSENT if text == NOTHING else _read(hole.field, text, table, partial(hole.says, text=text)))
        for hole, text in zip(component.holes, texts, strict=True)
    ]


def _read(field: Field, text: str, table: Table, is_spelled_so: Callable[[Json], bool]) -> Json:
    """Give the value that *text* spells: one that *field* has, or else what it looks like.

    Raises:
        NotInvertible: several values, or none, are spelled so.
    """
    values = table.exact_values(field, table.jobs)
    known = [value for value in values if is_spelled_so(value)]
    if len(known) == 1:
        return known[0]
    candidates = [value for value in python_candidates(text) or () if is_spelled_so(value)]
    others = [value for value in candidates if not isinstance(value, str)]
    if len(known) > 1 or not candidates:
        raise NotInvertible(f"{text} does not say which value of {key_name(field)} is meant")
    is_text = bool(values) and all(isinstance(value, str) for value in values)
    return others[0] if others and not is_text else candidates[0]


def _settled(tree: Tree, node: VirtualNode, name: str, table: Table) -> set[Field]:
    """Give the keys that the path of a job, *name* in *node*, settles: none where that goes by ids."""
    if isinstance(node, JobsNode | SpecialNode) or name == ".job":
        return set()
    place: QueryNode | KeyNode = node
    with suppress(NotInvertible):
        place = _place(tree, node, name, table)
    said = _Said()
    for term in _terms(place):
        with suppress(NotInvertible):
            _say(said, term, table)
    return set(said.values)


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
    record: Record,
    itself: Selection,
    table: Table,
    *,
    may_end_above: bool = False,
) -> None:
    """See that *place* would lead to a job that says *record*, and nothing above it.

    Args:
        itself: the job that is to say this, in *table*; or nobody.
        may_end_above: whether a directory above may be the job already, because further keys of the path would have
            one value in the whole view.
    Raises:
        NotInvertible: it would not.
    """
    index = Index()
    index.apply([Change(_NEW, record)])
    with index.reading() as alone:
        pass  # nobody else has this index
    if not alone.select(place.query):
        raise NotInvertible("the view's filter, or the path, would not hold for the job")
    everyone = table.select(tree.root_of(place.view).query) - itself
    leaves = {Field(Space.SP, key): value for key, value in flatten(record.statepoint)}
    listed = tuple(sorted(tree.keys_with(place.view, everyone, leaves, table)))
    alone.cached(("listed keys", place.view), lambda: listed)
    above = len(place.view.terms)
    pinned: frozenset[Field] = frozenset()
    for count in range(above, len(place.terms) + 1):
        if count > above:
            pinned |= _pins(place.terms[count - 1])
        is_last = count == len(place.terms)
        others = table.select(And(place.terms[:count])) - itself
        if is_last and others:
            raise NotInvertible("other jobs are there already")
        here = QueryNode(place.terms[:count], pinned, place.view)
        is_finished = not others and count > above and tree.is_job(here, alone.jobs, alone)
        if is_finished and not is_last and may_end_above:
            return
        if is_finished and not is_last:
            raise NotInvertible("a directory above would be the job already")
        if is_last and not is_finished:
            keys = ", ".join(key_name(key) for key in listed if key not in pinned)
            raise NotInvertible(f"the path leaves keys open: {keys}" if keys else "the path ends too early")


def _pins(term: Expr) -> frozenset[Field]:
    match term:
        case Compare() | Exists():
            return frozenset((term.field,))
        case Spelled(fields, PythonSpelling() | Lacking()):
            return frozenset(fields)
        case _:
            return frozenset()
