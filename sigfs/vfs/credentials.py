"""By whose rights a thread changes the disk below.

Owned here: the credentials and the umask of the calling thread while a block runs. The kernel checks a request by what
it has cached of owners and modes, and a server that runs as root may do more than the one who asked. So what only an
owner may do, who owns what is made, whose quota it counts on, and whether set-id bits survive is left to the disk
below: it sees the caller.

All of this is per thread. Nothing in such a block may start a thread, which would inherit the caller's credentials.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import os
import sys
import threading
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Final, NoReturn

from sigfs.vfs import syscalls

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sigfs.vfs.types import Caller

log = logging.getLogger(__name__)

# linux/capability.h
_DAC_OVERRIDE: Final = 1 << 1
_DAC_READ_SEARCH: Final = 1 << 2
_FSETID: Final = 1 << 4
_SETUID: Final = 1 << 7
_SYS_RESOURCE: Final = 1 << 24
_MKNOD: Final = 1 << 27

_FOR_CALLERS: Final = _DAC_OVERRIDE | _DAC_READ_SEARCH | _MKNOD
"""What stays of the server's rights: modes, ACLs and the right to make devices the kernel has checked, with the
caller's own capabilities and groups, of which we know less. Not CAP_FOWNER, CAP_CHOWN, CAP_FSETID; not
CAP_SYS_RESOURCE, for which quotas and the reserve of a full disk do not count."""

_NOTHING: Final = nullcontext()
_of_thread: Final = threading.local()
"""``ordinary_writer``: the block, made once, as a thread's own capabilities stay what they are outside of blocks;
``has_own_umask``: whether the thread has one that it does not share."""


def as_caller(caller: Caller | None) -> AbstractContextManager[None]:
    """Give a block in which this thread makes, removes and owns as *caller* (None: as this process).

    Does nothing if that is who the server runs as, or if the server may not become others: an ordinary user's, whose
    own all files are anyway, and root's where a container or a filter of system calls forbids it.

    Should the thread's own credentials not come back the process ends: no later request may run with wrong ones.

    Raises:
        OSError: EPERM, entering the block, if the kernel refuses to act as this caller.

    Complexity: about ten system calls and, for the groups, the reading of one file in ``/proc``.
    """
    if caller is None or (caller.uid, caller.gid) == (os.geteuid(), os.getegid()) or not _may_become_others():
        return _NOTHING
    return _credentials_of(caller, _FOR_CALLERS if caller.by_acl else _MKNOD)


def as_reader(caller: Caller | None) -> AbstractContextManager[None]:
    """Give a block in which this thread looks up, opens and lists: as ``as_caller`` where the kernel has not checked
    by ACLs whether the caller may; else as itself, which costs nothing.
    """
    return _NOTHING if caller is None or caller.by_acl else as_caller(caller)


def strictly_as(caller: Caller | None) -> AbstractContextManager[None]:
    """As ``as_caller``, but with no more rights than the caller has: for what the kernel has not checked, because it is
    done elsewhere than where it was asked for.

    Raises:
        PermissionError: entering the block, if this process can neither become the caller nor knows what he may do.
    """
    if caller is None or (caller.uid, caller.gid) == (os.geteuid(), os.getegid()):
        return _NOTHING
    if _may_become_others():
        return _credentials_of(caller, 0)
    if caller.uid not in (0, os.geteuid()):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return _NOTHING


def as_ordinary_writer() -> AbstractContextManager[None]:
    """Give a block in which writing to a file takes its set-id bits away, as when anybody but root writes.

    Quotas and the reserve of a full disk count, too. Who owns what, and what may be opened, stays as it is.
    """
    try:
        known: AbstractContextManager[None] = _of_thread.ordinary_writer
    except AttributeError:
        pass
    else:
        return known
    before = syscalls.get_capabilities()
    after = _reduced(before, before.effective_low & ~(_FSETID | _SYS_RESOURCE), before.effective_high)
    block = _NOTHING if after.effective_low == before.effective_low else _Capabilities(after, before)
    _of_thread.ordinary_writer = block
    return block


def masking(umask: int) -> AbstractContextManager[None] | None:
    """Give a block in which what this thread makes has no permission that is in *umask*, as the disk below sees fit.

    A default ACL of the directory overrides it there. Elsewhere the server has a umask of 0.

    Returns:
        None: threads cannot have a umask of their own here.
    """
    try:
        has_own = _of_thread.has_own_umask
    except AttributeError:
        try:
            syscalls.get_own_umask()
            os.umask(0)  # what it shared may have been that of a block
            has_own = True
        except OSError as error:
            log.info("threads share one umask: %s", error)
            has_own = False
        _of_thread.has_own_umask = has_own
    if not umask:
        return _NOTHING
    return _umask(umask) if has_own else None


class _Umask(AbstractContextManager[None]):
    def __init__(self, umask: int) -> None:
        self._umask = umask

    def __enter__(self) -> None:
        os.umask(self._umask)

    def __exit__(self, *_: object) -> None:
        os.umask(0)


_umask = functools.cache(_Umask)  # there are 512


class _Capabilities(AbstractContextManager[None]):
    """A block with *within*, for the one thread that has *before*. May be entered again and again."""

    def __init__(self, within: syscalls.Capabilities, before: syscalls.Capabilities) -> None:
        self._within = within
        self._before = before

    def __enter__(self) -> None:
        syscalls.set_capabilities(self._within)

    def __exit__(self, *_: object) -> None:
        try:
            syscalls.set_capabilities(self._before)
        except BaseException:  # noqa: BLE001 - whatever it was
            _end()


@functools.cache
def _may_become_others() -> bool:
    """Tell whether the credentials of this thread, and so of others, can be changed. Asked once, in any thread."""
    if os.geteuid() != 0:
        return False
    try:  # to what they are
        capabilities = syscalls.get_capabilities()
        if not capabilities.effective_low & _SETUID:
            raise PermissionError(errno.EPERM, "there is no CAP_SETUID")
        syscalls.set_thread_groups(os.getgroups())
        syscalls.set_fs_ids(os.geteuid(), os.getegid())
        syscalls.set_capabilities(capabilities)
    except OSError as error:
        log.info("what other users make will be root's: %s", error)
        return False
    return True


@contextmanager
def _credentials_of(caller: Caller, capabilities: int) -> Iterator[None]:
    uid, gid = os.geteuid(), os.getegid()
    if caller.uid == uid:  # root with another group: all rights, but what is made gets that group
        try:
            syscalls.set_fs_ids(uid, caller.gid)
            yield
        finally:
            with _or_end():
                syscalls.set_fs_ids(uid, gid)
        return
    groups, before = os.getgroups(), syscalls.get_capabilities()
    callers_groups = _groups_of(caller)
    try:
        # The ids last but one: setfsuid takes capabilities away, of which some are given back.
        syscalls.set_thread_groups(callers_groups)
        syscalls.set_fs_ids(caller.uid, caller.gid)
        syscalls.set_capabilities(_reduced(before, before.effective_low & capabilities, 0))
        yield
    finally:
        with _or_end():
            # To be the user that the process runs as takes no capability. It gives back too many.
            syscalls.set_fs_ids(uid, gid)
            syscalls.set_capabilities(before)
            syscalls.set_thread_groups(groups)


def _reduced(before: syscalls.Capabilities, low: int, high: int) -> syscalls.Capabilities:
    after = syscalls.Capabilities.from_buffer_copy(before)
    after.effective_low, after.effective_high = low, high
    return after


@contextmanager
def _or_end() -> Iterator[None]:
    try:
        yield
    except BaseException:  # noqa: BLE001 - whatever it was
        _end()


def _end() -> NoReturn:
    try:
        log.critical("the server's credentials did not come back; it ends", exc_info=sys.exc_info())
    finally:
        os._exit(os.EX_SOFTWARE)


def _groups_of(caller: Caller) -> list[int]:
    """Give the supplementary groups of *caller*; none if they cannot be known (a process of another PID namespace).

    The caller cannot go away while its request is being answered, so its process number still is its own.
    """
    try:
        with open(f"/proc/{caller.pid}/status", "rb") as file:
            text = file.read()
    except OSError:
        return []
    fields = dict(line.split(b":", 1) for line in text.splitlines() if b":" in line)
    # real, effective, saved, file system; anything else is not the one who asked
    if (_last(fields, b"Uid"), _last(fields, b"Gid")) != (caller.uid, caller.gid):
        return []
    return [int(group) for group in fields.get(b"Groups", b"").split()]


def thread_group(caller: Caller) -> int:
    """Give the number of the process that *caller*, a thread, is one of; 0 if that cannot be known."""
    return int(_status(caller, b"Tgid:") or b"0")


def umask_of(caller: Caller) -> int:
    """Give the umask of *caller*, also where the transport is not told."""
    return caller.umask or int(_status(caller, b"Umask:") or b"022", 8)


def _status(caller: Caller, field: bytes) -> bytes | None:
    with contextlib.suppress(OSError), open(f"/proc/{caller.pid}/status", "rb") as file:
        for line in file:
            if line.startswith(field):
                return line.split()[1]
    return None


def _last(fields: dict[bytes, bytes], name: bytes) -> int:
    return int(fields.get(name, b"-1").split()[-1])
