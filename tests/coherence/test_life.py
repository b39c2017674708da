"""A mount's life: coming up, going down, being killed, being in use."""

from __future__ import annotations

import contextlib
import mmap
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sigfs.api.project import Project
from tests.coherence.conftest import Mounts, gone, is_mounted
from tests.support.server import require
from tests.support.wait import wait_until

pytestmark = pytest.mark.fuse


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "mnt"


def snapshot(root: str) -> dict[str, tuple[int, int]]:
    found = {}
    for directory, directories, files in os.walk(root):
        for name in [*directories, *files, "."]:
            status = os.lstat(os.path.join(directory, name))
            found[os.path.join(directory, name)] = (status.st_mtime_ns, status.st_ino)
    return found


def test_mount_greets_with_jobs_keys_and_lines_that_work(mounts: Mounts, project: Project, place: Path) -> None:
    said = mounts.mount(project, place)
    assert project.root in said
    assert "6 jobs" in said
    assert "a (3)" in said
    assert "b (2)" in said
    lines = [line.strip() for line in said.splitlines() if line.startswith("  ")]
    assert len(lines) == 2
    listed = subprocess.run(lines[0], shell=True, capture_output=True, text=True)
    assert (listed.returncode, listed.stdout) == (0, "signac_statepoint.json\n")
    assert lines[1] == f"sigfs umount {place}"


def test_mounting_and_walking_write_nothing_into_the_project_but_the_index(
    mounts: Mounts, project: Project, place: Path
) -> None:
    before = snapshot(project.root)
    mounts.mount(project, place)
    assert len([name for _, _, files in os.walk(place) for name in files]) == 6
    assert mounts.sigfs("umount", place).returncode == 0
    index = Path(project.root, ".sigfs")
    assert (index / "index" / "snapshot").is_file()
    shutil.rmtree(index)
    after, top = snapshot(project.root), os.path.join(project.root, ".")
    assert after.pop(top)[1] == before.pop(top)[1]
    assert after == before


def test_with_a_state_directory_nothing_at_all_is_written_into_the_project(
    mounts: Mounts, project: Project, place: Path, tmp_path: Path
) -> None:
    before = snapshot(project.root)
    mounts.mount(project, place, "-o", f"state_dir={tmp_path}/state")
    wait_until(lambda: list(tmp_path.glob("state/index/*/snapshot")))
    assert mounts.sigfs("umount", place).returncode == 0
    assert snapshot(project.root) == before


def test_the_next_mount_starts_from_the_index_and_sees_what_happened_meanwhile(
    mounts: Mounts, project: Project, place: Path
) -> None:
    mounts.mount(project, place)
    known = set(os.listdir(place / ".jobs"))
    assert mounts.sigfs("umount", place).returncode == 0
    new = project.open({"a": 77, "b": 1}).id
    gone = min(known)
    shutil.rmtree(os.path.join(project.workspace.path, gone))
    mounts.mount(project, place)
    assert set(os.listdir(place / ".jobs")) == known - {gone} | {new}
    assert (place / "a" / "77").is_dir()


def test_a_mount_within_a_project_needs_no_project_argument(mounts: Mounts, project: Project, place: Path) -> None:
    place = Path(project.root) / "view"
    place.mkdir()
    mounts._places.append(str(place))
    result = subprocess.run(
        [sys.executable, "-m", "sigfs", "mount", "view"],
        cwd=project.root,
        env=mounts.environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    assert os.listdir(place) == ["b"]


def test_status_lists_what_is_mounted(mounts: Mounts, project: Project, place: Path) -> None:
    mounts.mount(project, place, "-r", "--filter", "a@gt 1", "--layout", "full")
    status = mounts.status(place)
    expected = {
        "mountpoint": str(place),
        "project": project.root,
        "state": "alive",
        "jobs": 4,
        "layout": "full",
        "filter": "a.$gt 1",
        "transport": "kernel",
        "read_only": True,
    }
    assert {name: status[name] for name in expected} == expected
    assert status["watch"]["mode"] in ("fanotify", "inotify")
    table = mounts.sigfs("status").stdout
    assert str(place) in table
    assert mounts.sigfs("umount", place).returncode == 0
    assert mounts.sigfs("status", place).returncode == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_unmounts_and_the_exit_code_is_zero(
    mounts: Mounts, project: Project, place: Path, number: signal.Signals
) -> None:
    process = mounts.start(project, place)
    wait_until(lambda: os.listdir(place))
    process.send_signal(number)
    assert process.wait(60) == 0
    assert not is_mounted(place)
    assert os.listdir(place) == []


def test_the_end_of_its_terminal_unmounts_and_a_mere_sighup_reloads(
    mounts: Mounts, project: Project, place: Path
) -> None:
    place.mkdir()
    mounts._places.append(str(place))
    pid, terminal = pty.fork()
    if pid == 0:
        arguments = [sys.executable, "-m", "sigfs", "mount", "-f", project.root, str(place)]
        os.execve(sys.executable, arguments, mounts.environment())
    try:
        said = read_until(terminal, b"sigfs umount")
        os.kill(pid, signal.SIGHUP)
        said += read_until(terminal, b"reloaded")
        assert is_mounted(place)
        os.close(terminal)
        assert wait_until(lambda: [got[1] for got in [os.waitpid(pid, os.WNOHANG)] if got[0]]) == [0], said
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    assert not is_mounted(place)


EARLY = """
import os, signal
from sigfs.cli import main
from sigfs.mount.reloading import Reloading

start = Reloading.start

def start_late(self):
    for number in (signal.SIGHUP, signal.SIGUSR2):  # when the second is taken, the first has been dealt with
        os.kill(os.getpid(), number)
        while number in signal.sigpending():
            os.sched_yield()
    start(self)

Reloading.start = start_late
main()
"""


def test_a_reload_that_is_asked_for_just_after_the_greeting_is_done(
    mounts: Mounts, project: Project, place: Path
) -> None:
    place.mkdir()
    mounts._places.append(str(place))
    log = place.with_name("log")
    command = [sys.executable, "-c", EARLY, "mount", "-f", project.root, str(place)]
    with open(log, "wb") as said:
        process = subprocess.Popen(command, env=mounts.environment(), stdout=said, stderr=said, text=True)
    mounts._foreground.append(process)
    wait_until(lambda: "reloaded" in log.read_text() or process.poll() is not None)
    assert is_mounted(place), log.read_text()


def read_until(terminal: int, word: bytes) -> bytes:
    said = b""
    while word not in said:
        assert select.select([terminal], [], [], 60)[0], said
        said += os.read(terminal, 4096)
    return said


def test_a_signal_to_a_background_server_unmounts_too(mounts: Mounts, project: Project, place: Path) -> None:
    mounts.mount(project, place)
    pid = mounts.pid(place)
    os.kill(pid, signal.SIGHUP)  # has it reload
    assert mounts.status(place)["state"] == "alive"
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: gone(pid))
    assert not is_mounted(place)


def test_a_signal_while_in_use_lets_users_finish(mounts: Mounts, project: Project, place: Path) -> None:
    mounts.may_warn = True
    process = mounts.start(project, place)
    path = place / "b/x/a/1/data"
    with open(path, "w+b", buffering=0) as file:
        file.write(b"before")
        process.terminate()
        wait_until(lambda: not is_mounted(place))
        file.write(b" and after")
        file.seek(0)
        assert file.read() == b"before and after"
        assert process.poll() is None
    assert process.wait(60) == 0
    assert Path(project.open({"a": 1, "b": "x"}).fn("data")).read_bytes() == b"before and after"


def test_a_second_signal_does_not_wait_for_users(mounts: Mounts, project: Project, place: Path) -> None:
    mounts.may_warn = True
    process = mounts.start(project, place)
    held = os.open(place / "b/x/a/1/data", os.O_RDWR | os.O_CREAT)
    try:
        process.terminate()
        wait_until(lambda: not is_mounted(place))
        process.terminate()
        assert process.wait(60) == 0
    finally:
        with contextlib.suppress(OSError):  # it is closed all the same
            os.close(held)


@pytest.mark.parametrize("command", ["umount", "umount -l", "fusermount3 -u", "fusermount3 -u -z"])
def test_an_unmount_by_others_ends_the_server_well(mounts: Mounts, project: Project, place: Path, command: str) -> None:
    process = mounts.start(project, place)
    wait_until(lambda: os.listdir(place))
    subprocess.run([*command.split(), place], check=True)
    assert process.wait(60) == 0


def test_a_mount_left_dead_is_cleared_and_mounted_over(mounts: Mounts, project: Project, place: Path) -> None:
    mounts.mount(project, place)
    mounts.kill(place)
    with pytest.raises(OSError, match="connect"):
        os.listdir(place)
    assert mounts.sigfs("status", place).returncode == 1
    assert "dead" in mounts.sigfs("status").stdout
    said = mounts.mount(project, place)
    assert "cleared" in said
    assert os.listdir(place) == ["b"]
    assert mounts.sigfs("umount", place).returncode == 0
    assert not is_mounted(place)


def test_a_dead_mount_can_be_unmounted(mounts: Mounts, project: Project, place: Path) -> None:
    mounts.mount(project, place)
    mounts.kill(place)
    result = mounts.sigfs("umount", place)
    assert (result.returncode, result.stderr) == (0, "")
    assert not is_mounted(place)


def test_a_mount_in_use_names_who_uses_it(mounts: Mounts, project: Project, place: Path) -> None:
    mounts.mount(project, place)
    command = [sys.executable, "-c", "print(flush=True); input()"]
    with subprocess.Popen(command, cwd=place / "b", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as user:
        assert user.stdout is not None
        user.stdout.readline()
        result = mounts.sigfs("umount", place)
        assert result.returncode == 7
        assert str(user.pid) in result.stderr
        assert "working directory" in result.stderr
        assert is_mounted(place)
        assert mounts.sigfs("umount", "--lazy", place).returncode == 0
        assert not is_mounted(place)
        user.kill()


def test_unmounting_waits_for_the_server(mounts: Mounts, project: Project, place: Path) -> None:
    mounts.mount(project, place)
    pid = mounts.pid(place)
    assert mounts.sigfs("umount", place).returncode == 0
    assert gone(pid)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make a mount namespace")
def test_an_unmount_whose_server_goes_on_names_the_namespace_that_still_has_it(
    mounts: Mounts, project: Project, place: Path
) -> None:
    mounts.mount(project, place)
    pid = mounts.pid(place)
    shim = "import sigfs.cli.mounted as m; m.EXIT_S = 0; from sigfs.cli import main; main()"
    with subprocess.Popen(["unshare", "--mount", "--propagation", "private", "sleep", "600"]) as other:
        try:
            wait_until(lambda: Path(f"/proc/{other.pid}/comm").read_text() == "sleep\n")
            result = subprocess.run(
                [sys.executable, "-c", shim, "umount", place],
                env=mounts.environment(),
                capture_output=True,
                text=True,
                timeout=60,
            )
        finally:
            other.kill()
    assert result.returncode == 1
    assert f"its server (process {pid}) has not ended" in result.stderr
    assert f"still mounted at {place} in the mount namespace of process {other.pid} (sleep)" in result.stderr
    wait_until(lambda: gone(pid))


def test_mounting_over_a_living_mount_is_refused(mounts: Mounts, project: Project, place: Path) -> None:
    mounts.mount(project, place)
    result = mounts.sigfs("mount", project.root, place)
    assert result.returncode == 5
    assert "mounted already" in result.stderr


def test_a_hung_mount_is_told_and_hangs_nobody(mounts: Mounts, project: Project, place: Path) -> None:
    mounts.mount(project, place)
    pid = mounts.pid(place)
    os.kill(pid, signal.SIGSTOP)
    try:
        result = mounts.sigfs("status", place)
        refusal = mounts.sigfs("mount", project.root, place)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert result.returncode == 1
    assert "hung" in result.stdout
    assert refusal.returncode == 5
    assert "does not answer" in refusal.stderr


def test_every_transport_can_be_chosen(mounts: Mounts, project: Project, place: Path) -> None:
    from tests.support.server import require

    for transport in ("llfuse", "fusepy"):
        require(transport)
        said = mounts.mount(project, place, "-o", f"transport={transport}")
        assert "6 jobs" in said
        assert os.listdir(place) == ["b"]
        assert mounts.status(place)["transport"] == transport
        assert mounts.sigfs("umount", place).returncode == 0


def test_debug_logs_each_request(mounts: Mounts, project: Project, place: Path) -> None:
    process = mounts.start(project, place, "-d")
    assert os.listdir(place) == ["b"]
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "DEBUG" in err
    assert "LOOKUP" in err.upper() or "READDIR" in err.upper()


def test_a_project_that_breaks_before_it_is_mounted_says_so(mounts: Mounts, project: Project, place: Path) -> None:
    place.mkdir()
    Path(project.root, ".signac", "config").write_text("schema_version = 99\n")
    result = mounts.sigfs("mount", project.root, place)
    assert result.returncode == 3
    assert "99" in result.stderr
    assert not is_mounted(place)


def test_without_fuse_the_exit_code_says_so(mounts: Mounts, project: Project, place: Path) -> None:
    mounts.may_warn = True
    place.mkdir()
    shim = (
        "import sys, sigfs.transports.kernel.mounting as m; m.DEVICE = '/dev/none'; from sigfs.cli import main; main()"
    )
    result = subprocess.run(
        [sys.executable, "-c", shim, "mount", project.root, str(place)],
        env=mounts.environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 6
    assert result.stderr.startswith("sigfs: ")
    assert "Traceback" not in result.stderr
    assert not is_mounted(place)


def test_the_demo_shows_everything_and_leaves_nothing(mounts: Mounts, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    result = subprocess.run(
        [sys.executable, "-m", "sigfs", "demo"],
        env={**mounts.environment(), "TMPDIR": str(scratch)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    assert "$ sigfs mount project mnt" in result.stdout
    assert "converged" in result.stdout
    assert os.listdir(scratch) == []


def test_an_interrupted_demo_leaves_nothing(mounts: Mounts, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with subprocess.Popen(
        [sys.executable, "-m", "sigfs", "demo"],
        env={**mounts.environment(), "TMPDIR": str(scratch)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        wait_until(lambda: any(is_mounted(found) for found in scratch.glob("*/mnt")) or process.poll() is not None)
        process.terminate()
        process.communicate(timeout=60)
    assert process.returncode == 130
    assert os.listdir(scratch) == []


SLOW = """
import sys, threading
from sigfs.cli import main
from sigfs.vfs.operations import Operations

written, never = Operations.write, threading.Event()

def write(self, *arguments, **others):
    never.wait(0.02)
    return written(self, *arguments, **others)

Operations.write = write
main(sys.argv[1:])
"""


@pytest.mark.parametrize("transport", ["kernel", "llfuse", "fusepy"])
def test_what_was_written_to_a_mapping_is_saved_when_a_busy_mount_is_told_to_end(
    mounts: Mounts, project: Project, place: Path, transport: str
) -> None:
    """Though the disk takes its time: more requests than the kernel has under way at once."""
    require(transport)
    place.mkdir()
    mounts._places.append(str(place))
    arguments = ["mount", "-f", "-o", f"nopassthrough,transport={transport}", project.root, str(place)]
    log = place.with_name("log")
    with open(log, "wb") as said:
        server = subprocess.Popen(
            [sys.executable, "-c", SLOW, *arguments], env=mounts.environment(), stdout=said, stderr=said
        )
    try:
        wait_until(lambda: is_mounted(place) or server.poll() is not None)
        job = place / ".jobs" / os.listdir(place / ".jobs")[0]
        size, step = 100 * 2 * mmap.PAGESIZE, 2 * mmap.PAGESIZE  # every other page, so that each is a request
        with contextlib.suppress(OSError), open(job / "mapped", "w+b", buffering=0) as file:  # closed without a server
            file.truncate(size)
            with mmap.mmap(file.fileno(), size) as mapped:
                for start in range(0, size, step):
                    mapped[start : start + 8] = b"precious"
                server.terminate()
                assert server.wait(60) == 0
    finally:
        server.kill()
        server.wait()
    data = Path(project.workspace.path, job.name, "mapped").read_bytes()
    assert {data[start : start + 8] for start in range(0, size, step)} == {b"precious"}, log.read_text()


def test_a_view_without_jobs_has_none_and_says_so(mounts: Mounts, project: Project, place: Path) -> None:
    said = mounts.mount(project, place, "-o", "filter=a 77")
    assert "0 jobs: the filter 'a 77' holds for none at present" in said
    assert mounts.status(place)["jobs"] == 0


def test_directories_that_cannot_be_read_as_jobs_are_named_once_in_greeting_and_log(
    mounts: Mounts, project: Project, place: Path
) -> None:
    mounts.may_warn = True
    name = "0" * 32
    os.mkdir(os.path.join(project.workspace.path, name))
    said = mounts.mount(project, place)
    assert said.count(f"{name}: has no signac_statepoint.json") == 1
    assert mounts.log().count(f"{name}: has no signac_statepoint.json") == 1


def test_umount_may_be_called_from_within(mounts: Mounts, project: Project, place: Path) -> None:
    mounts.mount(project, place)
    program = "import os, sys; os.chdir(sys.argv[1]); from sigfs.cli import main; main(['umount', '.'])"
    command = [sys.executable, "-c", program, str(place)]
    result = subprocess.run(command, env=mounts.environment(), capture_output=True, text=True, cwd="/")
    said = [line for line in result.stderr.splitlines() if "waiting for process" not in line]  # on a slow machine
    assert (result.returncode, said) == (0, [])


def test_a_foreground_mount_is_announced_once(mounts: Mounts, project: Project, place: Path) -> None:
    process = mounts.start(project, place)
    assert mounts.sigfs("umount", place).returncode == 0
    out, err = process.communicate(timeout=60)
    assert (out + err).count("is mounted on") == 1


def test_status_finds_servers_that_other_environments_have_started(
    mounts: Mounts, project: Project, place: Path, tmp_path: Path
) -> None:
    mounts.mount(project, place)
    environment = {**mounts.environment(), "XDG_RUNTIME_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "sigfs", "status", "--json", str(place)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert '"pid": null' not in result.stdout
    assert result.stderr == ""
