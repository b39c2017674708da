"""Any jobs, exported by any method, with their metadata lost: a shell brings all back."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sigfs.api.project import Project
from sigfs.backup.making import Options, back_up
from sigfs.export import exporting
from tests.support.projects import make_project
from tests.support.shells import KINDS, Shell
from tests.support.strategies import statepoints

SP, DOC = "signac_statepoint.json", "signac_job_document.json"
METHODS = ("symlink", "hardlink", "copy", "tar", "move")
NAMES = [os.fsdecode(name) for name in (b"data", b"-n", b"it's\n$x *", b"f\xfcr", b"\\", b"x" * 255)]

documents = st.none() | st.binary(max_size=40) | statepoints.map(lambda value: json.dumps(value).encode())


def contents(directory: Path) -> dict[str, bytes]:
    return {
        os.path.relpath(os.path.join(above, name), directory): Path(above, name).read_bytes()
        for above, _, names in os.walk(directory)
        for name in names
    }


def lose_metadata(directory: Path) -> None:
    for above, _, names in os.walk(directory, followlinks=True):
        for name in {SP, DOC}.intersection(names):
            os.unlink(os.path.join(above, name))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=10, deadline=None)
@given(
    st.lists(st.tuples(statepoints, documents, st.sampled_from(NAMES)), min_size=1, max_size=5, unique_by=repr),
    st.sampled_from(["auto", "full", "hive"]),
)
def test_what_an_export_has_becomes_the_workspace_again(
    kind: str, jobs: list[tuple[dict[str, object], bytes | None, str]], layout: str
) -> None:
    assume(max(len(json.dumps(statepoint)) for statepoint, _, _ in jobs) < 1500)  # a path has at most 4096 bytes
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        shell = Shell(kind, place)
        root = Path(make_project(str(place / "project"), *(statepoint for statepoint, _, _ in jobs)))
        workspace = root / "workspace"
        for job, (_, document, name) in zip(sorted(workspace.iterdir()), jobs, strict=False):
            job.joinpath(name).write_bytes(b"data")
            if document is not None:
                job.joinpath(DOC).write_bytes(document)
        before = contents(workspace)
        back_up(Project(root), str(place / "backup"), Options(layout))
        script = place / "backup" / "restore.sh"
        for method in METHODS:
            view, made = place / f"view-{method}", place / f"made-{method}"
            options = exporting.Options(layout, method="copy" if method == "tar" else method)  # type: ignore[arg-type]
            if method == "tar":
                exporting.export_archive(Project(root), str(place / "all.tar"), "tar", options)
                with tarfile.open(place / "all.tar") as archive:
                    archive.extractall(view, filter="fully_trusted")
            else:
                assert not exporting.export(Project(root), str(view), options).in_the_way
            if method == "symlink":
                shutil.copytree(workspace, place / "kept", symlinks=True)
                lose_metadata(view)
                assert not list(workspace.glob(f"*/{SP}"))
                shell.run(script, "workspace", workspace)
                assert contents(workspace) == before
            lose_metadata(view)
            if method == "symlink":  # the links lead to the jobs, whose metadata are lost now
                shell.run(script, "workspace", view, made)
                shell.run(script, "workspace", workspace)
            else:
                shell.run(script, "workspace", view, made)
            assert contents(made) == before
        shell.run(script, "links", place / "links", place / "made-copy")
        found = [path for path in (place / "links").rglob("*") if path.is_symlink()]
        assert {path.resolve().name for path in found} == {path.partition("/")[0] for path in before}
