"""Whether a mount may be written to, as the kernel says."""

from __future__ import annotations

from sigfs.vfs.readonly import ReadOnly


def test_a_refusal_is_never_given_without_a_look_and_leave_costs_none() -> None:
    looks: list[bool] = []
    kernel: list[bool | None] = [None]

    def look() -> bool | None:
        looks.append(True)
        return kernel[0]

    read_only = ReadOnly(True, look)
    assert read_only()  # not mounted yet
    kernel[0] = True
    assert read_only()
    told: list[None] = []
    read_only.on_writable = lambda: told.append(None)
    kernel[0] = False  # mount -o remount,rw
    assert not read_only()
    assert len(told) == 1
    seen = len(looks)
    assert not read_only()
    assert len(looks) == seen
    kernel[0] = True  # remount,ro: no request to change anything comes any more
    assert not read_only()
    assert read_only.now()
    assert read_only()
    assert len(told) == 1
