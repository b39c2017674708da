"""Programs as they are, in a job's directory."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from tests.support.drivers import Place
from tests.support.outcome import unavailable


def run(*command: str, cwd: str | None = None) -> str:
    if shutil.which(command[0]) is None:
        unavailable(f"there is no {command[0]}")
    environment = {**os.environ, "HOME": "/nonexistent", "LC_ALL": "C", "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def make_tree(path: str) -> None:
    """Make a tree with all that an archive has to keep."""
    os.makedirs(os.path.join(path, "sub", "sub sub"))
    os.mkdir(os.path.join(path, "empty"))
    for number, size in enumerate((0, 1, 4095, 4096, 70_000, 400_000)):
        with open(os.path.join(path, "sub", f"file{number}"), "wb") as file:
            file.write(os.urandom(size))
    with open(os.path.join(path, "sub", "sub sub", "ünïcode\n"), "wb") as file:
        file.write(b"1")
    os.symlink("sub/file1", os.path.join(path, "link"))
    os.symlink("nowhere", os.path.join(path, "broken"))
    os.link(os.path.join(path, "sub", "file4"), os.path.join(path, "hard"))
    os.chmod(os.path.join(path, "sub", "file2"), 0o640)
    os.utime(os.path.join(path, "sub", "file3"), ns=(1_000_000_000, 1_234_567_890_000_000_000))


def describe(path: str) -> list[tuple[object, ...]]:
    """Say all of a tree that a copy has to keep."""
    facts: list[tuple[object, ...]] = []
    for directory, names, files in os.walk(path):
        for name in sorted(names + files):
            full = os.path.join(directory, name)
            found = os.lstat(full)
            content: object = None
            if os.path.islink(full):
                content = os.readlink(full)
            elif os.path.isfile(full):
                with open(full, "rb") as file:
                    content = hashlib.md5(file.read()).hexdigest()
            modified = None if os.path.islink(full) else int(found.st_mtime)
            facts.append((os.path.relpath(full, path), found.st_mode, modified, content))
    return sorted(facts, key=repr)


@pytest.mark.parametrize("direction", ["in", "out"])
@pytest.mark.parametrize("program", ["cp", "rsync", "tar"])
def test_a_copy_by_a_program_is_a_true_copy(here: Place, program: str, direction: str) -> None:
    source = os.path.join(here.below if direction == "out" else here.other_below, "tree")
    make_tree(source)
    source = os.path.join(here.root if direction == "out" else here.other_below, "tree")
    target = os.path.join(here.other_below if direction == "out" else here.root, "copy")
    if program == "cp":
        run("cp", "-a", source, target)
    elif program == "rsync":
        run("rsync", "-aH", source + "/", target)
        assert run("rsync", "-aHcni", source + "/", target) == ""
    else:
        archive = os.path.join(here.root, "archive.tar")
        run("tar", "-cf", archive, "-C", source, ".")
        os.mkdir(target)
        run("tar", "-xpf", archive, "-C", target)
    assert describe(target) == describe(source)
    assert os.path.samefile(os.path.join(target, "hard"), os.path.join(target, "sub", "file4"))


def test_a_copy_within_the_mount_is_the_same_below(here: Place) -> None:
    make_tree(os.path.join(here.below, "tree"))
    run("cp", "-a", here.path("tree"), os.path.join(here.other, "copy"))
    assert describe(os.path.join(here.other_below, "copy")) == describe(os.path.join(here.below, "tree"))
    run("diff", "-r", "--no-dereference", here.path("tree"), os.path.join(here.other, "copy"))


def test_mv_moves_a_tree_to_another_job(here: Place) -> None:
    make_tree(here.path("tree"))
    before = describe(os.path.join(here.below, "tree"))
    run("mv", here.path("tree"), os.path.join(here.other, "tree"))
    assert describe(os.path.join(here.other_below, "tree")) == before
    assert os.listdir(here.below) == []


def test_rm_removes_a_tree(here: Place) -> None:
    make_tree(here.path("tree"))
    run("rm", "-r", here.path("tree"))
    assert os.listdir(here.below) == []


def test_find_and_du_meet_every_file(here: Place) -> None:
    make_tree(os.path.join(here.below, "tree"))
    seen = run("find", ".", "-printf", "%P %y %s\\n", cwd=here.path("tree"))
    below = run("find", ".", "-printf", "%P %y %s\\n", cwd=os.path.join(here.below, "tree"))
    assert sorted(seen.splitlines()) == sorted(below.splitlines())
    assert run("du", "-s", ".", cwd=here.path("tree")) == run("du", "-s", ".", cwd=os.path.join(here.below, "tree"))


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_sqlite_keeps_a_database_in_a_job(here: Place, journal: str) -> None:
    with closing(sqlite3.connect(here.path("data.db"))) as database:
        assert database.execute(f"pragma journal_mode={journal}").fetchone()[0] == journal
        database.execute("create table t (n integer primary key, x text)")
        for _ in range(5):
            with database:
                database.executemany("insert into t (x) values (?)", [("v" * 100,)] * 200)
        with closing(sqlite3.connect(here.path("data.db"))) as second:
            assert second.execute("select count(*) from t").fetchone() == (1000,)
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)
        database.execute("delete from t where n % 2")
        database.commit()
        database.execute("vacuum")
    with closing(sqlite3.connect(os.path.join(here.below, "data.db"))) as below:
        assert below.execute("select count(*) from t").fetchone() == (500,)


def test_git_works_in_a_job(here: Place) -> None:
    def git(*words: str) -> str:
        return run("git", "-c", "user.name=A", "-c", "user.email=a@b", *words, cwd=here.root)

    git("init", "-q", ".")
    for number in range(20):
        with open(here.path(f"file{number}"), "w", encoding="ascii") as file:
            file.write(f"{number}\n" * 1000)
    git("add", ".")
    git("commit", "-q", "-m", "first")
    with open(here.path("file0"), "a", encoding="ascii") as file:
        file.write("more\n")
    assert "file0" in git("status", "--porcelain")
    git("commit", "-q", "-a", "-m", "second")
    git("gc", "-q", "--prune=now")
    git("fsck", "--strict")
    assert len(git("log", "--format=%h").split()) == 2
    assert git("status", "--porcelain") == ""
    git("checkout", "-q", "HEAD~1")
    with open(os.path.join(here.below, "file0"), encoding="ascii") as file:
        assert "more" not in file.read()


def test_a_program_in_a_job_is_executed(here: Place) -> None:
    with open(here.path("program"), "w", encoding="ascii") as file:
        file.write("#!/bin/sh\necho run $1\n")
    os.chmod(here.path("program"), 0o755)
    assert run(here.path("program"), "it") == "run it\n"


def test_python_imports_a_module_from_a_job(here: Place) -> None:
    with open(here.path("module.py"), "w", encoding="ascii") as file:
        file.write("VALUE = 42\n")
    script = "import module; print(module.VALUE)"
    for _ in range(2):  # the second time from what the first has compiled
        assert run(sys.executable, "-c", script, cwd=here.root) == "42\n"


def test_many_small_files_written_at_once_are_all_right(here: Place) -> None:
    script = (
        "import os, sys\n"
        "for n in range(150):\n"
        "    name = os.path.join(sys.argv[1], sys.argv[2] + '-%d' % n)\n"
        "    with open(name + '.part', 'w') as file: file.write(name)\n"
        "    os.replace(name + '.part', name)\n"
        "    assert open(name).read() == name\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", script, here.root, str(number)]) for number in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    assert len(os.listdir(here.below)) == 600
    for name in os.listdir(here.below):
        with open(os.path.join(here.below, name), encoding="utf-8") as file:
            assert file.read() == here.path(name)
