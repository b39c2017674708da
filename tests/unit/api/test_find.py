"""Jobs are found by queries, and answers are sequences."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

import sigfs
from sigfs.errors import NoSuchJob, QuerySyntaxError
from sigfs.query import parse


def numbers(jobs) -> list[int]:
    return sorted(entry["sp"]["n"] for entry in jobs.entries())


@pytest.mark.parametrize(
    ("arguments", "keywords"),
    [
        (["foo 42 doc.bar true"], {}),
        (["sp.foo 42 doc.bar true"], {}),
        ([{"sp.foo": 42, "doc.bar": True}], {}),
        ([{"foo": 42}], {"doc": {"bar": True}}),
        ([], {"foo": 42, "doc.bar": True}),
        (["foo 42"], {"doc.bar": True}),
        ([parse("foo 42")], {"doc": {"bar": True}}),
    ],
)
def test_a_query_has_many_spellings(project, arguments, keywords):
    for statepoint, document in [({"foo": 42}, {"bar": True}), ({"foo": 42, "x": 1}, {"bar": 1}), ({"foo": 1}, {})]:
        Path(project.open(statepoint).fn("signac_job_document.json")).write_text(json.dumps(document))
    (job,) = project.find(*arguments, **keywords)
    assert job.id == "0300c31b9d55c0196b3848d252e46c0f"
    assert [job.id for job in project.index.find(*arguments, **keywords)] == [job.id]
    assert [job.id for job in project.find_jobs(*arguments, **keywords)] == [job.id]


def test_jobs_without_a_key_are_found(project):
    without = project.open({"bar": 1})
    project.open({"foo": 0})
    assert list(project.find({"foo.$exists": 0})) == [without]


def test_a_query_that_cannot_be_understood_is_named(project):
    with pytest.raises(QuerySyntaxError, match=r"\$gtt"):
        project.find({"n.$gtt": 3})
    with pytest.raises(QuerySyntaxError, match="mapping"):
        project.find(doc=3)


def test_an_answer_is_a_sequence_in_the_order_of_ids(twelve):
    jobs = twelve.find("n.$lt 6")
    assert len(jobs) == 6
    ids = [job.id for job in jobs]
    assert ids == sorted(ids)
    assert jobs[0].id == ids[0]
    assert jobs[-1].id == ids[-1]
    assert [job.id for job in jobs[1:5:2]] == ids[1:5:2]
    assert [job.id for job in reversed(jobs)] == ids[::-1]
    with pytest.raises(IndexError):
        jobs[6]
    assert not twelve.find("n 99")
    assert twelve.find() == twelve.find({})
    assert twelve.find("n 1") != twelve.find("n 2")


def test_what_is_in_an_answer_is_told_by_job_and_by_id(twelve):
    jobs = twelve.find(even=True)
    even, odd = twelve.open({"n": 0, "group": {"third": 0}, "even": True}), twelve.find("n 1")[0]
    assert even in jobs
    assert even.id in jobs
    for other in (odd, odd.id, odd.id[:5], 3, None):
        assert other not in jobs


def test_filters_are_chained(twelve):
    assert numbers(twelve.find(even=True).find("n.$gt 5").find({"group.third": 0})) == [6]
    part = twelve.find(even=True)[1:4]
    assert set(numbers(part.find("n.$gt 5"))) == {n for n in numbers(part) if n > 5}
    assert part.find() == part


def test_an_answer_stays_as_it_is_and_a_new_question_has_a_new_one(twelve):
    jobs = twelve.find(even=True)
    assert len(jobs) == 6
    for job in jobs:
        shutil.rmtree(job.path)
    assert len(jobs) == 6
    with pytest.raises(NoSuchJob):
        _ = jobs[0].statepoint
    assert len(jobs.find()) == 0
    assert numbers(twelve.find()) == [1, 3, 5, 7, 9, 11]
    twelve.open({"n": 0, "group": {"third": 0}, "even": True})
    assert len(twelve.find(even=True)) == len(jobs.find()) == 1


def test_documents_are_looked_at_anew_with_each_question(twelve):
    job = twelve.find("n 1")[0]
    assert numbers(twelve.find("doc.result 10")) == [1]
    Path(job.fn("signac_job_document.json")).write_text('{"result": 1000}')
    assert numbers(twelve.find("doc.result 10")) == []
    assert numbers(twelve.find("doc.result 1000")) == [1]
    os.unlink(job.fn("signac_job_document.json"))
    assert numbers(twelve.find("doc.result 1000")) == []


def test_entries_say_what_the_jobs_say(twelve):
    (entry,) = twelve.find("n 1").entries(documents=True)
    job = twelve.find("n 1")[0]
    assert entry == {
        "id": job.id,
        "path": os.path.abspath(job.path),
        "sp": job.statepoint,
        "doc": {"result": 10, "deep": {"x": 1}},
    }
    assert "doc" not in next(twelve.find("n 1").entries())


def test_an_answer_shows_what_was_asked(twelve):
    assert repr(twelve.find(even=True)) == f"Project({twelve.root!r}).find('even true')"
    assert repr(twelve.find(even=True)[:2]) == f"<2 of Project({twelve.root!r}).find('even true')>"
    assert repr(twelve.find()) == f"Project({twelve.root!r}).find()"
    assert "..." in repr(twelve.find({"n": {"$where": lambda n: n > 3}}))
    assert len(twelve.find({"n": {"$where": lambda n: n > 3}})) == 8


def test_a_notebook_gets_a_table_in_which_nothing_is_markup(project):
    project.open({"<b>": "</table>", "n": 1})
    for n in range(30):
        project.open({"n": n})
    html = project.find()._repr_html_()
    assert html.count("<tr>") == 21
    assert "31 jobs" in html
    assert "and 11 more" in html
    html = project.find({"n.$exists": True})[:1].find()._repr_html_() + project.find("n 1")._repr_html_()
    assert "</table>&quot;" not in html.replace("&lt;/table&gt;", "")
    assert "<b>" not in html
    assert project.root in project._repr_html_()


# --- what others do meanwhile ---


def test_a_job_that_is_being_made_is_found_when_it_is_whole(project):
    directory = Path(project.workspace.path, sigfs.Workspace.at("/w").statepoint_id({"a": 1}))
    directory.mkdir()
    assert len(project) == 0
    (directory / "signac_statepoint.json").write_text('{"a": 1}')
    assert len(project.find(a=1)) == len(project) == 1


def test_a_job_that_is_being_migrated_is_found_by_the_state_point_that_it_has(project):
    job = project.open({"a": 1})
    assert len(project.find(a=1)) == 1
    new = project.workspace.statepoint_id({"a": 2})
    os.rename(job.path, os.path.join(project.workspace.path, new))
    assert [job.id for job in project.find(a=1)] == [new]
    Path(project.workspace.path, new, "signac_statepoint.json").write_text('{"a": 2}')
    assert len(project.find(a=1)) == 0
    assert [job.id for job in project.find(a=2)] == [new]


def test_a_migration_that_was_killed_is_completed_by_whoever_asks(project):
    job = project.open({"a": 1})
    new = project.workspace.statepoint_id({"a": 2})
    Path(job.fn("._sigfs_1")).write_text('{"a": 2}')
    os.rename(job.path, os.path.join(project.workspace.path, new))
    assert len(project) == 1
    assert [job.id for job in project.find(a=2)] == [new]
    assert project[new].statepoint == {"a": 2}


def test_the_answer_is_the_same_whether_an_index_is_kept_or_not(twelve):
    twelve.index.store_cache()
    shutil.rmtree(twelve.find("n 3")[0].path)
    twelve.open({"n": 100})
    again = sigfs.get_project(twelve.root)
    assert numbers(again.find()) == [0, 1, 2, *range(4, 12), 100]
    assert numbers(again.find("doc.result 50")) == [5]


def test_a_project_that_cannot_be_listed_says_so(project):
    os.rmdir(project.workspace.path)
    assert len(project) == 0
    Path(project.workspace.path).write_text("")
    with pytest.raises(NotADirectoryError):
        len(sigfs.get_project(project.root))


# --- threads and processes ---


def test_projects_and_answers_go_to_other_processes(twelve):
    project, jobs, part, index = pickle.loads(
        pickle.dumps((twelve, twelve.find(even=True), twelve.find()[:3], sigfs.Index(twelve.workspace)))
    )
    assert project == twelve
    assert jobs == twelve.find(even=True)
    assert len(part) == 3
    assert len(index) == 12
    assert {project: 1}[twelve] == 1


def count_in_child(jobs) -> int:
    return len(jobs.find("n.$lt 3")) + len(list(jobs.source.find("doc.result.$gt 50")))


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_project_is_used_in_child_processes(twelve, method):
    jobs = twelve.find()
    assert len(jobs) == 12
    with get_context(method).Pool(2) as pool:
        assert pool.map(count_in_child, [jobs] * 4) == [6] * 4


def test_a_project_is_used_by_many_threads(twelve):
    def ask(n: int) -> int:
        if n % 5 == 0:
            twelve.open({"n": 1000 + n})
        return len(twelve.find("n.$lt 12")) + len(twelve.find("doc.result.$gt 50"))

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(60))) == {15}
    assert len(twelve) == 24
