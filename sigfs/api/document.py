"""Documents: the mutable data of a job or project, as Python programs meet it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from sigfs.api.mapping import LiveMapping
from sigfs.model.document import JsonFile


class Document(LiveMapping):
    """A document, live: each look reads the file, each call that changes something writes it.

    One call is one change, and no change is lost, however many processes make them: ``doc.update(a=1, b=2)``,
    ``doc.log.append("x")``. What takes several calls, as ``doc.n += 1`` does, is one change in a `transaction`.
    """

    __slots__ = ()

    _backend: JsonFile

    def __init__(self, file: JsonFile) -> None:
        """The document that *file* holds; nothing is touched."""
        super().__init__(file)

    @contextlib.contextmanager
    def transaction(self, timeout_s: float | None = None) -> Iterator[Document]:
        """Make one change of all that the block does to the document, through whatever handle; gives the document.

        Other processes and threads that change it wait until the block ends; who reads sees what was before. If the
        block raises, nothing is written. Within another transaction of the thread, it is part of that.

            with job.doc.transaction() as doc:
                doc.n = doc.get("n", 0) + 1

        Do not wait in it for others who change the same document, nor ``await`` in it.

        Args:
            timeout_s: how long to wait for others; for ever if None.
        Raises:
            TimeoutError: others have had it for too long.
            DocumentChanged: a program that takes no lock, such as signac, has changed it meanwhile; nothing is written.
        """
        with self._backend.edit(timeout_s, savepoint=True):
            yield self
