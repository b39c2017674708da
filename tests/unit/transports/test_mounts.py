"""Reading the mount table, and unmounting what is not there."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from sigfs.errors import MountBusy, MountError
from sigfs.transports import mounts as module
from sigfs.transports.mounts import mounted, mounts, parse_mountinfo, unmount

if TYPE_CHECKING:
    from pathlib import Path

TABLE = r"""22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
40 22 0:39 / /mnt/with\040space rw,nosuid,nodev - fuse.sigfs /data/a\134b,c ro,user_id=0
41 22 0:40 / /mnt/one rw shared:3 master:1 - tmpfs tmpfs rw
42 41 0:41 / /mnt/one rw - fuse.sigfs /data/two rw
nonsense
"""


def test_the_mount_table_is_read_with_escapes_and_optional_fields() -> None:
    root, spaced, lower, upper = parse_mountinfo(TABLE)
    assert root.mountpoint == "/"
    assert spaced.mountpoint == "/mnt/with space"
    assert spaced.source == "/data/a\\b,c"
    assert spaced.type == "fuse.sigfs"
    assert {"nosuid", "ro"} <= spaced.options
    assert (lower.type, upper.type) == ("tmpfs", "fuse.sigfs")
    assert upper.device == os.makedev(0, 41)


def test_the_topmost_mount_at_a_place_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "mounts", lambda: parse_mountinfo(TABLE))
    found = mounted("/mnt/one/")
    assert found is not None
    assert found.source == "/data/two"
    assert mounted("/mnt") is None


def test_a_link_to_a_mount_point_is_followed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    line = f"42 41 0:41 / {tmp_path.resolve()}/real rw - fuse.sigfs /data rw\n"
    monkeypatch.setattr(module, "mounts", lambda: parse_mountinfo(line))
    assert mounted(str(tmp_path / "link")) is not None
    assert mounted(str(tmp_path)) is None


def test_the_root_directory_is_always_mounted() -> None:
    assert mounted("/") is not None
    assert "/proc" in {mount.mountpoint for mount in mounts()}


def test_an_ordinary_directory_cannot_be_unmounted(tmp_path: Path) -> None:
    with pytest.raises(MountError):
        unmount(str(tmp_path))


@pytest.mark.parametrize(
    ("said", "error"),
    [("fusermount3: failed to unmount /m: Device or resource busy", MountBusy), ("no", MountError)],
)
def test_what_fusermount_says_becomes_an_exception(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: str, error: type[Exception]
) -> None:
    helper = tmp_path / "fusermount3"
    helper.write_text(f"#!/bin/sh\necho '{said}' >&2; exit 1\n")
    helper.chmod(helper.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(module, "_umount2", lambda *_: 1)
    with pytest.raises(error):
        unmount(str(tmp_path))


def test_fusermount_is_told_to_be_lazy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    helper = tmp_path / "fusermount3"
    helper.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/said\n')
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(module, "_umount2", lambda *_: 1)
    unmount(str(tmp_path / "m"), lazy=True)
    assert (tmp_path / "said").read_text() == f"-u -z -- {tmp_path}/m\n"
