"""The options and messages that the two bindings of libfuse 2 share."""

from __future__ import annotations

import os

import pytest

from sigfs.errors import FuseUnavailable
from sigfs.transports.base import MountSpec
from sigfs.transports.libfuse2 import escape, mount_options, mounting


def test_the_options_say_what_the_spec_says() -> None:
    spec = MountSpec("/mnt", "/a,b\\c", read_only=True, allow_other=True, options=("noexec",))
    options = mount_options(spec)
    assert options[:2] == [r"fsname=/a\,b\\c", "subtype=sigfs"]
    assert {"default_permissions", "ro", "allow_other", "noexec"} <= set(options)


def test_without_being_asked_nobody_else_is_let_in() -> None:
    assert {"ro", "allow_other"}.isdisjoint(mount_options(MountSpec("/mnt", "/project")))


@pytest.mark.parametrize("text", ["", "plain", "a,b", "a\\", "\\,"])
def test_an_escaped_value_has_no_bare_comma(text: str) -> None:
    bare = escape(text).replace("\\\\", "").replace("\\,", "")
    assert "," not in bare
    assert "\\" not in bare


def test_what_libfuse_says_becomes_part_of_the_message() -> None:
    def fail() -> None:
        with mounting("/mnt"):
            os.write(2, b"fusermount: no\n")
            raise RuntimeError("fuse_mount failed")

    with pytest.raises(FuseUnavailable, match=r"cannot mount on /mnt: ."):
        fail()


def test_what_libfuse_says_without_failing_is_passed_on(capfd: pytest.CaptureFixture[str]) -> None:
    with mounting("/mnt"):
        os.write(2, b"a remark\n")
    assert capfd.readouterr().err == "a remark\n"
