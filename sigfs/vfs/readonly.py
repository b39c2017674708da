"""Whether a mount may be written to, which ``mount -o remount`` changes without asking its server."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class ReadOnly:
    """Whether the mount is read-only. Any thread may ask.

    A request to change something comes only while the kernel lets it through. So whoever answers requests may take a
    mount that was writable once for writable, and looks again before it refuses one; whoever changes something of its
    own accord looks (``now``).
    """

    def __init__(self, read_only: bool, look: Callable[[], bool | None] = lambda: None) -> None:
        """Begin as it is going to be mounted.

        Args:
            look: says how it is mounted; None: it is not (yet, or any more), and stays what it was.
        """
        self._value = read_only
        self._look = look
        self.on_writable: Callable[[], None] = lambda: None
        """Called when it turns out to be writable by now; maybe from several threads at once, and within a request."""

    def __call__(self) -> bool:
        """As a request needs it: costs nothing unless the mount was read-only when last looked at."""
        return self._value and self.now()

    def now(self) -> bool:
        """As it is now."""
        before, found = self._value, self._look()
        if found is not None:
            self._value = found
            if before and not found:
                self.on_writable()
        return self._value
