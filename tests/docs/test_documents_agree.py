"""What the documents say about each other and about the repository is so."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from sigfs.model.settings import TABLE, Text, spelled
from sigfs.vfs.metrics import METRICS

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def readme_commands() -> dict[str, str]:
    """Give the commands of the README that set everything up, by name, as ``.ci/run`` finds them."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return dict(re.findall(r"<!-- command: (\w+) -->\n```sh\n(.*?)```", text, flags=re.DOTALL))


def test_the_readme_has_two_set_up_commands_of_one_line_each_that_a_shell_can_read() -> None:
    commands = readme_commands()
    assert list(commands) == ["demo", "test"]
    for command in commands.values():
        assert command.count("\n") == 1
        subprocess.run(["bash", "-n", "-c", command], check=True)


def test_ci_installs_every_system_package_that_the_test_command_names() -> None:
    packages = re.search(r"install -y (.*?) &&", readme_commands()["test"])
    assert packages is not None
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert not [package for package in packages[1].split() if not re.search(rf"\b{re.escape(package)}\b", ci)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_the_repository_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_invariant_that_code_or_tests_cite_is_in_the_list() -> None:
    listed = set(
        re.findall(r"^\| (I\d+) \|", (ROOT / "docs" / "invariants.md").read_text(encoding="utf-8"), re.MULTILINE)
    )
    files = [path for folder in ("sigfs", "tests") for path in (ROOT / folder).rglob("*.py")]
    cited = {name for path in files for name in re.findall(r"\b(I\d{1,2})\b", path.read_text(encoding="utf-8"))}
    assert cited
    assert cited <= listed


def settings_table() -> list[str]:
    """Give the rows of the table of settings in docs/administration.md."""
    rows = []
    for setting in TABLE.values():
        kind, default = setting.kind, spelled(setting.default)
        shown = f"`{default}`" if default else ""
        where = "a profile" if not setting.variable else "all" if "project" in setting.layers else "all but the project"
        one_of = (
            f" One of {', '.join(f'`{word}`' for word in kind.choices)}."
            if isinstance(kind, Text) and kind.choices
            else ""
        )
        variable = f"`{setting.variable}`" if setting.variable else ""
        rows.append(f"| `{setting.name}` | {variable} | {shown} | {where} | {setting.help}{one_of} |")
    return rows


def test_the_settings_are_documented_as_they_are() -> None:
    page = (ROOT / "docs" / "administration.md").read_text(encoding="utf-8").splitlines()
    assert [row for row in page if row in settings_table()] == settings_table()


def test_the_metrics_are_documented_as_they_are() -> None:
    page = (ROOT / "docs" / "administration.md").read_text(encoding="utf-8").splitlines()
    rows = [f"| `{metric.name}` | {metric.type} | {metric.help} |" for metric in METRICS]
    assert [row for row in page if row in rows] == rows
