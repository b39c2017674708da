"""Locks, flushes and leases in the protocol: what is answered at once, what later, and what on being interrupted."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from typing import TYPE_CHECKING

import pytest

from sigfs.transports.kernel import protocol as p
from sigfs.transports.kernel.protocol import Notification, Opcode
from sigfs.transports.kernel.waiting import Waiters
from sigfs.vfs.locks import TO_THE_END, RecordLock
from sigfs.vfs.types import ROOT

if TYPE_CHECKING:
    from tests.unit.transports.conftest import Served


@pytest.fixture
def file(served: Served) -> tuple[int, int]:
    """(node, handle) of an open file."""
    (served.root / "file").write_bytes(b"1")
    node = served.kernel.lookup(b"file")
    return node, served.kernel.open(node)


def lk(handle: int, owner: int, kind: int, flags: int = 0) -> bytes:
    return p.LK_IN.pack(handle, owner, 0, TO_THE_END, kind, 99, flags)


def test_a_lock_is_taken_refused_and_told_of(served: Served, file: tuple[int, int]) -> None:
    node, handle = file
    kernel = served.kernel
    assert kernel.ask(Opcode.SETLK, node, lk(handle, 1, fcntl.F_WRLCK)).error == 0
    assert served.operations.calls[-1] == ("set_lock", handle, 1, RecordLock(fcntl.F_WRLCK, 0, TO_THE_END, 99))
    assert kernel.ask(Opcode.SETLK, node, lk(handle, 2, fcntl.F_WRLCK)).error == errno.EAGAIN
    told = kernel.ask(Opcode.GETLK, node, lk(handle, 2, fcntl.F_WRLCK))
    assert p.LK_OUT.unpack(told.body) == (0, 9, fcntl.F_WRLCK, 123)
    assert kernel.ask(Opcode.SETLK, node, lk(handle, 1, fcntl.F_UNLCK)).error == 0
    told = kernel.ask(Opcode.GETLK, node, lk(handle, 2, fcntl.F_WRLCK))
    assert p.LK_OUT.unpack(told.body)[2] == fcntl.F_UNLCK
    assert kernel.ask(Opcode.SETLK, node, lk(handle, 1, 77)).error == errno.EINVAL
    assert kernel.ask(Opcode.SETLK, node, lk(handle, 1, fcntl.F_RDLCK, p.LK_FLOCK)).error == 0
    assert served.operations.calls[-1] == ("flock", handle, fcntl.F_RDLCK)


def test_who_would_wait_for_ever_is_told_and_every_wait_is_noted_as_ended(
    served: Served, file: tuple[int, int]
) -> None:
    node, handle = file
    kernel = served.kernel
    assert kernel.ask(Opcode.SETLKW, node, lk(handle, 1, fcntl.F_WRLCK)).error == 0
    served.operations.deadlock = True
    unique = kernel.next_unique
    assert kernel.ask(Opcode.SETLKW, node, lk(handle, 2, fcntl.F_WRLCK)).error == errno.EDEADLK
    assert ("waited", unique) in served.operations.calls


def test_a_cached_file_is_forgotten_before_its_lock_is_granted(served: Served, file: tuple[int, int]) -> None:
    node, handle = file
    served.kernel.ask(Opcode.SETLK, node, lk(handle, 1, fcntl.F_UNLCK))
    assert served.kernel.notifications == []
    served.kernel.ask(Opcode.SETLK, node, lk(handle, 1, fcntl.F_RDLCK))
    assert served.kernel.notifications == [(Notification.INVAL_INODE, p.INVAL_INODE_OUT.pack(node, 0, 0))]


@pytest.mark.parametrize("how", ["unlock", "flush", "interrupt", "end"])
def test_a_lock_is_waited_for_until_it_is_free_or_the_wait_is_ended(
    served: Served, file: tuple[int, int], how: str
) -> None:
    node, handle = file
    kernel = served.kernel
    assert kernel.ask(Opcode.SETLK, node, lk(handle, 1, fcntl.F_WRLCK)).error == 0
    waiting = kernel.send(Opcode.SETLKW, node, lk(handle, 2, fcntl.F_WRLCK))
    kernel.sync()
    expected = 0
    if how == "unlock":
        unlock = kernel.send(Opcode.SETLK, node, lk(handle, 1, fcntl.F_UNLCK))
    elif how == "flush":
        unlock = kernel.send(Opcode.FLUSH, node, p.FLUSH_IN.pack(handle, 1))
    elif how == "interrupt":
        kernel.send(Opcode.INTERRUPT, 0, p.INTERRUPT_IN.pack(waiting))
        unlock, expected = 0, errno.EINTR
    else:
        unlock, expected = 0, errno.ENOTCONN
        assert served.server.waiters.close(30)
    replies = {reply.unique: reply.error for reply in (kernel.receive() for _ in range(2 if unlock else 1))}
    assert replies == {waiting: expected, **({unlock: 0} if unlock else {})}
    assert served.operations.locked_by == (1 if expected else 2)


def test_a_granted_lock_that_the_kernel_does_not_hear_of_is_given_back(served: Served, file: tuple[int, int]) -> None:
    node, handle = file
    served.device.dropped.add(served.kernel.next_unique)
    served.kernel.send(Opcode.SETLKW, node, lk(handle, 1, fcntl.F_WRLCK))
    while served.kernel.ask(Opcode.SETLK, node, lk(handle, 2, fcntl.F_WRLCK)).error:
        pass
    assert served.operations.locked_by == 2


def test_what_the_disk_says_at_close_is_answered(served: Served, file: tuple[int, int]) -> None:
    node, handle = file
    assert served.kernel.ask(Opcode.FLUSH, node, p.FLUSH_IN.pack(handle, 7)).error == 0
    assert served.operations.calls[-1] == ("flush", handle, 7)
    served.operations.flush_error = OSError(errno.EDQUOT, "quota")
    assert served.kernel.ask(Opcode.FLUSH, node, p.FLUSH_IN.pack(handle, 7)).error == errno.EDQUOT


@pytest.mark.parametrize("opcode", [Opcode.OPEN, Opcode.CREATE, Opcode.SETATTR])
def test_a_leased_file_keeps_nobody_waiting_but_who_wants_it(
    served: Served, file: tuple[int, int], opcode: Opcode
) -> None:
    node, _ = file
    operations = served.operations
    operations.leased = True
    if opcode == Opcode.OPEN:
        waiting = served.kernel.send(opcode, node, p.OPEN_IN.pack(os.O_RDWR, 0))
    elif opcode == Opcode.CREATE:
        waiting = served.kernel.send(opcode, ROOT, p.CREATE_IN.pack(os.O_RDWR, 0o644, 0, 0) + b"file\0")
    else:
        fields = (p.FATTR_SIZE, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        waiting = served.kernel.send(opcode, node, p.SETATTR_IN.pack(*fields))
    served.kernel.sync()
    operations.leased = False
    reply = served.kernel.receive()
    assert (reply.unique, reply.error) == (waiting, 0)
    assert reply.body


def test_any_number_may_wait_for_leases_and_be_interrupted(served: Served, file: tuple[int, int]) -> None:
    served.operations.leased = True
    waiting = [served.kernel.send(Opcode.OPEN, file[0], p.OPEN_IN.pack(os.O_RDWR, 0)) for _ in range(20)]
    served.kernel.sync()
    served.operations.nowait = False
    assert served.kernel.ask(Opcode.READ, file[0], p.READ_IN.pack(file[1], 0, 4, 0, 0, 0)).error == 0
    for unique in waiting:
        served.kernel.send(Opcode.INTERRUPT, 0, p.INTERRUPT_IN.pack(unique))
    answered = {reply.unique: reply.error for reply in (served.kernel.receive() for _ in waiting)}
    assert answered == dict.fromkeys(waiting, errno.EINTR)


def test_who_does_not_want_to_wait_for_a_lease_is_told_so(served: Served, file: tuple[int, int]) -> None:
    served.operations.leased = True
    refused = served.kernel.ask(Opcode.OPEN, file[0], p.OPEN_IN.pack(os.O_RDWR | os.O_NONBLOCK, 0))
    assert refused.error == errno.EAGAIN


def test_a_waiter_that_fails_unexpectedly_is_answered_and_the_others_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    waiters, results, free = Waiters(), [], threading.Event()

    def explode() -> int | None:
        raise RuntimeError("a bug")

    done = threading.Semaphore(0)

    def answer(result: int) -> None:
        results.append(result)
        done.release()

    waiters.submit(1, lambda: 0 if free.is_set() else None, answer)
    waiters.submit(2, explode, answer)
    assert done.acquire(timeout=60)
    assert results == [errno.EIO]
    free.set()
    assert done.acquire(timeout=60)
    assert (results, len(waiters)) == ([errno.EIO, 0], 0)
    assert not waiters.interrupt(1)
    assert waiters.close(30)
    assert "a bug" in caplog.text
