"""``sigfs run``: a mount for one command, as root and as an ordinary user without any helper."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from sigfs.api.project import Project, init_project
from sigfs.transports.mounts import mounts
from tests.support.commands import real_command
from tests.support.outcome import unavailable
from tests.support.server import require
from tests.support.users import GROUP, User, ordinary_user
from tests.support.wait import wait_until

pytestmark = pytest.mark.fuse


@pytest.fixture
def project(tmp_path: Path) -> Project:
    require("kernel")
    made = init_project(tmp_path / "project")
    for a in (1, 2):
        made.open({"a": a})
    return made


class Running:
    """One ``sigfs run`` with its pipes, and its children."""

    def __init__(self, project: Project, tmp_path: Path, *arguments: str) -> None:
        (tmp_path / "run").mkdir(exist_ok=True)
        self.temporary = tmp_path / "run"
        self.process = subprocess.Popen(
            real_command("run", project.root, *arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "XDG_RUNTIME_DIR": str(self.temporary)},
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def children(self) -> dict[str, int]:
        """Give the server and the command."""
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children", encoding="ascii") as file:
            server, command = sorted(int(pid) for pid in file.read().split())
        return {"server": server, "command": command}

    def finish(self, text: str = "") -> tuple[int, str, str]:
        out, err = self.process.communicate(text, timeout=120)
        assert list(self.temporary.iterdir()) == []
        return self.process.returncode, out, err

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def is_gone(pid: int) -> bool:
    """Whether no process has this number, or only what is left of one."""
    try:
        return "(zombie)" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


SCRIPT = """
test "$PWD" = "$SIGFS_MNT" && test "$(pwd)" = "$SIGFS_MNT" && ls && echo new > a/2/file && echo "$SIGFS_PROJECT"
read line; exit 7
"""


def test_the_command_is_in_a_mount_that_nobody_else_sees_and_its_code_is_passed_on(
    project: Project, tmp_path: Path
) -> None:
    with Running(project, tmp_path, "--", "sh", "-c", SCRIPT) as running:
        assert (running.line(), running.line()) == ("a", project.root)
        assert not [mount for mount in mounts() if str(tmp_path) in mount.mountpoint]
        assert running.finish("on\n") == (7, "", "")
    (job,) = project.find("a 2")
    assert Path(job.fn("file")).read_text() == "new\n"


def test_it_is_mounted_where_one_says_and_options_count(project: Project, tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    script = f"pwd; ls {tmp_path}/mnt/a; touch {tmp_path}/mnt/a/1/x; cat /proc/self/mountinfo | grep -c fuse.sigfs"
    options = ("-m", str(tmp_path / "mnt"), "-o", "ro", "--filter", "a 1", "--layout", "full")
    with Running(project, tmp_path, *options, "--", "sh", "-c", script) as running:
        code, out, err = running.finish()
    assert (code, out.split()[:2]) == (0, [os.getcwd(), "1"])
    assert "Read-only file system" in err
    assert list((tmp_path / "mnt").iterdir()) == []


def test_what_cannot_be_run_has_the_codes_of_a_shell(project: Project, tmp_path: Path) -> None:
    with Running(project, tmp_path, "--", "no-such-command") as running:
        code, out, err = running.finish()
    assert (code, out) == (127, "")
    assert "'no-such-command' cannot be run: No such file or directory" in err
    with Running(project, tmp_path, "-m", str(tmp_path / "none"), "--", "true") as running:
        assert running.finish()[0] == 5


def test_signals_reach_the_command_and_one_that_ends_it_is_passed_on(project: Project, tmp_path: Path) -> None:
    script = "trap 'echo got; exit 4' TERM; echo begun; while :; do read line; done"
    with Running(project, tmp_path, "--", "sh", "-c", script) as running:
        assert running.line() == "begun"
        running.process.send_signal(signal.SIGTERM)
        assert running.finish()[:2] == (4, "got\n")
    with Running(project, tmp_path, "--", "sh", "-c", "kill -KILL $$") as running:
        assert running.finish()[0] == 128 + signal.SIGKILL


def test_a_server_that_dies_gives_errors_and_not_a_hang(project: Project, tmp_path: Path) -> None:
    # At first "connection abort", as long as it is dying.
    script = "echo begun; read line; until LC_ALL=C ls a 2>&1 | grep 'endpoint is not connected'; do :; done; exit 3"
    with Running(project, tmp_path, "--", "sh", "-c", script) as running:
        assert running.line() == "begun"
        os.kill(running.children()["server"], signal.SIGKILL)
        code, out, err = running.finish("on\n")
    assert (code, out.count("\n")) == (3, 1)
    assert "the server of the mount was killed by signal 9" in err


def test_nothing_is_left_of_one_that_is_killed(project: Project, tmp_path: Path) -> None:
    with Running(project, tmp_path, "--", "sh", "-c", "echo begun; read line; sleep 1000") as running:
        assert running.line() == "begun"
        children = running.children()
        running.process.kill()
        running.process.wait()
        for pid in children.values():
            wait_until(lambda pid=pid: is_gone(pid))  # type: ignore[misc]
        assert list(running.temporary.iterdir()) == []


# As an ordinary user


@pytest.fixture(scope="module")
def user() -> Iterator[User]:
    if os.geteuid() != 0:
        unavailable("only root can make a user")
    for program in ("useradd", "userdel", "setpriv", "unshare"):
        if shutil.which(program) is None:
            unavailable(f"there is no {program}")
    require("kernel")
    with ordinary_user() as made:
        yield made


def as_user(user: User, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script that may gain no privilege, where no set-user-id helper is, with ``sigfs`` as a function of it."""
    hide = 'for each in fusermount3 fusermount; do for d in /usr/bin /bin /usr/local/bin; do test ! -e "$d/$each" || '
    hide += 'mount --bind /dev/null "$d/$each"; done; done; exec "$@"'
    rights = ("setpriv", "--no-new-privs", f"--reuid={user.uid}", f"--regid={user.gid}", "--groups", str(GROUP))
    prelude = f'sigfs() {{ PYTHONPATH="$PYTHONPATH:{user.repository}" {user.python} -m sigfs "$@"; }}; cd\n'
    command = user.in_namespace("sh", "-ec", hide, "sh", *rights, "sh", "-c", prelude + script)
    environment = {**user.environment, "PATH": "/nowhere:/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C.UTF-8"}
    return subprocess.run(command, cwd=user.repository, env=environment, capture_output=True, text=True)


def owned(path: str, uid: int, gid: int, mode: int) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write("x\n")
    os.chown(path, uid, gid)
    os.chmod(path, mode)


@pytest.mark.user
def test_an_ordinary_user_needs_no_helper_and_gains_no_right(user: User) -> None:
    done = as_user(
        user,
        """
        sigfs init p > /dev/null && cd p && sigfs job a=1 > /dev/null && sigfs job a=2 > /dev/null && cd
        sigfs run p -- sh -c 'id -u; ls; echo new > a/2/file; grep -E "^(CapEff|NoNewPrivs)" /proc/self/status; exit 9'
        echo $? $(ls run) $(cat p/workspace/*/file)
        sigfs run p -o transport=llfuse -- true
        echo $?
        """,
    )
    privileges = ["CapEff:", "0" * 16, "NoNewPrivs:", "1"]
    assert done.stdout.split() == [str(user.uid), "a", *privileges, "9", "new", "6"], done.stderr
    assert "use -o transport=kernel" in done.stderr


@pytest.mark.user
def test_files_of_a_group_and_of_others_may_be_used_as_on_the_disk(user: User) -> None:
    base = Path(user.home) / "shared"
    job = Path(os.fspath(init_project(base).open({"a": 1})))
    other = user.uid + 1
    kinds = {
        "mine-of-group": (user.uid, GROUP, 0o660), "others-of-group": (other, GROUP, 0o664),
        "readable-by-group": (other, GROUP, 0o640), "others": (other, other, 0o644), "private": (other, other, 0o600),
    }  # fmt: skip
    for name, (uid, gid, mode) in kinds.items():
        owned(str(job / name), uid, gid, mode)
    (job / "d").mkdir()
    os.chown(job / "d", other, GROUP)
    os.chmod(job / "d", 0o2775)
    tries = "for f in *-* others private; do cat $f > /dev/null && echo reads $f; echo y >> $f && echo writes $f; done"
    there = f"cd {job} && ({tries}) 2> /dev/null"
    within = f"sigfs run shared -- sh -c 'cd .jobs/* && ({tries}; echo z > d/new) 2> /dev/null'"
    os.chown(job, other, GROUP)
    os.chmod(job, 0o755)
    done = as_user(user, f"({there}); echo; {within}; stat -c '%g %a' {job}/d/new")
    on_disk, _, in_mount = done.stdout.partition("\n\n")
    assert in_mount.splitlines()[:-1] == on_disk.splitlines(), done.stderr
    assert "writes others-of-group" in on_disk
    assert "writes readable-by-group" not in on_disk
    assert "reads private" not in on_disk
    assert in_mount.splitlines()[-1].split()[0] == str(GROUP)


@pytest.mark.user
def test_what_is_missing_is_named_with_the_remedy(user: User) -> None:
    within = "echo 0 > /proc/sys/user/max_user_namespaces; exec setpriv --bounding-set -all --inh-caps -all "
    within += f'env "PYTHONPATH=$PYTHONPATH:{user.repository}" {user.python} -m sigfs run q -- true'
    done = as_user(user, f"sigfs init q > /dev/null; exec unshare --user --map-root-user sh -c '{within}'")
    assert done.returncode == 6
    assert "user.max_user_namespaces is 0; root may change that: sysctl -w user.max_user_namespaces=" in done.stderr
    rights = ("setpriv", f"--reuid={user.uid}", f"--regid={user.gid}", "--clear-groups")
    script = f'chmod 600 /dev/fuse; cd {user.home}; exec "$@"'
    command = user.in_namespace(
        "sh", "-ec", script, "sh", *rights, user.python, "-m", "sigfs", "run", "q", "--", "true"
    )
    environment = {**user.environment, "PYTHONPATH": f"{user.environment['PYTHONPATH']}:{user.repository}"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 6
    assert "cannot open /dev/fuse: Permission denied; ordinary users may mount when root has run" in done.stderr
