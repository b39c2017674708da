"""Expecting an OSError by its errno."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def raises(number: int) -> Iterator[None]:
    """Require the block to raise an OSError with this errno."""
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the errno is compared below
        yield
    assert errno.errorcode.get(caught.value.errno or 0) == errno.errorcode[number]
