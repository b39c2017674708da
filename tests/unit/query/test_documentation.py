"""What the page on queries says is so."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

from sigfs.query import parse, parse_path, parse_text
from sigfs.query.mapping import TYPES
from sigfs.query.tokens import OPERATORS

PAGE = Path(__file__).parents[3].joinpath("docs", "query.md").read_text(encoding="utf-8")
SPELLINGS = re.findall(r"^\| `(.*?)` \| `(.*?)` \| `(\{.*\})` \|$", PAGE, re.MULTILINE)


@pytest.mark.parametrize(("text", "path", "mapping"), SPELLINGS)
def test_the_spellings_in_a_row_are_one_query(text: str, path: str, mapping: str) -> None:
    assert parse_text(text) == parse_path(path) == parse(mapping)


def test_the_table_of_spellings_is_found() -> None:
    assert len(SPELLINGS) >= 10


def test_every_operator_and_type_is_described() -> None:
    assert [operator for operator in OPERATORS if f"`{operator}`" not in PAGE] == []
    assert [name for name in TYPES if f"`{name}`" not in PAGE] == []


def test_the_examples_in_python_are_true() -> None:
    source = "\n".join(re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
    example = doctest.DocTestParser().get_doctest(source, {}, "query.md", "query.md", 0)
    assert example.examples
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example)
    assert result.failed == 0
