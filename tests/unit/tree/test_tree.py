from __future__ import annotations

import itertools

import pytest
import xxhash

from sigfs.errors import BadTemplate
from sigfs.index import Index
from sigfs.model.types import Change, JobId, Record
from sigfs.query import EVERYTHING, format_path, parse
from sigfs.tree import Facts, JobNode, JobsNode, KeyNode, QueryNode, Tree
from sigfs.tree import names as names_module
from sigfs.tree import tree as tree_module
from tests.support.strategies import job_id
from tests.support.trees import resolve, table_of, walk

LONG = "x" * 300
STUDY = [
    {"n": 100, "seed": seed, "chain": chain, "group": group}
    for seed in (1, 2, 3)
    for chain in (5, 11)
    for group in ("methyl", "amino", "nitro", "cyano")
]


def paths(tree: Tree, *statepoints: dict[str, object] | None) -> list[str]:
    return ["/".join(path) for path, _ in walk(tree, table_of(*statepoints))]


def test_the_key_with_the_fewest_values_is_listed_first_and_constants_are_left_out() -> None:
    listed = paths(Tree(), *STUDY)
    assert len(listed) == len(STUDY)
    assert listed[:2] == ["chain/5/seed/1/group/amino", "chain/5/seed/1/group/cyano"]


def test_full_lists_constants_too() -> None:
    assert paths(Tree("full"), *STUDY)[0] == "n/100/chain/5/seed/1/group/amino"


def test_a_directory_lists_exactly_one_key() -> None:
    table = table_of(*STUDY)
    tree = Tree()
    assert [*tree.names(tree.root, table)] == ["chain"]


def test_a_lone_job_shows_all_its_keys() -> None:
    assert paths(Tree(), {"b": 1, "a": True}) == ["a/true/b/1"]


def test_values_are_listed_in_typed_numeric_order() -> None:
    jobs = [{"a": v} for v in ("x", 10, 9, 2.5, None, True, False, [1, 2], "10")]
    assert paths(Tree(), *jobs) == [
        f"a/{v}" for v in ("null", "false", "true", "2.5", "9", "10", '"10"', "x", "[1, 2]")
    ]


def test_keys_resolve_in_any_order_with_constants_and_operators_and_other_spellings() -> None:
    table = table_of(*STUDY)
    tree = Tree()
    job = JobNode(job_id({"n": 100, "seed": 1, "chain": 11, "group": "methyl"}))
    pairs = ["chain/11", "group/methyl", "seed/1"]
    for order in itertools.permutations(pairs):
        assert resolve(tree, table, "/".join(order)) == job
        assert resolve(tree, table, "n/100/" + "/".join(order)) == job
    assert resolve(tree, table, "chain/1.1e1/group/methyl/seed/01") == job
    assert resolve(tree, table, "chain@gt/8/group/%2Fmeth%2F/seed/1/.job") == job
    assert resolve(tree, table, f".jobs/{job.id}") == job
    assert resolve(tree, table, f"id/{job.id[:8]}/.job") == job


def test_after_a_range_the_key_is_still_listed() -> None:
    table = table_of(*({"a": i, "b": i % 2} for i in range(6)))
    tree = Tree()
    node = resolve(tree, table, "a@gt/2")
    assert isinstance(node, QueryNode)
    assert [path for path, _ in walk(tree, table, node)] == [
        ("b", "0", "a", "4"),
        ("b", "1", "a", "3"),
        ("b", "1", "a", "5"),
    ]


@pytest.mark.parametrize(
    "path",
    [
        "chain/12",
        "nonsense",
        "nonsense@gt",
        "nonsense@exists/true",
        "chain@lt/5",
        "chain/5/seed/1/.job",
        "chain@nonsense/5",
        "seed/[1",
        ".jobs/" + "0" * 32,
        "chain/5/chain/11",
        "%zz",
    ],
)
def test_a_query_that_holds_for_no_job_leads_nowhere(path: str) -> None:
    assert resolve(Tree(), table_of(*STUDY), path) is None


def test_jobs_that_lack_the_key_are_below_exists_false() -> None:
    assert paths(Tree(), {"a": 1, "b": 1}, {"a": 2, "b": 1}, {"b": 1}, {"b": 2}) == [
        "a/1/b/1",
        "a/2/b/1",
        "a@exists/false/b/1",
        "a@exists/false/b/2",
    ]


def test_equal_numbers_of_different_types_share_a_leaf_that_lists_job_ids() -> None:
    jobs = [{"a": 1}, {"a": 1.0}, {"a": 2}]
    ids = sorted([job_id({"a": 1}), job_id({"a": 1.0})])
    assert paths(Tree(), *jobs) == [f"a/1/{ids[0]}", f"a/1/{ids[1]}", "a/2"]


def test_jobs_that_no_listed_key_tells_apart_are_listed_by_id() -> None:
    jobs: list[dict[str, object]] = [
        {"a": 1, "a.b": 2},
        {"a": {"b": 2}},
    ]  # the first has a dot in a key, as no signac does
    assert paths(Tree(), *jobs) == sorted(job_id(sp) for sp in jobs)


def test_a_key_that_is_a_mapping_elsewhere_is_listed_after_its_deeper_keys() -> None:
    found = paths(Tree(), {"a": 5}, {"a": {"b": 1}}, {"a": {"c": 2}}, {})
    assert sorted(found) == ["a.b/1", "a.b@exists/false/a.c/2", "a.b@exists/false/a.c@exists/false/a/5",
                             "a.b@exists/false/a.c@exists/false/a@exists/false"]  # fmt: skip


def test_a_job_without_any_key_is_listed_by_id_even_alone() -> None:
    table = table_of({})
    assert [path for path, _ in walk(Tree(), table)] == [(job_id({}),)]
    assert paths(Tree(), None) == [job_id(None)]
    assert paths(Tree()) == []


def test_a_long_name_is_shortened_and_resolves() -> None:
    jobs = [{"a": "x" * 300}, {"a": "x" * 301}, {"k" * 300: 1}]
    table = table_of(*jobs)
    found = list(walk(Tree(), table))
    assert {job for _, job in found} == {job_id(sp) for sp in jobs}
    assert all(len(name.encode()) <= 255 for path, _ in found for name in path)


def test_a_value_that_looks_shortened_is_not_taken_for_one() -> None:
    long = "x" * 300
    alike = "x" * 238 + "~" + xxhash.xxh3_64_hexdigest(long.encode())
    table = table_of({"a": long}, {"a": alike})
    assert {job for _, job in walk(Tree(), table)} == {job_id({"a": long}), job_id({"a": alike})}


def test_a_name_is_spelled_when_a_listing_comes_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    table = table_of(*({"a": n} for n in range(1000)))
    spelled = []
    spell = tree_module.value_name
    monkeypatch.setattr(tree_module, "value_name", lambda value: spelled.append(value) or spell(value))
    tree = Tree()
    node = tree.child(tree.root, "a", table)
    assert isinstance(node, KeyNode)
    names = tree.names(node, table)
    assert [next(names), next(names)] == ["0", "1"]
    assert spelled == [0, 1]
    assert len([*names]) == 998


def test_values_that_share_a_shortened_name_are_listed_and_found_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names_module.xxhash, "xxh3_64_hexdigest", lambda _: "0" * 16)
    table = table_of({"a": LONG + "1"}, {"a": LONG + "2"}, {"a": "b"})
    tree = Tree()
    node = tree.child(tree.root, "a", table)
    assert isinstance(node, KeyNode)
    listed = [*tree.names(node, table)]
    assert len(listed) == 2
    found = tree.find(node, listed[1], table)
    assert found is not None
    assert len(found.jobs) == 2
    assert found.branch is None  # not the jobs of one value


def test_a_name_depends_on_the_jobs_of_its_branch() -> None:
    table = table_of(*STUDY)
    tree = Tree()
    job = JobId(job_id(STUDY[0]))
    facts = Facts(table.record(job))

    def branch(path: str) -> tuple[object, object]:
        *above, name = path.split("/")
        node = resolve(tree, table, "/".join(above)) if above else tree.root
        assert isinstance(node, QueryNode | KeyNode | JobsNode)
        found = tree.find(node, name, table)
        assert found is not None
        return found.branch, facts.branch(node)

    assert branch("seed/1") == (1, 1)
    assert branch("seed/1.0") == (1, 1)
    assert branch("chain/11") == (11, 5)
    assert branch(f".jobs/{job}") == (job, job)
    assert branch(f"id/{job}") == (job, job)
    for any_job in ("seed", ".jobs", f"id/{job[:4]}", "seed@gt/1", "group/%2Fa%2F"):
        assert branch(any_job)[0] is None


def test_a_filter_limits_the_view_and_decides_what_is_constant() -> None:
    tree = Tree("auto", parse("chain 5 group methyl"))
    assert paths(tree, *STUDY) == ["seed/1", "seed/2", "seed/3"]
    assert resolve(tree, table_of(*STUDY), "chain/11") is None


def test_document_keys_resolve_but_are_not_listed() -> None:
    index = Index()
    ids = [JobId("a" * 32), JobId("b" * 32)]
    index.apply(Change(i, Record(i, {"a": n}, {"done": n == 0})) for n, i in enumerate(ids))
    tree = Tree()
    with index.reading() as table:
        pass
    assert list(tree.names(tree.root, table)) == ["a"]
    node = resolve(tree, table, "doc.done/true")
    assert node is not None and not isinstance(node, JobNode)  # noqa: PT018
    assert table.ids(tree.jobs(node, table)) == ids[:1]
    assert tree.reads_documents(node)
    assert tree.reads_documents(tree.root, "doc.done")
    for path, name in (
        ("doc.done", ""),
        ("doc.done@exists", "false"),
        ("@or", '[{"doc.done": true}]'),
        ("doc.done/true", "a"),
    ):
        place = resolve(tree, table, path)
        assert place is not None
        assert not isinstance(place, JobNode)
        assert tree.reads_documents(place, name)
    assert not tree.reads_documents(tree.root, "a")


def test_a_directory_knows_its_query() -> None:
    table = table_of(*STUDY)
    tree = Tree("auto", parse("n 100"))
    node = resolve(tree, table, "chain@gt/8/seed/1/group")
    assert node is not None
    assert not isinstance(node, JobNode)
    assert format_path(tree.query(node)) == "n/100/chain@gt/8/seed/1/group@exists/true"
    assert Tree().query(Tree().root) == EVERYTHING


def test_a_directory_of_a_template_says_its_query_by_values() -> None:
    table = table_of(*({"T": t, "b": t > 1} for t in (1.01, 1.04, 2.0)), {"b": True})
    tree = Tree("T_{T:.1f}/{{auto}}")

    def query(path: str) -> str:
        node = resolve(tree, table, path)
        assert node is not None
        assert not isinstance(node, JobNode)
        return format_path(tree.spelled_query(node, table))

    assert query("T_1.0") == '@or/[{"T": 1.01}, {"T": 1.04}]'


def test_no_layout_of_that_name_is_an_error_that_names_the_others() -> None:
    with pytest.raises(ValueError, match="auto, full, hive, signac"):
        Tree("nonsense")  # type: ignore[arg-type]


def test_a_key_of_a_template_gives_way_to_a_directory_of_its_name() -> None:
    beside = {"b": "a"}, {"a": 1, "b": "x"}
    assert sorted(paths(Tree("{{auto}}/{b}"), *beside)) == ["a", "sp.a/1/x"]
    assert sorted(paths(Tree("{{auto}}/{b}"), *beside, {"b": "sp.a"})) == ["%61/1/x", "a", "sp.a"]
    assert sorted(paths(Tree("{{auto}}"), {"a/b": 1}, {"a%2Fb": 2})) == ["a%2Fb/2", "sp.a%2Fb/1"]
    assert sorted(paths(Tree("{{auto}}"), {}, {job_id({}): 1})) == sorted([job_id({}), f"sp.{job_id({})}/1"])


@pytest.mark.parametrize("width", ["9999", "999999999", "٩٩٩٩٩٩٩٩٩"])
def test_a_template_that_asks_for_names_of_any_length_is_refused(width: str) -> None:
    with pytest.raises(BadTemplate, match="no name is that long"):
        Tree(f"{{a:>{width}}}")
