"""What the kernel must not believe any longer after a change (I6, I8).

Owned here: ``Invalidation``, which finds the nodes and names that a change of the index concerns among those that the
kernel holds. From the root downwards, it goes only where one of the changed jobs is, was, or would be: the cost follows
the depth of the tree and the number of changed jobs, whatever the number of jobs and of nodes held. Only where a change
reaches directories of other jobs (another key is listed first, values are listed by another name) everything that is
held is looked at. Each view below ``.sigfs`` is looked at as the one at the root is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from sigfs.errors import QueryTooCostly
from sigfs.tree import PROJECT, TOP, Facts, JobNode, KeyNode, QueryNode, SpecialNode, renames
from sigfs.vfs.nodes import DiskDirectory, TreeDirectory
from sigfs.vfs.types import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sigfs.index import Delta, Index, Selection, Table
    from sigfs.model.types import JobId, Record
    from sigfs.query.expr import Expr, Field
    from sigfs.tree import Branch, Tree, View, VirtualNode
    from sigfs.vfs.inodes import Inodes
    from sigfs.vfs.nodes import Directory
    from sigfs.vfs.types import Inode

_SLICE: Final = 256
"""How many names are looked at before the index may change again: some 3 ms."""


@dataclass(slots=True)
class Stale:
    """What to tell the kernel; each once, in the order found.

    Attributes:
        inodes: directories whose attributes or listing may have changed.
        entries: (parent, name) of names that lead elsewhere, or nowhere.
    """

    inodes: dict[Inode, None] = field(default_factory=dict)
    entries: dict[tuple[Inode, str], None] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class _At:
    """A directory of the tree that is being looked at.

    Attributes:
        facts: the changed records that lie in what its names can depend on; None: look at everything.
        groups: the same by branch.
        children: nodes in it still to be looked at.
        jobs, generation: its selection (``Tree.selection``), and when it was taken.
    """

    node: TreeDirectory
    facts: Sequence[Facts] | None
    groups: dict[Branch, list[Facts]]
    children: Iterator[Directory]
    jobs: Selection | None
    generation: int


class Invalidation:
    """Follows an index. Any thread may call ``after``, which takes the index's lock and that of the nodes."""

    def __init__(self, tree: Tree, index: Index, inodes: Inodes) -> None:
        """Wire the parts."""
        self._tree = tree
        self._index = index
        self._inodes = inodes
        # Of the views in use, when they were last looked at, with the index's lock held
        self._listed_keys: dict[View, tuple[Field, ...] | None] = {}
        self.full_passes = 0
        """How often everything that is held had to be looked at."""

    def begin(self) -> None:
        """Note how the view is arranged now, when the kernel knows nothing of it yet."""
        with self._index.reading() as table:
            self._is_rearranged(self._tree.view, table)

    def after(self, delta: Delta) -> Stale:
        """Find what *delta*, which the index has taken, makes untrue of what the kernel holds.

        Complexity: O(changed jobs x depth of the held tree), and held names whose jobs cannot be told apart by a
        value (operators, patterns) where they are on the way; about 15 µs for each name on the way.
        """
        before = [_facts(old, new) for old, new in delta.jobs if old is not None]
        after = [_facts(new, old) for old, new in delta.jobs if new is not None]
        removed = {old.id for old, new in delta.jobs if old is not None and new is None}
        if not self._inodes.reads_documents:
            before = [each for each in before if not each.only_document]
            after = [each for each in after if not each.only_document]
        walk = _Walk(self._tree, self._inodes, removed, self._is_rearranged)
        if not before and not after:
            return walk.stale
        with self._index.reading() as table:
            renamed = renames(before, after, table)
            rearranged = self._is_rearranged(self._tree.view, table)
            self.full_passes += renamed or rearranged
            walk.begin([*before, *after], table, renamed=renamed, rearranged=rearranged)
            walk.go_on(table)
        while walk.todo:
            with self._index.reading() as table:
                walk.go_on(table)
        self._listed_keys = {view: keys for view, keys in list(self._listed_keys.items()) if view in walk.views}
        return walk.stale

    def _is_rearranged(self, view: View, table: Table) -> bool:
        """Tell whether *view* lists other keys than when it was last looked at; True for one that is new in use."""
        try:
            listed_keys = self._tree.listed_keys(table, view)
        except QueryTooCostly:  # its filter
            listed_keys = None
        changed = listed_keys is None or listed_keys != self._listed_keys.get(view)
        self._listed_keys[view] = listed_keys
        return changed


class _Walk:
    """One walk over what is held. All methods are called with the index's lock held for reading."""

    def __init__(
        self, tree: Tree, inodes: Inodes, removed: set[JobId], is_rearranged: Callable[[View, Table], bool]
    ) -> None:
        self._tree = tree
        self._inodes = inodes
        self._removed = removed
        self._is_rearranged = is_rearranged
        self._facts: list[Facts] = []
        self._renamed = False
        self.stale = Stale()
        self.todo: list[_At] = []  # the way from the root, so that its length is no matter of recursion
        self.views: dict[View, bool] = {}
        """Those met so far, and whether each is rearranged."""

    def begin(self, facts: list[Facts], table: Table, *, renamed: bool, rearranged: bool) -> None:
        """Begin at the root.

        Args:
            facts: of the changed jobs, before and after.
            renamed: names of values have changed: look at everything.
            rearranged: the view at the top lists other keys: look at everything in it.
        """
        self._facts, self._renamed = facts, renamed
        self.views[self._tree.view] = rearranged
        root = self._inodes.root
        for child in self._inodes.below(root, ()):
            if isinstance(child, TreeDirectory) and child.place == TOP:
                self._enter(child, facts, None, table)
        within = None if renamed or rearranged else [each for each in facts if _holds(each, self._tree.view.filter)]
        if within is None or within:
            self._enter(root, within, None, table)

    def _within(self, child: Directory, table: Table) -> Sequence[Facts] | None:
        """Give the facts that concern *child*, which hangs off a directory of ``.sigfs``; None: look at everything."""
        if isinstance(child, TreeDirectory) and isinstance(child.place, SpecialNode):
            return self._facts
        view = self._tree.view_of(child.place) if isinstance(child, TreeDirectory) else PROJECT.view
        if view not in self.views:
            self.views[view] = self._is_rearranged(view, table)
        if self._renamed or self.views[view]:
            return None
        return [each for each in self._facts if _holds(each, view.filter)]

    def go_on(self, table: Table) -> None:
        """Look at some more names."""
        for _ in range(_SLICE):
            if not self.todo:
                return
            at = self.todo[-1]
            child = next(at.children, None)
            if child is None:
                self.todo.pop()
            else:
                self._look(at, child, table)

    def _enter(self, node: TreeDirectory, facts: Sequence[Facts] | None, jobs: Selection | None, table: Table) -> None:
        groups: dict[Branch, list[Facts]] = {}
        for each in facts or ():
            branch = each.branch(node.place)
            if branch is not None:
                groups.setdefault(branch, []).append(each)
        children = self._inodes.below(node, None if facts is None else groups)
        if _concerns(node, facts):
            if node.lookups or node.inode == ROOT:
                self.stale.inodes[node.inode] = None
            elif node.changed_ns:  # the kernel has forgotten it, but may have it again; a listing may be kept
                node.changed_ns += 1
        if children:
            self.todo.append(_At(node, facts, groups, iter(children), jobs, table.generation))

    def _look(self, at: _At, child: Directory, table: Table) -> None:
        """Look at *child*, which hangs off *at*, and see whether to go on in it."""
        if isinstance(child, TreeDirectory) and child.place == TOP:
            return  # begun with
        facts = at.facts
        if isinstance(at.node.place, SpecialNode):
            facts = self._within(child, table)
        elif facts is not None and child.branch is not None:
            facts = at.groups.get(child.branch, facts)
        try:
            if at.jobs is None or at.generation != table.generation:
                at.jobs, at.generation = self._tree.selection(at.node.place, table), table.generation
            jobs = self._look_at_name(at.node, at.jobs, child, facts, table)
        except QueryTooCostly:
            self._tell_all(child)
            return
        if isinstance(child, DiskDirectory):
            if child.job in self._removed:
                # A directory that is made in its place may get its number.
                self._inodes.detach(child)
                if child.lookups:
                    self.stale.inodes[child.inode] = None
        else:
            if facts is not None and child.branch is None:
                terms = _terms(child.place)[len(_terms(at.node.place)) :]
                facts = [each for each in facts if all(_holds(each, term) for term in terms)]
            if facts is None or facts:
                self._enter(child, facts, jobs, table)

    def _look_at_name(
        self, parent: TreeDirectory, jobs: Selection, child: Directory, facts: Sequence[Facts] | None, table: Table
    ) -> Selection | None:
        """Note whether *child*'s name leads elsewhere; give the selection of what it is itself, if it was computed."""
        if facts is not None and not child.reads_documents and all(each.only_document for each in facts):
            return None
        found = self._tree.find(parent.place, child.name, table, jobs)
        if isinstance(child, TreeDirectory):
            is_same = found is not None and found.node == child.place
        else:
            is_same = found is not None and isinstance(found.node, JobNode) and found.node.id == child.job
        if not is_same:
            if child.lookups and child.attached:
                self.stale.entries[parent.inode, child.name] = None
            return None
        assert found is not None
        return found.jobs

    def _tell_all(self, child: Directory) -> None:
        """Have the kernel ask anew for *child* and all below, of which it takes too long to find out."""
        todo = [child]
        while todo:
            node = todo.pop()
            if node.lookups:
                self.stale.entries[node.parent, node.name] = None
                self.stale.inodes[node.inode] = None
            if isinstance(node, TreeDirectory):
                todo += self._inodes.below(node)


def _facts(record: Record, other: Record | None) -> Facts:
    return Facts(record, only_document=other is not None and _same(record, other))


def _same(record: Record, other: Record) -> bool:
    return record.statepoint is other.statepoint or repr(record.statepoint) == repr(other.statepoint)


def _concerns(node: TreeDirectory, facts: Sequence[Facts] | None) -> bool:
    """Tell whether the listing of *node* can depend on what *facts* say."""
    if facts is None:
        return True
    if not node.reads_documents:
        facts = [each for each in facts if not each.only_document]
    if isinstance(node.place, KeyNode) and not node.place.operator:
        return any(each.has(node.place.field) for each in facts)
    return bool(facts)


def _terms(place: VirtualNode) -> tuple[Expr, ...]:
    if isinstance(place, SpecialNode):
        return ()
    return place.terms if isinstance(place, QueryNode) else place.parent.terms


def _holds(facts: Facts, term: Expr) -> bool:
    try:
        return facts.holds(term)
    except QueryTooCostly:
        return True
