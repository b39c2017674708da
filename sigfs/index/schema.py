"""Which keys the jobs have, and which values: what signac's ``detect_schema`` tells, for programs.

Owned here: the shape of ``schema.json``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sigfs.model.types import Json
from sigfs.query.expr import Space
from sigfs.query.tokens import format_key
from sigfs.query.values import order_key, type_name

if TYPE_CHECKING:
    from sigfs.index.column import Column
    from sigfs.index.table import Table

VALUES_LIMIT: Final = 10
"""Of so many values of one type, each is named."""


def schema(table: Table, *, documents: bool) -> dict[str, Json]:
    """Describe all jobs: ``{"jobs": COUNT, "sp": {KEY: ...}, "doc": {KEY: ...}}``.

    Keys are spelled as in a query, ascending; nested ones with points. Of each there are: ``jobs`` that have a value
    there; ``distinct``, how many values of which no two are equal; ``constant``, whether all jobs have one and the
    same; and by ``types``, in the words of ``$type``, again ``jobs`` and ``distinct`` (1 and 1.0 are one value of
    each), for numbers and strings ``min`` and ``max`` (NaN left out), and where they are few and no lists ``values``,
    ascending.

    Complexity: O(values); those that hardly repeat about 0.5 µs each.
    """
    said: dict[str, Json] = {"jobs": len(table), "sp": _keys(table, Space.SP)}
    if documents:
        said["doc"] = _keys(table, Space.DOC)
    return said


def _keys(table: Table, space: Space) -> dict[str, Json]:
    columns = (table.documents if space is Space.DOC else table.statepoints).columns
    used = ((format_key(field).removeprefix("doc."), column) for field, column in columns.items() if column.jobs)
    return {key: _key(table, column) for key, column in sorted(used, key=lambda pair: pair[0])}


def _key(table: Table, column: Column) -> dict[str, Json]:
    codes: dict[str, list[int]] = {}
    for name, kind in (("int", column.ints), ("float", column.floats), ("str", column.strs)):
        if kind:
            codes[name] = [*kind.values()]
    for code in column.texts.values():
        codes.setdefault(type_name(column.values[code]), []).append(code)
    return {
        "jobs": len(column.jobs),
        "distinct": column.count(table.jobs),
        "constant": column.is_constant(table.jobs),
        "types": {name: _type(column, codes[name], alone=len(codes) == 1) for name in sorted(codes)},
    }


def _type(column: Column, codes: list[int], *, alone: bool) -> dict[str, Json]:
    one, shared = column.one, column.shared
    said: dict[str, Json] = {
        "jobs": len(column.jobs) if alone else sum(1 if one[code] >= 0 else len(shared[code]) for code in codes),
        "distinct": len(codes),
    }
    values = [column.values[code] for code in codes]
    ordered = [value for value in values if isinstance(value, int | float | str) and value == value]
    if ordered and not isinstance(ordered[0], bool):
        said |= {"min": min(ordered), "max": max(ordered)}
    if len(codes) <= VALUES_LIMIT and not isinstance(values[0], list | dict):
        said["values"] = sorted(values, key=order_key)
    return said
