"""What the kernel is told after a change: all that is not true any longer, and little else."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigfs.index import Index
from sigfs.model.types import Change, JobId, Record
from sigfs.model.workspace import Workspace
from sigfs.query import EVERYTHING, holds, parse
from sigfs.query.expr import Expr
from sigfs.tree import LAYOUTS, JobNode, Layout, Node, QueryNode, SpecialNode, Tree, View
from sigfs.vfs.nodes import Directory, TreeDirectory
from sigfs.vfs.operations import Operations
from sigfs.vfs.types import ROOT, Caller, Inode

CALLER = Caller(0, 0, 0)
VIEWS = {"ones": View("full", parse("a 1")), "all": View("full"), "noted": View(filter=parse("doc.x.$exists true"))}
LONG = "x" * 300


def job_id(number: int) -> JobId:
    return JobId(f"{number:032x}")


class Kernel:
    """Holds nodes and remembers what it is told; every job has a directory."""

    def __init__(self, workspace: str, tree: Tree) -> None:
        self.tree = tree
        self.index = Index()
        self.operations = Operations(tree, self.index, Workspace(workspace))
        found = os.stat(workspace)
        self.operations._disk.job_stat = lambda _: found  # type: ignore[method-assign]
        self.operations.attach(self, can_notify=True)
        self.references: Counter[Inode] = Counter()
        self.names: set[tuple[Inode, str]] = set()
        self.inodes: set[Inode] = set()

    def invalidate_entry(self, parent: Inode, name: str) -> None:
        self.names.add((parent, name))

    def invalidate_inode(self, inode: Inode) -> None:
        self.inodes.add(inode)

    def invalidate_attributes(self, inode: Inode) -> None:
        self.inodes.add(inode)

    def take(self, parent: Inode, name: str) -> Inode | None:
        """Look *name* up, as if it were not cached."""
        attrs = self.operations.lookup(parent, name, CALLER)
        if attrs is None:
            return None
        self.references[attrs.inode] += 1
        return attrs.inode

    def find(self, path: str) -> None:
        """Hold all names of *path*, as far as there are any."""
        inode: Inode | None = ROOT
        for name in path.split("/"):
            if inode is None or not self.is_virtual(inode):
                return
            inode = self.take(inode, name)

    def walk(self) -> None:
        """Hold everything that is listed."""
        todo = [ROOT]
        while todo:
            inode = todo.pop()
            handle = self.operations.opendir(inode)
            for entry in self.operations.readdir(handle, 0):
                child = self.take(inode, entry.name)
                assert child is not None, f"{entry.name} is listed"
                if self.is_virtual(child):
                    todo.append(child)
            self.operations.releasedir(handle)

    def is_virtual(self, inode: Inode) -> bool:
        return isinstance(self.operations._inodes.get(inode), TreeDirectory)

    def forget(self, inode: Inode) -> None:
        self.operations.forget(inode, self.references.pop(inode))

    def held(self) -> Iterator[Directory]:
        yield self.operations._inodes.root
        for node in self.operations._inodes._nodes.values():
            if node.lookups:
                yield node  # type: ignore[misc]

    def state(self) -> dict[Inode, tuple[bool, list[str]]]:
        """For each node held: whether its name leads to it, and what it lists."""
        with self.index.reading() as table:
            return {
                node.inode: (
                    self._place_of_name(node) == _place(node),
                    [*self.tree.names(node.place, table)] if isinstance(node, TreeDirectory) else [],
                )
                for node in self.held()
            }

    def _place_of_name(self, node: Directory) -> Node | None:
        parent = self.operations._inodes.get(node.parent)
        assert isinstance(parent, TreeDirectory)
        return self.tree.root if node.inode == ROOT else self.tree.child(parent.place, node.name, self.index._table)

    def apply(self, changes: list[Change]) -> None:
        """Apply, and compare what is told with what is so. A record without state point stands for a new document."""
        with self.index.reading() as table:
            changes = [
                Change(at, Record(at, table.record(at).statepoint if at in table else {"a": 1}, record.document))
                if record is not None and record.statepoint is None
                else change
                for change in changes
                for at, record in [(change.id, change.record)]
            ]
            records = [table.record(change.id) for change in changes if change.id in table]
        before, passes = self.state(), self.operations.statistics()["full_passes"]
        absent = set(self.operations._views.absent._names)
        self.names.clear()
        self.inodes.clear()
        self.operations.apply(changes)
        with self.index.reading() as table:
            records += [table.record(change.id) for change in changes if change.id in table]
        after = self.state()
        if any(was != after.get(inode) for inode, was in before.items()):
            assert absent <= self.names, "what there was not there may be"
        for node in self.held():
            entry = (node.parent, node.name)
            (was_true, listed), (is_true, lists) = before[node.inode], after[node.inode]
            if was_true and not is_true and node.attached:
                assert entry in self.names, f"{_path(self, node)} leads elsewhere"
            if is_true and node.attached and entry not in absent:
                assert entry not in self.names, f"{_path(self, node)} leads where it did"
            if listed != lists:
                assert node.inode in self.inodes, f"{_path(self, node)} lists {lists} and not {listed}"
        if self.operations.statistics()["full_passes"] == passes:
            for inode in self.inodes:
                node = self.operations._inodes.get(inode)
                if isinstance(node, TreeDirectory) and not _path(self, node).startswith(".sigfs"):
                    assert not isinstance(node.place, SpecialNode)
                    query = node.place.query if isinstance(node.place, QueryNode) else node.place.parent.query
                    assert any(holds(query, record) for record in records), f"{_path(self, node)} has none of them"
        self.operations.check()


def _place(node: Directory) -> Node:
    if isinstance(node, TreeDirectory):
        return node.place
    assert node.job is not None
    return JobNode(node.job)


def _path(kernel: Kernel, node: Directory) -> str:
    names = []
    while node.inode != ROOT:
        names.append(node.name)
        node = kernel.operations._inodes.get(node.parent)  # type: ignore[assignment]
    return "/".join(reversed(names))


@contextmanager
def kernel(layout: Layout = "auto", expr: Expr = EVERYTHING) -> Iterator[Kernel]:
    with tempfile.TemporaryDirectory(prefix="sigfs-test-") as directory:
        tree = Tree(layout, expr)
        tree.views = lambda: VIEWS
        made = Kernel(directory, tree)
        yield made
        made.operations.close()


values = st.sampled_from(
    [1, 1.0, True, "1", None, 2, 3.5, 0.0, -0.0, float("nan"), "xyz", [1, 2], [1.0, 2], LONG, LONG + "y",
     [1, LONG], [1.0, LONG], {}, {"d": 1}, {"d": 2, "e": 1}]
)  # fmt: skip
# Most jobs have two keys with few values, so that most changes leave the order of keys alone.
common = st.sampled_from([1, 1, 1.0, 2, 2, [1, LONG], [1.0, LONG]])
mappings = st.fixed_dictionaries({"a": common, "b": common}, optional={"c": values}) | st.dictionaries(
    st.sampled_from(["a", "b", "c", "k" * 300]), values, max_size=3
)
documents = st.dictionaries(st.sampled_from(["x", "y"]), values, max_size=2)
ids = st.integers(0, 6).map(job_id)
additions = st.builds(Record, ids, mappings, st.none() | documents).map(lambda record: Change(record.id, record))
removals = ids.map(lambda job: Change(job, None))
rewritten = st.builds(Record, ids, st.none(), documents).map(lambda record: Change(record.id, record))
changes = additions | removals | rewritten
PATHS = [
    "a@gt/0", "a@gt/0/b", "a@gt/1.5/c/1", "a@exists/false", "a@exists/true/b", "a@exists/false/b/1", "b/1e0", "b/1.0",
    "b/01/c", "b/true", "b/%2Fx%2F", "b/%2Fx%2F/a/1", 'a/{"d": 1}', 'a/{"d.$exists": false}', "a.d/1", "a.d/2/a.e",
    "a@in/[1, 2]", "a@not/1", '@or/[{"a": 1}, {"doc.x": 1}]/b', '@not/{"a": 1}', "doc.x/1", "doc.x/1.0/a/1",
    "doc.x@gt/0/b/1", "doc.x@exists/false/a", "a/1/doc.x/1", ".job", "a/1/.job", "b/2/.job", ".jobs", "id", "id/0",
    "a/NaN", "a/0/b", "a/-0.0", "job", "a/1/job", "a=1", "a=1.0", "a=1/b=2", "b=2/a=1", "c=__HIVE_DEFAULT_PARTITION__",
    "a/1.0/b/2", "a/True", "b/1/a/[1, 'x']", "1", "1.0", "1/1", "@absent/b/1/job", "1_2", "a_1.0/2", "1/b/2/x_2",
    ".sigfs/find/a", ".sigfs/find/a/1/b/2", ".sigfs/find/b@gt/1/a/1", ".sigfs/find/a 1 b 2", ".sigfs/find/a.$gt 1/b/1",
    ".sigfs/find/doc.x 1 a 1/b", '.sigfs/find/{"b": 1}/a/1', ".sigfs/find/a 1/.jobs", ".sigfs/find/.job",
    ".sigfs/views/ones/b", ".sigfs/views/ones/b/1", ".sigfs/views/all/a/1", ".sigfs/views/noted/a/1/b/1",
    *(f".sigfs/jobs/{job_id(n)}" for n in range(7)),
    *(f".jobs/{job_id(n)}" for n in range(7)), *(f"a/1/.jobs/{job_id(n)}" for n in range(7)),
    *(f"id/{job_id(n)}/a" for n in range(7)), *(f"id/{job_id(n)}" for n in range(7)),
    *(f"{job_id(n)}" for n in range(7)), *(f"a/1/{job_id(n)}" for n in range(7)),
]  # fmt: skip
FILTERS = ["", "a 1", "b.$gt 1", "b /x/", "doc.x 1", "a.$exists true", "a.$exists false"]


EVERY_LAYOUT = [
    *LAYOUTS, "{a}", "a_{a:.1f}/{b}", "{{auto}}", "{a}/{{auto}}/x_{b}", "{b}/{{auto:_}}", "{a}_{b}/{job.id}",
    "{job.doc.x}/{{auto}}",
]  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.data(), st.sampled_from(EVERY_LAYOUT), st.sampled_from(FILTERS))
def test_after_any_change_the_kernel_is_told_what_is_not_true_any_longer(
    data: st.DataObject, layout: Layout, text: str
) -> None:
    with kernel(layout, parse(text) if text else EVERYTHING) as held:
        held.apply(data.draw(st.lists(additions, max_size=8)))
        for _ in range(data.draw(st.integers(1, 6))):
            for path in data.draw(st.lists(st.sampled_from(PATHS), max_size=8)):
                held.find(path)
            if data.draw(st.booleans()):
                held.walk()
            held.apply(data.draw(st.lists(changes, min_size=1, max_size=3)))
            if held.names and data.draw(st.booleans()):
                for parent, name in sorted(held.names):
                    if parent == ROOT or parent in held.references:  # not where only a name was that led nowhere
                        held.take(parent, name)
            for inode in (
                data.draw(st.lists(st.sampled_from([*held.references]), max_size=4, unique=True))
                if (held.references)
                else []
            ):
                held.forget(inode)


@pytest.fixture
def thousand() -> Iterator[Kernel]:
    """1,000 jobs, all of whose directories are held."""
    with kernel() as held:
        held.operations.apply(
            [
                Change(job_id(n), Record(job_id(n), {"group": n % 10, "seed": n, "kind": "ab"[n % 2]}))
                for n in range(1000)
            ]
        )
        held.walk()
        held.names.clear()
        held.inodes.clear()
        yield held


def paths(held: Kernel, inodes: set[Inode]) -> set[str]:
    return {_path(held, held.operations._inodes.get(inode)) for inode in inodes}  # type: ignore[arg-type]


def test_a_new_job_is_told_along_its_own_path_only(thousand: Kernel) -> None:
    thousand.apply([Change(job_id(1000), Record(job_id(1000), {"group": 3, "seed": 1000, "kind": "b"}))])
    assert thousand.names == set()
    assert paths(thousand, thousand.inodes) == {"", "kind", "kind/b", "kind/b/group", "kind/b/group/3",
                                                "kind/b/group/3/seed"}  # fmt: skip


def test_a_job_that_is_gone_is_told_along_its_own_path_only(thousand: Kernel) -> None:
    thousand.apply([Change(job_id(3), None)])
    (entry,) = thousand.names
    assert entry[1] == "3"
    assert paths(thousand, thousand.inodes) == {"", "kind", "kind/b", "kind/b/group", "kind/b/group/3",
                                                "kind/b/group/3/seed", "kind/b/group/3/seed/3"}  # fmt: skip


def test_below_sigfs_a_job_is_told_where_it_is_met_only() -> None:
    with kernel("auto", parse("group 1")) as held:
        jobs = [Change(job_id(n), Record(job_id(n), {"group": n % 10, "seed": n})) for n in range(100)]
        held.operations.apply(jobs)
        for path in (
            "find/group 3/seed/13",
            "find/group 4/seed/14",
            "find/group/3/seed/13",
            "views/all/group/3/seed/3",
        ):
            held.find(f".sigfs/{path}")
        held.find(f".sigfs/jobs/{job_id(13)}")
        held.operations.apply([Change(job_id(100), Record(job_id(100), {"group": 5, "seed": 100}))])  # views are known
        held.inodes.clear()
        held.apply([Change(job_id(13), None)])
        inodes = held.operations._inodes
        assert {(_path(held, inodes.get(parent)), name) for parent, name in held.names} == {  # type: ignore[arg-type]
            (".sigfs/find/group 3/seed", "13"),
            (".sigfs/find/group/3/seed", "13"),
            (".sigfs/jobs", job_id(13)),
        }
        told = {path for path in paths(held, held.inodes) if not path.endswith(("13", job_id(13)))}
        assert told == {
            ".sigfs", ".sigfs/find", ".sigfs/find/group", ".sigfs/find/group/3", ".sigfs/find/group/3/seed",
            ".sigfs/find/group 3", ".sigfs/find/group 3/seed", ".sigfs/views", ".sigfs/views/all",
            ".sigfs/views/all/group", ".sigfs/views/all/group/3", ".sigfs/views/all/group/3/seed", ".sigfs/jobs",
        }  # fmt: skip


def test_a_document_is_not_told_while_nobody_asks_for_documents(thousand: Kernel) -> None:
    record = Record(job_id(3), {"group": 3, "seed": 3, "kind": "b"}, {"x": 1})
    thousand.apply([Change(record.id, record)])
    assert (thousand.names, thousand.inodes) == (set(), set())
    thousand.find("doc.x/1")
    thousand.find("doc.x/1/kind/b")
    thousand.apply([Change(record.id, Record(record.id, record.statepoint, {"x": 2}))])
    assert {name for _, name in thousand.names} == {"1", "kind", "b"}
    assert paths(thousand, thousand.inodes) == {"doc.x", "doc.x/1", "doc.x/1/kind", "doc.x/1/kind/b"}


def test_everything_is_looked_at_only_when_keys_change_places(thousand: Kernel) -> None:
    passes = []
    for statepoint in ({"group": 3, "seed": 1001, "kind": "b"}, {"new": 1}, {"new": 1, "kind": "a"}):
        number = 1001 + len(passes)
        thousand.apply([Change(job_id(number), Record(job_id(number), statepoint))])
        passes.append(thousand.operations.statistics()["full_passes"])
    assert [after - before for before, after in itertools.pairwise(passes)] == [1, 0]


def test_a_directory_that_was_replaced_is_followed_for_those_that_are_in_it(thousand: Kernel) -> None:
    thousand.find("seed@lt/5/group@lt/3/kind/a")
    inodes = thousand.operations._inodes
    old = next(node for node in thousand.held() if _path(thousand, node) == "seed@lt/5/group@lt/3")
    assert isinstance(old, TreeDirectory)
    with inodes._lock:
        inodes._detach_directory(old)
    thousand.find("seed@lt/5/group@lt/3")
    thousand.apply([Change(job_id(n), None) for n in (0, 2)])
    assert old.inode in thousand.inodes
    below = {name for parent, name in thousand.names if inodes.get(parent).parent == old.inode}  # type: ignore[union-attr]
    assert below == {"a"}


def test_a_very_deep_directory_is_followed_like_any_other(thousand: Kernel) -> None:
    inode: Inode | None = ROOT
    for name in ["group@gt", "0"] * 1200:
        assert inode is not None
        inode = thousand.take(inode, name)
    thousand.operations.apply([Change(job_id(3), None)])
    assert inode in thousand.inodes


def test_a_pattern_that_takes_too_long_has_the_kernel_ask_anew() -> None:
    easy, hard = "a", "a" * 40 + "!"
    with kernel() as held:
        held.operations.apply([Change(job_id(n), Record(job_id(n), {"name": easy, "n": n})) for n in range(2)])
        held.find("name@regex/(a|aa)+$/n/1")
        held.operations.apply([Change(job_id(2), Record(job_id(2), {"name": hard, "n": 2}))])
        assert {name for _, name in held.names} >= {"(a|aa)+$", "n", "1"}


def test_a_filter_that_takes_too_long_does_not_stop_who_follows_the_changes() -> None:
    with kernel(expr=parse("name /(a|aa)+$/")) as held:
        held.operations.apply([Change(job_id(0), Record(job_id(0), {"name": "a" * 40 + "!"}))])
        assert held.inodes == {ROOT}
