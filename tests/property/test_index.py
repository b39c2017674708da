"""The index against the reference evaluator and against a rebuild, over random histories (I2)."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from sigfs.index import Index
from sigfs.index.snapshot import dump, parse
from sigfs.model.types import Batch, Change, JobId, Record, Stamp, StatePoint
from sigfs.query import holds
from sigfs.query.expr import And, Compare, Exists, Expr, Field, In, IsType, Match, Near, Not, Op, Or, Space, Value
from sigfs.query.values import equality_key, flatten, order_key
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
    truth = {r.id: r for r in records}
    expected = sorted(r.id for r in truth.values() if holds(expr, r))
    assert index.find(expr) == expected
    loaded = Index()
    loaded.load([Batch([(r.id, r.statepoint, r.document, Stamp()) for _, r in sorted(truth.items())], [])])
    assert loaded.find(expr) == expected
    read = Index(parse(b"".join(dump(loaded._table, {})))[0])
    assert read.find(expr) == expected
    with index.reading() as table:
        for r in truth.values():  # within a selection, conditions may be answered another way
            one = table.select(Compare(Field(Space.ID, ""), Op.EQ, Value(r.id)))
            assert table.ids(table.select(expr, one)) == ([r.id] if r.id in expected else [])


_NOTHING = object()


def _mapping(record: Record, field: Field) -> StatePoint | None:
    return record.document if field.space is Space.DOC else record.statepoint


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
        with self.index.reading() as table:
            assert table.number(name) in (None, *table.jobs)

    @rule(field=fields, low=st.integers(-2, 2))
    def ask(self, field: Field, low: int) -> None:
        """Have the columns build what they build only when asked."""
        bound = Compare(field, Op.GT, Value(low))
        assert self.index.find(bound) == sorted(i for i, r in self.truth.items() if holds(bound, r))
        with self.index.reading() as table:
            of_field = [dict(flatten(_mapping(r, field))).get(field.key, _NOTHING) for r in self.truth.values()]
            classes = {equality_key(v): v for v in of_field if v is not _NOTHING}
            found = table.values(field, table.jobs)
            assert [equality_key(v) for v in found] == sorted(classes, key=lambda key: order_key(classes[key])[:3])
            assert table.count_values(field, table.jobs) == len(classes)

    @rule()
    def write_and_read(self) -> None:
        with self.index.frozen() as table:
            stamped = table.stamped()
            copy, meta = parse(b"".join(dump(table, {"a": [1]})))
        assert meta == {"a": [1]}
        assert copy.stamped() == stamped
        self.index = Index(copy)

    @invariant()
    def equals_a_rebuild(self) -> None:
        self.index.check(self.truth.values())


History.TestCase.settings = settings(max_examples=60, stateful_step_count=15, deadline=None)
TestHistory = History.TestCase
