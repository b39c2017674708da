"""The places of a tree: frozen, hashable, independent of any moment.

A node says what has been asked for on the way to it, not what is there: that follows from the index.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from sigfs.model.types import JobId
from sigfs.query.expr import EVERYTHING, And, Expr, Field

Layout: TypeAlias = str
"""The name of a layout."""


@dataclass(frozen=True, slots=True)
class View:
    """Which jobs there are, and how they are arranged. Several may hang in one mount."""

    layout: Layout = "auto"
    filter: Expr = EVERYTHING

    @property
    def terms(self) -> tuple[Expr, ...]:
        """The conditions of the filter, with which the terms of each of its nodes begin."""
        return self.filter.terms if isinstance(self.filter, And) else (self.filter,)


DEFAULT = View()


@dataclass(frozen=True, slots=True)
class QueryNode:
    """A directory that is a query: it lists the next key, or job ids where no key is left.

    Attributes:
        terms: what has been said on the way, beginning with the view's filter; all of them together are the query.
        pinned: the keys that need not be asked again: they were given one value, or said to be absent.
        view: what arranges what is listed.
    """

    terms: tuple[Expr, ...]
    pinned: frozenset[Field] = frozenset()
    view: View = DEFAULT

    @property
    def query(self) -> Expr:
        """The terms as one expression."""
        return self.terms[0] if len(self.terms) == 1 else And(self.terms)


@dataclass(frozen=True, slots=True)
class KeyNode:
    """A key that waits for its value: ``foo/``, or with an operator, as the path spells it, ``foo@gt/``.

    Attributes:
        operator: with its ``$``; empty for plain equality.
    """

    parent: QueryNode
    field: Field
    operator: str = ""


@dataclass(frozen=True, slots=True)
class JobsNode:
    """``.jobs``: all jobs of a directory's query, by id."""

    parent: QueryNode


@dataclass(frozen=True, slots=True)
class JobNode:
    """A job directory; what is below is the job's own."""

    id: JobId


@dataclass(frozen=True, slots=True)
class SpecialNode:
    """A directory that belongs to no view: ``.sigfs`` itself, ``.sigfs/find`` or ``.sigfs/views``."""

    kind: Literal["top", "find", "views"]


VirtualNode: TypeAlias = QueryNode | KeyNode | JobsNode | SpecialNode
Node: TypeAlias = VirtualNode | JobNode
