"""What the doctor says of machines that are not as they should be, each made of a few files."""

from __future__ import annotations

import functools
import json
import os
import signal
import stat
from pathlib import Path

import pytest

from sigfs.api.project import Project, get_project, init_project
from sigfs.cli import diagnosis, diagnosis_project, doctor
from sigfs.cli.diagnosis import Finding
from sigfs.mount.asking import ask_all
from tests.support.commands import Run


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LIMIT_S", 100.0)  # nothing hangs here, but much else may run


def write(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def test_a_device_that_is_none_is_told_with_what_makes_it_one(tmp_path: Path) -> None:
    root = str(tmp_path)
    missing = diagnosis.device(str(tmp_path / "fuse"), root)
    assert (missing.state, missing.remedy) == ("wrong", "sudo modprobe fuse")
    plain = diagnosis.device(write(tmp_path / "plain", ""), root)
    assert plain.state == "wrong"
    assert f"mknod -m 666 {tmp_path}/plain c 10 229" in plain.remedy
    assert diagnosis.device("/dev/null", root).state == "wrong"  # a device, of other numbers
    write(tmp_path / ".dockerenv", "")
    assert "--device /dev/fuse" in diagnosis.device(str(tmp_path / "fuse"), root).remedy


def test_a_helper_that_can_gain_no_rights_is_told(tmp_path: Path) -> None:
    status = write(tmp_path / "status", "Name:\tsigfs\nNoNewPrivs:\t0\n")
    assert diagnosis.helper(None, status, is_root=True).state == "none"
    absent = diagnosis.helper(None, status, is_root=False)
    assert absent.state == "wrong"
    assert "fuse3" in absent.remedy
    path = write(tmp_path / "fuser mount3", "")
    plain = diagnosis.helper(path, status, is_root=False)
    assert plain.remedy == f"sudo chown root '{path}' && sudo chmod u+s '{path}'"
    if os.geteuid() == 0:
        os.chmod(path, 0o4755)
        assert os.stat(path).st_mode & stat.S_ISUID
        assert diagnosis.helper(path, status, is_root=False).state == "ok"
        write(tmp_path / "status", "NoNewPrivs:\t1\n")
        bound = diagnosis.helper(path, status, is_root=False)
        assert (bound.state, bound.remedy) == ("wrong", "sigfs run PROJECT -- COMMAND")


@pytest.mark.parametrize(
    ("text", "state"),
    [(None, "warning"), ("#user_allow_other\n", "warning"), ("mount_max = 1\n user_allow_other \n", "ok")],
)
def test_others_are_let_in_by_a_line_of_its_own(tmp_path: Path, text: str | None, state: str) -> None:
    path = str(tmp_path / "fuse.conf") if text is None else write(tmp_path / "fuse.conf", text)
    found = diagnosis.allow_other(path, is_root=False)
    assert found.state == state
    assert ("tee -a" in found.remedy) == (state != "ok")
    assert diagnosis.allow_other(path, is_root=True).state == "none"


def test_the_kernel_must_be_new_enough_and_one_must_be_privileged_for_passthrough(tmp_path: Path) -> None:
    assert diagnosis.kernel("5.3.18-lp152").state == "wrong"
    assert diagnosis.kernel("5.10.0").state == "ok"
    status = write(tmp_path / "status", f"CapEff:\t{1 << 21:016x}\n")
    initial = write(tmp_path / "uid_map", f"         0          0 {(1 << 32) - 1}\n")
    arguments = (status, initial, str(tmp_path))
    assert diagnosis.passthrough("6.8.0", *arguments).state == "none"
    assert diagnosis.passthrough("6.12.1", *arguments).state == "ok"
    inner = write(tmp_path / "inner", "0 1000 1\n")
    assert diagnosis.passthrough("6.12.1", status, inner, str(tmp_path)).state == "none"
    write(tmp_path / "config-6.12.1", "# CONFIG_FUSE_PASSTHROUGH is not set\n")
    assert "CONFIG_FUSE_PASSTHROUGH" in diagnosis.passthrough("6.12.1", *arguments).said
    ordinary = write(tmp_path / "status", "CapEff:\t0000000000000000\n")
    assert "AmbientCapabilities" in diagnosis.passthrough("6.13", ordinary, initial, str(tmp_path)).said


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("user/max_user_namespaces", "0\n", "user.max_user_namespaces=15000"),
        ("kernel/unprivileged_userns_clone", "0\n", "kernel.unprivileged_userns_clone=1"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1\n", "kernel.apparmor_restrict_unprivileged_userns=0"),
    ],
)
def test_what_forbids_user_namespaces_is_named(tmp_path: Path, name: str, value: str, remedy: str) -> None:
    assert diagnosis.user_namespaces(str(tmp_path), is_root=False).state == "ok"
    write(tmp_path / name, value)
    found = diagnosis.user_namespaces(str(tmp_path), is_root=False)
    assert found.state == "warning"
    assert remedy in found.remedy
    assert diagnosis.user_namespaces(str(tmp_path), is_root=True).state == "none"


def test_a_profile_of_apparmor_counts_where_it_is_in_force(tmp_path: Path) -> None:
    etc, module = str(tmp_path / "etc"), str(tmp_path / "module")
    profile = write(tmp_path / "etc/fusermount3", "profile fusermount3 ...")
    assert diagnosis.apparmor(etc, module, is_root=False).state == "ok"
    write(tmp_path / "module/parameters/enabled", "Y\n")
    found = diagnosis.apparmor(etc, module, is_root=False)
    assert found.state == "warning"
    assert f"apparmor_parser -r {profile}" in found.remedy
    assert diagnosis.apparmor(etc, module, is_root=True).state == "none"
    write(tmp_path / "etc/disable/fusermount3", "")
    assert diagnosis.apparmor(etc, module, is_root=False).state == "ok"


def limits(base: Path, watches: int, instances: int, events: int) -> str:
    for name, value in (("watches", watches), ("instances", instances)):
        write(base / f"max_user_{name}", f"{value}\n")
    write(base / "max_queued_events", f"{events}\n")
    return str(base)


def states(found: list[Finding]) -> list[str]:
    return [each.state for each in found]


def test_limits_of_inotify_are_compared_with_the_jobs_and_what_is_in_use(tmp_path: Path) -> None:
    proc = tmp_path / "proc"
    (proc / "77" / "fd").mkdir(parents=True)
    for fd in range(3):
        (proc / "77" / "fd" / str(fd)).symlink_to("anon_inode:inotify")
    sysctl = limits(tmp_path / "inotify", 8192, 11, 16384)
    assert states(diagnosis.inotify(2000, sysctl, str(proc), is_root=False)) == ["ok", "ok", "ok"]
    few = diagnosis.inotify(3000, sysctl, str(proc), is_root=False)[0]
    assert (few.state, "fs.inotify.max_user_watches=12000" in few.remedy) == ("warning", True)
    assert states(diagnosis.inotify(3000, sysctl, str(proc), is_root=True)) == ["ok", "ok", "ok"]
    sysctl = limits(tmp_path / "inotify", 8192, 10, 1000)
    assert states(diagnosis.inotify(None, sysctl, str(proc), is_root=False)) == ["ok", "warning", "warning"]
    assert states(diagnosis.inotify(1, str(tmp_path / "none"), str(proc), is_root=False)) == ["warning"]


def test_few_descriptors_are_a_warning() -> None:
    assert diagnosis.descriptors((256, 1024)).state == "warning"
    assert diagnosis.descriptors((1024, 1 << 20)).state == "ok"
    assert diagnosis.descriptors((1024, -1)).state == "ok"


@pytest.mark.parametrize(
    ("text", "state", "remedy"),
    [
        (None, "none", ""),
        ('PRUNEFS="NFS fuse.sshfs FUSE.SIGFS tmpfs"\n', "ok", ""),
        ('PRUNE_BIND_MOUNTS="yes"\n PRUNEFS = "NFS fuse.sigfs2"\n', "warning", "sed -i"),
        ('# PRUNEFS="fuse.sigfs"\n', "warning", "tee -a"),
    ],
)
def test_updatedb_is_to_pass_over_mounts(tmp_path: Path, text: str | None, state: str, remedy: str) -> None:
    path = tmp_path / "updatedb.conf"
    if text is not None:
        path.write_text(text)
    found = diagnosis.updatedb(str(path))
    assert found.state == state
    assert remedy in found.remedy
    if state == "warning":
        assert os.system(found.remedy.replace("sudo ", "") + " >/dev/null") == 0  # the command does what it is for
        assert diagnosis.updatedb(str(path)).state == "ok"
        assert text in path.read_text() or "sed" in remedy


def test_each_package_that_is_missing_has_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "PACKAGES", {"json": ("json", "this"), "no_such_module": ("nothing", "that")})
    there, missing = diagnosis.packages()
    assert there.state == "ok"
    assert missing.remedy.endswith("-m pip install nothing")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = init_project(str(tmp_path / "project"))
    made.open({"a": 1})
    return get_project(made.root)


def contents(root: str) -> list[str]:
    return sorted(os.path.join(where, name) for where, *both in os.walk(root) for names in both for name in names)


def test_a_project_is_looked_at_and_nothing_is_left_in_it(project: Project, run: Run) -> None:
    before = contents(project.root)
    code, out, err = run("doctor", project.root, "--json")
    found = {each["check"]: each for each in json.loads(out)}
    assert err == ""
    for name in ("project", "workspace", "file system", "clock"):
        assert found[name]["state"] in ("ok", "warning"), found[name]
    assert "1 entries" in found["workspace"]["said"]
    assert found["index"]["remedy"] == f"sigfs index build -p {project.root}"
    assert code == any(each["state"] == "wrong" for each in found.values())
    assert contents(project.root) == before
    lines = run("doctor", project.root)[1].splitlines()
    assert f"✔ project: {project.root}" in lines
    assert f"    sigfs index build -p {project.root}" in lines


def test_what_is_no_project_is_wrong_and_a_working_directory_in_none_is_not(tmp_path: Path, run: Run) -> None:
    code, out, _ = run("doctor", str(tmp_path / "nothing"))
    assert code == 1
    assert "✘ project: " in out
    assert "- project: " in run("doctor")[1]


def test_a_workspace_on_a_file_system_of_others_is_looked_at_now_and_then(project: Project) -> None:
    assert diagnosis_project.events(project, "ext4").state == "ok"
    for kind in ("nfs4", "lustre", "fuse.sshfs"):
        found = diagnosis_project.events(project, kind)
        assert (found.state, kind in found.said) == ("warning", True)


def test_a_clock_that_is_off_is_told(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    assert diagnosis_project.clock(project).state == "ok"
    now_s = diagnosis_project.time.time()
    monkeypatch.setattr(diagnosis_project.time, "time", lambda: now_s + 100)
    found = diagnosis_project.clock(project)
    assert found.state == "warning"
    assert "behind" in found.said


def test_where_files_without_names_cannot_be_made_one_with_a_name_is_and_is_removed(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain_open = os.open

    def refuse(path: str, flags: int, *rest: int, **more: int) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(95, "Operation not supported")
        return plain_open(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", refuse)
    before = contents(project.root)
    assert diagnosis_project.clock(project).state == "none"  # never with a name among the jobs
    assert contents(project.root) == before
    os.mkdir(os.path.join(project.root, ".sigfs"))
    assert diagnosis_project.clock(project).state == "ok"
    assert contents(project.root) == sorted([*before, os.path.join(project.root, ".sigfs")])


def test_a_check_that_hangs_or_fails_keeps_no_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail() -> Finding:
        raise OSError(5, "Input/output error", "/x")

    monkeypatch.setattr(diagnosis, "kernel", signal.pause)
    monkeypatch.setattr(diagnosis, "passthrough", fail)
    monkeypatch.setattr(doctor, "_project", lambda *_: signal.pause())
    found = {each.check: each for each in doctor.examine(str(tmp_path), limit_s=10.0)}
    assert found["version"].state == "ok"
    assert (found["kernel"].state, found["project"].state) == ("warning", "wrong")
    assert "hangs" in found["kernel"].said
    assert "/x: Input/output error" in found["passthrough"].said


def test_answers_are_those_of_the_questions_in_their_order() -> None:
    long = b"x" * 300_000
    questions = [functools.partial(_write_all, data) for data in (b"a", b"", long)]
    assert ask_all(questions, 60.0) == [b"a", b"", long]


def test_a_child_that_hangs_holds_no_output_open() -> None:
    outputs = [
        functools.partial(lambda number, fd: os.write(fd, os.readlink(f"/proc/self/fd/{number}").encode()), number)
        for number in (0, 1, 2)
    ]
    assert ask_all(outputs, 60.0) == [b"/dev/null"] * 3  # type: ignore[arg-type]


def _write_all(data: bytes, fd: int) -> None:
    while data:
        data = data[os.write(fd, data) :]
