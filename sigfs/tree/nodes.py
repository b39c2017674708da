"""The places of a tree: frozen, hashable, independent of any moment.

A node says what has been asked for on the way to it, not what is there: that follows from the index.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from sigfs.model.types import JobId
from sigfs.query.expr import And, Expr, Field


@dataclass(frozen=True, slots=True)
class QueryNode:
    """A directory that is a query: it lists the next key, or job ids where no key is left.

    Attributes:
        terms: what has been said on the way, beginning with the view's filter; all of them together are the query.
        pinned: the keys that need not be asked again: they were given one value, or said to be absent.
    """

    terms: tuple[Expr, ...]
    pinned: frozenset[Field] = frozenset()

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


VirtualNode: TypeAlias = QueryNode | KeyNode | JobsNode
Node: TypeAlias = VirtualNode | JobNode
