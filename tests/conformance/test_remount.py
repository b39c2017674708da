"""mount -o remount: the kernel turns a mount from writable to read-only and back without asking its server."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from sigfs.errors import MountBusy, MountError
from sigfs.transports.mounts import remount
from tests.support.drivers import STATEPOINTS
from tests.support.projects import make_project
from tests.support.server import Server
from tests.support.wait import wait_until

NOT_ON = ("plain", "direct")


def is_read_only(server: Server) -> bool:
    said = json.loads(os.getxattr(server.mountpoint, "user.sigfs.status"))["read_only"]
    assert isinstance(said, bool)
    return said


def test_a_mount_becomes_writable_and_read_only_again(driver: str, tmp_path: Path) -> None:
    project = make_project(str(tmp_path / "project"), *STATEPOINTS)
    server = Server(driver, project, "ro", "noexec")
    try:
        server.start()
        path = os.path.join(server.mountpoint, "n", str(STATEPOINTS[0]["n"]), "data")
        with pytest.raises(OSError, match="Read-only") as caught:
            Path(path).write_bytes(b"x")
        assert caught.value.errno == errno.EROFS
        assert is_read_only(server)
        sidecar = Path(project, ".sigfs", "sidecar", "jobs.jsonl")
        assert not sidecar.exists()
        if os.geteuid() != 0:
            with pytest.raises(MountError, match="only root"):
                remount(server.mountpoint, ["rw"])
            return
        remount(server.mountpoint, ["rw"])
        assert not is_read_only(server)
        assert os.statvfs(server.mountpoint).f_flag & os.ST_NOEXEC  # the other flags stay
        with open(path, "wb") as file:
            file.write(b"written")
            file.flush()
            with pytest.raises(MountBusy, match="open for writing"):
                remount(server.mountpoint, ["ro"])
        os.mkdir(os.path.join(os.path.dirname(path), "directory"))
        wait_until(sidecar.exists)  # what a mount keeps that may write
        remount(server.mountpoint, ["ro", "exec"])
        assert is_read_only(server)
        assert not os.statvfs(server.mountpoint).f_flag & os.ST_NOEXEC
        for change in (lambda: os.unlink(path), lambda: os.chmod(path, 0o600), lambda: os.open(path, os.O_RDWR)):
            with pytest.raises(OSError, match="Read-only"):
                change()
        assert Path(path).read_bytes() == b"written"
        server.stop()
    finally:
        server.kill()
