"""Which state point a path stands for."""

from __future__ import annotations

import pytest

from sigfs.errors import NotInvertible
from sigfs.index import Table
from sigfs.query import parse
from sigfs.tree import JobNode, KeyNode, QueryNode, Target, Tree, VirtualNode
from tests.support.strategies import job_id, record
from tests.support.trees import resolve, table_of

STUDY = [{"n": 100, "seed": seed, "group": group} for seed in (1, 2, 3) for group in ("methyl", "amino")]


def target(tree: Tree, table: Table, path: str) -> Target:
    """Go down *path* as one that makes each directory."""
    node: VirtualNode = tree.root
    for name in path.split("/"):
        found = tree.target(node, name, table)
        node = found.node
    return found


def place(tree: Tree, table: Table, path: str) -> tuple[VirtualNode, str]:
    *above, name = path.split("/")
    node = resolve(tree, table, "/".join(above)) if above else tree.root
    assert node is not None
    assert not isinstance(node, JobNode)
    return node, name


def made(path: str, *statepoints: dict[str, object], tree: Tree | None = None) -> object:
    tree, table = tree or Tree(), table_of(*statepoints)
    return tree.made(target(tree, table, path), table)


def moved(source: str, path: str, old: dict[str, object], *others: dict[str, object]) -> object:
    tree, table = Tree(), table_of(old, *others)
    return tree.moved(target(tree, table, path), record(old), place(tree, table, source), table)


def test_a_new_leaf_has_what_the_path_says_and_the_constants_of_the_jobs_beside_it() -> None:
    assert made("group/methyl/seed/4", *STUDY) == {"n": 100, "group": "methyl", "seed": 4}
    assert made("group/ethyl/seed/1", *STUDY) == {"n": 100, "group": "ethyl", "seed": 1}
    assert made("run.steps/5", {"run": {"steps": 1, "host": "a"}}, {"run": {"steps": 2, "host": "a"}}) == {
        "run": {"steps": 5, "host": "a"}
    }


def test_a_directory_on_the_way_to_a_leaf_is_none() -> None:
    tree, table = Tree(), table_of(*STUDY)
    found = target(tree, table, "group/ethyl")
    assert isinstance(found.node, QueryNode)
    assert not found.is_leaf
    assert [key.key for key in found.open_keys] == ["seed"]
    with pytest.raises(NotInvertible, match="seed"):
        tree.made(found, table)
    key = target(tree, table, "group/ethyl/seed")
    assert isinstance(key.node, KeyNode)
    assert not key.is_leaf
    with pytest.raises(NotInvertible, match="no value yet"):
        tree.made(key, table)
    assert target(tree, table, "group/ethyl/seed/9").is_leaf


def test_a_key_can_be_said_to_be_absent() -> None:
    assert made("group/methyl/seed@exists/false", *STUDY) == {"n": 100, "group": "methyl"}
    with pytest.raises(NotInvertible, match="above would be the job"):
        made("group/ethyl/seed@exists/false", *STUDY)


def test_full_asks_for_constants_too() -> None:
    table = table_of(*STUDY)
    found = target(Tree("full"), table, "group/methyl/seed/4")
    assert [key.key for key in found.open_keys] == ["n"]
    assert made("n/100/group/methyl/seed/4", *STUDY, tree=Tree("full")) == {"n": 100, "group": "methyl", "seed": 4}


def test_a_first_job_has_what_the_path_says() -> None:
    assert made("a/1") == {"a": 1}
    assert made("a/1/b/x", {"a": 1, "b": "y"}) == {"a": 1, "b": "x"}


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("seed@gt/1", "settles no value"),
        ("doc.x/1", "no key of the state point"),
        ("id/0300", "no key of the state point"),
        (".jobs", "begins with a dot"),
        ("0" * 32, "an id"),
        ("seed/%2Fx%2F", "asks for more"),
        ("seed/1/seed/2", "two things"),
        ("seed/1/seed@exists/false", "two things"),
        ("seed@exists/true", "asks for more"),
        ('@or/[{"a": 1}]', "no key of the state point|settles no value"),
        ("x" * 238 + "~" + "0" * 16, "not known"),
        ("seed/" + "x" * 238 + "~" + "0" * 16, "not known"),
    ],
)
def test_what_settles_no_state_point_is_refused_with_a_reason(path: str, why: str) -> None:
    with pytest.raises(NotInvertible, match=why):
        target(Tree(), table_of(*STUDY), path)


@pytest.mark.parametrize(
    ("path", "why"),
    [("a/1/a.b/2", "deeper keys"), ("a.b/1/a/2", "deeper keys"), ("a..b/1", "no state point")],
)
def test_keys_that_contradict_each_other_make_no_state_point(path: str, why: str) -> None:
    with pytest.raises(NotInvertible, match=why):
        made(path)


def test_what_the_filter_excludes_cannot_be_made() -> None:
    tree = Tree("auto", parse("seed.$lt 3"))
    assert made("group/ethyl/seed/1", *STUDY, tree=tree) == {"n": 100, "group": "ethyl", "seed": 1}
    with pytest.raises(NotInvertible, match="filter"):
        made("group/ethyl/seed/4", *STUDY, tree=tree)


def test_a_moved_job_has_the_values_of_its_new_path() -> None:
    old = STUDY[0]
    assert moved("group/methyl/seed/1", "group/ethyl/seed/1", old, *STUDY) == {**old, "group": "ethyl"}
    assert moved("group/methyl/seed/1", "n/50/group/methyl/seed/1", old, *STUDY) == {**old, "n": 50}


def test_keys_that_only_the_old_path_settled_are_dropped_and_others_kept() -> None:
    old = {"a": 1, "b": 2, "c": 3}
    assert moved("a/1/b/2", "a/5", old, {"a": 1, "b": 3, "c": 3}) == {"a": 5, "c": 3}


def test_a_path_by_id_settles_nothing() -> None:
    old = {"a": 1, "b": 2}
    jobs = [{"a": 1, "b": 3}, {"a": 2, "b": 3}]
    assert moved(f".jobs/{job_id(old)}", "a/5/b/2", old, *jobs) == {"a": 5, "b": 2}
    with pytest.raises(NotInvertible, match="leaves keys open: b"):
        moved(f".jobs/{job_id(old)}", "a/5", old, *jobs)


def test_an_equal_value_keeps_its_spelling() -> None:
    old = {"a": 1.0, "b": 2}
    assert repr(moved("a/1/b/2", "a/1/b/3", old, {"a": 2, "b": 3})) == "{'a': 1.0, 'b': 3}"


def test_a_job_is_not_moved_to_where_others_are() -> None:
    with pytest.raises(NotInvertible, match="other jobs"):
        moved("group/methyl/seed/1", "group/amino/seed/1", STUDY[0], *STUDY)


def test_partitions_of_hive_lead_back_in_any_order() -> None:
    jobs: list[dict[str, object]] = [{"a": 1, "b": "x"}, {"a": 2}, {"a": 2, "b": "42"}]
    tree = Tree("hive")
    assert made("a=3/b=y", *jobs, tree=tree) == {"a": 3, "b": "y"}
    assert made("b=%2242%22/a=3", *jobs, tree=tree) == {"a": 3, "b": "42"}
    assert made("a=3/b=__HIVE_DEFAULT_PARTITION__", *jobs, tree=tree) == {"a": 3}
    found = target(tree, table_of(*jobs), "a=3")
    assert [key.key for key in found.open_keys] == ["b"]


@pytest.mark.parametrize(
    ("template", "path", "expected"),
    [
        ("{group}/seed_{seed:03d}", "ethyl/seed_007", {"n": 100, "group": "ethyl", "seed": 7}),
        ("{group}_{seed}", "a-b_9", {"n": 100, "group": "a-b", "seed": 9}),
        ("{group}/{{auto}}", "ethyl/seed/9", {"n": 100, "group": "ethyl", "seed": 9}),
        ("x/{seed}/{job.sp.group}", "x/9/True", {"n": 100, "group": "True", "seed": 9}),
        ("{seed}/{group}", "True/b%2Fc", {"n": 100, "group": "b/c", "seed": True}),
        ("{group}/{seed}", "ethyl/@absent", {"n": 100, "group": "ethyl"}),
    ],
)
def test_templates_that_spell_every_key_lead_back(template: str, path: str, expected: object) -> None:
    assert made(path, *STUDY, tree=Tree(template)) == expected


@pytest.mark.parametrize(
    ("template", "path", "why"),
    [
        ("{group}/s_{seed:.1f}", "ethyl/s_1.0", "in full"),
        ("{group}/{seed!r}", "ethyl/1", "in full"),
        ("{group}/{job.doc.x}/{seed}", "ethyl/1/1", "job.doc.x is no key"),
        ("{group}/{job.id}", "ethyl/x", "job.id is no key"),
        ("{{auto:_}}", "group_x_seed_9", "ends"),
        ("{group}_{seed}", "a_b_9", "more than one way"),
        ("{group}", "ethyl", "leaves open.*seed"),
        ("{group}/{seed}", "ethyl", "leaves open.*seed|ends before"),
    ],
)
def test_templates_that_do_not_are_refused_with_the_reason(template: str, path: str, why: str) -> None:
    with pytest.raises(NotInvertible, match=why):
        made(path, *STUDY, tree=Tree(template))


def test_a_job_keeps_what_a_template_does_not_say_in_full() -> None:
    tree = Tree("T_{T:.1f}/{seed}")
    jobs: list[dict[str, object]] = [{"T": 1.04, "seed": 1}, {"T": 2.5, "seed": 1}]
    table = table_of(*jobs)
    found = tree.moved(target(tree, table, "T_1.0/2"), record(jobs[0]), place(tree, table, "T_1.0/1"), table)
    assert found == {"T": 1.04, "seed": 2}
    with pytest.raises(NotInvertible, match="in full"):
        tree.moved(target(tree, table, "T_3.0/1"), record(jobs[0]), place(tree, table, "T_1.0/1"), table)


def test_the_layout_signac_cannot_be_written() -> None:
    with pytest.raises(NotInvertible, match="alike"):
        target(Tree("signac"), table_of(*STUDY), "group/ethyl")
