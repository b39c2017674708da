"""A thread acts as the caller while a block runs, and as itself again whatever happens in it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from sigfs.vfs import credentials, syscalls
from sigfs.vfs.credentials import as_caller, as_ordinary_writer, masking
from sigfs.vfs.types import Caller

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as others")

OTHER = Caller(4001, 4002, 0)
FSETID = 1 << 4
FOWNER = 1 << 3


def state() -> dict[str, str]:
    """Give what the kernel knows of this thread's credentials."""
    with open("/proc/thread-self/status", encoding="utf-8") as file:
        found = dict(line.strip().split(":", 1) for line in file if ":" in line)
    return {name: found[name].strip() for name in ("Uid", "Gid", "Groups", "CapEff", "CapPrm", "CapInh", "CapAmb")}


def capabilities() -> int:
    return int(state()["CapEff"], 16)


def in_a_thread(work: Callable[[], object]) -> object:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


@pytest.mark.parametrize("where", [lambda work: work(), in_a_thread], ids=["this thread", "another thread"])
@pytest.mark.parametrize("caller", [OTHER, Caller(0, 4002, 0), Caller(4001, 0, os.getpid())])
def test_credentials_come_back_after_success_and_after_an_error(
    where: Callable[[Callable[[], None]], None], caller: Caller
) -> None:
    def work() -> None:
        before = state()
        with as_caller(caller):
            assert state()["Uid"].split() == ["0", "0", "0", str(caller.uid)]
            assert state()["Gid"].split()[-1] == str(caller.gid)
        assert state() == before
        with pytest.raises(ZeroDivisionError), as_caller(caller):
            raise ZeroDivisionError
        assert state() == before
        with pytest.raises(ZeroDivisionError), as_ordinary_writer():
            raise ZeroDivisionError
        assert state() == before

    where(work)


def test_one_thread_does_not_change_another() -> None:
    before, go, done = state(), threading.Event(), threading.Event()

    def work() -> None:
        with as_caller(OTHER):
            go.set()
            done.wait(60)

    thread = threading.Thread(target=work)
    thread.start()
    assert go.wait(60)
    assert state() == before
    done.set()
    thread.join()


def test_the_caller_has_no_right_that_only_an_owner_has() -> None:
    with as_caller(OTHER):
        assert state()["Groups"].split() == []
        assert not capabilities() & ~credentials._FOR_CALLERS
        assert not credentials._FOR_CALLERS & (FSETID | FOWNER)
    with as_caller(Caller(0, 4002, 0)):
        assert capabilities() & FOWNER


def test_an_ordinary_writer_keeps_no_set_id_bits() -> None:
    before = capabilities()
    with as_ordinary_writer():
        assert capabilities() == before & ~(FSETID | credentials._SYS_RESOURCE)


def test_a_thread_has_the_callers_umask_and_no_other_thread_has_it() -> None:
    def umask() -> str:
        with open("/proc/thread-self/status", encoding="utf-8") as file:
            return next(line.split()[1] for line in file if line.startswith("Umask:"))

    go, done, seen = threading.Event(), threading.Event(), []

    def work() -> None:
        block = masking(0o027)
        assert block is not None
        with block:
            seen.append(umask())
            go.set()
            done.wait(60)
        seen.append(umask())

    before = umask()
    thread = threading.Thread(target=work)
    thread.start()
    assert go.wait(60)
    assert umask() == before
    done.set()
    thread.join()
    assert seen == ["0027", "0000"]


def test_the_groups_are_the_callers_if_it_is_there() -> None:
    code = "import os; os.setgroups([7, 9]); os.setgid(4002); os.setuid(4001); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with as_caller(Caller(4001, 4002, other.pid)):
            assert state()["Groups"].split() == ["7", "9"]
        with as_caller(Caller(4003, 4002, other.pid)):
            assert state()["Groups"].split() == [], "the process is another user's: not the one who asked"
        other.communicate(b"\n")
    with as_caller(Caller(4001, 4002, other.pid)):
        assert state()["Groups"].split() == []


def test_nothing_is_done_for_the_servers_own_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syscalls, "set_fs_ids", None)
    monkeypatch.setattr(syscalls, "set_capabilities", None)
    before = state()
    for caller in (None, Caller(os.geteuid(), os.getegid(), os.getpid())):
        with as_caller(caller):
            assert state() == before


def test_where_the_system_forbids_it_the_server_acts_as_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(1, "no")

    credentials._may_become_others.cache_clear()
    try:
        with monkeypatch.context() as patch:
            patch.setattr(syscalls, "set_fs_ids", refused)
            before = state()
            with as_caller(OTHER):
                assert state() == before
    finally:
        credentials._may_become_others.cache_clear()


def test_a_caller_that_the_kernel_refuses_is_refused_and_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    before = state()
    with as_caller(OTHER):
        pass
    with pytest.raises(PermissionError), as_caller(Caller(0xFFFFFFFF, 4002, 0)):
        pytest.fail("there is no such user")
    assert state() == before


def test_the_process_ends_if_its_credentials_do_not_come_back() -> None:
    code = """
from sigfs.vfs import credentials, syscalls
from sigfs.vfs.types import Caller
with credentials.as_caller(Caller(4001, 4001, 0)):
    def refused(*_):
        raise PermissionError(1, "no")
    syscalls.set_fs_ids = refused
print("went on")
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (os.EX_SOFTWARE, b"")
    assert b"credentials did not come back" in ended.stderr
