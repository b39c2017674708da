"""What names of virtual directories lead to, kept until the index changes.

Owned here: answers of ``Tree.find``, which follow from the index alone. Programs ask for the same names again and
again, and finding one takes ten times as long as remembering it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sigfs.tree import Branch
    from sigfs.tree.nodes import Node, VirtualNode
    from sigfs.vfs.nodes import TreeDirectory

    Answer: TypeAlias = tuple[Node, Branch]

_LIMIT: Final = 100_000
"""Names kept at most, some 40 MB. Then all are forgotten."""


class Resolved:
    """Answers by place and name, all of one generation of the index. Any thread may call any method."""

    def __init__(self) -> None:
        """Know nothing."""
        # Replaced as a whole: what belongs to another generation is put where nobody looks any more.
        self._kept: tuple[int, dict[VirtualNode, dict[str, Answer]]] = (-1, {})
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def answers(self, generation: int, directory: TreeDirectory) -> Mapping[str, Answer]:
        """Give what names of *directory* are known to lead to in this *generation*.

        Nodes come and go with the kernel's cache; what their places list does not. As a place takes long to look up,
        the node remembers what was found.
        """
        known = directory.answers
        if known is None or known[0] != generation:
            kept, by_place = self._kept
            if kept != generation:
                return {}
            known = directory.answers = generation, by_place.setdefault(directory.place, {})
        return known[1]

    def keep(self, generation: int, directory: TreeDirectory, name: str, answer: Answer) -> None:
        """Remember what *name* in *directory* leads to in *generation*: that which was being read, not the latest."""
        kept, by_place = self._kept
        if kept != generation or self._count >= _LIMIT:
            if kept > generation:
                return
            by_place = {}
            self._kept, self._count = (generation, by_place), 0
            directory.answers = None
        known = directory.answers
        if known is None or known[0] != generation:
            known = directory.answers = generation, by_place.setdefault(directory.place, {})
        known[1][name] = answer
        self._count += 1
