"""A view as a tree: which names a directory lists, and what a name leads to.

Owned here: the two rules of the path language. Listing is a decision tree, so that a walk ends and meets every job
exactly once (I9); lookup resolves more than is listed: any key in any order, operators, other spellings. Everything
is a pure function of (node, name, table): no state, no lock, no side effect. Whoever calls holds the index's lock for
reading for as long as it uses the table and the selections that come out of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Final, NamedTuple, assert_never

from sigfs.errors import QuerySyntaxError
from sigfs.index import Selection, Table, is_subset
from sigfs.model.types import JobId, Json, Record, StatePoint
from sigfs.query import needs_documents
from sigfs.query.expr import ABSENT, EVERYTHING, And, Compare, Exists, Expr, Field, Op, Or, Space, Spelled, Value
from sigfs.query.mapping import join
from sigfs.query.path import key_name, parse_key, parse_operand, value_name
from sigfs.query.values import has_nan
from sigfs.tree.facts import Branch, branch_of, has_python_values, is_job_id
from sigfs.tree.inverse import Target, made_at, moved_to, target_of
from sigfs.tree.layouts import Arrangement, Done, Names, Pair, Partitions, arrangement_of
from sigfs.tree.names import may_be_shortened, shorten
from sigfs.tree.nodes import JobNode, JobsNode, KeyNode, Layout, Node, QueryNode, SpecialNode, View, VirtualNode
from sigfs.tree.special import PROJECT, find_special, is_text, names_of
from sigfs.tree.spellings import PYTHON, hive_name, lacks, parse_hive_name

_ABSENT = "false"  # the one entry of KEY@exists/
_ASKS_NO_KEY = ("$exists", "$and", "$or", "$not")  # these hold for jobs without the key, too

# A walk, and whoever tells the kernel of changes, parses the same few names again and again.
_PARSED_LIMIT: Final = 4096
_parse_key = lru_cache(_PARSED_LIMIT)(parse_key)
_parse_operand = lru_cache(_PARSED_LIMIT)(parse_operand)


class Found(NamedTuple):
    """What a name leads to.

    Attributes:
        node: the place.
        branch: which jobs of the directory's selection the answer depends on: those for which ``Facts.branch`` gives
            the same; None: any of them.
        jobs: the selection of *node* if that is virtual; to be used like the table it comes from.
    """

    node: Node
    branch: Branch
    jobs: Selection


class Tree:
    """What is listed and found in the nodes of views, and the view at the top.

    A node knows the view that it belongs to; nodes of any view may be asked about.

    ``auto`` does not list keys that are constant over the whole view (a lone job shows all its keys); ``full`` lists
    every key. Both resolve the same names.
    """

    def __init__(self, layout: Layout = "auto", filter: Expr = EVERYTHING) -> None:  # noqa: A002 - the view's word
        """Define the view at the top.

        Raises:
            ValueError: there is no such layout; BadTemplate where it is meant to be a template.
        """
        arrangement_of(layout)
        self.view = View(layout, filter)
        self.views: Callable[[], Mapping[str, View]] = dict
        """Gives the named views, as they are now."""

    @cached_property
    def root(self) -> QueryNode:
        """The top directory of the view at the top."""
        return self.root_of(self.view)

    def root_of(self, view: View) -> QueryNode:
        """Give the top directory of *view*. Always virtual: a lone job without any key is listed by its id."""
        return QueryNode(view.terms, view=view)

    def view_of(self, node: VirtualNode) -> View:
        """Give the view that *node* belongs to."""
        match node:
            case QueryNode():
                return node.view
            case KeyNode() | JobsNode():
                return node.parent.view
            case SpecialNode():
                return PROJECT.view
            case _:
                assert_never(node)

    def child(self, node: VirtualNode, name: str, table: Table) -> Node | None:
        """Find what *name* leads to in *node*; None as for ``find``."""
        found = self.find(node, name, table)
        return None if found is None else found.node

    def find(self, node: VirtualNode, name: str, table: Table, jobs: Selection | None = None) -> Found | None:
        """Find what *name* leads to in *node*, and what that depends on.

        None is an answer: the name says nothing, or nothing that holds for any job.

        Args:
            name: one component as the kernel gives it.
            jobs: what ``selection`` gives for *node*, if it is known.
        Complexity: O(values of the key at hand); independent of the number of jobs.
        """
        if jobs is None:
            jobs = self.selection(node, table)
        match node:
            case QueryNode():
                return self._find_in_query(node, name, jobs, table)
            case KeyNode():
                return self._find_value(node, name, jobs, table)
            case JobsNode():
                job = _job_among(jobs, name, table)
                return None if job is None else Found(job, job.id, jobs)
            case SpecialNode():
                return self._find_special(node, name, table)
            case _:
                assert_never(node)

    def names(self, node: VirtualNode, table: Table) -> Iterator[str]:
        """List *node*: names of directories, each once; none where no job is left.

        What is listed is decided now; a name is spelled when the iterator comes to it, which needs no *table* any more.

        Complexity: O(v log v) in the values v of the key at hand; O(jobs) where jobs are listed by id.
        """
        jobs = self.selection(node, table)
        match node:
            case QueryNode() if arrangement := arrangement_of(node.view.layout):
                return self._arranged_names(arrangement, node, jobs, table)
            case QueryNode():
                field = self._next_key(node.view, jobs, node.pinned, table)
                if field is None:
                    return iter(table.ids(jobs))
                names = [shorten(key_name(field))]
                if not is_subset(jobs, table.having(field)):
                    names.append(shorten(key_name(field), "@exists"))
                return iter(names)
            case KeyNode():
                return self._value_names(node, jobs, table)
            case JobsNode():
                return iter(table.ids(jobs))
            case SpecialNode():
                return names_of(node, self.views())
            case _:
                assert_never(node)

    def query(self, node: VirtualNode) -> Expr:
        """Give the query that *node* stands for; a key asks that it exists."""
        match node:
            case QueryNode():
                return node.query
            case KeyNode(parent, field, operator) if operator not in _ASKS_NO_KEY:
                return And((*parent.terms, Exists(field))) if parent.terms else Exists(field)
            case KeyNode(parent) | JobsNode(parent):
                return parent.query
            case SpecialNode():
                return PROJECT.query
            case _:
                assert_never(node)

    def spelled_query(self, node: VirtualNode, table: Table) -> Expr:
        """Give ``query`` in terms that can be spelled: a name of a template is said by the values that have it now."""
        return _spell_out(self.query(node), table)

    def jobs(self, node: VirtualNode, table: Table) -> Selection:
        """Give the jobs that lie below *node*."""
        jobs = self.selection(node, table)
        if isinstance(node, KeyNode) and _asks_key(node):
            return jobs & (table.having(node.field) | table.having_mapping(node.field))
        return jobs

    def selection(self, node: VirtualNode, table: Table) -> Selection:
        """Give the jobs of the query that *node* is, or hangs off: all that its names can depend on."""
        if isinstance(node, SpecialNode):
            return table.jobs
        return table.select((node if isinstance(node, QueryNode) else node.parent).query)  # twice as quick as match

    def listed_keys(self, table: Table, view: View) -> tuple[Field, ...]:
        """Give the keys of *view* in canonical order: fewest distinct values first, then by name.

        As long as these and the names of values (``Table.values``) are the same, what a directory says depends on the
        jobs in its ``selection`` alone.

        Complexity: O(keys), with a filter O(values); once per generation.
        """

        arrangement = arrangement_of(view.layout)

        def compute() -> tuple[Field, ...]:
            jobs = table.select(self.root_of(view).query)
            if arrangement is not None:
                return arrangement.keys(jobs, table)
            lists_constants = view.layout == "full" or len(jobs) == 1
            counts = ((table.count_values(field, jobs), field) for field in table.fields(Space.SP))
            ranked = sorted(
                (count, field)
                for count, field in counts
                if count > 1 or (count and (lists_constants or not table.is_constant(field, jobs)))
            )
            return tuple(field for _, field in ranked)

        return table.cached(("listed keys", view), compute)

    def keys_with(self, view: View, jobs: Selection, leaves: Mapping[Field, Json], table: Table) -> set[Field]:
        """Give the keys that *view* would list if it had these *jobs* and one more with these *leaves*.

        Keys that only others have may be left out, where they do not concern the one.
        """
        arrangement = arrangement_of(view.layout)
        if arrangement is not None:
            return arrangement.keys_with(jobs, leaves, table)
        if view.layout == "full" or not jobs:
            return set(leaves)
        return {key for key, value in leaves.items() if not table.is_constant_as(key, jobs, value)}

    # From paths back to state points

    def target(self, node: VirtualNode, name: str, table: Table) -> Target:
        """Say what *name* in *node* would be, were there a job for it. Neither needs to be there.

        Raises:
            NotInvertible: the path says what settles no state point: an operator, a ``doc.`` key, an id.
        """
        return target_of(self, node, name, table)

    def made(self, target: Target, table: Table) -> StatePoint:
        """Give the state point of a job made at *target*.

        That is what the path says, and the keys that it does not name and that the jobs beside it (those of the
        nearest directory above that has any) all have with one value.

        Raises:
            NotInvertible: the path leaves a key open, the keys contradict each other (``a`` beside ``a.b``), the
                view's filter would not hold, or other jobs are there.
        """
        return made_at(self, target, table)

    def moved(self, target: Target, old: Record, source: tuple[VirtualNode, str], table: Table) -> StatePoint:
        """Give the state point of a job, which says *old* now, that is moved to *target*.

        That is its old one with what the new path says, and without the keys that the old path settled and the new
        one does not name. A path through ``.jobs`` or ``.job`` settles nothing. Where the move
        leaves a key with one value in the whole view, so that it is listed no longer, the job is found further up.

        Args:
            source: where the job is moved from: a directory and the name in it.

        Raises:
            NotInvertible: the new path would not lead to the job then, or the reasons of ``made``.
        """
        return moved_to(self, target, old, source, table)

    def reads_documents(self, node: VirtualNode, name: str = "") -> bool:
        """Tell whether what *node* and *name* in it lead to depends on documents."""
        if isinstance(node, SpecialNode):
            if node.kind == "find" and not is_text(name):
                return self.reads_documents(PROJECT, name)
            place = find_special(node, name, self.views())
            return isinstance(place, QueryNode) and self.reads_documents(place)
        arrangement = arrangement_of(self.view_of(node).layout)
        if (arrangement is not None and arrangement.reads_documents) or needs_documents(self.query(node)):
            return True
        try:
            match node:
                case QueryNode() if name:
                    return _parse_key(name)[0].space is Space.DOC
                case KeyNode(_, field, operator):
                    return field.space is Space.DOC or (
                        operator in _ASKS_NO_KEY
                        and bool(name)
                        and needs_documents(_parse_operand(field, operator, name))
                    )
                case _:
                    return False
        except QuerySyntaxError:
            return False

    # How a query is arranged

    def _next_key(self, view: View, jobs: Selection, pinned: frozenset[Field], table: Table) -> Field | None:
        """Give the key to list: the first in canonical order that is not settled and that some job has.

        Not one at which some job has a mapping with deeper keys (``a`` beside ``a.b``): it has that key, though no
        value of it, and would be below neither ``a/`` nor ``a@exists/false``. Deeper keys tell those jobs apart first.
        """
        for field in self.listed_keys(table, view):
            if field in pinned:
                continue
            having = table.having(field)
            if jobs.intersect(having):
                mappings = jobs & table.having_mapping(field)
                if not mappings or is_subset(mappings, having):
                    return field
        return None

    # What is listed, and what a name leads to

    def _value_names(self, node: KeyNode, jobs: Selection, table: Table) -> Iterator[str]:
        field = node.field
        if node.operator == "$exists":
            return iter([_ABSENT] if table.select(Exists(field, present=False), jobs) else [])
        if node.operator:
            return iter(())
        if field.space is Space.ID:
            return iter(table.ids(jobs))
        if has_python_values(node):
            jobs = (jobs & table.having(field)) - table.select(lacks(field, or_empty=True))
            return iter(table.spellings((field,), PYTHON, jobs))
        return _spell(table.values(field, jobs))

    def _find_special(self, node: SpecialNode, name: str, table: Table) -> Found | None:
        if node.kind == "find" and not is_text(name):
            return self.find(PROJECT, name, table)
        place = find_special(node, name, self.views())
        if place is None:
            return None
        jobs = self.selection(place, table)
        return Found(place, None, jobs) if jobs or node.kind != "find" else None

    def _find_in_query(self, node: QueryNode, name: str, jobs: Selection, table: Table) -> Found | None:
        if not jobs:
            return None
        if name == ".jobs":
            return Found(JobsNode(node), None, jobs)
        if name == ".job":
            return Found(JobNode(table.ids(jobs)[0]), None, jobs) if len(jobs) == 1 else None
        arrangement = arrangement_of(node.view.layout)
        if arrangement is not None:
            found = self._find_arranged(arrangement, node, name, jobs, table)
            if found is not None:
                return found
        else:
            job = _job_among(jobs, name, table)
            if job is not None and self._next_key(node.view, jobs, node.pinned, table) is None:
                return Found(job, None, jobs)
        key = self._key(node, name, jobs, table)
        return Found(key, None, jobs) if key and _some_have(key, jobs, table) else None

    def _key(self, node: QueryNode, name: str, jobs: Selection, table: Table) -> KeyNode | None:
        base, at, operator = name.partition("@")
        try:
            if may_be_shortened(base):
                for field in table.fields(Space.SP):
                    if shorten(key_name(field), at + operator) == name:
                        key = KeyNode(node, field, _parse_key(f"key{at}{operator}")[1])
                        if _some_have(key, jobs, table):
                            return key
            return KeyNode(node, *_parse_key(name))
        except QuerySyntaxError:
            return None

    def _find_value(self, node: KeyNode, name: str, jobs: Selection, table: Table) -> Found | None:
        field = node.field
        is_python = has_python_values(node)
        if is_python:
            spelled = Spelled((field,), PYTHON, name)
            if jobs.intersect(table.select(spelled)):
                return self._descend(node.parent, spelled, field, name, jobs, table)
        elif node.operator == "" and may_be_shortened(name):
            meant = (v for v in table.values(field, jobs) if shorten(value_name(v)) == name)
            terms = tuple(Compare(field, Op.IS if has_nan(value) else Op.EQ, Value(value)) for value in meant)
            if len(terms) == 1:
                return self._descend(node.parent, terms[0], field, _branch(terms[0], node), jobs, table)
            if terms:
                return self._descend(node.parent, Or(terms), field, None, jobs, table)
        try:
            term = _parse_operand(field, node.operator, name)
        except QuerySyntaxError:
            return None
        settles = isinstance(term, Compare) and term.op in (Op.EQ, Op.IS)
        pinned = field if settles or term == Exists(field, present=False) else None
        branch = None if is_python or may_be_shortened(name) else _branch(term, node)
        return self._descend(node.parent, term, pinned, branch, jobs, table)

    def _descend(
        self, node: QueryNode, term: Expr, pinned: Field | None, branch: Branch, jobs: Selection, table: Table
    ) -> Found | None:
        # An equality is quickly answered for all jobs; anything else may be quicker for few.
        jobs = table.select(term) & jobs if pinned else table.select(term, jobs)
        if not jobs:
            return None
        settled = node.pinned | {pinned} if pinned else node.pinned
        below = QueryNode((*node.terms, term), settled, node.view)
        if len(jobs) == 1 and self.is_job(below, jobs, table):
            return Found(JobNode(table.ids(jobs)[0]), branch, jobs)
        return Found(below, branch, jobs)

    def is_job(self, node: QueryNode, jobs: Selection, table: Table) -> bool:
        """Tell whether nothing is left to say of the only one of *jobs*, so that *node* is its directory."""
        arrangement = arrangement_of(node.view.layout)
        if arrangement is None:
            return self._next_key(node.view, jobs, node.pinned, table) is None
        first = next(arrangement.parts(node, jobs, self.listed_keys(table, node.view), table))
        return isinstance(first, Done) and first.leaf is None

    # Other layouts

    def _arranged_names(
        self, arrangement: Arrangement, node: QueryNode, jobs: Selection, table: Table
    ) -> Iterator[str]:
        names: list[str] = []
        for part in arrangement.parts(node, jobs, self.listed_keys(table, node.view), table):
            match part:
                case Pair(name):
                    names.append(name)
                case Names(_, component, among):
                    names += table.spellings(component.fields, component, among)
                case Partitions(field, among):
                    names += dict.fromkeys(hive_name(field, value) for value in table.values(field, among))
                    if not is_subset(among, table.having(field)):
                        names.append(hive_name(field, ABSENT))
                case Done(_, leaf, among) if leaf is not None:
                    names += [leaf] if among else []
                case Done(_, _, among):
                    names += table.ids(among)
                case _:
                    assert_never(part)
        return iter(dict.fromkeys(names))

    def _find_arranged(
        self, arrangement: Arrangement, node: QueryNode, name: str, jobs: Selection, table: Table
    ) -> Found | None:
        for part in arrangement.parts(node, jobs, self.listed_keys(table, node.view), table):
            match part:
                case Pair(listed, key):
                    if name == listed:
                        return Found(key, None, self.selection(key, table))
                case Names(below, component, among):
                    spelled = Spelled(component.fields, component, name)
                    branch = None if arrangement.component(node) is None else name
                    found = self._descend(below, spelled, None, branch, among, table)
                    if found is not None:
                        return found
                case Partitions(field, among):
                    found = self._find_partition(node, name, field, among, table)
                    if found is not None:
                        return found
                case Done(below, leaf, among) if leaf is not None:
                    if name == leaf and among:
                        if len(among) == 1:
                            return Found(JobNode(table.ids(among)[0]), None, among)
                        return Found(JobsNode(below), None, among)
                case Done(_, _, among):
                    job = _job_among(among, name, table)
                    if job is not None:
                        return Found(job, None, among)
                case _:
                    assert_never(part)
        return None

    def _find_partition(self, node: QueryNode, name: str, field: Field, jobs: Selection, table: Table) -> Found | None:
        terms: tuple[Expr, ...] = ()
        if may_be_shortened(name):
            meant = [value for value in table.values(field, jobs) if hive_name(field, value) == name]
            terms = tuple(Compare(field, Op.IS if has_nan(value) else Op.EQ, Value(value)) for value in meant)
            if hive_name(field, ABSENT) == name:
                terms += (lacks(field),)
        if not terms:
            read = parse_hive_name(name)
            if read is None or not table.having(read[0]):
                return None
            field, value = read
            terms = (
                lacks(field) if value is ABSENT else Compare(field, Op.IS if has_nan(value) else Op.EQ, Value(value)),
            )
        return self._descend(node, terms[0] if len(terms) == 1 else Or(terms), field, None, jobs, table)


def _asks_key(node: KeyNode) -> bool:
    """Tell whether only jobs that have the key can lie below it."""
    return node.operator not in _ASKS_NO_KEY and node.field.space is not Space.ID


def _some_have(node: KeyNode, jobs: Selection, table: Table) -> bool:
    if not _asks_key(node):
        return bool(jobs)
    return jobs.intersect(table.having(node.field)) or jobs.intersect(table.having_mapping(node.field))


def _branch(term: Expr, node: KeyNode) -> Branch:
    if not isinstance(term, Compare) or term.field != node.field or term.op not in (Op.EQ, Op.IS):
        return None
    if node.field.space is Space.ID:
        return term.value.json if is_job_id(term.value.json) else None
    return branch_of(term.value.json)


def _spell(values: Sequence[Json]) -> Iterator[str]:
    shortened = set()
    for value in values:
        whole = value_name(value)
        name = shorten(whole)
        if name != whole:  # two long values may share a shortened name, but nothing else does
            if name in shortened:
                continue
            shortened.add(name)
        yield name


def _spell_out(expr: Expr, table: Table) -> Expr:
    match expr:
        case And(terms):
            return And(tuple(_spell_out(term, table) for term in terms))
        case Spelled(fields, spelling, name):
            alternatives = [
                join([_says(field, value) for field, value in zip(fields, values, strict=True)])
                for values, _ in table.combinations(fields, table.select(expr))
                if spelling(values) == name
            ]
            return alternatives[0] if len(alternatives) == 1 else Or(tuple(alternatives))
        case _:
            return expr


def _says(field: Field, value: Json) -> Expr:
    if value is ABSENT:
        return Exists(field, present=False)
    return Compare(field, Op.IS if has_nan(value) else Op.EQ, Value(value))


def _job_among(jobs: Selection, name: str, table: Table) -> JobNode | None:
    number = table.number(name)
    return JobNode(JobId(name)) if number is not None and number in jobs else None
