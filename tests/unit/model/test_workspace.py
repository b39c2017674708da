"""Reading a workspace: jobs, and everything that is none."""

import errno
import json
import os

import pytest

from sigfs.errors import NoSuchJob, PendingJob
from sigfs.model import files
from sigfs.model.statepoint import statepoint_id
from sigfs.model.types import Change, JobId, Record
from sigfs.model.workspace import DOCUMENT_FILE, STATEPOINT_FILE, Workspace
from tests.support.descriptors import assert_none_left, descriptors


@pytest.fixture
def workspace(tmp_path):
    (tmp_path / "workspace").mkdir()
    return Workspace(str(tmp_path / "workspace"))


def add(workspace, statepoint, document=None):
    """A job as signac leaves it."""
    job_id = statepoint_id(statepoint)
    os.mkdir(os.path.join(workspace.path, job_id))
    put(workspace, job_id, STATEPOINT_FILE, json.dumps(statepoint))
    if document is not None:
        put(workspace, job_id, DOCUMENT_FILE, document)
    return job_id


def put(workspace, job_id, name, text):
    with open(os.path.join(workspace.path, job_id, name), "wb") as file:
        file.write(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))


def fake_id(digit):
    return JobId(digit * 32)


def test_a_job_says_what_its_files_say(workspace):
    job_id = add(workspace, {"foo": 42}, '{"x": [1, 2.0]}')
    assert workspace.read(job_id) == Record(job_id, {"foo": 42}, None)
    assert workspace.read(job_id, documents=True) == Record(job_id, {"foo": 42}, {"x": [1, 2.0]})


def test_a_job_without_document_file_has_the_empty_document(workspace):
    assert workspace.read(add(workspace, {"foo": 42}), documents=True).document == {}


@pytest.mark.parametrize("document", ["", "{", "[1]", "null", "\x00", b"\xff", "[" * 100_000, "1" * 5000])
def test_a_document_that_cannot_be_read_is_none_and_the_job_remains_a_job(workspace, document):
    job_id = add(workspace, {"foo": 42}, document)
    assert workspace.read(job_id, documents=True) == Record(job_id, {"foo": 42}, None)
    assert [change.id for change in workspace.scan(documents=True)] == [job_id]


def test_a_document_that_is_a_link_or_fifo_is_not_read(workspace, tmp_path):
    (tmp_path / "secret").write_text('{"a": 1}')
    linked, piped = add(workspace, {"a": 1}), add(workspace, {"a": 2})
    os.symlink(tmp_path / "secret", os.path.join(workspace.path, linked, DOCUMENT_FILE))
    os.mkfifo(os.path.join(workspace.path, piped, DOCUMENT_FILE))
    assert [change.record.document for change in workspace.scan(documents=True)] == [None, None]


def test_null_is_the_state_point_of_a_job(workspace):
    job_id = add(workspace, None)
    assert workspace.read(job_id) == Record(job_id, None, None)
    assert list(workspace.pending()) == []


def test_a_directory_whose_name_does_not_match_its_content_is_read_all_the_same(workspace):
    os.mkdir(os.path.join(workspace.path, fake_id("a")))
    put(workspace, fake_id("a"), STATEPOINT_FILE, '{"foo": 42}')
    assert workspace.read(fake_id("a")) == Record(fake_id("a"), {"foo": 42}, None)


def test_a_missing_workspace_has_no_jobs(tmp_path):
    workspace = Workspace(str(tmp_path / "missing"))
    assert list(workspace.ids()) == list(workspace.scan()) == list(workspace.pending()) == []
    assert list(workspace.leftovers()) == []
    with pytest.raises(NoSuchJob):
        workspace.read(fake_id("a"))
    with pytest.raises(FileNotFoundError):
        workspace.open_dir()
    assert os.listdir(tmp_path) == []


def test_a_workspace_that_is_a_file_is_an_error(tmp_path):
    (tmp_path / "workspace").write_text("")
    with pytest.raises(NotADirectoryError):
        Workspace(str(tmp_path / "workspace")).ids()


def test_the_workspace_itself_may_be_a_symbolic_link(workspace, tmp_path):
    job_id = add(workspace, {"foo": 42})
    (tmp_path / "link").symlink_to("workspace")
    assert list(Workspace(str(tmp_path / "link")).scan()) == [Change(job_id, Record(job_id, {"foo": 42}))]


def test_the_descriptor_is_of_the_directory_also_after_it_was_renamed(workspace, tmp_path):
    job_id = add(workspace, {"foo": 42})
    fd = workspace.open_dir()
    try:
        os.rename(workspace.path, tmp_path / "elsewhere")
        assert os.stat(job_id, dir_fd=fd).st_nlink
    finally:
        os.close(fd)


def test_a_scan_gives_a_change_for_each_job_but_those_known(workspace):
    ids = [add(workspace, {"n": n}) for n in range(20)]
    assert {change.id for change in workspace.scan()} == set(ids)
    assert {change.id for change in workspace.scan(known=set(ids[:15]))} == set(ids[15:])


def test_a_scan_reports_its_progress_up_to_the_end(workspace):
    for n in range(5):
        add(workspace, {"n": n})
    calls = []
    assert len(list(workspace.scan(progress=lambda done, total: calls.append((done, total))))) == 5
    assert calls[0] == (0, 5)
    assert calls[-1] == (5, 5)


def test_a_job_removed_during_a_scan_is_left_out(workspace):
    ids = [add(workspace, {"n": n}) for n in range(10)]
    seen = []
    for change in workspace.scan():
        if not seen:
            for job_id in set(ids) - {change.id}:
                os.unlink(os.path.join(workspace.path, job_id, STATEPOINT_FILE))
                os.rmdir(os.path.join(workspace.path, job_id))
        seen.append(change.id)
    assert len(seen) == 1


@pytest.mark.parametrize("gone", [STATEPOINT_FILE, DOCUMENT_FILE])
def test_a_job_that_is_removed_while_it_is_read_is_no_pending_job_nor_one_without_document(
    workspace, monkeypatch, gone
):
    job_id = add(workspace, {"n": 1}, "{}")
    real = files.read_stamped

    def read_stamped(dir_fd, name):
        if name == gone:
            os.rename(os.path.join(workspace.path, job_id), os.path.join(workspace.path, "._sigfs_going"))
            os.unlink(os.path.join(workspace.path, "._sigfs_going", gone))
        return real(dir_fd, name)

    monkeypatch.setattr(files, "read_stamped", read_stamped)
    with pytest.raises(NoSuchJob):
        workspace.read(job_id, documents=True)


def test_an_abandoned_scan_leaves_no_descriptor_open(workspace):
    for n in range(10):
        add(workspace, {"n": n})
    before = descriptors()
    scan = workspace.scan(documents=True)
    next(scan)
    scan.close()
    next(iter(workspace.ids()))
    assert_none_left(before)


# --- pending ---

BROKEN = {
    "": "not JSON",
    "{": "not JSON",
    '{"foo": 42': "not JSON",
    "[]": "neither a mapping nor null",
    "42": "neither a mapping nor null",
    '"foo"': "neither a mapping nor null",
    '{"foo": 42}x': "not JSON",
    "\x00" * 100: "not JSON",
    '{"a":' * 100_000: "nested deeper",
    '{"a": ' + "1" * 5000 + "}": "not JSON",
}


@pytest.mark.parametrize("content", BROKEN, ids=lambda text: repr(text[:12]))
def test_a_job_with_a_broken_state_point_is_pending_and_disturbs_no_other(workspace, content):
    good = add(workspace, {"foo": 42})
    os.mkdir(os.path.join(workspace.path, fake_id("a")))
    put(workspace, fake_id("a"), STATEPOINT_FILE, content)
    assert [change.id for change in workspace.scan()] == [good]
    ((job_id, reason),) = workspace.pending()
    assert job_id == fake_id("a")
    assert BROKEN[content] in reason
    assert reason.startswith(STATEPOINT_FILE)
    with pytest.raises(PendingJob, match=fake_id("a")):
        workspace.read(job_id)


def test_a_directory_without_state_point_is_pending_also_in_the_middle_of_signacs_migration(workspace):
    os.mkdir(os.path.join(workspace.path, fake_id("a")))
    os.mkdir(os.path.join(workspace.path, fake_id("b")))
    put(workspace, fake_id("b"), STATEPOINT_FILE + "~", '{"foo": 42}')
    put(workspace, fake_id("b"), "._1234_" + STATEPOINT_FILE, '{"foo": 42}')
    assert list(workspace.scan()) == []
    assert dict(workspace.pending()) == dict.fromkeys((fake_id("a"), fake_id("b")), f"has no {STATEPOINT_FILE}")


@pytest.mark.parametrize("kind", ["link", "dangling", "fifo", "directory", "socketlike"])
def test_a_state_point_that_is_no_file_is_pending_and_does_not_hang(workspace, tmp_path, kind):
    job = os.path.join(workspace.path, fake_id("a"))
    os.mkdir(job)
    path = os.path.join(job, STATEPOINT_FILE)
    (tmp_path / "outside").write_text('{"secret": 1}')
    match kind:
        case "link":
            os.symlink(tmp_path / "outside", path)
        case "dangling":
            os.symlink("nowhere", path)
        case "fifo":
            os.mkfifo(path)
        case "directory":
            os.mkdir(path)
        case _:
            os.mknod(path, 0o140644)
    good = add(workspace, {"foo": 42})
    assert [change.id for change in workspace.scan()] == [good]
    ((job_id, reason),) = workspace.pending()
    assert job_id == fake_id("a")
    assert " is " in reason


def test_foreign_entries_are_no_jobs(workspace, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / STATEPOINT_FILE).write_text('{"secret": 1}')
    good = add(workspace, {"foo": 42})
    here = workspace.path
    os.symlink(outside, os.path.join(here, fake_id("1")))
    os.symlink("nowhere", os.path.join(here, fake_id("2")))
    os.symlink(good, os.path.join(here, fake_id("3")))
    os.mkfifo(os.path.join(here, fake_id("4")))
    with open(os.path.join(here, fake_id("5")), "w") as file:
        file.write('{"foo": 1}')
    for name in ("F" * 32, "a" * 31, "a" * 33, "g" * 32, "._" + "a" * 30, "a" * 32 + "~", ".sigfs", "...", "a\nb"):
        os.mkdir(os.path.join(here, name))
    os.mkdir(os.fsencode(here) + b"/\xff\xfe")
    assert list(workspace.ids()) == [good]
    assert [change.id for change in workspace.scan()] == [good]
    assert list(workspace.pending()) == []
    for digit in "12345":
        with pytest.raises(NoSuchJob):
            workspace.read(fake_id(digit))


@pytest.mark.parametrize("closed", ["directory", "file"])
def test_a_job_without_permission_is_pending_with_that_reason(workspace, closed):
    job_id = add(workspace, {"foo": 42})
    path = os.path.join(workspace.path, job_id)
    target = path if closed == "directory" else os.path.join(path, STATEPOINT_FILE)
    os.chmod(target, 0)
    try:
        pending = as_nobody if os.geteuid() == 0 else reasons_of
        reasons = pending(workspace)
    finally:
        os.chmod(target, 0o700)
    assert len(reasons) == 1
    assert "Permission denied" in reasons[0]


def reasons_of(workspace):
    return [reason for _, reason in workspace.pending()]


def as_nobody(workspace):
    """What `pending` says to an unprivileged user. Descriptor-relative, so that no parent directory has to be open."""
    above = os.open(workspace.path, os.O_RDONLY)
    reader, writer = os.pipe()
    os.chmod(workspace.path, 0o755)
    child = os.fork()
    if child == 0:
        try:
            os.fchdir(above)
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            inside = Workspace.__new__(Workspace)
            inside.path, inside.id_function = ".", "md5"
            os.write(writer, json.dumps(reasons_of(inside)).encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.close(above)
    with open(reader, "rb") as file:
        answer = file.read()
    os.waitpid(child, 0)
    return json.loads(answer)


def test_running_out_of_descriptors_is_not_the_jobs_fault(workspace, monkeypatch):
    add(workspace, {"foo": 42}, "{}")
    real = os.open

    def exhausted(path, flags, mode=0o777, *, dir_fd=None):
        if path in exhausted.names:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return real(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", exhausted)
    for names in ({STATEPOINT_FILE}, {DOCUMENT_FILE}, {statepoint_id({"foo": 42})}):
        exhausted.names = names
        with pytest.raises(OSError, match="Too many open files"):
            list(workspace.scan(documents=True))
