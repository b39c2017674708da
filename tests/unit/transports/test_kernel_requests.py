"""Requests as bytes, answered as bytes: no mount, no kernel."""

from __future__ import annotations

import errno
import logging
import os
import stat
import threading
from typing import TYPE_CHECKING

import pytest

from sigfs.transports.kernel import protocol as p
from sigfs.transports.kernel.protocol import Notification, Opcode
from sigfs.vfs.types import ROOT, Caller, DataCache, SetAttr
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from conftest import Served


def calls(served: Served, name: str) -> list[tuple[object, ...]]:
    return [call for call in served.operations.calls if call[0] == name]


def entries(listing: bytes, plus: bool = False) -> list[tuple[str, int, int, int]]:
    """Decode a listing: (name, ino, cookie after it, node id: 0 without attributes)."""
    found, at = [], 0
    while at < len(listing):
        node = 0
        if plus:
            (node,) = p.U64.unpack_from(listing, at)
            at += p.ENTRY.size
        ino, cookie, length, _ = p.DIRENT.unpack_from(listing, at)
        start = at + p.DIRENT.size
        found.append((os.fsdecode(listing[start : start + length]), ino, cookie, node))
        at = start + (length + 7 & ~7)
    return found


def readdir(served: Served, handle: int, cookie: int, size: int, opcode: int = Opcode.READDIR) -> bytes:
    reply = served.kernel.ask(opcode, ROOT, p.READ_IN.pack(handle, cookie, size, 0, 0, 0))
    assert reply.error == 0
    assert len(reply.body) <= size
    return reply.body


def opendir(served: Served) -> int:
    reply = served.kernel.ask(Opcode.OPENDIR, ROOT, p.OPEN_IN.pack(os.O_RDONLY, 0))
    return int(p.OPEN_OUT.unpack(reply.body)[0])


# -- names and references ----------------------------------------------------------------------------------------


def test_a_lookup_gives_the_attributes_and_takes_one_reference(served: Served) -> None:
    path = served.root / "a"
    path.write_bytes(b"12345")
    os.utime(path, ns=(-1_500_000_000, 7_000_000_003))
    reply = served.kernel.ask(Opcode.LOOKUP, ROOT, b"a\0")
    node, generation, entry_s, attr_s, entry_ns, attr_ns, *attr = p.ENTRY.unpack(reply.body)
    status = path.stat()
    assert (generation, entry_s, attr_s, entry_ns, attr_ns) == (0, 1, 1, 0, 0)
    assert attr[0] == status.st_ino
    assert attr[1] == 5
    assert attr[3:5] == [-2, 7]
    assert attr[6:8] == [500_000_000, 3]
    assert attr[9] == status.st_mode
    assert served.operations.references == {node: 1}


def test_all_that_is_known_of_a_file_is_told_with_the_time_of_its_making_if_that_is_known(served: Served) -> None:
    path = served.root / "a"
    path.write_bytes(b"12345")
    os.utime(path, ns=(-1_500_000_000, 7_000_000_003))
    node = served.kernel.lookup(b"a")
    for born_ns, mask in ((None, p.STATX_BASIC_STATS), (9_000_000_001, p.STATX_BASIC_STATS | p.STATX_BTIME)):
        served.operations.born_ns = born_ns
        reply = served.kernel.ask(Opcode.STATX, node, p.STATX_IN.pack(0, 0, 0, p.STATX_BTIME))
        assert p.STATX_OUT.unpack_from(reply.body) == (1, 0)
        found = p.STATX.unpack(reply.body[p.STATX_OUT.size :])
        status = path.stat()
        assert found[:8] == (
            *(mask, status.st_blksize, 0, 1, status.st_uid, status.st_gid),
            *(status.st_mode, status.st_ino),
        )
        assert found[8] == 5
        assert found[11:13] == (-2, 500_000_000)
        assert found[13:15] == (0, 0) if born_ns is None else (9, 1)
        assert found[17:19] == (7, 3)


def test_a_missing_name_is_no_entry(served: Served) -> None:
    assert served.kernel.ask(Opcode.LOOKUP, ROOT, b"none\0").error == errno.ENOENT


def test_a_missing_name_may_be_remembered_where_the_answer_says_so(served: Served) -> None:
    served.operations.absent["none"] = 1.5
    reply = served.kernel.ask(Opcode.LOOKUP, ROOT, b"none\0")
    node, _, entry_s, _, entry_ns, *_ = p.ENTRY.unpack(reply.body)
    assert (node, entry_s, entry_ns) == (0, 1, 500_000_000)
    assert served.operations.references == {}


def test_who_opens_a_directory_is_told_what_may_be_cached_of_its_listing(served: Served) -> None:
    flags = {}
    for listing in ("none", "fill", "keep"):
        served.operations.listing = listing  # type: ignore[assignment]
        reply = served.kernel.ask(Opcode.OPENDIR, ROOT, p.OPEN_IN.pack(os.O_RDONLY, 0))
        flags[listing] = p.OPEN_OUT.unpack(reply.body)[1]
    assert flags == {"none": 0, "fill": p.FOPEN_CACHE_DIR, "keep": p.FOPEN_CACHE_DIR | p.FOPEN_KEEP_CACHE}


@pytest.mark.parametrize("keep", [False, True])
def test_who_opens_a_file_is_told_what_may_be_believed_of_it(served: Served, keep: bool) -> None:
    (served.root / "a").touch()
    node = served.kernel.lookup(b"a")
    served.operations.data = DataCache(may_keep=keep, attributes_hold=keep)
    reply = served.kernel.ask(Opcode.OPEN, node, p.OPEN_IN.pack(os.O_RDONLY, 0))
    assert p.OPEN_OUT.unpack(reply.body)[1] == (p.FOPEN_KEEP_CACHE if keep else 0)
    told = [(Notification.INVAL_INODE, p.INVAL_INODE_OUT.pack(node, -1, 0))]
    assert served.kernel.notifications == ([] if keep else told)


def test_names_that_are_not_text_survive_the_way_in_and_out(served: Served) -> None:
    raw = b"\xff\xfe caf\xc3\xa9\n"
    reply = served.kernel.ask(Opcode.MKDIR, ROOT, p.MKDIR_IN.pack(0o755, 0) + raw + b"\0")
    assert reply.error == 0
    assert os.listdir(os.fsencode(served.root)) == [raw]
    assert os.fsdecode(raw) in [entry[0] for entry in entries(readdir(served, opendir(served), 0, 4096))]


def test_forget_gives_references_back_and_gets_no_answer(served: Served) -> None:
    (served.root / "a").touch()
    node = served.kernel.lookup(b"a")
    served.kernel.lookup(b"a")
    served.kernel.send(Opcode.FORGET, node, p.FORGET_IN.pack(2))
    served.kernel.sync()
    assert served.operations.references == {}


def test_batch_forget_gives_all_references_back_even_after_a_bad_one(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    nodes = []
    for name in ("a", "b"):
        (served.root / name).touch()
        nodes.append(served.kernel.lookup(name.encode()))
    body = p.BATCH_FORGET_IN.pack(3) + b"".join(p.FORGET_ONE.pack(node, 1) for node in (nodes[0], 999, nodes[1]))
    served.kernel.send(Opcode.BATCH_FORGET, 0, body)
    served.kernel.sync()
    assert served.operations.references == {}
    assert "KeyError" in caplog.text


@pytest.mark.parametrize(
    ("opcode", "body"),
    [
        (Opcode.LOOKUP, b"there\0"),
        (Opcode.MKDIR, p.MKDIR_IN.pack(0o755, 0) + b"new\0"),
        (Opcode.MKNOD, p.MKNOD_IN.pack(stat.S_IFREG | 0o644, 0, 0) + b"new\0"),
        (Opcode.SYMLINK, b"new\0target\0"),
        (Opcode.CREATE, p.CREATE_IN.pack(os.O_RDWR, 0o644, 0, 0) + b"new\0"),
        (Opcode.TMPFILE, p.CREATE_IN.pack(os.O_RDWR, 0o644, 0, 0) + b"/\0"),
        (Opcode.READDIRPLUS, None),
    ],
    ids=lambda value: value.name if isinstance(value, Opcode) else "",
)
def test_a_reply_that_the_kernel_does_not_take_leaves_no_reference_and_nothing_open(
    served: Served, opcode: int, body: bytes | None
) -> None:
    (served.root / "there").touch()
    handle = opendir(served)
    before = dict(served.operations.fds)
    served.device.dropped.add(served.kernel.next_unique)
    served.kernel.send(opcode, ROOT, p.READ_IN.pack(handle, 0, 4096, 0, 0, 0) if body is None else body)
    served.kernel.sync()
    assert served.operations.references == {}
    assert served.operations.fds == before


def test_a_dropped_open_is_released_and_counted_off(served: Served) -> None:
    (served.root / "a").touch()
    node = served.kernel.lookup(b"a")
    served.device.dropped.add(served.kernel.next_unique)
    served.kernel.send(Opcode.OPEN, node, p.OPEN_IN.pack(os.O_RDONLY, 0))
    served.kernel.sync()
    assert served.operations.fds == {}
    assert served.server.passthrough._opens == {}


def test_linking_and_renaming_address_both_directories(served: Served) -> None:
    (served.root / "d").mkdir()
    (served.root / "a").write_bytes(b"x")
    node, directory = served.kernel.lookup(b"a"), served.kernel.lookup(b"d")
    assert served.kernel.ask(Opcode.LINK, directory, p.LINK_IN.pack(node) + b"b\0").error == 0
    assert served.kernel.ask(Opcode.RENAME, ROOT, p.RENAME_IN.pack(directory) + b"a\0c\0").error == 0
    assert sorted(os.listdir(served.root / "d")) == ["b", "c"]
    body = p.RENAME2_IN.pack(directory, 2) + b"b\0c\0"
    assert served.kernel.ask(Opcode.RENAME2, directory, body).error == errno.EINVAL
    assert calls(served, "rename")[-1] == ("rename", "b", "c", 2)


def test_the_callers_umask_reaches_the_operation_and_not_the_mode(served: Served) -> None:
    assert served.kernel.ask(Opcode.MKDIR, ROOT, p.MKDIR_IN.pack(0o777, 0o027) + b"d\0").error == 0
    assert stat.S_IMODE((served.root / "d").stat().st_mode) == 0o750


def test_the_caller_is_who_sent_the_request(served: Served) -> None:
    served.kernel.send(Opcode.LOOKUP, ROOT, b"x\0", uid=4242)
    served.kernel.receive()
    assert calls(served, "lookup")[-1][3] == Caller(4242, 100, 99)


def test_symlinks_are_made_and_read(served: Served) -> None:
    assert served.kernel.ask(Opcode.SYMLINK, ROOT, b"s\0to here\0").error == 0
    assert served.kernel.ask(Opcode.READLINK, served.kernel.lookup(b"s")).body == b"to here"


def test_files_and_directories_are_removed(served: Served) -> None:
    (served.root / "d").mkdir()
    (served.root / "a").touch()
    assert served.kernel.ask(Opcode.UNLINK, ROOT, b"a\0").error == 0
    assert served.kernel.ask(Opcode.RMDIR, ROOT, b"d\0").error == 0
    assert served.kernel.ask(Opcode.RMDIR, ROOT, b"d\0").error == errno.ENOENT
    assert os.listdir(served.root) == []


# -- attributes --------------------------------------------------------------------------------------------------


def setattr_body(valid: int, **fields: int) -> bytes:
    names = [
        "fh",
        "size",
        "owner",
        "atime",
        "mtime",
        "ctime",
        "atimensec",
        "mtimensec",
        "ctimensec",
        "mode",
        "uid",
        "gid",
    ]
    return p.SETATTR_IN.pack(valid, *(fields.get(name, 0) for name in names))


@pytest.mark.parametrize(
    ("valid", "fields", "expected"),
    [
        (p.FATTR_MODE, {"mode": 0o100600}, SetAttr(mode=0o100600)),
        (p.FATTR_UID | p.FATTR_GID, {"uid": 0, "gid": 0}, SetAttr(uid=0, gid=0)),
        (p.FATTR_SIZE, {"size": 3}, SetAttr(size=3)),
        (p.FATTR_SIZE | p.FATTR_KILL_SUIDGID, {"size": 0}, SetAttr(size=0)),
        (p.FATTR_ATIME, {"atime": -2, "atimensec": 5}, SetAttr(atime_ns=-1_999_999_995)),
        (p.FATTR_MTIME, {"mtime": 9, "mtimensec": 1}, SetAttr(mtime_ns=9_000_000_001)),
        (p.FATTR_ATIME | p.FATTR_ATIME_NOW, {"atime": 4}, SetAttr(atime_ns="now")),
        (
            p.FATTR_ATIME | p.FATTR_MTIME | p.FATTR_MTIME_NOW,
            {"atime": 1},
            SetAttr(atime_ns=1_000_000_000, mtime_ns="now"),
        ),
        (0, {"mode": 1, "uid": 1, "size": 1, "atime": 1}, SetAttr()),
    ],
)
def test_setattr_changes_what_is_marked_valid_and_nothing_else(
    served: Served, valid: int, fields: dict[str, int], expected: SetAttr
) -> None:
    (served.root / "a").write_bytes(b"12345")
    node = served.kernel.lookup(b"a")
    reply = served.kernel.ask(Opcode.SETATTR, node, setattr_body(valid, **fields))
    assert reply.error == 0
    assert len(reply.body) == p.ATTR.size
    assert calls(served, "setattr")[-1] == ("setattr", node, expected, None)


def test_a_handle_is_passed_on_only_where_it_is_marked_valid(served: Served) -> None:
    (served.root / "a").touch()
    node = served.kernel.lookup(b"a")
    handle = served.kernel.open(node)
    served.kernel.ask(Opcode.GETATTR, node, p.GETATTR_IN.pack(0, handle))
    served.kernel.ask(Opcode.GETATTR, node, p.GETATTR_IN.pack(p.GETATTR_FH, handle))
    served.kernel.ask(Opcode.SETATTR, node, setattr_body(p.FATTR_FH | p.FATTR_SIZE, fh=handle, size=1))
    assert [call[2] for call in calls(served, "getattr")] == [None, handle]
    assert calls(served, "setattr")[-1][3] == handle


def test_statfs_tells_what_the_disk_below_says(served: Served) -> None:
    blocks, *_, namemax, fragment = p.STATFS_OUT.unpack(served.kernel.ask(Opcode.STATFS).body)
    below = os.statvfs(served.root)
    assert (blocks, namemax, fragment) == (below.f_blocks, below.f_namemax, below.f_frsize)


def test_extended_attributes_go_both_ways_and_sizes_are_checked(served: Served) -> None:
    path = served.root / "a"
    path.touch()
    try:
        os.setxattr(path, "user.probe", b"")
        os.removexattr(path, "user.probe")
    except OSError:
        pytest.skip("the temporary directory has no user attributes")
    node, ask = served.kernel.lookup(b"a"), served.kernel.ask
    assert ask(Opcode.SETXATTR, node, p.SETXATTR_EXT_IN.pack(5, 0, 0) + b"user.k\0a\0b\0c").error == 0
    assert os.getxattr(path, "user.k") == b"a\0b\0c"
    assert ask(Opcode.GETXATTR, node, p.GETXATTR_IN.pack(0) + b"user.k\0").body == p.U32.pack(5)
    assert ask(Opcode.GETXATTR, node, p.GETXATTR_IN.pack(4) + b"user.k\0").error == errno.ERANGE
    assert ask(Opcode.GETXATTR, node, p.GETXATTR_IN.pack(5) + b"user.k\0").body == b"a\0b\0c"
    assert ask(Opcode.LISTXATTR, node, p.GETXATTR_IN.pack(100)).body == b"user.k\0"
    assert ask(Opcode.LISTXATTR, node, p.GETXATTR_IN.pack(0)).body == p.U32.pack(7)
    assert ask(Opcode.REMOVEXATTR, node, b"user.k\0").error == 0
    assert ask(Opcode.GETXATTR, node, p.GETXATTR_IN.pack(9) + b"user.k\0").error == errno.ENODATA


def test_an_acl_set_by_a_stranger_to_the_group_clears_the_set_group_id_bit(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = served.root / "a"
    path.touch()
    path.chmod(0o2755)
    monkeypatch.setattr(served.operations, "setxattr", lambda *_: None)
    node = served.kernel.lookup(b"a")
    body = p.SETXATTR_EXT_IN.pack(1, 0, p.SETXATTR_ACL_KILL_SGID) + b"system.posix_acl_access\0x"
    assert served.kernel.ask(Opcode.SETXATTR, node, body).error == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o755


# -- files -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nowait", [True, False])
@pytest.mark.parametrize("size", [10, 300_000])
def test_what_is_written_is_read_back(served: Served, nowait: bool, size: int) -> None:
    served.operations.nowait = nowait
    reply = served.kernel.ask(Opcode.CREATE, ROOT, p.CREATE_IN.pack(os.O_RDWR, 0o644, 0o022, 0) + b"a\0")
    node = p.ENTRY.unpack_from(reply.body)[0]
    handle, flags, backing = p.OPEN_OUT.unpack_from(reply.body, p.ENTRY.size)
    assert (flags, backing) == (0, 0)
    data = os.urandom(size)
    body = p.WRITE_IN.pack(handle, 3, size, p.WRITE_KILL_SUIDGID, 0, 0) + data
    assert served.kernel.ask(Opcode.WRITE, node, body).body == p.U32.pack(size)
    assert calls(served, "write")[-1] == ("write", handle, 3, size, True)
    assert served.kernel.ask(Opcode.READ, node, p.READ_IN.pack(handle, 0, size + 9, 0, 0, 0)).body == b"\0\0\0" + data
    assert served.kernel.ask(Opcode.FSYNC, node, p.FSYNC_IN.pack(handle, p.FSYNC_FDATASYNC)).error == 0
    assert calls(served, "fsync")[-1] == ("fsync", handle, True)
    assert served.kernel.ask(Opcode.RELEASE, node, p.RELEASE_IN.pack(handle, 0, 0, 0)).error == 0
    assert served.operations.fds == {}


def test_an_open_that_truncates_says_so_and_leaves_set_user_id_bits_to_the_file_system(served: Served) -> None:
    (served.root / "a").touch()
    node = served.kernel.lookup(b"a")
    body = p.OPEN_IN.pack(os.O_WRONLY | os.O_TRUNC | p.FMODE_EXEC, p.OPEN_KILL_SUIDGID)
    assert served.kernel.ask(Opcode.OPEN, node, body).error == 0
    assert calls(served, "open")[-1] == ("open", node, os.O_WRONLY | os.O_TRUNC)


def test_seeking_allocating_and_copying_ranges(served: Served) -> None:
    (served.root / "a").write_bytes(b"0123456789")
    node, ask = served.kernel.lookup(b"a"), served.kernel.ask
    handle = served.kernel.open(node)
    assert ask(Opcode.LSEEK, node, p.LSEEK_IN.pack(handle, 0, os.SEEK_HOLE)).body == p.U64.pack(10)
    assert ask(Opcode.LSEEK, node, p.LSEEK_IN.pack(handle, 10, os.SEEK_DATA)).error == errno.ENXIO
    assert ask(Opcode.FALLOCATE, node, p.FALLOCATE_IN.pack(handle, 0, 20, 0)).error == 0
    copy = p.COPY_FILE_RANGE_IN.pack(handle, 0, node, handle, 10, 5, 0)
    assert ask(Opcode.COPY_FILE_RANGE, node, copy).body == p.U32.pack(5)
    assert ask(Opcode.COPY_FILE_RANGE_64, node, copy).body == p.U64.pack(5)
    assert ask(Opcode.COPY_FILE_RANGE, node, copy[:-8] + p.U64.pack(1)).error == errno.EINVAL
    assert (served.root / "a").read_bytes() == b"012345678901234" + bytes(5)


@pytest.mark.parametrize(("left", "at_once"), [(64 << 10, True), ((64 << 10) + 1, False)])
def test_a_short_copy_is_made_at_once_however_much_is_asked_for(served: Served, left: int, at_once: bool) -> None:
    (served.root / "a").write_bytes(os.urandom(left))
    (served.root / "b").touch()
    source, target = served.kernel.lookup(b"a"), served.kernel.lookup(b"b")
    handles = served.kernel.open(source), served.kernel.open(target)
    copy = p.COPY_FILE_RANGE_IN.pack(handles[0], 0, target, handles[1], 0, 1 << 62, 0)
    assert served.kernel.ask(Opcode.COPY_FILE_RANGE_64, source, copy).body == p.U64.pack(left)
    assert (served.root / "b").read_bytes() == (served.root / "a").read_bytes()
    assert (not served.server.pool.crew.workers()) == at_once


# -- listings ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opcode", [Opcode.READDIR, Opcode.READDIRPLUS])
@pytest.mark.parametrize("size", [160, 200, 400, 4096])
def test_a_listing_read_in_pieces_has_each_name_once(served: Served, opcode: Opcode, size: int) -> None:
    plus = opcode == Opcode.READDIRPLUS
    names = [f"file-{number:0{1 + number % 9}}" for number in range(30)]
    for name in names:
        (served.root / name).touch()
    handle, cookie, seen = opendir(served), 0, []
    if plus and size < 200:
        size = 200
    while piece := entries(readdir(served, handle, cookie, size, opcode), plus):
        seen += piece
        cookie = piece[-1][2]
    assert [entry[0] for entry in seen] == [".", "..", *sorted(names)]
    assert seen[0][1] == served.root.stat().st_ino
    assert all(entry[1] for entry in seen)
    if plus:
        assert [entry[3] for entry in seen[:2]] == [0, 0]
        assert served.operations.references == {entry[3]: 1 for entry in seen[2:]}
    else:
        assert served.operations.references == {}


def test_names_that_do_not_fit_are_not_looked_up(served: Served) -> None:
    for number in range(50):
        (served.root / f"{number:08}").touch()
    handle = opendir(served)
    listed = entries(readdir(served, handle, 0, 1000, Opcode.READDIRPLUS), plus=True)
    assert len(calls(served, "lookup")) == len(listed) - 2 < 50


def test_which_request_asks_for_names_with_attributes_is_said_as_another_thread_may_answer_it_too(
    served: Served,
) -> None:
    handle, unique = opendir(served), served.kernel.next_unique
    readdir(served, handle, 0, 4096, Opcode.READDIRPLUS)
    assert calls(served, "readdir") == [("readdir", handle, 0, unique)]


def test_a_name_that_vanishes_or_fails_while_being_listed_is_listed_without_attributes(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        (served.root / name).touch()
    original = served.operations.lookup

    def lookup(parent: int, name: str, caller: Caller) -> object:
        if name == "a":
            return None
        if name == "b":
            raise PermissionError(errno.EACCES, "no")
        return original(parent, name, caller)  # type: ignore[arg-type]

    monkeypatch.setattr(served.operations, "lookup", lookup)
    listed = entries(readdir(served, opendir(served), 0, 4096, Opcode.READDIRPLUS), plus=True)
    assert [entry[0] for entry in listed] == [".", "..", "a", "b", "c"]
    assert [bool(entry[3]) for entry in listed] == [False, False, False, False, True]


def test_directories_are_synced_and_released(served: Served) -> None:
    handle = opendir(served)
    assert served.kernel.ask(Opcode.FSYNCDIR, ROOT, p.FSYNC_IN.pack(handle, 0)).error == 0
    assert served.kernel.ask(Opcode.RELEASEDIR, ROOT, p.RELEASE_IN.pack(handle, 0, 0, 0)).error == 0
    assert served.operations.fds == {}


# -- errors, interrupts, oddities --------------------------------------------------------------------------------


def test_an_unexpected_exception_is_an_io_error_with_a_traceback(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    assert served.kernel.ask(Opcode.LOOKUP, ROOT, b"explode\0").error == errno.EIO
    assert "RuntimeError: a bug" in caplog.text
    served.kernel.sync()


@pytest.mark.parametrize("opcode", [Opcode.BMAP, Opcode.ACCESS, Opcode.IOCTL, Opcode.POLL, Opcode.SYNCFS, 4000])
def test_what_is_not_known_is_not_implemented(served: Served, opcode: int) -> None:
    assert served.kernel.ask(opcode, ROOT, bytes(64)).error == errno.ENOSYS


@pytest.mark.parametrize(
    ("opcode", "body"),
    [
        (Opcode.LOOKUP, b""),
        (Opcode.LOOKUP, b"\0"),
        (Opcode.LOOKUP, b"no zero"),
        (Opcode.MKDIR, p.MKDIR_IN.pack(0, 0)),
        (Opcode.SYMLINK, b"one\0"),
        (Opcode.RENAME, p.RENAME_IN.pack(1) + b"one\0\0"),
        (Opcode.SETXATTR, p.SETXATTR_EXT_IN.pack(5, 0, 0) + b"user.k\0abc"),
        (Opcode.WRITE, p.WRITE_IN.pack(1, 0, 10, 0, 0, 0) + b"short"),
    ],
)
def test_a_request_without_its_names_or_data_is_invalid(served: Served, opcode: int, body: bytes) -> None:
    assert served.kernel.ask(opcode, ROOT, body).error == errno.EINVAL


def test_a_request_cut_short_does_not_end_the_loop(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    served.kernel.sock.send(b"no header")
    assert served.kernel.ask(Opcode.GETATTR, ROOT, b"").error == errno.EIO
    served.kernel.send(Opcode.FORGET, ROOT, b"")
    served.kernel.sync()
    assert "no header" in caplog.text
    assert "struct.error" in caplog.text


def test_a_forgotten_node_is_stale(served: Served) -> None:
    assert served.kernel.ask(Opcode.LOOKUP, 99, b"a\0").error == errno.ESTALE


def test_a_slow_read_holds_nobody_up_and_ends_for_who_was_killed(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    (served.root / "a").write_bytes(b"data")
    node = served.kernel.lookup(b"a")
    handle = served.kernel.open(node)
    served.operations.nowait, served.operations.gate = False, threading.Event()
    body = p.READ_IN.pack(handle, 0, 4, 0, 0, 0)
    sent = [served.kernel.send(Opcode.READ, node, body) for _ in range(10)]
    while len(calls(served, "read")) < 8:
        served.kernel.sync()
    for unique in (sent[0], sent[9], 12345):  # begun, queued, unknown: who asked was not killed
        served.kernel.send(Opcode.INTERRUPT, 0, p.INTERRUPT_IN.pack(unique))
    while len(served.kernel.again) < 3:  # the kernel is to say it once more
        served.kernel.sync()
    monkeypatch.setattr("sigfs.transports.kernel.handlers.is_dying", lambda pid: pid == 99)
    for unique in (sent[0], sent[9], 12345):
        served.kernel.send(Opcode.INTERRUPT, 0, p.INTERRUPT_IN.pack(unique))
    assert {(reply.unique, reply.error) for reply in (served.kernel.receive() for _ in range(2))} == {
        (sent[0], errno.EINTR),
        (sent[9], errno.EINTR),
    }
    served.operations.gate.set()
    answered = {reply.unique: reply.body for reply in (served.kernel.receive() for _ in range(9))}
    assert answered == dict.fromkeys(sent[:9], b"data")  # a real kernel does not take that of sent[0]
    assert len(calls(served, "read")) == 9


@pytest.mark.parametrize("opcode", [Opcode.LOOKUP, Opcode.OPENDIR, Opcode.UNLINK])
def test_a_request_that_hangs_below_holds_nobody_up(served: Served, opcode: Opcode) -> None:
    hanging: set[int] = set()
    with served.operations.hanging():
        for _ in range(20):
            hanging.add(served.kernel.send(opcode, ROOT, b"a\0"))
            served.kernel.sync()
        wait_until(lambda: served.server.statistics()["stuck"] == 20)
        served.kernel.sync()
    assert {served.kernel.receive().unique for _ in range(20)} == hanging
    wait_until(lambda: served.server.statistics()["stuck"] == 0)


def test_the_server_ends_when_the_connection_does(served: Served) -> None:
    served.kernel.sync()
    served.kernel.sock.close()
    served.thread.join(60)
    assert not served.thread.is_alive()


def test_requests_are_counted_by_kind(served: Served) -> None:
    served.kernel.sync()
    served.kernel.sync()
    assert served.server.counts == {Opcode.DESTROY: 2}


def test_each_message_is_logged_when_asked_for(pair: object, caplog: pytest.LogCaptureFixture) -> None:
    from sigfs.transports.kernel.tracing import TracingDevice

    ours, theirs = pair  # type: ignore[misc]
    caplog.set_level(logging.DEBUG, "sigfs.transports.kernel")
    device = TracingDevice(theirs.fileno())
    ours.send(p.IN_HEADER.pack(48, Opcode.OPEN, 6, 2, 0, 0, 1, 0, 0) + p.OPEN_IN.pack(2, 0))
    assert device.receive(bytearray(100)) == 48
    assert device.fail(6, errno.EACCES)
    assert device.reply(8, b"1234")
    assert [record.message for record in caplog.records] == [
        "6: OPEN node 2 uid 0 gid 0 pid 1 (2, 0)",
        "6: EACCES",
        "8: ok, 4 bytes",
    ]
