"""Jobs as a table: a pandas DataFrame, or HTML for a notebook."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from sigfs.api.cursor import records_of
from sigfs.query.tokens import format_value
from sigfs.query.values import flatten

if TYPE_CHECKING:
    import pandas as pd

    from sigfs.api.cursor import Source
    from sigfs.model.types import JobId, Json

_SHOWN_JOBS: Final = 20
"""Rows of a table in a notebook."""


def dataframe(
    source: Source,
    keys: Sequence[JobId],
    sp_prefix: str,
    doc_prefix: str,
    usecols: Iterable[str] | Callable[[str], bool] | None,
    flatten: bool,
) -> pd.DataFrame:
    """See `Jobs.to_dataframe`. Jobs that are gone by now have no row."""
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError("to_dataframe needs pandas: pip install 'sigfs[pandas]'") from error
    wanted, documents = _choice(usecols, doc_prefix)
    found = records_of(source, keys, documents)
    columns: dict[str, list[Json]] = {}
    chosen: dict[str, bool] = {}
    for row, (_, record) in enumerate(found):
        for prefix, mapping in ((sp_prefix, record.statepoint), (doc_prefix, record.document)):
            for key, value in _items(mapping, flatten):
                name = prefix + key
                if (column := columns.get(name)) is None:
                    if name not in chosen:
                        chosen[name] = wanted(name)
                    if not chosen[name]:
                        continue
                    column = columns[name] = [math.nan] * len(found)
                column[row] = value
    frame = pd.DataFrame({number: _series(each) for number, each in enumerate(columns.values())})
    names, ids = list(columns), [job_id for job_id, _ in source.describe([key for key, _ in found])]
    frame.columns = pd.Index(names, dtype=_kind(names))
    frame.index = pd.Index(ids, dtype=_kind(ids))
    return frame


def _series(values: list[Json]) -> pd.Series:
    import pandas as pd

    series = pd.Series(values, dtype=_kind(values))
    return series if any(map(_is_torn, values)) else series.infer_objects()


def _kind(column: Sequence[Json]) -> type | None:
    """The type that pandas is to be told: of itself it would take None for a number that is missing, and refuse text
    that cannot be encoded.
    """
    return (
        object if any(value is None or isinstance(value, list | dict) or _is_torn(value) for value in column) else None
    )


def _is_torn(value: Json) -> bool:
    """Whether this is text with half of a surrogate pair."""
    return isinstance(value, str) and not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value)


def _choice(
    usecols: Iterable[str] | Callable[[str], bool] | None, doc_prefix: str
) -> tuple[Callable[[str], bool], bool]:
    """Which columns are wanted, and whether there may be one of documents."""
    if usecols is None:
        return (lambda _: True), True
    if callable(usecols):
        return usecols, True
    names: Collection[str] = frozenset(usecols)
    return names.__contains__, any(name.startswith(doc_prefix) for name in names)


def _items(mapping: Mapping[str, Json] | None, flat: bool) -> Iterable[tuple[str, Json]]:
    return () if mapping is None else flatten(mapping) if flat else mapping.items()


def table_html(source: Source, keys: Sequence[JobId], title: str) -> str:
    """A table of the first jobs with the keys of their state points."""
    found = records_of(source, keys[:_SHOWN_JOBS], False)
    described = source.describe([key for key, _ in found])
    rows = [
        (job_id, dict(flatten(record.statepoint))) for (job_id, _), (_, record) in zip(described, found, strict=True)
    ]
    columns = list(dict.fromkeys(key for _, cells in rows for key in cells))
    lines = [f"<strong>{html.escape(title)}</strong>", f"<p>{len(keys)} job{'' if len(keys) == 1 else 's'}</p>"]
    if rows:
        lines.append("<table><thead><tr><th>id</th>")
        lines += (f"<th>{html.escape(key)}</th>" for key in columns)
        lines.append("</tr></thead><tbody>")
        for name, cells in rows:
            lines.append(f"<tr><td>{html.escape(name)}</td>")
            lines += (f"<td>{html.escape(format_value(cells[key])) if key in cells else ''}</td>" for key in columns)
            lines.append("</tr>")
        lines.append("</tbody></table>")
    if len(keys) > len(rows):
        lines.append(f"<p>and {len(keys) - len(rows)} more</p>")
    return "".join(lines)
