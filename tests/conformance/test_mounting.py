"""A mount from its beginning to its end, over each transport."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support.drivers import STATEPOINTS
from tests.support.outcome import has_failed
from tests.support.projects import job_id, make_project
from tests.support.server import FS_TYPE, Server, mount_type, unmount
from tests.support.wait import wait_until

NOT_ON = ("plain", "direct")


@pytest.fixture
def project(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_project(str(tmp_path_factory.mktemp("base") / "with space, comma"), *STATEPOINTS)


@pytest.fixture
def server(request: pytest.FixtureRequest, driver: str, project: str) -> Iterator[Server]:
    """A server that the test stops itself, or leaves running."""
    made = Server(driver, project)
    made.start()
    try:
        yield made
        if made.process is not None and made.process.poll() is None and not has_failed(request.node):
            made.stop()
    finally:
        made.kill()


def test_the_mount_is_listed_with_its_type_its_project_and_the_kernels_checks(server: Server) -> None:
    assert mount_type(server.mountpoint) == FS_TYPE
    found = subprocess.run(
        ["findmnt", "-rno", "SOURCE,FSTYPE,OPTIONS", server.mountpoint], capture_output=True, text=True, check=True
    )
    source, kind, options = found.stdout.split()
    assert source.replace(r"\x20", " ") == server.project
    assert kind == FS_TYPE
    assert {"default_permissions", "nosuid", "nodev", "rw"} <= set(options.split(","))


def test_the_tree_leads_to_the_jobs(server: Server) -> None:
    assert os.listdir(server.mountpoint) == ["n"]
    assert sorted(os.listdir(os.path.join(server.mountpoint, "n"))) == ["0", "1"]
    with open(os.path.join(server.mountpoint, "n/1/signac_statepoint.json"), encoding="utf-8") as file:
        assert file.read() == '{"n": 1}'


def test_a_lookup_that_leads_nowhere_says_enoent_and_virtual_directories_hold_no_files(server: Server) -> None:
    for path in ("x", "n/2", "n/0/missing"):
        with pytest.raises(FileNotFoundError):
            os.stat(os.path.join(server.mountpoint, path))
    for place in ("", "n"):
        new = os.path.join(server.mountpoint, place, "new")
        with pytest.raises(PermissionError):
            open(new, "xb").close()
        with pytest.raises(PermissionError):
            os.symlink("target", new)
        assert not os.path.lexists(new)
    with pytest.raises(OSError, match="not empty"):
        os.rmdir(os.path.join(server.mountpoint, "n"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_unmounts_and_ends_the_server_well(server: Server, number: signal.Signals) -> None:
    assert server.process is not None
    os.kill(server.process.pid, number)
    assert server.process.wait(60) == 0, server.log()
    assert mount_type(server.mountpoint) is None


def test_a_mount_in_use_is_not_unmounted_and_goes_on(server: Server) -> None:
    with open(os.path.join(server.mountpoint, "n/0/file"), "w+b") as file:
        with pytest.raises(subprocess.CalledProcessError) as caught:
            unmount(server.mountpoint)
        assert b"busy" in caught.value.stderr.lower()
        file.write(b"still there")
    assert os.path.getsize(os.path.join(server.mountpoint, "n/0/file")) == 11


def test_an_open_file_outlives_a_lazy_unmount_and_the_server_ends_after_it(server: Server) -> None:
    with open(os.path.join(server.mountpoint, "n/0/file"), "w+b", 0) as file:
        unmount(server.mountpoint, lazy=True)
        assert mount_type(server.mountpoint) is None
        file.write(b"late")
        file.seek(0)
        assert file.read() == b"late"
    assert server.process is not None
    assert server.process.wait(60) == 0, server.log()
    below = os.path.join(server.project, "workspace", job_id({"n": 0}), "file")
    assert os.path.getsize(below) == 4


def test_a_killed_server_leaves_an_error_and_not_an_empty_directory(server: Server) -> None:
    assert server.process is not None
    server.process.kill()
    server.process.wait()
    with pytest.raises(OSError, match="not connected"):
        os.listdir(server.mountpoint)
    again = Server(server.transport, server.project)
    again.mountpoint, empty = server.mountpoint, again.mountpoint
    os.rmdir(empty)
    again.start()  # which clears the dead mount away
    try:
        assert os.listdir(again.mountpoint) == ["n"]
    finally:
        again.stop()
        os.mkdir(server.mountpoint)  # the fixture removes it


def test_a_working_directory_in_the_mount_keeps_working(server: Server) -> None:
    script = "import os\nprint(os.getcwd())\nopen('file', 'w').close()\nprint(os.listdir('.') != [])"
    place = os.path.join(server.mountpoint, "n/0")
    done = subprocess.run([sys.executable, "-c", script], cwd=place, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [place, "True"]


def test_a_job_made_below_appears_and_a_job_removed_below_disappears(server: Server) -> None:
    from tests.support.projects import add_job

    path = add_job(server.project, {"n": 7})
    wait_until(lambda: os.path.exists(os.path.join(server.mountpoint, "n/7/signac_statepoint.json")))
    assert sorted(os.listdir(os.path.join(server.mountpoint, "n"))) == ["0", "1", "7"]
    os.unlink(os.path.join(path, "signac_statepoint.json"))
    os.rmdir(path)
    # The name is gone with the directory below, the entry when the index has heard of it.
    wait_until(lambda: sorted(os.listdir(os.path.join(server.mountpoint, "n"))) == ["0", "1"])
    wait_until(lambda: not os.path.exists(os.path.join(server.mountpoint, "n/7")))
