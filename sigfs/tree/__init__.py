"""A view as a tree: layouts, names, and what (node, name) leads to. Pure functions of an index table."""

from sigfs.tree.facts import Branch, Facts, renames
from sigfs.tree.inverse import Target
from sigfs.tree.layouts import LAYOUTS, check_layout
from sigfs.tree.nodes import JobNode, JobsNode, KeyNode, Layout, Node, QueryNode, SpecialNode, View, VirtualNode
from sigfs.tree.special import PAGES, PROJECT, SPECIAL, TOP, VIEWS
from sigfs.tree.tree import Found, Tree

__all__ = [
    "LAYOUTS",
    "PAGES",
    "PROJECT",
    "SPECIAL",
    "TOP",
    "VIEWS",
    "Branch",
    "Facts",
    "Found",
    "JobNode",
    "JobsNode",
    "KeyNode",
    "Layout",
    "Node",
    "QueryNode",
    "SpecialNode",
    "Target",
    "Tree",
    "View",
    "VirtualNode",
    "check_layout",
    "renames",
]
