"""Programs as they are, in a job's directory."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import Any

import pytest

from tests.support.drivers import Place
from tests.support.outcome import unavailable
from tests.support.wait import wait_until


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


def test_rsync_and_tar_keep_links_attributes_acls_and_holes(here: Place) -> None:
    source = os.path.join(here.other, "tree")
    make_tree(source)
    os.setxattr(os.path.join(source, "sub", "file1"), "user.key", b"\0value\xff")
    os.setxattr(os.path.join(source, "sub"), "user.of.directory", b"1")
    run("setfacl", "-m", "u:4001:rw,g:4321:r", os.path.join(source, "sub", "file4"))
    run("setfacl", "-d", "-m", "u:4001:rwx", os.path.join(source, "empty"))
    with open(os.path.join(source, "sparse"), "wb") as file:
        file.truncate(20 << 20)
        file.seek(10 << 20)
        file.write(b"data")
    all_kept = ("rsync", "-aHAXS", "--numeric-ids")
    run(*all_kept, source + "/", here.path("by-rsync"))
    assert run(*all_kept, "-cni", source + "/", here.path("by-rsync")) == ""
    keeping = ("--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner")
    run("tar", *keeping, "--sparse", "-cf", here.path("archive.tar"), "-C", source, ".")
    assert os.path.getsize(here.path("archive.tar")) < 5 << 20
    os.mkdir(here.path("by-tar"))
    run("tar", *keeping, "-xpf", here.path("archive.tar"), "-C", here.path("by-tar"))
    assert run(*all_kept, "-cni", source + "/", here.path("by-tar")) == ""
    for copy in ("by-rsync", "by-tar"):
        assert os.stat(os.path.join(here.below, copy, "sparse")).st_blocks * 512 < 1 << 20
        assert os.getxattr(os.path.join(here.below, copy, "sub", "file1"), "user.key") == b"\0value\xff"
        assert os.path.samefile(here.path(copy, "hard"), here.path(copy, "sub", "file4"))
        acl = run("getfacl", "-cpn", os.path.join(here.below, copy, "sub", "file4"))
        assert "user:4001:rw-" in acl


MAKEFILE = """
all: program
program: main.o part.o
\tcc -o $@ main.o part.o
%.o: %.c part.h
\tcc -c -o $@ $<
"""


def test_a_source_tree_is_unpacked_built_run_and_built_again_only_where_it_changed(here: Place) -> None:
    if shutil.which("cc") is None:
        unavailable("there is no cc")
    source = os.path.join(here.other_below, "source")
    os.mkdir(source)
    texts = {
        "Makefile": MAKEFILE,
        "part.h": "int part(void);\n",
        "part.c": '#include "part.h"\nint part(void) { return 42; }\n',
        "main.c": '#include <stdio.h>\n#include "part.h"\nint main(void) { printf("%d\\n", part()); return 0; }\n',
    }
    for name, text in texts.items():
        with open(os.path.join(source, name), "w", encoding="ascii") as file:
            file.write(text)
    run("tar", "-cf", here.path("source.tar"), "-C", os.path.dirname(source), "source")
    run("tar", "-xf", here.path("source.tar"), "-C", here.root)
    run("make", "-j2", cwd=here.path("source"))
    assert run(here.path("source", "program")) == "42\n"
    assert "Nothing to be done" in run("make", cwd=here.path("source"))
    with open(here.path("source", "part.c"), "a", encoding="ascii") as file:
        file.write("\n")
    os.utime(here.path("source", "part.c"), (2_000_000_000, 2_000_000_000))
    built = run("make", cwd=here.path("source"))
    assert "part.c" in built
    assert "main.c" not in built


def test_a_clone_within_the_mount_is_whole_and_is_packed(here: Place) -> None:
    def git(*words: str, cwd: str) -> str:
        return run("git", "-c", "user.name=A", "-c", "user.email=a@b", *words, cwd=cwd)

    os.mkdir(here.path("origin"))
    git("init", "-q", ".", cwd=here.path("origin"))
    for number in range(10):
        with open(here.path("origin", "file"), "a", encoding="ascii") as file:
            file.write(f"{number}\n" * 500)
        git("add", ".", cwd=here.path("origin"))
        git("commit", "-q", "-m", str(number), cwd=here.path("origin"))
    for number, option in enumerate(("--no-hardlinks", "--local", "--no-local")):
        clone = os.path.join(here.other, f"clone{number}")
        with _held(here.path("origin", ".git")):
            git("clone", "-q", option, here.path("origin"), clone, cwd=here.root)
        git("repack", "-adq", cwd=clone)
        git("gc", "-q", "--aggressive", "--prune=now", cwd=clone)
        git("fsck", "--full", "--strict", cwd=clone)
        assert git("status", "--porcelain", cwd=clone) == ""
        assert len(git("log", "--format=%h", cwd=clone).split()) == 10


@contextmanager
def _held(top: str) -> Iterator[None]:
    """Have the kernel forget no file below *top*: git compares numbers that llfuse gives anew when it has."""
    with ExitStack() as stack:
        for directory, _, names in os.walk(top):
            for name in names:
                stack.callback(os.close, os.open(os.path.join(directory, name), os.O_PATH))
        yield


def _save_in_place_with_backup(path: str, text: str) -> None:
    """Do what vim does by default: a swap file, the old file as a backup, a new one, and the backup goes."""
    swap = os.open(os.path.join(os.path.dirname(path), ".file.swp"), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    os.write(swap, bytes(4096))
    os.fsync(swap)
    mode = os.stat(path).st_mode & 0o7777
    os.rename(path, path + "~")
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.write(fd, text.encode())
    os.fsync(fd)
    os.fchmod(fd, mode)
    os.close(fd)
    os.unlink(path + "~")
    os.close(swap)
    os.unlink(os.path.join(os.path.dirname(path), ".file.swp"))


def _save_by_renaming(path: str, text: str) -> None:
    with open(path + ".new", "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
        os.fchmod(file.fileno(), os.stat(path).st_mode & 0o7777)
    os.replace(path + ".new", path)


def _save_with_an_editor(path: str, text: str) -> None:
    run("vim", "-u", "NONE", "-i", "NONE", "-es", "-c", f"%d|put ='{text.strip()}'|1d|wq", path)


@pytest.mark.parametrize("save", [_save_in_place_with_backup, _save_by_renaming, _save_with_an_editor])
def test_a_file_that_an_editor_saves_is_the_new_one_and_nothing_else_is_left(
    here: Place, save: Callable[[str, str], None]
) -> None:
    if save is _save_with_an_editor and shutil.which("vim") is None:
        pytest.skip("there is no vim")
    path = here.path("file")
    with open(path, "w", encoding="ascii") as file:
        file.write("text 0\n")
    os.chmod(path, 0o640)
    with open(path, "rb") as before:
        for number in range(1, 4):
            save(path, f"text {number}\n")
            with open(path, encoding="ascii") as file:
                assert file.read() == f"text {number}\n"
        assert before.read() in {b"text 0\n", b"text 3\n"}  # the one it opened, or the same one written anew
    assert os.listdir(here.below) == ["file"]
    assert os.stat(os.path.join(here.below, "file")).st_mode & 0o7777 == 0o640


def test_dd_writes_through_caches_and_in_place(here: Place) -> None:
    run("dd", "if=/dev/urandom", f"of={here.path('file')}", "bs=64K", "count=20", "conv=fsync")
    run("dd", f"if={here.path('file')}", f"of={here.path('copy')}", "bs=4K", "oflag=sync", "conv=sparse,fdatasync")
    run("dd", f"if={here.path('file')}", f"of={here.path('direct')}", "bs=64K", "iflag=direct", "oflag=direct")
    run("cmp", here.path("file"), os.path.join(here.below, "copy"))
    run("cmp", here.path("file"), os.path.join(here.below, "direct"))
    run("dd", "if=/dev/zero", f"of={here.path('file')}", "bs=1K", "seek=3", "count=2", "conv=notrunc")
    with open(os.path.join(here.below, "file"), "rb") as file:
        data = file.read()
    assert len(data) == 20 * 65536
    assert data[3072:5120] == bytes(2048)


SWMR_WRITER = """
import sys
import h5py
with h5py.File(sys.argv[1], "w", libver="latest") as file:
    data = file.create_dataset("x", (0,), maxshape=(None,), chunks=(100,), dtype="i8")
    file.swmr_mode = True
    print(flush=True)
    for number in range(50):
        data.resize((100 * (number + 1),))
        data[100 * number :] = number
        data.flush()
"""


def test_hdf5_readers_follow_one_writer_and_locks_keep_a_second_one_out(here: Place) -> None:
    h5py = pytest.importorskip("h5py")
    path = here.path("data.h5")
    with subprocess.Popen([sys.executable, "-c", SWMR_WRITER, path], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        with h5py.File(path, "r", libver="latest", swmr=True) as file:
            ended = False
            while not ended:
                ended = writer.poll() is not None
                file["x"].refresh()
                seen = file["x"][:]
                assert all(seen[start] == start // 100 for start in range(0, len(seen) // 100 * 100, 100))
            assert file["x"].shape == (5000,)
    assert writer.returncode == 0
    # close(2) returns before the kernel has told of it, and so before a lock is given up
    with wait_until(lambda: _opened(path, "r+")):
        script = "import h5py, sys\nh5py.File(sys.argv[1], 'r+')"
        second = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True)
        assert second.returncode != 0
        assert "lock" in second.stderr
    with wait_until(lambda: _opened(os.path.join(here.below, "data.h5"), "r")) as below:
        assert below["x"][-1] == 49


def _opened(path: str, mode: str) -> Any:
    import h5py

    with suppress(BlockingIOError):
        return h5py.File(path, mode)
