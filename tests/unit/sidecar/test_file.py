"""The file of a sidecar: many append to it, it is replaced meanwhile, and no line is lost."""

from __future__ import annotations

import errno
import os
import stat
import threading
from pathlib import Path

import pytest

from sigfs.errors import SidecarError
from sigfs.sidecar import SidecarFile
from sigfs.sidecar import file as module
from sigfs.sidecar.lines import encode, header

HEADER = header("md5", "workspace")


def line(job_id: str, n: int = 0) -> bytes:
    return encode({"id": job_id, "n": n})


@pytest.fixture
def file(tmp_path: Path) -> SidecarFile:
    made = SidecarFile(str(tmp_path))
    assert made.begin(HEADER)
    return made


def said(file: SidecarFile) -> dict[str, object]:
    return {job_id: record["n"] for job_id, record in file.read().jobs.items()}


def test_it_is_made_once(file: SidecarFile) -> None:
    file.append([line("a")])
    assert not file.begin(HEADER)
    assert said(file) == {"a": 0}
    assert os.listdir(os.path.dirname(file.path)) == ["jobs.jsonl"]


@pytest.mark.parametrize(("mode", "expected"), [(0o755, 0o600), (0o700, 0o600), (0o775, 0o660), (0o2770, 0o660)])
def test_it_is_for_the_group_where_the_project_is(tmp_path: Path, mode: int, expected: int) -> None:
    tmp_path.chmod(mode)
    file = SidecarFile(str(tmp_path))
    before = os.umask(0)
    try:
        file.begin(HEADER)
    finally:
        os.umask(before)
    file.compact(force=True)
    assert stat.S_IMODE(os.stat(file.path).st_mode) == expected
    assert not os.stat(os.path.dirname(file.path)).st_mode & 0o007


@pytest.mark.skipif(os.geteuid() != 0, reason="only root could make it in the project of somebody else")
def test_root_makes_none_in_the_project_of_somebody_else(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 12345)
    with pytest.raises(SidecarError, match="belongs to user 12345"):
        SidecarFile(str(tmp_path)).begin(HEADER)
    assert os.listdir(tmp_path) == []


def test_without_a_file_nothing_is_read_or_added(tmp_path: Path) -> None:
    file = SidecarFile(str(tmp_path))
    assert not file.exists
    with pytest.raises(FileNotFoundError):
        file.append([line("a")])
    with pytest.raises(FileNotFoundError):
        file.read()
    assert os.listdir(tmp_path) == []


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(HEADER)
    os.makedirs(tmp_path / ".sigfs" / "sidecar")
    file = SidecarFile(str(tmp_path))
    os.symlink("../../other", file.path)
    with pytest.raises(OSError, match="symbolic link"):
        file.append([line("a")])
    assert (tmp_path / "other").read_bytes() == HEADER


def test_a_torn_last_line_does_not_count_and_goes_with_the_next_one(file: SidecarFile) -> None:
    file.append([line("a")])
    with open(file.path, "ab") as torn:
        torn.write(line("b")[:-4])
    found = file.read()
    assert (list(found.jobs), found.torn, found.broken) == (["a"], True, [])
    file.append([line("c")])
    assert Path(file.path).read_bytes() == HEADER + line("a") + line("c")


def test_a_last_line_that_only_lacks_its_end_counts_and_stays(file: SidecarFile) -> None:
    with open(file.path, "ab") as torn:
        torn.write(line("b")[:-1])
    assert list(file.read().jobs) == ["b"]
    file.append([line("c")])
    assert Path(file.path).read_bytes() == HEADER + line("b") + line("c")


@pytest.mark.parametrize("content", [b'{"format": "sigfs-sidecar", "version": 2}\n', b"text\n", b""])
def test_what_is_none_or_newer_is_left_as_it_is(file: SidecarFile, content: bytes) -> None:
    file.append([line("a")])
    os.unlink(file.path)
    Path(file.path).write_bytes(content)
    for act in (file.read, lambda: file.append([line("a")]), lambda: file.compact(force=True)):
        with pytest.raises(SidecarError):
            act()
    assert Path(file.path).read_bytes() == content


def test_where_there_is_no_space_nothing_is_added(file: SidecarFile, monkeypatch: pytest.MonkeyPatch) -> None:
    file.append([line("a")])
    write = os.write

    def full(fd: int, data: bytes) -> int:
        if len(data) < 10:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, bytes(data)[: len(data) - 5])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space"):
            file.append([line("b")])
    assert Path(file.path).read_bytes() == HEADER + line("a")
    file.append([line("c")])
    assert said(file) == {"a": 0, "c": 0}


def test_a_shorter_file_says_the_same(file: SidecarFile) -> None:
    file.append([line("a"), line("b"), encode({"note": 1}), line("a", 1), encode({"id": "b", "gone": True})])
    file.append([encode({"id": "a", "more": 2}), line("c", 3)])
    before = file.read().jobs
    assert file.compact(force=True)
    assert file.read().jobs == before == {"a": {"id": "a", "n": 1, "more": 2}, "c": {"id": "c", "n": 3}}
    assert Path(file.path).read_bytes().count(b"\n") == 4
    assert b'{"note": 1}' in Path(file.path).read_bytes()
    assert os.listdir(os.path.dirname(file.path)) == ["jobs.jsonl"]
    assert not file.compact()


def test_it_is_made_shorter_when_more_than_half_says_nothing_any_more(
    file: SidecarFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEAST_COMPACTED_BYTES", 1000)
    sizes = []
    for n in range(500):
        if file.append([line("a", n)], sync=False):
            file.compact()
        sizes.append(file.size())
    assert max(sizes) < 2200
    assert said(file) == {"a": 499}


def test_lines_that_say_nothing_are_put_aside(file: SidecarFile) -> None:
    file.append([line("a"), b"garbage\n", line("b")])
    assert file.read().broken[0][0] == 3
    assert file.compact(force=True)
    assert (file.read().broken, said(file)) == ([], {"a": 0, "b": 0})
    (aside,) = Path(file.path).parent.glob("broken-*.txt")
    assert aside.read_bytes() == b"garbage\n"


def test_what_others_append_while_it_is_replaced_is_in_the_new_one(
    file: SidecarFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.append([line("a", n) for n in range(9)])
    content = module._content

    def meanwhile(fd: int, ats: tuple[int, ...]) -> bytes:
        SidecarFile(os.path.dirname(os.path.dirname(os.path.dirname(file.path)))).append([line("b", 7)])
        return content(fd, ats)

    monkeypatch.setattr(module, "_content", meanwhile)
    assert file.compact(force=True)
    assert said(file) == {"a": 8, "b": 7}


def test_of_two_that_replace_it_one_does(file: SidecarFile, monkeypatch: pytest.MonkeyPatch) -> None:
    file.append([line("a", n) for n in range(9)])
    content = module._content
    others = []

    def meanwhile(fd: int, ats: tuple[int, ...]) -> bytes:
        monkeypatch.setattr(module, "_content", content)
        others.append(file.compact(force=True))
        file.append([line("c", 1)])
        return content(fd, ats)

    monkeypatch.setattr(module, "_content", meanwhile)
    assert not file.compact(force=True)
    assert others == [True]
    assert said(file) == {"a": 8, "c": 1}
    assert os.listdir(os.path.dirname(file.path)) == ["jobs.jsonl"]


def test_threads_that_append_and_replace_at_once_lose_nothing(file: SidecarFile) -> None:
    troubles = []

    def write(name: str) -> None:
        own = SidecarFile(os.path.dirname(os.path.dirname(os.path.dirname(file.path))))
        try:
            for n in range(40):
                own.append([line(f"{name}{n % 7}", n), line(name, n)], sync=False)
                if n % 10 == 9:
                    own.compact(force=True)
        except Exception as error:  # noqa: BLE001 - told to the test
            troubles.append(error)

    threads = [threading.Thread(target=write, args=(name,)) for name in "xyz"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert troubles == []
    found = said(file)
    assert {name: found[name] for name in "xyz"} == dict.fromkeys("xyz", 39)
    assert len(found) == 24
    assert file.read().broken == []
