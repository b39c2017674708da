"""A view as a tree: layouts, names, and what (node, name) leads to. Pure functions of an index table."""

from sigfs.tree.facts import Branch, Facts, renames
from sigfs.tree.nodes import JobNode, JobsNode, KeyNode, Node, QueryNode, VirtualNode
from sigfs.tree.tree import LAYOUTS, Found, Layout, Tree

__all__ = [
    "LAYOUTS",
    "Branch",
    "Facts",
    "Found",
    "JobNode",
    "JobsNode",
    "KeyNode",
    "Layout",
    "Node",
    "QueryNode",
    "Tree",
    "VirtualNode",
    "renames",
]
