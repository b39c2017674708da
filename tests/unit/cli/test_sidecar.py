"""sigfs sidecar and sigfs verify: what they print, and their exit codes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from sigfs.api.project import Project, get_project
from tests.support.commands import Run, completed


@pytest.fixture
def project(run: Run) -> Project:
    """Three jobs in the project of the working directory, the first with a document and data."""
    run("init")
    for foo in range(3):
        run("job", f"foo={foo}")
    made = get_project()
    run("doc", job(made).id, "set", "done", "true")
    Path(job(made).fn("data.txt")).write_text("data")
    return made


def job(project: Project):  # type: ignore[no-untyped-def]
    return next(iter(project.find({"foo": 0})))


def test_init_begins_it_and_commands_keep_it(run: Run, project: Project) -> None:
    assert run("sidecar", "verify")[0] == 0
    run("migrate", "foo", "1", "bar=2")
    run("rm", "foo", "2", "--yes")
    code, out, _ = run("sidecar", "show", "--json")
    assert code == 0
    found = {json.dumps(record["sp"]): record.get("doc") for record in json.loads(out)}
    assert found == {'{"foo": 0}': {"done": True}, '{"foo": 1, "bar": 2}': None}
    assert run("sidecar", "verify", "--json")[0] == 0


def test_a_project_without_one_is_told_how_to_get_it(run: Run, project: Project) -> None:
    os.unlink(project.sidecar.file.path)
    for words in (("sidecar", "verify"), ("sidecar", "show"), ("verify",)):
        code, _, err = run(*words)
        assert (code, "sigfs sidecar update` makes one" in err) == (1, True)
    assert run("sidecar", "update", "--dry-run")[1] == "3 added, 0 changed, 0 gone\n"
    assert not project.sidecar.file.exists
    assert run("sidecar", "update")[1] == "3 added, 0 changed, 0 gone\n"
    code, out, _ = run("sidecar", "update", "--json")
    assert (code, json.loads(out)["added"], json.loads(out)["jobs"]) == (0, [], 3)


def test_what_does_not_agree_is_told(run: Run, project: Project) -> None:
    os.unlink(job(project).fn("signac_statepoint.json"))
    with open(project.sidecar.file.path, "ab") as file:
        file.write(b"garbage\n{")
    code, out, err = run("sidecar", "verify")
    assert (code, out.splitlines()[1].split("\t")[1]) == (1, "damaged")
    assert "line 6" in err
    assert "not written to its end" in err
    found = json.loads(run("sidecar", "verify", "--json")[1])
    assert (len(found["jobs"]), found["broken"][0]["line"], found["torn"]) == (1, 6, True)
    code, out, err = run("sidecar", "update")
    assert code == 0
    assert "what is known of it is kept" in err


def test_records_are_shown_by_the_beginning_of_an_id(run: Run, project: Project) -> None:
    job_id = job(project).id
    code, out, _ = run("sidecar", "show", job_id[:6])
    assert (code, out.splitlines()[1]) == (0, f'{job_id}\t{{"foo": 0}}\t{{"done": true}}\t')
    assert run("sidecar", "show", "nothing")[0] == 4
    assert completed("sidecar", "show", job_id[:6]) == [job_id]


def test_a_newer_one_is_refused(run: Run, project: Project) -> None:
    Path(project.sidecar.file.path).write_text('{"format": "sigfs-sidecar", "version": 2}\n')
    for words in (("sidecar", "verify"), ("sidecar", "show"), ("sidecar", "update"), ("verify",)):
        code, _, err = run(*words)
        assert (code, "use a newer sigfs; nothing is changed" in err) == (1, True)
    assert run("job", "foo=17")[0] == 0
    assert run("check")[0] == 0


def test_data_are_verified(run: Run, project: Project) -> None:
    code, _, err = run("verify")
    assert (code, "sigfs sidecar update --data makes them" in err) == (1, True)
    assert run("sidecar", "update", "--data")[1].endswith("3 data\n")
    code, out, err = run("verify")
    assert (code, out) == (0, "")
    assert "1 files of 3 jobs are as they were" in err
    Path(job(project).fn("data.txt")).write_text("DATA")
    Path(job(project).fn("new")).touch()
    code, out, _ = run("verify")
    job_id = job(project).id
    assert (code, out.splitlines()[1:]) == (
        1,
        [
            f"changed\t{job_id}\tdata.txt\thas another content",
            f"added\t{job_id}\tnew\tthe sidecar does not have it",
        ],
    )
    found = json.loads(run("verify", "--json")[1])
    assert [each["what"] for each in found["findings"]] == ["changed", "added"]
    for words in ((job_id,), (job_id[:7],), ("foo", "0"), ("-f", "foo 0")):
        assert run("verify", *words)[0] == 1
    for words in (("foo", "1"), ("--filter", "foo.$gt 0")):
        assert run("verify", *words)[0] == 0
    assert run("verify", "foo", "1", "-f", "foo 1")[0] == 2
    assert run("sidecar", "update", "--data", "--json")[0] == 0
    assert run("verify")[0] == 0


def test_data_of_a_job_that_is_gone_are_missing(run: Run, project: Project) -> None:
    run("sidecar", "update", "--data")
    path = os.fspath(job(project))
    os.rename(path, "elsewhere")
    code, out, _ = run("verify")
    assert (code, out.splitlines()[1].split("\t")[::2]) == (1, ["missing", "."])


def test_check_names_what_is_left_over_and_that_is_no_failure(run: Run, project: Project) -> None:
    copy = os.path.join(project.workspace.path, "._sigfs_copy_1")
    os.mkdir(copy)
    Path(copy, "._sigfs_moved").touch()
    code, out, err = run("check")
    assert (code, out.splitlines()[1].split("\t")[:2]) == (0, [copy, "leftover"])
    assert "sound" in err
    assert [each["what"] for each in json.loads(run("check", "--json")[1])] == ["leftover"]
