"""How often to look where nobody tells: fast while things change, slowly while not, and never at more than a small
share of a core.

Owned here: arithmetic. No clock is read.
"""

from __future__ import annotations

from typing import Final

FAST_S: Final = 0.1
"""Between two looks while things change."""

SLOW_S: Final = 3.0
"""Between two looks after a long time without change."""

SLOWING: Final = 1.15
"""Each look that finds nothing makes the next wait this many times longer: 3 s after about 20 s of quiet."""

REST: Final = 20.0
"""Between two looks at least this many times the processor time of the last: 5 % of a core."""


class Pace:
    """The interval between two looks.

    >>> pace = Pace()
    >>> pace.looked(changed=True, cost_s=0.00001), pace.looked(changed=True, cost_s=0.1)
    (0.1, 2.0)
    """

    def __init__(self) -> None:
        """Begin fast."""
        self._eager_s = FAST_S  # what it would be if looking cost nothing
        self.interval_s = FAST_S

    def looked(self, *, changed: bool, cost_s: float) -> float:
        """Give the time until the next look, in seconds.

        Args:
            changed: whether this look found a change.
            cost_s: the processor time of this look.
        """
        self._eager_s = FAST_S if changed else min(SLOW_S, self._eager_s * SLOWING)
        self.interval_s = max(self._eager_s, REST * cost_s)
        return self.interval_s
