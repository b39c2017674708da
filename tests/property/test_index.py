"""The index against the reference evaluator and against a rebuild, over random histories (I2)."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from sigfs.index import Index
from sigfs.model.types import Change, JobId, Record
from sigfs.query import holds
from sigfs.query.expr import And, Compare, Exists, Expr, Field, In, IsType, Match, Near, Not, Op, Or, Space, Value
from tests.support.strategies import added, keys, record, statepoints, texts, values

fields = st.builds(Field, st.sampled_from([Space.SP, Space.DOC]), keys | st.sampled_from(["a.b", "a.", "b.a.b"]))
leaves: st.SearchStrategy[Expr] = (
    st.builds(Compare, fields, st.sampled_from(Op), st.builds(Value, values))
    | st.builds(In, fields, st.lists(st.builds(Value, values), max_size=3).map(tuple), st.booleans())
    | st.builds(Exists, fields, st.booleans())
    | st.builds(Match, fields, st.sampled_from(["", "a", "^.$", "[0-9]"]))
    | st.builds(IsType, fields, st.sampled_from(["null", "bool", "int", "float", "str", "list", "dict"]))
    | st.builds(Near, fields, st.floats(-2, 2), st.just(0.1), st.just(0.0))
    | st.builds(
        Compare, st.just(Field(Space.ID, "")), st.just(Op.EQ), st.builds(Value, st.text("0123abcd", max_size=2))
    )
)
expressions = st.recursive(
    leaves,
    lambda inner: (
        st.builds(And, st.lists(inner, max_size=3).map(tuple))
        | st.builds(Or, st.lists(inner, max_size=3).map(tuple))
        | st.builds(Not, inner)
    ),
    max_leaves=4,
)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(statepoints, statepoints), max_size=6), expressions)
def test_select_agrees_with_the_reference_evaluator(
    jobs: list[tuple[dict[str, object], dict[str, object]]], expr: Expr
) -> None:
    records = [record(sp, doc) for sp, doc in jobs]
    index = Index()
    index.apply(Change(r.id, r) for r in records)
    snapshot = index.snapshot()
    expected = sorted({r.id for r in {r.id: r for r in records}.values() if holds(expr, r)})
    assert snapshot.ids(snapshot.select(expr)) == expected


class History(RuleBasedStateMachine):
    """Adds, changes and removes jobs; the index equals a rebuild after each step."""

    def __init__(self) -> None:
        super().__init__()
        self.index = Index()
        self.truth: dict[JobId, Record] = {}

    @rule(batch=st.lists(statepoints, max_size=3))
    def add(self, batch: list[dict[str, object]]) -> None:
        changes = added(*batch)
        self.index.apply(changes)
        for change in changes:
            assert change.record is not None
            old = self.truth.get(change.id)
            self.truth[change.id] = replace(change.record, document=old.document) if old else change.record

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        if self.truth:
            jid = data.draw(st.sampled_from(sorted(self.truth)))
            self.index.apply([Change(jid, None)])
            del self.truth[jid]

    @rule(data=st.data(), statepoint=statepoints, document=statepoints)
    def rewrite_in_place(self, data: st.DataObject, statepoint: dict[str, object], document: dict[str, object]) -> None:
        if self.truth:
            jid = data.draw(st.sampled_from(sorted(self.truth)))
            self.truth[jid] = Record(jid, statepoint, document)
            self.index.apply([Change(jid, self.truth[jid])])

    @rule(name=texts)
    def look_up_what_is_not_there(self, name: str) -> None:
        assert self.index.snapshot().number(name) in (None, *self.index.snapshot().jobs)

    @invariant()
    def equals_a_rebuild(self) -> None:
        self.index.check(self.truth.values())


History.TestCase.settings = settings(max_examples=60, stateful_step_count=15, deadline=None)
TestHistory = History.TestCase
