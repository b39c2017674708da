"""The table of exit codes covers every exception and agrees with its documentation."""

from __future__ import annotations

import inspect
import os
import re
from pathlib import Path

import pytest

from sigfs import errors
from sigfs.cli.exits import TABLE, Exit, exit_code, message_of

ROOT = Path(__file__).parents[3]


def test_no_error_of_the_package_is_internal() -> None:
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.SigfsError)]
    assert len(kinds) > 10
    for kind in kinds:
        assert exit_code(kind("why")) not in (Exit.INTERNAL, Exit.OK)


def test_a_line_of_the_table_is_never_shadowed_by_one_before() -> None:
    for number, (kind, code) in enumerate(TABLE):
        assert exit_code(kind("why")) == code, f"line {number} is never reached"


def test_what_is_unknown_is_internal() -> None:
    assert exit_code(RuntimeError()) is Exit.INTERNAL


def test_messages_name_the_file() -> None:
    assert message_of(PermissionError(13, "Permission denied", "/x")) == "/x: Permission denied"
    assert message_of(errors.MountPointError("is full")) == "is full"


def test_a_working_directory_that_is_gone_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    os.rmdir(tmp_path / "gone")
    with pytest.raises(FileNotFoundError) as caught:
        os.path.abspath(".")
    assert message_of(caught.value).startswith("the working directory is not there any more: ")


def test_every_code_is_documented() -> None:
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)}
    assert documented == {int(code) for code in Exit}
