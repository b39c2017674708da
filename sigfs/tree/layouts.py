"""Layouts that arrange a view otherwise than by one key after the other: ``hive``, ``signac`` and templates.

Owned here: which parts a directory's jobs fall into, and so what is listed. Each job is in exactly one part, so that a
walk meets it once (I9). What a name leads to is the tree's business.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from sigfs.query.expr import Field, Space, Spelled
from sigfs.query.path import encode, key_name
from sigfs.tree.names import shorten
from sigfs.tree.nodes import KeyNode, QueryNode
from sigfs.tree.spellings import lacks, plain_name
from sigfs.tree.templates import Auto, Component, Template, parse_template

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sigfs.index import Selection, Table
    from sigfs.model.types import Json
    from sigfs.query.expr import Expr
    from sigfs.tree.nodes import Layout

LAYOUTS: Final[tuple[Layout, ...]] = ("auto", "full", "hive", "signac")
"""Those with a name; any other text with a field in braces is a template."""

_ANY: Final = re.compile(".", re.DOTALL)
_RESERVED: Final = re.compile(r"\.(jobs?|sigfs)\Z")


@dataclass(frozen=True, slots=True)
class Pair:
    """Jobs below a key: one name.

    Attributes:
        node: the key; its parent says which keys the jobs lack that come before it.
    """

    name: str
    node: KeyNode


@dataclass(frozen=True, slots=True)
class Names:
    """Jobs below the names that a component gives them.

    Attributes:
        node: the directory, with what is said of keys that come before.
    """

    node: QueryNode
    component: Component
    jobs: Selection


@dataclass(frozen=True, slots=True)
class Partitions:
    """Jobs below ``KEY=VALUE``."""

    field: Field
    jobs: Selection


@dataclass(frozen=True, slots=True)
class Done:
    """Jobs that nothing more is said of.

    Attributes:
        node: the directory, with what is said of keys that come before.
        leaf: the name that they are listed by; None: by their ids, or the directory is the job's.
    """

    node: QueryNode
    leaf: str | None
    jobs: Selection


Part: TypeAlias = Pair | Names | Partitions | Done


class Arrangement(Protocol):
    """A layout. Pure, as the tree."""

    python_values: bool
    """Whether values below a key are spelled as Python does."""
    reads_documents: bool
    """Whether what is listed depends on documents."""

    def keys(self, jobs: Selection, table: Table) -> tuple[Field, ...]:
        """Give the keys that are listed of a view with these *jobs*, in order."""

    def parts(self, node: QueryNode, jobs: Selection, keys: tuple[Field, ...], table: Table) -> Iterator[Part]:
        """Divide *jobs*, those of *node*; *keys*: those of the view."""

    def component(self, node: QueryNode) -> Component | None:
        """Give the one component that names all that is listed in *node*, whatever jobs there are, if there is one."""

    def keys_with(self, jobs: Selection, leaves: Mapping[Field, Json], table: Table) -> set[Field]:
        """See ``Tree.keys_with``."""


class Hive:
    """``a=1/b=x/``: every key at the same level for every job."""

    python_values = False
    reads_documents = False

    def keys(self, jobs: Selection, table: Table) -> tuple[Field, ...]:
        """Give all keys: fewest values first, then by name."""
        counts = ((table.count_values(field, jobs), field) for field in table.fields(Space.SP))
        return tuple(field for count, field in sorted(counts) if count)

    def parts(self, node: QueryNode, jobs: Selection, keys: tuple[Field, ...], table: Table) -> Iterator[Part]:  # noqa: ARG002
        """Divide by the first key that is not settled."""
        for field in keys:
            if field not in node.pinned:
                yield Partitions(field, jobs)
                return
        yield Done(node, None, jobs)

    def component(self, node: QueryNode) -> Component | None:  # noqa: ARG002
        """Give none: which key comes next is not known from the node."""
        return None

    def keys_with(self, jobs: Selection, leaves: Mapping[Field, Json], table: Table) -> set[Field]:
        """Give all."""
        return {*leaves, *self.keys(jobs, table)}


class Signac:
    """The tree of ``signac view``."""

    python_values = True
    reads_documents = False
    leaf = "job"

    def keys(self, jobs: Selection, table: Table) -> tuple[Field, ...]:
        """Give the keys that are not constant, in signac's order; none for a lone job."""
        return _signac_keys(jobs, table)

    def parts(self, node: QueryNode, jobs: Selection, keys: tuple[Field, ...], table: Table) -> Iterator[Part]:
        """Divide by the first key of each job that is not settled."""
        keyed, node, rest = _keyed(node, jobs, keys, table)
        yield from _pairs(keyed, lambda name: bool(rest) and name == self.leaf)
        if rest:
            yield Done(node, self.leaf, rest)

    def component(self, node: QueryNode) -> Component | None:  # noqa: ARG002
        """Give none: keys are listed."""
        return None

    def keys_with(self, jobs: Selection, leaves: Mapping[Field, Json], table: Table) -> set[Field]:
        """Give those in which the job differs, or which others lack."""
        return _differing(jobs, leaves, table)


class Templated:
    """What a template says."""

    python_values = True

    def __init__(self, template: Template) -> None:
        """Follow *template*."""
        self.template = template
        self.reads_documents = template.reads_documents
        self._named = {hole.field for hole in template.holes}

    def keys(self, jobs: Selection, table: Table) -> tuple[Field, ...]:
        """Give what ``{{auto}}`` stands for: the keys that are not constant, and that no field names."""
        if not self.template.has_auto:
            return ()
        return tuple(field for field in _signac_keys(jobs, table) if field not in self._named)

    def parts(self, node: QueryNode, jobs: Selection, keys: tuple[Field, ...], table: Table) -> Iterator[Part]:
        """Divide by what comes next."""
        component, keys_first = self.following(node)
        keyed: list[KeyNode] = []
        rest = jobs
        if keys_first:
            keyed, node, rest = _keyed(node, jobs, keys, table)
        if component is None:
            yield from _pairs(keyed, lambda name: (number := table.number(name)) is not None and number in rest)
            end: Part = Done(node, None, rest)
        else:
            component = component.with_keys(keys)
            fields = component.fields
            yield from _pairs(keyed, lambda name: bool(table.select(Spelled(fields, component, name), rest)))
            end = Names(node, component, rest)
        if rest:
            yield end

    def component(self, node: QueryNode) -> Component | None:
        """Give the next component, if that does not depend on which keys there are."""
        left = self.template.components[self._step(node) :]
        return left[0] if left and isinstance(left[0], Component) and not left[0].is_auto else None

    def keys_with(self, jobs: Selection, leaves: Mapping[Field, Json], table: Table) -> set[Field]:
        """Give those in which the job differs, or which others lack, and that no field names."""
        return _differing(jobs, leaves, table) - self._named if self.template.has_auto else set()

    def following(self, node: QueryNode) -> tuple[Component | None, bool]:
        """Give the next component, and whether keys of ``{{auto}}`` may come before it."""
        left = self.template.components[self._step(node) :]
        component = next((each for each in left if isinstance(each, Component)), None)
        return component, bool(left) and isinstance(left[0], Auto)

    def is_ending(self, node: QueryNode) -> bool:
        """Tell whether no further component comes."""
        return self.following(node)[0] is None

    def _step(self, node: QueryNode) -> int:
        for term in reversed(node.terms[len(node.view.terms) :]):
            if isinstance(term, Spelled) and isinstance(term.spelling, Component):
                return term.spelling.index + 1
        return 0


@lru_cache(64)
def arrangement_of(layout: Layout) -> Arrangement | None:
    """Give what arranges a view; None for ``auto`` and ``full``, which the tree does itself.

    Raises:
        ValueError: there is no such layout; BadTemplate if it is meant to be a template.
    """
    match layout:
        case "auto" | "full":
            return None
        case "hive":
            return Hive()
        case "signac":
            return Signac()
        case _ if "{" in layout or "}" in layout or "/" in layout:
            return Templated(parse_template(layout))
        case _:
            raise ValueError(f"no layout {layout!r}; there are: {', '.join(LAYOUTS)}, or a template as 'a_{{a}}/{{b}}'")


def check_layout(layout: str) -> Layout:
    """Give *layout* if it is one.

    Raises:
        ValueError: as for ``arrangement_of``.
    """
    arrangement_of(layout)
    return layout


def _keyed(
    node: QueryNode, jobs: Selection, keys: tuple[Field, ...], table: Table
) -> tuple[list[KeyNode], QueryNode, Selection]:
    """Divide *jobs* by the first of *keys* that they have and that is not settled.

    Returns:
        The keys; the directory of the jobs that have none, as the query that says so; and these.
    """
    found: list[KeyNode] = []
    terms: tuple[Expr, ...] = ()
    lacking: list[Field] = []
    for field in keys:
        if field in node.pinned:
            continue
        missing = lacks(field, or_empty=True)
        rest = table.select(missing) & jobs
        if len(rest) < len(jobs):
            found.append(KeyNode(QueryNode((*node.terms, *terms), node.pinned.union(lacking), node.view), field))
            jobs = rest
            if not jobs:
                return found, node, jobs
        terms += (missing,)
        lacking.append(field)
    return found, QueryNode((*node.terms, *terms), node.pinned.union(lacking), node.view), jobs


def _pairs(keyed: list[KeyNode], is_taken: Callable[[str], bool]) -> Iterator[Pair]:
    """Name keys, each in the first of its spellings that nothing else in the directory has."""
    taken: set[str] = set()
    for node in keyed:
        names = _key_names(node.field)
        name = next((name for name in names if name not in taken and not is_taken(name)), names[-1])
        taken.add(name)
        yield Pair(name, node)


def _key_names(field: Field) -> list[str]:
    plain, usual = plain_name(field.key), key_name(field)
    prefixed = usual if usual.startswith("sp.") else f"sp.{usual}"
    # Names of values have no percent sign before what need not be encoded.
    return [*([] if _RESERVED.match(plain) else [plain]), *map(shorten, (usual, prefixed, encode(field.key, _ANY)))]


def _differing(jobs: Selection, leaves: Mapping[Field, Json], table: Table) -> set[Field]:
    return {key for key, value in leaves.items() if jobs and not table.is_constant_as(key, jobs, value)}


def _signac_keys(jobs: Selection, table: Table) -> tuple[Field, ...]:
    if len(jobs) <= 1:
        return ()
    counts = ((_signac_count(field, jobs, table), field) for field in table.fields(Space.SP))
    return tuple(field for count, field in sorted(counts) if count)


def _signac_count(field: Field, jobs: Selection, table: Table) -> int:
    """Count the values of *field* as signac does, a mapping being one more; 0 if it is constant, or has no value."""
    values = table.exact_values(field, jobs)
    has_mapping = jobs.intersect(table.having_mapping(field)) or {} in values
    kinds = {_kind(value) for value in values if value != {}}
    if not kinds or (len(kinds) + has_mapping == 1 and len(jobs & table.having(field)) == len(jobs)):
        return 0
    return len(kinds) + has_mapping


def _kind(value: object) -> object:
    return repr(value) if isinstance(value, list) else (type(value), value)
