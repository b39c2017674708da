"""Where a mount of one's own is forbidden, the message names what forbids it; and who owns what in one."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from sigfs.errors import FuseUnavailable
from sigfs.mount import private
from sigfs.transports.kernel import mounting
from sigfs.transports.kernel.protocol import Owner


@pytest.mark.parametrize(
    ("path", "value", "remedy"),
    [
        ("kernel/unprivileged_userns_clone", "0", "sysctl -w kernel.unprivileged_userns_clone=1"),
        (
            "kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        ("user/max_user_namespaces", "0", "sysctl -w user.max_user_namespaces="),
    ],
)
def test_what_forbids_user_namespaces_is_named_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, value: str, remedy: str
) -> None:
    monkeypatch.setattr(private, "_SYSCTL", str(tmp_path))
    assert private.obstacles() == []
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text(f"{value}\n")
    (said,) = private.obstacles()
    assert said.startswith(f"{path.replace('/', '.')} is {value}; root may change that: ")
    assert remedy in said
    (tmp_path / path).write_text("7\n")
    assert private.obstacles() == []


@pytest.mark.parametrize(
    ("number", "why"),
    [
        (errno.EPERM, "Operation not permitted.*container"),
        (errno.ENOSPC, "user.max_user_namespaces allows"),
        (errno.EINVAL, "CONFIG_USER_NS"),
    ],
)
def test_where_no_sysctl_forbids_them_the_likely_reason_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, why: str
) -> None:
    class Refusing:
        def unshare(self, flags: int) -> int:
            assert flags == private._NEW_MOUNTS | private._NEW_USERS
            return -1

    monkeypatch.setattr(private, "_SYSCTL", str(tmp_path))
    monkeypatch.setattr(private, "libc", Refusing)
    monkeypatch.setattr(private, "may_mount", lambda: False)
    monkeypatch.setattr(private.ctypes, "get_errno", lambda: number)
    with pytest.raises(FuseUnavailable, match=f"no user namespace can be had here .*{why}"):
        private.enter()


def test_a_kernel_that_mounts_no_fuse_for_users_is_named() -> None:
    assert "Linux 4.18" in mounting._explain_refusal(PermissionError(errno.EPERM, "Operation not permitted", "mount"))
    said = mounting._explain_refusal(PermissionError(errno.EACCES, "Permission denied", "/dev/fuse"))
    assert said.endswith("chmod 666 /dev/fuse")


@pytest.mark.parametrize(
    ("uid", "gid", "mode", "shown"),
    [
        (1000, 100, 0o100644, (1000, 100)),
        (1000, 65534, 0o100660, (1000, 100)),
        (65534, 65534, 0o100664, (1000, 100)),
        (65534, 65534, 0o041777, (1000, 100)),
        (65534, 65534, 0o100640, (65534, 100)),
        (65534, 100, 0o100600, (65534, 100)),
    ],
)
def test_what_others_may_write_has_an_owner_that_the_kernel_lets_write(
    uid: int, gid: int, mode: int, shown: tuple[int, int]
) -> None:
    assert Owner(65534, 65534, 1000, 100).shown(uid, gid, mode) == shown
