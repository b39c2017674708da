from __future__ import annotations

import json
import os
from pathlib import Path

from sigfs.model.workspace import Workspace
from sigfs.watch.documents import DocumentPoller
from tests.support.projects import add_job, make_project


def write(job: str, document: object) -> None:
    Path(job, "signac_job_document.json").write_text(json.dumps(document))


def test_each_document_is_given_once_and_again_when_it_has_changed(tmp_path: Path) -> None:
    project = make_project(str(tmp_path / "p"))
    jobs = {os.path.basename(path): path for path in (add_job(project, {"a": i}) for i in range(3))}
    first, second, third = jobs
    write(jobs[first], {"x": 1})
    poller = DocumentPoller(Workspace(f"{project}/workspace"), max_age_s=0)

    found = {change.id: change.record and change.record.document for change in poller.changes(list(jobs))}
    assert found == {first: {"x": 1}, second: {}, third: {}}
    assert poller.changes(list(jobs)) == []

    write(jobs[first], {"x": 2})
    write(jobs[second], {"y": 1})
    found = {change.id: change.record and change.record.document for change in poller.changes(list(jobs))}
    assert found == {first: {"x": 2}, second: {"y": 1}}

    os.unlink(f"{jobs[second]}/signac_job_document.json")
    assert [change.record and change.record.document for change in poller.changes(list(jobs))] == [{}]


def test_within_the_age_limit_only_new_jobs_are_looked_at(tmp_path: Path) -> None:
    project = make_project(str(tmp_path / "p"))
    old = add_job(project, {"a": 1})
    poller = DocumentPoller(Workspace(f"{project}/workspace"), max_age_s=3600)
    assert len(poller.changes([os.path.basename(old)])) == 1
    new = add_job(project, {"a": 2})
    write(old, {"x": 1})
    assert [change.id for change in poller.changes([os.path.basename(old), os.path.basename(new)])] == [
        os.path.basename(new)
    ]


def test_a_job_that_is_gone_and_a_workspace_that_is_gone_give_nothing(tmp_path: Path) -> None:
    project = make_project(str(tmp_path / "p"))
    poller = DocumentPoller(Workspace(f"{project}/workspace"), max_age_s=0)
    assert poller.changes(["0" * 32]) == []
    os.rmdir(f"{project}/workspace")
    assert poller.changes(["0" * 32]) == []
