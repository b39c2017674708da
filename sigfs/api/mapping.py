"""Mappings and lists that are live: each look reads what is there now, each change is written at once.

Owned here: how nested JSON data is reached by items and attributes, and that every call that changes something is one
edit of the whole. Where the data is kept and how an edit is made whole is the backend's. Nothing is remembered but the
way from the root, so that objects never grow old, may be used by any thread, and cost nothing to make.
"""

from __future__ import annotations

from collections.abc import (
    Callable,
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    Mapping,
    MutableMapping,
    MutableSequence,
    ValuesView,
)
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol, Self, SupportsIndex, TypeAlias, TypeVar, cast, overload

from sigfs.errors import DocumentChanged, SigfsError
from sigfs.model.statepoint import plain
from sigfs.model.types import Json

Steps: TypeAlias = tuple[str | int, ...]
"""The way from the root: keys of mappings and indices of lists."""

_T = TypeVar("_T")
_Node = TypeVar("_Node", dict[str, Json], list[Json])

_TRIES: Final = 10
"""How often a change is made anew because somebody who takes no lock has come between."""


class Backend(Protocol):
    """Where the data is kept."""

    def load(self) -> Mapping[str, Json]:
        """The data as it is now, plain; the caller does not change it."""

    def edit(self) -> AbstractContextManager[dict[str, Json]]:
        """Give the data to be changed in place. It is kept as it is at the end of the block, at once and for good; if
        the block raises, nothing is. Nobody else edits meanwhile. Within an edit of the same thread: part of that.

        Raises:
            DocumentChanged: somebody has, all the same; nothing is written.
        """


class _Live:
    """What mappings and lists have in common."""

    __slots__ = ("_backend", "_steps")

    _backend: Backend
    _steps: Steps

    def __init__(self, backend: Backend, steps: Steps = ()) -> None:
        object.__setattr__(self, "_backend", backend)
        object.__setattr__(self, "_steps", steps)

    def _read(self, kind: type[_Node]) -> _Node:
        return _follow(self._backend.load(), self._steps, kind)

    def _change(self, kind: type[_Node], change: Callable[[_Node], _T]) -> _T:
        # *change* may be called again, on new data.
        for _ in range(_TRIES - 1):
            try:
                with self._backend.edit() as root:
                    return change(_follow(root, self._steps, kind))
            except DocumentChanged:
                continue
        with self._backend.edit() as root:
            return change(_follow(root, self._steps, kind))

    def _wrap(self, value: Json, step: str | int) -> Any:
        steps = (*self._steps, step)
        if isinstance(value, dict):
            return LiveMapping(self._backend, steps)
        return LiveList(self._backend, steps) if isinstance(value, list) else value

    def _plain(self, value: object, step: str | int) -> Json:
        return plain(_still(value), tuple(map(str, (*self._steps, step))))

    def _is_at(self, value: object, step: str | int) -> bool:
        """Whether *value* is what is below *step* already, as when ``doc.numbers += [1]`` assigns what it changed."""
        if not isinstance(value, _Live):
            return False
        return value._backend is self._backend and value._steps == (*self._steps, step)  # noqa: SLF001 - of its kind

    def __repr__(self) -> str:
        try:
            return repr(_still(self))
        except (SigfsError, OSError, LookupError, ValueError) as error:
            return f"<{type(self).__name__}: {error}>"


class LiveMapping(_Live, MutableMapping[str, Any]):
    """A JSON mapping as a dict, with its keys as attributes, too: ``m.a.b = 1`` is ``m["a"]["b"] = 1``.

    Mappings and lists in it are live, too; everything else is given as it is. ``m()`` gives plain data. What is put
    in is made plain: tuples and arrays become lists, and nothing put in stays connected with what was there before.
    A key that is the name of a method, or begins with two underscores, is reached as an item only.

    Iteration, ``items`` and so on show one moment. Two calls are two moments: ``m.n += 1`` can lose what another
    process counts in between.

    Raises:
        KeyError: no such key (AttributeError for attributes); or what this mapping was taken from has none any more.
        InvalidValue: a value that JSON has no form for; a key that is no str, is empty or contains ".".
    """

    __slots__ = ()

    def __call__(self) -> dict[str, Any]:
        """Plain data: a dict of dicts, lists and values, of the caller's own."""
        return cast("dict[str, Any]", plain_copy(self._read(dict)))

    def __getitem__(self, key: str) -> Any:
        return self._wrap(self._read(dict)[key], key)

    def __setitem__(self, key: str, value: object) -> None:
        if not self._is_at(value, key):
            self.update({key: value})

    def __delitem__(self, key: str) -> None:
        self._change(dict, lambda node: node.__delitem__(key))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        try:
            return self[name]
        except KeyError as error:
            raise _attribute_error(name, error) from None

    def __setattr__(self, name: str, value: object) -> None:
        self._assert_no_method(name)
        self[name] = value

    def __delattr__(self, name: str) -> None:
        self._assert_no_method(name)
        try:
            del self[name]
        except KeyError as error:
            raise _attribute_error(name, error) from None

    def _assert_no_method(self, name: str) -> None:
        if name.startswith("__") or hasattr(type(self), name):
            raise AttributeError(f"{name!r} is no key that can be an attribute: write [{name!r}]")

    def __iter__(self) -> Iterator[str]:
        return iter(self._read(dict))

    def __len__(self) -> int:
        return len(self._read(dict))

    def __contains__(self, key: object) -> bool:
        return key in self._read(dict)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        return bool(self._read(dict) == (other() if isinstance(other, LiveMapping) else dict(other)))

    __hash__ = None  # type: ignore[assignment]  # as that of a dict

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *filter(str.isidentifier, self)]

    def __reduce__(self) -> tuple[object, ...]:
        return dict, (self(),)  # copies and pickles are plain data

    def get(self, key: str, default: Any = None) -> Any:
        """The value of *key*, live as that of ``[]``, or *default*."""
        node = self._read(dict)
        return self._wrap(node[key], key) if key in node else default

    def keys(self) -> KeysView[str]:
        """All keys, of one moment."""
        return self._read(dict).keys()

    def values(self) -> ValuesView[Any]:
        """All values, of one moment, live as those of ``[]``."""
        return self._wrapped().values()

    def items(self) -> ItemsView[str, Any]:
        """All keys and values, of one moment, live as those of ``[]``."""
        return self._wrapped().items()

    def _wrapped(self) -> dict[str, Any]:
        return {key: self._wrap(value, key) for key, value in self._read(dict).items()}

    def copy(self) -> dict[str, Any]:
        """As ``self()``: plain data."""
        return self()

    def update(self, other: Any = (), /, **more: Any) -> None:
        """Put in keys and values as `dict.update` does, in one edit."""
        other = _still(other)
        new = dict(other, **more) if isinstance(other, Mapping) else dict(() if other is None else other, **more)
        values = cast("dict[str, Json]", self._here(new))
        self._change(dict, lambda node: node.update(values))

    def setdefault(self, key: str, default: Any = None) -> Any:
        """The value of *key*, which is made *default* if there is none, in one edit."""
        (plain_default,) = cast("dict[str, Json]", self._here({key: default})).values()
        return self._wrap(self._change(dict, lambda node: node.setdefault(key, plain_default)), key)

    def pop(self, key: str, *default: Any) -> Any:
        """Take *key* out and give its value, plain, in one edit.

        Raises:
            KeyError: there is none, and no *default*.
        """
        return self._change(dict, lambda node: node.pop(key, *default))

    def popitem(self) -> tuple[str, Any]:
        """Take the last key out and give it with its value, plain, in one edit."""
        return self._change(dict, lambda node: node.popitem())

    def clear(self) -> None:
        """Take everything out, in one edit."""
        self._change(dict, lambda node: node.clear())

    def reset(self, data: Mapping[str, Any]) -> None:
        """Have just what *data* has, in one edit."""
        if not isinstance(data, Mapping):
            raise TypeError(f"a mapping is needed, not {type(data).__name__}")
        new = cast("dict[str, Json]", self._here(data))

        def replace(node: dict[str, Json]) -> None:
            node.clear()
            node.update(new)

        self._change(dict, replace)

    def _here(self, value: object) -> Json:
        return plain(_still(value), tuple(map(str, self._steps)))


class LiveList(_Live, MutableSequence[Any]):
    """A JSON list within a `LiveMapping`, as a list; every call that changes it is one edit.

    It is known by its place: a mapping or list that was taken from it is what has that index now.
    """

    __slots__ = ()

    def __call__(self) -> list[Any]:
        """Plain data: a list of dicts, lists and values, of the caller's own."""
        return cast("list[Any]", plain_copy(self._read(list)))

    def tolist(self) -> list[Any]:
        """As ``self()``."""
        return self()

    @overload
    def __getitem__(self, index: SupportsIndex) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> Any:
        node = self._read(list)
        places = range(len(node))[index]
        if isinstance(places, range):
            return [self._wrap(node[place], place) for place in places]
        return self._wrap(node[places], places)

    def __setitem__(self, index: SupportsIndex | slice, value: Any) -> None:
        if isinstance(index, slice):
            items = self._items(value)
            self._change(list, lambda node: node.__setitem__(index, items))
        elif not (isinstance(value, _Live) and self._is_at(value, range(len(self))[index])):
            item = self._plain(value, index.__index__())
            self._change(list, lambda node: node.__setitem__(index, item))

    def __delitem__(self, index: SupportsIndex | slice) -> None:
        self._change(list, lambda node: node.__delitem__(index))

    def __iter__(self) -> Iterator[Any]:
        return iter([self._wrap(value, index) for index, value in enumerate(self._read(list))])

    def __reversed__(self) -> Iterator[Any]:
        return iter(list(self)[::-1])

    def __len__(self) -> int:
        return len(self._read(list))

    def __contains__(self, value: object) -> bool:
        return _still(value) in self._read(list)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, list | LiveList):
            return NotImplemented
        return bool(self._read(list) == _still(other))

    __hash__ = None  # type: ignore[assignment]  # as that of a list

    def __reduce__(self) -> tuple[object, ...]:
        return list, (self(),)  # copies and pickles are plain data

    def index(self, value: Any, *bounds: int) -> int:
        """The first place of *value*; ValueError if it has none."""
        return self._read(list).index(_still(value), *bounds)

    def count(self, value: Any) -> int:
        """How often *value* is there."""
        return self._read(list).count(_still(value))

    def insert(self, index: SupportsIndex, value: Any) -> None:
        """Put *value* before the place *index*."""
        item = self._plain(value, index.__index__())
        self._change(list, lambda node: node.insert(index, item))

    def append(self, value: Any) -> None:
        """Put *value* at the end."""
        item = self._plain(value, "-")
        self._change(list, lambda node: node.append(item))

    def extend(self, values: Iterable[Any]) -> None:
        """Put all *values* at the end, in one edit."""
        items = self._items(values)
        self._change(list, lambda node: node.extend(items))

    def __iadd__(self, values: Iterable[Any]) -> Self:
        self.extend(values)
        return self

    def pop(self, index: SupportsIndex = -1) -> Any:
        """Take out what has the place *index* and give it, plain, in one edit."""
        return self._change(list, lambda node: node.pop(index))

    def remove(self, value: Any) -> None:
        """Take out the first *value*; ValueError if there is none."""
        item = _still(value)
        self._change(list, lambda node: node.remove(item))

    def clear(self) -> None:
        """Take everything out, in one edit."""
        self._change(list, lambda node: node.clear())

    def reverse(self) -> None:
        """Turn the order round, in one edit."""
        self._change(list, lambda node: node.reverse())

    def sort(self, *, key: Callable[[Any], Any] | None = None, reverse: bool = False) -> None:
        """Sort as `list.sort`, by plain values, in one edit."""

        def change(node: list[Any]) -> None:
            node[:] = sorted(node, key=key, reverse=reverse)  # as it was if *key* raises

        self._change(list, change)

    def _items(self, values: Iterable[Any]) -> list[Json]:
        return [self._plain(value, "-") for value in _still(values)]


def plain_copy(value: Json) -> Json:
    """A deep copy of plain data."""
    if isinstance(value, dict):
        return {key: plain_copy(item) for key, item in value.items()}
    return [plain_copy(item) for item in value] if isinstance(value, list) else value


def _still(value: Any) -> Any:
    """Plain data if *value* is live; else *value*."""
    return value() if isinstance(value, LiveMapping | LiveList) else value


def _attribute_error(name: str, error: KeyError) -> Exception:
    if isinstance(error, SigfsError):  # not the key is missing but, for instance, the job
        return error
    return AttributeError(f"no key {name!r}" if error.args == (name,) else str(error.args[0]))


def _follow(root: Json, steps: Steps, kind: type[_Node]) -> _Node:
    node = root
    for step in steps:
        match node, step:
            case dict(), str() if step in node:
                node = node[step]
            case list(), int() if step < len(node):
                node = node[step]
            case _:
                raise KeyError(f"{'.'.join(map(str, steps))} is not there any more")
    if not isinstance(node, kind):
        raise KeyError(f"{'.'.join(map(str, steps))} is no {'mapping' if kind is dict else 'list'} any more")
    return node
