"""What one record says, as the places of a tree ask for it.

Owned here: ``Facts``, with which it is found out which places a changed job concerns, without looking at other jobs;
and ``renames``: whether a change went further than that.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Hashable, Iterable, Iterator
from functools import cached_property
from typing import Final, TypeAlias, TypeGuard

from sigfs.index import Table
from sigfs.model.types import JobId, Json, Record
from sigfs.query import holds
from sigfs.query.expr import ABSENT, Compare, Exists, Expr, Field, Op, Space, Spelled, Spelling, Value
from sigfs.query.values import equality_key, flatten, has_nan, order_key
from sigfs.tree.layouts import arrangement_of
from sigfs.tree.nodes import JobsNode, KeyNode, QueryNode, VirtualNode
from sigfs.tree.spellings import PYTHON

Branch: TypeAlias = Hashable
"""Divides the jobs of a directory, so that each of its names depends on one part only: the value of its key, or the
job's id. None is no part."""

_ID: Final = re.compile("[0-9a-f]{32}")


def branch_of(value: Json) -> Branch:
    """Give a key that two values share exactly if a query calls them equal; the value itself where that will do.

    >>> branch_of(1) == branch_of(1.0), branch_of(1) == branch_of(True), branch_of(None)
    (True, False, ('null',))
    """
    kind = type(value)
    if kind is str or kind is int or (kind is float and value == value):
        return value
    return equality_key(value)


def is_job_id(value: Json) -> TypeGuard[JobId]:
    """Tell whether *value* is spelled like a whole id."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def has_python_values(node: KeyNode) -> bool:
    """Tell whether the names of *node* are values as Python spells them."""
    arrangement = arrangement_of(node.parent.view.layout)
    if arrangement is None or not arrangement.python_values:
        return False
    return not node.operator and node.field.space is not Space.ID


class Facts:
    """One record, taken apart when it is first asked.

    Attributes:
        record: the record.
        only_document: its job was and is there, with this state point: nothing but its document may have changed.
    """

    def __init__(self, record: Record, *, only_document: bool = False) -> None:
        """Wrap *record*."""
        self.record = record
        self.only_document = only_document

    @cached_property
    def _statepoint(self) -> dict[str, Json]:
        return dict(flatten(self.record.statepoint))

    @cached_property
    def _document(self) -> dict[str, Json]:
        return dict(flatten(self.record.document))

    def _leaves(self, field: Field) -> dict[str, Json]:
        return self._statepoint if field.space is Space.SP else self._document

    def has(self, field: Field) -> bool:
        """Tell whether the job has *field*; a mapping that holds deeper keys counts."""
        return field.space is Space.ID or field.key in self._leaves(field) or holds(Exists(field), self.record)

    def holds(self, term: Expr) -> bool:
        """As ``query.holds``; quicker for plain equality.

        Raises:
            QueryTooCostly: a regular expression takes too long.
        """
        match term:
            case Compare(Field(Space.SP | Space.DOC) as field, Op.EQ | Op.IS, value):
                leaves = self._leaves(field)
                if field.key not in leaves or (term.op is Op.EQ and has_nan(value.json)):
                    return False
                return branch_of(leaves[field.key]) == branch_of(value.json)
            case Spelled(fields, spelling, name):
                return self._spell(fields, spelling) == name
            case _:
                return holds(term, self.record)

    def branch(self, node: VirtualNode) -> Branch:
        """Give the part of *node*'s jobs that the job belongs to; None where they are not divided, or to none."""
        match node:
            case JobsNode() | KeyNode(_, Field(Space.ID), ""):
                return self.record.id
            case KeyNode(_, field, "") if has_python_values(node):
                leaves = self._leaves(field)
                return PYTHON((leaves[field.key],)) if field.key in leaves else None
            case KeyNode(_, field, ""):
                leaves = self._leaves(field)
                return branch_of(leaves[field.key]) if field.key in leaves else None
            case QueryNode() if arrangement := arrangement_of(node.view.layout):
                component = arrangement.component(node)
                return None if component is None else self._spell(component.fields, component)
            case _:
                return None

    def _spell(self, fields: tuple[Field, ...], spelling: Spelling) -> str:
        return spelling(tuple(self._value(field) for field in fields))

    def _value(self, field: Field) -> Json:
        return self.record.id if field.space is Space.ID else self._leaves(field).get(field.key, ABSENT)

    def leaves(self) -> Iterator[tuple[Field, Json]]:
        """Yield each field that has a value, with the value."""
        for key, value in self._statepoint.items():
            yield Field(Space.SP, key), value
        for key, value in self._document.items():
            yield Field(Space.DOC, key), value


def renames(before: Iterable[Facts], after: Iterable[Facts], table: Table) -> bool:
    """Tell whether equal values (``1`` and ``1.0``) are listed by the name of another of them since a change.

    That happens when the first of them in order comes or goes, and then in directories of other jobs too.

    Args:
        before: what the changed jobs said.
        after: what they say now, as does *table*.
    Complexity: O(keys + leaves of the records).
    """
    before, after = list(before), list(after)
    columns = {**table.statepoints.columns, **table.documents.columns}
    if not before:  # nothing went, so what matters is still there
        columns = {field: column for field, column in columns.items() if column.may_have_equals}
        if not columns:
            return False
    mixed: dict[tuple[Field, Branch], Json] = {}
    for facts, is_gone in ((before, True), (after, False)):
        for each in facts:
            for field, value in each.leaves():
                if type(value) is str or type(value) is bool or value is None:
                    continue
                column = columns.get(field)
                codes = [] if column is None else column.equal_codes(value)
                if len(codes) > 1 or (is_gone and codes and column.code(value) is None):  # type: ignore[union-attr]
                    mixed[field, branch_of(value)] = value
    if not mixed:
        return False
    gone, come = _spellings(before, mixed), _spellings(after, mixed)
    for (field, branch), value in mixed.items():
        column = (table.documents if field.space is Space.DOC else table.statepoints).columns[field]
        now = {Value(column.values[code]): len(column.posting(code)) for code in column.equal_codes(value)}
        lost = {spelling for at, one, spelling in gone if (at, one) == (field, branch)}
        then = [s for s in {*now, *lost} if now.get(s, 0) + gone[field, branch, s] - come[field, branch, s] > 0]
        if now and then and _first(now) != _first(then):
            return True
    return False


def _spellings(facts: Iterable[Facts], mixed: Container[tuple[Field, Branch]]) -> Counter[tuple[Field, Branch, Value]]:
    return Counter(
        (field, branch, Value(value))
        for each in facts
        for field, value in each.leaves()
        if (field, (branch := branch_of(value))) in mixed
    )


def _first(values: Iterable[Value]) -> Value:
    return min(values, key=lambda value: order_key(value.json))
