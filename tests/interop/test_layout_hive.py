"""The layout ``hive`` as real readers of partitions take it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sigfs.model.types import Json
from sigfs.query.values import flatten
from sigfs.tree import Tree
from tests.support.trees import table_of, walk

VALUES: tuple[Json, ...] = (
    42, "42", 1.5, -0.0, 1e22, 2**70, float("nan"), float("inf"), True, "true", "True", None, "null", "NULL", "",
    "a/b", "a%b", "a%2Fb", "a=b", " a b ", "a+b", "a\\b", "it's", 'say "q"', "x:y", "x?y*z", "[1]", [1, "a"], "{a}",
    "..", ".", "@x", "#", "a&b;c", "a,b", "ä☃", "\u00a0", "\n\t", "007", "2020-01-01", "~",
    "__HIVE_DEFAULT_PARTITION__",
)  # fmt: skip
READ_AS = {"42": '"42"', "true": '"true"', "null": '"null"', "": '""', "[1]": '"[1]"', "{a}": '"{a}"', "007": '"007"'}
READ_AS["__HIVE_DEFAULT_PARTITION__"] = '"__HIVE_DEFAULT_PARTITION__"'
STATEPOINTS: list[dict[str, Json]] = [
    *({"v": value, "n": number, "sp ace": {"é": number % 3}} for number, value in enumerate(VALUES)),
    {"n": len(VALUES), "_u": "x"},
]


def text(value: Json) -> str:
    """Give what documented rules say that a reader gets."""
    match value:
        case str():
            return READ_AS.get(value, value)
        case bool() | None:
            return {True: "true", False: "false", None: "null"}[value]
        case list():
            return '[1, "a"]'
        case float() if value != value or value == float("inf"):
            return "NaN" if value != value else "Infinity"
        case _:
            return repr(value)


@pytest.fixture
def view(tmp_path: Path) -> Path:
    table = table_of(*STATEPOINTS)
    for path, job in walk(Tree("hive"), table):
        directory = tmp_path.joinpath("view", *path)
        directory.mkdir(parents=True)
        record = table.record(job)
        directory.joinpath("x.csv").write_text(f"number\n{record.statepoint['n']}\n", encoding="ascii")  # type: ignore[index]
        directory.joinpath("signac_statepoint.json").write_text("{}", encoding="ascii")
    return tmp_path / "view"


def check(rows: list[dict[str, Any]]) -> None:
    """See that each job has one row, and that it says the job's keys."""
    assert sorted(row["number"] for row in rows) == list(range(len(STATEPOINTS)))
    for row in rows:
        says = {field: text(value) for field, value in flatten(STATEPOINTS[row["number"]])}
        got = {key: str(value) for key, value in row.items() if key != "number" and value is not None}
        assert got == says


def test_duckdb_reads_the_keys_of_every_job(view: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    pattern = f"{view}/**/x.csv"
    result = duckdb.connect().execute(
        "select * from read_csv(?, hive_partitioning = true, hive_types_autocast = false)", [pattern]
    )
    names = [column[0] for column in result.description]
    check([dict(zip(names, row, strict=True)) for row in result.fetchall()])


def test_arrow_reads_the_keys_of_every_job(view: Path) -> None:
    dataset = pytest.importorskip("pyarrow.dataset")
    files = sorted(map(str, view.rglob("x.csv")))
    found = dataset.dataset(files, format="csv", partitioning="hive", partition_base_dir=str(view))
    check(found.to_table().to_pylist())
