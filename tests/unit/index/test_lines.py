"""How long all lines are is known before they are spelled."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from sigfs.index import Index
from sigfs.index.lines import length, lines_after, total_length
from sigfs.index.snapshot import dump, parse
from sigfs.model.types import Batch, Change, JobId, Record, Stamp
from tests.support.strategies import record, statepoints

records = st.lists(
    st.builds(record, st.none() | statepoints, st.none() | statepoints), max_size=8, unique_by=lambda r: r.id
)


def indexes(jobs: list[Record]) -> list[Index]:
    """Make an index one by one, one in bulk, and one as it is read from the store, with columns not filled yet."""
    applied, loaded = Index(), Index()
    applied.apply(Change(each.id, each) for each in jobs)
    rows = sorted((each.id, each.statepoint, each.document, Stamp()) for each in jobs) if jobs else []
    loaded.load([Batch(rows, [])])
    return [applied, loaded, Index(parse(b"".join(dump(loaded._table, {})))[0])]


@settings(max_examples=200, deadline=None)
@given(records)
def test_the_length_is_that_of_the_lines(jobs: list[Record]) -> None:
    for index in indexes(jobs):
        with index.reading() as table:
            known = total_length(table)
            for documents in (False, True):
                lines = [text for _, text in lines_after(table, "", 100, documents=documents)]
                assert known.of(documents=documents) == len("".join(lines).encode())
            of_each = [length(table.record(job_id)) for job_id in table]
        assert known.statepoints == sum(each.statepoints for each in of_each)
        assert known.documents == sum(each.documents for each in of_each)


@settings(max_examples=100, deadline=None)
@given(records)
def test_a_line_says_the_job_and_lines_ascend(jobs: list[Record]) -> None:
    for index in indexes(jobs):
        with index.reading() as table:
            found = [json.loads(text) for _, text in lines_after(table, "", 100, documents=True)]
            expected = [table.record(job_id) for job_id in sorted(table)]
        assert [json.dumps(each) for each in found] == [
            json.dumps(
                {"id": each.id, "sp": _sorted(each.statepoint)}
                | ({} if each.document is None else {"doc": _sorted(each.document)})
            )
            for each in expected
        ]


def _sorted(value: object) -> object:
    return json.loads(json.dumps(value, sort_keys=True))


def test_lines_go_on_behind_any_id_whatever_came_and_went() -> None:
    index = Index()
    index.load([Batch([(JobId(f"{n:032x}"), {"n": n}, None, Stamp()) for n in range(0, 40, 2)], [])])
    index.apply([Change(JobId(f"{n:032x}"), None) for n in (4, 6, 38)])
    index.apply([Change(JobId(f"{n:032x}"), Record(JobId(f"{n:032x}"), {"n": n})) for n in (5, 1, 6, 39)])
    with index.reading() as table:
        ids = [job_id for job_id, _ in lines_after(table, "", 100, documents=False)]
        assert ids == sorted(table)
        for position, job_id in enumerate(ids):
            some = [each for each, _ in lines_after(table, job_id, 3, documents=False)]
            assert some == ids[position + 1 : position + 4]
