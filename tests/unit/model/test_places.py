"""Jobs outside of the workspace: which directories are jobs, by which key, each once."""

import json
import os

import pytest

from sigfs.errors import NoSuchJob, PendingJob
from sigfs.model import places as module
from sigfs.model.places import Location, Place, Places

STATEPOINT_FILE = "signac_statepoint.json"


@pytest.fixture
def root(tmp_path):
    (tmp_path / "workspace").mkdir()
    (tmp_path / "data").mkdir()
    return tmp_path


def add(directory, statepoint):
    os.makedirs(directory, exist_ok=True)
    with open(os.path.join(directory, STATEPOINT_FILE), "w", encoding="utf-8") as file:
        json.dump(statepoint, file)


def places(root, *entries):
    found = [
        Place(os.path.normpath(root / entry.removesuffix("**")), recursive=entry.endswith("**")) for entry in entries
    ]
    return Places(str(root / "workspace"), found)


def ids(found, listing=None):
    listing = found.listing() if listing is None else listing
    return sorted(found.id_of(key) for key in listing.jobs)


def test_a_job_is_a_directory_with_a_state_point_file(root):
    add(root / "data" / "one", {"a": 1})
    (root / "data" / "foreign").mkdir()
    (root / "data" / "file").write_text("x")
    found = places(root, "data")
    assert ids(found) == ["../data/one"]
    (key,) = found.listing().jobs
    assert len(key) == 32
    assert key == found.key_at(str(root / "data" / "one"))
    assert found.location(key) == Location(str(root / "data"), "one")
    assert found.read(key).statepoint == {"a": 1}


@pytest.mark.parametrize("entries", [["data"], ["data/**"], ["data", "other"]])
def test_an_id_names_a_job_whole_or_with_its_last_step_abbreviated(root, entries):
    for name in ("one", "only", "o"):
        add(root / "data" / name, {"name": name})
    add(root / "data" / "foreign" / "one", {"a": 1})
    add(root / "data" / ".one", {"a": 1})
    found = places(root, *entries)
    assert found.named("../data/one") == {"../data/one": found.key_at(str(root / "data" / "one"))}
    assert list(found.named("../data/./o")) == ["../data/o"]
    assert sorted(found.named("../data/on")) == ["../data/one", "../data/only"]
    assert list(found.named("../data/onl")) == ["../data/only"]
    assert list(found.named("../data/foreign/on")) == (["../data/foreign/one"] if "**" in entries[0] else [])
    for nothing in ("../data/", "../data/x", "../data/.one", "../dat", "data/one", "../data/foreign"):
        assert found.named(nothing) == {}


def test_only_a_recursive_place_has_jobs_at_any_depth(root):
    add(root / "data" / "a" / "b" / "c", {"a": 1})
    add(root / "data" / "top", {"a": 2})
    assert ids(places(root, "data")) == ["../data/top"]
    assert ids(places(root, "data/**")) == ["../data/a/b/c", "../data/top"]


def test_what_is_below_a_job_is_no_job(root):
    add(root / "data" / "outer", {"a": 1})
    add(root / "data" / "outer" / "inner", {"a": 2})
    assert ids(places(root, "data/**")) == ["../data/outer"]


def test_hidden_and_temporary_names_are_left_out(root):
    for name in (".hidden", "._sigfs_0123", "backup~"):
        add(root / "data" / name, {"a": 1})
        add(root / "data" / name / "below", {"a": 1})
    assert ids(places(root, "data/**")) == []


def test_other_projects_are_not_entered_but_may_be_named(root):
    add(root / "data" / "other" / "workspace" / "job", {"a": 1})
    (root / "data" / "other" / ".signac").mkdir()
    (root / "data" / "other" / ".signac" / "config").write_text("schema_version = 2\n")
    assert ids(places(root, "data/**")) == []
    assert ids(places(root, "data/other/workspace")) == ["../data/other/workspace/job"]


def test_a_directory_around_the_workspace_leaves_its_jobs_to_it(root):
    add(root / "workspace" / ("0" * 32), {"a": 1})
    add(root / "workspace" / "named", {"a": 2})
    add(root / "direct", {"a": 3})
    assert ids(places(root, ".")) == ["../direct"]
    assert ids(places(root, "**")) == ["../direct"]
    assert ids(places(root, "workspace")) == ["named"]


def test_a_place_inside_the_workspace_has_its_jobs(root):
    add(root / "workspace" / "sub" / "job", {"a": 1})
    assert ids(places(root, "workspace/sub")) == ["sub/job"]


def test_the_way_to_a_deep_workspace_does_not_confuse_ids(tmp_path):
    add(tmp_path / "a" / "job", {"a": 1})
    found = Places(str(tmp_path / "a" / "b" / "ws"), [Place(str(tmp_path), recursive=True)])
    assert ids(found) == ["../../job"]


def test_each_job_counts_once_however_often_its_directory_is_indexed(root):
    add(root / "data" / "one", {"a": 1})
    add(root / "data" / "deep" / "two", {"a": 2})
    (root / "link").symlink_to("data")
    assert ids(places(root, "data", "data/**", "link", "link/**", ".", "**")) == ["../data/deep/two", "../data/one"]
    assert ids(places(root, "link", "data/**")) == ["../data/deep/two", "../link/one"]


def test_links_below_a_place_are_not_followed(root):
    add(root / "elsewhere" / "job", {"a": 1})
    (root / "data" / "link").symlink_to(root / "elsewhere" / "job")
    (root / "data" / "loop").symlink_to(root / "data")
    assert ids(places(root, "data/**")) == []


def test_a_place_that_is_missing_or_no_directory_has_no_jobs(root):
    (root / "file").write_text("x")
    (root / "loop").symlink_to("loop")
    listing = places(root, "none", "file", "loop").listing()
    assert not listing.jobs
    assert listing.missing == [str(root / name) for name in ("none", "file", "loop")]


def test_what_cannot_be_listed_may_still_have_its_jobs(root, monkeypatch):
    add(root / "data" / "deep" / "one", {"a": 1})
    found = places(root, "data/**")
    (key,) = found.listing().jobs
    scandir = os.scandir

    def refuse(fd):
        if os.readlink(f"/proc/self/fd/{fd}").endswith("deep"):
            raise PermissionError(13, "Permission denied")
        return scandir(fd)

    monkeypatch.setattr(module.os, "scandir", refuse)
    listing = found.listing()
    assert not listing.jobs
    assert listing.unreadable == {str(root / "data" / "deep"): "Permission denied"}
    assert listing.may_have(found.location(key))
    assert not listing.may_have(Location(str(root / "data"), "deeper"))


def test_names_that_are_not_utf8_are_names(root):
    name = os.fsdecode(b"\xff job \xe4")
    add(os.path.join(root, "data", name), {"a": 1})
    found = places(root, "data")
    assert ids(found) == [f"../data/{name}"]
    (key,) = found.listing().jobs
    assert found.read(key, documents=True).document == {}


def test_a_key_depends_on_where_a_job_is_relative_to_the_workspace_and_on_nothing_else(tmp_path):
    keys = []
    for project in ("p", "q"):
        add(tmp_path / project / "data" / "one", {"a": project})
        keys += places(tmp_path / project, "data").listing().jobs
    assert keys[0] == keys[1]


def test_without_a_workspace_the_id_is_the_absolute_path(root):
    add(root / "data" / "one", {"a": 1})
    found = Places(None, [Place(str(root / "data"))])
    assert ids(found) == [str(root / "data" / "one")]
    assert found.find(str(root / "data" / "one")) in found.listing().jobs


def test_an_id_is_found_however_it_is_spelled(root):
    add(root / "data" / "one", {"a": 1})
    found = places(root, "data")
    (key,) = found.listing().jobs
    assert found.find("../data/one") == found.find("../data/./x/../one/") == key
    assert found.find("../data/two") is None


def test_a_job_that_is_gone_or_broken_says_so(root):
    add(root / "data" / "one", {"a": 1})
    found = places(root, "data")
    (key,) = found.listing().jobs
    (root / "data" / "one" / STATEPOINT_FILE).write_text("{")
    with pytest.raises(PendingJob):
        found.read(key)
    os.rename(root / "data", root / "away")
    with pytest.raises(NoSuchJob):
        found.read(key)


def test_no_step_to_a_job_follows_a_link_that_has_taken_its_place(root):
    add(root / "data" / "deep" / "one", {"a": 1})
    found = places(root, "data/**")
    (key,) = found.listing().jobs
    os.rename(root / "data" / "deep", root / "deep")
    (root / "data" / "deep").symlink_to(root / "deep")
    with pytest.raises(NoSuchJob):
        found.read(key)
    with pytest.raises(NotADirectoryError):
        found.open_above(key)


def test_one_directory_can_be_looked_at_alone(root):
    add(root / "data" / "one", {"a": 1})
    add(root / "data" / "deep" / "two", {"a": 2})
    (root / "data" / "link").symlink_to("one")
    for entry, name, expected in (
        ("data", "link", []),
        ("data", ".one", []),
        ("data", "one", ["../data/one"]),
        ("data", "deep", []),
        ("data", "none", []),
        ("data/**", "deep", ["../data/deep/two"]),
        ("data/**", "deep/two", ["../data/deep/two"]),
    ):
        found = places(root, entry)
        listing = module.Listing()
        found.look(found.places[0], [name], listing, set())
        assert ids(found, listing) == expected


def test_a_mounted_project_below_a_place_is_not_touched(root, monkeypatch):
    add(root / "data" / "mnt" / "job", {"a": 1})
    add(root / "data" / "mnt", {"a": 2})
    monkeypatch.setattr(module, "_mounts", lambda: {str(root / "data" / "mnt"): "fuse.sigfs"})
    assert ids(places(root, "data")) == ids(places(root, "data/**")) == []
    assert list(places(root, "data/mnt").listing().unreadable) == [str(root / "data" / "mnt")]


def test_other_file_systems_below_a_place_are_not_entered(root, monkeypatch):
    add(root / "data" / "disk" / "job", {"a": 1})
    monkeypatch.setattr(module, "_mounts", lambda: {str(root / "data" / "disk"): "ext4"})
    assert ids(places(root, "data/**")) == []
    assert ids(places(root, "data/disk")) == ["../data/disk/job"]
