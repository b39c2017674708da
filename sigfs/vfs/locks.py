"""Locks of open files, held on the disk below, so that users of the mount and of the workspace exclude each other.

Owned here: who holds record locks (``fcntl``), on which descriptor, and when they end. ``OpenFiles`` calls it, from any
thread; no call ever waits for a lock.

A record lock of POSIX belongs to a process, and the one process below is the server. So each lock owner has an *open
file description* of its own for each file, and its locks are those of that description: they exclude each other and
plain record locks below, and stay when another descriptor of the file is closed. The kernel finds no deadlocks among
them, so which ranges an owner has locked and which it waits for is noted here, for that alone.
Locks of ``flock`` belong to the open file, and a handle has a description of its own already.

Source: fcntl(2) and fcntl_locking(2), "Open file description locks"; flock(2).
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from dataclasses import dataclass, field
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple, NewType, TypeAlias

from sigfs.vfs.backing import Descriptor
from sigfs.vfs.types import FsError

if TYPE_CHECKING:
    from sigfs.vfs.readonly import ReadOnly
    from sigfs.vfs.room import Room
    from sigfs.vfs.types import FileHandle, Inode

LockOwner = NewType("LockOwner", int)
"""Whose record locks: a process, as the kernel calls it, or an open file (F_OFD_SETLK). Means nothing but itself."""

TO_THE_END: Final = (1 << 63) - 1
"""As the end of a range: however far the file goes or will go."""

NOTED_LIMIT: Final = 64
"""Locks of one owner on one file that are noted; who has more is left out of the search for deadlocks."""

_FLOCK: Final = Struct("@hhqqi0q")  # struct flock: type, whence, start, length (0: to the end), pid (0 with F_OFD_*)
_HOW: Final = {fcntl.F_RDLCK: fcntl.LOCK_SH, fcntl.F_WRLCK: fcntl.LOCK_EX, fcntl.F_UNLCK: fcntl.LOCK_UN}
_REFUSED: Final = (errno.EAGAIN, errno.EACCES)
"""fcntl(2): a conflicting lock is either."""


class RecordLock(NamedTuple):
    """A lock on a range of bytes.

    Attributes:
        kind: F_RDLCK, F_WRLCK or F_UNLCK.
        start: the first byte.
        end: the last byte, or TO_THE_END.
        pid: of the process that holds it; 0 if it is not known.
    """

    kind: int
    start: int
    end: int
    pid: int = 0


_Key: TypeAlias = "tuple[Inode, LockOwner]"


@dataclass(slots=True, eq=False)
class _Holder:
    """What an owner locks a file with: *descriptor*, opened for its locks alone, and the handles it has used.

    Attributes:
        locked: what it has locked, disjoint; None once that has become too much to be noted.
    """

    descriptor: Descriptor
    handles: set[FileHandle] = field(default_factory=set)
    locked: list[RecordLock] | None = field(default_factory=list)


class Locks:
    """The record locks of all owners, and which handles have been locked by ``flock``.

    ``_lock`` guards all that is here; no system call is made and nothing else locked while it is held.
    """

    def __init__(self, *, read_only: ReadOnly, room: Room) -> None:
        """Begin with no lock.

        Args:
            read_only: whether nobody can have the right to lock for writing.
            room: for descriptors.
        """
        self._room = room
        self._read_only = read_only
        self._lock = threading.Lock()
        # An entry lives from an owner's first lock on a file to its unlocking of all of it, to its closing of any
        # descriptor of the file, or to the release of the last handle that was used, whichever is first.
        self._holders: dict[_Key, _Holder] = {}
        self._used: dict[FileHandle, set[_Key]] = {}  # the keys in whose ``handles`` a handle is; never empty
        self._flocked: set[FileHandle] = set()
        self._wishes: dict[int, tuple[_Key, RecordLock]] = {}  # by request; from ``may_wait`` to ``waited``

    def __len__(self) -> int:
        return len(self._holders) + len(self._flocked)

    def set(self, inode: Inode, handle: FileHandle, opened: Descriptor, owner: LockOwner, lock: RecordLock) -> bool:
        """Lock, convert or unlock a range for *owner*.

        Args:
            opened: the descriptor of *handle*.

        Returns:
            Whether it was done: False if somebody else holds a lock that is in the way.

        Raises:
            FsError: ENOLCK if there is no room for one more owner of locks on a file.
            OSError: ENOLCK and so on, as the disk below says.
        """
        key = (inode, owner)
        if lock.kind == fcntl.F_UNLCK:
            holder = self._holders.get(key)
            if holder is None:
                return True
            if lock.start == 0 and lock.end == TO_THE_END:
                self.drop_owner(inode, owner)
                return True
        else:
            holder = self._holder(key, handle, opened)
        try:
            fcntl.fcntl(holder.descriptor.fd, fcntl.F_OFD_SETLK, _pack(lock))
        except OSError as error:
            if error.errno in _REFUSED:
                return False
            raise
        with self._lock:
            _note(holder, lock)
        return True

    def may_wait(self, request: int, inode: Inode, owner: LockOwner, lock: RecordLock) -> bool:
        """Note that *request* of *owner* waits for *lock*; False, without a note, if it would wait for itself: for an
        owner that waits for one that ... waits for *owner*. To be followed by ``waited``.

        As on a disk an owner is a process, though another of its threads might give up what is waited for.

        Complexity: O(1) if it is noted already; else that of looking at all locks of the files that are waited for.
        """
        with self._lock:
            if request not in self._wishes:
                if self._leads_back(owner, (inode, owner), lock):
                    return False
                self._wishes[request] = (inode, owner), lock
            return True

    def waited(self, request: int) -> None:
        """Take back what ``may_wait`` has noted, if it has."""
        with self._lock:
            self._wishes.pop(request, None)

    def _leads_back(self, owner: LockOwner, key: _Key, lock: RecordLock) -> bool:
        todo, seen = [(key, lock)], set[LockOwner]()
        while todo:
            (inode, waiting), wanted = todo.pop()
            for (locked_inode, holding), holder in self._holders.items():
                if locked_inode != inode or holding == waiting or holding in seen or not _in_the_way(holder, wanted):
                    continue
                if holding == owner:
                    return True
                seen.add(holding)
                todo += [wish for wish in self._wishes.values() if wish[0][1] == holding]
        return False

    def get(self, inode: Inode, opened: Descriptor, owner: LockOwner, lock: RecordLock) -> RecordLock | None:
        """Give a lock that keeps *owner* from getting *lock*; None if there is none."""
        holder = self._holders.get((inode, owner))
        descriptor = opened if holder is None else holder.descriptor
        answer = fcntl.fcntl(descriptor.fd, fcntl.F_OFD_GETLK, _pack(lock))
        kind, _, start, length, pid = _FLOCK.unpack(answer)
        if kind == fcntl.F_UNLCK:
            return None
        # -1: the lock of an open file description, such as all those of this mount
        return RecordLock(kind, start, start + length - 1 if length else TO_THE_END, max(pid, 0))

    def flock(self, handle: FileHandle, opened: Descriptor, kind: int) -> bool:
        """Lock, convert or unlock an open file as a whole; False if somebody else's lock is in the way.

        As flock(2) has it, a conversion gives up the lock that is held, also where it then is refused.
        """
        with self._lock:  # noted first: there is no harm in unlocking what is not locked
            self._flocked.add(handle)
        try:
            fcntl.flock(opened.fd, _HOW[kind] | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        if kind == fcntl.F_UNLCK:
            with self._lock:
                self._flocked.discard(handle)
        return True

    def drop_owner(self, inode: Inode, owner: LockOwner) -> bool:
        """End all record locks that *owner* has on a file. Tells whether there may have been one. Complexity: O(1)."""
        key = (inode, owner)
        if key not in self._holders:
            return False
        with self._lock:
            holder = self._holders.pop(key, None)
            if holder is not None:
                for handle in holder.handles:
                    self._forget(handle, key)
        return holder is not None  # its descriptor, and with it the locks, ends here, or with the call that uses it

    def released(self, handle: FileHandle, opened: Descriptor) -> bool:
        """End the locks that were made through *handle* alone. Tells whether there may have been one."""
        if handle not in self._used and handle not in self._flocked:
            return False
        dropped: list[_Holder] = []
        with self._lock:
            for key in self._used.pop(handle, ()):
                holder = self._holders[key]
                holder.handles.discard(handle)
                if not holder.handles:
                    dropped.append(self._holders.pop(key))
            flocked = handle in self._flocked
            self._flocked.discard(handle)
        if flocked:
            # Closing is not enough: with passthrough the kernel refers to what is open below, maybe for other handles.
            fcntl.flock(opened.fd, fcntl.LOCK_UN)
        return True

    def close(self) -> None:
        """End all record locks."""
        with self._lock:
            holders, self._holders = self._holders, {}
            self._used.clear()
        holders.clear()

    def check(self, handles: dict[FileHandle, Inode]) -> None:
        """Assert that the books agree, and that no lock is kept for a handle that is not open.

        Args:
            handles: those that are open, and of which file.
        """
        with self._lock:
            used: dict[FileHandle, set[_Key]] = {}
            for key, holder in self._holders.items():
                assert holder.handles, "a lock is kept for nobody"
                for handle in holder.handles:
                    assert handles[handle] == key[0], "a lock is kept through a handle of another file"
                    used.setdefault(handle, set()).add(key)
            assert used == self._used
            assert self._flocked <= handles.keys(), "a handle that is closed is locked"

    def _holder(self, key: _Key, handle: FileHandle, opened: Descriptor) -> _Holder:
        while True:
            known = self._holders.get(key)
            if known is not None and handle in known.handles:
                return known
            made = self._made(opened) if known is None else known
            with self._lock:
                if self._holders.get(key) is not known:  # another thread has made or dropped one meanwhile
                    continue
                self._holders[key] = made
                made.handles.add(handle)
                self._used.setdefault(handle, set()).add(key)
                return made

    def _made(self, opened: Descriptor) -> _Holder:
        try:
            self._room.require()
        except FsError:
            raise FsError(errno.ENOLCK) from None
        descriptor = self._reopen(opened)
        self._room.took(descriptor.fd)
        return _Holder(descriptor)

    def _reopen(self, opened: Descriptor) -> Descriptor:
        # For reading and writing if possible: the owner may want both kinds of lock, if through different handles.
        # Never waiting for somebody's lease.
        own = fcntl.fcntl(opened.fd, fcntl.F_GETFL) & os.O_ACCMODE
        wanted = os.O_RDONLY if self._read_only() else os.O_RDWR
        if own != wanted:
            try:
                return Descriptor(os.open(opened.path, wanted | os.O_NONBLOCK))
            except OSError:  # EACCES, EROFS, ETXTBSY, EAGAIN, ...
                pass
        try:
            return Descriptor(os.open(opened.path, own | os.O_NONBLOCK))
        except BlockingIOError:
            raise FsError(errno.ENOLCK) from None

    def _forget(self, handle: FileHandle, key: _Key) -> None:
        keys = self._used[handle]
        keys.discard(key)
        if not keys:
            del self._used[handle]


def _note(holder: _Holder, lock: RecordLock) -> None:
    if holder.locked is None:
        return
    locked: list[RecordLock] = []
    for other in holder.locked:
        if other.end < lock.start or lock.end < other.start:
            locked.append(other)
            continue
        if other.start < lock.start:
            locked.append(other._replace(end=lock.start - 1))
        if lock.end < other.end:
            locked.append(other._replace(start=lock.end + 1))
    if lock.kind != fcntl.F_UNLCK:
        locked.append(lock)
    holder.locked = locked if len(locked) <= NOTED_LIMIT else None


def _in_the_way(holder: _Holder, wanted: RecordLock) -> bool:
    return any(
        lock.start <= wanted.end and wanted.start <= lock.end and fcntl.F_WRLCK in {lock.kind, wanted.kind}
        for lock in holder.locked or ()
    )


def _pack(lock: RecordLock) -> bytes:
    length = 0 if lock.end == TO_THE_END else lock.end - lock.start + 1
    return _FLOCK.pack(lock.kind, os.SEEK_SET, lock.start, length, 0)
