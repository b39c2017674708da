"""The list of indexed directories in a project's configuration."""

import os

import pytest
import signac

from sigfs.errors import InvalidConfig
from sigfs.model.indexed import add_indexed, read_indexed, remove_indexed
from sigfs.model.places import Place
from sigfs.model.project import make_project


@pytest.fixture
def root(tmp_path):
    for name in ("data", "runs"):
        (tmp_path / name).mkdir()
    return make_project(tmp_path)


def config(root):
    return os.path.join(root, ".signac", "config")


def text(root):
    with open(config(root), encoding="utf-8") as file:
        return file.read()


def write(root, line):
    with open(config(root), "a", encoding="utf-8") as file:
        file.write(f"{line}\n")


def test_nothing_is_indexed_at_first(root):
    assert read_indexed(root) == ()


def test_what_is_added_is_listed_and_what_is_removed_is_not(root):
    add_indexed(root, "data/")
    add_indexed(root, "runs", recursive=True)
    assert read_indexed(root) == (
        Place(os.path.join(root, "data")),
        Place(os.path.join(root, "runs"), recursive=True),
    )
    assert "indexed = data, runs/**\n" in text(root)
    remove_indexed(root, os.path.join(root, "data"))
    assert "indexed = runs/**\n" in text(root)
    remove_indexed(root, "runs/")
    assert read_indexed(root) == ()
    assert text(root) == "schema_version = 2\n"


def test_adding_again_changes_only_how_deep(root):
    add_indexed(root, "data")
    before = text(root)
    add_indexed(root, "./data/")
    assert text(root) == before
    add_indexed(root, "data", recursive=True)
    assert read_indexed(root) == (Place(os.path.join(root, "data"), recursive=True),)


def test_comments_and_other_keys_stay(root):
    write(root, "# mine\nproject = 'a name'  # kept")
    add_indexed(root, "data")
    assert "# mine\n" in text(root)
    assert "project = 'a name'  # kept\n" in text(root)


def test_real_signac_opens_a_project_that_has_it(root):
    add_indexed(root, "data")
    add_indexed(root, "runs", recursive=True)
    project = signac.get_project(root)
    job = project.open_job({"a": 1}).init()
    assert [found.id for found in project.find_jobs({"a": 1})] == [job.id]
    project.check()


def test_directories_elsewhere_keep_their_absolute_path(root, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    add_indexed(root, other)
    assert read_indexed(root) == (Place(str(other)),)


def test_names_with_commas_quotes_and_hashes_are_kept(root):
    for name in ("a, b", "it's", 'say "x"', "#1", "ünï"):
        os.mkdir(os.path.join(root, name))
        add_indexed(root, name)
    assert [os.path.basename(place.path) for place in read_indexed(root)] == ["a, b", "it's", 'say "x"', "#1", "ünï"]


@pytest.mark.parametrize("name", [os.fsdecode(b"\xff"), "a\nb", "%(x)s", " a"])
def test_what_the_file_cannot_say_is_refused_and_nothing_written(root, name):
    os.mkdir(os.path.join(root, name))
    before = text(root)
    with pytest.raises(InvalidConfig):
        add_indexed(root, name)
    assert text(root) == before


def test_only_a_directory_that_is_there_and_fit_is_added(root):
    with open(os.path.join(root, "file"), "w", encoding="utf-8"):
        pass
    with open(os.path.join(root, "runs", "signac_statepoint.json"), "w", encoding="utf-8") as file:
        file.write("{}")
    with pytest.raises(FileNotFoundError, match="no such directory"):
        add_indexed(root, "none")
    with pytest.raises(NotADirectoryError, match="file is no directory"):
        add_indexed(root, "file")
    with pytest.raises(ValueError, match="is the project's workspace"):
        add_indexed(root, "workspace")
    with pytest.raises(ValueError, match="is a job itself"):
        add_indexed(root, "runs")
    assert text(root) == "schema_version = 2\n"


def test_only_what_is_listed_is_removed(root):
    add_indexed(root, "data")
    with pytest.raises(LookupError, match="indexed are: data"):
        remove_indexed(root, "runs")


def test_a_section_in_its_place_is_an_error_of_the_file(root):
    write(root, "[indexed]\na = b")
    with pytest.raises(InvalidConfig, match="line 2"):
        read_indexed(root)


def test_signac_1_projects_have_it_too(tmp_path):
    (tmp_path / "signac.rc").write_text("project = old\nindexed = data\n")
    assert read_indexed(str(tmp_path)) == (Place(str(tmp_path / "data")),)
