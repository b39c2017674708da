"""Hypothesis strategies for what a hostile project may contain."""

from __future__ import annotations

import json
from hashlib import md5

from hypothesis import strategies as st

from sigfs.model.types import Change, JobId, Record

# Names that have broken file systems and parsers before, beside whatever hypothesis finds.
NASTY = [
    "", ".", "..", "/", "a/b", "../..", "a\0b", "a\nb", "a b", " ", "%", "%2F", "@", "a@gt", "$gt", "a.$gt", "~", '"',
    "'", "\\", "\ud800", "\udcff", "true", "null", "NaN", "42", "007", "1e5", ".jobs", ".job", "job", "sp.job", "doc.x",
    "id", "/re/", "[1]", "{}", '"x"', "x" * 300, "ü" * 200, "%" * 200, "x~0123456789abcdef",
    "signac_statepoint.json", "0" * 32,
]  # fmt: skip

texts = st.sampled_from(NASTY) | st.text(max_size=8) | st.text(st.characters(), max_size=3)
numbers = (
    st.sampled_from([0, 1, -1, 2**53, 2**53 + 1, 2**63, 2**70, 0.0, -0.0, 1.0, 0.1, 1e300])
    | st.sampled_from([float("inf"), float("-inf"), float("nan")])
    | st.integers(-3, 3)
    | st.floats(-2, 2)
)
scalars = st.none() | st.booleans() | numbers | texts
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=5,
)
# Few keys, so that jobs have keys in common; some deep, some that clash with a mapping of the same name.
keys = st.sampled_from(["a", "b", "c"]) | texts
statepoints = st.dictionaries(keys, values, max_size=4)


def job_id(statepoint: object) -> JobId:
    """Compute the id that signac would give."""
    return JobId(md5(json.dumps(statepoint, sort_keys=True).encode()).hexdigest())


def record(statepoint: dict[str, object] | None, document: dict[str, object] | None = None) -> Record:
    """Make the record of a job with this state point."""
    return Record(job_id(statepoint), statepoint, document)


def added(*statepoints: dict[str, object] | None) -> list[Change]:
    """Make the changes that add jobs with these state points."""
    return [Change(job_id(sp), record(sp)) for sp in statepoints]
