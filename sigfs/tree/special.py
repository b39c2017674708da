"""``.sigfs``: what a mount has beside its view, and what the names in it lead to.

Owned here: the places that are no part of any view, and the two spellings of ``find``. All of it is about the whole
project, whatever the filter of the mount. Nothing is listed at the root, so that a walk does not meet it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from sigfs.errors import QuerySyntaxError
from sigfs.query.text import count_tokens, parse_text
from sigfs.tree.nodes import JobsNode, QueryNode, SpecialNode, View, VirtualNode

SPECIAL: Final = ".sigfs"
"""The name at the root. No key can have it: a leading dot is percent-encoded."""

PAGES: Final = ("index.jsonl", "metrics", "schema.json", "status.json")
"""The files in it."""


TOP: Final = SpecialNode("top")
VIEWS: Final = SpecialNode("views")
PROJECT: Final = QueryNode(View().terms, view=View())
"""All jobs of the project, arranged by default: where a path in ``find`` begins."""

_TOP: Final[Mapping[str, VirtualNode]] = {
    "find": SpecialNode("find"),
    "jobs": JobsNode(PROJECT),
    "views": VIEWS,
}


def find_special(node: SpecialNode, name: str, views: Mapping[str, View]) -> VirtualNode | None:
    """Give the place that *name* in *node* stands for, whether or not there are jobs in it.

    Args:
        name: in ``find`` one that ``is_text``.
        views: the named views.
    """
    match node.kind:
        case "top":
            return _TOP.get(name)
        case "views":
            view = views.get(name)
        case "find":
            try:
                view = View(filter=parse_text(name))
            except QuerySyntaxError:
                return None
    return None if view is None else QueryNode(view.terms, view=view)


def names_of(node: SpecialNode, views: Mapping[str, View]) -> Iterator[str]:
    """List *node*: its directories."""
    match node.kind:
        case "top":
            return iter(_TOP)
        case "views":
            return iter(sorted(views))
        case "find":
            return iter(())


def is_text(name: str) -> bool:
    """Tell whether a name in ``find`` is a whole query as text; if not it is the first name of a path.

    That is decided by the name alone, so that its meaning never depends on which keys there are: text has several
    words, or is a JSON mapping.

    >>> [is_text(name) for name in ("foo 42", '{"foo": 42}', "foo", "my%20key")]
    [True, True, False, False]
    """
    return name.startswith("{") or (not name.startswith(".") and count_tokens(name) > 1)
