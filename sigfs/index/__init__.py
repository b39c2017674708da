"""The searchable copy of what the job directories say: ``apply`` a change, ``find`` in what it knows.

Stands on ``query`` and ``model``; knows nothing of directories, trees or the kernel.
"""

from sigfs.index.column import Selection, is_subset
from sigfs.index.index import Delta, Index
from sigfs.index.table import Table

__all__ = ["Delta", "Index", "Selection", "Table", "is_subset"]
