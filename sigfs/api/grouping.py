"""Groups of jobs that have the same value.

Owned here: which values are the same, and the order of groups. Values come from the index; no job is read for a key.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import TYPE_CHECKING

from sigfs.api.cursor import Jobs
from sigfs.errors import NoSuchJob, PendingJob, QuerySyntaxError
from sigfs.query.expr import Field, Space
from sigfs.query.tokens import parse_key
from sigfs.query.values import equality_key, order_key

if TYPE_CHECKING:
    from sigfs.api.job import Job
    from sigfs.model.types import JobId


def grouped(
    jobs: Jobs, key: str | Iterable[str] | Callable[[Job], object] | None, default: object
) -> Iterator[tuple[object, Jobs]]:
    """See `Jobs.groupby`."""
    if key is None:
        pairs: Iterable[tuple[object, JobId]] = zip(
            (job_id for job_id, _ in jobs.source.describe(jobs.found())), jobs.found(), strict=True
        )
    elif isinstance(key, str):
        pairs = ((values[0], job) for values, job in _values(jobs, [_field(key)], default))
    elif callable(key):
        pairs = _computed(jobs, key)
    else:
        pairs = _values(jobs, [_field(each) for each in key], default)
    groups: dict[Hashable, tuple[object, list[JobId]]] = {}
    for value, job in pairs:
        groups.setdefault(_same(value), (value, []))[1].append(job)
    order = _plain_order if callable(key) else _order
    return ((value, Jobs(jobs.source, jobs.query, members)) for value, members in order([*groups.values()]))


def _field(key: object) -> Field:
    if not isinstance(key, str):
        raise QuerySyntaxError(f"expected a key to group by, found {key!r}")
    field, operator = parse_key(key)
    if operator:
        raise QuerySyntaxError(f"jobs are grouped by keys; {key!r} has an operator")
    return field


def _values(jobs: Jobs, fields: list[Field], default: object) -> Iterator[tuple[tuple[object, ...], JobId]]:
    """The values of each job that has all of *fields*, or of every job if there is a default."""
    found = jobs.found()
    index = jobs.source.current(any(field.space is Space.DOC for field in fields))
    with index.reading() as table:
        numbers = table.numbers_of(found)
        selected = [number for _, number in numbers]
        columns = [table.values_at(field, selected) for field in fields]
    for job, number in numbers:
        if default is not None:
            yield tuple(column.get(number, default) for column in columns), job
        elif all(number in column for column in columns):
            yield tuple(column[number] for column in columns), job


def _computed(jobs: Jobs, function: Callable[[Job], object]) -> Iterator[tuple[object, JobId]]:
    for key, job in zip(jobs.found(), jobs, strict=True):
        try:
            value = function(job)
        except (NoSuchJob, PendingJob):
            continue  # removed by somebody since
        yield value, key


def _same(value: object) -> Hashable:
    """A key that is equal for values of one group."""
    if isinstance(value, tuple):
        return ("tuple", *map(_same, value))
    try:
        return equality_key(value)
    except TypeError:
        return value if isinstance(value, Hashable) else repr(value)


def _order(groups: list[tuple[object, list[JobId]]]) -> list[tuple[object, list[JobId]]]:
    return sorted(groups, key=lambda group: _rank(group[0]))


def _plain_order(groups: list[tuple[object, list[JobId]]]) -> list[tuple[object, list[JobId]]]:
    """As Python orders the values of a function, if it does."""
    try:
        return sorted(groups, key=lambda group: group[0])  # type: ignore[arg-type,return-value]
    except TypeError:
        return _order(groups)


def _rank(value: object) -> tuple[object, ...]:
    if isinstance(value, tuple):
        return (1, *map(_rank, value))
    try:
        return (0, order_key(value))
    except TypeError:  # a default, or the value of a function, that is no JSON value
        return (2, type(value).__name__, repr(value))
