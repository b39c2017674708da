"""The searchable copy of what the job directories say: ``apply`` a change, ``find`` in a snapshot.

Stands on ``query`` and ``model``; knows nothing of directories, trees or the kernel.
"""

from sigfs.index.column import Selection
from sigfs.index.index import Delta, Index
from sigfs.index.snapshot import Snapshot

__all__ = ["Delta", "Index", "Selection", "Snapshot"]
