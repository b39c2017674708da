"""Which jobs are meant: ids, their beginnings, queries and paths; and what is refused because it may be a slip."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from sigfs.api.job import Job
from sigfs.api.project import Project, init_project
from sigfs.query.tokens import parse_value
from tests.support.commands import Run, completed


@pytest.fixture
def project(run: Run, tmp_path: Path) -> Project:
    """Twelve jobs: foo from 0 to 11, and even."""
    made = init_project(tmp_path)
    for foo in range(12):
        made.open({"foo": foo, "even": foo % 2 == 0})
    return made


@pytest.fixture
def chosen(run: Run, project: Project) -> Callable[..., list[str]]:
    """The ids of the jobs that arguments choose."""

    def choose(*words: str) -> list[str]:
        code, out, err = run("open", *words, "--dry-run")
        assert code == 0, err
        return [os.path.basename(path) for path in out.splitlines()]

    return choose


Chosen = Callable[..., list[str]]


def test_a_job_is_chosen_by_its_id_or_the_beginning_of_it(project: Project, chosen: Chosen) -> None:
    ids = sorted(project.workspace.ids())
    digits = project.min_len_unique_id()
    for job_id in ids:
        assert chosen(job_id) == chosen(job_id[:digits]) == [job_id]


def test_a_job_is_chosen_by_a_path(project: Project, chosen: Chosen, monkeypatch: pytest.MonkeyPatch) -> None:
    job = project.open({"foo": 3, "even": False})
    assert chosen(os.fspath(job)) == chosen(f"./workspace/{job.id}") == [job.id]
    monkeypatch.chdir(os.fspath(job))
    assert chosen(".") == [job.id]


def test_jobs_are_chosen_by_a_query_or_by_several_ids(project: Project, chosen: Chosen) -> None:
    even = [job.id for job in project.find("even true")]
    assert chosen("even", "true") == chosen("even true") == chosen(*even) == chosen(*even, even[0]) == even
    assert chosen("foo") == chosen("--all") == sorted(project.workspace.ids())
    assert chosen("foo@gte", "11") == [job.id for job in project.find("foo 11")]


def test_several_abbreviated_ids_are_ids(project: Project, chosen: Chosen) -> None:
    ids = sorted(project.workspace.ids())[:3]
    digits = project.min_len_unique_id()
    assert chosen(*(job_id[:digits] for job_id in ids)) == ids


def test_words_that_may_be_ids_or_a_query_are_refused(run: Run, tmp_path: Path) -> None:
    project = init_project(tmp_path)
    key, token = (project.open({"x": x}).id[:4] for x in range(2))
    project.open({key: parse_value(token)})
    code, out, err = run("open", key, token, "--dry-run")
    assert (code, out) == (2, "")
    assert f"sp.{key} {token}" in err
    assert run("open", f"sp.{key}", token, "--dry-run")[0] == 0


@pytest.mark.parametrize("command", ["open", "rm", "diff", "migrate"])
@pytest.mark.parametrize("words", [(), ("",), ("{}",), ("--all", "foo", "1")])
def test_nothing_said_is_never_all_jobs(run: Run, project: Project, command: str, words: tuple[str, ...]) -> None:
    change = ["n=1"] if command == "migrate" else []
    before = sorted(project.workspace.ids())
    code, out, err = run(command, *words, *change)
    assert (code, out) == (2, "")
    assert "--all" in err
    assert sorted(project.workspace.ids()) == before


@pytest.mark.parametrize("words", [["sp", ""], ["doc", ""], ["put", "", "x"], ["get", "", "x"], ["mv", "", "x"]])
def test_an_empty_id_names_no_job_even_if_there_is_only_one(run: Run, tmp_path: Path, words: list[str]) -> None:
    init_project(tmp_path).open({"foo": 1})
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert "empty id" in err


def test_what_finds_no_job_says_why(run: Run, project: Project) -> None:
    code, out, err = run("rm", "foo", "99", "--yes")
    assert (code, out) == (4, "")
    assert "'foo 99'" in err
    code, _, err = run("rm", "fooo", "1", "--yes")
    assert (code, "no job has the key fooo" in err) == (4, True)
    assert "begins with 'abcdef'" in run("rm", "abcdef", "--yes")[2]


def test_an_ambiguous_beginning_names_the_jobs(run: Run, project: Project) -> None:
    ids = sorted(project.workspace.ids())
    first = next(one for one, other in pairwise(ids) if one[0] == other[0])
    code, out, err = run("rm", first[0], "--yes")
    assert (code, out) == (4, "")
    assert first in err


@pytest.mark.parametrize("command", [["mv", "other"], ["rm", "--yes", "-r"], ["doc", "set", "a", "1"]])
def test_a_directory_without_state_point_is_no_job(
    run: Run, project: Project, tmp_path: Path, command: list[str]
) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "file").touch()
    name, *rest = command
    code, _, err = run(name, "./plain", *rest)
    assert code == 4
    assert "signac_statepoint.json" in err
    assert os.listdir(tmp_path / "plain") == ["file"]


def test_ids_complete(run: Run, project: Project) -> None:
    ids = sorted(project.workspace.ids())
    assert completed("sp", "") == ids
    assert completed("sp", ids[0][:5]) == [ids[0]]
    assert completed("sp", "xyz") == []
    assert completed("open", "") == ["even", "foo", *ids]
    assert completed("open", "even", "") == ["false", "true"]
    assert completed("open", ids[0], ids[1][:6]) == [ids[1]]
    assert completed("sp", "./") == ["./"]


def test_of_many_ids_only_the_next_digits_are_offered(run: Run, project: Project) -> None:
    for foo in range(12, 120):
        project.open({"foo": foo})
    ids = sorted(project.workspace.ids())
    assert completed("sp", "") == sorted({job_id[:1] for job_id in ids})
    assert completed("sp", ids[0][:3]) == [job_id for job_id in ids if job_id.startswith(ids[0][:3])]


def test_a_query_that_only_says_id_does_not_mean_all_jobs(run: Run, project: Project) -> None:
    for words in (["id"], ["id@exists", "true"]):
        code, _, err = run("rm", *words, "--yes")
        assert (code, "--all" in err) == (2, True)
    assert len(Project(project.root)) == 12


def test_completion_of_ids_beside_no_project_says_nothing(run: Run) -> None:
    assert completed("sp", "") == []


def test_ids_of_jobs_outside_of_the_workspace_are_abbreviated_and_complete(
    run: Run, project: Project, chosen: Chosen, tmp_path: Path
) -> None:
    for name in ("alpha", "alto", "beta"):
        Job.init(tmp_path / "data" / name, {"name": name})
    project.add_index("data")
    assert chosen("../data/alpha") == chosen("../data/alp") == ["alpha"]
    assert chosen("../data/b", "../data/alt") == ["beta", "alto"]
    assert run("open", "../data/al", "--dry-run")[0] == 4
    assert run("open", "../data", "--dry-run")[0] == run("open", "../data/", "--dry-run")[0] == 4
    assert completed("sp", "../data/al") == ["../data/alpha", "../data/alto"]
    assert completed("sp", "../x") == ["../x"]
