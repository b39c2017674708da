"""mv, migrate and rm: nothing is replaced, nothing is half done, and nothing goes that was not meant."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from pathlib import Path
from typing import Any

import pytest

from sigfs.api.job import Job
from sigfs.api.project import Project, init_project
from sigfs.cli import changing
from sigfs.model.statepoint import statepoint_id
from sigfs.model.types import Json
from tests.support.commands import Run, completed, real_command


@pytest.fixture
def project(run: Run, tmp_path: Path) -> Project:
    """Four jobs: n from 0 to 3, kind, and a nested key."""
    made = init_project(tmp_path)
    for n in range(4):
        made.open({"n": n, "kind": "even" if n % 2 == 0 else "odd", "a": {"b": 1}})
    return made


def statepoints(project: Project) -> list[Json]:
    return sorted(
        (job.statepoint() for job in Project(project.root)), key=lambda each: json.dumps(each, sort_keys=True)
    )


def statepoints_below(project: Project) -> list[dict[str, Json]]:
    paths = Path(project.workspace.path).glob("*/signac_statepoint.json")
    return [json.loads(path.read_text()) for path in paths]


def the(project: Project, query: str) -> str:
    (job,) = Project(project.root).find(query)
    return job.id


# mv


def test_a_job_moves_to_a_path_into_a_directory_and_home_again(run: Run, project: Project, tmp_path: Path) -> None:
    job_id = the(project, "n 0")
    (tmp_path / "data").mkdir()
    assert run("mv", job_id[:8], "data/mine", "--dry-run")[1] == f"{tmp_path}/data/mine\n"
    assert os.listdir(tmp_path / "data") == []
    assert run("mv", job_id[:8], "data/mine")[:2] == (0, f"{tmp_path}/data/mine\n")
    assert run("mv", "./data/mine", f"workspace/{job_id}")[0] == 0
    moved = json.loads(run("mv", job_id, "data", "--json")[1])
    assert moved == {"from": f"{project.workspace.path}/{job_id}", "path": f"{tmp_path}/data/{job_id}"}
    assert run("sp", f"./data/{job_id}", "n")[1] == "0\n"


def test_that_a_job_moves_to_where_it_is_not_found_is_said(run: Run, project: Project, tmp_path: Path) -> None:
    job_id = the(project, "n 0")
    code, _, err = run("mv", job_id, "data/mine")
    assert (code, f"{tmp_path}/data is not indexed" in err) == (0, True)
    project.add_index("data")
    assert run("mv", "./data/mine", "data/yours") == (0, f"{tmp_path}/data/yours\n", "")
    assert run("mv", "../data/yours", f"workspace/{job_id}")[2] == ""


def test_a_job_moves_to_another_project(run: Run, project: Project, tmp_path: Path) -> None:
    other = init_project(tmp_path / "other")
    job_id = the(project, "n 0")
    assert run("mv", job_id, "--to", "other")[0] == 0
    assert [job.id for job in other] == [job_id]
    project.open({"n": 0, "kind": "even", "a": {"b": 1}})
    assert run("mv", job_id, "--to", "other")[0] == 1


@pytest.mark.parametrize(
    "words", [["there"], ["workspace/mine"], ["workspace/{id}/below"], [], [""], ["x", "--to", "."]]
)
def test_a_move_that_cannot_be_made_moves_nothing(run: Run, project: Project, tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "there").touch()
    job_id = the(project, "n 0")
    code, out, err = run("mv", job_id, *(word.format(id=job_id) for word in words))
    assert (code in (1, 2), out) == (True, "")
    assert err.startswith("sigfs: ")
    assert len(statepoints(project)) == 4


# migrate


def test_a_migration_prints_old_and_new_ids(run: Run, project: Project) -> None:
    old, new = the(project, "n 0"), statepoint_id({"n": 10, "kind": "even", "a": {"b": 0.1}})
    assert run("migrate", old[:8], "n=10", "a.b=1e-1", "--dry-run")[1] == f"id\tnew id\n{old}\t{new}\n"
    assert the(project, "n 0") == old
    assert run("migrate", old[:8], "n=10", "a.b=1e-1") == (0, f"id\tnew id\n{old}\t{new}\n", "")
    assert the(project, "n 10") == new
    assert json.loads(run("migrate", new, "n=0", "a.b=1", "--json")[1])[0]["new_id"] == old


def test_many_jobs_get_keys_lose_them_and_have_them_renamed(run: Run, project: Project) -> None:
    assert run("migrate", "kind", "odd", 'text="42"', "none=null", "neg=-1", "list=[1, 2]")[0] == 0
    assert {"n": 1, "kind": "odd", "a": {"b": 1}, "text": "42", "none": None, "neg": -1, "list": [1, 2]} in statepoints(
        project
    )
    assert run("migrate", "--all", "--delete", "a.b", "--rename", "kind=parity.kind")[0] == 0
    assert {"n": 0, "parity": {"kind": "even"}} in statepoints(project)


@pytest.mark.parametrize(
    "words",
    [
        ["--all", "n=1"],  # two would be the same
        ["n", "0", "n=1", "kind=odd"],  # there is one already
        ["--all", "--delete", "n"],
        ["--all", "--rename", "n=kind"],
        ["--all", "a=3"],  # which is a mapping
        ["--all", "n.x=3"],  # in what is none
        ["--all", "doc.x=1"],
        ["--all", "id=1"],
        ["--all", "n@gt=1"],
        ["--all", "b=[1"],
        ["--all"],
        ["--all", "--rename", "n"],
        ["n=1"],
        ["nothing", "1", "n=1"],
    ],
)
def test_a_migration_that_cannot_be_made_changes_nothing(run: Run, project: Project, words: list[str]) -> None:
    before = statepoints(project)
    code, out, err = run("migrate", *words)
    assert (code in (1, 2, 4), out) == (True, "")
    assert err.startswith("sigfs: ")
    assert statepoints(project) == before


def test_a_collision_names_the_jobs(run: Run, project: Project) -> None:
    code, _, err = run("migrate", "kind", "odd", "n=5")
    assert code == 1
    assert err.startswith("sigfs: nothing has been changed: ")
    assert all(job.id in err for job in project.find("kind odd"))


def test_what_is_so_already_is_not_changed(run: Run, project: Project) -> None:
    code, out, err = run("migrate", "--all", "a.b=1")
    assert (code, out) == (0, "")
    assert "already" in err
    assert run("migrate", "--all", "a.b=1", "--json")[1] == "[]\n"


def test_the_rest_of_an_interrupted_migration_is_done_by_the_same_command(
    run: Run, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate, calls = type(project.workspace).migrate, []

    def interrupted(*arguments: object, **options: object) -> object:
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return migrate(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(type(project.workspace), "migrate", interrupted)
    ids = sorted(job.id for job in project)
    code, out, err = run("migrate", "--all", "new=1", "--json")
    assert code == 130
    done = json.loads(out)
    assert [each["id"] for each in done] == ids[:2]
    assert {job.id for job in Project(project.root).find("new 1")} == {each["new_id"] for each in done}
    assert "2 of 4" in err
    assert len(statepoints(project)) == 4
    assert run("migrate", "--all", "new=1")[0] == 0
    assert [each["new"] for each in statepoints(project)] == [1] * 4  # type: ignore[index, call-overload]


def test_a_migration_does_not_undo_what_others_change_meanwhile(
    run: Run, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("freeze", "data")[0] == 0
    first, *others = Project(project.root).find()
    migrate = changing._migrate

    def late(*arguments: Any) -> None:
        others[0].sp.of_others = True
        migrate(*arguments)

    monkeypatch.setattr(changing, "_migrate", late)
    code, out, err = run("migrate", "--all", "new=1")
    assert (code, [line.split("\t")[0] for line in out.splitlines()]) == (1, ["id", first.id])
    assert os.fspath(others[0]) in err
    assert others[0].sp.of_others
    assert "new" not in others[0].sp
    assert run("migrate", "--all", "new=1")[0] == 0
    assert (others[0].sp.of_others, others[0].sp.new) == (True, 1)


def test_jobs_that_a_query_finds_are_not_read_again_to_plan_their_migration(
    run: Run, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Job, "statepoint", property(None))
    monkeypatch.setattr(Job, "_read_statepoint", None)
    assert len(json.loads(run("migrate", "--all", "new=1", "--json")[1])) == 4
    assert {each["new"] for each in statepoints_below(project)} == {1}


def test_words_of_a_migration_complete(run: Run, project: Project) -> None:
    assert completed("migrate", "n", "") == ["0", "1", "2", "3", "a.b=", "kind=", "n="]
    assert completed("migrate", "n", "0", "ki") == ["kind", "kind="]
    assert completed("migrate", "n", "0", "kind=") == ["kind=even", "kind=odd"]
    assert completed("migrate", "n", "0", "kind=odd", "") == ["a.b=", "kind=", "n="]


@pytest.mark.parametrize(
    ("words", "call"), [(["migrate", "n", "3", "n=9"], "migrate"), (["rm", "n", "3", "-y"], "remove")]
)
def test_what_the_system_refuses_names_the_job(
    run: Run, project: Project, monkeypatch: pytest.MonkeyPatch, words: list[str], call: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "._temporary")

    monkeypatch.setattr(type(project.workspace), call, refuse)
    code, out, err = run(*words)
    assert (code, out) == (1, "")
    assert err.startswith(f"sigfs: {project.workspace.path}/{the(project, 'n 3')}: cannot be ")
    assert "Permission denied" in err


# rm


def test_jobs_without_data_are_removed_where_nobody_needs_to_be_asked(run: Run, project: Project) -> None:
    code, out, err = run("rm", "kind", "odd")
    assert (code, out) == (2, "")
    assert "--yes" in err
    assert len(statepoints(project)) == 4
    assert run("rm", "kind", "odd", "--yes") == (0, "", "")
    assert len(statepoints(project)) == 2


@pytest.mark.parametrize(
    ("name", "content"), [("file", ""), ("signac_job_document.json", '{"a": 1}'), ("d/e", ""), ("d/", "")]
)
def test_one_job_with_data_keeps_all_from_being_removed(run: Run, project: Project, name: str, content: str) -> None:
    job_id = the(project, "n 3")
    above, last = os.path.split(os.path.join(project.workspace.path, job_id, name))
    os.makedirs(above, exist_ok=True)
    if last:
        Path(above, last).write_text(content)
    code, out, err = run("rm", "--all", "--yes")
    assert (code, out) == (1, "")
    assert job_id in err
    assert "--recursive" in err
    assert len(statepoints(project)) == 4
    rows = [line.split("\t") for line in run("rm", "--all", "--dry-run")[1].splitlines()[1:]]
    assert [row for row in rows if row[1] != "0"] == [[job_id, "1", str(len(content))]]
    assert run("rm", "--all", "--yes", "--recursive") == (0, "", "")
    assert os.listdir(project.workspace.path) == []


def test_an_empty_document_is_no_data(run: Run, project: Project) -> None:
    Path(project.workspace.path, the(project, "n 3"), "signac_job_document.json").write_text("{}")
    assert json.loads(run("rm", "n", "3", "--yes", "--json")[1])[0]["files"] == 0


def test_a_state_point_that_cannot_be_read_is_data(run: Run, project: Project) -> None:
    job = project.open({"n": 1})
    Path(job.fn("signac_statepoint.json")).write_text('{"n')
    code, _, err = run("rm", job.id, "--yes")
    assert (code, "1 job has data" in err) == (1, True)
    assert os.listdir(job.fn("")) == ["signac_statepoint.json"]
    assert run("rm", job.id, "--yes", "--recursive") == (0, "", "")
    assert not os.path.exists(job.fn(""))


def test_links_in_a_job_are_removed_and_not_followed(run: Run, project: Project, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()
    job_id = the(project, "n 3")
    os.symlink(tmp_path / "kept", os.path.join(project.workspace.path, job_id, "link"))
    assert json.loads(run("rm", job_id, "--dry-run", "--json")[1])[0]["files"] == 1
    assert run("rm", job_id, "--yes", "-r")[0] == 0
    assert os.listdir(tmp_path / "kept") == ["file"]


@pytest.mark.parametrize(("answer", "left"), [("y", 3), ("n", 4), ("", 4)])
def test_on_a_terminal_it_asks(project: Project, answer: str, left: int) -> None:
    ours, theirs = pty.openpty()
    command = real_command("rm", "-p", project.root, "n", "3")
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True) as process:
        os.close(theirs)
        shown = b""
        while b"[y/N]" not in shown:
            shown += os.read(ours, 1024)
        os.write(ours, answer.encode() + b"\n")
        code = process.wait()
    os.close(ours)
    assert b"remove job " in shown
    assert code == (0 if answer == "y" else 130)
    assert len(statepoints(project)) == left


def test_a_job_that_somebody_else_has_removed_is_removed(
    run: Run, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove = type(project.workspace).remove

    def twice(*arguments: object, **options: object) -> None:
        remove(*arguments, **options)  # type: ignore[arg-type]
        remove(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(type(project.workspace), "remove", twice)
    assert run("rm", "n", "3", "--yes") == (0, "", "")
