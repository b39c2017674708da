"""A view as a tree: which names a directory lists, and what a name leads to.

Owned here: the two rules of the path language. Listing is a decision tree, so that a walk ends and meets every job
exactly once (I9); lookup resolves more than is listed: any key in any order, operators, other spellings. Everything
is a pure function of (node, name, snapshot): no state, no lock, no side effect.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Literal, TypeAlias, assert_never, get_args

from sigfs.errors import QuerySyntaxError
from sigfs.index import Selection, Snapshot
from sigfs.model.types import JobId
from sigfs.query import needs_documents
from sigfs.query.expr import EVERYTHING, And, Compare, Exists, Expr, Field, Op, Or, Space, Value
from sigfs.query.path import key_name, parse_key, parse_operand, value_name
from sigfs.query.values import has_nan
from sigfs.tree.names import may_be_shortened, shorten
from sigfs.tree.nodes import JobNode, JobsNode, KeyNode, Node, QueryNode, VirtualNode

Layout: TypeAlias = Literal["auto", "full"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)

_ABSENT = "false"  # the one entry of KEY@exists/
_ASKS_NO_KEY = ("$exists", "$and", "$or", "$not")  # these hold for jobs without the key, too


class Tree:
    """One view: a filter and the layout that arranges its jobs.

    ``auto`` does not list keys that are constant over the whole view (a lone job shows all its keys); ``full`` lists
    every key. Both resolve the same names.
    """

    def __init__(self, layout: Layout = "auto", filter: Expr = EVERYTHING) -> None:  # noqa: A002 - the view's word
        """Define the view.

        Raises:
            ValueError: there is no such layout.
        """
        if layout not in LAYOUTS:
            raise ValueError(f"no layout {layout!r}; there are: {', '.join(LAYOUTS)}")
        self.layout = layout
        self.filter = filter

    @cached_property
    def root(self) -> QueryNode:
        """The view's top directory. Always virtual: a lone job without any key is listed by its id."""
        return QueryNode(self.filter.terms if isinstance(self.filter, And) else (self.filter,))

    def child(self, node: VirtualNode, name: str, snapshot: Snapshot) -> Node | None:
        """Find what *name* leads to in *node*.

        None is an answer: the name says nothing, or nothing that holds for any job.

        Args:
            name: one component as the kernel gives it.
        Complexity: O(values of the key at hand); independent of the number of jobs.
        """
        match node:
            case QueryNode():
                return self._child_of_query(node, name, snapshot)
            case KeyNode():
                return self._child_of_key(node, name, snapshot)
            case JobsNode():
                return _job_among(self._jobs(node.parent, snapshot), name, snapshot)
            case _:
                assert_never(node)

    def names(self, node: VirtualNode, snapshot: Snapshot) -> Sequence[str]:
        """List *node*: names of directories, each once; empty where no job is left.

        Complexity: O(v log v) in the values v of the key at hand; O(jobs) where jobs are listed by id.
        """
        match node:
            case QueryNode():
                jobs = self._jobs(node, snapshot)
                field = self._next_key(node, snapshot)
                if field is None:
                    return snapshot.ids(jobs)
                names = [shorten(key_name(field))]
                if not jobs.issubset(snapshot.having(field)):
                    names.append(shorten(key_name(field), "@exists"))
                return names
            case KeyNode(parent, field, ""):
                jobs = self._jobs(parent, snapshot)
                if field.space is Space.ID:
                    return snapshot.ids(jobs)
                # dict: two long values may share a shortened name
                return list(dict.fromkeys(shorten(value_name(v)) for v in snapshot.values(field, jobs)))
            case KeyNode(parent, field, "$exists"):
                return [_ABSENT] if snapshot.select(Exists(field, present=False), self._jobs(parent, snapshot)) else []
            case KeyNode():
                return []
            case JobsNode(parent):
                return snapshot.ids(self._jobs(parent, snapshot))
            case _:
                assert_never(node)

    def query(self, node: VirtualNode) -> Expr:
        """Give the query that *node* stands for; a key asks that it exists."""
        match node:
            case QueryNode():
                return node.query
            case KeyNode(parent, field, operator) if operator not in _ASKS_NO_KEY:
                return And((*parent.terms, Exists(field)))
            case KeyNode(parent) | JobsNode(parent):
                return parent.query
            case _:
                assert_never(node)

    def jobs(self, node: VirtualNode, snapshot: Snapshot) -> Selection:
        """Give the jobs that lie below *node*."""
        return snapshot.select(self.query(node))

    def reads_documents(self, node: VirtualNode, name: str = "") -> bool:
        """Tell whether what *node* and *name* in it lead to depends on documents."""
        if needs_documents(self.query(node)):
            return True
        try:
            match node:
                case QueryNode() if name:
                    return parse_key(name)[0].space is Space.DOC
                case KeyNode(_, field, operator):
                    return field.space is Space.DOC or (
                        operator in _ASKS_NO_KEY
                        and bool(name)
                        and needs_documents(parse_operand(field, operator, name))
                    )
                case _:
                    return False
        except QuerySyntaxError:
            return False

    # How a query is arranged

    def _jobs(self, node: QueryNode, snapshot: Snapshot) -> Selection:
        return snapshot.select(node.query)

    def _next_key(self, node: QueryNode, snapshot: Snapshot) -> Field | None:
        """Give the key to list: the first in canonical order that is not settled and that some job has.

        Not one at which some job has a mapping with deeper keys (``a`` beside ``a.b``): it has that key, though no
        value of it, and would be below neither ``a/`` nor ``a@exists/false``. Deeper keys tell those jobs apart first.
        """
        jobs = self._jobs(node, snapshot)
        for field in self._listed_keys(snapshot):
            having = snapshot.having(field)
            if (
                field not in node.pinned
                and jobs.intersect(having)
                and not jobs.intersect(snapshot.having_mapping(field) - having)
            ):
                return field
        return None

    def _listed_keys(self, snapshot: Snapshot) -> tuple[Field, ...]:
        """Give the keys of the view in canonical order: fewest distinct values first, then by name."""

        def compute() -> tuple[Field, ...]:
            view = self._jobs(self.root, snapshot)
            lists_constants = self.layout == "full" or len(view) == 1
            ranked = sorted(
                (snapshot.count_values(field, view), field)
                for field in snapshot.fields()
                if view.intersect(snapshot.having(field)) and (lists_constants or not snapshot.is_constant(field, view))
            )
            return tuple(field for _, field in ranked)

        return snapshot.cached(("listed keys", self.layout, self.filter), compute)

    # What a name leads to

    def _child_of_query(self, node: QueryNode, name: str, snapshot: Snapshot) -> Node | None:
        jobs = self._jobs(node, snapshot)
        if not jobs:
            return None
        if name == ".jobs":
            return JobsNode(node)
        if name == ".job":
            return JobNode(snapshot.ids(jobs)[0]) if len(jobs) == 1 else None
        if self._next_key(node, snapshot) is None and (job := _job_among(jobs, name, snapshot)):
            return job
        key = self._key(node, name, snapshot)
        return key if key and self.jobs(key, snapshot) else None

    def _key(self, node: QueryNode, name: str, snapshot: Snapshot) -> KeyNode | None:
        base, at, operator = name.partition("@")
        try:
            if may_be_shortened(base):
                for field in snapshot.fields():
                    if shorten(key_name(field), at + operator) == name:
                        return KeyNode(node, field, parse_key(f"key{at}{operator}")[1])
            return KeyNode(node, *parse_key(name))
        except QuerySyntaxError:
            return None

    def _child_of_key(self, node: KeyNode, name: str, snapshot: Snapshot) -> Node | None:
        parent, field = node.parent, node.field
        if node.operator == "" and may_be_shortened(name):
            meant = (v for v in snapshot.values(field, self._jobs(parent, snapshot)) if shorten(value_name(v)) == name)
            terms = tuple(Compare(field, Op.IS if has_nan(value) else Op.EQ, Value(value)) for value in meant)
            if terms:
                return self._descend(parent, terms[0] if len(terms) == 1 else Or(terms), field, snapshot)
        try:
            term = parse_operand(field, node.operator, name)
        except QuerySyntaxError:
            return None
        settles = isinstance(term, Compare) and term.op in (Op.EQ, Op.IS)
        pinned = field if settles or term == Exists(field, present=False) else None
        return self._descend(parent, term, pinned, snapshot)

    def _descend(self, node: QueryNode, term: Expr, pinned: Field | None, snapshot: Snapshot) -> Node | None:
        deeper = QueryNode((*node.terms, term), node.pinned | {pinned} if pinned else node.pinned)
        jobs = self._jobs(deeper, snapshot)
        if not jobs:
            return None
        if len(jobs) == 1 and self._next_key(deeper, snapshot) is None:
            return JobNode(snapshot.ids(jobs)[0])
        return deeper


def _job_among(jobs: Selection, name: str, snapshot: Snapshot) -> JobNode | None:
    number = snapshot.number(name)
    return JobNode(JobId(name)) if number is not None and number in jobs else None
