"""Configuration files: which make a project, and what is wrong in them."""

import os

import pytest

from sigfs.api.project import Project, get_project
from sigfs.errors import InvalidConfig, NoSuchProject, UnsupportedSchema
from sigfs.model.project import find_root


def write(directory, name, text):
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text) if isinstance(text, str) else path.write_bytes(text)
    return path


@pytest.mark.parametrize(
    ("name", "text", "schema"),
    [
        ("signac.rc", "project = P\n", "1"),
        ("signac.rc", "project=P\nschema_version = 1\nindexed = true\n", "1"),
        ("signac.rc", "", "1"),
        (".signacrc", "project = P\n", "1"),
        (".signacrc", "", "1"),
        (".signac/config", "schema_version = 2\n", "2"),
        (".signac/config", "", "2"),
    ],
)
def test_every_kind_of_project_file_makes_its_directory_a_project(tmp_path, name, text, schema):
    path = write(tmp_path, name, text)
    project = get_project(tmp_path)
    assert project.root == str(tmp_path)
    assert project.config_path == str(path)
    assert project.schema == schema
    assert project.workspace.path == str(tmp_path / "workspace")
    assert project.name == ("P" if "project" in text else None)


def test_opening_a_project_writes_nothing(tmp_path):
    write(tmp_path, "signac.rc", "project = P\nworkspace_dir = data\n")
    project = get_project(tmp_path)
    assert list(project) == []
    assert len(project) == 0
    assert os.listdir(tmp_path) == ["signac.rc"]


def test_the_nearest_project_upward_is_found_whatever_its_kind(tmp_path):
    write(tmp_path, ".signac/config", "schema_version = 2\n")
    write(tmp_path, "a/signac.rc", "project = inner\n")
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    (tmp_path / "x").mkdir()
    assert find_root(tmp_path / "a" / "b" / "c") == str(tmp_path / "a")
    assert find_root(tmp_path / "x") == str(tmp_path)


def test_the_search_may_begin_at_a_file(tmp_path):
    write(tmp_path, "signac.rc", "project = P\n")
    file = write(tmp_path, "workspace/analysis.py", "")
    assert find_root(str(file)) == str(tmp_path)


def test_the_search_begins_at_the_working_directory_by_default(tmp_path, monkeypatch):
    write(tmp_path, "signac.rc", "project = P\n")
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    assert get_project().root == str(tmp_path)


def test_of_two_files_in_one_directory_the_newer_layout_counts(tmp_path):
    write(tmp_path, "signac.rc", "project = old\nworkspace_dir = old\n")
    write(tmp_path, ".signac/config", "schema_version = 2\n")
    assert get_project(tmp_path).schema == "2"


def test_the_users_settings_in_the_home_directory_are_no_project(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = write(tmp_path, ".signacrc", "author_name = me\n[hosts]\n")
    with pytest.raises(NoSuchProject):
        get_project(tmp_path)
    settings.write_text("broken")
    with pytest.raises(NoSuchProject):
        get_project(tmp_path)
    settings.write_text("project = home\n")
    assert get_project(tmp_path).name == "home"


@pytest.mark.parametrize("name", ["signac.rc", ".signacrc", ".signac/config"])
def test_a_directory_with_the_name_of_a_project_file_makes_no_project(tmp_path, name):
    (tmp_path / name).mkdir(parents=True)
    with pytest.raises(NoSuchProject):
        get_project(tmp_path)


def test_without_a_project_the_message_names_the_start_and_the_remedy(tmp_path):
    with pytest.raises(NoSuchProject, match=f"{tmp_path}.*sigfs init"):
        get_project(tmp_path)
    with pytest.raises(NoSuchProject, match=f"{tmp_path}.*sigfs init"):
        Project(tmp_path)


def test_a_start_that_does_not_exist_is_named(tmp_path):
    for start in (tmp_path / "missing", str(tmp_path) + "\0"):
        with pytest.raises(NoSuchProject, match="no project at"):
            get_project(start)


# --- the workspace ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("workspace = data", "{root}/data"),
        ("workspace_dir = data/", "{root}/data"),
        ("workspace = new\nworkspace_dir = old", "{root}/new"),
        ("workspace =\nworkspace_dir = old", "{root}/old"),
        ("workspace = ../data", "{parent}/data"),
        ("workspace = /somewhere/else", "/somewhere/else"),
        ("workspace_dir = $SIGFS_TEST_DIR/w", "/scratch/w"),
        ("workspace_dir = ${SIGFS_TEST_DIR}/w", "/scratch/w"),
        ("workspace_dir = ~/w", "/home/me/w"),
        ('workspace = "a, b"', "{root}/a, b"),
        ("workspace = data # comment", "{root}/data"),
    ],
)
@pytest.mark.parametrize("name", ["signac.rc", ".signac/config"])
def test_the_workspace_is_where_the_configuration_says(tmp_path, monkeypatch, name, text, expected):
    monkeypatch.setenv("SIGFS_TEST_DIR", "/scratch")
    monkeypatch.setenv("HOME", "/home/me")
    root = tmp_path / "root"
    write(root, name, text)
    assert get_project(root).workspace.path == expected.format(root=root, parent=tmp_path)


def test_a_variable_that_is_not_set_is_named_unless_there_is_such_a_directory(tmp_path, monkeypatch):
    monkeypatch.delenv("SIGFS_TEST_DIR", raising=False)
    write(tmp_path, "signac.rc", "project = P\nworkspace_dir = ${SIGFS_TEST_DIR}/w\n")
    with pytest.raises(InvalidConfig, match=r"signac\.rc, line 2: .*SIGFS_TEST_DIR is not set"):
        get_project(tmp_path)
    (tmp_path / "${SIGFS_TEST_DIR}" / "w").mkdir(parents=True)
    assert get_project(tmp_path).workspace.path == str(tmp_path / "${SIGFS_TEST_DIR}" / "w")


# --- what is refused ---


@pytest.mark.parametrize("name", ["signac.rc", ".signac/config"])
@pytest.mark.parametrize("version", ["3", "17", "9" * 30])
def test_a_newer_schema_is_refused_with_file_version_and_remedy(tmp_path, name, version):
    path = write(tmp_path, name, f"schema_version = {version}\n")
    with pytest.raises(UnsupportedSchema, match=f"{path}.*version {version};.*[Uu]pgrade sigfs"):
        get_project(tmp_path)
    assert path.read_text() == f"schema_version = {version}\n"


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("project = P\nno sense\n", 2, "no sense"),
        ("project = P\n\nproject = Q\n", 3, "[Dd]uplicate"),
        ("project = P\n[section\n", 2, "section"),
        ('\n\nworkspace = "a\n', 3, "value"),
        ("project = P\nschema_version = two\n", 2, "whole number, not 'two'"),
        ("project = P\nschema_version = 2.0\n", 2, "whole number"),
        ("project = P\nschema_version = -1\n", 2, "whole number"),
        ("project = P\nschema_version = ²\n", 2, "whole number"),
        ("project = P\nworkspace = a, b\n", 2, "one value, not a list"),
        ("project = P\n[workspace]\na = 1\n", 2, "not a section"),
        ("project = P, Q\n", 1, "one value"),
        ("project = P\nworkspace = a\0b\n", 2, "NUL"),
        (b"project = P\nworkspace = \xff\n", 2, "UTF-8"),
    ],
)
def test_a_broken_configuration_is_refused_with_file_and_line(tmp_path, text, line, message):
    path = write(tmp_path, "signac.rc", text)
    with pytest.raises(InvalidConfig, match=f"{path}, line {line}: .*{message}"):
        get_project(tmp_path)


def test_an_interpolation_of_nothing_is_refused_by_file(tmp_path):
    path = write(tmp_path, "signac.rc", "workspace = %(nowhere)s/x\n")
    with pytest.raises(InvalidConfig, match=f"{path}: .*nowhere"):
        get_project(tmp_path)


def test_lines_end_as_on_any_system_and_a_byte_order_mark_is_no_text(tmp_path):
    write(tmp_path, "signac.rc", b"\xef\xbb\xbfproject = P\r\nworkspace = w\r\n")
    project = get_project(tmp_path)
    assert (project.name, project.workspace.path) == ("P", str(tmp_path / "w"))


# --- workspace.rc ---


@pytest.mark.parametrize(
    ("text", "expected"), [("id_function = xxh3_128\n", "xxh3_128"), ("id_function = md5", "md5"), ("", "md5")]
)
def test_workspace_rc_chooses_the_id_function(tmp_path, text, expected):
    write(tmp_path, "signac.rc", "project = P\n")
    write(tmp_path, "workspace/workspace.rc", text)
    assert get_project(tmp_path).workspace.id_function == expected


def test_an_unknown_id_function_is_refused_with_file_line_and_choice(tmp_path):
    write(tmp_path, "signac.rc", "project = P\n")
    path = write(tmp_path, "workspace/workspace.rc", "\nid_function = sha1\n")
    with pytest.raises(InvalidConfig, match=f"{path}, line 2: .*'sha1'.*md5, xxh3_128"):
        get_project(tmp_path)
