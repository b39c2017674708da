"""Laws of the tree over hostile state points."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from sigfs.query import holds
from sigfs.tree import LAYOUTS, Facts, JobNode, KeyNode, Layout, QueryNode, Tree
from tests.support.strategies import job_id, statepoints
from tests.support.trees import resolve, table_of, walk

TEMPLATES = (
    "{{auto}}/{b}", "{{auto}}", "{a}", "a_{a}/{b}", "T_{a:.1f}/{job.sp.a.b}/{{auto}}", "{{auto}}/{b!r}", "x/{{auto}}",
    "{{auto:_}}", "{job.id}",
    "{a}_{b}_{c}/y", "{c:04d}/{{auto:-}}_z", "{job.doc.status}/{{auto}}",
)  # fmt: skip
EVERY_LAYOUT = (*LAYOUTS, *TEMPLATES)
# Keys and values that may be taken for each other, or for what a directory lists beside them.
alike = st.sampled_from(
    ["a", "b", "sp.a", "%61", "a/b", "a%2Fb", "job", "sp.job", ".job", job_id({}), job_id({"a": 1})]
)
confusing = st.dictionaries(alike, alike | st.sampled_from([1, {}, {"b": 1}]), max_size=4)


@settings(max_examples=1000, deadline=None)
@given(st.lists(statepoints, max_size=7) | st.lists(confusing, max_size=7), st.sampled_from(EVERY_LAYOUT))
def test_a_walk_meets_each_job_exactly_once_under_names_that_fit(sps: list[dict[str, object]], layout: Layout) -> None:
    table = table_of(*sps)
    tree = Tree(layout)
    met = list(walk(tree, table))
    assert sorted(job for _, job in met) == sorted({job_id(sp) for sp in sps})
    assert len({path for path, _ in met}) == len(met)
    for path, _ in met:
        for name in path:
            encoded = name.encode()  # no lone surrogates
            assert 0 < len(encoded) <= 255
            assert name not in (".", "..")
            assert "/" not in name
            assert min(encoded) >= 0x20


@settings(max_examples=300, deadline=None)
@given(st.lists(statepoints, max_size=6), st.sampled_from(["auto", "full"]), st.randoms(use_true_random=False))
def test_the_pairs_of_a_path_lead_to_the_job_in_any_order(
    sps: list[dict[str, object]], layout: Layout, random: object
) -> None:
    table = table_of(*sps)
    tree = Tree(layout)
    for path, job in walk(tree, table):
        keyed = path if len(path) % 2 == 0 else path[:-1]
        pairs = [f"{key}/{value}" for key, value in zip(keyed[::2], keyed[1::2], strict=True)]
        random.shuffle(pairs)  # type: ignore[attr-defined]
        # behind the pairs that single a job out begins the job's own directory: no @exists is asked there
        if not pairs or any("@exists/" in pair for pair in pairs):
            continue
        node = resolve(tree, table, "/".join(pairs))
        assert node is not None
        if len(path) % 2 == 0:
            assert node == JobNode(job)
        else:  # several jobs at one leaf
            assert not isinstance(node, JobNode)
            assert job in tree.names(node, table)


@settings(max_examples=200, deadline=None)
@given(st.lists(statepoints, max_size=6))
def test_a_directory_holds_the_jobs_for_which_its_query_holds(sps: list[dict[str, object]]) -> None:
    table = table_of(*sps)
    tree = Tree("full")

    def visit(node: object) -> None:
        if isinstance(node, JobNode):
            return
        query = getattr(node, "query", None)
        if query is not None:
            expected = sorted(job for job in table if holds(query, table.record(job)))
            assert table.ids(tree.jobs(node, table)) == expected  # type: ignore[arg-type]
        for name in tree.names(node, table):  # type: ignore[arg-type]
            visit(tree.child(node, name, table))  # type: ignore[arg-type]

    visit(tree.root)


@settings(max_examples=300, deadline=None)
@given(st.lists(statepoints, min_size=1, max_size=6))
def test_facts_say_of_a_job_what_its_directories_say(sps: list[dict[str, object]]) -> None:
    table = table_of(*sps)
    tree = Tree("full")
    facts = [Facts(table.record(job)) for job in table]

    def visit(node: object) -> None:
        if isinstance(node, JobNode):
            return
        here = [each for each in facts if table.number(each.record.id) in tree.selection(node, table)]  # type: ignore[arg-type]
        for name in tree.names(node, table):  # type: ignore[arg-type]
            found = tree.find(node, name, table)  # type: ignore[arg-type]
            assert found is not None
            if isinstance(node, KeyNode) and found.branch is not None:
                below = [each.record.id for each in here if each.branch(node) == found.branch]
                assert sorted(below) == table.ids(found.jobs)
            if isinstance(found.node, QueryNode):
                term = found.node.terms[-1]
                assert all(each.holds(term) == holds(term, each.record) for each in facts)
            visit(found.node)

    visit(tree.root)
