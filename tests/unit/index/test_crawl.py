"""Reading a workspace in bulk: the same answers in the same order, whoever reads and whatever lies there."""

import contextlib
import errno
import itertools
import json
import multiprocessing
import os
import threading
import time
from array import array
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest

from sigfs.index import crawl as module
from sigfs.index.crawl import crawl, new_and_gone, revalidate
from sigfs.model import files, reading
from sigfs.model.statepoint import statepoint_id
from sigfs.model.types import ABSENT, UNKNOWN, Change, JobId, Record, Stamp, Stamped
from sigfs.model.workspace import DOCUMENT_FILE, STATEPOINT_FILE, Workspace
from tests.support.descriptors import assert_none_left, descriptors

NOTHING = ([], [])


@pytest.fixture
def workspace(tmp_path):
    (tmp_path / "workspace").mkdir()
    return Workspace(str(tmp_path / "workspace"))


@pytest.fixture
def settled(monkeypatch):
    """Every file counts as old enough for its stamp to be relied on."""
    monkeypatch.setattr(files, "RACY_S", -3600.0)


@pytest.fixture(params=["quick", "step by step"])
def way(request, monkeypatch):
    """With the system's openat2, and without."""
    if request.param == "step by step":
        monkeypatch.setattr(files, "_syscall", None)
    return request.param


def add(workspace, statepoint, document=None):
    job_id = statepoint_id(statepoint)
    os.mkdir(os.path.join(workspace.path, job_id))
    put(workspace, job_id, STATEPOINT_FILE, json.dumps(statepoint))
    if document is not None:
        put(workspace, job_id, DOCUMENT_FILE, document)
    return job_id


def put(workspace, job_id, name, content):
    with open(os.path.join(workspace.path, job_id, name), "wb") as file:
        file.write(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))


def fake_id(digit):
    return JobId(digit * 32)


def remove(workspace, job_id):
    directory = os.path.join(workspace.path, job_id)
    for name in os.listdir(directory):
        os.unlink(os.path.join(directory, name))
    os.rmdir(directory)


def all_of(batches):
    rows, pending = [], []
    for batch in batches:
        rows += batch.rows
        pending += batch.pending
    return rows, pending


def stamped(workspace):
    rows, _ = all_of(crawl(workspace, documents=True))
    columns = [array("Q", column) for column in zip(*(row[3] for row in rows), strict=True)] or [array("Q")] * 3
    return Stamped([row[0] for row in rows], *columns)


def fill(workspace, n):
    return sorted(add(workspace, {"n": k}, json.dumps({"k": k}) if k % 2 else None) for k in range(n))


# --- crawl ---


def test_a_crawl_gives_what_reading_each_job_gives(workspace, way, settled):
    fill(workspace, 30)
    add(workspace, None)
    add(workspace, {"a": float("nan"), "b": 2**70, "c": "\ud800", "d": 0.00012345678901234567}, "[1]")
    for documents in (False, True):
        rows, pending = all_of(crawl(workspace, documents=documents))
        assert pending == []
        expected = [workspace.read(job_id, documents) for job_id in sorted(workspace.ids())]
        records = [Record(*row) for row in rows]
        assert [repr(record) for record in records] == [repr(record) for record in expected]  # repr: NaN, and stamps
        assert all(record.stamp.statepoint > ABSENT for record in records)


def test_long_integers_are_found_among_many_texts(workspace):
    values = [10**18, 10**19, 0.00012345678901234567, "9" * 25, 2**64, -(2**63), 1, 10**300]
    ids = {add(workspace, {"v": value}): value for value in values}
    for job_id, statepoint, _, _ in all_of(crawl(workspace))[0]:
        assert repr(statepoint["v"]) == repr(ids[job_id])


def test_only_the_jobs_asked_for_are_read_and_missing_ones_are_left_out(workspace):
    ids = fill(workspace, 10)
    rows, pending = all_of(crawl(workspace, [ids[7], fake_id("f"), ids[2]]))
    assert [row[0] for row in rows] == [ids[2], ids[7]]
    assert pending == []


def test_a_missing_workspace_has_no_jobs_and_an_unreadable_one_is_an_error(tmp_path):
    missing = Workspace(str(tmp_path / "missing"))
    assert list(crawl(missing)) == []
    assert all_of(crawl(missing, [fake_id("a")])) == NOTHING
    (tmp_path / "file").write_text("")
    for call in (
        lambda: list(crawl(Workspace(str(tmp_path / "file")))),
        lambda: revalidate(Workspace(str(tmp_path / "file")), Stamped([], *[array("Q")] * 3)),
    ):
        with pytest.raises(NotADirectoryError):
            call()


def test_progress_runs_from_nothing_to_all(workspace):
    fill(workspace, 5)
    calls = []
    list(crawl(workspace, progress=lambda *call: calls.append(call)))
    assert calls[0] == (0, 5)
    assert calls[-1] == (5, 5)


# --- executors ---


@pytest.fixture
def small_tasks(monkeypatch):
    monkeypatch.setattr(module, "EXECUTOR_JOBS", 7)
    monkeypatch.setattr(module, "EXECUTOR_AHEAD", 5)


def check_executor(workspace, executor):
    fill(workspace, 200)
    os.mkdir(os.path.join(workspace.path, fake_id("a")))
    expected = all_of(crawl(workspace, documents=True))
    assert all_of(crawl(workspace, documents=True, executor=executor)) == expected
    assert expected[1] == [fake_id("a")]
    findings = revalidate(workspace, stamped(workspace), documents=True, executor=executor)
    assert [change.id for change in findings.changes] == [row[0] for row in expected[0]]  # all are young
    assert findings.pending == [fake_id("a")]


def test_threads_read_the_same(workspace, small_tasks):
    with ThreadPoolExecutor(4) as executor:
        check_executor(workspace, executor)
        assert executor.submit(int).result() == 0  # it still is the caller's


def test_processes_read_the_same(workspace, small_tasks):
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as executor:
        check_executor(workspace, executor)


# What a cluster's own machinery warns of while it starts and ends is none of ours.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(300)
def test_a_dask_cluster_reads_the_same(workspace, small_tasks):
    distributed = pytest.importorskip("distributed", reason="distributed is not installed")
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
    )
    with cluster, distributed.Client(cluster) as client, client.get_executor() as executor:
        check_executor(workspace, executor)


def test_an_executor_gets_few_tasks_ahead_and_they_are_taken_back_when_the_reader_leaves(workspace, small_tasks):
    fill(workspace, 200)
    submitted = []

    class Counting(ThreadPoolExecutor):
        def submit(self, *args, **kwargs):
            submitted.append(super().submit(*args, **kwargs))
            return submitted[-1]

    with Counting(1) as executor:
        batches = crawl(workspace, executor=executor)
        next(batches)
        assert len(submitted) == module.EXECUTOR_AHEAD
        batches.close()
    assert all(future.done() for future in submitted)


def test_an_error_of_a_worker_is_raised(workspace):
    fill(workspace, 3)
    os.chmod(workspace.path, 0o700)
    with ThreadPoolExecutor(1) as executor:
        batches = crawl(workspace, executor=executor)
        executor.submit(time.sleep, 0.01)
        os.rename(workspace.path, workspace.path + "x")
        with open(workspace.path, "w"):
            pass
        with pytest.raises(NotADirectoryError):
            list(batches)


@pytest.fixture
def cold(monkeypatch):
    """Every trial finds that it has waited."""
    for name, value in {"TRIAL_JOBS": 3, "INLINE_JOBS": 11, "THREAD_JOBS": 5, "THREAD_ROUND": 20}.items():
        monkeypatch.setattr(module, name, value)
    moments = itertools.count(step=1000.0)
    monkeypatch.setattr(module, "_spent", lambda: (next(moments), 0.0, next(moments)))


def readers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("sigfs-read")]


def test_with_a_cold_cache_threads_read_the_same_in_the_same_order(workspace, monkeypatch, cold, settled):
    ids = fill(workspace, 100)
    names = set()
    real = reading.files.read_many

    def noting(*args):
        names.add(threading.current_thread().name)
        return real(*args)

    monkeypatch.setattr(files, "read_many", noting)
    rows, _ = all_of(crawl(workspace, documents=True))
    assert [row[0] for row in rows] == ids
    assert len([name for name in names if name.startswith("sigfs-read")]) > 1
    assert len(names) > 2  # the caller's thread keeps trying
    assert readers() == []
    assert revalidate(workspace, stamped(workspace), documents=True) == NOTHING


@pytest.mark.parametrize("ending", ["close", "forget"])
def test_a_reader_that_leaves_early_leaves_no_thread_or_descriptor(workspace, cold, ending):
    fill(workspace, 100)
    before = descriptors()
    batches = crawl(workspace)
    next(batches)
    next(batches)
    assert readers()
    if ending == "close":
        batches.close()
    else:
        del batches
    assert readers() == []
    assert_none_left(before)


# --- hostile entries ---


def hostile(workspace, tmp_path):
    """Make entries that are no jobs, and jobs that cannot be read; give the ids of the latter."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / STATEPOINT_FILE).write_text('{"secret": 1}')
    here = workspace.path
    os.symlink(outside, os.path.join(here, fake_id("1")))
    os.mkfifo(os.path.join(here, fake_id("2")))
    put(workspace, ".", fake_id("3"), '{"foo": 1}')
    os.mkdir(os.fsencode(here) + b"/\xff\xfe")
    contents = {
        "4": lambda path: os.symlink(outside / STATEPOINT_FILE, path),
        "5": os.mkfifo,
        "6": os.mkdir,
        "7": lambda path: os.truncate(path, 2**40),
        "8": lambda path: os.mknod(path, 0o140644),
    }
    for digit, make in contents.items():
        os.mkdir(os.path.join(here, fake_id(digit)))
        path = os.path.join(here, fake_id(digit), STATEPOINT_FILE)
        if digit == "7":
            put(workspace, fake_id(digit), STATEPOINT_FILE, "")
        try:
            make(path)
        except OSError:
            assert digit == "7"  # no sparse files of that size here; empty is as good
    for digit, text in {"9": b'{"a": "\xff"}', "a": b'{"a": 1', "b": b"", "c": b"[1]", "d": b'{"a":' * 1000}.items():
        os.mkdir(os.path.join(here, fake_id(digit)))
        put(workspace, fake_id(digit), STATEPOINT_FILE, text)
    return [fake_id(digit) for digit in "456789abcd"]


def test_no_entry_hangs_a_crawl_or_leads_it_out_or_disturbs_another(workspace, tmp_path, way):
    broken = hostile(workspace, tmp_path)
    ids = fill(workspace, 20)
    rows, pending = all_of(crawl(workspace, documents=True))
    assert [row[0] for row in rows] == ids
    assert pending == broken == sorted(job_id for job_id, _ in workspace.pending())


def test_a_document_that_cannot_be_read_is_none_and_is_looked_at_again(workspace, tmp_path, way, settled):
    (tmp_path / "secret").write_text('{"a": 1}')
    ids = [add(workspace, {"n": n}) for n in range(5)]
    paths = [os.path.join(workspace.path, job_id, DOCUMENT_FILE) for job_id in ids]
    os.symlink(tmp_path / "secret", paths[0])
    os.mkfifo(paths[1])
    os.mkdir(paths[2])
    put(workspace, ids[3], DOCUMENT_FILE, "{")
    put(workspace, ids[4], DOCUMENT_FILE, "")
    ids.append(add(workspace, {"n": 5}))
    rows, _ = all_of(crawl(workspace, documents=True))
    found = {row[0]: (row[2], row[3].document, row[3].content) for row in rows}
    assert [found[job_id] for job_id in ids[:5]] == [(None, UNKNOWN, 0)] * 5
    assert found[ids[5]] == ({}, ABSENT, 0)


def test_a_directory_swapped_for_a_link_after_the_listing_is_not_followed(workspace, tmp_path, way):
    ids = fill(workspace, 3)
    outside = tmp_path / "outside"
    os.rename(os.path.join(workspace.path, ids[1]), outside)
    os.symlink(outside, os.path.join(workspace.path, ids[1]))
    rows, pending = all_of(crawl(workspace, ids, documents=True))
    assert [row[0] for row in rows] == [ids[0], ids[2]]
    assert pending == []


@pytest.mark.parametrize("size", [4095, 4096, 4097, 2**16 - 20, 2**16, 2**16 + 1, 300_000])
def test_files_of_any_size_are_read_whole(workspace, size):
    document = json.dumps({"x": "y" * size})
    add(workspace, {"x": "z" * size}, document)
    ((_, statepoint, body, _),), _ = all_of(crawl(workspace, documents=True))
    assert (statepoint, body) == ({"x": "z" * size}, json.loads(document))


def test_a_file_that_grows_while_it_is_read_is_read_again(workspace, monkeypatch):
    job_id = add(workspace, {"n": 1}, "{}")
    real = os.read
    grown = []

    def growing(fd, size):
        if not grown and os.readlink(f"/proc/self/fd/{fd}").endswith(DOCUMENT_FILE):
            grown.append(1)
            put(workspace, job_id, DOCUMENT_FILE, '{"much": "more"}')
        return real(fd, size)

    monkeypatch.setattr(os, "read", growing)
    rows, _ = all_of(crawl(workspace, documents=True))
    assert grown
    assert rows[0][2] == {"much": "more"}


def test_running_out_of_descriptors_is_not_the_jobs_fault(workspace, monkeypatch):
    fill(workspace, 3)
    real = os.open

    def exhausted(path, *args, **kwargs):
        if path != workspace.path:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(files, "_syscall", lambda *_: -1)
    monkeypatch.setattr(os, "open", exhausted)
    with pytest.raises(OSError, match="Too many open files"):
        list(crawl(workspace))


def test_jobs_may_come_and_go_during_a_crawl(workspace):
    lasting = fill(workspace, 50)
    stop = threading.Event()

    def churn():
        while not stop.is_set():
            job_id = add(workspace, {"passing": True}, "{}")
            time.sleep(0.0005)
            remove(workspace, job_id)

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(50):
            rows, _ = all_of(crawl(workspace, documents=True))
            assert [row[0] for row in rows if "n" in row[1]] == lasting
            assert all(row[1] == {"passing": True} for row in rows if "n" not in row[1])
    finally:
        stop.set()
        thread.join()


# --- stamps ---


def test_a_young_file_has_no_stamp_to_rely_on(workspace, way):
    add(workspace, {"n": 1}, "{}")
    ((row,), _) = all_of(crawl(workspace, documents=True))
    assert row[3][:2] == (UNKNOWN, UNKNOWN)
    assert row[3].content > ABSENT
    assert [change.id for change in revalidate(workspace, stamped(workspace)).changes] == [row[0]]


def test_both_ways_give_the_same_stamps_and_looking_gives_those_of_reading(workspace, monkeypatch, settled):
    fill(workspace, 10)
    quick = stamped(workspace)
    assert tuple(reading.stat_chunk(workspace.path, quick.ids, True)) == (quick.statepoints, quick.documents)
    monkeypatch.setattr(files, "_syscall", None)
    assert stamped(workspace) == quick
    monkeypatch.setattr(files, "_statx", None)
    assert len(revalidate(workspace, quick, documents=True).changes) == 10  # cannot tell: reads


def test_nothing_changed_is_nothing_found(workspace, settled, way):
    fill(workspace, 50)
    assert revalidate(workspace, stamped(workspace), documents=True) == NOTHING
    assert revalidate(workspace, stamped(workspace)) == NOTHING
    assert new_and_gone(workspace, stamped(workspace).ids) == NOTHING


def rewrite(path):
    with open(path, "r+b") as file:
        file.write(b'{"k": 8}')


def rewrite_with_the_old_time(path):
    status = os.stat(path)
    rewrite(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def replace(path):
    with open(path + "~", "wb") as file:
        file.write(b'{"k": 8}')
    os.replace(path + "~", path)


@pytest.mark.parametrize("change", [rewrite, rewrite_with_the_old_time, replace])
def test_a_changed_document_of_the_same_size_is_found(workspace, settled, change):
    ids = fill(workspace, 10)
    job_id = statepoint_id({"n": 7})
    known = stamped(workspace)
    time.sleep(
        0.02
    )  # older kernels' time stamps tick every 4 ms; the first reading was of files at rest, says `settled`
    change(os.path.join(workspace.path, job_id, DOCUMENT_FILE))
    assert revalidate(workspace, known) == NOTHING
    findings = revalidate(workspace, known, documents=True)
    assert findings == ([Change(job_id, Record(job_id, {"n": 7}, {"k": 8}))], [])
    now = findings.changes[0].record.stamp
    place = ids.index(job_id)
    assert now.statepoint == known.statepoints[place]
    assert now.document not in (known.documents[place], UNKNOWN, ABSENT)
    assert now.content not in (known.contents[place], 0)


def test_a_document_rewritten_as_it_was_comes_with_its_stamp_only(workspace, settled):
    fill(workspace, 10)
    job_id = statepoint_id({"n": 7})
    known = stamped(workspace)
    time.sleep(0.02)
    put(workspace, job_id, DOCUMENT_FILE, '{"k": 7}')
    ((change,), pending) = revalidate(workspace, known, documents=True)
    assert pending == []
    assert change.record == Record(job_id, {"n": 7}, None)
    assert change.record.stamp.content == known.contents[known.ids.index(job_id)]
    assert change.record.stamp.document != known.documents[known.ids.index(job_id)]


def test_documents_that_come_and_go_are_found(workspace, settled):
    fill(workspace, 4)
    known = stamped(workspace)
    put(workspace, statepoint_id({"n": 2}), DOCUMENT_FILE, '{"new": 1}')
    os.unlink(os.path.join(workspace.path, statepoint_id({"n": 3}), DOCUMENT_FILE))
    changes = {change.id: change.record for change in revalidate(workspace, known, documents=True).changes}
    assert {job_id: record.document for job_id, record in changes.items()} == {
        statepoint_id({"n": 2}): {"new": 1},
        statepoint_id({"n": 3}): {},
    }
    assert changes[statepoint_id({"n": 3})].stamp[1:] == (ABSENT, 0)


def test_documents_never_looked_at_are_read(workspace, settled):
    fill(workspace, 4)
    known = stamped(workspace)
    blank = array("Q", bytes(32))
    findings = revalidate(workspace, known._replace(documents=blank, contents=blank), documents=True)
    assert sorted(str(change.record.document) for change in findings.changes) == ["{'k': 1}", "{'k': 3}", "{}", "{}"]


def test_jobs_that_came_or_went_are_found(workspace, settled):
    ids = fill(workspace, 10)
    known = stamped(workspace)
    remove(workspace, ids[4])
    new = add(workspace, {"new": True}, '{"x": 1}')
    os.mkdir(os.path.join(workspace.path, fake_id("f")))
    expected = [Change(ids[4], None), Change(new, Record(new, {"new": True}, {"x": 1}))]
    expected.sort(key=lambda change: change.id)
    assert revalidate(workspace, known, documents=True) == (expected, [fake_id("f")])
    assert new_and_gone(workspace, known.ids, documents=True) == (expected, [fake_id("f")])
    assert {change.id for change in new_and_gone(workspace, frozenset()).changes} == {*ids, new} - {ids[4]}


def test_a_known_job_without_state_point_stays_until_its_directory_is_gone(workspace, settled):
    ids = fill(workspace, 3)
    known = stamped(workspace)
    os.unlink(os.path.join(workspace.path, ids[0], STATEPOINT_FILE))
    put(workspace, ids[1], STATEPOINT_FILE, '{"half')
    assert revalidate(workspace, known) == ([], ids[:2])
    remove(workspace, ids[0])
    assert revalidate(workspace, known) == ([Change(ids[0], None)], [ids[1]])


def test_a_job_that_goes_between_listing_and_look_is_gone(workspace, settled, monkeypatch):
    ids = fill(workspace, 3)
    known = stamped(workspace)
    real = workspace.ids

    def listing():
        found = list(real())
        with contextlib.suppress(FileNotFoundError):
            remove(workspace, ids[1])
        return found

    monkeypatch.setattr(workspace, "ids", listing)
    assert revalidate(workspace, known, documents=True) == ([Change(ids[1], None)], [])


def test_a_known_job_whose_directory_became_a_link_is_gone(workspace, settled, tmp_path):
    ids = fill(workspace, 3)
    known = stamped(workspace)
    os.rename(os.path.join(workspace.path, ids[1]), tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", os.path.join(workspace.path, ids[1]))
    assert revalidate(workspace, known) == ([Change(ids[1], None)], [])
    assert new_and_gone(workspace, known.ids) == ([Change(ids[1], None)], [])


def test_a_workspace_that_is_gone_has_lost_all_jobs(workspace, settled):
    ids = fill(workspace, 3)
    known = stamped(workspace)
    os.rename(workspace.path, workspace.path + "~")
    gone = ([Change(job_id, None) for job_id in ids], [])
    assert revalidate(workspace, known, documents=True) == new_and_gone(workspace, ids) == gone


def test_reading_one_job_gives_the_stamps_of_a_crawl(workspace, settled):
    fill(workspace, 4)
    for row in all_of(crawl(workspace, documents=True))[0]:
        assert workspace.read(row[0], documents=True).stamp == row[3]
        assert workspace.read(row[0]).stamp == Stamp(row[3].statepoint)
