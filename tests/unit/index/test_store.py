"""The store: what is saved is loaded, whoever dies; what is damaged, foreign or hostile is not."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sigfs.api.project import Project, get_project, init_project
from sigfs.index import Index, place
from sigfs.index import store as stores
from sigfs.index.crawl import revalidate
from sigfs.index.place import LOCK, has_unshared_locks
from sigfs.index.store import SNAPSHOT, Store
from sigfs.model.types import Change, JobId, Record, Stamp

ROOT = Path(__file__).resolve().parents[3]
KILLS = int(os.environ.get("SIGFS_TEST_KILLS", "30"))
"""How many times a writer is killed."""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where private stores go."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "sigfs"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = init_project(tmp_path / "project")
    for number in range(20):
        job = made.open({"a": number, "b": {"c": number % 3}, "s": str(number)})
        if number % 2:
            Path(job.path, "signac_job_document.json").write_text(f'{{"d": {number}}}')
    return made


@pytest.fixture
def opened() -> Iterator[Callable[..., Store]]:
    """Open stores, and close them at the end."""
    made: list[Store] = []

    def call(project: Project, state_dir: str | None = None) -> Store:
        made.append(Store.open(project.root, project.workspace, state_dir))
        return made[-1]

    yield call
    for store in made:
        store.close()


Open = Callable[..., Store]


def texts(index: Index) -> dict[str, str]:
    with index.reading() as table:
        return {record.id: record.text() for record in table.records()}


def job(number: int) -> JobId:
    return JobId(f"{number:032x}")


def change(number: int, **statepoint: object) -> Change:
    return Change(job(number), Record(job(number), statepoint, {}, Stamp(2, 1, 0)))


def saved(project: Project, opened: Open, documents: bool = True) -> tuple[Path, Index]:
    """Save the project's index; give the store's directory and the index."""
    store = opened(project)
    index = Index.build(project.workspace, documents=documents)
    assert store.save(index)
    assert store.path is not None
    store.close()
    return Path(store.path), index


# Save, load, follow


@pytest.mark.parametrize("documents", [False, True])
def test_what_is_saved_is_loaded(project: Project, opened: Open, documents: bool) -> None:
    path, index = saved(project, opened, documents)
    assert path == Path(project.root, ".sigfs", "index")
    loaded = opened(project).load()
    assert loaded is not None
    assert texts(loaded) == texts(index)
    assert loaded.documents is documents
    with loaded.reading() as ours, index.reading() as theirs:
        assert ours.stamped() == theirs.stamped()


def test_nothing_is_made_before_there_is_something_to_save(project: Project, opened: Open, cache: Path) -> None:
    store = opened(project)
    assert store.load() is None
    assert store.writable
    assert (store.exists, store.reason, store.holder()) == (False, "", None)
    assert store.contents().saved_s is None
    assert store.drop() == []
    assert not Path(project.root, ".sigfs").exists()
    assert not cache.exists()


def test_files_are_their_owners_alone(project: Project, opened: Open) -> None:
    umask = os.umask(0)
    try:
        os.chmod(project.root, 0o750)
        path, _ = saved(project, opened)
    finally:
        os.umask(umask)
    assert path.parent.stat().st_mode & 0o777 == 0o750
    assert path.stat().st_mode & 0o777 == 0o700
    assert {entry.stat().st_mode & 0o777 for entry in path.iterdir()} == {0o600}
    assert len(list(path.iterdir())) == 3


def test_changes_of_an_attached_index_are_in_the_next_one(project: Project, opened: Open) -> None:
    saved(project, opened)
    store = opened(project)
    index = store.load()
    assert index is not None
    store.attach(index)
    index.apply([change(1, x=1), change(2, x=float("nan"))])
    gone = index.ids()[5]
    index.apply([Change(gone, None)])
    index.apply([Change(job(1), Record(job(1), {"x": 1}, {"late": [1]}, Stamp(2, 9, 9)))])
    for again in (opened(project).load(), None):  # while it is written, and afterwards
        if again is None:
            store.close()
            again = opened(project).load()
        assert again is not None
        assert texts(again) == texts(index)
        with again.reading() as table:
            assert table.stamp(job(1)) == Stamp(2, 9, 9)
    index.apply([change(3)])
    assert index.journal is None


def test_an_index_that_was_not_loaded_is_saved_when_it_is_attached(project: Project, opened: Open) -> None:
    saved(project, opened)
    index = Index()
    index.apply([change(1)])
    store = opened(project)
    store.attach(index)
    index.apply([change(2)])
    store.close()
    again = opened(project).load()
    assert again is not None
    assert again.ids() == [job(1), job(2)]


def test_an_index_that_has_changed_between_loading_and_attaching_is_saved(project: Project, opened: Open) -> None:
    saved(project, opened)
    store = opened(project)
    index = store.load()
    assert index is not None
    index.apply([change(1)])
    store.attach(index)
    store.close()
    again = opened(project).load()
    assert again is not None
    assert texts(again) == texts(index)


def test_somebody_elses_records_are_not_written_over(project: Project, opened: Open) -> None:
    saved(project, opened)
    one, two = opened(project), opened(project)
    first, second = one.load(), two.load()
    assert first is not None
    assert second is not None
    one.attach(first)
    first.apply([change(1)])
    one.close()
    two.attach(second)  # knows nothing of job 1: what it says counts as a whole
    two.close()
    again = opened(project).load()
    assert again is not None
    assert texts(again) == texts(second)


def test_a_long_journal_becomes_a_snapshot(project: Project, opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "JOURNAL_BYTES", 2000)
    path, _ = saved(project, opened)
    store = opened(project)
    index = store.load()
    assert index is not None
    store.attach(index)
    before = os.stat(path / SNAPSHOT).st_mtime_ns
    for number in range(100):
        index.apply([change(number, x="y" * 100)])
        if store._compaction is not None:
            store._compaction.join()
    store.close()
    assert os.stat(path / SNAPSHOT).st_mtime_ns != before
    assert len(list(path.glob("journal-*"))) == 1
    assert sum(entry.stat().st_size for entry in path.glob("journal-*")) < 4000
    again = opened(project).load()
    assert again is not None
    assert texts(again) == texts(index)


def test_changes_during_a_snapshot_are_kept(project: Project, opened: Open) -> None:
    saved(project, opened)
    store = opened(project)
    index = store.load()
    assert index is not None
    store.attach(index)
    done = threading.Event()

    def save() -> None:
        while not done.is_set():
            store.save(index)

    saver = threading.Thread(target=save)
    saver.start()
    for number in range(300):
        index.apply([change(number % 50, x=number)])
    done.set()
    saver.join()
    store.close()
    again = opened(project).load()
    assert again is not None
    assert texts(again) == texts(index)


def test_what_the_dead_have_left_is_swept_by_the_next_writer(project: Project, opened: Open) -> None:
    path, _ = saved(project, opened)
    left = [path / "._sigfs_0123", path / "journal-0123456789abcdef"]
    for each in left:
        each.write_bytes(b"x")
    (path / "mine").write_bytes(b"x")
    store = opened(project)
    index = store.load()
    assert index is not None
    assert all(each.exists() for each in left)
    store.attach(index)
    assert not any(each.exists() for each in left)
    assert (path / "mine").exists()


def test_a_moved_project_takes_its_store_along(project: Project, opened: Open, tmp_path: Path) -> None:
    _, index = saved(project, opened)
    os.rename(project.root, tmp_path / "elsewhere")
    loaded = opened(get_project(tmp_path / "elsewhere")).load()
    assert loaded is not None
    assert texts(loaded) == texts(index)


def test_one_state_directory_serves_several_projects(project: Project, opened: Open, tmp_path: Path) -> None:
    other = init_project(tmp_path / "other")
    other.open({"other": 1})
    state_dir = str(tmp_path / "state" / "of" / "sigfs")
    for each in (project, other):
        store = opened(each, state_dir)
        assert store.save(Index.build(each.workspace))
        assert store.path is not None
        assert store.path.startswith(state_dir)
        store.close()
    for each, jobs in ((project, 20), (other, 1)):
        loaded = opened(each, state_dir).load()
        assert loaded is not None
        assert len(loaded) == jobs
        assert not Path(each.root, ".sigfs").exists()


# Damage


def damages(data: bytes) -> Iterator[bytes]:
    """Give damaged forms of a file: cut, flipped, emptied, lengthened, of another kind."""
    random.seed(1)
    for size in {0, 1, 8, 24, len(data) - 1, *(random.randrange(len(data)) for _ in range(40))}:
        yield data[:size]
    for _ in range(80):
        damaged = bytearray(data)
        damaged[random.randrange(len(data))] ^= 1 << random.randrange(8)
        yield bytes(damaged)
    yield data + b"\0"
    yield b"\0" * len(data)
    yield b"\x80\x04."  # a pickle
    yield data[:40] + data[:40] + data[80:]
    yield data.replace(b"1", b"2", 1)


def test_a_damaged_snapshot_is_not_used(project: Project, opened: Open) -> None:
    path, _ = saved(project, opened)
    data = (path / SNAPSHOT).read_bytes()
    for damaged in damages(data):
        if damaged == data:
            continue
        (path / SNAPSHOT).write_bytes(damaged)
        store = opened(project)
        assert store.load() is None
        assert "cannot be used" in store.reason
        store.close()


def test_a_damaged_journal_is_used_up_to_the_damage_and_the_rest_is_noticed(project: Project, opened: Open) -> None:
    path, _ = saved(project, opened)
    store = opened(project)
    index = store.load()
    assert index is not None
    store.attach(index)
    for number in range(5):
        made = project.open({"new": number})
        index.apply([Change(made.id, project.workspace.read(made.id, documents=True))])
    store.close()
    (journal,) = path.glob("journal-*")
    data = journal.read_bytes()
    for damaged in damages(data):
        journal.write_bytes(damaged)
        loaded = opened(project).load()
        assert loaded is not None
        assert 20 <= len(loaded) <= 25
        with loaded.reading() as table:
            known = table.stamped()
        loaded.apply(revalidate(project.workspace, known, documents=True).changes)
        assert texts(loaded) == texts(index)
    journal.write_bytes(b"")
    store = opened(project)
    loaded = store.load()
    assert loaded is not None
    store.attach(loaded)  # begins another journal
    loaded.apply([change(1)])
    store.close()
    again = opened(project).load()
    assert again is not None
    assert job(1) in again.ids()


def test_a_missing_journal_leaves_the_snapshot(project: Project, opened: Open) -> None:
    path, index = saved(project, opened)
    for journal in path.glob("journal-*"):
        journal.unlink()
    loaded = opened(project).load()
    assert loaded is not None
    assert texts(loaded) == texts(index)


def test_a_sparse_file_of_a_terabyte_is_no_snapshot(project: Project, opened: Open) -> None:
    path, _ = saved(project, opened)
    os.truncate(path / SNAPSHOT, 1 << 40)
    store = opened(project)
    assert store.load() is None
    assert os.strerror(errno.EFBIG) in store.reason


def test_a_journal_that_takes_too_long_to_repeat_leaves_the_snapshot(
    project: Project, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, index = saved(project, opened)
    monkeypatch.setattr(stores, "MOST_REPLAYED_BYTES", 100)
    os.truncate(next(path.glob("journal-*")), 101)
    store = opened(project)
    loaded = store.load()
    assert loaded is not None
    assert texts(loaded) == texts(index)
    store.attach(loaded)
    loaded.apply([change(1, a=1)])
    store.close()
    after = opened(project).load()
    assert after is not None
    assert len(after) == len(index) + 1


@pytest.mark.parametrize("name", [SNAPSHOT, LOCK, "journal"])
@pytest.mark.parametrize("kind", ["directory", "full directory", "link", "dangling link", "fifo", "unreadable"])
def test_something_else_in_the_place_of_a_file_is_not_used_and_gives_way(
    project: Project, opened: Open, tmp_path: Path, name: str, kind: str
) -> None:
    path, index = saved(project, opened)
    target = next(path.glob(name + "*"))
    content = target.read_bytes()
    target.unlink()
    precious = tmp_path / "precious"
    precious.write_bytes(content)
    if "directory" in kind:
        target.mkdir()
        if "full" in kind:
            (target / "x").write_bytes(b"x")
    elif "link" in kind:
        target.symlink_to(tmp_path / "nothing" if "dangling" in kind else precious)
    elif kind == "fifo":
        os.mkfifo(target)
    else:
        target.write_bytes(content)
        target.chmod(0)
    loaded = opened(project).load()
    if name == SNAPSHOT and kind != "unreadable":
        assert loaded is None
    store = opened(project)
    assert store.save(index)
    store.close()
    loaded = opened(project).load()
    assert loaded is not None
    assert texts(loaded) == texts(index)
    assert precious.read_bytes() == content
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("name", [".sigfs", ".sigfs/index"])
def test_a_linked_directory_is_not_followed(
    project: Project, opened: Open, tmp_path: Path, cache: Path, name: str
) -> None:
    saved(project, opened)
    os.rename(Path(project.root, name), tmp_path / "target")
    Path(project.root, name).symlink_to(tmp_path / "target")
    store = opened(project)
    assert store.load() is None
    assert "symbolic link" in store.reason
    before = sorted(tmp_path.glob("target/**/*"))
    assert store.save(Index())
    assert store.path is not None
    assert store.path.startswith(str(cache))
    assert sorted(tmp_path.glob("target/**/*")) == before


def test_a_file_in_the_place_of_the_directory_makes_the_store_private(
    project: Project, opened: Open, cache: Path
) -> None:
    Path(project.root, ".sigfs").write_text("mine")
    store = opened(project)
    assert store.save(Index())
    assert store.path is not None
    assert store.path.startswith(str(cache))
    assert "not a directory" in store.reason
    assert Path(project.root, ".sigfs").read_text() == "mine"


def test_another_version_or_project_or_id_function_is_not_used(
    project: Project, opened: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path, _ = saved(project, opened)
    with monkeypatch.context() as patch:
        patch.setattr(stores, "FORMAT", stores.FORMAT + 1)
        assert opened(project).load() is None
    Path(project.workspace.path, "workspace.rc").write_text("id_function = xxh3_128\n")
    assert opened(get_project(project.root)).load() is None
    os.unlink(Path(project.workspace.path, "workspace.rc"))
    assert opened(get_project(project.root)).load() is not None
    (tmp_path / "v1" / "data").mkdir(parents=True)
    (tmp_path / "v1" / "signac.rc").write_text("project = x\nworkspace_dir = data\nschema_version = 1\n")
    shutil.copytree(path.parent, tmp_path / "v1" / ".sigfs")
    store = opened(get_project(tmp_path / "v1"))
    assert store.load() is None
    assert "workspace" in store.reason


# Whom to trust


@as_root
@pytest.mark.parametrize("what", ["directory", "snapshot", "journal"])
@pytest.mark.parametrize("how", ["owner", "mode"])
def test_what_others_may_write_is_not_believed(project: Project, opened: Open, what: str, how: str) -> None:
    path, _ = saved(project, opened)
    target = path if what == "directory" else next(path.glob(what + "*"))
    if how == "owner":
        os.chown(target, 12345, 12345)
    else:
        target.chmod(0o770 if what == "directory" else 0o606)
    store = opened(project)
    loaded = store.load()
    assert (loaded is None) == (what != "journal")
    if what != "journal":
        assert ("belongs to user 12345" if how == "owner" else "may be written by others") in store.reason


@as_root
def test_root_reads_the_store_of_the_workspaces_owner_and_writes_its_own(
    project: Project, opened: Open, cache: Path
) -> None:
    path, index = saved(project, opened)
    for each in (project.root, project.workspace.path, path.parent, path, *path.iterdir()):
        os.chown(each, 12345, 12345)
    before = {entry.name: entry.read_bytes() for entry in path.iterdir()}
    store = opened(project)
    assert "belongs to user 12345" in store.reason
    loaded = store.load()
    assert loaded is not None
    assert texts(loaded) == texts(index)
    store.attach(loaded)
    loaded.apply([change(1)])
    store.close()
    assert store.path is not None
    assert store.path.startswith(str(cache))
    assert {entry.name: entry.read_bytes() for entry in path.iterdir()} == before
    again = opened(project).load()
    assert again is not None
    assert len(again) == 21


@as_root
def test_root_makes_no_directory_in_a_project_of_somebody_else(project: Project, opened: Open, cache: Path) -> None:
    os.chown(project.root, 12345, 12345)
    store = opened(project)
    assert store.save(Index())
    assert store.path is not None
    assert store.path.startswith(str(cache))
    assert not Path(project.root, ".sigfs").exists()


# Where nothing can be written


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    where = tmp_path / "tiny"
    where.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", where], check=True)
    yield where
    subprocess.run(["umount", where], check=True)


def fill(path: Path) -> None:
    """Write a file until there is no space left."""
    with contextlib.suppress(OSError), open(path, "wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)


def test_a_read_only_project_has_a_private_store(tiny: Path, opened: Open, cache: Path) -> None:
    project = init_project(tiny / "p")
    project.open({"a": 1})
    subprocess.run(["mount", "-o", "remount,ro", tiny], check=True)
    store = opened(project)
    assert "cannot be written" in store.reason
    assert store.save(Index.build(project.workspace))
    assert store.path is not None
    assert store.path.startswith(str(cache))
    assert Path(store.path).stat().st_mode & 0o777 == 0o700
    store.close()
    loaded = opened(project).load()
    assert loaded is not None
    assert len(loaded) == 1


def test_a_full_disk_costs_only_what_does_not_fit(tiny: Path, opened: Open, caplog: pytest.LogCaptureFixture) -> None:
    project = init_project(tiny / "p")
    project.open({"a": 1})
    store = opened(project)
    index = Index.build(project.workspace)
    assert store.save(index)
    store.attach(index)
    index.apply([change(1)])
    ballast = tiny / "ballast"
    fill(ballast)
    index.apply([change(n, x="y" * 100) for n in range(2, 1000)])  # more than a page: does not fit
    with pytest.raises(OSError, match="No space"):
        store.save(index)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    names = sorted(entry.name for entry in Path(tiny, "p/.sigfs/index").iterdir())
    assert len(names) == 3
    ballast.unlink()
    index.apply([change(5000)])
    store.close()
    loaded = opened(project).load()
    assert loaded is not None
    assert set(loaded.ids()) == {*Index.build(project.workspace).ids(), job(1), job(5000)}


def test_a_limit_of_file_sizes_is_a_full_disk(project: Project, opened: Open) -> None:
    _, index = saved(project, opened)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    store = opened(project)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, before[1]))
        with pytest.raises(OSError) as caught:  # noqa: PT011 - looked at below
            store.save(Index.build(project.workspace))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.errno == errno.EFBIG
    store.close()
    loaded = opened(project).load()
    assert loaded is not None
    assert texts(loaded) == texts(index)


@as_root
def test_without_any_place_nothing_is_kept_and_nothing_fails(
    project: Project, opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(project.root, ".sigfs").write_text("mine")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    store = opened(project)
    assert (store.path, store.writable, store.load(), store.holder()) == (None, False, None, None)
    assert store.reason
    index = Index()
    assert not store.save(index)
    store.attach(index)
    index.apply([change(1)])
    assert store.drop() == []


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_without_locks_the_store_is_private(
    project: Project, opened: Open, cache: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    flock = fcntl.flock

    def refuse(fd: int, operation: int) -> None:
        if str(cache) in os.readlink(f"/proc/self/fd/{fd}"):
            return flock(fd, operation)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(place.fcntl, "flock", refuse)
    store = opened(project)
    assert store.save(Index.build(project.workspace))
    assert "has no locks" in store.reason
    assert store.path is not None
    assert store.path.startswith(str(cache))
    store.close()
    loaded = opened(project).load()
    assert loaded is not None
    assert len(loaded) == 20


def test_without_any_locks_nothing_is_kept(project: Project, opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(place.fcntl, "flock", refuse)
    store = opened(project)
    assert not store.save(Index())
    assert "has no locks" in store.reason


@pytest.mark.parametrize(
    ("line", "unshared"),
    [
        ("30 1 0:42 / /data rw,relatime shared:1 - nfs4 server:/data rw,vers=4.2,local_lock=none", False),
        ("30 1 0:42 / /data rw,relatime - nfs server:/data rw,vers=3,nolock,local_lock=all", True),
        ("30 1 0:42 / /data rw,relatime - nfs server:/data rw,vers=3,local_lock=flock", True),
        ("30 1 0:42 / /data rw,relatime - nfs server:/data rw,vers=3,local_lock=posix", False),
        ("30 1 0:43 / /data rw,relatime - nfs server:/data rw,vers=3,nolock", False),
        ("30 1 0:42 / /data rw,relatime - cifs //server/data rw,nobrl", True),
        ("30 1 0:42 / /data rw,relatime - lustre mgs:/data rw,localflock", True),
        ("30 1 0:42 / /data rw,relatime - ext4 /dev/sda1 rw,nolock", False),
        ("nonsense", False),
    ],
)
def test_mount_options_say_whether_locks_reach_other_hosts(line: str, unshared: bool) -> None:
    assert has_unshared_locks(f"29 1 8:1 / / rw - ext4 /dev/root rw\n{line}\n", os.makedev(0, 42)) is unshared


# Several processes

WRITER = """
import sys
from sigfs.index import Index, store
from sigfs.api.project import get_project
project = get_project(sys.argv[1])
store = store.Store.open(project.root, project.workspace)
index = store.load() or Index.build(project.workspace, documents=True)
store.attach(index)
print(store.writable, flush=True)
sys.stdin.read()
store.close()
"""


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_one_process_writes_and_all_may_read(project: Project, opened: Open) -> None:
    _, index = saved(project, opened)
    with start(WRITER, project.root) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "True\n"
        store = opened(project)
        loaded = store.load()
        assert loaded is not None
        assert texts(loaded) == texts(index)
        assert not store.writable
        assert f"process {writer.pid} on" in store.reason
        assert f"process {writer.pid} on" in (store.holder() or "")
        assert not store.save(loaded)
        store.attach(loaded)
        loaded.apply([change(1)])
        with pytest.raises(BlockingIOError, match=f"process {writer.pid} on"):
            store.drop()
        writer.kill()
        writer.wait()
    assert store.holder() is None
    assert store.writable
    assert store.save(loaded)
    store.close()
    names = [os.path.basename(name) for name in store.drop()]
    assert len(names) == 3
    assert {LOCK, SNAPSHOT}.issubset(names)
    assert not Path(project.root, ".sigfs").exists()


def test_dropping_leaves_what_is_not_the_stores(project: Project, opened: Open) -> None:
    path, _ = saved(project, opened)
    (path / "mine").write_text("x")
    store = opened(project)
    assert len(store.drop(dry_run=True)) == 3
    assert len(list(path.iterdir())) == 4
    assert len(store.drop()) == 3
    assert [entry.name for entry in path.iterdir()] == ["mine"]


# Death


def dying_at(step: int, work: Callable[[], object]) -> bool:
    """Run *work* in a process that dies at its so many-th call that changes the disk; tell whether it got that far."""
    child = os.fork()
    if child == 0:
        try:
            left = step

            def mortal(function: Callable[..., object]) -> Callable[..., object]:
                def call(*args: object, **options: object) -> object:
                    nonlocal left
                    left -= 1
                    if left < 0:
                        os._exit(9)
                    return function(*args, **options)

                return call

            for name in ("open", "write", "fsync", "fdatasync", "rename", "unlink", "ftruncate", "mkdir", "pwrite"):
                setattr(os, name, mortal(getattr(os, name)))
            work()
            os._exit(0)
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in {0, 9}
    return code == 9


def test_at_whatever_step_a_writer_dies_what_was_saved_or_what_was_going_to_be_is_loaded(
    project: Project, opened: Open
) -> None:
    path, index = saved(project, opened)
    before = texts(index)
    kept = {entry.name: entry.read_bytes() for entry in path.iterdir()}
    after = Index.build(project.workspace, documents=True)
    after.apply([change(1)])

    def work() -> None:
        store = Store.open(project.root, project.workspace)
        store.save(after)
        store.attach(after)
        after.apply([change(2)])

    for step in range(200):
        shutil.rmtree(path)
        path.mkdir(0o700)
        for name, content in kept.items():
            (path / name).write_bytes(content)
            (path / name).chmod(0o600)
        died = dying_at(step, work)
        loaded = opened(project).load()
        assert loaded is not None
        assert texts(loaded) in (before, texts(after), _with(after, 2)), step
        store = opened(project)
        index = store.load()
        assert index is not None
        store.attach(index)
        assert len(list(path.iterdir())) == 3
        store.close()
        if not died:
            assert texts(loaded) == _with(after, 2)
            return
    pytest.fail("it never ends")


def _with(index: Index, number: int) -> dict[str, str]:
    record = change(number).record
    assert record is not None
    return {**texts(index), record.id: record.text()}


MORTAL = """
import sys, threading
from sigfs.index import Index, store as stores
from sigfs.api.project import get_project
from sigfs.model.types import Change, JobId, Record, Stamp
stores.JOURNAL_BYTES = 3000  # many snapshots
project = get_project(sys.argv[1])
store = stores.Store.open(project.root, project.workspace)
index = store.load()
print("loaded" if index else "built", flush=True)
index = index or Index.build(project.workspace, documents=True)
store.attach(index)
number = int(sys.argv[2])
while True:
    number += 1
    job = JobId(f"{number % 40:032x}")
    record = None if number % 7 == 0 else Record(job, {"x": number, "pad": "y" * (number % 300)}, {}, Stamp(2, 1, 0))
    index.apply([Change(job, record)])
    if store._journal is not None or number % 5 == 0:
        if store._journal is None:
            store.save(index)
        print(number, flush=True)
"""


def expected(number: int) -> dict[str, int | None]:
    """What the synthetic jobs say after change *number*: x, or None for a job that is gone."""
    said: dict[str, int | None] = {}
    for n in range(max(1, number - 39), number + 1):
        said[job(n % 40)] = None if n % 7 == 0 else n
    return said


def test_whenever_a_writer_is_killed_nothing_acknowledged_is_lost(project: Project, opened: Open) -> None:
    truth = texts(Index.build(project.workspace, documents=True))
    number, path = 0, Path(project.root, ".sigfs", "index")
    for turn in range(KILLS):
        random.seed(turn)
        with start(MORTAL, project.root, str(number)) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == ("loaded\n" if turn else "built\n")
            acknowledged = number
            for _ in range(random.randrange(1, 120)):
                acknowledged = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
            rest = writer.stdout.read()
            writer.wait()
        whole = rest[: rest.rfind("\n") + 1].split()
        acknowledged = int(whole[-1]) if whole else acknowledged
        store = opened(project)
        index = store.load()
        assert index is not None, store.reason
        index.check()
        with index.reading() as table:
            said = {record.id: record.statepoint for record in table.records() if record.id not in truth}
        # The change after the last that was acknowledged may be there or not; some more, if a pipe was full.
        for last in range(acknowledged, acknowledged + 50):
            wanted = {job_id: x for job_id, x in expected(last).items() if x is not None}
            if {job_id: sp and sp["x"] for job_id, sp in said.items()} == wanted:
                number = last
                break
        else:
            pytest.fail(f"turn {turn}: after {acknowledged}: {said}")
        with index.reading() as table:
            known = table.stamped()
        index.apply(revalidate(project.workspace, known, documents=True).changes)
        assert texts(index) == truth
        store.close()
    store = opened(project)
    index = store.load()
    assert index is not None
    store.attach(index)
    store.close()
    assert len(list(path.iterdir())) == 3, "what the dead have left is swept"


def test_a_store_may_be_closed_while_a_snapshot_is_about_to_be_made(
    project: Project, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, index = opened(project), Index.build(project.workspace)
    begin, begun = threading.Thread.start, []

    def overtaken(thread: threading.Thread) -> None:
        store.close()
        begun.append(thread)
        begin(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", overtaken)
        store.attach(index)
    begun[0].join()
    assert not store.exists
