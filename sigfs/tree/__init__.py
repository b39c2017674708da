"""A view as a tree: layouts, names, and what (node, name) leads to. Pure functions of an index snapshot."""

from sigfs.tree.nodes import JobNode, JobsNode, KeyNode, Node, QueryNode, VirtualNode
from sigfs.tree.tree import LAYOUTS, Layout, Tree

__all__ = ["LAYOUTS", "JobNode", "JobsNode", "KeyNode", "Layout", "Node", "QueryNode", "Tree", "VirtualNode"]
