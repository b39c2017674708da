"""What the state points of many jobs have in common: keys, types, values.

Owned here: `Schema`, and how it is printed. A program that only wants numbers asks ``sigfs.index.schema``.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from numbers import Number
from pprint import pformat
from typing import TYPE_CHECKING, Final

from pyroaring import BitMap

from sigfs.query.expr import Space
from sigfs.query.tokens import format_key
from sigfs.query.values import order_key

if TYPE_CHECKING:
    from sigfs.api.cursor import Source
    from sigfs.model.types import JobId, Json

_SHOWN: Final = 5
"""Of more values only the first and the last two are printed."""


def schema_of(source: Source, keys: Sequence[JobId], exclude_const: bool) -> Schema:
    """Describe these jobs."""
    with source.current().reading() as table:
        numbers = BitMap([number for _, number in table.numbers_of(keys)])
        described: dict[str, dict[type, Sequence[Json]]] = {}
        for field in table.fields(Space.SP):
            having = table.having(field) & numbers
            if not having or (exclude_const and having == numbers and table.count_values(field, numbers) == 1):
                continue
            by_type: dict[type, list[Json]] = {}
            for value in table.exact_values(field, having):
                by_type.setdefault(type(value), []).append(value)
            described[format_key(field)] = dict(by_type)
    ordered = sorted(described.items(), key=lambda item: (sum(map(len, item[1].values())), item[0]))
    return Schema(dict(ordered))


class Schema(Mapping[str, Mapping[type, Sequence["Json"]]]):
    """Keys of state points, nested ones with points, those with the fewest values first; for each the types of its
    values; for each of these the distinct values, ascending.

    >>> schema = Schema({"a": {int: [0, 1, 2, 3, 4, 5]}, "b.c": {str: ["x"], bool: [True]}})
    >>> print(schema)
    {
     'a': 'int([0, 1, 2, ..., 4, 5], 6)',
     'b.c': 'str([x], 1), bool([True], 1)',
    }
    >>> schema["a"][int][-1]
    5
    """

    def __init__(self, keys: Mapping[str, Mapping[type, Sequence[Json]]]) -> None:
        """Take what was found."""
        self._keys = keys

    def __getitem__(self, key: str) -> Mapping[type, Sequence[Json]]:
        return self._keys[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def format(self, depth: int = 0, precision: int | None = None, max_num_range: int = _SHOWN) -> str:
        """Write it down, with for each type the values and how many there are.

        Args:
            depth: nest the keys so deep; 0: nested keys with points.
            precision: digits after the point to which numbers are rounded.
            max_num_range: how many values are shown at most.
        """

        def spell(value: Json) -> str:
            number = isinstance(value, Number) and not isinstance(value, bool)
            return str(round(value, precision)) if precision is not None and number else str(value)  # type: ignore[call-overload]

        def spell_all(kind: type, values: Sequence[Json]) -> str:
            shown = [spell(value) for value in values]
            if len(values) > max_num_range:
                shown = [*shown[: max(0, max_num_range - 2)], "...", *shown[-2:]]
            return f"{kind.__name__}([{', '.join(shown)}], {len(values)})"

        texts = {key: ", ".join(spell_all(*each) for each in self._keys[key].items()) for key in sorted(self._keys)}
        if depth <= 0:
            return "\n".join(["{", *(f" '{key}': '{text}'," for key, text in texts.items()), "}"])
        nested: dict[str, object] = {}
        for key, text in texts.items():
            inner, (*above, last) = nested, key.split(".")
            for step in above:
                deeper = inner.setdefault(step, {})
                if not isinstance(deeper, dict):  # some jobs have a value there, others a mapping
                    deeper = inner[step] = {"": deeper}
                inner = deeper
            if isinstance(inner.get(last), dict):
                inner = inner[last]  # type: ignore[assignment]
                last = ""
            inner[last] = text
        return pformat(nested, depth=depth)

    def difference(self, other: Schema, ignore_values: bool = False) -> set[str]:
        """The keys that *other* does not have, or has with other values."""
        return {
            key
            for key, types in self._keys.items()
            if key not in other or (not ignore_values and _values(types) != _values(other[key]))
        }

    def to_json(self) -> dict[str, dict[str, Sequence[Json]]]:
        """The same with the names of types, as JSON can say it."""
        return {key: {kind.__name__: values for kind, values in types.items()} for key, types in self._keys.items()}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Schema):
            return NotImplemented
        return self._keys.keys() == other.keys() and not self.difference(other)

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        return self.format()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(<len={len(self)}>)"

    def _repr_html_(self) -> str:
        return f"<strong>{html.escape(repr(self))}</strong><pre>{html.escape(str(self))}</pre>"


def _values(types: Mapping[type, Sequence[Json]]) -> dict[type, list[tuple[object, ...]]]:
    return {kind: sorted(map(order_key, values)) for kind, values in types.items()}
