"""INIT, notifications, passthrough's books, what is asked of mount(2) and fusermount3: no mount, no kernel."""

# ruff: noqa: ARG002  (fakes have the signatures of the real thing)
from __future__ import annotations

import errno
import logging
import os
import threading
from typing import TYPE_CHECKING

import pytest

from sigfs.errors import FuseUnavailable, MountError, MountPointError
from sigfs.transports.base import MountSpec
from sigfs.transports.kernel import Transport, mounting
from sigfs.transports.kernel import protocol as p
from sigfs.transports.kernel.device import Device
from sigfs.transports.kernel.negotiation import BUFFER_BYTES, WANTED, negotiate
from sigfs.transports.kernel.notify import KernelNotifier
from sigfs.transports.kernel.passthrough import CACHED, Passthrough
from sigfs.transports.kernel.pool import Pool
from sigfs.transports.kernel.protocol import Init, Notification, Opcode
from sigfs.transports.kernel.server import Server
from sigfs.vfs.types import ROOT, Inode

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    Pair = tuple[socket.socket, socket.socket]

EVERYTHING = Init(0)
for _flag in Init:
    EVERYTHING |= _flag


def send_init(sock: socket.socket, minor: int, flags: int, major: int = 7, readahead: int = 131072) -> None:
    body = p.INIT_IN.pack(major, minor, readahead, flags & 0xFFFFFFFF)
    if flags & Init.INIT_EXT:
        body += p.INIT_IN_FLAGS2.pack(flags >> 32) + bytes(44)
    sock.send(p.IN_HEADER.pack(40 + len(body), Opcode.INIT, 1, 0, 0, 0, 0, 0, 0) + body)


def receive_init(sock: socket.socket) -> tuple[int, ...]:
    message = sock.recv(1000)
    assert p.OUT_HEADER.unpack_from(message) == (80, 0, 1)
    fields: tuple[int, ...] = p.INIT_OUT.unpack_from(message, 16)
    return fields


# -- INIT --------------------------------------------------------------------------------------------------------


def test_layouts_have_the_sizes_of_the_protocol() -> None:
    sizes = {
        p.IN_HEADER: 40,
        p.OUT_HEADER: 16,
        p.INIT_OUT: 64,
        p.ENTRY: 128,
        p.ATTR: 104,
        p.SETATTR_IN: 88,
        p.READ_IN: 40,
        p.WRITE_IN: 40,
        p.STATFS_OUT: 80,
        p.RELEASE_IN: 24,
        p.OPEN_OUT: 16,
        p.FALLOCATE_IN: 32,
        p.LSEEK_IN: 24,
        p.COPY_FILE_RANGE_IN: 56,
        p.DIRENT: 24,
        p.INVAL_INODE_OUT: 24,
        p.INVAL_ENTRY_OUT: 16,
        p.BACKING_MAP: 16,
        p.SETXATTR_EXT_IN: 16,
        p.GETATTR_IN: 16,
        p.RENAME2_IN: 16,
    }
    assert {layout.format: layout.size for layout in sizes} == {layout.format: size for layout, size in sizes.items()}


def test_everything_wanted_is_taken_from_a_kernel_that_offers_everything(pair: Pair) -> None:
    send_init(pair[0], 99, EVERYTHING)
    session = negotiate(Device(pair[1].fileno()), passthrough=True)
    major, minor, readahead, flags, _, _, max_write, grain, pages, _, flags2, depth = receive_init(pair[0])
    assert (major, minor, readahead, grain) == (7, 45, 131072, 1)
    assert flags | flags2 << 32 == WANTED | Init.PASSTHROUGH == session.flags
    assert depth == 1
    assert max_write == pages * 4096 == BUFFER_BYTES - 8192
    for unwanted in (Init.WRITEBACK_CACHE, Init.NO_OPENDIR_SUPPORT):
        assert not session.has(unwanted)


def test_nothing_is_taken_that_is_not_offered(pair: Pair) -> None:
    send_init(pair[0], 31, Init.ASYNC_READ | Init.WRITEBACK_CACHE)
    session = negotiate(Device(pair[1].fileno()), passthrough=True)
    _, minor, _, flags, *_, flags2, depth = receive_init(pair[0])
    assert (minor, flags, flags2, depth) == (31, Init.ASYNC_READ, 0, 0)
    assert not session.has(Init.PASSTHROUGH)


def test_passthrough_is_left_alone_unless_asked_for(pair: Pair) -> None:
    send_init(pair[0], 45, EVERYTHING)
    assert not negotiate(Device(pair[1].fileno()), passthrough=False).has(Init.PASSTHROUGH)
    assert receive_init(pair[0])[-1] == 0


@pytest.mark.parametrize(("major", "minor"), [(7, 30), (6, 99)])
def test_an_old_kernel_is_refused_with_a_remedy(pair: Pair, major: int, minor: int) -> None:
    send_init(pair[0], minor, 0, major)
    with pytest.raises(FuseUnavailable, match=r"FUSE \d\.\d+.*transport=llfuse"):
        negotiate(Device(pair[1].fileno()), passthrough=False)
    assert p.OUT_HEADER.unpack(pair[0].recv(100)) == (16, -errno.EPROTO, 1)


def test_a_kernel_of_the_next_major_version_is_told_ours_and_asks_again(pair: Pair) -> None:
    send_init(pair[0], 0, 0, major=8)
    send_init(pair[0], 45, 0)
    assert negotiate(Device(pair[1].fileno()), passthrough=False).minor == 45
    assert receive_init(pair[0])[:2] == (7, 45)
    assert receive_init(pair[0])[:2] == (7, 45)


def test_a_connection_that_ends_before_init_is_an_error(pair: Pair) -> None:
    pair[0].close()
    with pytest.raises(FuseUnavailable):
        negotiate(Device(pair[1].fileno()), passthrough=False)


# -- notifications -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("expire_only", [True, False])
def test_invalidations_are_sent_in_order_from_a_thread_of_their_own(pair: Pair, expire_only: bool) -> None:
    notifier = KernelNotifier()
    notifier.invalidate_entry(ROOT, "caf\u00e9")
    notifier.invalidate_inode(Inode(7))
    notifier.invalidate_inode(Inode(7))
    notifier.start(Device(pair[1].fileno()), expire_only=expire_only)
    name = "caf\u00e9".encode()
    entry = p.INVAL_ENTRY_OUT.pack(1, len(name), int(expire_only)) + name + b"\0"
    expected = p.OUT_HEADER.pack(16 + len(entry), Notification.INVAL_ENTRY, 0) + entry
    assert pair[0].recv(1000) == expected
    assert pair[0].recv(1000) == p.OUT_HEADER.pack(40, Notification.INVAL_INODE, 0) + p.INVAL_INODE_OUT.pack(7, 0, 0)
    notifier.invalidate_inode(Inode(8))
    assert pair[0].recv(1000)[16:24] == p.U64.pack(8)
    notifier.invalidate_attributes(Inode(9))
    assert pair[0].recv(1000)[16:] == p.INVAL_INODE_OUT.pack(9, -1, 0)
    assert notifier.stop(30)
    assert notifier.sent == 4


class RefusingDevice(Device):
    def __init__(self, *numbers: int) -> None:
        super().__init__(-1)
        self.numbers = list(numbers)
        self.asked = 0
        self.done = threading.Event()

    def notify(self, code: Notification, payload: bytes) -> None:
        self.asked += 1
        if not self.numbers:
            self.done.set()
            return
        raise OSError(self.numbers.pop(0), "refused")


def test_a_node_that_the_kernel_does_not_hold_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    device, notifier = RefusingDevice(errno.ENOENT, errno.ENOENT), KernelNotifier()
    notifier.start(device, expire_only=True)
    for number in range(3):
        notifier.invalidate_inode(Inode(number))
    assert device.done.wait(60)
    assert notifier.stop(30)
    assert caplog.records == []


def test_the_notifier_ends_with_the_connection() -> None:
    device, notifier = RefusingDevice(errno.ENODEV), KernelNotifier()
    notifier.invalidate_inode(Inode(1))
    notifier.invalidate_inode(Inode(2))
    notifier.start(device, expire_only=True)
    assert notifier.stop(30)
    assert device.asked == 1


# -- passthrough -------------------------------------------------------------------------------------------------


class FakeIoctl:
    """The kernel's side of BACKING_OPEN and BACKING_CLOSE."""

    def __init__(self, refusal: int = 0) -> None:
        self.refusal = refusal
        self.live: set[int] = set()
        self.made = 0

    def __call__(self, _fd: int, request: int, argument: bytes, _mutate: bool = True) -> int:
        if request == p.BACKING_OPEN:
            if self.refusal:
                raise OSError(self.refusal, os.strerror(self.refusal))
            self.made += 1
            self.live.add(self.made)
            return self.made
        assert request == p.BACKING_CLOSE
        self.live.remove(int.from_bytes(argument, "little"))
        return 0


@pytest.fixture
def ioctl(monkeypatch: pytest.MonkeyPatch) -> FakeIoctl:
    fake = FakeIoctl()
    monkeypatch.setattr("sigfs.transports.kernel.passthrough.fcntl.ioctl", fake)
    return fake


def test_a_node_keeps_one_backing_id_until_its_last_release(tmp_path: Path, ioctl: FakeIoctl) -> None:
    books = Passthrough(Device(-1), enabled=True)
    with (tmp_path / "a").open("wb") as file:
        first = books.opened(Inode(5), file.fileno)
        assert first != CACHED
        assert books.opened(Inode(5), file.fileno) == first
        books.released(Inode(5))
        assert ioctl.live == {first}
        books.released(Inode(5))
        assert ioctl.live == set()
        assert books.opened(Inode(5), file.fileno) != first


def test_a_node_opened_through_the_cache_stays_there_while_it_is_open(tmp_path: Path, ioctl: FakeIoctl) -> None:
    books = Passthrough(Device(-1), enabled=True)
    with (tmp_path / "a").open("wb") as file:
        assert books.opened(Inode(5), lambda: None) == CACHED
        assert books.opened(Inode(5), file.fileno) == CACHED
        books.released(Inode(5))
        books.released(Inode(5))
        assert books.opened(Inode(5), file.fileno) != CACHED


@pytest.mark.parametrize("number", [errno.EPERM, errno.ELOOP, errno.ENOTTY, errno.EOPNOTSUPP])
def test_a_refusal_is_told_once_and_ends_passthrough(
    tmp_path: Path, ioctl: FakeIoctl, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    caplog.set_level(logging.INFO)
    ioctl.refusal = number
    books = Passthrough(Device(-1), enabled=True)
    with (tmp_path / "a").open("wb") as file:
        assert books.opened(Inode(5), file.fileno) == CACHED
        assert books.opened(Inode(6), file.fileno) == CACHED
    assert not books.enabled
    assert [record.levelname for record in caplog.records] == ["INFO"]


@pytest.mark.parametrize("number", [errno.ENOMEM, errno.EISDIR])
def test_a_refusal_of_one_file_costs_one_open_only(tmp_path: Path, ioctl: FakeIoctl, number: int) -> None:
    books = Passthrough(Device(-1), enabled=True)
    with (tmp_path / "a").open("wb") as file:
        ioctl.refusal = number
        assert books.opened(Inode(5), file.fileno) == CACHED
        ioctl.refusal = 0
        assert books.opened(Inode(6), file.fileno) != CACHED


# -- the pool ----------------------------------------------------------------------------------------------------


def test_a_pool_starts_threads_only_when_needed_and_runs_everything() -> None:
    pool, done, gate = Pool(size=2), threading.Semaphore(0), threading.Event()
    assert pool.crew.workers() == []

    def task() -> None:
        gate.wait(60)
        done.release()

    for unique in range(10):
        pool.submit(unique, task)
    gate.set()
    for _ in range(10):
        assert done.acquire(timeout=60)
    assert len(pool.crew.workers()) == 2
    assert pool.close(30)


def test_a_task_that_raises_does_not_take_its_thread_along(caplog: pytest.LogCaptureFixture) -> None:
    pool, done = Pool(size=1), threading.Event()
    pool.submit(1, lambda: divmod(1, 0) and None)
    pool.submit(2, done.set)
    assert done.wait(60)
    assert pool.close(30)
    assert "ZeroDivisionError" in caplog.text


def test_closing_a_pool_reports_a_task_that_hangs() -> None:
    pool, gate, begun = Pool(), threading.Event(), threading.Event()

    def task() -> None:
        begun.set()
        gate.wait(60)

    pool.submit(1, task)
    assert begun.wait(60)
    assert not pool.close(0)
    gate.set()
    assert pool.close(30)


# -- mounting ----------------------------------------------------------------------------------------------------


def test_mounts_are_nosuid_and_nodev_unless_asked_otherwise() -> None:
    assert mounting.mount_flags(MountSpec("/m", "/s")) == 2 | 4
    assert mounting.mount_flags(MountSpec("/m", "/s", read_only=True)) == 1 | 2 | 4
    assert mounting.mount_flags(MountSpec("/m", "/s", options=("suid", "dev", "noexec", "noatime"))) == 8 | 1024


def test_the_helper_is_given_the_source_with_commas_and_backslashes_escaped() -> None:
    spec = MountSpec("/m", "/a,b\\c d", read_only=True, allow_other=True, options=("noexec", "defaults"))
    assert mounting.helper_options(spec) == (
        "fsname=/a\\,b\\\\c d,subtype=sigfs,default_permissions,ro,allow_other,nosuid,nodev,noexec"
    )


def test_without_fusermount_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounting, "may_mount", lambda: False)
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(FuseUnavailable, match="install the package fuse3"):
        mounting.connect(MountSpec("/m", "/s"))


def test_what_the_helper_says_is_passed_on_with_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    helper = tmp_path / "fusermount3"
    helper.write_text("#!/bin/sh\necho 'fusermount3: failed to open /dev/fuse: Permission denied' >&2; exit 1\n")
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(mounting, "may_mount", lambda: False)
    with pytest.raises(FuseUnavailable, match=r"Permission denied.*chmod 666"):
        mounting.connect(MountSpec(str(tmp_path), "/s"))


@pytest.mark.parametrize("name", ["missing", "file"])
def test_a_mount_point_must_be_a_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(mounting, "may_mount", lambda: False)
    monkeypatch.setattr(mounting, "fusermount", lambda: "/bin/false")
    with pytest.raises(MountPointError):
        mounting.connect(MountSpec(str(tmp_path / name), "/s"))


def test_a_helper_that_hands_nothing_over_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    helper = tmp_path / "fusermount3"
    helper.write_text("#!/bin/sh\nexit 0\n")
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(mounting, "may_mount", lambda: False)
    with pytest.raises(FuseUnavailable, match="no descriptor"):
        mounting.connect(MountSpec(str(tmp_path), "/s"))


def test_a_descriptor_is_taken_from_the_helper(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    helper = tmp_path / "fusermount3"
    helper.write_text(
        "#!/usr/bin/env python3\n"
        "import os, socket, sys\n"
        "options = 'fsname=/s,subtype=sigfs,default_permissions,nosuid,nodev'\n"
        f"assert sys.argv[1:] == ['-o', options, '--', {str(tmp_path)!r}]\n"
        "s = socket.socket(fileno=int(os.environ['_FUSE_COMMFD']))\n"
        f"socket.send_fds(s, [b'x'], [os.open({str(helper)!r}, os.O_RDONLY)])\n"
    )
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(mounting, "may_mount", lambda: False)
    fd, privileged = mounting.connect(MountSpec(str(tmp_path), "/s"))
    try:
        assert not privileged
        assert os.path.samestat(os.fstat(fd), helper.stat())
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)


# -- the transport, without a mount ------------------------------------------------------------------------------


def test_a_transport_never_mounted_has_statistics_and_closes_twice() -> None:
    transport = Transport(MountSpec("/nonexistent", "/s"))
    assert transport.statistics()["requests"] == 0
    assert transport.statistics()["passthrough"] is False
    with pytest.raises(MountError):
        transport.serve(None)  # type: ignore[arg-type]
    transport.close()
    transport.close()


def test_a_transport_whose_kernel_is_too_old_leaves_no_descriptor_open(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    send_init(pair[0], 20, 0)
    fd = os.dup(pair[1].fileno())
    monkeypatch.setattr(mounting, "connect", lambda _: (fd, True))
    transport = Transport(MountSpec(str(tmp_path), "/s"))
    with pytest.raises(FuseUnavailable):
        transport.mount()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    transport.close()


def test_a_transport_serves_until_the_connection_ends(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    send_init(pair[0], 45, EVERYTHING)
    fd = os.dup(pair[1].fileno())
    monkeypatch.setattr(mounting, "connect", lambda _: (fd, True))
    transport = Transport(MountSpec(str(tmp_path), "/s", passthrough=False))
    transport.mount()
    assert transport.can_notify
    receive_init(pair[0])
    pair[1].close()
    pair[0].send(p.IN_HEADER.pack(40, Opcode.DESTROY, 4, 1, 0, 0, 0, 0, 0))
    pair[0].shutdown(1)
    transport.serve(None)  # type: ignore[arg-type]
    assert transport.statistics()["requests_by_kind"] == {"destroy": 1}
    transport.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_a_server_that_is_torn_out_of_its_loop_leaves_nothing_open(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(_: Server) -> None:
        raise KeyboardInterrupt

    send_init(pair[0], 45, EVERYTHING)
    fd = os.dup(pair[1].fileno())
    monkeypatch.setattr(mounting, "connect", lambda _: (fd, True))
    monkeypatch.setattr(Server, "run", interrupted)
    transport = Transport(MountSpec(str(tmp_path), "/s"))
    transport.mount()
    with pytest.raises(KeyboardInterrupt):
        transport.serve(None)  # type: ignore[arg-type]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    transport.close()
