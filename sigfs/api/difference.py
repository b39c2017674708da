"""What differs between jobs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from sigfs.model.types import Json, StatePoint
from sigfs.query.values import flatten

if TYPE_CHECKING:
    from sigfs.api.job import Job


def diff_jobs(*jobs: Job) -> dict[str, dict[str, Json]]:
    """What of the state point of each of *jobs*, by its id, is not in all of them.

    Raises:
        NoSuchJob, PendingJob: one of them is not there (any more), or cannot be read.
    """
    return differences({job.id: job.cached_statepoint for job in jobs})


def differences(statepoints: Mapping[str, StatePoint | None]) -> dict[str, dict[str, Json]]:
    """Leave of each state point, given by the jobs' ids, what is not in all of them.

    Values are the same if JSON spells them alike: 1 and 1.0 are not.

    >>> differences({"x": {"a": 1, "b": {"c": 2, "d": 3}}, "y": {"a": 1, "b": {"c": 4, "d": 3}}})
    {'x': {'b': {'c': 2}}, 'y': {'b': {'c': 4}}}
    """
    leaves = [{(key, json.dumps(value, sort_keys=True)) for key, value in flatten(of)} for of in statepoints.values()]
    same = {key for key, _ in set.intersection(*leaves)} if leaves else set()
    return {job_id: _without(statepoint or {}, same) for job_id, statepoint in statepoints.items()}


def _without(mapping: StatePoint, keys: set[str], prefix: str = "") -> dict[str, Json]:
    left: dict[str, Json] = {}
    for key, value in mapping.items():
        if isinstance(value, dict) and value:
            if inner := _without(value, keys, f"{prefix}{key}."):
                left[key] = inner
        elif prefix + key not in keys:
            left[key] = value
    return left
