"""Directory names that fit: what becomes of a name of more than 255 bytes.

Owned here: shortening. How keys and values are spelled and encoded is the path language's business
(``query.path``).
"""

from __future__ import annotations

import re

import xxhash

NAME_MAX_BYTES = 255
"""The longest name that Linux file systems and the FUSE protocol's users accept."""

_SHORTENED = re.compile(r"~[0-9a-f]{16}$")


def shorten(name: str, suffix: str = "") -> str:
    """Give *name* + *suffix* if it fits, else as much of *name* as fits, ``~``, 16 hex digits of its xxh3_64, *suffix*.

    The cut never divides a character or a ``%XX``. Names of different values may collide (64 bits); the tree then
    shows both values' jobs under the one name.

    >>> shorten("x" * 300) == "x" * 238 + "~" + xxhash.xxh3_64_hexdigest(b"x" * 300)
    True
    """
    encoded = name.encode()
    if len(encoded) + len(suffix) <= NAME_MAX_BYTES:
        return name + suffix
    prefix = encoded[: NAME_MAX_BYTES - 17 - len(suffix)].decode(errors="ignore")
    prefix = re.sub(r"%[0-9A-Fa-f]?$", "", prefix)
    return f"{prefix}~{xxhash.xxh3_64_hexdigest(encoded)}{suffix}"


def may_be_shortened(name: str) -> bool:
    """Tell whether *name* looks like an answer of ``shorten``; values that look so by nature are quoted."""
    return _SHORTENED.search(name) is not None
