"""Who makes, migrates or removes a job may be killed at any call, or have any call fail: every job is whole then."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from sigfs.errors import NoSuchJob
from sigfs.model.statepoint import statepoint_id
from sigfs.model.workspace import STATEPOINT_FILE, Workspace
from tests.support.stepping import every_call, fail_at_each_call, kill_at_each_call

OLD, NEW = {"foo": 42}, {"foo": 43, "text": "x" * 5000}
BESIDE = {"foo": 1}
DATA = "data.txt"

STOPS = pytest.mark.parametrize("code", [None, errno.ENOSPC, errno.EACCES])


def one_job(path: str) -> None:
    workspace = Workspace(path)
    workspace.create(BESIDE)
    directory = os.path.join(path, workspace.create(OLD))
    with open(os.path.join(directory, DATA), "w", encoding="utf-8") as file:
        file.write("precious")


def make(path: str) -> None:
    Workspace(path).create(NEW)


def migrate(path: str) -> None:
    Workspace(path).migrate(statepoint_id(OLD), NEW)


def remove(path: str) -> None:
    Workspace(path).remove(statepoint_id(BESIDE))


def whole_jobs(path: str) -> dict[str, str | None]:
    """Finish what is half done, as whoever meets it does; give the jobs and what is in their data."""
    workspace = Workspace(path)
    found: dict[str, str | None] = {}
    for job_id in workspace.ids():
        workspace.finish(job_id)
        directory = os.path.join(path, job_id)
        with open(os.path.join(directory, STATEPOINT_FILE), encoding="utf-8") as file:
            assert statepoint_id(json.load(file)) == job_id
        data = os.path.join(directory, DATA)
        found[job_id] = Path(data).read_text(encoding="utf-8") if os.path.exists(data) else None
    return found


def look_made(path: str) -> None:
    rest = whole_jobs(path)
    rest.pop(statepoint_id(NEW), None)
    assert rest == {statepoint_id(BESIDE): None, statepoint_id(OLD): "precious"}
    make(path)
    assert len(whole_jobs(path)) == 3


def look_migrated(path: str) -> None:
    found = whole_jobs(path)
    assert found.pop(statepoint_id(BESIDE)) is None
    assert found in ({statepoint_id(OLD): "precious"}, {statepoint_id(NEW): "precious"})
    if statepoint_id(OLD) in found:
        migrate(path)
    assert whole_jobs(path) == {statepoint_id(BESIDE): None, statepoint_id(NEW): "precious"}


def look_removed(path: str) -> None:
    found = whole_jobs(path)
    assert found.pop(statepoint_id(OLD)) == "precious"
    assert found in ({}, {statepoint_id(BESIDE): None})
    if found:
        remove(path)
    with pytest.raises(NoSuchJob):
        remove(path)
    assert list(whole_jobs(path)) == [statepoint_id(OLD)]


@STOPS
def test_a_job_is_made_or_not(tmp_path: Path, code: int | None) -> None:
    stop = (one_job, make, look_made, tmp_path)
    calls = kill_at_each_call(*stop) if code is None else fail_at_each_call(code, *stop)
    every_call(calls, "renameat", "mkdirat", "write", "openat")


@STOPS
def test_a_job_is_migrated_or_not(tmp_path: Path, code: int | None) -> None:
    stop = (one_job, migrate, look_migrated, tmp_path)
    calls = kill_at_each_call(*stop) if code is None else fail_at_each_call(code, *stop)
    every_call(calls, "renameat2", "renameat", "write", "openat")


@STOPS
def test_a_job_is_removed_or_not(tmp_path: Path, code: int | None) -> None:
    stop = (one_job, remove, look_removed, tmp_path)
    calls = kill_at_each_call(*stop) if code is None else fail_at_each_call(code, *stop)
    every_call(calls, "renameat", "unlinkat", "mkdirat")
