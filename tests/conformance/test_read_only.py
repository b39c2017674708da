"""A read-only mount shows all and changes nothing."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.support.drivers import Fs, Place

MOUNT_OPTIONS = ("ro",)
NOT_ON = ("plain",)

CHANGES: dict[str, Callable[[Fs], object]] = {
    "create": lambda fs: fs.open("new", os.O_WRONLY | os.O_CREAT),
    "open for writing": lambda fs: fs.open("file", os.O_RDWR),
    "truncate": lambda fs: fs.truncate("file", 0),
    "mkdir": lambda fs: fs.mkdir("new"),
    "rmdir": lambda fs: fs.rmdir("directory"),
    "unlink": lambda fs: fs.unlink("file"),
    "rename": lambda fs: fs.rename("file", "new"),
    "link": lambda fs: fs.link("file", "new"),
    "symlink": lambda fs: fs.symlink("target", "new"),
    "mkfifo": lambda fs: fs.mkfifo("new"),
    "chmod": lambda fs: fs.chmod("file", 0o600),
    "utime": lambda fs: fs.utime("file", 1, 1),
    "setxattr": lambda fs: fs.setxattr("file", "user.x", b"1"),
    "removexattr": lambda fs: fs.removexattr("file", "user.there"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_refused_as_read_only(fs: Fs, change: str) -> None:
    with open(os.path.join(fs.place.below, "file"), "wb") as file:
        file.write(b"kept")
        os.setxattr(file.fileno(), "user.there", b"1")
    before = os.stat(os.path.join(fs.place.below, "file"))
    os.mkdir(os.path.join(fs.place.below, "directory"))
    with pytest.raises(OSError, match="Read-only file system"):
        CHANGES[change](fs)
    assert sorted(os.listdir(fs.place.below)) == ["directory", "file"]
    assert os.stat(os.path.join(fs.place.below, "file")).st_ctime_ns == before.st_ctime_ns
    assert fs.read_file("file") == b"kept"


def test_the_kernel_knows_that_the_mount_is_read_only(here: Place) -> None:
    assert os.statvfs(here.root).f_flag & os.ST_RDONLY
    assert not os.access(here.root, os.W_OK)
