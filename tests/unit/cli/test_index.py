"""``sigfs index``: what its commands print, keep and refuse; ``find`` answers alike with and without it."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sigfs.api.project import Project, init_project
from sigfs.cli import app
from sigfs.cli import index as commands
from sigfs.index import Index
from sigfs.index.store import Store
from sigfs.model import files
from sigfs.model.statepoint import statepoint_id
from sigfs.model.types import Change, Record

ROOT = Path(__file__).resolve().parents[3]
DOCUMENT = "signac_job_document.json"
STATEPOINT = "signac_statepoint.json"

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command in the project; gives exit code, output and messages."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(commands, "SETTLE_S", 0.0)
    (tmp_path / "p").mkdir()
    monkeypatch.chdir(tmp_path / "p")

    def call(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = app.run(arguments)
        out, err = capfd.readouterr()
        return code, out, err

    return call


@pytest.fixture
def project(run: Run, tmp_path: Path) -> Project:
    """A project in the working directory with five jobs, two of which have a document."""
    made = init_project(tmp_path / "p")
    for number in range(5):
        job = made.open({"a": number, "b": {"c": "x"}})
        if number < 2:
            Path(job.path, DOCUMENT).write_text(json.dumps({"d": number}))
    return made


def facts(run: Run, *arguments: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(run("index", *arguments, "--json")[1])
    return found


def trust_young_stamps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the stamps of files count that have been written just now, as those of older files do."""
    monkeypatch.setattr(files, "RACY_S", -10.0)


def a(number: int) -> str:
    return statepoint_id({"a": number, "b": {"c": "x"}})


@contextlib.contextmanager
def held(project: Project) -> Iterator[int]:
    """Let another process write the project's store, as a mount does; give its process id."""
    script = (
        "import sys\n"
        "from sigfs.index.store import Store\n"
        "from sigfs.api.project import get_project\n"
        "project = get_project(sys.argv[1])\n"
        "store = Store.open(project.root, project.workspace)\n"
        "print(store.claim(), flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, project.root],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        yield process.pid
        process.kill()


def test_build_keeps_what_it_has_read(run: Run, project: Project) -> None:
    code, out, err = run("index", "build")
    assert (code, out) == (0, "read 5 jobs\n")
    assert err == f"sigfs: kept in {project.root}/.sigfs/index\n"
    made = facts(run, "build", "--documents")
    assert (made["jobs"], made["documents"], made["saved"]) == (5, True, True)
    assert made["bytes"] == Path(project.root, ".sigfs/index/snapshot").stat().st_size


@pytest.mark.parametrize("where", ["threads:2", "processes:2"])
def test_build_lets_others_read(run: Run, project: Project, where: str) -> None:
    assert run("index", "build", "--executor", where)[:2] == (0, "read 5 jobs\n")


@pytest.mark.parametrize("where", ["threads:0", "threads", "processes:x", "dask", "mpi:3", ""])
def test_who_cannot_read_is_refused(run: Run, project: Project, where: str) -> None:
    code, _, err = run("index", "build", "--executor", where)
    assert code == 2
    assert "threads:N" in err


def test_info_says_what_there_is(run: Run, project: Project) -> None:
    code, _, err = run("index", "info")
    assert code == 1
    assert "sigfs index build" in err
    assert not Path(project.root, ".sigfs").exists()
    run("index", "build", "--documents")
    said = facts(run, "info")
    assert said["path"] == f"{project.root}/.sigfs/index"
    assert (said["writable"], said["holder"], said["jobs"], said["documents"]) == (True, None, 5, True)
    assert said["keys"] == {"a": 5, "b.c": 1, "doc.d": 2}
    assert list(said["keys"]) == ["b.c", "doc.d", "a"]  # type: ignore[call-overload]
    assert said["bytes_per_job"] == round(int(str(said["bytes"])) / 5, 1)
    code, out, _ = run("index", "info")
    assert code == 0
    assert "keys\tb.c (1), doc.d (2), a (5)\n" in out


def test_info_counts_the_journal_and_names_its_writer(run: Run, project: Project) -> None:
    run("index", "build")
    with Store.open(project.root, project.workspace) as store:
        index = store.load()
        assert index is not None
        store.attach(index)
        index.apply([Change(job.id, None) for job in list(project)[:2]])
        said = facts(run, "info")
    assert (said["journal_records"], said["jobs"], said["writable"]) == (1, 3, False)
    assert f"process {os.getpid()} on" in str(said["holder"])
    assert "is in use by" in str(said["reason"])


def test_update_reads_what_has_changed(run: Run, project: Project) -> None:
    run("index", "build", "--documents")
    assert run("index", "update")[:2] == (0, "0 added, 0 changed, 0 removed\n")
    made = project.open({"new": 1})
    Path(project.job(a(0)).path, DOCUMENT).write_text('{"d": 7}')
    Path(project.job(a(3)).path, DOCUMENT).write_text("{}")  # says what its absence said
    shutil.rmtree(project.job(a(4)).path)
    os.unlink(Path(project.job(a(2)).path, STATEPOINT))
    Path(project.workspace.path, "0" * 32).mkdir()
    code, out, err = run("index", "update")
    assert (code, out) == (0, "1 added, 1 changed, 2 removed\n")
    assert "2 directories named like jobs" in err
    assert run("index", "verify")[0] == 0
    with Store.open(project.root, project.workspace) as store:
        index = store.load()
        assert index is not None
        assert index.documents
        assert set(index.ids()) == {made.id, a(0), a(1), a(3)}


def test_update_builds_what_is_not_there_or_not_usable(run: Run, project: Project) -> None:
    code, out, err = run("index", "update")
    assert (code, out) == (0, "5 added, 0 changed, 0 removed\n")
    assert "building one" in err
    Path(project.root, ".sigfs/index/snapshot").write_bytes(b"nonsense")
    assert facts(run, "update") == {
        "added": 5, "changed": 0, "removed": 0, "pending": 0, "jobs": 5, "saved": True,
    }  # fmt: skip
    assert run("index", "verify")[0] == 0


def test_update_reads_documents_that_were_not_asked_for_before(run: Run, project: Project) -> None:
    run("index", "build")
    assert facts(run, "info")["documents"] is False
    assert run("index", "update", "--documents")[0] == 0
    said = facts(run, "info")
    assert (said["documents"], said["keys"]) == (True, {"b.c": 1, "doc.d": 2, "a": 5})


def test_verify_lists_what_differs(run: Run, project: Project) -> None:
    code, _, err = run("index", "verify")
    assert code == 1
    assert "no index" in err
    run("index", "build", "--documents")
    code, out, err = run("index", "verify")
    assert (code, out) == (0, "")
    assert "5 jobs" in err
    made = project.open({"new": 1})
    Path(project.job(a(0)).path, DOCUMENT).write_text('{"d": true}')
    shutil.rmtree(project.job(a(4)).path)
    code, out, err = run("index", "verify", "--json")
    assert code == 1
    assert json.loads(out) == sorted(
        [
            {"id": made.id, "what": "not in the index", "noticed": True},
            {"id": a(0), "what": "document", "noticed": True},
            {"id": a(4), "what": "not in the workspace", "noticed": True},
        ],
        key=lambda row: str(row["id"]),
    )
    assert "3 outdated" in err


def test_verify_tells_what_nobody_would_notice(run: Run, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    trust_young_stamps(monkeypatch)
    run("index", "build")
    with Store.open(project.root, project.workspace) as store:
        index = store.load()
        assert index is not None
        with index.reading() as table:
            stamp = table.stamp(project.job(a(1)).id)
        index.apply([Change(project.job(a(1)).id, Record(project.job(a(1)).id, {"a": 1.0}, None, stamp))])
        store.save(index)
    code, out, err = run("index", "verify")
    assert (code, out) == (1, f"id\tdifference\tindex\n{a(1)}\tstate point\twrong\n")
    assert "1 wrong: sigfs index build" in err
    run("index", "build")
    assert run("index", "verify")[0] == 0


def test_verify_is_not_fooled_by_jobs_that_change_meanwhile(
    run: Run, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("index", "build")
    store = Store.open(project.root, project.workspace)
    index = store.load()
    assert index is not None
    store.attach(index)
    build = commands.build

    def busy(*arguments: object) -> tuple[Index, int]:
        """Read all jobs while another process makes one, of which the mount hears."""
        made = project.open({"meanwhile": 1})
        index.apply([Change(made.id, project.workspace.read(made.id))])
        return build(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(commands, "build", busy)
    assert run("index", "verify")[:2] == (0, "")
    store.close()


def test_while_somebody_writes_the_index_others_read(run: Run, project: Project) -> None:
    run("index", "build")
    project.open({"new": 1})
    before = Path(project.root, ".sigfs/index/snapshot").read_bytes()
    with held(project) as pid:
        for command, wanted in (("build", "read 6 jobs\n"), ("update", "1 added, 0 changed, 0 removed\n")):
            code, out, err = run("index", command)
            assert (code, out) == (0, wanted)
            assert f"nothing is kept: {project.root}/.sigfs/index is in use by process {pid} on" in err
        assert facts(run, "update")["saved"] is False
        assert run("index", "verify")[0] == 1
        code, out, err = run("index", "drop")
        assert (code, out) == (7, "")
        assert f"process {pid} on" in err
        assert f"process {pid} on" in run("index", "drop", "--dry-run")[2]
    assert Path(project.root, ".sigfs/index/snapshot").read_bytes() == before
    assert run("index", "drop")[0] == 0


def test_drop_removes_the_index_and_nothing_else(run: Run, project: Project) -> None:
    assert run("index", "drop")[:2] == (0, "")
    before = sorted(Path(project.root).rglob("*"))
    run("index", "build")
    kept = sorted(Path(project.root).rglob("*"))
    code, out, _ = run("index", "drop", "--dry-run")
    assert code == 0
    assert len(out.splitlines()) == 3
    assert sorted(Path(project.root).rglob("*")) == kept
    assert run("index", "drop")[1] == out
    assert sorted(Path(project.root).rglob("*")) == before


def test_a_state_directory_is_in_place_of_the_projects(run: Run, project: Project, tmp_path: Path) -> None:
    where = str(tmp_path / "state")
    assert run("index", "build", "--state-dir", where)[0] == 0
    assert not Path(project.root, ".sigfs").exists()
    assert str(facts(run, "info", "--state-dir", where)["path"]).startswith(where)
    assert run("index", "info")[0] == 1
    assert run("index", "update", "--state-dir", where)[1] == "0 added, 0 changed, 0 removed\n"
    assert len(run("index", "drop", "--state-dir", where)[1].splitlines()) == 3


QUERIES = (
    (), ("a", "1"), ("a@gt", "1"), ("doc.d", "1"), ("doc.d@exists", "false"), ("nokey",), ("new", "1"),
    ("--doc",), ("--sp", "--json"), ("a", "3", "--doc", "d", "--sp", "a,b.c"), ("b.c", "x", "--path"), ("id", "0"),
)  # fmt: skip


@pytest.mark.parametrize("settled", [False, True])
@pytest.mark.parametrize("documents", [False, True])
def test_find_answers_alike_with_and_without_an_index(
    run: Run, project: Project, monkeypatch: pytest.MonkeyPatch, documents: bool, settled: bool
) -> None:
    if settled:
        trust_young_stamps(monkeypatch)
    run("index", "build", *(["--documents"] if documents else []))
    random.seed(1)
    jobs = [Path(project.job(a(number)).path) for number in range(5)]
    steps: list[Callable[[], object]] = [
        lambda: None,
        lambda: project.open({"new": 1}),
        lambda: (jobs[1] / DOCUMENT).write_text('{"d": true}'),
        lambda: (jobs[1] / DOCUMENT).write_text("no JSON"),
        (jobs[0] / DOCUMENT).unlink,
        (jobs[0] / DOCUMENT).mkdir,
        (jobs[3] / STATEPOINT).unlink,
        lambda: (jobs[2] / STATEPOINT).write_text('{"a": 2'),
        lambda: shutil.rmtree(jobs[4]),
        lambda: (jobs[1] / DOCUMENT).write_text('{"d": 1}'),
    ]
    for number, step in enumerate(steps):
        step()
        with_index = [run("find", *query) for query in QUERIES]
        if number % 3 == 2:
            run("index", "update")
            assert [run("find", *query) for query in QUERIES] == with_index
        os.rename(".sigfs", "aside")
        assert [run("find", *query) for query in QUERIES] == with_index
        assert not Path(".sigfs").exists()
        os.rename("aside", ".sigfs")
