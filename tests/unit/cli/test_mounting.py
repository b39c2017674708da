"""Mount options, mount points, the registry and the search for holders, all without mounting."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from sigfs.api.project import init_project
from sigfs.cli import app, mounted, registry
from sigfs.cli.logs import prune_logs
from sigfs.cli.options import parse_options
from sigfs.cli.output import printable
from sigfs.errors import MountError, MountPointError
from sigfs.mount import MountReport, report_from_json, report_to_json
from sigfs.mount.points import check_mountpoint, probe
from sigfs.query import parse_text
from sigfs.transports.mounts import Mount, resolve_mountpoint


def test_options_are_those_of_mount() -> None:
    assert parse_options([]) == {}
    assert parse_options(["ro,rw", "passthrough,nopassthrough,allow_other"]) == {
        "read_only": False,
        "passthrough": False,
        "allow_other": True,
    }
    assert parse_options(["coherent"]) == {"coherent": True}
    assert parse_options(["transport=llfuse,layout=full,entry_timeout=2.5,attr_timeout=0"]) == {
        "transport": "llfuse",
        "layout": "full",
        "entry_timeout_s": 2.5,
        "attr_timeout_s": 0.0,
    }


def test_a_filter_may_be_an_option() -> None:
    assert parse_options(["ro,filter=foo 42"]) == {"read_only": True, "filter": parse_text("foo 42")}


def test_flags_of_the_kernel_are_handed_on_and_words_for_others_ignored() -> None:
    assert parse_options(["defaults,_netdev,nofail,x-systemd.automount,x-a=b,comment=c,user"]) == {}
    assert parse_options(["noexec,nosuid", "noexec,,"]) == {"options": ("noexec", "nosuid")}


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("alow_other", "allow_other"),
        ("entry_timeuot=1", "entry_timeout"),
        ("fsname=x", "project's path"),
        ("auto_unmount", "clears it"),
        ("nonempty", "hide"),
        ("entry_timeout=x", "seconds"),
        ("entry_timeout=-1", "seconds"),
        ("attr_timeout=nan", "seconds"),
        ("attr_timeout", "seconds"),
        ("attr_timeout=1e9", "less than 1,000,000,000"),
        ("filter=a@in [1,2]", "--filter"),
        ("filter=a 1,b 2", "--filter"),
        ("layout=hive2", "auto, full"),
        ("transport=nfs", "kernel"),
        ("ro=1", "no value"),
        ("zzz", "no option"),
    ],
)
def test_impossible_options_say_what_is_possible(text: str, hint: str) -> None:
    with pytest.raises(click.BadParameter, match=hint):
        parse_options([text])


@pytest.fixture
def workspace(tmp_path: Path) -> str:
    init_project(str(tmp_path / "project"))
    return str(tmp_path / "project" / "workspace")


def refusal(path: object, workspace: str) -> str:
    with pytest.raises(MountPointError) as caught:
        check_mountpoint(str(path), workspace)
    return str(caught.value)


def test_every_unfit_mount_point_has_its_own_message(tmp_path: Path, workspace: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    (tmp_path / "project" / "workspace" / "empty").mkdir()
    messages = [
        refusal(tmp_path / "none", workspace),
        refusal(tmp_path / "file", workspace),
        refusal(tmp_path / "full", workspace),
        refusal(tmp_path / "project" / "workspace" / "empty", workspace),
        refusal(tmp_path / "project", workspace),
    ]
    for message, words in zip(
        messages,
        ["mkdir", "not a directory", "not empty", "inside the workspace", "contains the workspace"],
        strict=True,
    ):
        assert words in message
    assert len(set(messages)) == len(messages)


def test_a_fit_mount_point_is_made_absolute_and_free_of_links(
    tmp_path: Path, workspace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mnt").mkdir()
    (tmp_path / "link").symlink_to("mnt")
    monkeypatch.chdir(tmp_path)
    assert check_mountpoint("link", workspace) == (str(tmp_path / "mnt"), ())
    assert resolve_mountpoint("link/../mnt/.") == str(tmp_path / "mnt")
    assert resolve_mountpoint("/") == "/"


def test_mounting_at_an_unfit_place_exits_with_its_code(
    tmp_path: Path, workspace: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # umount leaves it
    assert app.run(["mount", str(tmp_path / "project"), str(tmp_path / "none")]) == 5
    assert "mkdir" in capsys.readouterr().err
    assert app.run(["mount", "/", str(tmp_path / "none")]) == 3
    assert app.run(["mount", "a", "b", "c"]) == 2
    capsys.readouterr()
    assert app.run(["mount", str(tmp_path / "project")]) == 2
    assert f"sigfs mount {tmp_path}/project MNT" in capsys.readouterr().err
    assert app.run(["mount", "--filter", "a@zz 1", str(tmp_path / "project"), str(tmp_path / "none")]) == 2
    assert app.run(["umount", str(tmp_path)]) == 5
    assert app.run(["umount"]) == 2
    assert app.run(["status", str(tmp_path)]) == 1


def test_a_directory_that_answers_is_alive(tmp_path: Path) -> None:
    assert probe(str(tmp_path), 20).health == "alive"


def test_a_report_survives_the_pipe() -> None:
    report = MountReport("/p", None, 3, (("a", 2), ("\udcff", 1)), ("a", "x y"), 1, "fanotify")
    line = report_to_json(report)
    assert "\n" not in line
    assert line.isascii()
    assert report_from_json(line) == report


@pytest.fixture
def registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> registry.Registration:
    monkeypatch.setattr(registry, "directories", lambda: [str(tmp_path / "run")])
    started = registry.start_time(os.getpid())
    assert started is not None
    return registry.Registration(
        os.getpid(), started, "/mnt", "/project", "auto", "", "kernel", read_only=False, log_file=None
    )


def test_a_registered_mount_is_found_until_unregistered(registered: registry.Registration) -> None:
    assert list(registry.registrations()) == []
    path = registry.register(registered)
    assert registry.find_registration("/mnt") == registered
    assert registry.find_registration("/other") is None
    registry.unregister(path)
    assert list(registry.registrations()) == []


def test_a_reused_process_number_is_recognised_and_swept(registered: registry.Registration, tmp_path: Path) -> None:
    from dataclasses import replace

    registry.register(replace(registered, started=registered.started - 1))
    assert len(os.listdir(tmp_path / "run")) == 1
    assert list(registry.registrations()) == []
    assert os.listdir(tmp_path / "run") == []


def test_a_directory_that_others_may_write_to_is_not_believed(
    registered: registry.Registration, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    registry.register(registered)
    os.chmod(tmp_path / "run", 0o777)
    assert list(registry.registrations()) == []
    assert registry.register(registered) is None
    assert "somebody else" in caplog.text


def test_a_mount_is_found_wherever_its_server_could_register(
    registered: registry.Registration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = [str(tmp_path / "missing" / "run"), str(tmp_path / "open"), str(tmp_path / "last" / "run")]
    os.mkdir(places[1])
    os.chmod(places[1], 0o777)
    monkeypatch.setattr(registry, "directories", lambda: places)
    assert registry.register(registered) == os.path.join(places[2], f"{registry._boot()}-{os.getpid()}.json")
    monkeypatch.setattr(registry, "directories", lambda: places[::-1])
    assert list(registry.registrations()) == [registered]


def test_the_registry_knows_more_than_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    known = registry.directories()
    assert f"/run/user/{os.geteuid()}/sigfs" in known
    assert known[-2:] == [f"{tmp_path}/sigfs", f"{tmp_path}/state/sigfs/run"]


def test_old_logs_are_removed(registered: registry.Registration, tmp_path: Path) -> None:
    from dataclasses import replace

    logs = tmp_path / "log"
    logs.mkdir()
    for name in ("old.log", "old.log.1", "used.log", "other"):
        (logs / name).touch()
        os.utime(logs / name, (0, 0))
    (logs / "new.log").touch()
    registry.register(replace(registered, log_file=str(logs / "used.log")))
    prune_logs(str(logs))
    assert sorted(os.listdir(logs)) == ["new.log", "other", "used.log"]


def test_foreign_files_in_the_registry_are_ignored(registered: registry.Registration, tmp_path: Path) -> None:
    registry.register(registered)
    (tmp_path / "run" / f"{registry._boot()}-1.json").write_text("{")
    (tmp_path / "run" / f"{registry._boot()}-2.json").write_text('{"pid": 1}')
    (tmp_path / "run" / "other-host-3.json").write_text("{}")
    assert list(registry.registrations()) == [registered]


def test_a_process_that_has_ended_has_no_start_time() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
        assert registry.start_time(process.pid) is None


@pytest.mark.parametrize(
    ("program", "use"),
    [
        ("import os; os.chdir(sys.argv[1])", "working directory"),
        ("file = open(sys.argv[1] + '/file', 'rb')", "open: "),
        ("import mmap; f = open(sys.argv[1] + '/file', 'rb'); m = mmap.mmap(f.fileno(), 0, prot=1); f.close()", "file"),
    ],
)
def test_holders_are_found_by_how_they_use_a_directory(tmp_path: Path, program: str, use: str) -> None:
    (tmp_path / "file").write_bytes(b"x" * mmap.PAGESIZE)
    source = f"import sys; {program}; print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", source, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = {holder.pid: holder for holder in mounted.find_holders(str(tmp_path))}
        process.kill()
    assert use in ", ".join(found[process.pid].uses)
    assert found[process.pid].name.startswith("python")


def test_a_neighbour_with_a_longer_name_is_no_holder(tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    (tmp_path / "mnt2").mkdir()
    command = [sys.executable, "-c", "print(flush=True); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path / "mnt2") as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = [holder.pid for holder in mounted.find_holders(str(tmp_path / "mnt"))]
        process.kill()
    assert process.pid not in found


def test_without_a_visible_holder_the_message_fits_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounted, "find_holders", lambda _mountpoint: iter(()))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert "another mount namespace" in mounted._busy("mnt", "/mnt")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "try again as root" in mounted._busy("mnt", "/mnt")


def test_a_server_that_takes_long_to_end_is_named(
    registered: registry.Registration, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mount = Mount("/mnt", 0, "fuse.sigfs", "/project", frozenset())
    monkeypatch.setattr(mounted, "mounted", lambda _path: mount)
    monkeypatch.setattr(mounted, "unmount", lambda *_arguments: None)
    monkeypatch.setattr(mounted, "PATIENCE_S", 0.0)
    monkeypatch.setattr(mounted, "EXIT_S", 0.05)
    registry.register(registered)  # this process, which does not end
    with pytest.raises(MountError, match="has not ended"):
        mounted._umount("mnt", "/mnt", lazy=False)
    assert capsys.readouterr().err == f"sigfs: waiting for process {os.getpid()}, which serves mnt, to end\n"


def test_control_characters_do_not_reach_a_table() -> None:
    assert printable("a\nb\x1b\u2028") == "a\\nb\\x1b\\u2028"
    assert printable("ä\udcff") == "ä\udcff"
