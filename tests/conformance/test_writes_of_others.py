"""Nobody makes, migrates or removes a job through a mount who may not do so below. The mount is root's, open to all."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.projects import add_job, job_id, make_project
from tests.support.server import Server
from tests.support.users import ALICE, BOB
from tests.support.wait import wait_until

NOT_ON = ("plain", "direct")
STATEPOINT = "signac_statepoint.json"

pytestmark = [pytest.mark.fuse, pytest.mark.skipif(os.geteuid() != 0, reason="only root can be several users")]


@pytest.fixture
def server(driver: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Root's job a=1, Alice's a=2 and Bob's a=3."""
    base = tmp_path_factory.mktemp("others")
    project = make_project(str(base / "project"), {"a": 1})
    for a, owner in ((2, ALICE), (3, BOB)):
        job = add_job(project, {"a": a})
        for path in (job, os.path.join(job, STATEPOINT)):
            os.chown(path, owner, owner)
    made = Server(driver, project, "allow_other")
    made.may_say = "refused: "
    made.start()
    try:
        yield made
        made.stop()
    finally:
        made.kill()


@pytest.fixture
def below(server: Server) -> Callable[..., Path]:
    return lambda a: Path(server.project, "workspace", job_id({"a": a}))


def as_user(server: Server, user: int, script: str, umask: int = 0o022) -> int:
    """Run a piece of Python in the mount's directory; gives the errno that it fails with, or 0."""
    prelude = f"import os; os.setgroups([]); os.setgid({user}); os.setuid({user}); os.umask({umask})\n"
    text = f"{prelude}try:\n {script}\nexcept OSError as error:\n os._exit(error.errno)"
    return subprocess.run([sys.executable, "-c", text], cwd=server.mountpoint, timeout=60).returncode


def share(server: Server, mode: int) -> None:
    os.chmod(os.path.join(server.project, "workspace"), mode)
    for path in (server.mountpoint, os.path.join(server.mountpoint, "a")):  # the kernel keeps attributes for a second
        wait_until(lambda path=path: os.stat(path).st_mode & 0o777 == mode & 0o777)


def test_in_a_workspace_of_root_others_change_nothing(server, below):
    for script in ("os.mkdir('a/9')", "os.rename('a/2', 'a/9')", "os.rmdir('a/2')"):
        assert as_user(server, ALICE, script) == 13
    assert below(2).is_dir()
    assert not below(9).exists()


def test_in_a_shared_workspace_what_is_made_is_the_makers(server, below):
    share(server, 0o777)
    assert as_user(server, ALICE, "os.mkdir('a/9')", umask=0o027) == 0
    found, file = below(9).stat(), (below(9) / STATEPOINT).stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (ALICE, ALICE, 0o750)
    assert (file.st_uid, file.st_gid, file.st_mode & 0o777) == (ALICE, ALICE, 0o640)


def test_in_a_shared_workspace_a_job_whose_directory_one_may_not_write_stays(server, below):
    share(server, 0o777)
    assert as_user(server, BOB, "os.rename('a/2', 'a/9')") == 13
    assert below(2).is_dir()
    assert as_user(server, ALICE, "os.rename('a/2', 'a/9')") == 0
    assert (below(9) / STATEPOINT).stat().st_uid == ALICE
    assert sorted(os.listdir(below(9))) == [STATEPOINT]


def test_in_a_sticky_workspace_nobody_removes_or_moves_what_is_anothers(server, below):
    share(server, 0o1777)
    for a in (1, 2):
        os.chmod(below(a), 0o777)
        assert as_user(server, BOB, f"os.rename('a/{a}', 'a/9')") in (1, 13)
        assert as_user(server, BOB, f"os.rmdir('a/{a}')") in (1, 13)
        assert os.listdir(below(a)) == [STATEPOINT]
    assert as_user(server, BOB, "os.rename('a/3', 'a/9')") == 0
    assert as_user(server, BOB, "os.rmdir('a/9')") == 0
    assert not below(9).exists()
    assert [name for name in os.listdir(below(1).parent) if name.startswith("._")] == []


def test_directories_in_memory_are_made_by_whom_the_workspace_lets(server):
    assert as_user(server, ALICE, "os.mkdir('b')") == 13
    share(server, 0o777)
    assert as_user(server, ALICE, "os.mkdir('b')") == 0
    assert as_user(server, BOB, "os.rmdir('b')") == 0
