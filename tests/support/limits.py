"""What a driver cannot do, and why: the table that ``docs/transports.md`` mirrors.

``@needs("capability")`` on a test makes it a strict expected failure on the drivers that lack the capability, so that
an entry which has become wrong fails the suite.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

Test = TypeVar("Test", bound=Callable[..., object])

_NO_FLAGS = "libfuse 2 has no rename flags: EINVAL"
_NO_FALLOCATE = "the binding does not hand on fallocate(2): EOPNOTSUPP"
_NO_SHIFTING = "the kernel refuses FALLOC_FL_COLLAPSE_RANGE and FALLOC_FL_INSERT_RANGE for FUSE: EOPNOTSUPP"
_NO_HOLES = "libfuse 2 has no LSEEK: the kernel shows a file without holes"
_EARLY_UMASK = "libfuse 2 leaves the umask to the kernel, which knows no default ACL of ours"
_NO_ACL_CHECK = "libfuse 2 has no POSIX_ACL: the kernel checks modes, and refuses what only an entry of an ACL grants"
_OWN_LOCKS = "the binding has no locks: they are the kernel's, for this mount"
_ONE_THREAD = "it serves one request at a time, and that one waits"
_NO_WRITER = "the binding does not say who writes: set-id bits always go"
_NO_UNNAMED = "libfuse 2 has no TMPFILE: EOPNOTSUPP"
_NO_BIRTH = "libfuse 2 has no STATX: statx(2) gives no birth time"
_NAMELESS = "the high-level interface finds a file by its path, and this one has none: ENOENT"

LIMITS: dict[str, dict[str, str]] = {
    "plain": {},
    "direct": {},
    "kernel": {"collapse and insert": _NO_SHIFTING},
    "llfuse": {
        "rename flags": _NO_FLAGS,
        "unnamed files": _NO_UNNAMED,
        "birth time": _NO_BIRTH,
        "fallocate": _NO_FALLOCATE,
        "collapse and insert": _NO_SHIFTING,
        "holes": _NO_HOLES,
        "default acl": _EARLY_UMASK,
        "access by acl": _NO_ACL_CHECK,
        "locks below": _OWN_LOCKS,
        "leases": _ONE_THREAD,
        "set-id bits for root": _NO_WRITER,
        "inode number below": "the binding has one number for the node and for st_ino",
    },
    "fusepy": {
        "rename flags": _NO_FLAGS,
        "unnamed files": _NO_UNNAMED,
        "birth time": _NO_BIRTH,
        "fallocate": _NO_FALLOCATE,
        "collapse and insert": _NO_SHIFTING,
        "holes": _NO_HOLES,
        "default acl": _EARLY_UMASK,
        "access by acl": _NO_ACL_CHECK,
        "locks below": _OWN_LOCKS,
        "leases": _ONE_THREAD,
        "stat of a removed open file": _NAMELESS,
        "mapping of what is virtual": "its states would share one page cache, so that there is none: ENODEV",
        "one cache for all names": "two names of one file are two nodes with a page cache each",
    },
}


def needs(*capabilities: str) -> Callable[[Test], Test]:
    """Say what a conformance test needs; each capability is one of the keys in ``LIMITS``."""
    known = {capability for limits in LIMITS.values() for capability in limits}
    assert known.issuperset(capabilities), set(capabilities) - known

    def mark(test: Test) -> Test:
        test.needs = capabilities  # type: ignore[attr-defined]
        return test

    return mark


def reason(driver: str, capabilities: tuple[str, ...]) -> str | None:
    """Give why *driver* cannot; None if it can."""
    limits = LIMITS[driver]
    return next((f"{name}: {limits[name]}" for name in capabilities if name in limits), None)
