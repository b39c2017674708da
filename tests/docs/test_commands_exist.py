"""Whatever command the documents name is there, with its options."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sigfs.cli.app import sigfs
from sigfs.cli.manual import commands

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
CODE = re.compile(r"^```\w*\n(.*?)^```|`([^`\n]+)`", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"(?:^|[$;|&(] ?|sudo |srun |do )sigfs ([a-z][a-z-]*)( [^`\n|;&#]*)?", re.MULTILINE)


@pytest.fixture(scope="module")
def options() -> dict[str, set[str]]:
    """The options of each command, with those of its subcommands."""
    found: dict[str, set[str]] = {}
    for context in commands(sigfs.make_context("sigfs", [], resilient_parsing=True)):
        spelled = {name for option in context.command.get_params(context) for name in option.opts}
        found.setdefault(context.command_path.split()[1], set()).update(spelled)
    return found


def named(page: Path) -> Iterator[tuple[str, list[str]]]:
    """Give each command that is called in code, and the long options that it is given."""
    for block, inline in CODE.findall(page.read_text(encoding="utf-8")):
        for name, words in COMMAND.findall(block or inline):
            before = words.partition(" -- ")[0]
            yield name, re.findall(r"(?<=\s)--[a-z][a-z-]*", before)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_options_that_a_page_names_exist(page: Path, options: dict[str, set[str]]) -> None:
    unknown = {
        " ".join(["sigfs", name, *[option for option in given if option not in options.get(name, ())]])
        for name, given in named(page)
        if name not in options or not options[name].issuperset(given)
    }
    assert not unknown


def test_the_page_of_the_command_line_has_every_command(options: dict[str, set[str]]) -> None:
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    listed = re.findall(r"[a-z-]+", text.partition("```\n")[2].partition("```")[0])
    headings = set(re.findall(r"[a-z-]+", " ".join(re.findall(r"^## (sigfs .*)", text, re.MULTILINE))))
    assert sorted(listed) == sorted([*options, *["sigfs"] * listed.count("sigfs")])
    assert set(options) <= headings
