"""What the disk said a moment ago, for requests that must not wait for it.

Owned here: ``Recent``. What a virtual directory shows of the disk is no reason to hang with it.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

Value = TypeVar("Value")

MAX_AGE_S: Final = 0.1
"""How old a value may be while the disk answers: one that is older is read again, by a thread of its own, before it is
given. Ten threads a second at most, about 0.1 ms each."""
PATIENCE_S: Final = 0.02
"""How long that is waited for. Then, and as long as the disk does not answer, the old value has to do."""


class Recent(Generic[Value]):
    """A value that is read again when it is asked for. Any thread may call ``get``.

    ``_reading`` is held while it is being read, by the thread that reads or is about to; nobody waits for it.
    """

    def __init__(self, read: Callable[[], Value], max_age_s: float = MAX_AGE_S, patience_s: float = PATIENCE_S) -> None:
        """Read it for the first time.

        Args:
            read: may raise OSError; the value then stays what it was.
            max_age_s, patience_s: as ``MAX_AGE_S`` and ``PATIENCE_S``.
        """
        self._read = read
        self._max_age_s, self._patience_s = max_age_s, patience_s
        self._reading = threading.Lock()
        self._value = read()
        self._good_until_s = time.monotonic() + self._max_age_s

    def get(self) -> Value:
        """Give the value. Complexity: O(1) and no system call, but for one in ``MAX_AGE_S``."""
        if time.monotonic() >= self._good_until_s and self._reading.acquire(blocking=False):
            thread = threading.Thread(target=self._renew, name="sigfs-recent", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no more threads
                self._reading.release()
                raise
            thread.join(self._patience_s)
        return self._value

    def _renew(self) -> None:
        try:
            self._value = self._read()
        except OSError as error:
            log.debug("not read again: %s", error)
        finally:
            self._good_until_s = time.monotonic() + self._max_age_s
            self._reading.release()
