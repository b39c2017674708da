from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from sigfs.model.types import JobId, Record
from sigfs.model.workspace import Workspace
from sigfs.watch.documents import DocumentPoller
from tests.support.projects import add_job, make_project


class Known:
    """What an index would know: it takes what the poller finds."""

    def __init__(self, poller: DocumentPoller, *jobs: str) -> None:
        self.poller = poller
        self.records = {JobId(os.path.basename(job)): Record(JobId(os.path.basename(job)), {}) for job in jobs}

    def poll(self) -> Mapping[str, object]:
        """Give id -> document of what has changed."""
        changes = self.poller.changes(self.records.values())
        for change in changes:
            assert change.record is not None
            self.records[change.id] = change.record
        return {change.id: self.records[change.id].document for change in changes}


def write(job: str, document: object) -> None:
    Path(job, "signac_job_document.json").write_text(json.dumps(document))


def test_each_document_is_given_once_and_again_when_it_has_changed(tmp_path: Path) -> None:
    project = make_project(str(tmp_path / "p"))
    jobs = [add_job(project, {"a": i}) for i in range(3)]
    first, second, third = map(os.path.basename, jobs)
    write(jobs[0], {"x": 1})
    known = Known(DocumentPoller(Workspace(f"{project}/workspace"), max_age_s=0), *jobs)
    assert known.poll() == {first: {"x": 1}, second: {}, third: {}}
    assert known.poll() == {}

    write(jobs[0], {"x": 2})
    write(jobs[1], {"y": 1})
    assert known.poll() == {first: {"x": 2}, second: {"y": 1}}

    os.unlink(f"{jobs[1]}/signac_job_document.json")
    assert known.poll() == {second: {}}


def test_within_the_age_limit_only_new_jobs_are_looked_at(tmp_path: Path) -> None:
    project = make_project(str(tmp_path / "p"))
    old = add_job(project, {"a": 1})
    known = Known(DocumentPoller(Workspace(f"{project}/workspace"), max_age_s=3600), old)
    assert len(known.poll()) == 1
    new = add_job(project, {"a": 2})
    write(old, {"x": 1})
    known.records[JobId(os.path.basename(new))] = Record(JobId(os.path.basename(new)), {})
    assert list(known.poll()) == [os.path.basename(new)]


def test_a_job_that_went_away_and_came_back_is_read_again_though_its_file_is_the_same(tmp_path: Path) -> None:
    project = make_project(str(tmp_path / "p"))
    job = add_job(project, {"a": 1})
    write(job, {"x": 1})
    known = Known(DocumentPoller(Workspace(f"{project}/workspace")), job)
    known.poll()
    (job_id,) = known.records
    known.records[job_id] = Record(job_id, {})
    assert known.poll() == {job_id: {"x": 1}}


def test_a_job_that_is_gone_and_a_workspace_that_is_gone_give_nothing(tmp_path: Path) -> None:
    project = make_project(str(tmp_path / "p"))
    known = Known(DocumentPoller(Workspace(f"{project}/workspace"), max_age_s=0), "0" * 32)
    assert known.poll() == {}
    os.rmdir(f"{project}/workspace")
    assert known.poll() == {}
