"""What names of virtual directories lead to, kept until the index changes.

Owned here: answers of ``Tree.find``, which follow from the index alone. Programs ask for the same names again and
again, and finding one takes ten times as long as remembering it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from sigfs.tree import Branch
    from sigfs.tree.nodes import Node
    from sigfs.vfs.types import Inode

    Answer: TypeAlias = tuple[Node, Branch]

_LIMIT: Final = 100_000
"""Names kept at most, some 20 MB. Then all are forgotten."""


class Resolved:
    """Answers by directory and name, all of one generation of the index. Any thread may call any method."""

    def __init__(self) -> None:
        """Know nothing."""
        # Replaced as a whole: what belongs to another generation is put where nobody looks any more.
        self._kept: tuple[int, dict[tuple[Inode, str], Answer]] = (-1, {})

    def get(self, generation: int, parent: Inode, name: str) -> Answer | None:
        """Give what *name* in *parent* led to in this *generation*; None if that is not known."""
        kept, answers = self._kept
        return answers.get((parent, name)) if kept == generation else None

    def keep(self, generation: int, parent: Inode, name: str, answer: Answer) -> None:
        """Remember what *name* in *parent* leads to in *generation*: the one that was being read, not the latest."""
        kept, answers = self._kept
        if kept != generation or len(answers) >= _LIMIT:
            if kept > generation:
                return
            answers = {}
            self._kept = generation, answers
        answers[parent, name] = answer
