from __future__ import annotations

from pathlib import Path

import pytest

from sigfs.errors import AmbiguousId, NoSuchJob, QueryTooCostly
from sigfs.index import Index
from sigfs.index.column import Column
from sigfs.model.types import UNKNOWN, Change, JobId, Record, Stamp
from sigfs.model.workspace import Workspace
from sigfs.query import parse
from sigfs.query.expr import Field, Match, Space
from tests.support.projects import make_project
from tests.support.strategies import added, job_id, record


def make(*statepoints: dict[str, object] | None) -> Index:
    index = Index()
    index.apply(added(*statepoints))
    return index


def find(index: Index, query: str) -> list[object]:
    found = index.find(parse(query))
    with index.reading() as table:
        return sorted((table.record(i).statepoint or {}).get("foo") for i in found)  # type: ignore[type-var]


def test_a_query_selects_the_jobs_for_which_it_holds() -> None:
    index = make(*({"foo": i} for i in range(5)))
    assert find(index, "foo.$gt 2") == [3, 4]
    assert find(index, "foo 2") == [2]
    assert find(index, "") == [0, 1, 2, 3, 4]


def test_int_and_float_are_found_together_and_kept_apart() -> None:
    index = make({"a": 1}, {"a": 1.0}, {"a": True}, {"a": "1"})
    with index.reading() as table:
        assert len(table.select(parse("a 1"))) == 2
        assert len(table.select(parse("a 1.0"))) == 2
        assert len(table.select(parse("a true"))) == 1
        assert len(table.select(parse({"a.$type": "float"}))) == 1
        assert [repr(v) for v in table.values(Field(Space.SP, "a"), table.jobs)] == ["True", "1", "'1'"]


def test_applying_a_change_twice_changes_nothing_the_second_time() -> None:
    index = make({"foo": 1})
    delta = index.apply(added({"foo": 1}))
    assert delta.jobs == ()
    assert delta.generation == index.generation == 1


def test_a_delta_tells_the_record_before_and_after() -> None:
    index = make({"foo": 1})
    jid = job_id({"foo": 1})
    with index.reading() as table:
        old = table.record(jid)
    assert index.apply([Change(jid, None)]).jobs == ((old, None),)
    assert index.apply([Change(jid, None)]).jobs == ()
    assert index.apply([Change(jid, old)]).jobs == ((None, old),)


def test_true_in_place_of_one_is_a_change() -> None:
    jid = JobId("a" * 32)
    index = Index()
    index.apply([Change(jid, Record(jid, {"foo": 1}))])
    assert len(index.apply([Change(jid, Record(jid, {"foo": True}))]).jobs) == 1
    assert index.find(parse("foo 1")) == []


def test_a_record_without_document_keeps_the_document_that_is_known() -> None:
    index = Index()
    jid = job_id({"foo": 1})
    index.apply([Change(jid, record({"foo": 1}, {"bar": True}))])
    index.apply([Change(jid, record({"foo": 1}))])
    assert find(index, "doc.bar true") == [1]
    index.apply([Change(jid, record({"foo": 1}, {}))])
    assert find(index, "doc.bar true") == []


def test_a_mapping_with_deeper_keys_exists_but_is_no_leaf() -> None:
    index = make({"a": {"b": 1}}, {"a": 5}, {"c": 1})
    with index.reading() as table:
        assert len(table.select(parse("a"))) == 2
        assert len(table.having(Field(Space.SP, "a"))) == 1
        assert len(table.select(parse("a.$exists false"))) == 1


def test_abbreviated_ids_resolve_if_unique() -> None:
    index = Index()
    ids = [JobId(f"{p}{'0' * 30}") for p in ("aa", "ab", "b0")]
    index.apply(Change(i, Record(i, {})) for i in ids)
    with index.reading() as table:
        assert table.lookup("b") == ids[2]
        assert table.ids(table.select(parse("id a"))) == ids[:2]
        with pytest.raises(AmbiguousId, match="2 jobs"):
            table.lookup("a")
        with pytest.raises(NoSuchJob, match="'c'"):
            table.lookup("c")
        with pytest.raises(NoSuchJob):
            table.record(JobId("f" * 32))


def test_changes_of_known_jobs_only_do_not_bring_back_one_that_is_gone() -> None:
    index = make({"foo": 1}, {"foo": 2})
    late = [Change(job_id({"foo": foo}), record({"foo": foo}, {"x": foo})) for foo in (1, 2)]
    index.apply([Change(job_id({"foo": 1}), None)])
    assert len(index.apply(late, known_only=True).jobs) == 1
    assert find(index, "") == [2]
    assert find(index, "doc.x") == [2]


def test_check_notices_an_index_that_lies() -> None:
    index = make({"foo": 1}, {"foo": 2})
    index.check()
    index.check([record({"foo": 1}), record({"foo": 2})])
    with pytest.raises(AssertionError, match="differs"):
        index.check([record({"foo": 1})])


def test_the_values_of_few_jobs_are_named_as_those_of_many() -> None:
    index = make(*({"a": value} for i in range(50) for value in (i, float(i), str(i))), {"b": 1})
    with index.reading() as table:
        field = Field(Space.SP, "a")
        for query in ("a 7", "a 7.0", 'a "7"', "b", "a.$lt 3"):
            few = table.select(parse(query))
            column = table.statepoints.columns[field]
            assert list(map(repr, table.values(field, few))) == list(map(repr, column.distinct(few)))
            assert table.count_values(field, few) == len(column.distinct(few))
        assert table.values(field, table.select(parse({"a": 7.0, "a.$type": "float"}))) == [7]


def test_a_document_read_before_is_kept_by_a_later_record_of_the_same_batch() -> None:
    index, told = Index(), list[Change]()
    index.journal = told.extend
    jid = job_id({"foo": 1})
    index.apply([Change(jid, record({"foo": 1}, {"bar": False}))])
    whole = Change(jid, Record(jid, {"foo": 1}, {"bar": True}, Stamp(2, 3, 4)))
    index.apply([whole, Change(jid, Record(jid, {"foo": 1}, None, Stamp(5)))])
    assert find(index, "doc.bar true") == [1]
    with index.reading() as table:
        assert table.stamp(jid) == Stamp(5, 3, 4)
    again = Index()
    again.apply(told[-1:])
    assert find(again, "doc.bar true") == [1]


def test_every_condition_has_a_limit_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    index = make(*({"foo": i} for i in range(50)))
    monkeypatch.setattr("sigfs.index.table._QUERY_LIMIT_S", -1.0)
    slow = Match(Field(Space.SP, "foo"), "a")
    with index.reading() as table:
        few = table.select(parse("foo 3"))
        with pytest.raises(QueryTooCostly):
            table.select(slow, few)


def test_what_is_near_within_an_endless_reach_is_every_finite_number() -> None:
    index = make({"foo": -0.0}, {"foo": 5}, {"foo": float("inf")}, {"foo": "a"})
    assert find(index, "foo.$near [1,0,Infinity]") == [-0.0, 5]


def test_the_latest_answer_is_kept_however_many_there_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sigfs.index.table._CACHE_LIMIT", 3)
    index = make({"foo": 1})
    with index.reading() as table:
        for number in range(10):
            asked = [table.cached(("a", number), object) for _ in range(2)]
            assert asked[0] is asked[1]


def test_jobs_out_of_order_keep_their_own_values() -> None:
    column = Column()
    column.extend([0, 2, 1, 3], [10, 11, 12, 13])
    assert column.values_of(range(4)) == [10, 12, 11, 13]
    column.extend([*range(4, 10)], [*range(20, 26)])
    assert column.values_of([4, 9]) == [20, 25]
    column.check()


@pytest.mark.parametrize("odd", [-0.0, float("nan")])
def test_odd_numbers_among_many_are_values_of_their_own(odd: float) -> None:
    column = Column()
    column.extend([0, 1, 2, 3], [float("inf"), float("-inf"), odd, 0.0])
    assert [repr(value) for value in column.values_of([2, 3])] == [repr(odd), "0.0"]
    column.check()


def test_a_built_index_knows_the_listing_that_it_was_read_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Workspace, "stamp", lambda _: 7)  # the real one says nothing of what is younger than 2 s
    workspace = Workspace(f"{make_project(str(tmp_path), {'a': 1})}/workspace")
    assert Index.build(workspace).listed == 7
    Path(workspace.path, "0" * 32).mkdir()
    assert Index.build(workspace).listed == UNKNOWN, "a pending job is yet to be read"
