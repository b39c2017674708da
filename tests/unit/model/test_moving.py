"""Moving and removing directories of jobs: by one rename, or by a copy that says all that the original said."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sigfs.errors import DestinationExists, JobChanged, NoSuchJob
from sigfs.model import copying, moving, trees
from tests.support.elsewhere import another_file_system, mounted

SP = "signac_statepoint.json"


@pytest.fixture(params=["same", "other"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A directory in the same file system as *tmp_path*, or in another one."""
    if request.param == "same":
        (tmp_path / "target").mkdir()
        yield tmp_path / "target"
    else:
        with another_file_system(tmp_path) as path:
            yield path


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Path]:
    with another_file_system(tmp_path) as path:
        yield path


def make_job(path: Path) -> Path:
    path.mkdir()
    (path / SP).write_text('{"a": 1}')
    (path / "data").mkdir()
    (path / "data" / "x").write_bytes(b"x" * 300_000)
    return path


@contextlib.contextmanager
def opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)


def names(path: Path) -> list[str]:
    return sorted(os.listdir(path))


def test_a_moved_job_is_whole_and_nothing_else_is_there(tmp_path: Path, target: Path) -> None:
    job = make_job(tmp_path / "job")
    moving.move(str(job), str(target / "new"))
    assert (target / "new" / SP).read_text() == '{"a": 1}'
    assert (target / "new" / "data" / "x").read_bytes() == b"x" * 300_000
    assert names(target) == ["new"]
    assert "job" not in names(tmp_path)
    assert not [name for name in names(tmp_path) if name.startswith("._sigfs")]
    assert names(target / "new") == ["data", SP]


def describe(path: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    inodes: dict[int, str] = {}
    for directory, subdirectories, files in os.walk(path):
        for name in [".", *subdirectories, *files]:
            each = os.path.normpath(os.path.join(directory, name))
            status = os.lstat(each)
            content: object = None
            if stat.S_ISREG(status.st_mode):
                content = Path(each).read_bytes()
            elif stat.S_ISLNK(status.st_mode):
                content = os.readlink(each)
            relative = os.path.relpath(each, path)
            first = relative if stat.S_ISDIR(status.st_mode) else inodes.setdefault(status.st_ino, relative)
            attributes = {key: os.getxattr(each, key) for key in os.listxattr(each, follow_symlinks=False)}
            found[relative] = (
                status.st_mode,
                status.st_uid,
                status.st_gid,
                status.st_mtime_ns,
                content,
                first,
                attributes,
            )
    return found


def test_a_copy_keeps_everything(tmp_path: Path, far: Path) -> None:
    job = make_job(tmp_path / "job")
    (job / "empty").touch()
    (job / "link").symlink_to("data/x")
    (job / "dangling").symlink_to("/nowhere")
    (job / "to directory").symlink_to("data")
    os.link(job / "data" / "x", job / "same")
    os.link(job / "link", job / "same link", follow_symlinks=False)
    os.mkfifo(job / "fifo", 0o640)
    server = socket.socket(socket.AF_UNIX)
    here = os.open(job, os.O_RDONLY)
    server.bind(f"/proc/self/fd/{here}/socket")
    os.close(here)
    server.close()
    (job / "data" / "closed").mkdir()
    (job / "data" / "closed" / "deep").write_text("deep")
    (job / os.fsdecode(b"\xff\n ")).write_text("hostile")
    (job / ("n" * 255)).write_text("long")
    for name, mode in (("same", 0o604), ("empty", 0o4711), ("data/closed/deep", 0o400), ("data/closed", 0o2555)):
        os.chmod(job / name, mode)
    if os.geteuid() == 0:
        os.chown(job / "data" / "closed" / "deep", 12345, 54321)
        os.chown(job / "link", 12345, 54321, follow_symlinks=False)
    for k, name in enumerate(["same", "link", "data/closed", "data", ".", "fifo"]):
        os.utime(job / name, ns=(1_000_000_000 + k, 10**18 + 123_456_789 + k), follow_symlinks=False)
    before = describe(job)
    moving.move(str(job), str(far / "new"))
    assert describe(far / "new") == before


def test_attributes_and_acls_are_kept_and_none_is_inherited(tmp_path: Path, far: Path) -> None:
    job = make_job(tmp_path / "job")
    try:
        os.setxattr(far, "user.test", b"")
        os.setxattr(job / "data" / "x", "user.note", b"\0precious")
        os.setxattr(job / "data", "user.note", b"too")
        subprocess.run(["setfacl", "-m", "u:12345:r", str(job / "data" / "x")], check=True)
        subprocess.run(["setfacl", "-d", "-m", "u:12345:rwx", str(job / "data")], check=True)
        subprocess.run(["setfacl", "-d", "-m", "u:54321:rwx", str(far)], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no extended attributes here: {error}")
    (job / "plain").mkdir()
    before = describe(job)
    assert before["data/x"][-1].keys() == {"user.note", "system.posix_acl_access"}  # type: ignore[index]
    moving.move(str(job), str(far / "new"))
    after = describe(far / "new")
    assert after == before


def test_holes_stay_holes(tmp_path: Path, far: Path) -> None:
    job = make_job(tmp_path / "job")
    with open(job / "sparse", "wb") as file:
        for place in (0, 2**30, 2**40):
            file.seek(place)
            file.write(b"here")
        file.truncate(2**41)
    moving.move(str(job), str(far / "new"))
    status = os.stat(far / "new" / "sparse")
    assert status.st_size == 2**41
    assert status.st_blocks * 512 < 2**20
    with open(far / "new" / "sparse", "rb") as file:
        for place in (0, 2**30, 2**40):
            file.seek(place)
            assert file.read(5) == b"here\0"


def test_nothing_is_ever_replaced(tmp_path: Path, target: Path) -> None:
    job = make_job(tmp_path / "job")
    for name in ("file", "empty", "full", "link"):
        new = target / name
        if name == "file":
            new.write_text("old")
        elif name == "link":
            new.symlink_to("nowhere")
        else:
            new.mkdir()
            if name == "full":
                (new / "x").touch()
        with pytest.raises(DestinationExists, match=name) as caught:
            moving.move(str(job), str(new))
        assert caught.value.errno == errno.EEXIST
    assert names(target) == ["empty", "file", "full", "link"]
    assert names(target / "empty") == []
    assert names(job) == ["data", SP]


def test_missing_directories_are_made_and_taken_away_again_after_an_error(tmp_path: Path, target: Path) -> None:
    job = make_job(tmp_path / "job")
    with pytest.raises(NoSuchJob):
        moving.move(str(tmp_path / "none"), str(target / "a" / "b" / "new"))
    assert names(target) == []
    moving.move(str(job), str(target / "a" / "b" / "new"))
    assert (target / "a" / "b" / "new" / SP).exists()


def test_a_job_does_not_go_into_itself(tmp_path: Path) -> None:
    job = make_job(tmp_path / "job")
    for inside in (job / "data" / "new", job / "new", job / "made" / "new"):
        with pytest.raises(ValueError, match="inside"):
            moving.move(str(job), str(inside))
    (tmp_path / "alias").symlink_to("job")
    with pytest.raises(ValueError, match="inside"):
        moving.move(str(job), str(tmp_path / "alias" / "new"))
    assert names(job) == ["data", SP]


def test_where_it_is_already_is_taken(tmp_path: Path) -> None:
    job = make_job(tmp_path / "job")
    with pytest.raises(DestinationExists):
        moving.move(str(job), str(job))


@pytest.mark.parametrize("kind", ["file", "link"])
def test_only_directories_are_moved(tmp_path: Path, target: Path, kind: str) -> None:
    job = make_job(tmp_path / "job")
    other = tmp_path / "other"
    other.write_text("") if kind == "file" else other.symlink_to("job")
    with pytest.raises(NotADirectoryError, match="other"):
        moving.move(str(other), str(target / "new"))
    assert names(job) == ["data", SP]
    assert names(target) == []


def test_a_full_disk_leaves_the_job_where_it_is(tmp_path: Path) -> None:
    job = make_job(tmp_path / "job")
    with another_file_system(tmp_path, size_bytes=200_000) as far:
        with pytest.raises(OSError, match="cannot move") as caught:
            moving.move(str(job), str(far / "new"))
        assert caught.value.errno == errno.ENOSPC
        assert names(far) == []
    assert (job / "data" / "x").read_bytes() == b"x" * 300_000


def test_a_job_somebody_writes_into_is_not_copied(tmp_path: Path, far: Path) -> None:
    job = make_job(tmp_path / "job")
    with open(job / "data" / "x", "ab") as file, opened(job) as fd:
        if trees.is_quiet(fd):
            pytest.skip("no leases on this file system")
        with pytest.raises(JobChanged, match="open for writing"):
            moving.move(str(job), str(far / "new"))
        file.write(b"more")
    assert names(far) == []
    assert (job / "data" / "x").read_bytes() == b"x" * 300_000 + b"more"
    moving.move(str(job), str(far / "new"))


@pytest.mark.parametrize("times", [1, 9])
def test_what_is_written_while_it_is_copied_is_in_the_copy_or_keeps_it_here(
    tmp_path: Path, far: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    job = make_job(tmp_path / "job")
    copy, written = copying.copy, []

    def copy_and_write(*args: object) -> object:
        seen = copy(*args)  # type: ignore[arg-type]
        if len(written) < times:
            written.append(f"new {len(written)}")
            (job / "data" / written[-1]).write_text("precious")
            with open(job / "data" / "x", "r+b") as file:  # same size, same time
                status = os.stat(file.fileno())
                file.write(b"%d" % len(written))
                file.flush()
                os.utime(file.fileno(), ns=(status.st_atime_ns, status.st_mtime_ns))
        return seen

    monkeypatch.setattr(copying, "copy", copy_and_write)
    if times == 1:
        moving.move(str(job), str(far / "new"))
        where = far / "new"
        assert "job" not in names(tmp_path)
    else:
        with pytest.raises(JobChanged, match="just been changed"):
            moving.move(str(job), str(far / "new"))
        where = job
        assert names(far) == []
    assert set(written) <= set(names(where / "data"))
    assert (where / "data" / "x").read_bytes()[:1] == b"%d" % len(written)


def test_what_is_written_at_the_last_moment_brings_the_job_back(
    tmp_path: Path, far: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(tmp_path / "job")
    rename = moving._rename_same

    def write_and_rename(fd: int, *args: object) -> None:
        rename(fd, *args)  # type: ignore[arg-type]
        if not (far / "late").exists():
            (far / "late").touch()
            here = os.open("late", os.O_CREAT | os.O_WRONLY, dir_fd=fd)
            os.write(here, b"precious")
            os.close(here)

    monkeypatch.setattr(moving, "_rename_same", write_and_rename)
    with pytest.raises(JobChanged):
        moving.move(str(job), str(far / "new"))
    assert (job / "late").read_bytes() == b"precious"
    assert names(far) == ["late"]
    assert names(tmp_path) == ["job"]


def test_who_works_in_the_copy_already_keeps_it(tmp_path: Path, far: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make_job(tmp_path / "job")

    def fail(*_: object) -> None:
        (far / "new" / "mine").write_text("precious")
        raise NoSuchJob("gone")

    monkeypatch.setattr(moving, "_rename_same", fail)
    with pytest.raises(NoSuchJob):
        moving.move(str(job), str(far / "new"))
    assert (far / "new" / "mine").read_text() == "precious"
    assert (job / "data" / "x").exists()


def test_a_file_system_mounted_in_the_job_stays_untouched(tmp_path: Path, far: Path) -> None:
    job = make_job(tmp_path / "job")
    with mounted(job / "data") as inner:
        (inner / "precious").touch()
        with pytest.raises(OSError, match="mounted"):
            moving.move(str(job), str(far / "new"))
        with pytest.raises(OSError, match="mounted"):
            moving.remove(str(job))
        assert (inner / "precious").exists()
    assert names(far) == []


def test_removing_follows_no_link(tmp_path: Path) -> None:
    job = make_job(tmp_path / "job")
    outside = make_job(tmp_path / "outside")
    (job / "link").symlink_to(outside)
    (job / "data" / "closed").mkdir(mode=0o500)
    moving.remove(str(job))
    assert names(tmp_path) == ["outside"]
    assert names(outside) == ["data", SP]
    with pytest.raises(NoSuchJob):
        moving.remove(str(job))
    (tmp_path / "link").symlink_to(outside)
    with pytest.raises(NotADirectoryError):
        moving.remove(str(tmp_path / "link"))
    assert names(outside) == ["data", SP]


def move_at_once(barrier: threading.Barrier, job: Path, new: Path, result: int, results: list[object]) -> None:
    barrier.wait()
    try:
        moving.move(str(job), str(new))
        results.append(result)
    except (NoSuchJob, DestinationExists, JobChanged) as error:
        results.append(error)


def test_of_many_who_move_one_job_one_succeeds(tmp_path: Path, target: Path) -> None:
    for turn in range(5):
        job = make_job(tmp_path / f"job{turn}")
        results: list[object] = []
        barrier = threading.Barrier(4)
        threads = [
            threading.Thread(target=move_at_once, args=(barrier, job, target / f"new{turn}-{k % 2}", k % 2, results))
            for k in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = [name for name in names(target) if name.startswith(f"new{turn}")]
        winners = [result for result in results if isinstance(result, int)]
        if winners:
            assert found == [f"new{turn}-{winners[0]}"], results
            assert not job.exists()
        else:  # those who copied it got in each other's way
            assert job.exists()
            assert found == []
        assert len(winners) <= 1
    assert not [name for name in names(target) + names(tmp_path) if name.startswith("._")]


def test_an_unfinished_copy_is_completed(tmp_path: Path, far: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make_job(tmp_path / "job")
    (job / "big").write_bytes(b"b" * 100_000)
    moves = "import sys\nfrom sigfs.model import moving, copying\nimport os\n"
    program = (
        f"{moves}keep = copying._copy_file\n"
        "def stop(s, t, name, is_complete):\n    keep(s, t, name, is_complete)\n    name == 'big' and os._exit(9)\n"
        "copying._copy_file = stop\nmoving.move(*sys.argv[1:])"
    )
    done = subprocess.run([sys.executable, "-c", program, str(job), str(far / "new")], cwd=Path(__file__).parents[3])
    assert done.returncode == 9
    (left,) = names(far)
    assert left.startswith("._sigfs_copy_")
    (job / "data" / "late").touch()
    written: list[str] = []
    data = copying._copy_data
    monkeypatch.setattr(copying, "_copy_data", lambda *args: (written.append(""), data(*args)))
    moving.move(str(job), str(far / "new"))
    assert len(written) == 2  # what has come since, and the state point
    assert names(far) == ["new"]
    assert (far / "new" / "big").read_bytes() == b"b" * 100_000


def test_a_copy_with_a_flipped_bit_is_written_anew(tmp_path: Path, far: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make_job(tmp_path / "job")
    data, broken = copying._copy_data, []

    def flip(fd: int, copy_fd: int, size: int) -> None:
        data(fd, copy_fd, size)
        if size == 300_000 and len(broken) < limit:
            broken.append(os.pwrite(copy_fd, b"y", 1000))

    monkeypatch.setattr(copying, "_copy_data", flip)
    limit = 2
    with pytest.raises(OSError, match="not what can be read") as caught:
        moving.move(str(job), str(far / "new"))
    assert caught.value.errno == errno.EIO
    assert names(far) == []
    limit = 3
    moving.move(str(job), str(far / "new"))
    assert (far / "new" / "data" / "x").read_bytes() == b"x" * 300_000


def test_permissions_are_those_of_files_and_directories_may_be_entered(tmp_path: Path) -> None:
    job = make_job(tmp_path / "job")
    outside = tmp_path / "outside"
    outside.write_text("")
    outside.chmod(0o600)
    (job / "link").symlink_to(outside)
    with opened(job) as fd:
        trees.set_permissions(fd, 0o640)
    modes = {name: stat.S_IMODE(os.stat(job / name).st_mode) for name in (".", SP, "data", "data/x", "link")}
    assert modes == {".": 0o750, SP: 0o640, "data": 0o750, "data/x": 0o640, "link": 0o600}


def test_what_is_nested_too_deep_stays_whole(tmp_path: Path, far: Path) -> None:
    job = make_job(tmp_path / "job")
    fd = os.open(job, os.O_RDONLY)
    for _ in range(2000):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    for use in (lambda: moving.move(str(job), str(far / "new")), lambda: moving.remove(str(job))):
        with pytest.raises(OSError, match=r"deep|many open files"):
            use()
    assert names(far) == []
    assert names(job) == ["d", "data", SP]
    moving.move(str(job), str(tmp_path / "new"))
    subprocess.run(["rm", "-rf", str(tmp_path / "new")], check=True)


COUNTER = """
import sys
from sigfs import Job
from sigfs.errors import NoSuchJob
done = 0
while done < int(sys.argv[1]):
    for path in sys.argv[2:]:
        try:
            with Job(path).doc.transaction() as doc:
                doc.n = doc.get("n", 0) + 1
        except NoSuchJob:
            continue
        done += 1
        break
"""


def test_no_change_of_a_document_is_lost_while_the_job_moves_to_and_fro(tmp_path: Path, far: Path) -> None:
    places = [str(tmp_path / "job"), str(far / "job")]
    make_job(tmp_path / "job")
    (tmp_path / "job" / "signac_job_document.json").write_text("{}")  # who makes it first has nothing to lock
    command = [sys.executable, "-c", COUNTER, "40", *places]
    counters = [subprocess.Popen(command, cwd=Path(__file__).parents[3]) for _ in range(2)]
    moves = 0
    try:
        while any(counter.poll() is None for counter in counters):
            try:
                moving.move(places[moves % 2], places[(moves + 1) % 2])
                moves += 1
            except (JobChanged, TimeoutError):
                continue
    finally:
        for counter in counters:
            counter.wait()
    assert [counter.returncode for counter in counters] == [0, 0]
    where = Path(places[moves % 2])
    assert (where / "signac_job_document.json").read_text() == '{"n": 80}'
    assert sorted(names(where)) == ["data", "signac_job_document.json", SP]
