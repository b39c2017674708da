"""The view is written the way its paths read: by the usual programs, on every transport.

One mount serves all tests of a transport; each has a value of the key ``t`` to itself, with the jobs a=1 and a=2, each
with b=1 and b=2, and a data file in each job.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.support.outcome import has_failed
from tests.support.projects import add_job, job_id, make_project
from tests.support.server import Server
from tests.support.wait import wait_until

NOT_ON = ("plain", "direct")
STATEPOINT = "signac_statepoint.json"
pytestmark = pytest.mark.fuse


@dataclass
class Area:
    """What a test has to itself.

    Attributes:
        top: where its jobs are in the mount, by a and b.
        t: its value of the key t.
    """

    server: Server
    top: str
    t: int

    def path(self, *names: object) -> str:
        return os.path.join(self.top, *map(str, names))

    def job(self, a: object, b: object) -> str:
        return self.path("a", a, "b", b)

    def id(self, a: object, b: object) -> str:
        return job_id({"t": self.t, "a": a, "b": b})

    def below(self, *names: str) -> str:
        return os.path.join(self.server.project, "workspace", *names)

    def jobs(self) -> dict[tuple[object, object], str]:
        """What is on disk: for each job its data; asserts that no job is half and nothing is left over."""
        found = {}
        for name in os.listdir(self.below()):
            with open(self.below(name, STATEPOINT), encoding="utf-8") as file:
                statepoint = json.load(file)
            assert job_id(statepoint) == name
            assert not [each for each in os.listdir(self.below(name)) if each.startswith("._")]
            if statepoint["t"] == self.t:
                found[statepoint["a"], statepoint["b"]] = read(self.below(name, "data")) or ""
        return found

    def run(self, *command: str, fails: bool = False) -> str:
        """Run a program in the area; gives what it says."""
        done = subprocess.run(command, cwd=self.top, capture_output=True, text=True, timeout=60)
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done.stdout + done.stderr

    def shell(self, script: str, fails: bool = False) -> str:
        return self.run("bash", "-ec", script, fails=fails)


def read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return None


def assert_gone(path: str) -> None:
    """Where the kernel had a name cached it is told a moment after the answer."""
    wait_until(lambda: not os.path.exists(path), what=f"{path} to vanish")


@pytest.fixture(scope="module")
def servers(driver: str) -> Iterator[Callable[[], Server]]:
    """Gives the mount that is at work, a new one after a failure."""
    made: list[Server] = []
    base = tempfile.mkdtemp(prefix="sigfs-writes-")

    def give() -> Server:
        if not made or made[-1].process is None or made[-1].process.poll() is not None:
            ends: list[dict[str, object]] = [{"t": -1, "a": -1, "b": -1}, {"t": -2, "a": -2, "b": -2}]
            server = Server(driver, make_project(os.path.join(base, str(len(made))), *ends))
            server.may_say = "refused: "
            server.start()
            made.append(server)
        return made[-1]

    yield give
    try:
        for server in made:
            if server.process is not None and server.process.poll() is None:
                server.stop()
    finally:
        for server in made:
            server.kill()
        shutil.rmtree(base)


numbers = itertools.count()


@pytest.fixture
def area(request: pytest.FixtureRequest, servers: Callable[[], Server]) -> Iterator[Area]:
    server, t = servers(), next(numbers)
    for a, b in itertools.product((1, 2), (1, 2)):
        with open(os.path.join(add_job(server.project, {"t": t, "a": a, "b": b}), "data"), "w") as file:
            file.write(f"{a} {b}")
    made = Area(server, os.path.join(server.mountpoint, "t", str(t)), t)
    wait_until(lambda: all(os.path.isdir(made.job(a, b)) for a, b in itertools.product((1, 2), (1, 2))))
    yield made
    if has_failed(request.node):
        server.kill()
    else:
        server.check()


ALL = {(a, b): f"{a} {b}" for a, b in itertools.product((1, 2), (1, 2))}


def without(*keys: tuple[object, object]) -> dict[tuple[object, object], str]:
    return {key: data for key, data in ALL.items() if key not in keys}


# --- mv ---


def test_mv_of_a_job_changes_its_state_point_and_nothing_else(area):
    inode = os.stat(area.below(area.id(1, 1))).st_ino
    area.run("mv", "a/1/b/1", "a/1/b/9")
    assert not os.path.exists(area.job(1, 1))
    assert read(area.job(1, 9) + "/data") == "1 1"
    assert sorted(os.listdir(area.path("a", 1, "b"))) == ["2", "9"]
    assert area.jobs() == {**without((1, 1)), (1, 9): "1 1"}
    assert os.stat(area.below(area.id(1, 9))).st_ino == inode


def test_files_and_working_directories_stay_valid_while_their_job_is_moved(area):
    twin = area.path(".jobs", area.id(1, 1))
    os.listdir(twin)
    with open(area.job(1, 1) + "/data", "a") as one, open(twin + "/data", "a") as other:
        inside = subprocess.Popen(
            ["bash", "-c", "cd a/1/b/1 && echo in && read && echo more >> data && cat data && pwd -P"],
            cwd=area.top,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert inside.stdout is not None
        assert inside.stdout.readline() == "in\n"
        os.rename(area.job(1, 1), area.job(1, 9))
        one.write(" one")
        one.flush()
        other.write(" other")
        other.flush()
        said, _ = inside.communicate("\n", timeout=60)
    assert said.splitlines()[0] == "1 1 one othermore"
    assert said.splitlines()[1].endswith("a/1/b/9")
    assert read(area.job(1, 9) + "/data") == "1 1 one othermore\n"
    assert_gone(twin)


def test_mv_in_a_shell_loop(area):
    area.shell("for i in 1 2; do mv a/$i/b/1 a/$i/b/2.5; mv a/$i/b/2 a/$i/b/two; done")
    assert area.jobs() == {(1, 2.5): "1 1", (1, "two"): "1 2", (2, 2.5): "2 1", (2, "two"): "2 2"}


def test_mv_to_another_place_and_back_is_as_it_was(area):
    area.shell("mkdir -p a/3/b; mv a/1/b/1 a/3/b/7; mv a/3/b/7 a/1/b/1")
    assert area.jobs() == ALL
    assert_gone(area.path("a", 3))


def test_mv_onto_another_job_is_refused_and_harms_neither(area):
    with pytest.raises(OSError, match=r"exists|not empty") as caught:
        os.rename(area.job(1, 1), area.job(1, 2))
    assert caught.value.errno in (errno.EEXIST, errno.ENOTEMPTY)
    assert area.jobs() == ALL


def test_mv_to_a_state_point_that_was_just_made_below_is_refused(area):
    add_job(area.server.project, {"t": area.t, "a": 1, "b": 3})
    with pytest.raises(OSError, match=r"exists|not empty") as caught:
        os.rename(area.job(1, 1), area.job(1, 3))
    assert caught.value.errno in (errno.EEXIST, errno.ENOTEMPTY)
    assert area.jobs() == {**ALL, (1, 3): ""}


def test_what_is_no_move_of_a_job_is_refused_and_mv_copies_nothing(area):
    os.mkdir(area.job(1, 1) + "/sub")
    for source, target in (
        ("a/1", "a/9"),
        ("a/1/b/1/data", "a/1/x"),
        ("a/1/b/1/sub", "a/9"),
        ("a/1/b/1", "a/1/b/2/inside"),
        ("a/1/b/1", "a@gt/7"),
    ):
        assert "Operation not permitted" in area.run("mv", "-T", source, target, fails=True)
    assert area.jobs() == ALL


# --- mkdir ---


def test_mkdir_p_of_a_new_leaf_makes_a_job_with_the_keys_that_are_constant_beside_it(area):
    area.run("mkdir", "-p", "a/3/b/x")
    assert area.jobs() == {**ALL, (3, "x"): ""}
    assert os.listdir(area.job(3, "x")) == [STATEPOINT]
    assert json.loads(read(area.job(3, "x") + "/" + STATEPOINT) or "") == {"t": area.t, "a": 3, "b": "x"}
    area.shell("echo data > a/3/b/x/data")
    assert area.jobs() == {**ALL, (3, "x"): "data\n"}


def test_mkdir_of_a_job_that_is_there_is_eexist(area):
    add_job(area.server.project, {"t": area.t, "a": 1, "b": 3})
    for b in (1, 3):
        with pytest.raises(FileExistsError):
            os.mkdir(area.job(1, b))
    assert area.jobs() == {**ALL, (1, 3): ""}


def test_directories_on_the_way_to_a_new_job_are_there_until_they_are_removed(area):
    area.run("mkdir", "-p", "a/3/b")
    assert sorted(os.listdir(area.path("a"))) == ["1", "2", "3"]
    assert os.listdir(area.path("a/3")) == ["b"]
    assert os.listdir(area.path("a/3/b")) == []
    with pytest.raises(OSError, match=r"exists|not empty") as caught:
        os.rmdir(area.path("a/3"))
    assert caught.value.errno == errno.ENOTEMPTY
    area.shell("rmdir a/3/b; rmdir a/3")
    assert sorted(os.listdir(area.path("a"))) == ["1", "2"]
    assert_gone(area.path("a/3"))
    assert area.jobs() == ALL


def test_a_new_directory_is_listed_once_when_jobs_have_made_it_true(area):
    area.shell("mkdir -p a/3/b/1 a/3/b/2")
    assert sorted(os.listdir(area.path("a"))) == ["1", "2", "3"]
    assert sorted(os.listdir(area.path("a/3/b"))) == ["1", "2"]
    area.run("rm", "-r", "a/3")
    assert sorted(os.listdir(area.path("a"))) == ["1", "2"]


def test_a_path_that_says_no_state_point_makes_nothing(area):
    for path in ("a@gt/3", "doc.x", ".jobs/" + "0" * 32):
        assert "Operation not permitted" in area.run("mkdir", "-p", path, fails=True)
    with pytest.raises(PermissionError):
        os.mkdir(area.path("a", 1, "doc.x"))
    assert area.jobs() == ALL


def test_nothing_but_directories_is_made_in_virtual_ones(area):
    area.run("mkdir", "a/3")
    for command in ("touch a/file", "touch a/3/file", "ln -s x a/link", "mkfifo a/fifo", "ln a/1/b/1/data a/data"):
        assert "not permitted" in area.shell(command, fails=True)
    area.run("rmdir", "a/3")


# --- rmdir and rm ---


def test_rmdir_of_a_job_that_holds_only_metadata_removes_it(area):
    area.shell("mkdir a/1/b/3; echo {} > a/1/b/3/signac_job_document.json; rmdir a/1/b/3")
    assert_gone(area.job(1, 3))
    assert area.jobs() == ALL


def test_rmdir_of_anything_that_holds_more_is_refused(area):
    for path in ("a/1/b/1", "a/1/b", "a/1", "a"):
        assert "not empty" in area.run("rmdir", path, fails=True)
    assert area.jobs() == ALL


def test_rm_r_of_a_job_removes_that_job(area):
    area.shell("mkdir a/1/b/1/sub; touch a/1/b/1/sub/file")
    assert area.run("rm", "-r", "a/1/b/1") == ""
    assert area.jobs() == without((1, 1))


@pytest.mark.parametrize("command", ["rm -r a/1", "rm -rf a/1", "find a/1 -delete", "python -c"])
def test_a_whole_subtree_is_removed_without_complaint(area, command):
    if command == "python -c":
        shutil.rmtree(area.path("a/1"))
    else:
        assert area.run(*command.split()) == ""
    assert_gone(area.path("a/1"))
    assert area.jobs() == without((1, 1), (1, 2))


def test_all_there_is_can_be_removed(area):
    assert area.shell("rm -r a") == ""
    assert area.jobs() == {}


def test_directories_vanish_with_their_last_job_for_everybody_but_the_one_who_empties_them(area):
    script = (
        "import os; os.rmdir('a/1/b/5'); print(os.path.isdir('a/1/b'), flush=True); input(); os.removedirs('a/1/b')"
    )
    area.shell("rm a/*/b/*/data; rmdir a/1/b/1; mkdir a/1/b/5; rmdir a/1/b/2")
    process = subprocess.Popen(
        ["python3", "-c", script], cwd=area.top, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    assert_gone(area.path("a", 1))
    assert "1" not in os.listdir(area.path("a"))
    process.communicate("\n", timeout=60)
    assert process.returncode in (0, 1)  # removedirs goes on until it meets what is not empty
    assert_gone(area.path("a", 1))


# --- copies ---

COPIES = {
    "cp -r": "cp -r {0} {1}",
    "cp -a": "cp -a {0} {1}",
    "rsync": "rsync -a {0}/ {1}/",
    "tar": "mkdir {1} && tar c -C {0} . | tar x -C {1}",
    "mkdir and cp": "mkdir {1} && cp -r {0}/. {1}",
    "copytree": 'python3 -c \'import shutil; shutil.copytree("{0}", "{1}")\'',
}


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_of_a_job_is_a_new_job_with_the_data(area, how):
    if how == "rsync" and shutil.which("rsync") is None:
        pytest.skip("there is no rsync")
    area.shell("mkdir a/1/b/1/sub; echo more > a/1/b/1/sub/file")
    assert area.shell(COPIES[how].format("a/1/b/1", "a/1/b/3")) == ""
    assert area.jobs() == {**ALL, (1, 3): "1 1"}
    assert read(area.job(1, 3) + "/sub/file") == "more\n"
    assert sorted(os.listdir(area.job(1, 3))) == ["data", STATEPOINT, "sub"]


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_of_a_subtree_is_as_many_new_jobs(area, how):
    if how == "rsync" and shutil.which("rsync") is None:
        pytest.skip("there is no rsync")
    assert area.shell(COPIES[how].format("a/1", "a/3")) == ""
    assert area.jobs() == {**ALL, (3, 1): "1 1", (3, 2): "1 2"}
    assert area.run("diff", "-r", "-x", STATEPOINT, "a/1", "a/3") == ""


def test_the_state_point_file_of_a_job_made_here_keeps_saying_what_its_path_says(area):
    area.run("mkdir", "a/1/b/3")
    path = area.job(1, 3) + "/" + STATEPOINT
    area.run("cp", "a/1/b/1/" + STATEPOINT, "a/1/b/3/")
    area.run("cp", "a/1/b/3/" + STATEPOINT, "a/1/b/3/copy")
    area.shell("mv a/1/b/3/copy a/1/b/3/" + STATEPOINT)
    area.shell(f"cp a/1/b/1/{STATEPOINT} a/1/b/3/copy; mv a/1/b/3/copy a/1/b/3/{STATEPOINT}")
    # After a rename the kernel has the name for the moved file's until it is told better.
    wait_until(lambda: json.loads(read(path) or "null") == {"t": area.t, "a": 1, "b": 3})
    assert os.listdir(area.job(1, 3)) == [STATEPOINT]
    assert area.jobs() == {**ALL, (1, 3): ""}


def test_what_is_no_state_point_is_refused_in_its_place(area):
    area.shell("mkdir a/1/b/3; echo kept > a/1/b/3/data")
    assert "not permitted" in area.run("cp", "a/1/b/3/data", f"a/1/b/3/{STATEPOINT}", fails=True)
    assert "not permitted" in area.run("mv", "a/1/b/3/data", f"a/1/b/3/{STATEPOINT}", fails=True)
    assert area.jobs() == {**ALL, (1, 3): "kept\n"}
