"""What is watched the kernel may believe for long, and it is told of what others change there."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator

import pytest
from inotify_simple import Event

from sigfs.vfs import coherence as coherence_module
from sigfs.vfs.coherence import WORKSPACE, Coherence
from sigfs.vfs.inodes import File
from sigfs.vfs.types import ROOT, Inode
from tests.support.wait import wait_until
from tests.unit.vfs.conftest import World

WATCHED_S = (300.0, 600.0)


class Following:
    """A world whose directories are watched."""

    def __init__(self, world: World, limit: int | None) -> None:
        self.world = world
        self.coherence: Coherence = world.operations.coherence(world.notifier, limit)
        self.coherence.start()
        world.operations.follow(self.coherence, *WATCHED_S)
        world.operations.getattr(ROOT)

    def told(self, inode: Inode) -> bool:
        return inode in self.world.notifier.inodes or inode in self.world.notifier.attributes

    def wait_told(self, inode: Inode) -> None:
        wait_until(lambda: self.told(inode))
        self.forget_told()

    def forget_told(self) -> None:
        self.world.notifier.inodes.clear()
        self.world.notifier.attributes.clear()
        self.world.notifier.entries.clear()


@pytest.fixture
def limit() -> int | None:
    return None


@pytest.fixture
def following(make_world, limit: int | None) -> Iterator[Following]:
    made = Following(make_world(), limit)
    yield made
    made.coherence.check()
    made.coherence.close()


def test_what_is_in_a_watched_directory_is_believed_for_long(following):
    world = following.world
    os.mknod(world.below(1, "f"))  # before its directory is watched: events yet to come would say not to believe
    entry, attributes = world.find("foo/1/f")[2:]
    assert (entry, attributes) == WATCHED_S
    assert world.find("foo/1").attr_timeout_s == WATCHED_S[1]
    assert world.operations.getattr(world.at("foo/1/f")).attr_timeout_s == WATCHED_S[1]


def test_virtual_directories_are_believed_for_longer_where_the_workspace_is_watched(following):
    assert following.world.find("foo").attr_timeout_s == 60
    os.chmod(following.world.workspace, 0o700)
    following.wait_told(following.world.at("foo"))


def test_what_is_not_known_to_be_so_still_is_not_believed_for_long(following, monkeypatch):
    world = following.world
    asked = world.operations._views._below.get()
    monkeypatch.setattr(world.operations._views._below, "get", lambda: asked)  # as while the disk hangs
    os.chmod(world.workspace, 0o700)
    following.wait_told(ROOT)
    assert world.operations.getattr(ROOT).attr_timeout_s == 1.0


def test_a_change_before_the_workspace_is_watched_is_seen(make_world, monkeypatch):
    world = make_world()
    coherence = world.operations.coherence(world.notifier, None)
    watch = coherence.watch_workspace

    def overtaken(fd):
        os.chmod(world.workspace, 0o700)
        return watch(fd)

    monkeypatch.setattr(coherence, "watch_workspace", overtaken)
    coherence.start()
    world.operations.follow(coherence, *WATCHED_S)
    try:
        assert world.operations.getattr(ROOT).stat.st_mode & 0o777 == 0o700
    finally:
        coherence.close()


def test_a_watch_that_is_new_does_not_vouch_for_what_was_read_before(following, monkeypatch):
    world = following.world
    world.write_file(world.job(1), "f")
    job, coherence = world.job(1), following.coherence
    world.forget_all()
    os.chmod(world.workspace, 0o700)
    wait_until(lambda: not coherence.watches(job))
    assert coherence.events(job) != coherence.events(world.job(1))


def test_names_of_what_the_kernel_has_forgotten_are_not_kept(following):
    world = following.world
    job = world.job(1)
    for number in range(3000):
        path = world.below(1, str(number))
        os.mknod(path)
        inode = world.at(f"foo/1/{number}")
        world.operations.forget(inode, world.references.pop(inode))
    assert len(following.coherence._by_node[job].names) <= 1025
    assert len(following.coherence._by_node[WORKSPACE].names) <= 2


@pytest.mark.parametrize("limit", [0])
def test_names_are_not_kept_where_nothing_but_the_workspace_is_watched(following):
    assert following.world.job(1)
    assert not following.coherence._by_node[WORKSPACE].names


def test_a_file_with_several_links_is_not_believed_for_long(following):
    world = following.world
    world.write_file(world.job(1), "f")
    os.link(world.below(1, "f"), world.below(2, "elsewhere"))
    assert world.find("foo/1/f").attr_timeout_s == 1.0


def test_the_kernel_is_told_of_data_attributes_and_names(following):
    world = following.world
    file, job = world.write_file(world.job(1), "f"), world.job(1)
    world.operations.getattr(file)
    following.forget_told()
    with open(world.below(1, "f"), "ab") as below:
        below.write(b"x")
    following.wait_told(file)
    os.chmod(world.below(1, "f"), 0o600)
    following.wait_told(file)
    os.rename(world.below(1, "f"), world.below(1, "g"))
    wait_until(lambda: {(job, "f"), (job, "g")} <= set(world.notifier.entries))
    wait_until(lambda: following.told(job))


def test_a_change_that_comes_while_a_name_is_looked_up_is_not_believed_away_for_long(following, monkeypatch):
    world = following.world
    world.write_file(world.job(1), "f")
    entered = world.operations._disk.entered

    def overtaken(parent, name, found):
        before = following.coherence.events(parent)
        os.chmod(world.below(1, "f"), 0o600)
        wait_until(lambda: following.coherence.events(parent) != before)
        return entered(parent, name, found)

    monkeypatch.setattr(world.operations._disk, "entered", overtaken)
    assert world.find("foo/1/f")[2:] == (1.0, 1.0)


def test_a_job_directory_that_is_replaced_is_asked_for_again_on_all_paths(following):
    world = following.world
    paths = [("foo", "1"), (".jobs", world.job_id(1))]
    inodes = [world.at("/".join(path)) for path in paths]
    world.remove(1)
    world.add(1)
    wait_until(lambda: {(world.at(top), name) for top, name in paths} <= set(world.notifier.entries))
    wait_until(lambda: all(following.told(inode) for inode in inodes))
    assert world.job(1) not in inodes


def test_a_job_directory_that_is_made_anew_is_another_also_with_the_number_of_the_old(following):
    world = following.world
    inode, number = world.job(1), os.stat(world.below(1)).st_ino
    world.remove(1)
    following.wait_told(inode)
    names = [f"{world.workspace}.{count}" for count in range(100)]
    for name in names:  # some disks give a number that has become free to the next directory, others do not
        os.mkdir(name)
        if os.stat(name).st_ino == number:
            break
    else:
        pytest.skip("this disk gives out no number again")
    os.rename(name, world.below(1))
    assert world.job(1) != inode


def test_where_events_are_lost_everything_is_told(following, monkeypatch):
    world = following.world
    file = world.write_file(world.job(1), "f")
    lost = Event(-1, coherence_module.flags.Q_OVERFLOW, 0, "")
    monkeypatch.setattr(coherence_module, "parse_events", lambda _: [lost])
    os.chmod(world.workspace, 0o700)
    wait_until(lambda: following.told(file) and following.told(world.job(1)) and following.told(ROOT))
    wait_until(lambda: (world.job(1), "f") in world.notifier.entries)
    assert following.coherence.status()["overflows"] >= 1


@pytest.mark.parametrize("limit", [1])
def test_beyond_the_limit_directories_are_believed_for_a_short_time(following, caplog):
    world = following.world
    for foo in (1, 2):
        os.mknod(world.below(foo, "f"))
    assert world.find("foo/1/f")[2:] == WATCHED_S
    assert world.find("foo/2/f")[2:] == (1.0, 1.0)
    status = following.coherence.status()
    assert (status["watches"], status["limit"]) == (2, 1)
    assert status["unwatched"] > 0
    assert caplog.text.count("max_user_watches") == 1


@pytest.mark.parametrize("limit", [0])
def test_without_coherent_only_the_workspace_is_watched(following):
    world = following.world
    world.write_file(world.job(1), "f")
    assert world.find("foo/1/f")[2:] == (1.0, 1.0)
    assert following.coherence.status()["watches"] == 1


def test_a_directory_that_is_forgotten_is_watched_no_more(following):
    world = following.world
    job = world.job(1)
    assert following.coherence.watches(job)
    world.forget_all()
    os.chmod(world.workspace, 0o700)
    wait_until(lambda: not following.coherence.watches(job))
    wait_until(lambda: following.coherence.status()["watches"] == 1)


def test_another_directory_in_the_workspace_s_place_is_watched_in_its_turn(following):
    world = following.world
    before = world.operations._views._watched_workspace
    os.rename(world.workspace, world.workspace + ".old")
    os.mkdir(world.workspace)
    wait_until(lambda: world.operations.getattr(ROOT) and world.operations._views._watched_workspace is not before)
    following.forget_told()
    os.chmod(world.workspace, 0o700)
    following.wait_told(ROOT)
    assert following.coherence.watches(WORKSPACE)


class _Overtaken(dict):
    """Names that lead somewhere; while the thread that takes events asks for one, *meanwhile* happens in another."""

    def __init__(self, names: dict, meanwhile: Callable[[], None]) -> None:
        super().__init__(names)
        self.others = [threading.Thread(target=meanwhile)]
        self.begun = threading.Event()

    def _let_by(self) -> None:
        if threading.current_thread().name == "sigfs-coherence" and not self.begun.is_set():
            self.others[0].start()
            self.begun.set()
            self.others[0].join(0.2)  # may have to wait for us

    def get(self, *arguments):
        self._let_by()
        return super().get(*arguments)

    def pop(self, *arguments):
        self._let_by()
        return super().pop(*arguments)


def test_what_is_looked_up_while_the_end_of_its_predecessor_is_heard_of_is_followed(following):
    world, coherence, found = following.world, following.coherence, []
    os.mknod(world.below(1, "f"))
    world.find("foo/1/f")
    job = world.job(1)
    watched = coherence._by_node[job]
    names = watched.names = _Overtaken(watched.names, lambda: found.append(world.at("foo/1/f")))
    with coherence._lock:  # both events at once
        os.rename(world.below(1, "f"), world.below(2, "old"))
        os.mknod(world.below(1, "f"))
    wait_until(names.begun.is_set)
    names.others[0].join()
    os.mknod(world.below(1, "last"))
    wait_until(lambda: (job, "last") in world.notifier.entries)
    following.forget_told()
    with open(world.below(1, "f"), "ab") as below:
        below.write(b"x")
    following.wait_told(found[0])


def test_what_is_looked_up_while_everything_is_told_is_not_believed(following, monkeypatch):
    world, answers = following.world, []
    os.mknod(world.below(1, "f"))
    world.job(1)
    entered, of_kind = world.operations._disk.entered, world.operations._inodes.of_kind
    looked, listed = threading.Event(), threading.Event()

    def overtaken(parent, name, found):
        looked.set()
        assert listed.wait(60)
        return entered(parent, name, found)

    def list_and_let_by(kind):
        found = of_kind(kind)
        if kind is File:
            listed.set()
            looker.join()
        return found

    monkeypatch.setattr(world.operations._disk, "entered", overtaken)
    monkeypatch.setattr(world.operations._inodes, "of_kind", list_and_let_by)
    looker = threading.Thread(target=lambda: answers.append(world.find("foo/1/f")))
    looker.start()
    assert looked.wait(60)
    stale = following.coherence._everything()
    assert answers[0].inode not in stale.inodes
    assert answers[0][2:] == (1.0, 1.0)
