"""Telling the kernel once more, a moment later.

The kernel's question whether a name still leads where it led may be answered just before a change and the answer be
read just after the kernel was told of it: then the kernel keeps what is not so. The same goes for the attributes of
something that it does not know yet when it is told. What is told again comes after any such answer.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from sigfs.vfs.types import Inode, Notifier

REPEAT_S: Final = 0.5
"""How long after it was told something the kernel is told again: not less, and not more than twice that."""

_Item: TypeAlias = "tuple[Inode, str | None]"
"""(parent, name), or (inode, None)."""


class Repeating:
    """A ``Notifier`` that passes on at once, and again after ``REPEAT_S``; of an inode then only the attributes.

    ``_condition`` guards the fields; nothing is passed on while it is held. The thread is started by the first call.
    """

    def __init__(self, notifier: Notifier, after_s: float = REPEAT_S) -> None:
        """Pass on to *notifier*, again after *after_s*."""
        self._notifier = notifier
        self._after_s = after_s
        self._condition = threading.Condition()
        self._told: dict[_Item, None] = {}
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def invalidate_entry(self, parent: Inode, name: str) -> None:
        """See ``Notifier``."""
        self._notifier.invalidate_entry(parent, name)
        self._repeat((parent, name))

    def invalidate_inode(self, inode: Inode) -> None:
        """See ``Notifier``."""
        self._notifier.invalidate_inode(inode)
        self._repeat((inode, None))

    def invalidate_attributes(self, inode: Inode) -> None:
        """See ``Notifier``."""
        self._notifier.invalidate_attributes(inode)
        self._repeat((inode, None))

    def close(self) -> None:
        """Tell nothing again any more, and end the thread; idempotent."""
        with self._condition:
            self._closed.set()
            self._condition.notify()
        if self._thread is not None:
            self._thread.join()

    def _repeat(self, item: _Item) -> None:
        with self._condition:
            self._told[item] = None
            if self._thread is None and not self._closed.is_set():
                self._thread = threading.Thread(target=self._run, name="sigfs-again", daemon=True)
                self._thread.start()
            self._condition.notify()

    def _run(self) -> None:
        while True:
            with self._condition:
                while not self._told and not self._closed.is_set():
                    self._condition.wait()
                batch, self._told = self._told, {}
            if self._closed.wait(self._after_s):
                return
            for node, name in batch:
                if name is None:
                    self._notifier.invalidate_attributes(node)
                else:
                    self._notifier.invalidate_entry(node, name)
