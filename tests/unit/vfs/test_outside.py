"""Jobs outside of the workspace in the vfs: how they are reached, and which rights their directories show."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from sigfs.errors import SigfsError
from sigfs.index import Index
from sigfs.index.outside import revalidate_places
from sigfs.model.places import Place, Places
from sigfs.model.workspace import Workspace
from sigfs.tree import Tree
from sigfs.vfs import attributes
from sigfs.vfs.operations import Operations
from sigfs.vfs.types import ROOT, Attrs, Caller, FsError

CALLER = Caller(os.geteuid(), os.getegid(), os.getpid())


class View:
    """One job, ``data/deep/one``, outside of an empty workspace."""

    def __init__(self, root: Path, *, shared: bool) -> None:
        self.base = root / "data"
        self.job = self.base / "deep" / "one"
        self.job.mkdir(parents=True)
        (root / "workspace").mkdir()
        self.state({"foo": 1, "bar": 1})
        self.places = Places(str(root / "workspace"), [Place(str(self.base), recursive=True)])
        index = Index()
        index.apply(revalidate_places(self.places).changes)
        self.operations = Operations(
            Tree("full"), index, Workspace(str(root / "workspace")), places=self.places, shared=shared
        )

    def state(self, statepoint: object) -> None:
        (self.job / "signac_statepoint.json").write_text(json.dumps(statepoint))

    def find(self, path: str) -> Attrs | None:
        inode, attrs = ROOT, None
        for name in path.split("/"):
            attrs = self.operations.lookup(inode, name, CALLER)
            if attrs is None:
                return None
            inode = attrs.inode
        return attrs

    def mode(self) -> int:
        attrs = self.find("bar/1/foo/1")
        assert attrs is not None
        again = self.operations.getattr(attrs.inode)
        assert again.stat.st_mode == attrs.stat.st_mode
        assert again.stat.st_mtime_ns == os.stat(self.job).st_mtime_ns
        return stat.S_IMODE(attrs.stat.st_mode)

    def rename(self, old: str, new: str) -> None:
        parents = [self.find(os.path.dirname(path)) for path in (old, new)]
        assert parents[0] is not None
        assert parents[1] is not None
        self.operations.rename(
            parents[0].inode, os.path.basename(old), parents[1].inode, os.path.basename(new), 0, CALLER
        )


@pytest.fixture
def view(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[View]:
    made = View(tmp_path, shared=getattr(request, "param", False))
    yield made
    made.operations.close()


def test_its_directory_shows_its_own_mode(view: View) -> None:
    os.chmod(view.job, 0o755)
    os.chmod(view.base, 0o700)
    assert view.mode() == 0o755


@pytest.mark.parametrize("view", [True], indirect=True)
@pytest.mark.parametrize(
    ("base", "deep", "shown"),
    [(0o711, 0o701, 0o775), (0o700, 0o755, 0o700), (0o755, 0o700, 0o700), (0o750, 0o750, 0o770), (0o600, 0o755, 0o000)],
)
def test_where_others_may_look_it_shows_no_rights_to_those_who_could_not_come_there(
    view: View, base: int, deep: int, shown: int
) -> None:
    os.chmod(view.job, 0o775)
    os.chmod(view.base / "deep", deep)
    os.chmod(view.base, base)
    assert view.mode() == shown


@pytest.mark.parametrize("view", [True], indirect=True)
def test_directories_above_the_indexed_one_count_too(view: View, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    view.base.rename(tmp_path / "home" / "data")
    view.base.symlink_to(tmp_path / "home" / "data")
    os.chmod(view.job, 0o775)
    assert view.mode() == 0o775
    os.chmod(tmp_path / "home", 0o700)
    assert view.mode() == 0o700


def test_rights_of_another_owner_are_kept_only_if_all_may_come_there() -> None:
    def directory(mode: int, uid: int, gid: int) -> os.stat_result:
        return os.stat_result((stat.S_IFDIR | mode, 1, 1, 2, uid, gid, 0, 0, 0, 0))

    def shown(above: os.stat_result) -> int:
        return stat.S_IMODE(attributes.within(directory(0o777, 1, 1), above).st_mode)

    assert shown(directory(0o711, 2, 2)) == 0o777
    assert shown(directory(0o710, 2, 1)) == 0o070
    assert shown(directory(0o710, 1, 2)) == 0o700
    assert shown(directory(0o770, 2, 2)) == 0o000


def test_a_move_that_the_index_has_not_heard_to_be_vain_changes_nothing(view: View) -> None:
    view.state({"foo": 5, "bar": 1})
    with pytest.raises((FsError, SigfsError)):
        view.rename("bar/1/foo/1", "bar/1/foo/2")
    assert json.loads((view.job / "signac_statepoint.json").read_text()) == {"foo": 5, "bar": 1}
    assert view.find("bar/1/foo/2") is None


def test_moved_in_a_view_it_is_in_its_new_place_at_once_and_its_nodes_stay(view: View) -> None:
    before = view.find("bar/1/foo/1")
    view.rename("bar/1/foo/1", "bar/1/foo/2")
    after = view.find("bar/1/foo/2")
    assert before is not None
    assert after is not None
    assert after.inode == before.inode
    assert view.find("bar/1/foo/1") is None
    assert view.operations.getattr(after.inode).stat.st_ino == os.stat(view.job).st_ino


def test_a_link_in_the_way_leads_nowhere(view: View) -> None:
    os.rename(view.base / "deep", view.base / "real")
    (view.base / "deep").symlink_to("real")
    assert view.find("bar/1/foo/1") is None
