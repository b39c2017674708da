"""Who moves or removes a directory may be killed at any call, or have any call fail: the job is whole in one place."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from sigfs.errors import NoSuchJob
from sigfs.model import moving
from sigfs.model.reading import DOCUMENT_FILE, STATEPOINT_FILE
from tests.support.elsewhere import another_file_system
from tests.support.stepping import every_call, fail_at_each_call, kill_at_each_call

pytestmark = pytest.mark.timeout(900)

FAR = "SIGFS_TEST_FAR"  # in the environment: the directory in another file system

STOPS = pytest.mark.parametrize("code", [None, errno.ENOSPC, errno.EACCES])

DATA = {"x": "precious", "below/y": "y" * 3000, "below/z": "z", STATEPOINT_FILE: '{"a": 1}', DOCUMENT_FILE: "{}"}


def far_of(path: str) -> str:
    """The directory in the other file system that belongs to this run."""
    return os.path.join(os.environ[FAR], os.path.basename(path))


def one_job(path: str) -> None:
    for name, text in DATA.items():
        file = Path(path, "job", name)
        file.parent.mkdir(exist_ok=True, parents=True)
        file.write_text(text, encoding="utf-8")
        os.utime(file, (1000, 1000))
    os.symlink("x", os.path.join(path, "job", "link"))
    os.link(os.path.join(path, "job", "x"), os.path.join(path, "job", "below", "same"))
    os.mkdir(os.path.join(path, "target"))
    os.makedirs(far_of(path), exist_ok=True)


def changed(path: str) -> None:
    one_job(path)
    Path(path, "job", "x").write_text("changed", encoding="utf-8")


def by_rename(path: str) -> None:
    moving.move(os.path.join(path, "job"), os.path.join(path, "target", "made", "new"))


def to_far(path: str) -> None:
    moving.move(os.path.join(path, "job"), os.path.join(far_of(path), "new"))


def remove(path: str) -> None:
    moving.remove(os.path.join(path, "job"))


def is_whole(directory: str) -> bool:
    """Whether there is a job, which has to be whole then."""
    if not os.path.lexists(directory):
        return False
    for name, text in DATA.items():
        assert Path(directory, name).read_text(encoding="utf-8") == text, name
    assert os.readlink(os.path.join(directory, "link")) == "x"
    assert os.path.samefile(os.path.join(directory, "x"), os.path.join(directory, "below", "same"))
    return True


def clean(directory: str) -> list[str]:
    """Names in a directory that are no leftovers; jobs in leftovers do not look like jobs."""
    return sorted(name for name in os.listdir(directory) if not name.startswith("._sigfs_"))


def look_renamed(path: str) -> None:
    old, new = os.path.join(path, "job"), os.path.join(path, "target", "made", "new")
    assert is_whole(old) != is_whole(new)
    if os.path.exists(old):
        by_rename(path)
    assert is_whole(new)
    assert os.listdir(path) == ["target"]


def look_far(path: str) -> None:
    old, new = os.path.join(path, "job"), os.path.join(far_of(path), "new")
    was_there, is_there = is_whole(old), is_whole(new)
    assert was_there or is_there
    if was_there and is_there:
        assert moving.finish(new)  # as whoever meets it
    elif was_there:
        assert clean(far_of(path)) == []
        to_far(path)
    else:
        moving.finish(new)
        with pytest.raises(NoSuchJob):
            to_far(path)
    look_done(path)


def look_again(path: str) -> None:
    """As `look_far`, for those who just do it again."""
    was_there = is_whole(os.path.join(path, "job"))
    assert was_there or is_whole(os.path.join(far_of(path), "new"))
    try:
        to_far(path)
    except NoSuchJob:
        assert not was_there
    look_done(path)


def look_done(path: str) -> None:
    new = os.path.join(far_of(path), "new")
    assert is_whole(new)
    assert os.listdir(path) == ["target"]
    assert os.listdir(far_of(path)) == ["new"]
    assert not [name for name in os.listdir(new) if name.startswith("._")]
    assert not os.path.exists(os.path.join(path, "job"))
    shutil.rmtree(far_of(path))


def look_failed(path: str) -> None:
    """A call that fails, and no kill: it is where it was, or where it was to be; and nothing is left over there."""
    old, new = os.path.join(path, "job"), os.path.join(far_of(path), "new")
    assert is_whole(old) != is_whole(new)
    assert os.listdir(far_of(path)) in ([], ["new"])
    for name in set(os.listdir(path)) - {"job", "target"}:  # said in the log: what could not be removed
        shutil.rmtree(os.path.join(path, name))
    look_far(path)


def look_removed(path: str) -> None:
    if is_whole(os.path.join(path, "job")):
        remove(path)
    assert clean(path) == ["target"]


@STOPS
def test_a_job_that_is_renamed(tmp_path: Path, code: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FAR, str(tmp_path))
    steps = (one_job, by_rename, look_renamed, tmp_path / "runs")
    (tmp_path / "runs").mkdir()
    calls = kill_at_each_call(*steps) if code is None else fail_at_each_call(code, *steps)
    every_call(calls, "renameat2", "mkdir")


@pytest.mark.parametrize("look", [look_far, look_again])
def test_a_job_that_is_moved_to_another_file_system_is_whole_after_a_kill(
    tmp_path: Path, look: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    with another_file_system(tmp_path) as far:
        monkeypatch.setenv(FAR, str(far))
        (tmp_path / "runs").mkdir()
        calls = kill_at_each_call(one_job, to_far, look, tmp_path / "runs")  # type: ignore[arg-type]
    every_call(calls, "renameat2", "renameat", "mkdirat", "symlinkat", "linkat", "ftruncate", "unlinkat", "utimensat")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES])
def test_a_job_that_is_moved_to_another_file_system_is_whole_after_a_failure(
    tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with another_file_system(tmp_path) as far:
        monkeypatch.setenv(FAR, str(far))
        (tmp_path / "runs").mkdir()
        fail_at_each_call(code, one_job, to_far, look_failed, tmp_path / "runs")


@STOPS
def test_a_job_that_is_removed(tmp_path: Path, code: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FAR, str(tmp_path))
    (tmp_path / "runs").mkdir()
    steps = (one_job, remove, look_removed, tmp_path / "runs")
    calls = kill_at_each_call(*steps) if code is None else fail_at_each_call(code, *steps)
    every_call(calls, "renameat2", "unlinkat")
